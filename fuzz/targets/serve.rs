//! Bytes of clients of the server, in all versions, split anywhere (§9).

use std::io;
use std::time::{Duration, Instant};

use dbus_mqtt::codec::packet::{self, Version, client};
use dbus_mqtt::model::name::PortalId;
use dbus_mqtt::model::time::Now;
use dbus_mqtt::serve::{
    Answer, ClientId, DirectoryChange, Peer, Server, Settings, Slot, Values, Verdict,
};

/// Longest packet that a client may send here.
const PACKET_BYTES_MAX: usize = 4096;
/// What may be kept of, and for, a client: what was begun, what it sends, what others send it.
const HELD_BYTES_MAX: usize = 512 * 1024;

struct Numbers;

impl Values for Numbers {
    fn payload(&self, slot: Slot, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(format!("{{\"value\": {}}}", slot.0).as_bytes());
        slot.0 != 5
    }
}

struct Line {
    id: ClientId,
    received: Vec<u8>,
    /// Which form its packets have; found in its CONNECT.
    version: Version,
    stalled: bool,
    closed: bool,
}

struct World {
    server: Server,
    now: Now,
    lines: Vec<Line>,
}

/// A client that says what the bytes say, beside one that has subscribed to everything. The first byte
/// chooses how its session begins, and how its bytes are split; from 128 on they are steps: a byte says
/// what happens, another how many of the following bytes are sent.
pub fn client_stream(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let mut world = World::new(first);
    let watcher = world.connect(Some(5));
    world.send(watcher, b"\x82\x07\0\x01\0\0\x01#\0");
    let client = world.connect([None, Some(3), Some(4), Some(5)][usize::from(first & 3)]);
    if first < 128 {
        let size = [1, 2, 7, usize::MAX][usize::from(first >> 2 & 3)];
        for piece in rest.chunks(size.min(rest.len().max(1))) {
            world.send(client, piece);
        }
    } else {
        world.steps(rest, client, watcher);
    }
    world.settle_and_check();
    // However it has begun, its time runs out, and nothing is left of it.
    world.pass(Duration::from_secs(200_000));
    let lines: Vec<_> = world.lines.iter().map(|line| line.id).collect();
    for id in lines {
        world.server.disconnected(world.now, id);
    }
    world.settle_and_check();
    let stats = world.server.stats();
    assert_eq!((stats.clients, stats.logins), (0, 0));
}

impl World {
    fn new(first: u8) -> World {
        let mut settings = Settings::new(PortalId::new("c0619ab12345").unwrap());
        settings.limits.packet_bytes_max = PACKET_BYTES_MAX;
        settings.listeners[0].relay = first & 16 == 0;
        settings.listeners[0].retain = first & 32 == 0;
        settings.listeners[0].login = first & 64 != 0;
        let mut world = World {
            server: Server::new(settings),
            now: Now {
                monotonic: Instant::now(),
                unix_s: 1_700_000_000,
                unix_ms: 0,
            },
            lines: Vec::new(),
        };
        for slot in 0..40 {
            world.item(slot);
        }
        world
    }

    fn item(&mut self, slot: u32) {
        let change = DirectoryChange::Item {
            slot: Slot(slot),
            topic: format!("battery/{}/Cell/{slot}", slot / 8).into(),
            identifying: slot % 8 == 1,
        };
        self.server.directory(self.now, change);
    }

    fn connect(&mut self, level: Option<u8>) -> usize {
        let peer = Peer {
            listener: 0,
            address: [127, 0, 0, 1].into(),
            certificate: None,
        };
        let id = self.server.connect(self.now, peer);
        self.lines.push(Line {
            id,
            received: Vec::new(),
            version: Version::V3,
            stalled: false,
            closed: false,
        });
        let line = self.lines.len() - 1;
        match level {
            Some(3) => self.send(line, b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x0a\0\x01a"),
            Some(4) => self.send(line, b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01b"),
            Some(_) => self.send(line, b"\x10\x0d\0\x04MQTT\x05\x02\0\x0a\0\0\0"),
            None => {}
        }
        line
    }

    fn steps(&mut self, mut bytes: &[u8], client: usize, watcher: usize) {
        while let [what, length, rest @ ..] = bytes {
            let number = usize::from(*length);
            bytes = rest;
            match what % 10 {
                0..=3 => {
                    let (piece, after) = rest.split_at(number.min(rest.len()));
                    self.send(client, piece);
                    bytes = after;
                }
                4 => self.pass(Duration::from_millis(u64::from(*length) * 50)),
                5 => self.server.mark(number % 3, u32::from(*length) * 0x0101),
                6 => self.item(u32::from(*length) % 48),
                7 => {
                    let slot = Slot(u32::from(*length) % 48);
                    self.server
                        .directory(self.now, DirectoryChange::Gone { slot });
                }
                8 => self.answer(*length, client),
                _ => {
                    let line = if *length & 1 == 0 { client } else { watcher };
                    let line = &mut self.lines[line];
                    line.stalled = !line.stalled;
                    let id = line.id;
                    self.write(id);
                }
            }
            self.settle_and_check();
        }
    }

    fn answer(&mut self, length: u8, client: usize) {
        let id = self.lines[client].id;
        let answer = match length % 5 {
            0 => Answer::Read {
                slots: (0..u32::from(length % 11)).map(Slot).collect(),
            },
            1 => Answer::Republish {
                client: Some(id).filter(|_| length & 4 == 0),
                echo: Some("1".into()).filter(|_| length & 8 == 0),
            },
            2 => Answer::Serves {
                listener: 0,
                serves: length & 8 == 0,
            },
            _ => Answer::Say {
                listener: 0,
                topic: format!("N/c0619ab12345/bridge/{}", length % 7).into(),
                payload: vec![b'1'; usize::from(length % 3)].into(),
                retain: length & 16 == 0,
            },
        };
        self.server.answer(self.now, answer);
    }

    fn send(&mut self, line: usize, bytes: &[u8]) {
        let line = &mut self.lines[line];
        if line.closed {
            return;
        }
        let id = line.id;
        self.server.receive(self.now, id, bytes);
        while let Some(login) = self.server.poll_login() {
            let line = self.lines.iter_mut().find(|line| line.id == login.client);
            assert!(line.is_some());
            let verdict = match login.password.as_deref() {
                Some(b"no") => Verdict::BadCredentials,
                _ => Verdict::Welcome,
            };
            self.server.login(self.now, login.client, verdict);
        }
        self.settle_and_check();
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.later(time);
        // Deadlines at their time, as far as that is worth it.
        for _ in 0..50 {
            let due = self
                .server
                .poll_timeout()
                .filter(|due| *due <= until.monotonic);
            let Some(due) = due else {
                break;
            };
            self.now.monotonic = due.max(self.now.monotonic);
            self.settle_and_check();
        }
        self.now = until;
        self.settle_and_check();
    }

    fn settle_and_check(&mut self) {
        self.server.advance(self.now);
        while self.server.poll_request().is_some() {}
        while let Some(id) = self.server.poll_ready() {
            self.write(id);
        }
        while let Some((id, _)) = self.server.poll_close() {
            for line in self.lines.iter_mut().filter(|line| line.id == id) {
                line.closed = true;
            }
        }
        for line in &mut self.lines {
            let held = self.server.held_bytes(line.id);
            assert!(held <= HELD_BYTES_MAX, "{held} bytes");
            assert!(!line.closed || held == 0);
            line.check();
        }
    }

    fn write(&mut self, id: ClientId) {
        let Some(line) = self.lines.iter_mut().find(|line| line.id == id) else {
            return;
        };
        let mut taken = 0;
        self.server.write(self.now, id, &Numbers, |bytes| {
            let count = if line.stalled {
                bytes.len().min(13 - taken)
            } else {
                bytes.len()
            };
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            taken += count;
            line.received.extend_from_slice(&bytes[..count]);
            Ok(count)
        });
    }
}

impl Line {
    /// All that came are packets as a client expects them.
    fn check(&mut self) {
        while let Ok(Some(length)) = client::length(&self.received, usize::MAX) {
            if length > self.received.len() {
                return;
            }
            let mut packet: Vec<u8> = self.received.drain(..length).collect();
            if packet[0] == 0x20 {
                self.version = if packet.len() > 4 {
                    Version::V5
                } else {
                    Version::V3
                };
            }
            // PUBREL, which answers a PUBREC that nothing has asked for.
            if packet[0] != 0x62 {
                let shown = format!("{packet:02x?}");
                let found = packet::decode_as(self.version, &mut packet);
                assert!(found.is_ok(), "{found:?}: {shown}");
            }
        }
    }
}
