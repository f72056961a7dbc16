//! Who is on the bus and what they have: names, scans, signals, claims and calls (§2).

mod access;
pub mod calls;
pub mod claim;
pub mod device_access;
pub mod flapping;
pub mod kept;
mod log;
pub mod overflow;
pub mod registry;
mod replies;
mod room;
pub mod scans;
mod services;

use std::time::{Duration, Instant};

use self::calls::Calls;
use self::claim::Holders;
use self::device_access::DeviceAccess;
use self::flapping::Flapping;
use self::overflow::Overflow;
use self::registry::Registry;
use super::store::Store;
use super::store::cache::SlotId;
use super::store::items::{DeviceId, Items, ServiceId};
use super::store::sizes::Sizes;
use crate::model::access::Access;
use crate::model::item::ItemChange;
use crate::model::log_rate::{LogRate, Throttle};
use crate::model::time::Now;
use crate::schema::rule::Marks;
use crate::schema::rule::Role;

/// What is counted of the bus.
#[derive(Debug, Default)]
pub struct BusTally {
    /// Whether it is connected.
    pub connected: bool,
    /// How often it was connected.
    pub connections: u64,
}

/// What the bridge has done so far, brokers apart.
#[derive(Debug, Default)]
pub struct Counters {
    /// Changes of items that the bus brought.
    pub updates: u64,
    /// Values of them that were too long to be kept.
    pub too_long: u64,
}

/// What of the bus is bounded.
#[derive(Debug, Clone, Copy)]
pub struct BusLimits {
    /// How many items are kept, those included that a broker must still be told are gone.
    pub items_max: usize,
    /// How many services are followed.
    pub services_max: usize,
    /// How long a scan's call, or a write, may take.
    pub call_timeout: Duration,
    /// The longest values that are kept.
    pub sizes: Sizes,
    /// How much of one kind is logged.
    pub log: LogRate,
}

/// What is known of the bus.
#[derive(Debug)]
pub struct Bus {
    /// The services.
    pub registry: Registry,
    /// The calls to them.
    pub calls: Calls,
    /// Its bounds.
    pub limits: BusLimits,
    /// What was done so far.
    pub counters: Counters,
    /// What is counted of the connection.
    pub tally: BusTally,
    /// What limits left out.
    pub overflow: Overflow,
    /// What the device says that the clients of VRM may do.
    pub device_access: DeviceAccess,
    flapping: Flapping,
    holders: Holders,
    /// When services that another keeps from their topics are reported again (§2.7).
    clashes_at: Option<Instant>,
    /// How many owners are still asked for.
    owners_pending: usize,
    /// What is logged of services: what is wrong with them, and that they come and go.
    warnings: Throttle,
    lifecycle_log: Throttle,
}

impl Bus {
    /// A bus that is not connected.
    pub fn new(limits: BusLimits) -> Bus {
        Bus {
            registry: Registry::default(),
            calls: Calls::new(),
            limits,
            counters: Counters::default(),
            tally: BusTally::default(),
            overflow: Overflow::default(),
            device_access: DeviceAccess::default(),
            flapping: Flapping::default(),
            holders: Holders::default(),
            clashes_at: None,
            owners_pending: 0,
            warnings: Throttle::default(),
            lifecycle_log: Throttle::default(),
        }
    }

    /// When something of the bus is due.
    pub fn deadline(&self) -> Option<Instant> {
        let calls = self.calls.deadline().into_iter();
        calls
            .chain(self.registry.next_due)
            .chain(self.registry.rounds.at)
            .chain(self.clashes_at)
            .chain(self.overflow.at)
            .chain(self.device_access.deadline())
            .min()
    }

    /// How many bytes count towards `cache-bytes-max`.
    pub fn bytes_charged(&self, store: &Store) -> usize {
        store.cache.bytes() + self.registry.kept.bytes() + store.items.path_bytes()
    }
}

/// Who is told of what changes on the bus.
pub trait Readers {
    /// An item changed.
    fn changed(&mut self, slot: SlotId);
    /// An item is new, or back.
    fn added(&mut self, slot: SlotId, key: &str, path: &str, rule: Marks);
    /// An item is gone. Gives how many readers must still be told.
    fn gone(&mut self, slot: SlotId, items: &Items) -> u16;
    /// A slot is free, and may be another item's soon.
    fn released(&mut self, slot: SlotId);
    /// A service was scanned, came or went: retained topics that no item has may be known for good now.
    fn settle(&mut self, now: Now, items: &Items, registry: &Registry);
    /// The device says something new of what the clients of VRM may do; `why` is for the log.
    fn access_changed(
        &mut self,
        now: Now,
        store: &mut Store,
        registry: &Registry,
        access: Access,
        why: &str,
    );
    /// A device's items are known.
    fn device_ready(&mut self, store: &mut Store, registry: &Registry, device: DeviceId);
    /// Something that says what a device is has changed.
    fn device_changed(&mut self, now: Now, device: DeviceId);
    /// A device has no service any more. `for_good` where the service is another device now.
    fn device_gone(&mut self, now: Now, items: &Items, device: DeviceId, for_good: bool);
    /// An item that is watched has changed, or the limits of any; of a service of this type.
    fn noted(
        &mut self,
        now: Now,
        store: &mut Store,
        service_type: &str,
        slot: SlotId,
        change: &ItemChange<'_>,
    );
}

/// The bus, with what is stored of it and who is told.
#[derive(Debug)]
pub struct BusContext<'a, R> {
    /// Items and their values.
    pub store: &'a mut Store,
    /// Services and calls.
    pub bus: &'a mut Bus,
    /// Who is told.
    pub readers: R,
}

impl<R: Readers> BusContext<'_, R> {
    /// Charges what is kept beside the values: after each change of it.
    pub fn charge(&mut self) {
        let kept = self.bus.registry.kept.bytes() + self.store.items.path_bytes();
        self.store.cache.reserve(kept);
    }

    /// Clears retained topics that no item has, of devices that are scanned or that no service can be.
    /// Called whenever a service is scanned, comes or goes.
    pub fn settle(&mut self, now: Now) {
        let (items, registry) = (&self.store.items, &self.bus.registry);
        self.readers.settle(now, items, registry);
    }

    /// An item that is watched has changed, or the limits of any.
    #[cold]
    fn noted(
        &mut self,
        now: Now,
        (id, _): (ServiceId, DeviceId),
        slot: SlotId,
        change: &ItemChange<'_>,
    ) {
        let role = self.store.items.at(slot).rule.role;
        if role != Role::None {
            self.role_changed(now, id, role, change);
        }
        let service_type = self.bus.registry.at(id).name.service_type();
        self.readers
            .noted(now, self.store, service_type, slot, change);
    }
}
