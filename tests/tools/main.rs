//! The commands, against the real program: `get`, `set`, `watch`, `devices`, `doctor`, `record`, `replay`,
//! the demo, and what each says to a mistake. One module per command or subject.
#![allow(
    clippy::unwrap_used, // a test that cannot go on should say where, and stop
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::similar_names,
    clippy::format_push_string, // nobody minds an allocation here
    clippy::disallowed_methods // tests have clocks
)]

mod cli;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod client_pages;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
#[cfg(feature = "demo")]
mod fleet;
mod outside;
mod record_and_replay;
#[path = "../support/mod.rs"]
mod support;
