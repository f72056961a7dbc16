//! The settings as written: one declaration that feeds the flags, the environment, the settings
//! file and `--help`. Those of a broker are in [`super::raw_broker`].
//!
//! Nothing is checked here but that a number is a number; [`super::resolve`] judges the rest, where
//! it can say which flag, variable or line is to blame. The order of precedence is in
//! [`super::layers`].

use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::Error as _;

use super::{RawBroker, RawLimits, RawVrm, Secret};

/// The settings as written in one place: all of them may be missing.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawConfig {
    /// The first broker; the others are in the file only.
    #[command(flatten)]
    #[serde(skip)]
    pub first: RawBroker,
    /// Talk to VRM, Victron's portal, too, and register this device there first
    #[arg(
        short = 'i', long, value_name = "true|false", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_possible_values = true,
        help_heading = VRM
    )]
    pub init_broker: Option<bool>,

    /// The D-Bus to read from (default: the one of this device)
    #[arg(short = 'b', long, value_name = "ADDRESS", help_heading = DEVICE)]
    pub dbus: Option<String>,
    /// VRM portal id, the second word of every topic (default: ask this GX device, or the bus)
    #[arg(long, value_name = "ID", help_heading = DEVICE)]
    pub portal_id: Option<String>,

    /// Lay the schema files of this directory over the built-in schema; may be given several times
    #[arg(long, value_name = "DIR", help_heading = DEVICE)]
    pub schema: Option<Vec<PathBuf>>,
    /// Refuse a write to a value that can only be read, or outside of its range, as far as the schema
    /// knows (default: false, it is passed on with a warning)
    #[arg(
        long, value_name = "true|false", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_possible_values = true,
        help_heading = DEVICE
    )]
    pub strict_writes: Option<bool>,

    /// How long changes may be gathered before they are sent together, which saves power; 0 sends
    /// each at once (default: 20)
    #[arg(long, value_name = "MILLISECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = FLOW)]
    pub gather_ms: Option<u32>,
    /// Read all values of each service anew every so many seconds, for those that change without a
    /// signal; 0 is never. The default costs 0.1 s of CPU an hour with 3,000 items (default: 300)
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = FLOW)]
    pub refresh_s: Option<u32>,

    /// Publish what the program does, as the topic bridge/stats below the portal id, every so many
    /// seconds while values flow; 0 is never (default: 0)
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = WATCH)]
    pub stats: Option<u32>,
    /// Tell Prometheus the same on this address, such as 127.0.0.1:9100 (default: nowhere)
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = WATCH)]
    pub metrics: Option<String>,
    /// Let that be an address that others than this device can reach, without encryption and password
    #[arg(
        long, value_name = "true|false", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_possible_values = true,
        help_heading = WATCH
    )]
    pub allow_remote_metrics: Option<bool>,
    /// Show what is going on as a web page on this port, such as 8080, or on ADDRESS:PORT; it is
    /// at http://127.0.0.1:PORT then (default: nowhere)
    #[arg(long, value_name = "[ADDRESS:]PORT", help_heading = WATCH)]
    pub web: Option<String>,
    /// Let that be an address that others than this device can reach: whoever can open the page may do
    /// with the broker what a program on this device may
    #[arg(
        long, value_name = "true|false", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_possible_values = true,
        help_heading = WATCH
    )]
    pub allow_remote_web: Option<bool>,

    /// Take passwords from files that other users of this device can read
    #[arg(
        long, value_name = "true|false", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_possible_values = true
    )]
    pub allow_readable_secrets: Option<bool>,
    /// Read settings from this file too; dbus-mqtt.example.toml explains them
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Log more; for one part of the program only, set RUST_LOG instead
    #[arg(
        short = 'd', long, global = true, value_name = "true|false", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_possible_values = true
    )]
    pub debug: Option<bool>,

    /// The bounds, in the file only.
    #[arg(skip)]
    pub limits: Option<RawLimits>,
    /// Each of several brokers, in the file only.
    #[arg(skip)]
    #[serde(skip)]
    pub brokers: Vec<RawBroker>,
    /// The broker of VRM, in the file only.
    #[arg(skip)]
    #[serde(skip)]
    pub vrm: Option<RawVrm>,
}

impl RawConfig {
    /// The flags, which are keys of the settings file too.
    pub(super) fn flags() -> Vec<String> {
        let parser = <RawConfig as clap::Args>::augment_args(clap::Command::new("flags"));
        let flags = parser.get_arguments().filter_map(clap::Arg::get_long);
        flags.map(str::to_owned).collect()
    }

    /// The keys that stand at the top of the settings file.
    pub(super) fn top_keys() -> Vec<String> {
        let mut keys = RawConfig::flags();
        // The settings file cannot name another.
        keys.retain(|key| key != "config");
        for key in RawBroker::top_keys() {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}

/// What a yes or no may look like in a flag or a variable.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A whole number that is not negative.
pub(crate) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_number => Ok(number),
        _ if is_number => Err(format!("{text} is too large")),
        _ => Err(format!("{text:?} is not a whole number")),
    }
}

/// A secret of the wrong type must not be shown in the complaint about it.
pub(super) fn secret<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<Secret>, D::Error> {
    match String::deserialize(from) {
        Ok(text) => Ok(Some(Secret::from(text.as_str()))),
        Err(_) => Err(D::Error::custom("a password is a text, in quotes")),
    }
}

/// A word, or a number that is one.
pub(super) fn spelt<'de, D: serde::Deserializer<'de>, T>(
    from: D,
    read: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    struct Word<T>(fn(&str) -> Result<T, String>);

    impl<T> serde::de::Visitor<'_> for Word<T> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text in quotes")
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
            (self.0)(&number.to_string()).map_err(E::custom)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
    }

    from.deserialize_any(Word(read)).map(Some)
}

const VRM: &str = "VRM";
const DEVICE: &str = "Victron device";
const FLOW: &str = "Flow of values";
const WATCH: &str = "Watching the program";
