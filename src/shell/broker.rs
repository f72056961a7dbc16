//! One broker: its socket, its session, and the bridge's outlet for it (§6).
//!
//! The task pulls from the bridge only while its write buffer has room: a broker that takes nothing
//! stalls itself alone, and costs one buffer.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tracing::{debug, info, warn};

use super::shared::{BrokerTask, LinkNews, now, random_u32};
use super::sink::{Buffered, ConnectionLimits, Noting, TooLarge, V3Sink, V5Sink};
use super::transport::{self, Endpoint, Stream};
use crate::bridge::{EXPIRY_MIN, text_payload};
use crate::codec::packet::{self, InPublish, PacketError, QoS, Version};
use crate::codec::request::RequestReader;
use crate::config::{BrokerConfig, Config, MqttVersion, Transport};
use crate::error::plain;
use crate::homeassistant;
use crate::link::addresses::{Addresses, Place};
use crate::link::backoff::jitter;
use crate::link::dialect::{Dialect, Reached};
use crate::link::publish_rate::PublishRate;
use crate::link::retry::{End, Retry};
use crate::link::session::{Event, Finding, LinkError, Session, SessionConfig};
use crate::link::suspects::{self, Ending, Mode, Suspects};
use crate::model::name::PortalId;
use crate::model::request::{Rejection, ResponseAddress};
use crate::model::topic;

/// How long a broker may take to close a connection that we ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;
/// Where hardly anybody speaks anything but MQTT.
const PORT_USUAL: u16 = 1883;
/// Room beyond a request's payload: topic and packet head.
const PACKET_HEAD_BYTES: usize = 64 * 1024 + 16;

/// Keeps a broker connected until the bridge ends.
#[allow(clippy::too_many_lines)] // one attempt after the other, and what each has taught
pub async fn run(config: Config, task: BrokerTask) {
    let (shared, index) = (&task.shared, task.index);
    let Some(broker) = config.brokers.get(index) else {
        return;
    };
    let places = broker.at_each();
    let mut addresses = Addresses::new(places.len());
    let mut retry = Retry::new(broker.reconnect_max);
    let mut is_reconnect = false;
    // Not at first: what an earlier run of the program left there is none of ours [MQTT-3.2.2-4].
    let mut keeps_session = false;
    // Of each address: what was said once is not said again.
    let mut last_errors = vec![String::new(); places.len() + 1];
    // Where a broker has sent us.
    let mut referral = None;
    let mut dialect = Dialect::new(wanted(broker));
    let mut too_large = TooLarge::default();
    let mut suspects = Suspects::default();
    while task.is_wanted().await {
        let began = Instant::now();
        let (here, place) = match addresses.next(random_u32()) {
            Place::Listed(place) => (places.get(place).cloned(), place),
            Place::Referred => (referral.take(), places.len()),
        };
        let broker = &here.unwrap_or_else(|| broker.clone());
        let mut server = None;
        let version = dialect.version(began);
        let mut reached = Reached::Nothing;
        let mut was_connected = false;
        let result = async {
            let stream = connect(broker, packet::SENT_BYTES_MAX).await?;
            reached = Reached::Asked;
            let mut connection = Connection::new(&config, broker, &task, &mut too_large);
            connection.suspects = std::mem::take(&mut suspects);
            connection.session_config.version = version;
            connection.session_config.plain_will = dialect.plain_will();
            connection.session_config.clean_start = !keeps_session || version == Version::V3;
            connection.session_config.is_reconnect = is_reconnect;
            if is_reconnect {
                connection.republish = broker.republish_jitter;
            }
            let result = connection.serve(stream).await;
            was_connected = connection.was_connected;
            suspects = std::mem::take(&mut connection.suspects);
            server = connection.referral.take();
            if connection.was_taken {
                reached = Reached::Taken;
            }
            result
        }
        .await;
        shared.with(|bridge| bridge.broker_disconnected(index));
        if was_connected {
            shared.connection_changed();
            is_reconnect = true;
            addresses.held();
        }
        if reached == Reached::Taken {
            dialect.taken(began, version);
            keeps_session = version == Version::V5 && !broker.will_delay.is_zero();
        }
        let Err(error) = result else { continue };
        if suspected(broker, &mut suspects, was_connected, &error) {
            // The next connection will be another one: no reason to wait for long.
            retry.reset();
        }
        if dialect.failed(Instant::now(), version, reached, &error) {
            info!(
                "{} {}:{}: {}; going on {}",
                broker.name,
                broker.host,
                broker.port,
                plain(&error),
                if dialect.plain_will() {
                    "with a last will that is not retained".to_owned()
                } else {
                    format!("with {}", dialect.version(Instant::now()))
                }
            );
            continue;
        }
        let there = server.and_then(|server| broker.referred(&server));
        let redirect = match there {
            Some(_) if !broker.follow_redirect => " (with follow-redirect we would go there)",
            Some(_) if !addresses.refer() => " (sent on too often; starting again)",
            Some(_) | None => "",
        };
        referral = there;
        let end = End {
            error: &error,
            needs_operator: needs_operator(&error),
            was_connected,
            lasted: began.elapsed(),
            has_others: addresses.has_more(),
        };
        let delay = retry.after(end, random_u32());
        shared.tell_watcher(|| LinkNews::Failed {
            was_connected,
            reason: plain(&error),
        });
        let hint = dialect.hint(version, &error);
        let port = port_hint(broker, reached, &error);
        let client_id = if retry.suspects_client_id(&error) {
            format!(
                "; is another client using the client id {}? Set another with --client-id",
                broker.client_id
            )
        } else {
            String::new()
        };
        let text = format!("{}{redirect}{hint}{port}{client_id}", plain(&error));
        if let Some(last_error) = last_errors.get_mut(place) {
            if was_connected {
                last_error.clear();
            }
            complain(broker, text, last_error, delay);
        }
        let ended = async {
            while !shared.is_ending() {
                task.woken().await;
            }
        };
        let _ = tokio::time::timeout(delay, ended).await;
    }
}

/// Says why a connection failed, once in a row.
fn complain(broker: &BrokerConfig, text: String, last_error: &mut String, delay: Duration) {
    let BrokerConfig {
        name, host, port, ..
    } = broker;
    if text == *last_error {
        debug!("{name} {host}:{port}: {text}; next attempt in {delay:?}");
    } else {
        warn!("{name} {host}:{port}: {text}; trying again");
        *last_error = text;
    }
}

async fn connect(broker: &BrokerConfig, packet_bytes_max: usize) -> Result<Stream, LinkError> {
    let endpoint = Endpoint::of(broker, packet_bytes_max);
    let connected = transport::connect(&endpoint).await;
    connected.map_err(|error| LinkError::Io(error.into()))
}

/// Whether something was found out about what the broker closes connections for (§4.12).
fn suspected(
    broker: &BrokerConfig,
    suspects: &mut Suspects,
    was_connected: bool,
    error: &LinkError,
) -> bool {
    if !was_connected {
        suspects.unreachable();
        return false;
    }
    let tried = suspects.left() > 0;
    let ending = if error.blames_what_was_sent() {
        Ending::Closed
    } else {
        Ending::Other
    };
    let found = suspects.ended(Instant::now(), ending);
    if found && !tried && suspects.left() > 0 {
        info!(
            "{} {}:{}: closed twice right after a publish; trying the last {} topics one by one",
            broker.name,
            broker.host,
            broker.port,
            suspects.left()
        );
    }
    found
}

/// Whether trying again soon is of no use: somebody must change something first.
fn needs_operator(error: &LinkError) -> bool {
    error.needs_operator()
        || matches!(error, LinkError::Io(error) if transport::needs_operator(error))
}

/// A port for TLS or WebSocket closes what it does not understand, often without a word.
fn port_hint(broker: &BrokerConfig, reached: Reached, error: &LinkError) -> &'static str {
    let closed = match error {
        LinkError::Closed => true,
        LinkError::Io(error) => error.kind() == ErrorKind::ConnectionReset,
        LinkError::ClosedEarly { .. }
        | LinkError::Version { .. }
        | LinkError::Refused { .. }
        | LinkError::Dismissed { .. }
        | LinkError::Subscription { .. }
        | LinkError::Wildcards
        | LinkError::NoAnswer { .. }
        | LinkError::Silent { .. }
        | LinkError::Packet(_)
        | LinkError::OutOfTurn => false,
    };
    let plain = broker.transport == Transport::Tcp && broker.port != PORT_USUAL;
    if closed && plain && reached == Reached::Asked {
        "; if this port is for TLS or WebSocket, write mqtts:// or ws:// before the address"
    } else {
        ""
    }
}

/// The only version of MQTT to try; `None`: what the broker takes.
fn wanted(broker: &BrokerConfig) -> Option<Version> {
    match broker.version {
        MqttVersion::V3 => Some(Version::V3),
        MqttVersion::V5 => Some(Version::V5),
        MqttVersion::Auto => None,
    }
}

/// What the broker may have in store of ours (§4.9).
fn retained_filters(broker: &BrokerConfig, portal_id: &PortalId) -> Vec<String> {
    let filter = || format!("{}{}", broker.prefix, topic::notification_filter(portal_id));
    let notifications = broker.retain.then(filter);
    let home = broker.home_assistant.as_ref();
    let configs = home.map(|home| homeassistant::Names::new(&home.prefix, portal_id).filter());
    notifications.into_iter().chain(configs).collect()
}

/// Whether Home Assistant says that it has started.
fn is_birth(broker: &BrokerConfig, message: &InPublish<'_>) -> bool {
    let home = broker.home_assistant.as_ref();
    message.payload == homeassistant::BIRTH
        && home.is_some_and(|home| message.topic == homeassistant::status_topic(&home.prefix))
}

/// The longest packet that we buffer: a request. Of what is longer the topic is enough (§4.14).
fn packet_bytes_max(config: &Config, broker: &BrokerConfig) -> usize {
    let requests = config.limits.request_bytes_max;
    let payloads = match &broker.home_assistant {
        Some(_) => requests.max(homeassistant::payload::BYTES_MAX),
        None => requests,
    };
    payloads + PACKET_HEAD_BYTES
}

/// What a connection has of a broker.
struct Connection<'a> {
    broker: &'a BrokerConfig,
    portal_id: &'a PortalId,
    task: &'a BrokerTask,
    session_config: SessionConfig,
    requests: RequestReader,
    out_bytes: usize,
    packet_bytes_max: usize,
    out: Vec<u8>,
    /// How much of `out` is written.
    sent: usize,
    input: Vec<u8>,
    /// How much of `input` was read.
    have: usize,
    /// How much of what comes next belongs to a packet that is skipped.
    skip: usize,
    /// The broker took the connection.
    was_taken: bool,
    was_connected: bool,
    /// The full publish begins after a random wait of up to this long (§6).
    republish: Duration,
    /// When it begins, while it waits.
    republish_at: Option<Instant>,
    /// How fast it may be sent messages (§4.13).
    rate: PublishRate,
    /// With MQTT 5: what the broker and we agreed on.
    limits: Option<ConnectionLimits>,
    too_large: &'a mut TooLarge,
    suspects: Suspects,
    /// Where the broker has sent us.
    referral: Option<Box<str>>,
}

impl<'a> Connection<'a> {
    fn new(
        config: &'a Config,
        broker: &'a BrokerConfig,
        task: &'a BrokerTask,
        too_large: &'a mut TooLarge,
    ) -> Connection<'a> {
        let portal_id = &config.portal_id;
        let prefix = &broker.prefix;
        let (mut will_payload, mut online_payload) = (Vec::new(), Vec::new());
        text_payload(&mut will_payload, "offline");
        text_payload(&mut online_payload, "online");
        let session_config = SessionConfig {
            version: Version::V3,
            client_id: broker.client_id.clone(),
            login: broker
                .login
                .as_ref()
                .map(|login| (login.user.clone(), login.password.expose().to_owned())),
            ping: broker.ping,
            subscribe_qos: if broker.subscribe_qos == 0 {
                QoS::AtMostOnce
            } else {
                QoS::AtLeastOnce
            },
            will_topic: format!(
                "{prefix}{}{}",
                topic::notification_prefix(portal_id),
                topic::STATUS
            ),
            will_payload,
            plain_will: false,
            kept: broker.will_delay,
            clean_start: true,
            is_reconnect: false,
            packet_bytes_max: u32::try_from(packet::SENT_BYTES_MAX).unwrap_or(u32::MAX),
            request_filters: topic::request_filters(portal_id)
                .map(|filter| format!("{prefix}{filter}"))
                .into(),
            retained_filters: retained_filters(broker, portal_id),
            notice_filters: broker
                .home_assistant
                .iter()
                .map(|home| homeassistant::status_topic(&home.prefix))
                .collect(),
            watch_filter: format!("{prefix}{}", topic::notification_filter(portal_id)),
            online_payload,
        };
        Connection {
            broker,
            portal_id,
            task,
            session_config,
            requests: RequestReader::new(config.limits.request_bytes_max),
            out_bytes: config.limits.out_buffer_bytes,
            packet_bytes_max: packet_bytes_max(config, broker),
            out: Vec::new(),
            sent: 0,
            input: Vec::new(),
            have: 0,
            skip: 0,
            was_taken: false,
            was_connected: false,
            republish: Duration::ZERO,
            republish_at: None,
            rate: PublishRate::new(broker.publish_rate_max),
            limits: None,
            too_large,
            suspects: Suspects::default(),
            referral: None,
        }
    }

    /// Serves one connection to its end. `Ok` where that is the bridge's end.
    async fn serve(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<(), LinkError> {
        let mut stream = stream;
        let mut session = Session::open(self.session_config.clone(), Instant::now(), &mut self.out);
        let result = self.converse(&mut stream, &mut session).await;
        let result = result.map_err(|error| session.explain(error));
        self.was_taken = session.is_taken();
        self.referral = session.referral();
        if let Err(error) = &result {
            session.give_up(error, &mut self.out);
            // Where there is room for it at once; nobody waits for a connection that is lost.
            let _ = poll_fn(|context| Poll::Ready(self.poll_write(&mut stream, context))).await;
        }
        result
    }

    /// Reads and writes until one side ends it.
    async fn converse<S>(&mut self, stream: &mut S, session: &mut Session) -> Result<(), LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut sleep = pin!(tokio::time::sleep_until(session.deadline().into()));
        let mut armed = session.deadline();
        loop {
            let more = self.fill(session);
            if !self.task.wants() && session.is_connected() && !more && self.sent == self.out.len()
            {
                return self.close(stream, session).await;
            }
            if !self.task.wants() && !session.is_connected() {
                return Ok(());
            }
            let paced = self.rate.waits_until().filter(|_| more);
            let due = self.republish_at.into_iter().chain(paced);
            let due = due.chain([session.deadline()]);
            let due = due.min().unwrap_or(armed);
            if due != armed {
                armed = due;
                sleep.as_mut().reset(armed.into());
            }
            self.exchange(stream, sleep.as_mut()).await?;
            self.take_packets(session)?;
            let now_monotonic = Instant::now();
            if now_monotonic >= session.deadline() && session.tick(now_monotonic, &mut self.out)? {
                self.republish_at = Some(now_monotonic + jitter(self.republish, random_u32()));
            }
            if let Some(news) = session.news() {
                self.found(news);
            }
            self.begin(now_monotonic);
        }
    }

    /// Lets values flow, if it is time.
    fn begin(&mut self, now_monotonic: Instant) {
        if self.republish_at.is_some_and(|at| now_monotonic >= at) {
            self.republish_at = None;
            self.task
                .with(|bridge, broker| bridge.broker_ready(now(), broker));
        }
    }

    /// Fills the write buffer from the bridge. Tells whether the bridge has more.
    fn fill(&mut self, session: &mut Session) -> bool {
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            if self.out.capacity() > self.out_bytes * 2 {
                self.out.shrink_to(self.out_bytes);
            }
        }
        if !session.takes_publishes() {
            return session.is_connected();
        }
        let suspicion = self.suspects.mode(Instant::now());
        let is_up = || self.task.bridge().is_up(self.task.index);
        if suspicion == Mode::Trial && self.task.wants() && is_up() {
            self.try_one(session);
            return true;
        }
        let noting = (suspicion == Mode::Recording).then(|| session.pings());
        let Connection {
            out,
            limits,
            too_large,
            task,
            rate,
            suspects,
            ..
        } = self;
        let allowed = rate.allowed(Instant::now());
        let before = out.len();
        let full = self.sent + self.out_bytes;
        let (sent, more) = match limits {
            None => pull_noting(task, (full, allowed), V3Sink(out), suspects, noting),
            Some(limits) => {
                let sink = V5Sink {
                    out,
                    limits,
                    too_large,
                    log: task.shared.log_rate(),
                };
                pull_noting(task, (full, allowed), sink, suspects, noting)
            }
        };
        rate.sent(sent);
        let written = self.out.len() - before;
        if written > 0 {
            self.suspects.published(Instant::now());
        }
        session.published(written, &mut self.out);
        if written > 0 && noting.is_some() {
            session.fence(&mut self.out);
        }
        more
    }

    /// Publishes what is suspected, one after the other: the next when the broker has taken the last.
    fn try_one(&mut self, session: &mut Session) {
        if self.rate.allowed(Instant::now()) == 0 {
            return;
        }
        while let Some(suspect) = self.suspects.next_one() {
            let Connection {
                out,
                limits,
                too_large,
                task,
                ..
            } = self;
            let what = (&*suspect.topic, suspect.empty);
            let published = match limits {
                None => task
                    .bridge()
                    .publish_alone(now(), task.index, what, &mut V3Sink(out)),
                Some(limits) => {
                    let mut sink = V5Sink {
                        out,
                        limits,
                        too_large,
                        log: task.shared.log_rate(),
                    };
                    task.bridge()
                        .publish_alone(now(), task.index, what, &mut sink)
                }
            };
            if published {
                self.rate.sent(1);
                self.suspects.published(Instant::now());
                let pings = session.fence(&mut self.out);
                self.suspects.try_one(pings, suspect);
            }
        }
    }

    /// Writes and reads what is possible, and waits until something was, or the bridge or the clock
    /// has something.
    async fn exchange<S>(
        &mut self,
        stream: &mut S,
        mut sleep: Pin<&mut Sleep>,
    ) -> Result<(), LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut wake = pin!(self.task.woken());
        poll_fn(|context| {
            let wrote = self.poll_write(stream, context)?;
            let read = self.poll_read(stream, context)?;
            // A full buffer waits for the broker, not for the bridge.
            let woken = wake.as_mut().poll(context).is_ready();
            let timed = sleep.as_mut().poll(context).is_ready();
            if wrote || read || woken || timed {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await
    }

    fn poll_write<S>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Result<bool, LinkError>
    where
        S: AsyncWrite + Unpin,
    {
        let before = self.sent;
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *stream).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => return Err(LinkError::Closed),
                Poll::Ready(Ok(written)) => self.sent += written,
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => break,
            }
        }
        Ok(self.sent > before)
    }

    fn poll_read<S>(&mut self, stream: &mut S, context: &mut Context<'_>) -> Result<bool, LinkError>
    where
        S: AsyncRead + Unpin,
    {
        if self.input.len() - self.have < READ_BYTES {
            self.input.resize(self.have + READ_BYTES, 0);
        }
        let mut buffer = ReadBuf::new(self.input.get_mut(self.have..).unwrap_or_default());
        let polled = Pin::new(&mut *stream).poll_read(context, &mut buffer);
        let read = buffer.filled().len();
        self.have += read;
        match polled {
            Poll::Ready(Ok(())) if read == 0 => Err(LinkError::Closed),
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Pending => Ok(false),
        }
    }

    /// Takes the whole packets out of the read buffer.
    #[allow(clippy::too_many_lines)] // one arm for each event, which borrows the read buffer
    fn take_packets(&mut self, session: &mut Session) -> Result<(), LinkError> {
        let mut taken = 0;
        loop {
            if self.skip > 0 {
                let skipped = self.skip.min(self.have - taken);
                self.skip -= skipped;
                taken += skipped;
                if self.skip > 0 {
                    if skipped > 0 {
                        session.skipping(Instant::now());
                    }
                    break;
                }
            }
            let rest = self.input.get_mut(taken..self.have).unwrap_or_default();
            let max = self.packet_bytes_max;
            let event = match packet::packet_len(rest, max) {
                Ok(None) => break,
                Ok(Some(len)) => {
                    let Some(bytes) = rest.get_mut(..len) else {
                        break;
                    };
                    taken += len;
                    let inbound = packet::decode_as(session.version(), bytes)?;
                    session.receive(Instant::now(), inbound, &mut self.out)?
                }
                Err(PacketError::TooLarge { found, .. }) if session.is_connected() => {
                    let Some(beginning) = packet::beginning(rest)? else {
                        break;
                    };
                    self.skip = found;
                    self.task.bridge().broker_skipped(self.task.index);
                    session.skip(Instant::now(), beginning, &mut self.out)?
                }
                Err(error) => return Err(error.into()),
            };
            self.suspects.answered(|pings| session.has_answered(pings));
            match event {
                Event::None => {}
                Event::Connected => {
                    let compresses = self.broker.batch.is_some() && self.broker.batch_compress;
                    info!(
                        "{} {}:{}: connected, with {}{}",
                        self.broker.name,
                        self.broker.host,
                        self.broker.port,
                        session.version(),
                        if compresses && session.version() == Version::V3 {
                            "; batches are not compressed, that needs MQTT 5"
                        } else {
                            ""
                        }
                    );
                    self.was_connected = true;
                    self.task.shared.tell_watcher(|| LinkNews::Connected);
                    if let Some(guilty) = self.suspects.connected(Instant::now()) {
                        let time = suspects::LEFT_OUT;
                        warn!(
                            "{} {}:{}: the broker closes the connection when {} is published; left out for an hour",
                            self.broker.name,
                            self.broker.host,
                            self.broker.port,
                            guilty.topic.escape_debug()
                        );
                        self.task.bridge().leave_topic_out(
                            now(),
                            self.task.index,
                            &guilty.topic,
                            time,
                        );
                    }
                    let expiry = self.agree(session);
                    self.task.with(|bridge, broker| {
                        bridge.broker_expires(broker, expiry);
                        bridge.broker_connected(broker);
                    });
                    self.task.shared.connection_changed();
                }
                Event::Retained(topic, payload) => {
                    if self.skip > 0 {
                        let rate = self.task.shared.log_rate();
                        self.too_large.skipped(topic, self.skip, max, rate);
                    }
                    self.task
                        .bridge()
                        .broker_retained(self.task.index, topic, payload);
                }
                Event::Skipped(beginning) => {
                    // A request all the same: counted and refused, and it keeps alive (§5.1, §5.8).
                    let Some(topic) = beginning.topic.strip_prefix(&*self.broker.prefix) else {
                        continue;
                    };
                    if self.requests.read(topic, &mut [], self.portal_id).is_some() {
                        let found = self.skip;
                        let too_large = Rejection::TooLarge { found, max };
                        self.task.with(|bridge, broker| {
                            bridge.request_from(
                                now(),
                                broker,
                                topic,
                                Err(too_large),
                                beginning.retain,
                                None,
                            );
                        });
                    }
                }
                Event::Foreign(message) => self.task.with(|bridge, broker| {
                    let (topic, payload) = (message.topic, &*message.payload);
                    bridge.broker_foreign(now(), broker, topic, payload, message.retain);
                }),
                Event::ForeignSkipped(beginning) => {
                    let rate = self.task.shared.log_rate();
                    (self.too_large).skipped(beginning.topic, self.skip, max, rate);
                    // What it says is not known; it is not a value of ours.
                    let (topic, payload) = (beginning.topic, &b"too large"[..]);
                    self.task.with(|bridge, broker| {
                        bridge.broker_foreign(now(), broker, topic, payload, beginning.retain);
                    });
                }
                Event::Found(finding) => self.found(finding),
                Event::Request(message) if is_birth(self.broker, &message) => {
                    self.task
                        .with(|bridge, broker| bridge.home_assistant_started(now(), broker));
                }
                Event::Request(message) => {
                    // What comes from beside the broker's prefix (§8) is not a request of ours.
                    let Some(topic) = message.topic.strip_prefix(&*self.broker.prefix) else {
                        continue;
                    };
                    let original = if self.broker.topics.replace.is_empty() {
                        None
                    } else {
                        self.task.bridge().original(self.task.index, topic)
                    };
                    let topic = original.as_deref().unwrap_or(topic);
                    let request = self.requests.read(topic, message.payload, self.portal_id);
                    let respond_to = message.respond_to.map(|to| ResponseAddress {
                        topic: to.topic.into(),
                        correlation: to.correlation.into(),
                        client: None,
                    });
                    if let Some(request) = request {
                        // A client is there that waits: the time of the full publish has come.
                        if let Some(at) = &mut self.republish_at {
                            *at = Instant::now();
                        }
                        self.task.with(|bridge, broker| {
                            bridge.request_from(
                                now(),
                                broker,
                                topic,
                                request,
                                message.retain,
                                respond_to,
                            );
                        });
                    }
                }
            }
        }
        self.input.copy_within(taken..self.have, 0);
        self.have -= taken;
        if self.have == 0 && self.input.len() > READ_BYTES * 2 {
            self.input.truncate(READ_BYTES);
            self.input.shrink_to_fit();
        }
        Ok(())
    }

    /// Takes what was found out about the broker.
    fn found(&self, finding: Finding) {
        let BrokerConfig {
            name, host, port, ..
        } = self.broker;
        match finding {
            Finding::Unheard { others: true } => warn!(
                "{name} {host}:{port}: our own status is not echoed, and another program publishes {} there, as the broker of a GX device does (dbus-flashmq), which takes these topics from nobody else: set `mqtt-server` to another broker, or `mqtt-prefix = \"venus/\"` for this one",
                self.session_config.watch_filter
            ),
            Finding::Unheard { others: false } => warn!(
                "{name} {host}:{port}: our own status is not echoed; check the broker's access control list for {} (publish and read)",
                self.session_config.retained_filters.join(" and ")
            ),
            Finding::NoStoredForWildcards => {
                warn!(
                    "{name} {host}:{port}: the broker sends no retained messages to subscriptions with wildcards: clients that subscribe to {} see each value only when it changes next, or after a keep-alive, and stale values are not cleared; `retain = false` suits such a broker",
                    self.session_config.watch_filter
                );
                self.task.bridge().broker_hides_retained(self.task.index);
            }
            Finding::NothingStored => {
                warn!(
                    "{name} {host}:{port}: the broker does not keep retained messages: clients see each value only when it changes next, or after a keep-alive"
                );
                self.task.bridge().broker_hides_retained(self.task.index);
            }
            Finding::Watching => {
                self.task
                    .with(|bridge, broker| bridge.broker_watched(now(), broker, true));
            }
            Finding::Unwatched => {
                debug!(
                    "{name} {host}:{port}: the broker sends us our own messages; those of other clients below our topics are ignored"
                );
                self.task
                    .with(|bridge, broker| bridge.broker_watched(now(), broker, false));
            }
        }
    }

    /// What the broker and we agree on. Gives after what time it forgets values, where it does.
    fn agree(&mut self, session: &Session) -> Option<Duration> {
        if session.version() == Version::V3 {
            return None;
        }
        let expiry = self.broker.expire.map(|expiry| expiry.max(EXPIRY_MIN));
        let expiry = expiry.filter(|_| session.server_limits().retain);
        let expiry_s = expiry.map(|expiry| u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX));
        let aliases = self.broker.topic_aliases;
        self.limits = Some(ConnectionLimits::new(
            session.server_limits(),
            expiry_s,
            aliases,
        ));
        expiry
    }

    /// Ends the session in order.
    async fn close<S>(&mut self, stream: &mut S, session: &Session) -> Result<(), LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        session.close(&mut self.out);
        while self.sent < self.out.len() {
            poll_fn(|context| match self.poll_write(stream, context) {
                Ok(true) => Poll::Ready(Ok(())),
                Ok(false) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            })
            .await?;
        }
        poll_fn(|context| Pin::new(&mut *stream).poll_shutdown(context)).await?;
        // A socket that is closed with something unread in it resets the connection, and what is
        // still on its way to the broker is lost: the broker closes first.
        let closed = poll_fn(|context| {
            self.have = 0;
            match self.poll_read(stream, context) {
                Ok(true) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Ok(false) => Poll::Pending,
                Err(_) => Poll::Ready(()),
            }
        });
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
        Ok(())
    }
}

/// The same as [`pull`], and notes what is written where that is wanted.
fn pull_noting(
    task: &BrokerTask,
    (full, allowed): (usize, usize),
    sink: impl Buffered,
    suspects: &mut Suspects,
    noting: Option<u32>,
) -> (usize, bool) {
    let mut sink = sink;
    let Some(pings) = noting else {
        return pull(task, full, allowed, &mut sink);
    };
    let mut sink = Noting {
        sink,
        suspects,
        pings,
    };
    pull(task, full, allowed, &mut sink)
}

/// Has the bridge fill the buffer up to `full`, with as many messages as are allowed. Gives their number,
/// and whether the bridge has more.
fn pull(task: &BrokerTask, full: usize, allowed: usize, sink: &mut impl Buffered) -> (usize, bool) {
    let mut bridge = task.bridge();
    let time = now();
    let mut sent = 0;
    while sent < allowed && sink.len() < full {
        if !bridge.poll_publish(time, task.index, sink) {
            return (sent, false);
        }
        sent += 1;
    }
    (sent, bridge.has_work(task.index))
}
