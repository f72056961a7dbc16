//! Between the bus's socket and zbus: whoever reads the socket decides what zbus gets to see.
//!
//! ```text
//! socket ──▶ Reader ──▶ the bridge              signals and replies, where they stand in the buffer
//!              └──────▶ Staged ──▶ zbus         the handshake's bytes, and what is not the bridge's
//! socket ◀── Writer ◀── zbus                    all that is sent
//! ```
//!
//! zbus does the handshake and puts messages together; reading them is ours, in the order of the
//! stream, without a copy.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use zbus::Message;
use zbus::connection::AuthMechanism;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

/// A connected socket of a bus, not blocking.
#[derive(Debug)]
pub enum BusStream {
    /// A local one.
    Unix(UnixStream),
    /// One over the network.
    Tcp(TcpStream),
}

impl BusStream {
    /// Another handle on the same socket.
    pub fn try_clone(&self) -> io::Result<BusStream> {
        match self {
            BusStream::Unix(stream) => stream.try_clone().map(BusStream::Unix),
            BusStream::Tcp(stream) => stream.try_clone().map(BusStream::Tcp),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            BusStream::Unix(stream) => stream.shutdown(Shutdown::Both),
            BusStream::Tcp(stream) => stream.shutdown(Shutdown::Both),
        }
    }
}

impl Read for &BusStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            BusStream::Unix(stream) => (&mut &*stream).read(buffer),
            BusStream::Tcp(stream) => (&mut &*stream).read(buffer),
        }
    }
}

impl Write for &BusStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            BusStream::Unix(stream) => (&mut &*stream).write(buffer),
            BusStream::Tcp(stream) => (&mut &*stream).write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for BusStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            BusStream::Unix(stream) => stream.as_fd(),
            BusStream::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl AsRawFd for BusStream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// What zbus is given as its socket.
#[derive(Debug)]
pub struct BusSocket {
    read: Staged,
    write: Writer,
}

/// The other end of [`Staged`]: what the reader of the socket needs.
#[derive(Debug)]
pub struct Stage {
    /// The bytes that zbus read beyond the handshake, once it has done that.
    pub surplus: mpsc::Receiver<Vec<u8>>,
    /// Messages for zbus, each whole.
    pub messages: mpsc::Sender<Vec<u8>>,
}

/// How many messages may wait for zbus; it takes them at once.
const STAGED_MAX: usize = 256;

impl BusSocket {
    /// A socket for zbus, on a separate handle of the bus's socket.
    pub fn new(stream: &BusStream) -> io::Result<(BusSocket, Stage)> {
        let (surplus_out, surplus) = mpsc::channel(1);
        let (messages, messages_in) = mpsc::channel(STAGED_MAX);
        let handshake = register(stream.try_clone()?, Interest::READABLE)?;
        let write = Writer(stream.try_clone()?);
        let tcp = matches!(stream, BusStream::Tcp(_));
        let read = Staged {
            handshake: Some(handshake),
            surplus: surplus_out,
            messages: messages_in,
            message: Whole::default(),
            tcp,
        };
        Ok((BusSocket { read, write }, Stage { surplus, messages }))
    }
}

/// Has the runtime watch a socket for one kind of event.
///
/// The call is deprecated because a descriptor could be closed while it is watched; its successor is
/// unsafe. Here the handle that is watched owns its descriptor.
#[expect(deprecated)]
pub fn register<T: AsRawFd>(stream: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(stream, interest)
}

impl Socket for BusSocket {
    type ReadHalf = Staged;
    type WriteHalf = Writer;

    fn split(self) -> Split<Staged, Writer> {
        Split::new(self.read, self.write)
    }
}

/// Where zbus reads: the socket during the handshake, then what the reader stages.
pub struct Staged {
    /// Taken when the handshake is done: its registration would wake us for every message.
    handshake: Option<AsyncFd<BusStream>>,
    surplus: mpsc::Sender<Vec<u8>>,
    messages: mpsc::Receiver<Vec<u8>>,
    message: Whole,
    tcp: bool,
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").finish_non_exhaustive()
    }
}

#[async_trait]
impl ReadHalf for Staged {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let Some(stream) = &self.handshake else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        loop {
            let mut guard = stream.readable().await?;
            if let Ok(read) = guard.try_io(|stream| (&mut stream.get_ref()).read(buffer)) {
                return read.map(|read| (read, Vec::new()));
            }
        }
    }

    async fn receive_message(
        &mut self,
        seq: u64,
        surplus: &mut Vec<u8>,
        _fds: &mut Vec<OwnedFd>,
    ) -> zbus::Result<Message> {
        if self.handshake.take().is_some() {
            // The receiver is gone only where the connection is being given up.
            let _ = self.surplus.send(std::mem::take(surplus)).await;
        }
        let closed = || io::Error::from(io::ErrorKind::UnexpectedEof);
        self.message = Whole {
            bytes: self.messages.recv().await.ok_or_else(closed)?,
            at: 0,
        };
        self.message
            .receive_message(seq, &mut Vec::new(), &mut Vec::new())
            .await
    }

    fn auth_mechanism(&self) -> AuthMechanism {
        // Over the network there are no credentials to look at.
        if self.tcp {
            AuthMechanism::Anonymous
        } else {
            AuthMechanism::External
        }
    }
}

/// One message that is whole in memory, for zbus to read as if from a socket.
#[derive(Debug, Default)]
struct Whole {
    bytes: Vec<u8>,
    at: usize,
}

#[async_trait]
impl ReadHalf for Whole {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut rest = self.bytes.get(self.at..).unwrap_or_default();
        let read = rest.read(buffer)?;
        self.at += read;
        Ok((read, Vec::new()))
    }
}

/// Where zbus writes. Watched only while it is full: a local socket tells of room whenever its
/// reader has taken something, which would wake us for every message that we sent.
#[derive(Debug)]
pub struct Writer(BusStream);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        loop {
            match (&mut &self.0).write(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let full = register(self.0.as_fd(), Interest::WRITABLE)?;
                    full.writable().await?.clear_ready();
                }
                written => return written,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown()
    }
}
