//! The texts that services give with their values.

use zbus::Variant;

use super::json::to_json;
use super::variant::{as_f64, is_invalid};

/// A text for a value that came without one: the bare number or string, empty where invalid.
pub fn plain_text(value: &Variant<'_>) -> String {
    if is_invalid(value) {
        return String::new();
    }
    if let Variant::Str(text) = value {
        return text.to_string();
    }
    if let Variant::Bool(on) = value {
        return String::from(if *on { "yes" } else { "no" });
    }
    to_json(value).map_or_else(|_| String::new(), |json| json.to_string())
}

/// The text of a new value, in the form of the old value's text: the same number of decimals, the
/// same unit. `("87.5%", 42.0)` gives `"42.0%"`.
pub fn text_like(old: &str, value: &Variant<'_>) -> String {
    let Some(number) = as_f64(value) else {
        return plain_text(value);
    };
    let end = old
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'))
        .unwrap_or(old.len());
    let (figures, unit) = old.split_at(end);
    if figures.parse::<f64>().is_err() {
        return plain_text(value);
    }
    let decimals = figures.split_once('.').map_or(0, |(_, after)| after.len());
    format!("{number:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::super::variant::invalid;
    use super::*;

    #[test]
    fn texts_keep_their_form() {
        assert_eq!(text_like("87.5%", &Variant::F64(42.0)), "42.0%");
        assert_eq!(text_like("-42W", &Variant::I32(7)), "7W");
        assert_eq!(text_like("on", &Variant::I32(4)), "4");
        assert_eq!(text_like("", &Variant::F64(0.5)), "0.5");
        assert_eq!(text_like("x", &Variant::from("hello")), "hello");
        assert_eq!(plain_text(&invalid()), "");
        assert_eq!(plain_text(&Variant::Bool(true)), "yes");
    }
}
