//! What is refused, left out or doubted: counted, and told to the log within a budget.
//!
//! Each broker has its own budget, so that the clients of one cannot hide from the log what those of
//! another do; the services of the bus share one.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tracing::warn;

use super::responses::Told;
use crate::bridge::Bridge;
use crate::bridge::store::throttle::{DAY, LogRate};
use crate::model::name::ServiceName;
use crate::model::outside::Outside;
use crate::model::request::{KeepAlive, Rejection, Request, ResponseAddress};
use crate::model::time::Now;
use crate::model::value::BusValue;

impl Bridge {
    /// How much of one kind is logged.
    pub fn log_rate(&self) -> LogRate {
        self.bounds.log
    }

    /// Counts why a request is not carried out, and tells the log.
    pub(in crate::bridge) fn reject(
        &mut self,
        now: Now,
        broker: usize,
        topic: &str,
        rejection: &Rejection,
    ) {
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return;
        };
        outlet.tally.refused(rejection.code());
        let again = LogRate {
            lines_max: AGAIN_LINES_MAX,
            interval: AGAIN,
            day_lines_max: usize::MAX,
        };
        let line = number(topic, rejection);
        let Some(repeated) = outlet.subscriber.repeats.allow(now.monotonic, line, again) else {
            return;
        };
        if let Some(suppressed) = outlet
            .subscriber
            .rejections
            .allow(now.monotonic, self.bounds.log)
        {
            let name = outlet.name();
            if suppressed > 0 {
                warn!("{name}: {suppressed} more rejected requests are not shown");
            }
            let (topic, why) = (shown(topic), rejection.to_string());
            let why = shown(&why);
            let before = times(repeated);
            warn!("{name}: request {topic} rejected: {why}{before}");
        }
    }

    /// Tells the log what the schema has against a write that is passed on all the same: the service
    /// knows best.
    pub(in crate::bridge) fn doubt(
        &mut self,
        now: Now,
        broker: usize,
        topic: &str,
        doubt: &Rejection,
    ) {
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return;
        };
        // Whoever writes what can only be read does so each second, and for years.
        let once = LogRate {
            lines_max: 1,
            interval: DAY,
            day_lines_max: usize::MAX,
        };
        let line = number(topic, doubt);
        let Some(repeated) = outlet.subscriber.repeats.allow(now.monotonic, line, once) else {
            return;
        };
        if let Some(suppressed) = outlet
            .subscriber
            .doubts
            .allow(now.monotonic, self.bounds.log)
        {
            let name = outlet.name();
            if suppressed > 0 {
                warn!("{name}: {suppressed} more doubtful writes are not shown");
            }
            let (topic, before) = (shown(topic), times(repeated));
            warn!("{name}: request {topic}: {doubt}; it is passed on{before}");
        }
    }

    /// Whether the request is one too many (§5.8). Then it is refused, but what its client keeps alive
    /// stays so: a request renews whether it is valid or not (§5.1), and that costs nothing.
    pub(in crate::bridge) fn is_too_fast(
        &mut self,
        now: Now,
        broker: usize,
        topic: &str,
        request: &Result<Request<'_>, Rejection>,
        respond_to: Option<&ResponseAddress>,
    ) -> bool {
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return false;
        };
        let keep_alive = matches!(request, Ok(Request::KeepAlive(_) | Request::Serial));
        if outlet
            .subscriber
            .rates
            .take(now.monotonic, keep_alive, &self.bounds)
        {
            return false;
        }
        if let Ok(Request::KeepAlive(KeepAlive::Selective(filters))) = request {
            outlet.renew_live(now.monotonic, filters);
        } else if outlet.subscriber.renew(now.monotonic, keep_alive) {
            outlet.subscriber.answers().ask_republish(&None, None);
            outlet.subscriber.advance(now.monotonic, &self.items);
        }
        let max = self.bounds.request_rate_max;
        let rejection = Rejection::TooFast { max };
        self.reject(now, broker, topic, &rejection);
        if let Some(to) = respond_to.cloned() {
            let told = Told::rejection(&rejection);
            if topic.starts_with("W/") {
                self.respond(now, broker, to, told);
            } else {
                self.respond_in_turn(now, broker, Some(to), told);
            }
        }
        true
    }

    /// Refuses a write of a value that would not be taken from the bus either.
    pub(in crate::bridge) fn fits(&self, value: &BusValue) -> Result<(), Rejection> {
        let found = value.bytes();
        let max = match value {
            BusValue::Text(_) | BusValue::ObjectPath(_) => self.bounds.sizes.text_bytes_max,
            BusValue::Array(..) | BusValue::Dict(_) | BusValue::Variant(_) => {
                self.bounds.sizes.array_bytes_max
            }
            BusValue::Bool(_)
            | BusValue::U8(_)
            | BusValue::I16(_)
            | BusValue::U16(_)
            | BusValue::I32(_)
            | BusValue::U32(_)
            | BusValue::I64(_)
            | BusValue::U64(_)
            | BusValue::Double(_) => return Ok(()),
        };
        if found <= max {
            Ok(())
        } else {
            Err(Rejection::ValueTooLarge { found, max })
        }
    }

    /// Reports the values that were not kept, once per item.
    #[cold]
    pub(in crate::bridge) fn report_unkept(&mut self, now: Now) {
        for (slot, unkept) in self.cache.take_unkept() {
            self.counters.too_long += 1;
            let Some(item) = self.items.get(slot).copied() else {
                continue;
            };
            let service = self.items.service(item.device);
            if self.note_unkept(item.at(slot), service, unkept) && self.may_warn(now) {
                let (key, path) = (self.items.device_key(item.device), self.items.path(&item));
                warn!("{key}{path} is not published: {}", Rejection::from(unkept));
            }
        }
    }

    /// Whether the log has room for one more warning about what a service does.
    pub(in crate::bridge) fn may_warn(&mut self, now: Now) -> bool {
        let allowed = self.warnings.allow(now.monotonic, self.bounds.log);
        if let Some(suppressed @ 1..) = allowed {
            warn!("{suppressed} more warnings about services are not shown");
        }
        allowed.is_some()
    }

    /// Whether the log has room for one more line about a service that came or went: for as many as
    /// there may be, but not for one that does so all the time.
    pub(in crate::bridge) fn may_tell(&mut self, now: Now, name: &ServiceName) -> bool {
        let LogRate {
            interval,
            day_lines_max,
            ..
        } = self.bounds.log;
        let rate = LogRate {
            lines_max: self.config.services_max,
            interval,
            day_lines_max: day_lines_max.saturating_add(self.config.services_max),
        };
        let allowed = self.comings.allow(now.monotonic, rate);
        if let Some(suppressed @ 1..) = allowed {
            warn!(
                "{name}: before it, {suppressed} lines about services that came or went are not shown"
            );
        }
        allowed.is_some()
    }
}

/// Within this time a rejection of one topic for one reason is said so many times, then counted.
const AGAIN: Duration = Duration::from_secs(60 * 60);
const AGAIN_LINES_MAX: usize = 3;

/// What tells a line about a request from others: its topic, and what is wrong.
fn number(topic: &str, rejection: &Rejection) -> u64 {
    let mut hasher = DefaultHasher::new();
    (topic, rejection.code()).hash(&mut hasher);
    hasher.finish()
}

/// How often a line was not shown since the last time.
fn times(repeated: u64) -> String {
    match repeated {
        0 => String::new(),
        1 => " (and once more since the last line)".into(),
        more => format!(" (and {more} more times since the last line)"),
    }
}

/// A text of anybody's making, not longer than a line should be.
fn shown(topic: &str) -> Outside<'_> {
    /// Far more than any topic of ours has.
    const CHARS_MAX: usize = 300;
    Outside::new(topic).at_most(CHARS_MAX)
}
