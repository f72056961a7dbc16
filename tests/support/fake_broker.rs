//! A broker that shows what it is sent, byte for byte, and behaves as badly as a test wants.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::client::{packet, put_text, read_packet, take_text};

/// How it treats those who connect.
#[derive(Clone, Debug, PartialEq)]
pub enum Manner {
    /// As a broker in good order: acknowledges, routes what the client subscribed to back to it.
    Good,
    /// Answers CONNECT with this return code and closes.
    Refuse(u8),
    /// Closes as soon as CONNECT has come.
    Close,
    /// Reads all and says nothing.
    Mute,
    /// Answers CONNECT with these bytes.
    Babble(Vec<u8>),
}

/// A packet as it came: on which connection, first byte, body, when.
#[derive(Clone, Debug)]
pub struct Packet {
    pub connection: usize,
    pub head: u8,
    pub body: Vec<u8>,
    pub at: Instant,
}

pub const CONNECT: u8 = 0x10;
pub const PUBLISH: u8 = 0x30;
pub const SUBSCRIBE: u8 = 0x80;
pub const PINGREQ: u8 = 0xC0;
pub const DISCONNECT: u8 = 0xE0;

impl Packet {
    pub fn kind(&self) -> u8 {
        self.head & 0xF0
    }

    /// Topic, payload and retain flag of a PUBLISH.
    pub fn published(&self) -> Option<(String, String, bool)> {
        (self.kind() == PUBLISH).then(|| {
            let (topic, payload) = take_text(&self.body);
            (
                topic,
                String::from_utf8(payload.to_vec()).unwrap(),
                self.head & 1 == 1,
            )
        })
    }
}

struct State {
    manner: Manner,
    stalled: bool,
    packets: Vec<Packet>,
    connections: usize,
    closed: Vec<usize>,
    current: Option<TcpStream>,
    filters: Vec<String>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

pub struct FakeBroker {
    shared: Arc<Shared>,
    pub address: SocketAddr,
}

impl FakeBroker {
    pub fn start(manner: Manner) -> FakeBroker {
        FakeBroker::on("127.0.0.1:0".parse().unwrap(), manner)
    }

    pub fn on(address: SocketAddr, manner: Manner) -> FakeBroker {
        let listener = TcpListener::bind(address).unwrap();
        // A small window, so that a stall is felt at the other end before megabytes have gone.
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 16_384).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            manner,
            stalled: false,
            packets: Vec::new(),
            connections: 0,
            closed: Vec::new(),
            current: None,
            filters: Vec::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                let shared = Arc::clone(&theirs);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        FakeBroker { shared, address }
    }

    /// From here on; connections that stand are not touched.
    pub fn behave(&self, manner: Manner) {
        self.shared.state.lock().unwrap().manner = manner;
    }

    /// Stops reading.
    pub fn stall(&self) {
        self.shared.state.lock().unwrap().stalled = true;
    }

    pub fn resume(&self) {
        self.shared.state.lock().unwrap().stalled = false;
        self.shared.changed.notify_all();
    }

    /// Closes the newest connection.
    pub fn close(&self) {
        if let Some(stream) = self.shared.state.lock().unwrap().current.take() {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }

    /// Sends bytes to the newest connection.
    pub fn send(&self, bytes: &[u8]) {
        let state = self.shared.state.lock().unwrap();
        state.current.as_ref().unwrap().write_all(bytes).unwrap();
    }

    /// Publishes to the newest connection.
    pub fn publish(&self, topic: &str, payload: &str) {
        self.send(&super::client::publish(topic, payload.as_bytes(), false));
    }

    pub fn connections(&self) -> usize {
        self.shared.state.lock().unwrap().connections
    }

    pub fn packets(&self) -> Vec<Packet> {
        self.shared.state.lock().unwrap().packets.clone()
    }

    /// What was published, in order.
    pub fn published(&self) -> Vec<(String, String, bool)> {
        self.packets()
            .iter()
            .filter_map(Packet::published)
            .collect()
    }

    /// Waits for a packet that is such; gives its number and itself.
    pub fn wait(&self, what: &str, such: impl Fn(&Packet) -> bool) -> (usize, Packet) {
        self.wait_for(what, PATIENCE, 0, such)
    }

    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        from: usize,
        such: impl Fn(&Packet) -> bool,
    ) -> (usize, Packet) {
        let mut next = from;
        self.shared.wait(what, patience, |state| {
            let found = (next..state.packets.len()).find(|&at| such(&state.packets[at]));
            next = state.packets.len();
            found.map(|at| (at, state.packets[at].clone()))
        })
    }

    pub fn wait_published(&self, from: usize, topic: &str, payload: &str) -> usize {
        self.wait_for(&format!("{topic} {payload:?}"), PATIENCE, from, |packet| {
            packet
                .published()
                .is_some_and(|(t, p, _)| t == topic && p == payload)
        })
        .0
    }

    /// Waits for a completion message; gives its number.
    pub fn wait_completed(&self, from: usize) -> usize {
        let such = |packet: &Packet| {
            packet
                .published()
                .is_some_and(|(topic, ..)| topic.ends_with("/full_publish_completed"))
        };
        self.wait_for("a completion message", PATIENCE, from, such)
            .0
    }

    /// Waits for this many connections, those before included.
    pub fn wait_connections(&self, count: usize, patience: Duration) {
        self.shared
            .wait(&format!("{count} connections"), patience, |state| {
                (state.connections >= count).then_some(())
            });
    }

    /// Waits until the other end has closed a connection.
    pub fn wait_closed(&self, connection: usize, patience: Duration) {
        self.shared.wait(
            &format!("connection {connection} to close"),
            patience,
            |state| state.closed.contains(&connection).then_some(()),
        );
    }
}

impl Shared {
    fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&State) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (packets, connections) = (state.packets.len(), state.connections);
                drop(state);
                panic!(
                    "the fake broker waited {patience:?} in vain for {what}; \
                     {connections} connections, {packets} packets"
                );
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).ok();
        let connection = {
            let mut state = self.state.lock().unwrap();
            state.connections += 1;
            state.filters.clear();
            state.current = Some(stream.try_clone().unwrap());
            self.changed.notify_all();
            state.connections
        };
        loop {
            let mut state = self.state.lock().unwrap();
            while state.stalled {
                state = self.changed.wait(state).unwrap();
            }
            drop(state);
            let Ok((head, body)) = read_packet(&mut stream) else {
                break;
            };
            let at = Instant::now();
            let mut state = self.state.lock().unwrap();
            let reply = answer(&mut state, head, &body);
            state.packets.push(Packet {
                connection,
                head,
                body,
                at,
            });
            self.changed.notify_all();
            drop(state);
            let Some(reply) = reply else { break };
            if stream.write_all(&reply).is_err() {
                break;
            }
        }
        stream.shutdown(std::net::Shutdown::Both).ok();
        self.state.lock().unwrap().closed.push(connection);
        self.changed.notify_all();
    }
}

/// What to send for a packet; `None` closes.
fn answer(state: &mut State, head: u8, body: &[u8]) -> Option<Vec<u8>> {
    match (head & 0xF0, state.manner.clone()) {
        (CONNECT, Manner::Good) => Some(packet(0x20, &[0, 0])),
        (CONNECT, Manner::Refuse(code)) => {
            if let Some(stream) = &mut state.current {
                stream.write_all(&packet(0x20, &[0, code])).ok();
            }
            None
        }
        (CONNECT, Manner::Close) => None,
        (CONNECT, Manner::Babble(bytes)) => Some(bytes),
        (_, Manner::Mute) => Some(Vec::new()),
        (SUBSCRIBE, _) => {
            let (id, mut rest) = body.split_at(2);
            let mut ack = id.to_vec();
            while !rest.is_empty() {
                let (filter, after) = take_text(rest);
                rest = &after[1..];
                state.filters.push(filter);
                ack.push(0);
            }
            Some(packet(0x90, &ack))
        }
        (0xA0, _) => Some(packet(0xB0, &body[..2])),
        (PINGREQ, _) => Some(packet(0xD0, &[])),
        (PUBLISH, _) => {
            let (topic, payload) = take_text(body);
            let routed = state.filters.iter().any(|filter| matches(filter, &topic));
            Some(if routed {
                super::client::publish(&topic, payload, false)
            } else {
                Vec::new()
            })
        }
        _ => Some(Vec::new()),
    }
}

/// MQTT's matching of filters.
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// A CONNECT, taken apart.
#[derive(Debug, Default, PartialEq)]
pub struct Connect {
    pub protocol: String,
    pub level: u8,
    pub clean: bool,
    pub ping_s: u16,
    pub client_id: String,
    /// Topic, payload, retain flag.
    pub will: Option<(String, String, bool)>,
    pub user: Option<String>,
    pub password: Option<String>,
}

impl Connect {
    pub fn parse(body: &[u8]) -> Connect {
        let (protocol, rest) = take_text(body);
        let (level, flags) = (rest[0], rest[1]);
        let ping_s = u16::from_be_bytes([rest[2], rest[3]]);
        let (client_id, mut rest) = take_text(&rest[4..]);
        let mut next = |there: bool| {
            there.then(|| {
                let (text, after) = take_text(rest);
                rest = after;
                text
            })
        };
        let will_topic = next(flags & 0x04 != 0);
        let will_payload = next(flags & 0x04 != 0);
        let will = will_topic
            .zip(will_payload)
            .map(|(topic, text)| (topic, text, flags & 0x20 != 0));
        let user = next(flags & 0x80 != 0);
        let password = next(flags & 0x40 != 0);
        Connect {
            protocol,
            level,
            clean: flags & 0x02 != 0,
            ping_s,
            client_id,
            will,
            user,
            password,
        }
    }
}

/// A SUBSCRIBE's filters.
pub fn filters(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut filters = Vec::new();
    while !rest.is_empty() {
        let (filter, after) = take_text(rest);
        filters.push(filter);
        rest = &after[1..];
    }
    filters
}

/// A PUBLISH whose remaining length says this and whose body never comes.
pub fn oversized(length_bytes: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0x30];
    bytes.extend_from_slice(&length_bytes);
    put_text(&mut bytes, "R/x");
    bytes
}
