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
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "websocket")]
mod pieces;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_error;
#[cfg(feature = "tls")]
mod trust;
#[cfg(feature = "websocket")]
mod websocket;

#[cfg(any(feature = "tls", feature = "websocket"))]
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(feature = "listen")]
pub use self::accept::Accepting;
#[cfg(all(feature = "listen", feature = "websocket"))]
pub use self::accept::upgraded;
pub use self::error::{Layer, TransportError, needs_operator};
#[cfg(feature = "tls")]
pub use self::pem::FileProblem;
#[cfg(feature = "tls")]
pub use self::tls_error::{ClientProblem, ServerProblem, TlsError};
#[cfg(feature = "websocket")]
pub use self::websocket::WebSocketError;
#[cfg(feature = "web")]
pub(super) use self::websocket::{accept, accept_key};
use crate::config::{BrokerConfig, TlsConfig, Transport};

/// How long a broker may take to accept a connection, over all its addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a handshake may take, that of TLS and that of WebSocket each.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// Where this broker is.
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

/// A connection to a broker: bytes of MQTT in both directions.
///
/// Whoever reads also drives what of a write is still on its way, so a writer need not flush.
#[derive(Debug)]
pub struct Stream(Kind);

#[derive(Debug)]
enum Kind {
    Direct(Socket),
    #[cfg(feature = "websocket")]
    WebSocket(Box<websocket::WebSocket<pieces::InPieces<Socket>>>),
}

/// A socket, encrypted perhaps.
#[derive(Debug)]
enum Socket {
    Tcp(tcp::Tcp),
    #[cfg(feature = "tls")]
    Tls(Box<tls::TlsStream>),
    /// Of a client that has connected to us.
    #[cfg(all(feature = "tls", feature = "listen"))]
    Accepted(Box<tokio_rustls::server::TlsStream<tcp::Tcp>>),
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
    let stream = in_time(Layer::Tls, prepared.handshake(socket)).await?;
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
    let websocket = in_time(Layer::WebSocket, upgraded).await?;
    Ok(Stream(Kind::WebSocket(Box::new(websocket))))
}

#[cfg(not(feature = "websocket"))]
#[allow(clippy::unused_async)] // as its twin
async fn upgrade(_: &Endpoint, _: Socket, _: &str) -> Result<Stream, TransportError> {
    let layer = Layer::WebSocket;
    Err(TransportError::NotBuilt { layer })
}

#[cfg(any(feature = "tls", feature = "websocket"))]
async fn in_time<T>(
    layer: Layer,
    handshake: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .unwrap_or(Err(TransportError::HandshakeTimeout { layer }))
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Direct(socket) => Pin::new(socket).poll_read(context, buffer),
            #[cfg(feature = "websocket")]
            Kind::WebSocket(websocket) => websocket.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Kind::Direct(socket) => Pin::new(socket).poll_write(context, bytes),
            #[cfg(feature = "websocket")]
            Kind::WebSocket(websocket) => websocket.poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Direct(socket) => Pin::new(socket).poll_flush(context),
            #[cfg(feature = "websocket")]
            Kind::WebSocket(websocket) => websocket.poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Direct(socket) => Pin::new(socket).poll_shutdown(context),
            #[cfg(feature = "websocket")]
            Kind::WebSocket(websocket) => websocket.poll_close(context),
        }
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.poll_read(context, buffer),
            #[cfg(all(feature = "tls", feature = "listen"))]
            Socket::Accepted(stream) => match Pin::new(stream).poll_read(context, buffer) {
                // A client that dies says no goodbye.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                other @ (Poll::Ready(_) | Poll::Pending) => other,
            },
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.poll_write(context, bytes),
            #[cfg(all(feature = "tls", feature = "listen"))]
            Socket::Accepted(stream) => {
                // One batch at a time: what rustls holds is stale by the time that the network takes it.
                if stream.get_ref().1.wants_write() {
                    std::task::ready!(Pin::new(&mut *stream).poll_flush(context))?;
                }
                Pin::new(stream).poll_write(context, bytes)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.poll_flush(context),
            #[cfg(all(feature = "tls", feature = "listen"))]
            Socket::Accepted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.poll_shutdown(context),
            #[cfg(all(feature = "tls", feature = "listen"))]
            Socket::Accepted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
