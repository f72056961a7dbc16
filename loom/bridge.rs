//! The cache, its slots and their marks, over loom.

#[path = "../src/bridge/store/cache.rs"]
pub mod cache;
#[path = "../src/bridge/store/marks.rs"]
pub mod marks;
#[path = "../src/bridge/store/sizes.rs"]
pub mod sizes;
#[path = "../src/bridge/store/slot.rs"]
pub mod slot;
mod sync;
