//! What a client of the broker needs: the connection settings of the bridge, without a device.

use super::error::{ConfigError, Origin, Problem};
use super::layers::Layers;
use super::settings::BrokerConfig;
use crate::model::name::PortalId;

/// How to reach the broker, and whose values are meant.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientConfig {
    /// The broker; the client id in it is the client's own.
    pub broker: BrokerConfig,
    /// The installation, where a setting names it.
    pub portal_id: Option<PortalId>,
}

impl Layers {
    /// The configuration of a client that goes by `client_id`. The setting of that name is the
    /// bridge's: a client that took it would throw the bridge off the broker.
    pub fn client(&self, client_id: String) -> Result<ClientConfig, ConfigError> {
        let portal_id = match self.top.find::<String>("portal-id")? {
            Some(found) => Some(PortalId::new(&found.value).map_err(|error| found.wrong(error))?),
            None if self.names_portal() => {
                return Err(ConfigError::Setting {
                    origin: Origin::Default,
                    problem: Problem::PortalIdNeeded,
                });
            }
            None => None,
        };
        // Only the default client id is made of it, and that is not ours.
        let any = portal_id.clone().unwrap_or_else(PortalId::unknown);
        let broker = BrokerConfig {
            client_id,
            ..self.of_portal(&any).first_broker(&any)?
        };
        Ok(ClientConfig { broker, portal_id })
    }
}
