//! The configuration: [`RawConfig`] as written, [`Config`] as resolved.
//!
//! Nobody else reads arguments, environment or files, and every bound of the program has its name
//! here, in [`Limits`]. `layers` says where a setting can stand, `raw` what it is called.

mod error;
mod layers;
mod machine;
mod portal;
mod raw;
mod resolve;
mod server;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use self::error::{ConfigError, Origin, Problem};
pub use self::layers::Layers;
pub(crate) use self::layers::arguments_error;
pub use self::machine::Machine;
pub(crate) use self::raw::whole;
pub use self::raw::{RawConfig, RawLimits};
pub use self::server::InvalidServer;
use crate::model::name::PortalId;

/// What the bridge does, with every default filled in and every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The second level of every topic (§1).
    pub portal_id: PortalId,
    /// The bus to read from (§2.8).
    pub bus: BusAddress,
    /// The brokers to publish to.
    pub brokers: Vec<BrokerConfig>,
    /// How long changes may be gathered before they are read; zero is not at all.
    pub gather: Duration,
    /// The bounds.
    pub limits: Limits,
}

/// One broker (§6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// For logs.
    pub name: String,
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Contains none of `+ # /`.
    pub client_id: String,
    /// User and password, where the broker wants them.
    pub login: Option<Login>,
    /// Whether notifications are retained (§4.1).
    pub retain: bool,
    /// How long a request keeps the bridge alive; `None` is for ever (§5.1).
    pub keep_alive: Option<Duration>,
    /// The interval of PINGs, MQTT's own keep-alive.
    pub ping: Duration,
    /// Home Assistant, where the settings say anything of it.
    pub home_assistant: Option<HomeAssistant>,
}

/// Home Assistant on a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeAssistant {
    /// Whether it is set up; else what an earlier run has set up is taken back.
    pub enabled: bool,
    /// What its discovery topics begin with.
    pub prefix: String,
    /// How long a device that is gone is kept; `None` is for ever.
    pub keep: Option<Duration>,
}

/// User and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Empty where only the user is given: then none is sent.
    pub password: Secret,
}

/// Every bound of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Items that are known at one time, over all services.
    pub items_max: usize,
    /// Services that are known at one time.
    pub services_max: usize,
    /// The payload of one request (§5.8).
    pub request_bytes_max: usize,
    /// Writes that wait for their service's answer (§5.6).
    pub writes_in_flight_max: usize,
    /// D-Bus calls of any kind that wait for their answer.
    pub calls_in_flight_max: usize,
    /// Live filters of selective keep-alives, per broker (§5.4).
    pub filters_max: usize,
    /// One D-Bus message.
    pub frame_bytes_max: usize,
    /// What is encoded and not yet taken by the socket, per broker.
    pub out_buffer_bytes: usize,
    /// When a D-Bus call without an answer counts as failed.
    pub call_timeout: Duration,
    /// The same for the call of a read request.
    pub read_timeout: Duration,
    /// How long unpublishing may take at the end (§4.9).
    pub shutdown: Duration,
}

/// Where a bus is, as D-Bus writes it: `unix:path=/var/run/dbus/system_bus_socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusAddress(Box<str>);

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Box<str>);

impl BrokerConfig {
    /// `host:port` as people write it, an IPv6 address in brackets.
    pub fn address(&self) -> String {
        let BrokerConfig { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            items_max: 500_000,
            services_max: 2_000,
            request_bytes_max: 64 * 1024,
            writes_in_flight_max: 1_024,
            calls_in_flight_max: 4_096,
            filters_max: 1_000,
            frame_bytes_max: 32 * 1024 * 1024,
            out_buffer_bytes: 64 * 1024,
            call_timeout: Duration::from_secs(25),
            read_timeout: Duration::from_secs(5),
            shutdown: Duration::from_secs(5),
        }
    }
}

impl BusAddress {
    /// Takes a text that has the form of an address: a transport and a colon. Whether the transport
    /// exists shows when the bus is opened.
    pub fn parse(text: &str) -> Result<BusAddress, Problem> {
        let is_one = |part: &str| {
            part.split_once(':')
                .is_some_and(|(transport, _)| !transport.is_empty())
        };
        if text.split(';').all(is_one) && !text.contains(char::is_whitespace) {
            Ok(BusAddress(text.into()))
        } else {
            Err(Problem::BusAddress(text.to_owned()))
        }
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Secret {
    /// The text, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.into())
    }
}

// INVARIANT: a_secret_is_never_shown
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
