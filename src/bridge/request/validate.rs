//! What the schema has to say about a write before it is sent (§3, §5.6): what a label stands for, and
//! whether the item takes writes and this value at all.
//!
//! Decides nothing about D-Bus types: that is `convert`. Whether a doubt is a refusal is decided by
//! `requests`, since the service knows best and the operator may trust the schema more.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::bridge::store::cache::PresentType;
use crate::model::request::Rejection;
use crate::model::value::Json;
use crate::schema::{Access, Rule};

/// The value with a label replaced by its code, where the row has labels. Numbers are what they are.
pub fn without_label<'j>(
    json: &'j Json,
    present: &PresentType,
    rule: &Rule,
) -> Result<Cow<'j, Json>, Rejection> {
    let Json::Text(text) = json else {
        return Ok(Cow::Borrowed(json));
    };
    // Some products have a text where others have a number: then it is that text that is meant.
    let is_text = matches!(present, PresentType::Basic(b's'));
    if rule.labels.is_empty() || is_text || text.contains('\0') {
        return Ok(Cow::Borrowed(json));
    }
    let exact = codes(rule, |label| label == &**text);
    let found = if exact.is_empty() {
        let lower = text.to_lowercase();
        codes(rule, |label| label.to_lowercase() == lower)
    } else {
        exact
    };
    match *found {
        [code] => Ok(Cow::Owned(Json::Int(code))),
        [] if !rule.data.is_numeric() => Ok(Cow::Borrowed(json)),
        [] => Err(Rejection::NoLabel {
            labels: known(rule),
        }),
        [..] => Err(Rejection::AmbiguousLabel {
            codes: join(found.iter()),
        }),
    }
}

/// What speaks against the write, after the schema.
pub fn doubt(json: &Json, rule: &Rule) -> Option<Rejection> {
    if rule.access == Access::Read {
        return Some(Rejection::ReadOnlyItem);
    }
    let value = number(json)?;
    let is_code = !rule.labels.is_empty() || !rule.bits.is_empty();
    if is_code && value.fract() != 0.0 {
        return Some(Rejection::OutOfRange {
            range: "whole numbers".into(),
        });
    }
    let (min, max) = rule.range?;
    let outside = value < min || value > max;
    outside.then(|| {
        let range = match (min.is_infinite(), max.is_infinite()) {
            (true, _) => format!("at most {max}"),
            (_, true) => format!("at least {min}"),
            _ => format!("{min} to {max}"),
        };
        Rejection::OutOfRange {
            range: range.into(),
        }
    })
}

/// The value as far as a range can be told of it.
fn number(json: &Json) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "no range is that exact")]
    match json {
        Json::Int(value) => Some(*value as f64),
        Json::Uint(value) => Some(*value as f64),
        Json::Float(value) => Some(*value),
        Json::Bool(value) => Some(f64::from(u8::from(*value))),
        Json::Null | Json::Text(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn codes(rule: &Rule, fits: impl Fn(&str) -> bool) -> Vec<i64> {
    let labels = rule.labels.iter().filter(|(_, label)| fits(label));
    labels.map(|(code, _)| *code).collect()
}

/// The labels that there are, as far as they fit a line.
fn known(rule: &Rule) -> Box<str> {
    let shown = rule.labels.iter().take(LABELS_SHOWN);
    let mut text = shown.fold(String::new(), |mut text, (_, label)| {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a text cannot fail.
        let _ = write!(text, "{comma}{label:?}");
        text
    });
    if rule.labels.len() > LABELS_SHOWN {
        text.push_str(" and others");
    }
    text.into()
}

fn join<'c>(codes: impl Iterator<Item = &'c i64>) -> Box<str> {
    let codes: Vec<_> = codes.map(ToString::to_string).collect();
    codes.join(", ").into()
}

const LABELS_SHOWN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::DataType;

    fn labelled(data: DataType, labels: &[(i64, &'static str)]) -> Rule {
        let labels: Vec<_> = labels
            .iter()
            .map(|(code, label)| (*code, (*label).into()))
            .collect();
        Rule {
            data,
            labels: labels.into(),
            ..Rule::DEFAULT
        }
    }

    #[test]
    fn s5_6_a_label_stands_for_its_code() {
        let rule = labelled(
            DataType::Int32,
            &[
                (1, "Charger only"),
                (2, "on"),
                (3, "ON"),
                (4, "On"),
                (5, "same"),
                (6, "same"),
            ],
        );
        let check = |text: &str, expected: Result<i64, &str>| {
            let json = Json::Text(text.into());
            let found = without_label(&json, &PresentType::None, &rule);
            let found = found
                .map(Cow::into_owned)
                .map_err(|error| error.to_string());
            assert_eq!(
                found,
                expected.map(Json::Int).map_err(str::to_owned),
                "{text}"
            );
        };
        check("Charger only", Ok(1));
        check("charger ONLY", Ok(1));
        check("on", Ok(2));
        check("ON", Ok(3));
        let several = "the text is the label of several codes, ";
        check("oN", Err(&format!("{several}2, 3, 4; write the number")));
        check("same", Err(&format!("{several}5, 6; write the number")));
        check(
            "off",
            Err(
                "the text is not a label of the item; it has \"Charger only\", \"on\", \"ON\", \"On\", \
                 \"same\", \"same\", and takes numbers",
            ),
        );
        let number = Json::Int(9);
        assert_eq!(
            without_label(&number, &PresentType::None, &rule),
            Ok(Cow::Borrowed(&number))
        );
    }

    #[test]
    fn s5_6_a_text_that_may_be_meant_stays_one() {
        let text = Json::Text("on".into());
        let check = |rule: &Rule, present: PresentType| {
            assert_eq!(
                without_label(&text, &present, rule),
                Ok(Cow::Borrowed(&text))
            );
        };
        check(
            &labelled(DataType::Unknown, &[(1, "on")]),
            PresentType::Basic(b's'),
        );
        check(
            &labelled(DataType::Unknown, &[(1, "off")]),
            PresentType::None,
        );
        check(&labelled(DataType::Int32, &[]), PresentType::None);
    }

    #[test]
    fn s5_6_what_speaks_against_a_write() {
        use Access::{Read, ReadWrite, Unknown};
        let check = |access, range, json: Json, expected: Option<&str>| {
            let rule = Rule {
                access,
                range,
                ..Rule::DEFAULT
            };
            let found = doubt(&json, &rule).map(|doubt| doubt.to_string());
            assert_eq!(found.as_deref(), expected, "{json:?}");
        };
        check(
            Read,
            None,
            Json::Int(1),
            Some("the schema says that it can only be read"),
        );
        check(Unknown, None, Json::Int(1), None);
        let percent = Some((0.0, 100.0));
        check(ReadWrite, percent, Json::Int(0), None);
        check(ReadWrite, percent, Json::Float(100.0), None);
        let outside = Some("the schema says that it takes 0 to 100");
        check(ReadWrite, percent, Json::Float(100.5), outside);
        check(ReadWrite, percent, Json::Int(-1), outside);
        check(ReadWrite, percent, Json::Uint(u64::MAX), outside);
        check(ReadWrite, percent, Json::Null, None);
        check(ReadWrite, percent, Json::Text("x".into()), None);
        let open = Some((-1.0, f64::INFINITY));
        check(ReadWrite, open, Json::Int(i64::MAX), None);
        check(
            ReadWrite,
            open,
            Json::Int(-2),
            Some("the schema says that it takes at least -1"),
        );
        // No code of an enumeration has a fraction.
        let rule = labelled(DataType::Unknown, &[(3, "on")]);
        assert_eq!(doubt(&Json::Float(3.0), &rule), None);
        let found = doubt(&Json::Float(3.5), &rule).map(|doubt| doubt.to_string());
        let whole = "the schema says that it takes whole numbers";
        assert_eq!(found.as_deref(), Some(whole));
    }
}
