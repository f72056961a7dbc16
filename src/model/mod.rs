//! Words: names, topics, values, items, requests, and time as an argument.
//!
//! Everything here is plain data without input or output. A name in hand is a valid name; a value
//! that is *invalid* is a separate value, not an absence.

pub mod access;
pub mod counts;
pub mod filter;
pub mod interner;
pub mod item;
pub mod log_rate;
pub mod name;
pub mod outside;
pub mod request;
pub mod similar;
pub mod throttle;
pub mod time;
pub mod topic;
pub mod value;
