//! Time is an argument: decisions are handed what the shell reads from its clocks.

use std::time::{Duration, Instant};

/// One moment, as the shell's two clocks show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For intervals and deadlines: never jumps.
    pub monotonic: Instant,
    /// For what clients are told: seconds since 1970, as good as the device's clock.
    pub unix_s: u64,
    /// The milliseconds that have passed since that second.
    pub unix_ms: u16,
}

impl Now {
    /// The moment `after` later, on both clocks.
    #[must_use]
    pub fn later(self, after: Duration) -> Now {
        let ms = Duration::from_millis(self.unix_ms.into()) + after;
        Now {
            monotonic: self.monotonic + after,
            unix_s: self.unix_s + ms.as_secs(),
            unix_ms: u16::try_from(ms.subsec_millis()).unwrap_or_default(),
        }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn unix_time_ms(self) -> u64 {
        self.unix_s * 1_000 + u64::from(self.unix_ms)
    }
}
