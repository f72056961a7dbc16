//! The configuration: declared in [`settings`], one row for each setting; [`Layers`] as written, [`Config`] as
//! resolved.
//!
//! Nobody else reads arguments, environment or files, and every bound of the program has its name
//! here, in [`Limits`]. `layers` says where a setting can stand.

mod broker;
#[cfg(feature = "client")]
mod client;
mod dump;
mod engines;
mod error;
mod file;
mod layers;
mod listen;
mod machine;
mod portal;
mod raw;
mod resolve;
mod resolve_broker;
mod schema;
mod secrets;
mod server;
pub mod setting;
pub mod settings;
mod supervisor;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_brokers;
#[cfg(test)]
mod tests_limits;
mod text;
mod values;
mod vrm;

use std::fmt;

pub use self::broker::{Address, HomeAssistant, Login, MqttVersion, TlsConfig, Transport};
#[cfg(feature = "client")]
pub use self::client::ClientConfig;
pub use self::error::{ConfigError, Origin, Problem};
pub use self::layers::Layers;
pub(crate) use self::layers::arguments_error;
pub use self::listen::{Auth, ListenConfig, ListenTls, ListenTransport, reached};
pub use self::machine::Machine;
pub(crate) use self::machine::open_regular;
pub use self::portal::PortalSource;
pub use self::raw::RawConfig;
pub(crate) use self::raw::whole;
pub use self::resolve::is_of_host_name;
pub use self::schema::read_schema;
pub(crate) use self::secrets::exposure;
pub use self::secrets::{Exposure, SecretFile};
pub use self::server::InvalidServer;
pub use self::settings::{BrokerConfig, Config, Limits};
pub use self::supervisor::{NotifySocket, Supervision};
pub use self::vrm::{Registration, VrmConfig};
pub use crate::model::access::AccessRule;
pub use crate::model::name::PortalId;

/// Where a bus is, as D-Bus writes it: `unix:path=/var/run/dbus/system_bus_socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusAddress(Box<str>);

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Box<str>);

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

    /// The system bus, where nothing else is said.
    pub(crate) fn system() -> BusAddress {
        BusAddress(SYSTEM_BUS.into())
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a socket of this machine, so that its services are those of this machine too.
    fn is_local(&self) -> bool {
        let mut parts = self.0.split(';').filter(|part| !part.is_empty());
        parts.all(|part| part.starts_with("unix:"))
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

const SYSTEM_BUS: &str = "unix:path=/var/run/dbus/system_bus_socket";
