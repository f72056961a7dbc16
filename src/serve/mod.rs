//! The server: MQTT clients that connect to the bridge itself, served from its cache (§9).
//!
//! One thread owns a [`Server`]. It never blocks, never fails and reads no clock: bytes of clients,
//! marks of changed items, and what the bridge's rules say go in; bytes, requests and questions come
//! out. What passes in and out is in [`interface`].
//!
//! ```text
//!            receive ──▶ session ──▶ poll_request, poll_login        to the bridge's rules
//! sockets                   │
//!            write ◀── subscriber ◀── mark, directory, answer        from the bridge and its cache
//! ```

use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::directory::Directory;
use self::outgoing::{Context, Flags};
use self::own::Own;
use self::pace::Pace;
use self::relay::Retained;
use self::scratch::Scratch;
use self::session::{Client, State};
use self::set::Bits;
use crate::codec::packet::client::Fault;
use crate::codec::packet::{RespondTo, Version, v5};
use crate::codec::payload;
use crate::model::counts::ClientCounts;
use crate::model::log_rate::Throttle;
use crate::model::time::Now;
use crate::model::topic;

pub mod interface;

mod directory;
mod filter;
mod outgoing;
mod own;
mod pace;
mod protocol;
mod relay;
mod scratch;
mod session;
mod set;

pub use self::interface::{
    Answer, ClientId, ClientRequest, Close, DirectoryChange, Limits, ListenerSettings, LoginCheck,
    Peer, Response, Settings, Slot, Stats, Values, Verdict,
};

/// All clients of all listeners.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    /// `N/<portal id>/`, `R/<portal id>/`, `W/<portal id>/`.
    prefixes: [Box<str>; 3],
    places: Vec<Place>,
    free: Vec<u32>,
    /// By client id, of those that are let in.
    names: HashMap<Rc<str>, ClientId>,
    directory: Directory,
    own: Own,
    retained: Retained,
    /// What has changed since it was last handed to the clients.
    marks: Bits,
    /// The words of it that hold something.
    marked: Vec<u32>,
    requests: VecDeque<ClientRequest>,
    logins: VecDeque<LoginCheck>,
    closes: VecDeque<(ClientId, Close)>,
    ready: VecDeque<ClientId>,
    scratch: Scratch,
    pace: Pace,
    /// No deadline of a client is earlier.
    next_deadline: Option<Instant>,
    /// When retained messages are looked at that may have expired; none while there are none.
    next_expiry: Option<Instant>,
    /// Client ids that were assigned.
    assigned: u64,
    stats: Stats,
    /// Of each listener.
    counts: Vec<ClientCounts>,
    /// What was logged about the clients of each.
    lines: Vec<Lines>,
    ending: bool,
}

/// Each kind of line has its budget: a client may come again for each.
#[derive(Debug, Default)]
struct Lines {
    foreign: Throttle,
    crowded: Throttle,
}

/// A place for a client, used again and again.
#[derive(Debug, Default)]
struct Place {
    generation: u32,
    client: Option<Box<Client>>,
}

/// What becomes of a client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// It is for the rules of §5.
    Request,
    /// Other clients may have it.
    Relay,
    /// `$SYS`: nobody gets it (§9.19).
    Nowhere,
    /// Ours, under `N/` or the like (§9.14).
    Foreign,
    /// Without `relay` there is nothing else (§9.19); and nobody could have a filter for `$share`.
    Denied,
    /// It has too many levels.
    TooDeep,
}

impl Route {
    /// The reason code for it.
    fn code(self) -> u8 {
        match self {
            Route::Request | Route::Relay | Route::Nowhere => 0,
            Route::Foreign | Route::Denied => NOT_AUTHORIZED,
            Route::TooDeep => Fault::TOPIC.0,
        }
    }
}

impl Server {
    /// A server without clients, which knows of no items yet.
    pub fn new(settings: Settings) -> Server {
        let portal = &settings.portal;
        let mut server = Server {
            prefixes: ["N", "R", "W"].map(|kind| format!("{kind}/{portal}/").into()),
            directory: Directory::new(portal.as_str(), lists(&settings)),
            counts: vec![ClientCounts::default(); settings.listeners.len()],
            lines: settings
                .listeners
                .iter()
                .map(|_| Lines::default())
                .collect(),
            pace: Pace::new(settings.gather, settings.client_writes_max),
            settings,
            places: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            own: Own::default(),
            retained: Retained::default(),
            marks: Bits::default(),
            marked: Vec::new(),
            requests: VecDeque::new(),
            logins: VecDeque::new(),
            closes: VecDeque::new(),
            ready: VecDeque::new(),
            scratch: Scratch::default(),
            next_deadline: None,
            next_expiry: None,
            assigned: 0,
            stats: Stats::default(),
            ending: false,
        };
        for listener in 0..server.settings.listeners.len() {
            if serves(&server.settings, listener) {
                server.introduce(listener);
            }
        }
        server
    }

    /// What is there without any item: the serial (§4.2), and that keep-alives work.
    fn introduce(&mut self, listener: usize) {
        let mut serial = payload::HEAD.to_vec();
        payload::write_text(&mut serial, self.settings.portal.as_str());
        serial.push(b'}');
        let ours = |rest: &str| format!("{}{rest}", self.prefixes[0]);
        let (serial_topic, keep_alive) = (ours(topic::SERIAL), ours(topic::KEEPALIVE));
        self.say(listener, &serial_topic, &serial, true);
        self.say(listener, &keep_alive, b"{\"value\": 1}", true);
    }

    /// Somebody has connected: TCP, TLS and WebSocket are through.
    pub fn connect(&mut self, now: Now, peer: Peer) -> ClientId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let mut id = ClientId {
            index,
            generation: 0,
        };
        if let Some(place) = self.places.get_mut(index as usize) {
            place.generation = place.generation.wrapping_add(1);
            id.generation = place.generation;
            let client = Client::new(id, peer, now.monotonic, &self.settings.limits);
            place.client = Some(Box::new(client));
        }
        self.stats.logins += 1;
        if self.stats.logins > self.settings.limits.logins_max {
            self.drop_oldest_login(now);
        }
        self.note_deadline(id);
        id
    }

    /// Too many have not logged in: the one that has had the most time goes (§9.22).
    fn drop_oldest_login(&mut self, now: Now) {
        let new = self.clients().filter(|client| client.is_new());
        if let Some(id) = new
            .min_by_key(|client| client.heard)
            .map(|client| client.id)
        {
            self.close(now, id, Close::TooManyLogins);
        }
    }

    /// Bytes of a client, split anywhere.
    pub fn receive(&mut self, now: Now, id: ClientId, bytes: &[u8]) {
        let Some(client) = self.client_mut(id) else {
            return;
        };
        if client.is_closing() {
            return;
        }
        if client.inbox.is_empty() && client.resume_at.is_none() {
            let used = self.process(now, id, bytes);
            let rest = bytes.get(used..).unwrap_or_default();
            self.keep_rest(now, id, rest);
        } else {
            client.inbox.extend_from_slice(bytes);
            self.resume(now, id);
        }
    }

    /// Keeps what comes behind the last whole packet.
    fn keep_rest(&mut self, now: Now, id: ClientId, rest: &[u8]) {
        let login_bytes_max = self.settings.limits.login_bytes_max;
        let Some(client) = self.client_mut(id).filter(|client| !client.is_closing()) else {
            return;
        };
        client.inbox.extend_from_slice(rest);
        if client.is_new() && client.inbox.len() > login_bytes_max {
            self.close(now, id, Close::TooSlow);
        }
    }

    /// Looks at what a client has sent and was not looked at.
    fn resume(&mut self, now: Now, id: ClientId) {
        let Some(client) = self.client_mut(id) else {
            return;
        };
        let mut inbox = std::mem::take(&mut client.inbox);
        let used = self.process(now, id, &inbox);
        inbox.drain(..used);
        if inbox.is_empty() && inbox.capacity() > KEPT_BYTES {
            inbox = Vec::new();
        }
        if let Some(client) = self.client_mut(id).filter(|client| !client.is_closing()) {
            client.inbox = inbox;
        }
        self.keep_rest(now, id, &[]);
    }

    /// Whether more of a client's bytes are to be read: not while it takes nothing of what it asked
    /// for, nor while its login is looked at. Asked again after each `write`, `login` and `advance`.
    pub fn wants(&self, id: ClientId) -> bool {
        self.client(id).is_some_and(|client| {
            let looked_at = matches!(client.state, State::LoggingIn(_));
            let waits = client.resume_at.is_some();
            // What it sends while its login is looked at is little.
            let much = client.inbox.len() >= KEPT_BYTES;
            !client.is_closing() && !client.out.is_full() && !((looked_at || waits) && much)
        })
    }

    /// The client's socket is gone. One that `poll_close` has named is forgotten already.
    pub fn disconnected(&mut self, now: Now, id: ClientId) {
        let close = match self.client(id).map(|client| &client.state) {
            Some(State::Closing(close, _)) => *close,
            Some(_) => Close::Lost,
            None => return,
        };
        self.remove(now, id, close);
    }

    /// What came of a login.
    pub fn login(&mut self, now: Now, id: ClientId, verdict: Verdict) {
        let Some(client) = self.client_mut(id) else {
            return;
        };
        if !matches!(client.state, State::LoggingIn(_)) {
            return;
        }
        let fault = match verdict {
            Verdict::Welcome => {
                let state = std::mem::replace(&mut client.state, State::Open);
                if let State::LoggingIn(greeting) = state {
                    self.welcome(now, id, *greeting);
                    self.resume(now, id);
                }
                return;
            }
            Verdict::BadCredentials => Fault(0x86),
            Verdict::NotAuthorized => Fault(NOT_AUTHORIZED),
            Verdict::Busy => Fault(0x97),
        };
        let version = client.version;
        self.refuse(now, id, Some(version), fault, Close::Refused);
    }

    /// What items there are. To be told before the marks that concern them are given.
    pub fn directory(&mut self, now: Now, change: DirectoryChange) {
        match change {
            DirectoryChange::Item {
                slot,
                topic,
                identifying,
            } => {
                // The serial is ours, whatever a service says (§4.2).
                if *topic == *topic::SERIAL {
                    return;
                }
                let item = self.directory.item(slot.0);
                if item.is_some_and(|item| !item.has_topic(&topic)) {
                    self.gone(slot);
                }
                self.directory.insert(slot, &topic, identifying);
                let whole = format!("{}{topic}", self.prefixes[0]);
                for listener in 0..self.settings.listeners.len() {
                    if let Some(number) = self.own.number(listener, &whole) {
                        self.take_back_clear(number);
                    }
                }
                self.mark(slot.0 as usize / 32, 1 << (slot.0 % 32));
            }
            DirectoryChange::Gone { slot } => self.gone(slot),
            DirectoryChange::Anew => self.directory.begin_anew(),
            DirectoryChange::Complete => {
                for slot in self.directory.end_anew() {
                    self.gone(slot);
                }
            }
        }
        let _ = now;
    }

    /// An item goes: all who have a filter for it are told, the slow ones too (§4.6).
    fn gone(&mut self, slot: Slot) {
        let Some(item) = self.directory.item(slot.0) else {
            return;
        };
        let topic = format!("{}{}{}", self.prefixes[0], item.device, item.path);
        let mut told: Option<(usize, u32)> = None;
        for place in &mut self.places {
            let Some(client) = place.client.as_mut().filter(|client| client.is_open()) else {
                continue;
            };
            client.out.pending.remove(slot.0);
            if client.cover.bits().contains(slot.0) {
                let listener = client.peer.listener;
                let number = match told {
                    Some((same, number)) if same == listener => number,
                    _ => self.own.say(listener, &topic, b"", true),
                };
                told = Some((listener, number));
                await_own(&mut self.own, &mut self.ready, client, number);
            }
        }
        self.directory.remove(slot);
        self.scratch.forget();
    }

    /// Items that have changed: one word of the marks, as it was taken with `swap`. After the last
    /// one of a batch, `advance` is to be called.
    #[inline]
    pub fn mark(&mut self, word: usize, bits: u32) {
        if bits != 0
            && self.marks.insert_word(word, bits) == 0
            && let Ok(word) = u32::try_from(word)
        {
            self.marked.push(word);
        }
        self.pace.changed(word, bits);
        self.scratch.forget();
    }

    /// What the bridge's rules say.
    pub fn answer(&mut self, _now: Now, answer: Answer) {
        match answer {
            Answer::Read { slots } => {
                let slots: Rc<[Slot]> = slots.into();
                for client in open(&mut self.places) {
                    let cover = client.cover.bits();
                    let wanted = slots.iter().any(|slot| cover.contains(slot.0));
                    drop(cover);
                    if wanted {
                        client.out.push_read(&slots);
                        queue(&mut self.ready, client);
                    }
                }
            }
            Answer::Republish { client, echo } => {
                // A sender that has left since does not listen either.
                let one = client.filter(|id| self.client(*id).is_some_and(Client::listens));
                for client in open(&mut self.places) {
                    let meant = one.map_or_else(|| client.listens(), |one| one == client.id);
                    if meant {
                        client.out.push_republish(echo.clone());
                        queue(&mut self.ready, client);
                    }
                }
            }
            Answer::Say {
                listener,
                topic,
                payload,
                retain,
            } => self.say(listener, &topic, &payload, retain),
            Answer::Serves { listener, serves } => self.set_serves(listener, serves),
            Answer::Respond {
                client: id,
                to,
                payload,
            } => self.respond(id, &to, &payload),
        }
    }

    /// The answer to a request with a response topic (§9.15).
    fn respond(&mut self, id: ClientId, to: &Response, payload: &[u8]) {
        let Some(client) = client_mut(&mut self.places, id).filter(|client| client.is_open())
        else {
            return;
        };
        if client.version != Version::V5 || !client.out.has_room() {
            let listener = client.peer.listener;
            count(&mut self.counts, listener, |counts| &mut counts.dropped);
            return;
        }
        let to = RespondTo {
            topic: &to.topic,
            correlation: &to.correlation,
        };
        let mut packet = Vec::new();
        v5::write_response(&mut packet, to, |out| out.extend_from_slice(payload));
        if packet.len() <= client.packet_bytes_max {
            client.out.push(|out| out.extend_from_slice(&packet));
            let listener = client.peer.listener;
            count(&mut self.counts, listener, |counts| &mut counts.sent);
            queue(&mut self.ready, client);
        }
    }

    /// Something of ours that is not an item is said to all clients of a listener who have a filter for it.
    fn say(&mut self, listener: usize, topic: &str, payload: &[u8], retain: bool) {
        let number = self.own.say(listener, topic, payload, retain);
        if serves(&self.settings, listener) {
            for client in open(&mut self.places) {
                if client.peer.listener == listener && client.wants(topic) {
                    await_own(&mut self.own, &mut self.ready, client, number);
                }
            }
        }
        self.own.tidy(number);
    }

    /// The clients of a listener may have nothing of ours any more: what they had is cleared, as it is with a
    /// broker. Or they may again: all of it comes (§8).
    fn set_serves(&mut self, listener: usize, now_serves: bool) {
        if serves(&self.settings, listener) == now_serves {
            return;
        }
        if !now_serves {
            let kept = self.own.kept(listener).map(|(_, own)| own.topic.clone());
            let status = |topic: &Rc<str>| topic.ends_with(topic::STATUS);
            // The status stays, and says that we are not there.
            let kept: Vec<Rc<str>> = kept.filter(|topic| !status(topic)).collect();
            for topic in kept {
                self.say(listener, &topic, b"", true);
            }
        }
        if let Some(settings) = self.settings.listeners.get_mut(listener) {
            settings.serves = now_serves;
        }
        let ids: Vec<ClientId> = open(&mut self.places)
            .filter(|client| client.peer.listener == listener)
            .map(|client| client.id)
            .collect();
        for id in ids {
            if !now_serves {
                self.clear_items(id);
            }
            self.renew_cover(id);
            self.catch_up(id);
        }
        if now_serves {
            let clears: Vec<u32> = self.own.clears(listener).collect();
            for number in clears {
                self.take_back_clear(number);
            }
            self.introduce(listener);
        }
    }

    /// What was to be cleared is there again. Who has not been told must not be: the value might come first, with a
    /// new subscription or a republish.
    fn take_back_clear(&mut self, number: u32) {
        if self
            .own
            .get(number)
            .is_none_or(|own| !own.payload.is_empty())
        {
            return;
        }
        for client in open(&mut self.places) {
            if client.out.own.remove(number) {
                self.own.told(number);
            }
        }
        self.own.tidy(number);
    }

    /// All items that a client has a filter for are cleared.
    fn clear_items(&mut self, id: ClientId) {
        let Some(client) = client_mut(&mut self.places, id) else {
            return;
        };
        let cover = client.cover.clone();
        for slot in cover.bits().iter() {
            if let Some(item) = self.directory.item(slot) {
                let topic = format!("{}{}{}", self.prefixes[0], item.device, item.path);
                let number = self.own.say(client.peer.listener, &topic, b"", true);
                await_own(&mut self.own, &mut self.ready, client, number);
            }
        }
    }

    /// A client has other filters, or may have more: what they match comes as if it had changed.
    fn catch_up(&mut self, id: ClientId) {
        let Some(client) = client_mut(&mut self.places, id) else {
            return;
        };
        let cover = client.cover.clone();
        for slot in cover.bits().iter() {
            client.out.pending.insert(slot);
        }
        queue(&mut self.ready, client);
    }

    /// Other settings. Listeners keep their places; what follows from lists holds at once, and whether they
    /// serve stays as [`Answer::Serves`] said last.
    pub fn reload(&mut self, _now: Now, mut settings: Settings) {
        self.directory.set_lists(lists(&settings));
        self.pace = Pace::new(settings.gather, settings.client_writes_max);
        let old = self.settings.listeners.iter();
        for (listener, old) in settings.listeners.iter_mut().zip(old) {
            listener.serves = old.serves;
        }
        self.settings = settings;
        let ids: Vec<ClientId> = open(&mut self.places).map(|client| client.id).collect();
        for id in ids {
            let before = self.client(id).map(|client| client.cover.clone());
            self.renew_cover(id);
            let after = self.client(id).map(|client| client.cover.clone());
            // What a list has hidden until now is new to it.
            if let (Some(before), Some(after)) = (before, after)
                && !before.bits().has_all(&after.bits())
            {
                self.catch_up(id);
            }
        }
    }

    /// The bridge ends: every client is told (0x8B), and closed.
    pub fn shut_down(&mut self, now: Now) {
        self.ending = true;
        let ids: Vec<ClientId> = self.clients().map(|client| client.id).collect();
        for id in ids {
            self.close(now, id, Close::Shutdown);
        }
    }

    /// Time has passed, or marks have come: what is due is done. To be called at `poll_timeout` at
    /// the latest, and after each batch of inputs, before `poll_ready`.
    pub fn advance(&mut self, now: Now) {
        if self.next_deadline.is_some_and(|due| due <= now.monotonic) {
            self.meet_deadlines(now);
        }
        if self.next_expiry.is_some_and(|due| due <= now.monotonic) {
            self.retained.expire(now.monotonic);
            let some = self.retained.size().0 > 0;
            self.next_expiry = some.then(|| now.monotonic + EXPIRY);
        }
        if !self.marked.is_empty() && self.pace.is_due(now.monotonic) {
            self.hand_out(now);
        }
    }

    /// What has changed is put to what waits for each client.
    fn hand_out(&mut self, now: Now) {
        let mut clients = 0;
        for client in open(&mut self.places) {
            let cover = client.cover.bits();
            let mut conflated = 0;
            for &word in &self.marked {
                let bits = self.marks.word(word as usize) & cover.word(word as usize);
                conflated += client.out.pending.insert_word(word, bits);
            }
            drop(cover);
            if conflated > 0 {
                let (listener, more) = (client.peer.listener, u64::from(conflated));
                count_more(&mut self.counts, listener, more, |counts| {
                    &mut counts.conflated
                });
            }
            if !client.out.pending.is_empty() && !client.blocked {
                clients += 1;
                queue(&mut self.ready, client);
            }
        }
        for word in self.marked.drain(..) {
            self.marks.take_word(word as usize);
        }
        self.pace.handed_out(now.monotonic, clients);
    }

    fn meet_deadlines(&mut self, now: Now) {
        let limits = &self.settings.limits;
        let is_due = |client: &&Client| {
            let deadline = client.deadline(limits);
            deadline.is_some_and(|deadline| deadline <= now.monotonic)
        };
        let due: Vec<ClientId> = self
            .clients()
            .filter(is_due)
            .map(|client| client.id)
            .collect();
        for id in due {
            self.meet_deadline(now, id);
        }
        let limits = &self.settings.limits;
        let deadlines = self.clients().filter_map(|client| client.deadline(limits));
        self.next_deadline = deadlines.min();
    }

    fn meet_deadline(&mut self, now: Now, id: ClientId) {
        let packet_timeout = self.settings.limits.packet_timeout;
        let Some(client) = self.client_mut(id) else {
            return;
        };
        let passed = |at: Instant| at <= now.monotonic;
        let slow = client
            .partial_since
            .is_some_and(|since| passed(since + packet_timeout));
        match client.state {
            State::Closing(close, until) if passed(until) => self.give_up(now, id, close),
            State::Opening(until) if slow || passed(until) => self.close(now, id, Close::TooSlow),
            State::Closing(..) | State::LoggingIn(_) | State::Opening(_) => {}
            State::Open => {
                let silent = client
                    .silence_max
                    .is_some_and(|max| passed(client.heard + max));
                if silent {
                    self.close(now, id, Close::KeepAlive);
                } else if slow {
                    self.close(now, id, Close::TooSlow);
                } else if client.resume_at.is_some_and(passed) {
                    client.resume_at = None;
                    self.resume(now, id);
                }
            }
        }
    }

    /// A request for the rules of §5.
    pub fn poll_request(&mut self) -> Option<ClientRequest> {
        self.requests.pop_front()
    }

    /// A login to look at.
    pub fn poll_login(&mut self) -> Option<LoginCheck> {
        self.logins.pop_front()
    }

    /// A connection to close: the server has forgotten it.
    pub fn poll_close(&mut self) -> Option<(ClientId, Close)> {
        self.closes.pop_front()
    }

    /// A client that has something to write, and whose last write was taken whole. Each is named once
    /// until it is written to.
    pub fn poll_ready(&mut self) -> Option<ClientId> {
        self.ready.pop_front()
    }

    /// Writes what the client is to have, until there is no more or `sink` takes no more (it says how
    /// much it took; `WouldBlock`: nothing now). `true`: it has all; otherwise call again when the
    /// socket can be written to. Any other error of `sink` is for the shell: it says `disconnected`.
    pub fn write(
        &mut self,
        now: Now,
        id: ClientId,
        values: &impl Values,
        mut sink: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> bool {
        let Some(client) = client_mut(&mut self.places, id) else {
            return true;
        };
        client.queued = false;
        client.blocked = true;
        let mut done = false;
        let mut sent = 0;
        let listener = client.peer.listener;
        let rest = client.out.rest.get(client.out.written..);
        if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
            let length = rest.len();
            let taken = offer(&mut sink, rest, &mut self.stats.writes);
            client.out.written += taken;
            if taken < length {
                return false;
            }
            client.out.rest = Vec::new();
            client.out.written = 0;
        }
        // A few at a time: others want to be served too.
        for _ in 0..WRITES_AT_ONCE {
            if !client.out.has_more() {
                done = true;
                break;
            }
            let shared = client.out.is_values_only();
            let key = scratch::Key {
                version: client.version,
                flag: match client.flags() {
                    Flags::Same(flag) => Some(flag),
                    Flags::Of(_) => None,
                },
                packet_bytes_max: client.packet_bytes_max,
            };
            if !(shared && self.scratch.recall(key, &mut client.out.pending, &mut sent)) {
                self.scratch.begin(shared, key, &client.out.pending);
                let before = sent;
                let mut out = std::mem::take(&mut client.out);
                let wants = |topic: &str| client.wants(topic);
                let mut context = Context {
                    now: now.monotonic,
                    unix_s: now.unix_s,
                    prefix: &self.prefixes[0],
                    directory: &self.directory,
                    own: &mut self.own,
                    retained: &self.retained,
                    values,
                    version: client.version,
                    packet_bytes_max: client.packet_bytes_max,
                    listener,
                    serves: serves(&self.settings, listener),
                    relays: relays(&self.settings, listener),
                    stored_values: self
                        .settings
                        .listeners
                        .get(listener)
                        .is_some_and(|listener| listener.retain),
                    cover: &client.cover,
                    flags: client.flags(),
                    wants: &wants,
                    sent: &mut sent,
                };
                out.fill(&mut self.scratch.bytes, &mut context);
                client.out = out;
                let messages = sent - before;
                self.scratch.end(client.out.pending.is_empty(), messages);
            }
            let bytes = &self.scratch.bytes;
            let taken = if bytes.is_empty() {
                0
            } else {
                offer(&mut sink, bytes, &mut self.stats.writes)
            };
            if let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
                client.out.rest.extend_from_slice(rest);
                self.scratch.slim();
                count_more(&mut self.counts, listener, sent, |counts| &mut counts.sent);
                return false;
            }
        }
        count_more(&mut self.counts, listener, sent, |counts| &mut counts.sent);
        self.scratch.slim();
        client.blocked = false;
        if let State::Closing(close, _) = client.state
            && done
        {
            self.give_up(now, id, close);
        } else if !done {
            queue(&mut self.ready, client);
        }
        true
    }

    /// When `advance` is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let values = self.pace.due().filter(|_| !self.marked.is_empty());
        [self.next_deadline, self.next_expiry, values]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a client waits for the change of an item that it has written: marks are to be given at once.
    pub fn awaits_change(&self, now: Now) -> bool {
        self.pace.awaits(now.monotonic)
    }

    /// What is counted of each listener.
    pub fn counts(&self) -> Vec<ClientCounts> {
        let mut all = self.counts.clone();
        for client in self.clients().filter(|client| client.is_open()) {
            if let Some(counts) = all.get_mut(client.peer.listener) {
                counts.clients += 1;
                counts.subscriptions += client.subscriptions.len() as u64;
            }
        }
        all
    }

    /// What is counted of all.
    pub fn stats(&self) -> Stats {
        let (retained_topics, retained_bytes) = self.retained.size();
        Stats {
            retained_topics,
            retained_bytes,
            ..self.stats
        }
    }

    /// How many bytes are kept for a client besides its bits: what it has sent and is not whole, and
    /// what it is to get and does not take.
    pub fn held_bytes(&self, id: ClientId) -> usize {
        self.client(id)
            .map_or(0, |client| client.inbox.len() + client.out.bytes())
    }

    fn client(&self, id: ClientId) -> Option<&Client> {
        let place = self.places.get(id.index as usize)?;
        place
            .client
            .as_deref()
            .filter(|_| place.generation == id.generation)
    }

    fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        client_mut(&mut self.places, id)
    }

    fn clients(&self) -> impl Iterator<Item = &Client> {
        self.places
            .iter()
            .filter_map(|place| place.client.as_deref())
    }

    /// A client's deadline may be earlier than any other.
    fn note_deadline(&mut self, id: ClientId) {
        let limits = &self.settings.limits;
        let deadline = self.client(id).and_then(|client| client.deadline(limits));
        if let Some(deadline) = deadline
            && self.next_deadline.is_none_or(|next| deadline < next)
        {
            self.next_deadline = Some(deadline);
        }
    }
}

/// The list of each listener.
fn lists(settings: &Settings) -> impl Iterator<Item = crate::model::filter::List> {
    let listeners = settings.listeners.iter();
    listeners.map(|listener| listener.publish.clone())
}

/// Counts one more.
fn count(
    all: &mut [ClientCounts],
    listener: usize,
    number: impl FnOnce(&mut ClientCounts) -> &mut u64,
) {
    count_more(all, listener, 1, number);
}

/// Counts so many more.
fn count_more(
    all: &mut [ClientCounts],
    listener: usize,
    more: u64,
    number: impl FnOnce(&mut ClientCounts) -> &mut u64,
) {
    if let Some(counts) = all.get_mut(listener) {
        *number(counts) += more;
    }
}

/// Whether the clients of a listener get anything of ours.
fn serves(settings: &Settings, listener: usize) -> bool {
    let listener = settings.listeners.get(listener);
    listener.is_some_and(|listener| listener.serves)
}

/// Whether the clients of a listener may send each other topics that are not ours.
fn relays(settings: &Settings, listener: usize) -> bool {
    let listener = settings.listeners.get(listener);
    listener.is_some_and(|listener| listener.relay)
}

/// What Home Assistant's discovery topics begin with, for the clients of a listener.
fn discovery_prefix(settings: &Settings, listener: usize) -> Option<&str> {
    settings
        .listeners
        .get(listener)?
        .discovery_prefix
        .as_deref()
}

/// All clients that are let in.
fn open(places: &mut [Place]) -> impl Iterator<Item = &mut Client> {
    places
        .iter_mut()
        .filter_map(|place| place.client.as_deref_mut())
        .filter(|client| client.is_open())
}

fn client_mut(places: &mut [Place], id: ClientId) -> Option<&mut Client> {
    let place = places.get_mut(id.index as usize)?;
    if place.generation != id.generation {
        return None;
    }
    place.client.as_deref_mut()
}

/// A client has something to write: it is named once, unless its socket takes nothing.
#[inline]
fn queue(ready: &mut VecDeque<ClientId>, client: &mut Client) {
    if !client.queued && !client.blocked {
        client.queued = true;
        ready.push_back(client.id);
    }
}

/// A client is to be told something of ours.
fn await_own(own: &mut Own, ready: &mut VecDeque<ClientId>, client: &mut Client, number: u32) {
    if client.out.own.insert(number) {
        own.awaits(number);
    }
    queue(ready, client);
}

/// Offers bytes to a socket until it takes no more; gives how many it took.
fn offer(
    sink: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    bytes: &[u8],
    writes: &mut u64,
) -> usize {
    let mut taken = 0;
    while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
        *writes += 1;
        match sink(rest) {
            Ok(0) => break,
            Ok(count) => taken += count.min(rest.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    taken
}

/// How often retained messages are looked at that may have expired.
const EXPIRY: Duration = Duration::from_secs(60);
/// How many times the scratch is filled for one client before others have their turn.
const WRITES_AT_ONCE: usize = 4;
/// How much of an empty read buffer is kept, in bytes.
const KEPT_BYTES: usize = 16 * 1024;
/// Not authorized [MQTT-2.4].
const NOT_AUTHORIZED: u8 = 0x87;
