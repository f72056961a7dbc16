//! What the bridge asks of a service, and what it makes of the answers (§2.2).

use std::time::Duration;

use dbus_mqtt::bridge::calls::{Call, Method};

use crate::frames::wire::{V, dict, s, vardict, variant};
use crate::frames::{self, BUS};
use crate::scene::{Mood, Scene, Script, Service};

const TANK: &str = "com.victronenergy.tank.one";
const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
const TRACEBACK: &str = "org.freedesktop.DBus.Python.ValueError";

fn tank() -> [(&'static str, V); 3] {
    [
        ("/DeviceInstance", V::I(4)),
        ("/Level", V::D(0.5)),
        ("/Serial", s("HQ1")),
    ]
}

/// The topics of a tank that answers like this, once it is scanned.
fn scanned(mood: Mood, script: Option<Script>) -> Vec<String> {
    let mut scene = Scene::new();
    scene.own_with(TANK, ":1.5", &tank(), mood);
    scene.service(TANK).script = script;
    scene.settle();
    scene.topics().into_iter().map(str::to_owned).collect()
}

const ALL: [&str; 3] = ["tank/4/DeviceInstance", "tank/4/Level", "tank/4/Serial"];

#[test]
fn s2_5_a_new_owner_without_items_has_nothing_of_the_one_before() {
    let name = "com.victronenergy.battery.one";
    let mut scene = Scene::new();
    let items = [("/DeviceInstance", V::I(4)), ("/Soc", V::D(87.5))];
    scene.own(name, ":1.1", &items);
    scene.settle();
    assert_eq!(scene.value("battery/4/Soc"), Some(r#"{"value": 87.5}"#));
    let refused = Mood::Refuses("org.freedesktop.DBus.Error.Failed".into());
    scene.own_with(name, ":1.2", &[], refused);
    scene.pass(Duration::from_secs(3));
    assert!(scene.topics().is_empty(), "{:?}", scene.topics());
}

#[test]
fn s2_2_whatever_error_get_items_gives_the_root_is_asked_for_its_value() {
    for error in [
        UNKNOWN_METHOD,
        TRACEBACK,
        "org.freedesktop.DBus.Error.UnknownObject",
        // As the service's own word, not the bus's: it is there.
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.NoReply",
        "com.victronenergy.Error.NotYet",
    ] {
        assert_eq!(scanned(Mood::NoItems(error.into()), None), ALL, "{error}");
    }
}

#[test]
fn s2_2_an_answer_without_items_is_none() {
    let empty: Script = |service, call| {
        let nothing = dict("s", "a{sv}", []);
        (call.method == Method::GetItems)
            .then(|| frames::reply(&service.owner, call.id.serial(), &[nothing]))
    };
    assert_eq!(scanned(Mood::Answers, Some(empty)), ALL);
    let all_empty: Script = |service, call| {
        let body = match (&call.method, &*call.path) {
            (Method::GetItems, _) => dict("s", "a{sv}", []),
            (Method::GetValue, "/") => variant(vardict([])),
            _ => return None,
        };
        Some(frames::reply(&service.owner, call.id.serial(), &[body]))
    };
    assert_eq!(scanned(Mood::Answers, Some(all_empty)), ALL);
}

/// A driver in Python with a text that its D-Bus library cannot send.
fn with_bad_serial(service: &Service, call: &Call) -> Option<Vec<u8>> {
    let fails = matches!(
        (&call.method, &*call.path),
        (Method::GetItems, _) | (Method::GetValue, "/" | "/Serial")
    );
    let text = "Traceback (most recent call last):\n  File \"x\"\nValueError: embedded null byte";
    fails.then(|| frames::error_with(&service.owner, call.id.serial(), TRACEBACK, text))
}

#[test]
fn s2_2_one_bad_value_hides_no_device() {
    let topics = scanned(Mood::Answers, Some(with_bad_serial));
    assert_eq!(topics, ["tank/4/DeviceInstance", "tank/4/Level"]);
}

#[test]
fn s2_2_a_service_that_the_bus_says_is_gone_is_not_asked_in_another_way() {
    for error in [
        "NoReply",
        "ServiceUnknown",
        "NameHasNoOwner",
        "LimitsExceeded",
    ] {
        let mut scene = Scene::new();
        scene.own(TANK, ":1.5", &tank());
        let calls = scene.calls();
        let [call] = &calls[..] else {
            panic!("{calls:?}")
        };
        let error = format!("org.freedesktop.DBus.Error.{error}");
        scene.hear(&frames::error(BUS, call.id.serial(), &error));
        assert_eq!(scene.calls(), [], "{error}");
    }
    // What the policy of the bus forbids may be allowed with another method.
    let mut scene = Scene::new();
    scene.own(TANK, ":1.5", &tank());
    let call = scene.calls().remove(0);
    let denied = "org.freedesktop.DBus.Error.AccessDenied";
    scene.hear(&frames::error(BUS, call.id.serial(), denied));
    let next = scene.calls();
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].method, Method::GetValue);
}

#[test]
fn s2_2_a_walk_has_four_calls_out_at_most() {
    let mut scene = Scene::new();
    let paths: Vec<String> = (0..40).map(|n| format!("/A/P{n}/V")).collect();
    let mut items: Vec<(&str, V)> = paths.iter().map(|path| (&**path, V::I(1))).collect();
    items.push(("/DeviceInstance", V::I(4)));
    scene.own_with(TANK, ":1.5", &items, Mood::Answers);
    scene.service(TANK).script = Some(|service, call| {
        let fails = call.method == Method::GetItems || *call.path == *"/";
        let fails = fails && call.method != Method::Introspect;
        fails.then(|| frames::error(&service.owner, call.id.serial(), UNKNOWN_METHOD))
    });
    let mut out = scene.calls();
    let mut most = 0;
    while !out.is_empty() {
        most = most.max(out.len());
        let call = out.remove(0);
        let answer = scene.answer(&call).unwrap();
        scene.hear(&answer);
        out.extend(scene.calls());
    }
    scene.settle();
    // One place is left to clients' reads (§2.9).
    assert_eq!(most, 3);
    assert_eq!(scene.topics().len(), 41);
}

#[test]
fn s2_2_a_walk_never_calls_what_is_no_object_path() {
    let mut scene = Scene::new();
    scene.own(TANK, ":1.5", &tank());
    scene.service(TANK).script = Some(|service, call| match (&call.method, &*call.path) {
        (Method::GetItems, _) | (Method::GetValue, "/") => Some(frames::error(
            &service.owner,
            call.id.serial(),
            UNKNOWN_METHOD,
        )),
        (Method::Introspect, "/") => {
            let xml = r#"<node><node name="Le vel"/><node name="é"/><node name="."/><node name="Level"/>
                <node name="DeviceInstance"/></node>"#;
            Some(frames::reply(&service.owner, call.id.serial(), &[s(xml)]))
        }
        _ => None,
    });
    let mut asked = Vec::new();
    loop {
        let calls = scene.calls();
        if calls.is_empty() {
            break;
        }
        for call in calls {
            let answer = scene.answer(&call).unwrap();
            scene.hear(&answer);
            asked.push(call.path);
        }
    }
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 3, "{asked:?}");
    scene.settle();
    assert_eq!(scene.topics(), ["tank/4/DeviceInstance", "tank/4/Level"]);
}

#[test]
fn s2_2_a_service_that_falls_silent_in_a_walk_keeps_what_it_said() {
    let mut scene = Scene::new();
    scene.own(TANK, ":1.5", &tank());
    scene.service(TANK).script = Some(|service, call| match (&call.method, &*call.path) {
        (Method::GetItems, _) | (Method::GetValue, "/") => Some(frames::error(
            &service.owner,
            call.id.serial(),
            UNKNOWN_METHOD,
        )),
        (Method::GetValue, "/Serial") => {
            let error = "org.freedesktop.DBus.Error.NoReply";
            Some(frames::error(BUS, call.id.serial(), error))
        }
        _ => None,
    });
    scene.settle();
    assert!(
        scene.topics().contains(&"tank/4/DeviceInstance"),
        "{:?}",
        scene.topics()
    );
}

#[test]
fn s2_2_a_key_without_a_slash_is_the_path_with_one() {
    let mut scene = Scene::new();
    scene.own(TANK, ":1.5", &[]);
    scene.service(TANK).script = Some(|service, call| {
        let item = |path: &str, value| (s(path), vardict([("Value", value)]));
        let items = [item("DeviceInstance", V::I(4)), item("Level", V::D(0.5))];
        (call.method == Method::GetItems).then(|| {
            frames::reply(
                &service.owner,
                call.id.serial(),
                &[dict("s", "a{sv}", items)],
            )
        })
    });
    scene.settle();
    assert_eq!(scene.topics(), ["tank/4/DeviceInstance", "tank/4/Level"]);
    // A known one, and a new one.
    let changes = [("Level", V::D(0.75), ""), ("Remaining", V::D(9.0), "")];
    scene.hear(&frames::items_changed(":1.5", changes));
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 0.75}"#));
    assert_eq!(scene.value("tank/4/Remaining"), Some(r#"{"value": 9.0}"#));
    assert_eq!(scene.topics().len(), 3);
}
