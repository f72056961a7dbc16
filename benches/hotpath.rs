//! The hot path, step by step and as a whole, on a recorded device: `cargo bench --bench hotpath`.
//!
//! Which recording that is, is printed first. Samples are few, so that all of it takes two minutes at
//! most; a claim of speed wants more of them (`-- --sample-size 100`).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods // benches have clocks
)]

mod common;
#[path = "../tests/frames/mod.rs"]
mod frames;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dbus_mqtt::bridge::{Bridge, OutletConfig};
use dbus_mqtt::codec::bus_item::Changes;
use dbus_mqtt::codec::request::RequestReader;
use dbus_mqtt::codec::{frame, packet, payload};
use dbus_mqtt::model::request::{KeepAlive, Request};
use dbus_mqtt::model::time::Now;

use common::{double, ten};
use frames::{Device, Packets};

const MINUTE: Duration = Duration::from_secs(60);

/// `PropertiesChanged` with one double and its text, and `ItemsChanged` with ten items.
fn two_signals() -> [(&'static str, Vec<u8>); 2] {
    [
        ("PropertiesChanged, 1 item", double(229.37)),
        ("ItemsChanged, 10 items", ten(229.37)),
    ]
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for (name, bytes) in two_signals() {
        group.bench_function(name, |b| {
            b.iter(|| {
                let frame = frame::parse(black_box(&bytes)).unwrap();
                let changes = Changes::of_signal(&frame).unwrap().unwrap();
                changes.fold(0, |count, change| {
                    black_box(change.unwrap());
                    count + 1
                })
            });
        });
    }
    group.finish();
}

/// A signal into the cache; nobody is alive, so nothing is queued.
fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply");
    let now = frames::now();
    let mut bridge = Bridge::new(frames::config(vec![frames::outlet(true, Some(MINUTE))]));
    bridge.bus_connected(now);
    frames::answer_all(&mut bridge, now, &[common::device()]);
    for (name, bytes) in two_signals() {
        group.bench_function(name, |b| {
            b.iter(|| frames::feed(&mut bridge, now, black_box(&bytes)));
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let topic: [&[u8]; 3] = [b"N/c0619ab12345/", b"vebus/257", b"/Ac/Out/L1/V"];
    let mut out = Vec::with_capacity(4096);
    for (name, value) in [("double", 229.37), ("integral double", 936.0)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                packet::write_publish(&mut out, true, black_box(&topic), |out| {
                    out.extend_from_slice(payload::HEAD);
                    payload::write_double(out, black_box(value));
                    out.push(b'}');
                });
                out.len()
            });
        });
    }
    group.bench_function("integer", |b| {
        b.iter(|| {
            out.clear();
            packet::write_publish(&mut out, true, black_box(&topic), |out| {
                out.extend_from_slice(payload::HEAD);
                payload::write_int(out, black_box(-2734));
                out.push(b'}');
            });
            out.len()
        });
    });
    group.finish();
}

/// All of it, over every change of a recorded device: bytes of a signal to bytes of PUBLISH.
fn signal_to_publish(c: &mut Criterion) {
    let device = frames::busy_device();
    let mut group = c.benchmark_group("signal_to_publish");
    let kinds = [
        ("PropertiesChanged", device.single_signals(|_| true)),
        ("ItemsChanged", device.burst_signals(|_| true)),
    ];
    for (name, signals) in kinds {
        let (mut bridge, now) = frames::live_bridge(std::slice::from_ref(&device));
        let mut packets = Packets::with_room();
        group.throughput(Throughput::Elements(device.changes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                for signal in &signals {
                    common::take(&mut bridge, now, signal, &mut packets);
                }
            });
        });
    }
    group.finish();
}

/// A bridge with a large system, and a broker whose clients have asked for nothing yet.
fn large_bridge(system: &[Device], outlet: OutletConfig) -> (Bridge, Now) {
    let now = frames::now();
    let mut bridge = Bridge::new(frames::config(vec![outlet]));
    bridge.bus_connected(now);
    frames::answer_all(&mut bridge, now, system);
    bridge.broker_connected(0);
    bridge.broker_ready(now, 0);
    frames::drain(&mut bridge, now, 0);
    assert_eq!(bridge.size().0, 10);
    (bridge, now)
}

fn keep_alive(bridge: &mut Bridge, now: Now, keep_alive: KeepAlive) {
    let topic = format!("R/{}/keepalive", frames::PORTAL);
    bridge.request(now, 0, &topic, Ok(Request::KeepAlive(keep_alive)), false);
}

fn full_republish(c: &mut Criterion) {
    let system = frames::large_system(3_000);
    let (mut bridge, mut now) = large_bridge(&system, frames::outlet(true, Some(MINUTE)));
    let mut packets = Packets::with_room();
    let mut group = c.benchmark_group("full_republish_3000");
    group.throughput(Throughput::Elements(3_000));
    group.bench_function("items", |b| {
        b.iter(|| {
            // At most three are made a second.
            now = now.later(Duration::from_millis(400));
            let full = KeepAlive::Full {
                echo: None,
                suppress_republish: false,
            };
            keep_alive(&mut bridge, now, full);
            packets.out.clear();
            packets.count = 0;
            while bridge.poll_publish(now, 0, &mut packets) {}
            assert!(packets.count >= 3_001, "{}", packets.count);
        });
    });
    group.finish();
}

fn request_parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("request_parse");
    let portal = frames::portal();
    let mut reader = RequestReader::new(65_536);
    let echo = r#"{"keepalive-options": [{"full-publish-completed-echo": "a1b2"}]}"#;
    let filters = r#"["system/#", "battery/+/Soc", "vebus/257/Ac/Out/+/P"]"#;
    for (name, topic, payload) in [
        ("write", "W/c0619ab12345/vebus/257/Mode", r#"{"value": 3}"#),
        ("read", "R/c0619ab12345/vebus/257/Mode", ""),
        ("keep-alive, plain", "R/c0619ab12345/keepalive", ""),
        ("keep-alive, echo", "R/c0619ab12345/keepalive", echo),
        ("keep-alive, filters", "R/c0619ab12345/keepalive", filters),
    ] {
        let mut buffer = Vec::with_capacity(256);
        group.bench_function(name, |b| {
            b.iter(|| {
                buffer.clear();
                buffer.extend_from_slice(payload.as_bytes());
                let request = reader.read(black_box(topic), &mut buffer, &portal);
                assert!(matches!(black_box(request), Some(Ok(_))));
            });
        });
    }
    group.finish();
}

/// A selective keep-alive of a hundred filters against three thousand items: new to the bridge, and
/// renewed, which is what a client does all day (§5.4).
fn filter_match(c: &mut Criterion) {
    let system = frames::large_system(3_000);
    let (mut bridge, start) = large_bridge(&system, frames::outlet(true, Some(MINUTE)));
    let filters = || -> Vec<Box<str>> {
        let one = |n: usize| match n % 4 {
            0 => format!("battery/+/Made/{}/Up{n}", n % 7),
            1 => format!("vebus/5/Made/{}/Up{n}", n % 7),
            2 => format!("+/+/Made/{}/Up{n}", n % 7),
            _ => format!("solarcharger/5/Made/{}/+", n % 7),
        };
        (0..100)
            .map(|n| match n % 4 {
                // Each of its own, though there are but seven branches.
                3 => format!("{}{}", one(n), if n < 50 { "" } else { "/#" }).into(),
                _ => one(n).into(),
            })
            .collect()
    };
    let mut group = c.benchmark_group("filter_match");
    let mut now = start;
    let mut packets = Packets::with_room();
    group.bench_function("100 new filters, 3000 items", |b| {
        b.iter(|| {
            // All have expired.
            now = now.later(2 * MINUTE);
            bridge.tick(now);
            packets.out.clear();
            keep_alive(&mut bridge, now, KeepAlive::Selective(filters()));
            while bridge.poll_publish(now, 0, &mut packets) {}
        });
    });
    group.bench_function("100 renewed filters, 3000 items", |b| {
        b.iter(|| keep_alive(&mut bridge, now, KeepAlive::Selective(filters())));
    });
    group.finish();
}

/// A second in which a hundred new filters come and a hundred expire, against 20,000 items: 20 ms would be
/// 2 % of a core (§5.4).
fn filter_churn(c: &mut Criterion) {
    let system = frames::large_system(20_000);
    let outlet = OutletConfig {
        filters_max: 10_000,
        ..frames::outlet(true, Some(MINUTE))
    };
    let (mut bridge, mut now) = large_bridge(&system, outlet);
    let mut packets = Packets::with_room();
    let mut number = 0_usize;
    let mut second = |bridge: &mut Bridge| {
        for _ in 0..10 {
            now = now.later(MINUTE / 600);
            bridge.tick(now);
            let filters = (0..10).map(|_| {
                number += 1;
                let item = number % 1_999;
                match number % 4 {
                    0 => format!("battery/+/Made/{}/Up{item}", item % 7),
                    1 => format!("+/+/Made/{}/Up{item}", item % 7),
                    2 => format!("vebus/5/Made/{}/{number}", item % 7),
                    _ => format!("tank/5/Made/+/Up{item}/{number}/#"),
                }
            });
            let filters = filters.map(String::into_boxed_str).collect();
            keep_alive(bridge, now, KeepAlive::Selective(filters));
            packets.out.clear();
            while bridge.poll_publish(now, 0, &mut packets) {}
        }
    };
    // Until as many expire as come.
    for _ in 0..70 {
        second(&mut bridge);
    }
    let mut group = c.benchmark_group("filter_churn");
    group.bench_function("100 filters a second, 20000 items", |b| {
        b.iter(|| second(&mut bridge));
    });
    group.finish();
}

criterion_group! {
    name = hotpath;
    config = common::short();
    targets = decode, apply, encode, signal_to_publish, full_republish, request_parse, filter_match, filter_churn
}
criterion_main!(hotpath);
