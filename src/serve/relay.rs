//! Messages of clients on topics that are not ours: events, passed on, and the few that are retained in
//! memory (§9.16, §9.17).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::interface::Limits;
use crate::codec::packet::Version;
use crate::codec::packet::client::Message;
use crate::codec::packet::properties::{Name, Property};
use crate::codec::packet::server;

/// A message, as it waits for those who have a filter for it.
#[derive(Debug)]
pub struct Event {
    /// Its topic.
    pub topic: Rc<str>,
    /// Its payload.
    pub payload: Box<[u8]>,
    /// Whether its sender wanted it retained.
    pub retain: bool,
    /// Its properties but alias and expiry, as they came.
    kept: Box<[u8]>,
    /// When it is worth nothing any more.
    expires: Option<Instant>,
}

impl Event {
    /// A client's message.
    pub fn new(now: Instant, topic: Rc<str>, message: &Message<'_>) -> Event {
        let mut kept = Vec::new();
        let mut properties = message.properties.clone();
        while let Some((property, raw)) = properties.next_raw() {
            let dropped = matches!(
                property,
                Property::Number(Name::TopicAlias | Name::MessageExpiry | Name::WillDelay, _)
            );
            if !dropped {
                kept.extend_from_slice(raw);
            }
        }
        let mut event = Event {
            topic,
            payload: message.payload.into(),
            retain: message.retain,
            kept: kept.into(),
            expires: None,
        };
        event.expire_after(now, message.expiry_s);
        event
    }

    /// From now on it counts for so many seconds.
    pub fn expire_after(&mut self, now: Instant, expiry_s: Option<u32>) {
        let lasts = |seconds: u32| now.checked_add(Duration::from_secs(seconds.into()));
        self.expires = expiry_s.and_then(lasts);
    }

    /// How much of memory it takes, about, in bytes.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.kept.len() + OVERHEAD
    }

    /// Whether it is worth nothing any more.
    pub fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Writes it as a PUBLISH.
    pub fn write(&self, now: Instant, version: Version, retain: bool, out: &mut Vec<u8>) {
        // What is left, rounded up: a second that has begun counts [MQTT-3.3.2-6].
        let left = |expires: Instant| {
            let left = expires.saturating_duration_since(now);
            let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            u32::try_from(seconds).unwrap_or(u32::MAX)
        };
        server::write_message(
            out,
            version,
            retain,
            &self.topic,
            &self.kept,
            self.expires.map(left),
            &self.payload,
        );
    }
}

/// What of a message is not text: its place in lists, and the like.
const OVERHEAD: usize = 64;

/// The retained ones.
#[derive(Debug, Default)]
pub struct Retained {
    events: BTreeMap<Rc<str>, Rc<Event>>,
    bytes: usize,
    /// Whether it was said that no more fit.
    warned: bool,
}

impl Retained {
    /// A message with the retain flag has come. `false` the first time that one is not kept.
    pub fn keep(&mut self, event: &Rc<Event>, limits: &Limits) -> bool {
        if let Some(old) = self.events.remove(&event.topic) {
            self.bytes -= old.bytes();
        }
        if event.payload.is_empty() {
            return true;
        }
        let bytes = event.bytes();
        let fits = event.topic.len() + event.payload.len() <= limits.retained_message_bytes_max
            && self.events.len() < limits.retained_topics_max
            && self.bytes + bytes <= limits.retained_bytes_max;
        if !fits {
            return std::mem::replace(&mut self.warned, true);
        }
        self.bytes += bytes;
        self.events.insert(event.topic.clone(), event.clone());
        true
    }

    /// The next one behind that topic, in the order of topics.
    pub fn after(&self, topic: Option<&Rc<str>>) -> Option<&Rc<Event>> {
        let from = match topic {
            Some(topic) => Bound::Excluded(topic.clone()),
            None => Bound::Unbounded,
        };
        let mut range = self.events.range((from, Bound::Unbounded));
        range.next().map(|(_, event)| event)
    }

    /// The one of that topic.
    pub fn of(&self, topic: &str) -> Option<&Rc<Event>> {
        self.events.get(topic)
    }

    /// Forgets what is worth nothing any more.
    pub fn expire(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.events.retain(|_, event| {
            let over = event.is_over(now);
            if over {
                *bytes -= event.bytes();
            }
            !over
        });
    }

    /// How many there are, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.events.len(), self.bytes)
    }
}
