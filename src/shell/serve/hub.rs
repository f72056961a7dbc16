//! All clients of the serving thread: the [`Server`] that knows what they are to have, and their sockets.
//!
//! Each client has a task that reads its socket. Whatever happens ends in [`Hub::pump`], which does all that
//! the server has to do then: requests go to the bus thread, and what waits for clients goes out of the
//! server's scratch straight into their sockets. A client whose socket is full is written to by its own task
//! when there is room again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tracing::debug;

use super::exchange::{Exchange, FromClients};
use super::login::Logins;
use super::settings::settings;
use crate::bridge::{ClientAnswer, Reader, SlotId};
use crate::config::Config;
use crate::model::time::Now;
use crate::serve::{
    Answer, ClientId, Close, DirectoryChange, Peer, Response, Server, Slot, Values,
};
use crate::shell::shared::now;
use crate::shell::transport::Stream;

/// What is read from one client at a time.
const READ_BYTES: usize = 16 * 1024;
/// How often one client is read from before the others have a turn.
const READS_MAX: usize = 4;
/// How long a client may take to take our last words.
const GOODBYE: Duration = Duration::from_secs(2);

/// All clients.
pub(super) struct Hub {
    server: RefCell<Server>,
    connections: RefCell<HashMap<ClientId, Rc<Connection>>>,
    values: CacheValues,
    exchange: Arc<Exchange>,
    scratch: RefCell<Vec<u8>>,
    logins: Rc<Logins>,
    /// The main task is to look at its deadline again.
    pub(super) timer: Notify,
    armed: Cell<Option<Instant>>,
    /// What was counted is told, and nothing has happened since.
    is_noted: Cell<bool>,
    counted: RefCell<HashMap<std::net::IpAddr, usize>>,
    /// How many clients each listener has.
    listening: RefCell<Vec<usize>>,
}

struct Connection {
    stream: RefCell<Stream>,
    /// Of its task.
    waker: RefCell<Option<Waker>>,
    /// It has not taken all that is for it.
    is_blocked: Cell<bool>,
    /// The server has nothing more for it.
    is_closed: Cell<bool>,
    /// It is not read from for now.
    is_paused: Cell<bool>,
    address: std::net::IpAddr,
}

impl Connection {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// Values straight from the cache, which the bus thread goes on changing.
struct CacheValues(Reader);

impl Values for CacheValues {
    fn payload(&self, slot: Slot, out: &mut Vec<u8>) -> bool {
        // No slot is another item's before the directory that says so is handled.
        self.0.render_present(SlotId(slot.0), out)
    }
}

impl Hub {
    pub(super) fn new(
        server: Server,
        values: Reader,
        exchange: Arc<Exchange>,
        logins: Rc<Logins>,
    ) -> Hub {
        Hub {
            server: RefCell::new(server),
            connections: RefCell::default(),
            values: CacheValues(values),
            exchange,
            scratch: RefCell::new(vec![0; READ_BYTES]),
            logins,
            timer: Notify::new(),
            armed: Cell::new(None),
            is_noted: Cell::new(false),
            counted: RefCell::default(),
            listening: RefCell::default(),
        }
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    /// How many of them come from this address.
    pub(super) fn connections_from(&self, address: std::net::IpAddr) -> usize {
        self.counted.borrow().get(&address).copied().unwrap_or(0)
    }

    /// Other settings.
    pub(super) fn reload(self: &Rc<Self>, config: &Config) {
        self.logins.reload(&config.listeners, config.limits.log());
        let settings = settings(config);
        self.server.borrow_mut().reload(now(), settings);
        self.pump();
    }

    /// The bridge ends.
    pub(super) fn shut_down(self: &Rc<Self>) {
        self.server.borrow_mut().shut_down(now());
        self.pump();
    }

    /// Takes what the bus thread has handed over, and what has changed.
    pub(super) fn take_in(self: &Rc<Self>) {
        let now = now();
        {
            let mut server = self.server.borrow_mut();
            let inbox = self.exchange.take_inbox();
            for directory in inbox.directories {
                for slot in directory.gone {
                    let slot = Slot(slot.0);
                    server.directory(now, DirectoryChange::Gone { slot });
                }
                for (slot, item) in directory.items {
                    let change = DirectoryChange::Item {
                        slot: Slot(slot.0),
                        topic: item.topic,
                        identifying: item.identifying,
                    };
                    server.directory(now, change);
                }
                self.exchange.handled(directory.batch);
            }
            for (listener, answer) in inbox.answers {
                server.answer(now, self.translated(listener, answer));
            }
            self.exchange
                .marks
                .take(|word, bits| server.mark(word, bits));
        }
        self.pump();
    }

    /// When there is something to do without anything happening.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadline = self.server.borrow().poll_timeout();
        self.armed.set(deadline);
        deadline
    }

    /// Does all that the server has to do now.
    pub(super) fn pump(self: &Rc<Self>) {
        let now = now();
        let mut context = Context::from_waker(Waker::noop());
        let (mut has_acted, mut has_asked) = (false, false);
        loop {
            self.server.borrow_mut().advance(now);
            let mut is_idle = true;
            while let Some(request) = {
                let mut server = self.server.borrow_mut();
                server.poll_request()
            } {
                is_idle = false;
                has_asked = true;
                if !self.exchange.push(FromClients::Request(request)) {
                    debug!("a client's request is lost: too many wait");
                }
            }
            while let Some(check) = {
                let mut server = self.server.borrow_mut();
                server.poll_login()
            } {
                let hub = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let client = check.client;
                    let verdict = hub.logins.check(check).await;
                    let now = crate::shell::shared::now();
                    hub.server.borrow_mut().login(now, client, verdict);
                    hub.pump();
                    hub.resume(client);
                });
            }
            while let Some(client) = {
                let mut server = self.server.borrow_mut();
                server.poll_ready()
            } {
                is_idle = false;
                self.write(now, client, &mut context);
                if let Some(connection) = self.connection(client)
                    && connection.is_blocked.get()
                {
                    // With a separate waker: this one wakes nobody.
                    connection.wake();
                }
                self.resume(client);
            }
            while let Some((client, why)) = {
                let mut server = self.server.borrow_mut();
                server.poll_close()
            } {
                is_idle = false;
                self.closed(client, why);
            }
            if is_idle {
                break;
            }
            has_acted = true;
        }
        let deadline = self.server.borrow().poll_timeout();
        let armed = self.armed.get();
        // Who waits for a change that was written does not sleep until the pace allows others.
        let hurries = has_asked && self.awaits_change();
        if has_acted && self.is_noted.replace(false) || hurries {
            self.timer.notify_one();
        }
        if deadline.is_some_and(|at| armed.is_none_or(|armed| at < armed)) {
            self.timer.notify_one();
        }
    }

    fn connection(&self, client: ClientId) -> Option<Rc<Connection>> {
        self.connections.borrow().get(&client).cloned()
    }

    /// Has a client's task read on, where it was told not to.
    fn resume(&self, client: ClientId) {
        if let Some(connection) = self.connection(client)
            && connection.is_paused.get()
            && self.server.borrow().wants(client)
        {
            connection.wake();
        }
    }

    fn closed(&self, client: ClientId, why: Close) {
        if let Some(connection) = self.connection(client) {
            debug!("{}: connection closed: {why:?}", connection.address);
            connection.is_closed.set(true);
            connection.wake();
        }
    }

    /// Writes what a client is to have, until it takes no more.
    fn write(&self, now: Now, client: ClientId, context: &mut Context<'_>) {
        let Some(connection) = self.connection(client) else {
            return;
        };
        let mut failed = false;
        let mut stream = connection.stream.borrow_mut();
        let has_all = self
            .server
            .borrow_mut()
            .write(now, client, &self.values, |bytes| {
                match Pin::new(&mut *stream).poll_write(context, bytes) {
                    Poll::Ready(Ok(written)) => Ok(written),
                    Poll::Ready(Err(error)) => {
                        failed = true;
                        Err(error)
                    }
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            });
        let flushed = match Pin::new(&mut *stream).poll_flush(context) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => {
                failed = true;
                true
            }
            Poll::Pending => false,
        };
        connection.is_blocked.set(!(failed || has_all && flushed));
        drop(stream);
        if failed && !connection.is_closed.get() {
            self.lost(now, client);
            connection.is_closed.set(true);
            connection.wake();
        }
    }

    /// A client's socket is gone.
    fn lost(&self, now: Now, client: ClientId) {
        self.server.borrow_mut().disconnected(now, client);
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(self: Rc<Self>, stream: Stream, peer: Peer) {
        let (address, listener) = (peer.address, peer.listener);
        let client = self.server.borrow_mut().connect(now(), peer);
        let connection = Rc::new(Connection {
            stream: RefCell::new(stream),
            waker: RefCell::default(),
            is_blocked: Cell::new(false),
            is_closed: Cell::new(false),
            is_paused: Cell::new(false),
            address,
        });
        self.connections
            .borrow_mut()
            .insert(client, Rc::clone(&connection));
        *self.counted.borrow_mut().entry(address).or_default() += 1;
        self.count(listener, 1);
        if self.connections() == 1 {
            // From now on the main task sleeps, and is woken for values.
            self.timer.notify_one();
        }
        self.pump();
        poll_fn(|context| self.drive(client, &connection, context)).await;
        self.connections.borrow_mut().remove(&client);
        if let Some(count) = self.counted.borrow_mut().get_mut(&address) {
            *count = count.saturating_sub(1);
        }
        self.counted.borrow_mut().retain(|_, count| *count > 0);
        self.exchange.push(FromClients::Gone(client.number()));
        self.count(listener, -1);
        self.pump();
        let goodbye = poll_fn(|context| {
            Pin::new(&mut *connection.stream.borrow_mut()).poll_shutdown(context)
        });
        // What it does not take now it never will.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }

    /// A listener has one client more, or less. Whether it has any is told.
    fn count(&self, listener: usize, change: isize) {
        let mut listening = self.listening.borrow_mut();
        if listening.len() <= listener {
            listening.resize(listener + 1, 0);
        }
        if let Some(count) = listening.get_mut(listener) {
            let before = *count;
            *count = count.saturating_add_signed(change);
            if (before == 0) != (*count == 0) {
                let listens = FromClients::Listen(listener, *count > 0);
                self.exchange.push(listens);
            }
        }
    }

    /// One turn of a client's task. Ready where the connection has ended.
    fn drive(
        self: &Rc<Self>,
        client: ClientId,
        connection: &Connection,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if connection.is_closed.get() {
            return Poll::Ready(());
        }
        let mut has_acted = connection.is_blocked.get();
        if has_acted {
            self.write(now(), client, context);
        }
        for turn in 0..=READS_MAX {
            if connection.is_closed.get() {
                break;
            }
            let wants = self.server.borrow().wants(client);
            connection.is_paused.set(!wants);
            if !wants {
                break;
            }
            if turn == READS_MAX {
                context.waker().wake_by_ref();
                break;
            }
            let mut scratch = self.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            let polled =
                Pin::new(&mut *connection.stream.borrow_mut()).poll_read(context, &mut buffer);
            match polled {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    has_acted = true;
                    let mut server = self.server.borrow_mut();
                    server.receive(now(), client, buffer.filled());
                }
                Poll::Ready(ended) => {
                    if let Err(error) = ended {
                        debug!("{}: {error}", connection.address);
                    }
                    self.lost(now(), client);
                    connection.is_closed.set(true);
                    has_acted = true;
                }
            }
        }
        // Also where it has only made room: there may be more for it than was written in one turn.
        if has_acted {
            self.pump();
        }
        if connection.is_closed.get() {
            return Poll::Ready(());
        }
        let mut waker = connection.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// What was counted.
    pub(super) fn note_counts(&self) {
        self.exchange.note(self.server.borrow().counts());
        self.is_noted.set(true);
    }

    /// Whether a client waits for the change of an item that it has written.
    pub(super) fn awaits_change(&self) -> bool {
        self.server.borrow().awaits_change(now())
    }

    /// Whether nothing has happened since.
    pub(super) fn is_noted(&self) -> bool {
        self.is_noted.get()
    }

    /// The server has words of its own. One who asks for everything and leaves does so for all (§9.9).
    fn translated(&self, listener: usize, answer: ClientAnswer) -> Answer {
        match answer {
            ClientAnswer::Read(slot) => Answer::Read {
                slots: [Slot(slot.0)].into(),
            },
            ClientAnswer::Republish { client, echo } => Answer::Republish {
                client: client
                    .map(ClientId::from_number)
                    .filter(|client| self.connections.borrow().contains_key(client)),
                echo,
            },
            ClientAnswer::Say {
                topic,
                payload,
                retain,
            } => Answer::Say {
                listener,
                topic,
                payload,
                retain,
            },
            ClientAnswer::Serves(serves) => Answer::Serves { listener, serves },
            ClientAnswer::Respond { to, payload } => Answer::Respond {
                client: ClientId::from_number(to.client.unwrap_or_default()),
                to: Response {
                    topic: to.topic,
                    correlation: to.correlation,
                },
                payload,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::*;
    use crate::bridge::{Bridge, BridgeConfig};
    use crate::config::{ListenConfig, ListenTransport};
    use crate::model::log_rate::LogRate;
    use crate::model::name::PortalId;
    use crate::shell::transport::Accepting;

    /// What the relay keeps of each message, and how many fit.
    const MESSAGE_BYTES: usize = 16 * 1024;
    const MESSAGES: usize = 60;

    fn hub() -> Rc<Hub> {
        let portal = PortalId::new("c0619ab12345").unwrap();
        let mut bridge = Bridge::new(BridgeConfig {
            portal_id: portal.clone(),
            outlets: Vec::new(),
            items_max: 16,
            services_max: 16,
            writes_in_flight_max: 16,
            calls_in_flight_max: 16,
            call_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
            seed: 1,
        });
        let (marks, values) = bridge.listen(Vec::new());
        let exchange = Arc::new(Exchange::new(marks, 0, std::iter::once(true)));
        let server = Server::new(crate::serve::Settings::new(portal));
        Rc::new(Hub::new(
            server,
            values,
            exchange,
            Rc::new(Logins::new(&[], LogRate::default())),
        ))
    }

    /// A client of the hub, let in.
    async fn client(hub: &Rc<Hub>, listener: &TcpListener) -> TcpStream {
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let open = ListenConfig::open("listener", address, ListenTransport::Tcp);
        let accepting = Accepting::new(&open, &crate::config::Limits::default());
        let (stream, certificate) = accepting.accept(accepted.unwrap().0).await.unwrap();
        let peer = Peer {
            listener: 0,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            certificate,
        };
        tokio::task::spawn_local(Rc::clone(hub).serve(stream, peer));
        let mut client = client.unwrap();
        client
            .write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0")
            .await
            .unwrap();
        let mut connack = [0; 4];
        client.read_exact(&mut connack).await.unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        client
    }

    /// Takes all that is there without letting anybody else act, and gives how much it was.
    fn drained(client: &TcpStream) -> usize {
        let mut total = 0;
        let mut bytes = vec![0; 1 << 20];
        while let Ok(count @ 1..) = client.try_read(&mut bytes) {
            total += count;
        }
        total
    }

    #[tokio::test]
    async fn s9_11_one_who_reads_again_gets_all_though_nothing_else_happens() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let hub = hub();
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let listener = TcpListener::bind(any).await.unwrap();
                // Less than all, more than a turn's writes.
                rustix::net::sockopt::set_socket_send_buffer_size(&listener, 200_000).unwrap();
                let mut writer = client(&hub, &listener).await;
                for name in (b'A'..).take(MESSAGES) {
                    let mut publish = b"\x31\x84\x80\x01\0\x02t".to_vec();
                    publish.push(name);
                    publish.resize(publish.len() + MESSAGE_BYTES, b'x');
                    writer.write_all(&publish).await.unwrap();
                }
                // An answer to this one says that all before it was taken.
                writer.write_all(&[0xc0, 0]).await.unwrap();
                writer.read_exact(&mut [0; 2]).await.unwrap();

                let mut reader = client(&hub, &listener).await;
                reader.write_all(b"\x82\x06\0\x01\0\x01+\0").await.unwrap();
                let all = 5 + MESSAGES * (4 + 4 + MESSAGE_BYTES);
                let mut had = 0;
                let mut rounds = 0;
                let taking = async {
                    while had < all {
                        reader.readable().await.unwrap();
                        // It stops reading until no more goes in, then takes all at once: several writes' worth.
                        for _ in 0..100 {
                            tokio::task::yield_now().await;
                        }
                        had += drained(&reader);
                        rounds += 1;
                    }
                };
                let taken = tokio::time::timeout(Duration::from_secs(20), taking).await;
                assert!(
                    taken.is_ok(),
                    "{had} of {all} bytes came, in {rounds} rounds"
                );
                assert_eq!(had, all);
            })
            .await;
    }
}
