//! Items and the devices that have them: (device, path) → slot, and what each slot stands for.
//!
//! ```text
//!          add              mark_gone                 release
//! (free) ───────▶ Live ─────────────────▶ Gone ─────────────────▶ (free)
//!                  ▲      its service       │  every broker that had it knows
//!                  └────────────────────────┘
//!                   add: the topic is back
//! ```
//!
//! A device is what topics call `<type>/<instance>`. It outlives its service while brokers must
//! still be told that its items are gone; where the topic comes back before that, the slot is the
//! same, so that a device that flaps before a stalled broker costs no memory.

use std::collections::HashMap;

use super::cache::SlotId;
use super::hash;
use crate::model::interner::{Interner, TextId};
use crate::model::name::{DeviceInstance, ServiceName};
use crate::model::topic;
use crate::schema::Row;
use crate::schema::rule::{Marks, Publish, Role, Rule};

mod accounts;
pub(in crate::bridge) mod topics;

/// Which device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceId(u32);

/// Which service, as the registry counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// Whether an item's service still has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Nothing: the slot is free.
    Free,
    /// The service has it.
    Live,
    /// The service, or the item, left, and some broker must still be told.
    Gone {
        /// How many brokers still have to be told, or have it in their outbox.
        pending: u16,
    },
}

/// What a slot stands for.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(target_pointer_width = "64", repr(align(32)))] // in one cache line, not across two
pub struct Item {
    /// Whose item it is.
    pub device: DeviceId,
    /// Its path.
    pub path: TextId,
    /// What the schema says of it, as far as it matters at every update.
    pub rule: Marks,
    /// Whether it is there.
    pub life: Life,
    /// Whether its changes mean more than a new value: it has a role, or Home Assistant waits for it.
    pub watched: bool,
    /// Whether Home Assistant shows it.
    pub shown: bool,
    /// Whether it was reported that a value of it is too long.
    unkept_told: bool,
    /// Whether the last scan of its service gave it. What only signals have brought is not an object on the
    /// bus, for all we know: no scan and no read can say that it is gone.
    pub scanned: bool,
    /// Tells the item from others that had, or will have, the same slot.
    serial: u32,
    /// The slot of the item that came after it in a signal the last time.
    next: u32,
}

/// An item, and not whatever else its slot may stand for by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemRef {
    /// Its slot.
    pub slot: SlotId,
    serial: u32,
}

impl Item {
    /// The item, and the slot in which it was found.
    #[inline]
    pub fn at(&self, slot: SlotId) -> ItemRef {
        ItemRef {
            slot,
            serial: self.serial,
        }
    }
}

impl ItemRef {
    /// Tells it from others that had, or will have, the same slot.
    #[inline]
    pub fn serial(self) -> u32 {
        self.serial
    }
}

/// What topics call `<type>/<instance>`.
#[derive(Debug)]
struct Device {
    /// `<type>/<instance>`.
    key: Box<str>,
    /// The service that has it now.
    service: Option<ServiceId>,
    /// Its slots; some may be free, or of another device, until the next compaction.
    slots: Vec<SlotId>,
    /// How many of the slots are not this device's any more.
    stale: usize,
    /// The bytes of its paths, as if no other had the same ones.
    path_bytes: usize,
}

/// A slot in the table, or a mark in its place.
const EMPTY: u32 = u32::MAX;
const DELETED: u32 = u32::MAX - 1;

/// All items.
#[derive(Debug)]
pub struct Items {
    all: Vec<Item>,
    free: Vec<SlotId>,
    live: usize,
    paths: Interner,
    devices: Vec<Option<Device>>,
    device_ids: HashMap<Box<str>, DeviceId>,
    /// Open addressing, a power of two long: (hash, slot).
    table: Vec<(u32, u32)>,
    /// Entries of the table that are not [`EMPTY`].
    used: usize,
    seed: u64,
    serial: u32,
    /// What is changed where a free slot is asked for: a mistake, see [`Items::at_mut`].
    nothing: Item,
}

/// What a slot stands for that is free.
const NOTHING: Item = Item {
    device: DeviceId(u32::MAX),
    path: TextId::NONE,
    rule: Marks::DEFAULT,
    life: Life::Free,
    watched: false,
    shown: false,
    unkept_told: false,
    scanned: false,
    serial: 0,
    next: EMPTY,
};

#[inline]
fn hash(seed: u64, device: DeviceId, path: &[u8]) -> u32 {
    hash::of(seed ^ u64::from(device.0), path)
}

impl Items {
    /// No items. `seed` makes the table's order different on every start.
    pub fn new(seed: u64) -> Items {
        Items {
            all: Vec::new(),
            free: Vec::new(),
            live: 0,
            paths: Interner::default(),
            devices: Vec::new(),
            device_ids: HashMap::new(),
            table: vec![(0, EMPTY); 64],
            used: 0,
            seed,
            serial: 0,
            nothing: NOTHING,
        }
    }

    /// How many items services have.
    pub fn live(&self) -> usize {
        self.live
    }

    /// How many slots are in use, those of items that are gone included.
    pub fn in_use(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// What the slot stands for.
    #[inline]
    pub fn get(&self, slot: SlotId) -> Option<&Item> {
        self.all
            .get(slot.0 as usize)
            .filter(|item| item.life != Life::Free)
    }

    /// The item of a slot that is in use, which is asserted in debug builds.
    #[inline]
    #[track_caller]
    pub fn at(&self, slot: SlotId) -> &Item {
        let found = self.get(slot);
        debug_assert!(found.is_some(), "slot {} is free", slot.0);
        found.unwrap_or(&NOTHING)
    }

    /// The same, to be changed.
    #[inline]
    #[track_caller]
    fn at_mut(&mut self, slot: SlotId) -> &mut Item {
        let found = self.all.get_mut(slot.0 as usize);
        debug_assert!(
            found.as_ref().is_some_and(|item| item.life != Life::Free),
            "slot {} is free",
            slot.0
        );
        found.unwrap_or(&mut self.nothing)
    }

    /// The item that the slot stands for now.
    pub fn item_ref(&self, slot: SlotId) -> Option<ItemRef> {
        let serial = self.get(slot)?.serial;
        Some(ItemRef { slot, serial })
    }

    /// Whether the item is still there.
    pub fn is_there(&self, item: ItemRef) -> bool {
        self.is_live(item.slot) && self.item_ref(item.slot) == Some(item)
    }

    /// Whether a service has the slot's item.
    #[inline]
    pub fn is_live(&self, slot: SlotId) -> bool {
        self.get(slot).is_some_and(|item| item.life == Life::Live)
    }

    /// Notes whether the last scan gave the item.
    pub fn set_scanned(&mut self, slot: SlotId, scanned: bool) {
        self.at_mut(slot).scanned = scanned;
    }

    /// Has a change of the item noted.
    pub fn watch(&mut self, slot: SlotId) {
        self.at_mut(slot).watched = true;
    }

    /// Has changes of the item noted no longer, unless it has a role.
    pub fn unwatch(&mut self, slot: SlotId) {
        let item = self.at_mut(slot);
        item.watched = item.rule.role != Role::None;
    }

    /// Has Home Assistant show the item.
    pub fn show(&mut self, slot: SlotId) {
        self.at_mut(slot).shown = true;
    }

    /// Notes that a value of the item is too long; `true` for the first time.
    pub fn report_unkept(&mut self, slot: SlotId) -> bool {
        !std::mem::replace(&mut self.at_mut(slot).unkept_told, true)
    }

    /// The item's path.
    #[inline]
    pub fn path(&self, item: &Item) -> &str {
        self.paths.text(item.path)
    }

    /// `<type>/<instance>` of the device.
    #[inline]
    pub fn device_key(&self, id: DeviceId) -> &str {
        self.device(id).map_or("", |device| &device.key)
    }

    /// The service that has the device now.
    pub fn service(&self, id: DeviceId) -> Option<ServiceId> {
        self.device(id)?.service
    }

    /// The device that topics call `key`.
    pub fn find_device(&self, key: &str) -> Option<DeviceId> {
        self.device_ids.get(key).copied()
    }

    /// All devices.
    pub fn devices(&self) -> impl Iterator<Item = DeviceId> + '_ {
        (0..)
            .zip(&self.devices)
            .filter(|(_, device)| device.is_some())
            .map(|(id, _)| DeviceId(id))
    }

    /// The live slots of a device.
    pub fn slots(&self, id: DeviceId) -> impl Iterator<Item = SlotId> + '_ {
        let slots = self
            .device(id)
            .map(|device| &*device.slots)
            .unwrap_or_default();
        slots.iter().copied().filter(move |&slot| {
            self.all
                .get(slot.0 as usize)
                .is_some_and(|item| item.device == id && item.life == Life::Live)
        })
    }

    /// The live slots of a device at and below a node.
    pub fn below<'a>(
        &'a self,
        device: DeviceId,
        node: &'a str,
    ) -> impl Iterator<Item = SlotId> + 'a {
        let node = node.trim_end_matches('/');
        self.slots(device).filter(move |slot| {
            self.get(*slot).is_some_and(|item| {
                let rest = self.path(item).strip_prefix(node);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        })
    }

    /// All live slots, device by device.
    pub fn all(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.devices().flat_map(|device| self.slots(device))
    }

    /// All slots of items that are gone.
    pub fn all_gone(&self) -> impl Iterator<Item = SlotId> + '_ {
        (0..)
            .zip(&self.all)
            .filter(|(_, item)| matches!(item.life, Life::Gone { .. }))
            .map(|(id, _)| SlotId(id))
    }

    #[track_caller]
    fn device(&self, id: DeviceId) -> Option<&Device> {
        let found = self.devices.get(id.0 as usize).and_then(Option::as_ref);
        debug_assert!(found.is_some(), "no device has the number {}", id.0);
        found
    }

    #[track_caller]
    fn device_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        let found = self.devices.get_mut(id.0 as usize)?.as_mut();
        debug_assert!(found.is_some(), "no device has the number {}", id.0);
        found
    }

    /// Gives the device of that type and instance to a service, or tells which one has it (§2.7).
    pub fn bind(
        &mut self,
        service: ServiceId,
        name: &ServiceName,
        instance: &DeviceInstance,
    ) -> Result<DeviceId, ServiceId> {
        let key = topic::device(name.service_type(), instance.as_str());
        let id = if let Some(&id) = self.device_ids.get(&key) {
            id
        } else {
            let free = self
                .devices
                .iter()
                .position(Option::is_none)
                .unwrap_or(self.devices.len());
            let id = DeviceId(u32::try_from(free).unwrap_or(u32::MAX));
            let device = Device {
                key: key.clone(),
                service: None,
                slots: Vec::new(),
                stale: 0,
                path_bytes: 0,
            };
            match self.devices.get_mut(free) {
                Some(place) => *place = Some(device),
                None => self.devices.push(Some(device)),
            }
            self.device_ids.insert(key, id);
            id
        };
        let Some(device) = self.device_mut(id) else {
            return Ok(id);
        };
        match device.service {
            Some(other) if other != service => Err(other),
            _ => {
                device.service = Some(service);
                Ok(id)
            }
        }
    }

    /// Takes the device from its service; its items must have been marked gone.
    pub fn unbind(&mut self, id: DeviceId) {
        if let Some(device) = self.device_mut(id) {
            device.service = None;
        }
        self.drop_empty(id);
    }

    fn drop_empty(&mut self, id: DeviceId) {
        let Some(device) = self.devices.get_mut(id.0 as usize) else {
            return;
        };
        if device
            .as_ref()
            .is_some_and(|d| d.service.is_none() && d.slots.len() == d.stale)
            && let Some(device) = device.take()
        {
            self.device_ids.remove(&device.key);
        }
    }

    /// The slot of that path, live or gone.
    #[inline]
    pub fn find(&self, device: DeviceId, path: &str) -> Option<SlotId> {
        self.find_item(device, path.as_bytes())
            .map(|(slot, _)| slot)
    }

    /// The item of that path, live or gone, and its slot.
    #[expect(clippy::inline_always)] // once for each value
    #[inline(always)]
    pub fn find_item(&self, device: DeviceId, path: &[u8]) -> Option<(SlotId, &Item)> {
        let hash = hash(self.seed, device, path);
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let &(tag, slot) = self.table.get(at)?;
            if slot == EMPTY {
                return None;
            }
            if tag == hash && slot != DELETED {
                let item = self.all.get(slot as usize)?;
                if item.device == device && self.paths.text(item.path).as_bytes() == path {
                    return Some((SlotId(slot), item));
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// The live item of that path, and its slot, of a signal that spoke of `before` just before.
    ///
    /// A service goes through its items in the same order each time: the one that came next the last
    /// time mostly comes next again, and is where it was found. A look at it is cheaper than one into
    /// the table, which is at another place for every path; among 200,000 items by far.
    #[expect(clippy::inline_always)] // once for each value
    #[inline(always)]
    pub fn find_after(
        &mut self,
        before: Option<SlotId>,
        device: DeviceId,
        path: &[u8],
    ) -> Option<(SlotId, &Item)> {
        let next = before.and_then(|before| Some(SlotId(self.all.get(before.0 as usize)?.next)));
        let expected = next.filter(|next| {
            self.all.get(next.0 as usize).is_some_and(|item| {
                item.device == device
                    && item.life == Life::Live
                    && self.paths.text(item.path).as_bytes() == path
            })
        });
        if let Some(slot) = expected {
            return Some((slot, self.all.get(slot.0 as usize)?));
        }
        let (slot, _) = self.find_item(device, path)?;
        if let Some(before) = before.and_then(|before| self.all.get_mut(before.0 as usize)) {
            before.next = slot.0;
        }
        let item = self.all.get(slot.0 as usize)?;
        (item.life == Life::Live).then_some((slot, item))
    }

    /// Adds the item of that path, or brings it back to life. `true` with it where it was not live.
    /// `row` is what the schema knows of it.
    pub fn add(&mut self, device: DeviceId, path: &str, row: Row<'_>) -> (SlotId, bool) {
        let marks = self.marks(device, path, row.rule);
        if let Some(slot) = self.find(device, path) {
            let item = self.at_mut(slot);
            let back = item.life != Life::Live;
            item.scanned &= !back;
            item.life = Life::Live;
            item.rule = marks;
            item.watched |= marks.role != Role::None;
            self.live += usize::from(back);
            return (slot, back);
        }
        let path_id = self.paths.intern(path, row.path);
        let path_bytes = self.paths.bytes_of(path_id);
        self.serial = self.serial.wrapping_add(1);
        let item = Item {
            device,
            path: path_id,
            rule: marks,
            life: Life::Live,
            watched: marks.role != Role::None,
            serial: self.serial,
            ..NOTHING
        };
        let slot = if let Some(slot) = self.free.pop() {
            if let Some(place) = self.all.get_mut(slot.0 as usize) {
                *place = item;
            }
            slot
        } else {
            self.all.push(item);
            SlotId(u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX))
        };
        self.live += 1;
        self.insert(hash(self.seed, device, path.as_bytes()), slot);
        if let Some(device) = self.device_mut(device) {
            device.path_bytes += path_bytes;
            // A slot that was this device's before may still be in its list.
            if device.stale > 0 && device.slots.contains(&slot) {
                device.stale -= 1;
            } else {
                device.slots.push(slot);
            }
        }
        (slot, true)
    }

    /// What a rule means for that item. Only one topic carries the portal id (§4.2): its like of
    /// another instance is an item like any other.
    pub fn marks(&self, device: DeviceId, path: &str, rule: &Rule) -> Marks {
        let marks = rule.marks();
        let own = topic::SERIAL.strip_suffix(path) == Some(self.device_key(device));
        if marks.publish == Publish::PortalId && !own {
            Marks {
                publish: Publish::Normal,
                ..marks
            }
        } else {
            marks
        }
    }

    /// The schema says something else of the item now.
    pub fn set_rule(&mut self, slot: SlotId, rule: Marks) {
        let item = self.at_mut(slot);
        item.rule = rule;
        // What else it was watched for is found again when its device is described.
        item.watched = rule.role != Role::None;
    }

    fn insert(&mut self, hash: u32, slot: SlotId) {
        if (self.used + 1) * 4 > self.table.len() * 3 {
            self.rehash();
        }
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(entry) = self.table.get_mut(at) {
            if entry.1 == EMPTY || entry.1 == DELETED {
                self.used += usize::from(entry.1 == EMPTY);
                *entry = (hash, slot.0);
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn rehash(&mut self) {
        let count = self
            .table
            .iter()
            .filter(|(_, slot)| *slot < DELETED)
            .count();
        let len = ((count + 1) * 2).next_power_of_two().max(64);
        let old = std::mem::replace(&mut self.table, vec![(0, EMPTY); len]);
        self.used = 0;
        for (hash, slot) in old {
            if slot < DELETED {
                self.insert(hash, SlotId(slot));
            }
        }
    }

    /// Marks an item gone: `pending` brokers must still be told, or have it in their outbox. With
    /// none, the slot is free at once.
    pub fn mark_gone(&mut self, slot: SlotId, pending: u16) {
        let item = self.at_mut(slot);
        let was_live = std::mem::replace(&mut item.life, Life::Gone { pending }) == Life::Live;
        self.live -= usize::from(was_live);
        if pending == 0 {
            self.release(slot);
        }
    }

    /// One broker knows that the item is gone. `true` where it was the last, and the slot is free.
    pub fn told(&mut self, slot: SlotId) -> bool {
        let item = self.at_mut(slot);
        let Life::Gone { pending } = &mut item.life else {
            return false;
        };
        *pending = pending.saturating_sub(1);
        let last = *pending == 0;
        if last {
            self.release(slot);
        }
        last
    }

    fn release(&mut self, slot: SlotId) {
        let item = *self.at(slot);
        let hash = hash(
            self.seed,
            item.device,
            self.paths.text(item.path).as_bytes(),
        );
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(entry) = self.table.get_mut(at) {
            if entry.1 == EMPTY {
                break;
            }
            if entry.1 == slot.0 {
                entry.1 = DELETED;
                break;
            }
            at = (at + 1) & mask;
        }
        self.at_mut(slot).life = Life::Free;
        self.free.push(slot);
        let path_bytes = self.paths.bytes_of(item.path);
        self.paths.release(item.path);
        let items = &self.all;
        if let Some(device) = self
            .devices
            .get_mut(item.device.0 as usize)
            .and_then(Option::as_mut)
        {
            device.path_bytes -= path_bytes;
            device.stale += 1;
            if device.stale * 2 > device.slots.len() {
                // Every slot is looked at once per halving: cheap also for a device of thousands.
                device.slots.retain(|slot| {
                    let item_now = items.get(slot.0 as usize);
                    item_now.is_some_and(|now| now.device == item.device && now.life != Life::Free)
                });
                device.stale = 0;
            }
        }
        self.drop_empty(item.device);
    }
}

#[cfg(test)]
mod tests;
