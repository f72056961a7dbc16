//! One MQTT session (§6).
//!
//! ```text
//!  opened        CONNACK            SUBACK                  all told, or nothing to ask for
//! ───────▶ Connecting ──▶ Subscribing ──▶ Reading ──────────────────────────────────▶ Up
//!                                          │ SUBSCRIBE N/…/#, what is retained comes,    │
//!                                          │ PINGRESP and quiet: UNSUBSCRIBE             │
//!  (from every state: an error, a silent peer, a time-out: the session is over) ◀────────┘
//! ```
//!
//! Subscribed before anything is published, so that no request is missed. What the broker retains of
//! ours is read back before the first full publish (§4.9): a PINGREQ is the fence behind which a
//! broker that answers in order has told all, and some quiet time serves those that do not.

use std::time::{Duration, Instant};

use super::window::Window;
use crate::codec::packet::{self, InPublish, Inbound, PacketError};

/// How long a broker may take to answer CONNECT or SUBSCRIBE.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing retained must have come before the reading back ends.
const QUIET: Duration = Duration::from_millis(250);
/// How long the reading back may take.
const READING_MAX: Duration = Duration::from_secs(10);

const REQUESTS_ID: u16 = 1;
const RETAINED_ID: u16 = 2;
const NOTICES_ID: u16 = 3;

/// What a session is told at the start.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The client id.
    pub client_id: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// The ping interval.
    pub ping: Duration,
    /// The topic of the last will.
    pub will_topic: String,
    /// The payload of the last will.
    pub will_payload: Vec<u8>,
    /// What to subscribe to.
    pub request_filters: Vec<String>,
    /// What to read back at the start.
    pub retained_filters: Vec<String>,
    /// What else to subscribe to, if the broker allows it.
    pub notice_filters: Vec<String>,
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The broker closed the connection.
    #[error("the broker closed the connection")]
    Closed,
    /// The broker refused the connection.
    #[error("{}", refusal(*code))]
    Refused {
        /// The return code of CONNACK [MQTT-3.2.2.3].
        code: u8,
    },
    /// The broker refused the subscription.
    #[error("the broker lets us not subscribe to {filter} (check its access control list)")]
    Subscription {
        /// The filter of the requests.
        filter: String,
    },
    /// No answer in time.
    #[error("the broker did not answer {what} within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer {
        /// To which packet.
        what: &'static str,
    },
    /// Nothing came for one and a half ping intervals.
    #[error("the broker has been silent for {} s", silent.as_secs())]
    Silent {
        /// For how long.
        silent: Duration,
    },
    /// Bytes that are no MQTT.
    #[error("the broker sent {0}")]
    Packet(#[from] PacketError),
    /// A packet that cannot come now.
    #[error("the broker sent a packet out of turn")]
    OutOfTurn,
}

impl LinkError {
    /// Whether trying again soon is of no use: somebody must change something first.
    pub fn needs_operator(&self) -> bool {
        matches!(
            self,
            LinkError::Refused {
                code: 1 | 2 | 4 | 5
            } | LinkError::Subscription { .. }
        )
    }
}

fn refusal(code: u8) -> &'static str {
    match code {
        1 => "the broker does not take our protocol version, MQTT 3.1.1",
        2 => "the broker does not like the client id",
        3 => "the broker is not available right now",
        4 => "the broker refused user name and password",
        5 => "the broker says that we are not authorized (check user name and password)",
        _ => "the broker refused the connection",
    }
}

/// What a packet means to the shell.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// Nothing more.
    None,
    /// Connected and subscribed: publishing may begin.
    Connected,
    /// The broker has this topic of ours in store.
    Retained(&'a str),
    /// A request; the payload is the receiver's to rewrite.
    Request(InPublish<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Subscribing,
    Reading {
        since: Instant,
        last: Instant,
        fenced: bool,
    },
    Up,
}

/// One session, from an open socket to its end.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    /// When CONNECT or SUBSCRIBE was sent.
    asked: Instant,
    received: Instant,
    ping_at: Instant,
    window: Window,
}

impl Session {
    /// Begins a session on an open socket: CONNECT is written to `out`.
    pub fn open(config: SessionConfig, now: Instant, out: &mut Vec<u8>) -> Session {
        let connect = packet::Connect {
            client_id: &config.client_id,
            login: config
                .login
                .as_ref()
                .map(|(user, password)| (user.as_str(), password.as_str())),
            ping_s: u16::try_from(config.ping.as_secs()).unwrap_or(u16::MAX),
            will: (&config.will_topic, &config.will_payload),
        };
        packet::write_connect(out, &connect);
        let ping_at = now + config.ping;
        Session {
            config,
            state: State::Connecting,
            asked: now,
            received: now,
            ping_at,
            window: Window::default(),
        }
    }

    /// Whether the broker is to be sent more publishes now: connected, and not too far behind.
    pub fn takes_publishes(&self) -> bool {
        self.is_connected() && self.window.is_open()
    }

    /// Takes note of publishes that were written to `out`.
    pub fn published(&mut self, bytes: usize, out: &mut Vec<u8>) {
        if self.window.published(bytes) {
            packet::write_pingreq(out);
        }
    }

    /// Whether publishing has begun.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Reading { .. } | State::Up)
    }

    /// Takes one packet of the broker; answers are written to `out`.
    pub fn receive<'a>(
        &mut self,
        now: Instant,
        packet: Inbound<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Event<'a>, LinkError> {
        self.received = now;
        if packet == Inbound::PingResp {
            self.window.answered();
        }
        match (packet, self.state) {
            (Inbound::ConnAck { code: 0 }, State::Connecting) => {
                packet::write_subscribe(out, REQUESTS_ID, &self.config.request_filters);
                self.asked = now;
                self.state = State::Subscribing;
            }
            (Inbound::ConnAck { code }, State::Connecting) => {
                return Err(LinkError::Refused { code });
            }
            (_, State::Connecting) | (Inbound::ConnAck { .. }, _) => {
                return Err(LinkError::OutOfTurn);
            }
            (
                Inbound::SubAck {
                    refused,
                    id: REQUESTS_ID,
                },
                State::Subscribing,
            ) => {
                if refused {
                    let filter = self.config.request_filters.join(" and ");
                    return Err(LinkError::Subscription { filter });
                }
                self.state = State::Reading {
                    since: now,
                    last: now,
                    fenced: self.config.retained_filters.is_empty(),
                };
                if !self.config.notice_filters.is_empty() {
                    packet::write_subscribe(out, NOTICES_ID, &self.config.notice_filters);
                }
                if !self.config.retained_filters.is_empty() {
                    packet::write_subscribe(out, RETAINED_ID, &self.config.retained_filters);
                    self.ping(out);
                }
                return Ok(Event::Connected);
            }
            (
                Inbound::SubAck {
                    refused: true,
                    id: RETAINED_ID,
                },
                State::Reading { .. },
            ) => {
                tracing::warn!(
                    "the broker does not let us read back what it retains: stale values may stay"
                );
            }
            (
                Inbound::SubAck {
                    refused: true,
                    id: NOTICES_ID,
                },
                _,
            ) => {
                let filters = self.config.notice_filters.join(" and ");
                tracing::warn!("the broker lets us not subscribe to {filters}");
            }
            (
                Inbound::PingResp,
                State::Reading {
                    since,
                    last,
                    fenced: false,
                },
            ) => {
                self.state = State::Reading {
                    since,
                    last: last.max(now),
                    fenced: true,
                };
            }
            (Inbound::Publish(publish), state) => {
                return Ok(self.told(now, publish, state, out));
            }
            (
                Inbound::SubAck { .. } | Inbound::UnsubAck | Inbound::PingResp | Inbound::Other,
                _,
            ) => {}
        }
        Ok(Event::None)
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        packet::write_pingreq(out);
        self.window.asked();
    }

    fn told<'a>(
        &mut self,
        now: Instant,
        publish: InPublish<'a>,
        state: State,
        out: &mut Vec<u8>,
    ) -> Event<'a> {
        if let Some(id) = publish.id {
            packet::write_puback(out, id);
        }
        let is_ours = |filter: &String| {
            let head = filter.split(['+', '#']).next().unwrap_or_default();
            publish.topic.starts_with(head)
        };
        if !self.config.retained_filters.iter().any(is_ours) {
            return Event::Request(publish);
        }
        // Our own publishes come back too while we are subscribed to them.
        if !publish.retain || publish.payload.is_empty() {
            return Event::None;
        }
        if let State::Reading { since, fenced, .. } = state {
            self.state = State::Reading {
                since,
                last: now,
                fenced,
            };
        }
        Event::Retained(publish.topic)
    }

    /// When [`Session::tick`] has something to do.
    pub fn deadline(&self) -> Instant {
        let silence = self.received + self.config.ping * 3 / 2;
        let own = match self.state {
            State::Connecting | State::Subscribing => self.asked + ANSWER_TIMEOUT,
            State::Reading {
                last, fenced: true, ..
            } if !self.config.retained_filters.is_empty() => last + QUIET,
            State::Reading {
                since,
                fenced: false,
                ..
            } => since + READING_MAX,
            State::Reading { since, .. } => since,
            State::Up => self.ping_at,
        };
        own.min(silence).min(self.ping_at)
    }

    /// Time has passed. `true` where the reading back is over: the bridge may publish everything.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<bool, LinkError> {
        let silent = now.saturating_duration_since(self.received);
        if silent >= self.config.ping * 3 / 2 {
            return Err(LinkError::Silent { silent });
        }
        let late = now >= self.asked + ANSWER_TIMEOUT;
        match self.state {
            State::Connecting if late => return Err(LinkError::NoAnswer { what: "CONNECT" }),
            State::Subscribing if late => return Err(LinkError::NoAnswer { what: "SUBSCRIBE" }),
            State::Connecting | State::Subscribing => return Ok(false),
            State::Reading { .. } | State::Up => {}
        }
        if now >= self.ping_at {
            self.ping(out);
            self.ping_at = now + self.config.ping;
        }
        let State::Reading {
            since,
            last,
            fenced,
        } = self.state
        else {
            return Ok(false);
        };
        let told = self.config.retained_filters.is_empty()
            || (fenced && now >= last + QUIET)
            || now >= since + READING_MAX;
        if told {
            // Each packet has an id of its own until it is answered [MQTT-2.3.1-4].
            for (id, filter) in (NOTICES_ID + 1..).zip(&self.config.retained_filters) {
                packet::write_unsubscribe(out, id, filter);
            }
            self.state = State::Up;
        }
        Ok(told)
    }

    /// Ends the session in order: the broker does not publish the last will.
    pub fn close(&self, out: &mut Vec<u8>) {
        packet::write_disconnect(out);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    fn config(reads_back: bool) -> SessionConfig {
        SessionConfig {
            client_id: "c".into(),
            login: None,
            ping: Duration::from_secs(30),
            will_topic: "w".into(),
            will_payload: b"off".to_vec(),
            request_filters: vec!["R/x/#".into(), "W/x/#".into()],
            retained_filters: reads_back.then(|| "N/x/#".into()).into_iter().collect(),
            notice_filters: Vec::new(),
        }
    }

    fn connected(reads_back: bool, now: Instant) -> (Session, Vec<u8>) {
        let mut out = Vec::new();
        let mut session = Session::open(config(reads_back), now, &mut out);
        assert_eq!(out[0] >> 4, 1);
        out.clear();
        assert_eq!(
            session
                .receive(now, Inbound::ConnAck { code: 0 }, &mut out)
                .unwrap(),
            Event::None
        );
        assert_eq!(out[0] >> 4, 8);
        assert!(!session.is_connected());
        out.clear();
        let ack = Inbound::SubAck {
            refused: false,
            id: REQUESTS_ID,
        };
        assert_eq!(
            session.receive(now, ack, &mut out).unwrap(),
            Event::Connected
        );
        assert!(session.is_connected());
        (session, out)
    }

    #[test]
    fn s4_9_what_is_retained_is_read_back_first() {
        let start = Instant::now();
        let (mut session, mut out) = connected(true, start);
        assert_eq!((out[0] >> 4, out.ends_with(&[0xc0, 0])), (8, true));
        let mut payload = *b"{}";
        let retained = Inbound::Publish(InPublish {
            topic: "N/x/a",
            payload: &mut payload,
            retain: true,
            id: None,
        });
        let later = start + Duration::from_millis(100);
        assert_eq!(
            session.receive(later, retained, &mut out).unwrap(),
            Event::Retained("N/x/a")
        );
        assert!(!session.tick(later + QUIET, &mut out).unwrap());
        assert_eq!(
            session
                .receive(later + QUIET, Inbound::PingResp, &mut out)
                .unwrap(),
            Event::None
        );
        assert!(!session.tick(later + QUIET, &mut out).unwrap());
        out.clear();
        assert_eq!(session.deadline(), later + QUIET * 2);
        assert!(session.tick(later + QUIET * 2, &mut out).unwrap());
        assert_eq!(out[0] >> 4, 10);
        assert!(!session.tick(later + QUIET * 3, &mut out).unwrap());
    }

    #[test]
    fn what_else_is_subscribed_to_may_be_refused() {
        let start = Instant::now();
        let mut out = Vec::new();
        let mut more = config(false);
        more.retained_filters.push("h/device/x/+/config".into());
        more.notice_filters.push("h/status".into());
        let mut session = Session::open(more, start, &mut out);
        let ack = |id, refused| Inbound::SubAck { refused, id };
        session
            .receive(start, Inbound::ConnAck { code: 0 }, &mut out)
            .unwrap();
        out.clear();
        let event = session.receive(start, ack(REQUESTS_ID, false), &mut out);
        assert_eq!(event.unwrap(), Event::Connected);
        let subscribes = out.windows(4).filter(|bytes| {
            bytes[0] == 0x82 && [RETAINED_ID, NOTICES_ID].contains(&u16::from(bytes[3]))
        });
        assert_eq!(subscribes.count(), 2);
        let event = session.receive(start, ack(NOTICES_ID, true), &mut out);
        assert_eq!(event.unwrap(), Event::None);
        let mut told = |topic, retain| {
            let mut payload = *b"online";
            let publish = Inbound::Publish(InPublish {
                topic,
                payload: &mut payload,
                retain,
                id: None,
            });
            match session.receive(start, publish, &mut out).unwrap() {
                Event::Retained(topic) => topic.to_owned(),
                Event::Request(message) => format!("request {}", message.topic),
                Event::None | Event::Connected => "nothing".to_owned(),
            }
        };
        assert_eq!(told("h/device/x/a/config", true), "h/device/x/a/config");
        assert_eq!(told("h/status", false), "request h/status");
        assert_eq!(told("R/x/keepalive", false), "request R/x/keepalive");
    }

    #[test]
    fn s6_a_silent_peer_is_dropped_after_one_and_a_half_intervals() {
        let start = Instant::now();
        let (mut session, mut out) = connected(false, start);
        assert!(session.tick(start, &mut out).unwrap());
        out.clear();
        assert_eq!(session.deadline(), start + Duration::from_secs(30));
        assert!(
            !session
                .tick(start + Duration::from_secs(30), &mut out)
                .unwrap()
        );
        assert_eq!(out, [0xc0, 0]);
        let end = session.tick(start + Duration::from_secs(45), &mut out);
        assert!(matches!(end, Err(LinkError::Silent { .. })));
    }

    #[test]
    fn s6_refusals_are_told_in_plain_words() {
        let now = Instant::now();
        let mut out = Vec::new();
        let mut session = Session::open(config(true), now, &mut out);
        let error = session
            .receive(now, Inbound::ConnAck { code: 4 }, &mut out)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the broker refused user name and password"
        );
        assert!(error.needs_operator());
        let mut session = Session::open(config(true), now, &mut out);
        assert!(matches!(
            session.receive(now, Inbound::PingResp, &mut out),
            Err(LinkError::OutOfTurn)
        ));
        let end = session.tick(now + ANSWER_TIMEOUT, &mut out);
        assert!(matches!(end, Err(LinkError::NoAnswer { what: "CONNECT" })));
    }
}
