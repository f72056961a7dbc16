//! When to take what the bus has sent: a decision about sockets, made from counts and times.

use std::time::{Duration, Instant};

/// So many messages in one go may be all that the socket holds, or a part of a burst: there may be more
/// for us.
const CROWD_MESSAGES: usize = 32;
/// The pause after that: in less time than it takes to fill the socket. Waiting to be woken instead
/// would cost the bus, which is what all wait for then, half as much again for every message.
pub(super) const FULL_PAUSE: Duration = Duration::from_micros(250);
/// With less than this a socket cannot have been full: Linux lets 160 KiB and more wait in it, by
/// [`held_bytes`].
const HELD_BYTES: usize = 96 * 1024;
/// The pause after the first message that follows a silence: devices send in bursts, and a burst
/// goes out at once.
pub(super) const FIRST_PAUSE: Duration = Duration::from_micros(500);
/// So many messages within [`FLOOD_PERIOD`] are a flood, ten times what the busiest device sends.
const FLOOD_MESSAGES: usize = 200;
/// For how long messages are counted, and how long a flood lasts at least.
const FLOOD_PERIOD: Duration = Duration::from_millis(20);

/// How fast messages come.
pub(super) struct Pace {
    flood: bool,
    since: Instant,
    messages: usize,
    /// What was said last, but for a rest.
    last: Next,
    /// Whether a rest was said last.
    resting: bool,
}

/// What to do until the next messages are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Let the others have a turn: there is more.
    Turn,
    /// Wait for a message, and a little for those that come with it.
    Wait,
    /// Let messages gather.
    Gather,
    /// Let the rest of a burst come, before what has come goes out.
    Drain,
    /// Let come what the socket holds.
    Saturated,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        Pace {
            flood: false,
            since: now,
            messages: 0,
            last: Next::Wait,
            resting: false,
        }
    }

    /// So many messages were there, with so many bytes together.
    pub(super) fn next(&mut self, now: Instant, messages: usize, bytes: usize) -> Next {
        self.messages += messages;
        let period = now.saturating_duration_since(self.since);
        if period >= FLOOD_PERIOD {
            let periods = period.as_micros() / FLOOD_PERIOD.as_micros();
            self.flood = self.messages as u128 >= FLOOD_MESSAGES as u128 * periods;
            self.since = now;
            self.messages = 0;
        }
        // A crowd that had gathered, and all of it, ends in no silence: the next one is gathering already,
        // and to be woken by its first message would be for nothing.
        let rested = std::mem::take(&mut self.resting);
        let gathered = rested && self.last == Next::Gather;
        // A burst that came out of a silence goes into one: what the rest brought was its end.
        let burst = rested && self.last == Next::Wait;
        self.last = if self.flood {
            Next::Saturated
        } else if messages >= CROWD_MESSAGES
            && (self.last != Next::Gather || held_bytes(messages, bytes) >= HELD_BYTES)
        {
            self.resting = true;
            return Next::Drain;
        } else if burst || messages == 0 && !gathered {
            Next::Wait
        } else {
            Next::Gather
        };
        self.last
    }
}

/// What messages take up in a socket, at most: memory comes in powers of two, and each of them has a
/// head.
const fn held_bytes(messages: usize, bytes: usize) -> usize {
    messages * 1024 + bytes * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With messages as most are.
    fn next(pace: &mut Pace, now: Instant, messages: usize) -> Next {
        pace.next(now, messages, messages * 250)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_is_waited_for_and_what_is_no_burst_gathers() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(next(&mut pace, start + ms(1000), 46), Next::Drain);
        assert_eq!(next(&mut pace, start + ms(1001), 4), Next::Wait);
        assert_eq!(next(&mut pace, start + ms(1100), 1), Next::Gather);
    }

    #[test]
    fn what_is_steady_gathers_on_however_many_they_are() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(next(&mut pace, start + ms(1000), 1), Next::Gather);
        for round in 1..10 {
            let now = start + ms(1000 + round * 100);
            assert_eq!(next(&mut pace, now, 50), Next::Gather);
        }
        // So many may be all that the socket holds.
        for round in 11..20 {
            let now = start + ms(1000 + round * 100);
            assert_eq!(next(&mut pace, now, 100), Next::Drain);
            assert_eq!(next(&mut pace, now, 0), Next::Gather);
        }
        assert_eq!(pace.next(start + ms(3000), 32, 40_000), Next::Drain);
        assert_eq!(next(&mut pace, start + ms(3000), 0), Next::Gather);
        assert_eq!(next(&mut pace, start + ms(3100), 0), Next::Wait);
        // And a burst that comes out of a silence ends in one.
        assert_eq!(next(&mut pace, start + ms(4000), 50), Next::Drain);
        assert_eq!(next(&mut pace, start + ms(4000), 50), Next::Drain);
        assert_eq!(next(&mut pace, start + ms(4000), 0), Next::Wait);
    }

    #[test]
    fn a_flood_is_one_until_it_has_ebbed_for_a_whole_period() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut now = start;
        for _ in 0..40 {
            now += ms(1);
            next(&mut pace, now, 30);
        }
        assert_eq!(next(&mut pace, now, 1), Next::Saturated);
        assert_eq!(next(&mut pace, now + ms(5), 0), Next::Saturated); // the bus had no turn
        assert_eq!(next(&mut pace, now + ms(19), 200), Next::Saturated);
        assert_eq!(next(&mut pace, now + ms(60), 1), Next::Gather);
        assert_eq!(next(&mut pace, now + ms(61), 0), Next::Wait);
    }

    #[test]
    fn many_messages_in_a_long_time_are_no_flood() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..20 {
            next(&mut pace, start, 20);
        }
        assert_eq!(next(&mut pace, start + ms(400), 20), Next::Gather);
    }
}
