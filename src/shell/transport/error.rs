//! Why there is no connection, or none any more, in one sentence that says which of the many reasons
//! it was. Neither keys nor passwords are ever part of one.

use std::io;
use std::time::Duration;

use super::layer::Layer;

/// How long a broker may take to accept a connection, over all its addresses.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a broker's handshake may take, that of TLS and that of WebSocket each.
#[cfg(any(feature = "tls", feature = "websocket"))]
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a broker is out of reach. Travels in an [`io::Error`] where a connection stood before.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum TransportError {
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The name is known, and nothing stands behind it.
    #[error("the name has no address")]
    NoAddress,
    /// Nobody accepted or refused the connection.
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    /// The broker took the connection, and then its time.
    #[error("the broker did not complete the {layer} handshake within {} s", time.as_secs())]
    HandshakeTimeout { layer: Layer, time: Duration },
    /// The broker took the connection, and closed it: what most do with what they do not understand.
    #[error(
        "the broker closed the connection during the {layer} handshake; is this port for {layer}? {}",
        layer.without()
    )]
    HandshakeClosed { layer: Layer },
    /// A build for a small device may leave it out.
    #[error("this build does not include {layer}")]
    NotBuilt { layer: Layer },
    /// TLS failed.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] super::tls_error::TlsError),
    /// WebSocket failed.
    #[cfg(feature = "websocket")]
    #[error(transparent)]
    WebSocket(#[from] super::websocket_error::WebSocketError),
}

impl TransportError {
    /// Whether trying again soon is of no use: somebody must change something first.
    pub fn needs_operator(&self) -> bool {
        match self {
            // From a stack of layers the innermost reason counts.
            TransportError::Io(error) => needs_operator(error),
            TransportError::NotBuilt { .. } => true,
            TransportError::NoAddress
            | TransportError::ConnectTimeout
            | TransportError::HandshakeTimeout { .. }
            | TransportError::HandshakeClosed { .. } => false,
            #[cfg(feature = "tls")]
            TransportError::Tls(error) => error.needs_operator(),
            #[cfg(feature = "websocket")]
            TransportError::WebSocket(error) => error.needs_operator(),
        }
    }
}

/// Whether an error of a [`super::Stream`] is such that somebody must change something first. With
/// TLS 1.3 a broker refuses our certificate only after the connection stands.
pub fn needs_operator(error: &io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<TransportError>())
        .is_some_and(TransportError::needs_operator)
}

impl From<TransportError> for io::Error {
    fn from(error: TransportError) -> io::Error {
        if let TransportError::Io(error) = error {
            error
        } else {
            io::Error::other(error)
        }
    }
}
