//! What is wrong with the configuration, in one sentence that says where.
//!
//! The operator is at fault, and only the operator can mend it: [`crate::error::Fatal`] ends the
//! process with status 2. No secret is ever part of a sentence.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::error::plain;
use crate::model::name::InvalidName;

use super::exposure::Exposure;
use super::server::InvalidServer;

/// A mistake in the configuration.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum ConfigError {
    /// The arguments do not fit together.
    #[error("{complaint} (dbus-mqtt --help explains the flags)")]
    Arguments {
        /// What the parser says, in one line.
        complaint: String,
    },
    /// Options of the bridge before a command that has its own.
    #[error(
        "the options before the command are the bridge's; write those of the command behind it"
    )]
    MixedArguments,
    /// The settings file is not TOML, or has what no settings file has.
    #[error("{}:{line}: {complaint}", path.display())]
    Syntax {
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        complaint: String,
    },
    /// One setting cannot be used.
    #[error("{origin}: {problem}")]
    Setting {
        origin: Origin,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A schema file of the operator's has mistakes.
    #[error("{}{}", mistakes.first().map_or("", String::as_str), further(mistakes, directory))]
    Schema {
        /// Each with file and line.
        mistakes: Vec<String>,
        directory: PathBuf,
    },
    /// The same, where they were shown already.
    #[error("{}: {count} mistakes in the schema", directory.display())]
    SchemaMistakes { directory: PathBuf, count: usize },
    /// None of the sources of §6 knows the portal id.
    #[error("no portal id was found on this device (tried: {}); give one with --portal-id", tried.join("; "))]
    NoPortalId {
        /// Each source, and why it was of no use.
        tried: Vec<String>,
    },
    /// The service that has the portal id has none.
    #[error(
        "{service} on this bus has no portal id at {path} ({reason}); give one with --portal-id"
    )]
    NoSerial {
        service: String,
        path: &'static str,
        reason: String,
    },
}

/// Where a setting is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line: the flag's long name without its dashes.
    Flag(Cow<'static, str>),
    /// In the environment: the variable.
    Variable(Cow<'static, str>),
    /// Nowhere: what holds without it.
    Default,
    /// Nowhere: what suits this kind of broker.
    Engine(&'static str),
    /// Nowhere, or in the settings file: the file with the password for VRM.
    VrmPasswordFile,
    /// In the settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key, counted from 1.
        line: usize,
        /// The key.
        key: &'static str,
    },
}

/// What is wrong with one setting.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum Problem {
    /// The parser of flags refuses the value.
    #[error("{0}")]
    Value(String),
    /// Bytes that are not text.
    #[error("the value is not valid UTF-8")]
    NotText,
    /// No address of a broker.
    #[error(transparent)]
    Server(#[from] InvalidServer),
    /// No portal id.
    #[error(transparent)]
    PortalId(#[from] InvalidName),
    /// No client id.
    #[error(
        "{0:?} is not a client id: 1 to {CLIENT_ID_BYTES_MAX} bytes, without + # / and control characters"
    )]
    ClientId(String),
    /// No D-Bus address.
    #[error(
        "{0:?} is not a D-Bus address; one looks like unix:path=/var/run/dbus/system_bus_socket"
    )]
    BusAddress(String),
    /// The session bus is asked for where there is none.
    #[error("there is no session bus here: DBUS_SESSION_BUS_ADDRESS is not set")]
    NoSessionBus,
    /// What is meant to be secret would be sent in the clear to some of them.
    #[error(
        "some of these addresses are encrypted and some are not; write mqtts:// or wss:// before each"
    )]
    MixedServers,
    /// Not a name of a protocol.
    #[error("{0:?} is not a protocol name: 1 to 255 letters, digits and signs without spaces")]
    Alpn(String),
    /// No address to listen on.
    #[error("{0:?} is not an address to listen on; one looks like 127.0.0.1:9100 or [::1]:9100")]
    MetricsAddress(String),
    /// An address that others can reach.
    #[error(
        "other computers can reach {0}; use 127.0.0.1, or allow it with --allow-remote-metrics"
    )]
    RemoteMetrics(SocketAddr),
    /// No address for the page.
    #[error(
        "{0:?} is neither a port nor an address to listen on; one looks like 8080 or 127.0.0.1:8080"
    )]
    WebAddress(String),
    /// An address that others can reach.
    #[error(
        "other computers can reach {0}, without encryption and password; use 127.0.0.1, or allow it with --allow-remote-web"
    )]
    RemoteWeb(SocketAddr),
    /// No name of a device.
    #[error("{0:?} is not a name alone; one looks like boat.example.org, without http:// and port")]
    WebHost(String),
    /// A page that no listener would let in.
    #[error(
        "the page has no certificate to show: add a listener with another auth, such as \"users\""
    )]
    WebCertificate,
    /// The page is a cargo feature.
    #[error("this build leaves the page out; cargo build --features web has it")]
    NoWeb,
    /// Metrics are a cargo feature.
    #[error("this build leaves metrics out; cargo build --features metrics has them")]
    NoMetrics,
    /// No address to listen on.
    #[error(
        "{0:?} is not an address to listen on; one looks like 1883, 192.168.1.5:1883 or [::]:1883"
    )]
    ListenAddress(String),
    /// An address that others can reach, and nothing that says who may connect.
    #[error(
        "other computers can reach {0}: say who may connect, in [[listen]] with auth = \"users\", \"venus\", \"certificate\" or \"anonymous\", or with --listen-auth"
    )]
    OpenListener(SocketAddr),
    /// Two listeners on one address.
    #[error("another listener has {0} already")]
    SameListener(SocketAddr),
    /// Users without a file.
    #[error("auth = \"users\" needs their file: users = \"FILE\", with name:bcrypt-hash a line")]
    NoUsersFile,
    /// Client certificates, and no CA certificate to check them.
    #[error("auth = \"certificate\" needs the CA certificates of clients: client-ca = \"FILE\"")]
    NoClientCa,
    /// A key without a certificate.
    #[error("a key needs a certificate: set certificate too")]
    ListenKey,
    /// Certificates where nothing is encrypted.
    #[error("certificates are of no use here: transport = \"tls\" or \"wss\" encrypts")]
    ListenNotEncrypted,
    /// Listeners are a cargo feature.
    #[error("this build leaves listeners out; cargo build --features listen has them")]
    NoListen,
    /// What carries MQTT is a cargo feature.
    #[error("this build leaves {0} out; cargo build --features {1} has it")]
    NoListenTransport(&'static str, &'static str),
    /// No socket of a service manager.
    #[error("{0:?} is not a socket; one begins with / or, in no file system, with @")]
    NotifySocket(String),
    /// A number that is too large.
    #[error("{value} is too large: at most {max}")]
    TooLarge {
        value: u64,
        /// The largest that is accepted.
        max: u64,
    },
    /// No beginning of a topic.
    #[error("{0:?} is not a topic to begin with; the usual one is homeassistant")]
    HomeAssistantPrefix(String),
    /// The portal id stands in other settings, and is not known.
    #[error("{{portal-id}} stands in the settings: say whose with --portal-id")]
    PortalIdNeeded,
    /// A user without a name.
    #[error("the user has no name; leave the setting out where the broker wants no user")]
    NoUser,
    /// A password, and nobody it belongs to.
    #[error("a password needs a user: set --mqtt-user too")]
    PasswordWithoutUser,
    /// A password and a password file in one place.
    #[error("set either the password or the password file, not both")]
    TwoPasswords,
    /// The file that is named cannot be read.
    #[error("cannot read {}: {}", path.display(), plain(reason))]
    Unreadable { path: PathBuf, reason: io::Error },
    /// The password file begins with an empty line, or is empty.
    #[error("the first line of {} is empty, so there is no password in it", .0.display())]
    NoPassword(PathBuf),
    /// A directive for the log that cannot be understood.
    #[error("{0:?} is not a log filter; one looks like dbus_mqtt=debug")]
    LogFilter(String),
    /// A secret that others can read, or change.
    #[error(
        "{} {}; take that away from them ({}), or allow it with --allow-readable-secrets",
        exposure.how, path.display(), exposure.remedy
    )]
    Exposed {
        path: PathBuf,
        /// How, and what mends it.
        exposure: Exposure,
    },
    /// A key without a certificate.
    #[error("a key needs a certificate: set --mqtt-client-certificate too")]
    KeyWithoutCertificate,
    /// No name that a certificate can have.
    #[error("{0:?} is not a name of a server")]
    ServerName(String),
    /// No text that can stand before topics.
    #[error(
        "{0:?} cannot stand before a topic: at most {PREFIX_BYTES_MAX} bytes and {PREFIX_LEVELS_MAX} levels, without + # and control characters, and without $ in front"
    )]
    Prefix(String),
    /// A character that cannot be replaced, or by nothing that a topic can have.
    #[error(
        "{0:?} cannot become {1:?} in a topic: one character becomes one or more that are not replaced themselves, without / + #"
    )]
    Replace(String, String),
    /// What is of use only with batches, without them.
    #[error("{0} needs batches: set batch to a number of seconds")]
    NoBatches(bool),
    /// No filter, no interval or no deadband.
    #[error(
        "{0} is not an entry of throttle: a filter such as battery/+/Dc/0/#, an interval of at most a day (500ms, 10s, 5m, 1h), and a deadband of 0 or more"
    )]
    Throttle(String),
    /// No topic filter below the portal id that some item could match.
    #[error("{0:?} matches no topic; a filter looks like battery/+/Soc or settings/#")]
    Filter(String),
    /// A number that is too small.
    #[error("{value} is too small: at least {min}")]
    TooSmall {
        value: u64,
        /// The smallest that is accepted.
        min: u64,
    },
    /// No name for the log.
    #[error("{0:?} is not a name for a broker: 1 to 64 characters that can be printed")]
    Name(String),
    /// Two brokers of one name.
    #[error("another broker has the name {0:?} already")]
    SameName(String),
    /// Two brokers that are one, under one client id: it would throw out one of them.
    #[error(
        "{broker:?} is the same broker ({address}) with the same client id {client_id:?}: the two would throw each other out; give one of them another client-id"
    )]
    SameClient {
        broker: String,
        address: String,
        client_id: String,
    },
    /// No address of a web server that encrypts.
    #[error("{0:?} is not an address to register at; one looks like https://HOST/PATH")]
    Url(String),
    /// User, and perhaps password, in such an address: not shown.
    #[error("user and password cannot be part of this address")]
    UrlLogin,
    /// Registration at VRM without VRM.
    #[error("there is nothing to register: [vrm] has enabled = false")]
    RegisterWithoutVrm,
    /// The password of VRM is made by a program.
    #[error("the first line of {} is not a password for VRM: 32 hexadecimal digits", .0.display())]
    VrmPassword(PathBuf),
    /// The file for the password of VRM cannot be made.
    #[error("cannot create {}: {}", path.display(), plain(reason))]
    NotCreated { path: PathBuf, reason: io::Error },
}

/// The longest client id that is accepted. Brokers must take 23 bytes [MQTT-3.1.3-5]; most take more.
pub(super) const CLIENT_ID_BYTES_MAX: usize = 256;
/// The longest text before topics.
pub(super) const PREFIX_BYTES_MAX: usize = 256;
/// They are added to those of the topic, and mosquitto takes 200 in all.
pub(super) const PREFIX_LEVELS_MAX: usize = 20;

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) => write!(f, "--{name}"),
            Origin::Variable(name) => f.write_str(name),
            Origin::Default => f.write_str("default"),
            Origin::Engine(name) => write!(f, "engine = \"{name}\""),
            Origin::VrmPasswordFile => f.write_str("the password for VRM"),
            Origin::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
        }
    }
}

/// Where to see the mistakes that do not fit the line.
fn further(mistakes: &[String], directory: &std::path::Path) -> String {
    match mistakes.len() {
        0 | 1 => String::new(),
        count => {
            let (more, directory) = (count - 1, directory.display());
            format!(" (and {more} more: dbus-mqtt schema check {directory})")
        }
    }
}
