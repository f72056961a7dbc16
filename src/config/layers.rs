//! The places where a setting can be, in their order: flag, environment, file (§7), merged: for each table
//! what is set, and where.
//!
//! The environment is read through the parser of the flags, so that a variable takes what its flag takes:
//! `DBUS_MQTT_` and the flag's name in capitals, without the flag's `mqtt-`.

use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Command, FromArgMatches};

use super::error::{ConfigError, Origin, Problem};
use super::file::{Line, Part, from_toml};
use super::machine::Machine;
use super::raw::RawConfig;
use super::setting::{Setting, VARIABLE_PREFIX};
use super::settings::BROKER;
use super::values::{Found, Values};
use crate::model::name::PortalId;
use crate::model::similar::closest;

/// All that was set, table by table.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// What belongs to no broker.
    pub(super) top: Values,
    pub(super) limits: Values,
    /// At least one: that which flags and variables describe.
    pub(super) brokers: Vec<Values>,
    pub(super) vrm: Values,
    /// The tables `[[listen]]`.
    pub(super) listeners: Vec<Values>,
    /// Whether there is a table `[[broker]]`.
    pub(super) has_broker_table: bool,
    /// Variables that look like settings, and are none: one sentence for each.
    pub unknown: Vec<String>,
    /// Where systemd puts what it gives to this service alone (`LoadCredential`).
    pub(super) credentials: Option<PathBuf>,
}

impl Layers {
    /// Puts the environment and the settings file below what the arguments say.
    pub fn read(arguments: RawConfig, machine: &Machine) -> Result<Layers, ConfigError> {
        let mut layers = Layers {
            brokers: vec![Values::default()],
            unknown: unknown_variables(machine),
            credentials: machine
                .variable("CREDENTIALS_DIRECTORY")?
                .map(PathBuf::from),
            ..Layers::default()
        };
        layers.add_flags(0, arguments, |setting| Origin::Flag(setting.key.into()));
        layers.add_flags(1, from_environment(machine)?, |setting| {
            Origin::Variable(setting.variable().into())
        });
        if let Some(found) = layers.top.find::<PathBuf>("config")? {
            let text = found.read(FILE_BYTES_MAX)?;
            let path = found.value;
            let file = from_toml(&text).map_err(|mistake| mistake.of(&path, &text))?;
            layers.limits.add_file(&path, file.limits);
            layers.vrm.add_file(&path, file.vrm);
            for table in file.listeners {
                let mut values = Values::default();
                values.add_file(&path, table);
                layers.listeners.push(values);
            }
            layers.has_broker_table = !file.brokers.is_empty();
            let (broker, top) = file
                .top
                .entries
                .into_iter()
                .partition(|line| is_of_broker(line.setting));
            layers.top.add_file(
                &path,
                Part {
                    line: 1,
                    entries: top,
                },
            );
            let first = Part {
                line: 1,
                entries: broker,
            };
            let tables = if file.brokers.is_empty() {
                vec![first]
            } else {
                file.brokers
            };
            layers.brokers.resize(tables.len(), Values::default());
            for (values, table) in layers.brokers.iter_mut().zip(tables) {
                values.add_file(&path, table);
            }
        }
        let brokers = layers.brokers.iter_mut().chain([&mut layers.vrm]);
        for broker in brokers {
            broker.add_engine()?;
        }
        Ok(layers)
    }

    fn add_flags(&mut self, rank: usize, raw: RawConfig, origin: impl Fn(&Setting) -> Origin) {
        for (setting, value) in raw.into_values() {
            let origin = origin(setting);
            let found = Found {
                value,
                origin,
                rank,
            };
            match self.brokers.first_mut() {
                Some(first) if is_of_broker(setting) => first.add(setting, found),
                _ => self.top.add(setting, found),
            }
        }
    }

    /// The same for one installation: its portal id takes the place of `{portal-id}`. One file of
    /// settings serves a whole fleet.
    pub(super) fn of_portal(&self, portal_id: &PortalId) -> Layers {
        let mut layers = self.clone();
        let brokers = layers.brokers.iter_mut().chain([&mut layers.vrm]);
        brokers.for_each(|broker| broker.fill(portal_id));
        layers
    }

    /// Whether that makes a difference.
    #[cfg(feature = "client")]
    pub(super) fn names_portal(&self) -> bool {
        let mut brokers = self.brokers.iter().chain([&self.vrm]);
        brokers.any(Values::names_portal)
    }
}

impl Values {
    fn add_file(&mut self, path: &Path, part: Part) {
        self.home = Some((path.to_owned(), part.line.max(1)));
        for Line {
            setting,
            written,
            number: line,
            key,
        } in part.entries
        {
            let path = path.to_owned();
            let origin = Origin::File { path, line, key };
            let found = Found {
                value: written,
                origin,
                rank: 2,
            };
            self.add(setting, found);
        }
    }
}

fn is_of_broker(setting: &Setting) -> bool {
    BROKER.iter().any(|known| known.key == setting.key)
}

/// What is wrong with each variable that is named like a setting, and is none.
fn unknown_variables(machine: &Machine) -> Vec<String> {
    let known: Vec<String> = RawConfig::settings().map(Setting::variable).collect();
    let names = machine.environment.keys();
    let names = names.filter_map(|name| name.to_str());
    let ours = names.filter(|name| name.starts_with(VARIABLE_PREFIX));
    let unknown = ours.filter(|name| !known.iter().any(|known| known == name));
    unknown
        .map(|name| {
            let hint = closest(name, known.iter().map(String::as_str));
            let hint = hint.map_or_else(String::new, |hint| format!("; did you mean {hint}?"));
            format!("the variable {name} is not a setting, and has no effect{hint}")
        })
        .collect()
}

fn from_environment(machine: &Machine) -> Result<RawConfig, ConfigError> {
    let parser = RawConfig::augment_args(Command::new("environment").no_binary_name(true));
    let mut flags = Vec::new();
    for setting in RawConfig::settings() {
        if let Some(value) = machine.variable(&setting.variable())? {
            flags.push(format!("--{}={value}", setting.key));
        }
    }
    parser
        .try_get_matches_from(flags)
        .and_then(|matches| RawConfig::from_arg_matches(&matches))
        .map_err(|error| match refused_value(&error) {
            Some((key, problem)) => {
                let setting = RawConfig::settings().find(|setting| setting.key == key);
                let name = setting.map_or(key, Setting::variable);
                let origin = Origin::Variable(name.into());
                ConfigError::Setting { origin, problem }
            }
            None => ConfigError::Arguments {
                complaint: one_line(&error),
            },
        })
}

/// A complaint of the argument parser as ours. Help and version are not complaints: ask for them first.
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

const FILE_BYTES_MAX: u64 = 1024 * 1024;
