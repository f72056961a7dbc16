//! The value of a setting as TOML: in the settings file, and as the default of a declaration.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::Error as _;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::error::ConfigError;
use super::secret::Secret;
use super::setting::{FromSetting, Kind, Setting, THROTTLE, Written, one_of};

/// What is not a settings file, and where.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) offset: usize,
    pub(super) complaint: String,
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
    pub(super) fn at(offset: usize, complaint: impl Into<String>) -> Mistake {
        Mistake {
            offset,
            complaint: complaint.into(),
        }
    }

    pub(super) fn of(self, path: &Path, text: &str) -> ConfigError {
        ConfigError::Syntax {
            path: path.to_owned(),
            line: line_at(text, self.offset),
            complaint: self.complaint.replace('\n', "; "),
        }
    }
}

impl Setting {
    /// The default, as if it were written.
    pub(super) fn default(&self) -> Option<Written> {
        let written = value(self, self.default?);
        debug_assert!(written.is_some(), "the default of {}", self.key);
        written
    }

    /// The default as the program reads it. That each can be read is tested: `every_default_can_be_read`.
    pub(super) fn default_as<T: FromSetting + Default>(&self) -> T {
        let default = self
            .default()
            .map(|written| T::from_setting(self, &written));
        default.and_then(Result::ok).unwrap_or_default()
    }
}

/// A value as the settings file would have it; `None` if it is none of this setting.
pub(super) fn value(setting: &Setting, toml: &str) -> Option<Written> {
    read_value(setting, DeValue::parse(toml).ok()?).ok()
}

pub(super) fn read_value(
    setting: &Setting,
    value: Spanned<DeValue<'_>>,
) -> Result<Written, Mistake> {
    let offset = value.span().start;
    let written = match (setting.kind, value.get_ref()) {
        // A word that is a number may stand without quotes: `mqtt-version = 5`.
        (Kind::Word(words), DeValue::Integer(number)) => one_of(words, number.as_str())
            .map(Written::Text)
            .map_err(toml::de::Error::custom),
        (Kind::Characters, DeValue::Table(_)) => of(value, Written::Pairs),
        (Kind::Characters, _) => of(value, |text: String| Written::each_to_underscore(&text)),
        (Kind::Truth | Kind::Switch, _) => of(value, Written::Truth),
        (Kind::Number | Kind::Seconds | Kind::Milliseconds, _) => of(value, Written::Number),
        (Kind::Text, _) => of(value, Written::Text),
        (Kind::Word(words), _) => {
            String::deserialize(ValueDeserializer::from(value)).and_then(|text| {
                let word = one_of(words, &text).map_err(toml::de::Error::custom)?;
                Ok(Written::Text(word))
            })
        }
        // A secret of the wrong type must not be shown in the complaint about it.
        (Kind::Secret, _) => of(value, |text: String| Written::Secret(Secret::from(&*text)))
            .map_err(|_| toml::de::Error::custom("a password is a text, in quotes")),
        (Kind::File, _) => of(value, Written::File),
        (Kind::Folders, _) => of(value, |folders: Vec<PathBuf>| Written::Folders(folders)),
        (Kind::Filters, _) => of(value, Written::List),
        (Kind::Throttle, _) => of(value, |entries: Vec<(String, String, f64)>| {
            let entry =
                |(filter, time, band): (String, String, f64)| [filter, time, band.to_string()];
            Written::Throttle(entries.into_iter().map(entry).collect())
        })
        .map_err(|_| toml::de::Error::custom(THROTTLE)),
    };
    written.map_err(|error| {
        let has_place = error.span().is_some();
        let mut mistake = Mistake::from(error);
        if !has_place {
            mistake.offset = offset;
        }
        mistake
    })
}

fn of<'i, T: Deserialize<'i>>(
    value: Spanned<DeValue<'i>>,
    written: impl Fn(T) -> Written,
) -> Result<Written, toml::de::Error> {
    T::deserialize(ValueDeserializer::from(value)).map(written)
}

/// The parser names what it expects as Rust does.
fn in_plain_words(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "u64" => "a whole number",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list in brackets",
        other => other,
    };
    format!("{found}, expected {expected}")
}

pub(super) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before.filter(|byte| *byte == b'\n').count() + 1
}
