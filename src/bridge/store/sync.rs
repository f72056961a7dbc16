//! What the cache shares between threads, under one name: the proof in `loom/` compiles
//! [`mod@super::cache`], [`super::slot`] and [`super::marks`] as they are and puts loom's own in here.
//!
//! Nothing of these may take these from `std` itself: what loom does not see it cannot prove.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicU32, Ordering, fence};
pub use std::sync::{RwLock, RwLockReadGuard};

/// How many slots the cache makes room for at a time.
pub const CHUNK_SLOTS: usize = 256;
