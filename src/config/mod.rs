//! The configuration: declared in [`settings`], one row for each setting; [`Layers`] as written, [`Config`] as
//! resolved.
//!
//! Nobody else reads arguments, environment or files, and every bound of the program has its name
//! here, in [`Limits`]. `layers` says where a setting can stand.

mod broker;
mod bus_address;
#[cfg(feature = "client")]
mod client;
mod dump;
mod engines;
mod error;
mod exposure;
mod file;
mod layers;
mod listen;
mod machine;
mod portal;
mod raw;
mod resolve;
mod resolve_broker;
mod resolve_listener;
mod resolve_vrm;
mod schema;
mod secret;
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
mod toml_value;
mod values;
mod vrm;

pub use self::broker::{Address, HomeAssistant, Login, MqttVersion, TlsConfig, Transport};
pub use self::bus_address::BusAddress;
#[cfg(feature = "client")]
pub use self::client::ClientConfig;
pub use self::error::{ConfigError, Origin, Problem};
pub use self::exposure::Exposure;
pub(crate) use self::exposure::exposure;
pub use self::layers::Layers;
pub(crate) use self::layers::arguments_error;
pub use self::listen::{Auth, ListenConfig, ListenTls, ListenTransport, reached};
pub use self::machine::Machine;
pub(crate) use self::machine::open_regular;
pub use self::portal::PortalSource;
pub use self::raw::RawConfig;
pub use self::resolve::is_of_host_name;
pub use self::schema::read_schema;
pub use self::secret::Secret;
pub use self::secrets::SecretFile;
pub use self::server::InvalidServer;
pub use self::settings::{BrokerConfig, Config, Limits};
pub use self::supervisor::{NotifySocket, Supervision};
pub(crate) use self::text::whole;
pub use self::vrm::{Registration, VrmConfig};
pub use crate::model::access::AccessRule;
pub use crate::model::name::PortalId;
