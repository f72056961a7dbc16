//! From the settings of a broker as written to the broker as resolved (§6, §8).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::broker::{Address, HomeAssistant, Login, TlsConfig};
use super::error::{CLIENT_ID_BYTES_MAX, PREFIX_BYTES_MAX, PREFIX_LEVELS_MAX};
use super::error::{ConfigError, Problem};
use super::layers::Layers;
use super::machine::{Machine, open_regular};
use super::secret::Secret;
use super::secrets;
use super::secrets::Privacy;
use super::server::{Server, is_host};
use super::settings::BrokerConfig;
use super::values::{Found, Values};
use super::vrm::VrmConfig;
use crate::model::access::Access;
use crate::model::access::AccessRule;
use crate::model::filter::{List, Lists};
use crate::model::name::{PortalId, is_topic_char, is_topic_level};
use crate::model::topic::TopicRules;

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
        let none = Values::default();
        let values = self.brokers.first().unwrap_or(&none);
        let login = values.login(&self.privacy())?;
        values.broker(portal_id, login, Defaults::named("broker".to_owned()))
    }

    /// All brokers, that of VRM as the last.
    pub(super) fn brokers(
        &self,
        machine: &Machine,
        portal_id: &PortalId,
    ) -> Result<(Vec<BrokerConfig>, Option<VrmConfig>), ConfigError> {
        let privacy = self.privacy();
        let mut brokers: Vec<BrokerConfig> = Vec::new();
        let there = if self.has_broker() {
            self.brokers.len()
        } else {
            0
        };
        for (index, values) in self.brokers.iter().take(there).enumerate() {
            let name = if self.brokers.len() < 2 {
                "broker".to_owned()
            } else {
                format!("broker {}", index + 1)
            };
            let broker =
                values.broker(portal_id, values.login(&privacy)?, Defaults::named(name))?;
            values.is_new(&broker, &brokers)?;
            brokers.push(broker);
        }
        let Some((broker, mut vrm)) = self.vrm(machine, portal_id, &privacy)? else {
            return Ok((brokers, None));
        };
        self.vrm.is_new(&broker, &brokers)?;
        vrm.broker = brokers.len();
        brokers.push(broker);
        Ok((brokers, Some(vrm)))
    }
}

impl Values {
    /// The broker, but for what only all together can show.
    pub(super) fn broker(
        &self,
        portal_id: &PortalId,
        login: Option<Login>,
        defaults: Defaults,
    ) -> Result<BrokerConfig, ConfigError> {
        let (first, others, tls) = self.connection(&defaults)?;
        let name = match self.find::<String>("name")? {
            Some(found) if is_name(&found.value) => found.value,
            Some(found) => return Err(found.wrong(Problem::Name(found.value.clone()))),
            None => defaults.name,
        };
        let client_id = match self.find::<String>("client-id")? {
            Some(found) if is_client_id(&found.value) => found.value,
            Some(found) => return Err(found.wrong(Problem::ClientId(found.value.clone()))),
            None => format!("dbus-mqtt-{portal_id}"),
        };
        if self.value::<Option<Duration>>("batch")?.is_none() {
            for (key, needs_batches) in [("topics", false), ("batch-compress", true)] {
                let found = self.find::<bool>(key)?;
                if let Some(found) = found.filter(|found| found.value == needs_batches) {
                    return Err(found.wrong(Problem::NoBatches(needs_batches)));
                }
            }
        }
        Ok(BrokerConfig {
            name,
            host: first.host,
            port: first.port,
            transport: first.transport,
            others,
            tls,
            client_id,
            login,
            access: self
                .find("access")?
                .map_or(defaults.access, |found| found.value),
            prefix: self.prefix()?,
            lists: self.lists()?,
            topics: self.topics()?,
            home_assistant: self.home_assistant()?,
            ..BrokerConfig::declared(self)?
        })
    }

    /// What may be published there, read and written from there.
    pub(super) fn lists(&self) -> Result<Lists, ConfigError> {
        let list = |allow, deny| -> Result<List, ConfigError> {
            Ok(List {
                allow: self.value(allow)?,
                deny: self.value(deny)?,
            })
        };
        Ok(Lists {
            publish: list("publish-allow", "publish-deny")?,
            read: list("read-allow", "read-deny")?,
            write: list("write-allow", "write-deny")?,
            respond: self.value("response-allow")?,
        })
    }

    /// What topics it takes (§4.12).
    fn topics(&self) -> Result<TopicRules, ConfigError> {
        Ok(TopicRules {
            levels_max: self.find("topic-levels-max")?.map(|found| found.value),
            bytes_max: self.find("topic-bytes-max")?.map(|found| found.value),
            replace: self.replace()?,
        })
    }

    fn replace(&self) -> Result<Vec<(char, Box<str>)>, ConfigError> {
        let Some(found) = self.find::<BTreeMap<String, String>>("topic-replace")? else {
            return Ok(Vec::new());
        };
        let pairs = &found.value;
        let froms: String = pairs.keys().map(String::as_str).collect();
        let mut replace = Vec::new();
        for (from, to) in pairs {
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

    pub(super) fn home_assistant(&self) -> Result<Option<HomeAssistant>, ConfigError> {
        let prefix: String = self.value("home-assistant-prefix")?;
        if !is_discovery_prefix(&prefix) {
            let problem = Problem::HomeAssistantPrefix(prefix);
            return Err(self.blame("home-assistant-prefix", problem));
        }
        let keep = self.value("home-assistant-keep")?;
        let enabled = self.find("home-assistant")?;
        Ok(enabled.map(|found| HomeAssistant {
            enabled: found.value,
            prefix,
            keep: Some(keep),
        }))
    }

    /// Where it is, and how it is reached. With any setting of encryption the connection is encrypted,
    /// whatever the address says: what is meant to be secret is never sent in the clear.
    fn connection(
        &self,
        defaults: &Defaults,
    ) -> Result<(Address, Vec<Address>, Option<TlsConfig>), ConfigError> {
        let (first, others) = match self.find::<String>("mqtt-server")? {
            Some(found) => {
                let parse =
                    |text: &str| Server::parse(text.trim()).map_err(|error| found.wrong(error));
                let (first, rest) = found.value.split_once(',').unwrap_or((&found.value, ""));
                let rest = rest.split(',').filter(|_| !rest.is_empty());
                (parse(first)?, rest.map(parse).collect::<Result<_, _>>()?)
            }
            None => (defaults.server.clone(), Vec::new()),
        };
        let ca = self.file("mqtt-certificate")?;
        let certificate = self.file("mqtt-client-certificate")?;
        let key = self.find::<PathBuf>("mqtt-client-key")?;
        let client = match (certificate, key) {
            (None, Some(key)) => return Err(key.wrong(Problem::KeyWithoutCertificate)),
            (None, None) => None,
            (Some(certificate), None) => Some((certificate.value.clone(), certificate.value)),
            (Some(certificate), Some(key)) => {
                can_be_read(&key)?;
                Some((certificate.value, key.value))
            }
        };
        let server_name = match self.find::<String>("mqtt-server-name")? {
            Some(found) if is_host(&found.value) => Some(found.value),
            Some(found) => return Err(found.wrong(Problem::ServerName(found.value.clone()))),
            None => None,
        };
        let alpn = self.alpn()?;
        let wanted = alpn.is_some()
            || defaults.encrypted
            || ca.is_some()
            || client.is_some()
            || server_name.is_some();
        let encrypted = first.transport.is_encrypted();
        let differs = |other: &Server| other.transport.is_encrypted() != encrypted;
        if !wanted && others.iter().any(differs) {
            return Err(self.blame("mqtt-server", Problem::MixedServers));
        }
        let address = |server: Server| {
            let transport = if wanted {
                server.transport.encrypted()
            } else {
                server.transport
            };
            Address {
                host: server.host,
                port: server.port.unwrap_or(transport.usual_port()),
                transport,
            }
        };
        let others = others.into_iter().map(address).collect();
        let tls = (wanted || encrypted).then(|| TlsConfig {
            ca: ca.map(|found| found.value).or_else(|| defaults.ca.clone()),
            client,
            server_name,
            alpn,
        });
        Ok((address(first), others, tls))
    }

    /// The protocol that is offered.
    fn alpn(&self) -> Result<Option<String>, ConfigError> {
        let found = self.find::<String>("alpn")?;
        let Some(found) = found.filter(|found| !found.value.is_empty()) else {
            return Ok(None);
        };
        let text = found.value.as_str();
        if text.len() > ALPN_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(found.wrong(Problem::Alpn(text.to_owned())));
        }
        Ok(Some(found.value))
    }

    /// A file that is there and can be read; what is in it shows when it is used.
    fn file(&self, key: &'static str) -> Result<Option<Found<PathBuf>>, ConfigError> {
        let found = self.find(key)?;
        if let Some(file) = &found {
            can_be_read(file)?;
        }
        Ok(found)
    }

    pub(super) fn login(&self, privacy: &Privacy) -> Result<Option<Login>, ConfigError> {
        let user = self.find::<String>("mqtt-user")?;
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
        let text = self.find("mqtt-password")?;
        let file = self.find::<PathBuf>("mqtt-password-file")?;
        match (text, file) {
            (Some(text), Some(file)) if text.rank == file.rank => {
                Err(file.wrong(Problem::TwoPasswords))
            }
            (Some(text), Some(file)) if text.rank < file.rank => Ok(Some(text)),
            (_, Some(file)) => secrets::read_found(file, privacy).map(Some),
            (text, None) => Ok(text),
        }
    }

    fn prefix(&self) -> Result<String, ConfigError> {
        let Some(found) = self.find::<String>("mqtt-prefix")? else {
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

    /// Refuses a broker that the log could not tell from another, or that would fight with one.
    fn is_new(&self, broker: &BrokerConfig, others: &[BrokerConfig]) -> Result<(), ConfigError> {
        if let Some(other) = others.iter().find(|other| other.name == broker.name) {
            return Err(self.blame("name", Problem::SameName(other.name.clone())));
        }
        let places = |broker: &BrokerConfig| -> Vec<String> {
            broker.at_each().iter().map(BrokerConfig::address).collect()
        };
        let same = |other: &&BrokerConfig| {
            let (there, here) = (places(other), places(broker));
            other.client_id == broker.client_id && there.iter().any(|place| here.contains(place))
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

/// Its length is one byte [RFC 7301, 3.1].
const ALPN_BYTES_MAX: usize = 255;
const NAME_BYTES_MAX: usize = 64;
