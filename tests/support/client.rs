//! A small synchronous client of MQTT 3.1.1, or 5 where a test wants, with a thread that collects what comes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    pub qos: u8,
    /// Of MQTT 5, as they came.
    pub properties: Vec<u8>,
    pub at: Instant,
}

impl Message {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    pub fn is(&self, topic: &str, text: &str) -> bool {
        self.topic == topic && self.payload == text.as_bytes()
    }
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    /// The packet identifiers of SUBACKs, each with its code.
    acks: Vec<(u16, u8)>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A client. Messages are counted from 0 in the order of their arrival.
pub struct Client {
    stream: Mutex<TcpStream>,
    shared: Arc<Shared>,
    ids: AtomicU32,
    name: String,
    level: u8,
}

static NAMES: AtomicU32 = AtomicU32::new(0);

impl Client {
    pub fn connect(address: SocketAddr, login: Option<(&str, &str)>) -> Client {
        Client::connect_as(4, address, login)
    }

    /// Connects with MQTT 3.1.1 (4) or 5.
    pub fn connect_as(level: u8, address: SocketAddr, login: Option<(&str, &str)>) -> Client {
        Client::try_connect(level, address, login).unwrap()
    }

    /// The same, where the broker may be gone.
    pub fn try_connect(
        level: u8,
        address: SocketAddr,
        login: Option<(&str, &str)>,
    ) -> io::Result<Client> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        let flags = if login.is_some() { 0xC2 } else { 0x02 };
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 0];
        if level == 5 {
            body.push(0);
        }
        put_text(&mut body, &name);
        if let Some((user, password)) = login {
            put_text(&mut body, user);
            put_text(&mut body, password);
        }
        stream.write_all(&packet(0x10, &body))?;
        let (head, body) = read_packet(&mut stream)?;
        assert_eq!(
            (head, &body[..2]),
            (0x20, [0, 0].as_slice()),
            "the broker's CONNACK"
        );
        let shared = Arc::new(Shared::default());
        let client = Client {
            stream: Mutex::new(stream.try_clone()?),
            shared: Arc::clone(&shared),
            ids: AtomicU32::new(1),
            name,
            level,
        };
        std::thread::spawn(move || shared.read(level, stream));
        Ok(client)
    }

    fn send(&self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        self.stream.lock().unwrap().write_all(bytes)
    }

    /// Subscribes at QoS 1, so that the QoS seen is the one published with. Acknowledged on return.
    pub fn subscribe(&self, filter: &str) {
        let id = self.ask_for(filter, 1).unwrap();
        self.shared
            .wait(&format!("SUBACK for {filter}"), PATIENCE, |state| {
                state
                    .acks
                    .iter()
                    .any(|(acked, _)| *acked == id)
                    .then_some(())
            });
    }

    /// Subscribes at QoS 0, where the broker may be gone or refuse: whether it grants that.
    pub fn try_subscribe(&self, filter: &str) -> bool {
        let Ok(id) = self.ask_for(filter, 0) else {
            return false;
        };
        self.shared
            .wait(&format!("SUBACK for {filter}"), PATIENCE, |state| {
                let mut acks = state.acks.iter();
                let ack = acks.find(|(acked, _)| *acked == id);
                let closed = state.closed.then_some(0x80);
                ack.map(|(_, code)| *code).or(closed)
            })
            < 0x80
    }

    /// Sends the SUBSCRIBE; gives its packet identifier.
    fn ask_for(&self, filter: &str, qos: u8) -> io::Result<u16> {
        let id = u16::try_from(self.ids.fetch_add(1, Ordering::Relaxed) % 0xFFFF).unwrap() + 1;
        let mut body = id.to_be_bytes().to_vec();
        if self.level == 5 {
            body.push(0);
        }
        put_text(&mut body, filter);
        body.push(qos);
        self.try_send(&packet(0x82, &body))?;
        Ok(id)
    }

    pub fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) {
        self.publish_with(topic, &[], payload);
    }

    /// The same, where the broker may be gone.
    pub fn try_publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = super::fake_broker::publish(self.level, topic, &[], payload.as_ref());
        self.try_send(&bytes)
    }

    /// The same, with these properties of MQTT 5.
    pub fn publish_with(&self, topic: &str, properties: &[u8], payload: impl AsRef<[u8]>) {
        let bytes = super::fake_broker::publish(self.level, topic, properties, payload.as_ref());
        self.send(&bytes);
    }

    pub fn publish_retained(&self, topic: &str, payload: impl AsRef<[u8]>) {
        assert_eq!(self.level, 4);
        self.send(&publish(topic, payload.as_ref(), true));
    }

    /// Publishes many messages in one write.
    pub fn burst<'a>(&self, messages: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let mut bytes = Vec::new();
        for (topic, payload) in messages {
            bytes.extend(publish(topic, payload, false));
        }
        self.send(&bytes);
    }

    /// Where the stream of messages is now: what comes later has this number or a higher one.
    pub fn mark(&self) -> usize {
        self.shared.state.lock().unwrap().messages.len()
    }

    /// The messages since a mark.
    pub fn since(&self, mark: usize) -> Vec<Message> {
        self.shared.state.lock().unwrap().messages[mark..].to_vec()
    }

    /// The payloads of one topic since a mark, in order.
    pub fn payloads(&self, mark: usize, topic: &str) -> Vec<String> {
        let state = self.shared.state.lock().unwrap();
        let messages = state.messages[mark..]
            .iter()
            .filter(|message| message.topic == topic);
        messages.map(|message| message.text().to_owned()).collect()
    }

    /// The last payload of each topic since a mark, empty ones included.
    pub fn last(&self, mark: usize) -> BTreeMap<String, String> {
        let state = self.shared.state.lock().unwrap();
        let messages = state.messages[mark..].iter();
        messages
            .map(|message| (message.topic.clone(), message.text().to_owned()))
            .collect()
    }

    /// Waits for a message since the mark that is such; gives its number and itself.
    pub fn wait(
        &self,
        mark: usize,
        what: &str,
        such: impl Fn(&Message) -> bool,
    ) -> (usize, Message) {
        self.wait_for(mark, what, PATIENCE, such)
    }

    pub fn wait_for(
        &self,
        mark: usize,
        what: &str,
        patience: Duration,
        such: impl Fn(&Message) -> bool,
    ) -> (usize, Message) {
        let mut next = mark;
        self.shared.wait(what, patience, |state| {
            let found = (next..state.messages.len()).find(|&at| such(&state.messages[at]));
            next = state.messages.len();
            found.map(|at| (at, state.messages[at].clone()))
        })
    }

    /// Waits for just this payload on this topic; gives the message's number.
    pub fn expect(&self, mark: usize, topic: &str, payload: &str) -> usize {
        self.wait(mark, &format!("{topic} {payload:?}"), |message| {
            message.is(topic, payload)
        })
        .0
    }

    /// Waits until what all these messages together say is such.
    pub fn wait_until<T>(
        &self,
        mark: usize,
        what: &str,
        mut such: impl FnMut(&[Message]) -> Option<T>,
    ) -> T {
        self.shared
            .wait(what, PATIENCE, |state| such(&state.messages[mark..]))
    }

    /// Returns when all has come that the broker had when it was called.
    pub fn fence(&self) {
        let topic = format!("fence/{}", self.name);
        let payload = format!("{}", self.ids.fetch_add(1, Ordering::Relaxed));
        let mark = self.mark();
        self.subscribe(&topic);
        self.publish(&topic, &payload);
        self.expect(mark, &topic, &payload);
    }

    pub fn is_closed(&self) -> bool {
        self.shared.state.lock().unwrap().closed
    }

    pub fn wait_closed(&self) {
        self.shared.wait("the broker to close", PATIENCE, |state| {
            state.closed.then_some(())
        });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Ok(stream) = self.stream.try_lock() {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
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
                let tail = state.messages.len().saturating_sub(30);
                let seen: Vec<String> = state.messages[tail..]
                    .iter()
                    .map(|m| format!("{} {}", m.topic, String::from_utf8_lossy(&m.payload)))
                    .collect();
                let (count, closed) = (state.messages.len(), state.closed);
                drop(state);
                panic!(
                    "waited {patience:?} in vain for {what}; closed: {closed}, {count} messages, the last:\n{}",
                    seen.join("\n")
                );
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn read(&self, level: u8, stream: TcpStream) {
        let mut ack = stream.try_clone().unwrap();
        let mut stream = io::BufReader::with_capacity(1 << 16, stream);
        while let Ok((head, body)) = read_packet(&mut stream) {
            let mut state = self.state.lock().unwrap();
            match head >> 4 {
                3 => {
                    let qos = (head >> 1) & 3;
                    let (topic, mut rest) = take_text(&body);
                    if qos > 0 {
                        ack.write_all(&packet(0x40, &rest[..2])).ok();
                        rest = &rest[2..];
                    }
                    let mut properties = &[][..];
                    if level == 5 {
                        (properties, rest) = super::fake_broker::take_properties(rest);
                    }
                    state.messages.push(Message {
                        topic,
                        payload: rest.to_vec(),
                        retain: head & 1 == 1,
                        qos,
                        properties: properties.to_vec(),
                        at: Instant::now(),
                    });
                }
                9 => {
                    let id = u16::from_be_bytes([body[0], body[1]]);
                    state.acks.push((id, *body.last().unwrap()));
                }
                _ => {}
            }
            drop(state);
            self.changed.notify_all();
        }
        self.state.lock().unwrap().closed = true;
        self.changed.notify_all();
    }
}

/// A packet: its first byte, its remaining length, its body.
pub fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    let mut left = body.len();
    loop {
        let digit = u8::try_from(left % 128).unwrap();
        left /= 128;
        bytes.push(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A QoS 0 PUBLISH.
pub fn publish(topic: &str, payload: &[u8], retain: bool) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, topic);
    body.extend_from_slice(payload);
    packet(0x30 | u8::from(retain), &body)
}

pub fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// Takes a text off the front of a body.
pub fn take_text(body: &[u8]) -> (String, &[u8]) {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    (
        String::from_utf8(body[2..2 + length].to_vec()).unwrap(),
        &body[2 + length..],
    )
}

/// Reads one packet: its first byte and its body.
pub fn read_packet(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let head = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}
