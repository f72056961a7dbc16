//! Decisions: what to publish and what to call, without sockets and clocks.
//!
//! ```text
//!  bus frames ──▶ services ──▶ cache, items ──▶ outlets ──▶ poll_publish ──▶ brokers
//!  poll_call  ◀── calls ◀───── requests ◀────────────────────────────────── brokers
//! ```
//!
//! The same inputs give the same outputs; time is an argument. Nothing here blocks or fails: bad
//! news become outputs and log lines. Read `store::items` and `subscriber` first, then the parts of
//! [`Bridge`]: `services` and `scans` (§2), `requests` (§5) and `publishing` (§4).

mod brokers;
mod bus;
mod clients;
mod discovery;
mod reload;
mod request;
mod settings;
pub mod stats;
mod store;
mod subscriber;

use std::time::{Duration, Instant};

use self::bus::calls::{Call, CallId, Missing, Unanswered};
use self::bus::{Bus, BusContext, BusLimits};
use self::discovery::{AllReaders, Discovery};
use self::request::{RequestContext, RequestLimits};
use self::store::Store;
use self::subscriber::remote::{Outlet, Outlets};
use crate::codec::bus_item;
use crate::codec::frame::{Frame, INTERFACE, Kind};
use crate::model::log_rate::LogRate;
use crate::model::name::PortalId;
use crate::model::time::Now;
use crate::model::topic;

pub use self::bus::{calls, claim};
pub use self::settings::{Bounds, Settings};
pub use self::store::cache::{Reader, SlotId};
pub use self::store::ids::BrokerId;
pub use self::store::items::ItemRef;
pub use self::store::marks::Marks;
pub use self::store::sizes::Sizes;
pub use self::subscriber::batch::BatchConfig;
pub use self::subscriber::client::{ClientAnswer, Directory, DirectoryItem};
pub use self::subscriber::discovery_state::DiscoveryConfig;
pub use self::subscriber::gate::Admission;
pub use self::subscriber::refresh::EXPIRY_MIN;
pub use self::subscriber::remote::OutletConfig;
pub use self::subscriber::sink::{PublishSink, text_payload};
pub use self::subscriber::tally::{BrokerStats, METRICS};

/// What a bridge is told at the start.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// The portal id in all topics.
    pub portal_id: PortalId,
    /// The brokers, in the order of their numbers.
    pub outlets: Vec<OutletConfig>,
    /// How many items are kept, those included that a broker must still be told are gone.
    pub items_max: usize,
    /// How many services are followed.
    pub services_max: usize,
    /// How many writes may wait for their answers (§5.6).
    pub writes_in_flight_max: usize,
    /// How many clients' reads may wait for their answers.
    pub calls_in_flight_max: usize,
    /// How long a scan's call, or a write, may take.
    pub call_timeout: Duration,
    /// How long a read may take.
    pub read_timeout: Duration,
    /// Any number: makes the order of tables different on every start.
    pub seed: u64,
}

/// The bridge: between one bus and any number of brokers.
#[derive(Debug)]
pub struct Bridge {
    portal_id: PortalId,
    store: Store,
    bus: Bus,
    outlets: Outlets,
    discovery: Discovery,
    limits: RequestLimits,
    started: Option<Instant>,
}

impl Bridge {
    /// A bridge that has neither bus nor broker yet.
    pub fn new(config: BridgeConfig) -> Bridge {
        let bounds = Bounds::default();
        Bridge {
            store: Store::new(config.items_max, config.seed),
            bus: Bus::new(BusLimits {
                items_max: config.items_max,
                services_max: config.services_max,
                call_timeout: config.call_timeout,
                sizes: bounds.sizes,
                log: bounds.log,
            }),
            outlets: Outlets::new(
                &config.outlets,
                &topic::notification_prefix(&config.portal_id),
            ),
            discovery: Discovery::new(&config.outlets),
            limits: RequestLimits {
                writes_in_flight_max: config.writes_in_flight_max,
                calls_in_flight_max: config.calls_in_flight_max,
                read_timeout: config.read_timeout,
                rate: bounds.request_rate(),
                strict_writes: false,
            },
            started: None,
            portal_id: config.portal_id,
        }
    }

    fn readers(&mut self) -> AllReaders<'_> {
        AllReaders::new(&mut self.outlets, &mut self.discovery)
    }

    #[inline]
    fn on_bus(&mut self) -> BusContext<'_, AllReaders<'_>> {
        BusContext {
            store: &mut self.store,
            bus: &mut self.bus,
            readers: AllReaders::new(&mut self.outlets, &mut self.discovery),
        }
    }

    fn requests(&mut self) -> RequestContext<'_> {
        RequestContext {
            portal_id: &self.portal_id,
            store: &mut self.store,
            bus: &mut self.bus,
            outlets: &mut self.outlets,
            discovery: &mut self.discovery,
            limits: &self.limits,
        }
    }

    /// How much of one kind is logged.
    pub fn log_rate(&self) -> LogRate {
        self.bus.limits.log
    }

    /// The bus is connected.
    pub fn bus_connected(&mut self, now: Now) {
        self.on_bus().connected(now);
    }

    /// Whether the bus is connected and has named the services that are on it.
    pub fn bus_has_named_services(&self) -> bool {
        self.bus.registry.listed
    }

    /// The bus is gone, and every service with it (§2.8).
    pub fn bus_disconnected(&mut self, now: Now) {
        self.bus.tally.connected = false;
        for purpose in self.bus.calls.end_all() {
            let why = Missing::BusGone;
            self.unanswered(
                now,
                Unanswered {
                    purpose,
                    why,
                    silenced: None,
                },
            );
        }
        self.on_bus().disconnected(now);
    }

    fn unanswered(&mut self, now: Now, call: Unanswered) {
        if let Some((call, outcome)) = self.on_bus().unanswered(now, call) {
            self.requests().answered(now, call, outcome);
        }
    }

    /// Takes a message from the bus. `false` where it is none of the bridge's: the D-Bus library
    /// is to have it.
    #[inline]
    pub fn bus_frame(&mut self, now: Now, frame: &Frame<'_>) -> bool {
        match frame.kind {
            Kind::Signal if frame.interface == INTERFACE => {
                self.on_bus().signal(now, frame);
            }
            Kind::Signal
                if frame.sender == bus::calls::BUS && frame.member == "NameOwnerChanged" =>
            {
                if let Ok((name, _, new)) = bus_item::owner_change(frame) {
                    self.on_bus().owner_changed(now, name, new);
                }
            }
            Kind::MethodReturn | Kind::Error => {
                let Some(id) = CallId::of_reply(frame.reply_serial) else {
                    return false;
                };
                if let Some((call, outcome)) = self.on_bus().reply(now, id, frame) {
                    self.requests().answered(now, call, outcome);
                }
            }
            Kind::Signal | Kind::MethodCall | Kind::Unknown => {
                return false;
            }
        }
        if self.store.cache.has_unkept() {
            self.on_bus().report_unkept(now);
        }
        self.bus.overflow.watch_room(now);
        true
    }

    /// Gives one D-Bus call to make; its answer comes back through [`Bridge::bus_frame`], with the
    /// call's number as reply serial.
    pub fn poll_call(&mut self) -> Option<Call> {
        self.bus.calls.poll()
    }

    /// Whether there are calls to make.
    pub fn has_calls(&self) -> bool {
        self.bus.calls.has_calls()
    }

    /// Whether an answer from the bus is awaited that nothing may hold up.
    pub fn answer_awaited(&self) -> bool {
        self.bus.calls.urgent_awaited()
    }

    /// When [`Bridge::tick`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let outlets = self.outlets.iter().filter_map(Outlet::deadline);
        outlets
            .chain(self.bus.deadline())
            .chain(self.discovery.deadline())
            .min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        let mut bus = self.on_bus();
        bus.scan_due(now);
        bus.lower_access(now);
        while let Some(call) = self.bus.calls.expire(now.monotonic) {
            self.unanswered(now, call);
        }
        let mut bus = self.on_bus();
        bus.report_clashes(now);
        bus.take_up(now);
        for outlet in self.outlets.iter_mut() {
            outlet.tick(now.monotonic, &self.store.items);
        }
        let mut outlets = self.outlets.iter();
        if outlets.any(|outlet| outlet.is_overdue(now.monotonic)) {
            self.on_bus().settle(now);
        }
        let mut readers = AllReaders::new(&mut self.outlets, &mut self.discovery);
        readers.tick_discovery(now, &mut self.store, &self.bus.registry);
    }

    /// How many services are there, and how many items they have.
    pub fn size(&self) -> (usize, usize) {
        (self.bus.registry.count(), self.store.items.live())
    }
}
