//! A budget for repeated log lines: some at once, then what is left over is counted.

use std::time::{Duration, Instant};

/// How much of one kind is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRate {
    /// How many lines come through in one interval.
    pub lines_max: usize,
    /// The interval.
    pub interval: Duration,
}

/// The budget of one kind of line.
#[derive(Debug, Default)]
pub struct Throttle {
    since: Option<Instant>,
    lines: usize,
    suppressed: u64,
}

impl Default for LogRate {
    fn default() -> LogRate {
        LogRate {
            lines_max: 10,
            interval: Duration::from_secs(10),
        }
    }
}

impl Throttle {
    /// Whether a line may be written now: `Some` with how many were not since the last one.
    pub fn allow(&mut self, now: Instant, rate: LogRate) -> Option<u64> {
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= rate.interval)
        {
            self.since = Some(now);
            self.lines = 0;
        }
        if self.lines < rate.lines_max {
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
        let rate = LogRate::default();
        let mut throttle = Throttle::default();
        let allowed = (0..100)
            .filter(|_| throttle.allow(start, rate).is_some())
            .count();
        assert_eq!(allowed, 10);
        let later = start + rate.interval;
        assert_eq!(throttle.allow(later, rate), Some(90));
        assert_eq!(throttle.allow(later, rate), Some(0));
    }
}
