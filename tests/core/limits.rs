//! Limits on what clients and services can do at will, and what the bridge tells of itself: the
//! decisions, without sockets, on simulated time.

use std::sync::Arc;
use std::time::Duration;

use crate::frames::wire::{V, s};
use crate::frames::{Device, PORTAL};
use dbus_mqtt::bridge::{Bounds, Bridge, BrokerStats, OutletConfig, PublishSink, Settings, Sizes};
use dbus_mqtt::codec::request::RequestReader;
use dbus_mqtt::model::filter::Filter;
use dbus_mqtt::model::request::ResponseAddress;
use dbus_mqtt::model::time::Now;
use serde_json::{Value as Json, json};

const MINUTE: Duration = Duration::from_secs(60);
const STATS: &str = "bridge/stats";

/// A message: its topic, its payload, whether it is retained.
type Seen = (String, String, bool);

#[derive(Default)]
struct Sink(Vec<Seen>);

impl PublishSink for Sink {
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        payload(&mut bytes);
        let topic = String::from_utf8(topic.concat()).unwrap();
        self.0
            .push((topic, String::from_utf8(bytes).unwrap(), retain));
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(4_711)
    }

    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        self.publish(false, &[to.topic.as_bytes(), b"", b""], payload);
    }
}

/// A bridge with one device and so many brokers, all connected.
struct Rig {
    bridge: Bridge,
    devices: Vec<Device>,
    now: Now,
}

fn battery() -> Device {
    let item = |path: &str, value| (path.to_owned(), value);
    Device {
        name: "com.victronenergy.battery.x".into(),
        owner: ":1.5".into(),
        items: vec![
            item("/DeviceInstance", V::I(7)),
            item("/Soc", V::D(87.5)),
            item("/CustomName", s("name")),
        ],
        ..Device::default()
    }
}

fn settings(bounds: Bounds, brokers: usize, stats: Option<Duration>) -> Settings {
    Settings {
        schema: Arc::default(),
        strict_writes: false,
        listeners: Vec::new(),
        keep_alive: vec![Some(MINUTE); brokers],
        services_max: 100,
        writes_in_flight_max: 100,
        calls_in_flight_max: 100_000,
        call_timeout: MINUTE,
        read_timeout: MINUTE,
        bounds,
        stats,
        refresh: None,
    }
}

impl Rig {
    fn new(bounds: Bounds, stats: Option<Duration>, outlets: Vec<OutletConfig>) -> Rig {
        let (now, brokers) = (crate::frames::now(), outlets.len());
        let devices = vec![battery()];
        let mut bridge = Bridge::new(crate::frames::config(outlets));
        bridge.reconfigure(now, settings(bounds, brokers, stats));
        bridge.bus_connected(now);
        crate::frames::answer_all(&mut bridge, now, &devices);
        for broker in 0..brokers {
            bridge.broker_connected(broker);
            bridge.broker_ready(now, broker);
        }
        let mut rig = Rig {
            bridge,
            devices,
            now,
        };
        for broker in 0..brokers {
            rig.drain(broker);
        }
        rig
    }

    fn with_rate(rate: usize, burst: usize, brokers: usize) -> Rig {
        let bounds = Bounds {
            request_rate_max: rate,
            request_burst_max: burst,
            ..Bounds::default()
        };
        let outlet = crate::frames::outlet(true, Some(MINUTE));
        Rig::new(bounds, None, vec![outlet; brokers])
    }

    fn after(&mut self, seconds: u64) {
        self.now.monotonic += Duration::from_secs(seconds);
        self.bridge.tick(self.now);
    }

    fn ask_from(&mut self, broker: usize, topic: &str, payload: &str, respond_to: Option<&str>) {
        let (kind, rest) = topic.split_once('/').unwrap();
        let topic = format!("{kind}/{PORTAL}/{rest}");
        let mut payload = payload.as_bytes().to_vec();
        let request =
            RequestReader::new(65_536).read(&topic, &mut payload, &crate::frames::portal());
        let to = respond_to.map(|topic| ResponseAddress {
            topic: topic.into(),
            correlation: [].into(),
            client: None,
        });
        let (bridge, now) = (&mut self.bridge, self.now);
        bridge.request_from(now, broker, &topic, request.unwrap(), false, to);
    }

    fn ask(&mut self, broker: usize, topic: &str, payload: &str) {
        self.ask_from(broker, topic, payload, None);
    }

    fn answer(&mut self) {
        crate::frames::answer_all(&mut self.bridge, self.now, &self.devices);
    }

    fn drain(&mut self, broker: usize) -> Vec<Seen> {
        let mut sink = Sink::default();
        while self.bridge.poll_publish(self.now, broker, &mut sink) {}
        sink.0
    }

    fn set(&mut self, path: &str, value: V) {
        let frame = crate::frames::properties_changed(":1.5", path, [("Value", value)]);
        assert!(crate::frames::feed(&mut self.bridge, self.now, &frame));
    }

    fn stats(&self, broker: usize) -> BrokerStats<'_> {
        self.bridge.broker_stats().nth(broker).unwrap()
    }

    fn refused(&self, broker: usize, code: &str) -> u64 {
        let stats = self.stats(broker);
        let found = stats.refused.iter().find(|(known, _)| *known == code);
        found.map_or(0, |(_, count)| *count)
    }
}

fn n(rest: &str) -> String {
    format!("N/{PORTAL}/{rest}")
}

fn payloads(seen: &[Seen], topic: &str) -> Vec<String> {
    let of_topic = seen.iter().filter(|(found, ..)| found == topic);
    of_topic.map(|(_, payload, _)| payload.clone()).collect()
}

#[test]
fn s5_8_a_flood_is_refused_and_keeps_nobody_from_keeping_alive() {
    let mut rig = Rig::with_rate(10, 20, 2);
    for _ in 0..1_000 {
        rig.ask(0, "R/battery/7/Soc", "");
    }
    assert_eq!(
        (rig.refused(0, "too-fast"), rig.stats(0).requests),
        (980, 1_000)
    );
    rig.answer();
    let seen = rig.drain(0);
    // Those within, and the republish that the first of them woke.
    assert_eq!(payloads(&seen, &n("battery/7/Soc")).len(), 21);
    // A keep-alive gets through, with all that it asks for.
    let echo = r#"{"keepalive-options": [{"full-publish-completed-echo": "x"}]}"#;
    rig.ask(0, "R/keepalive", echo);
    let completed = payloads(&rig.drain(0), &n("full_publish_completed"));
    assert!(completed[0].ends_with(r#""full-publish-completed-echo": "x"}"#));
    // And so does what the clients of another broker ask.
    rig.ask(1, "R/battery/7/Soc", "");
    rig.answer();
    assert!(!payloads(&rig.drain(1), &n("battery/7/Soc")).is_empty());
    assert_eq!(rig.refused(1, "too-fast"), 0);
    // After a second there is room for a second's worth.
    rig.after(1);
    for _ in 0..100 {
        rig.ask(0, "W/battery/7/Soc", r#"{"value": 1}"#);
    }
    assert_eq!(rig.refused(0, "too-fast"), 980 + 90);
}

#[test]
fn s5_1_what_is_beyond_the_rate_still_keeps_alive() {
    let mut rig = Rig::with_rate(1, 20, 1);
    let filter = r#"["battery/+/Soc"]"#;
    rig.ask(0, "R/keepalive", filter);
    rig.drain(0);
    rig.after(50);
    for number in 0..100 {
        rig.ask(0, "R/keepalive", &format!(r#"["tank/{number}/Level"]"#));
    }
    assert_eq!(rig.refused(0, "too-fast"), 80);
    rig.ask(0, "R/keepalive", filter);
    assert_eq!(rig.refused(0, "too-fast"), 81);
    // Past the end of the first minute, before that of the second.
    rig.after(50);
    rig.set("/Soc", V::D(1.0));
    let seen = rig.drain(0);
    assert_eq!(payloads(&seen, &n("battery/7/Soc")), [r#"{"value": 1.0}"#]);
    rig.after(20);
    assert_eq!(payloads(&rig.drain(0), &n("battery/7/Soc")), [""]);

    // A general one: it was refused its republish, and lives for a minute more.
    let mut rig = Rig::with_rate(1, 20, 1);
    rig.ask(0, "R/keepalive", "");
    rig.after(50);
    for _ in 0..100 {
        rig.ask(0, "R/keepalive", "");
    }
    rig.drain(0);
    rig.after(50);
    rig.set("/Soc", V::D(2.0));
    let seen = rig.drain(0);
    assert_eq!(payloads(&seen, &n("battery/7/Soc")), [r#"{"value": 2.0}"#]);
}

#[test]
fn s5_8_who_asks_too_fast_is_told() {
    let mut rig = Rig::with_rate(1, 1, 1);
    rig.ask(0, "R/battery/7/Soc", "");
    rig.answer();
    for topic in ["R/battery/7/Soc", "W/battery/7/Soc"] {
        rig.ask_from(0, topic, r#"{"value": 1}"#, Some("answers/x"));
    }
    let told = payloads(&rig.drain(0), "answers/x");
    assert_eq!(told.len(), 2);
    for text in told {
        let told: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(told["error"], json!("too-fast"));
    }
}

#[test]
fn s5_8_what_waits_for_a_broker_that_takes_nothing_is_bounded() {
    // Each is answered with an error at once, and nothing of it leaves.
    let mut rig = Rig::with_rate(usize::MAX, 1, 1);
    for _ in 0..50_000 {
        rig.ask_from(0, "R/nobody/7/Soc", "", Some("answers/x"));
    }
    for _ in 0..50_000 {
        rig.ask(0, "R/system/0/Serial", "");
        rig.ask(0, "R/nobody/7/Soc", "");
    }
    assert!(rig.refused(0, "too-many") > 40_000);
    let mut answers = 0;
    // What waited for room comes with the heartbeats.
    for _ in 0..10 {
        answers += rig.drain(0).len();
        rig.after(3);
    }
    assert!((4_096..10_000).contains(&answers), "{answers}");
    rig.ask_from(0, "R/nobody/7/Soc", "", Some("answers/x"));
    assert_eq!(payloads(&rig.drain(0), "answers/x").len(), 1);
}

#[test]
fn a_value_that_is_too_long_takes_back_what_was_published() {
    let bounds = Bounds {
        sizes: Sizes {
            text_bytes_max: 10,
            array_bytes_max: 10,
            ..Sizes::default()
        },
        ..Bounds::default()
    };
    let outlet = crate::frames::outlet(true, Some(MINUTE));
    let mut rig = Rig::new(bounds, None, vec![outlet]);
    rig.ask(0, "R/keepalive", "");
    rig.drain(0);
    let name = n("battery/7/CustomName");
    rig.set("/CustomName", s("0123456789+"));
    assert_eq!(rig.drain(0), [(name.clone(), String::new(), true)]);
    rig.set("/CustomName", s("longer than that"));
    assert_eq!(rig.drain(0), []);
    assert_eq!(rig.bridge.stats(rig.now).too_long, 2);
    // Who asks is told, and so is who writes.
    rig.devices[0].items[2].1 = s("still too long");
    rig.ask_from(0, "R/battery/7/CustomName", "", Some("read"));
    rig.ask_from(
        0,
        "W/battery/7/CustomName",
        r#"{"value": "0123456789+"}"#,
        Some("write"),
    );
    rig.answer();
    let seen = rig.drain(0);
    for topic in ["read", "write"] {
        let told: Json = serde_json::from_str(&payloads(&seen, topic)[0]).unwrap();
        assert_eq!(told["error"], json!("too-large"), "{topic}");
    }
    assert_eq!(seen.len(), 2);
    rig.set("/CustomName", s("short"));
    let text = r#"{"value": "short"}"#.to_owned();
    assert_eq!(rig.drain(0), [(name, text, true)]);
    // An item that is new, or comes in a scan, is no other.
    rig.set("/New", s("0123456789+"));
    assert_eq!(rig.drain(0), []);
    rig.set("/New", s("new"));
    assert_eq!(rig.drain(0).len(), 1);
}

/// The stats among messages: the only ones, and as they were sent.
fn stats(seen: &[Seen]) -> Json {
    let found: Vec<_> = seen
        .iter()
        .filter(|(topic, ..)| topic.ends_with(STATS))
        .collect();
    assert_eq!(found.len(), 1, "{seen:?}");
    let (_, payload, retain) = found[0];
    assert!(!retain);
    serde_json::from_str(payload).unwrap()
}

#[test]
fn the_bridge_tells_what_it_did() {
    let outlet = crate::frames::outlet(true, Some(MINUTE));
    let every = Some(Duration::from_secs(30));
    let mut rig = Rig::new(Bounds::default(), every, vec![outlet.clone(), outlet]);
    // Nobody is interested (§4.3): only what tells of the bridge is repeated (§4.14).
    rig.after(100);
    let own = |(topic, ..): &Seen| {
        topic.ends_with("/bridge/status") || topic.ends_with("/system/0/Serial")
    };
    let sent = rig.drain(0);
    assert!(sent.iter().all(own), "{sent:?}");

    rig.ask(0, "R/keepalive", "");
    rig.ask(0, "R/nobody/0/X", "");
    rig.ask(0, "R/nobody/0/X", "");
    rig.ask(0, "W/battery/7/Soc", "no JSON");
    for change in 0..5 {
        rig.set("/Soc", V::I(change));
    }
    let seen = rig.drain(0);
    let before = seen.len() as u64;
    rig.after(0);
    let seen = rig.drain(0);
    // Three at the connect, those that were repeated, and those that were counted here.
    let published = before
        + 3
        + sent.len() as u64
        + seen
            .iter()
            .position(|(topic, ..)| topic.ends_with(STATS))
            .unwrap() as u64;
    let expected = json!({"value": {
        "uptime": 100, "memory": 4_711, "services": 1, "items": 3, "changes": 5, "too-long": 0,
        "bus-reconnects": 0, "reconnects": 0, "published": published, "conflated": 5,
        "foreign": 0, "corrected": 0, "left-out": 0,
        "requests": 4, "skipped": 0, "refused": {"unknown-service": 2, "not-json": 1},
    }});
    assert_eq!(stats(&seen), expected);
    // It comes with the heartbeats, in its time.
    rig.after(3);
    assert!(
        !rig.drain(0)
            .iter()
            .any(|(topic, ..)| topic.ends_with(STATS))
    );
    rig.after(27);
    stats(&rig.drain(0));
    // The other broker has clients of its own.
    assert!(rig.drain(1).iter().all(own));
    // Of a broker that was lost and came back, and with the bus too.
    rig.bridge.broker_disconnected(0);
    rig.bridge.bus_disconnected(rig.now);
    rig.bridge.bus_connected(rig.now);
    rig.answer();
    rig.bridge.broker_connected(0);
    rig.bridge.broker_ready(rig.now, 0);
    rig.after(0);
    let told = stats(&rig.drain(0));
    assert_eq!(
        (
            &told["value"]["reconnects"],
            &told["value"]["bus-reconnects"]
        ),
        (&json!(1), &json!(1))
    );
}

#[test]
fn s8_stats_go_where_they_may_and_are_wanted() {
    let every = Some(Duration::from_secs(3));
    let told = |outlet: OutletConfig, keep_alive: &str| {
        let mut rig = Rig::new(Bounds::default(), every, vec![outlet]);
        rig.ask(0, "R/keepalive", keep_alive);
        rig.after(0);
        let seen = rig.drain(0).into_iter().map(|(topic, ..)| topic);
        let found: Vec<_> = seen.filter(|topic| topic.ends_with(STATS)).collect();
        found
    };
    let plain = || crate::frames::outlet(false, Some(MINUTE));
    assert_eq!(told(plain(), ""), [n(STATS)]);
    assert_eq!(told(plain(), r#"["battery/#"]"#), [""; 0]);
    assert_eq!(told(plain(), r#"["bridge/#"]"#), [n(STATS)]);
    let mut denied = plain();
    denied.lists.publish.deny = vec![Filter::parse("bridge/#").unwrap()];
    assert_eq!(told(denied, ""), [""; 0]);
    let mut narrow = plain();
    narrow.lists.publish.allow = vec![Filter::parse("battery/#").unwrap()];
    assert_eq!(told(narrow, ""), [""; 0]);
    let mut prefixed = plain();
    prefixed.prefix = "venus/".into();
    assert_eq!(told(prefixed, ""), [format!("venus/{}", n(STATS))]);
}

#[test]
fn no_item_has_the_topic_of_the_stats() {
    // The nearest that a service can come.
    let mut device = battery();
    device.name = "com.victronenergy.bridge.x".into();
    device.items = vec![
        ("/Identifier".to_owned(), s("stats")),
        ("/".to_owned(), s("x")),
        ("/A".to_owned(), V::I(1)),
    ];
    let mut bridge = Bridge::new(crate::frames::config(vec![crate::frames::outlet(
        true, None,
    )]));
    let now = crate::frames::now();
    bridge.bus_connected(now);
    crate::frames::answer_all(&mut bridge, now, &[device]);
    bridge.broker_connected(0);
    bridge.broker_ready(now, 0);
    let mut sink = Sink::default();
    while bridge.poll_publish(now, 0, &mut sink) {}
    let topics: Vec<_> = sink.0.iter().map(|(topic, ..)| topic.as_str()).collect();
    assert!(topics.contains(&n("bridge/stats/A").as_str()), "{topics:?}");
    assert!(!topics.contains(&n(STATS).as_str()), "{topics:?}");
}
