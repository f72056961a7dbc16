//! Names: portal ids, service names and types, device instances, item paths (§1).
//!
//! A name in hand is a valid name. Topics are put together from these in [`super::topic`].

use std::fmt;

use super::value::Value;

/// What every service name of Venus OS begins with (§1).
pub const SERVICE_PREFIX: &str = "com.victronenergy.";

/// Longest portal id taken; real ones have 12 characters.
pub const PORTAL_ID_BYTES_MAX: usize = 64;

/// Longest item path taken; the longest seen on real devices has 85 bytes.
pub const PATH_BYTES_MAX: usize = 1024;

/// Most levels of a topic (§4.7). mosquitto closes the connection of who publishes to more than 200;
/// the longest path seen on real devices has 11.
pub const TOPIC_LEVELS_MAX: usize = 100;

/// Most levels of an item path: before it are `N`, the portal id, the type and the instance.
const PATH_LEVELS_MAX: usize = TOPIC_LEVELS_MAX - 4;

/// The least and the greatest number that a D-Bus integer can be.
const INSTANCE_MIN: i128 = i64::MIN as i128;
const INSTANCE_MAX: i128 = u64::MAX as i128;

/// The VRM portal id of a GX device, e.g. `e0ff50a097c0` (§1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortalId(Box<str>);

/// A text that is not a portal id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum InvalidName {
    /// Nothing is there.
    #[error("the portal id is empty")]
    Empty,
    /// Too long to be one.
    #[error("the portal id has {found} characters, more than {PORTAL_ID_BYTES_MAX}")]
    TooLong { found: usize },
    /// A character that a topic level or a client id cannot have.
    #[error(
        "the portal id {text:?} has the character {character:?}; only letters, digits, - and _ can be in it"
    )]
    Character { text: Box<str>, character: char },
}

impl PortalId {
    /// Takes `text` as a portal id.
    pub fn new(text: &str) -> Result<PortalId, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > PORTAL_ID_BYTES_MAX {
            return Err(InvalidName::TooLong { found: text.len() });
        }
        let wrong = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        match text.chars().find(wrong) {
            Some(character) => Err(InvalidName::Character {
                text: text.into(),
                character,
            }),
            None => Ok(PortalId(text.into())),
        }
    }

    /// A stand-in for one that is not known yet; never published.
    pub fn unknown() -> PortalId {
        PortalId("PORTAL-ID".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A bus name that begins with `com.victronenergy.`, and thus names a service (§1).
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct ServiceName(Box<str>);

impl ServiceName {
    /// The service name in `name`, or `None` where the bus name is somebody else's, or its service
    /// type could be no topic level.
    pub fn new(name: &str) -> Option<ServiceName> {
        let service_type = name.strip_prefix(SERVICE_PREFIX)?.split('.').next()?;
        is_topic_level(service_type).then(|| ServiceName(name.into()))
    }

    /// The whole bus name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The service type: the third dot-separated part.
    pub fn service_type(&self) -> &str {
        let rest = self.0.strip_prefix(SERVICE_PREFIX).unwrap_or_default();
        rest.split_once('.').map_or(rest, |(first, _)| first)
    }

    /// Whether its service type is all that it says, as in `com.victronenergy.settings`: there is one
    /// such service, and it is Venus OS's own (§2.7).
    pub fn is_bare(&self) -> bool {
        !self
            .0
            .strip_prefix(SERVICE_PREFIX)
            .unwrap_or_default()
            .contains('.')
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The device instance of a service: mostly a number (§1). An identifier may be no topic level; its
/// service is left out (§4.7).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceInstance(Box<str>);

impl DeviceInstance {
    /// The instance that a number is.
    pub fn number(number: i128) -> DeviceInstance {
        DeviceInstance(number.to_string().into())
    }

    /// The instance that the value of `/DeviceInstance` gives, or `None` where it gives none, so that
    /// `/Identifier` counts, or 0.
    ///
    /// | value | instance | why |
    /// | --- | --- | --- |
    /// | an integer of any type, 2147483648 and -1 too | that number | all 64 bits, as values have |
    /// | `4.0`, `4.5` | 4 | both predecessors cut a fraction off |
    /// | `true`, `false` | 1, 0 | both predecessors took them as numbers |
    /// | `"4"`, `" 7 "`, `"007"`, `"-1"`, `"+5"`, `"4.0"` | 4, 7, 7, -1, 5, 4 | a text that is a number |
    /// | `"4a"`, `""`, `"0x10"`, `"1e3"` | none | no number |
    /// | NaN, infinite, or beyond 64 bits, also as a text | none | no number that a service can mean |
    /// | a list (the empty one is *invalid*), a dict, a struct | none | no number |
    #[allow(
        clippy::cast_possible_truncation, // a fraction is cut off, and the range is checked
        clippy::cast_precision_loss
    )]
    pub fn of_value(value: &Value<'_>) -> Option<DeviceInstance> {
        let number = match *value {
            Value::Int(_, number) => number.into(),
            Value::Uint(_, number) => number.into(),
            Value::Bool(value) => value.into(),
            Value::Double(number)
                if number > INSTANCE_MIN as f64 && number < INSTANCE_MAX as f64 =>
            {
                number as i128
            }
            Value::Text(_, text) => {
                let text = text.trim();
                let (number, fraction) = text.split_once('.').unwrap_or((text, "0"));
                let digits =
                    |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                number.parse().ok().filter(|_| digits(fraction))?
            }
            Value::Double(_) | Value::Invalid | Value::Compound(_) => return None,
        };
        (INSTANCE_MIN..=INSTANCE_MAX)
            .contains(&number)
            .then(|| DeviceInstance::number(number))
    }

    /// The instance that the text in `/Identifier` gives, without what separates levels (§1); `None`
    /// where the text is empty, or too long for a topic.
    pub fn identifier(text: &str) -> Option<DeviceInstance> {
        if text.len() > PATH_BYTES_MAX {
            return None;
        }
        let reduce = |c| {
            if matches!(c, '+' | '#' | '/' | '\0') {
                '_'
            } else {
                c
            }
        };
        let reduced: String = text.chars().map(reduce).collect();
        (!reduced.is_empty()).then(|| DeviceInstance(reduced.into()))
    }

    /// The instance of a service that tells none: 0.
    pub fn absent() -> DeviceInstance {
        DeviceInstance("0".into())
    }

    /// Whether it can be a level of a topic: an identifier with control characters cannot (§4.7).
    pub fn is_topic_level(&self) -> bool {
        is_topic_level(&self.0)
    }

    /// The instance as it stands in topics.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether every broker takes a topic with this character in it. None takes wildcards and NUL
/// [MQTT-4.7.1-1, MQTT-4.7.3-2]; a broker may close the connection for a control character or a
/// non-character [MQTT-1.5.3], and mosquitto does.
pub fn is_topic_char(c: char) -> bool {
    let non_character = u32::from(c) & 0xfffe == 0xfffe || matches!(c, '\u{fdd0}'..='\u{fdef}');
    !(matches!(c, '+' | '#') || c.is_control() || non_character)
}

/// Whether `text` can be one level of a topic.
pub fn is_topic_level(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c != '/' && is_topic_char(c))
}

/// Whether the D-Bus path `path` can follow the device instance in a topic (§4.7): it begins with a
/// slash, it has not too many levels, and every one of them is a topic level.
pub fn is_topic_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && path.strip_prefix('/').is_some_and(|levels| {
            levels.split('/').all(is_topic_level) && levels.split('/').count() <= PATH_LEVELS_MAX
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::{IntType, TextType, UintType};

    #[test]
    fn portal_ids_are_one_plain_topic_level() {
        assert_eq!(
            PortalId::new("e0ff50a097c0").unwrap().as_str(),
            "e0ff50a097c0"
        );
        assert_eq!(PortalId::new(""), Err(InvalidName::Empty));
        assert!(matches!(
            PortalId::new("a/b"),
            Err(InvalidName::Character { character: '/', .. })
        ));
        assert!(matches!(
            PortalId::new(&"a".repeat(65)),
            Err(InvalidName::TooLong { found: 65 })
        ));
    }

    #[test]
    fn the_service_type_is_the_third_part_of_the_name() {
        let check = |name: &str, expected: Option<&str>| {
            let found = ServiceName::new(name);
            assert_eq!(
                found.as_ref().map(ServiceName::service_type),
                expected,
                "{name}"
            );
        };
        check("com.victronenergy.battery.ttyO0", Some("battery"));
        check("com.victronenergy.system", Some("system"));
        check("com.victronenergy.pvinverter.a.b", Some("pvinverter"));
        let is_bare = |name| ServiceName::new(name).unwrap().is_bare();
        assert!(is_bare("com.victronenergy.settings"));
        assert!(!is_bare("com.victronenergy.settings.dummydriver"));
        check("com.victronenergy.", None);
        check("com.victronenergy", None);
        check("com.victronenergyx.battery", None);
        check("org.freedesktop.DBus", None);
    }

    #[test]
    fn s2_7_a_bare_name_has_three_parts() {
        let check = |name: &str, expected: bool| {
            assert_eq!(
                ServiceName::new(name).unwrap().is_bare(),
                expected,
                "{name}"
            );
        };
        check("com.victronenergy.settings", true);
        check("com.victronenergy.settings.dummydriver", false);
        check("com.victronenergy.system.mod", false);
        check("com.victronenergy.pvinverter.a.b", false);
    }

    #[test]
    fn s1_what_a_device_instance_becomes() {
        let check = |value: Value<'_>, expected: Option<&str>| {
            let found = DeviceInstance::of_value(&value);
            let found = found.as_ref().map(DeviceInstance::as_str);
            assert_eq!(found, expected, "{value:?}");
        };
        for (number, expected) in [
            (4, "4"),
            (-1, "-1"),
            (1 << 31, "2147483648"),
            (i64::MIN, "-9223372036854775808"),
        ] {
            check(Value::Int(IntType::I64, number), Some(expected));
        }
        check(Value::Uint(UintType::U8, 4), Some("4"));
        let max = "18446744073709551615";
        check(Value::Uint(UintType::U64, u64::MAX), Some(max));
        for (number, expected) in [
            (4.0, "4"),
            (4.5, "4"),
            (-0.5, "0"),
            (-0.0, "0"),
            (1e9, "1000000000"),
        ] {
            check(Value::Double(number), Some(expected));
        }
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e20, -1e19] {
            check(Value::Double(number), None);
        }
        check(Value::Bool(true), Some("1"));
        check(Value::Bool(false), Some("0"));
        for (text, expected) in [
            ("4", Some("4")),
            (" 7 ", Some("7")),
            ("\t7\r\n", Some("7")),
            ("007", Some("7")),
            ("-1", Some("-1")),
            ("+5", Some("5")),
            ("-0", Some("0")),
            ("4.0", Some("4")),
            ("4.5", Some("4")),
            ("2147483648", Some("2147483648")),
            (max, Some(max)),
            ("18446744073709551616", None),
            ("4a", None),
            ("a4", None),
            ("", None),
            (" ", None),
            ("-", None),
            ("4.", None),
            (".5", None),
            ("4.0.1", None),
            ("4.-1", None),
            ("4 5", None),
            ("0x10", None),
            ("1e3", None),
            ("1_000", None),
            ("\u{664}", None),
            ("4\0", None),
        ] {
            check(Value::Text(TextType::String, text), expected);
        }
        check(Value::Text(TextType::ObjectPath, "/4"), None);
        check(Value::Invalid, None);
    }

    #[test]
    fn an_identifier_is_reduced_to_one_topic_level() {
        assert_eq!(
            DeviceInstance::identifier("can0/+#\0x").unwrap().as_str(),
            "can0____x"
        );
        for bad in ["a\u{1}", "a\u{ffff}", "a\n"] {
            assert!(!DeviceInstance::identifier(bad).unwrap().is_topic_level());
        }
        assert_eq!(DeviceInstance::identifier(""), None);
        assert_eq!(DeviceInstance::identifier(&"x".repeat(100_000)), None);
        assert_eq!(DeviceInstance::number(-3).as_str(), "-3");
    }

    #[test]
    fn paths_that_mqtt_forbids_are_known() {
        for good in [
            "/Soc",
            "/Dc/0/Voltage",
            "/ä/b c",
            "/\u{a0}\u{feff}\u{fffd}",
            "/\u{202e}",
            "/\u{1f50b}",
            "/$SYS",
            &"/a".repeat(96),
        ] {
            assert!(is_topic_path(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "Soc",
            "/a//b",
            "/a/",
            "/a+",
            "/#",
            "/a\0",
            "//",
            "/\u{1}",
            "/\u{1f}",
            "/\n",
            "/\u{7f}",
            "/\u{85}",
            "/\u{9f}",
            "/\u{fffe}",
            "/\u{ffff}",
            "/\u{1ffff}",
            "/\u{10fffe}",
            "/\u{fdd0}",
            "/\u{fdef}",
            &"/a".repeat(97),
        ] {
            assert!(!is_topic_path(bad), "{bad:?}");
        }
    }
}
