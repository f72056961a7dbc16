//! The places where a setting can be, in their order: flag, environment, file (§7).
//!
//! Each is a whole [`RawConfig`]. The environment is read through the parser of the flags, so that
//! a variable takes what its flag takes: `DBUS_MQTT_` and the flag's name in capitals, without the
//! flag's `mqtt-`.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Command, FromArgMatches};

use super::file::{Table, from_toml, place_of};
use super::machine::{Machine, read_text};
use crate::model::name::PortalId;

use super::{ConfigError, Origin, Problem, RawBroker, RawConfig, RawVrm};
use crate::model::similar::closest;

/// All that was set, by place, the strongest first.
#[derive(Debug, Clone)]
pub struct Layers {
    places: Vec<Layer>,
    /// Variables that look like settings, and are none: one sentence for each.
    pub unknown: Vec<String>,
    /// Where systemd puts what it gives to this service alone (`LoadCredential`).
    pub(super) credentials: Option<PathBuf>,
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
            places: vec![
                Layer {
                    place: Place::Arguments,
                    raw: arguments,
                },
                Layer {
                    place: Place::Environment,
                    raw: environment,
                },
            ],
            unknown: unknown_variables(machine),
            credentials: machine
                .variable("CREDENTIALS_DIRECTORY")?
                .map(PathBuf::from),
        };
        if let Some(found) = layers.find("config", |raw| raw.config.clone()) {
            let text = found.read(FILE_BYTES_MAX)?;
            let path = found.value;
            let raw = from_toml(&text).map_err(|mistake| mistake.of(&path, &text))?;
            layers.places.push(Layer {
                place: Place::File { path, text },
                raw,
            });
        }
        Ok(layers)
    }

    /// The same for one installation: its portal id takes the place of `{portal-id}`. One file of
    /// settings serves a whole fleet.
    pub(super) fn of_portal(&self, portal_id: &PortalId) -> Layers {
        let mut layers = self.clone();
        for raw in layers.places.iter_mut().map(|layer| &mut layer.raw) {
            let vrm = raw.vrm.iter_mut().map(|vrm| &mut vrm.broker);
            let brokers = raw.brokers.iter_mut().chain([&mut raw.first]).chain(vrm);
            brokers.for_each(|broker| broker.fill(portal_id));
        }
        layers
    }

    /// Whether that makes a difference.
    #[cfg(feature = "client")]
    pub(super) fn names_portal(&self) -> bool {
        self.places.iter().any(|layer| {
            let vrm = layer.raw.vrm.iter().map(|vrm| &vrm.broker);
            let mut brokers = layer
                .raw
                .brokers
                .iter()
                .chain([&layer.raw.first])
                .chain(vrm);
            brokers.any(|broker| {
                let mut filled = broker.clone();
                filled.fill(&PortalId::unknown());
                filled != *broker
            })
        })
    }

    /// The strongest setting of this key.
    pub(super) fn find<T>(
        &self,
        key: &'static str,
        field: impl Fn(&RawConfig) -> Option<T>,
    ) -> Option<Found<T>> {
        self.places.iter().enumerate().find_map(|(rank, layer)| {
            let value = field(&layer.raw)?;
            Some(Found {
                value,
                origin: layer.origin(Table::Top, key),
                rank,
            })
        })
    }

    /// The same of a key of `[vrm]`.
    pub(super) fn find_vrm<T>(
        &self,
        key: &'static str,
        field: impl Fn(&RawVrm) -> Option<T>,
    ) -> Option<Found<T>> {
        self.places.iter().enumerate().find_map(|(rank, layer)| {
            let value = field(layer.raw.vrm.as_ref()?)?;
            Some(Found {
                value,
                origin: layer.origin(Table::Vrm, key),
                rank,
            })
        })
    }

    /// The settings of one broker, by place.
    pub(super) fn of_broker(&self, which: Which) -> BrokerLayers<'_> {
        BrokerLayers {
            layers: self,
            which,
        }
    }

    /// How many tables `[[broker]]` there are.
    pub(super) fn tables(&self) -> usize {
        let tables = self.places.iter().map(|layer| layer.raw.brokers.len());
        tables.max().unwrap_or_default()
    }
}

/// Which of the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that flags and variables describe.
    First,
    /// Another table `[[broker]]`, counted from 0.
    Further(usize),
    /// That of VRM.
    Vrm,
}

/// What was set for one broker, by place.
#[derive(Debug, Clone, Copy)]
pub(super) struct BrokerLayers<'a> {
    layers: &'a Layers,
    pub(super) which: Which,
}

impl BrokerLayers<'_> {
    /// Where a setting of the broker is set, if it is.
    pub(super) fn origin_of(&self, key: &'static str, is_set: fn(&RawBroker) -> bool) -> Origin {
        self.find(key, |raw| is_set(raw).then_some(()))
            .map_or(Origin::Default, |found| found.origin)
    }

    /// Where a setting of the broker is set, or would be.
    pub(super) fn origin(&self, key: &'static str) -> Origin {
        let layers = self.layers.places.iter();
        let mut places = layers.filter_map(|layer| Some((layer, layer.broker(self.which)?.0)));
        match places.next_back() {
            Some((layer, table)) => layer.origin(table, key),
            None => Origin::Default,
        }
    }

    /// The strongest setting of this key.
    pub(super) fn find<T>(
        &self,
        key: &'static str,
        field: impl Fn(&RawBroker) -> Option<T>,
    ) -> Option<Found<T>> {
        let layers = self.layers.places.iter().enumerate();
        layers.into_iter().find_map(|(rank, layer)| {
            let (table, raw) = layer.broker(self.which)?;
            let value = field(raw)?;
            Some(Found {
                value,
                origin: layer.origin(table, key),
                rank,
            })
        })
    }
}

impl Layer {
    /// What stands here of a broker.
    fn broker(&self, which: Which) -> Option<(Table, &RawBroker)> {
        let raw = &self.raw;
        match which {
            Which::First if raw.brokers.is_empty() => Some((Table::Top, &raw.first)),
            Which::First => raw.brokers.first().map(|broker| (Table::Broker(0), broker)),
            Which::Further(index) => {
                let broker = raw.brokers.get(index)?;
                Some((Table::Broker(index), broker))
            }
            Which::Vrm => {
                let vrm = raw.vrm.as_ref()?;
                Some((Table::Vrm, &vrm.broker))
            }
        }
    }

    fn origin(&self, table: Table, key: &'static str) -> Origin {
        match &self.place {
            Place::Arguments => Origin::Flag(key.into()),
            Place::Environment => Origin::Variable(variable_name(key).into()),
            Place::File { path, text } => {
                let (line, key) = place_of(text, table, key);
                let path = path.clone();
                Origin::File { path, line, key }
            }
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
    format!(
        "{VARIABLE_PREFIX}{}",
        short.replace('-', "_").to_ascii_uppercase()
    )
}

/// What is wrong with each variable that is named like a setting, and is none.
fn unknown_variables(machine: &Machine) -> Vec<String> {
    let flags = RawConfig::flags();
    let known: Vec<String> = flags.iter().map(|key| variable_name(key)).collect();
    let names = machine.environment.keys();
    let names = names.filter_map(|name| name.to_str());
    let ours = names.filter(|name| name.starts_with(VARIABLE_PREFIX));
    let unknown = ours.filter(|name| !known.iter().any(|known| known == name));
    unknown
        .map(|name| {
            let hint = closest(name, known.iter().map(String::as_str));
            let hint = hint.map_or_else(String::new, |hint| format!("; did you mean {hint}?"));
            format!("the variable {name} is no setting, and has no effect{hint}")
        })
        .collect()
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

/// What the variables of this program begin with.
const VARIABLE_PREFIX: &str = "DBUS_MQTT_";
const FILE_BYTES_MAX: u64 = 1024 * 1024;
