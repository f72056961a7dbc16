//! The copy ledger, held to: from a signal in the read buffer to a PUBLISH in the write buffer, a
//! number, a boolean or an invalid value allocates nothing.
//!
//! Allocations are counted by the global allocator of allocation-counter, in this thread only, so
//! that neither this repository needs `unsafe` nor the test harness is counted.

use std::time::Duration;

use crate::frames::wire::{V, s};
use crate::frames::{Change, Device, Packets, Packets5};
use allocation_counter::measure;
use dbus_mqtt::bridge::{Bridge, OutletConfig};
use dbus_mqtt::link::aliases::Aliases;
use dbus_mqtt::model::throttle::ThrottleRule;
use dbus_mqtt::model::time::Now;

/// Takes each signal in, and what it has the broker sent.
fn play(bridge: &mut Bridge, now: Now, signals: &[Vec<u8>], packets: &mut Packets) {
    for signal in signals {
        crate::frames::feed(bridge, now, signal);
        packets.out.clear();
        while bridge.poll_publish(now, 0, packets) {}
    }
}

/// How many allocations and messages one more round of the signals makes, after one that had the
/// tables grow.
fn count(device: &Device, signals: &[Vec<u8>]) -> (u64, usize) {
    let (mut bridge, now) = crate::frames::live_bridge(std::slice::from_ref(device));
    let mut packets = Packets::with_room();
    play(&mut bridge, now, signals, &mut packets);
    packets.count = 0;
    let info = measure(|| play(&mut bridge, now, signals, &mut packets));
    (info.count_total, packets.count)
}

fn plain(change: &Change) -> bool {
    crate::frames::is_plain(&change.value)
}

/// Every recorded device, or a made-up one where there are no recordings.
fn devices() -> Vec<Device> {
    let mut devices: Vec<_> = crate::frames::recordings()
        .iter()
        .map(|file| crate::frames::load(file))
        .collect();
    if devices.is_empty() {
        devices.push(crate::frames::made_up("vebus", 300));
    }
    devices
}

#[test]
fn the_counter_counts() {
    let info = measure(|| drop(std::hint::black_box(vec![1_u8; 100])));
    assert_eq!(info.count_total, 1);
}

#[test]
fn a_plain_value_goes_from_signal_to_publish_without_an_allocation() {
    let (mut signals, mut messages) = (0, 0);
    for device in devices() {
        for frames in [device.single_signals(plain), device.burst_signals(plain)] {
            let (allocations, published) = count(&device, &frames);
            assert_eq!(allocations, 0, "{}", device.name);
            assert!(
                published >= frames.len() || frames.is_empty(),
                "{}: {published}",
                device.name
            );
            signals += frames.len();
            messages += published;
        }
    }
    println!("{signals} signals became {messages} messages with no allocation");
    assert!(messages > 1_000);
}

#[test]
fn a_value_with_limits_allocates_nothing_where_they_stay() {
    let device = Device {
        items: vec![
            ("/Mode".into(), V::I(1)),
            ("/DeviceInstance".into(), V::I(5)),
        ],
        ..crate::frames::made_up("vebus", 0)
    };
    let (mut bridge, now) = crate::frames::live_bridge(std::slice::from_ref(&device));
    let limits = [("Min", V::I(0)), ("Max", V::I(9)), ("Value", V::I(1))];
    let set = crate::frames::properties_changed(&device.owner, "/Mode", limits);
    let changes: Vec<_> = (0..100)
        .map(|n| {
            crate::frames::properties_changed(&device.owner, "/Mode", [("Value", V::I(n % 10))])
        })
        .collect();
    let mut packets = Packets::with_room();
    play(&mut bridge, now, &[set], &mut packets);
    let written = String::from_utf8_lossy(&packets.out).into_owned();
    assert!(
        written.ends_with(r#"{"value": 1, "min": 0, "max": 9}"#),
        "{written}"
    );
    play(&mut bridge, now, &changes, &mut packets);
    let info = measure(|| play(&mut bridge, now, &changes, &mut packets));
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_value_that_is_held_back_allocates_nothing() {
    let rule = ["#", "5s", "0.1"];
    let outlet = OutletConfig {
        throttle: vec![ThrottleRule::parse(rule[0], rule[1], rule[2]).unwrap()],
        ..crate::frames::outlet(true, None)
    };
    for device in devices() {
        let devices = std::slice::from_ref(&device);
        let (mut bridge, mut now) = crate::frames::live_bridge_with(devices, outlet.clone());
        let signals = device.single_signals(plain);
        let mut packets = Packets::with_room();
        let mut round = |bridge: &mut Bridge, packets: &mut Packets| {
            now = now.later(Duration::from_secs(7));
            for signal in &signals {
                play(bridge, now, std::slice::from_ref(signal), packets);
            }
            bridge.tick(now);
            play(bridge, now, &[], packets);
            now
        };
        for _ in 0..3 {
            let now = round(&mut bridge, &mut packets);
            // For a path that only signals have the service is scanned again, some seconds later.
            crate::frames::answer_all(&mut bridge, now, devices);
        }
        let info = measure(|| _ = round(&mut bridge, &mut packets));
        assert_eq!(info.count_total, 0, "{}", device.name);
    }
}

/// Numbers for topics, and an expiry on each value, come out of tables that stand.
#[test]
fn mqtt_5_with_all_it_offers_allocates_nothing() {
    for (device, max) in devices()
        .into_iter()
        .zip([10, u16::MAX].into_iter().cycle())
    {
        let (mut bridge, now) = crate::frames::live_bridge(std::slice::from_ref(&device));
        let signals = device.single_signals(plain);
        let mut packets = Packets5 {
            out: Vec::with_capacity(1 << 20),
            count: 0,
            aliases: Aliases::new(max),
            expiry_s: Some(600),
        };
        let mut round = |packets: &mut Packets5| {
            for signal in &signals {
                crate::frames::feed(&mut bridge, now, signal);
                packets.out.clear();
                while bridge.poll_publish(now, 0, packets) {}
            }
        };
        // Twice: a topic gets its number when it comes again.
        round(&mut packets);
        round(&mut packets);
        packets.count = 0;
        let info = measure(|| round(&mut packets));
        assert_eq!(info.count_total, 0, "{}", device.name);
        assert!(packets.count >= signals.len(), "{}", device.name);
    }
}

#[test]
fn a_signal_that_is_not_ours_allocates_nothing() {
    let device = crate::frames::made_up("vebus", 100);
    let stranger = Device {
        owner: ":1.43".into(),
        ..device.clone()
    };
    let (allocations, published) = count(&device, &stranger.single_signals(plain));
    assert_eq!((allocations, published), (0, 0));
}

/// Texts are rare in changes and live beside the slots: a few allocations, however long they are.
#[test]
fn a_text_allocates_little() {
    const ALLOCATIONS_MAX: u64 = 5;
    let device = Device {
        items: vec![
            ("/CustomName".into(), s("a")),
            ("/DeviceInstance".into(), V::I(5)),
        ],
        ..crate::frames::made_up("battery", 0)
    };
    let signals: Vec<_> = (0..100)
        .map(|n| {
            let text = s(&"x".repeat(10 + n * 20));
            crate::frames::properties_changed(&device.owner, "/CustomName", [("Value", text)])
        })
        .collect();
    let (allocations, published) = count(&device, &signals);
    println!("{allocations} allocations for {published} texts");
    assert_eq!(published, 100);
    assert!(allocations <= 100 * ALLOCATIONS_MAX, "{allocations}");
}
