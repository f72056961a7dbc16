//! What a broker is made of besides single settings: how it is reached, user and password (§6, §8).

use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;

/// Home Assistant on a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeAssistant {
    /// Whether it is set up; else what an earlier run has set up is taken back.
    pub enabled: bool,
    /// What its discovery topics begin with.
    pub prefix: String,
    /// How long a device that is gone is kept; `None` is forever.
    pub keep: Option<Duration>,
}

/// What carries MQTT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    Ws {
        /// The path of the request, with its leading slash.
        path: String,
    },
    /// WebSocket over TLS.
    Wss {
        /// The path of the request, with its leading slash.
        path: String,
    },
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// What carries MQTT to it.
    pub transport: Transport,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// The certificates that vouch for the broker, as PEM; the system's where there is none.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, as PEM; both may be in one file.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name that the broker's certificate must have; its host where there is none.
    pub server_name: Option<String>,
    /// The protocol that is offered, where one is.
    pub alpn: Option<String>,
}

/// Which versions of MQTT to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MqttVersion {
    /// 3.1.1
    V3,
    /// 5
    V5,
    /// 5, and 3.1.1 with a broker that does not know it.
    #[default]
    Auto,
}

/// User and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Empty where only the user is given: then none is sent.
    pub password: Secret,
}

impl Transport {
    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss { .. })
    }

    /// The same, encrypted.
    pub(super) fn encrypted(self) -> Transport {
        match self {
            Transport::Tcp | Transport::Tls => Transport::Tls,
            Transport::Ws { path } | Transport::Wss { path } => Transport::Wss { path },
        }
    }

    /// What stands before `://`.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Transport::Tcp => "mqtt",
            Transport::Tls => "mqtts",
            Transport::Ws { .. } => "ws",
            Transport::Wss { .. } => "wss",
        }
    }

    /// The path of a WebSocket; empty where there is none.
    pub(super) fn path(&self) -> &str {
        match self {
            Transport::Tcp | Transport::Tls => "",
            Transport::Ws { path } | Transport::Wss { path } => path,
        }
    }

    /// The port that it has where none is said.
    pub(super) fn usual_port(&self) -> u16 {
        match self {
            Transport::Tcp => 1883,
            Transport::Tls => 8883,
            Transport::Ws { .. } => 80,
            Transport::Wss { .. } => 443,
        }
    }
}
