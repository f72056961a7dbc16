//! Whether there is room for what the bus brings, and when what was left out is asked for again (§2.11).

use tracing::warn;

use super::calls::{Method, Purpose};
use super::kept::SHARE;
use super::overflow::{LOOK, LOOK_SOON, Overflow};
use super::registry::State;
use super::{BusContext, Readers};
use crate::bridge::store::items::{DeviceId, ItemRef, ServiceId};
use crate::bridge::store::sizes::DroppedValue;
use crate::model::time::Now;

/// How many values without room are remembered, so that the next time is reported too.
const UNKEPT_MAX: usize = 1_024;

impl<R: Readers> BusContext<'_, R> {
    /// How many bytes may still be kept.
    pub fn room(&self) -> usize {
        let max = self.bus.limits.sizes.cache_bytes_max;
        max.saturating_sub(self.bus.bytes_charged(self.store))
    }

    /// The most that may be kept for one connection, or for the paths of one service, and what there
    /// is room for.
    pub fn shares(&self) -> (usize, usize) {
        (self.bus.limits.sizes.cache_bytes_max / SHARE, self.room())
    }

    /// Something of a service was left out.
    pub fn left_out(&mut self, id: ServiceId) {
        self.bus.registry.at_mut(id).left_out = true;
        let items = self
            .bus
            .limits
            .items_max
            .saturating_sub(self.store.items.in_use());
        self.bus.overflow.room = (items, self.room());
        self.bus.overflow.waits = true;
    }

    /// There are more services than may be followed.
    pub fn leave_out_service(&mut self, name: &str) {
        self.bus.overflow.services = true;
        self.bus.overflow.waits = true;
        if !std::mem::replace(&mut self.bus.overflow.services_reported, true) {
            let max = self.bus.limits.services_max;
            warn!(
                "{name}: more than {max} services; this and further ones are ignored until one leaves"
            );
        }
    }

    /// Whether there is room for one more item of a device. Where there is none, that is reported.
    pub fn has_room_for(&mut self, id: ServiceId, device: DeviceId, path: &str) -> bool {
        let max = self.bus.limits.items_max;
        if self.store.items.in_use() >= max {
            self.left_out(id);
            if !std::mem::replace(&mut self.bus.overflow.items_reported, true) {
                warn!(
                    "more than {max} items; {path} and further ones are ignored until there is room"
                );
            }
            return false;
        }
        let (share, room) = self.shares();
        let of_device = self
            .store
            .items
            .path_bytes_of(device)
            .saturating_add(path.len());
        if of_device > share || self.store.items.path_cost(path) > room {
            self.left_out(id);
            if !std::mem::replace(&mut self.bus.overflow.paths_reported, true) {
                warn!(
                    "{}: its paths need too much memory (cache-bytes-max); {path} and further ones are ignored until there is room",
                    self.bus.registry.at(id).name
                );
            }
            return false;
        }
        true
    }

    /// A value was not kept. `true` where that is to be reported.
    pub fn note_unkept(
        &mut self,
        item: ItemRef,
        service: Option<ServiceId>,
        why: DroppedValue,
    ) -> bool {
        match why {
            DroppedValue::NoRoom { .. } => {
                if let Some(service) = service {
                    self.left_out(service);
                }
            }
            // Only another limit gives it room.
            DroppedValue::TooLong { .. } => {
                if let Some(service) = service {
                    self.bus.registry.at_mut(service).too_long = true;
                }
            }
        }
        let new = self.store.items.report_unkept(item.slot);
        if new
            && matches!(why, DroppedValue::NoRoom { .. })
            && self.bus.overflow.unkept.len() < UNKEPT_MAX
        {
            self.bus.overflow.unkept.push(item);
        }
        new
    }

    /// A service left.
    pub fn made_room(&mut self, now: Now) {
        if self.bus.registry.count() < self.bus.limits.services_max {
            self.bus.overflow.services_reported = false;
        }
        let soon = now.monotonic + LOOK_SOON;
        self.bus.overflow.at = self.bus.overflow.at.map(|at| at.min(soon));
    }

    /// The bus is gone, and all that was left out with it.
    pub fn forget_overflow(&mut self) {
        self.bus.overflow = Overflow::default();
    }

    /// Asks again for what was left out, where there is room.
    pub fn take_up(&mut self, now: Now) {
        if self.bus.overflow.at.is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.bus.overflow.at = None;
        if self.bus.overflow.services && self.bus.registry.count() < self.bus.limits.services_max {
            self.bus.overflow.services = false;
            self.call_bus(now, Method::ListNames, Purpose::Names);
        }
        let (items, values) = (&mut self.store.items, &self.store.values);
        self.bus.overflow.unkept.retain(|item| {
            let lasts = items.is_there(*item) && !values.has_value(item.slot);
            if !lasts {
                items.forget_unkept(*item);
            }
            lasts
        });
        let items = self
            .bus
            .limits
            .items_max
            .saturating_sub(self.store.items.in_use());
        let (before, room) = (self.bus.overflow.room, (items, self.room()));
        let changed = std::mem::take(&mut self.bus.overflow.limits_changed);
        if changed || room.0 > before.0 || room.1 > before.1 {
            self.bus.overflow.items_reported &= room.0 == 0;
            self.bus.overflow.paths_reported &= room.1 <= before.1 && !changed;
            let ids: Vec<_> = self.bus.registry.ids().collect();
            for id in ids {
                let service = self.bus.registry.at_mut(id);
                let asks = std::mem::take(&mut service.left_out)
                    | (changed && std::mem::take(&mut service.too_long));
                // One that waits for something else is scanned then.
                if asks && matches!(service.state, State::Live) {
                    self.start_scan(now, id);
                }
            }
        }
        let left_out = |id| self.bus.registry.at(id).left_out;
        let lasts = self.bus.overflow.services
            || !self.bus.overflow.unkept.is_empty()
            || self.bus.registry.ids().any(left_out);
        if lasts {
            self.bus.overflow.at = Some(now.monotonic + LOOK);
        }
    }
}
