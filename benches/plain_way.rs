//! What each choice buys: our step beside the same step as the libraries offer it, in one group each:
//! `cargo bench --bench plain_way`. Only the ratios within a group count.
//!
//! The plain way is no straw man. It is the one that the documentation of each library shows: zbus
//! hands out a `Message` whose body becomes a map, serde_json writes and reads the payload, mqttbytes
//! has a `Publish` of its own. That map of a message and the JSON differ from ours only in time.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods, // benches have clocks
    clippy::wildcard_enum_match_arm
)]

mod common;
#[path = "../tests/frames/mod.rs"]
mod frames;

use std::collections::HashMap;
use std::future::Future;
use std::hint::black_box;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use common::{OWNER, double, ten};
use criterion::{Criterion, criterion_group, criterion_main};
use dbus_mqtt::codec::bus_item::Changes;
use dbus_mqtt::codec::request::RequestReader;
use dbus_mqtt::codec::{frame, packet, payload};
use frames::Packets;
use mqttbytes::QoS;
use mqttbytes::v4::Publish;
use serde_json::{Value as Json, json};
use zbus::connection::socket::ReadHalf;
use zbus::export::async_trait::async_trait;
use zbus::{Message, Variant};

const DEVICE: &str = "vebus/5";
const RETAIN: bool = true;

fn two_signals() -> [(&'static str, Vec<u8>); 2] {
    [("1 item", double(229.37)), ("10 items", ten(229.37))]
}

/// The bytes of one message, as a socket has them for zbus.
#[derive(Debug)]
struct Wire<'a>(&'a [u8]);

#[async_trait]
impl ReadHalf for Wire<'static> {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.0.read(buffer)?, Vec::new()))
    }
}

/// What zbus does before a message is in a `MessageStream`, without the stream itself.
fn message(bytes: &'static [u8]) -> Message {
    let mut wire = Wire(bytes);
    let (mut surplus, mut fds) = (Vec::new(), Vec::new());
    let message = pin!(wire.receive_message(1, &mut surplus, &mut fds));
    match message.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(message) => message.unwrap(),
        Poll::Pending => panic!("it is all there"),
    }
}

/// The paths of a message, and what it says of each.
fn map<R>(message: &Message, mut each: impl FnMut(&str, &HashMap<&str, Variant<'_>>) -> R) {
    let header = message.header();
    let body = message.body();
    if header.member().unwrap() == "ItemsChanged" {
        let items: HashMap<&str, HashMap<&str, Variant<'_>>> = body.deserialize().unwrap();
        for (path, item) in &items {
            each(path, item);
        }
    } else {
        let item: HashMap<&str, Variant<'_>> = body.deserialize().unwrap();
        each(header.path().unwrap(), &item);
    }
}

fn decode(c: &mut Criterion) {
    for (name, bytes) in two_signals() {
        let bytes: &'static [u8] = bytes.leak();
        let mut group = c.benchmark_group(format!("decode, {name}"));
        group.bench_function("ours", |b| {
            b.iter(|| {
                let frame = frame::parse(black_box(bytes)).unwrap();
                let changes = Changes::of_signal(&frame).unwrap().unwrap();
                changes.for_each(|change| {
                    black_box(change.unwrap());
                });
            });
        });
        group.bench_function("zbus, into maps", |b| {
            b.iter(|| {
                map(&message(black_box(bytes)), |path, item| {
                    black_box((path, item.get("Value")));
                });
            });
        });
        group.finish();
    }
}

fn plain_json(value: &Variant<'_>) -> Json {
    match value {
        Variant::F64(value) => json!(value),
        Variant::I32(value) => json!(value),
        Variant::U32(value) => json!(value),
        Variant::Bool(value) => json!(value),
        Variant::Str(value) => json!(value.as_str()),
        _ => Json::Null,
    }
}

fn plain_publish(out: &mut BytesMut, path: &str, payload: String) {
    let topic = format!("N/{}/{DEVICE}{path}", frames::PORTAL);
    let mut publish = Publish::new(topic, QoS::AtMostOnce, payload);
    publish.retain = RETAIN;
    publish.write(out).unwrap();
}

fn json_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("payload of a double");
    let mut out = Vec::with_capacity(256);
    group.bench_function("ours", |b| {
        b.iter(|| {
            out.clear();
            out.extend_from_slice(payload::HEAD);
            payload::write_double(&mut out, black_box(229.37));
            out.push(b'}');
            out.len()
        });
    });
    group.bench_function("serde_json", |b| {
        b.iter(|| serde_json::to_string(&json!({"value": black_box(229.37)})).unwrap());
    });
    group.finish();
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("PUBLISH around a payload");
    let path = common::SINGLE;
    let topic = [
        "N/c0619ab12345/".as_bytes(),
        DEVICE.as_bytes(),
        path.as_bytes(),
    ];
    let text = r#"{"value": 229.37}"#;
    let mut out = Vec::with_capacity(4096);
    group.bench_function("ours", |b| {
        b.iter(|| {
            out.clear();
            packet::write_publish(&mut out, RETAIN, black_box(&topic), |out| {
                out.extend_from_slice(text.as_bytes());
            });
            out.len()
        });
    });
    let mut out = BytesMut::with_capacity(4096);
    group.bench_function("mqttbytes", |b| {
        b.iter(|| {
            out.clear();
            plain_publish(&mut out, black_box(path), text.to_owned());
            out.len()
        });
    });
    group.finish();
}

fn request(c: &mut Criterion) {
    let portal = frames::portal();
    let mut reader = RequestReader::new(65_536);
    let mut buffer = Vec::with_capacity(256);
    let topic = "W/c0619ab12345/vebus/257/Mode";
    for (name, text) in [
        ("write request", r#"{"value": 3}"#),
        (
            "write request of a list",
            r#"{"value": [1, 2, 3, "four", {"five": 5.5}]}"#,
        ),
    ] {
        let mut group = c.benchmark_group(name);
        group.bench_function("ours", |b| {
            b.iter(|| {
                buffer.clear();
                buffer.extend_from_slice(text.as_bytes());
                let request = reader.read(black_box(topic), &mut buffer, &portal);
                assert!(matches!(black_box(request), Some(Ok(_))));
            });
        });
        group.bench_function("serde_json", |b| {
            b.iter(|| {
                let mut levels = black_box(topic).splitn(5, '/').map(str::to_owned);
                let address: [Option<String>; 5] = std::array::from_fn(|_| levels.next());
                let mut json: Json = serde_json::from_slice(black_box(text.as_bytes())).unwrap();
                let value = json.as_object_mut().unwrap().remove("value").unwrap();
                black_box((address, value));
            });
        });
        group.finish();
    }
}

/// All of it: a signal's bytes in, the bytes of its PUBLISHes out, with a table of values between.
fn signal_to_publish(c: &mut Criterion) {
    for (name, bytes) in two_signals() {
        let bytes: &'static [u8] = bytes.leak();
        let mut group = c.benchmark_group(format!("signal to PUBLISH, {name}"));
        let (mut bridge, now) = frames::live_bridge(&[common::device()]);
        let mut packets = Packets::with_room();
        group.bench_function("ours", |b| {
            b.iter(|| common::take(&mut bridge, now, black_box(bytes), &mut packets));
        });
        let mut values: HashMap<(String, String), Json> = HashMap::new();
        let mut out = BytesMut::with_capacity(4096);
        group.bench_function("plain", |b| {
            b.iter(|| {
                out.clear();
                map(&message(black_box(bytes)), |path, item| {
                    let value = plain_json(&item["Value"]);
                    let text = serde_json::to_string(&json!({"value": value})).unwrap();
                    values.insert((OWNER.to_owned(), path.to_owned()), value);
                    plain_publish(&mut out, path, text);
                });
                out.len()
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = plain_way;
    config = common::short();
    targets = decode, json_out, publish, request, signal_to_publish
}
criterion_main!(plain_way);
