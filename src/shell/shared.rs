//! What the tasks have in common, the bridge behind its lock, and what each has for itself: its signals.
//!
//! A task has the bridge take something with [`Shared::with`], which then wakes who has something to do.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};

#[cfg(feature = "listen")]
use super::serve::exchange::Exchange;
use super::supervisor::{Reach, Situation};
use super::uplink::Uplink;
use crate::bridge::{Bridge, Settings};
use crate::model::log_rate::LogRate;
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
    /// Who hears of each connection, where somebody wants to.
    pub links: OnceLock<LinkWatcher>,
}

/// Who hears of the connections of one bridge among many.
#[derive(Debug)]
pub struct LinkWatcher {
    /// The number of the bridge.
    pub bridge: usize,
    /// Where the news go, each with the number and its time.
    pub news: mpsc::UnboundedSender<(usize, Instant, LinkNews)>,
}

/// What happened to a connection with a broker.
#[derive(Debug)]
pub enum LinkNews {
    /// The broker has taken it.
    Connected,
    /// It was lost, or never came about.
    Failed {
        /// Whether the broker had taken it before.
        was_connected: bool,
        /// Why, in one sentence.
        reason: String,
    },
}

/// What wakes the task of the bus.
#[derive(Debug, Default)]
pub struct BusSignals {
    /// There are calls to make.
    pub(super) calls: Notify,
    /// A client waits for an answer from the bus: nothing is gathered now.
    pub(super) urgent: Notify,
}

/// What wakes the task of one broker.
#[derive(Debug, Default)]
struct BrokerSignals {
    /// There is something to publish, or it is to be connected or not.
    wake: Notify,
    /// Whether it is to be connected at all.
    wanted: AtomicBool,
}

/// What wakes the timekeeper.
#[derive(Debug, Default)]
pub struct TimerSignals {
    /// The next deadline has come closer, or there is something to tell the service manager.
    wake: Notify,
    /// Until when it sleeps.
    armed: Mutex<Option<Instant>>,
    /// How often a connection has come or gone; the number wraps.
    changes: AtomicU32,
}

/// The bridge, and who is woken when it has taken something.
#[derive(Debug)]
pub struct Shared {
    bridge: Mutex<Bridge>,
    ending: AtomicBool,
    /// How much of one kind is logged: for tasks that must not wait for the bridge.
    log: Mutex<LogRate>,
    wakers: Wakers,
}

/// Who is woken: what each task has, from the other side.
#[derive(Debug)]
struct Wakers {
    bus: Arc<BusSignals>,
    brokers: Vec<Arc<BrokerSignals>>,
    timer: Arc<TimerSignals>,
    /// Registration at VRM, where it is wanted.
    uplink: Option<Arc<Uplink>>,
    /// The thread that serves clients which are connected to the bridge itself (§9).
    #[cfg(feature = "listen")]
    clients: OnceLock<Arc<Exchange>>,
    stats: Arc<Stats>,
}

/// What the task of the bus has.
pub struct BusTask {
    /// The bridge.
    pub(super) shared: Arc<Shared>,
    /// What wakes the task.
    pub(super) signals: Arc<BusSignals>,
}

/// What the task of one broker has.
pub struct BrokerTask {
    /// The bridge.
    pub(super) shared: Arc<Shared>,
    /// The number of the broker there.
    pub(super) index: usize,
    signals: Arc<BrokerSignals>,
}

/// What the timekeeper has.
pub struct TimerTask {
    /// The bridge.
    pub(super) shared: Arc<Shared>,
    signals: Arc<TimerSignals>,
}

/// What the task that registers this device at VRM has.
pub struct UplinkTask {
    /// The bridge.
    pub(super) shared: Arc<Shared>,
    /// The broker of VRM, as registration sees it.
    pub(super) uplink: Arc<Uplink>,
}

/// The time now, on both clocks.
pub fn now() -> Now {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        monotonic: Instant::now(),
        unix_s: unix.as_secs(),
        unix_ms: u16::try_from(unix.subsec_millis()).unwrap_or_default(),
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
    /// A bridge that no task works for yet.
    pub(super) fn new(bridge: Bridge, uplink: Option<Uplink>, stats: Arc<Stats>) -> Shared {
        let signals = |broker| BrokerSignals {
            wake: Notify::new(),
            wanted: AtomicBool::new(bridge.wants(broker)),
        };
        let brokers = (0..bridge.brokers()).map(|broker| Arc::new(signals(broker)));
        Shared {
            wakers: Wakers {
                bus: Arc::default(),
                brokers: brokers.collect(),
                timer: Arc::default(),
                uplink: uplink.map(Arc::new),
                #[cfg(feature = "listen")]
                clients: OnceLock::new(),
                stats,
            },
            bridge: Mutex::new(bridge),
            ending: AtomicBool::new(false),
            log: Mutex::default(),
        }
    }

    /// What the task of the bus has.
    pub(super) fn bus_task(self: &Arc<Self>) -> BusTask {
        BusTask {
            shared: Arc::clone(self),
            signals: Arc::clone(&self.wakers.bus),
        }
    }

    /// What the tasks of the brokers have, in the order of the settings; after them the listeners follow.
    pub(super) fn broker_tasks(self: &Arc<Self>) -> impl Iterator<Item = BrokerTask> {
        let all = self.wakers.brokers.iter().enumerate();
        all.map(|(index, signals)| BrokerTask {
            shared: Arc::clone(self),
            index,
            signals: Arc::clone(signals),
        })
    }

    /// What the timekeeper has.
    pub(super) fn timer_task(self: &Arc<Self>) -> TimerTask {
        TimerTask {
            shared: Arc::clone(self),
            signals: Arc::clone(&self.wakers.timer),
        }
    }

    /// What registration at VRM has, where it is wanted.
    pub(super) fn uplink_task(self: &Arc<Self>) -> Option<UplinkTask> {
        let uplink = Arc::clone(self.wakers.uplink.as_ref()?);
        let shared = Arc::clone(self);
        Some(UplinkTask { shared, uplink })
    }

    /// Clients are served by this thread.
    #[cfg(feature = "listen")]
    pub(super) fn serve(&self, clients: Arc<Exchange>) {
        // Once, before any task runs.
        let _ = self.wakers.clients.set(clients);
    }

    /// The bridge. The lock is for a moment, and never held across a wait; a panic elsewhere ends
    /// the process, so that what it guards is whole.
    pub fn bridge(&self) -> MutexGuard<'_, Bridge> {
        self.bridge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the bridge take something, and wakes who has something to do because of it.
    pub fn with<R>(&self, act: impl FnOnce(&mut Bridge) -> R) -> R {
        let mut bridge = self.bridge();
        let result = act(&mut bridge);
        self.wake(&mut bridge);
        result
    }

    /// The bridge, for who looks at what it has counted.
    #[cfg(feature = "metrics")]
    pub(super) fn counted<R>(&self, look: impl FnOnce(&Bridge) -> R) -> R {
        #[allow(unused_mut, reason = "without listeners")]
        let mut bridge = self.bridge();
        #[cfg(feature = "listen")]
        if let Some(clients) = self.wakers.clients.get() {
            clients.hand_counts(&mut bridge);
        }
        look(&bridge)
    }

    /// Wakes who has something to do now.
    pub(super) fn wake(&self, bridge: &mut Bridge) {
        let wakers = &self.wakers;
        #[cfg(feature = "listen")]
        if let Some(clients) = wakers.clients.get() {
            clients.tell(now, super::memory::resident_bytes, bridge);
        }
        for (broker, signals) in wakers.brokers.iter().enumerate() {
            let wanted = bridge.wants(broker);
            let was = signals.wanted.swap(wanted, Ordering::Relaxed);
            if bridge.has_work(broker) || was != wanted {
                signals.wake.notify_one();
            }
        }
        if let Some(uplink) = &wakers.uplink {
            uplink.note(bridge);
        }
        if bridge.has_calls() {
            wakers.bus.calls.notify_one();
        }
        if bridge.answer_awaited() {
            // Only who pauses right now: nothing is to be left for a later pause.
            wakers.bus.urgent.notify_waiters();
        }
        wakers.timer.look(bridge.poll_timeout());
        let (services, items) = bridge.size();
        let (changes, published) = bridge.traffic();
        let stats = &wakers.stats;
        stats.services.store(services, Ordering::Relaxed);
        stats.items.store(items, Ordering::Relaxed);
        // Any 32 bits of them.
        #[allow(clippy::cast_possible_truncation)]
        let (changes, published) = (changes as u32, published as u32);
        stats.updates.store(changes, Ordering::Relaxed);
        stats.published.store(published, Ordering::Relaxed);
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

    /// Tells who watches the connections of this bridge.
    pub(super) fn tell_watcher(&self, news: impl FnOnce() -> LinkNews) {
        if let Some(watcher) = self.wakers.stats.links.get() {
            // Nobody watches any more where it cannot be sent.
            let _ = watcher.news.send((watcher.bridge, Instant::now(), news()));
        }
    }

    /// A connection has come or gone: the service manager is told.
    pub(super) fn connection_changed(&self) {
        let timer = &self.wakers.timer;
        timer.changes.fetch_add(1, Ordering::Relaxed);
        timer.wake.notify_one();
    }

    /// What the service manager is told.
    pub(super) fn situation(&self) -> Situation {
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
            changes: self.wakers.timer.changes.load(Ordering::Relaxed),
            ending: self.is_ending(),
        }
    }

    /// Whether the bridge ends.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Whether a broker is to be connected: not at the end, and not while it may have nothing (§8).
    pub fn wants(&self, broker: usize) -> bool {
        let uplink = self.wakers.uplink.as_ref();
        let held = uplink.is_some_and(|uplink| uplink.holds(broker));
        let wanted = self.wakers.brokers.get(broker);
        let wanted = wanted.is_some_and(|signals| signals.wanted.load(Ordering::Relaxed));
        !self.is_ending() && !held && wanted
    }

    /// The bridge ends: all brokers are told.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.with(Bridge::end);
        for signals in &self.wakers.brokers {
            signals.wake.notify_one();
        }
    }

    /// Wakes the task of a broker: something else than the bridge held it up.
    pub(super) fn wake_broker(&self, broker: usize) {
        if let Some(signals) = self.wakers.brokers.get(broker) {
            signals.wake.notify_one();
        }
    }
}

impl BrokerTask {
    /// The bridge.
    pub(super) fn bridge(&self) -> MutexGuard<'_, Bridge> {
        self.shared.bridge()
    }

    /// Has the bridge take something of this broker, and wakes who has something to do because of it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Bridge, usize) -> R) -> R {
        self.shared.with(|bridge| act(bridge, self.index))
    }

    /// Whether the broker is to be connected.
    pub(super) fn wants(&self) -> bool {
        self.shared.wants(self.index)
    }

    /// Waits until the broker is to be connected; `false` where the bridge ends instead.
    pub(super) async fn is_wanted(&self) -> bool {
        while !self.shared.is_ending() {
            if self.wants() {
                return true;
            }
            self.woken().await;
        }
        false
    }

    /// Waits until there is something to do.
    pub(super) fn woken(&self) -> Notified<'_> {
        self.signals.wake.notified()
    }
}

impl TimerTask {
    /// When the timekeeper wakes up by itself: at this moment, or never.
    pub(super) fn arm(&self, deadline: Option<Instant>) {
        *self.signals.armed() = deadline;
    }

    /// Waits until the timekeeper has to look again.
    pub(super) async fn rearmed(&self) {
        self.signals.wake.notified().await;
    }
}

impl TimerSignals {
    fn armed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the timekeeper where this deadline is before the one that it waits for.
    fn look(&self, deadline: Option<Instant>) {
        let armed = *self.armed();
        if deadline.is_some_and(|deadline| armed.is_none_or(|armed| deadline < armed)) {
            self.wake.notify_one();
        }
    }
}
