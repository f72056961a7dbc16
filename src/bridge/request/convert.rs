//! From the JSON of a write to the D-Bus value that is sent (§3, "Back").

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what fits no type named here fits none"
)]

use std::collections::BTreeMap;

use crate::bridge::store::cache::PresentType;
use crate::codec::bus_item::is_object_path;
use crate::codec::payload;
use crate::model::request::Rejection;
use crate::model::value::{BusValue, Json};
use crate::schema::rule::{DataType, Rule};

/// The value to send: of the item's type where JSON fits it without loss, else as the classic rule
/// says. The type is that of the present value; where there is none, the one in the schema.
///
/// A text for a number is refused: services were seen to go into a busy loop over one.
pub fn to_bus(json: &Json, present: &PresentType, rule: &Rule) -> Result<BusValue, Rejection> {
    let is_number = matches!(present, PresentType::Basic(code) if NUMERIC.contains(code))
        && rule.data != DataType::Text;
    if matches!(json, Json::Text(_)) && (is_number || rule.data.is_numeric()) {
        return Err(Rejection::TextForNumber);
    }
    if has_nul(json) {
        return Err(Rejection::Nul);
    }
    let fitting = match present {
        PresentType::Basic(code) => fit(json, &[*code]),
        PresentType::Compound(signature) => fit(json, signature.as_bytes()),
        PresentType::None => declared(&rule.data).and_then(|signature| fit(json, signature)),
    };
    let value = fitting.unwrap_or_else(|| classic(json));
    let found = ANNOUNCED_LEVELS + levels(&value);
    if found > LEVELS_MAX {
        let max = LEVELS_MAX;
        return Err(Rejection::TooDeepForBus { found, max });
    }
    Ok(value)
}

/// The D-Bus types that are numbers, and the boolean: half of the items of Venus OS that are yes or no
/// have a 0 or 1 instead.
const NUMERIC: &[u8] = b"ybnqiuxtd";

/// Whether a text or a key has a NUL, which JSON can say and D-Bus cannot carry.
fn has_nul(json: &Json) -> bool {
    match json {
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Uint(_) | Json::Float(_) => false,
        Json::Text(text) => text.contains('\0'),
        Json::Array(elements) => elements.iter().any(has_nul),
        Json::Object(members) => members
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
    }
}

/// How deep a message on the bus may be: arrays, dict entries and variants, each counted. An object in
/// JSON is all three, so that JSON within its own limit can be too deep for the bus.
const LEVELS_MAX: usize = 64;
/// How deep in a message a service announces its values: a variant in a dict in a dict. The bus throws
/// out who sends what is too deep, so that a service must not be given what it cannot tell.
const ANNOUNCED_LEVELS: usize = 5;

fn levels(value: &BusValue) -> usize {
    match value {
        BusValue::Array(_, elements) => 1 + elements.iter().map(levels).max().unwrap_or_default(),
        BusValue::Dict(entries) => {
            let values = entries.iter().map(|(_, value)| levels(value));
            3 + values.max().unwrap_or_default()
        }
        BusValue::Variant(inner) => 1 + levels(inner),
        BusValue::Bool(_)
        | BusValue::U8(_)
        | BusValue::I16(_)
        | BusValue::U16(_)
        | BusValue::I32(_)
        | BusValue::U32(_)
        | BusValue::I64(_)
        | BusValue::U64(_)
        | BusValue::Double(_)
        | BusValue::Text(_)
        | BusValue::ObjectPath(_) => 0,
    }
}

/// The signature that the schema declares, where it declares one.
fn declared(data: &DataType) -> Option<&[u8]> {
    Some(match data {
        DataType::Unknown => return None,
        // Which number is not known: the classic types, and `true` as 1.
        DataType::Number => b"#",
        DataType::Bool => b"b",
        DataType::Byte => b"y",
        DataType::Int16 => b"n",
        DataType::Uint16 => b"q",
        DataType::Int32 => b"i",
        DataType::Uint32 => b"u",
        DataType::Int64 => b"x",
        DataType::Uint64 => b"t",
        DataType::Double => b"d",
        DataType::Text => b"s",
        DataType::Compound(signature) => signature.as_bytes(),
    })
}

/// The value as that one type, where it fits without loss.
fn fit(json: &Json, signature: &[u8]) -> Option<BusValue> {
    let (code, rest) = signature.split_first()?;
    match (code, rest) {
        (b'd', []) => double(json).map(BusValue::Double),
        (b'b', []) => match integer(json)? {
            0 => Some(BusValue::Bool(false)),
            1 => Some(BusValue::Bool(true)),
            _ => None,
        },
        (b'y', []) => integer(json)?.try_into().ok().map(BusValue::U8),
        (b'n', []) => integer(json)?.try_into().ok().map(BusValue::I16),
        (b'q', []) => integer(json)?.try_into().ok().map(BusValue::U16),
        (b'i', []) => integer(json)?.try_into().ok().map(BusValue::I32),
        (b'u', []) => integer(json)?.try_into().ok().map(BusValue::U32),
        (b'x', []) => integer(json)?.try_into().ok().map(BusValue::I64),
        (b't', []) => integer(json)?.try_into().ok().map(BusValue::U64),
        // A number of a type that is not known.
        (b'#', []) => match json {
            Json::Bool(value) => Some(BusValue::I32(i32::from(*value))),
            _ => None,
        },
        (b's', []) => match json {
            Json::Text(text) => Some(BusValue::Text(text.clone())),
            Json::Int(_) | Json::Uint(_) | Json::Float(_) => number_text(json).map(BusValue::Text),
            _ => None,
        },
        (b'o', []) => match json {
            Json::Text(text) if is_object_path(text) => Some(BusValue::ObjectPath(text.clone())),
            _ => None,
        },
        (b'v', []) => Some(BusValue::Variant(Box::new(classic(json)))),
        (b'a', b"{sv}") => match json {
            Json::Object(members) => Some(BusValue::Dict(dict(members))),
            _ => None,
        },
        (b'a', element) => match json {
            Json::Array(elements) => {
                let elements: Option<_> = elements.iter().map(|json| fit(json, element)).collect();
                Some(BusValue::Array(
                    std::str::from_utf8(element).ok()?.into(),
                    elements?,
                ))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A number as its text: the shortest that reads back to it.
fn number_text(json: &Json) -> Option<Box<str>> {
    let mut out = Vec::new();
    match json {
        Json::Int(value) => payload::write_int(&mut out, *value),
        Json::Uint(value) => payload::write_uint(&mut out, *value),
        Json::Float(value) => payload::write_double(&mut out, *value),
        _ => return None,
    }
    String::from_utf8(out).ok().map(Into::into)
}

/// The value as an integer, where it is one; `true` and `false` are 1 and 0.
fn integer(json: &Json) -> Option<i128> {
    match json {
        Json::Bool(value) => Some(i128::from(*value)),
        Json::Int(value) => Some(i128::from(*value)),
        Json::Uint(value) => Some(i128::from(*value)),
        Json::Float(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
            // Exact: integral and at most 2^53.
            #[allow(clippy::cast_possible_truncation)]
            let value = *value as i128;
            Some(value)
        }
        _ => None,
    }
}

/// The value as a double, where it is one without loss.
fn double(json: &Json) -> Option<f64> {
    match json {
        Json::Float(value) => Some(*value),
        Json::Bool(_) | Json::Int(_) | Json::Uint(_) => {
            let integer = integer(json)?;
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
            // looked at below
            let (double, back) = (integer as f64, integer as f64 as i128);
            (back == integer).then_some(double)
        }
        _ => None,
    }
}

/// The value as clients have had it sent since 2018, whatever the item is.
fn classic(json: &Json) -> BusValue {
    match json {
        Json::Null => BusValue::Array("i".into(), Vec::new()),
        Json::Bool(value) => BusValue::Bool(*value),
        Json::Int(value) => i32::try_from(*value).map_or(BusValue::I64(*value), BusValue::I32),
        Json::Uint(value) => BusValue::U64(*value),
        Json::Float(value) => BusValue::Double(*value),
        Json::Text(text) => BusValue::Text(text.clone()),
        Json::Array(elements) => classic_array(elements),
        Json::Object(members) => BusValue::Dict(dict(members)),
    }
}

/// Each key once, as a dict must have it; of several members of one name the last counts, as it does
/// for the value of the write itself.
fn dict(members: &[(Box<str>, Json)]) -> Vec<(Box<str>, BusValue)> {
    let mut last = BTreeMap::new();
    for (key, value) in members {
        last.insert(key, value);
    }
    last.into_iter()
        .map(|(key, value)| (key.clone(), classic(value)))
        .collect()
}

/// An array of the common type, of variants where there is none; integers share the widest.
fn classic_array(elements: &[Json]) -> BusValue {
    if elements.is_empty() {
        return BusValue::Array("u".into(), Vec::new());
    }
    if elements
        .iter()
        .all(|json| matches!(json, Json::Int(_) | Json::Uint(_)))
    {
        for code in ["i", "x", "t"] {
            let all: Option<Vec<_>> = elements
                .iter()
                .map(|json| fit(json, code.as_bytes()))
                .collect();
            if let Some(all) = all {
                return BusValue::Array(code.into(), all);
            }
        }
    }
    let elements: Vec<_> = elements.iter().map(classic).collect();
    let common = elements
        .first()
        .map(BusValue::signature)
        .unwrap_or_default();
    if elements.iter().all(|element| element.signature() == common) {
        return BusValue::Array(common.into(), elements);
    }
    let variants = elements
        .into_iter()
        .map(|value| BusValue::Variant(Box::new(value)))
        .collect();
    BusValue::Array("v".into(), variants)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::codec::request::RequestReader;
    use crate::model::name::PortalId;
    use crate::model::request::Request;

    #[allow(clippy::needless_pass_by_value, reason = "rows of a table")]
    fn check(json: Json, present: PresentType, expected: BusValue) {
        let found = to_bus(&json, &present, &Rule::DEFAULT);
        assert_eq!(found, Ok(expected), "{json:?} to {present:?}");
    }

    fn shown(value: &BusValue) -> String {
        match value {
            BusValue::Bool(value) => value.to_string(),
            BusValue::U8(value) => value.to_string(),
            BusValue::I16(value) => value.to_string(),
            BusValue::U16(value) => value.to_string(),
            BusValue::I32(value) => value.to_string(),
            BusValue::U32(value) => value.to_string(),
            BusValue::I64(value) => value.to_string(),
            BusValue::U64(value) => value.to_string(),
            BusValue::Double(value) => format!("{value:?}"),
            BusValue::Text(text) | BusValue::ObjectPath(text) => format!("{text:?}"),
            BusValue::Array(_, all) => {
                let all: Vec<_> = all.iter().map(shown).collect();
                format!("[{}]", all.join(" "))
            }
            BusValue::Dict(all) => {
                let shown = |(key, value): &(Box<str>, BusValue)| {
                    format!("{key} {} {}", value.signature(), shown(value))
                };
                let all: Vec<_> = all.iter().map(shown).collect();
                format!("{{{}}}", all.join(" "))
            }
            BusValue::Variant(value) => format!("{} {}", value.signature(), shown(value)),
        }
    }

    /// What a write of this JSON sends: a D-Bus signature, and the value.
    fn sent(json: &str, present: &PresentType, rule: &Rule) -> String {
        let portal = PortalId::new("c0619ab12345").unwrap();
        let mut payload = format!("{{\"value\": {json}}}").into_bytes();
        let mut reader = RequestReader::new(65_536);
        let topic = "W/c0619ab12345/vebus/257/Mode";
        let Some(Ok(Request::Write(_, json))) = reader.read(topic, &mut payload, &portal) else {
            panic!("{json} is no value");
        };
        match to_bus(&json, present, rule) {
            Ok(value) => format!("{} {}", value.signature(), shown(&value)),
            Err(rejection) => rejection.code().into(),
        }
    }

    /// The table of docs/topics.md, "What the values mean". An item has a type because its present value has
    /// one, or, where there is no value, because the schema says so: both give the same.
    #[test]
    fn s3_what_each_json_becomes() {
        let types = [
            (b'y', DataType::Byte),
            (b'n', DataType::Int16),
            (b'q', DataType::Uint16),
            (b'i', DataType::Int32),
            (b'u', DataType::Uint32),
            (b'x', DataType::Int64),
            (b't', DataType::Uint64),
            (b'd', DataType::Double),
            (b'b', DataType::Bool),
            (b's', DataType::Text),
        ];
        let check = |codes: &str, json: &str, expected: &str| {
            for code in codes.bytes() {
                let (_, data) = types.iter().find(|(own, _)| *own == code).unwrap();
                let rule = Rule {
                    data: data.clone(),
                    ..Rule::DEFAULT
                };
                let expected = expected.replace('*', &char::from(code).to_string());
                let item = format!("{json} to {}", char::from(code));
                let present = sent(json, &PresentType::Basic(code), &Rule::DEFAULT);
                assert_eq!(present, expected, "{item}, as the present value is");
                let declared = sent(json, &PresentType::None, &rule);
                assert_eq!(declared, expected, "{item}, as the schema says");
            }
        };
        // A whole number goes as the item's type where that has room for it, else as the classic one.
        check("ynqiuxt", "5", "* 5");
        check("d", "5", "d 5.0");
        check("y", "256", "i 256");
        check("yqut", "-1", "i -1");
        check("iu", "4294967296", "x 4294967296");
        check("ixd", "18446744073709551615", "t 18446744073709551615");
        check("d", "9007199254740993", "x 9007199254740993");
        check("nqiuxt", "1e3", "* 1000");
        check("y", "1e3", "d 1000.0");
        check("ynqiuxt", "5.0", "* 5");
        // A fraction never fits a whole number. What the item makes of it is up to its service.
        check("ynqiuxtdb", "3.5", "d 3.5");
        // Yes and no are 1 and 0 for a number, and 1 and 0 yes and no for a boolean.
        check("ynqiuxt", "true", "* 1");
        check("ynqiuxt", "false", "* 0");
        check("d", "true", "d 1.0");
        check("b", "true", "b true");
        check("b", "1", "b true");
        check("b", "0.0", "b false");
        check("b", "2", "i 2");
        // A number for a text is its shortest text; yes and no stay what they are.
        check("s", "5", "s \"5\"");
        check("s", "-0.50", "s \"-0.5\"");
        check("s", "1e3", "s \"1000.0\"");
        check("s", "18446744073709551615", "s \"18446744073709551615\"");
        check("s", "true", "b true");
        check("s", "\"5\"", "s \"5\"");
        check("s", "\"\"", "s \"\"");
        // A text for a number is refused, and so is a NUL for any item, wherever it is.
        check("ynqiuxtdb", "\"2.5\"", "wrong-type");
        check("ynqiuxtdb", "\"\"", "wrong-type");
        for nul in [
            r#""a\u0000""#,
            r#"["\u0000"]"#,
            r#"{"a": [{"b\u0000": 1}]}"#,
        ] {
            check("ynqiuxtdbs", nul, "wrong-type");
            assert_eq!(sent(nul, &PresentType::None, &Rule::DEFAULT), "wrong-type");
        }
        // What has parts fits no plain item: the classic types.
        check("ynqiuxtdbs", "null", "ai []");
        check("ynqiuxtdbs", "[]", "au []");
        check("ids", "[1, 2]", "ai [1 2]");
        check("ids", "{\"a\": 1.5}", "a{sv} {a d 1.5}");
    }

    #[test]
    fn s3_lists_and_items_of_no_known_type() {
        let compound = |signature: &str| PresentType::Compound(signature.into());
        let check = |signature: &str, json: &str, expected: &str| {
            let rule = Rule {
                data: DataType::Compound(signature.to_owned().into()),
                ..Rule::DEFAULT
            };
            let present = sent(json, &compound(signature), &Rule::DEFAULT);
            assert_eq!(present, expected, "{json} to {signature}");
            let declared = sent(json, &PresentType::None, &rule);
            assert_eq!(declared, expected, "{json} to {signature}");
        };
        check("ay", "[1, 255]", "ay [1 255]");
        check("ay", "[1, 256]", "ai [1 256]");
        check("ad", "[1, 2.5, true]", "ad [1.0 2.5 1.0]");
        check("ai", "[1, 2.5]", "av [i 1 d 2.5]");
        check("as", "[\"a\", 1]", "as [\"a\" \"1\"]");
        check("as", "[]", "as []");
        check("as", "null", "ai []");
        check("aas", "[[\"a\"], []]", "aas [[\"a\"] []]");
        check("av", "[1, \"a\"]", "av [i 1 s \"a\"]");
        check("a{sv}", "{\"a\": 5}", "a{sv} {a i 5}");
        check("a{sv}", "[1]", "ai [1]");
        // A number of a type that nobody knows.
        let number = Rule {
            data: DataType::Number,
            ..Rule::DEFAULT
        };
        for (json, expected) in [
            ("true", "i 1"),
            ("5", "i 5"),
            ("2.5", "d 2.5"),
            ("\"2.5\"", "wrong-type"),
            ("null", "ai []"),
        ] {
            assert_eq!(sent(json, &PresentType::None, &number), expected, "{json}");
        }
        // A text that somebody made a number of can be made a text again.
        let text = Rule {
            data: DataType::Text,
            ..Rule::DEFAULT
        };
        let present = PresentType::Basic(b'i');
        assert_eq!(sent("\"Aft\"", &present, &text), "s \"Aft\"");
        let path = PresentType::Basic(b'o');
        assert_eq!(sent("\"/a/b\"", &path, &Rule::DEFAULT), "o \"/a/b\"");
        assert_eq!(sent("\"/a/\"", &path, &Rule::DEFAULT), "s \"/a/\"");
    }

    #[test]
    fn s3_the_classic_rule() {
        let check = |json, expected| check(json, PresentType::None, expected);
        check(Json::Int(5), BusValue::I32(5));
        check(Json::Int(1 << 40), BusValue::I64(1 << 40));
        check(Json::Uint(u64::MAX), BusValue::U64(u64::MAX));
        check(Json::Float(1000.0), BusValue::Double(1000.0));
        check(Json::Array(vec![]), BusValue::Array("u".into(), vec![]));
        let wide = vec![BusValue::I64(1), BusValue::I64(1 << 40)];
        check(
            Json::Array(vec![Json::Int(1), Json::Int(1 << 40)]),
            BusValue::Array("x".into(), wide),
        );
        let mixed =
            [BusValue::I32(1), BusValue::Text("a".into())].map(|v| BusValue::Variant(Box::new(v)));
        check(
            Json::Array(vec![Json::Int(1), Json::Text("a".into())]),
            BusValue::Array("v".into(), mixed.into()),
        );
        let dict = vec![("a".into(), BusValue::Bool(true))];
        check(
            Json::Object(vec![("a".into(), Json::Bool(true))]),
            BusValue::Dict(dict),
        );
    }

    #[test]
    fn s5_8_what_a_service_could_not_announce_is_refused() {
        let nest = |depth: usize, wrap: fn(Json) -> Json| {
            let json = (0..depth).fold(Json::Int(1), |json, _| wrap(json));
            to_bus(&json, &PresentType::None, &Rule::DEFAULT).is_ok()
        };
        let object: fn(Json) -> Json = |json| Json::Object(vec![("a".into(), json)]);
        let mixed: fn(Json) -> Json = |json| Json::Array(vec![Json::Bool(true), json]);
        assert!(nest(19, object) && !nest(20, object));
        assert!(nest(29, mixed) && !nest(30, mixed));
        assert!(nest(31, |json| Json::Array(vec![json])));
    }

    /// No key of a dict comes twice; of members of one name, the last counts.
    #[test]
    fn s3_a_dict_has_each_key_once() {
        let members = [("b", 1), ("a", 2), ("b", 3), ("a", 4)];
        let members = members.map(|(key, value)| (key.into(), Json::Int(value)));
        let dict = [("a", 4), ("b", 3)].map(|(key, value)| (key.into(), BusValue::I32(value)));
        check(
            Json::Object(members.into()),
            PresentType::None,
            BusValue::Dict(dict.into()),
        );
    }
}
