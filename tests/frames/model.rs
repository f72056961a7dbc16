//! The bridge between a simulated bus and simulated brokers, and what must be true of it whatever
//! happens: the subject of a property test and of a fuzz target.
//!
//! ```text
//!  bytes ──▶ steps ──▶ bus, clients, brokers, time ──▶ Bridge ──▶ wire ──▶ store of each broker
//!                             │                                               │
//!                             └────────── must be equal in the end ───────────┘
//! ```
//!
//! Beside the brokers, clients are connected to the bridge itself ([`clients`]). Broker 0 retains notifications,
//! broker 1 does not. Broker 2 retains them below a prefix, for as long as
//! it is told, and may have only what its lists admit (§8). A step is four bytes, so that both testers can
//! make and shrink any list of them. All that the bus says is heard at once and in order; how late it
//! answers, and how slowly a broker takes what it is sent, is up to the steps.

#[path = "brokers.rs"]
mod brokers;
#[path = "checks.rs"]
mod checks;
#[cfg(feature = "listen")]
#[path = "clients.rs"]
mod clients;
#[path = "words.rs"]
mod words;
#[path = "writes.rs"]
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use dbus_mqtt::bridge::calls::{Call, Method};
use dbus_mqtt::bridge::{Bridge, PublishSink, Settings};
use dbus_mqtt::codec::request::RequestReader;
use dbus_mqtt::model::filter::{Filter, List, Lists};
use dbus_mqtt::model::name::is_topic_path;
use dbus_mqtt::model::request::ResponseAddress;
use dbus_mqtt::model::time::Now;
use dbus_mqtt::model::value::BusValue;
use dbus_mqtt::schema;
use dbus_mqtt::schema::rule::Publish;

use super::json;
use super::wire::{V, array, invalid, s, vardict, variant};
use super::{BUS, PORTAL};
use words::{
    full_name, instance_value, lists, path_of, split_topic, value, wire_value, without_instance,
};

const KEEP_ALIVE: Duration = Duration::from_secs(60);
const SERVICES: [&str; 6] = [
    "battery.one",
    "battery.two",
    "tank.only_a_tree",
    "vebus.ttyO1",
    "settings",
    "system",
];
/// The one that knows no GetItems (§2.2).
const TREE: usize = 2;
const PATHS: [&str; 12] = [
    "/Soc",
    "/Dc/0/Voltage",
    "/Dc/0/Current",
    "/CustomName",
    "/ProductId",
    "/Mode",
    "/Serial",
    "/Interfaces/Mk2/Tunnel",
    "/Settings/Ble/Service/Pincode",
    "/bad+path",
    "/Identifier",
    "/A/New/One",
];
const FILTERS: [&str; 5] = [
    "battery/+/Soc",
    "#",
    "system/#",
    "+/+/Dc/0/+",
    "tank/0/Mode",
];
/// What stands before the topics of broker 2.
const PREFIX: &str = "home/gx/";
/// How long broker 2 keeps what it retains.
const EXPIRY: Duration = Duration::from_secs(30);
const SERIAL: &str = "system/0/Serial";
const OWN: [&str; 3] = [SERIAL, "keepalive", "bridge/status"];

/// One step: what happens, and three numbers to choose by.
pub type Step = [u8; 4];

#[derive(Debug, Clone, PartialEq)]
struct Item {
    value: V,
    max: Option<V>,
}

#[derive(Debug, Default)]
struct Service {
    /// The unique name of its connection; `None` where it is not there.
    owner: Option<String>,
    items: BTreeMap<String, Item>,
    /// A connection before announced limits: no section says whether they end with it.
    limits_unsure: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Message {
    retain: bool,
    /// Below `N/<portal>/`.
    topic: String,
    payload: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Link {
    Down,
    Reading,
    Up,
}

struct Broker {
    retains: bool,
    prefix: &'static str,
    lists: Lists,
    link: Link,
    /// Sent, and not arrived: lost with the connection.
    wire: VecDeque<Message>,
    store: BTreeMap<String, String>,
    /// What a client that was always connected has.
    view: BTreeMap<String, String>,
    last_request: Option<Instant>,
    /// What reads may have brought: topics, of items or nodes.
    reads: BTreeSet<String>,
    /// Echoes that must come back.
    echoes: BTreeSet<String>,
    log: Vec<Message>,
}

/// The whole simulated world.
pub struct World {
    bridge: Bridge,
    reader: RequestReader,
    now: Now,
    bus_up: bool,
    services: Vec<Service>,
    owners: usize,
    calls: Vec<Call>,
    /// Calls that a service takes its time with.
    late: Vec<Call>,
    brokers: Vec<Broker>,
    echoes: usize,
    writes: Vec<writes::Write>,
    #[cfg(feature = "listen")]
    clients: clients::Clients,
}

/// Takes the steps, lets everything settle, and looks whether brokers have what the bus has.
pub fn run(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.step(*step);
    }
    world.settle();
    world.check_writes();
    world.check_alive();
    world.check_not_alive();
    world.check_end();
}

/// What one broker is sent, and what its clients are told.
struct Sink<'a> {
    prefix: String,
    sent: &'a mut Vec<Message>,
    told: &'a mut Vec<(ResponseAddress, String)>,
}

impl PublishSink for Sink<'_> {
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let topic = String::from_utf8(topic.concat()).unwrap();
        let mut bytes = Vec::new();
        payload(&mut bytes);
        self.sent.push(Message {
            retain,
            topic: topic.strip_prefix(&self.prefix).expect("our topic").into(),
            payload: String::from_utf8(bytes).unwrap(),
        });
    }

    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        payload(&mut bytes);
        (self.told).push((to.clone(), String::from_utf8(bytes).unwrap()));
    }
}

/// As by default, with rounds of scans that are short enough to come often.
fn settings() -> Settings {
    Settings {
        keep_alive: vec![Some(KEEP_ALIVE); 3],
        refresh: Some(Duration::from_secs(30)),
        ..super::settings(3)
    }
}

impl World {
    fn new() -> World {
        let start = super::now();
        let mut config = super::config(vec![
            super::outlet(true, Some(KEEP_ALIVE)),
            super::outlet(false, Some(KEEP_ALIVE)),
            super::outlet(true, Some(KEEP_ALIVE)),
        ]);
        let lists = lists();
        // The marks for clients have a bit for each.
        config.items_max = 1_000;
        config.outlets[2].prefix = PREFIX.into();
        config.outlets[2].lists = lists.clone();
        let broker = |retains, prefix, lists| Broker {
            retains,
            prefix,
            lists,
            link: Link::Down,
            wire: VecDeque::new(),
            store: BTreeMap::new(),
            view: BTreeMap::new(),
            last_request: None,
            reads: BTreeSet::new(),
            echoes: BTreeSet::new(),
            log: Vec::new(),
        };
        let mut bridge = Bridge::new(config);
        #[cfg(feature = "listen")]
        let clients = clients::Clients::new(&mut bridge, super::outlet(true, None), start);
        bridge.reconfigure(start, settings());
        World {
            bridge,
            reader: RequestReader::new(65_536),
            now: start,
            bus_up: false,
            services: SERVICES.iter().map(|_| Service::default()).collect(),
            owners: 0,
            calls: Vec::new(),
            late: Vec::new(),
            brokers: vec![
                broker(true, "", Lists::default()),
                broker(false, "", Lists::default()),
                broker(true, PREFIX, lists),
            ],
            echoes: 0,
            writes: Vec::new(),
            #[cfg(feature = "listen")]
            clients,
        }
    }

    fn step(&mut self, [kind, a, b, c]: Step) {
        let service = usize::from(a) % SERVICES.len();
        let broker = usize::from(a) % 3;
        #[cfg(feature = "listen")]
        self.clients.tell(self.now, &mut self.bridge);
        match kind % 28 {
            0 => self.appear(service, b, c),
            1 => self.leave(service),
            2 if self.services[service].owner.is_some() => self.restart(service, b, c),
            3 | 4 => self.change(service, &[b], c),
            5 => self.change(service, &[b, b.wrapping_add(1), b.wrapping_add(2)], c),
            6 => self.limit(service, b, c),
            7 => self.set_instance(service, c),
            8 if !self.calls.is_empty() => {
                let call = self.calls.swap_remove(usize::from(a) % self.calls.len());
                self.answer(&call, b % 8);
            }
            9 => self.answer_all(),
            10 if self.brokers[broker].link == Link::Down => self.connect(broker, b),
            11 => self.ready(broker),
            12 => self.disconnect(broker, b.is_multiple_of(4)),
            13 => self.poll(broker, usize::from(b) % 16),
            14 => self.drain(broker),
            15 => self.deliver(broker, usize::from(b) % 16),
            16 => {
                let millis = [1, 100, 1_000, 3_000, 20_000, 61_000];
                self.pass(Duration::from_millis(millis[usize::from(a) % millis.len()]));
            }
            17 => self.keep_alive(broker, b),
            18 => {
                let topic = self.item_topic(c, b);
                self.brokers[broker].reads.insert(topic.clone());
                self.request(broker, &format!("R/{PORTAL}/{topic}"), "", false);
            }
            19 => {
                let topic = format!("W/{PORTAL}/{}", self.item_topic(c, b));
                let payload = format!("{{\"value\": {}}}", json::json(&value(b ^ c)));
                self.request(broker, &topic, &payload, b.is_multiple_of(16));
            }
            20 => {
                let filter = FILTERS[usize::from(b) % FILTERS.len()];
                let payload = format!("[\"{filter}\"]");
                self.request(broker, &format!("R/{PORTAL}/keepalive"), &payload, false);
            }
            21 if self.bus_up => self.lose_bus(),
            21 => self.find_bus(),
            22 => {
                let topic = self.item_topic(c, b);
                self.write(broker, &topic);
            }
            23 => {
                let topic = self.item_topic(c, b);
                self.read(broker, &topic);
            }
            #[cfg(feature = "listen")]
            24..=26 => self
                .clients
                .step(self.now, &mut self.bridge, kind % 28, a, b),
            #[cfg(feature = "listen")]
            27 => {
                let (topic, value) = (self.item_topic(c, b / 8), json::json(&value(b ^ c)));
                self.clients
                    .act(self.now, &mut self.bridge, a, b, &topic, &value);
                self.take_calls();
            }
            _ => {}
        }
    }

    // The bus.

    fn hear(&mut self, bytes: &[u8]) {
        if self.bus_up {
            super::feed(&mut self.bridge, self.now, bytes);
            self.take_calls();
        }
    }

    /// Takes the bridge's calls; the bus itself answers at once, services when a step says so.
    fn take_calls(&mut self) {
        while let Some(call) = self.bridge.poll_call() {
            if *call.destination != *BUS {
                self.check_call(&call);
                self.calls.push(call);
                continue;
            }
            let there: Vec<super::Device> = (SERVICES.iter().zip(&self.services))
                .filter_map(|(name, service)| {
                    Some(super::Device {
                        name: full_name(name),
                        owner: service.owner.clone()?,
                        ..super::Device::default()
                    })
                })
                .collect();
            super::feed(&mut self.bridge, self.now, &super::answer(&call, &there));
        }
    }

    fn new_owner(&mut self, service: usize) -> (String, String) {
        self.owners += 1;
        let new = format!(":1.{}", self.owners);
        let old = self.services[service].owner.replace(new.clone());
        (old.unwrap_or_default(), new)
    }

    /// A service with some of the paths.
    fn fill(&mut self, service: usize, some: u8, instance: u8) {
        let items = (PATHS.iter().enumerate())
            .filter(|(at, _)| (usize::from(some) >> (at % 8)) & 1 == 1)
            .map(|(at, _)| {
                let path = path_of(service, at as u8);
                let item = Item {
                    value: value(some.wrapping_add(at as u8)),
                    max: None,
                };
                (path.to_owned(), item)
            })
            .collect();
        self.services[service].items = items;
        if let Some(instance) = instance_value(service, instance) {
            let item = Item {
                value: instance,
                max: None,
            };
            self.services[service]
                .items
                .insert("/DeviceInstance".into(), item);
        }
    }

    fn appear(&mut self, service: usize, some: u8, instance: u8) {
        if self.services[service].owner.is_some() {
            return;
        }
        self.fill(service, some, instance);
        let (_, new) = self.new_owner(service);
        self.hear(&super::name_owner_changed(
            &full_name(SERVICES[service]),
            "",
            &new,
        ));
    }

    fn leave(&mut self, service: usize) {
        let Some(old) = self.services[service].owner.take() else {
            return;
        };
        self.services[service] = Service::default();
        let name = full_name(SERVICES[service]);
        let unanswered = self.calls_to(&name, &old);
        self.hear(&super::name_owner_changed(&name, &old, ""));
        self.no_reply(&unanswered);
    }

    fn restart(&mut self, service: usize, some: u8, instance: u8) {
        let there = &mut self.services[service];
        there.limits_unsure |= there.items.values().any(|item| item.max.is_some());
        self.fill(service, some, instance);
        let (old, new) = self.new_owner(service);
        let name = full_name(SERVICES[service]);
        let unanswered = self.calls_to(&name, &old);
        self.hear(&super::name_owner_changed(&name, &old, &new));
        self.no_reply(&unanswered);
    }

    fn calls_to(&mut self, name: &str, owner: &str) -> Vec<Call> {
        self.calls.append(&mut self.late);
        let (to, others) =
            (self.calls.drain(..)).partition(|call| [name, owner].contains(&&*call.destination));
        self.calls = others;
        to
    }

    fn no_reply(&mut self, calls: &[Call]) {
        for call in calls {
            let error = super::error(BUS, call.id.serial(), "org.freedesktop.DBus.Error.NoReply");
            self.hear(&error);
        }
    }

    fn change(&mut self, service: usize, paths: &[u8], n: u8) {
        let Some(owner) = self.services[service].owner.clone() else {
            return;
        };
        let mut items = Vec::new();
        for (at, path) in paths.iter().enumerate() {
            let path = path_of(service, *path);
            let new = value(n.wrapping_add(at as u8));
            let place = self.services[service].items.entry(path.into());
            let item = place.or_insert(Item {
                value: invalid(),
                max: None,
            });
            item.value = new.clone();
            items.push((path, new, "some text"));
        }
        let bytes = match &items[..] {
            [(path, value, _)] => {
                super::properties_changed(&owner, path, [("Value", value.clone())])
            }
            _ => super::items_changed(&owner, items),
        };
        self.hear(&bytes);
    }

    /// A limit alone; a tree has no place for limits, so that one announces none.
    fn limit(&mut self, service: usize, path: u8, n: u8) {
        let path = path_of(service, path);
        let there = &mut self.services[service];
        let (Some(owner), Some(item)) = (&there.owner, there.items.get_mut(path)) else {
            return;
        };
        if service == TREE {
            return;
        }
        let max = V::I(i32::from(n));
        item.max = Some(max.clone());
        let bytes = super::properties_changed(owner, path, [("Max", max)]);
        self.hear(&bytes);
    }

    fn set_instance(&mut self, service: usize, n: u8) {
        let (Some(owner), Some(value)) = (
            self.services[service].owner.clone(),
            instance_value(service, n),
        ) else {
            return;
        };
        let item = Item {
            value: value.clone(),
            max: None,
        };
        let items = &mut self.services[service].items;
        items.insert("/DeviceInstance".into(), item);
        self.hear(&super::properties_changed(
            &owner,
            "/DeviceInstance",
            [("Value", value)],
        ));
    }

    fn lose_bus(&mut self) {
        self.bus_up = false;
        self.calls.clear();
        self.late.clear();
        self.bridge.bus_disconnected(self.now);
    }

    fn find_bus(&mut self) {
        self.bus_up = true;
        self.bridge.bus_connected(self.now);
        self.take_calls();
    }

    fn answer_all(&mut self) {
        while let Some(call) = self.calls.pop() {
            self.answer(&call, 0);
        }
    }

    fn answer(&mut self, call: &Call, mood: u8) {
        let to = &*call.destination;
        let is_called = |at: &usize| {
            let owner = self.services[*at].owner.as_deref();
            owner.is_some_and(|owner| to == owner || to == full_name(SERVICES[*at]))
        };
        let Some(at) = (0..SERVICES.len()).find(is_called) else {
            return self.no_reply(std::slice::from_ref(call));
        };
        // What refuses its list is asked for its tree, which has no limits (§2.2).
        if matches!(mood, 5 | 6) && call.method == Method::GetItems {
            self.services[at].limits_unsure = true;
        }
        let owner = self.services[at].owner.clone().unwrap();
        let refuse = |name: &str| {
            super::error(
                &owner,
                call.id.serial(),
                &format!("org.freedesktop.DBus.Error.{name}"),
            )
        };
        let bytes = match (mood, &call.method) {
            (5, _) => refuse("Failed"),
            (6, _) => super::reply(&owner, call.id.serial(), &[s("nonsense"), V::I(1)]),
            // It comes at the end: a service that owes an answer is asked nothing more (§2.9).
            (7, _) => return self.late.push(call.clone()),
            (_, Method::GetItems) if at == TREE => refuse("UnknownMethod"),
            (_, Method::GetItems) => super::reply(&owner, call.id.serial(), &[self.all_items(at)]),
            (_, Method::GetValue) => match self.get_value(at, &call.path) {
                Some(value) => super::reply(&owner, call.id.serial(), &[variant(value)]),
                None => refuse("UnknownObject"),
            },
            (_, Method::SetValue(new)) => {
                let new = wire_value(new);
                let Some(item) = self.services[at].items.get_mut(&*call.path) else {
                    return self.hear(&refuse("UnknownObject"));
                };
                item.value = new.clone();
                self.hear(&super::properties_changed(
                    &owner,
                    &call.path,
                    [("Value", new)],
                ));
                super::reply(&owner, call.id.serial(), &[V::I(0)])
            }
            _ => refuse("UnknownMethod"),
        };
        self.hear(&bytes);
    }

    fn all_items(&self, service: usize) -> V {
        let items = self.services[service].items.iter().map(|(path, item)| {
            let value = [("Value", item.value.clone())].into_iter();
            let max = item.max.clone().map(|max| ("Max", max));
            (s(path), vardict(value.chain(max)))
        });
        super::wire::dict("s", "a{sv}", items)
    }

    fn get_value(&self, service: usize, path: &str) -> Option<V> {
        let items = &self.services[service].items;
        if let Some(item) = items.get(path) {
            return Some(item.value.clone());
        }
        let node = format!("{}/", path.trim_end_matches('/'));
        let below: Vec<_> = (items.iter())
            .filter_map(|(path, item)| Some((path.strip_prefix(&node)?, item.value.clone())))
            .collect();
        (!below.is_empty()).then(|| vardict(below))
    }

    // The brokers and their clients.
}
