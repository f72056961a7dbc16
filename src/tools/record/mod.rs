//! `dbus-mqtt record`: the services of a bus into recordings, one file each.
//!
//! One task reads all messages of one connection in the order of the bus, replies included, so it
//! knows which signals are older than a scan's answer and which are newer (§2.3). It never waits
//! for a service: a call is sent, its reply comes by like any other message. It must never write a
//! secret: what the schema marks so is written as stars. The format is in
//! [`recording`](super::recording).
//!
//! ```text
//!            owner                GetItems            texts
//!   absent ───────▶ asked: items ─────────▶ recorded ◀────── asked: texts
//!     ▲                  │ unknown method                        ▲
//!     │ no owner         ▼                  GetValue /           │
//!     └──────── (any)  asked: values ────────────────────────────┘
//! ```

use std::path::Path;
use std::time::Duration;

use zbus::MessageStream;

mod announced;
mod recorder;
mod tape;
#[cfg(test)]
mod tests;

use super::bus;
use super::{ToolError, say};
use crate::cli::RecordArgs;
use crate::config::BusAddress;
use crate::schema::Schema;
use recorder::Recorder;
pub use recorder::{Summary, What};

/// Runs the subcommand on a bus until `shutdown` or the given time.
pub async fn run(
    args: RecordArgs,
    bus: &BusAddress,
    schema: &Schema,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ToolError> {
    let time = args.seconds.map(Duration::from_secs);
    let stop = super::until(shutdown, time);
    let what = What {
        services: &args.services,
        schema,
    };
    let mut said = Ok(());
    let mut hear = |line: &str| {
        if said.is_ok() {
            said = say(line);
        }
    };
    let summary = record(bus.as_str(), what, &args.out, stop, &mut hear).await?;
    said?;
    if summary.services > 0 {
        say(&format!(
            "recorded {} services with {} changes in {}",
            summary.services,
            summary.changes,
            args.out.display()
        ))?;
    }
    match (summary.missing.is_empty(), summary.services) {
        (true, 0) => Err(ToolError::NothingRecorded),
        (true, _) => Ok(()),
        (false, _) => Err(ToolError::NotRecorded {
            services: summary.missing.join(", "),
        }),
    }
}

/// Records services into files in `out` until `stop`. `say` hears what happens, line by line.
pub async fn record(
    bus: &str,
    what: What<'_>,
    out: &Path,
    stop: impl Future<Output = ()>,
    say: &mut dyn FnMut(&str),
) -> Result<Summary, ToolError> {
    let connection = bus::connect(bus).await?;
    let mut stream = MessageStream::from(&connection);
    let mut recorder = Recorder::begin(connection, what, out, say).await?;
    let mut tick = tokio::time::interval(TICK);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            message = bus::next(&mut stream) => {
                let Some(message) = message else {
                    recorder.flush()?;
                    return Err(ToolError::BusGone);
                };
                recorder.take(&message).await?;
            }
            _ = tick.tick() => recorder.tick().await?,
        }
    }
    recorder.flush()?;
    Ok(recorder.summary())
}

/// How often files are flushed and clocks looked at.
const TICK: Duration = Duration::from_secs(1);
