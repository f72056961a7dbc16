//! A budget for repeated log lines: some at once, then what is left over is counted.

use std::time::{Duration, Instant};

/// How many lines come through in one interval.
const LINES: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(10);

/// The budget of one kind of line.
#[derive(Debug, Default)]
pub struct Throttle {
    since: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Throttle {
    /// Whether a line may be written now: `Some` with how many were not since the last one.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= INTERVAL)
        {
            self.since = Some(now);
            self.lines = 0;
        }
        if self.lines < LINES {
            self.lines += 1;
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_budget_is_counted() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        let allowed = (0..100).filter(|_| throttle.allow(start).is_some()).count();
        assert_eq!(allowed, 10);
        assert_eq!(throttle.allow(start + INTERVAL), Some(90));
        assert_eq!(throttle.allow(start + INTERVAL), Some(0));
    }
}
