//! Which of two services of one type and one instance has the topics (§2.7), and what an instance is
//! (§1).

use std::time::Duration;

use dbus_mqtt::bridge::calls::Method;

use crate::frames::wire::{V, array, invalid, s};
use crate::log::Log;
use crate::scene::{Mood, Scene};

const SETTINGS: &str = "com.victronenergy.settings";
const DUMMY: &str = "com.victronenergy.settings.dummydriver";
const SETPOINT: &str = "/Settings/CGwacs/AcPowerSetPoint";
const SETPOINT_TOPIC: &str = "settings/0/Settings/CGwacs/AcPowerSetPoint";
const TANK: &str = "com.victronenergy.tank.one";
const TWIN: &str = "com.victronenergy.tank.two";

fn settings(scene: &mut Scene) {
    let items = [(SETPOINT, V::D(50.0)), ("/Settings/Gui/Language", s("en"))];
    scene.own(SETTINGS, ":1.1", &items);
}

fn dummy(scene: &mut Scene) {
    let items = [(SETPOINT, V::D(0.0)), ("/Mod", V::I(1))];
    scene.own(DUMMY, ":1.2", &items);
}

fn tank(scene: &mut Scene, name: &str, owner: &str, level: f64) {
    let items = [("/DeviceInstance", V::I(4)), ("/Level", V::D(level))];
    scene.own(name, owner, &items);
}

/// The service that a write to `topic` goes to.
fn written(scene: &mut Scene, topic: &str) -> String {
    scene.ask(&format!("W/{topic}"), r#"{"value": 7}"#);
    let calls = scene.calls();
    let mut calls = calls.iter();
    let write = calls.find(|call| matches!(call.method, Method::SetValue(_)));
    let to = write.map(|call| &*call.destination).unwrap();
    let mut services = scene.services.iter();
    let called = services.find(|service| service.name == to || service.owner == to);
    called.unwrap().name.clone()
}

fn assert_real_settings(scene: &mut Scene) {
    assert_eq!(scene.value(SETPOINT_TOPIC), Some(r#"{"value": 50.0}"#));
    assert_eq!(
        scene.topics(),
        [SETPOINT_TOPIC, "settings/0/Settings/Gui/Language"],
        "nothing of the other"
    );
    assert_eq!(written(scene, SETPOINT_TOPIC), SETTINGS);
}

#[test]
fn s2_7_the_real_settings_take_their_topics_from_a_mod() {
    let log = Log::new();
    let mut scene = Scene::new();
    dummy(&mut scene);
    scene.settle();
    assert_eq!(scene.topics(), ["settings/0/Mod", SETPOINT_TOPIC]);
    assert_eq!(written(&mut scene, SETPOINT_TOPIC), DUMMY);
    settings(&mut scene);
    scene.settle();
    assert_real_settings(&mut scene);
    let told = log.take("belongs to");
    assert_eq!(told.len(), 1, "{told:?}");
    let (denied, holder) = told[0].split_once("settings/0 belongs to").unwrap();
    assert!(denied.contains(DUMMY) && holder.starts_with(" com.victronenergy.settings;"));
    // What the mod says is nobody's.
    scene.sent(0);
    scene.change(DUMMY, SETPOINT, V::D(99.0));
    scene.change(DUMMY, "/New", V::D(99.0));
    scene.settle();
    assert_eq!(scene.sent(0), []);
    // It is taken up as soon as the clash ends.
    scene.leave(SETTINGS);
    scene.settle();
    let topics = ["settings/0/Mod", "settings/0/New", SETPOINT_TOPIC];
    assert_eq!(scene.topics(), topics);
    assert_eq!(scene.value(SETPOINT_TOPIC), Some(r#"{"value": 99.0}"#));
}

#[test]
fn s2_7_a_mod_takes_nothing_from_the_real_settings() {
    let mut scene = Scene::new();
    settings(&mut scene);
    scene.settle();
    scene.sent(0);
    dummy(&mut scene);
    scene.settle();
    assert_eq!(scene.sent(0), []);
    assert_real_settings(&mut scene);
    // Not even for the half second of a restart, once the real ones are back.
    scene.leave(SETTINGS);
    scene.settle();
    assert_eq!(scene.value(SETPOINT_TOPIC), Some(r#"{"value": 0.0}"#));
    scene.pass(Duration::from_millis(500));
    settings(&mut scene);
    scene.settle();
    assert_real_settings(&mut scene);
}

#[test]
fn s2_7_it_does_not_matter_who_answers_first() {
    for dummy_first in [true, false] {
        let mut scene = Scene::new();
        settings(&mut scene);
        dummy(&mut scene);
        let mut scans = scene.calls();
        let of_dummy = |to: &str| to == DUMMY || to == ":1.2";
        scans.sort_by_key(|call| of_dummy(&call.destination) != dummy_first);
        for call in scans {
            let answer = scene.answer(&call).unwrap();
            scene.hear(&answer);
            scene.settle();
        }
        assert_real_settings(&mut scene);
    }
}

#[test]
fn s2_7_the_real_system_service_has_the_topics() {
    let real = "com.victronenergy.system";
    for mod_first in [true, false] {
        let mut scene = Scene::new();
        let names = [real, "com.victronenergy.system.mod"];
        for at in if mod_first { [1, 0] } else { [0, 1] } {
            let items = [("/Dc/Battery/Soc", V::I(i32::try_from(at).unwrap()))];
            scene.own(names[at], &format!(":1.{at}"), &items);
            scene.settle();
        }
        // Long enough that what comes without an instance is believed.
        scene.pass(Duration::from_secs(60));
        let soc = "system/0/Dc/Battery/Soc";
        assert_eq!(scene.value(soc), Some(r#"{"value": 0}"#));
        assert_eq!(written(&mut scene, soc), real);
    }
}

#[test]
fn s2_7_one_that_says_its_instance_over_one_that_has_0_by_default() {
    let mut scene = Scene::new();
    scene.own(TANK, ":1.1", &[("/Level", V::D(1.0))]);
    // Long enough that what comes without an instance is believed.
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.value("tank/0/Level"), Some(r#"{"value": 1.0}"#));
    let items = [("/DeviceInstance", V::I(0)), ("/Level", V::D(2.0))];
    scene.own(TWIN, ":1.2", &items);
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.value("tank/0/Level"), Some(r#"{"value": 2.0}"#));
    // The first says its own at last: it had the topics first.
    scene.change(TANK, "/DeviceInstance", V::I(0));
    scene.settle();
    assert_eq!(scene.value("tank/0/Level"), Some(r#"{"value": 1.0}"#));
    // It says none any more: the other has the better claim again.
    scene.change(TANK, "/DeviceInstance", invalid());
    scene.settle();
    assert_eq!(scene.value("tank/0/Level"), Some(r#"{"value": 2.0}"#));
}

#[test]
fn s2_7_a_restarted_device_takes_its_topics_back_from_what_slipped_in() {
    let mut scene = Scene::new();
    tank(&mut scene, TANK, ":1.1", 1.0);
    scene.settle();
    tank(&mut scene, TWIN, ":1.2", 2.0);
    scene.settle();
    let level = "tank/4/Level";
    assert_eq!(
        scene.value(level),
        Some(r#"{"value": 1.0}"#),
        "a virtual sensor gets nothing"
    );
    assert_eq!(written(&mut scene, level), TANK);
    scene.leave(TANK);
    scene.settle();
    assert_eq!(scene.value(level), Some(r#"{"value": 2.0}"#));
    scene.pass(Duration::from_millis(500));
    tank(&mut scene, TANK, ":1.9", 1.5);
    scene.settle();
    assert_eq!(scene.value(level), Some(r#"{"value": 1.5}"#));
    assert_eq!(written(&mut scene, level), TANK);
    // Also after the bus was away, and the other answered first.
    scene.bridge.bus_disconnected(scene.now);
    scene.services.reverse();
    scene.bridge.bus_connected(scene.now);
    scene.settle();
    assert_eq!(scene.value(level), Some(r#"{"value": 1.5}"#));
}

#[test]
fn s2_7_a_clash_is_reported_again_every_hour() {
    let log = Log::new();
    let mut scene = Scene::new();
    tank(&mut scene, TANK, ":1.1", 1.0);
    tank(&mut scene, TWIN, ":1.2", 2.0);
    scene.settle();
    let (hour, nearly) = (Duration::from_secs(3600), Duration::from_secs(3599));
    let part = "two: tank/4 belongs to com.victronenergy.tank.one";
    assert_eq!(log.take(part).len(), 1);
    scene.pass(nearly);
    assert_eq!(log.take("belongs to").len(), 0);
    for _ in 0..3 {
        scene.pass(hour);
        assert_eq!(log.take(part).len(), 1);
    }
    scene.leave(TANK);
    scene.settle();
    scene.pass(2 * hour);
    assert_eq!(log.take("belongs to").len(), 0);
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 2.0}"#));
}

#[test]
fn s2_7_of_several_that_wait_the_best_follows() {
    let mut scene = Scene::new();
    tank(&mut scene, TANK, ":1.1", 1.0);
    scene.settle();
    let third = "com.victronenergy.tank.three";
    tank(&mut scene, third, ":1.3", 3.0);
    tank(&mut scene, TWIN, ":1.2", 2.0);
    scene.settle();
    for (leaves, level) in [(TANK, "3.0"), (third, "2.0")] {
        scene.leave(leaves);
        scene.settle();
        let expected = format!(r#"{{"value": {level}}}"#);
        assert_eq!(scene.value("tank/4/Level"), Some(&*expected));
    }
}

#[test]
fn s2_6_a_move_takes_over_where_it_has_the_better_claim() {
    let mut scene = Scene::new();
    tank(&mut scene, TANK, ":1.1", 1.0);
    scene.settle();
    scene.change(TANK, "/DeviceInstance", V::I(9));
    scene.settle();
    tank(&mut scene, TWIN, ":1.2", 2.0);
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 2.0}"#));
    scene.change(TANK, "/DeviceInstance", V::I(4));
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 1.0}"#));
    assert_eq!(scene.topics(), ["tank/4/DeviceInstance", "tank/4/Level"]);
    // And one that has it not waits.
    scene.change(TWIN, "/DeviceInstance", V::I(5));
    scene.settle();
    scene.change(TWIN, "/DeviceInstance", V::I(4));
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 1.0}"#));
    assert_eq!(scene.topics(), ["tank/4/DeviceInstance", "tank/4/Level"]);
}

#[test]
fn s1_instances_that_are_texts() {
    let mut scene = Scene::new();
    let tanks = [
        ("a", s("4"), "4"),
        ("b", s("5"), "5"),
        ("c", s(" 7 "), "7"),
        ("d", s("008"), "8"),
        ("e", s("-1"), "-1"),
        ("f", V::D(10.0), "10"),
        ("g", V::D(11.5), "11"),
        ("h", V::B(true), "1"),
        ("i", V::X(1 << 31), "2147483648"),
    ];
    for (at, (name, instance, _)) in tanks.iter().enumerate() {
        let name = format!("com.victronenergy.tank.{name}");
        let items = [("/DeviceInstance", instance.clone()), ("/Level", V::D(0.5))];
        scene.own(&name, &format!(":1.{at}"), &items);
    }
    scene.settle();
    for (name, _, instance) in tanks {
        let topic = format!("tank/{instance}/Level");
        assert!(
            scene.value(&topic).is_some(),
            "{name}: {:?}",
            scene.topics()
        );
    }
}

#[test]
fn s1_what_is_no_number_leaves_it_to_the_identifier_and_then_to_0() {
    let no_numbers = [
        s("4a"),
        s(""),
        array("i", [V::I(4)]),
        invalid(),
        V::D(f64::NAN),
    ];
    for instance in no_numbers {
        for (identifier, expected) in [
            (Some(s("can/0")), "vecan/can_0/Level"),
            (None, "vecan/0/Level"),
        ] {
            let mut scene = Scene::new();
            let mut items = vec![("/DeviceInstance", instance.clone()), ("/Level", V::D(0.5))];
            items.extend(identifier.map(|identifier| ("/Identifier", identifier)));
            scene.own("com.victronenergy.vecan.can0", ":1.1", &items);
            scene.pass(Duration::from_secs(60));
            assert!(scene.value(expected).is_some(), "{:?}", scene.topics());
        }
    }
}

#[test]
fn s2_7_a_service_that_restarts_as_another_device_loses_only_its_old_topics() {
    let mut scene = Scene::new();
    tank(&mut scene, TANK, ":1.1", 0.1);
    scene.settle();
    // Back as another device, and not scanned yet, when a twin of the old one comes.
    let items = [("/DeviceInstance", V::I(5)), ("/Level", V::D(0.5))];
    scene.own_with(TANK, ":1.3", &items, Mood::Silent);
    tank(&mut scene, TWIN, ":1.2", 0.2);
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 0.2}"#));
    scene.service(TANK).mood = Mood::Answers;
    for call in std::mem::take(&mut scene.unanswered) {
        let answer = scene.answer(&call).unwrap();
        scene.hear(&answer);
    }
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 0.2}"#));
    assert_eq!(scene.value("tank/5/Level"), Some(r#"{"value": 0.5}"#));
}
