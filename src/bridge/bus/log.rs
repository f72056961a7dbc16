//! What the log is told of services, within a budget that they share.

use tracing::warn;

use super::{BusContext, Readers};
use crate::model::log_rate::LogRate;
use crate::model::name::ServiceName;
use crate::model::request::Rejection;
use crate::model::time::Now;

impl<R: Readers> BusContext<'_, R> {
    /// Reports the values that were not kept, once per item.
    #[cold]
    pub fn report_unkept(&mut self, now: Now) {
        for (slot, unkept) in self.store.cache.take_unkept() {
            self.bus.counters.too_long += 1;
            let Some(item) = self.store.items.get(slot).copied() else {
                continue;
            };
            let service = self.store.items.service(item.device);
            if self.note_unkept(item.at(slot), service, unkept) && self.may_warn(now) {
                let (key, path) = (
                    self.store.items.device_key(item.device),
                    self.store.items.path(&item),
                );
                warn!("{key}{path} is not published: {}", Rejection::from(unkept));
            }
        }
    }

    /// Whether the log has room for one more warning about what a service does.
    pub fn may_warn(&mut self, now: Now) -> bool {
        let allowed = self.bus.warnings.allow(now.monotonic, self.bus.limits.log);
        if let Some(suppressed @ 1..) = allowed {
            warn!("{suppressed} more warnings about services are not shown");
        }
        allowed.is_some()
    }

    /// Whether the log has room for one more line about a service that came or went: for as many as
    /// there may be, but not for one that does so all the time.
    pub fn may_tell(&mut self, now: Now, name: &ServiceName) -> bool {
        let LogRate {
            interval,
            day_lines_max,
            ..
        } = self.bus.limits.log;
        let rate = LogRate {
            lines_max: self.bus.limits.services_max,
            interval,
            day_lines_max: day_lines_max.saturating_add(self.bus.limits.services_max),
        };
        let allowed = self.bus.lifecycle_log.allow(now.monotonic, rate);
        if let Some(suppressed @ 1..) = allowed {
            warn!(
                "{name}: before it, {suppressed} lines about services that came or went are not shown"
            );
        }
        allowed.is_some()
    }
}
