//! What the fuzzers do with their bytes: `cargo +nightly fuzz run bridge_ops -- -max_total_time=60`.
//!
//! `tests/corpus.rs` includes this file by path, and replays the seeds on stable.
#![allow(
    dead_code, // not everyone includes all of it
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

use dbus_mqtt::bridge::Bridge;
use dbus_mqtt::codec::bus_item::{self, Changes};
use dbus_mqtt::codec::packet::{self, Inbound};
use dbus_mqtt::codec::request::RequestReader;
use dbus_mqtt::codec::{frame, introspect, payload};
use dbus_mqtt::model::item::ItemChange;
use dbus_mqtt::model::topic::parse_request;

use crate::frames;
use crate::frames::model::Step;
use crate::frames::wire::Message;

/// Longest packet that `mqtt_stream` takes.
const PACKET_BYTES_MAX: usize = 1 << 16;

/// Signatures of bodies that are read, and of some that are refused.
const SIGNATURES: [&str; 12] = [
    "a{sv}",
    "a{sa{sv}}",
    "v",
    "s",
    "as",
    "sss",
    "i",
    "a{sd}",
    "(iv)",
    "a{yv}",
    "aai",
    "",
];

/// A body, read in all the ways in which bodies are. The first byte chooses signature and byte order.
pub fn bus_body(data: &[u8]) {
    let Some((&first, body)) = data.split_first() else {
        return;
    };
    let signature = SIGNATURES[usize::from(first >> 1) % SIGNATURES.len()];
    for (member, kind) in [("ItemsChanged", 4), ("PropertiesChanged", 4), ("", 2)] {
        let message = Message {
            kind,
            serial: 1,
            reply_serial: u32::from(kind == 2) << 31,
            path: "/Dc/0/Voltage".into(),
            interface: bus_item::INTERFACE.into(),
            member: member.into(),
            sender: ":1.42".into(),
            big_endian: first & 1 == 1,
            ..Message::default()
        };
        message_of(&message.with_raw(signature, body).encode());
    }
    // And as whole messages of their own.
    message(body);
}

fn message_of(bytes: &[u8]) {
    assert_eq!(frame::frame_len(bytes), Ok(Some(bytes.len())));
    message(bytes);
}

/// A whole message, or what is none.
pub fn message(bytes: &[u8]) {
    let _ = frame::frame_len(bytes);
    let _ = frame::parse_header(bytes);
    let Ok(frame) = frame::parse(bytes) else {
        return;
    };
    let changes = [
        Changes::of_signal(&frame).and_then(Result::ok),
        Changes::of_items(&frame).ok(),
        Changes::of_value(&frame, "/Soc").ok(),
        Changes::of_tree(&frame).ok().flatten(),
    ];
    for change in changes
        .into_iter()
        .flatten()
        .flatten()
        .map_while(Result::ok)
    {
        render(&change);
    }
    let _ = bus_item::set_value_code(&frame);
    let _ = bus_item::texts(&frame);
    let _ = bus_item::owner_change(&frame);
    let _ = bus_item::error_message(&frame);
    if let Ok(xml) = bus_item::text(&frame) {
        let _ = introspect::parse(xml);
    }
    let mut bridge = Bridge::new(frames::config(vec![frames::outlet(true, None)]));
    let now = frames::now();
    bridge.bus_connected(now);
    bridge.bus_frame(now, &frame);
}

/// Whatever is decoded is JSON.
fn render(change: &ItemChange<'_>) {
    for value in [change.value, change.min, change.max].into_iter().flatten() {
        let mut out = Vec::new();
        payload::write_value(&mut out, &value);
        // Deeper than the reader goes is still written.
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&out) {
            assert!(
                error.to_string().starts_with("recursion limit"),
                "{error}: {}",
                String::from_utf8_lossy(&out)
            );
        }
    }
}

/// A stream of a broker: the same packets at once and byte by byte.
pub fn mqtt_stream(data: &[u8]) {
    let at_once = packets(data, data.len());
    let piecewise = packets(
        data,
        1 + usize::from(data.first().copied().unwrap_or_default()) % 7,
    );
    assert_eq!(at_once, piecewise);
}

/// The packets of the stream, and whether it ends in an error.
fn packets(mut data: &[u8], step: usize) -> (Vec<String>, bool) {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    loop {
        let (piece, rest) = data.split_at(step.min(data.len()));
        buffer.extend_from_slice(piece);
        data = rest;
        loop {
            match packet::packet_len(&buffer, PACKET_BYTES_MAX) {
                Ok(Some(len)) if len <= buffer.len() => {
                    let mut whole: Vec<_> = buffer.drain(..len).collect();
                    match packet::decode(&mut whole) {
                        Ok(packet) => found.push(describe(&packet)),
                        Err(_) => return (found, true),
                    }
                }
                Ok(Some(len)) => panic!("{len} bytes of {}", buffer.len()),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
        if data.is_empty() {
            return (found, false);
        }
    }
}

fn describe(packet: &Inbound<'_>) -> String {
    if let Inbound::Publish(publish) = packet {
        assert!(!publish.topic.is_empty() && !publish.topic.contains(['+', '#', '\0']));
        // What was read can be written, and is read the same.
        let mut out = Vec::new();
        let topic = [publish.topic.as_bytes(), b"", b""];
        packet::write_publish(&mut out, publish.retain, &topic, |out| {
            out.extend_from_slice(publish.payload);
        });
        let Ok(Inbound::Publish(again)) = packet::decode(&mut out) else {
            panic!("{publish:?}")
        };
        assert_eq!(
            (again.topic, &*again.payload),
            (publish.topic, &*publish.payload)
        );
    }
    format!("{packet:?}")
}

/// A topic of anybody's making.
pub fn topic(data: &[u8]) {
    let portal = frames::portal();
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for topic in [
        text.to_owned(),
        format!("R/{portal}/{text}"),
        format!("W/{portal}/{text}"),
    ] {
        if let Some(Ok(found)) = parse_request(&topic, &portal) {
            use dbus_mqtt::model::topic::RequestTopic::{KeepAlive, Read, Serial, Write};
            match found {
                Read(at) | Write(at) => {
                    let again = format!("/{portal}/{}/{}{}", at.service_type, at.instance, at.path);
                    assert!(topic.ends_with(&again) && topic.len() == again.len() + 1);
                }
                KeepAlive | Serial => assert!(topic.starts_with('R')),
            }
        }
    }
}

/// A payload of anybody's making, under each kind of topic, and what the bridge does with it.
pub fn payload(data: &[u8]) {
    let portal = frames::portal();
    let now = frames::now();
    let mut reader = RequestReader::new(65_536);
    let mut bridge = Bridge::new(frames::config(vec![frames::outlet(true, None)]));
    bridge.broker_connected(0);
    bridge.broker_ready(now, 0);
    for rest in [
        "R/{}/keepalive",
        "R/{}/system/0/Serial",
        "W/{}/vebus/5/Mode",
        "R/{}/tank/0/Level",
    ] {
        let topic = rest.replace("{}", frames::PORTAL);
        let request = reader.read(&topic, &mut data.to_vec(), &portal).unwrap();
        let again = reader.read(&topic, &mut data.to_vec(), &portal).unwrap();
        // Buffers are kept between requests, and nothing else.
        assert_eq!(format!("{request:?}"), format!("{again:?}"));
        bridge.request(now, 0, &topic, request, false);
    }
    frames::drain(&mut bridge, now, 0);
}

/// Any interleaving of what bus, clients, brokers and time can do.
pub fn bridge_ops(data: &[u8]) {
    let (steps, _) = data.as_chunks::<4>();
    let steps: &[Step] = steps.get(..200).unwrap_or(steps);
    frames::model::run(steps);
}
