//! Time is an argument: decisions are handed what the shell reads from its clocks.

use std::time::{Duration, Instant};

/// One moment, as the shell's two clocks show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For intervals and deadlines: never jumps.
    pub monotonic: Instant,
    /// For what clients are told: seconds since 1970, as good as the device's clock.
    pub unix_s: u64,
}

impl Now {
    /// The moment `after` later, on both clocks.
    #[must_use]
    pub fn later(self, after: Duration) -> Now {
        Now {
            monotonic: self.monotonic + after,
            unix_s: self.unix_s + after.as_secs(),
        }
    }
}
