//! D-Bus values as the programs around the bridge need them: exact types, and JSON both ways.
//!
//! A recording keeps the D-Bus signature beside the JSON value, so that the very same value comes
//! back: 64-bit integers and doubles to the bit. The bridge itself has its own, faster, codec; this
//! one must not be used on its hot path. Its main user is [`recording`](super::recording).

mod json;
mod text;
mod variant;

pub use self::json::{ValueError, from_json, signature, to_json, untyped};
pub use self::text::{plain_text, text_like};
pub use self::variant::{BusValue, as_f64, convert, copy, invalid, is_invalid, same};
