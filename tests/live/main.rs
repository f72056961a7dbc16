//! That the shell joins the contract to the world: the real program between a private `dbus-daemon` and
//! `mosquitto`, over TCP, TLS and WebSocket, under signals and a service manager. One module per subject.
//!
//! Read `support::rig` first. What needs no socket belongs to `tests/core`.
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

mod batch;
mod brokers;
mod bus;
mod bytes;
mod departures;
mod discovery;
mod endings;
mod faults;
mod foreign;
mod helpers;
#[path = "../home_assistant/mod.rs"]
mod home_assistant;
mod hostile;
mod hung;
mod keepalive;
mod limits;
mod links;
#[cfg(feature = "listen")]
mod listener;
#[cfg(feature = "listen")]
mod listener_peers;
#[cfg(feature = "metrics")]
mod metrics;
mod mqtt5;
mod outages;
#[cfg(feature = "web")]
mod page;
mod policy;
mod publish;
mod recordings;
mod requests;
mod responses;
mod scan;
mod schema;
#[cfg(all(feature = "tls", feature = "websocket"))]
mod secrets;
mod selective;
mod supervisor;
#[path = "../support/mod.rs"]
mod support;
mod throttle;
#[cfg(all(feature = "tls", feature = "websocket"))]
mod tls;
#[cfg(all(feature = "tls", feature = "websocket"))]
mod tls_access;
#[cfg(all(feature = "tls", feature = "websocket"))]
mod tls_cluster;
#[cfg(all(feature = "tls", feature = "websocket"))]
mod tls_peers;
mod topics;
mod values;
#[cfg(feature = "tls")]
mod vrm;
#[cfg(all(feature = "tls", feature = "websocket"))]
mod websocket;
