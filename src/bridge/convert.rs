//! From the JSON of a write to the D-Bus value that is sent (§3, "Back").

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what fits no type named here fits none"
)]

use std::collections::BTreeMap;

use super::cache::PresentType;
use crate::model::request::Rejection;
use crate::model::value::{BusValue, Json};
use crate::schema::rule::{DataType, Rule};

/// The value to send: of the item's type where JSON fits it without loss, else as the classic rule
/// says. A text for an item that the schema declares numeric is refused.
pub fn to_bus(json: &Json, present: &PresentType, rule: &Rule) -> Result<BusValue, Rejection> {
    if matches!(json, Json::Text(_)) && rule.data.is_numeric() {
        return Err(Rejection::TextForNumber);
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
        DataType::Unknown | DataType::Number => return None,
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
        (b'b', []) => match json {
            Json::Bool(value) => Some(BusValue::Bool(*value)),
            _ => match integer(json)? {
                0 => Some(BusValue::Bool(false)),
                1 => Some(BusValue::Bool(true)),
                _ => None,
            },
        },
        (b'y', []) => integer(json)?.try_into().ok().map(BusValue::U8),
        (b'n', []) => integer(json)?.try_into().ok().map(BusValue::I16),
        (b'q', []) => integer(json)?.try_into().ok().map(BusValue::U16),
        (b'i', []) => integer(json)?.try_into().ok().map(BusValue::I32),
        (b'u', []) => integer(json)?.try_into().ok().map(BusValue::U32),
        (b'x', []) => integer(json)?.try_into().ok().map(BusValue::I64),
        (b't', []) => integer(json)?.try_into().ok().map(BusValue::U64),
        (b's', []) => match json {
            Json::Text(text) if !text.contains('\0') => Some(BusValue::Text(text.clone())),
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

/// The value as an integer, where it is one.
fn integer(json: &Json) -> Option<i128> {
    match json {
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
        Json::Int(_) | Json::Uint(_) => {
            let integer = integer(json)?;
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
            // looked at below
            let (double, back) = (integer as f64, integer as f64 as i128);
            (back == integer).then_some(double)
        }
        _ => None,
    }
}

/// Whether D-Bus can have an object of that path.
pub fn is_object_path(text: &str) -> bool {
    let level = |level: &str| {
        !level.is_empty()
            && level
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text == "/"
        || text
            .strip_prefix('/')
            .is_some_and(|levels| levels.split('/').all(level))
}

/// The value as clients have had it sent since 2018, whatever the item is.
fn classic(json: &Json) -> BusValue {
    match json {
        Json::Null => BusValue::Array("i".into(), Vec::new()),
        Json::Bool(value) => BusValue::Bool(*value),
        Json::Int(value) => i32::try_from(*value).map_or(BusValue::I64(*value), BusValue::I32),
        Json::Uint(value) => BusValue::U64(*value),
        Json::Float(value) => BusValue::Double(*value),
        // D-Bus has no NUL in texts; JSON has.
        Json::Text(text) => BusValue::Text(text.replace('\0', "").into()),
        Json::Array(elements) => classic_array(elements),
        Json::Object(members) => BusValue::Dict(dict(members)),
    }
}

/// Each key once, as a dict must have it; of several members of one name the last counts, as it does
/// for the value of the write itself.
fn dict(members: &[(Box<str>, Json)]) -> Vec<(Box<str>, BusValue)> {
    let mut last = BTreeMap::new();
    for (key, value) in members {
        last.insert(key.replace('\0', ""), value);
    }
    last.into_iter()
        .map(|(key, value)| (key.into(), classic(value)))
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

    #[allow(clippy::needless_pass_by_value, reason = "rows of a table")]
    fn check(json: Json, present: PresentType, expected: BusValue) {
        let found = to_bus(&json, &present, &Rule::DEFAULT);
        assert_eq!(found, Ok(expected), "{json:?} to {present:?}");
    }

    #[test]
    fn s3_what_fits_the_present_type_goes_as_that() {
        let basic = PresentType::Basic;
        check(Json::Int(5), basic(b'd'), BusValue::Double(5.0));
        check(Json::Int(5), basic(b'y'), BusValue::U8(5));
        check(Json::Int(-5), basic(b'n'), BusValue::I16(-5));
        check(Json::Int(5), basic(b'q'), BusValue::U16(5));
        check(Json::Int(5), basic(b'u'), BusValue::U32(5));
        check(Json::Int(5), basic(b'x'), BusValue::I64(5));
        check(Json::Int(5), basic(b't'), BusValue::U64(5));
        check(Json::Float(5.0), basic(b'i'), BusValue::I32(5));
        check(Json::Int(1), basic(b'b'), BusValue::Bool(true));
        check(
            Json::Text("on".into()),
            basic(b's'),
            BusValue::Text("on".into()),
        );
        let compound = |signature: &str| PresentType::Compound(signature.into());
        let bytes = BusValue::Array("y".into(), vec![BusValue::U8(1), BusValue::U8(255)]);
        check(
            Json::Array(vec![Json::Int(1), Json::Int(255)]),
            compound("ay"),
            bytes,
        );
    }

    #[test]
    fn s3_what_does_not_fit_goes_the_classic_way() {
        let basic = PresentType::Basic;
        check(Json::Int(256), basic(b'y'), BusValue::I32(256));
        check(Json::Float(5.5), basic(b'i'), BusValue::Double(5.5));
        check(Json::Bool(true), basic(b'i'), BusValue::Bool(true));
        check(
            Json::Int(9_007_199_254_740_993),
            basic(b'd'),
            BusValue::I64(9_007_199_254_740_993),
        );
        check(Json::Null, basic(b'd'), BusValue::Array("i".into(), vec![]));
        check(
            Json::Text("x".into()),
            basic(b'd'),
            BusValue::Text("x".into()),
        );
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
        let members = [("b", 1), ("a", 2), ("b\0", 3), ("a", 4)];
        let members = members.map(|(key, value)| (key.into(), Json::Int(value)));
        let dict = [("a", 4), ("b", 3)].map(|(key, value)| (key.into(), BusValue::I32(value)));
        check(
            Json::Object(members.into()),
            PresentType::None,
            BusValue::Dict(dict.into()),
        );
    }

    #[test]
    fn s3_a_text_for_a_number_is_refused() {
        let rule = Rule {
            data: DataType::Int32,
            ..Rule::DEFAULT
        };
        let found = to_bus(&Json::Text("5".into()), &PresentType::None, &rule);
        assert_eq!(found, Err(Rejection::TextForNumber));
        assert_eq!(
            to_bus(&Json::Int(5), &PresentType::None, &rule),
            Ok(BusValue::I32(5))
        );
        let rule = Rule {
            data: DataType::Double,
            ..Rule::DEFAULT
        };
        assert_eq!(
            to_bus(&Json::Int(5), &PresentType::None, &rule),
            Ok(BusValue::Double(5.0))
        );
    }
}
