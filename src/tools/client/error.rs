//! Why a question to a broker has no answer, and whose fault that is.

use std::io;
use std::time::Duration;

use super::portal::Portal;
use super::value::InvalidValue;
use crate::config::ConfigError;
use crate::error::{Fatal, plain};
use crate::link::session::LinkError;
use crate::model::name::PortalId;
use crate::shell::transport::TransportError;

/// Why a question has no answer, in a sentence for the one who asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum ClientError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was asked for is not a topic.
    #[error(
        "{given:?} is not a topic: write it as it stands after the portal id, such as \
         system/0/Dc/Battery/Soc or 'battery/+/Soc'"
    )]
    Topic { given: String },
    /// Topics of more than one installation.
    #[error("{given} is another installation than {portal}; ask for one at a time")]
    OtherPortal {
        /// The portal id in the topic.
        given: PortalId,
        /// The one that is meant.
        portal: PortalId,
    },
    /// A value that cannot be meant.
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// A topic to be written that has others below it.
    #[error(
        "{topic} has no value of its own, but {count} below it; set one of those, such as {first}"
    )]
    Inner {
        topic: String,
        /// How many are below it.
        count: usize,
        first: String,
    },
    /// The connection to the broker failed, or ended.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// There is no way to the broker.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// One of these two, with the name of the broker.
    #[error("the broker at {address}: {reason}")]
    Broker { address: String, reason: String },
    /// No bridge has ever been there.
    #[error(
        "there is no installation on this broker: nothing came on N/+/system/0/Serial within {} s (where the \
         broker gives no retained messages to wildcards, name it with --portal-id)",
        waited.as_secs_f64()
    )]
    NoPortal { waited: Duration },
    /// More than one bridge is there, or was.
    #[error(
        "there are several installations on this broker; choose one with --portal-id: {}",
        list(portals)
    )]
    Portals { portals: Vec<Portal> },
    /// The bridge has said that it is off, and nobody else answers for it.
    #[error("{portal} is offline: its bridge said so, and does not answer")]
    Offline { portal: PortalId },
    /// An installation that runs is not to be forgotten.
    #[error("{portal} is online, and would publish it all again; stop its bridge, or add --online")]
    Online { portal: PortalId },
    /// Nobody can be asked.
    #[error("nothing was cleared; answer y, or use --yes")]
    NotConfirmed,
    /// The bridge said nothing that would be an answer.
    #[error(
        "no answer within {} s: {what} (the bridge may be gone, or has no such value{})",
        waited.as_secs_f64(),
        meant(hint.as_deref())
    )]
    NoAnswer {
        what: String,
        waited: Duration,
        hint: Option<String>,
    },
    /// The bridge has told all there is.
    #[error("there is no {topics}{}", meant(hint.as_deref()))]
    NotThere {
        topics: String,
        hint: Option<String>,
    },
    /// The device shows what it did before a write.
    #[error("the device did not take {asked}: {topic} is still {shown}{hint}")]
    Refused {
        topic: String,
        asked: String,
        shown: String,
        /// What it would take, where that is known.
        hint: String,
    },
    /// A write, and nothing came back.
    #[error("{asked} was sent, but {topic} was not shown again within {} s", waited.as_secs_f64())]
    Unanswered {
        topic: String,
        asked: String,
        waited: Duration,
    },
    /// A signal, before there was an answer.
    #[error("stopped before there was an answer")]
    Interrupted,
    /// The output cannot be written.
    #[error("cannot print: {}", plain(.0))]
    Output(#[source] io::Error),
}

fn meant(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |hint| format!("; did you mean {hint}?"))
}

fn list(portals: &[Portal]) -> String {
    let name = |portal: &Portal| {
        let state = if portal.offline { " (offline)" } else { "" };
        format!("{}{state}", portal.id)
    };
    portals.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl From<ClientError> for Fatal {
    /// What was asked wrongly has the exit status of a wrong flag.
    fn from(error: ClientError) -> Fatal {
        match error {
            ClientError::Config(error) => Fatal::Config(error),
            ClientError::Topic { .. }
            | ClientError::OtherPortal { .. }
            | ClientError::Value(_)
            | ClientError::Inner { .. }
            | ClientError::Online { .. }
            | ClientError::NotConfirmed
            | ClientError::Portals { .. } => Fatal::Usage(Box::new(error)),
            ClientError::Link(_)
            | ClientError::Transport(_)
            | ClientError::Broker { .. }
            | ClientError::NoPortal { .. }
            | ClientError::Offline { .. }
            | ClientError::NoAnswer { .. }
            | ClientError::NotThere { .. }
            | ClientError::Refused { .. }
            | ClientError::Unanswered { .. }
            | ClientError::Interrupted
            | ClientError::Output(_) => Fatal::tool(error),
        }
    }
}
