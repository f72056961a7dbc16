//! Requests with a response topic (§5.8): what the client is told, where it may not be told, and in
//! which order.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::client::Client;
use crate::support::fake_broker::respond_to;
use crate::support::rig::{PORTAL, Rig, n, r, value, w};
use crate::support::service::{BATTERY, Reply, battery, vebus};
use crate::support::wire::{V, s};
use serde_json::{Value as Json, json};

const SOC: &str = "battery/258/Soc";
const ANSWERS: &str = "answers/here";

/// A client that asks with MQTT 5 and hears everything.
struct Asker {
    client: Client,
    asked: AtomicU32,
}

impl Asker {
    fn new(rig: &Rig) -> Asker {
        let client = Client::connect_as(5, rig.broker.address(), None);
        client.subscribe("#");
        Asker {
            client,
            asked: AtomicU32::new(0),
        }
    }

    /// Asks, and gives the correlation data.
    fn send(&self, topic: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let correlation = [&number.to_be_bytes()[..], &[0, 0xff]].concat();
        let properties = respond_to(ANSWERS, &correlation);
        self.client.publish_with(topic, &properties, payload);
        correlation
    }

    /// Waits for the response with this correlation data; gives its number and what it says.
    fn told(&self, correlation: &[u8]) -> (usize, Json) {
        let length = u16::try_from(correlation.len()).unwrap().to_be_bytes();
        let expected = [&[9], &length[..], correlation].concat();
        let (at, message) = self.client.wait(0, "a response", |message| {
            message.topic == ANSWERS && message.properties == expected
        });
        assert_eq!((message.qos, message.retain), (0, false));
        (at, serde_json::from_str(message.text()).unwrap())
    }

    fn ask(&self, topic: &str, payload: impl AsRef<[u8]>) -> Json {
        self.told(&self.send(topic, payload)).1
    }

    /// Checks that it is an error of this code, with words for people.
    fn refused(&self, topic: &str, payload: impl AsRef<[u8]>, code: &str) {
        let told = self.ask(topic, payload);
        assert_eq!(
            (&told["status"], &told["error"]),
            (&json!("error"), &json!(code)),
            "{topic}: {told}"
        );
        assert!(told["message"].as_str().unwrap().len() > 5, "{told}");
        assert_eq!(told.as_object().unwrap().len(), 3, "{told}");
    }
}

fn ok(value: &Json) -> Json {
    json!({"status": "ok", "value": value})
}

#[test]
fn s5_8_reads_writes_and_keep_alives_are_answered() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--keep-alive 30");
    let asker = Asker::new(&rig);
    // Byte for byte: this is what programs are written against.
    let correlation = asker.send(&r(SOC), "");
    let (at, _) = asker.told(&correlation);
    let text = r#"{"status": "ok", "value": 87.5}"#;
    assert_eq!(asker.client.since(at)[0].text(), text);

    peer.set(BATTERY, "/Soc", V::D(12.5));
    assert_eq!(asker.ask(&r(SOC), "ignored"), ok(&json!(12.5)));
    assert_eq!(
        asker.ask(&r("battery/258/Dc/0/Temperature"), ""),
        ok(&Json::Null)
    );
    let below = json!({"0/Voltage": 51.96, "0/Current": -15.3, "0/Temperature": null});
    assert_eq!(asker.ask(&r("battery/258/Dc"), ""), ok(&below));
    assert_eq!(asker.ask(&r("keepalive"), ""), ok(&json!(30)));
    assert_eq!(asker.ask(&r("keepalive"), r#"["tank/#"]"#), ok(&json!(30)));
    assert_eq!(asker.ask(&r("system/0/Serial"), ""), ok(&json!(PORTAL)));
    // What the service made of it.
    assert_eq!(
        asker.ask(&w("vebus/257/Mode"), r#"{"value": 4}"#),
        ok(&json!(4))
    );
    let limit = asker.ask(&w("vebus/257/Ac/In/1/CurrentLimit"), r#"{"value": 16}"#);
    assert_eq!(limit, ok(&json!(16.0)));
}

#[test]
fn s5_8_the_answer_to_a_write_is_what_the_service_made_of_it() {
    // A service that takes the value its own way, and says so late.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.peer();
    peer.on_items(|call| match call.member.as_str() {
        "SetValue" => Reply::Return(vec![V::I(0)]),
        "GetValue" if call.path == "/Mode" => {
            Reply::Return(vec![crate::support::wire::variant(V::U(1))])
        }
        _ => Reply::Normal,
    });
    peer.serve(vebus());
    let _bridge = rig.bridge("--keep-alive 0");
    let asker = Asker::new(&rig);
    assert_eq!(
        asker.ask(&w("vebus/257/Mode"), r#"{"value": 99}"#),
        ok(&json!(1))
    );
    // All clients hear what it is now.
    rig.client.expect(0, &n("vebus/257/Mode"), &value("1"));
}

#[test]
fn s5_8_each_error_has_its_word() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let peer = rig.bus.peer();
    peer.on_items(|call| match (call.member.as_str(), call.path.as_str()) {
        ("SetValue", "/Mode") => Reply::Return(vec![V::I(-1)]),
        ("SetValue", "/State") => Reply::Error("org.freedesktop.DBus.Error.AccessDenied"),
        ("SetValue", "/ProductName") => Reply::Return(vec![s("not a code")]),
        _ => Reply::Normal,
    });
    peer.serve(vebus());
    let _bridge = rig.bridge("--keep-alive 0");
    let asker = Asker::new(&rig);
    let mode = w("vebus/257/Mode");
    asker.refused(&mode, "", "not-json");
    asker.refused(&mode, "{value: 1}", "not-json");
    asker.refused(&mode, [0xff, 0xfe], "not-json");
    asker.refused(&mode, "[1]", "not-an-object");
    asker.refused(&mode, r#"{"val": 1}"#, "no-value");
    let deep = format!("{{\"value\": {}{}}}", "[".repeat(40), "]".repeat(40));
    asker.refused(&mode, deep, "too-deep");
    asker.refused(
        &mode,
        format!("{{\"value\": \"{}\"}}", "x".repeat(65_536)),
        "too-large",
    );
    asker.refused(&mode, r#"{"value": "text"}"#, "no-label");
    asker.refused(
        &w("vebus/257/Ac/In/1/CurrentLimit"),
        r#"{"value": "text"}"#,
        "wrong-type",
    );
    asker.refused(&mode, r#"{"value": 3}"#, "refused");
    asker.refused(&w("vebus/257/State"), r#"{"value": 3}"#, "refused");
    asker.refused(
        &w("vebus/257/ProductName"),
        r#"{"value": "x"}"#,
        "bad-answer",
    );
    asker.refused(&w("vebus/99/Mode"), r#"{"value": 3}"#, "unknown-service");
    asker.refused(&w("vebus/257/no-path"), r#"{"value": 3}"#, "unknown-path");
    asker.refused(&r("vebus/257/Not/There"), "", "unknown-path");
    asker.refused(&r("tank/257/Level"), "", "unknown-service");
    asker.refused(&r("tank"), "", "bad-topic");
    asker.refused(&r("keepalive"), r#"["a#"]"#, "bad-filter");
}

#[test]
fn s5_8_what_times_out_is_told() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.peer();
    peer.on_items(|call| match call.member.as_str() {
        "GetValue" if call.path == "/Mode" => Reply::Later,
        _ => Reply::Normal,
    });
    peer.serve(vebus());
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--keep-alive 0");
    let asker = Asker::new(&rig);
    let late = asker.send(&r("vebus/257/Mode"), "");
    // What came after it waits for its turn (§5.5); a write does not.
    let read = asker.send(&r(SOC), "");
    let write = asker.send(&w("vebus/257/Ac/In/1/CurrentLimit"), r#"{"value": 16}"#);
    let (write_at, told) = asker.told(&write);
    assert_eq!(told, ok(&json!(16.0)));
    let (late_at, told) = asker.told(&late);
    assert_eq!(told["error"], "timed-out");
    let (read_at, told) = asker.told(&read);
    assert_eq!(told, ok(&json!(87.5)));
    assert!(write_at < late_at && late_at < read_at);
}

#[test]
fn s5_5_responses_come_in_the_order_of_the_requests() {
    // Reads, keep-alives and their mistakes, all mixed, while everything is published again.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--keep-alive 60");
    let asker = Asker::new(&rig);
    let topics = [
        r(SOC),
        r("keepalive"),
        r("tank/1/None"),
        r("battery/258/Dc"),
    ];
    let sent: Vec<_> = topics
        .iter()
        .cycle()
        .take(40)
        .map(|topic| asker.send(topic, ""))
        .collect();
    let places: Vec<_> = sent
        .iter()
        .map(|correlation| asker.told(correlation).0)
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    // The value itself has been published before the client is told of it.
    let before = &asker.client.since(0)[..places[0]];
    assert!(
        before
            .iter()
            .any(|message| message.is(&n(SOC), &value("87.5")))
    );
}

#[test]
fn s5_8_a_hostile_response_topic_is_refused_and_reported() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let peer = rig.bus.serve(vebus());
    let bridge = rig.bridge("--keep-alive 60");
    let asker = Asker::new(&rig);
    let mark = rig.client.mark();
    let hostile = [
        "x".repeat(600),
        w("vebus/257/Mode"),
        format!("venus/{}", w("vebus/258/Mode")),
        r("keepalive"),
        n(SOC),
        "W/another/vebus/257/Mode".into(),
    ];
    for topic in &hostile {
        let properties = respond_to(topic, b"1");
        asker.client.publish_with(&r(SOC), &properties, "");
        let write = w("vebus/257/Mode");
        asker
            .client
            .publish_with(&write, &properties, r#"{"value": 1}"#);
    }
    let long = respond_to("fine", &[1; 600]);
    asker.client.publish_with(&r(SOC), &long, "");
    // The broker hands on one client's messages in their order.
    assert_eq!(asker.ask(&r(SOC), ""), ok(&json!(87.5)));
    for line in ["a topic of notifications or requests", "too long"] {
        bridge.wait_log(&["rejected", "asks for its answer on", line]);
    }
    // Nothing of it was done, and nothing was said there.
    assert!(peer.writes("/Mode").is_empty());
    for message in rig.client.since(mark) {
        let told = message.text().contains("status");
        assert!(!told || message.topic == ANSWERS, "{message:?}");
    }
}

#[test]
fn a_request_with_3_1_1_has_no_response() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--keep-alive 60 --mqtt-version 3");
    let asker = Asker::new(&rig);
    let mark = asker.client.mark();
    asker.send(&r(SOC), "");
    rig.fence_by_read("battery/258/Serial");
    asker.client.fence();
    let messages = asker.client.since(mark);
    assert!(messages.iter().any(|message| message.topic == n(SOC)));
    assert!(messages.iter().all(|message| message.topic != ANSWERS));
}

#[test]
fn s5_6_too_many_writes_are_told_so() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.peer();
    peer.on_items(|call| match call.member.as_str() {
        "SetValue" => Reply::Later,
        _ => Reply::Normal,
    });
    peer.serve(vebus());
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--keep-alive 0");
    let asker = Asker::new(&rig);
    let mode = w("vebus/257/Mode");
    // In portions: a broker drops messages of QoS 0 that it cannot hand on as fast as they come.
    let mut sent = Vec::new();
    for _ in 0..8 {
        sent.extend((0..128).map(|_| asker.send(&mode, r#"{"value": 1}"#)));
        rig.fence_by_read("battery/258/Soc");
    }
    sent.push(asker.send(&mode, r#"{"value": 1}"#));
    assert_eq!(asker.told(&sent[1_024]).1["error"], "too-many");
    // A few of them are at the service (§2.9); the others follow as those are answered.
    peer.release();
    for correlation in [&sent[0], &sent[1_023]] {
        assert_eq!(asker.told(correlation).1, ok(&json!(1)));
    }
}
