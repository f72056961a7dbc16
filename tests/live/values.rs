//! §3, values both ways: each type of the table as the payload it becomes, and each JSON value as the
//! D-Bus value that a service gets. Byte for byte.

use crate::support::json::{json, payload};
use crate::support::rig::{Rig, n, value};
use crate::support::service::{Service, properties_changed};
use crate::support::wire::{V, array, dict, invalid, s, vardict, variant};

const NAME: &str = "com.victronenergy.unheardof.x1";

/// Nested variants, this many around a 7.
fn nested(depth: usize) -> V {
    (0..depth).fold(V::I(7), |inner, _| variant(inner))
}

/// Every type of the table, and what it becomes.
#[expect(clippy::too_many_lines, clippy::excessive_precision)] // a table; just between two texts
fn table() -> Vec<(V, &'static str)> {
    vec![
        (V::Y(0), "0"),
        (V::Y(255), "255"),
        (V::N(-32_768), "-32768"),
        (V::N(32_767), "32767"),
        (V::Q(65_535), "65535"),
        (V::I(-2_147_483_648), "-2147483648"),
        (V::I(2_147_483_647), "2147483647"),
        (V::U(4_294_967_295), "4294967295"),
        (V::X(i64::MIN), "-9223372036854775808"),
        (V::X(i64::MAX), "9223372036854775807"),
        (V::X(9_007_199_254_740_993), "9007199254740993"),
        (V::T(u64::MAX), "18446744073709551615"),
        (V::D(936.0), "936.0"),
        (V::D(0.0), "0.0"),
        (V::D(-0.0), "-0.0"),
        (V::D(1e-7), "1e-07"),
        (V::D(0.0001), "0.0001"),
        (V::D(0.00001), "1e-05"),
        (V::D(0.1), "0.1"),
        (V::D(1.0 / 3.0), "0.3333333333333333"),
        (V::D(51.959_999_084_472_656), "51.959999084472656"),
        (V::D(667_082_108_456_853.25), "667082108456853.2"),
        (V::D(1e15), "1000000000000000.0"),
        (V::D(1e16), "1e+16"),
        (V::D(123_456_789_012_345_680.0), "1.2345678901234568e+17"),
        (V::D(1e22), "1e+22"),
        (V::D(1e100), "1e+100"),
        (V::D(5e-324), "5e-324"),
        (V::D(f64::MAX), "1.7976931348623157e+308"),
        (V::D(f64::MIN_POSITIVE), "2.2250738585072014e-308"),
        (V::D(f64::NAN), "null"),
        (V::D(f64::INFINITY), "null"),
        (V::D(f64::NEG_INFINITY), "null"),
        (V::B(true), "true"),
        (V::B(false), "false"),
        (s(""), "\"\""),
        (s("Hub-4 / ESS"), "\"Hub-4 / ESS\""),
        (
            s("\" \\ / \n \r \t \u{8} \u{c} \u{1} \u{1f} \u{7f}"),
            "\"\\\" \\\\ / \\n \\r \\t \\b \\f \\u0001 \\u001f \u{7f}\"",
        ),
        (V::O("/a/b".into()), "\"/a/b\""),
        (V::G("a{sv}".into()), "\"a{sv}\""),
        (array("i", []), "null"),
        (array("u", []), "null"),
        (array("d", []), "null"),
        (array("s", []), "null"),
        (array("y", []), "null"),
        (array("v", []), "null"),
        (array("(is)", []), "null"),
        (array("ai", []), "null"),
        (array("i", [V::I(1), V::I(-2)]), "[1, -2]"),
        (array("y", [V::Y(1), V::Y(2), V::Y(255)]), "[1, 2, 255]"),
        (array("d", [V::D(1.0), V::D(0.5)]), "[1.0, 0.5]"),
        (
            array("s", [s("a"), s("b,\"c\"")]),
            "[\"a\", \"b,\\\"c\\\"\"]",
        ),
        (array("b", [V::B(true), V::B(false)]), "[true, false]"),
        (
            array("v", [variant(V::I(1)), variant(s("x")), variant(invalid())]),
            "[1, \"x\", null]",
        ),
        (
            array("ai", [array("i", [V::I(1)]), array("i", [])]),
            "[[1], null]",
        ),
        (
            V::Struct(vec![V::I(1), s("x"), V::D(2.0)]),
            "[1, \"x\", 2.0]",
        ),
        (
            array("(ib)", [V::Struct(vec![V::I(1), V::B(true)])]),
            "[[1, true]]",
        ),
        (
            vardict([("a", V::I(1)), ("b", s("x")), ("c", invalid())]),
            "{\"a\": 1, \"b\": \"x\", \"c\": null}",
        ),
        (dict("s", "i", [(s("k\""), V::I(1))]), "{\"k\\\"\": 1}"),
        (
            dict("i", "s", [(V::I(-1), s("x")), (V::I(2), s("y"))]),
            "{\"-1\": \"x\", \"2\": \"y\"}",
        ),
        (
            dict("y", "v", [(V::Y(7), variant(V::D(1.0)))]),
            "{\"7\": 1.0}",
        ),
        (dict("b", "y", [(V::B(true), V::Y(1))]), "{\"true\": 1}"),
        (
            dict(
                "s",
                "a{sv}",
                [(s("a"), vardict([("b", array("i", [V::I(1)]))]))],
            ),
            "{\"a\": {\"b\": [1]}}",
        ),
        (nested(1), "7"),
        (nested(5), "7"),
        (nested(25), "7"),
        (V::H(0), "null"),
    ]
}

/// One service with an item for each value of the table.
fn gallery() -> (Service, Vec<(String, V, &'static str)>) {
    let mut service = Service::new(NAME).item("/DeviceInstance", V::I(1));
    let mut items = Vec::new();
    for (number, (value, json)) in table().into_iter().enumerate() {
        let path = format!("/T/{number}");
        service = service.item(&path, value.clone());
        items.push((path, value, json));
    }
    (service, items)
}

#[test]
fn s3_the_second_opinion_agrees_with_the_table() {
    // The tests' own encoder, which the recordings are held against, says what is written here.
    for (value, text) in table() {
        assert_eq!(json(&value), text, "{value:?}");
    }
}

#[test]
fn s3_every_type_by_scan_by_signal_and_by_read() {
    // The same bytes, whichever way a value came.
    let Some(rig) = Rig::start() else { return };
    let (service, items) = gallery();
    let peer = rig.bus.serve(service);
    let _bridge = rig.bridge("--retain true");
    let topic = |path: &str| n(&format!("unheardof/1{path}"));

    let mut mark = rig.wake();
    for (path, v, json) in &items {
        let (_, scanned) = rig
            .client
            .wait(mark, path, |message| message.topic == topic(path));
        assert_eq!(scanned.text(), value(json), "scanned: {v:?}");
    }
    mark = rig.client.mark();
    for (path, v, json) in &items {
        peer.changed(path, v.clone());
        let (_, signalled) = rig
            .client
            .wait(mark, path, |message| message.topic == topic(path));
        assert_eq!(signalled.text(), value(json), "signalled: {v:?}");
    }
    mark = rig.client.mark();
    peer.items_changed(items.iter().map(|(path, v, _)| (path.as_str(), v.clone())));
    for (path, v, json) in &items {
        let (_, signalled) = rig
            .client
            .wait(mark, path, |message| message.topic == topic(path));
        assert_eq!(signalled.text(), value(json), "in ItemsChanged: {v:?}");
    }
    for (path, v, json) in &items {
        mark = rig.client.mark();
        rig.fence_by_read(&format!("unheardof/1{path}"));
        assert_eq!(
            rig.client.payloads(mark, &topic(path)),
            [value(json)],
            "read: {v:?}"
        );
    }
    // And all of them again in one branch.
    mark = rig.client.mark();
    rig.client
        .publish(&crate::support::rig::r("unheardof/1/T"), "");
    for (path, v, json) in &items {
        let (_, read) = rig
            .client
            .wait(mark, path, |message| message.topic == topic(path));
        assert_eq!(read.text(), value(json), "in a branch: {v:?}");
    }
}

#[test]
fn s3_text_outside_ascii_says_the_same() {
    // As UTF-8 or escaped, but the same text.
    let Some(rig) = Rig::start() else { return };
    let texts = [
        "K\u{fc}che",
        "\u{65e5}\u{672c}",
        "\u{1f50b} 100\u{2009}%",
        "\u{2028}",
    ];
    let mut service = Service::new(NAME).item("/DeviceInstance", V::I(1));
    for (number, text) in texts.iter().enumerate() {
        service = service.item(&format!("/T/{number}"), s(text));
    }
    let _peer = rig.bus.serve(service);
    let _bridge = rig.bridge("--retain true");
    let mark = rig.wake();
    for (number, text) in texts.iter().enumerate() {
        let topic = n(&format!("unheardof/1/T/{number}"));
        let (_, message) = rig
            .client
            .wait(mark, text, |message| message.topic == topic);
        let read: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(read["value"].as_str(), Some(*text));
        assert!(message.text().starts_with("{\"value\": \""), "{message:?}");
    }
}

#[test]
fn s3_min_and_max_follow_the_value_in_any_type() {
    // Where the service announces them, one, the other or both.
    let Some(rig) = Rig::start() else { return };
    let service = Service::new(NAME)
        .item("/DeviceInstance", V::I(1))
        .ranged("/Int", V::I(5), V::I(-10), V::I(10))
        .ranged("/Double", V::D(5.0), V::D(0.5), V::D(1e16))
        .ranged("/Mixed", V::Y(5), V::D(0.0), V::U(10))
        .ranged("/Invalid", invalid(), V::I(0), V::I(1));
    let mut half = service.clone();
    half.items.insert(
        "/Half".into(),
        crate::support::service::Item {
            value: V::I(1),
            min: None,
            max: Some(V::I(2)),
            text: None,
        },
    );
    let _peer = rig.bus.serve(half.clone());
    let _bridge = rig.bridge("--retain true");
    let mark = rig.wake();
    for (path, item) in &half.items {
        let expected = payload(&item.value, item.min.as_ref(), item.max.as_ref());
        rig.client
            .expect(mark, &n(&format!("unheardof/1{path}")), &expected);
    }
    rig.client
        .expect(mark, &n("unheardof/1/Half"), r#"{"value": 1, "max": 2}"#);
    rig.client.expect(
        mark,
        &n("unheardof/1/Invalid"),
        r#"{"value": null, "min": 0, "max": 1}"#,
    );
}

#[test]
fn s3_a_big_endian_service_is_read_the_same() {
    // The byte order is the sender's choice.
    let Some(rig) = Rig::start() else { return };
    let (service, items) = gallery();
    let peer = rig.bus.serve(service);
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    for (path, v, json) in &items {
        let mut signal = properties_changed(path, v.clone());
        signal.big_endian = true;
        let args = [vardict([("Value", v.clone()), ("Text", s("x"))])];
        peer.send(signal.with(&args));
        let topic = n(&format!("unheardof/1{path}"));
        let (_, message) = rig
            .client
            .wait(mark, path, |message| message.topic == topic);
        assert_eq!(message.text(), value(json), "{v:?}");
    }
}

/// Writes each JSON value to an item and compares what the service got.
fn check_writes(service: Service, cases: Vec<(&str, &str, V)>) {
    let Some(rig) = Rig::start() else { return };
    let (kind, name) = (service.kind().to_owned(), service.name.clone());
    let table: Vec<(String, V)> = service
        .items
        .iter()
        .map(|(path, item)| (path.clone(), item.value.clone()))
        .collect();
    let peer = rig.bus.serve(service);
    let bridge = rig.bridge("--retain true --keep-alive 0");
    for (path, json, expected) in cases {
        // The item as it was: a write before may have changed its type.
        let (_, before) = table.iter().find(|item| item.0 == path).unwrap();
        peer.update(&name, path, before.clone());
        rig.bus.fence(&[&peer]);
        peer.forget();
        rig.client.publish(
            &crate::support::rig::w(&format!("{kind}/1{path}")),
            value(json),
        );
        let what = format!(
            "the write of {json} to {before:?} at {path}; log {:?}",
            bridge.log().last()
        );
        let calls = peer.wait_calls(&what, 1, |call| call.is("SetValue", path));
        let written = calls[0].written();
        assert_eq!(
            written.signature(),
            expected.signature(),
            "{json} to {before:?}"
        );
        assert_eq!(written, expected, "{json} to {before:?}");
    }
}

#[test]
fn s3_a_write_takes_the_type_that_the_item_has_where_it_fits() {
    // Without loss, or not at all: then the classic rule.
    let items = [
        ("/Y", V::Y(1)),
        ("/N", V::N(1)),
        ("/Q", V::Q(1)),
        ("/I", V::I(1)),
        ("/U", V::U(1)),
        ("/X", V::X(1)),
        ("/T", V::T(1)),
        ("/D", V::D(1.0)),
        ("/B", V::B(true)),
        ("/S", s("x")),
    ];
    let mut service = Service::new(NAME).item("/DeviceInstance", V::I(1));
    for (path, v) in items {
        service = service.item(path, v);
    }
    check_writes(
        service,
        vec![
            ("/Y", "5", V::Y(5)),
            ("/Y", "255", V::Y(255)),
            ("/Y", "256", V::I(256)),
            ("/Y", "-1", V::I(-1)),
            ("/N", "-32768", V::N(-32_768)),
            ("/N", "32768", V::I(32_768)),
            ("/Q", "65535", V::Q(65_535)),
            ("/Q", "-1", V::I(-1)),
            ("/I", "-5", V::I(-5)),
            ("/I", "3000000000", V::X(3_000_000_000)),
            ("/I", "5.0", V::I(5)),
            ("/I", "5.5", V::D(5.5)),
            ("/U", "3000000000", V::U(3_000_000_000)),
            ("/U", "-1", V::I(-1)),
            ("/U", "4294967296", V::X(4_294_967_296)),
            ("/X", "5", V::X(5)),
            ("/X", "9223372036854775807", V::X(i64::MAX)),
            ("/X", "9223372036854775808", V::T(9_223_372_036_854_775_808)),
            ("/T", "5", V::T(5)),
            ("/T", "18446744073709551615", V::T(u64::MAX)),
            ("/T", "-1", V::I(-1)),
            ("/D", "5", V::D(5.0)),
            ("/D", "-0.0", V::D(-0.0)),
            ("/D", "1e3", V::D(1000.0)),
            ("/D", "0.1", V::D(0.1)),
            ("/D", "9007199254740993", V::X(9_007_199_254_740_993)),
            ("/B", "false", V::B(false)),
            ("/S", "\"caf\\u00e9 \\\"\"", s("caf\u{e9} \"")),
            ("/S", "5", s("5")),
            ("/I", "null", invalid()),
            ("/D", "null", invalid()),
            ("/S", "null", invalid()),
            ("/D", "[]", array("u", [])),
        ],
    );
}

#[test]
fn s3_a_write_to_an_item_of_unknown_type_follows_the_classic_rule() {
    // Its present value is invalid and no schema knows it.
    let service = Service::new(NAME)
        .item("/DeviceInstance", V::I(1))
        .item("/A", invalid());
    check_writes(
        service,
        [
            ("5", V::I(5)),
            ("0", V::I(0)),
            ("-2147483648", V::I(i32::MIN)),
            ("2147483647", V::I(i32::MAX)),
            ("2147483648", V::X(2_147_483_648)),
            ("-2147483649", V::X(-2_147_483_649)),
            ("9223372036854775807", V::X(i64::MAX)),
            ("9223372036854775808", V::T(9_223_372_036_854_775_808)),
            ("1.5", V::D(1.5)),
            ("5.0", V::D(5.0)),
            ("5e0", V::D(5.0)),
            ("1E3", V::D(1000.0)),
            ("true", V::B(true)),
            ("false", V::B(false)),
            ("\"text\"", s("text")),
            ("\"\"", s("")),
            ("null", invalid()),
            ("[]", array("u", [])),
            ("[1, 2]", array("i", [V::I(1), V::I(2)])),
            ("[1.5, 2.5]", array("d", [V::D(1.5), V::D(2.5)])),
            ("[\"a\", \"b\"]", array("s", [s("a"), s("b")])),
            ("[true]", array("b", [V::B(true)])),
            (
                "[1, \"a\"]",
                array("v", [variant(V::I(1)), variant(s("a"))]),
            ),
            (
                "{\"a\": 1, \"b\": \"x\"}",
                vardict([("a", V::I(1)), ("b", s("x"))]),
            ),
            (
                "{\"a\": {\"b\": 1.5}}",
                vardict([("a", vardict([("b", V::D(1.5))]))]),
            ),
        ]
        .map(|(json, expected)| ("/A", json, expected))
        .to_vec(),
    );
}

#[test]
fn s3_a_write_to_an_invalid_item_takes_the_type_that_the_schema_declares() {
    // The value is invalid at present, but the schema says that it is a double.
    let service = Service::device("vebus", "x", 1).item("/Ac/In/1/CurrentLimit", invalid());
    let path = "/Ac/In/1/CurrentLimit";
    check_writes(
        service,
        vec![(path, "16", V::D(16.0)), (path, "16.5", V::D(16.5))],
    );
}

#[test]
fn s3_a_text_for_a_number_is_refused_where_the_schema_says_number() {
    // It is known to drive services into a busy loop; it is reported and never sent.
    let Some(rig) = Rig::start() else { return };
    let service = Service::device("vebus", "x", 1)
        .item("/Mode", V::U(3))
        .item("/CustomName", s("a"));
    let peer = rig.bus.serve(service);
    let bridge = rig.bridge("--retain true");
    rig.wake();
    rig.client
        .publish(&crate::support::rig::w("vebus/1/Mode"), value("\"3\""));
    bridge.wait_log(&["vebus/1/Mode"]);
    rig.client.publish(
        &crate::support::rig::w("vebus/1/CustomName"),
        value("\"b\""),
    );
    rig.client
        .expect(0, &n("vebus/1/CustomName"), &value("\"b\""));
    assert!(peer.writes("/Mode").is_empty());
}
