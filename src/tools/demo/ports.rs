//! Where the demo listens: ports that are free, and held until the bridge listens there.

use std::net::{IpAddr, SocketAddr, TcpListener};

use crate::tools::ToolError;

/// A socket that listens on the first free port from `first` on. Port 0 is any free port.
pub(super) fn listen(at: IpAddr, first: u16) -> Result<(TcpListener, SocketAddr), ToolError> {
    let last = first.saturating_add(PORTS_TRIED);
    (first..=last)
        .find_map(|port| {
            let socket = TcpListener::bind((at, port)).ok()?;
            let address = socket.local_addr().ok()?;
            Some((socket, address))
        })
        .ok_or(ToolError::NoPort { first, last })
}

/// A socket that listens on this port, which was asked for; any free one where that is 0.
pub(super) fn listen_on(at: IpAddr, port: u16) -> Result<(TcpListener, SocketAddr), ToolError> {
    let taken = |_| ToolError::PortTaken { port };
    let socket = TcpListener::bind((at, port)).map_err(taken)?;
    let address = socket.local_addr().map_err(taken)?;
    Ok((socket, address))
}

/// How many ports after a taken one are tried.
const PORTS_TRIED: u16 = 100;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_taken_port_gives_way_to_the_next_and_stays_taken() {
        let at = IpAddr::from(Ipv4Addr::LOCALHOST);
        let taken = TcpListener::bind((at, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let (first, one) = listen(at, port).unwrap();
        let (_second, other) = listen(at, port).unwrap();
        assert!(one.port() != port && other.port() != port && one != other);
        assert!(listen_on(at, port).is_err() && listen_on(at, one.port()).is_err());
        drop(first);
        assert!(listen_on(at, one.port()).is_ok());
        assert_ne!(listen(at, 0).unwrap().1.port(), 0);
    }
}
