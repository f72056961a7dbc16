//! The MQTT session of a client, and of the doctor: small, without sockets and clocks, for those who only ask.
//!
//! ```text
//!  opened         CONNACK
//! ───────▶ Connecting ──▶ Up ── subscribe, publish, fence ──▶ closed
//! ```
//!
//! Unlike the bridge's session it has no will, subscribes whenever it is told to, and a lost
//! connection is its end. Sole user of MQTT packets here.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use crate::codec::packet::v5::{Extra, Options};
use crate::codec::packet::{self, ConnAck, InPublish, Inbound, QoS, Version, v3, v5};
use crate::config::{BrokerConfig, Login, MqttVersion};
use crate::link::reason;
use crate::link::session::LinkError;

/// How long a broker may take to answer CONNECT or SUBSCRIBE.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The ping interval.
const PING: Duration = Duration::from_secs(30);
/// The longest packet that is taken: as long as what a bridge may have retained.
pub const PACKET_BYTES_MAX: usize = packet::SENT_BYTES_MAX;

/// A client id that nobody else has; it is short enough for every broker [MQTT-3.1.3-5].
pub fn client_id() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("dbus-mqtt-{:010x}", random & 0xff_ffff_ffff)
}

/// The version to ask in: what the settings say, else the one that nearly every broker knows.
pub fn usual_version(broker: &BrokerConfig) -> Version {
    match broker.version {
        MqttVersion::V3 | MqttVersion::Auto => Version::V3,
        MqttVersion::V5 => Version::V5,
    }
}

/// What a packet means to the one who asks.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// Nothing more.
    None,
    /// The broker takes requests.
    Connected,
    /// What was asked before [`Session::fence`] has been answered.
    Fenced,
    /// A message.
    Message(InPublish<'a>),
}

/// One session, from an open socket to its end.
#[derive(Debug)]
pub struct Session {
    version: Version,
    connected: bool,
    /// When CONNECT was sent.
    asked: Instant,
    received: Instant,
    ping_at: Instant,
    last_id: u16,
    /// SUBSCRIBEs without an answer: id, filters, when.
    subscribing: VecDeque<(u16, String, Instant)>,
    /// PINGREQs without an answer, and whether each is a fence.
    pings: VecDeque<bool>,
}

impl Session {
    /// Begins a session on an open socket: CONNECT is written to `out`.
    pub fn open(
        version: Version,
        client_id: &str,
        login: Option<&Login>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Session {
        let connect = packet::Connect {
            client_id,
            login: login.map(|login| (login.user.as_str(), login.password.expose())),
            ping_s: u16::try_from(PING.as_secs()).unwrap_or(u16::MAX),
            will: None,
            plain_will: false,
            kept_s: 0,
            clean_start: true,
            packet_bytes_max: u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX),
        };
        match version {
            Version::V3 => v3::write_connect(out, &connect),
            Version::V5 => v5::write_connect(out, &connect),
        }
        Session {
            version,
            connected: false,
            asked: now,
            received: now,
            ping_at: now + PING,
            last_id: 0,
            subscribing: VecDeque::new(),
            pings: VecDeque::new(),
        }
    }

    /// Asks for what fits these filters.
    pub fn subscribe(&mut self, filters: &[String], now: Instant, out: &mut Vec<u8>) {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        // A bridge publishes with QoS 0.
        let qos = QoS::AtMostOnce;
        match self.version {
            Version::V3 => v3::write_subscribe(out, self.last_id, filters, qos),
            Version::V5 => {
                let options = Options {
                    stored: true,
                    ..Options::default()
                };
                v5::write_subscribe(out, self.last_id, filters, qos, options);
            }
        }
        let filters = filters.join(" and ");
        self.subscribing.push_back((self.last_id, filters, now));
    }

    /// Sends a message.
    pub fn publish(&self, topic: &str, payload: &[u8], out: &mut Vec<u8>) {
        self.write(topic, payload, false, out);
    }

    /// Has the broker forget what it retains on a topic.
    pub fn clear(&self, topic: &str, out: &mut Vec<u8>) {
        self.write(topic, b"", true, out);
    }

    fn write(&self, topic: &str, payload: &[u8], retain: bool, out: &mut Vec<u8>) {
        let topic = &[topic.as_bytes(), b"", b""];
        let payload = |out: &mut Vec<u8>| out.extend_from_slice(payload);
        let extra = Extra {
            retain,
            ..Extra::default()
        };
        match self.version {
            Version::V3 => v3::write_publish(out, retain, topic, payload),
            Version::V5 => v5::write_publish(out, extra, topic, payload),
        }
    }

    /// Asks the broker to say when it has dealt with all that was written so far. One that answers
    /// out of turn may still have something then.
    pub fn fence(&mut self, out: &mut Vec<u8>) {
        packet::write_pingreq(out);
        self.pings.push_back(true);
    }

    /// Takes the packet that `bytes` begin with: its length, and what it means. `None` where it is
    /// not whole yet.
    pub fn receive<'a>(
        &mut self,
        now: Instant,
        bytes: &'a mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(usize, Event<'a>)>, LinkError> {
        let Some(length) = packet::packet_len(bytes, PACKET_BYTES_MAX)? else {
            return Ok(None);
        };
        let Some(whole) = bytes.get_mut(..length) else {
            return Ok(None);
        };
        self.received = now;
        let event = self.packet(packet::decode_as(self.version, whole)?, out)?;
        Ok(Some((length, event)))
    }

    fn packet<'a>(
        &mut self,
        packet: Inbound<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Event<'a>, LinkError> {
        match packet {
            // Only MQTT 5 has a broker say farewell.
            Inbound::Disconnect(farewell) => Err(LinkError::Dismissed {
                code: farewell.code,
                said: reason::words(&farewell),
            }),
            Inbound::ConnAck(ack) if !self.connected => {
                self.accepted(&ack)?;
                Ok(Event::Connected)
            }
            Inbound::ConnAck(_) => Err(LinkError::OutOfTurn),
            _ if !self.connected => Err(LinkError::OutOfTurn),
            Inbound::SubAck { refused, id } => {
                let place = self.subscribing.iter().position(|(own, ..)| *own == id);
                match place.and_then(|place| self.subscribing.remove(place)) {
                    Some((_, filter, _)) => match refused {
                        Some(code) => Err(LinkError::Subscription { filter, code }),
                        None => Ok(Event::None),
                    },
                    None => Ok(Event::None),
                }
            }
            Inbound::PingResp => match self.pings.pop_front() {
                Some(true) => Ok(Event::Fenced),
                Some(false) | None => Ok(Event::None),
            },
            Inbound::Publish(message) => {
                if let Some(id) = message.id {
                    packet::write_puback(out, id);
                }
                Ok(Event::Message(message))
            }
            Inbound::UnsubAck | Inbound::Other => Ok(Event::None),
        }
    }

    /// The broker has answered CONNECT.
    fn accepted(&mut self, ack: &ConnAck<'_>) -> Result<(), LinkError> {
        let version = self.version;
        match ack.farewell.code {
            _ if ack.form != version => return Err(LinkError::Version { version }),
            0 => self.connected = true,
            1 | 0x84 => return Err(LinkError::Version { version }),
            code => {
                return Err(LinkError::Refused {
                    version,
                    code,
                    said: reason::words(&ack.farewell),
                });
            }
        }
        Ok(())
    }

    /// When [`Session::tick`] has something to do.
    pub fn deadline(&self) -> Instant {
        let silence = self.received + PING * 3 / 2;
        let answer = if self.connected {
            self.subscribing.front().map(|(.., asked)| *asked)
        } else {
            Some(self.asked)
        };
        let own = answer.map_or(self.ping_at, |asked| asked + ANSWER_TIMEOUT);
        own.min(silence).min(self.ping_at)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), LinkError> {
        let silent = now.saturating_duration_since(self.received);
        if silent >= PING * 3 / 2 {
            return Err(LinkError::Silent { silent });
        }
        if !self.connected && now >= self.asked + ANSWER_TIMEOUT {
            return Err(LinkError::NoAnswer { what: "CONNECT" });
        }
        let subscribing = self.subscribing.front();
        if subscribing.is_some_and(|(.., asked)| now >= *asked + ANSWER_TIMEOUT) {
            return Err(LinkError::NoAnswer { what: "SUBSCRIBE" });
        }
        if now >= self.ping_at {
            if self.connected {
                packet::write_pingreq(out);
                self.pings.push_back(false);
            }
            self.ping_at = now + PING;
        }
        Ok(())
    }

    /// Ends the session in order.
    pub fn close(&self, out: &mut Vec<u8>) {
        packet::write_disconnect(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
    const PINGRESP: [u8; 2] = [0xd0, 0];

    fn take(session: &mut Session, now: Instant, bytes: &[u8]) -> Result<String, String> {
        let (mut bytes, mut out) = (bytes.to_vec(), Vec::new());
        let event = session.receive(now, &mut bytes, &mut out);
        event
            .map(|event| format!("{:?}", event.map(|(_, event)| event)))
            .map_err(|error| error.to_string())
    }

    fn connected(now: Instant) -> (Session, Vec<u8>) {
        let mut out = Vec::new();
        let mut session = Session::open(Version::V3, "c", None, now, &mut out);
        assert_eq!(out, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x1e\x00\x01c");
        assert_eq!(
            take(&mut session, now, &CONNACK).unwrap(),
            "Some(Connected)"
        );
        out.clear();
        (session, out)
    }

    #[test]
    fn messages_come_with_their_flags_and_are_acknowledged() {
        let now = Instant::now();
        let (mut session, mut out) = connected(now);
        session.subscribe(&["N/+/a".into()], now, &mut out);
        assert_eq!(out, b"\x82\x0a\x00\x01\x00\x05N/+/a\x00");
        assert_eq!(
            take(&mut session, now, &[0x90, 3, 0, 1, 1]).unwrap(),
            "Some(None)"
        );
        out.clear();
        let mut publish = *b"\x33\x08\x00\x01a\x00\x07xyz";
        let (length, event) = session
            .receive(now, &mut publish, &mut out)
            .unwrap()
            .unwrap();
        assert_eq!(length, 10);
        let Event::Message(message) = event else {
            panic!("{event:?}")
        };
        assert_eq!(
            (message.topic, &*message.payload, message.retain),
            ("a", &b"xyz"[..], true)
        );
        assert_eq!(out, [0x40, 2, 0, 7]);
        assert_eq!(take(&mut session, now, b"\x30\x08\x00").unwrap(), "None");
        out.clear();
        session.publish("R/x", b"1", &mut out);
        session.close(&mut out);
        assert_eq!(out, b"\x30\x06\x00\x03R/x1\xe0\x00");
    }

    #[test]
    fn both_versions_are_spoken() {
        let now = Instant::now();
        let mut out = Vec::new();
        let mut session = Session::open(Version::V5, "c", None, now, &mut out);
        assert!(out.starts_with(b"\x10") && out.windows(7).any(|part| part == b"\x00\x04MQTT\x05"));
        // A broker that knows 3.1.1 only answers in its form.
        let old = take(&mut session, now, &[0x20, 2, 0, 1]).unwrap_err();
        assert!(old.contains("does not support MQTT 5"), "{old}");
        let mut session = Session::open(Version::V5, "c", None, now, &mut out);
        assert_eq!(
            take(&mut session, now, &[0x20, 3, 0, 0, 0]).unwrap(),
            "Some(Connected)"
        );
        out.clear();
        session.clear("a", &mut out);
        assert_eq!(out, b"\x31\x04\x00\x01a\x00");
        let gone = take(&mut session, now, &[0xe0, 1, 0x8b]).unwrap_err();
        assert!(gone.contains("ended the session"), "{gone}");
    }

    #[test]
    fn a_fence_is_told_from_a_ping() {
        let now = Instant::now();
        let (mut session, mut out) = connected(now);
        let later = session.deadline();
        session.tick(later, &mut out).unwrap();
        session.fence(&mut out);
        assert_eq!(out, [0xc0, 0, 0xc0, 0]);
        assert_eq!(take(&mut session, later, &PINGRESP).unwrap(), "Some(None)");
        assert_eq!(
            take(&mut session, later, &PINGRESP).unwrap(),
            "Some(Fenced)"
        );
        assert_eq!(take(&mut session, later, &PINGRESP).unwrap(), "Some(None)");
    }

    #[test]
    fn what_a_broker_refuses_or_leaves_unanswered_ends_it() {
        let now = Instant::now();
        let mut out = Vec::new();
        let open = |out: &mut Vec<u8>| Session::open(Version::V3, "c", None, now, out);
        let refused = take(&mut open(&mut out), now, &[0x20, 2, 0, 5]).unwrap_err();
        assert!(refused.contains("not authorized"), "{refused}");
        assert!(take(&mut open(&mut out), now, &PINGRESP).is_err());
        let mut mute = open(&mut out);
        let late = mute.deadline();
        assert_eq!(late, now + ANSWER_TIMEOUT);
        assert!(mute.tick(now + ANSWER_TIMEOUT / 2, &mut out).is_ok());
        assert!(matches!(
            mute.tick(late, &mut out),
            Err(LinkError::NoAnswer { .. })
        ));

        let (mut session, _) = connected(now);
        session.subscribe(&["N/#".into()], now, &mut out);
        let refused = take(&mut session, now, &[0x90, 3, 0, 1, 0x80]).unwrap_err();
        assert!(refused.contains("subscription to N/#"), "{refused}");
        session.subscribe(&["N/#".into()], now, &mut out);
        assert_eq!(session.deadline(), now + ANSWER_TIMEOUT);
        assert!(session.tick(now + ANSWER_TIMEOUT, &mut out).is_err());

        let (mut session, _) = connected(now);
        session.tick(now + PING, &mut out).unwrap();
        assert_eq!(session.deadline(), now + PING * 3 / 2);
        let silent = session.tick(now + PING * 3 / 2, &mut out);
        assert!(matches!(silent, Err(LinkError::Silent { .. })));
        let huge = take(&mut session, now, &[0x30, 0xff, 0xff, 0xff, 0x7f]).unwrap_err();
        assert!(huge.contains("more than"), "{huge}");
    }
}
