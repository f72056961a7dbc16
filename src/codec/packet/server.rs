//! What a server writes, in MQTT 3.1, 3.1.1 and 5. Values go out by the writers of [`super::v3`] and
//! [`super::v5`].

use super::client::Fault;
use super::parts::{Version, frame, variable};

/// What CONNACK of MQTT 5 says besides its reason code (§9.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer<'a> {
    /// How many messages with QoS 2 may be open.
    pub receive_max: u16,
    /// The highest topic alias.
    pub aliases_max: u16,
    /// The longest packet taken, in bytes.
    pub packet_bytes_max: u32,
    /// The client id that the server has assigned.
    pub assigned_id: Option<&'a str>,
}

/// Writes CONNACK of a client that is let in: no session was there before. `brief`: only what a client
/// could not guess, for one that takes small packets only.
pub fn write_connack(out: &mut Vec<u8>, version: Version, offer: &Offer<'_>, brief: bool) {
    if version == Version::V3 {
        out.extend_from_slice(&[0x20, 2, 0, 0]);
        return;
    }
    let mut properties = Vec::new();
    properties.push(33);
    properties.extend_from_slice(&offer.receive_max.to_be_bytes());
    properties.push(34);
    properties.extend_from_slice(&offer.aliases_max.to_be_bytes());
    properties.push(39);
    properties.extend_from_slice(&offer.packet_bytes_max.to_be_bytes());
    // Subscription ids 0, shared 0.
    properties.extend_from_slice(&[41, 0, 42, 0]);
    if !brief {
        // Session expiry 0; retain 1, wildcards 1.
        properties.extend_from_slice(&[17, 0, 0, 0, 0, 37, 1, 40, 1]);
    }
    if let Some(id) = offer.assigned_id {
        properties.push(18);
        text(&mut properties, id);
    }
    frame(out, 0x20, properties.len() + 4, |out| {
        out.extend_from_slice(&[0, 0]);
        let (length, used) = variable(properties.len());
        out.extend_from_slice(length.get(..used).unwrap_or_default());
        out.extend_from_slice(&properties);
    });
}

/// Writes CONNACK of a client that is not let in.
pub fn write_refusal(out: &mut Vec<u8>, version: Version, fault: Fault) {
    match version {
        Version::V5 => out.extend_from_slice(&[0x20, 3, 0, fault.0, 0]),
        Version::V3 => {
            let code = match fault.0 {
                0x84 => 1,
                0x85 => 2,
                0x86 => 4,
                0x87 | 0x8c => 5,
                _ => 3,
            };
            out.extend_from_slice(&[0x20, 2, 0, code]);
        }
    }
}

/// Writes PUBACK, PUBREC, PUBREL or PUBCOMP (4 to 7).
pub fn write_ack(out: &mut Vec<u8>, version: Version, kind: u8, id: u16, code: u8) {
    let first = kind << 4 | if kind == 6 { 2 } else { 0 };
    let [high, low] = id.to_be_bytes();
    if version == Version::V5 && code != 0 {
        out.extend_from_slice(&[first, 3, high, low, code]);
    } else {
        out.extend_from_slice(&[first, 2, high, low]);
    }
}

/// Writes SUBACK (9) or UNSUBACK (11), with a code for each filter; that of 3.x has none in UNSUBACK.
pub fn write_suback(out: &mut Vec<u8>, version: Version, kind: u8, id: u16, codes: &[u8]) {
    frame(out, kind << 4, codes.len() + 3, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        if version == Version::V5 {
            out.push(0);
        }
        if version == Version::V5 || kind == 9 {
            out.extend_from_slice(codes);
        }
    });
}

/// Writes PINGRESP.
pub fn write_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd0, 0]);
}

/// Writes a message of another client, with QoS 0. `kept` are its properties as they came, without
/// alias and expiry, which MQTT 5 alone has.
pub fn write_message(
    out: &mut Vec<u8>,
    version: Version,
    retain: bool,
    topic: &str,
    kept: &[u8],
    expiry_s: Option<u32>,
    payload: &[u8],
) {
    let usual = 6 + topic.len() + kept.len() + 5 + payload.len();
    frame(out, 0x30 | u8::from(retain), usual, |out| {
        text(out, topic);
        if version == Version::V5 {
            let length = kept.len() + if expiry_s.is_some() { 5 } else { 0 };
            let (length, used) = variable(length);
            out.extend_from_slice(length.get(..used).unwrap_or_default());
            if let Some(expiry_s) = expiry_s {
                out.push(2);
                out.extend_from_slice(&expiry_s.to_be_bytes());
            }
            out.extend_from_slice(kept);
        }
        out.extend_from_slice(payload);
    });
}

fn text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
