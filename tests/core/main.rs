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
mod alloc;
mod batch;
mod calls;
mod claims;
mod corpus;
mod discovery;
mod discovery_times;
mod docs;
mod foreign;
#[path = "../frames/mod.rs"]
mod frames;
#[path = "../home_assistant/mod.rs"]
mod home_assistant;
mod homeassistant;
mod keep_alive;
mod layers;
mod limits;
mod log;
mod log_budget;
mod memory;
mod pace;
mod properties_json;
mod properties_v5;
mod properties_wire;
mod refresh;
mod rejected;
#[path = "../home_assistant/rig.rs"]
mod rig;
mod rights;
mod scan;
mod scene;
mod schema;
mod security;
#[cfg(feature = "listen")]
mod serve;
mod services;
mod settings;
#[path = "../../fuzz/targets.rs"]
mod targets;
mod throttle;
mod topics;
mod wire_cost;
mod writes;
