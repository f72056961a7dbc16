//! Programs around the bridge: [`record`], [`replay`], the client and the demo, and what they are
//! made of.
//!
//! They are not part of the bridge and nothing in it knows them: they sit on the other side of the
//! D-Bus, as a device's services do. So they read clocks, spawn tasks and use zbus and serde_json
//! directly, where the bridge may not. Read in this order:
//!
//! 1. [`value`], [`item`], [`tree`]: one D-Bus value, one item, all items of a service. Pure.
//! 2. [`service`]: a Venus service on a bus. Tests use it too.
//! 3. [`recording`]: the JSON Lines format; [`record`] writes it, [`replay`] plays it.
//! 4. [`schema`]: prints what the schema knows.
//! 5. [`doctor`]: finds out what is wrong, and says what to do.
//! 6. `client`: asks a broker what any bridge publishes there; the other end of it all.
//! 7. `demo`: a simulated installation with a bus and broker in it.
//! 8. `fleet`: many simulated installations for a broker to carry.
#![allow(clippy::disallowed_methods)] // tools are programs: they read clocks and spawn their tasks

use std::time::Duration;

use crate::error::print;
use crate::model::outside::Outside;

pub mod bus;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
mod error;
#[cfg(feature = "demo")]
pub mod fleet;
pub mod item;
pub mod record;
pub mod recording;
pub mod replay;
pub mod schema;
pub mod service;
pub mod session;
pub mod tree;
pub mod value;

pub use self::error::ToolError;

/// Waits for `shutdown`, or until the given time is over.
async fn until(shutdown: impl Future<Output = ()>, time: Option<Duration>) {
    match time {
        Some(time) => drop(tokio::time::timeout(time, shutdown).await),
        None => shutdown.await,
    }
}

/// Prints a line for people. If nobody reads any more, since the terminal was closed, the tool still
/// ends; a full disk is an error.
///
/// Names and error texts in it are of anybody's making, so it is one line whatever they are (§5.9).
fn say(line: &str) -> Result<(), ToolError> {
    Ok(print(format!("{}\n", Outside::new(line)).as_bytes())?)
}
