//! The value cache of the bridge, compiled as it is, but with loom's atomics and locks: the proof in
//! `tests/cache.rs` then goes through every order in which threads can see each other's stores.
//!
//! A crate of its own, like the fuzz targets: loom and a copy of the cache are none of the
//! program's business, and nothing of tokio or zbus has to be built for it. Only `bridge/store/sync.rs` is
//! another one; see there.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "the proof uses its own part of this"
)]

pub mod bridge;
pub mod codec;
#[path = "../src/model/mod.rs"]
pub mod model;
pub mod schema;
