//! The portal id, where this computer is not a GX device: `com.victronenergy.system` on the bus has it (§6).
//!
//! Asked before the bridge is there, over a separate connection that ends with the answer.

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};
use zbus::connection::Builder;
use zbus::{Connection, Variant};

use super::supervisor::Supervisor;
use crate::config::{BusAddress, ConfigError};
use crate::error::{one_line, plain};
use crate::model::name::{PortalId, SERVICE_PREFIX};
use crate::model::topic::{SERIAL, parse_address};

/// How often it is asked.
const STEP: Duration = Duration::from_secs(1);
/// How long one attempt may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the service may be there without a portal id: it claims its name before its values are there.
const SETTLING: Duration = Duration::from_secs(10);

/// Why there is no portal id yet.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Missing {
    /// The bus cannot be reached.
    Bus(String),
    /// The service is not on it, or does not answer.
    Service(String),
    /// The service is there, and says something else.
    Serial(String),
}

/// Asks until the portal id is there. Says once that it waits, and fails only where the service is there
/// and has none.
pub async fn ask(bus: &BusAddress, supervisor: &Supervisor) -> Result<PortalId, ConfigError> {
    let began = Instant::now();
    let source = Source::new();
    let mut connection = None;
    let mut without_since = None;
    let mut said = String::new();
    loop {
        let missing = match source.look(&mut connection, bus).await {
            Ok(portal_id) => {
                info!("portal id {portal_id}, from {} on the bus", source.service);
                return Ok(portal_id);
            }
            Err(missing) => missing,
        };
        supervisor.waiting(began, "waiting for the portal id");
        let (text, without) = match missing {
            Missing::Bus(reason) => (format!("bus {bus}: {reason}; trying again"), None),
            Missing::Service(reason) => {
                debug!("{}: {reason}", source.service);
                let text = format!(
                    "waiting for {} on the bus, which has the portal id (--portal-id sets it)",
                    source.service
                );
                (text, None)
            }
            Missing::Serial(reason) => {
                let since = *without_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= SETTLING {
                    return Err(source.none(reason));
                }
                (String::new(), Some(since))
            }
        };
        without_since = without;
        if !text.is_empty() && text != said {
            warn!("{}", one_line(&text));
            said = text;
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Asks once, for someone who does not want to wait longer than that.
pub async fn ask_once(bus: &BusAddress) -> Result<PortalId, String> {
    let source = Source::new();
    let asked = source.look(&mut None, bus).await;
    asked.map_err(|missing| match missing {
        Missing::Bus(reason) => format!("bus {bus}: {reason}"),
        Missing::Service(reason) => format!("{}: {reason}", source.service),
        Missing::Serial(reason) => source.none(reason).to_string(),
    })
}

/// Who has the portal id, and where.
struct Source {
    service: String,
    path: &'static str,
}

impl Source {
    fn new() -> Source {
        let address = parse_address(SERIAL);
        let (service_type, path) = address
            .map(|address| (address.service_type, address.path))
            .unwrap_or_default();
        Source {
            service: format!("{SERVICE_PREFIX}{service_type}"),
            path,
        }
    }

    fn none(&self, reason: String) -> ConfigError {
        let (service, path) = (self.service.clone(), self.path);
        ConfigError::NoSerial {
            service,
            path,
            reason,
        }
    }

    /// One attempt. The connection is kept for the next one while it works.
    async fn look(
        &self,
        connection: &mut Option<Connection>,
        bus: &BusAddress,
    ) -> Result<PortalId, Missing> {
        let asked = self.look_now(connection, bus);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
        answer.unwrap_or_else(|_| {
            let seconds = ANSWER_TIMEOUT.as_secs();
            Err(Missing::Service(format!("no answer within {seconds} s")))
        })
    }

    async fn look_now(
        &self,
        connection: &mut Option<Connection>,
        bus: &BusAddress,
    ) -> Result<PortalId, Missing> {
        let open = match connection.take() {
            Some(open) => open,
            None => connect(bus).await?,
        };
        let service = Some(self.service.as_str());
        let call = open.call_method(service, self.path, Some(BUS_ITEM), "GetValue", &());
        match call.await {
            Ok(reply) => {
                let body = reply.body();
                let value = body.deserialize::<Variant<'_>>();
                *connection = Some(open);
                portal_id_of(value.ok().as_ref())
            }
            Err(error) => {
                let missing = missing(&error);
                // A connection that is lost is opened anew.
                if !matches!(missing, Missing::Bus(_)) {
                    *connection = Some(open);
                }
                Err(missing)
            }
        }
    }
}

async fn connect(bus: &BusAddress) -> Result<Connection, Missing> {
    let mut failed = String::new();
    for address in bus.as_str().split(';').filter(|one| !one.is_empty()) {
        let built = match Builder::address(address).build().await {
            Ok(open) => return Ok(open),
            Err(zbus::Error::Connection(reason, _)) => reason.to_string(),
            Err(error) => error.to_string(),
        };
        failed = plain(&built);
    }
    Err(Missing::Bus(failed))
}

/// What a failed call says of who was called.
fn missing(error: &zbus::Error) -> Missing {
    use zbus::fdo::Error::{NameHasNoOwner, NoReply, ServiceUnknown};
    let reason = one_line(error);
    let zbus::Error::FDO(error) = error else {
        // An error of the service's own, or the connection is lost.
        return if matches!(error, zbus::Error::MethodError(..)) {
            Missing::Serial(reason)
        } else {
            Missing::Bus(reason)
        };
    };
    if matches!(**error, ServiceUnknown(_) | NameHasNoOwner(_) | NoReply(_)) {
        Missing::Service(reason)
    } else {
        Missing::Serial(reason)
    }
}

/// The portal id in an answer.
fn portal_id_of(value: Option<&Variant<'_>>) -> Result<PortalId, Missing> {
    match value {
        Some(Variant::Str(text)) => {
            PortalId::new(text.trim()).map_err(|error| Missing::Serial(error.to_string()))
        }
        _ => Err(Missing::Serial("it has no text there".to_owned())),
    }
}

const BUS_ITEM: &str = "com.victronenergy.BusItem";
