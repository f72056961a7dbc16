//! How long to wait before the next attempt (§6): exponential, with full jitter, bounded.
//!
//! Every wait is anything between nothing and its bound, the first one too: a thousand bridges whose
//! broker comes back must not come at once.

use std::time::Duration;

/// The bound of the first wait.
pub const DELAY_MIN: Duration = Duration::from_secs(1);
/// The bound of the longest wait where no setting says another.
pub const DELAY_MAX: Duration = Duration::from_secs(30);

/// The waits between attempts to connect.
#[derive(Debug)]
pub struct Backoff {
    max: Duration,
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new(DELAY_MAX)
    }
}

impl Backoff {
    /// Waits of up to 1 s, 2 s, 4 s, … `max`.
    pub fn new(max: Duration) -> Backoff {
        Backoff { max, failures: 0 }
    }

    /// The next wait. `random` is any number.
    pub fn next(&mut self, random: u32) -> Duration {
        let bound = DELAY_MIN.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX));
        self.failures = self.failures.saturating_add(1);
        jitter(bound.min(self.max), random)
    }

    /// A wait of up to the longest, for what does not heal by itself. It counts as a failure too.
    pub fn slow(&mut self, random: u32) -> Duration {
        self.failures = self.failures.saturating_add(1);
        jitter(self.max, random)
    }

    /// The connection held: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A wait of up to `bound`. `random` is any number.
pub fn jitter(bound: Duration, random: u32) -> Duration {
    bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// More doublings of a second than any setting allows.
const DOUBLINGS_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_waits_grow_from_one_second_to_the_longest() {
        let bounds = |max: u64| {
            let mut backoff = Backoff::new(Duration::from_secs(max));
            let waits: Vec<_> = (0..8).map(|_| backoff.next(u32::MAX).as_secs()).collect();
            backoff.reset();
            assert_eq!(backoff.next(u32::MAX), DELAY_MIN.min(backoff.max));
            waits
        };
        assert_eq!(bounds(30), [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(bounds(300), [1, 2, 4, 8, 16, 32, 64, 128]);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.slow(u32::MAX), DELAY_MAX);
        assert_eq!(backoff.next(u32::MAX), DELAY_MIN * 2);
        for _ in 0..100 {
            assert_eq!(backoff.next(0), Duration::ZERO);
            assert_eq!(backoff.slow(0), Duration::ZERO);
        }
    }
}
