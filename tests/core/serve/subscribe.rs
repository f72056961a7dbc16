//! SUBSCRIBE and UNSUBSCRIBE (§9.7 to §9.10).

use super::bench::*;
use dbus_mqtt::model::filter::{Filter, List};
use dbus_mqtt::serve::Settings;

/// What SUBACK says in MQTT 5, 3.1.1 and 3.1.
fn check(set: impl Fn(&mut Settings) + Copy, filters: &[(&str, u8)], expected: [&str; 3]) {
    for (level, expected) in [5, 4, 3].into_iter().zip(expected) {
        let mut bench = Bench::with(set);
        let client = bench.client("c", level);
        bench.send(client, &subscribe(level == 5, 7, filters));
        let got = bench.get(client).remove(0);
        assert_eq!(got, format!("SUBACK 7 [{expected}]"), "{filters:?} {level}");
    }
}

#[test]
fn s9_7_suback_grants_qos_0_or_says_why_not() {
    let plain = |_: &mut Settings| {};
    check(
        plain,
        &[("a", 0), ("b", 1), ("c/#", 2)],
        ["0 0 0", "0 0 0", "0 0 0"],
    );
    check(plain, &[("$share/g/a", 0)], ["9e", "80", "0"]);
    check(
        plain,
        &[("a/#/b", 0), ("a+", 0), ("ok", 0)],
        ["8f 8f 0", "80 80 0", "0 0 0"],
    );
    let deep = "a/".repeat(127) + "a";
    check(plain, &[(&deep, 0)], ["0", "0", "0"]);
    let deeper = "a/".repeat(128) + "a";
    check(plain, &[(&deeper, 0)], ["8f", "80", "0"]);
    let few = |settings: &mut Settings| {
        settings.limits.filters_max = 2;
        settings.listeners[0].discovery_prefix = None;
    };
    check(
        few,
        &[("a", 0), ("b", 0), ("a", 0), ("c", 0)],
        ["0 0 0 97", "0 0 0 80", "0 0 0 0"],
    );
    // Home Assistant asks for each value.
    let home = |settings: &mut Settings| {
        few(settings);
        settings.limits.topics_max = 3;
        settings.listeners[0].discovery_prefix = Some("homeassistant".into());
    };
    check(
        home,
        &[
            ("a", 0),
            ("b", 0),
            ("+", 0),
            ("c", 0),
            ("d", 0),
            ("a/#", 0),
            ("b/#", 0),
            ("c", 0),
        ],
        ["0 0 0 0 97 0 97 0", "0 0 0 0 80 0 80 0", "0 0 0 0 0 0 0 0"],
    );
    let alone = |settings: &mut Settings| settings.listeners[0].relay = false;
    let ours = format!("N/{PORTAL}/#");
    check(
        alone,
        &[("a/b", 0), (&ours, 0), ("#", 0)],
        ["87 0 0", "80 0 0", "0 0 0"],
    );
}

#[test]
fn s9_7_a_subscription_identifier_is_refused() {
    let mut bench = Bench::new();
    let client = bench.client("c", 5);
    let body = [&[0, 7, 2, 11, 1][..], &text("a"), &[0]].concat();
    bench.send(client, &packet(0x82, &body));
    assert_eq!(bench.get(client), ["SUBACK 7 [a1]"]);
    bench.send(client, &publish5(0, 0, "a", &[], "x"));
    assert_eq!(bench.get(client), Vec::<String>::new());
}

#[test]
fn s9_7_what_is_hidden_is_denied_or_left_out() {
    let hide = |settings: &mut Settings| {
        settings.listeners[0].publish = List {
            deny: vec![Filter::parse("battery/+/Dc/#").unwrap()],
            ..List::default()
        };
    };
    let voltage = format!("N/{PORTAL}/battery/0/Dc/0/Voltage");
    check(hide, &[(&voltage, 0)], ["87", "80", "0"]);
    let mut bench = Bench::with(hide);
    let client = bench.client("c", 4);
    let got = bench.subscribe(client, &format!("N/{PORTAL}/battery/#"), 0);
    assert_eq!(
        got,
        [
            r#"retain N/P/battery/0/Serial {"value": "x"}"#,
            r#"retain N/P/battery/0/Soc {"value": 50}"#
        ]
    );
    bench.set(2, "13");
    bench.item(9, "battery/0/Dc/1/Voltage", "1");
    bench.pass(100);
    assert_eq!(bench.get(client), Vec::<String>::new());
    // With `access = "off"` there is nothing.
    let off = |settings: &mut Settings| settings.listeners[0].serves = false;
    let mut bench = Bench::with(off);
    let client = bench.client("c", 4);
    assert_eq!(bench.subscribe(client, "N/#", 0), Vec::<String>::new());
    bench.set(1, "51");
    bench.pass(5_000);
    assert_eq!(bench.get(client), Vec::<String>::new());
}

#[test]
fn s9_7_wildcards_do_not_match_topics_that_begin_with_a_dollar() {
    let mut bench = Bench::new();
    let (client, other) = (bench.client("c", 4), bench.client("o", 4));
    bench.subscribe(client, "#", 0);
    bench.get(client);
    bench.send(other, &publish(0, 0, "$x/y", "1"));
    assert_eq!(bench.get(client), Vec::<String>::new());
    bench.subscribe(client, "$x/#", 0);
    bench.send(other, &publish(0, 0, "$x/y", "1"));
    assert_eq!(bench.get(client), ["$x/y 1"]);
}

#[test]
fn s9_7_overlapping_filters_deliver_once() {
    let mut bench = Bench::new();
    let (client, other) = (bench.client("c", 4), bench.client("o", 4));
    let battery = format!("N/{PORTAL}/battery/#");
    let soc = format!("N/{PORTAL}/+/+/Soc");
    bench.send(
        client,
        &subscribe(
            false,
            1,
            &[(&battery, 0), (&soc, 0), ("a/#", 0), ("a/b", 0)],
        ),
    );
    assert_eq!(bench.get(client).len(), 4, "SUBACK and three values");
    bench.set(1, "51");
    bench.send(other, &publish(0, 0, "a/b", "1"));
    bench.pass(100);
    let mut got = bench.get(client);
    got.sort();
    assert_eq!(got, [r#"N/P/battery/0/Soc {"value": 51}"#, "a/b 1"]);
}

#[test]
fn s9_8_values_follow_suback_with_the_retain_flag_identifying_ones_first() {
    let mut bench = Bench::new();
    for level in [3, 4, 5] {
        let client = bench.client("c", level);
        let got = bench.subscribe(client, &format!("N/{PORTAL}/#"), 0);
        assert_eq!(
            got,
            [
                r#"retain N/P/system/0/Serial {"value": "c0619ab12345"}"#,
                r#"retain N/P/keepalive {"value": 1}"#,
                r#"retain N/P/battery/0/Serial {"value": "x"}"#,
                r#"retain N/P/battery/0/Soc {"value": 50}"#,
                r#"retain N/P/battery/0/Dc/0/Voltage {"value": 12.5}"#,
            ]
        );
        bench.set(1, "51");
        bench.pass(100);
        assert_eq!(bench.get(client), [r#"N/P/battery/0/Soc {"value": 51}"#]);
        bench.set(1, "50");
        bench.pass(100);
    }
}

#[test]
fn s9_8_retain_handling_says_whether_values_come() {
    let mut bench = Bench::new();
    let client = bench.client("c", 5);
    let soc = format!("N/{PORTAL}/battery/0/Soc");
    let value = [r#"retain N/P/battery/0/Soc {"value": 50}"#];
    let nothing: [&str; 0] = [];
    assert_eq!(bench.subscribe(client, &soc, 0x20), nothing, "never");
    assert_eq!(bench.subscribe(client, &soc, 0x10), nothing, "not new");
    assert_eq!(bench.subscribe(client, &soc, 0x00), value, "always");
    assert_eq!(bench.subscribe(client, &soc, 0x00), value, "always");
    bench.send(client, &unsubscribe(true, 2, &soc));
    bench.get(client);
    assert_eq!(bench.subscribe(client, &soc, 0x10), value, "new");
}

#[test]
fn s9_8_later_changes_have_the_retain_flag_where_it_is_asked_for() {
    let mut bench = Bench::new();
    let client = bench.client("c", 5);
    let soc = format!("N/{PORTAL}/battery/0/Soc");
    let voltage = format!("N/{PORTAL}/battery/0/Dc/#");
    bench.subscribe(client, &soc, 0x08);
    bench.set(1, "51");
    bench.pass(100);
    assert_eq!(
        bench.get(client),
        [r#"retain N/P/battery/0/Soc {"value": 51}"#]
    );
    bench.subscribe(client, &voltage, 0);
    bench.set(1, "52");
    bench.set(2, "13");
    bench.pass(100);
    assert_eq!(
        bench.get(client),
        [
            r#"retain N/P/battery/0/Soc {"value": 52}"#,
            r#"N/P/battery/0/Dc/0/Voltage {"value": 13}"#
        ]
    );
    // A broker's bridge asks for it by its level (§9.2).
    let bridge = bench.client("b", 0x84);
    bench.subscribe(bridge, &soc, 0);
    bench.set(1, "53");
    bench.pass(100);
    assert_eq!(
        bench.get(bridge),
        [r#"retain N/P/battery/0/Soc {"value": 53}"#]
    );
}

#[test]
fn s9_8_with_retain_false_only_the_serial_comes() {
    let mut bench = Bench::with(|settings| settings.listeners[0].retain = false);
    let client = bench.client("c", 4);
    let got = bench.subscribe(client, &format!("N/{PORTAL}/#"), 0);
    assert_eq!(
        got,
        [r#"retain N/P/system/0/Serial {"value": "c0619ab12345"}"#]
    );
    bench.set(1, "51");
    bench.pass(100);
    assert_eq!(bench.get(client), [r#"N/P/battery/0/Soc {"value": 51}"#]);
}

#[test]
fn s9_10_after_unsuback_nothing_comes_any_more() {
    let mut bench = Bench::new();
    let client = bench.client("c", 5);
    let (soc, all) = (
        format!("N/{PORTAL}/battery/0/Soc"),
        format!("N/{PORTAL}/battery/#"),
    );
    bench.subscribe(client, &soc, 0);
    bench.subscribe(client, &all, 0);
    bench.set(1, "51");
    bench.set(2, "13");
    bench.send(client, &unsubscribe(true, 2, &all));
    bench.pass(100);
    assert_eq!(
        bench.get(client),
        ["UNSUBACK 2 [0]", r#"N/P/battery/0/Soc {"value": 51}"#]
    );
    bench.send(client, &unsubscribe(true, 3, &soc));
    bench.send(client, &unsubscribe(true, 4, &soc));
    assert_eq!(bench.get(client), ["UNSUBACK 3 [0]", "UNSUBACK 4 [11]"]);
    bench.set(1, "52");
    bench.pass(5_000);
    assert_eq!(bench.get(client), Vec::<String>::new());
}
