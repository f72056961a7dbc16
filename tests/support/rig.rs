//! A bus, a broker, a client that sees everything, and bridges between them.

use std::collections::BTreeMap;

use super::bridge::Bridge;
use super::broker::Broker;
use super::bus::Bus;
use super::client::{Client, Message};
use super::fake_broker::FakeBroker;
use super::{PATIENCE, poll};

/// The portal id of the tests.
pub const PORTAL: &str = "e0ff50a097c0";

pub const ONLINE: &str = r#"{"value": "online"}"#;
pub const OFFLINE: &str = r#"{"value": "offline"}"#;
pub const COMPLETED: &str = "full_publish_completed";

/// Everything but the bridge.
pub struct Rig {
    pub bus: Bus,
    pub broker: Broker,
    pub client: Client,
}

impl Rig {
    /// `None`, said aloud, where a program is missing.
    pub fn start() -> Option<Rig> {
        Rig::with(Broker::start()?)
    }

    pub fn with(broker: Broker) -> Option<Rig> {
        Some(Rig::of(Bus::start()?, broker))
    }

    /// The bus does not run yet.
    pub fn with_absent_bus() -> Option<Rig> {
        Some(Rig::of(Bus::absent()?, Broker::start()?))
    }

    fn of(bus: Bus, broker: Broker) -> Rig {
        let client = broker.listener();
        Rig {
            bus,
            broker,
            client,
        }
    }

    /// The arguments that every bridge of this rig has, and then these.
    pub fn args(&self, more: &str) -> Vec<String> {
        let server = format!("127.0.0.1:{}", self.broker.port);
        bridge_args(&self.bus, &server, more)
    }

    /// Starts a bridge. On return it is connected to both sides, has subscribed, and has scanned
    /// every service that answers at once.
    pub fn bridge(&self, args: &str) -> Bridge {
        let mark = self.client.mark();
        self.bus.scanned_by(|| {
            let mut bridge = Bridge::spawn(&self.args(args));
            poll("the bridge to come online", PATIENCE, || {
                bridge.assert_alive();
                let said = self.client.payloads(mark, &n("bridge/status"));
                said.contains(&ONLINE.to_owned()).then_some(())
            });
            bridge
        })
    }

    /// Waits until the bridge says that it is there.
    pub fn online(&self, mark: usize) -> usize {
        self.client.expect(mark, &n("bridge/status"), ONLINE)
    }

    /// Asks for everything and waits until it has come; gives the mark before it.
    pub fn wake(&self) -> usize {
        let mark = self.client.mark();
        self.client.publish(&r("keepalive"), "");
        self.completed(mark);
        mark
    }

    /// Waits for the next completion message; gives its number.
    pub fn completed(&self, mark: usize) -> usize {
        let topic = n(COMPLETED);
        self.client
            .wait(mark, "full_publish_completed", |message| {
                message.topic == topic
            })
            .0
    }

    /// Reads an item and waits for the answer: all requests before it have been dealt with.
    pub fn fence_by_read(&self, topic: &str) {
        let mark = self.client.mark();
        self.client.publish(&r(topic), "");
        self.client
            .wait(mark, &format!("the answer of {topic}"), |message| {
                message.topic == n(topic)
            });
    }

    /// The topics of items that were published since a mark, below the portal id, in order; those of
    /// the bridge's own left out.
    pub fn chosen(&self, mark: usize) -> Vec<String> {
        let own = [
            "system/0/Serial",
            "keepalive",
            "bridge/status",
            "heartbeat",
            COMPLETED,
        ];
        let messages = self.client.since(mark).into_iter();
        messages
            .filter_map(|message| message.topic.strip_prefix(&n("")).map(str::to_owned))
            .filter(|topic| !own.contains(&topic.as_str()))
            .collect()
    }

    /// The topics that were emptied since a mark.
    pub fn emptied(&self, mark: usize) -> Vec<String> {
        let messages = self.client.since(mark).into_iter();
        let ours = messages.filter(|message| message.topic.starts_with(&n("")));
        ours.filter(|message| message.payload.is_empty())
            .map(|message| message.topic)
            .collect()
    }

    /// What the broker retains for this portal id.
    pub fn retained(&self) -> BTreeMap<String, String> {
        retained(&self.broker, &n("#"))
    }

    /// Waits until the broker retains just this, the three topics of the bridge's own aside.
    pub fn wait_retained(&self, what: &str, expected: &BTreeMap<String, String>) {
        let mut seen = BTreeMap::new();
        let start = std::time::Instant::now();
        while start.elapsed() < PATIENCE {
            seen = self.retained();
            for own in ["system/0/Serial", "keepalive", "bridge/status"] {
                seen.remove(&n(own));
            }
            if seen == *expected {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!(
            "{what}: the broker retains what it should not, or not what it should:\n{}",
            difference(expected, &seen)
        );
    }
}

/// The arguments of a bridge between a bus and a server, and more of them, parted by blanks.
pub fn bridge_args(bus: &Bus, server: &str, more: &str) -> Vec<String> {
    let address = bus.address();
    let base = [
        "--dbus",
        &address,
        "--mqtt-server",
        server,
        "--portal-id",
        PORTAL,
    ];
    base.into_iter()
        .chain(more.split_whitespace())
        .map(str::to_owned)
        .collect()
}

/// A bridge between a real bus and a broker that shows every byte. Ready as [`Rig::bridge`] is.
pub fn bridge_to(bus: &Bus, broker: &FakeBroker, more: &str) -> Bridge {
    let args = bridge_args(bus, &broker.address.to_string(), more);
    bus.scanned_by(|| {
        let bridge = Bridge::spawn(&args);
        broker.wait_published(0, &n("bridge/status"), ONLINE);
        bridge
    })
}

/// What a broker retains under a filter, without what is empty.
pub fn retained(broker: &Broker, filter: &str) -> BTreeMap<String, String> {
    let client = broker.client();
    client.subscribe(filter);
    client.fence();
    let messages = client.since(0).into_iter().filter(|message| message.retain);
    messages
        .map(|message| (message.topic.clone(), message.text().to_owned()))
        .collect()
}

/// Waits until one topic is no longer, or again, among the retained ones.
pub fn wait_one_retained(broker: &Broker, topic: &str, expected: Option<&str>) {
    poll(
        &format!("{topic} retained as {expected:?}"),
        PATIENCE,
        || (retained(broker, topic).get(topic).map(String::as_str) == expected).then_some(()),
    );
}

/// How two sets of topics differ, a line for each.
pub fn difference(expected: &BTreeMap<String, String>, seen: &BTreeMap<String, String>) -> String {
    let mut lines = Vec::new();
    for (topic, payload) in expected {
        match seen.get(topic) {
            None => lines.push(format!("missing  {topic} {payload}")),
            Some(other) if other != payload => {
                lines.push(format!("differs  {topic} {other}, should be {payload}"));
            }
            Some(_) => {}
        }
    }
    for (topic, payload) in seen {
        if !expected.contains_key(topic) {
            lines.push(format!("too much {topic} {payload}"));
        }
    }
    lines.truncate(40);
    lines.join("\n")
}

/// A notification topic.
pub fn n(rest: &str) -> String {
    format!("N/{PORTAL}/{rest}")
}

/// A read request topic.
pub fn r(rest: &str) -> String {
    format!("R/{PORTAL}/{rest}")
}

/// A write request topic.
pub fn w(rest: &str) -> String {
    format!("W/{PORTAL}/{rest}")
}

/// The payload of a value that is written in JSON as here.
pub fn value(json: &str) -> String {
    format!("{{\"value\": {json}}}")
}

/// Two sets of topics in one.
pub fn both(a: BTreeMap<String, String>, b: BTreeMap<String, String>) -> BTreeMap<String, String> {
    a.into_iter().chain(b).collect()
}

/// How often each topic occurs.
pub fn counts(messages: &[Message]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for message in messages {
        *counts.entry(message.topic.as_str()).or_insert(0) += 1;
    }
    counts
}
