//! One client: where its session stands, what it subscribes to, what it is to get.
//!
//! ```text
//! Opening ──CONNECT──▶ LoggingIn ──welcome──▶ Open ──fault, DISCONNECT, takeover──▶ Closing
//!    │                     │                                                          ▲
//!    └──── no CONNECT ─────┴───────────────────── refused ────────────────────────────┘
//! ```

use std::rc::Rc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::directory::{Cover, Shared};
use super::interface::{ClientId, Close, Limits, Peer, Response};
use super::outgoing::{Flags, Outgoing};
use super::relay::Event;
use crate::codec::packet::Version;
use crate::codec::packet::client::{Hello, Wanted};
use crate::model::time::Now;

/// One client.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "none of them says anything of another"
)]
pub struct Client {
    /// What it is known by.
    pub id: ClientId,
    /// Where it comes from.
    pub peer: Peer,
    /// Where its session stands.
    pub state: State,
    /// A packet that is not whole yet, or what comes behind one that has to wait.
    pub inbox: Vec<u8>,
    /// Since when a packet is not whole.
    pub partial_since: Option<Instant>,
    /// No more of its packets are looked at until then: it asks for too much.
    pub resume_at: Option<Instant>,
    /// What it is to get.
    pub out: Outgoing,
    /// Whether it is in the queue of those that have something to write.
    pub queued: bool,
    /// Whether its socket takes nothing at present.
    pub blocked: bool,
    /// When its last whole packet came.
    pub heard: Instant,
    /// How long it may be silent.
    pub silence_max: Option<Duration>,
    /// The form of its packets.
    pub version: Version,
    /// MQTT 3.1: a SUBACK cannot refuse.
    pub old: bool,
    /// Another broker's bridge (§9.2).
    pub bridge: bool,
    /// Its client id.
    pub name: Rc<str>,
    /// The longest packet that it takes, in bytes.
    pub packet_bytes_max: usize,
    /// What is published when it is lost.
    pub will: Option<Box<Will>>,
    /// What its topic aliases stand for.
    pub aliases: Vec<Option<Rc<str>>>,
    /// Packet ids of messages with QoS 2 that have been executed, and may come again.
    pub unreleased: SmallVec<[u16; 4]>,
    /// What it subscribes to.
    pub subscriptions: Vec<Subscription>,
    /// How many of them are topics of one value.
    pub topics: usize,
    /// What of the items its filters match.
    pub cover: Rc<Cover>,
    /// Those of its filters that keep the retain flag, where not all do, or none.
    pub flagged: Vec<Rc<Shared>>,
    /// Whether all of them do.
    pub all_flagged: bool,
    /// Whether it was said that it publishes under our `N/` (§9.14).
    pub foreign_logged: bool,
    /// Whether it was said that it wants more filters than it may have.
    pub crowded_logged: bool,
    /// How much it may have looked at before it has to wait.
    pub tokens: Tokens,
}

/// Where a session stands.
#[derive(Debug)]
pub enum State {
    /// No CONNECT yet, since then.
    Opening(Instant),
    /// Its login is looked at.
    LoggingIn(Box<Greeting>),
    /// It is let in.
    Open,
    /// What was begun is written, until then at the latest.
    Closing(Close, Instant),
}

/// What of a CONNECT is needed once the client is let in.
#[derive(Debug)]
pub struct Greeting {
    /// Its client id; empty where one is to be assigned.
    pub name: Box<str>,
    /// Its keep-alive interval.
    pub keep_alive_s: u16,
    /// Its will.
    pub will: Option<Box<Will>>,
}

/// What is published when a client is lost (§9.18).
#[derive(Debug)]
pub struct Will {
    /// The message; its expiry counts from when it is published.
    pub event: Event,
    /// After how many seconds it is worth nothing.
    pub expiry_s: Option<u32>,
    /// Where an answer is expected, where it is a request.
    pub response: Option<Response>,
}

/// A filter of one client.
#[derive(Debug)]
pub struct Subscription {
    /// The filter.
    pub shared: Rc<Shared>,
    /// Not what the client publishes itself.
    pub no_local: bool,
    /// With the retain flag of who published it.
    pub retain_as_published: bool,
}

/// Something that is used up and comes again with time.
#[derive(Debug)]
pub struct Tokens {
    left: i64,
    since: Instant,
}

impl Tokens {
    /// As many as there can be.
    pub fn new(now: Instant) -> Tokens {
        Tokens {
            left: TOKENS_MAX,
            since: now,
        }
    }

    /// Takes so many. Where there were too few: when there are some again.
    pub fn take(&mut self, now: Instant, count: u32) -> Option<Instant> {
        let passed = now.saturating_duration_since(self.since).as_millis();
        let fresh = i64::try_from(passed / u128::from(TOKEN_MS)).unwrap_or(TOKENS_MAX);
        if fresh > 0 {
            self.since = now;
            self.left = self.left.saturating_add(fresh).min(TOKENS_MAX);
        }
        self.left -= i64::from(count);
        let missing = u64::try_from(-self.left)
            .ok()
            .filter(|missing| *missing > 0)?;
        Some(now + Duration::from_millis(missing * TOKEN_MS))
    }
}

/// What one message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// Whether some filter matches, and wants it.
    pub wanted: bool,
    /// Whether it keeps its retain flag.
    pub retain: bool,
}

impl Client {
    /// A new connection.
    pub fn new(id: ClientId, peer: Peer, now: Instant, limits: &Limits) -> Client {
        Client {
            id,
            peer,
            state: State::Opening(now + limits.connect_timeout),
            inbox: Vec::new(),
            partial_since: None,
            resume_at: None,
            out: Outgoing::default(),
            queued: false,
            blocked: false,
            heard: now,
            silence_max: None,
            version: Version::V3,
            old: false,
            bridge: false,
            name: "".into(),
            packet_bytes_max: usize::MAX,
            will: None,
            aliases: Vec::new(),
            unreleased: SmallVec::new(),
            subscriptions: Vec::new(),
            topics: 0,
            cover: Rc::default(),
            flagged: Vec::new(),
            all_flagged: false,
            foreign_logged: false,
            crowded_logged: false,
            tokens: Tokens::new(now),
        }
    }

    /// Whether it is let in, and stays.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether it has not logged in yet.
    pub fn is_new(&self) -> bool {
        matches!(self.state, State::Opening(_) | State::LoggingIn(_))
    }

    /// Whether no more is read of it.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing(..))
    }

    /// It has said who it is.
    pub fn greet(&mut self, hello: &Hello<'_>) {
        self.version = hello.version;
        self.old = hello.old;
        self.bridge = hello.bridge;
        self.packet_bytes_max = hello
            .packet_bytes_max
            .and_then(|max| usize::try_from(max).ok())
            .unwrap_or(usize::MAX);
    }

    /// When something is due for it, if nothing happens: silence, a packet that does not end.
    pub fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let state = match &self.state {
            State::Opening(until) | State::Closing(_, until) => Some(*until),
            State::LoggingIn(_) => None,
            State::Open => self.silence_max.map(|max| self.heard + max),
        };
        let partial = self
            .partial_since
            .filter(|_| !self.is_closing())
            .map(|since| since + limits.packet_timeout);
        [state, partial, self.resume_at].into_iter().flatten().min()
    }

    /// Whether and how a message goes to it.
    pub fn receives(&self, topic: &str, from: Option<ClientId>) -> Reception {
        let mut reception = Reception {
            wanted: false,
            retain: false,
        };
        for subscription in &self.subscriptions {
            let own = subscription.no_local && from == Some(self.id);
            if !own && subscription.shared.filter.matches(topic) {
                reception.wanted = true;
                reception.retain |= subscription.retain_as_published;
            }
        }
        reception
    }

    /// Whether it has a filter for a topic.
    pub fn wants(&self, topic: &str) -> bool {
        let matches = |subscription: &Subscription| subscription.shared.filter.matches(topic);
        self.subscriptions.iter().any(matches)
    }

    /// Whether it has a filter below `N/<portal id>/`.
    pub fn listens(&self) -> bool {
        let ours = |subscription: &Subscription| subscription.shared.filter.is_ours();
        self.subscriptions.iter().any(ours)
    }

    /// Which items go with the retain flag when they change.
    pub fn flags(&self) -> Flags<'_> {
        if self.flagged.is_empty() {
            Flags::Same(self.all_flagged)
        } else {
            Flags::Of(&self.flagged)
        }
    }

    /// Adds a filter, or puts other options in the place of its own. `true`: it is new.
    pub fn subscribe(&mut self, shared: Rc<Shared>, wanted: Wanted<'_>) -> bool {
        let options = Subscription {
            no_local: wanted.no_local() || self.bridge,
            retain_as_published: wanted.retain_as_published() || self.bridge,
            shared,
        };
        let same = |old: &&mut Subscription| Rc::ptr_eq(&old.shared, &options.shared);
        if let Some(old) = self.subscriptions.iter_mut().find(same) {
            *old = options;
            return false;
        }
        self.topics += usize::from(options.shared.filter.is_topic());
        self.subscriptions.push(options);
        true
    }

    /// Whether it has this filter.
    pub fn has(&self, shared: &Rc<Shared>) -> bool {
        let same = |old: &Subscription| Rc::ptr_eq(&old.shared, shared);
        self.subscriptions.iter().any(same)
    }

    /// It has had so much looked at; what goes beyond its share has it wait.
    pub fn take_tokens(&mut self, now: Now, count: u32) {
        let more = self.subscriptions.len() / FILTERS_PER_TOKEN;
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.resume_at = self.tokens.take(now.monotonic, count.saturating_add(more));
    }

    /// Takes a filter away. `false`: there is none.
    pub fn unsubscribe(&mut self, filter: &str) -> bool {
        let same = |old: &Subscription| old.shared.filter.text() == filter;
        let Some(at) = self.subscriptions.iter().position(same) else {
            return false;
        };
        let gone = self.subscriptions.swap_remove(at);
        self.topics -= usize::from(gone.shared.filter.is_topic());
        true
    }

    /// Its filters are others: what follows from them.
    pub fn set_cover(&mut self, cover: Rc<Cover>) {
        self.out.pending.keep(&cover.bits());
        self.cover = cover;
        let flagged = || {
            let of = |subscription: &&Subscription| subscription.retain_as_published;
            self.subscriptions.iter().filter(of)
        };
        let count = flagged().count();
        self.all_flagged = count > 0 && count == self.subscriptions.len();
        self.flagged = if self.all_flagged {
            Vec::new()
        } else {
            flagged()
                .map(|subscription| subscription.shared.clone())
                .collect()
        };
    }
}

/// How much may be looked at in one go: a topic is 1.
const TOKENS_MAX: i64 = 4_000;
/// How long it takes until another topic may be looked at, in milliseconds.
const TOKEN_MS: u64 = 1;
/// What a filter with wildcards costs: it is held against every item.
pub const WILDCARD_TOKENS: u32 = 10;
/// So many filters that a client has cost as much as a topic at each SUBSCRIBE: they are put together anew.
const FILTERS_PER_TOKEN: usize = 500;
