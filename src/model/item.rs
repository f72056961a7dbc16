//! Items: what one D-Bus path of a service has, and what a signal or a reply says of it.

use super::value::Value;

/// What one message says of one item.
///
/// A part that the message does not mention is `None`: a partial change never erases what it does
/// not mention (§2.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ItemChange<'a> {
    /// The item's path.
    pub path: &'a str,
    /// Its value.
    pub value: Option<Value<'a>>,
    /// Its lowest value.
    pub min: Option<Value<'a>>,
    /// Its highest value.
    pub max: Option<Value<'a>>,
}

impl ItemChange<'_> {
    /// A change that says nothing, of no path.
    pub const EMPTY: ItemChange<'static> = ItemChange {
        path: "",
        value: None,
        min: None,
        max: None,
    };

    /// Whether the message said nothing that clients are told, e.g. a `Text` alone.
    pub fn is_empty(&self) -> bool {
        self.value.is_none() && self.min.is_none() && self.max.is_none()
    }
}
