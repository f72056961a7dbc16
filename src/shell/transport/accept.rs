//! The way from a client to us: TCP, TLS, WebSocket, or WebSocket in TLS (§9).

#[cfg(feature = "tls")]
use std::sync::Arc;
#[cfg(any(feature = "tls", feature = "websocket"))]
use std::time::Duration;

use tokio::net::TcpStream;

use super::error::TransportError;
use super::layer::Layer;
use super::socket::Socket;
#[cfg(any(feature = "tls", feature = "websocket"))]
use super::stream::in_time;
use super::stream::{Kind, Stream};
use super::tcp;
#[cfg(feature = "websocket")]
use super::websocket;
use crate::config::{Limits, ListenConfig, ListenTransport};

/// How one listener's connections begin.
pub struct Accepting {
    transport: ListenTransport,
    #[cfg(feature = "tls")]
    identity: Option<Arc<super::identity::Identity>>,
    #[cfg(feature = "websocket")]
    origins: Vec<String>,
    /// The largest MQTT packet that is expected.
    #[cfg(feature = "websocket")]
    packet_bytes_max: usize,
    /// How long TLS and WebSocket may take, each.
    #[cfg(any(feature = "tls", feature = "websocket"))]
    handshake: Duration,
}

impl Accepting {
    /// As the settings say.
    pub fn new(listener: &ListenConfig, limits: &Limits) -> Accepting {
        #[cfg(not(any(feature = "tls", feature = "websocket")))]
        let _ = limits;
        Accepting {
            transport: listener.transport,
            #[cfg(feature = "tls")]
            identity: listener.tls.clone().map(|tls| {
                let needs_client = listener.auth == crate::config::Auth::Certificate;
                let name = listener.name.clone();
                Arc::new(super::identity::Identity::new(name, tls, needs_client))
            }),
            #[cfg(feature = "websocket")]
            origins: listener.origins.clone(),
            #[cfg(feature = "websocket")]
            packet_bytes_max: limits.request_bytes_max,
            #[cfg(any(feature = "tls", feature = "websocket"))]
            handshake: limits.client_handshake,
        }
    }

    /// Looks at the certificate, so that the operator hears at the start what is wrong with it.
    pub fn prepare(&self) {
        #[cfg(feature = "tls")]
        if let Some(identity) = &self.identity {
            identity.prepare();
        }
    }

    /// Whether nothing is spoken before MQTT.
    pub fn is_plain(&self) -> bool {
        self.transport == ListenTransport::Tcp
    }

    /// Speaks what comes before MQTT. Gives the name in the client's certificate too, where it has shown one.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(Stream, Option<Box<str>>), TransportError> {
        let tcp = tcp::Tcp::accepted(stream);
        let (socket, name) = if self.transport.is_encrypted() {
            self.decrypt(tcp).await?
        } else {
            (Socket::Tcp(tcp), None)
        };
        if !self.transport.is_websocket() {
            return Ok((Stream(Kind::Direct(socket)), name));
        }
        Ok((self.upgrade(socket).await?, name))
    }

    #[cfg(feature = "tls")]
    async fn decrypt(&self, tcp: tcp::Tcp) -> Result<(Socket, Option<Box<str>>), TransportError> {
        let Some(identity) = &self.identity else {
            return Err(TransportError::NotBuilt { layer: Layer::Tls });
        };
        let accepted = in_time(Layer::Tls, self.handshake, identity.accept(tcp)).await?;
        Ok((Socket::Accepted(Box::new(accepted.0)), accepted.1))
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_async)] // as its twin
    async fn decrypt(&self, _: tcp::Tcp) -> Result<(Socket, Option<Box<str>>), TransportError> {
        Err(TransportError::NotBuilt { layer: Layer::Tls })
    }

    #[cfg(feature = "websocket")]
    async fn upgrade(&self, socket: Socket) -> Result<Stream, TransportError> {
        let accepted = websocket::accept_client(socket, &self.origins, self.packet_bytes_max);
        let websocket = in_time(Layer::WebSocket, self.handshake, accepted).await?;
        Ok(Stream(Kind::WebSocket(Box::new(websocket))))
    }

    #[cfg(not(feature = "websocket"))]
    #[allow(clippy::unused_async)] // as its twin
    async fn upgrade(&self, _: Socket) -> Result<Stream, TransportError> {
        Err(TransportError::NotBuilt {
            layer: Layer::WebSocket,
        })
    }
}

/// A connection that a web server of ours has upgraded already: what follows is WebSocket frames, the first
/// bytes of which may have been read.
#[cfg(feature = "websocket")]
pub async fn upgraded(stream: TcpStream, read: Vec<u8>, packet_bytes_max: usize) -> Stream {
    let socket = Socket::Tcp(tcp::Tcp::accepted(stream));
    let websocket = websocket::upgraded(socket, read, packet_bytes_max).await;
    Stream(Kind::WebSocket(Box::new(websocket)))
}
