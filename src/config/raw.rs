//! The settings as written: one declaration that feeds the flags, the environment, the settings
//! file and `--help`.
//!
//! Nothing is checked here but that a number is a number; [`super::resolve`] judges the rest, where
//! it can say which flag, variable or line is to blame. The order of precedence is in
//! [`super::layers`].

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::Error as _;

use super::Secret;

/// The settings as written in one place: all of them may be missing.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawConfig {
    /// The MQTT broker to talk to (default: 127.0.0.1:1883, a broker on this device)
    #[arg(short = 'q', long, value_name = "HOST[:PORT]", help_heading = BROKER)]
    pub mqtt_server: Option<String>,
    /// User name, if the broker wants one
    #[arg(short = 'u', long, value_name = "NAME", help_heading = BROKER)]
    pub mqtt_user: Option<String>,
    /// Password. Other users of this device can see it in the process list: better use
    /// --mqtt-password-file
    #[arg(short = 'P', long, value_name = "PASSWORD", help_heading = BROKER)]
    #[serde(deserialize_with = "secret")]
    pub mqtt_password: Option<Secret>,
    /// File with the password in its first line
    #[arg(long, value_name = "FILE", help_heading = BROKER)]
    pub mqtt_password_file: Option<PathBuf>,
    /// Name under which the broker knows this program (default: dbus-mqtt- and the portal id)
    #[arg(long, value_name = "NAME", help_heading = BROKER)]
    pub client_id: Option<String>,
    /// Whether the broker keeps the last value of everything for clients that come later (default:
    /// true, as dbus-mqtt did; false is the way of dbus-flashmq)
    #[arg(long, value_name = "true|false", value_parser = truth, help_heading = BROKER)]
    pub retain: Option<bool>,
    /// Certificate of the broker, for an encrypted connection. Not in this version yet
    #[arg(short = 'c', long, value_name = "CA.pem", help_heading = BROKER)]
    pub mqtt_certificate: Option<PathBuf>,
    /// Register this device at VRM, Victron's portal. Not in this version yet
    #[arg(
        short = 'i', long, value_name = "true|false", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_possible_values = true,
        help_heading = BROKER
    )]
    pub init_broker: Option<bool>,

    /// Set Home Assistant up with all devices and their values; values flow all the time then.
    /// false takes back what was set up before (default: leave it alone)
    #[arg(
        long, value_name = "true|false", value_parser = truth, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", hide_possible_values = true, help_heading = HOME_ASSISTANT
    )]
    pub home_assistant: Option<bool>,
    /// What Home Assistant's discovery topics begin with (default: homeassistant)
    #[arg(long, value_name = "PREFIX", help_heading = HOME_ASSISTANT)]
    pub home_assistant_prefix: Option<String>,
    /// How long Home Assistant keeps a device that is gone; 0 removes it at once (default: 86400,
    /// a day)
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = HOME_ASSISTANT)]
    pub home_assistant_keep: Option<u32>,

    /// The D-Bus to read from (default: the one of this device)
    #[arg(short = 'b', long, value_name = "ADDRESS", help_heading = DEVICE)]
    pub dbus: Option<String>,
    /// VRM portal id, the second word of every topic (default: ask this device)
    #[arg(long, value_name = "ID", help_heading = DEVICE)]
    pub portal_id: Option<String>,

    /// How long a client's request keeps the values coming; 0 is for ever (default: 60)
    #[arg(short = 'k', long, value_name = "SECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = FLOW)]
    pub keep_alive: Option<u32>,
    /// How long changes may be gathered before they are sent together, which saves power; 0 sends
    /// each at once (default: 20)
    #[arg(long, value_name = "MILLISECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = FLOW)]
    pub gather_ms: Option<u32>,

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
}

/// The table `[limits]` as written; [`super::Limits`] says what each of them bounds.
#[expect(
    missing_docs,
    reason = "each is described where it is resolved, in Limits"
)]
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawLimits {
    pub items_max: Option<NonZeroUsize>,
    pub services_max: Option<NonZeroUsize>,
    pub request_bytes_max: Option<NonZeroUsize>,
    pub writes_in_flight_max: Option<NonZeroUsize>,
    pub calls_in_flight_max: Option<NonZeroUsize>,
    pub filters_max: Option<NonZeroUsize>,
    pub frame_bytes_max: Option<NonZeroUsize>,
    pub out_buffer_bytes: Option<NonZeroUsize>,
    pub call_timeout_s: Option<NonZeroU32>,
    pub read_timeout_s: Option<NonZeroU32>,
    pub shutdown_s: Option<NonZeroU32>,
}

/// What a yes or no may look like in a flag or a variable.
fn truth(text: &str) -> Result<bool, String> {
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
fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    match String::deserialize(from) {
        Ok(text) => Ok(Some(Secret::from(text.as_str()))),
        Err(_) => Err(D::Error::custom("a password is a text, in quotes")),
    }
}

const BROKER: &str = "MQTT broker";
const HOME_ASSISTANT: &str = "Home Assistant";
const DEVICE: &str = "Victron device";
const FLOW: &str = "Flow of values";
