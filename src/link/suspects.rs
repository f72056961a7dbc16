//! Which topic makes a broker close the connection (§4.12).
//!
//! ```text
//!         closed without a word, just after a publish       once more
//! Calm ─────────────────────────────────────────▶ Recording ─────────▶ Trial
//!   ▲                                                 │  ▲               │ none left
//!   └──────────── a connection holds a minute ────────┘  └───────────────┤
//!                                                  closed again: that one ┘ is guilty
//! ```
//!
//! A broker that takes a topic, or a value, for an attack closes the connection; after the next connect
//! the same is published again, and so nothing else ever arrives. While it is suspected what was
//! published is noted until the broker has answered a PINGREQ that came behind. After the second time
//! these topics are published one by one, each with a PINGREQ behind it.
//!
//! Nothing is noted, and nothing costs anything, while a broker behaves.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// How soon after a publish a broker closes the connection because of it.
const SOON: Duration = Duration::from_secs(2);
/// A connection that held this long was not closed because of what is published at its start.
const HELD: Duration = Duration::from_secs(60);
/// How many messages are noted; the newest count.
const NOTED_MAX: usize = 50_000;

/// How long a topic is left out that made a broker close the connection.
pub const LEFT_OUT: Duration = Duration::from_secs(3_600);

/// A message that was published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Suspect {
    /// Its whole topic.
    pub topic: Box<str>,
    /// Whether its payload was empty.
    pub empty: bool,
}

/// What is done about what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Calm,
    /// It is noted.
    Recording,
    /// It is published one by one.
    Trial,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The broker closed it without a word, or because of something that was sent.
    Closed,
    /// Otherwise.
    Other,
}

/// What one broker is suspected of.
#[derive(Debug, Default)]
pub struct Suspects {
    /// How often in a row it closed the connection just after a publish.
    closures: u32,
    connected: Option<Instant>,
    published: Option<Instant>,
    /// What was published, and how many PINGREQs had gone out before.
    noted: VecDeque<(u32, Suspect)>,
    left: VecDeque<Suspect>,
    /// What was published alone, and how many PINGREQs must be answered until it is acquitted.
    on_trial: Option<(u32, Suspect)>,
    /// What was on trial when the connection was closed, until the broker is seen to be there.
    accused: Option<Suspect>,
}

impl Suspects {
    /// What is to be done about what is published now.
    pub fn mode(&mut self, now: Instant) -> Mode {
        if self.on_trial.is_some() || !self.left.is_empty() {
            return Mode::Trial;
        }
        if self.closures == 0 {
            return Mode::Calm;
        }
        if self.connected.is_some_and(|at| now >= at + HELD) {
            self.closures = 0;
            self.noted.clear();
            return Mode::Calm;
        }
        Mode::Recording
    }

    /// How many topics are still to be tried.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// A connection stands. Gives what was found guilty at the end of the last one.
    pub fn connected(&mut self, now: Instant) -> Option<Suspect> {
        self.connected = Some(now);
        self.accused.take()
    }

    /// There was no connection: the broker is down, and nothing that was published is the reason.
    pub fn unreachable(&mut self) {
        if let Some(accused) = self.accused.take() {
            self.left.push_front(accused);
        }
    }

    /// Something was published.
    pub fn published(&mut self, now: Instant) {
        self.published = Some(now);
    }

    /// This was published, behind so many PINGREQs.
    pub fn note(&mut self, pings: u32, suspect: Suspect) {
        if self.noted.len() >= NOTED_MAX {
            self.noted.pop_front();
        }
        self.noted.push_back((pings, suspect));
    }

    /// The broker has answered PINGREQs. `has_answered` tells of so many whether they are.
    pub fn answered(&mut self, has_answered: impl Fn(u32) -> bool) {
        while let Some((pings, _)) = self.noted.front()
            && has_answered(pings.wrapping_add(1))
        {
            self.noted.pop_front();
        }
        if (self.on_trial.as_ref()).is_some_and(|(pings, _)| has_answered(*pings)) {
            self.on_trial = None;
        }
    }

    /// What is to be published next, alone; `None` while another one is on trial.
    pub fn next_one(&mut self) -> Option<Suspect> {
        if self.on_trial.is_some() {
            return None;
        }
        self.left.pop_front()
    }

    /// This was published alone, with a PINGREQ behind it, and so many are to be answered then.
    pub fn try_one(&mut self, pings: u32, suspect: Suspect) {
        self.on_trial = Some((pings, suspect));
    }

    /// A connection that stood has ended. Tells whether something was found out, so that the next
    /// connection is another one than this.
    pub fn ended(&mut self, now: Instant, ending: Ending) -> bool {
        let held = self.connected.take().is_some_and(|at| now >= at + HELD);
        let soon = self.published.take().is_some_and(|at| now <= at + SOON);
        let noted = std::mem::take(&mut self.noted);
        if ending == Ending::Other {
            self.left.clear();
            self.on_trial = None;
            self.closures = 0;
            return false;
        }
        if let Some((_, suspect)) = self.on_trial.take() {
            self.accused = Some(suspect);
            return true;
        }
        if !soon {
            self.closures = 0;
            return false;
        }
        self.closures = if held { 1 } else { self.closures + 1 };
        if self.closures < 2 || !self.left.is_empty() {
            return false;
        }
        // The newest first: the broker stopped at one of them, and took most of those before.
        let mut seen = HashSet::new();
        for (_, suspect) in noted.into_iter().rev() {
            if seen.insert(suspect.clone()) {
                self.left.push_back(suspect);
            }
        }
        !self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // any moment will do

    use super::*;

    fn suspect(topic: &str) -> Suspect {
        Suspect {
            topic: topic.into(),
            empty: false,
        }
    }

    /// A connection that is closed while these wait for the broker to take them.
    fn killed(suspects: &mut Suspects, now: Instant, topics: &[&str]) -> bool {
        suspects.connected(now);
        suspects.published(now);
        if suspects.mode(now) == Mode::Recording {
            for topic in topics {
                suspects.note(0, suspect(topic));
            }
        }
        suspects.ended(now + SOON, Ending::Closed)
    }

    #[test]
    fn s4_12_after_two_closures_the_last_batch_is_tried_one_by_one() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        assert_eq!(suspects.mode(now), Mode::Calm);
        assert!(!killed(&mut suspects, now, &[]));
        assert_eq!(suspects.mode(now), Mode::Recording);
        suspects.connected(now);
        suspects.published(now);
        suspects.note(0, suspect("taken"));
        suspects.note(1, suspect("a"));
        suspects.note(1, suspect("b"));
        suspects.note(1, suspect("a"));
        suspects.answered(|pings| pings <= 1);
        assert!(suspects.ended(now, Ending::Closed));

        assert_eq!((suspects.mode(now), suspects.left()), (Mode::Trial, 2));
        assert_eq!(suspects.connected(now), None);
        let first = suspects.next_one().unwrap();
        assert_eq!(&*first.topic, "a");
        suspects.try_one(1, first);
        assert_eq!(suspects.next_one(), None);
        suspects.answered(|pings| pings <= 1);
        let second = suspects.next_one().unwrap();
        suspects.try_one(2, second);
        assert!(suspects.ended(now, Ending::Closed));
        assert_eq!(suspects.connected(now), Some(suspect("b")));
        assert_eq!(suspects.mode(now), Mode::Recording);
        assert_eq!(suspects.mode(now + HELD), Mode::Calm);
    }

    #[test]
    fn s4_12_a_broker_that_is_down_accuses_nobody() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        killed(&mut suspects, now, &[]);
        killed(&mut suspects, now, &["a"]);
        suspects.connected(now);
        let first = suspects.next_one().unwrap();
        suspects.try_one(1, first);
        assert!(suspects.ended(now, Ending::Closed));
        suspects.unreachable();
        assert_eq!(suspects.connected(now), None);
        assert_eq!(suspects.next_one(), Some(suspect("a")));
    }

    #[test]
    fn s4_12_only_closures_just_after_publishes_and_in_a_row_count() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        killed(&mut suspects, now, &[]);
        // One that ends otherwise, or later.
        suspects.connected(now);
        suspects.published(now);
        suspects.ended(now, Ending::Other);
        assert_eq!(suspects.mode(now), Mode::Calm);
        killed(&mut suspects, now, &[]);
        suspects.connected(now);
        suspects.published(now);
        suspects.ended(now + SOON * 2, Ending::Closed);
        assert_eq!(suspects.mode(now), Mode::Calm);
        // One that held long is a first one again.
        killed(&mut suspects, now, &[]);
        suspects.connected(now);
        suspects.published(now + HELD);
        assert!(!suspects.ended(now + HELD, Ending::Closed));
        assert_eq!(suspects.mode(now), Mode::Recording);
    }
}
