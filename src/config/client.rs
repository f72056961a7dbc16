//! What a client of the broker needs: the connection settings of the bridge, without a device.

use super::{BrokerConfig, ConfigError, Layers};
use crate::model::name::PortalId;

/// How to reach the broker, and whose values are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        self.refuse_what_is_not_there_yet()?;
        let portal_id = match self.find("portal-id", |raw| raw.portal_id.clone()) {
            Some(found) => Some(PortalId::new(&found.value).map_err(|error| found.wrong(error))?),
            None => None,
        };
        let broker = BrokerConfig {
            client_id: client_id.clone(),
            ..self.broker(client_id)?
        };
        Ok(ClientConfig { broker, portal_id })
    }
}
