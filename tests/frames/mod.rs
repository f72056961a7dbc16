//! A bus and a broker without sockets, for what measures or shakes the decisions: D-Bus messages as
//! bytes, recorded devices, answers to the bridge's calls, and a sink that writes PUBLISH packets.
//!
//! The messages are written by the live tests' own wire format, which shares no line with the codec.
#![allow(
    dead_code, // each test binary uses its own part of this
    unreachable_pub, // these modules are included by path, and have no outside
    missing_docs,
    clippy::unwrap_used, // a test that cannot go on should say where, and stop
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods, // tests have clocks
    clippy::missing_panics_doc,
    clippy::wildcard_imports, // the parts of one model
    clippy::wildcard_enum_match_arm,
    clippy::return_self_not_must_use,
    clippy::cast_possible_truncation, // any number will do for a choice
    clippy::format_push_string // nobody minds an allocation here
)]

#[path = "../support/json.rs"]
pub mod json;
pub mod model;
#[path = "../support/wire.rs"]
pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbus_mqtt::bridge::calls::{Call, Method};
use dbus_mqtt::bridge::{
    Bounds, Bridge, BridgeConfig, ItemRef, OutletConfig, PublishSink, Settings,
};
use dbus_mqtt::codec::packet::v5::{self, Extra};
use dbus_mqtt::codec::{frame, packet};
use dbus_mqtt::link::aliases::Aliases;
use dbus_mqtt::model::access::{Access, AccessRule};
use dbus_mqtt::model::filter::Lists;
use dbus_mqtt::model::name::PortalId;
use dbus_mqtt::model::time::Now;
use serde_json::Value as Json;
use wire::{ERROR, METHOD_RETURN, Message, V, array, dict, s, vardict};

pub const PORTAL: &str = "c0619ab12345";
pub const BUS: &str = "org.freedesktop.DBus";
const ITEM: &str = "com.victronenergy.BusItem";

/// A service on the simulated bus, and how it changes.
#[derive(Debug, Clone, Default)]
pub struct Device {
    pub name: String,
    pub owner: String,
    pub items: Vec<(String, V)>,
    pub changes: Vec<Change>,
}

/// One recorded change.
#[derive(Debug, Clone)]
pub struct Change {
    pub ts_ms: u64,
    pub path: String,
    pub value: V,
    pub text: String,
}

// Messages.

pub fn signal(sender: &str, path: &str, member: &str, body: &V) -> Vec<u8> {
    let mut message = Message::signal(path, ITEM, member).with(std::slice::from_ref(body));
    message.sender = sender.into();
    message.serial = 7;
    message.encode()
}

/// `PropertiesChanged` of one item.
pub fn properties_changed<'a>(
    sender: &str,
    path: &str,
    properties: impl IntoIterator<Item = (&'a str, V)>,
) -> Vec<u8> {
    signal(sender, path, "PropertiesChanged", &vardict(properties))
}

/// `ItemsChanged` with the value of each item.
pub fn items_changed<'a>(
    sender: &str,
    items: impl IntoIterator<Item = (&'a str, V, &'a str)>,
) -> Vec<u8> {
    let entries = items.into_iter().map(|(path, value, text)| {
        let properties = vardict([("Value", value), ("Text", s(text))]);
        (s(path), properties)
    });
    signal(sender, "/", "ItemsChanged", &dict("s", "a{sv}", entries))
}

pub fn name_owner_changed(name: &str, old: &str, new: &str) -> Vec<u8> {
    let mut message = Message::signal("/org/freedesktop/DBus", BUS, "NameOwnerChanged").with(&[
        s(name),
        s(old),
        s(new),
    ]);
    message.sender = BUS.into();
    message.serial = 7;
    message.encode()
}

pub fn reply(sender: &str, to: u32, body: &[V]) -> Vec<u8> {
    let message = Message {
        kind: METHOD_RETURN,
        serial: 9,
        reply_serial: to,
        sender: sender.into(),
        ..Message::default()
    };
    message.with(body).encode()
}

pub fn error(sender: &str, to: u32, name: &str) -> Vec<u8> {
    error_with(sender, to, name, "it is so")
}

/// An error with that text.
pub fn error_with(sender: &str, to: u32, name: &str, text: &str) -> Vec<u8> {
    let message = Message {
        kind: ERROR,
        serial: 9,
        reply_serial: to,
        sender: sender.into(),
        error: name.into(),
        ..Message::default()
    };
    message.with(&[s(text)]).encode()
}

/// The body of a reply to `GetItems`.
pub fn get_items<'a>(items: impl IntoIterator<Item = &'a (String, V)>) -> V {
    let entries = items
        .into_iter()
        .map(|(path, value)| (s(path), vardict([("Value", value.clone())])));
    dict("s", "a{sv}", entries)
}

/// What a bus with these services answers.
pub fn answer(call: &Call, devices: &[Device]) -> Vec<u8> {
    let device = devices
        .iter()
        .find(|device| *device.name == *call.destination || *device.owner == *call.destination);
    match (&call.method, device) {
        (Method::AddMatch(_), _) => reply(BUS, call.id.serial(), &[]),
        (Method::ListNames, _) => {
            let names = devices.iter().map(|device| s(&device.name));
            reply(BUS, call.id.serial(), &[array("s", names.chain([s(BUS)]))])
        }
        (Method::GetNameOwner(name), _) => {
            match devices.iter().find(|device| *device.name == **name) {
                Some(device) => reply(BUS, call.id.serial(), &[s(&device.owner)]),
                None => error(
                    BUS,
                    call.id.serial(),
                    "org.freedesktop.DBus.Error.NameHasNoOwner",
                ),
            }
        }
        (Method::GetItems, Some(device)) => {
            reply(&device.owner, call.id.serial(), &[get_items(&device.items)])
        }
        (Method::GetValue, Some(device)) => {
            match device.items.iter().find(|(path, _)| **path == *call.path) {
                Some((_, value)) => reply(
                    &device.owner,
                    call.id.serial(),
                    &[wire::variant(value.clone())],
                ),
                None => error(
                    &device.owner,
                    call.id.serial(),
                    "org.freedesktop.DBus.Error.UnknownObject",
                ),
            }
        }
        (Method::SetValue(_), Some(device)) => reply(&device.owner, call.id.serial(), &[V::I(0)]),
        _ => error(
            BUS,
            call.id.serial(),
            "org.freedesktop.DBus.Error.ServiceUnknown",
        ),
    }
}

// The bridge.

pub fn portal() -> PortalId {
    PortalId::new(PORTAL).unwrap()
}

pub fn now() -> Now {
    Now {
        monotonic: Instant::now(),
        unix_s: 1_700_000_000,
        unix_ms: 0,
    }
}

pub fn config(outlets: Vec<OutletConfig>) -> BridgeConfig {
    BridgeConfig {
        portal_id: portal(),
        outlets,
        items_max: 500_000,
        services_max: 2_000,
        writes_in_flight_max: 1_024,
        calls_in_flight_max: 4_096,
        call_timeout: Duration::from_secs(25),
        read_timeout: Duration::from_secs(5),
        seed: 7,
    }
}

/// Settings as a bridge has them by default; one keep-alive for each broker.
pub fn settings(brokers: usize) -> Settings {
    Settings {
        schema: Arc::default(),
        strict_writes: false,
        listeners: Vec::new(),
        keep_alive: vec![None; brokers],
        services_max: 2_000,
        writes_in_flight_max: 1_024,
        calls_in_flight_max: 4_096,
        call_timeout: Duration::from_secs(25),
        read_timeout: Duration::from_secs(5),
        bounds: Bounds::default(),
        stats: None,
        refresh: None,
    }
}

pub fn outlet(retain: bool, keep_alive: Option<Duration>) -> OutletConfig {
    OutletConfig {
        name: "broker".into(),
        retain,
        keep_alive,
        filters_max: 1_000,
        prefix: "".into(),
        access: AccessRule::Always(Access::Full),
        lists: Lists::default(),
        answers_first: false,
        throttle: Vec::new(),
        batch: None,
        topics: dbus_mqtt::model::topic::TopicRules::default(),
        discovery: None,
    }
}

/// Hands the bridge one message from the bus; `false` where it is not the bridge's.
pub fn feed(bridge: &mut Bridge, now: Now, bytes: &[u8]) -> bool {
    let frame = frame::parse(bytes).expect("a message of the simulated bus");
    bridge.bus_frame(now, &frame)
}

/// Answers all that the bridge asks, until it asks nothing.
pub fn answer_all(bridge: &mut Bridge, now: Now, devices: &[Device]) {
    while let Some(call) = bridge.poll_call() {
        feed(bridge, now, &answer(&call, devices));
    }
}

/// A bridge that has scanned these services, with one connected broker that is always alive, and
/// that has been sent everything.
pub fn live_bridge(devices: &[Device]) -> (Bridge, Now) {
    live_bridge_with(devices, outlet(true, None))
}

/// The same, with a broker of these settings.
pub fn live_bridge_with(devices: &[Device], outlet: OutletConfig) -> (Bridge, Now) {
    let now = now();
    let mut bridge = Bridge::new(config(vec![outlet]));
    bridge.bus_connected(now);
    answer_all(&mut bridge, now, devices);
    bridge.broker_connected(0);
    bridge.broker_ready(now, 0);
    drain(&mut bridge, now, 0);
    (bridge, now)
}

/// Writes PUBLISH packets, as the shell does.
#[derive(Debug, Default)]
pub struct Packets {
    pub out: Vec<u8>,
    pub count: usize,
}

impl Packets {
    pub fn with_room() -> Packets {
        Packets {
            out: Vec::with_capacity(1 << 20),
            count: 0,
        }
    }
}

impl PublishSink for Packets {
    #[inline]
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        self.count += 1;
        packet::write_publish(&mut self.out, retain, topic, payload);
    }
}

/// Writes PUBLISH packets of MQTT 5, as the shell does.
#[derive(Debug, Default)]
pub struct Packets5 {
    pub out: Vec<u8>,
    pub count: usize,
    pub aliases: Aliases,
    pub expiry_s: Option<u32>,
}

impl PublishSink for Packets5 {
    #[inline]
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        self.count += 1;
        let extra = Extra {
            retain,
            ..Extra::default()
        };
        v5::write_publish(&mut self.out, extra, topic, payload);
    }

    #[inline]
    fn notify(
        &mut self,
        item: ItemRef,
        retain: bool,
        topic: &[&[u8]; 3],
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        self.count += 1;
        let extra = Extra {
            retain,
            alias: self.aliases.pick(item.slot.0, item.serial()),
            expiry_s: self.expiry_s,
        };
        v5::write_publish(&mut self.out, extra, topic, payload);
    }
}

/// Takes all that a broker is to be sent, and gives how many messages that was.
pub fn drain(bridge: &mut Bridge, now: Now, broker: usize) -> usize {
    let mut packets = Packets::with_room();
    while bridge.poll_publish(now, broker, &mut packets) {
        packets.out.clear();
    }
    packets.count
}

// Devices.

/// The recordings at hand: those beside the repository, else its own. Says which.
pub fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["../shared/recordings", "tests/fixtures/recordings"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            println!("no recordings in {folder}");
            continue;
        };
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .collect();
        if !files.is_empty() {
            files.sort();
            println!("{} recordings of {folder}", files.len());
            return files;
        }
    }
    println!("no recordings at all: made-up devices are used instead");
    Vec::new()
}

/// A recorded device that changes much, or a made-up one where there are no recordings.
pub fn busy_device() -> Device {
    let files = recordings();
    let busiest = files
        .iter()
        .find(|file| file.ends_with("sim-lpp-vebus.jsonl"))
        .or_else(|| {
            files
                .iter()
                .max_by_key(|file| file.metadata().map_or(0, |data| data.len()))
        });
    let Some(file) = busiest else {
        return made_up("vebus", 300);
    };
    let device = load(file);
    println!(
        "{}: {} items, {} changes",
        file.file_name().unwrap().to_string_lossy(),
        device.items.len(),
        device.changes.len()
    );
    device
}

/// The device in a recording.
pub fn load(file: &Path) -> Device {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap());
    let head = lines.next().unwrap();
    let items = head["items"].as_object().unwrap().iter();
    Device {
        name: head["service"].as_str().unwrap().into(),
        owner: ":1.42".into(),
        items: items
            .filter_map(|(path, item)| Some((path.clone(), value(item)?)))
            .collect(),
        changes: lines
            .filter_map(|line| {
                Some(Change {
                    ts_ms: line["ts_ms"].as_u64().unwrap(),
                    path: line["path"].as_str().unwrap().into(),
                    value: value(&line)?,
                    text: line["text"].as_str().unwrap_or_default().into(),
                })
            })
            .collect(),
    }
}

/// The value of a recorded item; `None` for a dict, which only tree nodes have.
fn value(item: &Json) -> Option<V> {
    let (kind, v) = (item["t"].as_str().unwrap(), &item["v"]);
    let integer = || v.as_i64().unwrap();
    let double = || match v.as_str() {
        Some("NaN") => f64::NAN,
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        _ => v.as_f64().unwrap(),
    };
    Some(match kind {
        "y" => V::Y(integer().try_into().unwrap()),
        "n" => V::N(integer().try_into().unwrap()),
        "q" => V::Q(integer().try_into().unwrap()),
        "i" => V::I(integer().try_into().unwrap()),
        "u" => V::U(integer().try_into().unwrap()),
        "x" => V::X(integer()),
        "t" => V::T(v.as_u64().unwrap()),
        "d" => V::D(double()),
        "b" => V::B(v.as_bool().or_else(|| v.as_i64().map(|v| v != 0)).unwrap()),
        "s" => s(v.as_str().unwrap()),
        "ay" | "ai" | "au" => {
            let element = |v: &Json| {
                let number = v.as_i64().unwrap();
                match &kind[1..] {
                    "y" => V::Y(number.try_into().unwrap()),
                    "i" => V::I(number.try_into().unwrap()),
                    _ => V::U(number.try_into().unwrap()),
                }
            };
            array(&kind[1..], v.as_array().unwrap().iter().map(element))
        }
        _ => return None,
    })
}

/// A device of that many items, which change in turn.
pub fn made_up(service_type: &str, items: i32) -> Device {
    let value = |n: i32| match n % 5 {
        0 => V::D(f64::from(n) * 0.37),
        1 => V::I(n),
        2 => V::U(n.unsigned_abs()),
        3 => V::B(n % 2 == 0),
        _ => wire::invalid(),
    };
    let path = |n: i32| format!("/Made/{}/Up{n}", n % 7);
    Device {
        name: format!("com.victronenergy.{service_type}.made_up"),
        owner: ":1.42".into(),
        items: (0..items)
            .map(|n| (path(n), value(n)))
            .chain([("/DeviceInstance".into(), V::I(5))])
            .collect(),
        changes: (0..items * 5)
            .map(|n| Change {
                ts_ms: u64::from(n.unsigned_abs() / 7),
                path: path(n % items),
                value: value(n + 1),
                text: n.to_string(),
            })
            .collect(),
    }
}

/// Systems of the size of a large GX: this many items over devices of some hundred each.
pub fn large_system(items: i32) -> Vec<Device> {
    const TYPES: [&str; 10] = [
        "battery",
        "solarcharger",
        "vebus",
        "tank",
        "grid",
        "pvinverter",
        "temperature",
        "system",
        "settings",
        "genset",
    ];
    let each = items / 10;
    TYPES
        .iter()
        .zip(40..)
        .map(|(service_type, owner)| {
            let mut device = made_up(service_type, each - 1);
            device.owner = format!(":1.{owner}");
            device
        })
        .collect()
}

impl Device {
    /// Each change as a `PropertiesChanged` of its own.
    pub fn single_signals(&self, mut wanted: impl FnMut(&Change) -> bool) -> Vec<Vec<u8>> {
        let wanted = self.changes.iter().filter(|change| wanted(change));
        wanted
            .map(|change| {
                let properties = [("Value", change.value.clone()), ("Text", s(&change.text))];
                properties_changed(&self.owner, &change.path, properties)
            })
            .collect()
    }

    /// The changes of one time as one `ItemsChanged`.
    pub fn burst_signals(&self, mut wanted: impl FnMut(&Change) -> bool) -> Vec<Vec<u8>> {
        let changes: Vec<_> = self.changes.iter().filter(|c| wanted(c)).collect();
        changes
            .chunk_by(|one, other| one.ts_ms == other.ts_ms)
            .map(|burst| {
                let items = burst.iter().map(|change| {
                    let (path, text) = (change.path.as_str(), change.text.as_str());
                    (path, change.value.clone(), text)
                });
                items_changed(&self.owner, items)
            })
            .collect()
    }
}

/// Whether a slot's words hold the value: a number, a boolean, or invalid.
pub fn is_plain(value: &V) -> bool {
    match value {
        V::Array(_, elements) => elements.is_empty(),
        V::S(_) | V::O(_) | V::G(_) | V::Struct(_) | V::Entry(_) => false,
        V::Variant(inner) => is_plain(inner),
        _ => true,
    }
}
