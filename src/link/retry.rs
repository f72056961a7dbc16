//! When to try a broker again, and what its user might change (§6).
//!
//! What heals by itself is tried again after 1 s, 2 s, … at most; what only a person can mend after a wait
//! of up to the longest.

use std::time::Duration;

use super::backoff::{Backoff, DELAY_MIN, jitter};
use super::session::LinkError;

/// A connection that held this long has healed whatever was wrong before.
const HEALED: Duration = Duration::from_secs(10);
/// So many short connections in a row are no accident.
const SHORT_MAX: u32 = 3;

/// What came of one attempt to connect, or of one connection.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Why it is over.
    pub error: &'a LinkError,
    /// Whether only a person can mend that, as far as the error tells.
    pub needs_operator: bool,
    /// Whether we had subscribed and begun to publish.
    pub was_connected: bool,
    /// How long it took.
    pub lasted: Duration,
    /// Whether the broker has another address that was not tried yet: then the wait does not grow.
    pub has_others: bool,
}

/// The attempts to connect to one broker.
#[derive(Debug)]
pub struct Retry {
    backoff: Backoff,
    /// Connections in a row that ended soon, and not by our doing.
    short: u32,
}

impl Retry {
    /// `max` bounds the longest wait.
    pub fn new(max: Duration) -> Retry {
        Retry {
            backoff: Backoff::new(max),
            short: 0,
        }
    }

    /// How long to wait before the next attempt. `random` is any number.
    pub fn after(&mut self, end: End<'_>, random: u32) -> Duration {
        if end.was_connected && end.lasted >= HEALED {
            self.backoff.reset();
        }
        let short = end.was_connected && end.lasted < HEALED && ended_by_broker(end.error);
        self.short = if short { self.short + 1 } else { 0 };
        if end.has_others {
            jitter(DELAY_MIN, random)
        } else if end.needs_operator {
            self.backoff.slow(random)
        } else {
            self.backoff.next(random)
        }
    }

    /// What was wrong is known better now, and the next attempt is another one.
    pub fn reset(&mut self) {
        self.backoff.reset();
        self.short = 0;
    }

    /// Whether another client may have our client id: each throws the other out.
    pub fn suspects_client_id(&self, error: &LinkError) -> bool {
        self.short >= SHORT_MAX || matches!(error, LinkError::Dismissed { code: 0x8e, .. })
    }
}

/// Whether the broker ended a connection, and not for a reason that it gave.
fn ended_by_broker(error: &LinkError) -> bool {
    match error {
        LinkError::Closed | LinkError::Io(_) => true,
        LinkError::Dismissed { code, .. } => *code == 0x8e,
        LinkError::ClosedEarly { .. }
        | LinkError::Version { .. }
        | LinkError::Refused { .. }
        | LinkError::Subscription { .. }
        | LinkError::Wildcards
        | LinkError::NoAnswer { .. }
        | LinkError::Silent { .. }
        | LinkError::Packet(_)
        | LinkError::OutOfTurn => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::packet::Version;

    /// Random numbers that are the same in every run (SplitMix64).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap()
        }
    }

    fn end(error: &LinkError) -> End<'_> {
        End {
            error,
            needs_operator: error.needs_operator(),
            was_connected: false,
            lasted: Duration::ZERO,
            has_others: false,
        }
    }

    /// When each of 200 bridges tries for the first time at or after `from`, in seconds; all lost the
    /// broker at the same moment, and each attempt fails in an instant.
    fn arrivals(from: f64, error: &LinkError) -> Vec<f64> {
        let mut random = Random(7);
        let first = |_| {
            let mut retry = Retry::new(Duration::from_secs(30));
            let held = End {
                was_connected: true,
                lasted: Duration::from_secs(3600),
                ..end(&LinkError::Closed)
            };
            let mut clock = retry.after(held, random.next()).as_secs_f64();
            while clock < from {
                clock += retry.after(end(error), random.next()).as_secs_f64();
            }
            clock - from
        };
        (0..200).map(first).collect()
    }

    /// The most of them within one window of this length.
    fn crowd(times: &[f64], window: f64) -> usize {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        let within = |start: &f64| {
            let inside = times
                .iter()
                .filter(|t| (*start..start + window).contains(t));
            inside.count()
        };
        times.iter().map(within).max().unwrap()
    }

    #[test]
    fn s6_two_hundred_bridges_do_not_come_at_once() {
        // The broker was gone for a moment: they come back within a second, and not before.
        let at_once = arrivals(0.0, &LinkError::Closed);
        assert!(crowd(&at_once, 0.1) < 40, "{}", crowd(&at_once, 0.1));
        assert!(at_once.iter().all(|time| *time <= 1.0));
        // It was gone for five minutes: they spread over the longest wait.
        let later = arrivals(300.0, &LinkError::Closed);
        assert!(crowd(&later, 1.0) < 30, "{}", crowd(&later, 1.0));
        assert!(crowd(&later, 0.1) < 10, "{}", crowd(&later, 0.1));
        assert!(later.iter().all(|time| *time <= 30.0));
        // It refuses them all: each next attempt is spread over the longest wait too.
        let refused = LinkError::Refused {
            version: Version::V5,
            code: 0x87,
            said: "".into(),
        };
        for from in [1.0, 31.0, 61.0] {
            let times = arrivals(from, &refused);
            assert!(crowd(&times, 1.0) < 35, "{from}: {}", crowd(&times, 1.0));
            assert!(crowd(&times, 0.1) < 12, "{from}: {}", crowd(&times, 0.1));
        }
    }

    #[test]
    fn s6_another_address_is_tried_soon_and_waits_grow_by_the_round() {
        let mut retry = Retry::new(Duration::from_secs(30));
        let mut bound = |has_others| {
            let end = End {
                has_others,
                ..end(&LinkError::Closed)
            };
            retry.after(end, u32::MAX).as_secs()
        };
        let round = [true, true, false];
        let bounds: Vec<u64> = (0..3).flat_map(|_| round).map(&mut bound).collect();
        assert_eq!(bounds, [1, 1, 1, 1, 1, 2, 1, 1, 4]);
    }

    /// A cluster without a leader refuses for a while, and without a reason; so does an access control list of
    /// 3.1.1, for which the waits grow.
    #[test]
    fn s6_a_subscription_refused_without_a_reason_is_tried_like_a_lost_connection() {
        let bounds = |code| -> Vec<u64> {
            let error = LinkError::Subscription {
                filter: "R/x/#".into(),
                code,
            };
            let mut retry = Retry::new(Duration::from_secs(30));
            let waits = (0..6).map(|_| retry.after(end(&error), u32::MAX).as_secs());
            waits.collect()
        };
        assert_eq!(bounds(0x80), [1, 2, 4, 8, 16, 30]);
        assert_eq!(bounds(0x97), [1, 2, 4, 8, 16, 30]);
        assert_eq!(bounds(0x87), [30; 6]);
    }

    #[test]
    fn s6_short_connections_in_a_row_are_another_client_with_our_id() {
        let short = |error| End {
            was_connected: true,
            lasted: Duration::from_secs(2),
            ..end(error)
        };
        let mut retry = Retry::new(Duration::from_secs(30));
        for expected in [false, false, true, true] {
            retry.after(short(&LinkError::Closed), 0);
            assert_eq!(retry.suspects_client_id(&LinkError::Closed), expected);
        }
        let held = End {
            lasted: HEALED,
            ..short(&LinkError::Closed)
        };
        retry.after(held, 0);
        assert!(!retry.suspects_client_id(&LinkError::Closed));
        // The broker says it, or another reason.
        let dismissed = |code| LinkError::Dismissed {
            code,
            said: "".into(),
        };
        assert!(retry.suspects_client_id(&dismissed(0x8e)));
        let shuts_down = dismissed(0x8b);
        for _ in 0..5 {
            retry.after(short(&shuts_down), 0);
        }
        assert!(!retry.suspects_client_id(&shuts_down));
    }
}
