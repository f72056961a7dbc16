//! The value of `set`, from what stands on the command line to what is written.
//!
//! Names of codes are translated here, by the schema, so that a bridge need not know them. Numbers
//! are taken always: a device may know more than the schema.

use serde_json::Value;

use crate::schema::rule::{DataType, Rule};

/// Why a value cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum InvalidValue {
    /// A word for a number that has no such name.
    #[error("{topic} has no {given:?}: it takes {known}")]
    Label {
        topic: String,
        given: String,
        /// The codes and their names.
        known: String,
    },
    /// A word for a number that has no names at all.
    #[error("{topic} takes a number, not {given:?}")]
    Word { topic: String, given: String },
}

fn list(rule: &Rule) -> String {
    let known = rule.labels.iter();
    let known = known.map(|(code, label)| format!("{code} ({label})"));
    known.collect::<Vec<_>>().join(", ")
}

/// The value that `given` means for a topic with this rule.
pub fn parse(topic: &str, given: &str, rule: &Rule) -> Result<Value, InvalidValue> {
    let json: Option<Value> = serde_json::from_str(given).ok();
    let word = match &json {
        Some(Value::String(text)) => text.as_str(),
        Some(Value::Null) => return Ok(Value::Null),
        // A name of a thing may look like a number.
        Some(_) if rule.data == DataType::Text => given,
        Some(other) => return Ok(other.clone()),
        None => given,
    };
    if let Some(code) = code(word, rule) {
        return Ok(code.into());
    }
    if !rule.data.is_numeric() {
        return Ok(word.into());
    }
    let (topic, given) = (topic.to_owned(), word.to_owned());
    Err(if rule.labels.is_empty() {
        InvalidValue::Word { topic, given }
    } else {
        InvalidValue::Label {
            topic,
            given,
            known: list(rule),
        }
    })
}

/// The code of a name; none where two codes share it.
fn code(word: &str, rule: &Rule) -> Option<i64> {
    let same = |label: &str| label.to_lowercase() == word.trim().to_lowercase();
    let mut codes = rule.labels.iter().filter(|(_, label)| same(label));
    match (codes.next(), codes.next()) {
        (Some((code, _)), None) => Some(*code),
        _ => None,
    }
}

/// Whether a device that was asked for one value and shows the other has taken it. Devices write
/// their numbers as they like, and a yes as 1.
pub fn agrees(asked: &Value, shown: &Value) -> bool {
    let number = |value: &Value| {
        let yes = value.as_bool().map(|yes| f64::from(u8::from(yes)));
        yes.or_else(|| value.as_f64())
    };
    match (number(asked), number(shown)) {
        // To the digits that a device may keep: many know 32-bit numbers only.
        (Some(asked), Some(shown)) => {
            let scale = asked.abs().max(shown.abs()).max(f64::MIN_POSITIVE);
            asked.to_bits() == shown.to_bits() || (asked - shown).abs() / scale < 1e-6
        }
        _ => asked == shown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::reading::rule;
    use super::*;

    #[track_caller]
    fn check(topic: &str, given: &str, expected: &Value) {
        let found = parse(topic, given, &rule(topic)).unwrap();
        assert_eq!(found, *expected, "{topic} {given}");
    }

    #[track_caller]
    fn refused(topic: &str, given: &str, sentence: &str) {
        let error = parse(topic, given, &rule(topic)).unwrap_err();
        assert_eq!(error.to_string(), sentence);
    }

    #[test]
    fn numbers_words_and_json() {
        check("nosuch/0/A", "3", &json!(3));
        check("nosuch/0/A", "-1.5", &json!(-1.5));
        check("nosuch/0/A", "true", &json!(true));
        check("nosuch/0/A", "null", &json!(null));
        check("nosuch/0/A", "on", &json!("on"));
        check("nosuch/0/A", "\"3\"", &json!("3"));
        check("nosuch/0/A", "[1, 2]", &json!([1, 2]));
        check("nosuch/0/A", "two words", &json!("two words"));
        check("nosuch/0/A", "", &json!(""));
    }

    #[test]
    fn a_name_of_a_code_is_the_code() {
        check("vebus/276/Mode", "charger only", &json!(1));
        check("vebus/276/Mode", " Charger Only ", &json!(1));
        check("vebus/276/Mode", "\"on\"", &json!(3));
        check("vebus/276/Mode", "77", &json!(77));
        refused(
            "vebus/276/Mode",
            "sideways",
            "vebus/276/Mode has no \"sideways\": it takes 1 (charger only), 2 (inverter only), 3 (on), 4 (off)",
        );
        refused(
            "vebus/276/Ac/In/1/CurrentLimit",
            "much",
            "vebus/276/Ac/In/1/CurrentLimit takes a number, not \"much\"",
        );
    }

    #[test]
    fn a_text_stays_a_text() {
        check("battery/1/CustomName", "42", &json!("42"));
        check("battery/1/CustomName", "true", &json!("true"));
        check("battery/1/CustomName", "House", &json!("House"));
        check("battery/1/CustomName", "null", &json!(null));
    }

    #[test]
    fn a_device_shows_it_in_its_own_way() {
        let yes = [
            (json!(3), json!(3.0)),
            (json!(true), json!(1)),
            (json!(0.1), json!(f64::from(0.1_f32))),
            (json!(0), json!(-0.0)),
            (json!("a"), json!("a")),
            (json!(null), json!(null)),
        ];
        let no = [
            (json!(3), json!(4)),
            (json!(0), json!(1e-9)),
            (json!(20), json!(20.001)),
            (json!("1"), json!(1)),
            (json!(0), json!(null)),
        ];
        for (asked, shown) in yes {
            assert!(agrees(&asked, &shown), "{asked} {shown}");
        }
        for (asked, shown) in no {
            assert!(!agrees(&asked, &shown), "{asked} {shown}");
        }
    }
}
