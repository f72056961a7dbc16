//! What is refused, left out or doubted: counted, and told to the log within a budget.
//!
//! Each broker has its own budget, so that the clients of one cannot hide from the log what those of
//! another do; the services of the bus share one.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tracing::warn;

use super::RequestContext;
use crate::bridge::store::ids::BrokerId;
use crate::model::log_rate::{DAY, LogRate};
use crate::model::outside::Outside;
use crate::model::request::Rejection;
use crate::model::time::Now;

impl RequestContext<'_> {
    /// Counts why a request is not carried out, and tells the log.
    pub fn reject(&mut self, now: Now, broker: BrokerId, topic: &str, rejection: &Rejection) {
        let outlet = self.outlets.at_mut(broker);
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
            .allow(now.monotonic, self.bus.limits.log)
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
    pub fn doubt(&mut self, now: Now, broker: BrokerId, topic: &str, doubt: &Rejection) {
        let outlet = self.outlets.at_mut(broker);
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
            .allow(now.monotonic, self.bus.limits.log)
        {
            let name = outlet.name();
            if suppressed > 0 {
                warn!("{name}: {suppressed} more doubtful writes are not shown");
            }
            let (topic, before) = (shown(topic), times(repeated));
            warn!("{name}: request {topic}: {doubt}; it is passed on{before}");
        }
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
