//! Values that a broker forgets by itself after a time (§6) are said again before that, as long as
//! somebody is interested: a value that does not change must not look as if its device were gone.
//!
//! The slots are gone through in their order, one round in half the time of the expiry, a piece with
//! each heartbeat. So the load is even, nothing wakes up for it, and no value gets older than half
//! the expiry and one heartbeat.

use std::time::{Duration, Instant};

use crate::bridge::store::cache::SlotId;

/// The shortest expiry: two rounds of at least one heartbeat each, and some time for the network.
pub const EXPIRY_MIN: Duration = Duration::from_secs(10);

/// The rounds through the values of one broker.
#[derive(Debug)]
pub struct Refresh {
    round: Duration,
    next: u32,
    last: Instant,
}

impl Refresh {
    /// Rounds for that expiry, which begin now.
    pub fn new(expiry: Duration, now: Instant) -> Refresh {
        Refresh {
            round: expiry.max(EXPIRY_MIN) / 2,
            next: 0,
            last: now,
        }
    }

    /// The slots whose turn has come, of that many.
    pub fn due(&mut self, now: Instant, slots: u32) -> impl Iterator<Item = SlotId> + use<> {
        let elapsed = now.saturating_duration_since(self.last);
        self.last = now;
        let share = (elapsed.as_secs_f64() / self.round.as_secs_f64()).min(1.0);
        // At most all of them.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = (f64::from(slots) * share).ceil() as u32;
        let first = self.next.checked_rem(slots).unwrap_or(0);
        self.next = first.saturating_add(count);
        (first..slots)
            .chain(0..first)
            .take(count as usize)
            .map(SlotId)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    #[test]
    fn s6_every_slot_has_its_turn_before_its_value_expires() {
        for (expiry_s, beat_s, slots) in [(600, 3, 3_000), (600, 3, 7), (10, 3, 500), (60, 45, 9)] {
            let start = Instant::now();
            let expiry = Duration::from_secs(expiry_s);
            let mut refresh = Refresh::new(expiry, start);
            let mut said = vec![start; slots as usize];
            let mut count = 0;
            for beat in 1..=1_000 {
                let now = start + Duration::from_secs(beat_s) * beat;
                for slot in refresh.due(now, slots) {
                    said[slot.0 as usize] = now;
                    count += 1;
                }
                for at in &said {
                    assert!(now - *at < expiry, "{expiry_s} s, {slots} slots");
                }
            }
            // No more than two or three times in the life of a value.
            let lives = f64::from(u32::try_from(1_000 * beat_s / expiry_s).unwrap());
            assert!(f64::from(count) <= lives * f64::from(slots) * 3.0 + 2_000.0);
        }
    }

    #[test]
    fn nothing_is_due_where_nothing_is() {
        let now = Instant::now();
        let mut refresh = Refresh::new(Duration::from_secs(60), now);
        assert_eq!(refresh.due(now + Duration::from_secs(9), 0).count(), 0);
    }
}
