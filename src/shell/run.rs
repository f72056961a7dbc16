//! The bridge as a whole: its tasks, what they share, and its end (§4.9).

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "metrics")]
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

#[cfg(feature = "metrics")]
use super::http;
use super::shared::random;
pub use super::shared::{Shared, Stats, now};
use super::supervisor::{Supervisor, Watch};
#[cfg(feature = "web")]
use super::transport::Endpoint;
use super::uplink::Uplink;
use super::{broker, bus, reload, vrm};
use crate::bridge::{Bridge, BridgeConfig, DiscoveryConfig, OutletConfig};
#[cfg(feature = "web")]
use crate::config::AccessRule;
use crate::config::Config;
use crate::error::Fatal;
use crate::homeassistant::Names;
#[cfg(feature = "web")]
use crate::model::access::Access;

/// Sleeps until the bridge has something to do, again and again. Tells the service manager that it
/// does: whatever holds up this loop, or the bridge, is told by silence.
async fn keep_time(shared: Arc<Shared>, mut watch: Watch) {
    loop {
        if watch.is_there() {
            watch.look(Instant::now(), &shared.situation());
        }
        let deadline = shared.bridge().poll_timeout();
        let deadline = deadline.into_iter().chain(watch.deadline()).min();
        shared.arm(deadline);
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => shared.with(|bridge| bridge.tick(now())),
            () = shared.rearmed() => {}
        }
    }
}

/// Runs the bridge until `shutdown` resolves, then takes back what it published and returns. Takes
/// over each configuration that comes meanwhile, as far as that can be done while it runs.
pub async fn run(
    config: Config,
    changes: mpsc::UnboundedReceiver<Config>,
    shutdown: impl Future<Output = ()>,
    supervisor: Supervisor,
) -> Result<(), Fatal> {
    run_with(config, changes, shutdown, Arc::default(), supervisor).await
}

/// The same, for one who watches it.
pub async fn run_with(
    mut config: Config,
    mut changes: mpsc::UnboundedReceiver<Config>,
    shutdown: impl Future<Output = ()>,
    stats: Arc<Stats>,
    supervisor: Supervisor,
) -> Result<(), Fatal> {
    #[cfg(feature = "metrics")]
    let servers = servers(&config).await?;
    let bridge = Bridge::new(bridge_config(&config));
    let uplink = config.vrm.as_ref().and_then(Uplink::new);
    let shared = Arc::new(Shared::new(bridge, uplink, stats));
    shared.reconfigure(reload::settings(&config));
    info!(
        "portal id {}, bus {}",
        config.portal_id,
        config.bus.as_str()
    );
    let mut others = JoinSet::new();
    let watch = Watch::new(supervisor.clone(), Instant::now());
    others.spawn(keep_time(Arc::clone(&shared), watch));
    others.spawn(vrm::run(config.clone(), Arc::clone(&shared)));
    others.spawn(bus::run(config.clone(), Arc::clone(&shared)));
    #[cfg(feature = "metrics")]
    for (listener, role) in servers {
        others.spawn(http::run(listener, role, Arc::clone(&shared)));
    }
    let mut brokers = JoinSet::new();
    for index in 0..config.brokers.len() {
        brokers.spawn(broker::run(config.clone(), index, Arc::clone(&shared)));
    }
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(new) = changes.recv() => {
                reload::apply(&shared, &mut config, new);
                supervisor.reloaded();
            }
        }
    }
    info!("ending: taking back what was published");
    supervisor.stopping();
    shared.end();
    let all = async { while brokers.join_next().await.is_some() {} };
    if tokio::time::timeout(config.limits.shutdown, all)
        .await
        .is_err()
    {
        warn!(
            "a broker did not take everything within {} s",
            config.limits.shutdown.as_secs()
        );
    }
    Ok(())
}

/// Takes the addresses of the HTTP server: the one for metrics alone, and the one with the page.
#[cfg(feature = "metrics")]
async fn servers(config: &Config) -> Result<Vec<(TcpListener, http::Role)>, Fatal> {
    let mut wanted = Vec::new();
    if let Some(address) = config.metrics {
        wanted.push((address, http::Role::Metrics));
    }
    #[cfg(feature = "web")]
    if let Some(address) = config.web
        && let Some(broker) = config.brokers.first()
    {
        wanted.push((
            address,
            http::Role::page(http::Facts {
                portal_id: config.portal_id.clone(),
                prefix: broker.prefix.clone(),
                read_only: broker.access != AccessRule::Always(Access::Full),
                broker: Endpoint::of(broker, config.limits.request_bytes_max),
            }),
        ));
    }
    let mut servers = Vec::with_capacity(wanted.len());
    for (address, role) in wanted {
        servers.push((http::listen(address, &role).await?, role));
    }
    Ok(servers)
}

fn bridge_config(config: &Config) -> BridgeConfig {
    let limits = &config.limits;
    let outlet = |broker: &crate::config::BrokerConfig| OutletConfig {
        name: broker.name.as_str().into(),
        retain: broker.retain,
        keep_alive: broker.keep_alive,
        filters_max: limits.filters_max,
        prefix: broker.prefix.as_str().into(),
        access: broker.access,
        lists: broker.lists.clone(),
        answers_first: broker.publish_rate_max > 0,
        topics: broker.topics.clone(),
        discovery: broker.home_assistant.as_ref().map(|home| DiscoveryConfig {
            names: Names::new(&home.prefix, &config.portal_id),
            enabled: home.enabled,
            keep: home.keep,
        }),
    };
    BridgeConfig {
        portal_id: config.portal_id.clone(),
        outlets: config.brokers.iter().map(outlet).collect(),
        items_max: limits.items_max,
        services_max: limits.services_max,
        writes_in_flight_max: limits.writes_in_flight_max,
        calls_in_flight_max: limits.calls_in_flight_max,
        call_timeout: limits.call_timeout,
        read_timeout: limits.read_timeout,
        seed: random(),
    }
}
