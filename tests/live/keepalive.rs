//! §5.1 to §5.3, who keeps the data flowing and for how long: one test or more for each numbered rule.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::bus::Bus;
use crate::support::client::Message;
use crate::support::fake_broker::{FakeBroker, Manner, PUBLISH, Packet, SUBSCRIBE};
use crate::support::rig::{COMPLETED, PORTAL, Rig, bridge_to, counts, n, r, value, w};
use crate::support::service::{BATTERY, battery, vebus};
use crate::support::wire::V;

/// The echoes of the completion messages since a mark, `None` for those without.
fn echoes(rig: &Rig, mark: usize) -> Vec<Option<String>> {
    let payloads = rig.client.payloads(mark, &n(COMPLETED));
    payloads.iter().map(|payload| completion(payload)).collect()
}

/// Checks that a completion message is one, to the byte, and gives its echo, as JSON.
fn completion(payload: &str) -> Option<String> {
    let rest = payload
        .strip_prefix("{\"value\": ")
        .unwrap_or_else(|| panic!("{payload}"));
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(
        now.abs_diff(digits.parse().unwrap()) < 60,
        "{payload} is not now, {now}"
    );
    let rest = &rest[digits.len()..];
    if rest == "}" {
        return None;
    }
    let echo = rest
        .strip_prefix(", \"full-publish-completed-echo\": ")
        .and_then(|rest| rest.strip_suffix('}'));
    Some(echo.unwrap_or_else(|| panic!("{payload}")).to_owned())
}

/// Waits for a completion that carries this echo, given as JSON.
fn wait_echo(rig: &Rig, mark: usize, echo: &str) -> usize {
    let topic = n(COMPLETED);
    let such = |message: &Message| {
        message.topic == topic && completion(message.text()).as_deref() == Some(echo)
    };
    rig.client.wait(mark, &format!("the echo {echo}"), such).0
}

/// Checks that each item of the battery came once between two marks.
fn assert_each_once(rig: &Rig, mark: usize, end: usize, what: &str) {
    let seen = rig.client.since(mark);
    let counts = counts(&seen[..end - mark]);
    for topic in battery().topics(258).keys() {
        assert_eq!(
            counts.get(topic.as_str()),
            Some(&1),
            "{topic} after {what:?}"
        );
    }
}

#[test]
fn s5_0_subscribed_before_anything_is_published() {
    // Whoever sees the bridge online can send a request and have it heard.
    let Some(bus) = Bus::start() else { return };
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(&bus, &broker, "--retain true");
    let (first, _) = broker.wait("a PUBLISH", |packet| packet.kind() == PUBLISH);
    let before = &broker.packets()[..first];
    let requests = before.iter().filter(|packet| packet.kind() == SUBSCRIBE);
    let subscribed: Vec<String> = requests
        .flat_map(Packet::filters)
        .map(|(filter, _)| filter)
        .collect();
    assert!(
        subscribed.contains(&r("#")) && subscribed.contains(&w("#")),
        "{subscribed:?}"
    );
}

// ---------------------------------------------------------------------------------------------- 5.1

#[test]
fn s5_1_any_request_for_us_wakes_the_bridge() {
    // Valid or not, read or write: someone is there, so everything is published.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 1");
    for (topic, payload) in [
        (r("battery/258/Soc"), ""),
        (r("battery/258/Nothing"), ""),
        (r("nothing/0/Here"), "x"),
        (r("short"), ""),
        (r("system/0/Serial"), ""),
        (w("battery/258/Soc"), "no json"),
        (w("battery/258/Nothing"), r#"{"value": 1}"#),
        (w("nothing/0/Here"), r#"{"value": 1}"#),
        (w("battery/258/Serial"), r#"{"value": "HQ1419K5H9C"}"#),
        (r("keepalive"), ""),
        (r("keepalive"), "garbage"),
    ] {
        let mark = rig.client.mark();
        rig.client.publish(&topic, payload);
        for item in battery().topics(258).keys() {
            let what = format!("{item} after {topic} {payload}");
            rig.client.wait(mark, &what, |message| {
                message.topic == *item && !message.payload.is_empty()
            });
            rig.client.expect(mark, item, ""); // expired, ready for the next
        }
    }
}

#[test]
fn s5_1_requests_renew_for_the_interval() {
    // While requests keep coming nothing expires, however invalid they are.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 3");
    rig.wake();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        std::thread::sleep(Duration::from_millis(700)); // the passing of time is what is tested
        rig.client.publish(&r("nothing/0/Here"), "");
    }
    rig.fence_by_read("battery/258/Soc");
    assert!(rig.emptied(0).is_empty(), "it expired");
    rig.client.expect(0, &n("battery/258/Soc"), ""); // and without them it does
}

#[test]
fn s5_1_requests_for_another_portal_are_ignored() {
    // They neither wake the bridge nor write anything.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.client.publish("R/another/keepalive", "");
    rig.client.publish("R/another/battery/258/Soc", "");
    rig.client.publish("W/another/battery/258/Soc", value("1"));
    rig.client.publish(&format!("R/{PORTAL}x/keepalive"), "");
    rig.wake();
    let all = rig.client.since(0);
    assert_eq!(counts(&all)[n("battery/258/Soc").as_str()], 1);
    assert_eq!(counts(&all)[n(COMPLETED).as_str()], 1);
    assert!(peer.writes("/Soc").is_empty());
}

#[test]
fn s5_1_keep_alive_0_is_always_alive() {
    // Nobody has to ask, and nothing ever expires.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let mark = rig.client.mark();
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("87.5"));
    rig.completed(mark);
    peer.update(BATTERY, "/Soc", V::D(1.0));
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("1.0"));
}

#[test]
fn s5_1_while_only_selective_interests_live_a_plain_request_wakes_nothing_else() {
    // It is executed and answered, but the selective client keeps what it saves.
    let Some(rig) = Rig::start() else { return };
    let battery_peer = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.client.publish(&r("keepalive"), r#"["vebus/#"]"#);
    rig.client.expect(0, &n("vebus/257/Mode"), &value("3"));

    rig.fence_by_read("battery/258/Soc");
    rig.client
        .publish(&w("battery/258/Dc/0/Current"), value("2.5"));
    let calls = battery_peer.wait_calls("the write", 1, |call| call.member == "SetValue");
    assert_eq!(calls[0].written(), V::D(2.5));
    rig.bus.fence(&[&battery_peer]);
    rig.fence_by_read("vebus/257/Mode");

    let all = rig.client.since(0);
    let others: Vec<_> = all
        .iter()
        .filter(|m| m.topic.starts_with(&n("battery/")))
        .collect();
    // The answer of the read, and the change that the write made; nothing else of that service.
    let answers = [n("battery/258/Soc"), n("battery/258/Dc/0/Current")];
    assert!(
        others
            .iter()
            .all(|message| answers.contains(&message.topic)),
        "{others:?}"
    );
    assert_eq!(
        rig.client.payloads(0, &answers[0]).len(),
        1,
        "answered once"
    );
    rig.wake(); // a plain keep-alive does wake
    rig.client
        .expect(0, &n("battery/258/Dc/0/Current"), &value("2.5"));
}

// ---------------------------------------------------------------------------------------------- 5.2

#[test]
fn s5_2_an_empty_read_of_the_serial_is_answered_and_renews() {
    // The 2018 keep-alive: with retain = true it republishes nothing, for all is retained.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    let mark = rig.client.mark();
    rig.client.publish(&r("system/0/Serial"), "");
    rig.completed(mark); // it woke
    let mark = rig.client.mark();
    rig.client.publish(&r("system/0/Serial"), "");
    rig.client.expect(
        mark,
        &n("system/0/Serial"),
        &value(&format!("\"{PORTAL}\"")),
    );
    rig.fence_by_read("battery/258/Soc");
    assert_eq!(rig.chosen(mark), ["battery/258/Soc"], "republished");
    assert!(rig.client.payloads(mark, &n(COMPLETED)).is_empty());
}

#[test]
fn s5_2_with_retain_false_it_republishes() {
    // There the client has nothing else to go by.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain false");
    rig.wake();
    let mark = rig.client.mark();
    rig.client.publish(&r("system/0/Serial"), "");
    rig.client.expect(
        mark,
        &n("system/0/Serial"),
        &value(&format!("\"{PORTAL}\"")),
    );
    rig.completed(mark);
    for topic in battery().topics(258).keys() {
        rig.client
            .wait(mark, topic, |message| message.topic == *topic);
    }
}

#[test]
fn s5_2_with_a_payload_it_takes_the_options_of_a_keep_alive() {
    // Both topics understand the same: echo, suppress, filters.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    let options = r#"{"keepalive-options": [{"full-publish-completed-echo": "serial"}]}"#;
    rig.client.publish(&r("system/0/Serial"), options);
    let end = wait_echo(&rig, mark, "\"serial\"");
    assert_each_once(&rig, mark, end, "the echo");
    let mark = rig.client.mark();
    rig.client.publish(
        &r("system/0/Serial"),
        r#"{"keepalive-options": ["suppress-republish"]}"#,
    );
    rig.fence_by_read("battery/258/Soc");
    assert!(
        rig.client
            .payloads(mark, &n("battery/258/Dc/0/Voltage"))
            .is_empty()
    );
}

// ---------------------------------------------------------------------------------------------- 5.3

#[test]
fn s5_3_every_payload_that_is_no_option_republishes_everything() {
    // Seen in the field, or not understood: each means "everything, please", also while alive.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    for payload in [
        "",
        "1",
        r#"{"keepalive-options": []}"#,
        r#"{"keepalive-options": ["unknown", 5, null, {"x": 1}]}"#,
        r#"{"keepalive-options": 7}"#,
        r#"{"other": 1}"#,
        "{",
        "not json",
        "\"text\"",
        "null",
        "[]",
        "\u{0}\u{1}",
    ] {
        let mark = rig.client.mark();
        rig.client.publish(&r("keepalive"), payload);
        let end = rig.completed(mark);
        assert_each_once(&rig, mark, end, payload);
        assert_eq!(echoes(&rig, mark), [None], "after {payload:?}");
    }
}

#[test]
fn s5_3_the_echo_comes_back_verbatim_after_the_last_item() {
    // Whatever text a client chose tells it that everything has come.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    let quoted = r#""quote \" slash \\ line \n""#;
    for echo in [
        "\"x\"",
        "\"\"",
        "\"a b/c\"",
        quoted,
        "\"caf\u{e9}\"",
        "\"42\"",
    ] {
        let mark = rig.client.mark();
        let options =
            format!(r#"{{"keepalive-options": [{{"full-publish-completed-echo": {echo}}}]}}"#);
        rig.client.publish(&r("keepalive"), options);
        let end = wait_echo(&rig, mark, echo);
        assert_each_once(&rig, mark, end, echo);
    }
    assert!(
        !rig.retained().contains_key(&n(COMPLETED)),
        "never retained"
    );
}

#[test]
fn s5_3_suppressed_it_only_renews() {
    // No values and no completion, whether an echo stands beside it or not.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    for options in [
        r#"{"keepalive-options": ["suppress-republish"]}"#,
        r#"{"keepalive-options": ["suppress-republish", {"full-publish-completed-echo": "x"}]}"#,
        r#"{"keepalive-options": [{"full-publish-completed-echo": "y"}, "suppress-republish"]}"#,
    ] {
        rig.client.publish(&r("keepalive"), options);
    }
    rig.fence_by_read("battery/258/Soc");
    assert_eq!(rig.chosen(mark), ["battery/258/Soc"]);
    rig.wake(); // nothing of the three was just late
    assert_eq!(
        rig.client
            .payloads(mark, &n("battery/258/Dc/0/Voltage"))
            .len(),
        1
    );
    assert_eq!(echoes(&rig, mark), [None]);
}

#[test]
fn s5_3_suppressed_it_still_publishes_when_it_wakes() {
    // The client has nothing yet, so there is nothing to suppress; and it does renew.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 3");
    let suppress = r#"{"keepalive-options": ["suppress-republish"]}"#;
    rig.client.publish(&r("keepalive"), suppress);
    let end = rig.completed(0);
    assert_each_once(&rig, 0, end, suppress);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(700)); // the passing of time is what is tested
        rig.client.publish(&r("keepalive"), suppress);
    }
    rig.fence_by_read("battery/258/Soc");
    assert!(rig.emptied(0).is_empty(), "it expired");
}

#[test]
fn s5_3_whatever_wakes_is_followed_by_the_completion() {
    // A plain read that wakes, too; and a reconnect while alive.
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(&bus, &broker, "--retain false");
    let mut from = 0;
    for round in 0..2 {
        if round == 0 {
            broker.publish(&r("nothing/0/Here"), "");
        } else {
            broker.close();
        }
        let end = broker.wait_completed(from);
        let packets = broker.packets();
        let sent: Vec<_> = packets[from..end]
            .iter()
            .filter_map(crate::support::fake_broker::Packet::published)
            .collect();
        for (topic, payload) in battery().topics(258) {
            let count = sent
                .iter()
                .filter(|(t, p, _)| *t == topic && *p == payload)
                .count();
            assert_eq!(count, 1, "{topic} in round {round}");
        }
        from = end + 1;
    }
}

#[test]
fn s5_3_at_most_three_republishes_a_second() {
    // Impatient clients share a republish; each still gets its echo, once.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    let start = Instant::now();
    let mut sent = Vec::new();
    while start.elapsed() < Duration::from_secs(3) {
        let echo = format!("\"{}\"", sent.len());
        let options =
            format!(r#"{{"keepalive-options": [{{"full-publish-completed-echo": {echo}}}]}}"#);
        rig.client.publish(&r("keepalive"), options);
        sent.push(echo);
        std::thread::sleep(Duration::from_millis(20)); // the rate is what is tested
    }
    wait_echo(&rig, mark, sent.last().unwrap());
    let asked_s = start.elapsed().as_secs_f64();
    let mut came: Vec<String> = echoes(&rig, mark).into_iter().flatten().collect();
    assert_eq!(came.len(), sent.len(), "each echo once");
    came.sort();
    sent.sort();
    assert_eq!(came, sent);
    let published = rig.client.payloads(mark, &n("battery/258/Soc")).len();
    let most = asked_s * 3.0 + 4.0;
    #[expect(clippy::cast_precision_loss)] // a handful
    let within = (published as f64) <= most;
    assert!(within, "{published} republishes in {asked_s:.1} s");
    assert!(published >= 3, "{published} republishes in {asked_s:.1} s");
}
