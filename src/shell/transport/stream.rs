//! A connection on which MQTT is spoken, whatever lies beneath.

#[cfg(any(feature = "tls", feature = "websocket"))]
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
#[cfg(any(feature = "tls", feature = "websocket"))]
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(any(feature = "tls", feature = "websocket"))]
use super::error::TransportError;
#[cfg(any(feature = "tls", feature = "websocket"))]
use super::layer::Layer;
use super::socket::Socket;
#[cfg(feature = "websocket")]
use super::{pieces, websocket};

/// A connection to a broker: bytes of MQTT in both directions.
///
/// Whoever reads also drives what of a write is still on its way, so a writer need not flush.
#[derive(Debug)]
pub struct Stream(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Direct(Socket),
    #[cfg(feature = "websocket")]
    WebSocket(Box<websocket::WebSocket<pieces::InPieces<Socket>>>),
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

/// A handshake that takes no longer than `time`.
#[cfg(any(feature = "tls", feature = "websocket"))]
pub(super) async fn in_time<T>(
    layer: Layer,
    time: Duration,
    handshake: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    tokio::time::timeout(time, handshake)
        .await
        .unwrap_or(Err(TransportError::HandshakeTimeout { layer, time }))
}
