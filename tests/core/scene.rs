//! A bridge between a simulated bus and simulated brokers, for one test: services come, answer, stay
//! silent and leave as the test says, and what the bridge sends is kept as a broker would keep it.
#![allow(dead_code)] // each test uses its own part of this

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::Duration;

use dbus_mqtt::bridge::calls::{Call, Method};
use dbus_mqtt::bridge::{Bridge, BridgeConfig, PublishSink};
use dbus_mqtt::codec::request::RequestReader;
use dbus_mqtt::model::request::ResponseAddress;
use dbus_mqtt::model::time::Now;
use flate2::read::GzDecoder;

use crate::frames::wire::{V, s, variant};
use crate::frames::{self, PORTAL};

pub use crate::frames::settings;

/// How a service answers calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Mood {
    /// As a well-behaved one.
    #[default]
    Answers,
    /// Not at all.
    Silent,
    /// With this D-Bus error, whatever is asked.
    Refuses(String),
    /// `GetItems` with this error, everything else well.
    NoItems(String),
}

/// A service on the simulated bus.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    pub owner: String,
    pub items: Vec<(String, V)>,
    pub mood: Mood,
    /// Answers some calls in its own way; `None` for those that are answered as ever.
    pub script: Option<Script>,
}

/// What a service answers to a call.
pub type Script = fn(&Service, &Call) -> Option<Vec<u8>>;

/// A message that the bridge sent: its topic without `N/<portal>/`, its payload, whether it is retained.
pub type Sent = (String, String, bool);

/// What one broker was sent.
#[derive(Debug, Default)]
pub struct Store {
    /// The latest payload of each topic that was not unpublished.
    pub values: BTreeMap<String, String>,
    /// All messages since [`Scene::sent`] was last asked.
    sent: Vec<Sent>,
    /// How long its packets may be.
    pub packet_bytes_max: Option<usize>,
    /// Whether messages can say what their payload is (MQTT 5).
    pub content_types: bool,
    /// Payloads that came compressed, as they came. [`Scene::sent`] has them as they were before.
    pub compressed: Vec<Vec<u8>>,
    /// Answers to requests with a response topic: topic, payload.
    pub responses: Vec<(String, String)>,
}

struct Sink<'a>(&'a mut Store);

impl PublishSink for Sink<'_> {
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        payload(&mut bytes);
        let topic = String::from_utf8(topic.concat()).unwrap();
        let prefix = format!("N/{PORTAL}/");
        let topic = topic.strip_prefix(&prefix).unwrap_or(&topic).to_owned();
        let payload = String::from_utf8(bytes).unwrap();
        if payload.is_empty() {
            self.0.values.remove(&topic);
        } else {
            self.0.values.insert(topic.clone(), payload.clone());
        }
        self.0.sent.push((topic, payload, retain));
    }

    fn packet_bytes_max(&self) -> Option<usize> {
        self.0.packet_bytes_max
    }

    fn takes_content_types(&self) -> bool {
        self.0.content_types
    }

    fn publish_as(&mut self, content_type: &str, topic: &[&[u8]; 3], payload: &[u8]) {
        assert!(self.0.content_types);
        assert_eq!(content_type, "application/gzip");
        let mut plain = Vec::new();
        GzDecoder::new(payload).read_to_end(&mut plain).unwrap();
        self.0.compressed.push(payload.to_vec());
        self.publish(false, topic, |out| out.extend(plain));
    }

    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        payload(&mut bytes);
        let payload = String::from_utf8(bytes).unwrap();
        self.0.responses.push((to.topic.to_string(), payload));
    }
}

/// The scene of one test.
pub struct Scene {
    pub bridge: Bridge,
    pub now: Now,
    pub services: Vec<Service>,
    pub brokers: Vec<Store>,
    /// Calls that no service has answered yet.
    pub unanswered: Vec<Call>,
}

/// What a service answers to `Introspect` on a path.
fn introspection(service: &Service, path: &str) -> String {
    let below = format!("{}/", path.trim_end_matches('/'));
    let paths = service.items.iter().map(|(path, _)| path.as_str());
    let children: BTreeSet<&str> = paths
        .filter_map(|item| item.strip_prefix(&below)?.split('/').next())
        .collect();
    let mut xml = "<node>".to_owned();
    if service.items.iter().any(|(item, _)| item == path) {
        xml += r#"<interface name="com.victronenergy.BusItem"/>"#;
    }
    for child in children {
        xml = xml + "<node name=\"" + child + "\"/>";
    }
    xml + "</node>"
}

impl Scene {
    /// One broker that retains, and for which the bridge is always alive; an empty bus.
    pub fn new() -> Scene {
        Scene::with(frames::config(vec![frames::outlet(true, None)]))
    }

    /// The same with other settings; all brokers are connected and read back.
    pub fn with(config: BridgeConfig) -> Scene {
        let brokers = config.outlets.len();
        let mut scene = Scene {
            bridge: Bridge::new(config),
            now: frames::now(),
            services: Vec::new(),
            brokers: (0..brokers).map(|_| Store::default()).collect(),
            unanswered: Vec::new(),
        };
        scene.bridge.bus_connected(scene.now);
        scene.settle();
        for broker in 0..brokers {
            scene.bridge.broker_connected(broker);
            scene.bridge.broker_ready(scene.now, broker);
        }
        scene.settle();
        scene.sent(0);
        scene
    }

    // The bus.

    /// A service owns its name; it is not asked anything before [`Scene::settle`].
    pub fn own(&mut self, name: &str, owner: &str, items: &[(&str, V)]) {
        self.own_with(name, owner, items, Mood::Answers);
    }

    /// The same with a mood. A name that was owned before has another owner now.
    pub fn own_with(&mut self, name: &str, owner: &str, items: &[(&str, V)], mood: Mood) {
        let old = self.remove(name).map_or(String::new(), |old| old.owner);
        let items = items
            .iter()
            .map(|(path, value)| ((*path).to_owned(), value.clone()));
        self.services.push(Service {
            name: name.into(),
            owner: owner.into(),
            items: items.collect(),
            mood,
            script: None,
        });
        self.hear(&frames::name_owner_changed(name, &old, owner));
    }

    /// A service leaves; the bus answers what it did not.
    pub fn leave(&mut self, name: &str) {
        let Some(service) = self.remove(name) else {
            panic!("{name} is not there");
        };
        self.hear(&frames::name_owner_changed(name, &service.owner, ""));
        let gone = |call: &Call| *call.destination == *name || *call.destination == *service.owner;
        let (lost, rest) = self.unanswered.drain(..).partition(gone);
        self.unanswered = rest;
        let lost: Vec<Call> = lost;
        for call in lost {
            let error = frames::error(
                frames::BUS,
                call.id.serial(),
                "org.freedesktop.DBus.Error.NoReply",
            );
            self.hear(&error);
        }
    }

    fn remove(&mut self, name: &str) -> Option<Service> {
        let at = self
            .services
            .iter()
            .position(|service| service.name == name)?;
        Some(self.services.remove(at))
    }

    /// A service, to be changed: its items and its mood.
    pub fn service(&mut self, name: &str) -> &mut Service {
        let mut services = self.services.iter_mut();
        services.find(|service| service.name == name).unwrap()
    }

    /// A service changes one of its items, and signals it.
    pub fn change(&mut self, name: &str, path: &str, value: V) {
        let service = self.service(name);
        let owner = service.owner.clone();
        match service.items.iter_mut().find(|(known, _)| known == path) {
            Some((_, old)) => *old = value.clone(),
            None => service.items.push((path.into(), value.clone())),
        }
        self.hear(&frames::properties_changed(
            &owner,
            path,
            [("Value", value)],
        ));
    }

    /// The bridge gets a message from the bus.
    pub fn hear(&mut self, bytes: &[u8]) {
        frames::feed(&mut self.bridge, self.now, bytes);
    }

    /// Takes the calls of the bridge and has them answered; those of silent services stay in
    /// [`Scene::unanswered`]. Then takes all that brokers are to be sent.
    pub fn settle(&mut self) {
        while let Some(call) = self.bridge.poll_call() {
            match self.answer(&call) {
                Some(bytes) => self.hear(&bytes),
                None => self.unanswered.push(call),
            }
        }
        for (broker, store) in self.brokers.iter_mut().enumerate() {
            let mut sink = Sink(store);
            while self.bridge.poll_publish(self.now, broker, &mut sink) {}
        }
    }

    /// The calls that the bridge makes now, without an answer to any of them.
    pub fn calls(&mut self) -> Vec<Call> {
        std::iter::from_fn(|| self.bridge.poll_call()).collect()
    }

    /// What the bus, or the service that is called, answers; `None` where it is silent.
    pub fn answer(&self, call: &Call) -> Option<Vec<u8>> {
        let to = &*call.destination;
        let called = |service: &&Service| service.name == to || service.owner == to;
        let Some(service) = self.services.iter().find(called) else {
            return Some(frames::answer(call, &self.devices()));
        };
        let error = |name: &str| Some(frames::error(&service.owner, call.id.serial(), name));
        if let Some(bytes) = service.script.and_then(|script| script(service, call)) {
            return Some(bytes);
        }
        match &service.mood {
            Mood::Silent => None,
            Mood::Refuses(name) => error(name),
            Mood::NoItems(name) if call.method == Method::GetItems => error(name),
            Mood::Answers | Mood::NoItems(_) => {
                if call.method == Method::Introspect {
                    let xml = s(&introspection(service, &call.path));
                    return Some(frames::reply(&service.owner, call.id.serial(), &[xml]));
                }
                if call.method == Method::GetValue && *call.path == *"/" {
                    let tree = service
                        .items
                        .iter()
                        .map(|(path, value)| (&path[1..], value.clone()));
                    let tree = variant(frames::wire::vardict(tree));
                    return Some(frames::reply(&service.owner, call.id.serial(), &[tree]));
                }
                Some(frames::answer(call, &self.devices()))
            }
        }
    }

    fn devices(&self) -> Vec<frames::Device> {
        let device = |service: &Service| frames::Device {
            name: service.name.clone(),
            owner: service.owner.clone(),
            items: service.items.clone(),
            changes: Vec::new(),
        };
        self.services.iter().map(device).collect()
    }

    // Time.

    /// Time passes in steps at which something is due, and everything is settled after each.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        loop {
            let due = self.bridge.poll_timeout().filter(|due| *due < end);
            let next = due.unwrap_or(end).max(self.now.monotonic);
            self.now.monotonic = next;
            self.bridge.tick(self.now);
            self.settle();
            if next == end {
                return;
            }
            // A deadline that stays in the past would be a loop without an end.
            assert!(
                self.bridge
                    .poll_timeout()
                    .is_none_or(|due| due > self.now.monotonic),
                "nothing was done about what was due"
            );
        }
    }

    // Clients and brokers.

    /// A client of broker 0 asks: `R/battery/7/Soc`. The portal id is put in.
    pub fn ask(&mut self, topic: &str, payload: &str) {
        self.ask_from(0, topic, payload, false, None);
    }

    /// The same, for any broker, retained or not, with a response topic or without.
    pub fn ask_from(
        &mut self,
        broker: usize,
        topic: &str,
        payload: &str,
        retained: bool,
        respond_to: Option<&str>,
    ) {
        let (kind, rest) = topic.split_once('/').unwrap();
        let topic = format!("{kind}/{PORTAL}/{rest}");
        let mut payload = payload.as_bytes().to_vec();
        let request = RequestReader::new(65_536).read(&topic, &mut payload, &frames::portal());
        let to = respond_to.map(|topic| ResponseAddress {
            topic: topic.into(),
            correlation: [].into(),
            client: None,
        });
        let (bridge, now) = (&mut self.bridge, self.now);
        bridge.request_from(now, broker, &topic, request.unwrap(), retained, to);
    }

    /// The payload that a broker has for a topic (`battery/7/Soc`).
    pub fn value(&self, topic: &str) -> Option<&str> {
        self.brokers[0].values.get(topic).map(String::as_str)
    }

    /// The topics of devices that broker 0 has: without the bridge's own.
    pub fn topics(&self) -> Vec<&str> {
        let own = [
            "system/0/Serial",
            "keepalive",
            "bridge/status",
            "heartbeat",
            "full_publish_completed",
        ];
        let topics = self.brokers[0].values.keys().map(String::as_str);
        topics.filter(|topic| !own.contains(topic)).collect()
    }

    /// What a broker was sent since this was last asked.
    pub fn sent(&mut self, broker: usize) -> Vec<Sent> {
        std::mem::take(&mut self.brokers[broker].sent)
    }
}
