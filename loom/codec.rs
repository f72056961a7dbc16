//! What the cache needs to turn a value into JSON.

#[path = "../src/codec/cursor.rs"]
pub mod cursor;
#[path = "../src/codec/payload.rs"]
pub mod payload;
