//! D-Bus calls: how many there are at one time, and whose answers count (§2.9, §2.10).

use std::time::Duration;

use dbus_mqtt::bridge::calls::{Call, Method};

use crate::frames::wire::{V, variant};
use crate::frames::{self, BUS};
use crate::scene::{Mood, Scene};

const HUNG: &str = "com.victronenergy.tank.hung";
const HEALTHY: &str = "com.victronenergy.vebus.healthy";
const LIMITS_EXCEEDED: &str = "org.freedesktop.DBus.Error.LimitsExceeded";
/// How long a scan's call or a write may take in these scenes.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);
const READ_TIMEOUT: Duration = Duration::from_secs(5);

fn items(instance: i32) -> Vec<(&'static str, V)> {
    vec![("/DeviceInstance", V::I(instance)), ("/Mode", V::I(1))]
}

/// A healthy service, and one that hangs after its scan.
fn healthy_and_hung() -> Scene {
    let mut scene = Scene::new();
    scene.own(HEALTHY, ":1.1", &items(257));
    scene.own(HUNG, ":1.2", &items(3));
    scene.settle();
    scene.service(HUNG).mood = Mood::Silent;
    scene
}

fn to<'a>(scene: &'a Scene, owner: &str) -> Vec<&'a Call> {
    let to = |call: &&Call| *call.destination == *owner;
    scene.unanswered.iter().filter(to).collect()
}

/// A write to an item with a response topic; gives its answer.
fn write(scene: &mut Scene, topic: &str) -> String {
    scene.ask_from(0, topic, r#"{"value": 3}"#, false, Some("answers"));
    scene.settle();
    let (_, answer) = scene.brokers[0].responses.pop().expect("an answer");
    answer
}

#[test]
fn s2_9_a_hung_service_stops_no_other() {
    let mut scene = healthy_and_hung();
    for _ in 0..300 {
        scene.ask("R/tank/3/Mode", "");
        scene.ask("W/tank/3/Mode", r#"{"value": 2}"#);
    }
    scene.settle();
    assert!(
        to(&scene, ":1.2").len() <= 4 + 64,
        "{}",
        scene.unanswered.len()
    );
    let ok = r#"{"status": "ok", "value": 1}"#;
    assert_eq!(write(&mut scene, "W/vebus/257/Mode"), ok);
    // A new service is scanned, and the healthy one read, in its turn.
    scene.own("com.victronenergy.battery.new", ":1.3", &items(0));
    scene.ask("R/vebus/257/Mode", "");
    scene.sent(0);
    scene.settle();
    assert_eq!(scene.value("battery/0/Mode"), Some(r#"{"value": 1}"#));
    scene.pass(READ_TIMEOUT);
    let read = ("vebus/257/Mode".into(), r#"{"value": 1}"#.into(), true);
    assert!(scene.sent(0).contains(&read));
    // What we gave up on keeps its places: no more is asked, and the answer is there at once.
    let asked = scene.unanswered.len();
    scene.pass(CALL_TIMEOUT);
    for topic in ["R/tank/3/Mode", "W/tank/3/Mode"] {
        let answer = write(&mut scene, topic);
        assert!(
            answer.contains("timed-out") && answer.contains("does not answer its calls"),
            "{answer}"
        );
    }
    assert_eq!(scene.unanswered.len(), asked);
    assert_eq!(write(&mut scene, "W/vebus/257/Mode"), ok);
}

#[test]
fn s2_9_a_service_that_answers_late_is_called_again() {
    let mut scene = healthy_and_hung();
    scene.ask("R/tank/3/Mode", "");
    scene.settle();
    scene.pass(READ_TIMEOUT);
    assert!(write(&mut scene, "R/tank/3/Mode").contains("does not answer"));
    scene.service(HUNG).mood = Mood::Answers;
    let late = scene.unanswered.remove(0);
    let bytes = scene.answer(&late).unwrap();
    scene.hear(&bytes);
    let ok = r#"{"status": "ok", "value": 1}"#;
    assert_eq!(write(&mut scene, "W/tank/3/Mode"), ok);
    // Another connection with that name is not blamed for the one before it.
    scene.service(HUNG).mood = Mood::Silent;
    scene.ask("R/tank/3/Mode", "");
    scene.settle();
    scene.pass(READ_TIMEOUT);
    scene.own(HUNG, ":1.9", &items(3));
    scene.settle();
    assert_eq!(write(&mut scene, "W/tank/3/Mode"), ok);
}

#[test]
fn s2_9_many_hung_services_stop_no_other() {
    let mut config = frames::config(vec![frames::outlet(true, None)]);
    config.call_timeout = Duration::from_secs(1);
    let mut scene = Scene::with(config);
    scene.own(HEALTHY, ":1.1", &items(257));
    scene.settle();
    for number in 0..100 {
        let name = format!("com.victronenergy.tank.hung{number}");
        scene.own_with(&name, &format!(":2.{number}"), &[], Mood::Silent);
    }
    scene.settle();
    let hung = scene.unanswered.len();
    assert!((28..32).contains(&hung), "{hung}");
    scene.pass(Duration::from_secs(300));
    assert_eq!(scene.unanswered.len(), hung, "what is given up is not free");
    let ok = r#"{"status": "ok", "value": 1}"#;
    assert_eq!(write(&mut scene, "W/vebus/257/Mode"), ok);
    assert_eq!(write(&mut scene, "R/vebus/257/Mode"), ok);
    // One that leaves makes room: the next one's turn.
    scene.leave("com.victronenergy.tank.hung0");
    scene.pass(Duration::from_secs(61));
    assert_eq!(scene.unanswered.len(), hung);
}

#[test]
fn s2_9_thirty_hung_services_leave_room_for_scans() {
    let mut config = frames::config(vec![frames::outlet(true, None)]);
    config.call_timeout = Duration::from_secs(1);
    let mut scene = Scene::with(config);
    for number in 0..30 {
        let name = format!("com.victronenergy.tank.hung{number}");
        scene.own_with(&name, &format!(":2.{number}"), &[], Mood::Silent);
    }
    scene.settle();
    scene.pass(Duration::from_secs(20));
    for number in 0..50 {
        let name = format!("com.victronenergy.battery.new{number}");
        scene.own(&name, &format!(":3.{number}"), &items(number));
    }
    scene.settle();
    assert_eq!(scene.topics().len(), 100);
}

#[test]
fn s2_9_the_bus_that_is_at_its_limit_is_asked_again() {
    let mut scene = healthy_and_hung();
    scene.ask_from(
        0,
        "W/vebus/257/Mode",
        r#"{"value": 3}"#,
        false,
        Some("answers"),
    );
    for _ in 0..3 {
        let call = scene.calls().remove(0);
        assert!(matches!(call.method, Method::SetValue(_)));
        scene.hear(&frames::error(BUS, call.id.serial(), LIMITS_EXCEEDED));
        assert!(scene.calls().is_empty(), "not at once");
        scene.now.monotonic += Duration::from_secs(1);
        scene.bridge.tick(scene.now);
    }
    scene.settle();
    let answers = &scene.brokers[0].responses;
    assert_eq!(answers.len(), 1);
    assert!(answers[0].1.contains(r#""status": "ok""#), "{answers:?}");
    // For ever, it is told.
    scene.ask_from(
        0,
        "W/vebus/257/Mode",
        r#"{"value": 3}"#,
        false,
        Some("answers"),
    );
    let end = scene.now.monotonic + CALL_TIMEOUT;
    while scene.now.monotonic < end {
        for call in scene.calls() {
            scene.hear(&frames::error(BUS, call.id.serial(), LIMITS_EXCEEDED));
        }
        scene.now.monotonic += Duration::from_millis(100);
        scene.bridge.tick(scene.now);
    }
    scene.settle();
    let (_, answer) = scene.brokers[0].responses.pop().unwrap();
    assert!(answer.contains("timed-out"), "{answer}");
    assert!(write(&mut scene, "R/vebus/257/Mode").contains("ok"));
}

#[test]
fn s2_10_a_strangers_reply_is_not_believed() {
    let mut scene = healthy_and_hung();
    scene.ask_from(
        0,
        "W/vebus/257/Mode",
        r#"{"value": 3}"#,
        false,
        Some("answers"),
    );
    scene.ask("R/vebus/257/Mode", "");
    for call in scene.calls() {
        let is_write = matches!(call.method, Method::SetValue(_));
        let body = if is_write { V::I(0) } else { variant(V::I(99)) };
        for stranger in [":1.2", ":1.77", HEALTHY, ""] {
            scene.hear(&frames::reply(
                stranger,
                call.id.serial(),
                std::slice::from_ref(&body),
            ));
            let refused = "com.example.Error.No";
            scene.hear(&frames::error(stranger, call.id.serial(), refused));
        }
        // Not even the bus has anything to say but that nobody answers.
        scene.hear(&frames::reply(BUS, call.id.serial(), &[body]));
        scene.unanswered.push(call);
    }
    scene.settle();
    assert_eq!(scene.brokers[0].responses, []);
    assert_eq!(scene.value("vebus/257/Mode"), Some(r#"{"value": 1}"#));
    for call in std::mem::take(&mut scene.unanswered) {
        let bytes = scene.answer(&call).unwrap();
        scene.hear(&bytes);
    }
    scene.settle();
    assert_eq!(scene.brokers[0].responses.len(), 1);
    // A scan is not believed a stranger either.
    let new = "com.victronenergy.battery.new";
    scene.own(new, ":1.5", &items(0));
    let call = scene.calls().remove(0);
    let wrong = vec![("/DeviceInstance".to_owned(), V::I(66))];
    scene.hear(&frames::reply(
        ":1.2",
        call.id.serial(),
        &[frames::get_items(&wrong)],
    ));
    scene.settle();
    assert!(
        scene
            .topics()
            .iter()
            .all(|topic| !topic.starts_with("battery"))
    );
    let bytes = scene.answer(&call).unwrap();
    scene.hear(&bytes);
    scene.settle();
    assert_eq!(scene.value("battery/0/Mode"), Some(r#"{"value": 1}"#));
}

#[test]
fn s2_10_an_answer_of_the_owner_before_is_none() {
    let mut scene = healthy_and_hung();
    scene.ask("R/tank/3/Mode", "");
    scene.settle();
    // The name goes to another; the connection that was asked is still there, and answers.
    let asked = to(&scene, ":1.2")[0].id;
    scene.own(HUNG, ":1.8", &items(3));
    scene.settle();
    scene.hear(&frames::reply(":1.2", asked.serial(), &[variant(V::I(99))]));
    scene.settle();
    assert_eq!(scene.value("tank/3/Mode"), Some(r#"{"value": 1}"#));
}

#[test]
fn s2_9_a_name_that_flaps_is_damped() {
    let mut scene = healthy_and_hung();
    let flapping = "com.victronenergy.battery.flapping";
    let mut scans = 0;
    for change in 0..9_000 {
        // Ten seconds of it; every third time the name is given up in between.
        if change % 3 == 2 {
            scene.leave(flapping);
        }
        let owner = format!(":5.{change}");
        scene.own_with(flapping, &owner, &[], Mood::Silent);
        if change % 9 == 0 {
            scene.pass(Duration::from_millis(10));
        }
        scene.settle();
        scans += scene.unanswered.len();
        scene.unanswered.clear();
        if change % 900 == 0 {
            assert!(write(&mut scene, "R/vebus/257/Mode").contains("ok"));
            assert!(write(&mut scene, "W/vebus/257/Mode").contains("ok"));
        }
    }
    assert!((5..12).contains(&scans), "{scans} scans");
    // Calm again, it is scanned, soon after the first time.
    scene.own(flapping, ":6.1", &items(0));
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.value("battery/0/Mode"), Some(r#"{"value": 1}"#));
    scene.pass(Duration::from_secs(120));
    scene.leave(flapping);
    scene.own(flapping, ":6.2", &items(0));
    scene.settle();
    assert_eq!(scene.value("battery/0/Mode"), Some(r#"{"value": 1}"#));
}

#[test]
fn s2_9_a_restarted_service_is_scanned_at_once() {
    let mut scene = Scene::new();
    for restart in 0..3 {
        scene.own(HEALTHY, &format!(":1.{restart}"), &items(257));
        scene.settle();
        assert_eq!(scene.value("vebus/257/Mode"), Some(r#"{"value": 1}"#));
        scene.leave(HEALTHY);
        scene.settle();
    }
}
