//! How long values may be that are kept, one by one and all together.

use crate::model::request::Rejection;
use crate::model::value::Value;

/// The longest values that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of a text, in bytes.
    pub text_bytes_max: usize,
    /// Of a list, dict or struct, in bytes, as D-Bus sends it.
    pub array_bytes_max: usize,
    /// Of all texts, lists, dicts and structs together, in bytes of JSON.
    pub cache_bytes_max: usize,
}

/// Why a value is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DroppedValue {
    /// It is longer than one value may be.
    TooLong {
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// With it, all that are kept would be longer than they may be together.
    NoRoom {
        /// The limit in bytes.
        max: usize,
    },
}

impl From<DroppedValue> for Rejection {
    fn from(unkept: DroppedValue) -> Rejection {
        match unkept {
            DroppedValue::TooLong { found, max } => Rejection::ValueTooLarge { found, max },
            DroppedValue::NoRoom { max } => Rejection::NoRoom { max },
        }
    }
}

impl Default for Sizes {
    /// Any length.
    fn default() -> Sizes {
        Sizes {
            text_bytes_max: usize::MAX,
            array_bytes_max: usize::MAX,
            cache_bytes_max: usize::MAX,
        }
    }
}

impl Sizes {
    /// Why the value is too long by itself, if it is.
    pub fn exceeded(&self, value: &Value<'_>) -> Option<DroppedValue> {
        let (found, max) = match value {
            Value::Text(_, text) => (text.len(), self.text_bytes_max),
            Value::Compound(compound) => {
                let found = compound.bytes.len().saturating_sub(compound.at);
                (found, self.array_bytes_max)
            }
            Value::Invalid
            | Value::Bool(_)
            | Value::Int(..)
            | Value::Uint(..)
            | Value::Double(_) => return None,
        };
        (found > max).then_some(DroppedValue::TooLong { found, max })
    }
}
