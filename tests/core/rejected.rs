//! Topics and values that a broker does not take (§4.12): settings that say so, and the search for what no
//! setting says.

use std::collections::BTreeMap;
use std::time::Duration;

use dbus_mqtt::bridge::PublishSink;
use dbus_mqtt::link::suspects::{Ending, LEFT_OUT, Mode, Suspect, Suspects};
use dbus_mqtt::model::topic::TopicRules;

use crate::frames::wire::{V, s};
use crate::frames::{self, PORTAL};
use crate::scene::Scene;

const TANK: &str = "com.victronenergy.tank.one";
const RVC: &str = "com.victronenergy.rvc.one";

fn with(topics: TopicRules) -> Scene {
    let mut outlet = frames::outlet(true, None);
    outlet.topics = topics;
    Scene::with(frames::config(vec![outlet]))
}

#[test]
fn s4_12_what_has_too_many_levels_or_bytes_is_left_out() {
    let mut scene = with(TopicRules {
        levels_max: Some(6),
        bytes_max: Some(40),
        ..TopicRules::default()
    });
    let long = format!("/{}", "x".repeat(20));
    scene.own(
        TANK,
        ":1.5",
        &[
            ("/DeviceInstance", V::I(4)),
            ("/A/B", V::I(1)),
            ("/A/B/C", V::I(1)),
            (&long, V::I(1)),
        ],
    );
    scene.settle();
    scene.change(TANK, "/A/B/C", V::I(2));
    scene.ask("R/tank/4/A/B/C", "");
    scene.settle();
    assert_eq!(scene.topics(), ["tank/4/A/B", "tank/4/DeviceInstance"]);
    assert_eq!(scene.bridge.broker_stats().next().unwrap().left_out, 2);
}

#[test]
fn s4_12_characters_that_a_broker_does_not_take_are_replaced_both_ways() {
    let mut scene = with(TopicRules {
        replace: vec![(' ', "_".into()), ('*', "star".into())],
        ..TopicRules::default()
    });
    let items = [
        ("/Identifier", s("hq 1*")),
        ("/X Y", V::I(1)),
        ("/Mode", V::I(3)),
    ];
    scene.own(RVC, ":1.5", &items);
    scene.settle();
    let expected = [
        "rvc/hq_1star/Identifier",
        "rvc/hq_1star/Mode",
        "rvc/hq_1star/X_Y",
    ];
    assert_eq!(scene.topics(), expected);
    let original = |scene: &Scene, rest: &str| {
        let topic = format!("W/{PORTAL}/{rest}");
        scene.bridge.original(0, &topic)
    };
    let wanted = |rest: &str| Some(format!("W/{PORTAL}/{rest}"));
    assert_eq!(
        original(&scene, "rvc/hq_1star/X_Y"),
        wanted("rvc/hq 1*/X Y")
    );
    assert_eq!(original(&scene, "rvc/hq_1star/"), wanted("rvc/hq 1*/"));
    assert_eq!(original(&scene, "rvc/other/Mode"), None);

    // What is read back under that name is its own, and no stale topic.
    scene.bridge.broker_disconnected(0);
    scene.bridge.broker_connected(0);
    for rest in ["rvc/hq_1star/Mode", "rvc/hq_1star/Old"] {
        let topic = format!("N/{PORTAL}/{rest}");
        scene.bridge.broker_retained(0, &topic, b"");
    }
    scene.sent(0);
    scene.bridge.broker_ready(scene.now, 0);
    scene.settle();
    let sent = scene.sent(0);
    let cleared: Vec<_> = sent
        .iter()
        .filter(|(_, payload, _)| payload.is_empty())
        .collect();
    assert_eq!(cleared.len(), 1);
    assert_eq!(cleared[0].0, "rvc/hq_1star/Old");
    scene.leave(RVC);
    scene.settle();
    assert!(scene.topics().is_empty(), "{:?}", scene.topics());
}

/// A broker that closes the connection at what it does not like, and takes what came before.
struct Touchy<'a> {
    dislikes: &'a dyn Fn(&str, &str) -> bool,
    /// What it took.
    values: BTreeMap<String, String>,
    suspects: Suspects,
    /// What was found.
    guilty: Vec<String>,
    connections: usize,
}

#[derive(Default)]
struct Written(Vec<(String, String)>);

impl PublishSink for Written {
    fn publish(&mut self, _: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        payload(&mut bytes);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        self.0.push((text(topic.concat()), text(bytes)));
    }
}

impl Touchy<'_> {
    /// Takes what was written; `false` where it closes the connection.
    fn take(&mut self, written: &mut Written) -> bool {
        for (topic, payload) in written.0.drain(..) {
            if (self.dislikes)(&topic, &payload) {
                return false;
            }
            self.values.insert(topic, payload);
        }
        true
    }

    /// One connection; `true` where the broker keeps it until nothing is left to be said.
    fn connect(&mut self, scene: &mut Scene) -> bool {
        self.connections += 1;
        let now = scene.now;
        if let Some(guilty) = self.suspects.connected(now.monotonic) {
            scene
                .bridge
                .leave_topic_out(now, 0, &guilty.topic, LEFT_OUT);
            self.guilty.push(guilty.topic.into());
        }
        scene.bridge.broker_connected(0);
        scene.bridge.broker_ready(now, 0);
        let mut pings = 0;
        let kept = loop {
            let mut written = Written::default();
            let mode = self.suspects.mode(now.monotonic);
            if mode == Mode::Trial {
                let suspect = self.suspects.next_one().unwrap();
                let what = (&*suspect.topic, suspect.empty);
                if !scene.bridge.publish_alone(now, 0, what, &mut written) {
                    continue;
                }
                assert_eq!(written.0.len(), 1);
                self.suspects.try_one(pings + 1, suspect);
            } else {
                while written.0.len() < 10 && scene.bridge.poll_publish(now, 0, &mut written) {}
            }
            if written.0.is_empty() {
                break true;
            }
            self.suspects.published(now.monotonic);
            if mode == Mode::Recording {
                for (topic, payload) in &written.0 {
                    let suspect = Suspect {
                        topic: topic.as_str().into(),
                        empty: payload.is_empty(),
                    };
                    self.suspects.note(pings, suspect);
                }
            }
            pings += 1;
            if !self.take(&mut written) {
                break false;
            }
            self.suspects.answered(|asked| asked <= pings);
        };
        if !kept {
            self.suspects.ended(now.monotonic, Ending::Closed);
            scene.bridge.broker_disconnected(0);
        }
        kept
    }
}

fn search(scene: &mut Scene, dislikes: &dyn Fn(&str, &str) -> bool) -> (Vec<String>, usize) {
    let mut broker = Touchy {
        dislikes,
        values: BTreeMap::new(),
        suspects: Suspects::default(),
        guilty: Vec::new(),
        connections: 0,
    };
    while !broker.connect(scene) {
        scene.pass(Duration::from_secs(1));
        assert!(broker.connections < 40, "{:?}", broker.guilty);
    }
    let prefix = format!("N/{PORTAL}/");
    let mut guilty: Vec<_> = broker
        .guilty
        .iter()
        .map(|topic| topic.strip_prefix(&prefix).unwrap().to_owned())
        .collect();
    guilty.sort();
    // All the others have arrived.
    let taken = |rest: &String| broker.values.contains_key(&format!("{prefix}{rest}"));
    let all = (0..100).map(|item| format!("tank/4/Item{item}"));
    for rest in all.filter(|rest| !guilty.contains(rest)) {
        assert!(taken(&rest), "{rest}");
    }
    (guilty, broker.connections)
}

fn hundred_items() -> Scene {
    let mut scene = Scene::new();
    scene.bridge.broker_disconnected(0);
    let paths: Vec<_> = (0..100).map(|item| format!("/Item{item}")).collect();
    let mut items = vec![("/DeviceInstance", V::I(4))];
    items.extend(paths.iter().map(|path| (path.as_str(), V::I(1))));
    scene.own(TANK, ":1.5", &items);
    scene.settle();
    scene
}

#[test]
fn s4_12_a_topic_that_a_broker_rejects_costs_that_topic_and_not_the_connection() {
    let mut scene = hundred_items();
    let (guilty, connections) = search(&mut scene, &|topic, _| topic.ends_with("/Item57"));
    assert_eq!(guilty, ["tank/4/Item57"]);
    // Two that are closed at once, the trial, and one that holds.
    assert_eq!(connections, 4);
    assert_eq!(scene.bridge.broker_stats().next().unwrap().left_out, 1);

    // It stays left out, whatever happens to it, for an hour.
    let values = |scene: &mut Scene| {
        let mut written = Written::default();
        while scene.bridge.poll_publish(scene.now, 0, &mut written) {}
        let of_it = |(topic, _): &(String, String)| topic.ends_with("/Item57");
        written.0.into_iter().filter(of_it).count()
    };
    scene.change(TANK, "/Item57", V::I(2));
    scene.ask("R/tank/4/Item57", "");
    while let Some(call) = scene.bridge.poll_call() {
        let bytes = scene.answer(&call).unwrap();
        scene.hear(&bytes);
    }
    assert_eq!(values(&mut scene), 0);
    scene.now.monotonic += LEFT_OUT;
    scene.bridge.tick(scene.now);
    assert_eq!(values(&mut scene), 1);
}

#[test]
fn s4_12_several_topics_are_found_in_one_search() {
    let mut scene = hundred_items();
    let bad = ["/Item3", "/Item57", "/Item58", "/Item99"];
    let dislikes = |topic: &str, _: &str| bad.iter().any(|bad| topic.ends_with(bad));
    let (guilty, connections) = search(&mut scene, &dislikes);
    let expected = [
        "tank/4/Item3",
        "tank/4/Item57",
        "tank/4/Item58",
        "tank/4/Item99",
    ];
    assert_eq!(guilty, expected);
    assert!(connections <= 12, "{connections}");
}

#[test]
fn s4_12_a_value_that_a_broker_rejects_is_found_as_well() {
    let mut scene = hundred_items();
    scene.change(TANK, "/Item7", s(&"x".repeat(30_000)));
    let (guilty, _) = search(&mut scene, &|_, payload| payload.len() > 20_000);
    assert_eq!(guilty, ["tank/4/Item7"]);

    // What the broker holds of it from before is cleared: it takes the topic.
    scene.bridge.broker_disconnected(0);
    scene.bridge.broker_connected(0);
    let topic = format!("N/{PORTAL}/tank/4/Item7");
    scene.bridge.broker_retained(0, &topic, b"");
    scene.bridge.broker_ready(scene.now, 0);
    let mut written = Written::default();
    while scene.bridge.poll_publish(scene.now, 0, &mut written) {}
    assert!(written.0.contains(&(topic.clone(), String::new())));
    assert_eq!(
        written
            .0
            .iter()
            .filter(|(found, _)| *found == topic)
            .count(),
        1
    );
}

#[test]
fn s4_12_an_item_that_is_gone_and_was_never_taken_is_not_taken_back() {
    let mut scene = hundred_items();
    let dislikes = |topic: &str, _: &str| topic.ends_with("/Item57");
    search(&mut scene, &dislikes);
    scene.leave(TANK);
    let mut written = Written::default();
    while scene.bridge.poll_publish(scene.now, 0, &mut written) {}
    assert!(
        written
            .0
            .iter()
            .any(|(topic, payload)| topic.ends_with("/Item56") && payload.is_empty())
    );
    assert!(
        !written
            .0
            .iter()
            .any(|(topic, _)| topic.ends_with("/Item57"))
    );
}
