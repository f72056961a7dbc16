//! D-Bus calls: what to call, and which answers are awaited until when.
//!
//! A call is an output and its answer an input, so nothing ever waits for an answer while signals
//! pile up. Every call ends: with an answer, an error, or its deadline.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::items::ServiceId;
use super::responses::Writer;
use crate::model::request::ResponseAddress;
use crate::model::value::BusValue;

/// The number of a call, which is also its D-Bus serial. The upper half of the range is ours, the
/// lower one is left to the D-Bus library.
pub type CallId = u32;

/// Where our serials begin.
pub const CALL_ID_MIN: CallId = 1 << 31;

/// One D-Bus call to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its number.
    pub id: CallId,
    /// The unique or well-known name of whom to call.
    pub destination: Box<str>,
    /// The object path.
    pub path: Box<str>,
    /// What to call.
    pub method: Method,
}

/// The methods that we call.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// The bus's `AddMatch` with this rule.
    AddMatch(Box<str>),
    /// The bus's `ListNames`.
    ListNames,
    /// The bus's `GetNameOwner` of this name.
    GetNameOwner(Box<str>),
    /// An item's `GetItems`.
    GetItems,
    /// An item's `GetValue`.
    GetValue,
    /// An item's `SetValue`.
    SetValue(BusValue),
    /// Any object's `Introspect`.
    Introspect,
}

/// What an awaited answer is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Purpose {
    /// A match rule; the one to ask for instead where the bus does not understand it.
    Match(Option<&'static str>),
    /// The names on the bus.
    Names,
    /// The owner of this name.
    Owner(Box<str>),
    /// A step of the service's scan. The number tells a scan from an earlier one.
    Scan {
        /// Whose.
        service: ServiceId,
        /// Which scan.
        scan: u32,
        /// Which step.
        step: Step,
    },
    /// A client's read.
    Read {
        /// Whose broker.
        broker: usize,
        /// Which of the broker's reads.
        ticket: u64,
        /// Of which service.
        service: ServiceId,
        /// Of which path.
        path: Box<str>,
        /// Whether that is an item, or a node above items.
        leaf: bool,
        /// Where the client wants to be told of it.
        respond_to: Option<Box<ResponseAddress>>,
    },
    /// A client's write.
    Write {
        /// Whose broker.
        broker: usize,
        /// Its topic, for the log.
        topic: Box<str>,
        /// Who wants to be told of it.
        writer: Option<Box<Writer>>,
        /// Whether the value is one: a service may quote it in its answer.
        secret: bool,
    },
    /// What a service made of a write that it took.
    Confirm {
        /// Whose broker.
        broker: usize,
        /// Who wants to be told of it.
        writer: Box<Writer>,
    },
}

/// The steps of a scan (§2.2).
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// `GetItems` on `/`.
    Items,
    /// `GetValue` on `/`.
    Tree,
    /// `Introspect` on this node.
    Node(Box<str>),
    /// `GetValue` on this item.
    Leaf(Box<str>),
}

/// All calls that are not answered yet.
#[derive(Debug)]
pub struct Calls {
    next: CallId,
    out: VecDeque<Call>,
    pending: HashMap<CallId, (Purpose, Instant)>,
    deadlines: BTreeSet<(Instant, CallId)>,
    /// How many of the pending ones must not be held up.
    urgent: usize,
    writes: usize,
}

impl Calls {
    /// No calls.
    pub fn new() -> Calls {
        Calls {
            next: CALL_ID_MIN,
            out: VecDeque::new(),
            pending: HashMap::new(),
            deadlines: BTreeSet::new(),
            urgent: 0,
            writes: 0,
        }
    }

    /// Makes a call, whose answer is awaited for `timeout`.
    pub fn call(
        &mut self,
        now: Instant,
        timeout: Duration,
        destination: &str,
        path: &str,
        method: Method,
        purpose: Purpose,
    ) {
        let id = self.next;
        self.next = self.next.checked_add(1).unwrap_or(CALL_ID_MIN);
        self.urgent += usize::from(is_urgent(&purpose));
        self.writes += usize::from(is_write(&purpose));
        self.deadlines.insert((now + timeout, id));
        self.pending.insert(id, (purpose, now + timeout));
        self.out.push_back(Call {
            id,
            destination: destination.into(),
            path: path.into(),
            method,
        });
    }

    /// The next call to make.
    pub fn poll(&mut self) -> Option<Call> {
        self.out.pop_front()
    }

    /// Whether there are calls to make.
    pub fn has_calls(&self) -> bool {
        !self.out.is_empty()
    }

    /// Ends a call: what it was for, or `None` where nobody awaits it any more.
    pub fn end(&mut self, id: CallId) -> Option<Purpose> {
        let (purpose, deadline) = self.pending.remove(&id)?;
        self.deadlines.remove(&(deadline, id));
        self.urgent -= usize::from(is_urgent(&purpose));
        self.writes -= usize::from(is_write(&purpose));
        Some(purpose)
    }

    /// Ends one call whose deadline has come.
    pub fn expire(&mut self, now: Instant) -> Option<Purpose> {
        let &(deadline, id) = self.deadlines.first()?;
        if deadline > now { None } else { self.end(id) }
    }

    /// Ends all calls: the bus is gone.
    pub fn end_all(&mut self) -> Vec<Purpose> {
        self.out.clear();
        let ids: Vec<CallId> = self.deadlines.iter().map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| self.end(id)).collect()
    }

    /// When the next deadline comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many calls are not answered.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many of them are writes (§5.6).
    pub fn writes(&self) -> usize {
        self.writes
    }

    /// Whether an answer is awaited that must not be held up by gathering.
    pub fn urgent_awaited(&self) -> bool {
        self.urgent > 0
    }
}

impl Default for Calls {
    fn default() -> Calls {
        Calls::new()
    }
}

fn is_write(purpose: &Purpose) -> bool {
    matches!(purpose, Purpose::Write { .. } | Purpose::Confirm { .. })
}

/// Whether gathering would hold somebody up: a client, or a walk that asks step by step.
fn is_urgent(purpose: &Purpose) -> bool {
    match purpose {
        Purpose::Read { .. } | Purpose::Write { .. } | Purpose::Confirm { .. } => true,
        Purpose::Scan { step, .. } => matches!(step, Step::Node(_) | Step::Leaf(_)),
        Purpose::Match(_) | Purpose::Names | Purpose::Owner(_) => false,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    #[test]
    fn every_call_ends_once() {
        let start = Instant::now();
        let mut calls = Calls::new();
        for seconds in [3, 1, 2] {
            let timeout = Duration::from_secs(seconds);
            calls.call(
                start,
                timeout,
                "org.freedesktop.DBus",
                "/",
                Method::ListNames,
                Purpose::Names,
            );
        }
        let ids: Vec<_> = std::iter::from_fn(|| calls.poll())
            .map(|call| call.id)
            .collect();
        assert_eq!(ids, [CALL_ID_MIN, CALL_ID_MIN + 1, CALL_ID_MIN + 2]);
        assert_eq!(calls.end(CALL_ID_MIN), Some(Purpose::Names));
        assert_eq!(calls.end(CALL_ID_MIN), None);
        assert_eq!(calls.expire(start), None);
        assert_eq!(
            calls.expire(start + Duration::from_secs(1)),
            Some(Purpose::Names)
        );
        assert_eq!(calls.expire(start + Duration::from_secs(1)), None);
        assert_eq!(calls.end_all().len(), 1);
        assert_eq!((calls.pending(), calls.deadline()), (0, None));
    }
}
