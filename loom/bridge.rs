//! The cache and its slots, over loom.

#[path = "../src/bridge/store/cache.rs"]
pub mod cache;
#[path = "../src/bridge/store/sizes.rs"]
pub mod sizes;
#[path = "../src/bridge/store/slot.rs"]
pub mod slot;
mod sync;
