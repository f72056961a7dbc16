//! What the device itself says that the clients of VRM may do (§8).
//!
//! Any program on the bus may own a name that begins like that of the settings; only the service of
//! exactly that name is believed. When it no longer says anything, what it said last holds for a
//! minute, so that a restart changes nothing.

use std::time::Duration;

use tracing::warn;

use super::device_access::{DeviceAccess, Says};
use super::{BusContext, Readers};
use crate::bridge::store::items::ServiceId;
use crate::model::access::Access;
use crate::model::name::ServiceName;
use crate::model::time::Now;

/// How long the last word holds (§8).
const SILENCE_MAX: Duration = Duration::from_secs(60);

impl<R: Readers> BusContext<'_, R> {
    /// Tells the brokers what the device says that VRM may do, where it says something new (§8).
    pub fn follow_access(&mut self, now: Now, id: ServiceId) {
        let service = self.bus.registry.at_mut(id);
        let Some(says) = service.vrm_access.take() else {
            return;
        };
        match says {
            Says::Access(access) if service.name.is_bare() => {
                self.bus.device_access = DeviceAccess {
                    last: Some((service.name.clone(), access)),
                    until: None,
                };
                self.apply_access(now, access, "as this device says");
            }
            Says::Nothing => {
                let name = service.name.clone();
                self.access_in_doubt(now, &name);
            }
            Says::Access(_) => {
                let name = service.name.clone();
                if self.may_warn(now) {
                    warn!(
                        "{name}: its setting for VRM access is ignored; only that of Venus OS counts"
                    );
                }
            }
        }
    }

    /// A service is gone, has another owner, or says no longer what VRM may do. Where it is the one
    /// that is believed, it has a minute to say it again.
    pub fn access_in_doubt(&mut self, now: Now, name: &ServiceName) {
        let DeviceAccess { last, until } = &mut self.bus.device_access;
        if last.as_ref().is_some_and(|(by, _)| by == name) {
            until.get_or_insert(now.monotonic + SILENCE_MAX);
        }
    }

    /// Nobody has said what VRM may do for too long: it may read at most.
    pub fn lower_access(&mut self, now: Now) {
        let DeviceAccess { last, until } = &mut self.bus.device_access;
        if until.take_if(|until| *until <= now.monotonic).is_none() {
            return;
        }
        // Never more than was said: where that was nothing, it stays so.
        if let Some((_, last)) = last {
            let lowered = (*last).min(Access::ReadOnly);
            *last = lowered;
            self.apply_access(now, lowered, "since this device no longer says");
        }
    }

    fn apply_access(&mut self, now: Now, access: Access, why: &str) {
        let registry = &self.bus.registry;
        self.readers
            .access_changed(now, self.store, registry, access, why);
    }
}
