//! Programs around the bridge: [`record`], [`replay`], the client and the demo, and what they are
//! made of.
//!
//! They are no part of the bridge and nothing in it knows them: they sit on the other side of the
//! D-Bus, as a device's services do. So they read clocks, spawn tasks and use zbus and serde_json
//! directly, where the bridge may not. Read in this order:
//!
//! 1. [`value`], [`item`], [`tree`]: one D-Bus value, one item, all items of a service. Pure.
//! 2. [`service`]: a Venus service on a bus. Tests use it too.
//! 3. [`recording`]: the JSON Lines format; [`record`] writes it, [`replay`] plays it.
//! 4. [`schema`]: prints what the schema knows.
//! 5. [`doctor`]: finds out what is wrong, and says what to do.
//! 6. `client`: asks a broker what any bridge publishes there; the other end of it all.
//! 7. `demo`: a simulated installation with a bus and a broker of its own.
#![allow(clippy::disallowed_methods)] // tools are programs: they read clocks and spawn their tasks

use std::path::PathBuf;

use crate::error::{Fatal, plain, print};
use crate::model::outside::Outside;

pub mod bus;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
pub mod item;
pub mod record;
pub mod recording;
pub mod replay;
pub mod schema;
pub mod service;
pub mod session;
pub mod tree;
pub mod value;

/// Prints a line for people. Where nobody reads any more, since the terminal was closed, the tool still
/// has to come to an end of its own; where there is no room for it, that is told.
///
/// Names and error texts in it are of anybody's making, so it is one line whatever they are (§5.9).
fn say(line: &str) -> Result<(), ToolError> {
    Ok(print(format!("{}\n", Outside::new(line)).as_bytes())?)
}

/// What ends a tool early. The operator can mend each of these, so each is one readable sentence.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// There is no bus where one should be.
    #[error("cannot connect to the D-Bus at {address}: {reason}")]
    Connect {
        /// The address.
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
        /// The method.
        call: &'static str,
        /// What zbus says.
        reason: Box<zbus::Error>,
    },
    /// A name on the bus belongs to another process.
    #[error("the bus name {name} is taken: another process already serves it on this bus")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A path is no D-Bus object path, or a message is too large.
    #[error("{name} cannot send a signal for {path}: {reason}")]
    Message {
        /// The service.
        name: String,
        /// The path.
        path: String,
        /// What zbus says.
        reason: Box<zbus::Error>,
    },
    /// A file or directory cannot be used.
    #[error("{path}: {reason}", path = path.display(), reason = plain(reason))]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// `record` would overwrite something.
    #[error("{path} exists already; give another directory with --out", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A line of a recording is wrong.
    #[error(transparent)]
    Recording(#[from] recording::RecordingError),
    /// Nothing to replay.
    #[error("no recordings in {path}: a recording is a file that ends in .jsonl", path = path.display())]
    NoRecordings {
        /// The directory.
        path: PathBuf,
    },
    /// Two recordings cannot be played together.
    #[error(
        "{first} and {second} are both recordings of {name}, and a bus name has only one owner; \
         replay them one at a time",
        first = first.display(), second = second.display()
    )]
    SameService {
        /// The service both record.
        name: String,
        /// The file that was read first.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The speed of a replay makes no sense.
    #[error("--speed {speed}: the speed must be greater than 0 (1 is real time, inf is no pauses)")]
    Speed {
        /// What was given.
        speed: f64,
    },
    /// The schema has no such service type.
    #[error(
        "there is no service type {service_type:?} in the schema{}",
        like(hint.as_deref())
    )]
    NoServiceType {
        /// What was asked for.
        service_type: String,
        /// What was likely meant.
        hint: Option<String>,
    },
    /// The schema has nothing of the kind.
    #[error("no row of the schema has {word:?} in it")]
    NoRow {
        /// What was searched for.
        word: String,
    },
    /// A part of the demo did not start.
    #[error("the demo cannot start its {part}: {reason}")]
    DemoPart {
        /// Which part.
        part: &'static str,
        /// Why, in the words of whoever refused.
        reason: String,
    },
    /// The doctor found something that is wrong.
    #[error("{faults} of {checks} checks found a fault")]
    Faults {
        /// How many.
        faults: usize,
        /// Of how many.
        checks: usize,
    },
    /// The output cannot be written.
    #[error("cannot print: {}", plain(.0))]
    Output(#[source] std::io::Error),
    /// The port that was asked for is not free.
    #[error("port {port} is taken; give another, or leave it out to take a free one")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// Services that were asked for, and never were on the bus.
    #[error("not recorded: {services} (not on this bus, or without values)")]
    NotRecorded {
        /// Their names.
        services: String,
    },
    /// No service was on the bus at all.
    #[error("nothing was recorded: no Victron service is on this bus, or none gave its values")]
    NothingRecorded,
    /// No port is free for the demo's broker.
    #[error("no TCP port from {first} to {last} is free on 127.0.0.1; give another with --port")]
    NoPort {
        /// The first port that was tried.
        first: u16,
        /// The last.
        last: u16,
    },
    /// The bridge inside the demo ended.
    #[error(transparent)]
    Bridge(#[from] Fatal),
}

fn like(hint: Option<&str>) -> String {
    match hint {
        Some(name) => format!("; there is {name}"),
        None => "; dbus-mqtt schema list has them all".to_owned(),
    }
}
