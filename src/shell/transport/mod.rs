//! The way to a broker: TCP, TLS, WebSocket, or WebSocket in TLS (§6).
//!
//! [`connect`] gives one [`Stream`], whatever lies beneath, to whoever speaks MQTT on it: the bridge's
//! broker task, or a tool with the same settings. What fails says in one sentence who has to change
//! what ([`TransportError`]). Plain TCP goes straight to the socket. Nothing here holds more than one
//! batch: what the network does not take is not taken from the caller either.

#[cfg(feature = "listen")]
mod accept;
mod error;
#[cfg(all(feature = "tls", feature = "listen"))]
mod identity;
mod layer;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "websocket")]
mod pieces;
mod socket;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_error;
#[cfg(feature = "tls")]
mod trust;
#[cfg(feature = "websocket")]
mod websocket;
#[cfg(feature = "websocket")]
mod websocket_error;

#[cfg(feature = "listen")]
pub use self::accept::Accepting;
#[cfg(all(feature = "listen", feature = "websocket"))]
pub use self::accept::upgraded;
use self::error::CONNECT_TIMEOUT;
#[cfg(any(feature = "tls", feature = "websocket"))]
use self::error::HANDSHAKE_TIMEOUT;
pub use self::error::{TransportError, needs_operator};
pub use self::layer::Layer;
use self::socket::Socket;
use self::stream::Kind;
pub use self::stream::Stream;
#[cfg(any(feature = "tls", feature = "websocket"))]
use self::stream::in_time;
#[cfg(feature = "tls")]
pub use self::tls_error::{ClientProblem, FileProblem, ServerProblem, TlsError};
#[cfg(feature = "web")]
pub(super) use self::websocket::{accept, accept_key};
#[cfg(feature = "websocket")]
pub use self::websocket_error::WebSocketError;
use crate::config::{BrokerConfig, TlsConfig, Transport};

/// Where a broker is, and how to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address; an IPv6 address without brackets, with a zone perhaps.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// What is spoken there.
    pub transport: Transport,
    /// How TLS is spoken; what is not said here has its default.
    pub tls: Option<TlsConfig>,
    /// The largest MQTT packet that is expected. Text in a WebSocket may be this long, or 1 MiB.
    pub packet_bytes_max: usize,
}

impl Endpoint {
    /// Where this broker is, at each of its addresses.
    pub fn all_of(broker: &BrokerConfig, packet_bytes_max: usize) -> Vec<Endpoint> {
        let places = broker.at_each();
        let endpoint = |place: &BrokerConfig| Endpoint::of(place, packet_bytes_max);
        places.iter().map(endpoint).collect()
    }

    /// Where this broker is, at its first address.
    pub fn of(broker: &BrokerConfig, packet_bytes_max: usize) -> Endpoint {
        Endpoint {
            host: broker.host.clone(),
            port: broker.port,
            transport: broker.transport.clone(),
            tls: broker.tls.clone(),
            packet_bytes_max,
        }
    }
}

/// Connects to the first of these that can be reached.
pub async fn connect_any(endpoints: &[Endpoint]) -> Result<Stream, TransportError> {
    let mut result = Err(TransportError::NoAddress);
    for endpoint in endpoints {
        result = connect(endpoint).await;
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Connects, and speaks what has to be spoken before MQTT. Certificates are read anew each time, so a
/// renewed one needs no restart.
pub async fn connect(endpoint: &Endpoint) -> Result<Stream, TransportError> {
    let (encrypted, path) = match &endpoint.transport {
        Transport::Tcp => (false, None),
        Transport::Tls => (true, None),
        Transport::Ws { path } => (false, Some(path)),
        Transport::Wss { path } => (true, Some(path)),
    };
    let socket = if encrypted {
        encrypt(endpoint).await?
    } else {
        Socket::Tcp(tcp::connect(&endpoint.host, endpoint.port, CONNECT_TIMEOUT).await?)
    };
    match path {
        None => Ok(Stream(Kind::Direct(socket))),
        Some(path) => upgrade(endpoint, socket, path).await,
    }
}

#[cfg(feature = "tls")]
async fn encrypt(endpoint: &Endpoint) -> Result<Socket, TransportError> {
    let settings = endpoint.tls.clone().unwrap_or_default();
    let prepared = tls::prepare(&endpoint.host, settings).await?;
    let socket = tcp::connect(&endpoint.host, endpoint.port, CONNECT_TIMEOUT).await?;
    let stream = in_time(Layer::Tls, HANDSHAKE_TIMEOUT, prepared.handshake(socket)).await?;
    Ok(Socket::Tls(Box::new(stream)))
}

#[cfg(not(feature = "tls"))]
#[allow(clippy::unused_async)] // as its twin
async fn encrypt(_: &Endpoint) -> Result<Socket, TransportError> {
    Err(TransportError::NotBuilt { layer: Layer::Tls })
}

#[cfg(feature = "websocket")]
async fn upgrade(
    endpoint: &Endpoint,
    socket: Socket,
    path: &str,
) -> Result<Stream, TransportError> {
    let Endpoint { host, port, .. } = endpoint;
    let upgraded = websocket::upgrade(socket, host, *port, path, endpoint.packet_bytes_max);
    let websocket = in_time(Layer::WebSocket, HANDSHAKE_TIMEOUT, upgraded).await?;
    Ok(Stream(Kind::WebSocket(Box::new(websocket))))
}

#[cfg(not(feature = "websocket"))]
#[allow(clippy::unused_async)] // as its twin
async fn upgrade(_: &Endpoint, _: Socket, _: &str) -> Result<Stream, TransportError> {
    let layer = Layer::WebSocket;
    Err(TransportError::NotBuilt { layer })
}
