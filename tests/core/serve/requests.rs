//! Requests of clients, QoS 1 and 2, response topics (§9.13 to §9.15).

use super::bench::*;
use dbus_mqtt::serve::{Answer, Response};

fn soc(kind: char) -> String {
    format!("{kind}/{PORTAL}/battery/0/Soc")
}

#[test]
fn s9_13_requests_go_to_the_rules_and_are_not_shown_to_others() {
    let mut bench = Bench::new();
    let (client, other) = (bench.client("c", 4), bench.client("o", 4));
    bench.subscribe(other, "#", 0);
    bench.get(other);
    bench.send(client, &publish(0, 0, &soc('R'), ""));
    bench.send(client, &publish(2, 7, &soc('W'), "{\"value\": 1}"));
    let requests = bench.requests();
    let shown: Vec<_> = requests
        .iter()
        .map(|request| {
            (
                &*request.topic,
                &*request.payload,
                request.client,
                request.retained,
            )
        })
        .collect();
    let (read, write) = (soc('R'), soc('W'));
    assert_eq!(
        shown,
        [
            (read.as_str(), &b""[..], client.0, false),
            (write.as_str(), &b"{\"value\": 1}"[..], client.0, false)
        ]
    );
    assert_eq!(bench.get(client), ["PUBACK 7"]);
    assert_eq!(bench.get(other), Vec::<String>::new());
}

#[test]
fn s9_13_a_message_with_qos_2_that_comes_again_is_executed_once() {
    for level in [3, 4, 5] {
        let mut bench = Bench::new();
        let client = bench.client("c", level);
        let message = |flags: u8| match level {
            5 => publish5(flags, 9, &soc('W'), &[], "1"),
            _ => publish(flags, 9, &soc('W'), "1"),
        };
        bench.send(client, &message(4));
        bench.send(client, &message(12));
        bench.send(client, &message(12));
        assert_eq!(bench.requests().len(), 1);
        bench.send(client, &packet(0x62, &[0, 9]));
        assert_eq!(
            bench.get(client),
            ["PUBREC 9", "PUBREC 9", "PUBREC 9", "PUBCOMP 9"]
        );
        // Released: the id is free for another one.
        bench.send(client, &message(4));
        assert_eq!(bench.requests().len(), 1);
        bench.send(client, &packet(0x62, &[0, 77]));
        assert_eq!(bench.get(client), ["PUBREC 9", "PUBCOMP 77"]);
    }
}

#[test]
fn s9_5_no_more_than_20_messages_with_qos_2_may_be_open() {
    let mut bench = Bench::new();
    let client = bench.client("c", 5);
    for id in 1..=20 {
        bench.send(client, &publish5(4, id, "a", &[], ""));
    }
    assert_eq!(bench.get(client).len(), 20);
    bench.send(client, &publish5(4, 20, "a", &[], ""));
    assert_eq!(bench.get(client), ["PUBREC 20"]);
    bench.send(client, &publish5(4, 21, "a", &[], ""));
    assert_eq!(bench.get(client), ["DISCONNECT 93", "closed"]);
}

#[test]
fn s9_13_a_retained_write_is_executed_unless_a_bridge_brings_it() {
    let mut bench = Bench::new();
    for (level, retained) in [(3, false), (4, false), (0x84, true), (0x83, true)] {
        let client = bench.client(&format!("c{level}"), level);
        bench.send(client, &publish(1, 0, &soc('W'), "1"));
        let requests = bench.requests();
        assert_eq!(
            (requests.len(), requests[0].retained),
            (1, retained),
            "{level}"
        );
    }
    // Nothing stores it.
    let other = bench.client("o", 4);
    assert_eq!(bench.subscribe(other, &soc('W'), 0), Vec::<String>::new());
}

#[test]
fn s9_14_what_a_client_publishes_under_our_topics_is_dropped() {
    let mut bench = Bench::new();
    let (old, new) = (bench.client("old", 4), bench.client("new", 5));
    bench.subscribe(old, "#", 0);
    bench.get(old);
    bench.send(old, &publish(3, 1, &soc('N'), "1"));
    bench.send(new, &publish5(1, 0, &soc('N'), &[], "1"));
    bench.send(new, &publish5(3, 2, &soc('N'), &[], "1"));
    bench.send(new, &publish5(5, 3, &soc('N'), &[], "1"));
    bench.send(new, PING);
    assert_eq!(bench.get(old), ["PUBACK 1"]);
    assert_eq!(bench.get(new), ["PUBACK 2 87", "PUBREC 3 87", "PINGRESP"]);
    assert_eq!(bench.server.counts()[0].foreign, 4);
    let late = bench.client("late", 4);
    let got = bench.subscribe(late, &soc('N'), 0);
    assert_eq!(got, [r#"retain N/P/battery/0/Soc {"value": 50}"#]);
    // A refused one is not open.
    bench.send(new, &publish5(4, 3, "a", &[], "1"));
    assert_eq!(bench.get(new), ["PUBREC 3"]);
}

#[test]
fn s9_15_an_answer_goes_to_its_requester_subscribed_or_not() {
    let mut bench = Bench::new();
    let (client, other) = (bench.client("c", 5), bench.client("o", 4));
    bench.subscribe(other, "#", 0);
    bench.get(other);
    let asked = [&[8, 0, 3][..], b"a/b", &[9, 0, 2, 1, 2]].concat();
    bench.send(client, &publish5(0, 0, &soc('W'), &asked, "1"));
    let request = bench.requests().remove(0);
    let to = Response {
        topic: "a/b".into(),
        correlation: Box::new([1, 2]),
    };
    assert_eq!(request.response, Some(to.clone()));
    let answer = Answer::Respond {
        client: request.client,
        to,
        payload: b"{\"status\": \"ok\"}".as_slice().into(),
    };
    bench.server.answer(bench.now, answer.clone());
    bench.settle();
    assert_eq!(bench.get(client), [r#"a/b <0900020102> {"status": "ok"}"#]);
    assert_eq!(bench.get(other), Vec::<String>::new());
    bench.lose(client);
    bench.server.answer(bench.now, answer);
    bench.settle();
}

#[test]
fn s9_5_a_topic_alias_stands_for_its_topic() {
    let mut bench = Bench::new();
    let client = bench.client("c", 5);
    bench.send(client, &publish5(0, 0, &soc('R'), &[35, 0, 10], ""));
    bench.send(client, &publish5(0, 0, "", &[35, 0, 10], ""));
    bench.send(client, &publish5(0, 0, &soc('W'), &[35, 0, 10], "1"));
    bench.send(client, &publish5(0, 0, "", &[35, 0, 10], "2"));
    let topics: Vec<_> = bench
        .requests()
        .into_iter()
        .map(|request| request.topic)
        .collect();
    let (read, write) = (soc('R'), soc('W'));
    assert_eq!(
        topics.iter().map(|topic| &**topic).collect::<Vec<_>>(),
        [&read, &read, &write, &write]
    );
}

#[test]
fn what_home_assistant_says_of_itself_goes_to_the_rules_and_to_others() {
    for relay in [true, false] {
        let mut bench = Bench::with(|settings| settings.listeners[0].relay = relay);
        let (home, other) = (bench.client("h", 4), bench.client("o", 4));
        bench.subscribe(other, "homeassistant/#", 0);
        bench.send(home, &publish(0, 0, "homeassistant/status", "online"));
        let requests = bench.requests();
        assert_eq!(&*requests[0].topic, "homeassistant/status");
        assert_eq!(bench.get(other), ["homeassistant/status online"]);
    }
}

#[test]
fn s5_6_what_a_client_writes_comes_back_at_once() {
    let mut bench = Bench::with(|settings| settings.gather = std::time::Duration::from_secs(1));
    let client = bench.client("c", 4);
    bench.subscribe(client, &soc('N'), 0);
    bench.set(1, "51");
    bench.settle();
    assert_eq!(bench.get(client), [r#"N/P/battery/0/Soc {"value": 51}"#]);
    // Others' changes are gathered; what was written is not, and takes along what waits.
    bench.send(client, &publish(0, 0, &soc('W'), "1"));
    bench.set(2, "13");
    bench.settle();
    assert_eq!(bench.get(client), Vec::<String>::new());
    bench.set(1, "52");
    bench.settle();
    assert_eq!(bench.get(client), [r#"N/P/battery/0/Soc {"value": 52}"#]);
    bench.set(1, "53");
    bench.settle();
    assert_eq!(bench.get(client), Vec::<String>::new());
    bench.pass(1_000);
    assert_eq!(bench.get(client), [r#"N/P/battery/0/Soc {"value": 53}"#]);
}
