//! Values to JSON and back, as recordings write them.

use serde_json::{Map, Number, Value as Json};
use zbus::{Array, Dict, ObjectPath, Signature, Str, Structure, Variant};

use super::variant::{BusValue, integer, invalid};

/// Why a value cannot go from or to JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The signature is none.
    #[error("{signature:?} is not a D-Bus signature of one value")]
    Signature {
        /// What was there instead.
        signature: String,
    },
    /// The JSON does not fit the signature.
    #[error("{found} does not fit D-Bus type {signature}")]
    Type {
        /// The signature the value should have.
        signature: String,
        /// The JSON value, shortened.
        found: String,
    },
    /// A file descriptor, or what else has no meaning outside its message.
    #[error("a value of D-Bus type {signature} cannot be recorded")]
    Unsupported {
        /// Its signature.
        signature: String,
    },
}

/// Reads the signature of exactly one value.
pub fn signature(text: &str) -> Result<Signature, ValueError> {
    let error = || ValueError::Signature {
        signature: text.to_owned(),
    };
    let parsed = Signature::try_from(text).map_err(|_| error())?;
    // zbus takes "ii" for a structure; a value of a structure has its parentheses.
    if parsed == Signature::Unit || parsed.to_string() != text {
        return Err(error());
    }
    Ok(parsed)
}

/// The value that a recording writes as this JSON with this signature.
pub fn from_json(signature: &Signature, json: &Json) -> Result<BusValue, ValueError> {
    let error = || mismatch(signature, json);
    match signature {
        Signature::U8
        | Signature::I16
        | Signature::U16
        | Signature::I32
        | Signature::U32
        | Signature::I64
        | Signature::U64 => json
            .as_i64()
            .map(i128::from)
            .or_else(|| json.as_u64().map(i128::from))
            .and_then(|number| integer(signature, number))
            .ok_or_else(error),
        Signature::Bool => json.as_bool().map(Variant::Bool).ok_or_else(error),
        Signature::F64 => double(json).map(Variant::F64).ok_or_else(error),
        Signature::Str => json
            .as_str()
            .map(|text| Variant::Str(Str::from(text.to_owned())))
            .ok_or_else(error),
        Signature::ObjectPath => json
            .as_str()
            .and_then(|text| ObjectPath::try_from(text.to_owned()).ok())
            .map(Variant::ObjectPath)
            .ok_or_else(error),
        Signature::Signature => json
            .as_str()
            .and_then(|text| Signature::try_from(text).ok())
            .map(Variant::Signature)
            .ok_or_else(error),
        Signature::Variant => Ok(Variant::Variant(Box::new(untyped(json)))),
        Signature::Array(element) => {
            let mut array = Array::new(element);
            for item in json.as_array().ok_or_else(error)? {
                array
                    .append(from_json(element, item)?)
                    .map_err(|_| error())?;
            }
            Ok(Variant::Array(array))
        }
        Signature::Dict { key, value } => {
            let mut dict = Dict::new(key, value);
            for (name, item) in json.as_object().ok_or_else(error)? {
                dict.append(dict_key(key, name)?, from_json(value, item)?)
                    .map_err(|_| error())?;
            }
            Ok(Variant::Dict(dict))
        }
        Signature::Structure(fields) => {
            let items = json.as_array().ok_or_else(error)?;
            if items.len() != fields.iter().count() {
                return Err(error());
            }
            let mut builder = Structure::builder();
            for (field, item) in fields.iter().zip(items) {
                builder = builder.append_field(from_json(field, item)?);
            }
            builder.build().map(Variant::Structure).map_err(|_| error())
        }
        Signature::Unit | Signature::Fd => Err(ValueError::Unsupported {
            signature: signature.to_string(),
        }),
    }
}

/// The value as a recording writes it, beside its signature.
pub fn to_json(value: &Variant<'_>) -> Result<Json, ValueError> {
    Ok(match value {
        Variant::U8(number) => Json::from(*number),
        Variant::Bool(on) => Json::from(*on),
        Variant::I16(number) => Json::from(*number),
        Variant::U16(number) => Json::from(*number),
        Variant::I32(number) => Json::from(*number),
        Variant::U32(number) => Json::from(*number),
        Variant::I64(number) => Json::from(*number),
        Variant::U64(number) => Json::from(*number),
        Variant::F64(number) => {
            Number::from_f64(*number).map_or_else(|| Json::from(non_finite(*number)), Json::Number)
        }
        Variant::Str(text) => Json::from(text.as_str()),
        Variant::Signature(signature) => Json::from(signature.to_string()),
        Variant::ObjectPath(path) => Json::from(path.as_str()),
        Variant::Variant(inner) => to_json(inner)?,
        Variant::Array(array) => {
            Json::Array(array.iter().map(to_json).collect::<Result<Vec<_>, _>>()?)
        }
        Variant::Dict(dict) => {
            let mut object = Map::new();
            for (key, value) in dict.iter() {
                let name = to_json(key)?;
                let name = name
                    .as_str()
                    .map_or_else(|| name.to_string(), ToOwned::to_owned);
                object.insert(name, to_json(value)?);
            }
            Json::Object(object)
        }
        Variant::Structure(structure) => Json::Array(
            structure
                .fields()
                .iter()
                .map(to_json)
                .collect::<Result<Vec<_>, _>>()?,
        ),
        Variant::Fd(_) => {
            return Err(ValueError::Unsupported {
                signature: value.value_signature().to_string(),
            });
        }
    })
}

/// JSON without a signature beside it, as in the dicts of a recording: the classic rule of §3.
pub fn untyped(json: &Json) -> BusValue {
    match json {
        Json::Null => invalid(),
        Json::Bool(on) => Variant::Bool(*on),
        Json::Number(number) => {
            if let Some(number) = number.as_i64() {
                i32::try_from(number).map_or(Variant::I64(number), Variant::I32)
            } else if let Some(number) = number.as_u64() {
                Variant::U64(number)
            } else {
                Variant::F64(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        Json::String(text) => Variant::Str(Str::from(text.clone())),
        Json::Array(items) if items.is_empty() => invalid(),
        Json::Array(items) => {
            let values: Vec<BusValue> = items.iter().map(untyped).collect();
            let first = values.first().map(|value| value.value_signature().clone());
            let common =
                first.filter(|first| values.iter().all(|value| value.value_signature() == first));
            let element = common.clone().unwrap_or(Signature::Variant);
            let mut array = Array::new(&element);
            for value in values {
                let value = if common.is_some() {
                    value
                } else {
                    Variant::Variant(Box::new(value))
                };
                // The signatures are equal by construction.
                let appended = array.append(value);
                debug_assert!(appended.is_ok());
            }
            Variant::Array(array)
        }
        Json::Object(entries) => {
            let mut dict = Dict::new(&Signature::Str, &Signature::Variant);
            for (name, item) in entries {
                let appended = dict.append(
                    Variant::Str(Str::from(name.clone())),
                    Variant::Variant(Box::new(untyped(item))),
                );
                debug_assert!(appended.is_ok());
            }
            Variant::Dict(dict)
        }
    }
}

/// A double; JSON has no word for those that are not numbers, so a recording writes them as text.
fn double(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => number.as_f64(),
        Json::Null => Some(f64::NAN),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn non_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn dict_key(signature: &Signature, name: &str) -> Result<BusValue, ValueError> {
    let text = Json::from(name);
    if matches!(
        signature,
        Signature::Str | Signature::ObjectPath | Signature::Signature
    ) {
        return from_json(signature, &text);
    }
    let json: Json = serde_json::from_str(name).map_err(|_| mismatch(signature, &text))?;
    from_json(signature, &json)
}

fn mismatch(signature: &Signature, json: &Json) -> ValueError {
    let mut found = json.to_string();
    if found.chars().count() > FOUND_CHARS_MAX {
        found = found.chars().take(FOUND_CHARS_MAX).collect();
        found.push('…');
    }
    ValueError::Type {
        signature: signature.to_string(),
        found,
    }
}

/// How much of a wrong value an error shows.
const FOUND_CHARS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip(signature_text: &str, json: &str) {
        let parsed = signature(signature_text).unwrap();
        let value = from_json(&parsed, &serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!(value.value_signature().to_string(), signature_text);
        assert_eq!(to_json(&value).unwrap().to_string(), json);
    }

    #[test]
    fn every_type_comes_back() {
        round_trip("y", "255");
        round_trip("n", "-32768");
        round_trip("q", "65535");
        round_trip("i", "-2147483648");
        round_trip("u", "4294967295");
        round_trip("x", "-9223372036854775808");
        round_trip("t", "18446744073709551615");
        round_trip("d", "0.1");
        round_trip("d", "-0.0");
        round_trip("d", "5e-324");
        round_trip("d", "\"NaN\"");
        round_trip("d", "\"-Infinity\"");
        round_trip("b", "true");
        round_trip("s", "\"Ω \\\"x\\\"\"");
        round_trip("o", "\"/a/b\"");
        round_trip("g", "\"a{sv}\"");
        round_trip("ay", "[1,2,255]");
        round_trip("au", "[]");
        round_trip("ai", "[]");
        round_trip("a{sv}", "{\"a\":1,\"b\":\"x\",\"c\":2.5}");
        round_trip("a{us}", "{\"7\":\"x\"}");
        round_trip("(ids)", "[1,2.5,\"x\"]");
        round_trip("aa{sv}", "[{\"a\":[]}]");
    }

    #[test]
    fn misfits_are_errors() {
        for (signature_text, json) in [
            ("y", "256"),
            ("u", "-1"),
            ("i", "1.5"),
            ("i", "\"1\""),
            ("x", "9223372036854775808"),
            ("b", "1"),
            ("s", "1"),
            ("ay", "[256]"),
            ("o", "\"no path\""),
            ("(ii)", "[1]"),
        ] {
            let parsed = signature(signature_text).unwrap();
            let json: Json = serde_json::from_str(json).unwrap();
            assert!(
                from_json(&parsed, &json).is_err(),
                "{signature_text} {json}"
            );
        }
        for text in ["", "ii", "z", "a", "a{vs}", "{sv}"] {
            assert!(signature(text).is_err(), "{text}");
        }
        assert!(from_json(&Signature::Fd, &Json::Null).is_err());
    }
}
