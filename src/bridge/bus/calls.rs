//! D-Bus calls: what to call, which answers are awaited until when, and how many calls there may be.
//!
//! A call is an output and its answer an input, so nothing ever waits for an answer while signals
//! pile up. Every call ends: with an answer, an error, or its deadline.
//!
//! Calls are scarce (§2.9). dbus-daemon allows a connection 128 pending replies
//! (`max_replies_per_connection`, dbus-daemon(1)), and a call that we gave up on is pending there until
//! its service answers or leaves. So calls to services have budgets, in all and per peer:
//!
//! ```text
//!              no room               poll                answer
//! call ──▶ waiting, in turn ──────────▶ sent ─────────────────────────▶ ended
//!    │            │ deadline              │ deadline          late answer ▲
//!    │            ▼                       ▼                               │
//!    │          ended                 given up: keeps its place ──────────┘
//!    │                                    │ nothing else was answered since
//!    │                                    ▼
//!    └──────────────────────────▶ the peer owes answers: it is asked nothing
//! ```

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bridge::store::ids::BrokerId;
use crate::bridge::store::items::ServiceId;
use crate::codec::bus_item;
use crate::codec::frame::Frame;
use crate::model::request::{Rejection, ResponseAddress};
use crate::model::value::BusValue;

/// The bus's own name.
pub const BUS: &str = "org.freedesktop.DBus";
/// The bus's own object.
pub const BUS_PATH: &str = "/org/freedesktop/DBus";

/// The number of a call, which is also its D-Bus serial. The upper half of the range is ours, the
/// lower one is left to the D-Bus library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u32);

impl CallId {
    /// Where ours begin.
    const MIN: CallId = CallId(1 << 31);

    /// The call that a reply with this serial answers; `None` where it is one of the D-Bus library's.
    pub fn of_reply(serial: u32) -> Option<CallId> {
        (serial >= CallId::MIN.0).then_some(CallId(serial))
    }

    /// The serial to send the call with.
    pub fn serial(self) -> u32 {
        self.0
    }

    fn next(self) -> CallId {
        self.0.checked_add(1).map_or(CallId::MIN, CallId)
    }
}

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
    /// What a client asked for.
    Client(ClientCall),
}

/// A call that a client's request made, with what its answer is for.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientCall {
    /// A client's read.
    Read {
        /// Whose broker.
        broker: BrokerId,
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
        broker: BrokerId,
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
        broker: BrokerId,
        /// Who wants to be told of it.
        writer: Box<Writer>,
    },
}

/// A write whose client wants to be told how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Where it is told.
    pub to: ResponseAddress,
    /// The topic of the request, for the log.
    pub topic: Box<str>,
    /// To which service the write went.
    pub service: ServiceId,
    /// To which path.
    pub path: Box<str>,
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

/// Scans and clients' reads that may be at the bus at one time, those that we gave up on included.
pub const READS_MAX: usize = 32;
/// The same for writes. With the reads these are 96 of the 128 that dbus-daemon allows by default.
pub const WRITES_MAX: usize = 64;
/// Scans and reads at one peer, those that we gave up on included.
pub const PEER_READS_MAX: usize = 4;
/// Places, at each peer and in all, that scans leave to clients' reads.
const KEPT_FOR_READS: usize = 1;
/// One peer takes no more than this share of the places that are free: how many hung ones it takes to
/// use up all of them.
const SHARE: usize = 8;
/// How long to wait after the bus said that its limits are exceeded.
const LIMITS_PAUSE: Duration = Duration::from_millis(250);
/// How the bus says so. The call was not delivered then (dbus-daemon's `bus_connections_expect_reply`).
const LIMITS_EXCEEDED: &str = "org.freedesktop.DBus.Error.LimitsExceeded";

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The time is up.
    TimedOut,
    /// Its peer owes earlier answers, and was not asked.
    Silent,
    /// The time was up before there was room for the call.
    NoTurn,
    /// The bus is gone.
    BusGone,
}

/// What came of a call.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// A reply.
    Reply(&'a Frame<'a>),
    /// A D-Bus error.
    Error(&'a Frame<'a>),
    /// Nothing.
    Lost(Missing),
}

impl Outcome<'_> {
    /// The outcome as a reason, where it is not a reply.
    pub fn rejection(self) -> Rejection {
        match self {
            Outcome::Reply(_) => Rejection::Answer,
            Outcome::Error(frame) => Rejection::BusError {
                name: frame.error_name.into(),
                message: bus_item::error_message(frame).into_boxed_str(),
            },
            Outcome::Lost(Missing::Silent) => Rejection::Silent,
            Outcome::Lost(Missing::NoTurn) => Rejection::NoTurn,
            Outcome::Lost(Missing::TimedOut | Missing::BusGone) => Rejection::NoAnswer,
        }
    }
}

/// A call that ended without an answer.
#[derive(Debug, PartialEq)]
pub struct Unanswered {
    /// What it was for.
    pub purpose: Purpose,
    /// Why it has no answer.
    pub why: Missing,
    /// The peer that is asked nothing more, where it is this call that settled that.
    pub silenced: Option<Arc<str>>,
}

/// What an answer is.
#[derive(Debug, Default, PartialEq)]
pub struct Answered {
    /// What the call was for; `None` where nobody awaits it any more, or it is not who was asked.
    pub purpose: Option<Purpose>,
    /// Whether its peer owed answers, and may be asked again.
    pub again: bool,
    /// Whether another connection got the call, which had the name by then: its answer does not count.
    pub another: bool,
}

/// Who is called.
#[derive(Debug, Clone, Copy)]
pub struct Callee<'a> {
    /// The unique name of the connection: whose answer counts (§2.10).
    pub owner: &'a str,
    /// The name that the call goes to.
    pub destination: &'a str,
}

/// Which budget a call is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Calls to the bus itself, which waits for nobody and does not count them.
    Bus,
    Scan,
    Read,
    Write,
}

#[derive(Debug)]
struct Pending {
    lane: Lane,
    peer: Arc<str>,
    /// `None` where we gave up.
    purpose: Option<Purpose>,
    deadline: Instant,
    /// Until we give up.
    call: Option<Call>,
    /// When it was sent, counted in calls.
    sent: Option<u64>,
    /// The service's name, where the call went to that: another owner of it may have got it.
    name: Option<Box<str>>,
}

/// Calls that were sent and not answered, those that we gave up on included.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct AtBus {
    scans: usize,
    reads: usize,
    writes: usize,
}

impl AtBus {
    fn of(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Scan => &mut self.scans,
            Lane::Bus | Lane::Read => &mut self.reads,
            Lane::Write => &mut self.writes,
        }
    }

    /// How many more of a lane there may be, where reads and scans together have `reads_max`.
    fn free(&self, lane: Lane, reads_max: usize) -> usize {
        let reads = reads_max.saturating_sub(self.scans + self.reads);
        match lane {
            Lane::Scan => reads.min((reads_max - KEPT_FOR_READS).saturating_sub(self.scans)),
            Lane::Bus | Lane::Read => reads,
            Lane::Write => WRITES_MAX.saturating_sub(self.writes),
        }
    }
}

/// A connection with calls.
#[derive(Debug, Default)]
struct Peer {
    scans: VecDeque<CallId>,
    reads: VecDeque<CallId>,
    writes: VecDeque<CallId>,
    at_bus: AtBus,
    /// The newest call that it answered, counted in calls.
    answered: u64,
    /// Whether it is asked nothing.
    owes: bool,
    /// Whether the bus said that its limits are exceeded.
    paused: bool,
}

impl Peer {
    fn queue(&mut self, lane: Lane) -> &mut VecDeque<CallId> {
        match lane {
            Lane::Scan => &mut self.scans,
            Lane::Bus | Lane::Read => &mut self.reads,
            Lane::Write => &mut self.writes,
        }
    }

    /// Whether a call of this lane may be sent while `free` places are left.
    fn may_send(&self, lane: Lane, free: usize) -> bool {
        let share = 1 + free / SHARE;
        let room = match lane {
            Lane::Scan | Lane::Bus | Lane::Read => {
                self.at_bus.scans + self.at_bus.reads < share
                    && self.at_bus.free(lane, PEER_READS_MAX) > 0
            }
            Lane::Write => self.at_bus.writes < share,
        };
        room && !self.paused
    }

    fn is_idle(&self) -> bool {
        let waiting = self.scans.len() + self.reads.len() + self.writes.len();
        waiting == 0 && self.at_bus == AtBus::default() && !self.paused
    }
}

/// Peers that have calls waiting, each once per lane: whose turn it is.
#[derive(Debug, Default)]
struct Turns {
    scans: VecDeque<Arc<str>>,
    reads: VecDeque<Arc<str>>,
    writes: VecDeque<Arc<str>>,
}

impl Turns {
    fn of(&mut self, lane: Lane) -> &mut VecDeque<Arc<str>> {
        match lane {
            Lane::Scan => &mut self.scans,
            Lane::Bus | Lane::Read => &mut self.reads,
            Lane::Write => &mut self.writes,
        }
    }
}

/// All calls that are not answered yet.
#[derive(Debug)]
pub struct Calls {
    next: CallId,
    /// Calls to the bus itself.
    to_bus: VecDeque<CallId>,
    turns: Turns,
    /// Whether scans go before reads the next time.
    scans_first: bool,
    pending: HashMap<CallId, Pending>,
    peers: HashMap<Arc<str>, Peer>,
    /// Of calls that we did not give up.
    deadlines: BTreeSet<(Instant, CallId)>,
    /// Until when peers are left alone because of the bus's limits.
    pauses: BTreeSet<(Instant, Arc<str>)>,
    at_bus: AtBus,
    /// How many were sent.
    sent: u64,
    /// How many of those that are awaited must not be held up.
    urgent: usize,
    reads: usize,
    writes: usize,
}

impl Calls {
    /// No calls.
    pub fn new() -> Calls {
        Calls {
            next: CallId::MIN,
            to_bus: VecDeque::new(),
            turns: Turns::default(),
            scans_first: false,
            pending: HashMap::new(),
            peers: HashMap::new(),
            deadlines: BTreeSet::new(),
            pauses: BTreeSet::new(),
            at_bus: AtBus::default(),
            sent: 0,
            urgent: 0,
            reads: 0,
            writes: 0,
        }
    }

    /// Makes a call as soon as there is room for it. It is awaited for `timeout`; of a peer that owes
    /// answers, for no time at all.
    pub fn call(
        &mut self,
        now: Instant,
        timeout: Duration,
        callee: Callee<'_>,
        path: &str,
        method: Method,
        purpose: Purpose,
    ) {
        let id = self.next;
        self.next = id.next();
        let lane = lane(&purpose);
        let owes = lane != Lane::Bus && self.owes(callee.owner);
        let deadline = if owes { now } else { now + timeout };
        let known = self.peers.get_key_value(callee.owner);
        let peer = known.map_or_else(|| Arc::from(callee.owner), |(peer, _)| Arc::clone(peer));
        if lane == Lane::Bus {
            self.to_bus.push_back(id);
        } else if !owes {
            let queue = self.peers.entry(Arc::clone(&peer)).or_default().queue(lane);
            queue.push_back(id);
            if queue.len() == 1 {
                self.turns.of(lane).push_back(Arc::clone(&peer));
            }
        }
        self.count(&purpose, true);
        self.deadlines.insert((deadline, id));
        let call = Call {
            id,
            destination: callee.destination.into(),
            path: path.into(),
            method,
        };
        let pending = Pending {
            lane,
            peer,
            purpose: Some(purpose),
            deadline,
            call: Some(call),
            sent: None,
            name: (callee.destination != callee.owner).then(|| callee.destination.into()),
        };
        self.pending.insert(id, pending);
    }

    /// The next call to make.
    pub fn poll(&mut self) -> Option<Call> {
        while let Some(id) = self.to_bus.pop_front() {
            if let Some(pending) = self.pending.get_mut(&id) {
                self.sent += 1;
                pending.sent = Some(self.sent);
                return pending.call.clone();
            }
        }
        let (lane, at) = self.next_turn()?;
        let turns = self.turns.of(lane);
        let name = turns.remove(at)?;
        let peer = self.peers.get_mut(&name)?;
        let id = peer.queue(lane).pop_front()?;
        if !peer.queue(lane).is_empty() {
            turns.push_back(name);
        }
        *peer.at_bus.of(lane) += 1;
        *self.at_bus.of(lane) += 1;
        self.scans_first = match lane {
            Lane::Read => true,
            Lane::Scan => false,
            Lane::Bus | Lane::Write => self.scans_first,
        };
        self.sent += 1;
        let pending = self.pending.get_mut(&id)?;
        pending.sent = Some(self.sent);
        pending.call.clone()
    }

    /// Whether there are calls to make now.
    pub fn has_calls(&self) -> bool {
        !self.to_bus.is_empty() || self.next_turn().is_some()
    }

    /// Whose turn it is: writes first, which have separate places; then reads and scans in turn.
    fn next_turn(&self) -> Option<(Lane, usize)> {
        let turns = &self.turns;
        let write = (Lane::Write, &turns.writes);
        let read = (Lane::Read, &turns.reads);
        let scan = (Lane::Scan, &turns.scans);
        let lanes = if self.scans_first {
            [write, scan, read]
        } else {
            [write, read, scan]
        };
        lanes.into_iter().find_map(|(lane, turns)| {
            let free = self.at_bus.free(lane, READS_MAX);
            let may_send = |name: &Arc<str>| {
                let peer = self.peers.get(name);
                peer.is_some_and(|peer| peer.may_send(lane, free))
            };
            let at = (free > 0).then(|| turns.iter().position(may_send))??;
            Some((lane, at))
        })
    }

    fn count(&mut self, purpose: &Purpose, more: bool) {
        let counts = [
            (&mut self.urgent, is_urgent(purpose)),
            (
                &mut self.reads,
                matches!(purpose, Purpose::Client(ClientCall::Read { .. })),
            ),
            (&mut self.writes, lane(purpose) == Lane::Write),
        ];
        for (count, counts) in counts {
            if counts {
                *count = if more { *count + 1 } else { *count - 1 };
            }
        }
    }

    /// A call has an answer, or an error. It counts only from the connection that was asked; the bus
    /// answers in the place of one that left, or that cannot be reached (§2.10). `has_name` tells whether
    /// the sender owns a name now.
    pub fn answer(
        &mut self,
        now: Instant,
        id: CallId,
        sender: &str,
        error: Option<&str>,
        has_name: impl FnOnce(&str) -> bool,
    ) -> Answered {
        let Some(pending) = self.pending.get_mut(&id) else {
            return Answered::default();
        };
        let from_peer = *pending.peer == *sender;
        let from_bus = error.is_some() && sender == BUS;
        let another = !from_peer && !from_bus && pending.name.as_deref().is_some_and(has_name);
        let known = from_peer || from_bus || another;
        let Some(sent) = pending.sent.filter(|_| known) else {
            return Answered::default();
        };
        let (lane, name) = (pending.lane, Arc::clone(&pending.peer));
        let mut again = false;
        if lane != Lane::Bus {
            *self.at_bus.of(lane) -= 1;
            let refused = from_bus && error == Some(LIMITS_EXCEEDED);
            let peer = self.peers.entry(Arc::clone(&name)).or_default();
            *peer.at_bus.of(lane) -= 1;
            if from_peer {
                peer.answered = peer.answered.max(sent);
                again = std::mem::take(&mut peer.owes);
            }
            if refused && !peer.owes && self.put_back(now, id, &name) {
                return Answered::default();
            }
            self.forget_idle(&name);
        }
        let pending = self.pending.remove(&id);
        let purpose = pending.and_then(|pending| {
            self.deadlines.remove(&(pending.deadline, id));
            pending.purpose
        });
        if let Some(purpose) = &purpose {
            self.count(purpose, false);
        }
        Answered {
            purpose,
            again,
            another,
        }
    }

    /// Has a call wait once more, before all others of its peer, which is left alone for a moment.
    /// `false` where nobody awaits it any more.
    fn put_back(&mut self, now: Instant, id: CallId, name: &Arc<str>) -> bool {
        let (Some(pending), Some(peer)) = (self.pending.get_mut(&id), self.peers.get_mut(name))
        else {
            return false;
        };
        if pending.purpose.is_none() {
            return false;
        }
        pending.sent = None;
        if !std::mem::replace(&mut peer.paused, true) {
            self.pauses.insert((now + LIMITS_PAUSE, Arc::clone(name)));
        }
        let queue = peer.queue(pending.lane);
        // Several may come back, in the order in which they went.
        let at = queue.partition_point(|waiting| *waiting < id);
        queue.insert(at, id);
        if queue.len() == 1 {
            self.turns.of(pending.lane).push_back(Arc::clone(name));
        }
        true
    }

    /// Ends one call whose deadline has come.
    pub fn expire(&mut self, now: Instant) -> Option<Unanswered> {
        self.end_pauses(now);
        let &(deadline, id) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.deadlines.remove(&(deadline, id));
        let pending = self.pending.get_mut(&id)?;
        let purpose = pending.purpose.take()?;
        let (lane, name, sent) = (pending.lane, Arc::clone(&pending.peer), pending.sent);
        let mut silenced = None;
        let why = if lane == Lane::Bus {
            self.pending.remove(&id);
            Missing::TimedOut
        } else if let Some(sent) = sent {
            pending.call = None;
            // One that answered a later call has lost this one, or takes its time.
            if let Some(peer) = self.peers.get_mut(&name)
                && peer.answered < sent
                && !std::mem::replace(&mut peer.owes, true)
            {
                self.ask_nothing_more(now, &name);
                silenced = Some(name);
            }
            Missing::TimedOut
        } else {
            self.pending.remove(&id);
            let owes = self.owes(&name);
            self.leave_queue(id, lane, &name);
            if owes {
                Missing::Silent
            } else {
                Missing::NoTurn
            }
        };
        self.count(&purpose, false);
        Some(Unanswered {
            purpose,
            why,
            silenced,
        })
    }

    /// Nobody awaits the scans of a service any more: those that were not sent are not made.
    pub fn abandon_scan(&mut self, service: ServiceId) {
        let of_service = |purpose: &Purpose| matches!(purpose, Purpose::Scan { service: other, .. } if *other == service);
        let found = self.pending.iter().filter(|(_, pending)| {
            let purpose = pending.purpose.as_ref();
            pending.lane == Lane::Scan && purpose.is_some_and(of_service)
        });
        let found: Vec<CallId> = found.map(|(id, _)| *id).collect();
        for id in found {
            let Some(pending) = self.pending.get_mut(&id) else {
                continue;
            };
            self.deadlines.remove(&(pending.deadline, id));
            pending.call = None;
            let (purpose, name) = (pending.purpose.take(), Arc::clone(&pending.peer));
            if pending.sent.is_none() {
                self.pending.remove(&id);
                self.leave_queue(id, Lane::Scan, &name);
            }
            if let Some(purpose) = purpose {
                self.count(&purpose, false);
            }
        }
    }

    /// What waits for a peer that owes answers ends now.
    fn ask_nothing_more(&mut self, now: Instant, name: &Arc<str>) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        for lane in [Lane::Scan, Lane::Read, Lane::Write] {
            let waiting = std::mem::take(peer.queue(lane));
            self.turns.of(lane).retain(|other| other != name);
            for id in waiting {
                if let Some(pending) = self.pending.get_mut(&id) {
                    self.deadlines.remove(&(pending.deadline, id));
                    pending.deadline = now.min(pending.deadline);
                    self.deadlines.insert((pending.deadline, id));
                }
            }
        }
    }

    fn leave_queue(&mut self, id: CallId, lane: Lane, name: &Arc<str>) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let queue = peer.queue(lane);
        if let Some(at) = queue.iter().position(|waiting| *waiting == id) {
            queue.remove(at);
            if queue.is_empty() {
                self.turns.of(lane).retain(|other| other != name);
            }
        }
        self.forget_idle(name);
    }

    fn end_pauses(&mut self, now: Instant) {
        while let Some((until, name)) = self.pauses.pop_first() {
            if until > now {
                self.pauses.insert((until, name));
                return;
            }
            if let Some(peer) = self.peers.get_mut(&name) {
                peer.paused = false;
            }
            self.forget_idle(&name);
        }
    }

    fn forget_idle(&mut self, name: &Arc<str>) {
        if self.peers.get(name).is_some_and(Peer::is_idle) {
            self.peers.remove(name);
        }
    }

    /// Ends all calls: the bus is gone, and what it knew of them.
    pub fn end_all(&mut self) -> Vec<Purpose> {
        let mut pending = std::mem::take(&mut self.pending);
        let ended = std::mem::take(&mut self.deadlines);
        let next = self.next;
        *self = Calls::new();
        self.next = next;
        let purpose = |(_, id)| pending.remove(&id).and_then(|pending| pending.purpose);
        ended.into_iter().filter_map(purpose).collect()
    }

    /// When the next deadline comes, or a pause ends.
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let pause = self.pauses.first().map(|(until, _)| *until);
        deadline.into_iter().chain(pause).min()
    }

    /// Whether a connection owes answers, and so is asked nothing.
    pub fn owes(&self, owner: &str) -> bool {
        self.peers.get(owner).is_some_and(|peer| peer.owes)
    }

    /// How many clients' reads are not answered.
    pub fn reads(&self) -> usize {
        self.reads
    }

    /// How many writes are not answered (§5.6).
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

fn lane(purpose: &Purpose) -> Lane {
    match purpose {
        Purpose::Match(_) | Purpose::Names | Purpose::Owner(_) => Lane::Bus,
        Purpose::Scan { .. } => Lane::Scan,
        Purpose::Client(ClientCall::Read { .. }) => Lane::Read,
        Purpose::Client(ClientCall::Write { .. } | ClientCall::Confirm { .. }) => Lane::Write,
    }
}

/// Whether gathering would hold somebody up: a client, or a walk that asks step by step.
fn is_urgent(purpose: &Purpose) -> bool {
    match purpose {
        Purpose::Client(_) => true,
        Purpose::Scan { step, .. } => matches!(step, Step::Node(_) | Step::Leaf(_)),
        Purpose::Match(_) | Purpose::Names | Purpose::Owner(_) => false,
    }
}

#[cfg(test)]
mod tests;
