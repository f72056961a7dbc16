//! The address of a bus.

use std::fmt;

use super::error::Problem;

/// Where a bus is, as D-Bus writes it: `unix:path=/var/run/dbus/system_bus_socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusAddress(Box<str>);

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
    pub(super) fn is_local(&self) -> bool {
        let mut parts = self.0.split(';').filter(|part| !part.is_empty());
        parts.all(|part| part.starts_with("unix:"))
    }
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const SYSTEM_BUS: &str = "unix:path=/var/run/dbus/system_bus_socket";
