//! The rules of the wire contract, on simulated time: messages of a bus and requests of clients in,
//! publishes and calls out, without a socket. One module per subject; each test is named for its rule.
//!
//! Read [`scene`] first.
#![allow(
    missing_docs,
    clippy::unwrap_used, // a test that cannot go on should say where, and stop
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::similar_names,
    clippy::disallowed_methods // tests have clocks
)]

mod alive;
mod calls;
mod claims;
mod foreign;
#[path = "../frames/mod.rs"]
mod frames;
mod homeassistant;
mod keep_alive;
mod log;
mod log_budget;
mod memory;
mod pace;
mod refresh;
mod rejected;
mod rights;
mod scan;
mod scene;
mod services;
mod topics;
mod writes;
