//! The settings file: from TOML to [`RawConfig`], and back to the line where a setting stands.
//!
//! The keys of a broker stand in `[[broker]]`, or, where there is only one, at the top. They are told
//! apart here, because serde cannot flatten a table and still know the line of each key.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Limits, RawBroker, RawConfig, RawLimits, RawVrm};
use crate::model::similar::closest;

/// Which broker of a settings file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// None: the setting is none of a broker's, or of the only one.
    Top,
    /// `[[broker]]`, counted from 0.
    Broker(usize),
    /// `[vrm]`
    Vrm,
}

/// Where keys stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Limits,
    Broker,
    Vrm,
}

/// What is no settings file, and where.
#[derive(Debug)]
pub(super) struct Mistake {
    offset: usize,
    complaint: String,
}

impl From<toml::de::Error> for Mistake {
    fn from(error: toml::de::Error) -> Mistake {
        Mistake {
            offset: error.span().map_or(0, |span| span.start),
            complaint: in_plain_words(error.message()),
        }
    }
}

impl Mistake {
    pub(super) fn of(self, path: &Path, text: &str) -> ConfigError {
        ConfigError::Syntax {
            path: path.to_owned(),
            line: line_at(text, self.offset),
            complaint: self.complaint.replace('\n', "; "),
        }
    }
}

type Tree<'i> = DeTable<'i>;

/// Reads a settings file.
pub(super) fn from_toml(text: &str) -> Result<RawConfig, Mistake> {
    let top = DeTable::parse(text).map_err(|error| {
        let mut mistake = Mistake::from(error);
        if let Some(key) = unquoted(text, mistake.offset) {
            mistake.complaint =
                format!("the value of {key} is text, and text needs quotes: {key} = \"…\"");
        }
        mistake
    })?;
    let span = top.span();
    let mut rest = top.into_inner();
    let tables = rest.remove("broker");
    let vrm = rest.remove("vrm");
    let keys = RawBroker::top_keys();
    let (first, rest) = split(rest, &keys);
    if let (Some(key), Some(tables)) = (first.keys().next(), &tables) {
        return Err(Mistake {
            offset: key.span().start,
            complaint: format!(
                "{} is a broker's, and the brokers are in [[broker]] (line {}): put it into one of them, \
                 as {}",
                key.get_ref(),
                line_at(text, tables.span().start),
                table_key(key.get_ref()),
            ),
        });
    }
    let mut raw: RawConfig = read(rest, &span, Place::Top)?;
    raw.first = read(first, &span, Place::Top)?;
    raw.brokers = tables.map(brokers).transpose()?.unwrap_or_default();
    raw.vrm = vrm.map(|table| read_vrm(table, &keys)).transpose()?;
    Ok(raw)
}

fn brokers(found: Spanned<DeValue<'_>>) -> Result<Vec<RawBroker>, Mistake> {
    let offset = found.span().start;
    let wrong = || Mistake {
        offset,
        complaint: "the settings of a broker stand below [[broker]], in two brackets".to_owned(),
    };
    let DeValue::Array(tables) = found.into_inner() else {
        return Err(wrong());
    };
    let mut brokers = Vec::new();
    for table in tables {
        let span = table.span();
        let DeValue::Table(table) = table.into_inner() else {
            return Err(wrong());
        };
        brokers.push(read(table, &span, Place::Broker)?);
    }
    Ok(brokers)
}

fn read_vrm(found: Spanned<DeValue<'_>>, keys: &[String]) -> Result<RawVrm, Mistake> {
    let span = found.span();
    let DeValue::Table(table) = found.into_inner() else {
        return Err(Mistake {
            offset: span.start,
            complaint: "the settings for VRM stand below [vrm]".to_owned(),
        });
    };
    let mut both = keys.to_vec();
    both.extend(keys.iter().map(|key| table_key(key).to_owned()));
    let (broker, rest) = split(table, &both);
    let mut vrm: RawVrm = read(rest, &span, Place::Vrm)?;
    vrm.broker = read(broker, &span, Place::Vrm)?;
    Ok(vrm)
}

/// The entries with these keys, and the others.
fn split<'i>(table: Tree<'i>, keys: &[String]) -> (Tree<'i>, Tree<'i>) {
    table
        .into_iter()
        .partition(|(key, _)| keys.iter().any(|known| *known == **key.get_ref()))
}

fn read<'i, T: Deserialize<'i>>(
    table: Tree<'i>,
    span: &std::ops::Range<usize>,
    place: Place,
) -> Result<T, Mistake> {
    let spanned = Spanned::new(span.clone(), table);
    T::deserialize(toml::Deserializer::from(spanned)).map_err(|error| {
        let unknown = unknown_key(error.message(), place);
        let mut mistake = Mistake::from(error);
        if let Some(complaint) = unknown {
            mistake.complaint = complaint;
        }
        mistake
    })
}

/// The complaint about a key that is not known, with what was likely meant.
fn unknown_key(message: &str, place: Place) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, expected) = rest.split_once("`, expected ")?;
    // The limits are read with the top, which has them in its own list.
    let place = if place == Place::Top && !expected.contains("`limits`") {
        Place::Limits
    } else {
        place
    };
    let known = place.keys();
    let is_long = |long: &&String| place == Place::Top && table_key(long) == key;
    let meant = known.iter().find(is_long).map(String::as_str);
    let elsewhere = || {
        let others = [Place::Top, Place::Limits, Place::Vrm, Place::Broker];
        let has = |other: &&Place| other.keys().iter().any(|known| known == key);
        others.iter().find(has).map(|other| match other {
            Place::Top => "it belongs to the top of the file, before the first table".to_owned(),
            Place::Limits | Place::Broker | Place::Vrm => format!("it belongs to {}", other.name()),
        })
    };
    let hint = match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => {
            elsewhere().unwrap_or_else(|| match closest(key, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "dbus-mqtt.example.toml has all of them".to_owned(),
            })
        }
    };
    Some(match place {
        Place::Top => format!("there is no setting {key}; {hint}"),
        Place::Limits | Place::Broker | Place::Vrm => {
            format!("{} has no setting {key}; {hint}", place.name())
        }
    })
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Top => "the file",
            Place::Limits => "[limits]",
            Place::Broker => "[[broker]]",
            Place::Vrm => "[vrm]",
        }
    }

    fn keys(self) -> Vec<String> {
        let of_broker = || {
            let keys = RawBroker::top_keys();
            keys.iter().map(|key| table_key(key).to_owned()).collect()
        };
        match self {
            Place::Top => {
                let mut keys = RawConfig::top_keys();
                keys.extend(["limits", "broker", "vrm"].map(str::to_owned));
                keys
            }
            Place::Limits => {
                let lines = Limits::default().lines(&RawLimits::default());
                lines.iter().map(|(key, ..)| (*key).to_owned()).collect()
            }
            Place::Broker => of_broker(),
            Place::Vrm => {
                let mut keys: Vec<String> = of_broker();
                keys.extend(RawVrm::KEYS.map(str::to_owned));
                keys
            }
        }
    }
}

/// The key whose value on this line is text without quotes, if that is what is wrong with it.
fn unquoted(text: &str, offset: usize) -> Option<&str> {
    let line = text.lines().nth(line_at(text, offset).checked_sub(1)?)?;
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let begins_as_text = value.starts_with(|c: char| c.is_alphanumeric() || c == '/' || c == ':');
    (!key.is_empty() && key.chars().all(is_key) && begins_as_text).then_some(key)
}

/// What a key of the file's top is called in a table of a broker.
pub(super) fn table_key(key: &str) -> &str {
    match key {
        "mqtt-version" => key,
        _ => key.strip_prefix("mqtt-").unwrap_or(key),
    }
}

/// The parser names what it expects as Rust does.
fn in_plain_words(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "u32" => "a whole number",
        "a nonzero u32" | "a nonzero usize" => "a whole number above 0",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list in brackets",
        other => other,
    };
    format!("{found}, expected {expected}")
}

/// Where a key stands in a file that was read without complaint, and what it is called there.
pub(super) fn place_of(text: &str, table: Table, key: &'static str) -> (usize, &'static str) {
    let short = table_key(key);
    let place = || {
        let top = DeTable::parse(text).ok()?;
        let (inner, start) = match table {
            Table::Top => (top.get_ref(), 0),
            Table::Broker(index) => {
                let table = top.get_ref().get("broker")?.get_ref().get(index)?;
                (table.get_ref().as_table()?, table.span().start)
            }
            Table::Vrm => {
                let table = top.get_ref().get("vrm")?;
                (table.get_ref().as_table()?, table.span().start)
            }
        };
        let names = [key, short, key.strip_prefix("mqtt-").unwrap_or(key)];
        let found = inner.keys().find_map(|name| {
            let known = names
                .into_iter()
                .find(|known| **known == **name.get_ref())?;
            Some((line_at(text, name.span().start), known))
        });
        // What is not set is blamed on its table.
        Some(found.unwrap_or((line_at(text, start), short)))
    };
    place().unwrap_or((1, short))
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before.filter(|byte| *byte == b'\n').count() + 1
}
