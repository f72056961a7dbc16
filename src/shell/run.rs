//! The bridge as a whole: its tasks, what they share, and its end (§4.9).

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[cfg(feature = "metrics")]
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tracing::{info, warn};

#[cfg(feature = "metrics")]
use super::http;
use super::supervisor::{Reach, Situation, Supervisor, Watch};
#[cfg(feature = "web")]
use super::transport::Endpoint;
use super::uplink::Uplink;
use super::{broker, bus, reload, vrm};
use crate::bridge::{Bridge, BridgeConfig, DiscoveryConfig, LogRate, OutletConfig, Settings};
#[cfg(feature = "web")]
use crate::config::AccessRule;
use crate::config::Config;
use crate::error::Fatal;
use crate::homeassistant::Names;
#[cfg(feature = "web")]
use crate::model::access::Access;
use crate::model::time::Now;

/// What the bridge has done so far, for those who watch it from another thread; the counters wrap,
/// since a small processor has no large ones that threads can share.
#[derive(Debug, Default)]
pub struct Stats {
    /// How many services are there.
    pub services: AtomicUsize,
    /// How many items they have.
    pub items: AtomicUsize,
    /// Changes that the bus brought.
    pub updates: AtomicU32,
    /// Messages that were published.
    pub published: AtomicU32,
}

/// What the tasks share.
#[derive(Debug)]
pub struct Shared {
    bridge: Mutex<Bridge>,
    /// There are calls to make.
    pub(super) calls: Notify,
    /// A client waits for an answer from the bus: nothing is gathered now.
    pub(super) urgent: Notify,
    /// One per broker: there is something to publish.
    pub(super) brokers: Vec<Notify>,
    /// One per broker: whether it is to be connected at all.
    wanted: Vec<AtomicBool>,
    /// The next deadline has come closer.
    timer: Notify,
    armed: Mutex<Option<Instant>>,
    ending: AtomicBool,
    /// The broker of VRM, where this device is to be registered there.
    pub(super) uplink: Option<Uplink>,
    stats: Arc<Stats>,
    /// How much of one kind is logged: for who must not ask the bridge, since he works for it.
    log: Mutex<LogRate>,
    /// How often a connection has come or gone; the number wraps.
    changes: AtomicU32,
}

/// The time now, on both clocks.
pub fn now() -> Now {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        monotonic: Instant::now(),
        unix_s: unix.as_secs(),
    }
}

/// A random number; good enough to spread retries and table orders.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// A shorter one.
#[allow(clippy::cast_possible_truncation)] // any 32 bits of it
pub(super) fn random_u32() -> u32 {
    random() as u32
}

impl Shared {
    /// The bridge. The lock is for a moment, and never held across a wait; a panic elsewhere ends
    /// the process, so that what it guards is whole.
    pub fn bridge(&self) -> MutexGuard<'_, Bridge> {
        self.bridge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the bridge take something, and wakes who has something to do because of it.
    pub fn with<R>(&self, act: impl FnOnce(&mut Bridge) -> R) -> R {
        let mut bridge = self.bridge();
        let result = act(&mut bridge);
        self.wake(&bridge);
        result
    }

    /// Wakes who has something to do now.
    pub(super) fn wake(&self, bridge: &Bridge) {
        for (broker, wake) in self.brokers.iter().enumerate() {
            let wanted = bridge.wants(broker);
            let was = self
                .wanted
                .get(broker)
                .map(|was| was.swap(wanted, Ordering::Relaxed));
            if bridge.has_work(broker) || was != Some(wanted) {
                wake.notify_one();
            }
        }
        if let Some(uplink) = &self.uplink {
            uplink.note(bridge);
        }
        if bridge.has_calls() {
            self.calls.notify_one();
        }
        if bridge.answer_awaited() {
            // Only who pauses right now: nothing is to be left for a later pause.
            self.urgent.notify_waiters();
        }
        let deadline = bridge.poll_timeout();
        let armed = *self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if deadline.is_some_and(|deadline| armed.is_none_or(|armed| deadline < armed)) {
            self.timer.notify_one();
        }
        let (services, items) = bridge.size();
        let (changes, published) = bridge.traffic();
        self.stats.services.store(services, Ordering::Relaxed);
        self.stats.items.store(items, Ordering::Relaxed);
        // Any 32 bits of them.
        #[allow(clippy::cast_possible_truncation)]
        let (changes, published) = (changes as u32, published as u32);
        self.stats.updates.store(changes, Ordering::Relaxed);
        self.stats.published.store(published, Ordering::Relaxed);
    }

    /// How much of one kind is logged.
    pub(super) fn log_rate(&self) -> LogRate {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over settings of a reload.
    pub(super) fn reconfigure(&self, settings: Settings) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = settings.bounds.log;
        self.with(|bridge| bridge.reconfigure(now(), settings));
    }

    /// A connection has come or gone: the service manager is told.
    pub(super) fn connection_changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.timer.notify_one();
    }

    /// What the service manager is told.
    fn situation(&self) -> Situation {
        let bridge = self.bridge();
        let (services, items) = bridge.size();
        let reach = |broker| match (bridge.is_connected(broker), self.wants(broker)) {
            (true, _) => Reach::Connected,
            (false, true) => Reach::Lost,
            (false, false) => Reach::Off,
        };
        Situation {
            bus: bridge.bus_has_named_services(),
            brokers: (0..bridge.brokers())
                .map(|broker| (bridge.broker_name(broker).to_owned(), reach(broker)))
                .collect(),
            services,
            items,
            changes: self.changes.load(Ordering::Relaxed),
            ending: self.is_ending(),
        }
    }

    /// Whether the bridge ends.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Whether a broker is to be connected: not at the end, and not while it may have nothing (§8).
    pub fn wants(&self, broker: usize) -> bool {
        let held = self
            .uplink
            .as_ref()
            .is_some_and(|uplink| uplink.holds(broker));
        let wanted = self.wanted.get(broker);
        !self.is_ending() && !held && wanted.is_some_and(|wanted| wanted.load(Ordering::Relaxed))
    }

    /// Waits until a broker is to be connected; `false` where the bridge ends instead.
    pub(super) async fn is_wanted(&self, broker: usize) -> bool {
        while !self.is_ending() {
            if self.wants(broker) {
                return true;
            }
            match self.brokers.get(broker) {
                Some(wake) => wake.notified().await,
                None => return false,
            }
        }
        false
    }
}

/// Sleeps until the bridge has something to do, again and again. Tells the service manager that it
/// does: whatever holds up this loop, or the bridge, is told by silence.
async fn keep_time(shared: Arc<Shared>, mut watch: Watch) {
    loop {
        if watch.is_there() {
            watch.look(Instant::now(), &shared.situation());
        }
        let deadline = shared.bridge().poll_timeout();
        let deadline = deadline.into_iter().chain(watch.deadline()).min();
        *shared.armed.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => shared.with(|bridge| bridge.tick(now())),
            () = shared.timer.notified() => {}
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
    let shared = Arc::new(Shared {
        calls: Notify::new(),
        urgent: Notify::new(),
        brokers: config.brokers.iter().map(|_| Notify::new()).collect(),
        wanted: (0..config.brokers.len())
            .map(|broker| AtomicBool::new(bridge.wants(broker)))
            .collect(),
        bridge: Mutex::new(bridge),
        timer: Notify::new(),
        armed: Mutex::new(None),
        ending: AtomicBool::new(false),
        uplink: config.vrm.as_ref().and_then(Uplink::new),
        stats,
        log: Mutex::default(),
        changes: AtomicU32::new(0),
    });
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
    shared.ending.store(true, Ordering::Relaxed);
    shared.with(Bridge::end);
    for wake in &shared.brokers {
        wake.notify_one();
    }
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
