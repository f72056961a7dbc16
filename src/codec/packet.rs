//! MQTT 3.1.1 packets.
//!
//! mqttbytes reads and writes every packet but PUBLISH: its `Publish` owns topic and payload, and
//! ours are in the read buffer, or made in the write buffer. Sole user of mqttbytes. Its faults that
//! touch us are guarded here: it writes a CONNECT wrong into a buffer that is not empty, and it takes
//! topics that MQTT forbids.

use bytes::BytesMut;
use mqttbytes::QoS;
use mqttbytes::v4;

/// Bytes of a peer that are no MQTT as we can use it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Longer than we buffer.
    #[error("a packet of {found} bytes, more than {max}")]
    TooLarge {
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Not as the standard says.
    #[error("a malformed packet (first byte 0x{first:02x})")]
    Malformed {
        /// The first byte of the packet.
        first: u8,
    },
}

/// What a broker sends.
#[derive(Debug, PartialEq)]
pub enum Inbound<'a> {
    /// The answer to CONNECT: 0, or why not [MQTT-3.2.2-3].
    ConnAck {
        /// The return code.
        code: u8,
    },
    /// A message.
    Publish(InPublish<'a>),
    /// The answer to SUBSCRIBE: for each filter the QoS, or 0x80 for a refusal.
    SubAck {
        /// Whether any of the filters was refused.
        refused: bool,
        /// Which SUBSCRIBE it answers.
        id: u16,
    },
    /// The answer to UNSUBSCRIBE.
    UnsubAck,
    /// The answer to PINGREQ.
    PingResp,
    /// Something a broker may send, and that we need not look at.
    Other,
}

/// A message from the broker, borrowed from the read buffer; the payload is ours to rewrite.
#[derive(Debug, PartialEq)]
pub struct InPublish<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a mut [u8],
    /// Whether the broker had it in store when we subscribed [MQTT-3.3.1-8].
    pub retain: bool,
    /// Which PUBACK the broker waits for; `None` with QoS 0.
    pub id: Option<u16>,
}

/// The length of the packet that `bytes` begin with, `None` where too few are there to tell or the
/// packet is not whole. Refuses what is longer than `max` before it is all there.
pub fn packet_len(bytes: &[u8], max: usize) -> Result<Option<usize>, PacketError> {
    let Some((&first, _)) = bytes.split_first() else {
        return Ok(None);
    };
    match mqttbytes::check(bytes.iter(), max) {
        Ok(header) => Ok(Some(header.frame_length())),
        Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
        Err(mqttbytes::Error::PayloadSizeLimitExceeded(found)) => {
            Err(PacketError::TooLarge { found, max })
        }
        Err(_) => Err(PacketError::Malformed { first }),
    }
}

/// Reads one whole packet.
pub fn decode(packet: &mut [u8]) -> Result<Inbound<'_>, PacketError> {
    let first = packet.first().copied().unwrap_or_default();
    let malformed = PacketError::Malformed { first };
    if first >> 4 == 3 {
        return decode_publish(packet, first)
            .map(Inbound::Publish)
            .ok_or(malformed);
    }
    let mut stream = BytesMut::from(&*packet);
    match v4::read(&mut stream, packet.len()) {
        Ok(v4::Packet::ConnAck(ack)) => Ok(Inbound::ConnAck {
            code: ack.code as u8,
        }),
        Ok(v4::Packet::SubAck(ack)) => Ok(Inbound::SubAck {
            refused: ack.return_codes.contains(&v4::SubscribeReasonCode::Failure),
            id: ack.pkid,
        }),
        Ok(v4::Packet::UnsubAck(_)) => Ok(Inbound::UnsubAck),
        Ok(v4::Packet::PingResp) => Ok(Inbound::PingResp),
        Ok(v4::Packet::PubAck(_) | v4::Packet::PubRec(_) | v4::Packet::PubComp(_)) => {
            Ok(Inbound::Other)
        }
        _ => Err(malformed),
    }
}

fn decode_publish(packet: &mut [u8], first: u8) -> Option<InPublish<'_>> {
    let lengths = packet
        .get(1..)?
        .iter()
        .take(4)
        .take_while(|&&byte| byte & 0x80 != 0)
        .count();
    let body = packet.get_mut(lengths + 2..)?;
    let (topic_len, body) = body.split_first_chunk_mut::<2>()?;
    let (topic, body) = body.split_at_mut_checked(usize::from(u16::from_be_bytes(*topic_len)))?;
    let topic = std::str::from_utf8(topic).ok()?;
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return None;
    }
    let (id, payload) = match (first >> 1) & 3 {
        0 => (None, body),
        1 | 2 => {
            let (id, payload) = body.split_first_chunk_mut::<2>()?;
            (Some(u16::from_be_bytes(*id)), payload)
        }
        _ => return None,
    };
    Some(InPublish {
        topic,
        payload,
        retain: first & 1 != 0,
        id,
    })
}

/// What CONNECT says [MQTT-3.1].
#[derive(Debug, Clone)]
pub struct Connect<'a> {
    /// The client id.
    pub client_id: &'a str,
    /// User and password.
    pub login: Option<(&'a str, &'a str)>,
    /// The ping interval, in seconds.
    pub ping_s: u16,
    /// Topic and payload that the broker publishes, retained, when we are lost.
    pub will: Option<(&'a str, &'a [u8])>,
}

/// Writes CONNECT with a clean session.
pub fn write_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let mut packet = v4::Connect::new(connect.client_id);
    packet.keep_alive = connect.ping_s;
    packet.clean_session = true;
    packet.last_will = connect
        .will
        .map(|(topic, payload)| v4::LastWill::new(topic, payload, QoS::AtLeastOnce, true));
    if let Some((user, password)) = connect.login {
        packet.set_login(user, password);
    }
    append(out, |buffer| packet.write(buffer));
}

/// Writes SUBSCRIBE with QoS 1: what a client sends with QoS 0 comes with QoS 0 all the same.
pub fn write_subscribe(out: &mut Vec<u8>, id: u16, filters: &[String]) {
    let filters = filters
        .iter()
        .map(|filter| v4::SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
    let mut packet = v4::Subscribe::new_many(filters);
    packet.pkid = id;
    append(out, |buffer| packet.write(buffer));
}

/// Writes UNSUBSCRIBE.
pub fn write_unsubscribe(out: &mut Vec<u8>, id: u16, filter: &str) {
    let mut packet = v4::Unsubscribe::new(filter);
    packet.pkid = id;
    append(out, |buffer| packet.write(buffer));
}

/// Writes PUBACK.
pub fn write_puback(out: &mut Vec<u8>, id: u16) {
    append(out, |buffer| v4::PubAck::new(id).write(buffer));
}

/// Writes PINGREQ.
pub fn write_pingreq(out: &mut Vec<u8>) {
    append(out, |buffer| v4::PingReq.write(buffer));
}

/// Writes DISCONNECT.
pub fn write_disconnect(out: &mut Vec<u8>) {
    append(out, |buffer| v4::Disconnect.write(buffer));
}

fn append<E>(out: &mut Vec<u8>, write: impl FnOnce(&mut BytesMut) -> Result<usize, E>) {
    let mut buffer = BytesMut::new();
    // It fails for packet id 0 and lengths beyond the protocol, neither of which we make.
    if write(&mut buffer).is_ok() {
        out.extend_from_slice(&buffer);
    }
}

/// Writes a PUBLISH with QoS 0. The topic comes in parts, and `payload` writes behind what is there.
///
/// The remaining length stands before the payload and takes one to four bytes: one is left for a
/// packet that a number makes short enough, and the packet is moved where that was wrong.
#[inline]
pub fn write_publish(
    out: &mut Vec<u8>,
    retain: bool,
    topic: &[&[u8]; 3],
    payload: impl FnOnce(&mut Vec<u8>),
) {
    /// `{"value": }` around a number of usual length.
    const PAYLOAD_BYTES_USUAL: usize = 30;
    let topic_len: usize = topic.iter().map(|part| part.len()).sum();
    let [high, low] = u16::try_from(topic_len).unwrap_or(u16::MAX).to_be_bytes();
    let first = 0x30 | u8::from(retain);
    let start = out.len();
    let guess = if 2 + topic_len + PAYLOAD_BYTES_USUAL < 128 {
        out.extend_from_slice(&[first, 0, high, low]);
        1
    } else {
        out.extend_from_slice(&[first, 0, 0, high, low]);
        2
    };
    for part in topic {
        out.extend_from_slice(part);
    }
    payload(out);
    let remaining = out.len() - start - 1 - guess;
    if guess == 1
        && let Some(length) = u8::try_from(remaining).ok().filter(|&length| length < 128)
        && let Some(place) = out.get_mut(start + 1)
    {
        *place = length;
        return;
    }
    let (length, used) = remaining_length(remaining);
    let length = length.get(..used).unwrap_or_default();
    if used == guess {
        if let Some(place) = out.get_mut(start + 1..start + 1 + used) {
            place.copy_from_slice(length);
        }
    } else {
        out.splice(start + 1..start + 1 + guess, length.iter().copied());
    }
}

/// The remaining length as it stands in a packet [MQTT-2.2.3], and how many bytes of it count.
fn remaining_length(mut length: usize) -> ([u8; 4], usize) {
    let mut bytes = [0; 4];
    let mut used = 0;
    for byte in &mut bytes {
        used += 1;
        *byte = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        if length == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_equals_that_of_mqttbytes() {
        for topic_len in [1, 3, 40, 94, 95, 96, 97, 98, 120, 1000, 65_535] {
            for payload_len in [
                0, 5, 30, 31, 32, 33, 34, 80, 127, 16_300, 16_383, 16_400, 2_097_152,
            ] {
                let (topic, payload) = ("t".repeat(topic_len), vec![b'p'; payload_len]);
                let mut expected = BytesMut::new();
                let mut publish = v4::Publish::new(&topic, QoS::AtMostOnce, payload.clone());
                publish.retain = true;
                publish.write(&mut expected).unwrap();
                let mut found = b"before".to_vec();
                let parts = topic.as_bytes().split_at(topic_len / 2);
                write_publish(&mut found, true, &[parts.0, b"", parts.1], |out| {
                    out.extend_from_slice(&payload);
                });
                assert!(found[6..] == expected[..], "{topic_len} {payload_len}");
            }
        }
    }

    #[test]
    fn publishes_are_read_where_they_stand() {
        let mut packet = vec![0x33, 9, 0, 3, b'a', b'/', b'b', 0, 7, b'x', b'y'];
        let expected = InPublish {
            topic: "a/b",
            payload: &mut [b'x', b'y'],
            retain: true,
            id: Some(7),
        };
        assert_eq!(packet_len(&packet, 100), Ok(Some(11)));
        assert_eq!(decode(&mut packet), Ok(Inbound::Publish(expected)));
        for bad in [
            &[0x30, 0][..],
            &[0x30, 3, 0, 9, b'a'],
            &[0x30, 3, 0, 1, b'+'],
            &[0x30, 3, 0, 1, 0xff],
            &[0x30, 2, 0, 0],
            &[0x36, 5, 0, 1, b'a', 0, 1],
            &[0x32, 4, 0, 1, b'a', 0],
        ] {
            assert!(decode(&mut bad.to_vec()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lengths_are_known_before_the_packet_is_whole() {
        assert_eq!(packet_len(&[], 100), Ok(None));
        assert_eq!(packet_len(&[0x30], 100), Ok(None));
        assert_eq!(packet_len(&[0x30, 0x80], 100), Ok(None));
        assert_eq!(packet_len(&[0x30, 50, 1], 100), Ok(None));
        assert!(matches!(
            packet_len(&[0x30, 0xff, 0x7f], 100),
            Err(PacketError::TooLarge { .. })
        ));
        assert!(matches!(
            packet_len(&[0x30, 0xff, 0xff, 0xff, 0xff, 1], 100),
            Err(PacketError::Malformed { .. })
        ));
    }

    #[test]
    fn control_packets_are_those_of_the_standard() {
        let mut out = vec![0xaa];
        let connect = Connect {
            client_id: "c",
            login: Some(("u", "p")),
            ping_s: 30,
            will: Some(("w", b"off")),
        };
        write_connect(&mut out, &connect);
        assert_eq!(
            out,
            b"\xaa\x10\x1b\x00\x04MQTT\x04\xee\x00\x1e\x00\x01c\x00\x01w\x00\x03off\x00\x01u\x00\x01p"
        );
        out.clear();
        let plain = Connect {
            login: None,
            will: None,
            ..connect
        };
        write_connect(&mut out, &plain);
        assert_eq!(out, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x1e\x00\x01c");
        out.clear();
        write_subscribe(&mut out, 1, &["a/#".into(), "b".into()]);
        assert_eq!(out, b"\x82\x0c\x00\x01\x00\x03a/#\x01\x00\x01b\x01");
        out.clear();
        write_unsubscribe(&mut out, 2, "a/#");
        assert_eq!(out, b"\xa2\x07\x00\x02\x00\x03a/#");
        assert_eq!(
            decode(&mut [0x20, 2, 0, 5]),
            Ok(Inbound::ConnAck { code: 5 })
        );
        assert_eq!(
            decode(&mut [0x90, 4, 0, 1, 1, 0x80]),
            Ok(Inbound::SubAck {
                refused: true,
                id: 1
            })
        );
        assert_eq!(decode(&mut [0xd0, 0]), Ok(Inbound::PingResp));
        assert!(decode(&mut [0xf0, 0]).is_err());
    }
}
