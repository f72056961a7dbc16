//! One reader of the cache: what it covers, what is pending, in which order, and how fast (§4).

pub mod answers;
pub mod corrections;
pub mod fit;
pub mod foreign;
pub mod gate;
pub mod interest;
pub mod outbox;
pub mod outlet;
pub mod publishing;
pub mod refresh;
