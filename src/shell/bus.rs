//! The bus: its socket, what is read from it, and the calls that go out (§2).
//!
//! Waking up costs more than what is done then, and a D-Bus daemon delivers every message with a
//! wake-up of its own. So the task gathers: after it has taken what was there, it looks away for a
//! moment, with the socket out of epoll, and takes what has come meanwhile at once: for a very short
//! one after a silence and in a flood, and for none while a client waits for an answer.

use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use zbus::address::{Address, Transport, transport::UnixSocket};
use zbus::{Connection, Message, Variant};

use super::intercept::{BusSocket, BusStream, register};
use super::pace::{FIRST_PAUSE, FULL_PAUSE, Next, Pace};
use super::shared::{BusTask, Shared, now, random_u32};
use super::timer::Timer;
use crate::bridge::calls::{Call, Method};
use crate::codec::cursor::Malformed;
use crate::codec::frame;
use crate::config::Config;
use crate::error::plain;
use crate::link::backoff::Backoff;
use crate::model::log_rate::{LogRate, Throttle};
use crate::model::value::BusValue;

/// What is read at once: as much as a local socket holds.
const READ_BYTES: usize = 64 * 1024;
/// After so many bytes in one go the brokers have a turn.
const TURN_BYTES: usize = 256 * 1024;
/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a bus is lost.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address is none.
    #[error("not a D-Bus address: {0}")]
    Address(zbus::Error),
    /// A kind of address that is of no use here.
    #[error("cannot connect to this kind of D-Bus address")]
    Transport,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The handshake, or sending, failed.
    #[error("{0}")]
    Zbus(#[from] zbus::Error),
    /// It sent what is not D-Bus.
    #[error("it sent {0}")]
    Malformed(#[from] Malformed),
    /// It did not answer.
    #[error("no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    NoAnswer,
}

/// Keeps the bus connected, forever.
pub async fn run(config: Config, task: BusTask) {
    let shared = &task.shared;
    let mut backoff = Backoff::default();
    let mut last_error = String::new();
    loop {
        let error = match tokio::time::timeout(CONNECT_TIMEOUT, Bus::connect(&config)).await {
            Err(_) => BusError::NoAnswer,
            Ok(Err(error)) => error,
            Ok(Ok(mut bus)) => {
                backoff.reset();
                last_error.clear();
                info!("bus connected");
                let (messages, outgoing) = mpsc::channel(1);
                let sender = tokio::spawn(send(bus.connection.clone(), outgoing));
                shared.with(|bridge| bridge.bus_connected(now()));
                shared.connection_changed();
                let result = tokio::select! {
                    result = bus.read(&task, config.gather) => result,
                    result = make_calls(&task, &messages) => result,
                };
                sender.abort();
                shared.with(|bridge| bridge.bus_disconnected(now()));
                shared.connection_changed();
                match result {
                    Ok(()) => continue,
                    Err(error) => error,
                }
            }
        };
        let delay = backoff.next(random_u32());
        let text = plain(&error);
        if text == last_error {
            debug!(
                "bus {}: {text}; next attempt in {delay:?}",
                config.bus.as_str()
            );
        } else {
            warn!("bus {}: {text}; trying again", config.bus.as_str());
        }
        last_error = text;
        tokio::time::sleep(delay).await;
    }
}

/// Hands the bridge's calls to the task that sends, one batch at a time: a bus that takes nothing
/// holds up nobody else.
async fn make_calls(
    BusTask { shared, signals }: &BusTask,
    messages: &mpsc::Sender<Vec<Message>>,
) -> Result<(), BusError> {
    let mut warnings = Throttle::default();
    loop {
        let Ok(permit) = messages.reserve().await else {
            return Err(BusError::NoAnswer);
        };
        let mut batch = Vec::new();
        while let Some(call) = shared.bridge().poll_call() {
            match message(&call) {
                Ok(message) => batch.push(message),
                // It ends with its deadline.
                Err(error) => {
                    if may_warn(&mut warnings, shared.log_rate()) {
                        warn!(
                            "{} {}: cannot be called: {error}",
                            call.destination, call.path
                        );
                    }
                }
            }
        }
        if batch.is_empty() {
            drop(permit);
            signals.calls.notified().await;
        } else {
            permit.send(batch);
        }
    }
}

async fn send(connection: Connection, mut messages: mpsc::Receiver<Vec<Message>>) {
    while let Some(batch) = messages.recv().await {
        for message in batch {
            if let Err(error) = connection.send(&message).await {
                // The reader sees the end of the connection too, and says so.
                debug!("bus: sending: {error}");
                return;
            }
        }
    }
}

fn message(call: &Call) -> zbus::Result<Message> {
    const ITEM: &str = crate::codec::frame::INTERFACE;
    const DBUS: &str = "org.freedesktop.DBus";
    let (interface, member) = match &call.method {
        Method::AddMatch(_) => (DBUS, "AddMatch"),
        Method::ListNames => (DBUS, "ListNames"),
        Method::GetNameOwner(_) => (DBUS, "GetNameOwner"),
        Method::GetItems => (ITEM, "GetItems"),
        Method::GetValue => (ITEM, "GetValue"),
        Method::SetValue(_) => (ITEM, "SetValue"),
        Method::Introspect => ("org.freedesktop.DBus.Introspectable", "Introspect"),
    };
    let mut builder = Message::method_call(&*call.path, member)
        .destination(&*call.destination)
        .interface(interface);
    if let Some(serial) = NonZeroU32::new(call.id.serial()) {
        builder = builder.serial(serial);
    }
    match &call.method {
        Method::AddMatch(text) | Method::GetNameOwner(text) => builder.build(&&**text),
        Method::SetValue(value) => builder.build(&variant(value)?),
        Method::ListNames | Method::GetItems | Method::GetValue | Method::Introspect => {
            builder.build(&())
        }
    }
}

fn variant(value: &BusValue) -> zbus::Result<Variant<'_>> {
    Ok(match value {
        BusValue::Bool(value) => Variant::Bool(*value),
        BusValue::U8(value) => Variant::U8(*value),
        BusValue::I16(value) => Variant::I16(*value),
        BusValue::U16(value) => Variant::U16(*value),
        BusValue::I32(value) => Variant::I32(*value),
        BusValue::U32(value) => Variant::U32(*value),
        BusValue::I64(value) => Variant::I64(*value),
        BusValue::U64(value) => Variant::U64(*value),
        BusValue::Double(value) => Variant::F64(*value),
        BusValue::Text(text) => Variant::Str((&**text).into()),
        BusValue::ObjectPath(path) => Variant::ObjectPath((&**path).try_into()?),
        BusValue::Array(element, values) => {
            let element: zbus::Signature = (&**element).try_into()?;
            let mut array = zbus::wire::Array::new(&element);
            for value in values {
                array.append(variant(value)?)?;
            }
            Variant::Array(array)
        }
        BusValue::Dict(members) => {
            let mut dict = zbus::wire::Dict::new(&zbus::Signature::Str, &zbus::Signature::Variant);
            for (key, value) in members {
                let value = Variant::Variant(Box::new(variant(value)?));
                dict.append(Variant::Str((&**key).into()), value)?;
            }
            Variant::Dict(dict)
        }
        BusValue::Variant(value) => Variant::Variant(Box::new(variant(value)?)),
    })
}

/// A connected bus.
struct Bus {
    connection: Connection,
    reader: Reader,
}

impl Bus {
    async fn connect(config: &Config) -> Result<Bus, BusError> {
        let mut failed = BusError::Transport;
        for address in config
            .bus
            .as_str()
            .split(';')
            .filter(|address| !address.is_empty())
        {
            match Bus::connect_to(address, config.limits.frame_bytes_max).await {
                Ok(bus) => return Ok(bus),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn connect_to(address: &str, frame_bytes_max: usize) -> Result<Bus, BusError> {
        let stream = open(&address.parse().map_err(BusError::Address)?).await?;
        let (socket, stage) = BusSocket::new(&stream)?;
        let mut reader = Reader {
            stream: Arc::new(stream),
            registered: None,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            skip: 0,
            frame_bytes_max,
            zbus: stage.messages,
            warnings: Throttle::default(),
            log: LogRate::default(),
        };
        let mut surplus = stage.surplus;
        let connection = tokio::select! {
            connection = zbus::connection::Builder::socket(socket).build() => connection?,
            error = async {
                // zbus says hello by a separate call, whose answer is for it.
                let bytes = surplus.recv().await.unwrap_or_default();
                reader.buffer.clone_from(&bytes);
                reader.end = bytes.len();
                reader.serve_zbus().await
            } => return Err(error),
        };
        Ok(Bus { connection, reader })
    }

    async fn read(&mut self, task: &BusTask, gather: Duration) -> Result<(), BusError> {
        self.reader.read(task, gather).await
    }
}

async fn open(address: &Address) -> Result<BusStream, BusError> {
    let stream = match address.transport() {
        Transport::Unix(unix) => {
            #[allow(
                clippy::match_wildcard_for_single_variants,
                clippy::wildcard_enum_match_arm
            )] // a foreign enum
            let address = match unix.path() {
                UnixSocket::File(path) => SocketAddrUnix::new(path),
                UnixSocket::Abstract(name) => {
                    SocketAddrUnix::new_abstract_name(name.as_encoded_bytes())
                }
                _ => return Err(BusError::Transport),
            };
            BusStream::Unix(connect_local(&address.map_err(io::Error::from)?)?)
        }
        Transport::Tcp(tcp) => {
            let stream = tokio::net::TcpStream::connect((tcp.host(), tcp.port())).await?;
            stream.set_nodelay(true)?;
            BusStream::Tcp(stream.into_std()?)
        }
        _ => return Err(BusError::Transport),
    };
    Ok(stream)
}

/// Connects without waiting: a bus that is stopped, and whose queue is full, would have this thread
/// stand still with it. It gives an error instead, as one that is not there.
fn connect_local(address: &SocketAddrUnix) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, address)?;
    Ok(UnixStream::from(socket))
}

/// Reads the bus's socket.
struct Reader {
    stream: Arc<BusStream>,
    /// There while we wait: a registration would wake us for every message.
    registered: Option<AsyncFd<Arc<BusStream>>>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How much of a message that is too long is still to be thrown away.
    skip: usize,
    frame_bytes_max: usize,
    zbus: mpsc::Sender<Vec<u8>>,
    /// What is logged of messages that are thrown away.
    warnings: Throttle,
    log: LogRate,
}

/// What one go has brought.
#[derive(Default)]
struct Gathered {
    bytes: usize,
    messages: usize,
    /// Whether more may be there.
    more: bool,
}

impl Reader {
    /// Reads for zbus alone, while it sets itself up.
    async fn serve_zbus(&mut self) -> BusError {
        loop {
            let result = async {
                self.take(|_| false)?;
                self.readable().await?;
                self.gather(|_| false)
            }
            .await;
            if let Err(error) = result {
                return error;
            }
        }
    }

    /// Reads until the connection ends.
    async fn read(&mut self, task: &BusTask, gather: Duration) -> Result<(), BusError> {
        let BusTask { shared, signals } = task;
        let timer = Timer::new()?;
        let mut pace = Pace::new(Instant::now());
        loop {
            let pause = match self.gather_for(shared, &mut pace, gather)? {
                Next::Turn => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::Wait => {
                    self.readable().await?;
                    if gather.is_zero() || shared.bridge().answer_awaited() {
                        continue;
                    }
                    FIRST_PAUSE
                }
                Next::Gather => gather,
                Next::Drain | Next::Saturated => FULL_PAUSE,
            };
            self.registered = None;
            tokio::select! {
                result = timer.pause(pause.min(gather)) => result?,
                () = signals.urgent.notified() => {}
            }
        }
    }

    /// Takes all that is there, for the bridge: with one lock, and one look at the clock.
    fn gather_for(
        &mut self,
        shared: &Shared,
        pace: &mut Pace,
        gather: Duration,
    ) -> Result<Next, BusError> {
        let time = now();
        let mut bridge = shared.bridge();
        let awaited = bridge.answer_awaited();
        self.log = bridge.log_rate();
        let gathered = self.gather(|frame| bridge.bus_frame(time, frame))?;
        let mut next = pace.next(time.monotonic, gathered.messages, gathered.bytes);
        if gathered.more {
            next = Next::Turn;
        } else if gather.is_zero() || awaited || bridge.answer_awaited() {
            // An answer goes out before anything else is done: no pause is set up now.
            next = Next::Wait;
        }
        if next != Next::Drain {
            shared.wake(&mut bridge);
        }
        Ok(next)
    }

    async fn readable(&mut self) -> io::Result<()> {
        if self.registered.is_none() {
            self.registered = Some(register(Arc::clone(&self.stream), Interest::READABLE)?);
        }
        if let Some(registered) = &self.registered {
            // All that is there is read below, so that only news wakes us again.
            registered.readable().await?.clear_ready();
        }
        Ok(())
    }

    /// Takes all that is there, up to a flood.
    fn gather(
        &mut self,
        mut bridge: impl FnMut(&frame::Frame<'_>) -> bool,
    ) -> Result<Gathered, BusError> {
        let mut gathered = Gathered::default();
        loop {
            self.make_space();
            let space = self.buffer.get_mut(self.end..).unwrap_or_default();
            let room = space.len();
            let read = match (&mut &*self.stream).read(space) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.end += read;
            gathered.bytes += read;
            gathered.messages += self.take(&mut bridge)?;
            if read < room {
                break;
            }
            if gathered.bytes >= TURN_BYTES {
                gathered.more = true;
                break;
            }
        }
        Ok(gathered)
    }

    /// Makes room behind what is not taken yet.
    fn make_space(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == 0 && self.buffer.len() > READ_BYTES * 4 {
            // After a very long message: give the memory back.
            self.buffer = Vec::new();
        }
        if self.buffer.len() - self.end < READ_BYTES {
            self.buffer.resize(self.end + READ_BYTES, 0);
        }
    }

    /// Takes the whole messages out of the buffer; what is not the bridge's goes to zbus.
    fn take(
        &mut self,
        mut bridge: impl FnMut(&frame::Frame<'_>) -> bool,
    ) -> Result<usize, BusError> {
        let mut messages = 0;
        loop {
            let skipped = self.skip.min(self.end - self.start);
            self.skip -= skipped;
            self.start += skipped;
            let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
            let Some(len) = frame::frame_len(bytes)? else {
                return Ok(messages);
            };
            if len > self.frame_bytes_max {
                if may_warn(&mut self.warnings, self.log) {
                    let sender = frame::parse_header(bytes).map_or("", |frame| frame.sender);
                    warn!(
                        "bus: a message of {len} bytes from {sender} was dropped: more than {}",
                        self.frame_bytes_max
                    );
                }
                self.skip = len;
                continue;
            }
            let Some(bytes) = bytes.get(..len) else {
                return Ok(messages);
            };
            if let Ok(frame) = frame::parse(bytes) {
                if !bridge(&frame) && self.zbus.try_send(bytes.to_vec()).is_err() {
                    debug!("bus: {} from {} is lost", frame.member, frame.sender);
                }
            } else if may_warn(&mut self.warnings, self.log) {
                // A bus checks what it passes on; this one does not.
                warn!("bus: dropped a malformed message");
            }
            self.start += len;
            messages += 1;
        }
    }
}

/// Whether the log has room for one more line about a message that is thrown away.
fn may_warn(warnings: &mut Throttle, rate: LogRate) -> bool {
    let allowed = warnings.allow(Instant::now(), rate);
    if let Some(suppressed @ 1..) = allowed {
        warn!("bus: {suppressed} more dropped messages are not shown");
    }
    allowed.is_some()
}
