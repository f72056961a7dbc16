//! What the live tests stand on: guards that own a private bus, a broker and the bridge itself, a
//! fake Venus service that speaks D-Bus byte by byte, and a small MQTT client.
//!
//! Nothing here shares a line with the bridge: what both got wrong would never be seen. Nothing
//! sleeps where a condition can be awaited; read [`rig`] first, then [`peer`] and [`client`].
#![allow(
    dead_code, // each test binary uses its own part of this
    unreachable_pub, // these modules are included by path, and have no outside
    missing_docs,
    clippy::unwrap_used, // a test that cannot go on should say where, and stop
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods, // tests have clocks
    clippy::missing_panics_doc,
    clippy::wildcard_enum_match_arm,
    clippy::return_self_not_must_use,
    clippy::format_push_string, // nobody minds an allocation here
    clippy::format_collect
)]

pub mod bridge;
pub mod broker;
pub mod bus;
pub mod certificates;
pub mod client;
pub mod fake_broker;
pub mod fake_bus;
#[cfg(feature = "tls")]
pub mod front;
#[cfg(all(feature = "tls", feature = "websocket"))]
pub mod gateway;
pub mod json;
pub mod line;
pub mod load;
pub mod peer;
pub mod process;
pub mod program;
pub mod recording;
pub mod rig;
pub mod scripted;
pub mod server;
pub mod service;
pub mod wire;

use std::time::{Duration, Instant};

/// How long a condition may take on a busy machine before the test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again, a hundred times a second, until there is an answer.
///
/// For what can only be looked at (a file, a process, a broker's retained set); whatever can be
/// waited for has a `wait` of its own.
pub fn poll<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            start.elapsed() < patience,
            "waited {patience:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Tries all cases at once, each in a thread of its own: for those that spend their time waiting.
pub fn in_parallel<T: Sync>(cases: &[T], each: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| each(case));
        }
    });
}
