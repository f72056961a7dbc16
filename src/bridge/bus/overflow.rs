//! What limits left out: reported once each time that a limit is reached, and asked for again when
//! there is room (§2.11).

use std::time::{Duration, Instant};

use tracing::warn;

use super::calls::{Method, Purpose};
use super::kept::SHARE;
use super::registry::State;
use crate::bridge::Bridge;
use crate::bridge::store::items::{DeviceId, ItemRef, ServiceId};
use crate::bridge::store::sizes::Unkept;
use crate::model::time::Now;

/// How often it is looked whether there is room, while something is left out.
const LOOK: Duration = Duration::from_secs(5);
/// The same after a service left, which makes room.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// How many values without room are remembered, so that the next time is reported too.
const UNKEPT_MAX: usize = 1_024;

/// What limits left out.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each limit is reached, and reported, by itself"
)]
#[derive(Debug, Default)]
pub struct Overflow {
    /// When it is looked whether there is room.
    pub at: Option<Instant>,
    /// Whether something was left out since.
    waits: bool,
    /// Whether services are left out.
    services: bool,
    services_reported: bool,
    items_reported: bool,
    paths_reported: bool,
    /// How many items, and how many bytes, there was room for when something was last left out.
    room: (usize, usize),
    /// Whether the limits are others now.
    limits_changed: bool,
    /// Values that had no room, and that were reported.
    unkept: Vec<ItemRef>,
}

impl Bridge {
    /// How many bytes may still be kept.
    pub(in crate::bridge) fn room(&self) -> usize {
        let max = self.bounds.sizes.cache_bytes_max;
        max.saturating_sub(self.bytes_charged())
    }

    /// The most that may be kept for one connection, or for the paths of one service, and what there
    /// is room for.
    pub(in crate::bridge) fn shares(&self) -> (usize, usize) {
        (self.bounds.sizes.cache_bytes_max / SHARE, self.room())
    }

    /// Charges what is kept beside the values: after each change of it.
    pub(in crate::bridge) fn charge(&mut self) {
        let kept = self.registry.kept.bytes() + self.items.path_bytes();
        self.cache.reserve(kept);
    }

    /// Something of a service was left out.
    pub(in crate::bridge) fn left_out(&mut self, id: ServiceId) {
        if let Some(service) = self.registry.get_mut(id) {
            service.left_out = true;
        }
        let items = self.config.items_max.saturating_sub(self.items.in_use());
        self.overflow.room = (items, self.room());
        self.overflow.waits = true;
    }

    /// There are more services than may be followed.
    pub(in crate::bridge) fn leave_out_service(&mut self, name: &str) {
        self.overflow.services = true;
        self.overflow.waits = true;
        if !std::mem::replace(&mut self.overflow.services_reported, true) {
            let max = self.config.services_max;
            warn!(
                "{name}: more than {max} services; this and further ones are ignored until one leaves"
            );
        }
    }

    /// Whether there is room for one more item of a device. Where there is none, that is reported.
    pub(in crate::bridge) fn has_room_for(
        &mut self,
        id: ServiceId,
        device: DeviceId,
        path: &str,
    ) -> bool {
        let max = self.config.items_max;
        if self.items.in_use() >= max {
            self.left_out(id);
            if !std::mem::replace(&mut self.overflow.items_reported, true) {
                warn!(
                    "more than {max} items; {path} and further ones are ignored until there is room"
                );
            }
            return false;
        }
        let (share, room) = self.shares();
        let of_device = self.items.path_bytes_of(device).saturating_add(path.len());
        if of_device > share || self.items.path_cost(path) > room {
            self.left_out(id);
            if !std::mem::replace(&mut self.overflow.paths_reported, true)
                && let Some(service) = self.registry.get(id)
            {
                warn!(
                    "{}: its paths need too much memory (cache-bytes-max); {path} and further ones are ignored until there is room",
                    service.name
                );
            }
            return false;
        }
        true
    }

    /// A value was not kept. `true` where that is to be reported.
    pub(in crate::bridge) fn note_unkept(
        &mut self,
        item: ItemRef,
        service: Option<ServiceId>,
        why: Unkept,
    ) -> bool {
        match why {
            Unkept::NoRoom { .. } => {
                if let Some(service) = service {
                    self.left_out(service);
                }
            }
            // Only another limit gives it room.
            Unkept::TooLong { .. } => {
                if let Some(service) = service.and_then(|id| self.registry.get_mut(id)) {
                    service.too_long = true;
                }
            }
        }
        let new = self.items.report_unkept(item.slot);
        if new && matches!(why, Unkept::NoRoom { .. }) && self.overflow.unkept.len() < UNKEPT_MAX {
            self.overflow.unkept.push(item);
        }
        new
    }

    /// Something was left out, or not: when to look for room.
    #[inline]
    pub(in crate::bridge) fn watch_room(&mut self, now: Now) {
        if self.overflow.waits {
            self.overflow.waits = false;
            self.overflow.at.get_or_insert(now.monotonic + LOOK);
        }
    }

    /// A service left.
    pub(in crate::bridge) fn made_room(&mut self, now: Now) {
        if self.registry.count() < self.config.services_max {
            self.overflow.services_reported = false;
        }
        let soon = now.monotonic + LOOK_SOON;
        self.overflow.at = self.overflow.at.map(|at| at.min(soon));
    }

    /// The limits are others now.
    pub(in crate::bridge) fn limits_changed(&mut self, now: Now) {
        self.overflow.limits_changed = true;
        self.overflow.at = Some(now.monotonic);
    }

    /// The bus is gone, and all that was left out with it.
    pub(in crate::bridge) fn forget_overflow(&mut self) {
        self.overflow = Overflow::default();
    }

    /// Asks again for what was left out, where there is room.
    pub(in crate::bridge) fn take_up(&mut self, now: Now) {
        if self.overflow.at.is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.overflow.at = None;
        if self.overflow.services && self.registry.count() < self.config.services_max {
            self.overflow.services = false;
            self.call_bus(now, Method::ListNames, Purpose::Names);
        }
        let (items, values) = (&mut self.items, &self.values);
        self.overflow.unkept.retain(|item| {
            let lasts = items.is_there(*item) && !values.has_value(item.slot);
            if !lasts {
                items.forget_unkept(*item);
            }
            lasts
        });
        let items = self.config.items_max.saturating_sub(self.items.in_use());
        let (before, room) = (self.overflow.room, (items, self.room()));
        let changed = std::mem::take(&mut self.overflow.limits_changed);
        if changed || room.0 > before.0 || room.1 > before.1 {
            self.overflow.items_reported &= room.0 == 0;
            self.overflow.paths_reported &= room.1 <= before.1 && !changed;
            let ids: Vec<_> = self.registry.ids().collect();
            for id in ids {
                let Some(service) = self.registry.get_mut(id) else {
                    continue;
                };
                let asks = std::mem::take(&mut service.left_out)
                    | (changed && std::mem::take(&mut service.too_long));
                // One that waits for something else is scanned then.
                if asks && matches!(service.state, State::Live) {
                    self.start_scan(now, id);
                }
            }
        }
        let left_out = |id| {
            self.registry
                .get(id)
                .is_some_and(|service| service.left_out)
        };
        let lasts = self.overflow.services
            || !self.overflow.unkept.is_empty()
            || self.registry.ids().any(left_out);
        if lasts {
            self.overflow.at = Some(now.monotonic + LOOK);
        }
    }
}
