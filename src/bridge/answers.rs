//! Requests of one broker that wait for their turn, and the budget of full republishes (§5.3, §5.5).
//!
//! ```text
//! ask_read ───────▶ Read ── answer ──▶ Answer ─┐
//! ask_serial ─────▶ Serial ────────────────────┼─▶ next, in the order of the requests
//! ask_respond ────▶ Respond ───────────────────┤
//! ask_republish ──▶ Republish ─▶ due ─ budget ─┘
//! ```
//!
//! A read that precedes a keep-alive is answered before the republish that this triggers. At most
//! three republishes begin in any second; requests that one of them answers share it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::items::ItemRef;
use super::responses::Response;

/// How many full republishes a broker gets in any second (§5.3).
const REPUBLISHES_PER_SECOND: usize = 3;
/// How many completion messages may wait for a republish.
pub const COMPLETIONS_MAX: usize = 100;
/// How many reads may wait for their turn to be answered.
const WAITING_MAX: usize = 4096;

/// What a completion message carries back: a JSON text.
pub type Echo = Option<Box<str>>;

#[derive(Debug)]
enum Waiting {
    /// A read whose answer is not there yet.
    Read(u64),
    /// What a read brought: nothing, where it failed.
    Answer(Vec<ItemRef>),
    Serial,
    Respond(Box<Response>),
    Republish(Echo),
}

/// What is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// These items.
    Items(Vec<ItemRef>),
    /// `system/0/Serial` (§5.2).
    Serial,
    /// What a client is told of its request (§5.8).
    Respond(Box<Response>),
    /// Everything, and then one completion message for each of these.
    Everything(Vec<Echo>),
}

/// Requests that wait for their turn.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: VecDeque<Waiting>,
    tickets: u64,
    /// Completions of a republish that must wait for its time.
    due: Vec<Echo>,
    /// When the last republishes began.
    republished: VecDeque<Instant>,
}

impl Answers {
    /// Forgets all requests: the broker is lost.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.due.clear();
    }

    /// Whether a republish waits for its turn or its time.
    pub fn republish_waits(&self) -> bool {
        let republish = |waiting: &Waiting| matches!(waiting, Waiting::Republish(_));
        !self.due.is_empty() || self.waiting.iter().any(republish)
    }

    /// Queues the answer to a request for the serial (§5.2). Two in a row need one.
    pub fn ask_serial(&mut self) {
        if !matches!(self.waiting.back(), Some(Waiting::Serial)) {
            self.waiting.push_back(Waiting::Serial);
        }
    }

    /// Queues a full republish. `false` where too many different ones wait already.
    pub fn ask_republish(&mut self, echo: Echo) -> bool {
        // One that waits already answers this one too.
        let same = match self.waiting.back() {
            Some(Waiting::Republish(last)) => *last == echo,
            Some(Waiting::Read(_) | Waiting::Answer(_) | Waiting::Serial | Waiting::Respond(_)) => {
                false
            }
            None => self.due.contains(&echo),
        };
        if same {
            return true;
        }
        let republish = |waiting: &&Waiting| matches!(waiting, Waiting::Republish(_));
        if self.waiting.iter().filter(republish).count() + self.due.len() >= COMPLETIONS_MAX {
            return false;
        }
        self.waiting.push_back(Waiting::Republish(echo));
        true
    }

    /// Queues the answer to a read, and gives its ticket. `None` where too many wait already.
    pub fn ask_read(&mut self) -> Option<u64> {
        if self.waiting.len() >= WAITING_MAX {
            return None;
        }
        self.tickets += 1;
        self.waiting.push_back(Waiting::Read(self.tickets));
        Some(self.tickets)
    }

    /// Queues what a client is told. `false` where too much waits already.
    pub fn ask_respond(&mut self, response: Response) -> bool {
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        self.waiting.push_back(Waiting::Respond(Box::new(response)));
        true
    }

    /// Puts what a client is told of a read behind its answer; call it before that comes.
    pub fn respond_after(&mut self, ticket: u64, response: Response) {
        let this = |waiting: &Waiting| matches!(waiting, Waiting::Read(t) if *t == ticket);
        if let Some(place) = self.waiting.iter().position(this) {
            let response = Waiting::Respond(Box::new(response));
            self.waiting.insert(place + 1, response);
        }
    }

    /// A read has ended: with these items, or with none.
    pub fn answer(&mut self, ticket: u64, slots: Vec<ItemRef>) {
        let this = |waiting: &&mut Waiting| matches!(waiting, Waiting::Read(t) if *t == ticket);
        if let Some(waiting) = self.waiting.iter_mut().find(this) {
            *waiting = Waiting::Answer(slots);
        }
    }

    /// What is to be sent next, in the order of the requests.
    pub fn next(&mut self, now: Instant) -> Option<Answer> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting {
                Waiting::Read(ticket) => {
                    self.waiting.push_front(Waiting::Read(ticket));
                    break;
                }
                Waiting::Answer(slots) => return Some(Answer::Items(slots)),
                Waiting::Serial => return Some(Answer::Serial),
                Waiting::Respond(response) => return Some(Answer::Respond(response)),
                Waiting::Republish(echo) if self.due.contains(&echo) => {}
                Waiting::Republish(echo) => self.due.push(echo),
            }
        }
        if self.due.is_empty() || self.budget_at().is_some_and(|at| at > now) {
            return None;
        }
        self.republished.push_back(now);
        while self.republished.len() > REPUBLISHES_PER_SECOND {
            self.republished.pop_front();
        }
        Some(Answer::Everything(std::mem::take(&mut self.due)))
    }

    /// When a republish that waits for its time may begin.
    pub fn deadline(&self) -> Option<Instant> {
        self.budget_at().filter(|_| !self.due.is_empty())
    }

    /// Until when the budget is used up; `None` where it is not.
    fn budget_at(&self) -> Option<Instant> {
        let used_up = self.republished.len() >= REPUBLISHES_PER_SECOND;
        let first = self.republished.front().filter(|_| used_up)?;
        Some(*first + Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // any moment will do

    use super::super::items::{Items, ServiceId};
    use super::*;
    use crate::model::name::{DeviceInstance, ServiceName};
    use crate::schema::Row;

    #[test]
    fn s5_5_answers_come_in_the_order_of_the_requests() {
        let now = Instant::now();
        let mut items = Items::new(0);
        let name = ServiceName::new("com.victronenergy.some.a").unwrap();
        let device = items
            .bind(ServiceId(0), &name, &DeviceInstance::absent())
            .unwrap();
        let (slot, _) = items.add(device, "/One/Path", Row::UNKNOWN);
        let item = items.item_ref(slot).unwrap();
        let mut answers = Answers::default();
        let first = answers.ask_read().unwrap();
        let second = answers.ask_read().unwrap();
        assert!(answers.ask_republish(Some("1".into())));
        answers.ask_serial();
        assert_eq!(answers.next(now), None);
        answers.answer(second, vec![item]);
        assert_eq!(answers.next(now), None);
        answers.answer(first, vec![]);
        assert_eq!(answers.next(now), Some(Answer::Items(vec![])));
        assert_eq!(answers.next(now), Some(Answer::Items(vec![item])));
        assert_eq!(answers.next(now), Some(Answer::Serial));
        assert_eq!(
            answers.next(now),
            Some(Answer::Everything(vec![Some("1".into())]))
        );
        assert_eq!(answers.next(now), None);
    }

    #[test]
    fn s5_3_three_republishes_a_second_and_every_echo_comes_back() {
        let start = Instant::now();
        let mut answers = Answers::default();
        for _ in 0..3 {
            assert!(answers.ask_republish(None));
            assert_eq!(answers.next(start), Some(Answer::Everything(vec![None])));
        }
        for echo in ["1", "2", "2"] {
            assert!(answers.ask_republish(Some(echo.into())));
            assert_eq!(answers.next(start), None);
        }
        assert!(answers.republish_waits());
        let later = start + Duration::from_secs(1);
        assert_eq!(answers.deadline(), Some(later));
        let both = vec![Some("1".into()), Some("2".into())];
        assert_eq!(answers.next(later), Some(Answer::Everything(both)));
        let refused = (0..200)
            .filter(|n| !answers.ask_republish(Some(n.to_string().into())))
            .count();
        assert_eq!(refused, 100);
    }
}
