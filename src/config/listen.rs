//! Listeners: where MQTT clients connect to the bridge itself (§9).
//!
//! [`super::resolve_listener`] makes them of the settings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::broker::HomeAssistant;
use crate::model::access::{Access, AccessRule};
use crate::model::filter::Lists;

/// What carries MQTT to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenTransport {
    /// TCP alone.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

/// Who may connect, and what says so (§9.20).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Anybody.
    Anonymous,
    /// The users of this file: `name:bcrypt-hash` a line.
    Users(PathBuf),
    /// The password of the security profile of Venus OS, and its tokens.
    Venus {
        /// The password's hash.
        password: PathBuf,
        /// The tokens.
        tokens: PathBuf,
    },
    /// A certificate signed by the CA of [`ListenTls`].
    Certificate,
}

/// How a listener encrypts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenTls {
    /// Certificate and key, as PEM; a pair is made where there is none.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// The CA certificates of clients.
    pub client_ca: Option<PathBuf>,
    /// The folder of the pair that is made.
    pub made_in: PathBuf,
}

/// A listener, as resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenConfig {
    /// For the log; no other listener or broker has it.
    pub name: String,
    /// Where; `None` where only the page brings its clients.
    pub address: Option<SocketAddr>,
    /// What carries MQTT.
    pub transport: ListenTransport,
    /// How it is encrypted, where it is.
    pub tls: Option<ListenTls>,
    /// Who may connect.
    pub auth: Auth,
    /// Which web pages may connect; all where it is empty.
    pub origins: Vec<String>,
    /// Whether topics that are not ours are passed on between clients (§9.16).
    pub relay: bool,
    /// Whether values come to a subscription with the retain flag (§9.8).
    pub retain: bool,
    /// What the answer to a keep-alive says (§9.9); values flow all the same.
    pub keep_alive: Option<Duration>,
    /// What clients may do.
    pub access: AccessRule,
    /// What they may see, read and write.
    pub lists: Lists,
    /// Home Assistant, where the settings say anything of it.
    pub home_assistant: Option<HomeAssistant>,
}

/// Where a program on this device reaches what listens on an address.
pub fn reached(bind: IpAddr) -> IpAddr {
    match bind {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => bind,
    }
}

impl ListenConfig {
    /// Where a program on this device reaches it, if it has an address.
    pub fn reached(&self) -> Option<SocketAddr> {
        let address = self.address?;
        Some(SocketAddr::new(reached(address.ip()), address.port()))
    }

    /// Takes over what can change while clients are connected: who may connect, and what they may do. Gives
    /// what differs and needs a restart. (Certificates are read anew at each connection.)
    pub(super) fn take_over(&mut self, new: &ListenConfig) -> Vec<&'static str> {
        let fixed = [
            ("the name of a listener", self.name != new.name),
            ("the address of a listener", self.address != new.address),
            (
                "the transport of a listener",
                self.transport != new.transport,
            ),
            ("the certificate of a listener", self.tls != new.tls),
            ("the origins of a listener", self.origins != new.origins),
            ("retain of a listener", self.retain != new.retain),
            (
                "home-assistant of a listener",
                self.home_assistant != new.home_assistant,
            ),
        ];
        let kept = fixed.into_iter().filter(|(_, differs)| *differs);
        let kept: Vec<_> = kept.map(|(what, _)| what).collect();
        // Another address is another listener: none of its settings is meant for this one.
        if self.address == new.address {
            self.auth.clone_from(&new.auth);
            self.relay = new.relay;
            self.keep_alive = new.keep_alive;
            self.access = new.access;
            self.lists.clone_from(&new.lists);
        }
        kept
    }
}

impl ListenTransport {
    /// Whether it is encrypted.
    pub fn is_encrypted(self) -> bool {
        matches!(self, ListenTransport::Tls | ListenTransport::Wss)
    }

    /// Whether it is WebSocket.
    pub fn is_websocket(self) -> bool {
        matches!(self, ListenTransport::Ws | ListenTransport::Wss)
    }

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            ListenTransport::Tcp => "tcp",
            ListenTransport::Tls => "tls",
            ListenTransport::Ws => "ws",
            ListenTransport::Wss => "wss",
        }
    }
}

impl Auth {
    /// As it is written.
    pub fn word(&self) -> &'static str {
        match self {
            Auth::Anonymous => "anonymous",
            Auth::Users(_) => "users",
            Auth::Venus { .. } => "venus",
            Auth::Certificate => "certificate",
        }
    }
}

impl ListenConfig {
    /// A listener on this address that anybody may use.
    pub fn open(name: &str, address: SocketAddr, transport: ListenTransport) -> ListenConfig {
        ListenConfig {
            name: name.to_owned(),
            address: Some(address),
            transport,
            tls: transport.is_encrypted().then(ListenTls::default),
            auth: Auth::Anonymous,
            origins: Vec::new(),
            relay: true,
            retain: true,
            keep_alive: None,
            access: AccessRule::Always(Access::Full),
            lists: Lists::default(),
            home_assistant: None,
        }
    }
}
