//! What changed in some seconds, in one message (`batch`).

use std::collections::BTreeMap;
use std::time::Duration;

use dbus_mqtt::bridge::{BatchConfig, OutletConfig};
use dbus_mqtt::codec::gzip;
use dbus_mqtt::model::throttle::ThrottleRule;
use dbus_mqtt::model::topic::TopicRules;
use serde_json::Value;

use crate::frames;
use crate::frames::wire::{V, invalid, s};
use crate::scene::Scene;

const BATTERY: &str = "com.victronenergy.battery.one";
const TANK: &str = "com.victronenergy.tank.one";
const VEBUS: &str = "com.victronenergy.vebus.one";
const STEP: Duration = Duration::from_secs(5);

fn outlet(topics: bool, keep_alive: Option<Duration>) -> OutletConfig {
    OutletConfig {
        batch: Some(BatchConfig {
            every: STEP,
            full: Some(Duration::from_secs(300)),
            topics,
            compress: false,
        }),
        ..frames::outlet(true, keep_alive)
    }
}

fn battery(scene: &mut Scene) {
    let items = [
        ("/DeviceInstance", V::I(3)),
        ("/Soc", V::D(87.5)),
        ("/State", s("a \"b\"")),
        ("/Dc/0/Power", invalid()),
    ];
    scene.own(BATTERY, ":1.7", &items);
    scene.settle();
}

/// What a client makes of batches.
#[derive(Default)]
struct Receiver {
    values: BTreeMap<String, Value>,
    /// What has come of a full one in several parts.
    full: Option<BTreeMap<String, Value>>,
    parts: usize,
    longest: usize,
}

impl Receiver {
    /// Takes what was sent, and gives the other topics.
    fn take(&mut self, scene: &mut Scene) -> Vec<String> {
        let mut others = Vec::new();
        for (topic, payload, retain) in scene.sent(0) {
            if topic != "batch" {
                others.push(topic);
                continue;
            }
            assert!(!retain);
            self.parts += 1;
            self.longest = self.longest.max(payload.len());
            let part: Value = serde_json::from_str(&payload).unwrap();
            assert!(part["ts"].as_u64().unwrap() >= 1_700_000_000_000);
            let is_full = part["full"] == true;
            if is_full {
                self.full.get_or_insert_default();
            }
            for map in [Some(&mut self.values), self.full.as_mut()]
                .into_iter()
                .flatten()
            {
                for gone in part["gone"].as_array().into_iter().flatten() {
                    map.remove(gone.as_str().unwrap());
                }
                for (key, value) in part["values"].as_object().unwrap() {
                    map.insert(key.clone(), value.clone());
                }
            }
            if is_full && part["more"] != true {
                self.values = self.full.take().unwrap();
            }
        }
        others
    }
}

#[test]
fn all_comes_at_first_and_then_what_changed() {
    let mut scene = Scene::with(frames::config(vec![outlet(true, None)]));
    battery(&mut scene);
    scene.ask("R/keepalive", "");
    scene.settle();
    let sent = scene.sent(0);
    let batch = sent
        .iter()
        .position(|(topic, ..)| topic == "batch")
        .unwrap();
    assert_eq!(
        sent[batch].1,
        r#"{"ts": 1700000000000, "values": {"battery/3/DeviceInstance": 3, "battery/3/Soc": 87.5, "battery/3/State": "a \"b\"", "battery/3/Dc/0/Power": null}, "full": true}"#
    );
    assert_eq!(sent.last().unwrap().0, "full_publish_completed");
    scene.pass(STEP);
    scene.sent(0);
    // Nothing changed, and nothing is said.
    scene.pass(STEP * 3);
    assert!(scene.sent(0).iter().all(|(topic, ..)| topic == "heartbeat"));
    for soc in [88.0, 89.0, 90.0] {
        scene.change(BATTERY, "/Soc", V::D(soc));
    }
    scene.settle();
    assert_eq!(scene.sent(0).len(), 1, "its topic, and no batch");
    scene.pass(STEP);
    assert_eq!(
        scene.value("batch"),
        Some(r#"{"ts": 1700000000000, "values": {"battery/3/Soc": 90.0}}"#)
    );
    scene.leave(BATTERY);
    scene.pass(STEP);
    let batch = scene.value("batch").unwrap();
    assert!(
        batch.starts_with(r#"{"ts": 1700000000000, "gone": ["battery/3/"#),
        "{batch}"
    );
    assert!(batch.ends_with(r#""], "values": {}}"#), "{batch}");
    // A full one from time to time.
    battery(&mut scene);
    scene.pass(STEP);
    let mut receiver = Receiver::default();
    scene.sent(0);
    scene.pass(Duration::from_secs(300));
    receiver.take(&mut scene);
    assert_eq!((receiver.parts, receiver.values.len()), (1, 4));
}

#[test]
fn without_topics_only_batches_and_answers_go_out() {
    let keep_alive = Some(Duration::from_secs(60));
    let mut scene = Scene::with(frames::config(vec![outlet(false, keep_alive)]));
    battery(&mut scene);
    let mut receiver = Receiver::default();
    scene.pass(Duration::from_secs(20));
    assert_eq!(receiver.take(&mut scene), [""; 0]);
    assert_eq!(receiver.parts, 0, "nobody has asked");
    scene.ask("R/keepalive", "");
    scene.settle();
    assert_eq!(receiver.take(&mut scene), ["full_publish_completed"]);
    assert_eq!(receiver.values["battery/3/Soc"], 87.5);
    scene.change(BATTERY, "/Soc", V::D(1.0));
    scene.settle();
    assert_eq!(receiver.values["battery/3/Soc"], 87.5);
    scene.ask("R/battery/3/Soc", "");
    scene.settle();
    let sent = scene.sent(0);
    assert_eq!(
        sent,
        [("battery/3/Soc".into(), r#"{"value": 1.0}"#.into(), false)]
    );
    scene.pass(STEP);
    assert_eq!(receiver.take(&mut scene), [""; 0], "no heartbeat either");
    assert_eq!(receiver.values["battery/3/Soc"], 1.0);
    // Nobody wants them any more.
    scene.pass(Duration::from_secs(60));
    receiver.take(&mut scene);
    scene.change(BATTERY, "/Soc", V::D(2.0));
    scene.pass(STEP * 2);
    receiver.take(&mut scene);
    assert_eq!(receiver.values["battery/3/Soc"], 1.0);
    // A filter has what it matches, at once.
    scene.ask("R/keepalive", r#"["battery/+/Soc"]"#);
    scene.pass(Duration::from_millis(1));
    scene.change(BATTERY, "/State", s("x"));
    scene.pass(STEP);
    let mut selective = Receiver::default();
    selective.take(&mut scene);
    assert_eq!(selective.values.len(), 1);
    assert_eq!(selective.values["battery/3/Soc"], 2.0);
    // What an earlier run left on topics is cleared.
    scene.bridge.broker_disconnected(0);
    scene.bridge.broker_connected(0);
    let topic = format!("N/{}/battery/3/Soc", frames::PORTAL);
    scene.bridge.broker_retained(0, &topic, b"{\"value\": 9}");
    scene.bridge.broker_ready(scene.now, 0);
    scene.settle();
    let cleared = ("battery/3/Soc".to_owned(), String::new(), true);
    assert!(scene.sent(0).contains(&cleared));
}

#[test]
fn topics_that_do_not_fit_are_in_batches() {
    let mut scene = Scene::with(frames::config(vec![OutletConfig {
        topics: TopicRules {
            levels_max: Some(5),
            ..TopicRules::default()
        },
        ..outlet(true, None)
    }]));
    battery(&mut scene);
    scene.change(BATTERY, "/Dc/0/Power", V::I(7));
    scene.pass(STEP);
    assert_eq!(scene.value("battery/3/Dc/0/Power"), None);
    let mut receiver = Receiver::default();
    receiver.take(&mut scene);
    assert_eq!(receiver.values["battery/3/Dc/0/Power"], 7);
    scene.leave(BATTERY);
    scene.pass(STEP);
    receiver.take(&mut scene);
    assert_eq!(receiver.values.len(), 0);
}

#[test]
fn a_client_ends_with_what_the_bus_has_whatever_changes() {
    for (bytes_max, throttle) in [(None, false), (Some(300), false), (Some(300), true)] {
        let mut config = outlet(false, None);
        if throttle {
            config.throttle = vec![ThrottleRule::parse("battery/#", "7s", "1").unwrap()];
        }
        let mut scene = Scene::with(frames::config(vec![config]));
        scene.brokers[0].packet_bytes_max = bytes_max;
        let mut receiver = Receiver::default();
        let mut seed = 3_u64;
        let mut random = move |below: u64| {
            let (a, c) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
            seed = seed.wrapping_mul(a).wrapping_add(c);
            (seed >> 33) % below
        };
        battery(&mut scene);
        let tank: Vec<String> = (0..30).map(|number| format!("/Level/{number}")).collect();
        let mut items = vec![("/DeviceInstance", V::I(1))];
        items.extend(tank.iter().map(|path| (path.as_str(), V::I(0))));
        for _ in 0..2_000 {
            let has_tank = scene.services.iter().any(|service| service.name == TANK);
            match random(20) {
                0 if has_tank => scene.leave(TANK),
                0 | 1 if !has_tank => scene.own(TANK, ":1.9", &items),
                2..10 => scene.change(BATTERY, "/Soc", V::I(i32::try_from(random(9)).unwrap())),
                10..19 if has_tank => {
                    let path = &tank[usize::try_from(random(30)).unwrap()];
                    scene.change(TANK, path, V::I(i32::try_from(random(9)).unwrap()));
                }
                19 => scene.ask("R/keepalive", ""),
                _ => {}
            }
            scene.settle();
            scene.pass(Duration::from_millis(random(2_000)));
            receiver.take(&mut scene);
        }
        scene.pass(Duration::from_secs(90));
        receiver.take(&mut scene);
        let mut expected = BTreeMap::new();
        for service in &scene.services {
            let number = if service.name == TANK {
                "tank/1"
            } else {
                "battery/3"
            };
            for (path, value) in &service.items {
                let value = match value {
                    V::I(number) => Value::from(*number),
                    V::D(number) => Value::from(*number),
                    V::S(text) => Value::from(text.as_str()),
                    _ => Value::Null,
                };
                expected.insert(format!("{number}{path}"), value);
            }
        }
        assert_eq!(receiver.values, expected, "{bytes_max:?} {throttle}");
        assert!(receiver.parts > 100);
        assert!(bytes_max.is_none_or(|max| receiver.longest <= max));
    }
}

#[test]
fn what_came_and_went_between_two_batches_is_not_said() {
    let mut scene = Scene::with(frames::config(vec![outlet(true, None)]));
    battery(&mut scene);
    scene.pass(STEP);
    scene.sent(0);
    let tank = "com.victronenergy.tank.t0";
    scene.own(
        tank,
        ":1.8",
        &[("/DeviceInstance", V::I(4)), ("/Level", V::D(20.0))],
    );
    scene.settle();
    scene.leave(tank);
    scene.pass(STEP * 2);
    assert!(scene.sent(0).iter().all(|(topic, ..)| topic != "batch"));
}

/// An outlet whose batches are compressed where that can be said.
fn compressing() -> OutletConfig {
    let mut outlet = outlet(false, None);
    outlet.batch.as_mut().unwrap().compress = true;
    outlet
}

#[test]
fn compressed_batches_say_what_plain_ones_say() {
    // One that compresses, one that only would, for its messages cannot say so, and a plain one.
    let outlets = vec![compressing(), compressing(), outlet(false, None)];
    let mut scene = Scene::with(frames::config(outlets));
    scene.brokers[0].content_types = true;
    scene.brokers[2].content_types = true;
    for broker in 0..3 {
        scene.sent(broker);
    }
    battery(&mut scene);
    let paths: Vec<String> = (0..40)
        .map(|number| format!("/Ac/{number}/Power"))
        .collect();
    let mut items = vec![("/DeviceInstance", V::I(1))];
    items.extend(paths.iter().map(|path| (path.as_str(), V::I(0))));
    scene.own(VEBUS, ":1.9", &items);
    scene.settle();
    for round in 1..20 {
        for (number, path) in paths.iter().enumerate() {
            let number = i32::try_from(number).unwrap();
            if number % round == 0 {
                scene.change(VEBUS, path, V::I(round * number));
            }
        }
        scene.pass(STEP);
    }
    // What would get no shorter is not compressed.
    let compressed = scene.brokers[0].compressed.len();
    scene.change(BATTERY, "/Soc", V::D(1.0));
    scene.pass(STEP);
    let sent = scene.sent(0);
    assert!(sent.last().unwrap().1.len() < 100);
    assert!(compressed >= 10, "{compressed}");
    assert_eq!(scene.brokers[0].compressed.len(), compressed);
    assert!(sent.len() > compressed);
    // What a client has when it has read them all.
    assert_eq!(scene.sent(1), sent);
    assert_eq!(scene.sent(2), sent);
    for plain in [1, 2] {
        assert!(scene.brokers[plain].compressed.is_empty());
    }
    let plain: usize = sent.iter().map(|(_, payload, _)| payload.len()).sum();
    let bytes: usize = scene.brokers[0].compressed.iter().map(Vec::len).sum();
    assert!(bytes * 2 < plain, "{bytes} of {plain}");
}

#[test]
fn a_part_is_not_longer_than_the_broker_takes_compressed_or_not() {
    let mut scene = Scene::with(frames::config(vec![compressing()]));
    scene.brokers[0].content_types = true;
    scene.brokers[0].packet_bytes_max = Some(2_000);
    let paths: Vec<String> = (0..300).map(|number| format!("/Level/{number}")).collect();
    let mut items = vec![("/DeviceInstance", V::I(1))];
    items.extend(paths.iter().map(|path| (path.as_str(), V::I(0))));
    // A text that compresses badly.
    let mut seed = 1_u32;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_u32(0x4e00 + (seed >> 18)).unwrap_or('x')
    });
    let noise: String = noise.take(600).collect();
    items.push(("/CustomName", s(&noise)));
    scene.own(TANK, ":1.9", &items);
    scene.pass(STEP);
    let mut receiver = Receiver::default();
    receiver.take(&mut scene);
    assert_eq!(receiver.values.len(), 302);
    assert_eq!(receiver.values["tank/1/CustomName"], noise.as_str());
    assert!(receiver.parts >= 4, "{}", receiver.parts);
    assert!(receiver.longest <= 2_000, "{}", receiver.longest);
    let compressed = &scene.brokers[0].compressed;
    let longest = compressed.iter().map(Vec::len).max();
    assert!(
        longest.is_some_and(|bytes| (1_000..1_900).contains(&bytes)),
        "{longest:?}"
    );
}

#[test]
fn what_compression_takes_is_given_back() {
    let plain: Vec<u8> = (0..16_384_u32)
        .flat_map(|n| (n * n).to_be_bytes())
        .collect();
    let mut compressed = None;
    let taken = allocation_counter::measure(|| compressed = gzip::compress(&plain));
    let bytes = u64::try_from(compressed.unwrap().capacity()).unwrap();
    assert!(taken.bytes_max <= 512 * 1024 + bytes, "{taken:?}");
    assert_eq!(taken.bytes_current, i64::try_from(bytes).unwrap());
}
