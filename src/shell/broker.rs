//! One broker: its socket, its session, and the bridge's outlet for it (§6).
//!
//! The task pulls from the bridge only while its write buffer has room: a broker that takes nothing
//! stalls itself alone, and costs one buffer.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tracing::{debug, info, warn};

use super::run::{Shared, now, wait};
use crate::bridge::{PublishSink, text_payload};
use crate::codec::packet::{self, InPublish};
use crate::codec::request::RequestReader;
use crate::config::{BrokerConfig, Config};
use crate::homeassistant;
use crate::link::backoff::{Backoff, DELAY_MAX};
use crate::link::session::{Event, LinkError, Session, SessionConfig};
use crate::model::name::PortalId;
use crate::model::topic;

/// How long a broker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a broker may take to close a connection that we ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that held this long has healed whatever was wrong before.
const HEALED: Duration = Duration::from_secs(10);
/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;
/// Room beyond a request's payload: topic and packet head.
const PACKET_HEAD_BYTES: usize = 64 * 1024 + 16;

/// Keeps a broker connected until the bridge ends.
pub async fn run(config: Config, index: usize, shared: Arc<Shared>) {
    let Some(broker) = config.brokers.get(index) else {
        return;
    };
    let mut backoff = Backoff::default();
    let mut last_error = String::new();
    while !shared.is_ending() {
        let began = Instant::now();
        let mut was_connected = false;
        let result = async {
            let stream = connect(broker).await?;
            let mut connection = Connection::new(&config, broker, index, &shared);
            let result = connection.serve(stream).await;
            was_connected = connection.was_connected;
            result
        }
        .await;
        shared.with(|bridge| bridge.broker_disconnected(index));
        let Err(error) = result else { return };
        if was_connected && began.elapsed() >= HEALED {
            backoff.reset();
        }
        let delay = if error.needs_operator() {
            DELAY_MAX
        } else {
            wait(&mut backoff)
        };
        let text = error.to_string();
        if was_connected || text != last_error {
            warn!(
                "{} {}:{}: {text}; trying again",
                broker.name, broker.host, broker.port
            );
        } else {
            debug!(
                "{} {}:{}: {text}; next attempt in {delay:?}",
                broker.name, broker.host, broker.port
            );
        }
        last_error = text;
        let ended = async {
            while !shared.is_ending() {
                match shared.brokers.get(index) {
                    Some(wake) => wake.notified().await,
                    None => std::future::pending().await,
                }
            }
        };
        let _ = tokio::time::timeout(delay, ended).await;
    }
}

/// What the broker may have in store of ours (§4.9).
fn retained_filters(broker: &BrokerConfig, portal_id: &PortalId) -> Vec<String> {
    let notifications = broker.retain.then(|| topic::notification_filter(portal_id));
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

async fn connect(broker: &BrokerConfig) -> Result<TcpStream, LinkError> {
    let address = (broker.host.as_str(), broker.port);
    let timeout = || io::Error::new(io::ErrorKind::TimedOut, "no connection within 10 s");
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| timeout())??;
    // Batches are ours: what is written is to go out.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What a connection has of a broker.
struct Connection<'a> {
    broker: &'a BrokerConfig,
    portal_id: &'a PortalId,
    index: usize,
    shared: &'a Shared,
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
    was_connected: bool,
}

/// Writes PUBLISH packets behind what is in the buffer.
struct Sink<'a>(&'a mut Vec<u8>);

impl PublishSink for Sink<'_> {
    #[inline]
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        packet::write_publish(self.0, retain, topic, payload);
    }
}

impl<'a> Connection<'a> {
    fn new(
        config: &'a Config,
        broker: &'a BrokerConfig,
        index: usize,
        shared: &'a Shared,
    ) -> Connection<'a> {
        let (portal_id, limits) = (&config.portal_id, &config.limits);
        let mut will_payload = Vec::new();
        text_payload(&mut will_payload, "offline");
        let session_config = SessionConfig {
            client_id: broker.client_id.clone(),
            login: broker
                .login
                .as_ref()
                .map(|login| (login.user.clone(), login.password.expose().to_owned())),
            ping: broker.ping,
            will_topic: format!("{}{}", topic::notification_prefix(portal_id), topic::STATUS),
            will_payload,
            request_filters: topic::request_filters(portal_id).into(),
            retained_filters: retained_filters(broker, portal_id),
            notice_filters: broker
                .home_assistant
                .iter()
                .map(|home| homeassistant::status_topic(&home.prefix))
                .collect(),
        };
        // What is read back of ours can be longer than a request.
        let payload_bytes_max = match &broker.home_assistant {
            Some(_) => limits
                .request_bytes_max
                .max(homeassistant::payload::BYTES_MAX),
            None => limits.request_bytes_max,
        };
        Connection {
            broker,
            portal_id,
            index,
            shared,
            session_config,
            requests: RequestReader::new(limits.request_bytes_max),
            out_bytes: limits.out_buffer_bytes,
            packet_bytes_max: payload_bytes_max + PACKET_HEAD_BYTES,
            out: Vec::new(),
            sent: 0,
            input: Vec::new(),
            have: 0,
            was_connected: false,
        }
    }

    /// Serves one connection to its end. `Ok` where that is the bridge's end.
    async fn serve(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<(), LinkError> {
        let mut stream = stream;
        let mut session = Session::open(self.session_config.clone(), Instant::now(), &mut self.out);
        let mut sleep = pin!(tokio::time::sleep_until(session.deadline().into()));
        let mut armed = session.deadline();
        loop {
            let more = self.fill(&mut session);
            if self.shared.is_ending()
                && session.is_connected()
                && !more
                && self.sent == self.out.len()
            {
                return self.close(&mut stream, &session).await;
            }
            if self.shared.is_ending() && !session.is_connected() {
                return Ok(());
            }
            if session.deadline() != armed {
                armed = session.deadline();
                sleep.as_mut().reset(armed.into());
            }
            self.exchange(&mut stream, sleep.as_mut()).await?;
            self.take_packets(&mut session)?;
            let now_monotonic = Instant::now();
            if now_monotonic >= session.deadline() && session.tick(now_monotonic, &mut self.out)? {
                self.shared
                    .with(|bridge| bridge.broker_ready(now(), self.index));
            }
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
        let mut bridge = self.shared.bridge();
        let time = now();
        let before = self.out.len();
        let mut more = true;
        while more && self.out.len() - self.sent < self.out_bytes {
            more = bridge.poll_publish(time, self.index, &mut Sink(&mut self.out));
        }
        drop(bridge);
        session.published(self.out.len() - before, &mut self.out);
        more
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
        let Some(wake) = self.shared.brokers.get(self.index) else {
            return Err(LinkError::Closed);
        };
        let mut wake = pin!(wake.notified());
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
    fn take_packets(&mut self, session: &mut Session) -> Result<(), LinkError> {
        let mut taken = 0;
        loop {
            let rest = self.input.get_mut(taken..self.have).unwrap_or_default();
            let Some(len) = packet::packet_len(rest, self.packet_bytes_max)? else {
                break;
            };
            let Some(bytes) = rest.get_mut(..len) else {
                break;
            };
            taken += len;
            let inbound = packet::decode(bytes)?;
            match session.receive(Instant::now(), inbound, &mut self.out)? {
                Event::None => {}
                Event::Connected => {
                    info!(
                        "{} {}:{}: connected",
                        self.broker.name, self.broker.host, self.broker.port
                    );
                    self.was_connected = true;
                    self.shared
                        .with(|bridge| bridge.broker_connected(self.index));
                }
                Event::Retained(topic) => self.shared.bridge().broker_retained(self.index, topic),
                Event::Request(message) if is_birth(self.broker, &message) => {
                    self.shared
                        .with(|bridge| bridge.home_assistant_started(now(), self.index));
                }
                Event::Request(message) => {
                    let request =
                        self.requests
                            .read(message.topic, message.payload, self.portal_id);
                    if let Some(request) = request {
                        self.shared.with(|bridge| {
                            bridge.request(
                                now(),
                                self.index,
                                message.topic,
                                request,
                                message.retain,
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
