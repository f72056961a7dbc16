//! Scanning again: what is late, what was never signalled, what is gone (§2.2), and the topics that wait
//! for it (§4.9).

use std::time::Duration;

use dbus_mqtt::bridge::Settings;
use dbus_mqtt::bridge::calls::{Call, Method};

use crate::frames::wire::{V, s};
use crate::frames::{self, PORTAL};
use crate::scene::{Mood, Scene, Service, settings};

const TANK: &str = "com.victronenergy.tank.one";
const OTHER: &str = "com.victronenergy.battery.two";
const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";
const MINUTE: Duration = Duration::from_secs(60);
const ROUND: Duration = Duration::from_secs(300);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A scene whose services are scanned anew every five minutes.
fn refreshing() -> Scene {
    let mut scene = Scene::new();
    let settings = Settings {
        refresh: Some(ROUND),
        ..settings(1)
    };
    scene.bridge.reconfigure(scene.now, settings);
    scene
}

fn tank(scene: &mut Scene) {
    let items = [("/DeviceInstance", V::I(4)), ("/Level", V::D(0.5))];
    scene.own(TANK, ":1.5", &items);
    scene.settle();
    scene.sent(0);
}

/// How many scans begin in that time.
fn scans(scene: &mut Scene, time: Duration) -> usize {
    scan_times(scene, time).len()
}

/// After how many seconds each of them does.
fn scan_times(scene: &mut Scene, time: Duration) -> Vec<u64> {
    let start = scene.now.monotonic;
    let mut times = Vec::new();
    while let Some(due) = scene
        .bridge
        .poll_timeout()
        .filter(|due| *due <= start + time)
    {
        scene.now.monotonic = due.max(scene.now.monotonic);
        scene.bridge.tick(scene.now);
        // A walk is answered step by step.
        let mut calls = scene.calls();
        while !calls.is_empty() {
            for call in calls {
                if call.method == Method::GetItems {
                    times.push((scene.now.monotonic - start).as_secs());
                }
                let answer = scene.answer(&call).unwrap();
                scene.hear(&answer);
            }
            calls = scene.calls();
        }
        scene.settle();
    }
    scene.now.monotonic = start + time;
    times
}

// ---------------------------------------------------------------------------- names first, paths later

#[test]
fn s2_2_a_service_without_an_instance_is_published_after_two_seconds() {
    let mut scene = Scene::new();
    scene.own(TANK, ":1.5", &[("/Level", V::D(0.5))]);
    scene.settle();
    scene.change(TANK, "/Level", V::D(0.6));
    scene.settle();
    assert!(scene.topics().is_empty(), "{:?}", scene.topics());
    scene.pass(ms(1_999));
    assert!(scene.topics().is_empty(), "{:?}", scene.topics());
    scene.pass(ms(2));
    assert_eq!(scene.value("tank/0/Level"), Some(r#"{"value": 0.6}"#));
    // It is asked two times more, and then no longer.
    assert_eq!(scans(&mut scene, MINUTE), 2);
}

#[test]
fn s2_2_a_driver_whose_paths_come_later_is_read_when_they_are_there() {
    let mut scene = Scene::new();
    scene.own(TANK, ":1.5", &[("/Level", V::D(0.5))]);
    scene.settle();
    // Without any signal.
    let service = scene.service(TANK);
    service.items.push(("/Remaining".into(), V::D(9.0)));
    service.items.push(("/DeviceInstance".into(), V::I(4)));
    scene.pass(ms(1_001));
    let all = ["tank/4/DeviceInstance", "tank/4/Level", "tank/4/Remaining"];
    assert_eq!(scene.topics(), all);
    assert_eq!(scans(&mut scene, MINUTE), 0);
}

#[test]
fn s2_2_the_signal_of_the_instance_ends_the_wait() {
    let mut scene = Scene::new();
    scene.own(TANK, ":1.5", &[("/Level", V::D(0.5))]);
    scene.settle();
    scene
        .service(TANK)
        .items
        .push(("/Remaining".into(), V::D(9.0)));
    scene.change(TANK, "/DeviceInstance", V::I(4));
    scene.settle();
    let all = ["tank/4/DeviceInstance", "tank/4/Level", "tank/4/Remaining"];
    assert_eq!(scene.topics(), all);
}

#[test]
fn s2_2_what_was_there_before_us_and_what_has_no_instance_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.own(
        "com.victronenergy.settings",
        ":1.5",
        &[("/Settings/A", V::I(1))],
    );
    scene.own(
        "com.victronenergy.vecan.can0",
        ":1.6",
        &[("/Identifier", s("can0")), ("/A", V::I(1))],
    );
    scene.settle();
    let all = [
        "settings/0/Settings/A",
        "vecan/can0/A",
        "vecan/can0/Identifier",
    ];
    assert_eq!(scene.topics(), all);
    let mut scene = Scene::new();
    scene.bridge.bus_disconnected(scene.now);
    scene.own(TANK, ":1.5", &[("/Level", V::D(0.5))]);
    scene.bridge.bus_connected(scene.now);
    scene.settle();
    assert_eq!(scene.topics(), ["tank/0/Level"]);
}

#[test]
fn s2_5_a_new_owner_without_an_instance_yet_keeps_its_topics() {
    let mut scene = Scene::new();
    tank(&mut scene);
    scene.own(TANK, ":1.6", &[("/Level", V::D(0.7))]);
    scene.settle();
    scene.pass(ms(500));
    let service = scene.service(TANK);
    service.items.push(("/DeviceInstance".into(), V::I(4)));
    scene.pass(ms(600));
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 0.7}"#));
    let sent = scene.sent(0);
    assert!(
        sent.iter().all(|(_, payload, _)| !payload.is_empty()),
        "{sent:?}"
    );
}

#[test]
fn s2_2_a_service_without_items_is_scanned_with_a_back_off() {
    let mut scene = Scene::new();
    scene.own("com.victronenergy.settings", ":1.5", &[]);
    scene.settle();
    let times = scan_times(&mut scene, Duration::from_secs(250));
    assert_eq!(times, [1, 3, 7, 15, 31, 63, 123, 183, 243]);
    scene.service("com.victronenergy.settings").items = vec![("/Settings/A".into(), V::I(1))];
    scene.pass(MINUTE + ms(1));
    assert_eq!(scene.topics(), ["settings/0/Settings/A"]);
    assert_eq!(
        scene.bridge.poll_timeout().map(|_| ()),
        scene.bridge.poll_timeout().map(|_| ())
    );
}

#[test]
fn s2_4_the_first_item_of_a_service_without_any_is_added_on_the_fly() {
    let mut scene = Scene::new();
    scene.own("com.victronenergy.settings", ":1.5", &[]);
    scene.pass(Duration::from_secs(40));
    scene.hear(&frames::properties_changed(
        ":1.5",
        "/Settings/A",
        [("Value", V::I(1))],
    ));
    scene.settle();
    assert_eq!(scene.topics(), ["settings/0/Settings/A"]);
}

#[test]
fn s2_2_a_path_that_no_scan_knew_has_the_service_scanned_a_second_later() {
    let mut scene = Scene::new();
    tank(&mut scene);
    // Two come, and only one of them with a signal.
    scene.service(TANK).items.push(("/Silent".into(), V::I(1)));
    scene.change(TANK, "/Loud", V::I(2));
    scene.settle();
    scene.pass(ms(999));
    assert!(!scene.topics().contains(&"tank/4/Silent"));
    scene.pass(ms(2));
    assert!(scene.topics().contains(&"tank/4/Silent"));
    // A known one does not.
    scene.change(TANK, "/Loud", V::I(3));
    assert_eq!(scans(&mut scene, MINUTE), 0);
}

// --------------------------------------------------------------------------------------------- rounds

#[test]
fn s2_2_a_refresh_finds_what_was_not_signalled_and_says_nothing_else_again() {
    let mut scene = refreshing();
    tank(&mut scene);
    let service = scene.service(TANK);
    service.items[1].1 = V::D(0.25);
    service.items.push(("/Name".into(), s("diesel")));
    scene.pass(ROUND + ms(1));
    let mut sent = scene.sent(0);
    sent.retain(|(topic, ..)| topic.starts_with("tank/"));
    sent.sort();
    let expected = [
        ("tank/4/Level", r#"{"value": 0.25}"#),
        ("tank/4/Name", r#"{"value": "diesel"}"#),
    ];
    let expected = expected.map(|(topic, payload)| (topic.to_owned(), payload.to_owned(), true));
    assert_eq!(sent, expected);
    // Nothing differs now.
    scene.pass(ROUND);
    assert!(
        !scene
            .sent(0)
            .iter()
            .any(|(topic, ..)| topic.starts_with("tank/"))
    );
    // An item that is gone.
    scene
        .service(TANK)
        .items
        .retain(|(path, _)| path != "/Name");
    scene.pass(ROUND);
    assert_eq!(scene.topics(), ["tank/4/DeviceInstance", "tank/4/Level"]);
}

#[test]
fn s2_2_a_walk_refreshes_as_well() {
    let mut scene = refreshing();
    tank(&mut scene);
    scene.service(TANK).script = Some(walked);
    scene.service(TANK).items[1].1 = V::D(0.25);
    scene.pass(ROUND + ms(1));
    let mut sent = scene.sent(0);
    sent.retain(|(topic, ..)| topic.starts_with("tank/"));
    assert_eq!(sent.len(), 1, "{sent:?}");
    scene.service(TANK).items.remove(1);
    scene.pass(ROUND);
    assert_eq!(scene.topics(), ["tank/4/DeviceInstance"]);
}

/// A service that has to be read item by item.
fn walked(service: &Service, call: &Call) -> Option<Vec<u8>> {
    let fails = matches!(
        (&call.method, &*call.path),
        (Method::GetItems, _) | (Method::GetValue, "/")
    );
    fails.then(|| frames::error(&service.owner, call.id.serial(), UNKNOWN_OBJECT))
}

#[test]
fn s2_2_a_round_takes_five_minutes_and_asks_one_service_at_a_time() {
    let mut scene = refreshing();
    let names: Vec<String> = (0..10)
        .map(|n| format!("com.victronenergy.tank.t{n}"))
        .collect();
    for (n, name) in (0..).zip(&names) {
        scene.own(name, &format!(":1.{n}"), &[("/DeviceInstance", V::I(n))]);
    }
    scene.settle();
    let mut asked = Vec::new();
    let end = scene.now.monotonic + ROUND;
    while let Some(due) = scene.bridge.poll_timeout().filter(|due| *due <= end) {
        scene.now.monotonic = due;
        scene.bridge.tick(scene.now);
        let calls = scene.calls();
        assert!(calls.len() <= 1, "{calls:?}");
        for call in calls {
            let answer = scene.answer(&call).unwrap();
            scene.hear(&answer);
            asked.push(call.destination.to_string());
        }
        scene.settle();
    }
    assert_eq!(asked.len(), 10, "{asked:?}");
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 10, "{asked:?}");
    // One that does not answer holds up the round, and has nobody asked beside it.
    scene.service(&names[3]).mood = Mood::Silent;
    for _ in 0..200 {
        let due = scene.bridge.poll_timeout().unwrap();
        scene.pass(due.saturating_duration_since(scene.now.monotonic));
        if !scene.unanswered.is_empty() {
            break;
        }
    }
    scene.pass(Duration::from_secs(20));
    assert_eq!(scene.unanswered.len(), 1);
    assert!(scene.topics().contains(&"tank/3/DeviceInstance"));
}

#[test]
fn s2_2_no_refresh_with_zero() {
    let mut scene = refreshing();
    tank(&mut scene);
    scene.bridge.reconfigure(scene.now, settings(1));
    assert_eq!(scans(&mut scene, 10 * ROUND), 0);
}

#[test]
fn s2_3_signals_beside_a_refresh_keep_their_order() {
    let mut scene = refreshing();
    tank(&mut scene);
    scene.now.monotonic += ROUND;
    scene.bridge.tick(scene.now);
    let call = scene.calls().remove(0);
    let answer = scene.answer(&call).unwrap();
    // Before the answer: older. After it: newer.
    let changed = |value| frames::properties_changed(":1.5", "/Level", [("Value", V::D(value))]);
    scene.hear(&changed(0.1));
    scene.settle();
    scene.hear(&answer);
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 0.5}"#));
    scene.hear(&changed(0.2));
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 0.2}"#));
}

#[test]
fn s2_2_what_only_signals_bring_outlives_a_scan() {
    let mut scene = refreshing();
    tank(&mut scene);
    scene.hear(&frames::properties_changed(
        ":1.5",
        "/Ghost",
        [("Value", V::I(7))],
    ));
    scene.pass(3 * ROUND);
    assert_eq!(scene.value("tank/4/Ghost"), Some(r#"{"value": 7}"#));
    scene.leave(TANK);
    scene.settle();
    assert!(scene.topics().is_empty());
}

// ---------------------------------------------------------------------------------------------- reads

#[test]
fn s2_2_a_read_of_an_item_that_is_gone_unpublishes_it() {
    for error in [UNKNOWN_OBJECT, "org.freedesktop.DBus.Error.UnknownMethod"] {
        let mut scene = Scene::new();
        tank(&mut scene);
        scene.service(TANK).script = Some(if error == UNKNOWN_OBJECT {
            |service, call| {
                (*call.path == *"/Level")
                    .then(|| frames::error(&service.owner, call.id.serial(), UNKNOWN_OBJECT))
            }
        } else {
            |service, call| {
                let error = "org.freedesktop.DBus.Error.UnknownMethod";
                (*call.path == *"/Level")
                    .then(|| frames::error(&service.owner, call.id.serial(), error))
            }
        });
        scene.ask("R/tank/4/Level", "");
        scene.settle();
        assert_eq!(scene.topics(), ["tank/4/DeviceInstance"], "{error}");
    }
    // Another error says nothing about it.
    let mut scene = Scene::new();
    tank(&mut scene);
    scene.service(TANK).script = Some(|service, call| {
        let error = "com.victronenergy.Error.Busy";
        (*call.path == *"/Level").then(|| frames::error(&service.owner, call.id.serial(), error))
    });
    scene.ask("R/tank/4/Level", "");
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 0.5}"#));
}

#[test]
fn s5_5_an_item_that_only_signals_have_brought_is_answered_with_what_is_known() {
    let mut scene = Scene::new();
    tank(&mut scene);
    scene.hear(&frames::properties_changed(
        ":1.5",
        "/Ghost",
        [("Value", V::I(7))],
    ));
    scene.settle();
    scene.pass(MINUTE);
    scene.sent(0);
    scene.ask_from(0, "R/tank/4/Ghost", "", false, Some("answers"));
    scene.settle();
    let ghost = (
        "tank/4/Ghost".to_owned(),
        r#"{"value": 7}"#.to_owned(),
        true,
    );
    assert!(scene.sent(0).contains(&ghost));
    let (_, told) = scene.brokers[0].responses.remove(0);
    assert!(told.contains("\"ok\"") && told.contains('7'), "{told}");
}

#[test]
fn s5_5_a_node_that_is_no_object_is_answered_with_the_items_below() {
    let mut scene = Scene::new();
    let items = [
        ("/DeviceInstance", V::I(4)),
        ("/Dc/0/Voltage", V::D(12.5)),
        ("/Dc/0/Current", V::D(1.5)),
    ];
    scene.own(TANK, ":1.5", &items);
    scene.settle();
    scene.sent(0);
    scene.ask("R/tank/4/Dc", "");
    scene.settle();
    let mut topics: Vec<_> = scene.sent(0).into_iter().map(|(topic, ..)| topic).collect();
    topics.sort();
    assert_eq!(topics, ["tank/4/Dc/0/Current", "tank/4/Dc/0/Voltage"]);
}

// -------------------------------------------------------------------------------------- stale topics

fn retained(scene: &mut Scene, topics: &[&str]) {
    scene.bridge.broker_disconnected(0);
    scene.bridge.broker_connected(0);
    for topic in topics {
        let topic = format!("N/{PORTAL}/{topic}");
        scene.bridge.broker_retained(0, &topic, b"");
    }
    scene.bridge.broker_ready(scene.now, 0);
}

fn cleared(scene: &mut Scene) -> Vec<String> {
    scene.settle();
    let sent = scene.sent(0).into_iter();
    let empty = sent.filter(|(_, payload, _)| payload.is_empty());
    let mut topics: Vec<_> = empty.map(|(topic, ..)| topic).collect();
    topics.sort();
    topics
}

#[test]
fn s4_9_one_slow_service_holds_up_only_the_topics_it_may_have() {
    let mut scene = Scene::new();
    scene.own_with(OTHER, ":1.6", &[], Mood::Silent);
    tank(&mut scene);
    let stale = [
        "tank/4/Old",
        "tank/9/Level",
        "gps/0/Fix",
        "battery/1/Soc",
        "odd",
    ];
    retained(&mut scene, &stale);
    let gone = ["gps/0/Fix", "odd", "tank/4/Old", "tank/9/Level"];
    assert_eq!(cleared(&mut scene), gone);
    // The slow one answers at last: what is not its own goes then.
    scene.service(OTHER).mood = Mood::Answers;
    scene.service(OTHER).items = vec![("/DeviceInstance".into(), V::I(2))];
    let call = scene.unanswered.remove(0);
    let answer = scene.answer(&call).unwrap();
    scene.hear(&answer);
    assert_eq!(cleared(&mut scene), ["battery/1/Soc"]);
}

#[test]
fn s4_9_topics_do_not_wait_longer_than_a_minute() {
    let mut scene = Scene::new();
    tank(&mut scene);
    // It answers each step of its scan, and takes long for each.
    scene.own_with(OTHER, ":1.6", &[("/A", V::I(1))], Mood::Silent);
    scene.settle();
    retained(&mut scene, &["battery/1/Soc"]);
    assert_eq!(cleared(&mut scene), [""; 0]);
    scene.service(OTHER).script = Some(walked);
    scene.service(OTHER).mood = Mood::Answers;
    for _ in 0..2 {
        scene.now.monotonic += Duration::from_secs(20);
        scene.bridge.tick(scene.now);
        let call = scene.unanswered.remove(0);
        let answer = scene.answer(&call).unwrap();
        scene.hear(&answer);
        scene.unanswered = scene.calls();
        assert_eq!(cleared(&mut scene), [""; 0]);
    }
    scene.now.monotonic += Duration::from_secs(20);
    scene.bridge.tick(scene.now);
    assert_eq!(cleared(&mut scene), ["battery/1/Soc"]);
}
