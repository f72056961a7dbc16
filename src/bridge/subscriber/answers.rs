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
//!
//! Clients that give response topics are told apart by these: each has a separate line, so that a read
//! that hangs holds up nobody else, and a share of what may wait. All others share one line; what one of
//! them asks to be published comes after all that was asked before it, since any of it may be its own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bridge::store::items::ItemRef;
use crate::bridge::subscriber::response::Response;
use crate::model::request::ResponseAddress;

/// How many full republishes a broker gets in any second (§5.3).
const REPUBLISHES_PER_SECOND: usize = 3;
/// How many requests may wait for their turn: of clients that cannot be told apart, and as many of the
/// others.
pub const WAITING_MAX: usize = 4096;
/// What the completion messages that wait may need, counted in pieces of memory; for both kinds of
/// clients too.
const ECHO_PIECES_MAX: usize = 16_384;
/// The bytes of a piece: about what a completion needs that carries nothing back.
const PIECE_BYTES: usize = 64;

/// What a completion message carries back: a JSON text.
pub type Echo = Option<Box<str>>;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Requester {
    /// A client of a broker of whom nothing is known.
    Anybody,
    /// One that gave this response topic.
    Topic(Arc<str>),
    /// One that is connected to us.
    Client(u64),
}

impl Requester {
    /// Who asks and wants to be told there, if anywhere.
    pub fn of(respond_to: Option<&ResponseAddress>) -> Requester {
        match respond_to {
            None => Requester::Anybody,
            Some(ResponseAddress {
                client: Some(client),
                ..
            }) => Requester::Client(*client),
            Some(to) => Requester::Topic((&*to.topic).into()),
        }
    }

    /// Whether what the one is sent reaches the other too: through a broker it reaches all.
    fn hears(&self, other: &Requester) -> bool {
        let is_client = |who: &Requester| matches!(who, Requester::Client(_));
        self == other || !(is_client(self) || is_client(other))
    }
}

#[derive(Debug)]
enum Waiting {
    /// A read whose answer is not there yet.
    Read,
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
    Everything(Vec<(Requester, Echo)>),
}

/// What waits for one requester, each with the number of its request.
type Line = VecDeque<(u64, Waiting)>;

/// How much of something waits: of clients that cannot be told apart, and of each of the others.
#[derive(Debug, Default)]
struct Shares {
    nobodys: usize,
    others: usize,
    each: HashMap<Requester, usize>,
}

impl Shares {
    /// Whether so much more of one requester may wait: no more than what it would leave free.
    fn has_room(&self, who: &Requester, amount: usize, max: usize) -> bool {
        match who {
            Requester::Anybody => self.nobodys + amount <= max,
            who @ (Requester::Topic(_) | Requester::Client(_)) => {
                let mine = self.each.get(who).copied().unwrap_or_default() + amount;
                mine <= max.saturating_sub(self.others + amount)
            }
        }
    }

    fn take(&mut self, who: &Requester, amount: usize) {
        match who {
            Requester::Anybody => self.nobodys += amount,
            who @ (Requester::Topic(_) | Requester::Client(_)) => {
                self.others += amount;
                *self.each.entry(who.clone()).or_default() += amount;
            }
        }
    }

    fn give_back(&mut self, who: &Requester, amount: usize) {
        match who {
            Requester::Anybody => self.nobodys -= amount,
            who @ (Requester::Topic(_) | Requester::Client(_)) => {
                self.others -= amount;
                if let Some(each) = self.each.get_mut(who) {
                    *each -= amount;
                    if *each == 0 {
                        self.each.remove(who);
                    }
                }
            }
        }
    }
}

/// Requests that wait for their turn.
#[derive(Debug, Default)]
pub struct Answers {
    /// Of each requester that has any.
    lines: HashMap<Requester, Line>,
    requests: u64,
    waiting: Shares,
    /// Completions of a republish that must wait for its time.
    due: Vec<(Requester, Echo)>,
    /// Pieces of memory of all completions.
    echoes: Shares,
    /// When the last republishes began.
    republished: VecDeque<Instant>,
}

impl Answers {
    /// Forgets all requests: the broker is lost.
    pub fn clear(&mut self) {
        let republished = std::mem::take(&mut self.republished);
        *self = Answers {
            // A ticket of before finds nothing.
            requests: self.requests,
            republished,
            ..Answers::default()
        };
    }

    /// Whether a republish waits for its turn or its time.
    pub fn republish_waits(&self) -> bool {
        let republish = |(_, waiting): &(u64, Waiting)| matches!(waiting, Waiting::Republish(_));
        !self.due.is_empty() || self.lines.values().flatten().any(republish)
    }

    fn push(&mut self, who: &Requester, waiting: Waiting) -> u64 {
        self.requests += 1;
        self.waiting.take(who, 1);
        let line = self.lines.entry(who.clone()).or_default();
        line.push_back((self.requests, waiting));
        self.requests
    }

    fn last(&self, who: &Requester) -> Option<&Waiting> {
        Some(&self.lines.get(who)?.back()?.1)
    }

    /// Queues the answer to a request for the serial (§5.2). Two in a row need one. `false` where too much
    /// waits already.
    pub fn ask_serial(&mut self, who: &Requester) -> bool {
        if matches!(self.last(who), Some(Waiting::Serial)) {
            return true;
        }
        let has_room = self.waiting.has_room(who, 1, WAITING_MAX);
        if has_room {
            self.push(who, Waiting::Serial);
        }
        has_room
    }

    /// Whether a requester's full republish can be queued.
    pub fn may_republish(&self, who: &Requester, echo: &Echo) -> bool {
        self.echoes.has_room(who, pieces(echo), ECHO_PIECES_MAX)
    }

    /// Whether one that waits already answers this one too.
    fn is_asked(&self, who: &Requester, echo: &Echo) -> bool {
        match self.last(who) {
            Some(Waiting::Republish(last)) => last == echo,
            Some(Waiting::Read | Waiting::Answer(_) | Waiting::Serial | Waiting::Respond(_)) => {
                false
            }
            None => self.is_due(who, echo),
        }
    }

    /// Whether one that waits for its time answers this one too.
    fn is_due(&self, who: &Requester, echo: &Echo) -> bool {
        let same = |(other, due): &(Requester, Echo)| due == echo && who.hears(other);
        self.due.iter().any(same)
    }

    /// Queues a full republish. `false` where too much waits already.
    pub fn ask_republish(&mut self, who: &Requester, echo: Echo) -> bool {
        if self.is_asked(who, &echo) {
            return true;
        }
        if !self.may_republish(who, &echo) {
            return false;
        }
        self.echoes.take(who, pieces(&echo));
        self.push(who, Waiting::Republish(echo));
        true
    }

    /// Queues the answer to a read, and gives its ticket. `None` where too many wait already.
    pub fn ask_read(&mut self, who: &Requester) -> Option<u64> {
        let has_room = self.waiting.has_room(who, 1, WAITING_MAX);
        has_room.then(|| self.push(who, Waiting::Read))
    }

    /// Queues what a client is told. `false` where too much waits already.
    pub fn ask_respond(&mut self, response: Response) -> bool {
        let who = Requester::of(Some(&response.to));
        let has_room = self.waiting.has_room(&who, 1, WAITING_MAX);
        if has_room {
            self.push(&who, Waiting::Respond(Box::new(response)));
        }
        has_room
    }

    /// The line that has a ticket, and where.
    fn place(&mut self, ticket: u64) -> Option<(&mut Line, usize)> {
        self.lines.values_mut().find_map(|line| {
            let at = line.partition_point(|(number, _)| *number < ticket);
            let (number, waiting) = line.get(at)?;
            let is_it = *number == ticket && matches!(waiting, Waiting::Read);
            is_it.then_some((line, at))
        })
    }

    /// Puts what a client is told of a read behind its answer; call it before that comes.
    pub fn respond_after(&mut self, ticket: u64, response: Response) {
        let who = Requester::of(Some(&response.to));
        if let Some((line, at)) = self.place(ticket) {
            line.insert(at + 1, (ticket, Waiting::Respond(Box::new(response))));
            self.waiting.take(&who, 1);
        }
    }

    /// A read has ended: with these items, or with none.
    pub fn answer(&mut self, ticket: u64, slots: Vec<ItemRef>) {
        if let Some((line, at)) = self.place(ticket)
            && let Some((_, waiting)) = line.get_mut(at)
        {
            *waiting = Waiting::Answer(slots);
        }
    }

    /// The requester whose request is the oldest of those that wait for nothing.
    fn ready(&self) -> Option<Requester> {
        let first = |line: &Line| {
            line.front()
                .map(|(number, waiting)| (*number, matches!(waiting, Waiting::Read)))
        };
        let fronts = self.lines.values().filter_map(first);
        let oldest_read = fronts
            .filter(|(_, is_read)| *is_read)
            .map(|(number, _)| number)
            .min();
        let ready = self.lines.iter().filter_map(|(who, line)| {
            let (number, waiting) = line.front()?;
            let waits = match waiting {
                Waiting::Read => true,
                Waiting::Republish(_) => {
                    *who == Requester::Anybody && oldest_read.is_some_and(|read| read < *number)
                }
                Waiting::Answer(_) | Waiting::Serial | Waiting::Respond(_) => false,
            };
            (!waits).then_some((*number, who))
        });
        ready
            .min_by_key(|(number, _)| *number)
            .map(|(_, who)| who.clone())
    }

    /// What is to be sent next, in the order of the requests. No republish begins where that is not
    /// allowed now.
    pub fn next(&mut self, now: Instant, may_republish: bool) -> Option<Answer> {
        while let Some(who) = self.ready() {
            let line = self.lines.get_mut(&who)?;
            let (_, waiting) = line.pop_front()?;
            if line.is_empty() {
                self.lines.remove(&who);
            }
            self.waiting.give_back(&who, 1);
            match waiting {
                Waiting::Answer(slots) => return Some(Answer::Items(slots)),
                Waiting::Serial => return Some(Answer::Serial),
                Waiting::Respond(response) => return Some(Answer::Respond(response)),
                Waiting::Republish(echo) if self.is_due(&who, &echo) => {
                    self.echoes.give_back(&who, pieces(&echo));
                }
                Waiting::Republish(echo) => self.due.push((who, echo)),
                // Never ready.
                Waiting::Read => return None,
            }
        }
        if !may_republish || self.due.is_empty() || self.budget_at().is_some_and(|at| at > now) {
            return None;
        }
        self.republished.push_back(now);
        while self.republished.len() > REPUBLISHES_PER_SECOND {
            self.republished.pop_front();
        }
        let due = std::mem::take(&mut self.due);
        for (who, echo) in &due {
            self.echoes.give_back(who, pieces(echo));
        }
        Some(Answer::Everything(due))
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

/// How much memory a completion needs that waits.
fn pieces(echo: &Echo) -> usize {
    1 + echo.as_ref().map_or(0, |echo| echo.len() / PIECE_BYTES)
}

#[cfg(test)]
mod tests;
