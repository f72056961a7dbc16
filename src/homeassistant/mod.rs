//! Home Assistant's MQTT discovery: what a device is called and shown as there.
//!
//! ```text
//! schema rows ──▶ entity: which, of what kind ──▶ payload: one JSON document per device
//! words.toml ───▶   │                               ▲
//! values, limits ───┘        about: name, model, … ─┘
//! ```
//!
//! The facts come from the caller, and when a configuration is published is decided in
//! `bridge::discovery`. Keys and words are those of Home Assistant's documentation of "MQTT
//! discovery"; tests/core/discovery.rs holds every configuration against them.

pub mod entity;
mod name;
pub mod payload;
pub mod words;

use serde::Deserialize;
use serde_json::Value;

use self::entity::Kind;
use self::payload::About;
use self::words::Words;
use crate::model::name::PortalId;

/// What Home Assistant says when it has started.
pub const BIRTH: &[u8] = b"online";

/// An item's value as it is published (§3).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Published {
    value: Value,
    min: Value,
    max: Value,
}

impl Published {
    /// Reads a payload; what is none says nothing.
    pub fn read(payload: &[u8]) -> Published {
        serde_json::from_slice(payload).unwrap_or_default()
    }

    /// What kind of value it is.
    pub fn kind(&self) -> Kind {
        match &self.value {
            Value::Null => Kind::Nothing,
            Value::Bool(_) => Kind::Bool,
            Value::Number(number) => {
                let value = number.as_f64().unwrap_or_default();
                if number.is_f64() {
                    Kind::Number(value)
                } else {
                    Kind::Integer(value)
                }
            }
            Value::String(text) => Kind::Text(text.chars().count()),
            Value::Array(_) | Value::Object(_) => Kind::Other,
        }
    }

    /// The lowest and the highest value that the service announces.
    pub fn limits(&self) -> (Option<f64>, Option<f64>) {
        (self.min.as_f64(), self.max.as_f64())
    }

    /// The value as what a device says of itself: a text, or the number of a version.
    pub fn text(&self) -> Option<String> {
        match &self.value {
            Value::String(text) if !text.trim().is_empty() => Some(name::cut(text.trim())),
            Value::Number(number) => number.as_u64().map(version),
            Value::Null
            | Value::Bool(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        }
    }
}

/// A version as Victron counts it: the digits of the hexadecimal number, and in a third byte which
/// preview it is, 0xff for none.
fn version(number: u64) -> String {
    let (number, preview) = if number > 0xffff {
        (
            number >> 8,
            Some(number & 0xff).filter(|&preview| preview != 0xff),
        )
    } else {
        (number, None)
    };
    let release = if number > 0xff {
        format!("{:x}.{:02x}", number >> 8, number & 0xff)
    } else {
        format!("{number:x}")
    };
    match preview {
        Some(preview) => format!("{release}-beta-{preview:02x}"),
        None => release,
    }
}

impl About {
    /// What a device says of itself. `look` gives the value of its items.
    /// `kind` is what a device of its type is called, and whether there is one alone.
    pub fn read(
        key: &str,
        (kind, alone): (Option<&str>, bool),
        words: &Words,
        look: impl Fn(&str) -> Option<Published>,
    ) -> About {
        let first = |paths: &[Box<str>]| {
            let mut texts = paths.iter().filter_map(|path| look(path)?.text());
            texts.next().unwrap_or_default()
        };
        let items = &words.device;
        let mut name = first(&items.name);
        if name.is_empty() && *key == *items.gateway {
            items.gateway_name.as_ref().clone_into(&mut name);
        } else if name.is_empty() {
            let (own, instance) = key.split_once('/').unwrap_or((key, ""));
            let kind = kind.map_or_else(|| name::capital(own), str::to_owned);
            name = if alone || instance.is_empty() {
                kind
            } else {
                name::cut(&format!("{kind} {instance}"))
            };
        }
        let mut manufacturer = first(&items.manufacturer);
        let product = look(&items.product).and_then(|product| product.value.as_u64());
        if manufacturer.is_empty() && product.is_some_and(|product| items.is_made(product)) {
            items.maker.as_ref().clone_into(&mut manufacturer);
        }
        let mut areas = items.area.iter().filter_map(|(path, areas)| {
            let code = look(path)?.value.as_i64()?;
            areas.get(&*code.to_string())
        });
        let area = areas.next().map(ToString::to_string).unwrap_or_default();
        About {
            name,
            manufacturer,
            area,
            url: String::new(),
            model: first(&items.model),
            serial: first(&items.serial),
            software: first(&items.software),
            hardware: first(&items.hardware),
        }
    }
}

/// What Home Assistant knows all devices of a bridge by, and each of them.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: Box<str>,
    node: Box<str>,
    head: Box<str>,
}

impl Names {
    /// The names under a discovery prefix, such as `homeassistant`.
    pub fn new(prefix: &str, portal: &PortalId) -> Names {
        let node = format!("{}_{portal}", env!("CARGO_PKG_NAME"));
        Names {
            prefix: prefix.into(),
            head: format!("{prefix}/device/{node}/").into(),
            node: node.into(),
        }
    }

    /// The discovery prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the topics of our configurations begin with. No other program's do.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The filter of all our configurations.
    pub fn filter(&self) -> String {
        format!("{}+{CONFIG}", self.head)
    }

    /// Which device's configuration has this topic: its object id.
    pub fn object_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let object = topic.strip_prefix(&*self.head)?.strip_suffix(CONFIG)?;
        (!object.contains('/')).then_some(object)
    }

    /// The object id of the device `<type>/<instance>`: letters, digits, `_` and `-`.
    pub fn object(key: &str) -> Box<str> {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') {
                c
            } else {
                '_'
            }
        };
        let odd = |c: char| !(c == '/' || plain(c) == c);
        let id: String = key.chars().map(plain).collect();
        if key.contains(odd) {
            // Two texts that differ in nothing else are to have ids that differ.
            let sum = key.bytes().fold(0_u32, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(u32::from(byte))
            });
            return format!("{id}_{sum:08x}").into();
        }
        id.into()
    }

    /// What the device with that object id is known by.
    pub fn identifier(&self, object: &str) -> String {
        format!("{}_{object}", self.node)
    }
}

/// The end of a configuration's topic.
pub const CONFIG: &str = "/config";

/// The end of the topic that tells where a device is.
pub const LOCATION: &str = "/location";

/// The topic on which Home Assistant says that it is there.
pub fn status_topic(prefix: &str) -> String {
    format!("{prefix}/status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_on_the_device() {
        for (number, expected) in [
            (776, "3.08"),
            (343, "1.57"),
            (1058, "4.22"),
            (2, "2"),
            (0, "0"),
            (69_635, "1.10-beta-03"),
            (0x0102_30ff, "102.30"),
            (0x01_10ff, "1.10"),
        ] {
            assert_eq!(version(number), expected, "{number}");
        }
    }

    #[test]
    fn a_device_is_called_by_the_first_name_it_has() {
        let words = Words::built_in().unwrap();
        let about = |key: &str, items: &[(&str, &str)]| {
            let look = |path: &str| {
                let (_, value) = items.iter().find(|(own, _)| *own == path)?;
                Some(Published::read(
                    format!("{{\"value\": {value}}}").as_bytes(),
                ))
            };
            About::read(key, (None, false), &words, look)
        };
        let both = [
            ("/CustomName", "\"House\""),
            ("/ProductName", "\"SmartShunt\""),
            ("/FirmwareVersion", "776"),
        ];
        let found = about("battery/288", &both);
        assert_eq!((&*found.name, &*found.model), ("House", "SmartShunt"));
        assert_eq!((&*found.software, &*found.hardware), ("3.08", ""));
        let unnamed = [("/CustomName", "\" \""), ("/ProductName", "\"SmartShunt\"")];
        assert_eq!(about("battery/288", &unnamed).name, "SmartShunt");
        assert_eq!(
            about("battery/288", &[("/ProductName", "null")]).name,
            "Battery 288"
        );
        assert_eq!(about("system/0", &[]).name, "GX device");
    }

    #[test]
    fn a_long_text_of_a_device_is_cut_on_a_character() {
        let words = Words::built_in().unwrap();
        let long = "ü".repeat(150_000);
        let look = |_: &str| {
            let payload = format!("{{\"value\": \"  {long}\"}}");
            Some(Published::read(payload.as_bytes()))
        };
        let about = About::read("battery/288", (None, false), &words, look);
        let About {
            name,
            manufacturer,
            model,
            serial,
            software,
            hardware,
            ..
        } = about;
        for text in [name, manufacturer, model, serial, software, hardware] {
            assert_eq!(text, "ü".repeat(100));
        }
        let key = format!("battery/{}", "é".repeat(500));
        assert_eq!(
            About::read(&key, (None, false), &words, |_| None)
                .name
                .chars()
                .count(),
            100
        );
    }

    #[test]
    fn our_topics_are_told_from_others() {
        let portal = PortalId::new("e0ff50a097c0").unwrap();
        let names = Names::new("homeassistant", &portal);
        let topic = "homeassistant/device/dbus-mqtt_e0ff50a097c0/battery_288/config";
        assert_eq!(names.object_of(topic), Some("battery_288"));
        for other in [
            "homeassistant/device/dbus-mqtt_e0ff50a097c/battery_288/config",
            "homeassistant/device/battery_288/config",
            "homeassistant/device/dbus-mqtt_e0ff50a097c0/a/b/config",
            "homeassistant/sensor/dbus-mqtt_e0ff50a097c0/battery_288/config",
            "homeassistant/device/dbus-mqtt_e0ff50a097c0/battery_288/state",
        ] {
            assert_eq!(names.object_of(other), None, "{other}");
        }
        assert_eq!(&*Names::object("battery/288"), "battery_288");
        assert_ne!(Names::object("vecan/a b"), Names::object("vecan/a.b"));
        assert!(Names::object("vecan/a b").starts_with("vecan_a_b_"));
        assert_eq!(
            names.identifier("battery_288"),
            "dbus-mqtt_e0ff50a097c0_battery_288"
        );
    }

    #[test]
    fn what_is_no_payload_says_nothing() {
        assert_eq!(Published::read(b"").kind(), Kind::Nothing);
        assert_eq!(Published::read(b"{\"value\": null}").kind(), Kind::Nothing);
        assert_eq!(
            Published::read(b"{\"value\": 5}").kind(),
            Kind::Integer(5.0)
        );
        assert_eq!(
            Published::read(b"{\"value\": 5.0}").kind(),
            Kind::Number(5.0)
        );
        assert_eq!(
            Published::read(b"{\"value\": \"\xc3\xa9\"}").kind(),
            Kind::Text(1)
        );
        assert_eq!(Published::read(b"{\"value\": [1]}").kind(), Kind::Other);
        let ranged = Published::read(b"{\"value\": 5, \"min\": 0, \"max\": 9.5}");
        assert_eq!(ranged.limits(), (Some(0.0), Some(9.5)));
    }
}
