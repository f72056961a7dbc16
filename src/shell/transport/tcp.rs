//! TCP: the addresses of a name, tried in turn, and a connection that acknowledges at once.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::error::TransportError;

/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 8;

/// A connection that acknowledges at once what it reads (§6). A broker that does not set TCP_NODELAY holds
/// a message back until the one before it is acknowledged, and without data to go with it our system waits
/// 40 ms with that.
#[derive(Debug)]
pub(super) struct Tcp(TcpStream);

#[cfg(feature = "listen")]
impl Tcp {
    /// A connection that was accepted.
    pub(super) fn accepted(stream: TcpStream) -> Tcp {
        Tcp(stream)
    }
}

impl AsyncRead for Tcp {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().0;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *stream).poll_read(context, buffer);
        // Whoever sends so much that it does not fit has acknowledgements without this.
        if buffer.filled().len() > before && buffer.remaining() > 0 {
            acknowledge(stream);
        }
        polled
    }
}

impl AsyncWrite for Tcp {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

/// Sends the acknowledgement that waits. The system forgets this soon, so that it is said after each
/// read; where it fails, things are as they were.
#[cfg(target_os = "linux")]
fn acknowledge(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_tcp_quickack(stream, true);
}

#[cfg(not(target_os = "linux"))]
fn acknowledge(_: &TcpStream) {}

/// Connects to the first address that accepts. One that answers nothing does not use up the time of
/// those behind it.
pub(super) async fn connect(
    host: &str,
    port: u16,
    timeout: Duration,
) -> Result<Tcp, TransportError> {
    let began = Instant::now();
    let resolved = tokio::time::timeout(timeout, tokio::net::lookup_host((host, port))).await;
    let found = resolved.map_err(|_| TransportError::ConnectTimeout)??;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    let stream = first_of(&addresses, timeout.saturating_sub(began.elapsed())).await?;
    // Batches are ours: what is written is to go out.
    stream.set_nodelay(true)?;
    Ok(Tcp(stream))
}

async fn first_of(
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<TcpStream, TransportError> {
    let began = Instant::now();
    let mut failure = TransportError::NoAddress;
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let rest = timeout.saturating_sub(began.elapsed());
        let share = rest / u32::try_from(left).unwrap_or(u32::MAX);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error.into(),
            Err(_) => failure = TransportError::ConnectTimeout,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn listener(address: SocketAddr) -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address where nobody listens.
    fn closed() -> SocketAddr {
        listener((Ipv4Addr::LOCALHOST, 0).into()).1
    }

    #[tokio::test]
    async fn a_dead_address_gives_way_to_the_next() {
        let (_open, address) = listener((Ipv6Addr::LOCALHOST, 0).into());
        let stream = first_of(&[closed(), address, closed()], CONNECT).await;
        assert_eq!(stream.unwrap().peer_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next() {
        // A listener that never accepts, its queue full: what is sent to it goes nowhere.
        let full = tokio::net::TcpSocket::new_v4().unwrap();
        full.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let full = full.listen(1).unwrap();
        let silent = full.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(silent)).await
        {
            waiting.push(stream.unwrap());
        }
        let (_open, address) = listener((Ipv4Addr::LOCALHOST, 0).into());
        let short = Duration::from_millis(500);
        let stream = first_of(&[silent, address], short * 4).await;
        assert_eq!(stream.unwrap().peer_addr().unwrap(), address);
        let failure = first_of(&[silent], short).await.unwrap_err();
        assert!(
            matches!(failure, TransportError::ConnectTimeout),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn without_an_address_there_is_no_connection() {
        let failure = first_of(&[], CONNECT).await.unwrap_err();
        assert!(matches!(failure, TransportError::NoAddress), "{failure}");
        let failure = first_of(&[closed()], CONNECT).await.unwrap_err();
        assert!(failure.to_string().contains("refused"), "{failure}");
        assert!(!failure.needs_operator());
    }

    const CONNECT: Duration = Duration::from_secs(10);
}
