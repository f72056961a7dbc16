//! The settings file: from TOML to values, each with the line where it stands.
//!
//! The keys of a broker stand in `[[broker]]`, or, where there is only one, at the top.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::setting::{Setting, Written};
use super::settings::{BROKER, LIMITS, LISTEN, SHARED, TOP, VRM};
use super::toml_value::{Mistake, line_at, read_value};
use crate::model::similar::closest;

/// A settings file, read.
#[derive(Debug, Default)]
pub(super) struct SettingsFile {
    pub(super) top: Part,
    pub(super) limits: Part,
    pub(super) brokers: Vec<Part>,
    pub(super) vrm: Part,
    pub(super) listeners: Vec<Part>,
}

/// One table of it.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Where it begins.
    pub(super) line: usize,
    pub(super) entries: Vec<Line>,
}

/// One setting.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) setting: &'static Setting,
    pub(super) written: Written,
    pub(super) number: usize,
    /// What it is called there.
    pub(super) key: &'static str,
}

/// A table that keys can stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Top,
    Limits,
    Broker,
    Vrm,
    Listen,
}

/// Reads a settings file.
pub(super) fn from_toml(text: &str) -> Result<SettingsFile, Mistake> {
    let top = DeTable::parse(text).map_err(|error| {
        let mut mistake = Mistake::from(error);
        if let Some(key) = unquoted(text, mistake.offset) {
            mistake.complaint =
                format!("the value of {key} is text, and text needs quotes: {key} = \"…\"");
        }
        mistake
    })?;
    let mut top = top.into_inner();
    let mut part = |key: &str, table, complaint| match top.remove(key) {
        None => Ok(Part::default()),
        Some(found) => read_table(text, found, table, complaint),
    };
    let limits = part("limits", Table::Limits, "the limits stand below [limits]")?;
    let vrm = part("vrm", Table::Vrm, "the settings for VRM stand below [vrm]")?;
    let listeners = listeners(text, &mut top)?;
    let tables = top.remove("broker");
    let line = tables
        .as_ref()
        .map(|tables| line_at(text, tables.span().start));
    let brokers = tables.map(|tables| {
        let complaint = "the settings of a broker stand below [[broker]], in two brackets";
        let offset = tables.span().start;
        let DeValue::Array(tables) = tables.into_inner() else {
            return Err(Mistake::at(offset, complaint));
        };
        let tables = tables.into_iter();
        tables
            .map(|table| read_table(text, table, Table::Broker, complaint))
            .collect()
    });
    let top = read(text, 1, top, Table::Top)?;
    let misplaced = |line: &&Line| BROKER.iter().any(|setting| setting.key == line.setting.key);
    if let (Some(line), Some(found)) = (line, top.entries.iter().find(misplaced)) {
        return Err(Mistake {
            offset: offset_of(text, found.number),
            complaint: format!(
                "{} is a broker's, and the brokers are in [[broker]] (line {line}): put it into one of \
                 them, as {}",
                found.key,
                found.setting.table_key(),
            ),
        });
    }
    Ok(SettingsFile {
        top,
        limits,
        brokers: brokers.transpose()?.unwrap_or_default(),
        vrm,
        listeners,
    })
}

/// The tables `[[listen]]`; a text of that name stays where it is.
fn listeners(text: &str, top: &mut DeTable<'_>) -> Result<Vec<Part>, Mistake> {
    let is_table = |value: &DeValue<'_>| matches!(value, DeValue::Array(_) | DeValue::Table(_));
    if !top
        .get("listen")
        .is_some_and(|found| is_table(found.get_ref()))
    {
        return Ok(Vec::new());
    }
    let Some(found) = top.remove("listen") else {
        return Ok(Vec::new());
    };
    let complaint = "a listener stands below [[listen]], in two brackets";
    let offset = found.span().start;
    let DeValue::Array(tables) = found.into_inner() else {
        return Err(Mistake::at(offset, complaint));
    };
    let tables = tables.into_iter();
    tables
        .map(|table| read_table(text, table, Table::Listen, complaint))
        .collect()
}

fn read_table(
    text: &str,
    found: Spanned<DeValue<'_>>,
    table: Table,
    complaint: &str,
) -> Result<Part, Mistake> {
    let offset = found.span().start;
    let DeValue::Table(entries) = found.into_inner() else {
        return Err(Mistake::at(offset, complaint));
    };
    read(text, line_at(text, offset), entries, table)
}

fn read(text: &str, line: usize, entries: DeTable<'_>, table: Table) -> Result<Part, Mistake> {
    let mut part = Part {
        line,
        entries: Vec::new(),
    };
    for (name, value) in entries {
        let offset = name.span().start;
        let Some((setting, key)) = table.setting(name.get_ref()) else {
            return Err(Mistake::at(offset, unknown_key(name.get_ref(), table)));
        };
        if part
            .entries
            .iter()
            .any(|line| line.setting.key == setting.key)
        {
            return Err(Mistake::at(offset, format!("{key} is set twice")));
        }
        part.entries.push(Line {
            setting,
            written: read_value(setting, value)?,
            number: line_at(text, offset),
            key,
        });
    }
    Ok(part)
}

/// The complaint about a key that is not known, with what was likely meant.
fn unknown_key(key: &str, table: Table) -> String {
    let known = table.keys();
    let is_long = |setting: &&Setting| table == Table::Top && setting.table_key() == key;
    let meant = table.settings().find(is_long).map(|setting| setting.key);
    let elsewhere = || {
        let others = [
            Table::Top,
            Table::Limits,
            Table::Vrm,
            Table::Broker,
            Table::Listen,
        ];
        let has = |other: &&Table| other.keys().contains(&key);
        others.iter().find(has).map(|other| match other {
            Table::Top => "it belongs to the top of the file, before the first table".to_owned(),
            Table::Limits | Table::Broker | Table::Vrm | Table::Listen => {
                format!("it belongs to {}", other.name())
            }
        })
    };
    let hint = match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => elsewhere().unwrap_or_else(|| match closest(key, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "dbus-mqtt.example.toml has all of them".to_owned(),
        }),
    };
    match table {
        Table::Top => format!("there is no setting {key}; {hint}"),
        Table::Limits | Table::Broker | Table::Vrm | Table::Listen => {
            format!("{} has no setting {key}; {hint}", table.name())
        }
    }
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Top => "the file",
            Table::Limits => "[limits]",
            Table::Broker => "[[broker]]",
            Table::Vrm => "[vrm]",
            Table::Listen => "[[listen]]",
        }
    }

    /// The settings that can stand there.
    fn settings(self) -> impl Iterator<Item = &'static Setting> {
        let (own, shared): (&[Setting], &[Setting]) = match self {
            Table::Top => (TOP, BROKER),
            Table::Limits => (LIMITS, &[]),
            Table::Broker => (&[], BROKER),
            Table::Vrm => (VRM, BROKER),
            Table::Listen => (LISTEN, BROKER),
        };
        let all = shared.iter().chain(own);
        let is_shared = move |setting: &&Setting| {
            let is_own = own.iter().any(|known| known.key == setting.key);
            self != Table::Listen || is_own || SHARED.contains(&setting.key)
        };
        all.filter(|setting| !setting.no_key).filter(is_shared)
    }

    /// The setting of this name, and the name.
    fn setting(self, name: &str) -> Option<(&'static Setting, &'static str)> {
        self.settings().find_map(|setting| {
            let short = setting.key.strip_prefix("mqtt-").unwrap_or(setting.key);
            let names = match self {
                Table::Top => [setting.key; 2],
                Table::Limits | Table::Broker | Table::Vrm | Table::Listen => [setting.key, short],
            };
            let key = names.into_iter().find(|key| *key == name)?;
            Some((setting, key))
        })
    }

    fn keys(self) -> Vec<&'static str> {
        match self {
            Table::Top => {
                let keys = self.settings().map(|setting| setting.key);
                keys.chain(["limits", "broker", "vrm"]).collect()
            }
            Table::Limits | Table::Broker | Table::Vrm | Table::Listen => {
                self.settings().map(Setting::table_key).collect()
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

/// Where a line begins, counted from 1.
fn offset_of(text: &str, line: usize) -> usize {
    let before = text.split_inclusive('\n').take(line.saturating_sub(1));
    before.map(str::len).sum()
}
