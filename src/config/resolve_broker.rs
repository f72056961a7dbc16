//! From the settings of a broker as written to the broker as resolved (§6, §8).

use std::path::PathBuf;
use std::time::Duration;

use super::error::{CLIENT_ID_BYTES_MAX, PREFIX_BYTES_MAX, PREFIX_LEVELS_MAX};
use super::layers::{BrokerLayers, Found, Layers, Which};
use super::machine::{Machine, open_regular};
use super::secrets::Privacy;
use super::server::{Server, is_host};
use super::{
    AccessRule, BrokerConfig, ConfigError, HomeAssistant, Login, MqttVersion, Problem, RawBroker,
    RawReplace, Secret, TlsConfig, Transport, VrmConfig, secrets,
};
use crate::model::access::Access;
use crate::model::filter::{Filter, List, Lists, TopicFilter};
use crate::model::name::{PortalId, is_topic_char, is_topic_level};
use crate::model::topic::{DISCOVERY_PREFIX, TopicRules};

/// What holds for a broker of which nothing is said.
#[derive(Debug)]
pub(super) struct Defaults {
    pub(super) name: String,
    pub(super) server: Server,
    /// Whether it is encrypted, whatever the settings say.
    pub(super) encrypted: bool,
    pub(super) ca: Option<PathBuf>,
    pub(super) access: AccessRule,
}

impl Defaults {
    fn named(name: String) -> Defaults {
        Defaults {
            name,
            server: Server::default(),
            encrypted: false,
            ca: None,
            access: AccessRule::Always(Access::Full),
        }
    }
}

impl Layers {
    /// The broker that the flags describe, for a program that has no portal id of its own.
    #[cfg(feature = "client")]
    pub(super) fn first_broker(&self, portal_id: &PortalId) -> Result<BrokerConfig, ConfigError> {
        let layers = self.of_broker(Which::First);
        let login = layers.login(&self.privacy())?;
        layers.broker(portal_id, login, Defaults::named("broker".to_owned()))
    }

    /// All brokers, that of VRM as the last.
    pub(super) fn brokers(
        &self,
        machine: &Machine,
        portal_id: &PortalId,
    ) -> Result<(Vec<BrokerConfig>, Option<VrmConfig>), ConfigError> {
        let privacy = self.privacy();
        let mut brokers: Vec<BrokerConfig> = Vec::new();
        for index in 0..self.tables().max(1) {
            let which = match index {
                0 => Which::First,
                _ => Which::Further(index),
            };
            let layers = self.of_broker(which);
            let name = if self.tables() < 2 {
                "broker".to_owned()
            } else {
                format!("broker {}", index + 1)
            };
            let broker =
                layers.broker(portal_id, layers.login(&privacy)?, Defaults::named(name))?;
            layers.is_new(&broker, &brokers)?;
            brokers.push(broker);
        }
        let Some((broker, mut vrm)) = self.vrm(machine, portal_id, &privacy)? else {
            return Ok((brokers, None));
        };
        self.of_broker(Which::Vrm).is_new(&broker, &brokers)?;
        vrm.broker = brokers.len();
        brokers.push(broker);
        Ok((brokers, Some(vrm)))
    }
}

impl BrokerLayers<'_> {
    /// The broker, but for what only all together can show.
    pub(super) fn broker(
        &self,
        portal_id: &PortalId,
        login: Option<Login>,
        defaults: Defaults,
    ) -> Result<BrokerConfig, ConfigError> {
        let (server, transport, tls) = self.connection(&defaults)?;
        let name = match self.find("name", |raw| raw.name.clone()) {
            Some(found) if is_name(&found.value) => found.value,
            Some(found) => return Err(found.wrong(Problem::Name(found.value.clone()))),
            None => defaults.name,
        };
        let client_id = match self.find("client-id", |raw| raw.client_id.clone()) {
            Some(found) if is_client_id(&found.value) => found.value,
            Some(found) => return Err(found.wrong(Problem::ClientId(found.value.clone()))),
            None => format!("dbus-mqtt-{portal_id}"),
        };
        let seconds = |found: Option<Found<u32>>, default| {
            let number = found.map_or(default, |found| found.value);
            (number > 0).then(|| Duration::from_secs(number.into()))
        };
        let is_on =
            |found: Option<Found<bool>>, default| found.map_or(default, |found| found.value);
        Ok(BrokerConfig {
            name,
            port: server.port.unwrap_or(transport.usual_port()),
            host: server.host,
            transport,
            tls,
            version: self
                .find("mqtt-version", |raw| raw.mqtt_version)
                .map_or(MqttVersion::Auto, |found| found.value),
            client_id,
            login,
            retain: is_on(self.find("retain", |raw| raw.retain), true),
            expire: seconds(self.find("expire", |raw| raw.expire), 0),
            topic_aliases: is_on(self.find("topic-aliases", |raw| raw.topic_aliases), false),
            keep_alive: seconds(self.find("keep-alive", |raw| raw.keep_alive), KEEP_ALIVE_S),
            ping: self.ping()?,
            reconnect_max: match self.find("reconnect-max", |raw| raw.reconnect_max) {
                Some(found) => within(&found, 1, RECONNECT_S_MAX)?,
                None => RECONNECT_MAX,
            },
            republish_jitter: match self.find("republish-jitter", |raw| raw.republish_jitter) {
                Some(found) => within(&found, 0, JITTER_S_MAX)?,
                None => Duration::ZERO,
            },
            publish_rate_max: self
                .find("publish-rate-max", |raw| raw.publish_rate_max)
                .map_or(0, |found| found.value),
            access: self
                .find("access", |raw| raw.access)
                .map_or(defaults.access, |found| found.value),
            prefix: self.prefix()?,
            lists: Lists {
                publish: List {
                    allow: self.allow("publish-allow", |raw| raw.publish_allow.clone())?,
                    deny: self.deny("publish-deny", |raw| raw.publish_deny.clone())?,
                },
                read: List {
                    allow: self.allow("read-allow", |raw| raw.read_allow.clone())?,
                    deny: self.deny("read-deny", |raw| raw.read_deny.clone())?,
                },
                write: List {
                    allow: self.allow("write-allow", |raw| raw.write_allow.clone())?,
                    deny: self.deny("write-deny", |raw| raw.write_deny.clone())?,
                },
                respond: self
                    .filters(
                        "response-allow",
                        |raw| raw.response_allow.clone(),
                        TopicFilter::parse,
                    )?
                    .unwrap_or_else(|| Lists::default().respond),
            },
            topics: self.topics()?,
            home_assistant: self.home_assistant()?,
        })
    }

    /// What topics it takes (§4.12).
    fn topics(&self) -> Result<TopicRules, ConfigError> {
        let least = |found: Option<Found<u32>>, min: u32| match found {
            None => Ok(None),
            Some(found) if found.value < min => {
                let value = found.value;
                Err(found.wrong(Problem::TooSmall { value, min }))
            }
            Some(found) => Ok(usize::try_from(found.value).ok()),
        };
        let levels = self.find("topic-levels-max", |raw| raw.topic_levels_max);
        let bytes = self.find("topic-bytes-max", |raw| raw.topic_bytes_max);
        Ok(TopicRules {
            levels_max: least(levels, TOPIC_LEVELS_MIN)?,
            bytes_max: least(bytes, TOPIC_BYTES_MIN)?,
            replace: self.replace()?,
        })
    }

    fn replace(&self) -> Result<Vec<(char, Box<str>)>, ConfigError> {
        let Some(found) = self.find("topic-replace", |raw| raw.topic_replace.clone()) else {
            return Ok(Vec::new());
        };
        let pairs: Vec<(String, String)> = match &found.value {
            RawReplace::All(text) => text.chars().map(|c| (c.into(), "_".into())).collect(),
            RawReplace::Each(pairs) => pairs.clone().into_iter().collect(),
        };
        let froms: String = pairs.iter().map(|(from, _)| from.as_str()).collect();
        let mut replace = Vec::new();
        for (from, to) in &pairs {
            let mut chars = from.chars();
            let from_one = chars.next().filter(|c| *c != '/' && chars.next().is_none());
            match from_one {
                Some(from) if is_topic_level(to) && !to.contains(|c| froms.contains(c)) => {
                    replace.push((from, to.as_str().into()));
                }
                _ => return Err(found.wrong(Problem::Replace(from.clone(), to.clone()))),
            }
        }
        Ok(replace)
    }

    fn home_assistant(&self) -> Result<Option<HomeAssistant>, ConfigError> {
        let enabled = self.find("home-assistant", |raw| raw.home_assistant);
        let prefix = match self.find("home-assistant-prefix", |raw| {
            raw.home_assistant_prefix.clone()
        }) {
            Some(found) if is_discovery_prefix(&found.value) => found.value,
            Some(found) => {
                return Err(found.wrong(Problem::HomeAssistantPrefix(found.value.clone())));
            }
            None => DISCOVERY_PREFIX.to_owned(),
        };
        let keep = self.find("home-assistant-keep", |raw| raw.home_assistant_keep);
        let keep_s = keep.map_or(HOME_ASSISTANT_KEEP_S, |found| found.value);
        Ok(enabled.map(|found| HomeAssistant {
            enabled: found.value,
            prefix,
            keep: Some(Duration::from_secs(keep_s.into())),
        }))
    }

    /// Where it is, and how it is reached. With any setting of encryption the connection is encrypted,
    /// whatever the address says: what is meant to be secret is never sent in the clear.
    fn connection(
        &self,
        defaults: &Defaults,
    ) -> Result<(Server, Transport, Option<TlsConfig>), ConfigError> {
        let server = match self.find("mqtt-server", |raw| raw.server.clone()) {
            Some(found) => Server::parse(&found.value).map_err(|error| found.wrong(error))?,
            None => defaults.server.clone(),
        };
        let ca = self.file("mqtt-certificate", |raw| raw.certificate.clone())?;
        let certificate = self.file("mqtt-client-certificate", |raw| {
            raw.client_certificate.clone()
        })?;
        let key = self.find("mqtt-client-key", |raw| raw.client_key.clone());
        let client = match (certificate, key) {
            (None, Some(key)) => return Err(key.wrong(Problem::KeyWithoutCertificate)),
            (None, None) => None,
            (Some(certificate), None) => Some((certificate.value.clone(), certificate.value)),
            (Some(certificate), Some(key)) => {
                can_be_read(&key)?;
                Some((certificate.value, key.value))
            }
        };
        let server_name = match self.find("mqtt-server-name", |raw| raw.server_name.clone()) {
            Some(found) if is_host(&found.value) => Some(found.value),
            Some(found) => return Err(found.wrong(Problem::ServerName(found.value.clone()))),
            None => None,
        };
        let wanted =
            defaults.encrypted || ca.is_some() || client.is_some() || server_name.is_some();
        let transport = if wanted {
            server.transport.clone().encrypted()
        } else {
            server.transport.clone()
        };
        let tls = transport.is_encrypted().then(|| TlsConfig {
            ca: ca.map(|found| found.value).or_else(|| defaults.ca.clone()),
            client,
            server_name,
        });
        Ok((server, transport, tls))
    }

    /// A file that is there and can be read; what is in it shows when it is used.
    fn file(
        &self,
        key: &'static str,
        field: impl Fn(&RawBroker) -> Option<PathBuf>,
    ) -> Result<Option<Found<PathBuf>>, ConfigError> {
        let found = self.find(key, field);
        if let Some(file) = &found {
            can_be_read(file)?;
        }
        Ok(found)
    }

    pub(super) fn login(&self, privacy: &Privacy) -> Result<Option<Login>, ConfigError> {
        let user = self.find("mqtt-user", |raw| raw.user.clone());
        let password = self.password(privacy)?;
        match (user, password) {
            (None, None) => Ok(None),
            (None, Some(password)) => Err(password.wrong(Problem::PasswordWithoutUser)),
            (Some(user), _) if user.value.is_empty() => Err(user.wrong(Problem::NoUser)),
            (Some(user), password) => {
                let password = password.map(|found| found.value).unwrap_or_default();
                Ok(Some(Login {
                    user: user.value,
                    password,
                }))
            }
        }
    }

    /// The password, or what stands in the password file, whichever is set in the stronger place.
    fn password(&self, privacy: &Privacy) -> Result<Option<Found<Secret>>, ConfigError> {
        let text = self.find("mqtt-password", |raw| raw.password.clone());
        let file = self.find("mqtt-password-file", |raw| raw.password_file.clone());
        match (text, file) {
            (Some(text), Some(file)) if text.rank == file.rank => {
                Err(file.wrong(Problem::TwoPasswords))
            }
            (Some(text), Some(file)) if text.rank < file.rank => Ok(Some(text)),
            (_, Some(file)) => secrets::read_found(file, privacy).map(Some),
            (text, None) => Ok(text),
        }
    }

    fn ping(&self) -> Result<Duration, ConfigError> {
        let Some(found) = self.find("ping", |raw| raw.ping) else {
            return Ok(PING);
        };
        within(&found, 1, PING_S_MAX)
    }

    fn prefix(&self) -> Result<String, ConfigError> {
        let Some(found) = self.find("mqtt-prefix", |raw| raw.prefix.clone()) else {
            return Ok(String::new());
        };
        let text = found.value.as_str();
        if !text.chars().all(is_topic_char)
            || text.starts_with('$')
            || text.len() > PREFIX_BYTES_MAX
            || text.split('/').count() > PREFIX_LEVELS_MAX
        {
            return Err(found.wrong(Problem::Prefix(text.to_owned())));
        }
        let end = if text.is_empty() || text.ends_with('/') {
            ""
        } else {
            "/"
        };
        Ok(format!("{text}{end}"))
    }

    fn allow(
        &self,
        key: &'static str,
        field: impl Fn(&RawBroker) -> Option<Vec<String>>,
    ) -> Result<Vec<Filter>, ConfigError> {
        Ok(self
            .filters(key, field, Filter::parse)?
            .unwrap_or_else(|| List::default().allow))
    }

    fn deny(
        &self,
        key: &'static str,
        field: impl Fn(&RawBroker) -> Option<Vec<String>>,
    ) -> Result<Vec<Filter>, ConfigError> {
        let filters = self.filters(key, field, Filter::parse)?;
        Ok(filters.unwrap_or_default())
    }

    fn filters<F>(
        &self,
        key: &'static str,
        field: impl Fn(&RawBroker) -> Option<Vec<String>>,
        parse: impl Fn(&str) -> Option<F>,
    ) -> Result<Option<Vec<F>>, ConfigError> {
        let Some(found) = self.find(key, field) else {
            return Ok(None);
        };
        let parse =
            |text: &String| parse(text).ok_or_else(|| found.wrong(Problem::Filter(text.clone())));
        found
            .value
            .iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Refuses a broker that the log could not tell from another, or that would fight with one.
    fn is_new(&self, broker: &BrokerConfig, others: &[BrokerConfig]) -> Result<(), ConfigError> {
        if let Some(other) = others.iter().find(|other| other.name == broker.name) {
            return Err(self.blame("name", Problem::SameName(other.name.clone())));
        }
        let same = |other: &&BrokerConfig| {
            (&other.host, other.port, &other.client_id)
                == (&broker.host, broker.port, &broker.client_id)
        };
        match others.iter().find(same) {
            None => Ok(()),
            Some(other) => {
                let problem = Problem::SameClient {
                    broker: other.name.clone(),
                    address: other.address(),
                    client_id: other.client_id.clone(),
                };
                Err(self.blame("mqtt-server", problem))
            }
        }
    }

    /// A complaint about a setting, be it set or not.
    fn blame(&self, key: &'static str, problem: Problem) -> ConfigError {
        ConfigError::Setting {
            origin: self.origin(key),
            problem,
        }
    }
}

/// So many seconds, if they are within these bounds.
fn within(found: &Found<u32>, min: u32, max: u32) -> Result<Duration, ConfigError> {
    let value = found.value;
    if value < min {
        Err(found.wrong(Problem::TooSmall { value, min }))
    } else if value > max {
        Err(found.wrong(Problem::TooLarge { value, max }))
    } else {
        Ok(Duration::from_secs(value.into()))
    }
}

pub(super) fn can_be_read(file: &Found<PathBuf>) -> Result<(), ConfigError> {
    match open_regular(&file.value) {
        Ok(_) => Ok(()),
        Err(reason) => Err(file.wrong(Problem::Unreadable {
            path: file.value.clone(),
            reason,
        })),
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

fn is_client_id(text: &str) -> bool {
    text.len() <= CLIENT_ID_BYTES_MAX && is_topic_level(text)
}

/// Levels of a topic, none of them empty or a wildcard.
fn is_discovery_prefix(text: &str) -> bool {
    text.len() <= PREFIX_BYTES_MAX
        && text.split('/').all(is_topic_level)
        && text.split('/').count() <= PREFIX_LEVELS_MAX
}

/// `N/<portal>/<type>/<instance>/<path>`, and less would leave nothing.
const TOPIC_LEVELS_MIN: u32 = 5;
const TOPIC_BYTES_MIN: u32 = 64;
const KEEP_ALIVE_S: u32 = 60;
const HOME_ASSISTANT_KEEP_S: u32 = 86_400;
const PING: Duration = Duration::from_secs(30);
/// MQTT has 16 bits for it.
const PING_S_MAX: u32 = 65_535;
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// A day: whoever waits longer has given up.
const RECONNECT_S_MAX: u32 = 86_400;
const JITTER_S_MAX: u32 = 86_400;
const NAME_BYTES_MAX: usize = 64;
