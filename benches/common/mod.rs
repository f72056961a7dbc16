//! What the benches and the counted workload share: two signals, a device for them, and the way of a
//! signal through the bridge.
#![allow(
    dead_code, // each of them uses its own part of this
    unreachable_pub
)]

use std::time::Duration;

use criterion::Criterion;
use dbus_mqtt::bridge::Bridge;
use dbus_mqtt::codec::frame;
use dbus_mqtt::model::time::Now;

use super::frames::wire::{V, s};
use super::frames::{self, Device, Packets};

/// How many items the larger signal has.
pub const TEN: usize = 10;

/// How many signals differ before they come round again.
const DIFFERENT: u32 = 64;

pub const OWNER: &str = ":1.42";
pub const SINGLE: &str = "/Ac/Out/L1/V";

fn path(n: usize) -> String {
    format!("/Ac/Out/L{n}/Power")
}

/// A device of three hundred items, those of the two signals among them.
pub fn device() -> Device {
    let mut device = frames::made_up("vebus", 300);
    let ten = (0..TEN).map(|n| (path(n), V::D(1.0)));
    device.items.extend(ten);
    device.items.push((SINGLE.into(), V::D(1.0)));
    device
}

/// `PropertiesChanged` with one double and its text.
pub fn double(value: f64) -> Vec<u8> {
    let properties = [("Value", V::D(value)), ("Text", s("229.4V"))];
    frames::properties_changed(OWNER, SINGLE, properties)
}

/// `ItemsChanged` with ten doubles and their texts.
pub fn ten(value: f64) -> Vec<u8> {
    let paths: Vec<_> = (0..TEN).map(path).collect();
    let items = paths.iter().zip(0_u8..);
    frames::items_changed(
        OWNER,
        items.map(|(path, n)| (path.as_str(), V::D(value * 10.0 + f64::from(n)), "1235W")),
    )
}

fn values() -> impl Iterator<Item = f64> {
    (0..DIFFERENT).map(|n| 229.37 + f64::from(n) * 0.01)
}

pub fn doubles() -> Vec<Vec<u8>> {
    values().map(double).collect()
}

pub fn tens() -> Vec<Vec<u8>> {
    values().map(ten).collect()
}

/// One message from the bytes that the bus sent to the bytes that the broker is sent, as the shell
/// does it: where it ends, what its header says, into the bridge, and out of it.
pub fn take(bridge: &mut Bridge, now: Now, bytes: &[u8], packets: &mut Packets) {
    let len = frame::frame_len(bytes).unwrap().unwrap();
    let frame = frame::parse(&bytes[..len]).unwrap();
    bridge.bus_frame(now, &frame);
    packets.out.clear();
    while bridge.poll_publish(now, 0, packets) {}
}

/// Few samples, so that a file of benches takes two minutes at most.
pub fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
}
