//! What the tasks have in common: the bridge behind its lock, and what wakes each of them.
//!
//! A task has the bridge take something with [`Shared::with`], which then wakes who has something to do.

use std::hash::{BuildHasher, RandomState};
#[cfg(feature = "listen")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

#[cfg(feature = "listen")]
use super::serve::exchange::Exchange;
use super::supervisor::{Reach, Situation};
use super::uplink::Uplink;
use crate::bridge::{Bridge, LogRate, Settings};
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
struct TimerSignals {
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
    pub(super) bus: BusSignals,
    brokers: Vec<BrokerSignals>,
    timer: TimerSignals,
    ending: AtomicBool,
    /// The broker of VRM, where this device is to be registered there.
    pub(super) uplink: Option<Uplink>,
    stats: Arc<Stats>,
    /// The thread that serves clients which are connected to the bridge itself (§9).
    #[cfg(feature = "listen")]
    clients: OnceLock<Arc<Exchange>>,
    /// How much of one kind is logged: for who must not ask the bridge, since he works for it.
    log: Mutex<LogRate>,
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
    /// A bridge that no task works for yet.
    pub(super) fn new(bridge: Bridge, uplink: Option<Uplink>, stats: Arc<Stats>) -> Shared {
        let brokers = (0..bridge.brokers()).map(|broker| BrokerSignals {
            wake: Notify::new(),
            wanted: AtomicBool::new(bridge.wants(broker)),
        });
        Shared {
            brokers: brokers.collect(),
            bridge: Mutex::new(bridge),
            bus: BusSignals::default(),
            timer: TimerSignals::default(),
            ending: AtomicBool::new(false),
            uplink,
            stats,
            #[cfg(feature = "listen")]
            clients: OnceLock::new(),
            log: Mutex::default(),
        }
    }

    /// Clients are served by this thread.
    #[cfg(feature = "listen")]
    pub(super) fn serve(&self, clients: Arc<Exchange>) {
        // Once, before any task runs.
        let _ = self.clients.set(clients);
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
        if let Some(clients) = self.clients.get() {
            clients.hand_counts(&mut bridge);
        }
        look(&bridge)
    }

    /// Wakes who has something to do now.
    pub(super) fn wake(&self, bridge: &mut Bridge) {
        #[cfg(feature = "listen")]
        if let Some(clients) = self.clients.get() {
            clients.tell(now, super::memory::resident_bytes, bridge);
        }
        for (broker, signals) in self.brokers.iter().enumerate() {
            let wanted = bridge.wants(broker);
            let was = signals.wanted.swap(wanted, Ordering::Relaxed);
            if bridge.has_work(broker) || was != wanted {
                signals.wake.notify_one();
            }
        }
        if let Some(uplink) = &self.uplink {
            uplink.note(bridge);
        }
        if bridge.has_calls() {
            self.bus.calls.notify_one();
        }
        if bridge.answer_awaited() {
            // Only who pauses right now: nothing is to be left for a later pause.
            self.bus.urgent.notify_waiters();
        }
        let deadline = bridge.poll_timeout();
        let armed = *self
            .timer
            .armed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if deadline.is_some_and(|deadline| armed.is_none_or(|armed| deadline < armed)) {
            self.timer.wake.notify_one();
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
        self.timer.changes.fetch_add(1, Ordering::Relaxed);
        self.timer.wake.notify_one();
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
            changes: self.timer.changes.load(Ordering::Relaxed),
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
        let wanted = self.brokers.get(broker);
        let wanted = wanted.is_some_and(|signals| signals.wanted.load(Ordering::Relaxed));
        !self.is_ending() && !held && wanted
    }

    /// Waits until a broker is to be connected; `false` where the bridge ends instead.
    pub(super) async fn is_wanted(&self, broker: usize) -> bool {
        while !self.is_ending() {
            if self.wants(broker) {
                return true;
            }
            match self.brokers.get(broker) {
                Some(signals) => signals.wake.notified().await,
                None => return false,
            }
        }
        false
    }

    /// What wakes the task of a broker.
    pub(super) fn broker(&self, broker: usize) -> Option<&Notify> {
        self.brokers.get(broker).map(|signals| &signals.wake)
    }

    /// The bridge ends: all brokers are told.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.with(Bridge::end);
        for signals in &self.brokers {
            signals.wake.notify_one();
        }
    }

    /// When the timekeeper wakes up by itself: at this moment, or never.
    pub(super) fn arm(&self, deadline: Option<Instant>) {
        *self
            .timer
            .armed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    /// Waits until the timekeeper has to look again.
    pub(super) async fn rearmed(&self) {
        self.timer.wake.notified().await;
    }
}
