//! MQTT in WebSocket: a batch that is written is one binary frame, frames that come are one stream of
//! bytes, wherever they split a packet [MQTT-6.0.0-2].
//!
//! Holds one frame in each direction; a long one comes [in pieces](super::pieces). Pings and closes are answered
//! by tungstenite.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(feature = "listen")]
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};
#[cfg(feature = "web")]
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
#[cfg(feature = "listen")]
use tokio_tungstenite::tungstenite::handshake::{self, server::ErrorResponse};
#[cfg(feature = "listen")]
use tokio_tungstenite::tungstenite::http::HeaderValue;
#[cfg(feature = "listen")]
use tokio_tungstenite::tungstenite::http::StatusCode;
#[cfg(any(feature = "web", feature = "listen"))]
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::error::TransportError;
use super::layer::Layer;
use super::pieces::InPieces;
use super::socket::Socket;
use super::websocket_error::WebSocketError;

/// The longest frame that is sent: many a server takes no longer ones.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// Room for pongs behind a frame that is still on its way.
const SEND_SLACK_BYTES: usize = 4 * 1024;
/// A text, which is refused then, may be as long as that at least.
const RECEIVE_BYTES_MIN: usize = 1024 * 1024;
/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;
/// The same from a client of a listener: there may be hundreds, and what they send is short.
#[cfg(feature = "listen")]
const SERVER_READ_BYTES: usize = 4 * 1024;
/// The subprotocol [MQTT-6.0.0-3].
const SUBPROTOCOL: &str = "mqtt";

/// A connection in WebSocket.
#[derive(Debug)]
pub(super) struct WebSocket<S> {
    stream: WebSocketStream<S>,
    /// What of the last frame nobody has read yet.
    input: Bytes,
    /// Where frames are put together; its memory is used again and again.
    output: BytesMut,
    /// The last frame is not all out.
    unflushed: bool,
}

/// Asks the server for its WebSocket at this path.
pub(super) async fn upgrade(
    socket: Socket,
    host: &str,
    port: u16,
    path: &str,
    packet_bytes_max: usize,
) -> Result<WebSocket<InPieces<Socket>>, TransportError> {
    let request = request(host, port, path)?;
    let config = config(packet_bytes_max.max(RECEIVE_BYTES_MIN));
    let socket = InPieces::new(socket);
    match client_async_with_config(request, socket, Some(config)).await {
        Ok((stream, _)) => Ok(WebSocket::new(stream)),
        Err(error) => Err(refusal(error, path)),
    }
}

/// What a client opened, after the handshake that `shell/http` has done.
#[cfg(feature = "web")]
#[derive(Debug)]
pub(in crate::shell) struct Accepted<S>(WebSocket<S>);

/// Takes over a connection on which a client has opened a WebSocket.
#[cfg(feature = "web")]
pub(in crate::shell) async fn accept<S>(socket: S) -> Accepted<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = Some(config(RECEIVE_BYTES_MIN));
    let stream = WebSocketStream::from_raw_socket(socket, Role::Server, config).await;
    Accepted(WebSocket::new(stream))
}

/// What a server answers to the key of a client [RFC 6455, 4.2.2].
#[cfg(feature = "web")]
pub(in crate::shell) fn accept_key(key: &[u8]) -> String {
    derive_accept_key(key)
}

#[cfg(feature = "web")]
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Accepted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().0.poll_read(context, buffer)
    }
}

#[cfg(feature = "web")]
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Accepted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().0.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.poll_close(context)
    }
}

/// How much is held in a WebSocket.
fn config(receive_bytes_max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(SEND_BYTES_MAX + SEND_SLACK_BYTES)
        .max_frame_size(Some(receive_bytes_max))
        .max_message_size(Some(receive_bytes_max))
}

fn request(host: &str, port: u16, path: &str) -> Result<Request, WebSocketError> {
    // The zone of an address means something on this machine only.
    let bare = host.split_once('%').map_or(host, |(address, _)| address);
    let authority = if bare.contains(':') {
        format!("[{bare}]:{port}")
    } else {
        format!("{bare}:{port}")
    };
    Request::builder()
        .uri(format!("ws://{authority}{path}"))
        .header("Host", authority)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Sec-WebSocket-Protocol", SUBPROTOCOL)
        .body(())
        .map_err(|_| WebSocketError::Path {
            path: without_query(path),
        })
}

/// A query may hold a token, which has no place in a log.
fn without_query(path: &str) -> String {
    path.split_once('?')
        .map_or(path, |(path, _)| path)
        .to_owned()
}

#[cfg(feature = "listen")]
/// Why a client gets no WebSocket.
fn refused(status: StatusCode, sentence: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(format!("{sentence}\n")));
    *response.status_mut() = status;
    response
}

#[cfg(feature = "listen")]
#[allow(clippy::result_large_err)] // as the library has it
/// Answers a client's request for a WebSocket: whatever its path, with the subprotocol that it offers (§9.3).
fn answer(
    request: &handshake::server::Request,
    mut response: handshake::server::Response,
    origins: &[String],
) -> Result<handshake::server::Response, ErrorResponse> {
    let headers = request.headers();
    let offered = headers.get_all("Sec-WebSocket-Protocol").iter();
    let mut offered = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    let Some(protocol) = offered.find(|name| matches!(*name, "mqtt" | "mqttv3.1")) else {
        let sentence = "ask for the subprotocol mqtt: only MQTT is spoken here";
        return Err(refused(StatusCode::BAD_REQUEST, sentence));
    };
    let origin = headers
        .get("Origin")
        .and_then(|origin| origin.to_str().ok());
    let is_known = |origin: &str| {
        let same = |known: &String| known.trim_end_matches('/').eq_ignore_ascii_case(origin);
        origins.iter().any(same)
    };
    if !origins.is_empty() && origin.is_some_and(|origin| !is_known(origin)) {
        let sentence = "web pages of this origin may not connect";
        return Err(refused(StatusCode::FORBIDDEN, sentence));
    }
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
    }
    Ok(response)
}

#[cfg(feature = "listen")]
fn server_config(packet_bytes_max: usize) -> WebSocketConfig {
    let receive_bytes_max = packet_bytes_max.max(RECEIVE_BYTES_MIN);
    WebSocketConfig::default()
        .read_buffer_size(SERVER_READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(SEND_BYTES_MAX + SEND_SLACK_BYTES)
        .max_frame_size(Some(receive_bytes_max))
        .max_message_size(Some(receive_bytes_max))
}

#[cfg(feature = "listen")]
/// Speaks the handshake with a client that asks for a WebSocket.
pub(super) async fn accept_client(
    socket: Socket,
    origins: &[String],
    packet_bytes_max: usize,
) -> Result<WebSocket<InPieces<Socket>>, TransportError> {
    #[allow(clippy::result_large_err)] // as the library has it
    let callback =
        |request: &handshake::server::Request, response| answer(request, response, origins);
    let config = Some(server_config(packet_bytes_max));
    let socket = InPieces::through(socket);
    match accept_hdr_async_with_config(socket, callback, config).await {
        Ok(stream) => Ok(WebSocket::new(stream)),
        Err(error) => Err(refusal(error, "")),
    }
}

#[cfg(feature = "listen")]
/// A WebSocket whose handshake somebody else has spoken; `read` is what was read after it.
pub(super) async fn upgraded(
    socket: Socket,
    read: Vec<u8>,
    packet_bytes_max: usize,
) -> WebSocket<InPieces<Socket>> {
    let config = Some(server_config(packet_bytes_max));
    let socket = InPieces::through(socket);
    WebSocket::new(WebSocketStream::from_partially_read(socket, read, Role::Server, config).await)
}

/// Why the handshake failed.
#[allow(clippy::wildcard_enum_match_arm)] // all others mean the same
fn refusal(error: Error, path: &str) -> TransportError {
    let path = without_query(path);
    let reason = match error {
        Error::Io(error) if is_gone(&error) => {
            return TransportError::HandshakeClosed {
                layer: Layer::WebSocket,
            };
        }
        Error::Io(error) => return error.into(),
        Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            return TransportError::HandshakeClosed {
                layer: Layer::WebSocket,
            };
        }
        Error::Http(response) => WebSocketError::Refused {
            status: response.status(),
            path,
        },
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            WebSocketError::Subprotocol { path }
        }
        _ => WebSocketError::NoWebSocket,
    };
    reason.into()
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn new(stream: WebSocketStream<S>) -> WebSocket<S> {
        WebSocket {
            stream,
            input: Bytes::new(),
            output: BytesMut::new(),
            unflushed: false,
        }
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            // An error of it shows in the reading too.
            let _ = self.poll_flush(context);
        }
        while self.input.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.input = bytes,
                // Answered already.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(frame))) => return Poll::Ready(farewell(frame)),
                Some(Ok(Message::Text(_))) => {
                    self.refuse(context);
                    return Poll::Ready(Err(fault(WebSocketError::Text)));
                }
                Some(Err(error)) => return Poll::Ready(ending(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.input.len().min(buffer.remaining());
        buffer.put_slice(self.input.get(..length).unwrap_or_default());
        self.input.advance(length);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // One frame at a time: the rest waits where it can still be replaced by something newer.
        if self.unflushed {
            ready!(self.poll_flush(context))?;
        }
        ready!(Pin::new(&mut self.stream).poll_ready(context)).map_err(broken)?;
        let batch = bytes.get(..SEND_BYTES_MAX).unwrap_or(bytes);
        self.output.extend_from_slice(batch);
        let frame = Message::Binary(self.output.split().freeze());
        Pin::new(&mut self.stream)
            .start_send(frame)
            .map_err(broken)?;
        self.unflushed = true;
        if let Poll::Ready(Err(error)) = self.poll_flush(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(batch.len()))
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context)).map_err(broken)?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Says goodbye. The server then closes the connection [RFC 6455, 7.1.1].
    pub(super) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream)
            .poll_close(context)
            .map_err(broken)
    }

    /// Tells the broker what was wrong, if it goes out at once.
    fn refuse(&mut self, context: &mut Context<'_>) {
        let frame = CloseFrame {
            code: CloseCode::Unsupported,
            reason: "MQTT is binary".into(),
        };
        let stream = Pin::new(&mut self.stream);
        if stream.start_send(Message::Close(Some(frame))).is_ok() {
            let _ = self.poll_flush(context);
        }
    }
}

/// The end in order is an end of the stream; anything else has a reason.
fn farewell(frame: Option<CloseFrame>) -> io::Result<()> {
    match frame {
        None
        | Some(CloseFrame {
            code: CloseCode::Normal | CloseCode::Away | CloseCode::Status,
            ..
        }) => Ok(()),
        Some(CloseFrame { code, reason }) => Err(fault(WebSocketError::Closed {
            code: code.into(),
            reason: reason.as_str().to_owned(),
        })),
    }
}

/// What an error of reading means: a stream that has ended, or one that has failed.
fn ending(error: Error) -> io::Result<()> {
    if matches!(
        error,
        Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    ) {
        Ok(())
    } else {
        Err(broken(error))
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // all others mean the same
fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            fault(WebSocketError::TooLarge {
                bytes: size,
                bytes_max: max_size,
            })
        }
        other => fault(WebSocketError::Protocol(other)),
    }
}

fn fault(error: WebSocketError) -> io::Error {
    TransportError::from(error).into()
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}
