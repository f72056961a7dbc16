//! A budget for repeated log lines: some at once, some in a day, then what is left over is counted. A
//! device keeps its log in flash memory, which wears out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How much of one kind is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRate {
    /// How many lines come through in one interval.
    pub lines_max: usize,
    /// The interval.
    pub interval: Duration,
    /// How many lines come through in one day.
    pub day_lines_max: usize,
}

/// The budget of one kind of line.
#[derive(Debug, Default)]
pub struct Throttle {
    interval: Window,
    day: Window,
    suppressed: u64,
}

/// How many lines there were since then.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    lines: usize,
}

/// The budgets of lines that say the same, each told by a separate number.
#[derive(Debug, Default)]
pub struct Repeats {
    each: HashMap<u64, Throttle>,
    pruned: Option<Instant>,
}

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How many lines are told apart. Further ones have only the budget of their kind.
const REPEATS_MAX: usize = 1_000;
/// How often it is looked whether some of them can be forgotten.
const PRUNE: Duration = Duration::from_secs(60);

impl Default for LogRate {
    fn default() -> LogRate {
        LogRate {
            lines_max: 10,
            interval: Duration::from_secs(10),
            day_lines_max: 1_000,
        }
    }
}

impl Window {
    /// Whether one more line fits. The first line after the window's end begins a new one.
    fn has_room(&mut self, now: Instant, length: Duration, lines_max: usize) -> bool {
        if self.is_over(now, length) {
            *self = Window {
                since: Some(now),
                lines: 0,
            };
        }
        self.lines < lines_max
    }

    fn is_over(&self, now: Instant, length: Duration) -> bool {
        let since = self.since.map(|since| now.saturating_duration_since(since));
        since.is_none_or(|since| since >= length)
    }
}

impl Throttle {
    /// Whether a line may be written now: `Some` with how many were not since the last one.
    pub fn allow(&mut self, now: Instant, rate: LogRate) -> Option<u64> {
        let in_interval = self.interval.has_room(now, rate.interval, rate.lines_max);
        let in_day = self.day.has_room(now, DAY, rate.day_lines_max);
        if in_interval && in_day {
            self.interval.lines += 1;
            self.day.lines += 1;
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            None
        }
    }
}

impl Repeats {
    /// Whether the line with this number may be written now: `Some` with how often it was not since.
    pub fn allow(&mut self, now: Instant, line: u64, rate: LogRate) -> Option<u64> {
        if self.each.len() >= REPEATS_MAX && !self.each.contains_key(&line) {
            let due = |at: Instant| now.saturating_duration_since(at) >= PRUNE;
            if self.pruned.is_none_or(due) {
                self.pruned = Some(now);
                self.each
                    .retain(|_, throttle| !throttle.interval.is_over(now, rate.interval));
            }
            if self.each.len() >= REPEATS_MAX {
                return Some(0);
            }
        }
        self.each.entry(line).or_default().allow(now, rate)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    /// At 2 events a second, and at 2,000.
    #[test]
    fn a_day_has_a_budget_too() {
        let rate = LogRate::default();
        for step in [Duration::from_millis(500), Duration::from_micros(500)] {
            let mut throttle = Throttle::default();
            let mut now = Instant::now();
            let (mut lines, mut told) = (0, 0);
            for _ in 0..172_800 {
                if let Some(suppressed) = throttle.allow(now, rate) {
                    lines += 1;
                    told += suppressed;
                }
                now += step;
            }
            assert!(lines <= 1_000, "{lines}");
            // The next day tells of the rest, and has a separate budget.
            let rest = throttle.allow(now + DAY, rate);
            assert_eq!(rest, Some(172_800 - lines - told));
            assert_eq!(throttle.allow(now + DAY, rate), Some(0));
        }
    }

    #[test]
    fn what_is_said_again_is_counted_by_itself() {
        let start = Instant::now();
        let rate = LogRate {
            lines_max: 1,
            interval: DAY,
            day_lines_max: usize::MAX,
        };
        let mut repeats = Repeats::default();
        assert_eq!(repeats.allow(start, 1, rate), Some(0));
        for _ in 0..7 {
            assert_eq!(repeats.allow(start + DAY / 2, 1, rate), None);
        }
        assert_eq!(repeats.allow(start + DAY / 2, 2, rate), Some(0));
        assert_eq!(repeats.allow(start + DAY, 1, rate), Some(7));
        // However many there are, what is kept is bounded, and what is old makes room.
        for line in 10..100_000 {
            repeats.allow(start + DAY, line, rate);
        }
        assert!(repeats.each.len() <= REPEATS_MAX);
        assert_eq!(repeats.allow(start + DAY, 1, rate), None);
        assert_eq!(repeats.allow(start + 3 * DAY, 200_000, rate), Some(0));
        assert_eq!(repeats.allow(start + 3 * DAY, 200_000, rate), None);
        assert!(repeats.each.len() < 10);
    }

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
