//! The types that a row may name, in both directions, and what their numbers can be.

use super::super::rule::DataType;

/// Every type with a separate name.
const NAMED: [(&str, DataType); 11] = [
    ("number", DataType::Number),
    ("b", DataType::Bool),
    ("y", DataType::Byte),
    ("n", DataType::Int16),
    ("q", DataType::Uint16),
    ("i", DataType::Int32),
    ("u", DataType::Uint32),
    ("x", DataType::Int64),
    ("t", DataType::Uint64),
    ("d", DataType::Double),
    ("s", DataType::Text),
];

/// The type that a row writes so.
pub(crate) fn parse(text: &str) -> Option<DataType> {
    let named = NAMED
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, data)| data.clone());
    named.or_else(|| is_compound(text).then(|| DataType::Compound(text.to_owned().into())))
}

/// How a row writes a type.
pub(crate) fn signature(data: &DataType) -> &str {
    if let DataType::Compound(signature) = data {
        return signature;
    }
    let named = NAMED.iter().find(|(_, named)| named == data);
    named.map_or("not given", |(name, _)| name)
}

/// What an integer type holds, as far as a double can say it exactly.
pub(crate) fn limits(data: &DataType) -> Option<(f64, f64)> {
    match data {
        DataType::Bool => Some((0.0, 1.0)),
        DataType::Byte => Some((0.0, u8::MAX.into())),
        DataType::Int16 => Some((i16::MIN.into(), i16::MAX.into())),
        DataType::Uint16 => Some((0.0, u16::MAX.into())),
        DataType::Int32 => Some((i32::MIN.into(), i32::MAX.into())),
        DataType::Uint32 => Some((0.0, u32::MAX.into())),
        DataType::Unknown
        | DataType::Number
        | DataType::Int64
        | DataType::Uint64
        | DataType::Double
        | DataType::Text
        | DataType::Compound(_) => None,
    }
}

/// Whether a text looks like the signature of an array, a dict or a struct.
fn is_compound(text: &str) -> bool {
    let balanced = |open, close| text.matches(open).count() == text.matches(close).count();
    text.len() > 1
        && text.starts_with(['a', '('])
        && text
            .bytes()
            .all(|byte| b"ybnqiuxtdsogvha(){}".contains(&byte))
        && balanced('(', ')')
        && balanced('{', '}')
}
