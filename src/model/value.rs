//! Values: what an item has on D-Bus, and what a write asks for (§3).
//!
//! *Invalid* is a value, not an absence: D-Bus says it with an empty array, JSON with `null`, and
//! nobody but the two codecs tests for either.

/// A value as it stands in a D-Bus message, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Present, without a value: an empty array of any element type.
    Invalid,
    /// `b`
    Bool(bool),
    /// `n`, `i` or `x`
    Int(IntType, i64),
    /// `y`, `q`, `u` or `t`
    Uint(UintType, u64),
    /// `d`
    Double(f64),
    /// `s`, `o` or `g`
    Text(TextType, &'a str),
    /// An array that is not empty, a struct, a dict, or a file descriptor.
    Compound(Compound<'a>),
}

/// The signed D-Bus integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntType {
    /// `n`
    I16,
    /// `i`
    I32,
    /// `x`
    I64,
}

/// The unsigned D-Bus integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UintType {
    /// `y`
    U8,
    /// `q`
    U16,
    /// `u`
    U32,
    /// `t`
    U64,
}

/// The D-Bus types that are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextType {
    /// `s`
    String,
    /// `o`
    ObjectPath,
    /// `g`
    Signature,
}

/// A D-Bus value of more than one part, as it stands on the wire: checked, but not taken apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compound<'a> {
    /// The signature of the value.
    pub signature: &'a str,
    /// Bytes whose first one is aligned to eight in the message.
    pub bytes: &'a [u8],
    /// Where in `bytes` the value begins.
    pub at: usize,
    /// Whether the message is big-endian.
    pub big_endian: bool,
}

/// What a write asks for: JSON, read into parts (§3).
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent that fits 64 signed bits.
    Int(i64),
    /// A number without fraction and exponent beyond that.
    Uint(u64),
    /// A number with fraction or exponent; finite.
    Float(f64),
    /// A string.
    Text(Box<str>),
    /// An array.
    Array(Vec<Json>),
    /// An object, in the order of the text.
    Object(Vec<(Box<str>, Json)>),
}

/// A value to be sent to a service with `SetValue` (§2.1, §3).
#[derive(Debug, Clone, PartialEq)]
pub enum BusValue {
    /// `b`
    Bool(bool),
    /// `y`
    U8(u8),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(Box<str>),
    /// `o`
    ObjectPath(Box<str>),
    /// `a…`: the element's signature, and elements that all have it.
    Array(Box<str>, Vec<BusValue>),
    /// `a{sv}`
    Dict(Vec<(Box<str>, BusValue)>),
    /// `v`
    Variant(Box<BusValue>),
}

impl IntType {
    /// The D-Bus type code.
    pub const fn code(self) -> u8 {
        match self {
            IntType::I16 => b'n',
            IntType::I32 => b'i',
            IntType::I64 => b'x',
        }
    }
}

impl UintType {
    /// The D-Bus type code.
    pub const fn code(self) -> u8 {
        match self {
            UintType::U8 => b'y',
            UintType::U16 => b'q',
            UintType::U32 => b'u',
            UintType::U64 => b't',
        }
    }
}

impl TextType {
    /// The D-Bus type code.
    pub const fn code(self) -> u8 {
        match self {
            TextType::String => b's',
            TextType::ObjectPath => b'o',
            TextType::Signature => b'g',
        }
    }
}

impl BusValue {
    /// How long it is on the wire, in bytes, without the padding between its parts.
    pub fn bytes(&self) -> usize {
        match self {
            BusValue::U8(_) => 1,
            BusValue::I16(_) | BusValue::U16(_) => 2,
            BusValue::Bool(_) | BusValue::I32(_) | BusValue::U32(_) => 4,
            BusValue::I64(_) | BusValue::U64(_) | BusValue::Double(_) => 8,
            BusValue::Text(text) | BusValue::ObjectPath(text) => text.len(),
            BusValue::Array(_, values) => values.iter().map(BusValue::bytes).sum(),
            BusValue::Dict(members) => {
                let bytes = |(key, value): &(Box<str>, BusValue)| key.len() + value.bytes();
                members.iter().map(bytes).sum()
            }
            BusValue::Variant(value) => value.bytes(),
        }
    }

    /// The D-Bus signature of the value.
    pub fn signature(&self) -> String {
        match self {
            BusValue::Bool(_) => "b".into(),
            BusValue::U8(_) => "y".into(),
            BusValue::I16(_) => "n".into(),
            BusValue::U16(_) => "q".into(),
            BusValue::I32(_) => "i".into(),
            BusValue::U32(_) => "u".into(),
            BusValue::I64(_) => "x".into(),
            BusValue::U64(_) => "t".into(),
            BusValue::Double(_) => "d".into(),
            BusValue::Text(_) => "s".into(),
            BusValue::ObjectPath(_) => "o".into(),
            BusValue::Array(element, _) => format!("a{element}"),
            BusValue::Dict(_) => "a{sv}".into(),
            BusValue::Variant(_) => "v".into(),
        }
    }
}
