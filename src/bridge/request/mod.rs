//! What clients ask for: checked, carried out and answered (§5, §8).

pub mod convert;
pub mod rate;
pub mod refusals;
pub mod requests;
pub mod responses;
pub mod rights;
pub mod validate;
