//! What passes between the server and what is around it: sockets on one side, the bridge's rules and
//! its cache on the other. Words only.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::filter::List;
use crate::model::log_rate::LogRate;
use crate::model::name::PortalId;
use crate::model::topic::DISCOVERY_PREFIX;

/// An item, by the number of its slot in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A client, for as long as its connection lasts. No two ever have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl ClientId {
    /// The same as a number, for those who carry it about.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Back from a number.
    #[allow(clippy::cast_possible_truncation)] // the two halves of it
    pub fn from_number(number: u64) -> ClientId {
        ClientId {
            index: number as u32,
            generation: (number >> 32) as u32,
        }
    }
}

/// What a server is told at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose topics are served (§1).
    pub portal: PortalId,
    /// One for each listener; a [`Peer`] says by number which one it came to.
    pub listeners: Vec<ListenerSettings>,
    /// How long values are gathered before they go out (§9.12).
    pub gather: Duration,
    /// The most writes of values in a second, over all clients together (§9.12).
    pub client_writes_max: u32,
    /// Bounds.
    pub limits: Limits,
    /// How many lines of one kind are logged about the clients of a listener.
    pub log: LogRate,
}

impl Settings {
    /// One listener that anybody may use, and defaults for the rest.
    pub fn new(portal: PortalId) -> Settings {
        Settings {
            portal,
            listeners: vec![ListenerSettings::default()],
            gather: Duration::from_millis(5),
            client_writes_max: 1000,
            limits: Limits::default(),
            log: LogRate::default(),
        }
    }
}

/// What one listener's clients get.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a separate setting")]
pub struct ListenerSettings {
    /// Its name, for the log.
    pub name: Box<str>,
    /// Whether who connects is asked about with [`LoginCheck`]; otherwise anybody may (§9.20).
    pub login: bool,
    /// Whether values come to a new subscription with the retain flag (§9.8).
    pub retain: bool,
    /// Whether its clients get anything of ours at the start; with `access = "off"` they do not (§8). Later
    /// [`Answer::Serves`] says so.
    pub serves: bool,
    /// What of our items is published to its clients (§8).
    pub publish: List,
    /// Whether its clients may send each other topics that are not ours (§9.16, §9.19).
    pub relay: bool,
    /// What Home Assistant's discovery topics begin with, where it is told of the devices here; below it are
    /// topics of ours too.
    pub discovery_prefix: Option<Box<str>>,
}

impl Default for ListenerSettings {
    fn default() -> ListenerSettings {
        ListenerSettings {
            name: "listener".into(),
            login: false,
            retain: true,
            serves: true,
            publish: List::default(),
            relay: true,
            discovery_prefix: Some(DISCOVERY_PREFIX.into()),
        }
    }
}

/// The server's bounds (§9.16, §9.17, §9.22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest packet that a client may send, in bytes; with MQTT 5 it is told.
    pub packet_bytes_max: usize,
    /// The longest packet of a client that has not logged in, in bytes.
    pub login_bytes_max: usize,
    /// The most connections that have not logged in; beyond that the oldest is dropped.
    pub logins_max: usize,
    /// The most filters of one client.
    pub filters_max: usize,
    /// The most of them that are one topic, besides, where devices are described to Home Assistant.
    pub topics_max: usize,
    /// The most levels of a topic or filter.
    pub levels_max: usize,
    /// How long a client may take to send CONNECT.
    pub connect_timeout: Duration,
    /// How long a packet may take from its first byte to its last.
    pub packet_timeout: Duration,
    /// The most bytes of other clients' messages that wait for one client.
    pub queue_bytes_max: usize,
    /// The most messages of other clients that wait for one client.
    pub queue_messages_max: usize,
    /// The most topics of other clients that are retained.
    pub retained_topics_max: usize,
    /// The most bytes of them, in all.
    pub retained_bytes_max: usize,
    /// The most bytes of one of them.
    pub retained_message_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            packet_bytes_max: 256 * 1024,
            login_bytes_max: 64 * 1024,
            logins_max: 32,
            filters_max: 200,
            topics_max: 10_000,
            levels_max: 128,
            connect_timeout: Duration::from_secs(10),
            packet_timeout: Duration::from_secs(30),
            queue_bytes_max: 256 * 1024,
            queue_messages_max: 1000,
            retained_topics_max: 1000,
            retained_bytes_max: 1024 * 1024,
            retained_message_bytes_max: 64 * 1024,
        }
    }
}

/// Who is at the other end of a new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which listener it came to, as a place in [`Settings::listeners`].
    pub listener: usize,
    /// Its address.
    pub address: IpAddr,
    /// The name in its certificate, where it has shown one (§9.20).
    pub certificate: Option<Box<str>>,
}

/// What is to be checked before a client is let in (§9.20). Answered with `Server::login`.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginCheck {
    /// Who asks.
    pub client: ClientId,
    /// From where.
    pub peer: Peer,
    /// The user name; `None` where there is none, or an empty one (§9.4).
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Option<Box<[u8]>>,
}

impl std::fmt::Debug for LoginCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginCheck")
            .field("client", &self.client)
            .field("peer", &self.peer)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}

/// What came of a [`LoginCheck`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Let in.
    Welcome,
    /// Wrong user or password: 4, or 0x86 (§9.21).
    BadCredentials,
    /// It may not connect at all: 5, or 0x87.
    NotAuthorized,
    /// Too many attempts, or clients: 3, or 0x97.
    Busy,
}

/// What there is: an item that is new, or one that is no longer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryChange {
    /// An item is there. One that has the slot already is replaced, as if it had gone before.
    Item {
        /// Its slot.
        slot: Slot,
        /// `<type>/<instance><path>`: its topic below the portal id.
        topic: Box<str>,
        /// Whether it comes first in a full publish (§5.5).
        identifying: bool,
    },
    /// An item has gone: its topic is cleared (§4.6).
    Gone {
        /// Its slot.
        slot: Slot,
    },
    /// All items follow anew; those that do not come before [`DirectoryChange::Complete`] have gone.
    Anew,
    /// What follows [`DirectoryChange::Anew`] has all been said.
    Complete,
}

/// A request of a client, for the rules of §5. What comes of it is an [`Answer`], or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRequest {
    /// Who asks.
    pub client: ClientId,
    /// Which listener it is connected to: its access and lists hold.
    pub listener: usize,
    /// The whole topic: `R/<portal id>/…`, `W/<portal id>/…`, or `<discovery prefix>/status`, with which
    /// Home Assistant says that it has come; that one goes to other clients too.
    pub topic: Box<str>,
    /// The payload.
    pub payload: Box<[u8]>,
    /// Whether it may be one of yesterday: it has the retain flag, and comes from a broker's bridge
    /// (§9.13).
    pub retained: bool,
    /// Where the client wants to be told how it ended (§5.8); whether that is allowed is for the rules.
    pub response: Option<Response>,
}

/// Where and with what a client wants to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The response topic.
    pub topic: Box<str>,
    /// The correlation data; empty where there is none.
    pub correlation: Box<[u8]>,
}

/// What the bridge's rules say, in the order in which clients are to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Items were read: each goes to every client that has a filter for it, whether it changed or not
    /// (§5.5, §9.10).
    Read {
        /// Which items.
        slots: Box<[Slot]>,
    },
    /// All items are published again, then the completion message follows (§5.3): to that client, or to
    /// all where it has no filter below `N/` (§9.9).
    Republish {
        /// Who asked; `None`: for all.
        client: Option<ClientId>,
        /// What the completion message carries back: a JSON text, to be written as it stands.
        echo: Option<Box<str>>,
    },
    /// Something that is not an item is said to all clients of a listener who have a filter for it: status,
    /// statistics, a configuration for Home Assistant. Only the latest of a topic counts.
    Say {
        /// Which listener.
        listener: usize,
        /// The whole topic.
        topic: Box<str>,
        /// The payload; an empty one clears the topic.
        payload: Box<[u8]>,
        /// Whether who subscribes later gets it too, with the retain flag.
        retain: bool,
    },
    /// Whether the clients of a listener get anything of ours (§8): what they had is cleared, or comes
    /// again.
    Serves {
        /// Which listener.
        listener: usize,
        /// Whether they do.
        serves: bool,
    },
    /// The answer to a request with a response topic: to the requester, subscribed or not (§9.15).
    Respond {
        /// Who asked.
        client: ClientId,
        /// Where and with what.
        to: Response,
        /// The payload.
        payload: Box<[u8]>,
    },
}

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The client has said DISCONNECT.
    Disconnected,
    /// The client broke the rules of MQTT; the reason code of MQTT 5.
    Violation(u8),
    /// The connection was lost.
    Lost,
    /// Its first packet was no CONNECT, or one of a version that there is not.
    NoMqtt,
    /// It was not let in.
    Refused,
    /// Nothing came for 1.5 times its keep-alive (§9.6).
    KeepAlive,
    /// No CONNECT in time, or a packet that did not end (§9.22).
    TooSlow,
    /// Another client has its id (§9.4).
    TakenOver,
    /// Too many connections had not logged in (§9.22).
    TooManyLogins,
    /// The bridge ends.
    Shutdown,
}

impl Close {
    /// What a client of MQTT 5 is told.
    pub fn code(self) -> Option<u8> {
        match self {
            Close::Violation(code) => Some(code),
            Close::KeepAlive => Some(0x8d),
            Close::TakenOver => Some(0x8e),
            Close::Shutdown => Some(0x8b),
            Close::TooSlow => Some(0x81),
            Close::Disconnected
            | Close::Lost
            | Close::NoMqtt
            | Close::Refused
            | Close::TooManyLogins => None,
        }
    }
}

/// Reads values without a lock.
pub trait Values {
    /// Writes the payload of the item's PUBLISH behind what is there. `false` where the slot has no value:
    /// nothing is published then.
    fn payload(&self, slot: Slot, out: &mut Vec<u8>) -> bool;
}

/// What is counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Clients that are let in.
    pub clients: usize,
    /// Connections that have not logged in.
    pub logins: usize,
    /// Clients that were let in.
    pub connects: u64,
    /// Writes to sockets.
    pub writes: u64,
    /// Topics of clients that are retained.
    pub retained_topics: usize,
    /// Bytes of them.
    pub retained_bytes: usize,
}
