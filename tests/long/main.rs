//! Faults and loads that take minutes: storms, exhaustion, killed processes, other brokers. Run by
//! `tests/run long`; `cargo test` leaves this program out.
#![allow(
    clippy::unwrap_used, // a test that cannot go on should say where, and stop
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::similar_names,
    clippy::unnecessary_debug_formatting, // quoted for a configuration file
    clippy::format_push_string, // nobody minds an allocation here
    clippy::disallowed_methods // tests have clocks
)]

mod clock;
mod exhaustion;
mod fleet;
mod moments;
mod other_brokers;
mod soak;
#[path = "../soaking/mod.rs"]
mod soaking;
mod storms;
#[path = "../support/mod.rs"]
mod support;
