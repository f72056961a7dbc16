//! MQTT 3.1.1.
//!
//! mqttbytes reads and writes every packet but PUBLISH: its `Publish` owns topic and payload, and
//! ours are in the read buffer, or made in the write buffer. Its faults that touch us are guarded
//! here and in the parent: it writes a CONNECT wrong into a buffer that is not empty, and it takes
//! flags and topics that MQTT forbids.

use bytes::BytesMut;
use mqttbytes::QoS;
use mqttbytes::v4;

use super::parts::{
    ConnAck, Connect, InPublish, Inbound, PAYLOAD_BYTES_USUAL, PacketError, Reason, Version,
    append, head_len, is_topic, set_length,
};

/// Reads one whole packet.
pub fn decode(packet: &mut [u8]) -> Result<Inbound<'_>, PacketError> {
    let first = packet.first().copied().unwrap_or_default();
    let malformed = PacketError::Malformed { first };
    if first >> 4 == 3 {
        return decode_publish(packet, first)
            .map(Inbound::Publish)
            .ok_or(malformed);
    }
    // What is reserved must be as the standard has it [MQTT-2.2.2-2].
    if first & 0x0f != 0 {
        return Err(malformed);
    }
    let mut stream = BytesMut::from(&*packet);
    match v4::read(&mut stream, packet.len()) {
        Ok(v4::Packet::ConnAck(ack)) => Ok(Inbound::ConnAck(ConnAck {
            form: Version::V3,
            farewell: Reason {
                code: ack.code as u8,
                ..Reason::default()
            },
            ..ConnAck::default()
        })),
        Ok(v4::Packet::SubAck(ack)) => {
            let refused = ack.return_codes.contains(&v4::SubscribeReasonCode::Failure);
            Ok(Inbound::SubAck {
                refused: refused.then_some(0x80),
                id: ack.pkid,
            })
        }
        Ok(v4::Packet::UnsubAck(_)) => Ok(Inbound::UnsubAck),
        Ok(v4::Packet::PingResp) => Ok(Inbound::PingResp),
        Ok(v4::Packet::PubAck(_) | v4::Packet::PubRec(_) | v4::Packet::PubComp(_)) => {
            Ok(Inbound::Other)
        }
        _ => Err(malformed),
    }
}

fn decode_publish(packet: &mut [u8], first: u8) -> Option<InPublish<'_>> {
    let head = head_len(packet);
    let body = packet.get_mut(head..)?;
    let (topic_len, body) = body.split_first_chunk_mut::<2>()?;
    let (topic, body) = body.split_at_mut_checked(usize::from(u16::from_be_bytes(*topic_len)))?;
    let topic = std::str::from_utf8(topic).ok()?;
    if !is_topic(topic) {
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
        respond_to: None,
    })
}

/// Writes CONNECT with a clean session.
pub fn write_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let mut packet = v4::Connect::new(connect.client_id);
    packet.keep_alive = connect.ping_s;
    packet.clean_session = true;
    let qos = connect.will_qos();
    packet.last_will = connect
        .will
        .map(|(topic, payload)| v4::LastWill::new(topic, payload, qos, !connect.plain_will));
    if let Some((user, password)) = connect.login {
        packet.set_login(user, password);
    }
    append(out, |buffer| packet.write(buffer));
}

/// Writes SUBSCRIBE. With QoS 1 what a client sends with QoS 0 comes with QoS 0 all the same.
pub fn write_subscribe(out: &mut Vec<u8>, id: u16, filters: &[String], qos: QoS) {
    let filters = filters
        .iter()
        .map(|filter| v4::SubscribeFilter::new(filter.clone(), qos));
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

/// Writes a PUBLISH with QoS 0. The topic comes in parts, and `payload` writes behind what is there.
#[inline]
pub fn write_publish(
    out: &mut Vec<u8>,
    retain: bool,
    topic: &[&[u8]; 3],
    payload: impl FnOnce(&mut Vec<u8>),
) {
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
    set_length(out, start, guess);
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
            respond_to: None,
        };
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
    fn control_packets_are_those_of_the_standard() {
        let mut out = vec![0xaa];
        let connect = Connect {
            client_id: "c",
            login: Some(("u", "p")),
            ping_s: 30,
            will: Some(("w", b"off")),
            plain_will: false,
            kept_s: 0,
            clean_start: true,
            packet_bytes_max: 1000,
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
        write_subscribe(&mut out, 1, &["a/#".into(), "b".into()], QoS::AtLeastOnce);
        assert_eq!(out, b"\x82\x0c\x00\x01\x00\x03a/#\x01\x00\x01b\x01");
        out.clear();
        write_unsubscribe(&mut out, 2, "a/#");
        assert_eq!(out, b"\xa2\x07\x00\x02\x00\x03a/#");
        assert!(matches!(
            decode(&mut [0x20, 2, 0, 5]),
            Ok(Inbound::ConnAck(ConnAck {
                form: Version::V3,
                farewell: Reason { code: 5, .. },
                ..
            }))
        ));
        assert_eq!(
            decode(&mut [0x90, 4, 0, 1, 1, 0x80]),
            Ok(Inbound::SubAck {
                refused: Some(0x80),
                id: 1
            })
        );
        assert_eq!(decode(&mut [0xd0, 0]), Ok(Inbound::PingResp));
        for bad in [&mut [0xf0, 0][..], &mut [0xd1, 0], &mut [0x22, 2, 0, 0]] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
    }
}
