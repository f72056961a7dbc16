//! A broker that shows what it is sent, byte for byte, and behaves as badly as a test wants. It speaks
//! MQTT 3.1.1 and 5, whichever it is asked in.

use std::io::{self, Write};
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
    /// As [`Manner::Good`], with these properties in its CONNACK of MQTT 5.
    Allowing(Vec<u8>),
    /// As [`Manner::Good`], but closes the connection at a topic that ends so, and at more than 20,000
    /// bytes.
    Touchy(&'static str),
    /// As [`Manner::Good`] with the limits of AWS IoT Core, and closes at what is beyond them: 8 levels and 256
    /// bytes of a topic, 8 filters of a SUBSCRIBE, 100 messages a second. It keeps nothing.
    Aws,
    /// Knows 3.1.1 only: answers a CONNECT of MQTT 5 with these bytes, if any, and closes.
    Old(Vec<u8>),
    /// Answers CONNECT with this return code and closes; a code of 3.1.1 goes to MQTT 5 as the code
    /// there that means the same.
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
    /// The level of the CONNECT: 4 or 5.
    pub level: u8,
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
            let (topic, mut payload) = take_text(&self.body);
            if self.level == 5 {
                payload = take_properties(payload).1;
            }
            (
                topic,
                String::from_utf8(payload.to_vec()).unwrap(),
                self.head & 1 == 1,
            )
        })
    }

    /// The properties of a PUBLISH.
    pub fn properties(&self) -> &[u8] {
        assert_eq!((self.kind(), self.level), (PUBLISH, 5));
        take_properties(take_text(&self.body).1).0
    }

    /// The filters of a SUBSCRIBE, each with its options.
    pub fn filters(&self) -> Vec<(String, u8)> {
        filters(self.level, &self.body)
    }
}

struct State {
    manner: Manner,
    stalled: bool,
    packets: Vec<Packet>,
    connections: usize,
    closed: Vec<usize>,
    current: Option<TcpStream>,
    /// Of the newest connection.
    level: u8,
    filters: Vec<String>,
    pace: Pace,
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
            level: 4,
            filters: Vec::new(),
            pace: Pace::new(),
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

    /// The same, where that connection may be over.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        let state = self.shared.state.lock().unwrap();
        let current = state.current.as_ref();
        current.map_or(Ok(()), |mut stream| stream.write_all(bytes))
    }

    /// Sends to the newest connection as a broker without TCP_NODELAY does: one short message at a time,
    /// until it is acknowledged.
    pub fn send_with_delay(&self) {
        let state = self.shared.state.lock().unwrap();
        state.current.as_ref().unwrap().set_nodelay(false).unwrap();
    }

    /// Publishes to the newest connection.
    pub fn publish(&self, topic: &str, payload: &str) {
        self.publish_with(topic, &[], payload);
    }

    /// The same, with these properties where MQTT 5 is spoken.
    pub fn publish_with(&self, topic: &str, properties: &[u8], payload: &str) {
        let level = self.shared.state.lock().unwrap().level;
        self.send(&publish(level, topic, properties, payload.as_bytes()));
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
            let level = state.level;
            state.packets.push(Packet {
                connection,
                level,
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

/// Whether AWS IoT Core takes the topic of this PUBLISH.
fn is_topic_of_aws(body: &[u8]) -> bool {
    let topic = take_text(body).0;
    topic.len() <= 256 && topic.split('/').count() <= 8
}

/// 100 messages a second. What was held up on its way may come together: up to three seconds of them.
struct Pace {
    left: f64,
    since: Instant,
}

impl Pace {
    const A_SECOND: f64 = 100.0;
    const TOGETHER: f64 = 300.0;

    fn new() -> Pace {
        Pace {
            left: Pace::TOGETHER,
            since: Instant::now(),
        }
    }

    fn takes_one(&mut self) -> bool {
        let more = self.since.elapsed().as_secs_f64() * Pace::A_SECOND;
        self.since = Instant::now();
        self.left = (self.left + more).min(Pace::TOGETHER) - 1.0;
        self.left >= 0.0
    }
}

/// What to send for a packet; `None` closes.
fn answer(state: &mut State, head: u8, body: &[u8]) -> Option<Vec<u8>> {
    if head & 0xF0 == CONNECT {
        state.level = take_text(body).1[0];
    }
    let modern = state.level == 5;
    let last_word = |state: &mut State, bytes: &[u8]| {
        if let Some(stream) = &mut state.current {
            stream.write_all(bytes).ok();
        }
    };
    match (head & 0xF0, state.manner.clone()) {
        (CONNECT, Manner::Good | Manner::Touchy(_) | Manner::Aws) if modern => {
            Some(packet(0x20, &[0, 0, 0]))
        }
        // Retain available 0, and a last will that is to be retained.
        (CONNECT, Manner::Allowing(properties))
            if modern
                && properties.starts_with(&[0x25, 0])
                && Connect::parse(body).will.is_some_and(|will| will.2) =>
        {
            last_word(state, &packet(0x20, &[0, 0x9A, 0]));
            None
        }
        (CONNECT, Manner::Allowing(properties)) if modern => {
            let length = u8::try_from(properties.len()).unwrap();
            Some(packet(0x20, &[&[0, 0, length], &*properties].concat()))
        }
        (CONNECT, Manner::Old(bytes)) if modern => {
            last_word(state, &bytes);
            None
        }
        (
            CONNECT,
            Manner::Good | Manner::Touchy(_) | Manner::Aws | Manner::Allowing(_) | Manner::Old(_),
        ) => Some(packet(0x20, &[0, 0])),
        (CONNECT, Manner::Refuse(code)) => {
            let same = [code, 0x84, 0x85, 0x88, 0x86, 0x87];
            let bytes = if modern {
                let code = same.get(usize::from(code)).copied().unwrap_or(code);
                packet(0x20, &[0, code, 0])
            } else {
                packet(0x20, &[0, code])
            };
            last_word(state, &bytes);
            None
        }
        (CONNECT, Manner::Close) => None,
        (CONNECT, Manner::Babble(bytes)) => Some(bytes),
        (_, Manner::Mute) => Some(Vec::new()),
        (SUBSCRIBE, Manner::Aws) if filters(state.level, body).len() > 8 => None,
        (SUBSCRIBE, _) => {
            let mut ack = body[..2].to_vec();
            if modern {
                ack.push(0);
            }
            for (filter, options) in filters(state.level, body) {
                // What it publishes itself does not come back where it asks for that.
                if options & 4 == 0 {
                    state.filters.push(filter);
                }
                ack.push(0);
            }
            Some(packet(0x90, &ack))
        }
        (0xA0, _) if modern => Some(packet(0xB0, &[body[0], body[1], 0, 0])),
        (0xA0, _) => Some(packet(0xB0, &body[..2])),
        (PINGREQ, _) => Some(packet(0xD0, &[])),
        (PUBLISH, Manner::Touchy(end))
            if take_text(body).0.ends_with(end) || body.len() > 20_000 =>
        {
            None
        }
        (PUBLISH, Manner::Aws) if !state.pace.takes_one() || !is_topic_of_aws(body) => None,
        (PUBLISH, _) => {
            let (topic, mut payload) = take_text(body);
            if modern {
                payload = take_properties(payload).1;
            }
            let routed = state.filters.iter().any(|filter| matches(filter, &topic));
            Some(if routed {
                publish(state.level, &topic, &[], payload)
            } else {
                Vec::new()
            })
        }
        _ => Some(Vec::new()),
    }
}

/// A PUBLISH with QoS 0, for a client that speaks this level.
pub fn publish(level: u8, topic: &str, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, topic);
    if level == 5 {
        let length = properties.len();
        assert!(length < 16_384);
        if length < 128 {
            body.push(u8::try_from(length).unwrap());
        } else {
            body.push(u8::try_from(length % 128).unwrap() | 0x80);
            body.push(u8::try_from(length / 128).unwrap());
        }
        body.extend_from_slice(properties);
    }
    body.extend_from_slice(payload);
    packet(PUBLISH, &body)
}

/// The properties that a request with a response topic has.
pub fn respond_to(topic: &str, correlation: &[u8]) -> Vec<u8> {
    let mut properties = vec![8];
    put_text(&mut properties, topic);
    properties.push(9);
    properties.extend_from_slice(&u16::try_from(correlation.len()).unwrap().to_be_bytes());
    properties.extend_from_slice(correlation);
    properties
}

/// Takes properties off the front of a body.
pub fn take_properties(body: &[u8]) -> (&[u8], &[u8]) {
    let (mut length, mut at, mut shift) = (0, 0, 0);
    loop {
        let byte = body[at];
        length |= usize::from(byte & 0x7F) << shift;
        (at, shift) = (at + 1, shift + 7);
        if byte & 0x80 == 0 {
            return body[at..].split_at(length);
        }
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
    /// Of MQTT 5.
    pub properties: Vec<u8>,
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
        let mut rest = &rest[4..];
        let mut properties = &[][..];
        if level == 5 {
            (properties, rest) = take_properties(rest);
        }
        let (client_id, mut rest) = take_text(rest);
        if level == 5 && flags & 0x04 != 0 {
            let (of_will, after) = take_properties(rest);
            assert!(of_will.is_empty());
            rest = after;
        }
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
            properties: properties.to_vec(),
            client_id,
            will,
            user,
            password,
        }
    }
}

/// The filters of a SUBSCRIBE of this level, each with its options.
fn filters(level: u8, body: &[u8]) -> Vec<(String, u8)> {
    let mut rest = &body[2..];
    if level == 5 {
        rest = take_properties(rest).1;
    }
    let mut filters = Vec::new();
    while !rest.is_empty() {
        let (filter, after) = take_text(rest);
        filters.push((filter, after[0]));
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
