//! MQTT 5 on the wire, whatever comes: what we write is what another implementation writes, what that
//! writes we read, a stream may be split anywhere, and no byte out of place does more than end a
//! session. Failures print their input, shrunk.

use bytes::{Bytes, BytesMut};
use dbus_mqtt::codec::packet::v5::{self, Extra};
use dbus_mqtt::codec::packet::{Inbound, RespondTo, packet_len};
use mqttbytes::QoS;
use mqttbytes::v5 as reference;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![
        "N/[a-f0-9]{12}/[a-z]{3,12}/[0-9]{1,3}(/[A-Za-z0-9]{1,12}){1,6}",
        "[^+#\0]{1,200}",
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..200), vec(Just(b'x'), 16_200..16_400)]
}

fn words() -> impl Strategy<Value = String> {
    "[^\0]{0,40}"
}

fn user() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((words(), words()), 0..3)
}

/// A message of a client, with whatever may come with it.
fn message() -> impl Strategy<Value = reference::Publish> {
    let properties = (
        option::of(0..2_u8),
        option::of(any::<u32>()),
        option::of("[^+#\0]{1,60}"),
        option::of(vec(any::<u8>(), 0..60)),
        vec(1..268_435_455_usize, 0..2),
        user(),
        option::of(words()),
    );
    (topic(), payload(), any::<bool>(), any::<u16>(), properties).prop_map(
        |(topic, payload, retain, id, properties)| {
            let (format, expiry, response, correlation, subscriptions, user, content) = properties;
            let mut publish = reference::Publish::new(topic, QoS::AtMostOnce, payload);
            publish.retain = retain;
            if id > 0 {
                publish.qos = QoS::AtLeastOnce;
                publish.pkid = id;
            }
            publish.properties = Some(reference::PublishProperties {
                payload_format_indicator: format,
                message_expiry_interval: expiry,
                topic_alias: None,
                response_topic: response,
                correlation_data: correlation.map(Bytes::from),
                user_properties: user,
                subscription_identifiers: subscriptions,
                content_type: content,
            });
            publish
        },
    )
}

fn bytes_of(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    write(&mut buffer);
    buffer.to_vec()
}

fn written(publish: &reference::Publish) -> Vec<u8> {
    bytes_of(|buffer| {
        publish.write(buffer).unwrap();
    })
}

/// What a broker sends in a session that goes well.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let grants = (
        1..=u16::MAX,
        option::of(1..=u32::MAX),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
        words(),
        user(),
    );
    (grants, vec(message(), 0..5), any::<u8>()).prop_map(|(grants, messages, code)| {
        let (receive_max, max_packet_size, topic_alias_max, server_keep_alive, words, user) =
            grants;
        let mut ack = reference::ConnAck::new(reference::ConnectReturnCode::Success, false);
        let mut properties = reference::ConnAckProperties::new();
        properties.receive_max = Some(receive_max);
        properties.max_packet_size = max_packet_size;
        properties.topic_alias_max = topic_alias_max;
        properties.server_keep_alive = server_keep_alive;
        properties.reason_string = Some(words);
        properties.user_properties = user;
        ack.properties = Some(properties);
        let mut stream = bytes_of(|buffer| {
            ack.write(buffer).unwrap();
            for id in [1, 2] {
                let codes = vec![reference::SubscribeReasonCode::QoS1; 2];
                reference::SubAck::new(id, codes).write(buffer).unwrap();
            }
        });
        for message in &messages {
            stream.extend(written(message));
            stream.extend([0xd0, 0]);
        }
        stream.extend([0xe0, 1, code]);
        stream
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_publish_is_that_of_mqttbytes(
        topic in topic(),
        payload in payload(),
        retain in any::<bool>(),
        expiry_s in option::of(any::<u32>()),
        alias in option::of((1..=u16::MAX, any::<bool>())),
        cut in any::<prop::sample::Index>(),
    ) {
        let known = alias.is_some_and(|(_, known)| known);
        let mut theirs = reference::Publish::new(
            if known { "" } else { &topic },
            QoS::AtMostOnce,
            payload.clone(),
        );
        theirs.retain = retain;
        theirs.properties = Some(reference::PublishProperties {
            payload_format_indicator: None,
            message_expiry_interval: expiry_s,
            topic_alias: alias.map(|(alias, _)| alias),
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
            subscription_identifiers: Vec::new(),
            content_type: None,
        });
        let (first, rest) = topic.as_bytes().split_at(cut.index(topic.len() + 1));
        let mut ours = b"before".to_vec();
        let extra = Extra { retain, alias, expiry_s };
        v5::write_publish(&mut ours, extra, &[first, b"", rest], |out| {
            out.extend_from_slice(&payload);
        });
        prop_assert_eq!(&ours[6..], &written(&theirs)[..]);
    }

    #[test]
    fn a_response_comes_back_with_its_correlation_data(
        topic in topic(),
        correlation in vec(any::<u8>(), 0..600),
        payload in payload(),
    ) {
        let to = RespondTo { topic: &topic, correlation: &correlation };
        let mut ours = Vec::new();
        v5::write_response(&mut ours, to, |out| out.extend_from_slice(&payload));
        let mut stream = BytesMut::from(&ours[..]);
        let Ok(reference::Packet::Publish(theirs)) = reference::read(&mut stream, 1 << 20) else {
            return Err(TestCaseError::fail("no PUBLISH"));
        };
        prop_assert_eq!(&theirs.topic, &topic);
        prop_assert_eq!(&theirs.payload[..], &payload[..]);
        let found = theirs.properties.and_then(|properties| properties.correlation_data);
        prop_assert_eq!(found.unwrap_or_default(), correlation);
    }

    #[test]
    fn what_mqttbytes_writes_is_read(message in message()) {
        let mut bytes = written(&message);
        prop_assert_eq!(packet_len(&bytes, 1 << 20), Ok(Some(bytes.len())));
        let Ok(Inbound::Publish(found)) = v5::decode(&mut bytes) else {
            return Err(TestCaseError::fail(format!("{:?}", v5::decode(&mut bytes))));
        };
        prop_assert_eq!(found.topic, &message.topic);
        prop_assert_eq!(&*found.payload, &message.payload[..]);
        prop_assert_eq!(found.retain, message.retain);
        prop_assert_eq!(found.id.unwrap_or_default(), message.pkid);
        let properties = message.properties.unwrap();
        prop_assert_eq!(found.respond_to.map(|to| to.topic), properties.response_topic.as_deref());
        if let Some(to) = found.respond_to {
            prop_assert_eq!(to.correlation, &properties.correlation_data.unwrap_or_default()[..]);
        }
    }

    /// The same events, answers and end, in whatever pieces the bytes come.
    #[test]
    fn a_stream_may_be_split_anywhere(stream in stream(), cut in any::<prop::sample::Index>()) {
        crate::targets::mqtt_stream(&stream);
        // Cut short, and what is left of it: the first byte chooses the pieces.
        let at = cut.index(stream.len());
        crate::targets::mqtt_stream(&stream[..at]);
        crate::targets::mqtt_stream(&stream[at..]);
    }

    /// One byte wrong: perhaps an error, never a panic.
    #[test]
    fn a_damaged_stream_is_taken(
        stream in stream(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut stream = stream;
        let index = at.index(stream.len());
        stream[index] = byte;
        crate::targets::mqtt_stream(&stream);
    }

    /// Bytes behind a head that promises the right length, so that they reach the reader of that type.
    #[test]
    fn a_body_of_any_bytes_is_taken(first in any::<u8>(), body in vec(any::<u8>(), 0..120)) {
        let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
        bytes.extend(body);
        crate::targets::mqtt_stream(&bytes);
        let _ = v5::decode(&mut bytes);
    }
}
