//! One item of a service: its value, its text, what may be written to it.
//!
//! Pure: [`service`](super::service) puts items on a bus.

use zbus::Variant;

use super::value::{self, BusValue};

/// An item as a service has it.
#[derive(Debug)]
pub struct Item {
    /// The present value.
    pub value: BusValue,
    /// The text for people, where the service announces one.
    pub text: Option<String>,
    /// The least value that may be written.
    pub min: Option<BusValue>,
    /// The greatest value that may be written.
    pub max: Option<BusValue>,
    /// What a reset would set it to.
    pub default: Option<BusValue>,
    /// Whether `SetValue` is for everyone.
    pub writable: bool,
}

/// Why a write is refused, as the integer that `SetValue` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(pub i32);

impl Refusal {
    /// The item is read only.
    pub const READ_ONLY: Refusal = Refusal(1);
    /// The value has the wrong type, is out of range, or the service does not like it.
    pub const VALUE: Refusal = Refusal(2);
}

impl Item {
    /// A read-only item that announces no text.
    pub fn new(value: impl Into<BusValue>) -> Self {
        Item {
            value: value.into(),
            text: None,
            min: None,
            max: None,
            default: None,
            writable: false,
        }
    }

    /// With a text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// With the text that goes without saying.
    #[must_use]
    pub fn plain_text(mut self) -> Self {
        self.text = Some(value::plain_text(&self.value));
        self
    }

    /// With a range.
    #[must_use]
    pub fn range(mut self, min: impl Into<BusValue>, max: impl Into<BusValue>) -> Self {
        self.min = Some(min.into());
        self.max = Some(max.into());
        self
    }

    /// With a default.
    #[must_use]
    pub fn default(mut self, default: impl Into<BusValue>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// Open for writes.
    #[must_use]
    pub fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// What the item would hold after a write of `value`, or why it may not be written.
    ///
    /// A number of another type becomes the type that the item has, where nothing is lost: the
    /// services written in C++ do so. An invalid item takes any type, and an item with a range is
    /// never made invalid.
    pub fn accept(&self, value: &Variant<'_>) -> Result<BusValue, Refusal> {
        if !self.writable {
            return Err(Refusal::READ_ONLY);
        }
        let ranged = self.min.is_some() || self.max.is_some();
        if value::is_invalid(value) {
            return if ranged {
                Err(Refusal::VALUE)
            } else {
                Ok(value::copy(value))
            };
        }
        if matches!(value, Variant::Fd(_)) {
            return Err(Refusal::VALUE);
        }
        let accepted = if value::is_invalid(&self.value) {
            value::copy(value)
        } else {
            value::convert(value, self.value.value_signature()).ok_or(Refusal::VALUE)?
        };
        if self.in_range(&accepted) {
            Ok(accepted)
        } else {
            Err(Refusal::VALUE)
        }
    }

    /// The text that `GetText` answers.
    pub fn shown(&self) -> String {
        self.text
            .clone()
            .unwrap_or_else(|| value::plain_text(&self.value))
    }

    /// The text for a new value: as given, else in the form of the present one, where there is one.
    pub fn text_for(&self, value: &Variant<'_>, given: Option<String>) -> Option<String> {
        given.or_else(|| {
            self.text
                .as_deref()
                .map(|present| value::text_like(present, value))
        })
    }

    fn in_range(&self, value: &Variant<'_>) -> bool {
        let Some(number) = value::as_f64(value) else {
            return true;
        };
        let min = self.min.as_ref().and_then(value::as_f64);
        let max = self.max.as_ref().and_then(value::as_f64);
        // The settings service writes "no limits" as 0 and 0.
        if let (Some(min), Some(max)) = (min, max)
            && min >= max
        {
            return true;
        }
        min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max)
    }
}

impl Clone for Item {
    fn clone(&self) -> Self {
        Item {
            value: value::copy(&self.value),
            text: self.text.clone(),
            min: self.min.as_ref().map(|min| value::copy(min)),
            max: self.max.as_ref().map(|max| value::copy(max)),
            default: self.default.as_ref().map(|default| value::copy(default)),
            writable: self.writable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(item: &Item, written: impl Into<BusValue>, expected: Result<BusValue, Refusal>) {
        let accepted = item.accept(&written.into());
        assert_eq!(accepted.is_ok(), expected.is_ok(), "{accepted:?}");
        match (accepted, expected) {
            (Ok(a), Ok(b)) => assert!(value::same(&a, &b), "{a:?}"),
            (a, b) => assert_eq!(a.err(), b.err()),
        }
    }

    #[test]
    fn writes_are_checked() {
        let read_only = Item::new(1_i32);
        check(&read_only, 2_i32, Err(Refusal::READ_ONLY));

        let number = Item::new(1.0_f64).writable();
        check(&number, 2_i32, Ok(2.0_f64.into()));
        check(&number, "2", Err(Refusal::VALUE));
        check(&number, value::invalid(), Ok(value::invalid()));

        let ranged = Item::new(1_i32).range(0_i32, 3_i32).writable();
        check(&ranged, 3_i32, Ok(3_i32.into()));
        check(&ranged, 3.0_f64, Ok(3_i32.into()));
        check(&ranged, 4_i32, Err(Refusal::VALUE));
        check(&ranged, -1_i32, Err(Refusal::VALUE));
        check(&ranged, value::invalid(), Err(Refusal::VALUE));

        let unlimited = Item::new(1_i32).range(0_i32, 0_i32).writable();
        check(&unlimited, 1000_i32, Ok(1000_i32.into()));

        let half = Item {
            max: Some(10_i32.into()),
            ..Item::new(1_i32).writable()
        };
        check(&half, -1000_i32, Ok((-1000_i32).into()));
        check(&half, 11_i32, Err(Refusal::VALUE));

        let empty = Item::new(value::invalid()).writable();
        check(&empty, "text", Ok("text".into()));
    }

    #[test]
    fn texts_follow_the_value() {
        let item = Item::new(50.0_f64).text("50.0A");
        assert_eq!(item.text_for(&8.25_f64.into(), None).unwrap(), "8.2A");
        assert_eq!(item.text_for(&8_f64.into(), Some("x".into())).unwrap(), "x");
        assert_eq!(Item::new(1_i32).text_for(&2_i32.into(), None), None);
        assert_eq!(Item::new(1_i32).shown(), "1");
    }
}
