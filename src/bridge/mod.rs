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

mod bus;
mod discovery;
mod reload;
mod request;
mod stats;
mod store;
mod subscriber;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::bus::calls::{Call, Calls};
use self::bus::claim::Holders;
use self::bus::flapping::Flapping;
use self::bus::overflow::Overflow;
use self::bus::registry::Registry;
use self::discovery::Discovery;
use self::request::rights::DeviceAccess;
use self::stats::BusTally;
use self::store::cache::{Writer, cache};
use self::store::items::Items;
use self::subscriber::remote::Outlet;
use crate::codec::bus_item;
use crate::codec::frame::{Frame, Kind};
use crate::model::name::PortalId;
use crate::model::time::Now;
use crate::model::topic;
use crate::schema::Schema;

pub use self::bus::{calls, claim};
pub use self::discovery::board::DiscoveryConfig;
pub use self::reload::{Bounds, Settings};
pub use self::stats::{BrokerStats, Stats};
pub use self::store::cache::{Reader, SlotId};
pub use self::store::items::ItemRef;
pub use self::store::marks::Marks;
pub use self::store::sizes::Sizes;
pub use self::store::throttle::{LogRate, Throttle};
pub use self::subscriber::publishing::{PublishSink, text_payload};
pub use self::subscriber::refresh::EXPIRY_MIN;
pub use self::subscriber::remote::OutletConfig;

/// The bus's own name.
const BUS: &str = "org.freedesktop.DBus";
/// The bus's own object.
const BUS_PATH: &str = "/org/freedesktop/DBus";

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

/// What the bridge has done so far, brokers apart.
#[derive(Debug, Default)]
struct Counters {
    /// Changes of items that the bus brought.
    updates: u64,
    /// Values of them that were too long to be kept.
    too_long: u64,
}

/// The bridge: between one bus and any number of brokers.
#[derive(Debug)]
pub struct Bridge {
    config: BridgeConfig,
    /// What is known of items. Asked when one turns up, never at an update.
    schema: Arc<Schema>,
    items: Items,
    cache: Writer,
    values: Reader,
    registry: Registry,
    flapping: Flapping,
    holders: Holders,
    /// When services that another keeps from their topics are reported again (§2.7).
    clashes_at: Option<Instant>,
    /// How many owners are still asked for.
    owners_pending: usize,
    calls: Calls,
    outlets: Vec<Outlet>,
    discovery: Discovery,
    counters: Counters,
    /// Whether a write is refused that the schema speaks against (§5.6).
    strict_writes: bool,
    bounds: Bounds,
    /// What is logged of services: what is wrong with them, and that they come and go.
    warnings: Throttle,
    comings: Throttle,
    started: Option<Instant>,
    device_access: DeviceAccess,
    bus: BusTally,
    overflow: Overflow,
}

fn outlets(config: &BridgeConfig) -> Vec<Outlet> {
    let prefix = topic::notification_prefix(&config.portal_id);
    let outlets = config.outlets.iter().cloned();
    outlets.map(|outlet| Outlet::new(outlet, &prefix)).collect()
}

impl Bridge {
    /// A bridge that has neither bus nor broker yet.
    pub fn new(config: BridgeConfig) -> Bridge {
        let (cache, values) = cache(config.items_max);
        Bridge {
            schema: Arc::default(),
            items: Items::new(config.seed),
            cache,
            values,
            registry: Registry::default(),
            flapping: Flapping::default(),
            holders: Holders::default(),
            clashes_at: None,
            owners_pending: 0,
            calls: Calls::new(),
            outlets: outlets(&config),
            discovery: Discovery::new(&config.outlets),
            counters: Counters::default(),
            strict_writes: false,
            bounds: Bounds::default(),
            warnings: Throttle::default(),
            comings: Throttle::default(),
            started: None,
            device_access: DeviceAccess::default(),
            bus: BusTally::default(),
            overflow: Overflow::default(),
            config,
        }
    }

    /// Takes a message from the bus. `false` where it is none of the bridge's: the D-Bus library
    /// is to have it.
    #[inline]
    pub fn bus_frame(&mut self, now: Now, frame: &Frame<'_>) -> bool {
        match frame.kind {
            Kind::Signal if frame.interface == bus_item::INTERFACE => self.signal(now, frame),
            Kind::Signal if frame.sender == BUS && frame.member == "NameOwnerChanged" => {
                if let Ok((name, _, new)) = bus_item::owner_change(frame) {
                    self.owner_changed(now, name, new);
                }
            }
            Kind::MethodReturn | Kind::Error if frame.reply_serial >= calls::CALL_ID_MIN => {
                self.reply(now, frame);
            }
            Kind::Signal | Kind::MethodReturn | Kind::Error | Kind::MethodCall | Kind::Unknown => {
                return false;
            }
        }
        if self.cache.has_unkept() {
            self.report_unkept(now);
        }
        self.watch_room(now);
        true
    }

    /// Gives one D-Bus call to make; its answer comes back through [`Bridge::bus_frame`], with the
    /// call's number as reply serial.
    pub fn poll_call(&mut self) -> Option<Call> {
        self.calls.poll()
    }

    /// Whether there are calls to make.
    pub fn has_calls(&self) -> bool {
        self.calls.has_calls()
    }

    /// Whether an answer from the bus is awaited that nothing may hold up.
    pub fn answer_awaited(&self) -> bool {
        self.calls.urgent_awaited()
    }

    /// When [`Bridge::tick`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let outlets = self.outlets.iter().filter_map(Outlet::deadline);
        outlets
            .chain(self.calls.deadline())
            .chain(self.registry.next_due)
            .chain(self.registry.rounds.at)
            .chain(self.clashes_at)
            .chain(self.overflow.at)
            .chain(self.discovery.deadline())
            .chain(self.device_access.deadline())
            .min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        self.scan_due(now);
        self.lower_access(now);
        while let Some(call) = self.calls.expire(now.monotonic) {
            self.unanswered(now, call);
        }
        self.report_clashes(now);
        self.take_up(now);
        for outlet in &mut self.outlets {
            outlet.tick(now.monotonic, &self.items);
        }
        let mut outlets = self.outlets.iter();
        if outlets.any(|outlet| outlet.is_overdue(now.monotonic)) {
            self.settle(now);
        }
        self.tick_discovery(now);
    }

    /// How many services are there, and how many items they have.
    pub fn size(&self) -> (usize, usize) {
        (self.registry.count(), self.items.live())
    }
}
