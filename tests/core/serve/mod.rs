//! MQTT clients that connect to the bridge itself (§9), on simulated time: their bytes in, packets for
//! them out, the bridge's rules and its cache played by the test.
//!
//! Read [`bench`] first.

mod alloc;
mod bench;
mod connect;
mod limits;
mod listeners;
mod order;
mod relay;
mod requests;
mod subscribe;
mod values;
