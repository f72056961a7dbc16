//! What other clients publish below our topics, and what a broker has there (§4.9, §4.11, §4.14).

use std::time::Duration;

use crate::frames::wire::{V, s};
use crate::frames::{self, PORTAL};
use crate::scene::{Mood, Scene, Sent};

const TANK: &str = "com.victronenergy.tank.one";

fn watched(retain: bool, keep_alive: Option<Duration>) -> Scene {
    let mut scene = Scene::with(frames::config(vec![frames::outlet(retain, keep_alive)]));
    scene.bridge.broker_watched(scene.now, 0, true);
    scene.own(
        TANK,
        ":1.5",
        &[("/DeviceInstance", V::I(4)), ("/Level", V::D(0.5))],
    );
    scene.settle();
    scene.sent(0);
    scene
}

/// Another client publishes; what the bridge sends because of it.
fn foreign(scene: &mut Scene, topic: &str, payload: &str, retained: bool) -> Vec<Sent> {
    let topic = format!("N/{PORTAL}/{topic}");
    let (bridge, now) = (&mut scene.bridge, scene.now);
    bridge.broker_foreign(now, 0, &topic, payload.as_bytes(), retained);
    scene.settle();
    scene.sent(0)
}

fn sent(topic: &str, payload: &str, retain: bool) -> Sent {
    (topic.into(), payload.into(), retain)
}

#[test]
fn s4_11_what_another_client_publishes_is_corrected_at_once() {
    let mut scene = watched(true, None);
    let right = sent("tank/4/Level", r#"{"value": 0.5}"#, true);
    for (payload, retained) in [(r#"{"value": 9}"#, true), ("", true), ("x", false)] {
        assert_eq!(
            foreign(&mut scene, "tank/4/Level", payload, retained),
            std::slice::from_ref(&right)
        );
    }
    let cleared = [sent("ghost/1/X", "", true)];
    assert_eq!(
        foreign(&mut scene, "ghost/1/X", r#"{"value": 1}"#, true),
        cleared
    );
    let cleared = [sent("heartbeat", "", true)];
    assert_eq!(
        foreign(&mut scene, "heartbeat", r#"{"value": 1}"#, true),
        cleared
    );
    let online = [sent("bridge/status", r#"{"value": "online"}"#, true)];
    assert_eq!(
        foreign(&mut scene, "bridge/status", r#"{"value": "offline"}"#, true),
        online
    );
    let serial = [sent(
        "system/0/Serial",
        &format!(r#"{{"value": "{PORTAL}"}}"#),
        true,
    )];
    assert_eq!(
        foreign(&mut scene, "system/0/Serial", r#"{"value": "x"}"#, true),
        serial
    );
    assert_eq!(foreign(&mut scene, "system/0/Serial", "", true), serial);
    let keepalive = [sent("keepalive", r#"{"value": 1}"#, true)];
    assert_eq!(foreign(&mut scene, "keepalive", "", true), keepalive);
    let stats = scene.bridge.broker_stats().next().unwrap();
    assert_eq!((stats.foreign, stats.corrected), (9, 9));
}

#[test]
fn s4_11_what_is_right_or_passing_is_left_alone() {
    let mut scene = watched(true, None);
    for (topic, payload, retained) in [
        ("tank/4/Level", r#"{"value": 0.5}"#, true),
        ("bridge/status", r#"{"value": "online"}"#, true),
        ("ghost/1/X", "", true),
        ("heartbeat", r#"{"value": 1}"#, false),
        ("full_publish_completed", r#"{"value": 1}"#, false),
        ("bridge/stats", r#"{"value": 1}"#, false),
        ("bridge/doctor", r#"{"value": 1}"#, false),
    ] {
        assert_eq!(foreign(&mut scene, topic, payload, retained), [], "{topic}");
    }
    assert_eq!(scene.bridge.broker_stats().next().unwrap().foreign, 0);
}

#[test]
fn s4_11_while_nobody_asks_what_another_client_publishes_is_cleared() {
    let mut scene = watched(true, Some(Duration::from_secs(60)));
    let cleared = [sent("tank/4/Level", "", true)];
    assert_eq!(
        foreign(&mut scene, "tank/4/Level", r#"{"value": 9}"#, true),
        cleared
    );
    assert_eq!(foreign(&mut scene, "tank/4/Level", "", true), []);
}

#[test]
fn s4_11_a_topic_of_a_device_that_is_not_scanned_yet_waits_for_the_scan() {
    let mut scene = watched(true, None);
    scene.own_with(
        "com.victronenergy.tank.two",
        ":1.6",
        &[("/DeviceInstance", V::I(5)), ("/Level", V::D(0.25))],
        Mood::Silent,
    );
    scene.settle();
    assert_eq!(
        foreign(&mut scene, "tank/5/Level", r#"{"value": 9}"#, true),
        []
    );
    assert_eq!(
        foreign(&mut scene, "tank/6/Level", r#"{"value": 9}"#, true),
        []
    );
    scene.service("com.victronenergy.tank.two").mood = Mood::Answers;
    let calls = std::mem::take(&mut scene.unanswered);
    for call in calls {
        let bytes = scene.answer(&call).unwrap();
        scene.hear(&bytes);
    }
    scene.settle();
    let found = scene.sent(0);
    assert!(
        found.contains(&sent("tank/5/Level", r#"{"value": 0.25}"#, true)),
        "{found:?}"
    );
    assert!(found.contains(&sent("tank/6/Level", "", true)), "{found:?}");
}

#[test]
fn s4_11_two_bridges_do_not_fight() {
    let mut scene = watched(true, None);
    let mut corrected = 0;
    for round in 0..100 {
        let payload = format!(r#"{{"value": {}}}"#, round + 1);
        corrected += foreign(&mut scene, "tank/4/Level", &payload, true).len();
    }
    assert_eq!(corrected, 10);
    scene.pass(Duration::from_secs(61));
    scene.sent(0);
    assert_eq!(
        foreign(&mut scene, "tank/4/Level", r#"{"value": 9}"#, true).len(),
        1
    );
}

#[test]
fn s4_11_without_retain_a_retained_message_of_another_client_is_cleared_first() {
    let mut scene = watched(false, None);
    let right = sent("tank/4/Level", r#"{"value": 0.5}"#, false);
    let both = [sent("tank/4/Level", "", true), right.clone()];
    assert_eq!(
        foreign(&mut scene, "tank/4/Level", r#"{"value": 9}"#, true),
        both
    );
    assert_eq!(
        foreign(&mut scene, "tank/4/Level", r#"{"value": 9}"#, false),
        [right]
    );
}

#[test]
fn s4_14_status_and_serial_are_said_again_where_spoofs_are_not_seen() {
    let mut scene = Scene::with(frames::config(vec![frames::outlet(
        true,
        Some(Duration::from_secs(60)),
    )]));
    let again = [
        sent("bridge/status", r#"{"value": "online"}"#, true),
        sent(
            "system/0/Serial",
            &format!(r#"{{"value": "{PORTAL}"}}"#),
            true,
        ),
    ];
    for _ in 0..3 {
        scene.pass(Duration::from_secs(60));
        assert_eq!(scene.sent(0), again);
    }
    scene.bridge.broker_watched(scene.now, 0, true);
    scene.settle();
    assert_eq!(scene.sent(0), again[..1]);
    scene.pass(Duration::from_secs(300));
    assert_eq!(scene.sent(0), []);
}

#[test]
fn s4_9_values_do_not_wait_for_stale_topics_to_be_cleared() {
    let mut scene = Scene::new();
    scene.bridge.broker_disconnected(0);
    scene.own(
        TANK,
        ":1.5",
        &[("/DeviceInstance", V::I(4)), ("/CustomName", s("bow"))],
    );
    scene.settle();
    scene.bridge.broker_connected(0);
    for stale in 0..10_000 {
        let topic = format!("N/{PORTAL}/ghost/{stale}/X");
        scene.bridge.broker_retained(0, &topic, b"");
    }
    scene.bridge.broker_ready(scene.now, 0);
    // One that comes when values flow already.
    let topic = format!("N/{PORTAL}/ghost/late/X");
    scene.bridge.broker_retained(0, &topic, b"");
    scene.settle();
    let sent = scene.sent(0);
    let at = sent
        .iter()
        .position(|(topic, ..)| topic == "tank/4/CustomName")
        .unwrap();
    assert!(at < 20, "{at}");
    let cleared = sent
        .iter()
        .filter(|(topic, payload, _)| topic.starts_with("ghost/") && payload.is_empty());
    assert_eq!(cleared.count(), 10_001);
}
