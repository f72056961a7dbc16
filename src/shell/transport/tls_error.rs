//! What can be wrong with TLS, told apart: whose certificate, and what about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio_rustls::rustls::{
    AlertDescription as Alert, CertificateError, Error, InvalidMessage, PeerIncompatible,
    PeerMisbehaved, ProtocolVersion,
};

use super::layer::Layer;
use crate::model::outside::Outside;

/// The largest file that is read; a bundle of all the CAs of the world has a quarter of it.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of ours.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
    },
    /// Our certificate and our key are not a pair.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Neither a host name nor an address.
    #[error("{0:?} cannot be a name in a certificate")]
    ServerName(String),
    /// No CA at all.
    #[error("no CA certificate was found")]
    NobodyToTrust,
    /// We do not take the broker's certificate.
    #[error("the broker's certificate {0}")]
    Server(ServerProblem),
    /// The broker does not take ours.
    #[error("{0}")]
    Client(ClientProblem),
    /// What comes is something else.
    #[error("this port does not speak TLS. {}", Layer::Tls.without())]
    NoTls,
    /// TLS 1.1 or older.
    #[error("the broker does not speak TLS 1.2 or newer")]
    OldTls,
    /// A chain of certificates without end. Nothing else in a handshake is long.
    #[error("the broker sends more than 64 KiB of certificates")]
    LongChain,
    /// We and the broker have no method of encryption in common.
    #[error("the broker supports no cipher that this program has ({0})")]
    NothingInCommon(Error),
    /// The broker knows several names, and not this one.
    #[error("the broker does not know the server name that we ask for")]
    UnknownName,
    /// The broker does not speak what we offer.
    #[error(
        "the broker does not know the protocol that alpn names; its documentation says which it wants"
    )]
    UnknownProtocol,
    /// The broker wants another handshake within the connection, which TLS 1.3 has abolished.
    #[error(
        "the broker wants to renegotiate TLS, which is not safe and not done (a web server that asks some paths only for a certificate does so)"
    )]
    Renegotiation,
    /// The broker says what it does not like, and it is none of the above.
    #[error("the broker aborted the TLS connection ({0:?})")]
    Alert(Alert),
    /// The rest.
    #[error("TLS failed: {0}")]
    Tls(Error),
}

/// What is wrong with the broker's certificate.
#[derive(Debug)]
pub enum ServerProblem {
    /// No way leads from it to somebody whom we trust.
    UnknownIssuer {
        /// The file with those whom we trust; without it the system says.
        ca: Option<PathBuf>,
    },
    /// It is its own CA, or that of another, and not one whom we trust.
    OwnAuthority,
    /// Its time is over.
    Expired {
        /// For so long.
        since: Duration,
    },
    /// Its time has not come.
    NotYetValid {
        /// Not before then.
        wait: Duration,
    },
    /// It belongs to somebody else.
    WrongName {
        /// Whom we wanted.
        expected: String,
        /// To whom it belongs.
        names: Vec<String>,
    },
    /// It is for something else than a server.
    WrongPurpose,
    /// Anything else.
    Unusable(CertificateError),
}

/// Why the broker does not let us in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientProblem {
    /// It wants a certificate, and we have none.
    Required,
    /// It may want one: TLS 1.2 has no word for it.
    PerhapsRequired,
    /// It does not take ours.
    Refused {
        /// What it says.
        alert: Alert,
    },
}

impl TlsError {
    /// Whether trying again soon is of no use.
    pub(super) fn needs_operator(&self) -> bool {
        match self {
            // A GX device has no clock: it learns the time from the network, after its start.
            // Some renegotiate once in a while only, and in between all is well.
            TlsError::Server(ServerProblem::NotYetValid { .. })
            | TlsError::Renegotiation
            | TlsError::Alert(_)
            | TlsError::Tls(_) => false,
            TlsError::File { .. }
            | TlsError::KeyMismatch { .. }
            | TlsError::ServerName(_)
            | TlsError::UnknownProtocol
            | TlsError::NobodyToTrust
            | TlsError::Server(_)
            | TlsError::Client(_)
            | TlsError::NoTls
            | TlsError::OldTls
            | TlsError::LongChain
            | TlsError::NothingInCommon(_)
            | TlsError::UnknownName => true,
        }
    }

    /// An error of the handshake.
    #[allow(clippy::wildcard_enum_match_arm)] // all others mean the same at any time
    pub(super) fn from_handshake(error: Error, settings: &Settings) -> TlsError {
        match error {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) => TlsError::NoTls,
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => TlsError::OldTls,
            other => TlsError::from_either(other, settings),
        }
    }

    /// An error of a connection that stands, with this version of TLS.
    #[allow(clippy::wildcard_enum_match_arm)] // all others mean the same at any time
    pub(super) fn from_connection(
        error: Error,
        settings: &Settings,
        version: Option<ProtocolVersion>,
    ) -> TlsError {
        match error {
            // In TLS 1.2 no handshake is left that could fail. (In 1.3 the broker's part of it is.)
            Error::AlertReceived(Alert::HandshakeFailure | Alert::NoRenegotiation)
                if version == Some(ProtocolVersion::TLSv1_2) =>
            {
                TlsError::Renegotiation
            }
            Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests) => {
                TlsError::Renegotiation
            }
            other => TlsError::from_either(other, settings),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm)] // what nobody can do anything about goes as it is
    fn from_either(error: Error, settings: &Settings) -> TlsError {
        match error {
            Error::InvalidCertificate(problem) => {
                TlsError::Server(ServerProblem::new(problem, settings))
            }
            Error::AlertReceived(alert) => from_alert(alert, settings),
            Error::PeerIncompatible(_) => TlsError::NothingInCommon(error),
            Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => TlsError::LongChain,
            other => TlsError::Tls(other),
        }
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // there are 256 of them
fn from_alert(alert: Alert, settings: &Settings) -> TlsError {
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            TlsError::Client(ClientProblem::Required)
        }
        Alert::HandshakeFailure if !settings.has_client => {
            TlsError::Client(ClientProblem::PerhapsRequired)
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError
        | Alert::HandshakeFailure
            if settings.has_client =>
        {
            TlsError::Client(ClientProblem::Refused { alert })
        }
        Alert::ProtocolVersion => TlsError::OldTls,
        Alert::UnrecognisedName => TlsError::UnknownName,
        Alert::NoApplicationProtocol => TlsError::UnknownProtocol,
        other => TlsError::Alert(other),
    }
}

impl ServerProblem {
    #[allow(clippy::wildcard_enum_match_arm)] // rustls may know more of them tomorrow
    fn new(problem: CertificateError, settings: &Settings) -> ServerProblem {
        match problem {
            CertificateError::UnknownIssuer => ServerProblem::UnknownIssuer {
                ca: settings.ca.clone(),
            },
            CertificateError::ExpiredContext { time, not_after } => ServerProblem::Expired {
                since: Duration::from_secs(time.as_secs().saturating_sub(not_after.as_secs())),
            },
            CertificateError::NotValidYetContext { time, not_before } => {
                let wait = not_before.as_secs().saturating_sub(time.as_secs());
                ServerProblem::NotYetValid {
                    wait: Duration::from_secs(wait),
                }
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => ServerProblem::WrongName {
                expected: expected.to_str().into_owned(),
                names: presented.iter().map(|name| bare(name)).collect(),
            },
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                ServerProblem::WrongPurpose
            }
            other if is_own_authority(&other) => ServerProblem::OwnAuthority,
            other => ServerProblem::Unusable(other),
        }
    }
}

impl fmt::Display for ServerProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerProblem::UnknownIssuer { ca: Some(path) } => {
                write!(f, "is from another CA than the one in {}", path.display())
            }
            ServerProblem::UnknownIssuer { ca: None } => f.write_str(
                "is from a CA that this system does not know; its certificate has to be given in a file",
            ),
            ServerProblem::OwnAuthority => {
                f.write_str("is its own CA, so it has to be given in a file itself")
            }
            ServerProblem::Expired { since } => {
                write!(f, "expired {} ago", Rough(*since))
            }
            ServerProblem::NotYetValid { wait } => write!(
                f,
                "is not valid for another {} (is the clock of this device right?)",
                Rough(*wait)
            ),
            ServerProblem::WrongName { expected, names } if names.is_empty() => write!(
                f,
                "has no name (no subjectAltName), so it is not valid for {expected}"
            ),
            ServerProblem::WrongName { expected, names } => {
                let shown = names.get(..NAMES_MAX).unwrap_or(names).join(", ");
                let more = if names.len() > NAMES_MAX { ", …" } else { "" };
                write!(f, "is for {shown}{more}, not for {expected}")
            }
            ServerProblem::WrongPurpose => f.write_str("is not meant for a server"),
            ServerProblem::Unusable(problem) => write!(f, "cannot be used: {problem}"),
        }
    }
}

impl fmt::Display for ClientProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientProblem::Required => {
                f.write_str("the broker wants a client certificate, and there is none in the settings")
            }
            ClientProblem::PerhapsRequired => f.write_str(
                "the broker aborted the TLS handshake: it wants a client certificate, or another cipher",
            ),
            ClientProblem::Refused { alert } => {
                write!(f, "the broker refused our client certificate: {}", said(*alert))
            }
        }
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // there are 256 of them
fn said(alert: Alert) -> &'static str {
    match alert {
        Alert::UnknownCA => "it does not know its CA",
        Alert::CertificateExpired => "it has expired",
        Alert::CertificateRevoked => "it has been revoked",
        Alert::UnsupportedCertificate => "the broker does not accept this type",
        Alert::AccessDenied => "access denied",
        Alert::DecryptError => "the broker cannot check our signature",
        _ => "the broker does not say why",
    }
}

/// `DnsName("venus.local")` without what is around the name. Others chose it: nothing in it may look
/// like a separate line in the log.
fn bare(presented: &str) -> String {
    let inner = presented
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .unwrap_or(presented);
    let name = Outside::new(inner.trim_matches('"'));
    name.at_most(NAME_CHARS_MAX).to_string()
}

/// A duration as people say it.
struct Rough(Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..120 => write!(f, "{seconds} s"),
            120..7_200 => write!(f, "{} minutes", seconds / 60),
            7_200..172_800 => write!(f, "{} hours", seconds / 3_600),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// How many of the names in a certificate are told.
const NAMES_MAX: usize = 4;
/// How much of each.
const NAME_CHARS_MAX: usize = 100;

/// What the sentence of an error wants to know.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The CA file, where there is one.
    pub(super) ca: Option<PathBuf>,
    /// Whether we have a certificate too.
    pub(super) has_client: bool,
}

/// What is wrong with a file of certificates or a key.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// More than any such file has.
    #[error("it is larger than {} KiB", FILE_BYTES_MAX / 1024)]
    TooLarge,
    /// Damaged: half a section, or letters that cannot be there.
    #[error("it is damaged, or not a PEM file")]
    Malformed,
    /// No section is a certificate.
    #[error("there is no certificate in it (a PEM file has a line BEGIN CERTIFICATE)")]
    NoCertificate,
    /// The section is there, but what it holds is not a certificate.
    #[error("a certificate in it is damaged")]
    BadCertificate,
    /// No section is a private key.
    #[error("there is no private key in it (a PEM file has a line BEGIN PRIVATE KEY)")]
    NoKey,
    /// The key wants a password, which nobody could type in.
    #[error("the key in it is encrypted: keep it without a password, in a file only root can read")]
    EncryptedKey,
    /// The section is there, but what it holds is not a key, or one of a kind that is not known.
    #[error("the key in it is damaged, or of an unknown kind (RSA, ECDSA and Ed25519 work)")]
    BadKey,
}

/// Whether a server's certificate was refused because it is that of a CA.
pub(super) fn is_own_authority(problem: &CertificateError) -> bool {
    let CertificateError::Other(other) = problem else {
        return false;
    };
    matches!(
        other.0.downcast_ref(),
        Some(webpki::Error::CaUsedAsEndEntity)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 minutes"),
            (7_199, "119 minutes"),
            (7_200, "2 hours"),
            (172_799, "47 hours"),
            (172_800, "2 days"),
        ] {
            assert_eq!(Rough(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn a_chain_without_end_is_named() {
        let settings = Settings {
            ca: None,
            has_client: false,
        };
        let error = Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge);
        let error = TlsError::from_handshake(error, &settings);
        assert_eq!(
            error.to_string(),
            "the broker sends more than 64 KiB of certificates"
        );
        assert!(error.needs_operator());
    }

    #[test]
    fn names() {
        for (presented, name) in [
            ("DnsName(\"venus.local\")", "venus.local"),
            ("IpAddress(127.0.0.1)", "127.0.0.1"),
            ("else", "else"),
            ("DnsName(\"a\u{7}\nb\")", r"a\u{7}\nb"),
        ] {
            assert_eq!(bare(presented), name);
        }
        assert_eq!(bare(&"x".repeat(1_000)).chars().count(), NAME_CHARS_MAX);
    }
}
