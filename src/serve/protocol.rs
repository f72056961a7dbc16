//! What clients say, and what follows from it: the rules of MQTT, one packet at a time (§9.2 to §9.10,
//! §9.13 to §9.19).

use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;
use tracing::{debug, info, warn};

use super::directory::Shared;
use super::filter::Filter;
use super::interface::{ClientId, ClientRequest, Close, LoginCheck, Response};
use super::relay::Event;
use super::session::{Client, Greeting, State, WILDCARD_TOKENS, Will};
use super::{
    EXPIRY, NOT_AUTHORIZED, Route, Server, client_mut, count, discovery_prefix, open, queue,
    relays, serves,
};
use crate::codec::packet::client::{self, Fault, Filters, FromClient, Hello, Message};
use crate::codec::packet::{RespondTo, Version, server, v5};
use crate::model::outside::Outside;
use crate::model::time::Now;

impl Server {
    /// Looks at whole packets; gives how many bytes they were.
    pub(super) fn process(&mut self, now: Now, id: ClientId, bytes: &[u8]) -> usize {
        let mut used = 0;
        let mut waits = false;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let limits = &self.settings.limits;
            let Some(client) = client_mut(&mut self.places, id) else {
                return bytes.len();
            };
            let max = match client.state {
                State::Closing(..) => return bytes.len(),
                State::LoggingIn(_) => {
                    waits = true;
                    break;
                }
                State::Opening(_) => limits.login_bytes_max,
                State::Open => limits.packet_bytes_max,
            };
            if client.resume_at.is_some() || client.out.is_full() {
                client.resume_at.get_or_insert(now.monotonic + RESUME);
                waits = true;
                break;
            }
            // Anything else than CONNECT: no need to wait for the end of it.
            if client.is_new() && rest.first().is_some_and(|first| first >> 4 != 1) {
                self.close(now, id, Close::NoMqtt);
                return bytes.len();
            }
            let packet = match client::length(rest, max) {
                Ok(length) => length.and_then(|length| rest.get(..length)),
                Err(fault) => {
                    self.fail(now, id, fault);
                    return bytes.len();
                }
            };
            let Some(packet) = packet else {
                // What cannot be a packet is not waited for.
                let begins = rest.first().map_or(Ok(()), |first| client::begins(*first));
                if let (true, Err(fault)) = (client.is_open(), begins) {
                    self.fail(now, id, fault);
                    return bytes.len();
                }
                break;
            };
            client.heard = now.monotonic;
            client.partial_since = None;
            if let Err(fault) = self.take(now, id, packet) {
                self.fail(now, id, fault);
                return bytes.len();
            }
            used += packet.len();
        }
        if let Some(client) = self.client_mut(id) {
            if used < bytes.len() && !waits {
                client.partial_since.get_or_insert(now.monotonic);
            } else {
                client.partial_since = None;
            }
            self.note_deadline(id);
        }
        used
    }

    /// One whole packet.
    fn take(&mut self, now: Now, id: ClientId, packet: &[u8]) -> Result<(), Fault> {
        let Some(client) = self.client_mut(id) else {
            return Ok(());
        };
        if client.is_new() {
            match client::decode_connect(packet) {
                Ok(hello) => self.greet(now, id, &hello),
                Err(refusal) => {
                    let close = match refusal.form {
                        Some(_) => Close::Refused,
                        None => Close::NoMqtt,
                    };
                    self.refuse(now, id, refusal.form, refusal.fault, close);
                }
            }
            return Ok(());
        }
        let version = client.version;
        match client::decode(version, packet)? {
            FromClient::Publish(message) => self.publish(now, id, &message)?,
            FromClient::Ack {
                kind,
                id: about,
                code,
            } => self.acknowledged(id, kind, about, code),
            FromClient::Subscribe {
                id: about,
                identifier,
                filters,
            } => self.subscribe(now, id, about, identifier, filters),
            FromClient::Unsubscribe { id: about, filters } => {
                self.unsubscribe(now, id, about, filters)?;
            }
            FromClient::Ping => client.out.push(server::write_pingresp),
            FromClient::Disconnect { code } => {
                if code != WITH_WILL {
                    client.will = None;
                }
                self.give_up(now, id, Close::Disconnected);
                return Ok(());
            }
        }
        self.queue(id);
        Ok(())
    }

    /// A CONNECT that can be taken.
    fn greet(&mut self, now: Now, id: ClientId, hello: &Hello<'_>) {
        let portal_settings = &self.settings;
        let Some(client) = client_mut(&mut self.places, id) else {
            return;
        };
        client.greet(hello);
        let greeting = Greeting {
            name: hello.client_id.into(),
            keep_alive_s: hello.keep_alive_s,
            will: hello.will.as_ref().map(|will| {
                Box::new(Will {
                    event: Event::new(
                        now.monotonic,
                        will.topic.into(),
                        &Message {
                            expiry_s: None,
                            ..will.clone()
                        },
                    ),
                    expiry_s: will.expiry_s,
                    response: will.respond_to.map(response),
                })
            }),
        };
        let listener = portal_settings.listeners.get(client.peer.listener);
        if listener.is_some_and(|listener| listener.login) {
            client.state = State::LoggingIn(Box::new(greeting));
            self.logins.push_back(LoginCheck {
                client: id,
                peer: client.peer.clone(),
                user: hello.user.filter(|user| !user.is_empty()).map(Into::into),
                password: hello.password.map(Into::into),
            });
        } else {
            client.state = State::Open;
            self.welcome(now, id, greeting);
        }
    }

    /// A client is let in.
    pub(super) fn welcome(&mut self, now: Now, id: ClientId, greeting: Greeting) {
        self.stats.logins = self.stats.logins.saturating_sub(1);
        self.stats.clients += 1;
        self.stats.connects += 1;
        let mut assigned = false;
        let name: Rc<str> = if greeting.name.is_empty() {
            assigned = true;
            loop {
                self.assigned += 1;
                let name = format!("client-{:x}-{}", now.unix_s, self.assigned);
                if !self.names.contains_key(&*name) {
                    break name.into();
                }
            }
        } else {
            greeting.name.into()
        };
        if let Some(&older) = self.names.get(&name) {
            self.close(now, older, Close::TakenOver);
        }
        self.names.insert(name.clone(), id);
        let limits = &self.settings.limits;
        let offer = server::Offer {
            receive_max: RECEIVE_MAX,
            aliases_max: ALIASES_MAX,
            packet_bytes_max: u32::try_from(limits.packet_bytes_max).unwrap_or(u32::MAX),
            assigned_id: Some(&*name).filter(|_| assigned),
        };
        let Some(client) = client_mut(&mut self.places, id) else {
            return;
        };
        client.name = name.clone();
        client.will = greeting.will;
        client.heard = now.monotonic;
        client.silence_max = Some(greeting.keep_alive_s)
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_millis(u64::from(seconds) * 1500));
        let version = client.version;
        let mut greeting = Vec::new();
        server::write_connack(&mut greeting, version, &offer, false);
        if greeting.len() > client.packet_bytes_max {
            greeting.clear();
            server::write_connack(&mut greeting, version, &offer, true);
        }
        if greeting.len() > client.packet_bytes_max {
            self.close(now, id, Close::Refused);
            return;
        }
        client.out.push(|out| out.extend_from_slice(&greeting));
        debug!(client = %Outside::new(&name), "client connected");
        self.queue(id);
        self.note_deadline(id);
    }

    /// A client is not let in.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        id: ClientId,
        form: Option<Version>,
        fault: Fault,
        close: Close,
    ) {
        if let Some(client) = self.client(id) {
            let listener = client.peer.listener;
            count(&mut self.counts, listener, |counts| &mut counts.refused);
        }
        self.leave(now, id, close);
        if let (Some(form), Some(client)) = (form, self.client_mut(id)) {
            client
                .out
                .push(|out| server::write_refusal(out, form, fault));
        }
        self.finish(now, id, close);
    }

    /// A client has broken the rules.
    fn fail(&mut self, now: Now, id: ClientId, fault: Fault) {
        let Some(client) = self.client(id) else {
            return;
        };
        if client.is_new() {
            self.close(now, id, Close::NoMqtt);
            return;
        }
        debug!(
            client = %Outside::new(&client.name),
            "a client broke the rules of MQTT: 0x{:02x}", fault.0
        );
        self.close(now, id, Close::Violation(fault.0));
    }

    /// Ends a client's session; what was begun is written before its connection is closed.
    pub(super) fn close(&mut self, now: Now, id: ClientId, close: Close) {
        let Some(client) = self.client(id).filter(|client| !client.is_closing()) else {
            return;
        };
        let told = client.is_open() && client.version == Version::V5;
        self.leave(now, id, close);
        if let (true, Some(code), Some(client)) = (told, close.code(), self.client_mut(id)) {
            client.out.push(|out| v5::write_disconnect(out, code));
        }
        self.finish(now, id, close);
    }

    /// What was begun is written, if it takes it soon.
    fn finish(&mut self, now: Now, id: ClientId, close: Close) {
        let Some(client) = self.client_mut(id) else {
            return;
        };
        client.state = State::Closing(close, now.monotonic + LINGER);
        if client.out.is_empty() {
            self.give_up(now, id, close);
        } else {
            self.queue(id);
            self.note_deadline(id);
        }
    }

    /// The connection is to be closed now.
    pub(super) fn give_up(&mut self, now: Now, id: ClientId, close: Close) {
        self.remove(now, id, close);
        self.closes.push_back((id, close));
    }

    /// A client takes no more part.
    fn leave(&mut self, now: Now, id: ClientId, close: Close) {
        let Some(client) = client_mut(&mut self.places, id) else {
            return;
        };
        match client.state {
            State::Closing(..) => return,
            State::Open => self.stats.clients = self.stats.clients.saturating_sub(1),
            State::Opening(_) | State::LoggingIn(_) => {
                self.stats.logins = self.stats.logins.saturating_sub(1);
            }
        }
        client.state = State::Closing(close, now.monotonic + LINGER);
        client.inbox = Vec::new();
        client.partial_since = None;
        client.resume_at = None;
        (client.subscriptions, client.topics) = (Vec::new(), 0);
        client.flagged = Vec::new();
        client.cover = Rc::default();
        client.out.end(&mut self.own);
        let will = client.will.take();
        let name = std::mem::replace(&mut client.name, "".into());
        if self.names.get(&name) == Some(&id) {
            self.names.remove(&name);
        }
        if let Some(will) = will
            && !self.ending
        {
            self.publish_will(now, id, *will);
        }
    }

    pub(super) fn remove(&mut self, now: Now, id: ClientId, close: Close) {
        self.leave(now, id, close);
        if self.client(id).is_none() {
            return;
        }
        if let Some(place) = self.places.get_mut(id.index as usize) {
            place.client = None;
            self.free.push(id.index);
        }
    }

    /// A will is a message like any other (§9.18).
    fn publish_will(&mut self, now: Now, id: ClientId, will: Will) {
        let mut event = will.event;
        event.expire_after(now.monotonic, will.expiry_s);
        let listener = self.client(id).map_or(0, |client| client.peer.listener);
        match self.route(&event.topic, listener) {
            Route::Request => {
                self.requests.push_back(ClientRequest {
                    client: id,
                    listener,
                    topic: (&*event.topic).into(),
                    payload: event.payload,
                    retained: false,
                    response: will.response,
                });
            }
            Route::Relay => self.relay(now, None, event),
            Route::Foreign => count(&mut self.counts, listener, |counts| &mut counts.foreign),
            Route::Nowhere | Route::Denied | Route::TooDeep => {}
        }
    }

    /// Whether it is what Home Assistant says when it comes: the rules want to know, and others may too.
    fn is_birth(&self, topic: &str, listener: usize) -> bool {
        let prefix = discovery_prefix(&self.settings, listener);
        prefix.is_some_and(|prefix| topic.strip_prefix(prefix) == Some("/status"))
    }

    /// What becomes of a message with that topic.
    fn route(&self, topic: &str, listener: usize) -> Route {
        let [notifications, reads, writes] = &self.prefixes;
        let levels = topic.bytes().filter(|byte| *byte == b'/').count() + 1;
        if levels > self.settings.limits.levels_max {
            Route::TooDeep
        } else if topic.starts_with("$SYS") {
            Route::Nowhere
        } else if topic.starts_with("$share/") {
            Route::Denied
        } else if topic.starts_with(&**reads) || topic.starts_with(&**writes) {
            Route::Request
        } else if topic.starts_with(&**notifications) || self.own.is_said(topic) {
            Route::Foreign
        } else if relays(&self.settings, listener) || self.is_birth(topic, listener) {
            Route::Relay
        } else {
            Route::Denied
        }
    }

    /// A message of a client.
    fn publish(&mut self, now: Now, id: ClientId, message: &Message<'_>) -> Result<(), Fault> {
        let Some(client) = client_mut(&mut self.places, id) else {
            return Ok(());
        };
        let listener = client.peer.listener;
        count(&mut self.counts, listener, |counts| &mut counts.received);
        let mut known = None;
        if let Some(alias) = message.alias {
            if alias > ALIASES_MAX {
                return Err(Fault::ALIAS);
            }
            let index = usize::from(alias);
            if index >= client.aliases.len() {
                client.aliases.resize(index + 1, None);
            }
            let Some(place) = client.aliases.get_mut(index) else {
                return Err(Fault::ALIAS);
            };
            if !message.topic.is_empty() {
                *place = Some(message.topic.into());
            }
            known = Some(place.clone().ok_or(Fault::ALIAS)?);
        }
        let topic = known.as_deref().unwrap_or(message.topic);
        let version = client.version;
        let bridge = client.bridge;
        let again = message.qos == 2 && client.unreleased.contains(&message.id);
        let open_max = match version {
            Version::V5 => usize::from(RECEIVE_MAX),
            Version::V3 => UNRELEASED_MAX,
        };
        if message.qos == 2 && !again && client.unreleased.len() >= open_max {
            return Err(Fault::RECEIVE_MAXIMUM);
        }
        let route = self.route(topic, listener);
        let code = match version {
            Version::V5 => route.code(),
            Version::V3 => 0,
        };
        if message.qos == 2
            && let Some(client) = client_mut(&mut self.places, id)
        {
            if !again && code < 0x80 {
                client.unreleased.push(message.id);
            }
            client
                .out
                .push(|out| server::write_ack(out, version, 5, message.id, code));
        }
        // What comes again is not executed again (§9.13).
        if !again {
            match route {
                Route::Request => {
                    self.await_change(now, topic);
                    self.requests.push_back(ClientRequest {
                        client: id,
                        listener,
                        topic: topic.into(),
                        payload: message.payload.into(),
                        retained: message.retain && bridge,
                        response: message.respond_to.map(response),
                    });
                }
                Route::Relay => {
                    if self.is_birth(topic, listener) {
                        self.requests.push_back(ClientRequest {
                            client: id,
                            listener,
                            topic: topic.into(),
                            payload: message.payload.into(),
                            retained: false,
                            response: None,
                        });
                    }
                    let topic = known.unwrap_or_else(|| message.topic.into());
                    self.relay(now, Some(id), Event::new(now.monotonic, topic, message));
                }
                Route::Foreign => self.foreign(now, id, topic),
                Route::Nowhere | Route::Denied | Route::TooDeep => {}
            }
        }
        if message.qos == 1
            && let Some(client) = self.client_mut(id)
        {
            client
                .out
                .push(|out| server::write_ack(out, version, 4, message.id, code));
        }
        Ok(())
    }

    /// What a client writes comes back at once (§5.6).
    fn await_change(&mut self, now: Now, topic: &str) {
        let written = topic.strip_prefix(&*self.prefixes[2]);
        if let Some(slot) = written.and_then(|rest| self.directory.slot(rest)) {
            self.pace.await_change(now.monotonic, slot.0);
        }
    }

    /// A client publishes what is ours: said once for each client (§9.14).
    fn foreign(&mut self, now: Now, id: ClientId, topic: &str) {
        let Some(client) = client_mut(&mut self.places, id) else {
            return;
        };
        let listener = client.peer.listener;
        count(&mut self.counts, listener, |counts| &mut counts.foreign);
        if std::mem::replace(&mut client.foreign_logged, true) {
            return;
        }
        let lines = self.lines.get_mut(listener).map(|lines| &mut lines.foreign);
        let rate = self.settings.log;
        let Some(hidden) = lines.and_then(|lines| lines.allow(now.monotonic, rate)) else {
            return;
        };
        if hidden > 0 {
            info!("{hidden} more clients that publish what only the bridge may are not shown");
        }
        info!(
            client = %Outside::new(&client.name),
            "a client publishes to {}, which only the bridge may; dropped", Outside::new(topic)
        );
    }

    /// A message for other clients (§9.16).
    fn relay(&mut self, now: Now, from: Option<ClientId>, event: Event) {
        let event = Rc::new(event);
        if event.retain {
            self.next_expiry.get_or_insert(now.monotonic + EXPIRY);
        }
        if event.retain && !self.retained.keep(&event, &self.settings.limits) {
            warn!(
                "no more messages of clients are retained: at most {} topics and {} bytes; they are passed on all the same",
                self.settings.limits.retained_topics_max, self.settings.limits.retained_bytes_max
            );
        }
        let births: SmallVec<[bool; 4]> = (0..self.settings.listeners.len())
            .map(|listener| self.is_birth(&event.topic, listener))
            .collect();
        let limits = &self.settings.limits;
        for client in open(&mut self.places) {
            let birth = births.get(client.peer.listener).copied();
            if !relays(&self.settings, client.peer.listener) && birth != Some(true) {
                continue;
            }
            let reception = client.receives(&event.topic, from);
            if !reception.wanted {
                continue;
            }
            let retain = event.retain && reception.retain;
            let (bytes, messages) = (limits.queue_bytes_max, limits.queue_messages_max);
            if client.out.push_event(&event, retain, bytes, messages) {
                queue(&mut self.ready, client);
            } else {
                let listener = client.peer.listener;
                count(&mut self.counts, listener, |counts| &mut counts.dropped);
            }
        }
    }

    /// PUBACK, PUBREC, PUBREL, PUBCOMP. We send nothing that wants the others; what answers nothing is
    /// answered as brokers do, so that no client waits for it.
    fn acknowledged(&mut self, id: ClientId, kind: u8, about: u16, code: u8) {
        let Some(client) = self.client_mut(id) else {
            return;
        };
        let answer = match kind {
            6 => {
                client.unreleased.retain(|other| *other != about);
                7
            }
            5 if code < 0x80 => 6,
            _ => return,
        };
        let version = client.version;
        client
            .out
            .push(|out| server::write_ack(out, version, answer, about, 0));
    }

    /// SUBSCRIBE (§9.7, §9.8).
    fn subscribe(
        &mut self,
        now: Now,
        id: ClientId,
        about: u16,
        identifier: bool,
        filters: Filters<'_>,
    ) {
        let mut codes: SmallVec<[u8; 8]> = SmallVec::new();
        let mut stored: SmallVec<[Rc<Shared>; 1]> = SmallVec::new();
        let mut costs = 0;
        for wanted in filters {
            let code = if identifier {
                Err(NO_IDENTIFIERS)
            } else {
                self.admit(id, wanted.filter)
            };
            let filter = match code {
                Ok(filter) => filter,
                Err(code) => {
                    codes.push(code);
                    continue;
                }
            };
            costs += match filter.only() {
                Some(_) => 1,
                None => WILDCARD_TOKENS,
            };
            let shared = self.directory.filter(filter);
            let Some(client) = client_mut(&mut self.places, id) else {
                return;
            };
            let new = client.subscribe(shared.clone(), wanted);
            let store = match wanted.retain_handling() {
                0 => true,
                1 => new,
                _ => false,
            };
            if store {
                stored.push(shared);
            }
            codes.push(0);
        }
        self.renew_cover(id);
        if codes.contains(&TOO_MANY) {
            self.crowded(now, id);
        }
        let Some(client) = client_mut(&mut self.places, id) else {
            return;
        };
        if client.version == Version::V3 {
            for code in codes.iter_mut().filter(|code| **code >= 0x80) {
                *code = if client.old { 0 } else { 0x80 };
            }
        }
        let version = client.version;
        client
            .out
            .push(|out| server::write_suback(out, version, 9, about, &codes));
        if !stored.is_empty() {
            client.out.push_stored(stored);
        }
        client.take_tokens(now, costs);
    }

    /// Whether a client may have a filter; otherwise the reason code.
    fn admit(&self, id: ClientId, text: &str) -> Result<Filter, u8> {
        if text.starts_with("$share/") {
            return Err(NO_SHARED);
        }
        let limits = &self.settings.limits;
        let portal = self.settings.portal.as_str();
        let filter = Filter::parse(text, portal, limits.levels_max).ok_or(BAD_FILTER)?;
        let client = self.client(id).ok_or(NOT_AUTHORIZED)?;
        let listener = client.peer.listener;
        if !relays(&self.settings, listener)
            && !filter.may_be_ours(portal, discovery_prefix(&self.settings, listener))
        {
            return Err(NOT_AUTHORIZED);
        }
        // One topic that is not for the clients of this listener.
        let hidden = filter
            .only()
            .and_then(|only| only.strip_prefix(&*self.prefixes[0]));
        if hidden.is_some_and(|rest| {
            !serves(&self.settings, listener) || self.directory.hides(listener, rest)
        }) {
            return Err(NOT_AUTHORIZED);
        }
        let known = self.directory.known_filter(text);
        if !known.is_some_and(|known| client.has(&known)) && self.has_enough(client, &filter) {
            return Err(TOO_MANY);
        }
        Ok(filter)
    }

    /// Whether a client has as many filters as it may (§9.22). Home Assistant has one for each value: where
    /// devices are described to it, filters of one topic have a separate bound.
    fn has_enough(&self, client: &Client, filter: &Filter) -> bool {
        let limits = &self.settings.limits;
        if discovery_prefix(&self.settings, client.peer.listener).is_none() {
            return client.subscriptions.len() >= limits.filters_max;
        }
        if filter.is_topic() {
            client.topics >= limits.topics_max
        } else {
            client.subscriptions.len() - client.topics >= limits.filters_max
        }
    }

    /// A client asks for more filters than it may have: said once for each client.
    fn crowded(&mut self, now: Now, id: ClientId) {
        let filters_max = self.settings.limits.filters_max;
        let Some(client) = client_mut(&mut self.places, id) else {
            return;
        };
        if std::mem::replace(&mut client.crowded_logged, true) {
            return;
        }
        let lines = self.lines.get_mut(client.peer.listener);
        let (lines, rate) = (lines.map(|lines| &mut lines.crowded), self.settings.log);
        let Some(hidden) = lines.and_then(|lines| lines.allow(now.monotonic, rate)) else {
            return;
        };
        if hidden > 0 {
            info!("{hidden} more clients with too many filters are not shown");
        }
        info!(
            client = %Outside::new(&client.name),
            "a client asked for more than {filters_max} filters; the others are refused (raise client-filters-max)"
        );
    }

    /// A client's filters are others.
    pub(super) fn renew_cover(&mut self, id: ClientId) {
        let Some(client) = client_mut(&mut self.places, id) else {
            return;
        };
        let listener = client.peer.listener;
        let serves = serves(&self.settings, listener);
        let filters = client
            .subscriptions
            .iter()
            .filter(|_| serves)
            .map(|subscription| &subscription.shared);
        let cover = self.directory.cover(listener, filters);
        client.set_cover(cover);
    }

    /// UNSUBSCRIBE (§9.10).
    fn unsubscribe(
        &mut self,
        now: Now,
        id: ClientId,
        about: u16,
        filters: Filters<'_>,
    ) -> Result<(), Fault> {
        let Some(client) = client_mut(&mut self.places, id) else {
            return Ok(());
        };
        let mut codes: SmallVec<[u8; 8]> = SmallVec::new();
        for wanted in filters {
            if Filter::parse(wanted.filter, "", usize::MAX).is_none() {
                return Err(Fault::MALFORMED);
            }
            let found = client.unsubscribe(wanted.filter);
            codes.push(if found { 0 } else { NO_SUBSCRIPTION });
        }
        client.take_tokens(now, u32::try_from(codes.len()).unwrap_or(u32::MAX));
        self.renew_cover(id);
        if let Some(client) = self.client_mut(id) {
            let version = client.version;
            client
                .out
                .push(|out| server::write_suback(out, version, 11, about, &codes));
        }
        Ok(())
    }

    /// A client has something to write.
    pub(super) fn queue(&mut self, id: ClientId) {
        if let Some(client) = client_mut(&mut self.places, id)
            && !client.out.is_empty()
        {
            queue(&mut self.ready, client);
        }
    }
}

fn response(to: RespondTo<'_>) -> Response {
    Response {
        topic: to.topic.into(),
        correlation: to.correlation.into(),
    }
}

/// How many messages with QoS 2 a client of MQTT 5 may have open (§9.5).
const RECEIVE_MAX: u16 = 20;
/// The same of others, which are not told.
const UNRELEASED_MAX: usize = 1000;
/// The highest topic alias (§9.5).
const ALIASES_MAX: u16 = 10;
/// How long a client that is closed may take for what was begun.
const LINGER: Duration = Duration::from_secs(1);
/// When a client that takes too little of what it asks for is looked at again.
const RESUME: Duration = Duration::from_millis(100);

// Reason codes [MQTT-2.4].
const WITH_WILL: u8 = 0x04;
const NO_SUBSCRIPTION: u8 = 0x11;
const BAD_FILTER: u8 = 0x8f;
const TOO_MANY: u8 = 0x97;
const NO_SHARED: u8 = 0x9e;
const NO_IDENTIFIERS: u8 = 0xa1;
