//! MQTT packets, of both versions: [`v3`] is MQTT 3.1.1, [`v5`] MQTT 5.
//!
//! What both have in common is in `parts`. A session reads with [`decode_as`]; the packets it writes
//! differ more, and it says which it means. Sole users of mqttbytes.

#[cfg(feature = "listen")]
pub mod client;
mod parts;
pub mod properties;
#[cfg(feature = "listen")]
pub mod server;
pub mod v3;
pub mod v5;

pub use self::parts::{
    Beginning, ConnAck, Connect, InPublish, Inbound, PacketError, Reason, RespondTo,
    SENT_BYTES_MAX, ServerLimits, Version, beginning, is_topic, packet_len, write_disconnect,
    write_pingreq, write_puback,
};
pub use self::v3::{decode, write_publish};
pub use mqttbytes::QoS;

/// Reads one whole packet of that version.
pub fn decode_as(version: Version, packet: &mut [u8]) -> Result<Inbound<'_>, PacketError> {
    match version {
        Version::V3 => v3::decode(packet),
        Version::V5 => v5::decode(packet),
    }
}
