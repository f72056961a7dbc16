//! From the settings as written to the configuration as resolved: defaults, checks, and the source
//! of §2.8.

use std::net::{Ipv4Addr, SocketAddr};

use crate::model::name::PortalId;

use super::bus_address::BusAddress;
use super::error::{ConfigError, Origin, Problem};
use super::layers::Layers;
use super::listen::Auth;
use super::machine::Machine;
use super::settings::{BrokerConfig, Config, Limits};
use super::values::Found;

/// Whether this can stand in the name of a host.
pub fn is_of_host_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

impl Config {
    /// Which listener the page's clients are connected to: the first that wants no certificate, for no browser
    /// shows one there.
    pub fn page_listener(&self) -> Option<usize> {
        let mut listeners = self.listeners.iter();
        listeners.position(|listener| listener.auth != Auth::Certificate)
    }

    /// Which broker, where no listener is: the first that is not VRM's.
    pub fn page_broker(&self) -> Option<&BrokerConfig> {
        let of_vrm = self.vrm.as_ref().map(|vrm| vrm.broker);
        let mut brokers = self.brokers.iter().enumerate();
        let found = brokers.find(|(index, _)| Some(*index) != of_vrm);
        found.map(|(_, broker)| broker)
    }
}

impl Layers {
    /// The configuration for this portal id, or the first mistake in it.
    pub fn resolve(&self, machine: &Machine, portal_id: &PortalId) -> Result<Config, ConfigError> {
        let (brokers, vrm) = self.of_portal(portal_id).brokers(machine, portal_id)?;
        let config = Config {
            bus: self.bus(machine)?,
            brokers,
            listeners: self.of_portal(portal_id).listeners(machine)?,
            vrm,
            metrics: self.metrics()?,
            web: self.web()?,
            web_hosts: self.web_hosts()?,
            schema: self.schema()?,
            limits: Limits::declared(&self.limits)?,
            portal_id: portal_id.clone(),
            ..Config::declared(&self.top)?
        };
        if config.web.is_some()
            && config.page_listener().is_none()
            && config.page_broker().is_none()
        {
            return Err(self.top.blame("web", Problem::WebCertificate));
        }
        Ok(config)
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

    /// Under which names the page may be opened, besides those that always may.
    fn web_hosts(&self) -> Result<Vec<String>, ConfigError> {
        let Some(found) = self.top.find::<String>("web-hosts")? else {
            return Ok(Vec::new());
        };
        let hosts = found.value.split(',').map(str::trim);
        let hosts: Vec<_> = hosts.filter(|host| !host.is_empty()).collect();
        match hosts.iter().find(|host| !host.bytes().all(is_of_host_name)) {
            Some(wrong) => Err(found.wrong(Problem::WebHost((*wrong).to_owned()))),
            None => Ok(hosts.into_iter().map(str::to_owned).collect()),
        }
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
