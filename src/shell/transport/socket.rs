//! A TCP connection, encrypted perhaps.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tcp;
#[cfg(feature = "tls")]
use super::tls;

/// A socket, encrypted perhaps.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(tcp::Tcp),
    #[cfg(feature = "tls")]
    Tls(Box<tls::TlsStream>),
    /// Of a client that has connected to us.
    #[cfg(all(feature = "tls", feature = "listen"))]
    Accepted(Box<tokio_rustls::server::TlsStream<tcp::Tcp>>),
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
