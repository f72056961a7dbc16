//! A server with some items, and clients that speak to it packet by packet. What a client gets is shown
//! as lines: `CONNACK 0`, `PUBLISH retain N/… {"value": 1}`, `SUBACK 1 [0]`, `closed`.

use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use dbus_mqtt::model::name::PortalId;
use dbus_mqtt::model::time::Now;
use dbus_mqtt::serve::{
    ClientId, ClientRequest, Close, DirectoryChange, Peer, Server, Settings, Slot, Values,
};

pub const PORTAL: &str = "c0619ab12345";

/// The cache.
#[derive(Default)]
pub struct Cache(pub HashMap<u32, String>);

impl Values for Cache {
    fn payload(&self, slot: Slot, out: &mut Vec<u8>) -> bool {
        let Some(value) = self.0.get(&slot.0) else {
            return false;
        };
        out.extend_from_slice(value.as_bytes());
        true
    }
}

/// The server, what is around it, and the time.
pub struct Bench {
    pub server: Server,
    pub cache: Cache,
    pub now: Now,
    pub clients: HashMap<ClientId, Socket>,
    /// Why connections were closed, in order.
    pub closes: Vec<(ClientId, Close)>,
}

/// What a client's socket does.
#[derive(Default)]
pub struct Socket {
    pub received: Vec<u8>,
    /// How many bytes it takes; `None`: all.
    pub room: Option<usize>,
    pub closed: bool,
    pub writes: usize,
    pub v5: bool,
    pub blocked: bool,
}

/// A client of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(pub ClientId);

impl Bench {
    /// A battery with three items, of which the serial number identifies it; the time is 100 s.
    pub fn new() -> Bench {
        Bench::with(|_| {})
    }

    pub fn with(set: impl FnOnce(&mut Settings)) -> Bench {
        let mut settings = Settings::new(PortalId::new(PORTAL).unwrap());
        set(&mut settings);
        let mut bench = Bench {
            server: Server::new(settings),
            cache: Cache::default(),
            now: Now {
                monotonic: Instant::now(),
                unix_s: 100,
                unix_ms: 0,
            },
            clients: HashMap::new(),
            closes: Vec::new(),
        };
        for (slot, topic, value) in [
            (1, "battery/0/Soc", "50"),
            (2, "battery/0/Dc/0/Voltage", "12.5"),
            (3, "battery/0/Serial", "\"x\""),
        ] {
            bench.item(slot, topic, value);
        }
        bench.pass(1000);
        bench
    }

    /// An item is new.
    pub fn item(&mut self, slot: u32, topic: &str, value: &str) {
        self.cache.0.insert(slot, format!("{{\"value\": {value}}}"));
        let change = DirectoryChange::Item {
            slot: Slot(slot),
            topic: topic.into(),
            identifying: topic.ends_with("/Serial"),
        };
        self.server.directory(self.now, change);
    }

    /// An item has another value.
    pub fn set(&mut self, slot: u32, value: &str) {
        self.cache.0.insert(slot, format!("{{\"value\": {value}}}"));
        self.server.mark(slot as usize / 32, 1 << (slot % 32));
    }

    /// So many milliseconds pass, and all that is due happens, at its time.
    pub fn pass(&mut self, milliseconds: u64) {
        let until = self.now.later(Duration::from_millis(milliseconds));
        self.settle();
        for _ in 0..10_000 {
            let Some(due) = self.server.poll_timeout() else {
                break;
            };
            if due > until.monotonic {
                break;
            }
            let later = due.saturating_duration_since(self.now.monotonic);
            self.now.monotonic += later;
            let whole = until.monotonic - self.now.monotonic;
            self.now.unix_s = until.unix_s - whole.as_secs();
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    /// All that there is to do now is done.
    pub fn settle(&mut self) {
        self.server.advance(self.now);
        while let Some(id) = self.server.poll_ready() {
            self.write(id);
        }
        while let Some((id, close)) = self.server.poll_close() {
            self.closes.push((id, close));
            if let Some(socket) = self.clients.get_mut(&id) {
                socket.closed = true;
            }
        }
    }

    fn write(&mut self, id: ClientId) {
        let Some(socket) = self.clients.get_mut(&id) else {
            return;
        };
        let all = self.server.write(self.now, id, &self.cache, |bytes| {
            let taken = socket
                .room
                .map_or(bytes.len(), |room| room.min(bytes.len()));
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            socket.writes += 1;
            if let Some(room) = &mut socket.room {
                *room -= taken;
            }
            socket.received.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        });
        socket.blocked = !all;
    }

    /// The client's socket takes so many more bytes, or all.
    pub fn open(&mut self, client: Client, room: Option<usize>) {
        let socket = self.clients.get_mut(&client.0).unwrap();
        socket.room = room;
        if socket.blocked {
            self.write(client.0);
        }
        self.settle();
    }

    /// Somebody connects, and says nothing.
    pub fn socket(&mut self) -> Client {
        self.socket_at(0)
    }

    pub fn socket_at(&mut self, listener: usize) -> Client {
        let peer = Peer {
            listener,
            address: "127.0.0.1".parse().unwrap(),
            certificate: None,
        };
        let id = self.server.connect(self.now, peer);
        self.clients.insert(id, Socket::default());
        Client(id)
    }

    /// A client with a clean session and a keep-alive of 60 s is let in.
    pub fn client(&mut self, name: &str, level: u8) -> Client {
        let client = self.socket();
        self.greet(client, &connect(name, level), level);
        client
    }

    pub fn greet(&mut self, client: Client, connect: &[u8], level: u8) {
        self.clients.get_mut(&client.0).unwrap().v5 = level == 5;
        self.send(client, connect);
        let got = self.get(client);
        assert!(
            got.first()
                .is_some_and(|first| first.starts_with("CONNACK 0")),
            "{got:?}"
        );
    }

    /// A client sends bytes, all at once.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        self.server.receive(self.now, client.0, bytes);
        self.settle();
    }

    /// A client's connection is lost.
    pub fn lose(&mut self, client: Client) {
        self.server.disconnected(self.now, client.0);
        self.settle();
    }

    /// What a client has got since it was asked last.
    pub fn get(&mut self, client: Client) -> Vec<String> {
        let socket = self.clients.get_mut(&client.0).unwrap();
        let bytes = std::mem::take(&mut socket.received);
        let mut lines = show(&bytes, socket.v5);
        if socket.closed {
            lines.push("closed".into());
        }
        lines
    }

    /// All requests that wait for the rules.
    pub fn requests(&mut self) -> Vec<ClientRequest> {
        std::iter::from_fn(|| self.server.poll_request()).collect()
    }

    /// It subscribes to one filter with these options, and gets these lines behind SUBACK.
    pub fn subscribe(&mut self, client: Client, filter: &str, options: u8) -> Vec<String> {
        let v5 = self.clients[&client.0].v5;
        self.send(client, &subscribe(v5, 1, &[(filter, options)]));
        let mut got = self.get(client);
        assert_eq!(
            got.first().map(String::as_str),
            Some("SUBACK 1 [0]"),
            "{got:?}"
        );
        got.remove(0);
        got
    }
}

/// A packet of that first byte.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let byte = u8::try_from(length & 127).unwrap();
        length >>= 7;
        out.push(if length > 0 { byte | 128 } else { byte });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// A text with its length.
pub fn text(text: &str) -> Vec<u8> {
    let mut out = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

/// CONNECT: clean session, keep-alive 60 s. Level 3 is MQTT 3.1.
pub fn connect(name: &str, level: u8) -> Vec<u8> {
    connect_with(name, level, 2, &[], &[])
}

/// CONNECT with flags, properties, and what stands behind the client id.
pub fn connect_with(name: &str, level: u8, flags: u8, properties: &[u8], behind: &[u8]) -> Vec<u8> {
    let mut body = text(if level & 0x7f == 3 { "MQIsdp" } else { "MQTT" });
    body.extend_from_slice(&[level, flags, 0, 60]);
    if level == 5 {
        body.push(u8::try_from(properties.len()).unwrap());
        body.extend_from_slice(properties);
    }
    body.extend_from_slice(&text(name));
    body.extend_from_slice(behind);
    packet(0x10, &body)
}

/// SUBSCRIBE.
pub fn subscribe(v5: bool, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    for (filter, options) in filters {
        body.extend_from_slice(&text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// UNSUBSCRIBE.
pub fn unsubscribe(v5: bool, id: u16, filter: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    body.extend_from_slice(&text(filter));
    packet(0xa2, &body)
}

/// PUBLISH of 3.x: flags are DUP, QoS, RETAIN; with a packet id where the QoS is not 0.
pub fn publish(flags: u8, id: u16, topic: &str, payload: &str) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 6 != 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload.as_bytes());
    packet(0x30 | flags, &body)
}

/// PUBLISH of MQTT 5.
pub fn publish5(flags: u8, id: u16, topic: &str, properties: &[u8], payload: &str) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 6 != 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend_from_slice(properties);
    body.extend_from_slice(payload.as_bytes());
    packet(0x30 | flags, &body)
}

pub const PING: &[u8] = &[0xc0, 0];
pub const DISCONNECT: &[u8] = &[0xe0, 0];

/// What packets of a server say, a line each. Panics where they are no whole packets.
pub fn show(mut bytes: &[u8], v5: bool) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        let (mut length, mut shift, mut used) = (0, 0, 0);
        for byte in rest {
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            used += 1;
            if byte & 128 == 0 {
                break;
            }
        }
        let (body, after) = rest[used..].split_at(length);
        lines.push(line(first, body, v5));
        bytes = after;
    }
    lines
}

fn line(first: u8, body: &[u8], v5: bool) -> String {
    let two = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match first >> 4 {
        2 if v5 && body.len() > 2 => format!("CONNACK {} {}", hex(&body[1..2]), hex(&body[3..]))
            .replace("CONNACK 00", "CONNACK 0"),
        2 => format!("CONNACK {}", body[1]),
        3 => {
            let retain = if first & 1 != 0 { "retain " } else { "" };
            assert_eq!(first & 0x0e, 0, "QoS 0");
            let (topic, mut rest) = body[2..].split_at(usize::from(two(0)));
            let mut properties = String::new();
            if v5 {
                let length = usize::from(rest[0]);
                if length > 0 {
                    properties = format!("<{}> ", hex(&rest[1..=length]));
                }
                rest = &rest[1 + length..];
            }
            let topic = std::str::from_utf8(topic).unwrap();
            let topic = topic.replace(PORTAL, "P");
            format!(
                "{retain}{topic} {properties}{}",
                String::from_utf8_lossy(rest)
            )
        }
        kind @ 4..=7 => {
            let name = ["PUBACK", "PUBREC", "PUBREL", "PUBCOMP"][usize::from(kind) - 4];
            match body.get(2) {
                Some(code) => format!("{name} {} {code:02x}", two(0)),
                None => format!("{name} {}", two(0)),
            }
        }
        kind @ (9 | 11) => {
            let name = if kind == 9 { "SUBACK" } else { "UNSUBACK" };
            let codes = &body[if v5 { 3 } else { 2 }..];
            let codes: Vec<String> = codes.iter().map(|code| format!("{code:x}")).collect();
            format!("{name} {} [{}]", two(0), codes.join(" "))
        }
        13 => "PINGRESP".into(),
        14 => format!("DISCONNECT {}", hex(body)),
        _ => panic!("{first:02x}"),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}
