//! Decisions: one MQTT session, from CONNECT to its end, without sockets and clocks (§6).
//!
//! The bridge and the link never meet: the shell carries what one says to the other. Begin with
//! [`session`]; [`addresses`] says where to try next, [`dialect`] chooses between the versions of MQTT, [`aliases`] gives numbers to
//! topics, [`reason`] knows what a broker's codes mean, and [`retry`] when to try again; [`suspects`]
//! finds the topic for which a broker closes the connection.

pub mod addresses;
pub mod aliases;
pub mod backoff;
pub mod dialect;
pub mod publish_rate;
pub mod reason;
pub mod retry;
pub mod session;
pub mod suspects;
pub mod vrm;
pub mod window;
