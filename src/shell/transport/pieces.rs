//! Long binary frames of a WebSocket, cut into messages of a bounded length before tungstenite sees them.
//!
//! tungstenite holds a whole message before it gives any of it, and ends the connection over one that is longer
//! than it may hold. To MQTT the frames are one stream of bytes, wherever they are cut [MQTT-6.0.0-2], so each
//! piece can be a message, and what is too large for us is skipped as with TCP (§4.14). All else passes as it
//! came: the answer to the handshake, control frames, text, and what breaks the rules, which tungstenite refuses.
//!
//! ```text
//!  Http ──(empty line)──▶ Header ──▶ Payload ──(all of it)──┐
//!                           ▲───────────────────────────────┘
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As long as a piece is at most.
const PIECE_BYTES_MAX: u64 = 64 * 1024;
/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;
/// The end of an HTTP head.
const EMPTY_LINE: u32 = u32::from_be_bytes(*b"\r\n\r\n");

/// The stream below a WebSocket.
#[derive(Debug)]
pub(super) struct InPieces<S> {
    inner: S,
    pieces: Pieces,
    raw: Vec<u8>,
    /// What nobody has read yet.
    ready: BytesMut,
}

impl<S> InPieces<S> {
    /// A stream on which the server's answer to the handshake comes next.
    pub(super) fn new(inner: S) -> InPieces<S> {
        InPieces {
            inner,
            pieces: Pieces::default(),
            raw: vec![0; READ_BYTES],
            ready: BytesMut::new(),
        }
    }

    /// One that passes all through as it comes: what clients send is short, and masked.
    #[cfg(feature = "listen")]
    pub(super) fn through(inner: S) -> InPieces<S> {
        InPieces {
            inner,
            pieces: Pieces::default(),
            raw: Vec::new(),
            ready: BytesMut::new(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InPieces<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.raw.is_empty() {
            return Pin::new(&mut this.inner).poll_read(context, buffer);
        }
        while this.ready.is_empty() {
            let mut raw = ReadBuf::new(&mut this.raw);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut raw))?;
            if raw.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.pieces.take(raw.filled(), &mut this.ready);
        }
        let length = this.ready.len().min(buffer.remaining());
        buffer.put_slice(this.ready.get(..length).unwrap_or_default());
        this.ready.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InPieces<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

/// Where in the server's bytes we are.
#[derive(Debug, Default)]
struct Pieces {
    place: Place,
    /// A binary message was begun that further frames continue.
    continues: bool,
}

#[derive(Debug)]
enum Place {
    /// In the answer to the handshake; its last four bytes.
    Http(u32),
    /// In the header of a frame: what there is of it [RFC 6455, 5.2].
    Header(Vec<u8>),
    /// In what a frame carries.
    Payload {
        /// How much of it is still to come.
        left: u64,
        /// How much of the present piece is; `None` where the frame stays as it is.
        piece: Option<u64>,
    },
}

impl Default for Place {
    fn default() -> Place {
        Place::Http(0)
    }
}

impl Pieces {
    /// Takes what has come, and gives what tungstenite is to see of it.
    fn take(&mut self, mut input: &[u8], out: &mut BytesMut) {
        while let Some((&first, rest)) = input.split_first() {
            match &mut self.place {
                Place::Http(last) => {
                    out.put_u8(first);
                    *last = (*last << 8) | u32::from(first);
                    if *last == EMPTY_LINE {
                        self.place = Place::Header(Vec::new());
                    }
                    input = rest;
                }
                Place::Header(header) => {
                    header.push(first);
                    input = rest;
                    if let Some(left) = payload_length(header) {
                        let header = std::mem::take(header);
                        self.begin(&header, left, out);
                    }
                }
                Place::Payload { left, piece } => {
                    if let Some(0) = piece {
                        *piece = Some(begin_piece(*left, out));
                    }
                    let wanted = piece.unwrap_or(*left);
                    let length = usize::try_from(wanted).unwrap_or(usize::MAX);
                    let (taken, after) = input.split_at(length.min(input.len()));
                    out.put_slice(taken);
                    input = after;
                    let taken = taken.len() as u64;
                    *left -= taken;
                    if let Some(piece) = piece {
                        *piece -= taken;
                    }
                    if *left == 0 {
                        self.place = Place::Header(Vec::new());
                    }
                }
            }
        }
    }

    /// A frame begins.
    fn begin(&mut self, header: &[u8], left: u64, out: &mut BytesMut) {
        let (flags, masked) = match header {
            [flags, length, ..] => (*flags, length & 0x80 != 0),
            _ => (0, false),
        };
        let (is_last, opcode) = (flags & 0x80 != 0, flags & 0x0f);
        let is_data = opcode == BINARY || (opcode == CONTINUATION && self.continues);
        // Masks and reserved bits are against the rules; control frames stay within a message.
        let is_ours = is_data && !masked && flags & 0x70 == 0;
        if is_ours {
            self.continues = !is_last;
        } else {
            out.put_slice(header);
        }
        let piece = is_ours.then_some(0);
        self.place = if left == 0 {
            Place::Header(Vec::new())
        } else {
            Place::Payload { left, piece }
        };
    }
}

/// How much a frame carries, once its header is whole.
fn payload_length(header: &[u8]) -> Option<u64> {
    let (length, rest) = match header {
        [_, length, rest @ ..] => (*length, rest),
        _ => return None,
    };
    let mask = if length & 0x80 == 0 { 0 } else { 4 };
    let digits = match length & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if rest.len() < digits + mask {
        return None;
    }
    let extended = rest.iter().take(digits);
    let extended = extended.fold(0, |value: u64, byte| (value << 8) | u64::from(*byte));
    Some(if digits == 0 {
        u64::from(length & 0x7f)
    } else {
        extended
    })
}

/// Writes the header of the next piece of a frame, and gives the length of that piece.
fn begin_piece(left: u64, out: &mut BytesMut) -> u64 {
    let length = left.min(PIECE_BYTES_MAX);
    out.put_u8(0x80 | BINARY);
    if let Some(short) = u8::try_from(length).ok().filter(|short| *short < 126) {
        out.put_u8(short);
    } else if let Ok(middle) = u16::try_from(length) {
        out.put_u8(126);
        out.put_u16(middle);
    } else {
        out.put_u8(127);
        out.put_u64(length);
    }
    length
}

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a server.
    fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![flags];
        match payload.len() {
            short @ ..126 => bytes.put_u8(u8::try_from(short).unwrap()),
            middle @ ..65_536 => {
                bytes.put_u8(126);
                bytes.put_u16(u16::try_from(middle).unwrap());
            }
            long => {
                bytes.put_u8(127);
                bytes.put_u64(long as u64);
            }
        }
        bytes.put_slice(payload);
        bytes
    }

    /// What comes of these bytes after a handshake, in reads of this length.
    fn passed(bytes: &[u8], read: usize) -> Vec<u8> {
        let mut pieces = Pieces::default();
        let mut out = BytesMut::new();
        let head = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n";
        for part in [&head[..], bytes].concat().chunks(read) {
            pieces.take(part, &mut out);
        }
        assert!(out.starts_with(head));
        out[head.len()..].to_vec()
    }

    #[test]
    fn s4_14_a_long_frame_comes_as_messages_of_a_bounded_length() {
        let payload: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        let short = frame(0x82, b"abc");
        let ping = frame(0x89, b"p");
        let whole = [&short[..], &frame(0x82, &payload), &ping, &short].concat();
        let max = usize::try_from(PIECE_BYTES_MAX).unwrap();
        let mut expected = short.clone();
        for piece in payload.chunks(max) {
            expected.extend(frame(0x82, piece));
        }
        expected.extend([&ping[..], &short].concat());
        for read in [1, 7, 4_096, 1_000_000] {
            assert!(passed(&whole, read) == expected, "in reads of {read}");
        }
    }

    #[test]
    fn s4_14_so_does_a_message_of_many_frames() {
        let sent = [
            frame(0x02, b"a"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x00, b"b"),
            frame(0x80, b"c"),
        ];
        let expected = [
            frame(0x82, b"a"),
            frame(0x89, b"ping"),
            frame(0x82, b"b"),
            frame(0x82, b"c"),
        ];
        assert_eq!(passed(&sent.concat(), 3), expected.concat());
    }

    #[test]
    fn what_is_not_binary_or_breaks_the_rules_stays_as_it_is() {
        let long = vec![b'x'; 70_000];
        let masked = [&[0x82, 0x83, 1, 2, 3, 4][..], b"abc"].concat();
        for sent in [
            frame(0x81, &long),
            [frame(0x01, b"a"), frame(0x80, b"b")].concat(),
            frame(0x88, b"\x03\xe8"),
            frame(0xc2, &long),
            frame(0x80, b"continues nothing"),
            masked,
        ] {
            assert!(passed(&sent, 5) == sent);
        }
    }
}
