//! The bridge as a whole: its tasks, what they share, and its end (§4.9).

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "metrics")]
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::address::outward;
use super::held::Held;
#[cfg(feature = "metrics")]
use super::http;
#[cfg(feature = "listen")]
use super::serve;
pub use super::shared::{LinkNews, LinkWatcher, Shared, Stats, now};
use super::shared::{TimerTask, random};
use super::supervisor::{Supervisor, Watch};
#[cfg(feature = "web")]
use super::transport::Endpoint;
use super::uplink::Uplink;
use super::{broker, bus, reload, vrm};
use crate::bridge::{BatchConfig, Bridge, BridgeConfig, DiscoveryConfig, OutletConfig};
#[cfg(feature = "web")]
use crate::config::{AccessRule, Auth, ListenTransport, Transport};
use crate::config::{Config, HomeAssistant};
use crate::error::Fatal;
use crate::homeassistant::Names;
#[cfg(feature = "web")]
use crate::model::access::Access;

/// Sleeps until the bridge has something to do, again and again. Tells the service manager that it
/// does: whatever holds up this loop, or the bridge, is told by silence.
pub(super) async fn keep_time(task: TimerTask, mut watch: Watch) {
    let shared = &task.shared;
    loop {
        if watch.is_there() {
            watch.look(Instant::now(), &shared.situation());
        }
        let deadline = shared.bridge().poll_timeout();
        let deadline = deadline.into_iter().chain(watch.deadline()).min();
        task.arm(deadline);
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => shared.with(|bridge| bridge.tick(now())),
            () = task.rearmed() => {}
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
    let (held, stats) = (Held::default(), Arc::default());
    run_with(config, changes, shutdown, held, stats, supervisor).await
}

/// The same, for one who watches it, and who may hold sockets for it that listen already.
#[cfg_attr(
    not(any(feature = "listen", feature = "metrics")),
    allow(unused_variables, unused_mut, reason = "nothing listens")
)]
pub async fn run_with(
    mut config: Config,
    mut changes: mpsc::UnboundedReceiver<Config>,
    shutdown: impl Future<Output = ()>,
    mut held: Held,
    stats: Arc<Stats>,
    supervisor: Supervisor,
) -> Result<(), Fatal> {
    #[cfg(feature = "listen")]
    let bound = serve::bind(&config, &mut held)?;
    #[cfg(feature = "metrics")]
    let servers = servers(
        &config,
        &mut held,
        #[cfg(feature = "web")]
        bound.as_ref(),
    )
    .await?;
    #[allow(unused_mut, reason = "without listeners")]
    let mut bridge = Bridge::new(bridge_config(&config));
    #[cfg(feature = "listen")]
    let serving = match bound {
        Some(bound) => {
            let outlets = config.listeners.iter();
            let outlets = outlets.map(|listener| listener_outlet(&config, listener));
            let outlets = outlets.collect();
            Some(serve::start(bound, &config, &mut bridge, outlets)?)
        }
        None => None,
    };
    let uplink = config.vrm.as_ref().and_then(Uplink::new);
    let shared = Arc::new(Shared::new(bridge, uplink, stats));
    #[cfg(feature = "listen")]
    if let Some(serving) = &serving {
        shared.serve(Arc::clone(serving.exchange()));
    }
    shared.reconfigure(reload::settings(&config));
    info!(
        "portal id {}, bus {}",
        config.portal_id,
        config.bus.as_str()
    );
    let mut others = JoinSet::new();
    let watch = Watch::new(supervisor.clone(), Instant::now());
    others.spawn(keep_time(shared.timer_task(), watch));
    if let Some(task) = shared.uplink_task() {
        others.spawn(vrm::run(config.clone(), task));
    }
    others.spawn(bus::run(config.clone(), shared.bus_task()));
    #[cfg(feature = "metrics")]
    for (listener, role) in servers {
        let hosts = config.web_hosts.clone();
        others.spawn(http::run(listener, role, hosts, Arc::clone(&shared)));
    }
    #[cfg(feature = "listen")]
    if let Some(serving) = &serving {
        let exchange = Arc::clone(serving.exchange());
        others.spawn(serve::carry(config.clone(), exchange, Arc::clone(&shared)));
    }
    let mut brokers = JoinSet::new();
    for task in shared.broker_tasks().take(config.brokers.len()) {
        brokers.spawn(broker::run(config.clone(), task));
    }
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(new) = changes.recv() => {
                reload::apply(&shared, &mut config, new);
                #[cfg(feature = "listen")]
                if let Some(serving) = &serving {
                    serving.reload(&config);
                }
                supervisor.reloaded();
            }
        }
    }
    info!("stopping: clearing retained topics; a second signal stops at once");
    supervisor.stopping();
    shared.end();
    #[cfg(feature = "listen")]
    let clients = async {
        if let Some(serving) = serving {
            serving.end().await;
        }
    };
    #[cfg(not(feature = "listen"))]
    let clients = async {};
    let brokers = async { while brokers.join_next().await.is_some() {} };
    let all = async { tokio::join!(brokers, clients) };
    if tokio::time::timeout(config.limits.shutdown, all)
        .await
        .is_err()
    {
        warn!(
            "some retained topics were not cleared within {} s",
            config.limits.shutdown.as_secs()
        );
    }
    Ok(())
}

/// Takes the addresses of the HTTP server: the one for metrics alone, and the one with the page.
#[cfg(feature = "metrics")]
async fn servers(
    config: &Config,
    held: &mut Held,
    #[cfg(feature = "web")] bound: Option<&serve::Bound>,
) -> Result<Vec<(TcpListener, http::Role)>, Fatal> {
    let mut wanted = Vec::new();
    if let Some(address) = config.metrics {
        wanted.push((address, http::Role::Metrics));
    }
    #[cfg(feature = "web")]
    if let Some(address) = config.web
        && let Some(facts) = page_facts(config, bound)
    {
        wanted.push((address, http::Role::page(facts)));
    }
    let mut servers = Vec::with_capacity(wanted.len());
    for (address, role) in wanted {
        servers.push((http::listen(address, &role, held).await?, role));
    }
    Ok(servers)
}

/// What the page is told, and where its clients are connected to: a listener of ours, else the first broker
/// that is not VRM's.
#[cfg(feature = "web")]
fn page_facts(config: &Config, bound: Option<&serve::Bound>) -> Option<http::Facts> {
    if let (Some(number), Some(bound)) = (config.page_listener(), bound) {
        let listener = config.listeners.get(number)?;
        return Some(http::Facts {
            portal_id: config.portal_id.clone(),
            prefix: String::new(),
            read_only: listener.access != AccessRule::Always(Access::Full),
            way: http::Way::Listener(bound.doorway(), number),
            login: match listener.auth {
                Auth::Anonymous | Auth::Certificate => http::Login::Unknown,
                Auth::Users(_) => http::Login::User,
                Auth::Venus { .. } => http::Login::Password,
            },
            place: place_of_listeners(config, bound, number),
        });
    }
    let broker = config.page_broker()?;
    Some(http::Facts {
        portal_id: config.portal_id.clone(),
        prefix: broker.prefix.clone(),
        read_only: broker.access != AccessRule::Always(Access::Full),
        way: http::Way::Broker(Endpoint::all_of(broker, config.limits.request_bytes_max)),
        login: http::Login::Unknown,
        place: (broker.transport == Transport::Tcp).then(|| http::Place {
            host: broker.host.clone(),
            port: broker.port,
        }),
    })
}

/// Where programs that speak plain MQTT reach our listeners: that of the page, else the first.
#[cfg(feature = "web")]
fn place_of_listeners(
    config: &Config,
    bound: &serve::Bound,
    of_page: usize,
) -> Option<http::Place> {
    let all = 0..config.listeners.len();
    let mut numbers = std::iter::once(of_page).chain(all);
    numbers.find_map(|number| {
        let listener = config.listeners.get(number)?;
        let address = listener.address?.ip();
        let is_plain = listener.transport == ListenTransport::Tcp;
        let host = if address.is_unspecified() {
            String::new()
        } else {
            address.to_string()
        };
        let port = bound.port(number).filter(|_| is_plain)?;
        Some(http::Place { host, port })
    })
}

/// A listener as the bridge sees it: an outlet like a broker's.
#[cfg(feature = "listen")]
fn listener_outlet(config: &Config, listener: &crate::config::ListenConfig) -> OutletConfig {
    OutletConfig {
        name: listener.name.as_str().into(),
        retain: listener.retain,
        keep_alive: listener.keep_alive,
        filters_max: config.limits.filters_max,
        prefix: "".into(),
        access: listener.access,
        lists: listener.lists.clone(),
        answers_first: false,
        throttle: Vec::new(),
        batch: None,
        topics: crate::model::topic::TopicRules::default(),
        discovery: discovery(config, listener.home_assistant.as_ref()),
    }
}

fn discovery(config: &Config, home: Option<&HomeAssistant>) -> Option<DiscoveryConfig> {
    home.map(|home| DiscoveryConfig {
        names: Names::new(&home.prefix, &config.portal_id),
        enabled: home.enabled,
        keep: home.keep,
        page: page(config).into(),
    })
}

/// Where others than this device find the page, if they can.
fn page(config: &Config) -> String {
    let Some(mut at) = config
        .web
        .filter(|at| !at.ip().to_canonical().is_loopback())
    else {
        return String::new();
    };
    if at.ip().is_unspecified() {
        let Some(own) = outward(Ipv4Addr::UNSPECIFIED.into()) else {
            return String::new();
        };
        at.set_ip(own);
    }
    format!("http://{at}")
}

pub(super) fn bridge_config(config: &Config) -> BridgeConfig {
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
        throttle: broker.throttle.clone(),
        batch: broker.batch.map(|every| BatchConfig {
            every,
            full: broker.batch_full,
            topics: broker.topics_of_values,
            compress: broker.batch_compress,
        }),
        topics: broker.topics.clone(),
        discovery: discovery(config, broker.home_assistant.as_ref()),
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
