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

use std::time::Duration;

use dbus_mqtt::bridge::{Bridge, PublishSink};
use dbus_mqtt::codec::bus_item::{self, Changes};
use dbus_mqtt::codec::packet::{self, Inbound, RespondTo, Version, v5};
use dbus_mqtt::codec::request::RequestReader;
use dbus_mqtt::codec::{frame, introspect, payload};
use dbus_mqtt::link::session::{LinkError, Session, SessionConfig};
use dbus_mqtt::model::item::ItemChange;
use dbus_mqtt::model::request::ResponseAddress;
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

/// A stream of a broker, in both versions of MQTT: the same at once and piece by piece.
pub fn mqtt_stream(data: &[u8]) {
    let step = 1 + usize::from(data.first().copied().unwrap_or_default()) % 7;
    for version in [Version::V3, Version::V5] {
        let at_once = packets(version, data, data.len());
        assert_eq!(at_once, packets(version, data, step));
        let at_once = conversation(version, data, data.len());
        assert_eq!(at_once, conversation(version, data, step));
    }
}

/// The packets of the stream, and whether it ends in an error.
fn packets(version: Version, data: &[u8], step: usize) -> (Vec<String>, bool) {
    let mut found = Vec::new();
    let whole = each_packet(data, step, |packet| {
        let packet = packet::decode_as(version, packet).map_err(|_| ())?;
        found.push(describe(version, &packet));
        Ok(())
    });
    (found, whole.is_err())
}

/// What a session makes of the stream, what it answers, and how it ends.
fn conversation(version: Version, data: &[u8], step: usize) -> (Vec<String>, Vec<u8>, String) {
    let config = SessionConfig {
        version,
        client_id: "fuzz".into(),
        login: None,
        ping: Duration::from_secs(30),
        will_topic: "N/x/bridge/status".into(),
        will_payload: Vec::new(),
        plain_will: false,
        packet_bytes_max: 1 << 16,
        request_filters: vec!["R/x/#".into(), "W/x/#".into()],
        retained_filters: vec!["N/x/#".into()],
        notice_filters: Vec::new(),
    };
    let now = frames::now().monotonic;
    let (mut out, mut events) = (Vec::new(), Vec::new());
    let mut session = Session::open(config, now, &mut out);
    let mut end = String::new();
    let whole = each_packet(data, step, |packet| {
        let packet = packet::decode_as(version, packet).map_err(LinkError::from);
        let event = packet.and_then(|packet| session.receive(now, packet, &mut out));
        match event {
            Ok(event) => events.push(format!("{event:?}")),
            Err(error) => {
                session.give_up(&error, &mut out);
                end = error.to_string();
                assert!(
                    !end.is_empty() && !end.contains(char::is_control),
                    "{end:?}"
                );
                return Err(());
            }
        }
        Ok(())
    });
    if whole.is_err() && end.is_empty() {
        end = "no packet".into();
    }
    (events, out, end)
}

/// Takes the stream apart as the shell does, so many bytes at a time.
fn each_packet(
    mut data: &[u8],
    step: usize,
    mut each: impl FnMut(&mut [u8]) -> Result<(), ()>,
) -> Result<(), ()> {
    let mut buffer = Vec::new();
    loop {
        let (piece, rest) = data.split_at(step.min(data.len()));
        buffer.extend_from_slice(piece);
        data = rest;
        loop {
            match packet::packet_len(&buffer, PACKET_BYTES_MAX) {
                Ok(Some(len)) if len <= buffer.len() => {
                    let mut whole: Vec<_> = buffer.drain(..len).collect();
                    each(&mut whole)?;
                }
                Ok(Some(len)) => panic!("{len} bytes of {}", buffer.len()),
                Ok(None) => break,
                Err(_) => return Err(()),
            }
        }
        if data.is_empty() {
            return Ok(());
        }
    }
}

fn describe(version: Version, packet: &Inbound<'_>) -> String {
    if let Inbound::Publish(publish) = packet {
        assert!(!publish.topic.is_empty() && !publish.topic.contains(['+', '#', '\0']));
        // What was read can be written, and is read the same.
        let mut out = Vec::new();
        let topic = [publish.topic.as_bytes(), b"", b""];
        let payload = |out: &mut Vec<u8>| out.extend_from_slice(publish.payload);
        match (version, publish.respond_to) {
            (Version::V3, _) => packet::write_publish(&mut out, publish.retain, &topic, payload),
            (Version::V5, None) => {
                v5::write_publish(&mut out, v5::Extra::default(), &topic, payload);
            }
            (Version::V5, Some(to)) => {
                let to = RespondTo {
                    topic: publish.topic,
                    ..to
                };
                v5::write_response(&mut out, to, payload);
            }
        }
        let Ok(Inbound::Publish(again)) = packet::decode_as(version, &mut out) else {
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
        // And again by a client that wants to be told, wherever these bytes say.
        let (head, tail) = data.split_at(data.len() / 2);
        let respond_to = ResponseAddress {
            topic: String::from_utf8_lossy(head).into(),
            correlation: tail.into(),
        };
        bridge.request_from(now, 0, &topic, again, false, Some(respond_to));
    }
    while bridge.poll_publish(now, 0, &mut Answers) {}
}

/// Sees to it that what clients are told is JSON, and told where nobody else listens.
struct Answers;

impl PublishSink for Answers {
    fn publish(&mut self, _: bool, _: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        payload(&mut Vec::new());
    }

    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        assert!(!to.topic.is_empty() && !to.topic.contains(['+', '#', '\0']));
        assert!(
            !["N/", "R/", "W/", "$"]
                .iter()
                .any(|start| to.topic.starts_with(start))
        );
        let mut out = Vec::new();
        payload(&mut out);
        let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(
            told["status"] == "ok" || told["error"].is_string(),
            "{told}"
        );
    }
}

/// Any interleaving of what bus, clients, brokers and time can do.
pub fn bridge_ops(data: &[u8]) {
    let (steps, _) = data.as_chunks::<4>();
    let steps: &[Step] = steps.get(..200).unwrap_or(steps);
    frames::model::run(steps);
}
