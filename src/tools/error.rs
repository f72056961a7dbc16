//! What ends a tool early.

use std::path::PathBuf;

use super::recording::fault::RecordingError;
use crate::error::{Fatal, plain};

/// What ends a tool early. The operator can mend each of these, so each is one readable sentence.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum ToolError {
    /// There is no bus where one should be.
    #[error("cannot connect to the D-Bus at {address}: {reason}")]
    Connect {
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bus went away.
    #[error("the D-Bus connection was lost")]
    BusGone,
    /// A call to the bus itself failed.
    #[error("the D-Bus refused {call}: {reason}")]
    BusCall {
        call: &'static str,
        reason: Box<zbus::Error>,
    },
    /// A name on the bus belongs to another process.
    #[error("the bus name {name} is taken: another process already serves it on this bus")]
    NameTaken { name: String },
    /// A path is not a D-Bus object path, or a message is too large.
    #[error("{name} cannot send a signal for {path}: {reason}")]
    Message {
        name: String,
        path: String,
        reason: Box<zbus::Error>,
    },
    /// A file or directory cannot be used.
    #[error("{path}: {reason}", path = path.display(), reason = plain(reason))]
    File {
        path: PathBuf,
        reason: std::io::Error,
    },
    /// `record` would overwrite something.
    #[error("{path} exists already; give another directory with --out", path = path.display())]
    Exists { path: PathBuf },
    /// A line of a recording is wrong.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Nothing to replay.
    #[error("no recordings in {path}: a recording is a file that ends in .jsonl", path = path.display())]
    NoRecordings { path: PathBuf },
    /// Two recordings cannot be played together.
    #[error(
        "{first} and {second} are both recordings of {name}, and a bus name has only one owner; \
         replay them one at a time",
        first = first.display(), second = second.display()
    )]
    SameService {
        name: String,
        /// The file that was read first.
        first: PathBuf,
        second: PathBuf,
    },
    /// The speed of a replay is not valid.
    #[error(
        "--speed {speed}: the speed must be greater than 0 (1 is real time, inf is without pauses)"
    )]
    Speed { speed: f64 },
    /// The schema has no such service type.
    #[error(
        "there is no service type {service_type:?} in the schema{}",
        like(hint.as_deref())
    )]
    NoServiceType {
        service_type: String,
        hint: Option<String>,
    },
    /// The schema has nothing of the kind.
    #[error("no row of the schema has {word:?} in it")]
    NoRow { word: String },
    /// A part of the demo did not start.
    #[error("the demo cannot start its {part}: {reason}")]
    DemoPart {
        part: &'static str,
        /// Why, in the words of whoever refused.
        reason: String,
    },
    /// The doctor found something that is wrong.
    #[error("{faults} of {checks} checks found a fault")]
    Faults { faults: usize, checks: usize },
    /// The output cannot be written.
    #[error("cannot print: {}", plain(.0))]
    Output(#[source] std::io::Error),
    /// The port that was asked for is not free.
    #[error("port {port} is taken; give another, or leave it out to take a free one")]
    PortTaken { port: u16 },
    /// Services that were asked for, and never were on the bus.
    #[error("not recorded: {services} (not on this bus, or without values)")]
    NotRecorded { services: String },
    /// No service was on the bus at all.
    #[error("nothing was recorded: no Victron service is on this bus, or none gave its values")]
    NothingRecorded,
    /// No port is free for the demo's broker.
    #[error("no TCP port from {first} to {last} is free on 127.0.0.1; give another with --port")]
    NoPort {
        /// The first port that was tried.
        first: u16,
        last: u16,
    },
    /// Installations of a fleet that ended without a connection.
    #[error("{lost} of {count} installations were not connected at the end{}", because(.reason.as_deref()))]
    FleetLost {
        lost: usize,
        count: usize,
        /// The most frequent error.
        reason: Option<String>,
    },
    /// The bridge inside the demo ended.
    #[error(transparent)]
    Bridge(#[from] Fatal),
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!("; most often: {reason}"))
}

fn like(hint: Option<&str>) -> String {
    match hint {
        Some(name) => format!("; there is {name}"),
        None => "; dbus-mqtt schema list has them all".to_owned(),
    }
}
