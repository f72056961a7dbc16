//! Where clients come in: bound sockets, and what is spoken before MQTT (§9.1, §9.3, §9.22).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
#[cfg(feature = "web")]
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use super::hub::Hub;
use crate::config::Limits;
use crate::error::Fatal;
use crate::serve::Peer;
use crate::shell::held::Held;
use crate::shell::transport::Accepting;
#[cfg(feature = "web")]
use crate::shell::transport::upgraded;

/// How far behind a client can be in the kernel: there is no fence in this direction.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How many connections wait to be accepted.
const BACKLOG: u32 = 128;
/// The wait after a connection that could not be taken: there may be no descriptors left.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// Takes the address. Fails where somebody else has it: the operator is to know at the start.
pub(super) fn bind(address: SocketAddr, held: &mut Held) -> Result<std::net::TcpListener, Fatal> {
    let mut bind = || {
        let socket = match held.take(address) {
            Some(socket) => socket,
            None => listening(address)?,
        };
        // What is accepted has these too.
        prepare(&socket)?;
        Ok(socket)
    };
    bind().map_err(|reason| Fatal::Port { address, reason })
}

fn prepare(socket: impl std::os::fd::AsFd) -> std::io::Result<()> {
    sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(())
}

fn listening(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// One listener at work.
pub(super) struct Door {
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) accepting: Accepting,
    pub(super) limits: Limits,
}

/// Takes in whoever connects, until the bridge ends.
pub(super) async fn run(socket: std::net::TcpListener, door: Door, hub: Rc<Hub>) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return warn!("{}: {error}", door.name),
    };
    let door = Rc::new(door);
    let mut handshakes: VecDeque<AbortHandle> = VecDeque::new();
    let mut pace = Pace::new(door.limits.accept_rate_max);
    loop {
        match socket.accept().await {
            Ok((stream, address)) => {
                let ip = address.ip().to_canonical();
                if !has_room(&hub, ip, &door.limits) {
                    debug!("{}: {ip} is turned away: too many connections", door.name);
                    continue;
                }
                handshakes.retain(|task| !task.is_finished());
                if handshakes.len() >= door.limits.logins_max
                    && let Some(oldest) = handshakes.pop_front()
                {
                    oldest.abort();
                }
                let client = admit(stream, address, Rc::clone(&door), Rc::clone(&hub));
                let task = tokio::task::spawn_local(client);
                if !door.accepting.is_plain() {
                    handshakes.push_back(task.abort_handle());
                }
            }
            Err(error) => {
                debug!("{}: {error}", door.name);
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
        if let Some(pause) = pace.next(Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }
}

fn has_room(hub: &Hub, ip: IpAddr, limits: &Limits) -> bool {
    hub.connections() < limits.clients_max
        && (ip.is_loopback() || hub.connections_from(ip) < limits.clients_per_address_max)
}

async fn admit(stream: TcpStream, address: SocketAddr, door: Rc<Door>, hub: Rc<Hub>) {
    match door.accepting.accept(stream).await {
        Ok((stream, certificate)) => {
            let peer = Peer {
                listener: door.number,
                address: address.ip().to_canonical(),
                certificate,
            };
            // A separate task: the handshake's may be ended from outside.
            tokio::task::spawn_local(hub.serve(stream, peer));
        }
        Err(error) => debug!("{}: {}: {error}", door.name, address.ip()),
    }
}

/// Where the web server hands over whoever has opened a WebSocket there.
#[cfg(feature = "web")]
#[derive(Debug, Clone)]
pub(in crate::shell) struct Doorway(mpsc::Sender<Guest>);

/// One who was upgraded to WebSocket already.
#[cfg(feature = "web")]
#[derive(Debug)]
pub(super) struct Guest {
    listener: usize,
    stream: std::net::TcpStream,
    /// What was read after the handshake.
    read: Vec<u8>,
}

#[cfg(feature = "web")]
pub(super) type Guests = mpsc::Receiver<Guest>;

/// How many may wait to be taken in.
#[cfg(feature = "web")]
const GUESTS_MAX: usize = 32;

/// A doorway, and its other side.
#[cfg(feature = "web")]
pub(super) fn doorway() -> (Doorway, Guests) {
    let (sender, guests) = mpsc::channel(GUESTS_MAX);
    (Doorway(sender), guests)
}

#[cfg(feature = "web")]
impl Doorway {
    /// Hands a connection over, as one of this listener. It is closed where too many wait.
    pub(in crate::shell) fn hand_over(&self, listener: usize, stream: TcpStream, read: Vec<u8>) {
        // It is registered with this thread's reactor; the other one has its own.
        if let Ok(stream) = stream.into_std() {
            let guest = Guest {
                listener,
                stream,
                read,
            };
            if self.0.try_send(guest).is_err() {
                debug!("page: a WebSocket is turned away: too many wait");
            }
        }
    }
}

/// Takes in whom the web server hands over, until the bridge ends.
#[cfg(feature = "web")]
pub(super) async fn welcome(mut guests: Guests, limits: Limits, hub: Rc<Hub>) {
    let mut pace = Pace::new(limits.accept_rate_max);
    while let Some(guest) = guests.recv().await {
        let listener = guest.listener;
        let arrived = || {
            let ip = guest.stream.peer_addr()?.ip().to_canonical();
            prepare(&guest.stream)?;
            Ok::<_, std::io::Error>((ip, TcpStream::from_std(guest.stream)?))
        };
        match arrived() {
            Ok((address, _)) if !has_room(&hub, address, &limits) => {
                debug!("page: {address} is turned away: too many connections");
            }
            Ok((address, stream)) => {
                let stream = upgraded(stream, guest.read, limits.request_bytes_max).await;
                let peer = Peer {
                    listener,
                    address,
                    certificate: None,
                };
                tokio::task::spawn_local(Rc::clone(&hub).serve(stream, peer));
            }
            Err(error) => debug!("page: {error}"),
        }
        if let Some(pause) = pace.next(Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }
}

/// So many connections are taken in a second, after a burst of as many.
struct Pace {
    one: Duration,
    rate_max: u32,
    full_at: Option<Instant>,
}

impl Pace {
    fn new(rate_max: usize) -> Pace {
        let rate_max = u32::try_from(rate_max).unwrap_or(u32::MAX).max(1);
        Pace {
            one: Duration::from_secs(1) / rate_max,
            rate_max,
            full_at: None,
        }
    }

    /// One was taken: how long to wait before the next.
    fn next(&mut self, now: Instant) -> Option<Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.one;
        self.full_at = Some(full_at);
        let behind = full_at.saturating_duration_since(now);
        behind
            .checked_sub(self.one * self.rate_max)
            .filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    #[test]
    fn s9_22_so_many_are_accepted_in_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(50);
        assert!((0..50).all(|_| pace.next(start).is_none()));
        assert_eq!(pace.next(start), Some(Duration::from_millis(20)));
        assert_eq!(pace.next(start + Duration::from_secs(2)), None);
    }
}
