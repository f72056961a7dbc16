//! Decisions: one MQTT session, from CONNECT to its end, without sockets and clocks (§6).
//!
//! The bridge and the link never meet: the shell carries what one says to the other.

pub mod backoff;
pub mod session;
pub mod window;
