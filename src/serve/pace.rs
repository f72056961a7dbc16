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
        }
    }

    /// Whether values may go out now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// From when on they may.
    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    /// They have gone out, to so many clients.
    pub fn handed_out(&mut self, now: Instant, clients: u32) {
        self.next = Some(now + self.gather.max(self.write * clients));
    }
}

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
        let mut pace = Pace::new(Duration::ZERO, 0);
        pace.handed_out(start, 50);
        assert!(pace.is_due(start));
    }
}
