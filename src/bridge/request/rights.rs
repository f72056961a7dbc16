//! What a broker's clients may have and write (§8): of the items that a request is about, and after
//! what the device itself says of VRM.
//!
//! Any program on the bus may own a name that begins like that of the settings; only the service of
//! exactly that name is believed. When it no longer says anything, what it said last holds for a
//! minute, so that a restart changes nothing.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::bridge::Bridge;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::{DeviceId, ServiceId};
use crate::model::access::Access;
use crate::model::name::ServiceName;
use crate::model::request::Rejection;
use crate::model::time::Now;

/// How long the last word holds (§8).
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a service says that VRM may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// This.
    Access(Access),
    /// Nothing: its value is invalid, or no number.
    Nothing,
}

/// What the device says that VRM may do, and until when that holds.
#[derive(Debug, Default)]
pub struct DeviceAccess {
    /// The last word, and whose it is; `None` where there was none yet, which lets nothing through.
    last: Option<(ServiceName, Access)>,
    /// When it holds no longer: while nothing is said.
    until: Option<Instant>,
}

impl DeviceAccess {
    /// When [`Bridge::lower_access`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.until
    }
}

impl Bridge {
    /// Tells the brokers what the device says that VRM may do, where it says something new (§8).
    pub(in crate::bridge) fn follow_access(&mut self, now: Now, id: ServiceId) {
        let Some(service) = self.registry.get_mut(id) else {
            return;
        };
        let Some(says) = service.vrm_access.take() else {
            return;
        };
        match says {
            Says::Access(access) if service.name.is_bare() => {
                self.device_access = DeviceAccess {
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
                        "{name}: what it says about the access of VRM is ignored; only the settings of Venus OS are believed"
                    );
                }
            }
        }
    }

    /// A service is gone, has another owner, or says no longer what VRM may do. Where it is the one
    /// that is believed, it has a minute to say it again.
    pub(in crate::bridge) fn access_in_doubt(&mut self, now: Now, name: &ServiceName) {
        let DeviceAccess { last, until } = &mut self.device_access;
        if last.as_ref().is_some_and(|(by, _)| by == name) {
            until.get_or_insert(now.monotonic + SILENCE_MAX);
        }
    }

    /// Nobody has said what VRM may do for too long: it may read at most.
    pub(in crate::bridge) fn lower_access(&mut self, now: Now) {
        let DeviceAccess { last, until } = &mut self.device_access;
        if until.take_if(|until| *until <= now.monotonic).is_none() {
            return;
        }
        // Never more than was said: where that was nothing, it stays so.
        if let Some((_, last)) = last {
            let lowered = (*last).min(Access::ReadOnly);
            self.apply_access(now, lowered, "since this device no longer says");
        }
    }

    fn apply_access(&mut self, now: Now, access: Access, why: &str) {
        for broker in 0..self.outlets.len() {
            let Some(outlet) = self.outlets.get_mut(broker) else {
                continue;
            };
            if outlet.device_says(now.monotonic, access, &self.items) {
                let may = match access {
                    Access::Off => "have nothing",
                    Access::ReadOnly => "only read",
                    Access::Full => "read and write",
                };
                info!("{}: its clients may {may} now, {why}", outlet.name());
                // What could be set can only be looked at now, or the other way round.
                self.describe_all(now, broker);
            }
        }
    }

    /// Whether a broker's clients may have an item, or any of those below a node (§8).
    pub(in crate::bridge) fn reads_any(
        &self,
        broker: usize,
        device: DeviceId,
        path: &str,
        below: &[SlotId],
    ) -> bool {
        let Some(outlet) = self.outlets.get(broker) else {
            return false;
        };
        let reads = |path: &str| {
            outlet
                .subscriber
                .gate()
                .reads(self.items.device_key(device), path)
        };
        reads(path)
            || below
                .iter()
                .filter_map(|slot| self.items.get(*slot))
                .any(|item| reads(self.items.path(item)))
    }

    /// Refuses a write that a broker's clients may not make (§8). Who may not write an item may not
    /// write a node above it either.
    pub(in crate::bridge) fn may_write(
        &self,
        broker: usize,
        device: DeviceId,
        path: &str,
    ) -> Result<(), Rejection> {
        let Some(outlet) = self.outlets.get(broker) else {
            return Ok(());
        };
        if outlet.subscriber.gate().access() != Access::Full {
            return Err(Rejection::ReadOnly);
        }
        let writes = |path: &str| {
            outlet
                .subscriber
                .gate()
                .writes(self.items.device_key(device), path)
        };
        let below = self.below(device, path);
        let mut items = below.iter().filter_map(|slot| self.items.get(*slot));
        if writes(path) && items.all(|item| writes(self.items.path(item))) {
            Ok(())
        } else {
            Err(Rejection::NotAllowed { what: "write" })
        }
    }
}
