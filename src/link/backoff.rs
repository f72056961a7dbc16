//! How long to wait after a connection failed (§6): exponential, with jitter, bounded.

use std::time::Duration;

/// The shortest wait.
pub const DELAY_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
pub const DELAY_MAX: Duration = Duration::from_secs(30);

/// The waits between attempts to connect.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait. `jitter` is a random number; one half of the wait depends on it, so that many
    /// bridges do not come back to a broker at once.
    pub fn next(&mut self, jitter: u32) -> Duration {
        let full = DELAY_MIN
            .saturating_mul(1 << self.failures.min(5))
            .min(DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        let share = f64::from(jitter) / f64::from(u32::MAX);
        full.mul_f64(0.5 + share / 2.0).max(DELAY_MIN)
    }

    /// The connection held: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_waits_grow_from_one_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(u32::MAX).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(0), DELAY_MIN);
        assert_eq!(backoff.next(0), DELAY_MIN);
        assert_eq!(backoff.next(0), DELAY_MIN * 2);
    }
}
