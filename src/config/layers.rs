//! The places where a setting can be, in their order: flag, environment, file (§7).
//!
//! Each is a whole [`RawConfig`]. The environment is read through the parser of the flags, so that
//! a variable takes what its flag takes: `DBUS_MQTT_` and the flag's name in capitals, without the
//! flag's `mqtt-`.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Command, FromArgMatches};
use serde::Deserialize;
use toml::de::DeTable;

use super::machine::{Machine, read_text};
use super::{ConfigError, Origin, Problem, RawConfig};

/// All that was set, by place, the strongest first.
#[derive(Debug, Clone)]
pub struct Layers {
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    place: Place,
    raw: RawConfig,
}

#[derive(Debug, Clone)]
enum Place {
    Arguments,
    Environment,
    File { path: PathBuf, text: String },
}

/// A setting, and where it was found.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
    /// 0 is the strongest place.
    pub(super) rank: usize,
}

impl Layers {
    /// Puts the environment and the settings file below what the arguments say.
    pub fn read(arguments: RawConfig, machine: &Machine) -> Result<Layers, ConfigError> {
        let environment = from_environment(machine)?;
        let mut layers = Layers {
            layers: vec![
                Layer {
                    place: Place::Arguments,
                    raw: arguments,
                },
                Layer {
                    place: Place::Environment,
                    raw: environment,
                },
            ],
        };
        if let Some(found) = layers.find("config", |raw| raw.config.clone()) {
            let text = found.read(FILE_BYTES_MAX)?;
            let path = found.value;
            let raw = from_toml(&text).map_err(|error| syntax_error(&path, &text, &error))?;
            layers.layers.push(Layer {
                place: Place::File { path, text },
                raw,
            });
        }
        Ok(layers)
    }

    /// The strongest setting of this key.
    pub(super) fn find<T>(
        &self,
        key: &'static str,
        field: impl Fn(&RawConfig) -> Option<T>,
    ) -> Option<Found<T>> {
        self.layers.iter().enumerate().find_map(|(rank, layer)| {
            let value = field(&layer.raw)?;
            Some(Found {
                value,
                origin: layer.origin(key),
                rank,
            })
        })
    }
}

impl Layer {
    fn origin(&self, key: &'static str) -> Origin {
        match &self.place {
            Place::Arguments => Origin::Flag(key.into()),
            Place::Environment => Origin::Variable(variable_name(key).into()),
            Place::File { path, text } => Origin::File {
                path: path.clone(),
                line: line_of_key(text, key),
                key,
            },
        }
    }
}

impl<T> Found<T> {
    /// The complaint about it.
    pub(super) fn wrong(&self, problem: impl Into<Problem>) -> ConfigError {
        ConfigError::Setting {
            origin: self.origin.clone(),
            problem: problem.into(),
        }
    }
}

impl Found<PathBuf> {
    /// The text in the file that it names.
    pub(super) fn read(&self, bytes_max: u64) -> Result<String, ConfigError> {
        read_text(&self.value, bytes_max).map_err(|reason| {
            let path = self.value.clone();
            self.wrong(Problem::Unreadable { path, reason })
        })
    }
}

/// The flag `keep-alive` is the variable `DBUS_MQTT_KEEP_ALIVE`, `mqtt-server` is `DBUS_MQTT_SERVER`.
pub(super) fn variable_name(key: &str) -> String {
    let short = key.strip_prefix("mqtt-").unwrap_or(key);
    format!("DBUS_MQTT_{}", short.replace('-', "_").to_ascii_uppercase())
}

pub(super) fn from_toml(text: &str) -> Result<RawConfig, toml::de::Error> {
    RawConfig::deserialize(toml::Deserializer::parse(text)?)
}

fn from_environment(machine: &Machine) -> Result<RawConfig, ConfigError> {
    let parser = RawConfig::augment_args(Command::new("environment").no_binary_name(true));
    let mut flags = Vec::new();
    for key in parser.get_arguments().filter_map(clap::Arg::get_long) {
        if let Some(value) = machine.variable(&variable_name(key))? {
            flags.push(format!("--{key}={value}"));
        }
    }
    parser
        .try_get_matches_from(flags)
        .and_then(|matches| RawConfig::from_arg_matches(&matches))
        .map_err(|error| match refused_value(&error) {
            Some((key, problem)) => {
                let origin = Origin::Variable(variable_name(&key).into());
                ConfigError::Setting { origin, problem }
            }
            None => ConfigError::Arguments {
                complaint: one_line(&error),
            },
        })
}

/// A complaint of the argument parser as ours. Help and version are no complaints: ask for them first.
pub(crate) fn arguments_error(error: &clap::Error) -> ConfigError {
    match refused_value(error) {
        Some((key, problem)) => ConfigError::Setting {
            origin: Origin::Flag(key.into()),
            problem,
        },
        None => ConfigError::Arguments {
            complaint: one_line(error),
        },
    }
}

/// Which setting was refused, and why, where it is a value that was.
fn refused_value(error: &clap::Error) -> Option<(String, Problem)> {
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    // The parser names it as help does: `--keep-alive <SECONDS>`.
    let key = argument.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    let reason = std::error::Error::source(error)?;
    Some((key.to_owned(), Problem::Value(reason.to_string())))
}

/// The parser's words without its paragraphs: neither usage nor the hint at help, which we give ourselves.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let words = text.split("\n\nUsage:").next().unwrap_or_default();
    let words = words
        .split("\n\nFor more information")
        .next()
        .unwrap_or_default();
    let words = words.strip_prefix("error: ").unwrap_or(words);
    let lines: Vec<&str> = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ").replace(":; ", ": ")
}

fn syntax_error(path: &std::path::Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(1, |span| line_at(text, span.start));
    let complaint = in_plain_words(error.message()).replace('\n', "; ");
    ConfigError::Syntax {
        path: path.to_owned(),
        line,
        complaint,
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
        other => other,
    };
    format!("{found}, expected {expected}")
}

/// Where a key stands in a file that was read without complaint.
fn line_of_key(text: &str, key: &str) -> usize {
    let Ok(table) = DeTable::parse(text) else {
        return 1;
    };
    let place = table.get_ref().keys().find(|name| name.get_ref() == key);
    place.map_or(1, |name| line_at(text, name.span().start))
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before.filter(|byte| *byte == b'\n').count() + 1
}

const FILE_BYTES_MAX: u64 = 1024 * 1024;
