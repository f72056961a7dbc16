//! How many messages a second a broker is sent (§4.13).
//!
//! Kept by waiting, never by dropping: what waits stays in the cache, where the latest value of each item
//! counts. Messages are spaced evenly, so that no second holds more of them than the limit; above
//! a hundred a second they go in small batches, since waking up costs more than a message.

use std::time::{Duration, Instant};

/// So often a second a broker is sent something, at most, while more waits.
const BATCHES: u32 = 100;

/// The messages of one connection.
#[derive(Debug)]
pub struct PublishRate {
    /// Between two batches; `None`: no limit.
    interval: Option<Duration>,
    /// The messages of one batch.
    batch: u32,
    /// How many of this batch are left.
    left: u32,
    /// When the next batch may go.
    next: Option<Instant>,
}

impl PublishRate {
    /// At most `max` messages a second; 0: as many as there are.
    pub fn new(max: u32) -> PublishRate {
        let batch = (max / BATCHES).max(1);
        let interval = Duration::from_secs(1) * batch;
        PublishRate {
            // Rounded up: rather one less in an hour than one more in a second.
            interval: (max > 0).then(|| interval / max + Duration::from_nanos(1)),
            batch,
            left: 0,
            next: None,
        }
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.interval.is_some()
    }

    /// How many messages may go now.
    pub fn allowed(&mut self, now: Instant) -> usize {
        let Some(interval) = self.interval else {
            return usize::MAX;
        };
        if self.next.is_none_or(|next| now >= next) {
            self.next = Some(now + interval);
            self.left = self.batch;
        }
        self.left as usize
    }

    /// So many went.
    pub fn sent(&mut self, messages: usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.left = self.left.saturating_sub(messages);
    }

    /// When more may go; `None` where that is now.
    pub fn waits_until(&self) -> Option<Instant> {
        self.next.filter(|_| self.left == 0 && self.is_limited())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    /// When messages go that all wait at the start, in a loop that wakes up when it may send.
    fn times(max: u32, messages: usize) -> Vec<Duration> {
        let start = Instant::now();
        let (mut now, mut rate) = (start, PublishRate::new(max));
        let mut times = Vec::new();
        while times.len() < messages {
            let allowed = rate.allowed(now).min(messages - times.len());
            rate.sent(allowed);
            times.extend(std::iter::repeat_n(now - start, allowed));
            now = rate.waits_until().unwrap_or(now);
        }
        times
    }

    #[test]
    fn s4_13_no_second_holds_more_messages_than_the_limit() {
        for max in [1, 3, 10, 99, 100, 101, 250, 1_000, 7_777] {
            let count = max as usize * 3;
            let times = times(max, count);
            // A message and the one that comes so many later.
            for (first, later) in times.iter().zip(times.iter().skip(max as usize)) {
                assert!(
                    later.saturating_sub(*first) >= Duration::from_secs(1),
                    "{max} at {first:?}"
                );
            }
            // And not much less than that either: it is kept by waiting no longer than needed.
            let last = times[count - 1].as_secs_f64();
            assert!(last <= 3.1, "{max}: {last}");
        }
    }

    #[test]
    fn s4_13_without_a_limit_nothing_waits() {
        let mut rate = PublishRate::new(0);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(rate.allowed(now), usize::MAX);
            rate.sent(10_000);
            assert_eq!(rate.waits_until(), None);
        }
    }
}
