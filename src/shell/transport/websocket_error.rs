//! What can be wrong with WebSocket, told apart.

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::layer::Layer;

/// Why there is no WebSocket, or none any more.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum WebSocketError {
    /// The path of the configuration can be none.
    #[error("{path:?} is not a valid WebSocket path")]
    Path { path: String },
    /// A web server, but no WebSocket for us.
    #[error("the server answered {status} when asked for the WebSocket {path}")]
    Refused {
        status: StatusCode,
        /// What was asked for, without its query.
        path: String,
    },
    /// A WebSocket for something else.
    #[error(
        "the WebSocket {path} is not one for MQTT (the server does not take the subprotocol mqtt)"
    )]
    Subprotocol {
        /// What was asked for, without its query.
        path: String,
    },
    /// No web server at all, or a broken one.
    #[error("this port does not speak WebSocket. {}", Layer::WebSocket.without())]
    NoWebSocket,
    /// A text frame, where MQTT is binary [MQTT-6.0.0-1].
    #[error("the broker sent text in the WebSocket, where MQTT is binary")]
    Text,
    /// A frame beyond the bound.
    #[error("the broker sent a WebSocket frame of {bytes} bytes, more than {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// The broker ended it, and not because it was done.
    #[error("the broker closed the WebSocket (code {code}{})", said(reason))]
    Closed {
        /// Why, as a number.
        code: u16,
        /// Why, in its own words; empty perhaps.
        reason: String,
    },
    /// The broker does not keep to the rules.
    #[error("the broker does not speak WebSocket as it should: {0}")]
    Protocol(Error),
}

impl WebSocketError {
    /// Whether trying again soon is of no use.
    pub(super) fn needs_operator(&self) -> bool {
        match self {
            // A web server whose broker is just not there, or that has too much to do, says so with 5xx.
            WebSocketError::Refused { status, .. } => {
                !status.is_server_error() && *status != StatusCode::TOO_MANY_REQUESTS
            }
            WebSocketError::Path { .. }
            | WebSocketError::Subprotocol { .. }
            | WebSocketError::NoWebSocket => true,
            WebSocketError::Text
            | WebSocketError::TooLarge { .. }
            | WebSocketError::Closed { .. }
            | WebSocketError::Protocol(_) => false,
        }
    }
}

/// Words of others, on one line.
fn said(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason:?}")
    }
}
