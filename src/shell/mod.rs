//! Sockets, clocks and tasks: the only layer that touches the world. Nothing below it knows of it.
//!
//! One thread, and on it: the bus task ([`bus`]), one task per broker ([`broker`]), and the
//! timekeeper ([`run`]). All of them share the bridge behind a lock that is never held across a
//! wait, and have separate signals that wake them: `shared`.
#![allow(clippy::disallowed_methods)] // here the clocks are read, and the tasks spawned

pub mod address;
pub mod broker;
pub mod bus;
pub mod held;
#[cfg(feature = "metrics")]
mod http;
pub mod intercept;
pub(crate) mod memory;
mod pace;
pub mod portal;
mod reload;
pub mod run;
#[cfg(feature = "listen")]
mod serve;
mod shared;
#[cfg(feature = "demo")]
pub mod simulated;
mod sink;
pub mod supervisor;
mod timer;
pub mod transport;
mod uplink;
mod vrm;
