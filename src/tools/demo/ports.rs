//! Where the demo listens: ports that are free.

use std::net::{IpAddr, TcpListener};

use crate::tools::ToolError;

/// Where MQTT clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    /// MQTT 3.1, 3.1.1 and 5.
    pub tcp: u16,
    /// MQTT in WebSocket, at any path.
    pub websocket: u16,
}

/// Free ports at this address: these, or where they are taken the next ones.
pub(crate) fn free_ports(at: IpAddr, wanted: Ports) -> Result<Ports, ToolError> {
    let tcp = free_port(at, wanted.tcp, &[])?;
    let websocket = free_port(at, wanted.websocket, &[tcp])?;
    Ok(Ports { tcp, websocket })
}

/// The first free port from `first` on. Port 0 is any free port.
pub(super) fn free_port(at: IpAddr, first: u16, not: &[u16]) -> Result<u16, ToolError> {
    let last = first.saturating_add(PORTS_TRIED);
    (first..=last)
        .filter(|port| !not.contains(port))
        .find_map(|port| {
            let probe = TcpListener::bind((at, port)).ok()?;
            probe.local_addr().ok().map(|address| address.port())
        })
        .ok_or(ToolError::NoPort { first, last })
}

/// Whether nobody listens there.
pub(super) fn is_free(at: IpAddr, port: u16) -> bool {
    TcpListener::bind((at, port)).is_ok()
}

/// How many ports after a taken one are tried.
const PORTS_TRIED: u16 = 100;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_taken_port_gives_way_to_the_next() {
        let at = IpAddr::from(Ipv4Addr::LOCALHOST);
        let taken = TcpListener::bind((at, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_port(at, port, &[]).unwrap(), port);
        assert_ne!(free_port(at, 0, &[]).unwrap(), 0);
        let wanted = Ports {
            tcp: port,
            websocket: port,
        };
        let ports = free_ports(at, wanted).unwrap();
        assert!(ports.tcp != port && ports.websocket != port && ports.tcp != ports.websocket);
    }
}
