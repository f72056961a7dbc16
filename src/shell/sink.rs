//! From the bridge's messages to PUBLISH packets, one way for each version of MQTT.
//!
//! With 3.1.1 there is nothing to decide. With 5 a notification may carry an expiry and a number in
//! place of its topic, and what is longer than the broker takes is left out and reported.

use std::collections::HashSet;
use std::time::Instant;

use tracing::warn;

use super::memory;
use crate::bridge::{ItemRef, PublishSink};
use crate::codec::packet::v5::{self, Extra};
use crate::codec::packet::{self, RespondTo, ServerLimits};
use crate::link::aliases::Aliases;
use crate::link::suspects::{Suspect, Suspects};
use crate::model::log_rate::{LogRate, Throttle};
use crate::model::request::ResponseAddress;

/// How many topics are remembered as reported.
const REPORTED_MAX: usize = 1_000;

/// What a client is told whose answer is longer than the broker takes (§5.8).
const ANSWER_TOO_LARGE: &[u8] = b"{\"status\": \"error\", \"error\": \"too-large\", \
    \"message\": \"the answer is longer than the broker takes\"}";

/// A sink that tells how much it has written.
pub(super) trait Buffered: PublishSink {
    /// How long the buffer is.
    fn len(&self) -> usize;
}

/// Notes what is written, while the broker is suspected to close the connection because of some of it
/// (§4.12).
pub(super) struct Noting<'a, S> {
    pub sink: S,
    pub suspects: &'a mut Suspects,
    /// How many PINGREQs went out before.
    pub pings: u32,
}

impl<S> Noting<'_, S> {
    fn note(&mut self, topic: &[&[u8]; 3], empty: bool) {
        let topic = String::from_utf8_lossy(&topic.concat()).into();
        self.suspects.note(self.pings, Suspect { topic, empty });
    }
}

impl<S: PublishSink> PublishSink for Noting<'_, S> {
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let mut empty = false;
        self.sink.publish(retain, topic, |out| {
            let start = out.len();
            payload(out);
            empty = out.len() == start;
        });
        self.note(topic, empty);
    }

    fn notify(
        &mut self,
        item: ItemRef,
        retain: bool,
        topic: &[&[u8]; 3],
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        self.sink.notify(item, retain, topic, payload);
        self.note(topic, false);
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.sink.memory_bytes()
    }

    fn packet_bytes_max(&self) -> Option<usize> {
        self.sink.packet_bytes_max()
    }

    fn takes_content_types(&self) -> bool {
        self.sink.takes_content_types()
    }

    fn publish_as(&mut self, content_type: &str, topic: &[&[u8]; 3], payload: &[u8]) {
        self.sink.publish_as(content_type, topic, payload);
        self.note(topic, false);
    }

    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        self.sink.respond(to, payload);
    }
}

impl<S: Buffered> Buffered for Noting<'_, S> {
    fn len(&self) -> usize {
        self.sink.len()
    }
}

/// Writes packets of MQTT 3.1.1.
pub(super) struct V3Sink<'a>(pub &'a mut Vec<u8>);

impl PublishSink for V3Sink<'_> {
    #[inline]
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        packet::write_publish(self.0, retain, topic, payload);
    }

    fn memory_bytes(&self) -> Option<u64> {
        memory::resident_bytes()
    }
}

impl Buffered for V3Sink<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// What one connection with MQTT 5 knows.
#[derive(Debug)]
pub(super) struct ConnectionLimits {
    /// After how many seconds the broker is to forget a retained notification.
    expiry_s: Option<u32>,
    retain: bool,
    packet_bytes_max: usize,
    aliases: Aliases,
}

impl ConnectionLimits {
    /// What the broker allows, as far as it is wanted.
    pub fn new(
        server_limits: &ServerLimits,
        expiry_s: Option<u32>,
        topic_aliases: bool,
    ) -> ConnectionLimits {
        let unlimited = usize::MAX;
        let bytes = server_limits.packet_bytes_max.map(usize::try_from);
        ConnectionLimits {
            expiry_s,
            retain: server_limits.retain,
            packet_bytes_max: bytes.and_then(Result::ok).unwrap_or(unlimited),
            aliases: Aliases::new(if topic_aliases {
                server_limits.aliases_max
            } else {
                0
            }),
        }
    }
}

/// Messages that were too large for a broker, each topic said once.
#[derive(Debug, Default)]
pub(super) struct TooLarge {
    reported: HashSet<Box<str>>,
    throttle: Throttle,
}

impl TooLarge {
    /// A message of this length was skipped (§4.14).
    pub fn skipped(&mut self, topic: &str, found: usize, max: usize, rate: LogRate) {
        self.say(topic, rate, || {
            format!("skipped a message of {found} bytes on {topic}: more than {max} are not taken")
        });
    }

    fn report(&mut self, topic: &str, found: usize, max: usize, rate: LogRate) {
        self.say(topic, rate, || {
            format!("{topic} is left out: {found} bytes, and the broker takes {max}")
        });
    }

    fn say(&mut self, topic: &str, rate: LogRate, text: impl FnOnce() -> String) {
        if self.reported.contains(topic) || self.reported.len() >= REPORTED_MAX {
            return;
        }
        if let Some(suppressed) = self.throttle.allow(Instant::now(), rate) {
            if suppressed > 0 {
                warn!("{suppressed} more messages that are too large are not shown");
            }
            self.reported.insert(topic.into());
            warn!("{}", text());
        }
    }
}

/// Writes packets of MQTT 5.
pub(super) struct V5Sink<'a> {
    pub out: &'a mut Vec<u8>,
    pub limits: &'a mut ConnectionLimits,
    pub too_large: &'a mut TooLarge,
    pub log: LogRate,
}

impl V5Sink<'_> {
    /// Takes back what was written since `start` where it is longer than the broker takes.
    #[inline]
    fn fits(&mut self, start: usize, topic: &[&[u8]; 3]) -> bool {
        let found = self.out.len() - start;
        if found <= self.limits.packet_bytes_max {
            return true;
        }
        self.out.truncate(start);
        let topic = topic.concat();
        let topic = String::from_utf8_lossy(&topic);
        self.too_large
            .report(&topic, found, self.limits.packet_bytes_max, self.log);
        false
    }

    /// What the broker retains is an older value now, and no value is better than a stale one.
    #[cold]
    fn clear(&mut self, topic: &[&[u8]; 3]) {
        let start = self.out.len();
        let extra = Extra {
            retain: true,
            ..Extra::default()
        };
        v5::write_publish(self.out, extra, topic, |_| {});
        if self.out.len() - start > self.limits.packet_bytes_max {
            self.out.truncate(start);
        }
    }
}

impl PublishSink for V5Sink<'_> {
    #[inline]
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        let extra = Extra {
            retain: retain && self.limits.retain,
            ..Extra::default()
        };
        v5::write_publish(self.out, extra, topic, payload);
        self.fits(start, topic);
    }

    #[inline]
    fn notify(
        &mut self,
        item: ItemRef,
        retain: bool,
        topic: &[&[u8]; 3],
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.out.len();
        let retain = retain && self.limits.retain;
        let extra = Extra {
            retain,
            alias: self.limits.aliases.pick(item.slot.0, item.serial()),
            expiry_s: self.limits.expiry_s.filter(|_| retain),
        };
        v5::write_publish(self.out, extra, topic, payload);
        if !self.fits(start, topic) {
            self.limits.aliases.forget(item.slot.0);
            if retain {
                self.clear(topic);
            }
        }
    }

    fn memory_bytes(&self) -> Option<u64> {
        memory::resident_bytes()
    }

    fn packet_bytes_max(&self) -> Option<usize> {
        Some(self.limits.packet_bytes_max)
    }

    fn takes_content_types(&self) -> bool {
        true
    }

    fn publish_as(&mut self, content_type: &str, topic: &[&[u8]; 3], payload: &[u8]) {
        let start = self.out.len();
        v5::write_publish_as(self.out, content_type, topic, payload);
        self.fits(start, topic);
    }

    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        let to = RespondTo {
            topic: &to.topic,
            correlation: &to.correlation,
        };
        let topic = [to.topic.as_bytes(), b"", b""];
        v5::write_response(self.out, to, payload);
        if !self.fits(start, &topic) {
            v5::write_response(self.out, to, |out| out.extend_from_slice(ANSWER_TOO_LARGE));
            self.fits(start, &topic);
        }
    }
}

impl Buffered for V5Sink<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.out.len()
    }
}
