//! Sockets that listen already: whoever looked for free ports holds on to them, so that nobody else takes one
//! before the bridge listens there.

use std::net::{SocketAddr, TcpListener};

/// Sockets that listen already, for the listeners and the HTTP server of the bridge.
#[cfg_attr(
    not(any(feature = "listen", feature = "metrics")),
    allow(dead_code, reason = "nothing listens in such a build")
)]
#[derive(Debug, Default)]
pub struct Held(Vec<TcpListener>);

#[cfg_attr(
    not(any(feature = "listen", feature = "metrics")),
    allow(dead_code, reason = "nothing listens in such a build")
)]
impl Held {
    /// Holds these.
    pub fn new(sockets: Vec<TcpListener>) -> Held {
        Held(sockets)
    }

    /// The socket that listens on this address, if there is one. It does not block.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_there = |socket: &TcpListener| socket.local_addr().is_ok_and(|at| at == address);
        let place = self.0.iter().position(is_there)?;
        let socket = self.0.swap_remove(place);
        socket.set_nonblocking(true).is_ok().then_some(socket)
    }
}
