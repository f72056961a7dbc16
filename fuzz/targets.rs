//! What the fuzzers do with their bytes: `cargo +nightly fuzz run bridge_ops -- -max_total_time=60`.
//!
//! `tests/core/corpus.rs` includes this file by path, and replays the seeds on stable.
#![allow(
    dead_code, // not everyone includes all of it
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::wildcard_enum_match_arm, // a reference says what it takes, and nothing else
    unused_imports
)]

#[path = "targets/config.rs"]
mod config;
#[path = "targets/names.rs"]
mod names;
#[path = "targets/requests.rs"]
mod requests;
#[cfg(feature = "listen")]
#[path = "targets/serve.rs"]
mod serve;

use std::time::Duration;

pub use config::{config_file, config_schema};
pub use names::names;
pub use requests::{payload, topic, write_payload};
#[cfg(feature = "listen")]
pub use serve::client_stream;

use dbus_mqtt::bridge::calls::Method;
use dbus_mqtt::bridge::{Bridge, PublishSink};
use dbus_mqtt::codec::bus_item::{self, Changes};
use dbus_mqtt::codec::packet::{self, Inbound, QoS, RespondTo, Version, v5};
use dbus_mqtt::codec::{frame, introspect, payload as json};
use dbus_mqtt::link::session::{LinkError, Session, SessionConfig};
use dbus_mqtt::model::item::ItemChange;

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

/// The service whose messages `bus_body` makes up.
const SERVICE: &str = "com.victronenergy.battery.fuzz";

/// A body, read in all the ways in which bodies are. The first byte chooses signature and byte order;
/// from 240 on, the signature is in the bytes too, behind its length.
pub fn bus_body(data: &[u8]) {
    let Some((&first, body)) = data.split_first() else {
        return;
    };
    // As a message of its own.
    message(body);
    let (signature, body) = match body.split_first() {
        Some((&len, rest)) if first >= 240 => {
            let (signature, rest) = rest.split_at(usize::from(len).min(rest.len()));
            let Ok(signature) = std::str::from_utf8(signature) else {
                return;
            };
            (signature, rest)
        }
        _ => (SIGNATURES[usize::from(first >> 1) % SIGNATURES.len()], body),
    };
    let whole = |member: &str, reply_serial| {
        let message = Message {
            kind: if reply_serial == 0 { 4 } else { 2 },
            serial: 1,
            reply_serial,
            path: "/Dc/0/Voltage".into(),
            interface: frame::INTERFACE.into(),
            member: member.into(),
            sender: ":1.42".into(),
            big_endian: first & 1 == 1,
            ..Message::default()
        };
        message.with_raw(signature, body).encode()
    };
    for bytes in [
        whole("ItemsChanged", 0),
        whole("PropertiesChanged", 0),
        whole("", 1 << 31),
    ] {
        assert_eq!(frame::frame_len(&bytes), Ok(Some(bytes.len())));
        message(&bytes);
    }
    converse(&whole);
}

/// A service that answers all it is asked with these bytes, and then signals them: a broker that wants
/// everything is sent topics and JSON, and nothing else.
fn converse(whole: &dyn Fn(&str, u32) -> Vec<u8>) {
    let mut bridge = Bridge::new(frames::config(vec![frames::outlet(true, None)]));
    let now = frames::now();
    bridge.broker_connected(0);
    bridge.broker_ready(now, 0);
    bridge.bus_connected(now);
    // Those of the bus first.
    frames::answer_all(&mut bridge, now, &[]);
    let appears = frames::name_owner_changed(SERVICE, "", ":1.42");
    frames::feed(&mut bridge, now, &appears);
    let mut calls = 0;
    while let Some(call) = bridge.poll_call() {
        let known = frames::Device {
            name: SERVICE.into(),
            owner: ":1.42".into(),
            ..frames::Device::default()
        };
        let answer = match call.method {
            // What comes before the answer is not lost.
            Method::GetItems | Method::GetValue | Method::Introspect if calls < 50 => {
                hear(&mut bridge, &whole("ItemsChanged", 0));
                whole("", call.id.serial())
            }
            _ => frames::answer(&call, &[known]),
        };
        calls += 1;
        hear(&mut bridge, &answer);
    }
    for member in ["ItemsChanged", "PropertiesChanged"] {
        hear(&mut bridge, &whole(member, 0));
    }
    while bridge.poll_publish(now, 0, &mut Published) {}
    hear(
        &mut bridge,
        &frames::name_owner_changed(SERVICE, ":1.42", ""),
    );
    while bridge.poll_publish(now, 0, &mut Published) {}
    assert_eq!(bridge.size(), (0, 0), "all of it left");
}

fn hear(bridge: &mut Bridge, bytes: &[u8]) {
    if let Ok(frame) = frame::parse(bytes) {
        bridge.bus_frame(frames::now(), &frame);
    }
}

/// Holds what is published against the grammar of topics and payloads (§1, §3, §4.7).
struct Published;

impl PublishSink for Published {
    fn publish(&mut self, _: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let topic = String::from_utf8(topic.concat()).unwrap();
        assert!(topic.starts_with(&format!("N/{}/", frames::PORTAL)));
        assert!(!topic.contains(['+', '#', '\0']), "{topic:?}");
        assert!(!topic.split('/').any(str::is_empty), "{topic:?}");
        let mut out = Vec::new();
        payload(&mut out);
        if !out.is_empty() {
            assert!(out.starts_with(b"{\"value\": ") && out.ends_with(b"}"));
            assert_json(&out);
        }
    }
}

/// A whole message, or what is none.
pub fn message(bytes: &[u8]) {
    // Its length is known from its first bytes, and no further ones change it.
    let len = frame::frame_len(bytes);
    for end in [0, 1, 4, 8, 12, 15, 16, 17, bytes.len() / 2] {
        match frame::frame_len(&bytes[..end.min(bytes.len())]) {
            Ok(None) => {}
            found => assert_eq!(found, len),
        }
    }
    let header = frame::parse_header(bytes).is_ok();
    let Ok(frame) = frame::parse(bytes) else {
        return;
    };
    let whole = matches!(len, Ok(Some(len)) if len <= bytes.len());
    assert!(header && whole, "{len:?}");
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
        json::write_value(&mut out, &value);
        assert_json(&out);
    }
}

fn assert_json(text: &[u8]) {
    // Deeper than the reader goes is still written.
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(text) {
        assert!(
            error.to_string().starts_with("recursion limit"),
            "{error}: {}",
            String::from_utf8_lossy(text)
        );
    }
}

/// A stream of a broker, in both versions of MQTT: the same at once, piece by piece, and in pieces of
/// any lengths.
pub fn mqtt_stream(data: &[u8]) {
    let first = usize::from(data.first().copied().unwrap_or_default());
    let even = [1 + first % 7];
    // As uneven as the bytes themselves.
    let uneven: Vec<_> = data.iter().map(|byte| 1 + usize::from(byte % 61)).collect();
    for version in [Version::V3, Version::V5] {
        let at_once = [data.len().max(1)];
        let (found, talk) = (
            packets(version, data, &at_once),
            conversation(version, data, &at_once),
        );
        for pieces in [&even[..], &uneven] {
            if pieces.is_empty() {
                continue;
            }
            assert_eq!(found, packets(version, data, pieces));
            assert_eq!(talk, conversation(version, data, pieces));
        }
    }
}

/// The packets of the stream, and whether it ends in an error.
fn packets(version: Version, data: &[u8], pieces: &[usize]) -> (Vec<String>, bool) {
    let mut found = Vec::new();
    let whole = each_packet(data, pieces, |packet| {
        let packet = packet::decode_as(version, packet).map_err(|_| ())?;
        found.push(describe(version, &packet));
        Ok(())
    });
    (found, whole.is_err())
}

/// What a session makes of the stream, what it answers, and how it ends.
fn conversation(version: Version, data: &[u8], pieces: &[usize]) -> (Vec<String>, Vec<u8>, String) {
    let config = SessionConfig {
        version,
        client_id: "fuzz".into(),
        login: None,
        ping: Duration::from_secs(30),
        will_topic: "N/x/bridge/status".into(),
        will_payload: Vec::new(),
        subscribe_qos: QoS::AtLeastOnce,
        plain_will: false,
        kept: Duration::ZERO,
        clean_start: true,
        is_reconnect: false,
        packet_bytes_max: 1 << 16,
        request_filters: vec!["R/x/#".into(), "W/x/#".into()],
        retained_filters: vec!["N/x/#".into()],
        notice_filters: vec!["homeassistant/status".into()],
        watch_filter: "N/x/#".into(),
        online_payload: b"{}".to_vec(),
    };
    let now = frames::now().monotonic;
    let (mut out, mut events) = (Vec::new(), Vec::new());
    let mut session = Session::open(config, now, &mut out);
    let mut end = String::new();
    let whole = each_packet(data, pieces, |packet| {
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

/// Takes the stream apart as the shell does, so many bytes at a time, in turn.
fn each_packet(
    mut data: &[u8],
    pieces: &[usize],
    mut each: impl FnMut(&mut [u8]) -> Result<(), ()>,
) -> Result<(), ()> {
    let mut buffer = Vec::new();
    for &step in pieces.iter().cycle() {
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
            break;
        }
    }
    Ok(())
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

/// Any interleaving of what bus, clients, brokers and time can do.
pub fn bridge_ops(data: &[u8]) {
    let (steps, _) = data.as_chunks::<4>();
    let steps: &[Step] = steps.get(..200).unwrap_or(steps);
    frames::model::run(steps);
}
