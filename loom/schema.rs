//! What the cache needs to know of a rule.

#[path = "../src/schema/rule.rs"]
pub mod rule;
