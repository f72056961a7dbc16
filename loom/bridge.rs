//! The cache and its slots, over loom.

#[path = "../src/bridge/cache.rs"]
pub mod cache;
#[path = "../src/bridge/sizes.rs"]
pub mod sizes;
#[path = "../src/bridge/slot.rs"]
pub mod slot;
mod sync;
