//! Clients that are connected to the bridge itself, in the world of [`super`]: they subscribe, stall, ask, write, leave and
//! come back, and take what they are given. One of them has subscribed to everything from the start.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use dbus_mqtt::bridge::{Bridge, ClientAnswer, Directory, Marks, OutletConfig, Reader, SlotId};
use dbus_mqtt::codec::request::RequestReader;
use dbus_mqtt::model::filter::Filter;
use dbus_mqtt::model::request::ResponseAddress;
use dbus_mqtt::model::time::Now;
use dbus_mqtt::serve::{
    Answer, ClientId, DirectoryChange, Peer, Response, Server, Settings, Slot, Values,
};

use super::super::{PORTAL, portal};
use super::FILTERS;

/// How many clients there are; the first never unsubscribes.
const CLIENTS: usize = 4;

/// Values straight from the cache.
struct CacheValues(Reader);

impl Values for CacheValues {
    fn payload(&self, slot: Slot, out: &mut Vec<u8>) -> bool {
        self.0.render_present(SlotId(slot.0), out)
    }
}

/// What the bus thread has handed over, and the serving thread has not taken.
enum Handed {
    Directory(Directory),
    Answer(ClientAnswer),
}

/// A client, as its program sees it.
struct Client {
    id: ClientId,
    stalled: bool,
    received: Vec<u8>,
    /// What it subscribes to, below `N/<portal>/`.
    filter: Option<&'static str>,
    /// What it has been told, below `N/<portal>/`.
    view: BTreeMap<String, String>,
}

/// The serving thread and its clients.
pub(super) struct Clients {
    server: Server,
    values: CacheValues,
    marks: Arc<Marks>,
    outlet: usize,
    handed: VecDeque<Handed>,
    lines: Vec<Client>,
    reader: RequestReader,
}

impl Clients {
    pub fn new(bridge: &mut Bridge, config: OutletConfig, now: Now) -> Clients {
        let outlet = bridge.brokers();
        let (marks, values) = bridge.listen(vec![config]);
        let mut all = Clients {
            server: Server::new(Settings::new(portal())),
            values: CacheValues(values),
            marks,
            outlet,
            handed: VecDeque::new(),
            lines: Vec::new(),
            reader: RequestReader::new(65_536),
        };
        for number in 0..CLIENTS {
            let id = all.connect(now, number);
            all.lines.push(Client {
                id,
                stalled: false,
                received: Vec::new(),
                filter: None,
                view: BTreeMap::new(),
            });
        }
        all.subscribe(now, 0, "#");
        all
    }

    fn connect(&mut self, now: Now, number: usize) -> ClientId {
        let peer = Peer {
            listener: 0,
            address: [127, 0, 0, 1].into(),
            certificate: None,
        };
        let id = self.server.connect(now, peer);
        let mut connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a".to_vec();
        connect[14] += u8::try_from(number).unwrap();
        self.server.receive(now, id, &connect);
        id
    }

    /// A client asks for something, or is gone and comes back, with the same client id and filter.
    pub fn act(
        &mut self,
        now: Now,
        bridge: &mut Bridge,
        a: u8,
        what: u8,
        topic: &str,
        value: &str,
    ) {
        let client = usize::from(a) % CLIENTS;
        let id = self.lines[client].id;
        // Who publishes to such a topic is closed.
        let topic = if topic.contains('+') { "" } else { topic };
        let publish = |kind, topic: &str, payload: &str| {
            let topic = format!("{kind}/{PORTAL}/{topic}");
            let size = u16::try_from(topic.len()).unwrap().to_be_bytes();
            let body = [&size, topic.as_bytes(), payload.as_bytes()].concat();
            let mut head = vec![0x30];
            let mut rest = body.len();
            while rest > 127 {
                head.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            head.push(u8::try_from(rest).unwrap());
            [head, body].concat()
        };
        let packet = match what % 8 {
            0 => {
                self.server.disconnected(now, id);
                return self.come_back(now, bridge, client);
            }
            1 => {
                self.server.receive(now, id, &[0xe0, 0]);
                return self.come_back(now, bridge, client);
            }
            // The old connection is still there (§9.4).
            2 => return self.come_back(now, bridge, client),
            3 => publish("R", "keepalive", ""),
            4 => publish("R", "keepalive", "[\"battery/+/Soc\"]"),
            5 => publish("W", topic, &format!("{{\"value\": {value}}}")),
            _ => publish("R", topic, ""),
        };
        self.server.receive(now, id, &packet);
        self.serve(now, bridge, 0);
    }

    fn come_back(&mut self, now: Now, bridge: &mut Bridge, client: usize) {
        let old = self.lines[client].id;
        let id = self.connect(now, client);
        bridge.client_gone(old.number());
        let line = &mut self.lines[client];
        line.id = id;
        line.received.clear();
        line.view.clear();
        if let Some(filter) = line.filter {
            self.subscribe(now, client, filter);
        }
    }

    /// What a step has it do.
    pub fn step(&mut self, now: Now, bridge: &mut Bridge, what: u8, a: u8, b: u8) {
        let client = usize::from(a) % CLIENTS;
        match what % 4 {
            0 if client > 0 => {
                self.unsubscribe(now, client);
                self.subscribe(now, client, FILTERS[usize::from(b) % FILTERS.len()]);
            }
            1 if client > 0 => self.unsubscribe(now, client),
            2 => self.lines[client].stalled ^= true,
            _ => {}
        }
        if !what.is_multiple_of(3) {
            self.serve(now, bridge, usize::from(b) % 8);
        }
    }

    fn subscribe(&mut self, now: Now, client: usize, filter: &'static str) {
        let line = &mut self.lines[client];
        line.filter = Some(filter);
        let text = format!("N/{PORTAL}/{filter}");
        let packet = packet(0x82, &text, &[0]);
        self.server.receive(now, line.id, &packet);
    }

    fn unsubscribe(&mut self, now: Now, client: usize) {
        let line = &mut self.lines[client];
        let Some(filter) = line.filter.take() else {
            return;
        };
        let text = format!("N/{PORTAL}/{filter}");
        self.server.receive(now, line.id, &packet(0xa2, &text, &[]));
    }

    /// The bus thread hands over what it has, as it does after each message.
    pub fn tell(&mut self, now: Now, bridge: &mut Bridge) {
        if bridge.has_directory() {
            let directory = bridge.take_directory();
            let slots: Vec<SlotId> = directory.items.iter().map(|(slot, _)| *slot).collect();
            self.handed.push_back(Handed::Directory(directory));
            for slot in slots {
                self.marks.set(slot);
            }
        }
        while let Some(answer) = bridge.poll_client(now, self.outlet, || None) {
            self.handed.push_back(Handed::Answer(answer));
        }
    }

    /// The serving thread takes so much of it, and writes to those that are not stalled.
    pub fn serve(&mut self, now: Now, bridge: &mut Bridge, count: usize) {
        self.tell(now, bridge);
        for _ in 0..count {
            match self.handed.pop_front() {
                None => break,
                Some(Handed::Directory(directory)) => {
                    for slot in directory.gone {
                        let slot = Slot(slot.0);
                        self.server.directory(now, DirectoryChange::Gone { slot });
                    }
                    for (slot, item) in directory.items {
                        let change = DirectoryChange::Item {
                            slot: Slot(slot.0),
                            topic: item.topic,
                            identifying: item.identifying,
                        };
                        self.server.directory(now, change);
                    }
                    bridge.directory_handled(directory.batch);
                }
                Some(Handed::Answer(answer)) => {
                    if let Some(answer) = translated(answer) {
                        self.server.answer(now, answer);
                    }
                }
            }
        }
        // As the real one: marks are taken when all is that was handed over before them.
        if self.handed.is_empty() {
            let server = &mut self.server;
            self.marks.take(|word, bits| server.mark(word, bits));
        }
        self.server.advance(now);
        while let Some(request) = self.server.poll_request() {
            let mut payload = request.payload;
            let read = self.reader.read(&request.topic, &mut payload, &portal());
            let to = request.response.map(|to| ResponseAddress {
                topic: to.topic,
                correlation: to.correlation,
                client: Some(request.client.number()),
            });
            if let Some(read) = read {
                let from = (self.outlet, request.client.number());
                bridge.request_of_client(now, from, &request.topic, read, request.retained, to);
            }
        }
        // Whoever is stalled is asked again as soon as it takes something.
        while self.server.poll_ready().is_some() {}
        for line in &mut self.lines {
            if !line.stalled {
                let received = &mut line.received;
                self.server.write(now, line.id, &self.values, |bytes| {
                    received.extend_from_slice(bytes);
                    Ok::<usize, io::Error>(bytes.len())
                });
                line.read();
            }
        }
    }

    /// All take all.
    pub fn settle(&mut self, now: Now, bridge: &mut Bridge) {
        for line in &mut self.lines {
            line.stalled = false;
        }
        // What is gathered goes out in time (§9.12).
        for round in 0..8 {
            let now = now.later(Duration::from_millis(round * 50));
            self.serve(now, bridge, usize::MAX);
        }
        assert!(self.handed.is_empty());
        while let Some((id, why)) = self.server.poll_close() {
            let is_there = self.lines.iter().any(|line| line.id == id);
            assert!(!is_there, "closed: {why:?}");
        }
    }

    /// What the one has that subscribes to everything.
    pub fn everything(&self) -> &BTreeMap<String, String> {
        &self.lines[0].view
    }

    /// Each of the others has the same, as far as its filter goes.
    pub fn check(&self) {
        for line in &self.lines {
            let Some(filter) = line.filter else {
                continue;
            };
            let parsed = Filter::parse(filter).unwrap();
            let covered = |(topic, _): &(&String, &String)| {
                let second = topic.match_indices('/').nth(1).map(|(at, _)| at);
                second.is_some_and(|at| {
                    let (key, path) = topic.split_at(at);
                    parsed.matches(key, path)
                })
            };
            let has: BTreeMap<_, _> = line.view.iter().filter(covered).collect();
            let all: BTreeMap<_, _> = self.everything().iter().filter(covered).collect();
            assert_eq!(has, all, "s9_11: {filter}");
        }
    }
}

impl Client {
    /// Looks at what has come.
    fn read(&mut self) {
        let bytes = std::mem::take(&mut self.received);
        let mut rest = &bytes[..];
        while let Some((&head, after)) = rest.split_first() {
            let (mut length, mut used) = (0, 0);
            for byte in after {
                length |= usize::from(byte & 127) << (7 * used);
                used += 1;
                if byte & 128 == 0 {
                    break;
                }
            }
            let (body, after) = after[used..].split_at(length);
            rest = after;
            match head >> 4 {
                // Nothing of that filter comes any more (§9.10).
                11 => self.view.clear(),
                3 => {
                    let size = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    let (topic, payload) = body[2..].split_at(size);
                    let topic = std::str::from_utf8(topic).unwrap();
                    let topic = topic.strip_prefix(&format!("N/{PORTAL}/")).unwrap();
                    let payload = std::str::from_utf8(payload).unwrap();
                    if payload.is_empty() {
                        self.view.remove(topic);
                    } else {
                        self.view.insert(topic.to_owned(), payload.to_owned());
                    }
                }
                2 | 9 => {}
                _ => panic!("{head:02x}"),
            }
        }
    }
}

fn translated(answer: ClientAnswer) -> Option<Answer> {
    Some(match answer {
        ClientAnswer::Read(slot) => Answer::Read {
            slots: [Slot(slot.0)].into(),
        },
        ClientAnswer::Republish { client, echo } => Answer::Republish {
            client: client.map(ClientId::from_number),
            echo,
        },
        ClientAnswer::Say {
            topic,
            payload,
            retain,
        } => Answer::Say {
            listener: 0,
            topic,
            payload,
            retain,
        },
        ClientAnswer::Serves(serves) => Answer::Serves {
            listener: 0,
            serves,
        },
        ClientAnswer::Respond { to, payload } => Answer::Respond {
            client: ClientId::from_number(to.client?),
            to: Response {
                topic: to.topic,
                correlation: to.correlation,
            },
            payload,
        },
    })
}

/// SUBSCRIBE or UNSUBSCRIBE for one filter.
fn packet(head: u8, filter: &str, options: &[u8]) -> Vec<u8> {
    let length = u8::try_from(4 + filter.len() + options.len()).unwrap();
    let size = u16::try_from(filter.len()).unwrap().to_be_bytes();
    [&[head, length, 0, 1][..], &size, filter.as_bytes(), options].concat()
}
