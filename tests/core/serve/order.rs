//! Answers in order: reads, republishes, completions (§5.3, §5.5, §9.9, §9.10).

use super::bench::*;
use dbus_mqtt::serve::{Answer, Slot};

fn all() -> String {
    format!("N/{PORTAL}/#")
}

fn republish(client: Client, echo: Option<&str>) -> Answer {
    Answer::Republish {
        client: Some(client.0),
        echo: echo.map(Into::into),
    }
}

#[test]
fn s5_5_a_read_that_precedes_a_keep_alive_is_answered_before_its_republish() {
    let mut bench = Bench::new();
    let client = bench.client("c", 4);
    bench.subscribe(client, &all(), 0);
    bench.open(client, Some(0));
    let read = Answer::Read {
        slots: Box::new([Slot(2)]),
    };
    bench.server.answer(bench.now, read.clone());
    bench
        .server
        .answer(bench.now, republish(client, Some("\"e\"")));
    bench.server.answer(bench.now, read);
    bench.settle();
    bench.open(client, None);
    assert_eq!(
        bench.get(client),
        [
            r#"N/P/battery/0/Dc/0/Voltage {"value": 12.5}"#,
            r#"N/P/system/0/Serial {"value": "c0619ab12345"}"#,
            r#"N/P/battery/0/Serial {"value": "x"}"#,
            r#"N/P/battery/0/Soc {"value": 50}"#,
            r#"N/P/battery/0/Dc/0/Voltage {"value": 12.5}"#,
            r#"N/P/full_publish_completed {"value": 101, "full-publish-completed-echo": "e"}"#,
            r#"N/P/battery/0/Dc/0/Voltage {"value": 12.5}"#,
        ]
    );
}

#[test]
fn s5_3_each_echo_comes_back_and_republishes_that_wait_are_one() {
    let mut bench = Bench::new();
    let client = bench.client("c", 4);
    bench.subscribe(client, &all(), 0);
    for echo in [Some("1"), None, Some("[2]")] {
        bench.server.answer(bench.now, republish(client, echo));
    }
    bench.settle();
    let got = bench.get(client);
    assert_eq!(got.len(), 4 + 3);
    assert_eq!(
        got[4..],
        [
            r#"N/P/full_publish_completed {"value": 101, "full-publish-completed-echo": 1}"#,
            r#"N/P/full_publish_completed {"value": 101}"#,
            r#"N/P/full_publish_completed {"value": 101, "full-publish-completed-echo": [2]}"#,
        ]
    );
}

#[test]
fn s9_9_a_republish_goes_to_its_sender_or_to_all_where_that_does_not_listen() {
    let mut bench = Bench::new();
    let (a, b, mute) = (
        bench.client("a", 4),
        bench.client("b", 4),
        bench.client("m", 4),
    );
    bench.subscribe(a, &all(), 0);
    bench.subscribe(b, &format!("N/{PORTAL}/battery/0/Soc"), 0);
    bench.subscribe(mute, "a/b", 0);
    bench.server.answer(bench.now, republish(a, None));
    bench.settle();
    assert_eq!((bench.get(a).len(), bench.get(b).len()), (5, 0));
    bench.server.answer(bench.now, republish(mute, None));
    bench.settle();
    assert_eq!((bench.get(a).len(), bench.get(mute).len()), (5, 0));
    // Without a filter for the completion message there is none.
    assert_eq!(bench.get(b), [r#"N/P/battery/0/Soc {"value": 50}"#]);
    // A sender that has left does not listen either: `mosquitto_pub`, say.
    bench.lose(mute);
    bench.server.answer(bench.now, republish(mute, None));
    bench.settle();
    assert_eq!((bench.get(a).len(), bench.get(b).len()), (5, 1));
}

#[test]
fn s9_10_a_reads_value_goes_to_all_who_have_a_filter_for_it() {
    let mut bench = Bench::new();
    let (a, b, c) = (
        bench.client("a", 4),
        bench.client("b", 5),
        bench.client("c", 4),
    );
    bench.subscribe(a, &all(), 0);
    bench.subscribe(b, &format!("N/{PORTAL}/+/+/Soc"), 0);
    bench.subscribe(c, &format!("N/{PORTAL}/tank/#"), 0);
    let slots = Box::new([Slot(1), Slot(2)]);
    bench.server.answer(bench.now, Answer::Read { slots });
    bench.settle();
    let soc = r#"N/P/battery/0/Soc {"value": 50}"#;
    assert_eq!(
        bench.get(a),
        [soc, r#"N/P/battery/0/Dc/0/Voltage {"value": 12.5}"#]
    );
    assert_eq!(bench.get(b), [soc]);
    assert_eq!(bench.get(c), Vec::<String>::new());
}

#[test]
fn what_is_said_besides_items_comes_in_its_latest_form_and_stays_where_it_is_retained() {
    let mut bench = Bench::new();
    let (client, home) = (bench.client("c", 4), bench.client("h", 5));
    bench.subscribe(client, &all(), 0);
    bench.subscribe(home, "homeassistant/#", 0);
    bench.open(client, Some(0));
    let say = |topic: String, payload: &str, retain| Answer::Say {
        listener: 0,
        topic: topic.into(),
        payload: payload.as_bytes().into(),
        retain,
    };
    let status = format!("N/{PORTAL}/bridge/status");
    for payload in ["1", "2", "3"] {
        bench
            .server
            .answer(bench.now, say(status.clone(), payload, true));
        let stats = format!("N/{PORTAL}/bridge/stats");
        bench.server.answer(bench.now, say(stats, payload, false));
        bench.server.answer(
            bench.now,
            say("homeassistant/x/config".into(), payload, true),
        );
        bench.settle();
    }
    assert_eq!(
        bench.get(home),
        [
            "homeassistant/x/config 1",
            "homeassistant/x/config 2",
            "homeassistant/x/config 3"
        ]
    );
    bench.open(client, None);
    let got = bench.get(client);
    // The first was begun when it stopped.
    let status: Vec<_> = got.iter().filter(|line| line.contains("status")).collect();
    assert_eq!(status, ["N/P/bridge/status 1", "N/P/bridge/status 3"]);
    assert_eq!(got.last().unwrap(), "N/P/bridge/stats 3");
    let late = bench.client("l", 4);
    let got = bench.subscribe(late, "#", 0);
    assert!(got.contains(&"retain homeassistant/x/config 3".into()));
    assert!(got.contains(&"retain N/P/bridge/status 3".into()));
    assert!(!got.iter().any(|line| line.contains("stats")));
    bench
        .server
        .answer(bench.now, say("homeassistant/x/config".into(), "", true));
    bench.settle();
    assert_eq!(bench.get(home), ["homeassistant/x/config "]);
    assert_eq!(
        bench.subscribe(home, "homeassistant/#", 0),
        Vec::<String>::new()
    );
}

#[test]
fn s4_6_an_item_that_is_back_is_not_cleared_behind_its_value() {
    let mut bench = Bench::new();
    let client = bench.client("c", 4);
    bench.subscribe(client, "N/#", 0);
    bench.open(client, Some(0));
    // One write is on its way; the rest waits.
    bench.set(2, "13");
    bench.pass(1000);
    let gone = dbus_mqtt::serve::DirectoryChange::Gone {
        slot: dbus_mqtt::serve::Slot(1),
    };
    bench.server.directory(bench.now, gone);
    bench.item(7, "battery/0/Soc", "60");
    bench.send(
        client,
        &subscribe(false, 2, &[(&format!("N/{PORTAL}/battery/#"), 0)]),
    );
    bench.open(client, None);
    bench.pass(1000);
    let got = bench.get(client);
    let soc: Vec<_> = got.iter().filter(|line| line.contains("/Soc")).collect();
    assert_eq!(
        soc.last().unwrap().as_str(),
        r#"retain N/P/battery/0/Soc {"value": 60}"#,
        "{got:?}"
    );
}
