//! Stands in for the bridge's `sync.rs`.

pub use loom::hint::spin_loop;
pub use loom::sync::atomic::{AtomicU32, Ordering, fence};
pub use loom::sync::{RwLock, RwLockReadGuard};

/// Few, since loom follows each of their words.
pub const CHUNK_SLOTS: usize = 2;
