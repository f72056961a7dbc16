//! From the settings as written to the configuration as resolved: defaults, checks, and the sources
//! of §2.8 and §6.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::name::PortalId;

use super::error::CLIENT_ID_BYTES_MAX;
use super::layers::{Found, Layers};
use super::machine::Machine;
use super::server::Server;
use super::{
    BrokerConfig, BusAddress, Config, ConfigError, HomeAssistant, Limits, Login, Origin, Problem,
    RawLimits, Secret, portal,
};

impl Layers {
    /// The configuration, or the first mistake in it.
    pub fn resolve(&self, machine: &Machine) -> Result<Config, ConfigError> {
        self.refuse_what_is_not_there_yet()?;
        let (portal_id, source) = self.portal_id(machine)?;
        let limits = self.find("limits", |raw| raw.limits.clone());
        let config = Config {
            bus: self.bus(machine)?,
            brokers: vec![self.broker(&portal_id)?],
            gather: self.gather()?,
            limits: limits
                .map(|found| Limits::from(found.value))
                .unwrap_or_default(),
            portal_id,
        };
        // Last, so that a mistake is the only line it leads to.
        if let Some(source) = source {
            tracing::info!("portal id {}, from {source}", config.portal_id);
        }
        Ok(config)
    }

    /// Whether the log is to say more.
    pub fn debug(&self) -> bool {
        self.find("debug", |raw| raw.debug)
            .is_some_and(|found| found.value)
    }

    /// The bus: the setting, else the session bus where there is one, else the system bus (§2.8).
    /// `session` and `system` are settings too.
    pub fn bus(&self, machine: &Machine) -> Result<BusAddress, ConfigError> {
        let session = || variable(machine, "DBUS_SESSION_BUS_ADDRESS");
        let system = || variable(machine, "DBUS_SYSTEM_BUS_ADDRESS");
        let found = match self.find("dbus", |raw| raw.dbus.clone()) {
            Some(found) if found.value == "session" => {
                Some(session()?.ok_or_else(|| found.wrong(Problem::NoSessionBus))?)
            }
            Some(found) if found.value == "system" => system()?,
            Some(found) => Some(found),
            None => match session()? {
                Some(found) => Some(found),
                None => system()?,
            },
        };
        match found {
            Some(found) => BusAddress::parse(&found.value).map_err(|problem| found.wrong(problem)),
            None => Ok(BusAddress(SYSTEM_BUS.into())),
        }
    }

    /// What §6 promises and a later version brings.
    fn refuse_what_is_not_there_yet(&self) -> Result<(), ConfigError> {
        if let Some(found) = self.find("mqtt-certificate", |raw| raw.mqtt_certificate.clone()) {
            return Err(found.wrong(Problem::NoTls));
        }
        match self.find("init-broker", |raw| raw.init_broker) {
            Some(found) if found.value => Err(found.wrong(Problem::NoVrm)),
            Some(_) | None => Ok(()),
        }
    }

    /// The portal id, and where it is from if nobody set it.
    fn portal_id(&self, machine: &Machine) -> Result<(PortalId, Option<String>), ConfigError> {
        if let Some(found) = self.find("portal-id", |raw| raw.portal_id.clone()) {
            let id = PortalId::new(&found.value).map_err(|error| found.wrong(error))?;
            return Ok((id, None));
        }
        let (id, source) = portal::find(machine)?;
        Ok((id, Some(source)))
    }

    fn broker(&self, portal_id: &PortalId) -> Result<BrokerConfig, ConfigError> {
        let server = match self.find("mqtt-server", |raw| raw.mqtt_server.clone()) {
            Some(found) => Server::parse(&found.value).map_err(|error| found.wrong(error))?,
            None => Server::default(),
        };
        let client_id = match self.find("client-id", |raw| raw.client_id.clone()) {
            Some(found) if is_client_id(&found.value) => found.value,
            Some(found) => return Err(found.wrong(Problem::ClientId(found.value.clone()))),
            None => format!("dbus-mqtt-{portal_id}"),
        };
        let keep_alive = self.find("keep-alive", |raw| raw.keep_alive);
        let keep_alive_s = keep_alive.map_or(KEEP_ALIVE_S, |found| found.value);
        Ok(BrokerConfig {
            name: "broker".to_owned(),
            host: server.host,
            port: server.port,
            client_id,
            login: self.login()?,
            retain: self
                .find("retain", |raw| raw.retain)
                .is_none_or(|found| found.value),
            keep_alive: (keep_alive_s > 0).then(|| Duration::from_secs(keep_alive_s.into())),
            ping: PING,
            home_assistant: self.home_assistant()?,
        })
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
            None => HOME_ASSISTANT_PREFIX.to_owned(),
        };
        let keep = self.find("home-assistant-keep", |raw| raw.home_assistant_keep);
        let keep_s = keep.map_or(HOME_ASSISTANT_KEEP_S, |found| found.value);
        Ok(enabled.map(|found| HomeAssistant {
            enabled: found.value,
            prefix,
            keep: Some(Duration::from_secs(keep_s.into())),
        }))
    }

    fn login(&self) -> Result<Option<Login>, ConfigError> {
        let user = self.find("mqtt-user", |raw| raw.mqtt_user.clone());
        let password = self.password()?;
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
    fn password(&self) -> Result<Option<Found<Secret>>, ConfigError> {
        let text = self.find("mqtt-password", |raw| raw.mqtt_password.clone());
        let file = self.find("mqtt-password-file", |raw| raw.mqtt_password_file.clone());
        match (text, file) {
            (Some(text), Some(file)) if text.rank == file.rank => {
                Err(file.wrong(Problem::TwoPasswords))
            }
            (Some(text), Some(file)) if text.rank < file.rank => Ok(Some(text)),
            (_, Some(file)) => read_password(file).map(Some),
            (text, None) => Ok(text),
        }
    }

    fn gather(&self) -> Result<Duration, ConfigError> {
        match self.find("gather-ms", |raw| raw.gather_ms) {
            None => Ok(GATHER),
            Some(found) if found.value <= GATHER_MS_MAX => {
                Ok(Duration::from_millis(found.value.into()))
            }
            Some(found) => Err(found.wrong(Problem::TooLarge {
                value: found.value,
                max: GATHER_MS_MAX,
            })),
        }
    }
}

/// A variable that is not ours, so it ranks below all that is.
fn variable(machine: &Machine, name: &'static str) -> Result<Option<Found<String>>, ConfigError> {
    let value = machine.variable(name)?.map(str::to_owned);
    let origin = Origin::Variable(name.into());
    Ok(value.map(|value| Found {
        value,
        origin,
        rank: usize::MAX,
    }))
}

/// The first line, without its end.
fn read_password(file: Found<PathBuf>) -> Result<Found<Secret>, ConfigError> {
    let text = file.read(PASSWORD_BYTES_MAX)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Found {
            value: Secret::from(line),
            origin: file.origin,
            rank: file.rank,
        }),
        Some(_) | None => Err(file.wrong(Problem::NoPassword(file.value.clone()))),
    }
}

fn is_client_id(text: &str) -> bool {
    let is_wrong = |letter: char| letter.is_control() || matches!(letter, '+' | '#' | '/');
    (1..=CLIENT_ID_BYTES_MAX).contains(&text.len()) && !text.contains(is_wrong)
}

/// Levels of a topic, none of them empty or a wildcard.
fn is_discovery_prefix(text: &str) -> bool {
    let is_wrong = |letter: char| letter.is_control() || matches!(letter, '+' | '#');
    let is_level = |level: &str| !level.is_empty() && !level.contains(is_wrong);
    text.len() <= PREFIX_BYTES_MAX && text.split('/').all(is_level)
}

impl From<RawLimits> for Limits {
    fn from(raw: RawLimits) -> Limits {
        let default = Limits::default();
        let count = |raw: Option<NonZeroUsize>, default| raw.map_or(default, NonZeroUsize::get);
        let seconds = |raw: Option<NonZeroU32>, default| {
            raw.map_or(default, |s| Duration::from_secs(s.get().into()))
        };
        Limits {
            items_max: count(raw.items_max, default.items_max),
            services_max: count(raw.services_max, default.services_max),
            request_bytes_max: count(raw.request_bytes_max, default.request_bytes_max),
            writes_in_flight_max: count(raw.writes_in_flight_max, default.writes_in_flight_max),
            calls_in_flight_max: count(raw.calls_in_flight_max, default.calls_in_flight_max),
            filters_max: count(raw.filters_max, default.filters_max),
            frame_bytes_max: count(raw.frame_bytes_max, default.frame_bytes_max),
            out_buffer_bytes: count(raw.out_buffer_bytes, default.out_buffer_bytes),
            call_timeout: seconds(raw.call_timeout_s, default.call_timeout),
            read_timeout: seconds(raw.read_timeout_s, default.read_timeout),
            shutdown: seconds(raw.shutdown_s, default.shutdown),
        }
    }
}

const SYSTEM_BUS: &str = "unix:path=/var/run/dbus/system_bus_socket";
const KEEP_ALIVE_S: u32 = 60;
const HOME_ASSISTANT_PREFIX: &str = "homeassistant";
const HOME_ASSISTANT_KEEP_S: u32 = 86_400;
const PREFIX_BYTES_MAX: usize = 1024;
const PING: Duration = Duration::from_secs(30);
const GATHER: Duration = Duration::from_millis(20);
/// With more, a change would no longer be published at once (§4.4).
const GATHER_MS_MAX: u32 = 1_000;
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;
