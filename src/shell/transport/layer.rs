//! What may lie between TCP and MQTT.

use std::fmt;

/// What may lie between TCP and MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// TLS.
    Tls,
    /// WebSocket.
    WebSocket,
}

impl Layer {
    /// What to write for a port that does not speak it.
    pub(super) fn without(self) -> &'static str {
        match self {
            Layer::Tls => "Without TLS, write mqtt:// or ws:// and give no certificate",
            Layer::WebSocket => "Without WebSocket, write mqtt:// or mqtts://",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::Tls => "TLS",
            Layer::WebSocket => "WebSocket",
        })
    }
}
