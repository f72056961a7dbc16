//! From the settings as written to the configuration as resolved: defaults, checks, and the source
//! of §2.8.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::model::name::PortalId;

use super::layers::{Found, Layers};
use super::machine::Machine;
use super::{BusAddress, Config, ConfigError, Limits, Origin, Problem};

impl Layers {
    /// The configuration for this portal id, or the first mistake in it.
    pub fn resolve(&self, machine: &Machine, portal_id: &PortalId) -> Result<Config, ConfigError> {
        let limits = self.find("limits", |raw| raw.limits.clone());
        let (brokers, vrm) = self.of_portal(portal_id).brokers(machine, portal_id)?;
        Ok(Config {
            bus: self.bus(machine)?,
            brokers,
            vrm,
            gather: self.gather()?,
            refresh: self
                .find("refresh-s", |raw| raw.refresh_s)
                .map_or(Some(REFRESH), |found| {
                    (found.value > 0).then(|| Duration::from_secs(found.value.into()))
                }),
            stats: self
                .find("stats", |raw| raw.stats)
                .filter(|found| found.value > 0)
                .map(|found| Duration::from_secs(found.value.into())),
            metrics: self.metrics()?,
            web: self.web()?,
            schema: self.schema()?,
            strict_writes: self
                .find("strict-writes", |raw| raw.strict_writes)
                .is_some_and(|found| found.value),
            limits: limits
                .map(|found| Limits::from(found.value))
                .unwrap_or_default(),
            portal_id: portal_id.clone(),
        })
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

    /// Where Prometheus is told: on this device only, unless it may be elsewhere.
    fn metrics(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(found) = self.find("metrics", |raw| raw.metrics.clone()) else {
            return Ok(None);
        };
        if found.value.is_empty() {
            return Ok(None);
        }
        if !cfg!(feature = "metrics") {
            return Err(found.wrong(Problem::NoMetrics));
        }
        let address: SocketAddr = match found.value.parse() {
            Ok(address) => address,
            Err(_) => return Err(found.wrong(Problem::MetricsAddress(found.value.clone()))),
        };
        if !address.ip().to_canonical().is_loopback() && !self.allows_remote_metrics() {
            return Err(found.wrong(Problem::RemoteMetrics(address)));
        }
        Ok(Some(address))
    }

    /// Whether others than this device may ask for metrics.
    pub(super) fn allows_remote_metrics(&self) -> bool {
        self.find("allow-remote-metrics", |raw| raw.allow_remote_metrics)
            .is_some_and(|found| found.value)
    }

    /// Where the page is: on this device only, unless it may be elsewhere.
    fn web(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(found) = self.find("web", |raw| raw.web.clone()) else {
            return Ok(None);
        };
        if found.value.is_empty() {
            return Ok(None);
        }
        if !cfg!(feature = "web") {
            return Err(found.wrong(Problem::NoWeb));
        }
        let port = found.value.parse().ok();
        let port = port.map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let Some(address) = port.or_else(|| found.value.parse().ok()) else {
            return Err(found.wrong(Problem::WebAddress(found.value.clone())));
        };
        if !address.ip().to_canonical().is_loopback() && !self.allows_remote_web() {
            return Err(found.wrong(Problem::RemoteWeb(address)));
        }
        Ok(Some(address))
    }

    /// Whether others than this device may open the page.
    pub(super) fn allows_remote_web(&self) -> bool {
        self.find("allow-remote-web", |raw| raw.allow_remote_web)
            .is_some_and(|found| found.value)
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

const SYSTEM_BUS: &str = "unix:path=/var/run/dbus/system_bus_socket";
const GATHER: Duration = Duration::from_millis(20);
const REFRESH: Duration = Duration::from_secs(300);
/// With more, a change would no longer be published at once (§4.4).
const GATHER_MS_MAX: u32 = 1_000;
