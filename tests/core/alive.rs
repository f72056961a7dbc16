//! Which requests keep the values coming, and what else they do (§5.1 to §5.3).

use std::time::Duration;

use crate::frames::{self, wire::V};
use crate::scene::Scene;

const BATTERY: &str = "com.victronenergy.battery.ttyO0";
const SOC: &str = "battery/288/Soc";
const END: &str = "full_publish_completed";

fn scene(retain: bool) -> Scene {
    let minute = Duration::from_secs(60);
    let outlet = frames::outlet(retain, Some(minute));
    let mut scene = Scene::with(frames::config(vec![outlet]));
    let items = [
        ("/DeviceInstance", V::I(288)),
        ("/Soc", V::D(50.0)),
        ("/CustomName", V::I(1)),
    ];
    scene.own(BATTERY, ":1.5", &items);
    scene.settle();
    // Scans that follow the first are over.
    scene.pass(minute);
    scene.sent(0);
    scene
}

/// What a request brings: how often the value of an item, and which completion messages.
fn brings(scene: &mut Scene, topic: &str, payload: &str) -> (usize, Vec<String>) {
    scene.sent(0);
    scene.ask_from(0, topic, payload, false, None);
    scene.settle();
    let sent = scene.sent(0);
    let values = sent
        .iter()
        .filter(|(topic, payload, _)| topic == SOC && !payload.is_empty());
    let values = values.count();
    let ends = sent.into_iter().filter(|(topic, _, _)| topic == END);
    let ends = ends.map(|(_, payload, retain)| {
        assert!(!retain, "a completion is never retained");
        payload
            .split_once(", ")
            .map_or("", |(_, rest)| rest)
            .to_owned()
    });
    (values, ends.collect())
}

/// Whether a change is published now.
fn is_alive(scene: &mut Scene) -> bool {
    scene.sent(0);
    let old = scene.value(SOC).map(str::to_owned);
    let new = if old.as_deref() == Some(r#"{"value": 1.0}"#) {
        2.0
    } else {
        1.0
    };
    scene.change(BATTERY, "/Soc", V::D(new));
    scene.settle();
    scene
        .sent(0)
        .iter()
        .any(|(topic, payload, _)| topic == SOC && !payload.is_empty())
}

/// Valid or not, and whatever comes of it.
const PLAIN: [(&str, &str); 9] = [
    ("R/battery/288/Soc", ""),
    ("R/battery/288/CustomName", "ignored"),
    ("R/battery/288/Nowhere", ""),
    ("R/tank/7/Level", ""),
    ("R/battery", ""),
    ("W/battery/288/CustomName", r#"{"value": 2}"#),
    ("W/battery/288/CustomName", "no JSON"),
    ("W/battery/288/", r#"{"value": 2}"#),
    ("W/tank/7/Level", r#"{"value": 2}"#),
];
const FULL: [(&str, &str); 4] = [
    ("R/keepalive", ""),
    (
        "R/keepalive",
        r#"{"keepalive-options": ["suppress-republish"]}"#,
    ),
    ("R/system/0/Serial", ""),
    (
        "R/system/0/Serial",
        r#"{"keepalive-options": ["suppress-republish"]}"#,
    ),
];

#[test]
fn s5_1_every_request_wakes_and_renews() {
    for (topic, payload) in PLAIN.into_iter().chain(FULL) {
        let mut scene = scene(true);
        assert!(!is_alive(&mut scene));
        // Whatever wakes it, all values come, and then the completion.
        let (values, ends) = brings(&mut scene, topic, payload);
        let asked = usize::from(topic == "R/battery/288/Soc");
        assert_eq!(
            (values, ends),
            (1 + asked, vec![String::new()]),
            "{topic} {payload}"
        );
        scene.pass(Duration::from_secs(50));
        let _ = brings(&mut scene, topic, payload);
        scene.pass(Duration::from_secs(50));
        assert!(is_alive(&mut scene), "{topic} {payload}");
        scene.pass(Duration::from_secs(11));
        assert!(!is_alive(&mut scene), "{topic} {payload}");
    }
}

#[test]
fn s5_1_beside_selective_interests_a_plain_request_wakes_nothing() {
    for (topic, payload) in PLAIN {
        let mut scene = scene(true);
        scene.ask("R/keepalive", r#"["tank/#"]"#);
        let (values, ends) = brings(&mut scene, topic, payload);
        let asked = usize::from(topic == "R/battery/288/Soc");
        assert_eq!((values, ends), (asked, vec![]), "{topic} {payload}");
        assert!(!is_alive(&mut scene), "{topic} {payload}");
    }
    for (topic, payload) in FULL {
        let mut scene = scene(true);
        scene.ask("R/keepalive", r#"["tank/#"]"#);
        let found = brings(&mut scene, topic, payload);
        assert_eq!(found, (1, vec![String::new()]), "{topic} {payload}");
    }
}

#[test]
fn s5_7_what_is_retained_wakes_nothing() {
    let mut scene = scene(true);
    let topic = "W/battery/288/CustomName";
    scene.ask_from(0, topic, r#"{"value": 2}"#, true, None);
    assert_eq!(scene.calls(), []);
    scene.settle();
    assert!(!is_alive(&mut scene));
}

#[test]
fn s5_2_the_serial_takes_what_a_keep_alive_takes() {
    for retain in [true, false] {
        let mut scene = scene(retain);
        scene.ask("R/keepalive", "");
        scene.settle();
        // Alone it is answered; where nothing is retained, everything follows.
        scene.pass(Duration::from_secs(2));
        let (values, ends) = brings(&mut scene, "R/system/0/Serial", "");
        assert_eq!(values, usize::from(!retain));
        assert_eq!(ends.len(), usize::from(!retain));
        for topic in ["R/keepalive", "R/system/0/Serial"] {
            let mut check = |payload: &str, values: usize, ends: &[&str]| {
                scene.pass(Duration::from_secs(2));
                let found = brings(&mut scene, topic, payload);
                let ends = ends.iter().map(|end| (*end).to_owned()).collect();
                assert_eq!(found, (values, ends), "{topic} {payload}");
            };
            let echo = r#"{"full-publish-completed-echo": "a b"}"#;
            let told = r#""full-publish-completed-echo": "a b"}"#;
            check("1", 1, &[""]);
            check(r#"{"keepalive-options": []}"#, 1, &[""]);
            check("garbage", 1, &[""]);
            check(&format!(r#"{{"keepalive-options": [{echo}]}}"#), 1, &[told]);
            let suppress = r#""suppress-republish""#;
            check(&format!(r#"{{"keepalive-options": [{suppress}]}}"#), 0, &[]);
            // It wins over an echo beside it, in any order.
            check(
                &format!(r#"{{"keepalive-options": [{suppress}, {echo}]}}"#),
                0,
                &[],
            );
            check(
                &format!(r#"{{"keepalive-options": [{echo}, {suppress}]}}"#),
                0,
                &[],
            );
        }
    }
}
