//! What must hold of any input: round trips, splits, texts of anybody's making, and any interleaving
//! of what bus, clients, brokers and time can do. Failures print their input, shrunk.

use bytes::BytesMut;
use dbus_mqtt::codec::bus_item::Changes;
use dbus_mqtt::codec::packet::{self, Inbound};
use dbus_mqtt::codec::{frame, payload};
use dbus_mqtt::model::name::is_topic_char;
use dbus_mqtt::model::request::ItemAddress;
use dbus_mqtt::model::topic::{RequestTopic, parse_request};
use mqttbytes::QoS;
use mqttbytes::v4;
use proptest::collection::vec;
use proptest::prelude::*;
use zbus::wire::StructureBuilder;
use zbus::{Array, Dict, ObjectPath, Signature, Str, Structure, Variant};

use crate::frames::json;
use crate::frames::wire::{Message, V, array, s, vardict, variant};

// Values.

/// The D-Bus types that have parts are made of parts of one type, so a type comes first.
fn signature() -> impl Strategy<Value = String> {
    let basic = "[ynqiuxtdbsog]";
    let leaf = prop_oneof![4 => basic, 1 => Just("v".to_owned())];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            inner.clone().prop_map(|element| format!("a{element}")),
            vec(inner.clone(), 1..4).prop_map(|fields| format!("({})", fields.concat())),
            (basic, inner).prop_map(|(key, value)| format!("a{{{key}{value}}}")),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9 ]{0,12}",
        any::<String>().prop_map(|text| text.replace('\0', "")),
        "[\"\\\\\n\r\t\u{1}\u{1f}\u{7f}äß€😀/]{0,6}",
    ]
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<i32>().prop_map(f64::from),
        (any::<i64>(), -30..30_i32).prop_map(|(digits, power)| {
            #[allow(clippy::cast_precision_loss)] // any double will do
            let digits = (digits >> 20) as f64;
            digits * 10_f64.powi(power)
        }),
        (any::<u32>(), 0..6_i32)
            .prop_map(|(digits, places)| f64::from(digits) / 10_f64.powi(places)),
        (0..64_u32).prop_map(|power| 2_f64.powi(power.cast_signed() + 30) - 1.0),
    ]
}

/// Any value of this type.
fn value_of(signature: &str) -> BoxedStrategy<V> {
    let (code, rest) = signature.split_at(1);
    match code {
        "y" => any::<u8>().prop_map(V::Y).boxed(),
        "b" => any::<bool>().prop_map(V::B).boxed(),
        "n" => any::<i16>().prop_map(V::N).boxed(),
        "q" => any::<u16>().prop_map(V::Q).boxed(),
        "i" => any::<i32>().prop_map(V::I).boxed(),
        "u" => any::<u32>().prop_map(V::U).boxed(),
        "x" => any::<i64>().prop_map(V::X).boxed(),
        "t" => any::<u64>().prop_map(V::T).boxed(),
        "d" => double().prop_map(V::D).boxed(),
        "s" => text().prop_map(V::S).boxed(),
        "o" => "(/[a-z0-9_]{1,5}){1,3}".prop_map(V::O).boxed(),
        "g" => "[ynqiuxtdbsog]".prop_map(V::G).boxed(),
        "v" => "[ynqiuxtdbsog]|as|a[{]sv[}]|[(]yv[)]"
            .prop_flat_map(|inner| value_of(&inner))
            .prop_map(variant)
            .boxed(),
        "(" => {
            let fields: Vec<_> = types(&rest[..rest.len() - 1]).map(value_of).collect();
            fields.prop_map(V::Struct).boxed()
        }
        _ if rest.starts_with('{') => {
            let inner = &rest[1..rest.len() - 1];
            let (key, value) = inner.split_at(1);
            let element = rest.to_owned();
            // A dict's keys differ, and zbus sorts them.
            vec((value_of(key), value_of(value)), 0..4)
                .prop_map(move |entries| {
                    let entries = entries
                        .into_iter()
                        .take(1)
                        .map(|entry| V::Entry(Box::new(entry)));
                    array(&element, entries)
                })
                .boxed()
        }
        _ => {
            let element = rest.to_owned();
            vec(value_of(rest), 0..5)
                .prop_map(move |elements| array(&element, elements))
                .boxed()
        }
    }
}

/// The complete types in a signature.
fn types(mut signature: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if signature.is_empty() {
            return None;
        }
        let mut depth = 0;
        let end = signature.find(|c| {
            depth += i32::from(matches!(c, '(' | '{')) - i32::from(matches!(c, ')' | '}'));
            depth == 0 && c != 'a'
        });
        let (first, rest) = signature.split_at(end.unwrap() + 1);
        signature = rest;
        Some(first)
    })
}

fn value() -> impl Strategy<Value = V> {
    signature().prop_flat_map(|signature| value_of(&signature))
}

/// The same value, for zbus to encode.
fn for_zbus(value: &V) -> Variant<'static> {
    let signature = |text: &str| Signature::try_from(text).unwrap();
    match value {
        V::Y(v) => Variant::U8(*v),
        V::B(v) => Variant::Bool(*v),
        V::N(v) => Variant::I16(*v),
        V::Q(v) => Variant::U16(*v),
        V::I(v) => Variant::I32(*v),
        V::U(v) => Variant::U32(*v),
        V::X(v) => Variant::I64(*v),
        V::T(v) => Variant::U64(*v),
        V::D(v) => Variant::F64(*v),
        V::S(v) => Variant::Str(Str::from(v.clone())),
        V::O(v) => Variant::ObjectPath(ObjectPath::try_from(v.clone()).unwrap()),
        V::G(v) => Variant::Signature(signature(v)),
        V::Variant(inner) => Variant::Variant(Box::new(for_zbus(inner))),
        V::Struct(fields) => {
            let fields = fields.iter().map(for_zbus);
            let builder = fields.fold(Structure::builder(), StructureBuilder::append_field);
            Variant::Structure(builder.build().unwrap())
        }
        V::Array(element, elements) if element.starts_with('{') => {
            let (key, value) = element[1..element.len() - 1].split_at(1);
            let mut dict = Dict::new(&signature(key), &signature(value));
            for entry in elements {
                let V::Entry(entry) = entry else { panic!() };
                dict.append(for_zbus(&entry.0), for_zbus(&entry.1)).unwrap();
            }
            Variant::Dict(dict)
        }
        V::Array(element, elements) => {
            let mut array = Array::new(&signature(element));
            for element in elements {
                array.append(for_zbus(element)).unwrap();
            }
            Variant::Array(array)
        }
        V::H(_) | V::Entry(_) => panic!("not on its own"),
    }
}

/// What our codec makes of the value in a message.
fn our_json(bytes: &[u8]) -> String {
    let frame = frame::parse(bytes).unwrap();
    let changes = Changes::of_signal(&frame).unwrap().unwrap();
    let changes: Vec<_> = changes
        .map(|change| change.unwrap().value.unwrap())
        .collect();
    let [value] = &changes[..] else {
        panic!("{} values", changes.len())
    };
    let mut out = Vec::new();
    payload::write_value(&mut out, value);
    String::from_utf8(out).unwrap()
}

/// The same value as serde_json has it: a second reference, equal in meaning and not in bytes.
fn meaning(value: &V) -> serde_json::Value {
    use serde_json::{Value as Json, json};
    match value {
        V::Y(v) => json!(v),
        V::B(v) => json!(v),
        V::N(v) => json!(v),
        V::Q(v) => json!(v),
        V::I(v) => json!(v),
        V::U(v) => json!(v),
        V::X(v) => json!(v),
        V::T(v) => json!(v),
        V::D(v) => json!(v),
        V::S(v) | V::O(v) | V::G(v) => json!(v),
        V::Variant(inner) => meaning(inner),
        V::Struct(fields) => fields.iter().map(meaning).collect(),
        V::Array(_, elements) if elements.is_empty() => Json::Null,
        V::Array(element, elements) if element.starts_with('{') => {
            let entries = elements.iter().map(|entry| {
                let V::Entry(entry) = entry else { panic!() };
                let key = match &entry.0 {
                    V::S(text) | V::O(text) | V::G(text) => text.clone(),
                    V::D(number) => {
                        let mut text = Vec::new();
                        payload::write_double(&mut text, *number);
                        String::from_utf8(text).unwrap()
                    }
                    key => meaning(key).to_string(),
                };
                (key, meaning(&entry.1))
            });
            Json::Object(entries.collect())
        }
        V::Array(_, elements) => elements.iter().map(meaning).collect(),
        V::H(_) | V::Entry(_) => panic!("not on its own"),
    }
}

/// What the payload's text must be; `None` where the live tests' reference does not know: it takes
/// the nearest of the shortest texts, which for some powers of two is not short enough.
fn expected_text(value: &V) -> Option<String> {
    fn is_known(value: &V) -> bool {
        match value {
            V::D(number) => !number.is_finite() || number.to_bits().trailing_zeros() < 52,
            V::Variant(inner) => is_known(inner),
            V::Struct(fields) | V::Array(_, fields) => fields.iter().all(is_known),
            // Its keys are texts, or have none of these.
            V::Entry(entry) => matches!(entry.0, V::S(_)) && is_known(&entry.1),
            _ => true,
        }
    }
    is_known(value).then(|| json::json(value))
}

// Packets.

#[derive(Debug, Clone)]
struct Publish {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
}

fn publish() -> impl Strategy<Value = Publish> {
    let topic = prop_oneof![
        "N/[a-f0-9]{12}/[a-z]{3,12}/[0-9]{1,3}(/[A-Za-z0-9]{1,12}){1,6}",
        "[^+#\0]{1,200}",
    ];
    let payload = prop_oneof![vec(any::<u8>(), 0..200), vec(Just(b'x'), 16_300..16_400)];
    (topic, payload, any::<bool>()).prop_map(|(topic, payload, retain)| Publish {
        topic,
        payload,
        retain,
    })
}

fn written(publish: &Publish, cuts: (usize, usize)) -> Vec<u8> {
    let bytes = publish.topic.as_bytes();
    let first = cuts.0 % (bytes.len() + 1);
    let second = first + cuts.1 % (bytes.len() - first + 1);
    let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
    let mut out = Vec::new();
    packet::write_publish(&mut out, publish.retain, &parts, |out| {
        out.extend_from_slice(&publish.payload);
    });
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s3_any_value_that_zbus_encodes_is_the_json_it_should_be(value in value()) {
        let map = std::collections::HashMap::from([("Value", for_zbus(&value))]);
        let message = zbus::Message::signal("/A/B", "com.victronenergy.BusItem", "PropertiesChanged")
            .sender(":1.42")
            .build(&map)
            .unwrap();
        let ours = our_json(message.data());
        if let Some(expected) = expected_text(&value) {
            prop_assert_eq!(&ours, &expected);
        }
        let read: serde_json::Value = serde_json::from_str(&ours).unwrap();
        prop_assert_eq!(read, meaning(&value));
    }

    #[test]
    fn s3_both_byte_orders_say_the_same(value in value(), big_endian in any::<bool>()) {
        let mut message = Message::signal("/A", "com.victronenergy.BusItem", "PropertiesChanged");
        message.big_endian = big_endian;
        message.serial = 1;
        let message = message.with(&[vardict([("Text", s("?")), ("Value", value.clone())])]);
        let ours = our_json(&message.encode());
        if let Some(expected) = expected_text(&value) {
            prop_assert_eq!(&ours, &expected);
        }
        let read: serde_json::Value = serde_json::from_str(&ours).unwrap();
        prop_assert_eq!(read, meaning(&value));
    }

    #[test]
    fn s3_a_double_reads_back_to_the_same_bits(value in double()) {
        let mut out = Vec::new();
        payload::write_double(&mut out, value);
        let text = String::from_utf8(out).unwrap();
        if let Some(expected) = expected_text(&V::D(value)) {
            prop_assert_eq!(&text, &expected);
        }
        if value.is_finite() {
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
            prop_assert!(text.contains(['.', 'e']));
        }
    }

    #[test]
    fn a_publish_is_that_of_mqttbytes_and_comes_back(
        publish in publish(),
        cuts in any::<(usize, usize)>(),
    ) {
        let mut found = written(&publish, cuts);
        let mut expected = BytesMut::new();
        let mut theirs = v4::Publish::new(&publish.topic, QoS::AtMostOnce, publish.payload.clone());
        theirs.retain = publish.retain;
        theirs.write(&mut expected).unwrap();
        prop_assert_eq!(&found[..], &expected[..]);
        prop_assert_eq!(packet::packet_len(&found, 1 << 20), Ok(Some(found.len())));
        let Ok(Inbound::Publish(back)) = packet::decode(&mut found) else {
            return Err(TestCaseError::fail("no PUBLISH"));
        };
        prop_assert_eq!(back.topic, &publish.topic);
        prop_assert_eq!(&*back.payload, &publish.payload[..]);
        prop_assert_eq!((back.retain, back.id), (publish.retain, None));
    }

    #[test]
    fn a_stream_gives_the_same_packets_wherever_it_is_split(
        publishes in vec(publish(), 0..6),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut stream = Vec::new();
        for publish in &publishes {
            stream.extend_from_slice(&written(publish, (0, 0)));
            stream.extend_from_slice(&[0xd0, 0]);
        }
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let (mut buffer, mut start, mut found) = (Vec::new(), 0, Vec::new());
        for end in ends {
            buffer.extend_from_slice(&stream[start..end]);
            start = end;
            while let Some(len) = packet::packet_len(&buffer, 1 << 20).unwrap() {
                let mut whole: Vec<u8> = buffer.drain(..len).collect();
                if let Inbound::Publish(publish) = packet::decode(&mut whole).unwrap() {
                    found.push((publish.topic.to_owned(), publish.payload.to_vec()));
                }
            }
        }
        prop_assert!(buffer.is_empty());
        let expected: Vec<_> = publishes.into_iter().map(|p| (p.topic, p.payload)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_request_topic_comes_apart_as_it_was_put_together(
        write in any::<bool>(),
        levels in vec("[^/+#\\p{Cc}]{1,8}".prop_filter("characters that topics have", |level| level.chars().all(is_topic_char)), 3..8),
    ) {
        let address = ItemAddress {
            service_type: &levels[0],
            instance: &levels[1],
            path: &format!("/{}", levels[2..].join("/")),
        };
        let rest = format!("{}/{}{}", address.service_type, address.instance, address.path);
        let kind = if write { 'W' } else { 'R' };
        let topic = format!("{kind}/{}/{rest}", crate::frames::PORTAL);
        let expected = match (write, &*rest) {
            (true, _) => RequestTopic::Write(address),
            (false, "system/0/Serial") => RequestTopic::Serial,
            (false, _) => RequestTopic::Read(address),
        };
        prop_assert_eq!(parse_request(&topic, &crate::frames::portal()), Some(Ok(expected)));
    }

    /// Whatever bytes come: an answer, never a panic. The fuzzers look deeper.
    #[test]
    fn any_bytes_are_taken(bytes in vec(any::<u8>(), 0..300)) {
        crate::targets::bus_body(&bytes);
        crate::targets::mqtt_stream(&bytes);
        crate::targets::topic(&bytes);
        crate::targets::payload(&bytes);
    }

    /// A message of the bus with one byte wrong, or cut short, is taken too.
    #[test]
    fn a_damaged_message_is_taken(
        value in value(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = crate::frames::properties_changed(":1.42", "/Soc", [("Value", value)]);
        let index = at.index(bytes.len());
        bytes[index] = byte;
        crate::targets::message(&bytes);
        crate::targets::message(&bytes[..cut.index(bytes.len())]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// However bus, clients, brokers and time interleave: in the end a broker has what the bus has,
    /// and nothing when nobody asks (§4).
    #[test]
    fn brokers_have_what_the_bus_has(steps in vec(any::<[u8; 4]>(), 0..160)) {
        crate::frames::model::run(&steps);
    }
}
