//! What one question to a broker needs: a [`Task`], and the connection that carries it out.
//!
//! A task decides and never touches a socket or a clock; the [`Connection`] does nothing else. The
//! stream is whatever reads and writes: TCP now, and what is built upon it.

use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::ClientError;
use super::reading::Reading;
use crate::config::BrokerConfig;
use crate::link::session::LinkError;
use crate::model::topic;
use crate::tools::session::{Event, Session, usual_version};

/// How long a broker may take to accept what is written, or to close.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for the closing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;

/// A message, as a task sees it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The topic, without the prefix of the bridge's topics.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// Whether the broker had it in store: it may be old.
    pub retained: bool,
}

/// What a task wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask for what fits these filters.
    Subscribe(Vec<String>),
    /// Send a message: topic and payload.
    Publish(String, String),
    /// Have the broker forget what it retains on this topic.
    Clear(String),
    /// Say when all before has been answered.
    Fence,
    /// Print this.
    Show(Reading),
    /// Tell the user this, beside what is printed.
    Note(String),
}

/// One question, and what is needed to answer it.
pub trait Task {
    /// Begins.
    fn begin(&mut self, now: Instant, todo: &mut Vec<Action>);
    /// A message has come.
    fn message(&mut self, now: Instant, message: &Message<'_>, todo: &mut Vec<Action>);
    /// The broker has dealt with all before the last [`Action::Fence`].
    fn fenced(&mut self, _now: Instant) {}
    /// When [`Task::tick`] has something to do; `None` where only a message can go on with it.
    fn deadline(&self) -> Option<Instant>;
    /// Time has passed.
    fn tick(&mut self, now: Instant, todo: &mut Vec<Action>);
    /// Whether it is over.
    fn is_done(&self) -> bool;
}

/// Where a task's words go. `false` where nobody reads them any more.
pub trait Show {
    /// Prints a value.
    fn show(&mut self, reading: &Reading) -> io::Result<()>;
    /// Says something beside.
    fn note(&mut self, text: &str);
}

/// An open session.
pub struct Connection<'a, S> {
    stream: S,
    session: Session,
    /// What stands in front of the bridge's topics at this broker. No task knows of it.
    prefix: String,
    out: Vec<u8>,
    input: Vec<u8>,
    /// Ends everything early.
    stop: Pin<&'a mut dyn Future<Output = ()>>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    /// Opens a session on a stream.
    pub fn new(
        stream: S,
        broker: &BrokerConfig,
        stop: Pin<&'a mut dyn Future<Output = ()>>,
    ) -> Connection<'a, S> {
        let mut out = Vec::new();
        let login = broker.login.as_ref();
        let version = usual_version(broker);
        let session = Session::open(version, &broker.client_id, login, Instant::now(), &mut out);
        Connection {
            stream,
            session,
            prefix: broker.prefix.clone(),
            out,
            input: Vec::new(),
            stop,
        }
    }

    /// Waits until the broker takes requests.
    pub async fn connected(&mut self) -> Result<(), ClientError> {
        let mut waiting = true;
        while waiting {
            self.exchange(None).await?;
            waiting = !self.take(|_, event| Ok(matches!(event, Event::Connected)))?;
        }
        Ok(())
    }

    /// Carries a task out.
    pub async fn perform(
        &mut self,
        task: &mut impl Task,
        show: &mut impl Show,
    ) -> Result<(), ClientError> {
        let mut todo = Vec::new();
        task.begin(Instant::now(), &mut todo);
        // What came with the last packet of the task before is looked at first.
        let mut came = true;
        loop {
            self.carry_out(&mut todo, show)?;
            if task.is_done() {
                return Ok(());
            }
            if !std::mem::take(&mut came) {
                self.exchange(task.deadline()).await?;
            }
            let prefix = self.prefix.clone();
            self.take(|now, event| {
                match event {
                    Event::Message(message) => {
                        let message = Message {
                            topic: inside(&prefix, message.topic),
                            payload: message.payload,
                            retained: message.retain,
                        };
                        task.message(now, &message, &mut todo);
                    }
                    Event::Fenced => task.fenced(now),
                    Event::None | Event::Connected => {}
                }
                Ok(task.is_done())
            })?;
            let now = Instant::now();
            if !task.is_done() && task.deadline().is_some_and(|deadline| deadline <= now) {
                task.tick(now, &mut todo);
            }
        }
    }

    /// Ends the session in order.
    pub async fn close(mut self) {
        self.session.close(&mut self.out);
        let bytes = std::mem::take(&mut self.out);
        let ended = async {
            self.stream.write_all(&bytes).await?;
            self.stream.shutdown().await?;
            // The broker closes first: what is still on its way to it is not lost.
            let mut rest = [0; 1024];
            while self.stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // It has said all that matters.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
    }

    fn carry_out(
        &mut self,
        todo: &mut Vec<Action>,
        show: &mut impl Show,
    ) -> Result<(), ClientError> {
        let now = Instant::now();
        for action in todo.drain(..) {
            match action {
                Action::Subscribe(filters) => {
                    let filters: Vec<_> = filters
                        .into_iter()
                        .map(|filter| outside(&self.prefix, filter))
                        .collect();
                    self.session.subscribe(&filters, now, &mut self.out);
                }
                Action::Publish(topic, payload) => {
                    let topic = outside(&self.prefix, topic);
                    self.session
                        .publish(&topic, payload.as_bytes(), &mut self.out);
                }
                Action::Clear(topic) => {
                    let topic = outside(&self.prefix, topic);
                    self.session.clear(&topic, &mut self.out);
                }
                Action::Fence => self.session.fence(&mut self.out),
                Action::Show(reading) => show.show(&reading).map_err(ClientError::Output)?,
                Action::Note(text) => show.note(&text),
            }
        }
        Ok(())
    }

    /// Writes what there is, and waits until something has come or `until`.
    async fn exchange(&mut self, until: Option<Instant>) -> Result<(), ClientError> {
        let bytes = std::mem::take(&mut self.out);
        if !bytes.is_empty() {
            let sent = tokio::time::timeout(SEND_TIMEOUT, self.stream.write_all(&bytes)).await;
            let sent = sent.map_err(|_| LinkError::Silent {
                silent: SEND_TIMEOUT,
            })?;
            sent.map_err(LinkError::Io)?;
        }
        let deadline = self.session.deadline();
        let deadline = until.map_or(deadline, |until| until.min(deadline));
        let have = self.input.len();
        self.input.resize(have + READ_BYTES, 0);
        let room = self.input.get_mut(have..).unwrap_or_default();
        let read = tokio::select! {
            () = &mut self.stop => Err(ClientError::Interrupted),
            read = self.stream.read(room) => match read {
                Ok(0) => Err(LinkError::Closed.into()),
                Ok(read) => Ok(read),
                Err(error) => Err(LinkError::Io(error).into()),
            },
            () = tokio::time::sleep_until(deadline.into()) => Ok(0),
        };
        self.input.truncate(have + *read.as_ref().unwrap_or(&0));
        read?;
        let now = Instant::now();
        if now >= self.session.deadline() {
            self.session.tick(now, &mut self.out)?;
        }
        Ok(())
    }

    /// Takes the whole packets that have come, until `each` says that it is enough; tells whether it
    /// did.
    fn take(
        &mut self,
        mut each: impl FnMut(Instant, Event<'_>) -> Result<bool, ClientError>,
    ) -> Result<bool, ClientError> {
        let mut taken = 0;
        let mut enough = false;
        while !enough {
            let now = Instant::now();
            let rest = self.input.get_mut(taken..).unwrap_or_default();
            let Some((length, event)) = self.session.receive(now, rest, &mut self.out)? else {
                break;
            };
            enough = each(now, event)?;
            taken += length;
        }
        self.input.drain(..taken);
        Ok(enough)
    }
}

/// A topic or filter as the broker has it. The prefix stands in front of the bridge's topics (§8), and not in
/// front of what Home Assistant reads.
fn outside(prefix: &str, topic: String) -> String {
    if !prefix.is_empty() && topic::parse_any(&topic).is_some() {
        format!("{prefix}{topic}")
    } else {
        topic
    }
}

/// The same the other way round.
fn inside<'a>(prefix: &str, topic: &'a str) -> &'a str {
    let inner = topic.strip_prefix(prefix);
    inner
        .filter(|inner| topic::parse_any(inner).is_some())
        .unwrap_or(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s8_a_prefix_stands_in_front_of_the_bridges_topics_only() {
        for (prefix, topic, expected) in [
            ("venus/", "N/+/system/0/Serial", "venus/N/+/system/0/Serial"),
            ("venus/", "W/a/vebus/1/Mode", "venus/W/a/vebus/1/Mode"),
            ("", "R/a/keepalive", "R/a/keepalive"),
            (
                "venus/",
                "homeassistant/device/dbus-mqtt_a/b/config",
                "homeassistant/device/dbus-mqtt_a/b/config",
            ),
        ] {
            let at_broker = outside(prefix, topic.to_owned());
            assert_eq!(at_broker, expected);
            assert_eq!(inside(prefix, &at_broker), topic);
        }
    }
}
