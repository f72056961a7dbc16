//! How many requests a second a reader's clients have: a bucket that fills at a rate and holds a
//! burst. What finds it empty is refused at once; nothing waits.

use std::time::{Duration, Instant};

/// How many requests a second there may be, and how many at once.
#[derive(Debug, Clone, Copy)]
pub struct RequestRate {
    /// In a second.
    pub per_second_max: usize,
    /// At once.
    pub burst_max: usize,
}

/// The buckets of one reader.
///
/// Keep-alives have one of their own: whoever asks for a thousand values a second must not keep
/// another from keeping his alive.
#[derive(Debug, Default)]
pub struct Rates {
    requests: Bucket,
    keep_alives: Bucket,
}

/// When the bucket will be full again; what is missing until then was taken.
#[derive(Debug, Default)]
struct Bucket(Option<Instant>);

impl Rates {
    /// Takes one request. `false` where there were too many before it.
    pub fn take(&mut self, now: Instant, keep_alive: bool, rate: RequestRate) -> bool {
        let bucket = if keep_alive {
            &mut self.keep_alives
        } else {
            &mut self.requests
        };
        bucket.take(now, rate.per_second_max, rate.burst_max)
    }
}

impl Bucket {
    /// A rate beyond a billion a second is none.
    fn take(&mut self, now: Instant, rate_max: usize, burst_max: usize) -> bool {
        let rate = u32::try_from(rate_max).unwrap_or(u32::MAX).max(1);
        let burst = u32::try_from(burst_max).unwrap_or(u32::MAX);
        let one = Duration::from_secs(1) / rate;
        let full_at = self.0.map_or(now, |at| at.max(now)) + one;
        let within = full_at.saturating_duration_since(now) <= one.saturating_mul(burst);
        if within {
            self.0 = Some(full_at);
        }
        within
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    fn taken(rates: &mut Rates, now: Instant, keep_alive: bool, bounds: RequestRate) -> usize {
        let ask = |_: &usize| rates.take(now, keep_alive, bounds);
        (0..50_000).filter(ask).count()
    }

    #[test]
    fn a_burst_and_then_a_rate() {
        let start = Instant::now();
        let bounds = RequestRate {
            per_second_max: 2_000,
            burst_max: 10_000,
        };
        let mut rates = Rates::default();
        assert_eq!(taken(&mut rates, start, false, bounds), 10_000);
        assert_eq!(taken(&mut rates, start, true, bounds), 10_000);
        let later = start + Duration::from_secs(1);
        assert_eq!(taken(&mut rates, later, false, bounds), 2_000);
        let much_later = start + Duration::from_secs(3_600);
        assert_eq!(taken(&mut rates, much_later, false, bounds), 10_000);
    }

    #[test]
    fn numbers_at_the_ends() {
        let start = Instant::now();
        let take = |rate, burst| {
            let bounds = RequestRate {
                per_second_max: rate,
                burst_max: burst,
            };
            taken(&mut Rates::default(), start, false, bounds)
        };
        assert_eq!(take(1, 1), 1);
        assert_eq!(take(3, 7), 7);
        assert_eq!(take(usize::MAX, 1), 50_000);
        assert_eq!(take(1, usize::MAX), 50_000);
        assert_eq!(take(usize::MAX, usize::MAX), 50_000);
    }
}
