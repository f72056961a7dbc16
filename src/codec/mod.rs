//! Bytes to words and back, without state.
//!
//! | file | bytes | words |
//! |---|---|---|
//! | [`cursor`], [`frame`], [`bus_item`] | D-Bus messages | item changes, replies |
//! | [`payload`] | JSON of notifications | values |
//! | [`gzip`] | compressed | plain |
//! | [`request`] | topic and JSON of requests | requests |
//! | [`packet`] | MQTT 3.1.1 packets | what a session needs of them |
//!
//! Every length, alignment, signature and depth that comes from outside is checked here, and only
//! here. Nothing in here panics, whatever the bytes.

pub mod bus_item;
pub mod cursor;
pub mod frame;
pub mod gzip;
pub mod introspect;
pub mod packet;
pub mod payload;
pub mod request;
