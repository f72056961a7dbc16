//! When values go out (§9.12): at most every `gather-ms`, and with many clients so seldom that all
//! writes together are not more than `client-writes-max` in a second.

use std::time::{Duration, Instant};

/// The pace.
#[derive(Debug)]
pub struct Pace {
    gather: Duration,
    /// What one write takes of a second.
    write: Duration,
    /// Not before that.
    next: Option<Instant>,
    /// Items that a client has written, and until when their change is awaited: it goes out at once (§5.6).
    awaited: Vec<(u32, Instant)>,
    /// One of them has changed.
    urgent: bool,
}

impl Pace {
    /// A pace of that; 0 writes: as many as there are.
    pub fn new(gather: Duration, writes_max: u32) -> Pace {
        Pace {
            gather,
            write: Duration::from_secs(1)
                .checked_div(writes_max)
                .unwrap_or(Duration::ZERO),
            next: None,
            awaited: Vec::new(),
            urgent: false,
        }
    }

    /// Whether values may go out now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.urgent || self.next.is_none_or(|next| next <= now)
    }

    /// From when on they may.
    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    /// A client has written an item: its change is not held back.
    pub fn await_change(&mut self, now: Instant, slot: u32) {
        self.awaited
            .retain(|(other, until)| *other != slot && *until > now);
        if self.awaited.len() < AWAITED_MAX {
            self.awaited.push((slot, now + AWAITED));
        }
    }

    /// Whether the change of an item is awaited.
    pub fn awaits(&self, now: Instant) -> bool {
        self.awaited.iter().any(|(_, until)| *until > now)
    }

    /// Items of one word have changed.
    #[inline]
    pub fn changed(&mut self, word: usize, bits: u32) {
        if !self.awaited.is_empty() {
            let before = self.awaited.len();
            self.awaited
                .retain(|(slot, _)| *slot as usize / 32 != word || bits & (1 << (slot % 32)) == 0);
            self.urgent |= self.awaited.len() < before;
        }
    }

    /// They have gone out, to so many clients.
    pub fn handed_out(&mut self, now: Instant, clients: u32) {
        self.urgent = false;
        self.next = Some(now + self.gather.max(self.write * clients));
    }
}

/// For how long the change of an item that was written is awaited: services take their time.
const AWAITED: Duration = Duration::from_secs(2);
/// How many items that were written are awaited; those beyond that wait for their turn.
const AWAITED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // any moment will do

    use super::*;

    #[test]
    fn s9_12_many_clients_are_written_to_less_often() {
        let start = Instant::now();
        let after = |pace: &Pace| pace.due().map(|due| due - start);
        let mut pace = Pace::new(Duration::from_millis(5), 1000);
        assert!(pace.is_due(start));
        pace.handed_out(start, 1);
        assert_eq!(after(&pace), Some(Duration::from_millis(5)));
        assert!(!pace.is_due(start + Duration::from_millis(4)));
        assert!(pace.is_due(start + Duration::from_millis(5)));
        pace.handed_out(start, 50);
        assert_eq!(after(&pace), Some(Duration::from_millis(50)));
        // What was written does not wait; once.
        pace.await_change(start, 70);
        pace.changed(1, 1 << 6);
        assert!(pace.awaits(start) && !pace.is_due(start));
        pace.changed(2, 1 << 6);
        assert!(!pace.awaits(start) && pace.is_due(start));
        pace.handed_out(start, 1);
        assert!(!pace.is_due(start));
        let mut pace = Pace::new(Duration::ZERO, 0);
        pace.handed_out(start, 50);
        assert!(pace.is_due(start));
    }
}
