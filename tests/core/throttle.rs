//! Values that go out less often than they change (`throttle`).

use std::collections::BTreeMap;
use std::time::Duration;

use dbus_mqtt::bridge::OutletConfig;
use dbus_mqtt::model::throttle::ThrottleRule;

use crate::frames;
use crate::frames::wire::{V, invalid, s};
use crate::scene::Scene;

const BATTERY: &str = "com.victronenergy.battery.one";
const VOLTAGE: &str = "battery/3/Dc/0/Voltage";

fn rules(entries: &[[&str; 3]]) -> Vec<ThrottleRule> {
    let parse = |[filter, time, band]: &[&str; 3]| ThrottleRule::parse(filter, time, band).unwrap();
    entries.iter().map(parse).collect()
}

/// A battery, and a broker with these rules that has all of it.
fn scene(entries: &[[&str; 3]], keep_alive: Option<Duration>) -> Scene {
    let mut scene = Scene::with(frames::config(vec![OutletConfig {
        throttle: rules(entries),
        ..frames::outlet(true, keep_alive)
    }]));
    let items = [
        ("/DeviceInstance", V::I(3)),
        ("/Dc/0/Voltage", V::D(26.0)),
        ("/State", s("idle")),
        ("/Soc", V::D(50.0)),
    ];
    scene.own(BATTERY, ":1.7", &items);
    scene.settle();
    scene.sent(0);
    scene
}

/// The voltage changes; what the broker has of it afterwards.
fn volts(scene: &mut Scene, volts: f64) -> String {
    scene.change(BATTERY, "/Dc/0/Voltage", V::D(volts));
    scene.settle();
    scene.value(VOLTAGE).unwrap().to_owned()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_first_value_goes_at_once_and_the_last_when_the_interval_ends() {
    let mut scene = scene(&[["battery/+/Dc/0/#", "10s", "0"]], None);
    scene.pass(ms(20_000));
    assert_eq!(volts(&mut scene, 27.0), r#"{"value": 27.0}"#);
    scene.sent(0);
    for step in 0..9 {
        scene.pass(ms(1_000));
        assert_eq!(
            volts(&mut scene, 28.0 + f64::from(step)),
            r#"{"value": 27.0}"#
        );
    }
    // Others do not wait.
    scene.change(BATTERY, "/Soc", V::D(51.0));
    scene.settle();
    assert_eq!(scene.value("battery/3/Soc"), Some(r#"{"value": 51.0}"#));
    scene.pass(ms(999));
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 27.0}"#));
    scene.pass(ms(1));
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 36.0}"#));
    let count = |scene: &mut Scene| {
        let sent = scene.sent(0).into_iter();
        sent.filter(|(topic, ..)| topic == VOLTAGE).count()
    };
    assert_eq!(count(&mut scene), 1);
    scene.pass(ms(600_000));
    assert_eq!(count(&mut scene), 0);
}

#[test]
fn a_value_near_the_one_before_goes_out_when_it_rests() {
    let mut scene = scene(&[["battery/+/Dc/0/#", "1s", "0.5"]], None);
    scene.pass(ms(2_000));
    assert_eq!(volts(&mut scene, 30.0), r#"{"value": 30.0}"#);
    // As long as it moves within the deadband, and further when it leaves that.
    for volt in [30.4, 29.6, 30.5, 29.5, 30.1] {
        scene.pass(ms(30_000));
        assert_eq!(volts(&mut scene, volt), r#"{"value": 30.0}"#);
    }
    assert_eq!(volts(&mut scene, 30.6), r#"{"value": 30.6}"#);
    scene.pass(ms(5_000));
    volts(&mut scene, 30.7);
    scene.pass(ms(59_999));
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 30.6}"#));
    scene.pass(ms(1));
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 30.7}"#));
    // No value is never near one.
    scene.pass(ms(5_000));
    scene.change(BATTERY, "/Dc/0/Voltage", invalid());
    scene.settle();
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": null}"#));
}

#[test]
fn what_is_asked_for_is_answered_at_once() {
    let mut scene = scene(&[["battery/#", "1h", "100"]], None);
    volts(&mut scene, 27.0);
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 26.0}"#));
    scene.ask("R/battery/3/Dc/0/Voltage", "");
    scene.settle();
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 27.0}"#));
    volts(&mut scene, 28.0);
    scene.ask("R/battery/3/Dc", "");
    scene.settle();
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 28.0}"#));
    volts(&mut scene, 29.0);
    scene.sent(0);
    scene.ask("R/keepalive", "");
    scene.settle();
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 29.0}"#));
    // It goes before the completion.
    let sent = scene.sent(0);
    assert_eq!(sent.last().unwrap().0, "full_publish_completed");
    // A text is not near another, and waits for the end of the interval.
    scene.change(BATTERY, "/State", s("bulk"));
    scene.settle();
    assert_eq!(scene.value("battery/3/State"), Some(r#"{"value": "idle"}"#));
    scene.pass(ms(3_600_000));
    assert_eq!(scene.value("battery/3/State"), Some(r#"{"value": "bulk"}"#));
}

#[test]
fn what_is_held_back_goes_with_its_device_and_its_interest() {
    let mut scene = scene(&[["battery/#", "10s", "0"]], Some(ms(60_000)));
    scene.ask("R/keepalive", "");
    scene.settle();
    volts(&mut scene, 27.0);
    scene.leave(BATTERY);
    scene.settle();
    assert_eq!(scene.topics(), [""; 0]);
    scene.pass(ms(20_000));
    assert_eq!(scene.topics(), [""; 0]);
    scene.own(
        BATTERY,
        ":1.8",
        &[("/DeviceInstance", V::I(3)), ("/Dc/0/Voltage", V::D(1.0))],
    );
    scene.pass(ms(5_000));
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 1.0}"#));
    scene.change(BATTERY, "/Dc/0/Voltage", V::D(2.0));
    scene.settle();
    // Nobody wants it any more before it may go.
    scene.pass(ms(60_000));
    assert_eq!(scene.topics(), [""; 0]);
    scene.ask("R/keepalive", r#"["battery/+/Dc/#"]"#);
    scene.settle();
    assert_eq!(scene.value(VOLTAGE), Some(r#"{"value": 2.0}"#));
}

#[test]
fn the_broker_ends_with_what_the_bus_has_whatever_changes() {
    let mut scene = scene(
        &[
            ["battery/+/Soc", "3s", "2"],
            ["battery/+/Dc/#", "700ms", "0.3"],
        ],
        None,
    );
    let mut seed = 1_u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let intervals = BTreeMap::from([("battery/3/Soc", ms(3_000)), (VOLTAGE, ms(700))]);
    let start = scene.now.monotonic;
    let mut last = BTreeMap::new();
    let mut sent = 0;
    for _ in 0..4_000 {
        let path = ["/Soc", "/Dc/0/Voltage", "/State"][usize::try_from(random(3)).unwrap()];
        let number = u32::try_from(random(40)).unwrap();
        scene.change(BATTERY, path, V::D(f64::from(number) / 10.0));
        scene.settle();
        scene.pass(ms(random(400)));
        for (topic, ..) in scene.sent(0) {
            let Some((topic, interval)) = intervals.get_key_value(&*topic) else {
                continue;
            };
            sent += 1;
            let now = scene.now.monotonic;
            if let Some(before) = last.insert(*topic, now) {
                // What was sent is seen after the pause that follows it, at most 400 ms later.
                assert!(now - before + ms(400) >= *interval, "{topic}");
            }
        }
    }
    let time = scene.now.monotonic - start;
    assert!(time > ms(600_000) && sent > 300, "{sent} in {time:?}");
    scene.pass(ms(61_000));
    for path in ["/Soc", "/Dc/0/Voltage", "/State"] {
        let items = &scene.service(BATTERY).items;
        let (_, value) = items.iter().find(|(known, _)| known == path).unwrap();
        let V::D(number) = *value else { panic!() };
        let topic = format!("battery/3{path}");
        assert_eq!(
            scene.value(&topic),
            Some(&*format!("{{\"value\": {number:?}}}"))
        );
    }
}
