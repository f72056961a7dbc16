//! Nobody else speaks for the device (§4.11): how often a topic of ours is put right that another client
//! published, and what the log says of it.
//!
//! Two bridges that contradict each other must not fight: a topic that is wrong again and again is left
//! alone for a while, and so are all where there are many such.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Over what time corrections are counted, and for how long a topic is left alone.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often one topic is corrected in that time.
const CORRECTIONS_MAX: u8 = 10;
/// So many topics left alone, and all are.
const DISPUTED_MAX: usize = 50;
/// How often it is said that another bridge is there.
const RIVAL_INTERVAL: Duration = Duration::from_secs(3600);
/// How many topics are remembered. Beyond that none is corrected; the next connect clears what stays.
const TOPICS_MAX: usize = 20_000;

/// What is to be done about a message of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// Put it right.
    Correct,
    /// The same, and say so: it is the first one in a while.
    First,
    /// Say that this topic is left alone.
    TopicDisputed,
    /// Say that all topics are left alone.
    AllDisputed,
    /// Nothing.
    LeaveAlone,
}

/// What was corrected lately.
#[derive(Debug, Default)]
pub struct Corrections {
    topics: HashMap<Box<str>, Topic>,
    /// When the last message of somebody else came.
    last: Option<Instant>,
    /// Until when everything is left alone.
    quiet_until: Option<Instant>,
    disputed: usize,
    swept: Option<Instant>,
    /// When it was last said that another bridge is there.
    rival_said: Option<Instant>,
}

#[derive(Debug)]
struct Topic {
    since: Instant,
    count: u8,
}

impl Corrections {
    /// Somebody else published what is wrong on this topic.
    pub fn wanted(&mut self, now: Instant, topic: &str) -> Correction {
        let first = self.last.is_none_or(|last| now >= last + INTERVAL);
        self.last = Some(now);
        if self.quiet_until.is_some_and(|until| now < until) {
            return Correction::LeaveAlone;
        }
        self.sweep(now);
        let Some(known) = self.topics.get_mut(topic) else {
            if self.topics.len() >= TOPICS_MAX {
                return self.leave_all(now);
            }
            let new = Topic {
                since: now,
                count: 1,
            };
            self.topics.insert(topic.into(), new);
            return if first {
                Correction::First
            } else {
                Correction::Correct
            };
        };
        if now >= known.since + INTERVAL {
            if known.count > CORRECTIONS_MAX {
                self.disputed = self.disputed.saturating_sub(1);
            }
            (known.since, known.count) = (now, 0);
        }
        known.count = known.count.saturating_add(1);
        match known.count {
            ..=CORRECTIONS_MAX if first => Correction::First,
            ..=CORRECTIONS_MAX => Correction::Correct,
            count if count == CORRECTIONS_MAX + 1 => {
                known.since = now;
                self.disputed += 1;
                if self.disputed > DISPUTED_MAX {
                    return self.leave_all(now);
                }
                Correction::TopicDisputed
            }
            _ => Correction::LeaveAlone,
        }
    }

    /// Somebody else says that a bridge for this device is alive. `true` where that is to be said.
    pub fn rival(&mut self, now: Instant) -> bool {
        let due = self
            .rival_said
            .is_none_or(|said| now >= said + RIVAL_INTERVAL);
        if due {
            self.rival_said = Some(now);
        }
        due
    }

    fn leave_all(&mut self, now: Instant) -> Correction {
        self.topics.clear();
        self.disputed = 0;
        self.quiet_until = Some(now + INTERVAL);
        Correction::AllDisputed
    }

    /// Forgets what is long ago, once in a while.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|at| now < at + INTERVAL) {
            return;
        }
        self.swept = Some(now);
        self.topics.retain(|_, topic| now < topic.since + INTERVAL);
        let disputed = |topic: &&Topic| topic.count > CORRECTIONS_MAX;
        self.disputed = self.topics.values().filter(disputed).count();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // any moment will do

    use super::*;

    #[test]
    fn s4_11_a_topic_is_corrected_ten_times_a_minute_and_then_left_alone_for_one() {
        let start = Instant::now();
        let mut corrections = Corrections::default();
        assert_eq!(corrections.wanted(start, "a"), Correction::First);
        for _ in 1..CORRECTIONS_MAX {
            assert_eq!(corrections.wanted(start, "a"), Correction::Correct);
        }
        let later = start + INTERVAL / 2;
        assert_eq!(corrections.wanted(later, "a"), Correction::TopicDisputed);
        assert_eq!(corrections.wanted(later, "b"), Correction::Correct);
        let before = later + Duration::from_secs(59);
        assert_eq!(corrections.wanted(before, "a"), Correction::LeaveAlone);
        assert_eq!(
            corrections.wanted(later + INTERVAL, "a"),
            Correction::Correct
        );
        // A burst after a silence is said again.
        let end = later + INTERVAL * 3;
        assert_eq!(corrections.wanted(end, "a"), Correction::First);
    }

    #[test]
    fn s4_11_another_bridge_is_said_once_an_hour() {
        let start = Instant::now();
        let mut corrections = Corrections::default();
        let said =
            [0, 3, 3599, 3600, 3603].map(|s| corrections.rival(start + Duration::from_secs(s)));
        assert_eq!(said, [true, false, false, true, false]);
    }

    #[test]
    fn s4_11_where_many_topics_are_disputed_all_are_left_alone() {
        let start = Instant::now();
        let mut corrections = Corrections::default();
        let mut last = Correction::Correct;
        for topic in 0..=DISPUTED_MAX {
            for _ in 0..=CORRECTIONS_MAX {
                last = corrections.wanted(start, &topic.to_string());
            }
        }
        assert_eq!(last, Correction::AllDisputed);
        assert_eq!(corrections.wanted(start, "new"), Correction::LeaveAlone);
        let later = start + INTERVAL;
        assert_eq!(corrections.wanted(later, "new"), Correction::First);
    }

    #[test]
    fn s4_11_what_is_remembered_is_bounded() {
        let start = Instant::now();
        let mut corrections = Corrections::default();
        for topic in 0..TOPICS_MAX {
            corrections.wanted(start, &topic.to_string());
        }
        assert_eq!(corrections.wanted(start, "more"), Correction::AllDisputed);
        assert!(corrections.topics.is_empty());
    }
}
