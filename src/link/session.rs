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
//! Reading ends after half a minute at the latest, and publishing begins after three seconds of it: no
//! broker with endless retained messages keeps values back.
//!
//! Subscribed before anything is published, so that no request is missed. What the broker retains of
//! ours is read back before the first full publish (§4.9): a PINGREQ is the fence behind which a
//! broker that answers in order has told all, and some quiet time serves those that do not. Where a
//! broker has told nothing at all, a `Probe` finds out whether it hands retained messages to a
//! subscription with wildcards.
//!
//! With MQTT 5 our topics are watched from then on: what another client publishes there comes to us,
//! what we publish does not (§4.11).
//!
//! Both versions of MQTT go the same way. With MQTT 5 the broker says what it allows: its ping
//! interval takes the place of ours, and [`Session::server_limits`] has the rest. What it allows to be
//! unacknowledged does not touch us, since all that we publish has QoS 0.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::reason::{self, Cure, In};
use super::window::Window;
use crate::codec::packet::v5::{self, Options};
use crate::codec::packet::{
    self, Beginning, InPublish, Inbound, PacketError, QoS, Reason, ServerLimits, Version, v3,
};

/// How long a broker may take to answer CONNECT or SUBSCRIBE.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing retained must have come before the reading back ends.
const QUIET: Duration = Duration::from_millis(250);
/// How long values wait for the reading back to end.
const VALUES_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long the reading back may take.
const READING_MAX: Duration = Duration::from_secs(30);
/// How long our own status may take to come back from a broker that knows no *no local*.
const ECHO_MAX: Duration = Duration::from_secs(10);
/// How long after a reconnect the requests are subscribed to once more. A node of a cluster that takes us when
/// another has just ended may remove our subscription with what that one had (RabbitMQ 3.10 does), and does not
/// say so. It grants the new one, or ends the connection.
const RENEWAL: Duration = Duration::from_secs(10);

const REQUESTS_ID: u16 = 1;
const RETAINED_ID: u16 = 2;
const NOTICES_ID: u16 = 3;
const WATCH_ID: u16 = 4;
const PROBE_ID: u16 = 5;
const RENEWAL_ID: u16 = 6;
/// From here on: one for each filter that is given up.
const UNSUBSCRIBE_ID: u16 = 7;

/// What a session is told at the start.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The version of MQTT.
    pub version: Version,
    /// The client id.
    pub client_id: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// The ping interval.
    pub ping: Duration,
    /// The QoS of the subscriptions, where the broker keeps no session.
    pub subscribe_qos: QoS,
    /// The topic of the last will.
    pub will_topic: String,
    /// The payload of the last will.
    pub will_payload: Vec<u8>,
    /// Whether the last will is neither retained nor of QoS 1.
    pub plain_will: bool,
    /// How long the broker waits for us to come back before it publishes the last will (MQTT 5): so long the
    /// session outlives its connection.
    pub kept: Duration,
    /// Whether the session before this one is ended, which publishes its last will if that waits. No state
    /// of it is of use to us.
    pub clean_start: bool,
    /// Whether a connection to this broker was lost before.
    pub is_reconnect: bool,
    /// The longest packet that we take.
    pub packet_bytes_max: u32,
    /// What to subscribe to.
    pub request_filters: Vec<String>,
    /// What to read back at the start.
    pub retained_filters: Vec<String>,
    /// What else to subscribe to, if the broker allows it.
    pub notice_filters: Vec<String>,
    /// The filter of our own topics, to see what others publish there (MQTT 5).
    pub watch_filter: String,
    /// What our status says while we are there.
    pub online_payload: Vec<u8>,
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum LinkError {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The broker closed the connection.
    #[error("the broker closed the connection")]
    Closed,
    /// The broker closed the connection when it had just opened, and we had begun to publish.
    #[error(
        "the broker closed the connection when we began to publish; check its access control list for {filters}"
    )]
    ClosedEarly {
        /// The filters of what we publish.
        filters: String,
    },
    /// The broker does not take this version of MQTT.
    #[error("the broker does not support {version}")]
    Version { version: Version },
    /// The broker refused the connection.
    #[error("{}{said}", reason::refusal(*version, *code).text)]
    Refused {
        version: Version,
        /// The code of CONNACK [MQTT-3.2.2-3 of 3.1.1, MQTT-3.2.2.2 of 5].
        code: u8,
        /// What the broker says of it.
        said: Box<str>,
    },
    /// The broker ended the session (MQTT 5).
    #[error("the broker ended the session: {}{said}", reason::meaning(In::Disconnect, *code).text)]
    Dismissed {
        code: u8,
        /// What the broker says of it.
        said: Box<str>,
    },
    /// The broker refused the subscription.
    #[error("the broker refused our subscription to {filter}: {}", reason::meaning(In::SubAck, *code).text)]
    Subscription {
        /// The filter of the requests.
        filter: String,
        code: u8,
    },
    /// The broker takes no filters with wildcards (MQTT 5).
    #[error("the broker does not allow wildcards in topic filters, and we need them for requests")]
    Wildcards,
    /// No answer in time.
    #[error("the broker did not answer {what} within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer { what: &'static str },
    /// Nothing came for one and a half ping intervals.
    #[error("the broker has been silent for {} s", silent.as_secs())]
    Silent { silent: Duration },
    /// Bytes that are not MQTT.
    #[error("the broker sent {0}")]
    Packet(#[from] PacketError),
    /// A packet that cannot come now.
    #[error("the broker sent an unexpected packet")]
    OutOfTurn,
}

impl LinkError {
    /// Whether trying again soon is of no use: somebody must change something first.
    pub fn needs_operator(&self) -> bool {
        match self {
            LinkError::Version { .. }
            | LinkError::Wildcards
            | LinkError::Packet(PacketError::Http | PacketError::Tls) => true,
            LinkError::Subscription { code, .. } => {
                reason::meaning(In::SubAck, *code).cure == Cure::Person
            }
            LinkError::Refused { version, code, .. } => {
                reason::refusal(*version, *code).cure == Cure::Person
            }
            LinkError::Dismissed { code, .. } => {
                reason::meaning(In::Disconnect, *code).cure == Cure::Person
            }
            LinkError::Io(_)
            | LinkError::Closed
            | LinkError::ClosedEarly { .. }
            | LinkError::NoAnswer { .. }
            | LinkError::Silent { .. }
            | LinkError::Packet(_)
            | LinkError::OutOfTurn => false,
        }
    }

    /// Whether the broker may have ended the session because of something that it was sent: without a
    /// word, or in the words that mean just that.
    pub fn blames_what_was_sent(&self) -> bool {
        match self {
            LinkError::Closed | LinkError::ClosedEarly { .. } => true,
            LinkError::Io(error) => matches!(
                error.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
            ),
            // Unspecified, malformed, protocol error, not as the broker likes it, not authorized, topic,
            // too large, payload format [MQTT-3.14.2.1].
            LinkError::Dismissed { code, .. } => {
                matches!(code, 0x80 | 0x81 | 0x82 | 0x83 | 0x87 | 0x90 | 0x95 | 0x99)
            }
            LinkError::Version { .. }
            | LinkError::Refused { .. }
            | LinkError::Subscription { .. }
            | LinkError::Wildcards
            | LinkError::NoAnswer { .. }
            | LinkError::Silent { .. }
            | LinkError::Packet(_)
            | LinkError::OutOfTurn => false,
        }
    }

    /// The reason that a broker of MQTT 5 is given when we end the session because of this.
    fn code(&self) -> Option<u8> {
        match self {
            LinkError::Packet(PacketError::TooLarge { .. }) => Some(0x95),
            LinkError::Packet(PacketError::Malformed { .. }) => Some(0x81),
            LinkError::Packet(PacketError::TopicAlias) => Some(0x94),
            LinkError::Packet(PacketError::Auth) | LinkError::OutOfTurn => Some(0x82),
            LinkError::NoAnswer { .. }
            | LinkError::Silent { .. }
            | LinkError::Subscription { .. }
            | LinkError::Wildcards => Some(0x80),
            LinkError::Io(_)
            | LinkError::Closed
            | LinkError::ClosedEarly { .. }
            | LinkError::Version { .. }
            | LinkError::Refused { .. }
            | LinkError::Packet(PacketError::Http | PacketError::Tls)
            | LinkError::Dismissed { .. } => None,
        }
    }
}

/// What a packet means to the shell.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// Nothing more.
    None,
    /// Connected and subscribed: publishing may begin.
    Connected,
    /// The broker has this topic of ours in store, with this payload; without one where that was too
    /// large.
    Retained(&'a str, &'a [u8]),
    /// Something was found out about the broker.
    Found(Finding),
    /// Another client published below our topics.
    Foreign(InPublish<'a>),
    /// The same, too large for us, and skipped.
    ForeignSkipped(Beginning<'a>),
    /// A request that was too large, and was skipped.
    Skipped(Beginning<'a>),
    /// A request; the payload is the receiver's to rewrite.
    Request(InPublish<'a>),
}

/// What was found out about a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The broker did not give us back what we published while we were subscribed to it: it lets us
    /// not publish, or not read it. It does not say so by itself, since QoS 0 has no answer.
    Unheard {
        /// Whether others publish below our topics there, and a status of ours never got in: so does the
        /// broker of a GX device, which takes these topics from nobody but itself (dbus-flashmq 10 and
        /// later).
        others: bool,
    },
    /// Subscriptions with wildcards get no retained messages from it, others do (§4.9).
    NoStoredForWildcards,
    /// It does not keep retained messages, though it does not say so.
    NothingStored,
    /// What others publish below our topics comes to us from now on (§4.11).
    Watching,
    /// It does not any more: the broker sends us our own messages too.
    Unwatched,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Subscribing,
    Reading {
        since: Instant,
        last: Instant,
        fenced: bool,
        /// Whether the bridge publishes already.
        late: bool,
    },
    Up,
}

/// Whether a broker gives retained messages to a fresh subscription with wildcards, asked by our own
/// status, which it just took: first with a wildcard, then without.
#[derive(Debug, Clone, Copy)]
struct Probe {
    exact: bool,
    /// The PINGREQ behind the subscription.
    fence: u32,
    /// When it was answered.
    answered: Option<Instant>,
}

/// What came below our topics before we published there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// Values, and no status: of a program that is not a bridge of ours.
    Others,
    /// The status of a bridge.
    Status,
}

/// Whether our topics are to be watched (§4.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    Unasked,
    Asked,
    /// What others publish there is theirs.
    LeftAlone,
}

/// One session, from an open socket to its end.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    server_limits: ServerLimits,
    /// The ping interval: ours, or the broker's.
    ping: Duration,
    /// When CONNECT or SUBSCRIBE was sent.
    asked: Instant,
    received: Instant,
    ping_at: Instant,
    window: Window,
    /// Whether our own status still has to come back, while we are subscribed to it.
    awaits_itself: bool,
    /// Whether anything retained came while we read back.
    told_stored: bool,
    heard: Heard,
    probe: Option<Probe>,
    watch: Watch,
    /// Since when our topics are watched.
    watching: Option<Instant>,
    news: Option<Finding>,
    /// When the requests are subscribed to once more.
    renewal: Option<Instant>,
    /// Where the broker sends us.
    referral: Option<Box<str>>,
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
            will: Some((&config.will_topic, &config.will_payload)),
            plain_will: config.plain_will,
            packet_bytes_max: config.packet_bytes_max,
            kept_s: u32::try_from(config.kept.as_secs()).unwrap_or(u32::MAX),
            clean_start: config.clean_start,
        };
        match config.version {
            Version::V3 => v3::write_connect(out, &connect),
            Version::V5 => v5::write_connect(out, &connect),
        }
        let ping = config.ping;
        let ping_at = now + ping;
        Session {
            config,
            state: State::Connecting,
            server_limits: ServerLimits::default(),
            ping,
            asked: now,
            received: now,
            ping_at,
            window: Window::default(),
            awaits_itself: false,
            told_stored: false,
            heard: Heard::Nothing,
            probe: None,
            watch: Watch::Unasked,
            watching: None,
            news: None,
            renewal: None,
            referral: None,
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

    /// Has the broker asked whether it took what was published so far; gives how many such questions are
    /// to be answered then.
    pub fn fence(&mut self, out: &mut Vec<u8>) -> u32 {
        self.ping(out);
        self.pings()
    }

    /// How many such questions were asked.
    pub fn pings(&self) -> u32 {
        self.window.number()
    }

    /// Whether so many of them were answered.
    pub fn has_answered(&self, pings: u32) -> bool {
        self.window.has_answered(pings)
    }

    /// Whether publishing has begun.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Reading { .. } | State::Up)
    }

    /// Whether the broker took the connection.
    pub fn is_taken(&self) -> bool {
        self.state != State::Connecting
    }

    /// The version of MQTT that is spoken.
    pub fn version(&self) -> Version {
        self.config.version
    }

    /// What the broker allows; known once it took the connection.
    pub fn server_limits(&self) -> &ServerLimits {
        &self.server_limits
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
            (Inbound::Disconnect(farewell), _) => {
                self.referred(&farewell);
                return Err(LinkError::Dismissed {
                    code: farewell.code,
                    said: reason::words(&farewell),
                });
            }
            (Inbound::ConnAck(ack), State::Connecting) => {
                if ack.form != self.config.version {
                    return Err(LinkError::Version {
                        version: self.config.version,
                    });
                }
                self.accepted(now, &ack.farewell, ack.server_limits)?;
                self.subscribe(REQUESTS_ID, out);
            }
            (_, State::Connecting) | (Inbound::ConnAck(_), _) => {
                return Err(LinkError::OutOfTurn);
            }
            (Inbound::SubAck { refused, id }, _) => return self.subscribed(now, id, refused, out),
            (
                Inbound::PingResp,
                State::Reading {
                    since,
                    last,
                    fenced: false,
                    late,
                },
            ) => {
                self.state = State::Reading {
                    since,
                    last: last.max(now),
                    fenced: true,
                    late,
                };
            }
            (Inbound::PingResp, State::Up) => {
                if let Some(probe) = &mut self.probe
                    && self.window.has_answered(probe.fence)
                {
                    probe.answered.get_or_insert(now);
                }
            }
            (Inbound::Publish(publish), state) => {
                return Ok(self.told(now, publish, state, out));
            }
            (Inbound::UnsubAck, _) if std::mem::take(&mut self.awaits_itself) => {
                self.told_stored = true;
                let others = self.heard == Heard::Others;
                if others {
                    self.leave_alone(out);
                } else {
                    self.watch(out);
                }
                return Ok(Event::Found(Finding::Unheard { others }));
            }
            (Inbound::UnsubAck, State::Up) if !self.told_stored => {
                self.told_stored = true;
                self.probe(false, out);
            }
            (Inbound::UnsubAck | Inbound::PingResp | Inbound::Other, _) => {}
        }
        Ok(Event::None)
    }

    /// The broker has answered SUBSCRIBE.
    fn subscribed(
        &mut self,
        now: Instant,
        id: u16,
        refused: Option<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Event<'static>, LinkError> {
        match (id, refused, self.state) {
            (REQUESTS_ID, Some(code), State::Subscribing) | (RENEWAL_ID, Some(code), _) => {
                let filter = self.config.request_filters.join(" and ");
                return Err(LinkError::Subscription { filter, code });
            }
            (REQUESTS_ID, None, State::Subscribing) => {
                self.state = State::Reading {
                    since: now,
                    last: now,
                    fenced: self.config.retained_filters.is_empty(),
                    late: false,
                };
                if !self.config.notice_filters.is_empty() {
                    self.subscribe(NOTICES_ID, out);
                }
                if !self.config.retained_filters.is_empty() {
                    self.subscribe(RETAINED_ID, out);
                    self.ping(out);
                    self.awaits_itself = true;
                }
                self.renewal = self.config.is_reconnect.then(|| now + RENEWAL);
                return Ok(Event::Connected);
            }
            (RETAINED_ID, Some(_), State::Reading { .. }) => {
                tracing::warn!(
                    "the broker refused to show us its retained messages: stale values may remain"
                );
                self.awaits_itself = false;
                self.told_stored = true;
            }
            (NOTICES_ID, Some(_), _) => {
                let filters = self.config.notice_filters.join(" and ");
                tracing::warn!("the broker refused our subscription to {filters}");
            }
            // Where it is refused, reading back was refused too, and that was said.
            (WATCH_ID, None, State::Up) if self.watch == Watch::Asked => {
                self.watching = Some(now);
                return Ok(Event::Found(Finding::Watching));
            }
            (PROBE_ID, Some(_), State::Up) => {
                self.probe = None;
                self.watch(out);
            }
            _ => {}
        }
        Ok(Event::None)
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        packet::write_pingreq(out);
        self.window.asked();
    }

    /// Use another server, or server moved: which one is that [MQTT-4.11]?
    fn referred(&mut self, farewell: &Reason<'_>) {
        let is_referral =
            self.config.version == Version::V5 && matches!(farewell.code, 0x9c | 0x9d);
        if is_referral && !farewell.server.is_empty() {
            self.referral = Some(farewell.server.into());
        }
    }

    /// Where the broker sent us when it ended the session.
    pub fn referral(&mut self) -> Option<Box<str>> {
        self.referral.take()
    }

    /// The broker has answered CONNECT.
    fn accepted(
        &mut self,
        now: Instant,
        farewell: &Reason<'_>,
        server_limits: ServerLimits,
    ) -> Result<(), LinkError> {
        let version = self.config.version;
        match (version, farewell.code) {
            (_, 0) => {}
            (Version::V3, 1) | (Version::V5, 0x84) => return Err(LinkError::Version { version }),
            (_, code) => {
                self.referred(farewell);
                return Err(LinkError::Refused {
                    version,
                    code,
                    said: reason::words(farewell),
                });
            }
        }
        if !server_limits.wildcards {
            return Err(LinkError::Wildcards);
        }
        // With 0 the broker does not watch us; we go on watching it.
        if let Some(ping_s) = server_limits.ping_s.filter(|ping_s| *ping_s > 0) {
            self.ping = Duration::from_secs(ping_s.into());
            self.ping_at = now + self.ping;
        }
        if !server_limits.retain {
            tracing::warn!(
                "the broker does not retain messages: clients that connect later see no values until they ask for them"
            );
            self.config.retained_filters.clear();
        }
        self.server_limits = server_limits;
        self.asked = now;
        self.state = State::Subscribing;
        Ok(())
    }

    /// Whether the session outlives its connection.
    fn is_kept(&self) -> bool {
        self.config.version == Version::V5 && !self.config.kept.is_zero()
    }

    fn subscribe(&self, id: u16, out: &mut Vec<u8>) {
        let (filters, options) = match id {
            RETAINED_ID => (
                &*self.config.retained_filters,
                Options {
                    stored: true,
                    ..Options::default()
                },
            ),
            // What they say was said before we came.
            NOTICES_ID => (&*self.config.notice_filters, Options::default()),
            WATCH_ID => (
                std::slice::from_ref(&self.config.watch_filter),
                Options {
                    others_only: true,
                    retain_flag: true,
                    ..Options::default()
                },
            ),
            // §5.7: a request that is in store would repeat itself at every connect, and one that is
            // about to be is known by its flag.
            _ => (
                &*self.config.request_filters,
                Options {
                    retain_flag: true,
                    ..Options::default()
                },
            ),
        };
        self.write_subscribe(id, filters, options, out);
    }

    fn write_subscribe(&self, id: u16, filters: &[String], options: Options, out: &mut Vec<u8>) {
        let qos = if self.is_kept() {
            // A write of a minute ago is not to be carried out now (§5.7).
            QoS::AtMostOnce
        } else {
            self.config.subscribe_qos
        };
        match self.config.version {
            Version::V3 => v3::write_subscribe(out, id, filters, qos),
            Version::V5 => v5::write_subscribe(out, id, filters, qos, options),
        }
    }

    fn unsubscribe(&self, id: u16, filter: &str, out: &mut Vec<u8>) {
        match self.config.version {
            Version::V3 => v3::write_unsubscribe(out, id, filter),
            Version::V5 => v5::write_unsubscribe(out, id, filter),
        }
    }

    /// The topic of our status, or a filter with a wildcard that matches it.
    fn probe_filter(&self, exact: bool) -> String {
        let topic = &self.config.will_topic;
        match topic.rsplit_once('/') {
            Some((head, _)) if !exact => format!("{head}/+"),
            _ => topic.clone(),
        }
    }

    /// Asks for our own status, as it is in store.
    fn probe(&mut self, exact: bool, out: &mut Vec<u8>) {
        let filter = [self.probe_filter(exact)];
        let options = Options {
            stored: true,
            ..Options::default()
        };
        self.write_subscribe(PROBE_ID, &filter, options, out);
        self.ping(out);
        self.probe = Some(Probe {
            exact,
            fence: self.window.number(),
            answered: None,
        });
    }

    /// What the last probe says, when it had its time.
    fn probed(&mut self, found: bool, out: &mut Vec<u8>) {
        let Some(probe) = self.probe.take() else {
            return;
        };
        self.unsubscribe(UNSUBSCRIBE_ID, &self.probe_filter(probe.exact), out);
        self.news = match (probe.exact, found) {
            (false, false) => return self.probe(true, out),
            (false, true) => None,
            (true, true) => Some(Finding::NoStoredForWildcards),
            (true, false) => Some(Finding::NothingStored),
        };
        self.watch(out);
    }

    /// Subscribes to what others publish below our topics (§4.11). Nothing else of ours is subscribed
    /// to by then that would bring our own messages.
    fn watch(&mut self, out: &mut Vec<u8>) {
        if self.config.version == Version::V5 && self.watch == Watch::Unasked {
            self.watch = Watch::Asked;
            self.subscribe(WATCH_ID, out);
        }
    }

    /// Watches no more: what the broker takes from others alone is not ours to correct.
    fn leave_alone(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.watch, Watch::LeftAlone) == Watch::Asked {
            self.unsubscribe(UNSUBSCRIBE_ID, &self.config.watch_filter, out);
        }
    }

    /// What was found out since this was last asked.
    pub fn news(&mut self) -> Option<Finding> {
        self.news.take()
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
        // Of the session before this one: what was said while we were away comes too late.
        if state == State::Subscribing && !self.config.clean_start {
            return Event::None;
        }
        if !self.is_ours(publish.topic) {
            return Event::Request(publish);
        }
        // Our own publishes come back too while we are subscribed to them: the status does for sure.
        let is_status = publish.topic == self.config.will_topic;
        if is_status && !publish.retain {
            self.awaits_itself = false;
        }
        if is_status && publish.retain && self.probe.is_some() {
            self.probed(true, out);
            return Event::None;
        }
        if let State::Reading { late, .. } = state {
            if publish.payload.is_empty() || (late && !publish.retain) {
                return Event::None;
            }
            if publish.retain {
                self.read_back(now);
            }
            if is_status {
                self.heard = Heard::Status;
            } else if self.heard == Heard::Nothing && self.is_watched(publish.topic) {
                self.heard = Heard::Others;
            }
            // Before we publish, what is not retained is of others, and may be in store by now.
            return Event::Retained(publish.topic, publish.payload);
        }
        match self.watching {
            None if publish.retain && !publish.payload.is_empty() => {
                Event::Retained(publish.topic, publish.payload)
            }
            None => Event::None,
            Some(since)
                if is_status
                    && *publish.payload == *self.config.online_payload
                    && now <= since + ECHO_MAX =>
            {
                self.watching = None;
                self.unsubscribe(UNSUBSCRIBE_ID, &self.config.watch_filter, out);
                Event::Found(Finding::Unwatched)
            }
            Some(_) => Event::Foreign(publish),
        }
    }

    /// Whether a topic is one of those that are read back, or watched.
    fn is_ours(&self, topic: &str) -> bool {
        let mut filters = self.config.retained_filters.iter();
        let covers = |filter: &String| {
            let head = filter.split(['+', '#']).next().unwrap_or_default();
            topic.starts_with(head)
        };
        covers(&self.config.watch_filter) || filters.any(covers)
    }

    /// Whether a topic is one of notifications, which are watched.
    fn is_watched(&self, topic: &str) -> bool {
        let head = self.config.watch_filter.trim_end_matches('#');
        topic.starts_with(head)
    }

    /// Something retained has come: the reading back is not over.
    fn read_back(&mut self, now: Instant) {
        if let State::Reading { last, .. } = &mut self.state {
            *last = now;
            self.told_stored = true;
        }
    }

    /// A message that is too large for us begins; all that follows of it is skipped (§4.14).
    pub fn skip<'a>(
        &mut self,
        now: Instant,
        beginning: Beginning<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Event<'a>, LinkError> {
        self.received = now;
        if !self.is_connected() {
            return Err(LinkError::OutOfTurn);
        }
        // Acknowledged like any other: the broker would send it again and again, and in the end nothing
        // else.
        if let Some(id) = beginning.id {
            packet::write_puback(out, id);
        }
        if !self.is_ours(beginning.topic) {
            return Ok(Event::Skipped(beginning));
        }
        if self.state == State::Up && self.watching.is_some() {
            return Ok(Event::ForeignSkipped(beginning));
        }
        if !beginning.retain {
            return Ok(Event::None);
        }
        self.read_back(now);
        Ok(Event::Retained(beginning.topic, b""))
    }

    /// More of what is skipped has come: the broker is not silent.
    pub fn skipping(&mut self, now: Instant) {
        self.received = now;
    }

    /// When [`Session::tick`] has something to do.
    pub fn deadline(&self) -> Instant {
        let silence = self.received + self.ping * 3 / 2;
        let own = match self.state {
            State::Connecting | State::Subscribing => self.asked + ANSWER_TIMEOUT,
            State::Reading { since, .. } if self.config.retained_filters.is_empty() => since,
            State::Reading {
                since,
                last,
                fenced,
                late,
            } => {
                let end = since + if late { READING_MAX } else { VALUES_WAIT_MAX };
                if fenced { end.min(last + QUIET) } else { end }
            }
            State::Up => {
                let answered = self.probe.and_then(|probe| probe.answered);
                answered.map_or(self.ping_at, |answered| answered + QUIET)
            }
        };
        let renewal = self.renewal.unwrap_or(silence);
        own.min(silence).min(self.ping_at).min(renewal)
    }

    /// Time has passed. `true` where the reading back is over: the bridge may publish everything.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<bool, LinkError> {
        let silent = now.saturating_duration_since(self.received);
        if silent >= self.ping * 3 / 2 {
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
            self.ping_at = now + self.ping;
        }
        if self.renewal.is_some_and(|at| now >= at) {
            self.renewal = None;
            self.subscribe(RENEWAL_ID, out);
        }
        if let Some(answered) = self.probe.and_then(|probe| probe.answered)
            && now >= answered + QUIET
        {
            self.probed(false, out);
        }
        let State::Reading {
            since,
            last,
            fenced,
            late,
        } = self.state
        else {
            return Ok(false);
        };
        let told = self.config.retained_filters.is_empty()
            || (fenced && now >= last + QUIET)
            || now >= since + READING_MAX;
        if told {
            self.end_reading(out);
        } else if now >= since + VALUES_WAIT_MAX {
            self.state = State::Reading {
                since,
                last,
                fenced,
                late: true,
            };
        } else {
            return Ok(false);
        }
        Ok(!late)
    }

    fn end_reading(&mut self, out: &mut Vec<u8>) {
        self.state = State::Up;
        // Each packet has a separate id until it is answered [MQTT-2.3.1-4].
        for (id, filter) in (UNSUBSCRIBE_ID..).zip(&self.config.retained_filters) {
            self.unsubscribe(id, filter, out);
        }
        let reads_status = |filter: &String| {
            let head = filter.split(['+', '#']).next().unwrap_or_default();
            self.config.will_topic.starts_with(head)
        };
        // Where nothing was asked for, nothing can be found out.
        self.told_stored |= !self.config.retained_filters.iter().any(reads_status);
        if self.told_stored {
            self.watch(out);
        }
    }

    /// Ends the session in order: the broker does not publish the last will.
    pub fn close(&self, out: &mut Vec<u8>) {
        if self.is_kept() {
            v5::write_disconnect_for_good(out);
        } else {
            packet::write_disconnect(out);
        }
    }

    /// What an error means at this point of the session.
    pub fn explain(&self, error: LinkError) -> LinkError {
        let early = matches!(self.state, State::Reading { .. }) && self.awaits_itself;
        if early && matches!(error, LinkError::Closed) {
            let filters = self.config.retained_filters.join(" and ");
            return LinkError::ClosedEarly { filters };
        }
        error
    }

    /// Ends the session because of an error: a broker of MQTT 5 is told which, where it is its
    /// fault. It publishes the last will.
    pub fn give_up(&self, error: &LinkError, out: &mut Vec<u8>) {
        if let (Version::V5, true, Some(code)) =
            (self.config.version, self.is_taken(), error.code())
        {
            v5::write_disconnect(out, code);
        }
    }
}

#[cfg(test)]
mod tests;
