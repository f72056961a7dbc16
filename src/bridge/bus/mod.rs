//! Who is on the bus and what they have: names, scans, signals, claims and calls (§2).

pub mod calls;
pub mod claim;
pub mod flapping;
pub mod kept;
pub mod overflow;
pub mod registry;
pub mod replies;
pub mod scans;
pub mod services;
