//! The settings of one broker as written. The same words are flags and variables, which describe the
//! first broker, and keys of the settings file: of `[[broker]]` and `[vrm]` without the flag's `mqtt-`,
//! and of the file's top as the flag is called.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::raw::{secret, spelt, truth, whole};
use super::{AccessRule, MqttVersion, Secret};
use crate::model::access::Access;
use crate::model::name::PortalId;

/// The settings of one broker as written in one place: all of them may be missing.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawBroker {
    /// What the log calls it.
    #[arg(skip)]
    pub name: Option<String>,
    /// The MQTT broker to talk to (default: 127.0.0.1:1883, a broker on this device). An address
    /// says how: mqtt://, mqtts://, ws:// or wss://
    #[arg(short = 'q', long = "mqtt-server", value_name = "HOST[:PORT]", help_heading = BROKER)]
    #[serde(alias = "mqtt-server")]
    pub server: Option<String>,
    /// User name, if the broker wants one. In this, in --client-id and --mqtt-prefix, and in the names
    /// of certificates and password files, {portal-id} stands for the portal id
    #[arg(short = 'u', long = "mqtt-user", value_name = "NAME", help_heading = BROKER)]
    #[serde(alias = "mqtt-user")]
    pub user: Option<String>,
    /// Password. Other users of this device can see it in the process list: better use
    /// --mqtt-password-file
    #[arg(short = 'P', long = "mqtt-password", value_name = "PASSWORD", help_heading = BROKER)]
    #[serde(deserialize_with = "secret", alias = "mqtt-password")]
    pub password: Option<Secret>,
    /// File with the password in its first line; nobody else may be able to read it
    #[arg(long = "mqtt-password-file", value_name = "FILE", help_heading = BROKER)]
    #[serde(alias = "mqtt-password-file")]
    pub password_file: Option<PathBuf>,
    /// Name under which the broker knows this program (default: dbus-mqtt- and the portal id)
    #[arg(long = "client-id", value_name = "NAME", help_heading = BROKER)]
    pub client_id: Option<String>,
    /// Whether the broker keeps the last value of everything for clients that come later (default:
    /// true, as dbus-mqtt did; false is the way of dbus-flashmq)
    #[arg(long, value_name = "true|false", value_parser = truth, help_heading = BROKER)]
    pub retain: Option<bool>,
    /// Version of MQTT: 3, 5, or auto, which tries 5 first (default: auto)
    #[arg(long = "mqtt-version", value_name = "3|5|auto", value_parser = version, help_heading = BROKER)]
    #[serde(deserialize_with = "version_or_number", alias = "version")]
    pub mqtt_version: Option<MqttVersion>,
    /// With MQTT 5: after how long the broker forgets a retained value that is not renewed; 0 is
    /// never (default: 0)
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = BROKER)]
    pub expire: Option<u32>,
    /// With MQTT 5: whether topics are abbreviated, which saves traffic on a paid line (default:
    /// false)
    #[arg(long, value_name = "true|false", value_parser = truth, help_heading = BROKER)]
    pub topic_aliases: Option<bool>,
    /// Text in front of every topic, such as venus/ (default: none)
    #[arg(long = "mqtt-prefix", value_name = "TEXT", help_heading = BROKER)]
    #[serde(alias = "mqtt-prefix")]
    pub prefix: Option<String>,
    /// What its clients may do: full, read-only or off; vrm is what this device's setting for VRM
    /// says (default: full)
    #[arg(long, value_name = "ACCESS", value_parser = access, help_heading = BROKER)]
    #[serde(deserialize_with = "access_word")]
    pub access: Option<AccessRule>,
    /// How long the line may be quiet before the broker is asked whether it is there (default: 30)
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = BROKER)]
    pub ping: Option<u32>,
    /// Longest wait before connecting again after a failure; each wait is a random one (default: 30)
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = BROKER)]
    pub reconnect_max: Option<u32>,
    /// After a reconnect, publish everything after a random wait of up to this long, so that the
    /// bridges of a fleet do not do so at once (default: 0)
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = BROKER)]
    pub republish_jitter: Option<u32>,
    /// The most messages a second that the broker is sent, for one that drops more; later values
    /// replace those that wait. 0 is no limit (default: 0)
    #[arg(long, value_name = "MESSAGES", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = BROKER)]
    pub publish_rate_max: Option<u32>,

    /// Certificates that vouch for the broker (PEM). With one of these options the connection is
    /// encrypted
    #[arg(short = 'c', long = "mqtt-certificate", value_name = "CA.pem", help_heading = TLS)]
    #[serde(alias = "mqtt-certificate")]
    pub certificate: Option<PathBuf>,
    /// Certificate of this program, if the broker wants one (PEM)
    #[arg(long = "mqtt-client-certificate", value_name = "FILE", help_heading = TLS)]
    #[serde(alias = "mqtt-client-certificate")]
    pub client_certificate: Option<PathBuf>,
    /// The key of that certificate (PEM; default: it is in the same file)
    #[arg(long = "mqtt-client-key", value_name = "FILE", help_heading = TLS)]
    #[serde(alias = "mqtt-client-key")]
    pub client_key: Option<PathBuf>,
    /// Name that the broker's certificate must have (default: the broker's host)
    #[arg(long = "mqtt-server-name", value_name = "NAME", help_heading = TLS)]
    #[serde(alias = "mqtt-server-name")]
    pub server_name: Option<String>,

    /// How long a client's request keeps the values coming; 0 is for ever (default: 60)
    #[arg(short = 'k', long, value_name = "SECONDS", value_parser = whole::<u32>, allow_negative_numbers = true, help_heading = FLOW)]
    pub keep_alive: Option<u32>,

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

    /// What is published there, as filters below the portal id. In the file only.
    #[arg(skip)]
    pub publish_allow: Option<Vec<String>>,
    /// What of that is not.
    #[arg(skip)]
    pub publish_deny: Option<Vec<String>>,
    /// What its clients may ask for.
    #[arg(skip)]
    pub read_allow: Option<Vec<String>>,
    /// What of that not.
    #[arg(skip)]
    pub read_deny: Option<Vec<String>>,
    /// What its clients may write.
    #[arg(skip)]
    pub write_allow: Option<Vec<String>>,
    /// What of that not.
    #[arg(skip)]
    pub write_deny: Option<Vec<String>>,
    /// Where its clients may have answers sent, as filters of whole topics.
    #[arg(skip)]
    pub response_allow: Option<Vec<String>>,

    /// How many levels a topic may have there. In the file only.
    #[arg(skip)]
    pub topic_levels_max: Option<u32>,
    /// How many bytes.
    #[arg(skip)]
    pub topic_bytes_max: Option<u32>,
    /// Which characters it does not take.
    #[arg(skip)]
    pub topic_replace: Option<RawReplace>,
}

/// Characters that a broker does not take in a topic, as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum RawReplace {
    /// Each of them becomes `_`.
    All(String),
    /// Each becomes what is said.
    Each(BTreeMap<String, String>),
}

/// The table `[vrm]` as written (§8).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawVrm {
    /// Whether to talk to VRM.
    pub enabled: Option<bool>,
    /// `tls` or `wss`.
    #[serde(deserialize_with = "transport_word")]
    pub transport: Option<VrmTransport>,
    /// Where to register.
    pub register_url: Option<String>,
    /// The certificates that vouch for that address, as PEM.
    pub register_certificate: Option<PathBuf>,
    /// How long to wait after a registration that failed.
    pub register_retry_s: Option<u32>,
    /// The longest wait before a registration is repeated.
    pub register_again_s: Option<u32>,
    /// What every broker has.
    #[serde(skip)]
    pub broker: RawBroker,
}

impl RawVrm {
    /// Its keys, besides those of every broker.
    pub(super) const KEYS: [&str; 6] = [
        "enabled",
        "transport",
        "register-url",
        "register-certificate",
        "register-retry-s",
        "register-again-s",
    ];
}

/// What carries MQTT to VRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VrmTransport {
    /// TLS over TCP.
    Tls,
    /// WebSocket over TLS.
    Wss,
}

impl RawBroker {
    /// Puts a portal id in the place of `{portal-id}`, where that may stand. While it is not known, files
    /// that have it in their names cannot be looked for, and are left out.
    pub(super) fn fill(&mut self, portal_id: &PortalId) {
        let is_known = *portal_id != PortalId::unknown();
        let texts = [&mut self.user, &mut self.client_id, &mut self.prefix];
        for text in texts.into_iter().flatten() {
            *text = text.replace(PORTAL_ID, portal_id.as_str());
        }
        let files = [
            &mut self.password_file,
            &mut self.certificate,
            &mut self.client_certificate,
            &mut self.client_key,
        ];
        for file in files {
            let path = file.as_ref().and_then(|path| path.to_str());
            let Some(path) = path.filter(|path| path.contains(PORTAL_ID)) else {
                continue;
            };
            *file = is_known.then(|| path.replace(PORTAL_ID, portal_id.as_str()).into());
        }
        if self.client_certificate.is_none() && !is_known {
            self.client_key = None;
        }
    }

    /// The keys that stand at the top of the settings file where it has no `[[broker]]`: the flags,
    /// and what is in files only.
    pub(super) fn top_keys() -> Vec<String> {
        let parser = <RawBroker as clap::Args>::augment_args(clap::Command::new("broker"));
        let flags = parser.get_arguments().filter_map(clap::Arg::get_long);
        let keys = flags.chain(FILE_ONLY);
        keys.map(str::to_owned).collect()
    }
}

/// Stands for the portal id.
const PORTAL_ID: &str = "{portal-id}";

/// What no flag has.
const FILE_ONLY: [&str; 11] = [
    "name",
    "publish-allow",
    "publish-deny",
    "read-allow",
    "read-deny",
    "write-allow",
    "write-deny",
    "response-allow",
    "topic-levels-max",
    "topic-bytes-max",
    "topic-replace",
];

fn version(text: &str) -> Result<MqttVersion, String> {
    match text {
        "3" | "3.1.1" => Ok(MqttVersion::V3),
        "5" => Ok(MqttVersion::V5),
        "auto" => Ok(MqttVersion::Auto),
        _ => Err(format!("{text:?} is no version of MQTT: 3, 5 or auto")),
    }
}

fn access(text: &str) -> Result<AccessRule, String> {
    match text {
        "full" => Ok(AccessRule::Always(Access::Full)),
        "read-only" => Ok(AccessRule::Always(Access::ReadOnly)),
        "off" => Ok(AccessRule::Always(Access::Off)),
        "vrm" => Ok(AccessRule::AsDeviceSays),
        _ => Err(format!("{text:?} is neither full, read-only, off nor vrm")),
    }
}

fn transport(text: &str) -> Result<VrmTransport, String> {
    match text {
        "tls" => Ok(VrmTransport::Tls),
        "wss" => Ok(VrmTransport::Wss),
        _ => Err(format!("{text:?} is neither tls nor wss")),
    }
}

/// In a file it may be a number too: `mqtt-version = 5`.
fn version_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MqttVersion>, D::Error> {
    spelt(from, version)
}

fn access_word<'de, D: Deserializer<'de>>(from: D) -> Result<Option<AccessRule>, D::Error> {
    spelt(from, access)
}

fn transport_word<'de, D: Deserializer<'de>>(from: D) -> Result<Option<VrmTransport>, D::Error> {
    spelt(from, transport)
}

const BROKER: &str = "MQTT broker";
const TLS: &str = "Encryption";
const HOME_ASSISTANT: &str = "Home Assistant";
const FLOW: &str = "Flow of values";
