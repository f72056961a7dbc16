//! A fake Venus service: its table of items, what it answers in good order, and the signals it sends.

use std::collections::BTreeMap;

use super::json::payload;
use super::rig::n;
use super::wire::{Message, V, dict, invalid, s, vardict, variant};

pub const BUS_ITEM: &str = "com.victronenergy.BusItem";

/// A service: its name and its items.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub items: BTreeMap<String, Item>,
}

/// One item as `GetItems` gives it.
#[derive(Clone, Debug)]
pub struct Item {
    pub value: V,
    pub min: Option<V>,
    pub max: Option<V>,
    pub text: Option<String>,
}

impl Service {
    pub fn new(name: &str) -> Service {
        Service {
            name: name.to_owned(),
            items: BTreeMap::new(),
        }
    }

    /// `com.victronenergy.<type>.<tail>` with this `/DeviceInstance`.
    pub fn device(service_type: &str, tail: &str, instance: i32) -> Service {
        Service::new(&format!("com.victronenergy.{service_type}.{tail}"))
            .item("/DeviceInstance", V::I(instance))
    }

    pub fn item(mut self, path: &str, value: V) -> Service {
        self.items.insert(
            path.to_owned(),
            Item {
                value,
                min: None,
                max: None,
                text: None,
            },
        );
        self
    }

    pub fn ranged(mut self, path: &str, value: V, min: V, max: V) -> Service {
        let item = Item {
            value,
            min: Some(min),
            max: Some(max),
            text: None,
        };
        self.items.insert(path.to_owned(), item);
        self
    }
}

impl Service {
    /// The service type, as it stands in topics.
    pub fn kind(&self) -> &str {
        self.name.split('.').nth(2).unwrap()
    }

    /// What is published of it under this device instance, below the portal id.
    pub fn topics(&self, instance: impl std::fmt::Display) -> BTreeMap<String, String> {
        let topics = self.items.iter().map(|(path, item)| {
            let topic = n(&format!("{}/{instance}{path}", self.kind()));
            (
                topic,
                payload(&item.value, item.min.as_ref(), item.max.as_ref()),
            )
        });
        topics.collect()
    }
}

/// A battery monitor with what most tests look at: `/Soc`, 87.5.
pub fn battery() -> Service {
    Service::device("battery", "ttyO0", 258)
        .item("/Soc", V::D(87.5))
        .item("/Dc/0/Voltage", V::D(51.96))
        .item("/Dc/0/Current", V::D(-15.3))
        .item("/Dc/0/Temperature", invalid())
        .item("/ProductName", s("SmartShunt"))
        .item("/Serial", s("HQ1419K5H9C"))
}

/// An inverter/charger, with something to write.
pub fn vebus() -> Service {
    Service::device("vebus", "ttyO1", 257)
        .item("/Mode", V::U(3))
        .item("/State", V::U(4))
        .ranged("/Ac/In/1/CurrentLimit", V::D(50.0), V::D(0.0), V::D(100.0))
        .item("/ProductName", s("MultiPlus"))
}

pub const BATTERY: &str = "com.victronenergy.battery.ttyO0";
pub const VEBUS: &str = "com.victronenergy.vebus.ttyO1";

impl Item {
    /// The inner dict of `GetItems` and `ItemsChanged`.
    pub fn facets(&self) -> V {
        let text = self
            .text
            .clone()
            .unwrap_or_else(|| format!("{:?}", self.value));
        let mut entries = vec![("Value", self.value.clone()), ("Text", s(&text))];
        entries.extend(self.min.clone().map(|min| ("Min", min)));
        entries.extend(self.max.clone().map(|max| ("Max", max)));
        vardict(entries)
    }
}

/// A call that came in.
#[derive(Clone, Debug)]
pub struct Call {
    pub serial: u32,
    pub sender: String,
    pub destination: String,
    pub path: String,
    pub interface: String,
    pub member: String,
    pub args: Vec<V>,
}

impl Call {
    pub fn is(&self, member: &str, path: &str) -> bool {
        self.member == member && self.path == path
    }

    /// The argument of a `SetValue`, out of its variant.
    pub fn written(&self) -> V {
        match self.args.as_slice() {
            [V::Variant(inner)] => inner.as_ref().clone(),
            other => panic!("SetValue with {other:?}"),
        }
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// As a service in good order would.
    Normal,
    Return(Vec<V>),
    Error(&'static str),
    /// An error in these words.
    Says(&'static str, &'static str),
    /// These bytes under this signature.
    Raw(&'static str, Vec<u8>),
    /// Nothing yet: [`Peer::answer`] or [`Peer::release`] does.
    Later,
}

/// What a service in good order answers, and the signal that comes with it.
pub fn serve(
    services: &mut [Service],
    call: &Call,
) -> Result<(Vec<V>, Option<Message>), &'static str> {
    let at = services
        .iter()
        .position(|service| service.name == call.destination)
        .or_else(|| {
            services
                .iter()
                .position(|service| service.items.contains_key(&call.path))
        })
        .or(if services.is_empty() { None } else { Some(0) })
        .ok_or("org.freedesktop.DBus.Error.UnknownObject")?;
    let items = &mut services[at].items;
    let below = format!("{}/", call.path.trim_end_matches('/'));
    if let ("SetValue", Some(item)) = (call.member.as_str(), items.get_mut(&call.path)) {
        item.value = call.written();
        let signal = properties_changed(&call.path, item.value.clone());
        return Ok((vec![V::I(0)], Some(signal)));
    }
    match (call.member.as_str(), items.get(&call.path)) {
        ("GetItems", _) if call.path == "/" => {
            let items = items.iter().map(|(path, item)| (s(path), item.facets()));
            Ok((vec![dict("s", "a{sv}", items)], None))
        }
        ("GetValue", Some(item)) => Ok((vec![variant(item.value.clone())], None)),
        ("GetValue", None) if items.keys().any(|path| path.starts_with(&below)) => {
            let inner = items
                .iter()
                .filter_map(|(path, item)| Some((path.strip_prefix(&below)?, item.value.clone())));
            Ok((vec![variant(vardict(inner))], None))
        }
        ("GetText", Some(item)) => Ok((vec![s(&item.text.clone().unwrap_or_default())], None)),
        ("Introspect", _) => Ok((vec![s(&introspect(items.keys(), &call.path))], None)),
        ("Ping", _) => Ok((Vec::new(), None)),
        ("GetItems" | "GetValue" | "GetText" | "SetValue", _) => {
            Err("org.freedesktop.DBus.Error.UnknownObject")
        }
        _ => Err("org.freedesktop.DBus.Error.UnknownMethod"),
    }
}

/// The introspection of a node: its interface where it is an item, and its children.
fn introspect<'a>(paths: impl Iterator<Item = &'a String>, node: &str) -> String {
    let below = format!("{}/", node.trim_end_matches('/'));
    let mut xml = String::from(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
         \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n",
    );
    let mut children = Vec::new();
    for path in paths {
        if path == node {
            xml += "  <interface name=\"com.victronenergy.BusItem\">\n    \
                    <method name=\"GetValue\"><arg type=\"v\" direction=\"out\"/></method>\n  </interface>\n";
        } else if let Some(rest) = path.strip_prefix(&below) {
            let child = rest.split('/').next().unwrap_or_default();
            if !children.contains(&child) {
                children.push(child);
            }
        }
    }
    for child in children {
        xml += &format!("  <node name=\"{child}\"/>\n");
    }
    xml + "</node>\n"
}

/// A `PropertiesChanged` signal with a value and its text.
pub fn properties_changed(path: &str, value: V) -> Message {
    let text = format!("{value:?}");
    Message::signal(path, BUS_ITEM, "PropertiesChanged")
        .with(&[vardict([("Value", value), ("Text", s(&text))])])
}

/// An `ItemsChanged` signal with the values of several items.
pub fn items_changed<'a>(items: impl IntoIterator<Item = (&'a str, V)>) -> Message {
    let items = items.into_iter().map(|(path, value)| {
        let text = format!("{value:?}");
        (s(path), vardict([("Value", value), ("Text", s(&text))]))
    });
    Message::signal("/", BUS_ITEM, "ItemsChanged").with(&[dict("s", "a{sv}", items)])
}
