//! When to register at VRM (§8).
//!
//! ```text
//!            ┌──── failed: after a fixed time ────┐
//!            ▼                                    │
//! start ──▶ Due ── attempt ──▶ succeeded ──▶ Registered
//!            ▲                                    │
//!            └── connected and lost: after a random time
//! ```
//!
//! A device that was thrown out may be unknown there by now; the random time keeps all the devices of
//! a broker that was restarted from registering at once.

use std::time::{Duration, Instant};

/// When to register next.
#[derive(Debug)]
pub struct Schedule {
    retry: Duration,
    again_max: Duration,
    due: Option<Instant>,
}

impl Schedule {
    /// The first time is now.
    pub fn new(retry: Duration, again_max: Duration, now: Instant) -> Schedule {
        Schedule {
            retry,
            again_max,
            due: Some(now),
        }
    }

    /// When to register next; `None` where it is done.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It worked.
    pub fn succeeded(&mut self) {
        self.due = None;
    }

    /// It did not.
    pub fn failed(&mut self, now: Instant) {
        self.due = Some(now + self.retry);
    }

    /// The broker was connected and is lost. `random` is any number.
    pub fn lost(&mut self, now: Instant, random: u32) {
        let share = f64::from(random) / f64::from(u32::MAX);
        let again = now + self.again_max.mul_f64(share);
        // One that is due anyway is not put off.
        self.due = Some(self.due.map_or(again, |due| due.min(again)));
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    #[test]
    fn s8_a_failure_is_repeated_after_a_minute_and_a_loss_within_ten() {
        let (minute, start) = (Duration::from_secs(60), Instant::now());
        let mut schedule = Schedule::new(minute, minute * 10, start);
        assert_eq!(schedule.due(), Some(start));
        schedule.failed(start);
        assert_eq!(schedule.due(), Some(start + minute));
        schedule.succeeded();
        assert_eq!(schedule.due(), None);
        for (random, wait) in [(0, Duration::ZERO), (u32::MAX, minute * 10)] {
            schedule.lost(start, random);
            assert_eq!(schedule.due(), Some(start + wait));
            schedule.succeeded();
        }
        schedule.failed(start);
        schedule.lost(start, u32::MAX);
        assert_eq!(schedule.due(), Some(start + minute));
        schedule.lost(start, 0);
        assert_eq!(schedule.due(), Some(start));
    }
}
