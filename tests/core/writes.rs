//! Writes: what is sent, and what is refused (§3, §5.6 to §5.8).

use dbus_mqtt::bridge::calls::Method;
use dbus_mqtt::model::value::BusValue;

use crate::frames;
use crate::frames::wire::{V, invalid, s};
use crate::scene::Scene;

const SETTINGS: &str = "com.victronenergy.settings";
const VEBUS: &str = "com.victronenergy.vebus.ttyS4";
const LOGGER: &str = "com.victronenergy.logger.a";

/// An inverter, the settings, and a service that the schema does not know.
fn scene() -> Scene {
    let mut scene = Scene::new();
    let vebus = [
        ("/DeviceInstance", V::I(276)),
        ("/Mode", V::I(3)),
        ("/Ac/ActiveIn/CurrentLimit", V::D(16.0)),
    ];
    scene.own(VEBUS, ":1.5", &vebus);
    let settings = [
        ("/Settings/Services/AccessPoint", V::I(1)),
        ("/Settings/Services/AccessPointPassword", s("hidden")),
    ];
    scene.own(SETTINGS, ":1.6", &settings);
    let logger = [
        ("/DeviceInstance", V::I(0)),
        ("/Count", V::I(1)),
        ("/Name", s("a")),
        ("/Unset", invalid()),
    ];
    scene.own(LOGGER, ":1.7", &logger);
    scene.settle();
    scene
}

/// What a write calls, or the word for why it calls nothing. A client is told the latter.
fn written(scene: &mut Scene, topic: &str, payload: &str) -> Result<BusValue, String> {
    scene.ask_from(0, topic, payload, false, Some("answers/1"));
    let mut calls = scene.calls();
    scene.settle();
    let told = std::mem::take(&mut scene.brokers[0].responses);
    match (calls.pop(), &told[..]) {
        (Some(call), []) => match call.method {
            Method::SetValue(value) => Ok(value),
            other => panic!("{other:?}"),
        },
        (None, [(_, answer)]) => {
            let (_, rest) = answer.split_once(r#""error": ""#).expect(answer);
            Err(rest.split_once('"').unwrap().0.to_owned())
        }
        (call, told) => panic!("{topic} {payload}: {call:?} {told:?}"),
    }
}

#[test]
fn s3_a_write_has_the_type_that_the_item_has() {
    let mut scene = scene();
    let mut check = |topic, payload, expected: Result<BusValue, &str>| {
        let found = written(&mut scene, topic, payload);
        assert_eq!(found, expected.map_err(str::to_owned), "{topic} {payload}");
    };
    let limit = "W/vebus/276/Ac/ActiveIn/CurrentLimit";
    check(limit, r#"{"value": 10}"#, Ok(BusValue::Double(10.0)));
    check(
        "W/vebus/276/Mode",
        r#"{"value": true}"#,
        Ok(BusValue::I32(1)),
    );
    check(
        "W/vebus/276/Mode",
        r#"{"value": "off"}"#,
        Ok(BusValue::I32(4)),
    );
    // The schema does not know it, but there is a number.
    let count = "W/logger/0/Count";
    check(count, r#"{"value": "2.5"}"#, Err("wrong-type"));
    check(count, r#"{"value": 3.5}"#, Ok(BusValue::Double(3.5)));
    let name = "W/logger/0/Name";
    check(name, r#"{"value": 5}"#, Ok(BusValue::Text("5".into())));
    check(
        "W/logger/0/Unset",
        r#"{"value": "x"}"#,
        Ok(BusValue::Text("x".into())),
    );
}

#[test]
fn s5_6_a_nul_in_a_text_is_refused() {
    let mut scene = scene();
    for (topic, value) in [
        ("W/logger/0/Name", r#""Boat\u0000""#),
        ("W/logger/0/Name", r#"["a", ["\u0000"]]"#),
        ("W/logger/0/Name", r#"{"a": {"b\u0000": 1}}"#),
        // It is no label either, but that is not what is wrong with it.
        ("W/vebus/276/Mode", r#""off\u0000""#),
    ] {
        let payload = format!("{{\"value\": {value}}}");
        let found = written(&mut scene, topic, &payload);
        assert_eq!(found, Err("wrong-type".to_owned()), "{value}");
    }
}

#[test]
fn s5_6_nobody_writes_around_what_is_blocked_or_secret() {
    let mut scene = scene();
    for topic in [
        // The whole device.
        "W/vebus/276/",
        "W/logger/0/",
        // Blocked, and above it; that the service has no such item does not matter.
        "W/vebus/276/Interfaces/Mk2/Tunnel",
        "W/vebus/276/Interfaces/Mk2",
        "W/vebus/276/Interfaces",
        // Above a secret.
        "W/settings/0/Settings/Services",
        "W/settings/0/Settings",
    ] {
        for payload in [r#"{"value": 1}"#, r#"{"value": {"a": 1}}"#] {
            let found = written(&mut scene, topic, payload);
            assert_eq!(found, Err("not-allowed".to_owned()), "{topic} {payload}");
        }
    }
    // A secret itself can be set, and other inner nodes be asked.
    let secret = "W/settings/0/Settings/Services/AccessPointPassword";
    let found = written(&mut scene, secret, r#"{"value": "new one"}"#);
    assert_eq!(found, Ok(BusValue::Text("new one".into())));
    let found = written(&mut scene, "W/vebus/276/Ac", r#"{"value": 1}"#);
    assert_eq!(found, Ok(BusValue::I32(1)));
}

/// It has answered the write, and then says no more: what its signal brought is told.
#[test]
fn s5_8_a_write_that_was_taken_is_told_with_the_value_that_is_known() {
    let mut scene = scene();
    let topic = "W/vebus/276/Mode";
    scene.ask_from(0, topic, r#"{"value": 4}"#, false, Some("answers/1"));
    let write = scene.calls().pop().unwrap();
    let taken = scene.answer(&write).unwrap();
    scene.hear(&taken);
    let read = scene.calls().pop().unwrap();
    assert_eq!(read.method, Method::GetValue);
    scene.change(VEBUS, "/Mode", V::I(4));
    scene.hear(&frames::error(
        ":1.5",
        read.id.serial(),
        "org.freedesktop.DBus.Error.NoReply",
    ));
    scene.settle();
    let told = std::mem::take(&mut scene.brokers[0].responses);
    let expected = r#"{"status": "ok", "value": 4}"#;
    assert_eq!(told, [("answers/1".to_owned(), expected.to_owned())]);
}

/// Also where MQTT 5 shows the flag of a live message (retain as published, §4.11): the broker has
/// stored it all the same, and gives it out at the next connect.
#[test]
fn s5_7_a_retained_write_is_ignored_and_told() {
    let mut scene = scene();
    let topic = "W/vebus/276/Mode";
    scene.ask_from(0, topic, r#"{"value": 4}"#, true, Some("answers/1"));
    assert_eq!(scene.calls(), []);
    scene.settle();
    let told = std::mem::take(&mut scene.brokers[0].responses);
    let expected = r#"{"status": "error", "error": "retained", "message": "it has the retain flag, and would be repeated at every connect; send it without that flag"}"#;
    assert_eq!(told, [("answers/1".to_owned(), expected.to_owned())]);
    // The same without the flag.
    let found = written(&mut scene, topic, r#"{"value": 4}"#);
    assert_eq!(found, Ok(BusValue::I32(4)));
}

#[test]
fn s5_8_no_answer_where_it_would_be_taken_for_something_else() {
    let mut scene = scene();
    for topic in [
        "W/c0619ab12345/vebus/276/Mode",
        "boat/W/d0ff50a097c1/vebus/276/Mode",
        "homeassistant/status",
        "x/$SYS/y",
        "a/+",
    ] {
        for request in ["W/vebus/276/Mode", "R/vebus/276/Mode", "R/keepalive"] {
            scene.ask_from(0, request, r#"{"value": 4}"#, false, Some(topic));
            assert_eq!(scene.calls(), [], "{request} {topic}");
            scene.settle();
            assert_eq!(scene.brokers[0].responses, [], "{request} {topic}");
        }
    }
}
