//! What a rule says, in words: the cells of the tables that people read.

use std::fmt::Write as _;

use crate::schema::{self, Access, DataType, Publish, Rule, Schema};

/// The D-Bus type, as a schema file writes it; empty where it is not known.
pub fn data(rule: &Rule) -> &str {
    if rule.data == DataType::Unknown {
        return "";
    }
    schema::type_word(&rule.data)
}

/// `r` or `rw`; empty where no source says.
pub fn access(rule: &Rule) -> &'static str {
    match rule.access {
        Access::Unknown => "",
        Access::Read => "r",
        Access::ReadWrite => "rw",
    }
}

/// The range of a write: `0..100`, with nothing at an open end.
pub fn range(rule: &Rule) -> String {
    let end = |end: f64| {
        if end.is_infinite() {
            String::new()
        } else {
            end.to_string()
        }
    };
    rule.range
        .map(|(min, max)| format!("{}..{}", end(min), end(max)))
        .unwrap_or_default()
}

/// The description, and what is special about it.
pub fn remarks(rule: &Rule, description: &str) -> String {
    let mut text = description.to_owned();
    let special = [
        (
            rule.publish == Publish::Blocked,
            "never published or read for clients",
        ),
        (
            rule.publish == Publish::PortalId,
            "always the portal id, and retained",
        ),
        (rule.secret, "secret: published as ******"),
    ];
    for (_, remark) in special.iter().filter(|(holds, _)| *holds) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(remark);
    }
    text
}

/// The codes and what they mean: `0 off, 1 on`; of a bit field `bit 0 fault, bit 1 alarm`.
pub fn codes(rule: &Rule) -> String {
    let mut text = String::new();
    for (codes, before) in [(&rule.labels, ""), (&rule.bits, "bit ")] {
        for (code, label) in codes.iter() {
            if !text.is_empty() {
                text.push_str(", ");
            }
            // Writing to a text cannot fail.
            let _ = write!(text, "{before}{code} {label}");
        }
    }
    text
}

/// Puts the pieces of a text into lines of so many characters; a longer piece has a separate line.
pub fn wrap<'t>(pieces: impl Iterator<Item = &'t str>, width: usize) -> Vec<String> {
    let length = |text: &str| text.trim_end().chars().count();
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        match lines.last_mut() {
            Some(line) if line.chars().count() + length(piece) <= width => line.push_str(piece),
            _ => lines.push(piece.to_owned()),
        }
    }
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// The name under which the rows go that every service may have.
pub(super) const EVERY_TYPE: &str = "_default";

/// All service types, and what every service may have.
pub(super) fn types(schema: &Schema) -> Vec<(&str, &str)> {
    let described = |name| (name, schema.describe(name).unwrap_or_default());
    let own = schema.service_types().into_iter().map(described);
    own.chain([(EVERY_TYPE, "what every service may have")])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_says() {
        let rule = Rule {
            data: DataType::Compound("as".into()),
            access: Access::ReadWrite,
            range: Some((f64::NEG_INFINITY, 0.5)),
            secret: true,
            labels: vec![(0, "off".into()), (1, "on".into())].into(),
            ..Rule::DEFAULT
        };
        assert_eq!(
            (data(&rule), access(&rule), &*range(&rule)),
            ("as", "rw", "..0.5")
        );
        assert_eq!(
            remarks(&rule, "a word"),
            "a word; secret: published as ******"
        );
        assert_eq!(codes(&rule), "0 off, 1 on");
        let nothing = Rule::DEFAULT;
        assert_eq!(
            (data(&nothing), access(&nothing), &*range(&nothing)),
            ("", "", "")
        );
        assert_eq!((&*remarks(&nothing, ""), &*codes(&nothing)), ("", ""));
    }

    #[test]
    fn lines_break_between_words() {
        let words = |text: &'static str| text.split_inclusive(' ');
        assert_eq!(wrap(words("one two three"), 7), ["one two", "three"]);
        assert_eq!(wrap(words("überlang x"), 3), ["überlang", "x"]);
        assert_eq!(
            wrap("0 a b, 1 c d".split_inclusive(", "), 8),
            ["0 a b,", "1 c d"]
        );
        assert!(wrap(words(""), 3).is_empty());
    }
}
