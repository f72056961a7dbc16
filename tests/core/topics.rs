//! Which paths and identifiers become topics (§4.7).

use crate::frames::wire::{V, s};
use crate::scene::Scene;

const TANK: &str = "com.victronenergy.tank.one";

#[test]
fn s4_7_a_path_that_no_broker_takes_is_left_out_and_the_rest_is_published() {
    let deep = "/a".repeat(97);
    let bad = [
        "/Bad\u{1}",
        "/Bad\u{1f}/x",
        "/Bad\u{7f}",
        "/Bad\u{9f}",
        "/Bad\u{ffff}",
        "/Bad\u{fdd0}",
        "/Bad\u{1fffe}",
        "/Bad+",
        "/Bad#",
        "/Bad//x",
        &deep,
    ];
    let mut scene = Scene::new();
    let mut items = vec![("/DeviceInstance", V::I(4)), ("/Level", V::D(0.5))];
    items.extend(bad.iter().map(|path| (*path, V::I(1))));
    let fits = "/a".repeat(96);
    items.push((&fits, V::I(1)));
    scene.own(TANK, ":1.5", &items);
    scene.settle();
    for path in bad {
        scene.change(TANK, path, V::I(2));
    }
    scene.settle();
    let expected = [
        format!("tank/4{fits}"),
        "tank/4/DeviceInstance".into(),
        "tank/4/Level".into(),
    ];
    let mut topics = scene.topics();
    topics.sort_by_key(|topic| topic.to_lowercase());
    assert_eq!(topics, expected);
}

#[test]
fn s4_7_an_identifier_that_no_broker_takes_leaves_its_service_out_until_it_says_another() {
    const VECAN: &str = "com.victronenergy.rvc.one";
    for bad in ["hq\u{1}", "hq\n", "hq\u{85}", "hq\u{ffff}", "hq\u{fdef}"] {
        let mut scene = Scene::new();
        scene.own(VECAN, ":1.5", &[("/Identifier", s(bad)), ("/X", V::I(1))]);
        scene.own(TANK, ":1.6", &[("/Level", V::D(0.5))]);
        // As long as a service that is new may take to say its instance (§2.2).
        scene.pass(std::time::Duration::from_secs(3));
        scene.change(VECAN, "/X", V::I(2));
        scene.settle();
        assert_eq!(scene.topics(), ["tank/0/Level"], "{bad:?}");

        scene.change(VECAN, "/Identifier", s("hq 1"));
        scene.settle();
        assert_eq!(scene.value("rvc/hq 1/X"), Some(r#"{"value": 2}"#));

        // And away again.
        scene.change(VECAN, "/Identifier", s(bad));
        scene.settle();
        assert_eq!(scene.topics(), ["tank/0/Level"], "{bad:?}");
    }
}
