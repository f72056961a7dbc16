//! From the settings as written to the configuration as resolved: defaults, checks, and the source
//! of §2.8.

use std::net::{Ipv4Addr, SocketAddr};

use crate::model::name::PortalId;

use super::machine::Machine;
use super::values::Found;
use super::{BusAddress, Config, ConfigError, Layers, Limits, Origin, Problem};

impl Layers {
    /// The configuration for this portal id, or the first mistake in it.
    pub fn resolve(&self, machine: &Machine, portal_id: &PortalId) -> Result<Config, ConfigError> {
        let (brokers, vrm) = self.of_portal(portal_id).brokers(machine, portal_id)?;
        Ok(Config {
            bus: self.bus(machine)?,
            brokers,
            listeners: self.of_portal(portal_id).listeners(machine)?,
            vrm,
            metrics: self.metrics()?,
            web: self.web()?,
            schema: self.schema()?,
            limits: Limits::declared(&self.limits)?,
            portal_id: portal_id.clone(),
            ..Config::declared(&self.top)?
        })
    }

    /// Whether the log is to say more.
    pub fn debug(&self) -> bool {
        self.top.is_on("debug")
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
        let found = match self.top.find::<String>("dbus")? {
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
            None => Ok((BusAddress::system(), Origin::Default)),
        }
    }

    /// Where Prometheus is told: on this device only, unless it may be elsewhere.
    fn metrics(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(found) = self.top.find::<String>("metrics")? else {
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
        if !address.ip().to_canonical().is_loopback() && !self.top.is_on("allow-remote-metrics") {
            return Err(found.wrong(Problem::RemoteMetrics(address)));
        }
        Ok(Some(address))
    }

    /// Where the page is: on this device only, unless it may be elsewhere.
    fn web(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(found) = self.top.find::<String>("web")? else {
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
        if !address.ip().to_canonical().is_loopback() && !self.top.is_on("allow-remote-web") {
            return Err(found.wrong(Problem::RemoteWeb(address)));
        }
        Ok(Some(address))
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
