//! The bridge between the D-Bus of a Victron GX device (Venus OS) and MQTT.
//!
//! Words, rules, bytes, decisions, sockets: each layer looks only down, and only the last
//! touches the world. Read in this order:
//!
//! 1. [`model`]: words. Names, topics, values, items, requests.
//! 2. [`schema`]: rules. What Venus OS offers, compiled from `schema/*.toml`.
//! 3. [`codec`]: bytes to words and back. D-Bus frames, JSON payloads, MQTT packets.
//! 4. [`homeassistant`]: words and bytes. What a device is called and shown as there.
//! 5. [`bridge`]: decisions. What to publish, what to call.
//! 6. [`link`]: decisions. One MQTT session.
//! 7. `serve`: decisions. MQTT clients that connect to the bridge itself.
//! 8. [`shell`]: sockets, clocks, signals.
//! 9. [`tools`]: programs around the bridge: demo, record, replay.
#![forbid(unsafe_code)]

pub mod bridge;
pub mod cli;
pub mod codec;
pub mod config;
pub mod error;
pub mod homeassistant;
pub mod link;
pub mod logging;
pub mod model;
pub mod schema;
#[cfg(feature = "listen")]
pub mod serve;
pub mod shell;
pub mod tools;
