//! From the settings as written to the configuration as resolved: defaults, checks, and the sources
//! of §2.8 and §6.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use crate::model::name::PortalId;

use super::layers::{Found, Layers};
use super::machine::Machine;
use super::{BusAddress, Config, ConfigError, Limits, Origin, Problem, RawLimits, portal};

impl Layers {
    /// The configuration, or the first mistake in it.
    pub fn resolve(&self, machine: &Machine) -> Result<Config, ConfigError> {
        let (portal_id, source) = self.portal_id(machine)?;
        let limits = self.find("limits", |raw| raw.limits.clone());
        let (brokers, vrm) = self.brokers(machine, &portal_id)?;
        let config = Config {
            bus: self.bus(machine)?,
            brokers,
            vrm,
            gather: self.gather()?,
            schema: self.schema()?,
            strict_writes: self
                .find("strict-writes", |raw| raw.strict_writes)
                .is_some_and(|found| found.value),
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
        Ok(self.bus_and_origin(machine)?.0)
    }

    /// The bus, and where it is from.
    pub(super) fn bus_and_origin(
        &self,
        machine: &Machine,
    ) -> Result<(BusAddress, Origin), ConfigError> {
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
            Some(found) => match BusAddress::parse(&found.value) {
                Ok(address) => Ok((address, found.origin)),
                Err(problem) => Err(found.wrong(problem)),
            },
            None => Ok((BusAddress(SYSTEM_BUS.into()), Origin::Default)),
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
const GATHER: Duration = Duration::from_millis(20);
/// With more, a change would no longer be published at once (§4.4).
const GATHER_MS_MAX: u32 = 1_000;
