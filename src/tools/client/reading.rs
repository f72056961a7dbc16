//! A value as a notification brings it, and as people and programs read it: with the unit and the
//! meaning that the schema knows.
//!
//! Pure. What a broker hands out may be of anybody's making, so nothing of it reaches a terminal as
//! a control character.

use serde_json::{Map, Value};

use crate::model::outside::Outside;
use crate::model::topic::parse_address;
use crate::schema::rule::Rule;
use crate::schema::{self};

/// One value of one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The topic below the portal id.
    pub topic: String,
    /// The value; `None` where the topic was taken back: the device is gone, or nobody asks.
    pub value: Option<Value>,
    /// The least that the device takes, where it says so.
    pub min: Option<Value>,
    /// The most.
    pub max: Option<Value>,
}

/// A value for people, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The value.
    pub value: String,
    /// Its unit, or what it means in brackets; empty where neither is known.
    pub meaning: String,
}

impl Reading {
    /// Reads a payload. What is not a payload of a bridge is a text.
    pub fn parse(topic: &str, payload: &[u8]) -> Reading {
        let mut reading = Reading {
            topic: topic.to_owned(),
            value: None,
            min: None,
            max: None,
        };
        if payload.is_empty() {
            return reading;
        }
        match serde_json::from_slice(payload) {
            Ok(Value::Object(mut object)) if object.contains_key("value") => {
                reading.value = object.remove("value");
                reading.min = object.remove("min");
                reading.max = object.remove("max");
            }
            Ok(other) => reading.value = Some(other),
            Err(_) => reading.value = Some(String::from_utf8_lossy(payload).into()),
        }
        reading
    }

    /// What the schema says of the topic.
    pub fn rule(&self) -> Rule {
        rule(&self.topic)
    }

    /// The value for people.
    pub fn words(&self) -> Words {
        match &self.value {
            Some(value) => words(value, &self.rule()),
            None => Words {
                value: "gone".to_owned(),
                meaning: String::new(),
            },
        }
    }

    /// The bare value: a text as it is, all else as JSON; nothing where it is gone.
    pub fn raw(&self) -> String {
        match &self.value {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    /// All that is known, for programs.
    pub fn json(&self) -> Map<String, Value> {
        let rule = self.rule();
        let mut object = Map::new();
        object.insert("topic".to_owned(), self.topic.as_str().into());
        let Some(value) = &self.value else {
            object.insert("gone".to_owned(), true.into());
            return object;
        };
        object.insert("value".to_owned(), value.clone());
        if !rule.unit.is_empty() {
            object.insert("unit".to_owned(), rule.unit.to_string().into());
        }
        if let Some(label) = label(value, &rule) {
            object.insert("label".to_owned(), label.into());
        }
        for (name, bound) in [("min", &self.min), ("max", &self.max)] {
            if let Some(bound) = bound {
                object.insert(name.to_owned(), bound.clone());
            }
        }
        object
    }
}

impl Words {
    /// Both parts in one.
    pub fn line(&self) -> String {
        if self.meaning.is_empty() {
            self.value.clone()
        } else {
            format!("{} {}", self.value, self.meaning)
        }
    }
}

/// What the schema says of a topic below the portal id.
pub fn rule(topic: &str) -> Rule {
    let address = parse_address(topic);
    address.map_or(Rule::DEFAULT, |address| {
        schema::lookup(address.service_type, address.path)
            .rule
            .clone()
    })
}

/// A value for people: numbers without the digits that only a computer sees, and what they mean.
pub fn words(value: &Value, rule: &Rule) -> Words {
    let text = match value {
        Value::Null => "no value".to_owned(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => shortened(float),
            Some(_) | None => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let meaning = match label(value, rule) {
        Some(label) => format!("({label})"),
        None if value.is_number() => rule.unit.to_string(),
        None => String::new(),
    };
    Words {
        value: Outside::new(&text).to_string(),
        meaning,
    }
}

/// What the schema calls this value: the name of its code, or the names of its bits.
fn label(value: &Value, rule: &Rule) -> Option<String> {
    let number = integer(value)?;
    if let Some((_, label)) = rule.labels.iter().find(|(code, _)| *code == number) {
        return Some(label.to_string());
    }
    let set = rule.bits.iter().filter(|(bit, _)| {
        let bit = u32::try_from(*bit)
            .ok()
            .and_then(|bit| 1_i64.checked_shl(bit));
        bit.is_some_and(|bit| number & bit != 0)
    });
    let names: Vec<&str> = set.map(|(_, name)| &**name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// A number without a fraction, whichever way the device writes it.
fn integer(value: &Value) -> Option<i64> {
    let float = || value.as_f64().filter(|float| float.fract() == 0.0);
    #[allow(clippy::cast_possible_truncation)] // codes are small; what is not has no label
    value.as_i64().or_else(|| float().map(|float| float as i64))
}

/// A number as people write it. Devices compute with fewer digits than the payload shows: one that
/// is a 32-bit number reads as that, any other has six decimals at most.
fn shortened(number: f64) -> String {
    #[allow(clippy::cast_possible_truncation)]
    let single = number as f32;
    let usual = (1e-4..1e15).contains(&number.abs()) || number == 0.0;
    let text = if !usual {
        return number.to_string();
    } else if f64::from(single).to_bits() == number.to_bits() {
        single.to_string()
    } else {
        format!("{number:.6}")
    };
    match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(topic: &str, payload: &str, line: &str, raw: &str, json: &str) {
        let reading = Reading::parse(topic, payload.as_bytes());
        assert_eq!(reading.words().line(), line, "{payload}");
        assert_eq!(reading.raw(), raw, "{payload}");
        assert_eq!(Value::Object(reading.json()).to_string(), json, "{payload}");
    }

    #[test]
    fn a_value_has_its_unit() {
        check(
            "battery/288/Dc/0/Voltage",
            r#"{"value": 26.139999389648438}"#,
            "26.14 V",
            "26.139999389648438",
            r#"{"topic":"battery/288/Dc/0/Voltage","value":26.139999389648438,"unit":"V"}"#,
        );
        check(
            "nosuch/1/Path",
            r#"{"value": 7}"#,
            "7",
            "7",
            r#"{"topic":"nosuch/1/Path","value":7}"#,
        );
        check(
            "battery/288/Dc/0/Voltage",
            r#"{"value": null}"#,
            "no value",
            "null",
            r#"{"topic":"battery/288/Dc/0/Voltage","value":null,"unit":"V"}"#,
        );
    }

    #[test]
    fn a_code_has_its_label_and_a_setting_its_bounds() {
        check(
            "vebus/276/Mode",
            r#"{"value": 3, "min": 1, "max": 4}"#,
            "3 (on)",
            "3",
            r#"{"topic":"vebus/276/Mode","value":3,"label":"on","min":1,"max":4}"#,
        );
        // Some devices say it as a double.
        check(
            "vebus/276/Mode",
            r#"{"value": 3.0}"#,
            "3 (on)",
            "3.0",
            r#"{"topic":"vebus/276/Mode","value":3.0,"label":"on"}"#,
        );
        check(
            "vebus/276/Mode",
            r#"{"value": 99}"#,
            "99",
            "99",
            r#"{"topic":"vebus/276/Mode","value":99}"#,
        );
    }

    #[test]
    fn bits_are_named_one_by_one() {
        let reading = Reading::parse("solarcharger/1/DeviceOffReason", br#"{"value": 129}"#);
        let line = reading.words().line();
        assert!(
            line.starts_with("129 (") && line.contains("engine off"),
            "{line}"
        );
        assert!(line.contains(", "), "{line}");
        let none = Reading::parse("solarcharger/1/DeviceOffReason", br#"{"value": 0}"#);
        assert_eq!(none.words().line(), "0");
    }

    #[test]
    fn what_was_taken_back_is_gone() {
        check(
            "battery/288/Soc",
            "",
            "gone",
            "",
            r#"{"topic":"battery/288/Soc","gone":true}"#,
        );
    }

    #[test]
    fn nothing_of_a_payload_reaches_the_terminal_as_control() {
        let bell = r#"{"value": "\u001b[31mred\u0007"}"#;
        let reading = Reading::parse("battery/1/CustomName", bell.as_bytes());
        assert_eq!(reading.words().line(), r"\u{1b}[31mred\u{7}");
        for odd in [&b"no json"[..], b"[1]", b"{}", b"\xff", b"7"] {
            let reading = Reading::parse("a/b/C", odd);
            assert!(!reading.words().line().is_empty(), "{odd:?}");
        }
    }

    #[test]
    fn numbers_lose_the_digits_that_nobody_means() {
        for (number, text) in [
            (0.0, "0"),
            (936.0, "936"),
            (0.1 + 0.2, "0.3"),
            (52.370_215_7, "52.370216"),
            (-12.5, "-12.5"),
            (f64::from(0.1_f32), "0.1"),
            (1e-7, "0.0000001"),
            (1e20, "100000000000000000000"),
            (99.999_999_9, "100"),
        ] {
            assert_eq!(shortened(number), text, "{number:?}");
        }
    }
}
