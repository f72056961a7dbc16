//! The data: items, topics, names and values. Nothing in here decides.

pub mod bits;
pub mod cache;
pub mod hash;
pub mod items;
pub mod marks;
pub mod names;
pub mod sizes;
pub mod slot;
pub mod sync;
pub mod throttle;
