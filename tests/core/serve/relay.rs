//! Other topics: events, retained messages, wills (§9.16 to §9.19).

use super::bench::*;
use dbus_mqtt::serve::Close;

#[test]
fn s9_16_events_are_passed_on_in_order_with_their_properties() {
    let mut bench = Bench::new();
    let (old, new, from) = (
        bench.client("old", 3),
        bench.client("new", 5),
        bench.client("f", 5),
    );
    bench.subscribe(old, "a/#", 0);
    bench.subscribe(new, "a/+", 2);
    let properties = [
        &[1, 1, 35, 0, 1][..],
        &[3, 0, 1, b't'],
        &[2, 0, 0, 0, 9],
        &[38, 0, 1, b'k', 0, 1, b'v'],
        &[8, 0, 1, b'r', 9, 0, 1, 5],
    ]
    .concat();
    bench.send(from, &publish5(0, 0, "a/b", &properties, "1"));
    bench.send(from, &publish5(2, 1, "a/b", &[], "2"));
    bench.send(from, &publish5(4, 2, "a/b", &[], "3"));
    assert_eq!(bench.get(old), ["a/b 1", "a/b 2", "a/b 3"]);
    let kept = "02000000090101030001742600016b0001760800017209000105";
    assert_eq!(
        bench.get(new),
        [format!("a/b <{kept}> 1"), "a/b 2".into(), "a/b 3".into()]
    );
    assert_eq!(bench.get(from), ["PUBACK 1", "PUBREC 2"]);
}

#[test]
fn s9_16_no_local_keeps_a_clients_own_messages_from_it() {
    let mut bench = Bench::new();
    let (a, b) = (bench.client("a", 5), bench.client("b", 5));
    for client in [a, b] {
        bench.subscribe(client, "x/#", 4);
    }
    bench.subscribe(b, "x/plain", 0);
    bench.send(a, &publish5(0, 0, "x/1", &[], "1"));
    bench.send(b, &publish5(0, 0, "x/2", &[], "2"));
    bench.send(b, &publish5(0, 0, "x/plain", &[], "3"));
    assert_eq!(bench.get(a), ["x/2 2", "x/plain 3"]);
    assert_eq!(bench.get(b), ["x/1 1", "x/plain 3"]);
    // Two bridges must not send each other the same without end: theirs are so by their level (§9.2).
    let bridge = bench.client("bridge", 0x84);
    bench.subscribe(bridge, "#", 0);
    bench.get(bridge);
    bench.send(bridge, &publish(1, 0, "x/3", "4"));
    assert_eq!(bench.get(bridge), Vec::<String>::new());
    bench.send(a, &publish5(1, 0, "x/3", &[], "5"));
    assert_eq!(bench.get(bridge), ["retain x/3 5"]);
}

#[test]
fn s9_16_beyond_the_bounds_the_newest_is_dropped() {
    let mut bench = Bench::new();
    let (slow, other, from) = (
        bench.client("s", 4),
        bench.client("o", 4),
        bench.client("f", 4),
    );
    bench.subscribe(slow, "a", 0);
    bench.subscribe(other, "a", 0);
    bench.open(slow, Some(0));
    for number in 0..1_500 {
        bench.send(from, &publish(0, 0, "a", &number.to_string()));
    }
    assert_eq!(bench.get(other).len(), 1_500);
    bench.open(slow, None);
    let got = bench.get(slow);
    assert!((1_000..=1_001).contains(&got.len()), "{}", got.len());
    assert_eq!(got[999], "a 999");
    assert_eq!(bench.server.counts()[0].dropped, 1_500 - got.len() as u64);
    // The same by bytes.
    bench.open(slow, Some(0));
    let long = "x".repeat(60_000);
    for _ in 0..10 {
        bench.send(from, &publish(0, 0, "a", &long));
    }
    assert!(bench.server.held_bytes(slow.0) < 400_000);
    bench.open(slow, None);
    assert!((4..=6).contains(&bench.get(slow).len()));
}

#[test]
fn s9_17_retained_messages_come_to_who_subscribes_later() {
    let mut bench = Bench::new();
    let from = bench.client("f", 4);
    bench.send(from, &publish(1, 0, "a/b", "1"));
    bench.send(from, &publish(1, 0, "a/c", "2"));
    bench.send(from, &publish(0, 0, "a/d", "3"));
    bench.send(from, &publish(1, 0, "a/b", "4"));
    let late = bench.client("late", 5);
    assert_eq!(
        bench.subscribe(late, "a/#", 0),
        ["retain a/b 4", "retain a/c 2"]
    );
    assert_eq!(bench.subscribe(late, "a/c", 0), ["retain a/c 2"]);
    bench.send(from, &publish(1, 0, "a/b", ""));
    assert_eq!(bench.get(late), ["a/b "]);
    let later = bench.client("later", 3);
    assert_eq!(bench.subscribe(later, "a/+", 0), ["retain a/c 2"]);
}

#[test]
fn s9_17_retained_messages_have_bounds() {
    let mut bench = Bench::new();
    let (from, late) = (bench.client("f", 4), bench.client("l", 4));
    for number in 0..1_100 {
        bench.send(from, &publish(1, 0, &format!("t/{number:04}"), "1"));
    }
    assert_eq!(bench.server.stats().retained_topics, 1_000);
    assert_eq!(bench.subscribe(late, "t/#", 0).len(), 1_000);
    for number in 0..1_100 {
        bench.send(from, &publish(1, 0, &format!("t/{number:04}"), ""));
    }
    bench.get(late);
    assert_eq!(
        (
            bench.server.stats().retained_topics,
            bench.server.stats().retained_bytes
        ),
        (0, 0)
    );
    let long = "x".repeat(70_000);
    bench.send(from, &publish(1, 0, "long", &long));
    assert_eq!(bench.subscribe(late, "long", 0), Vec::<String>::new());
    for number in 0..40 {
        bench.send(
            from,
            &publish(1, 0, &format!("b/{number}"), &long[..60_000]),
        );
    }
    let bytes = bench.server.stats().retained_bytes;
    assert!((900_000..=1_048_576).contains(&bytes), "{bytes}");
}

#[test]
fn s9_17_a_message_expires() {
    let mut bench = Bench::new();
    let from = bench.client("f", 5);
    bench.send(from, &publish5(1, 0, "a", &[2, 0, 0, 0, 10], "1"));
    bench.pass(4_000);
    let late = bench.client("l", 5);
    assert_eq!(bench.subscribe(late, "a", 0), ["retain a <0200000006> 1"]);
    bench.pass(6_000);
    assert_eq!(bench.subscribe(late, "a", 0), Vec::<String>::new());
    bench.pass(30_000);
    bench.send(late, PING);
    bench.pass(30_000);
    assert_eq!(bench.get(late), ["PINGRESP"]);
    assert_eq!(bench.server.stats().retained_topics, 0);
    // What waits for a slow client expires too.
    bench.open(late, Some(0));
    bench.send(from, &publish5(0, 0, "a", &[2, 0, 0, 0, 1], "2"));
    bench.send(from, &publish5(0, 0, "a", &[2, 0, 0, 0, 1], "3"));
    bench.pass(1_000);
    bench.open(late, None);
    assert!(bench.get(late).len() <= 1);
}

/// A client with a will, whose topic and payload these are.
fn with_will(bench: &mut Bench, name: &str, level: u8, topic: &str, payload: &str) -> Client {
    let client = bench.socket();
    let mut behind = text(topic);
    behind.extend_from_slice(&text(payload));
    if level == 5 {
        behind.insert(0, 0);
    }
    bench.greet(
        client,
        &connect_with(name, level, 0x06, &[], &behind),
        level,
    );
    client
}

#[test]
fn s9_18_a_will_is_published_unless_the_client_says_goodbye() {
    for (end, expected) in [
        ("lost", vec!["will gone"]),
        ("silent", vec!["will gone"]),
        ("taken over", vec!["will gone"]),
        ("violation", vec!["will gone"]),
        ("04", vec!["will gone"]),
        ("goodbye", vec![]),
    ] {
        let mut bench = Bench::new();
        let other = bench.client("o", 4);
        bench.subscribe(other, "will", 0);
        let client = with_will(&mut bench, "c", 5, "will", "gone");
        match end {
            "lost" => bench.lose(client),
            "silent" => {
                bench.pass(60_000);
                bench.send(other, PING);
                bench.pass(31_000);
                bench.get(other).retain(|line| line != "PINGRESP");
                assert_eq!(bench.closes, [(client.0, Close::KeepAlive)]);
                continue;
            }
            "taken over" => {
                bench.client("c", 4);
            }
            "violation" => bench.send(client, &[0x00, 0]),
            "04" => bench.send(client, &[0xe0, 1, 4]),
            _ => bench.send(client, DISCONNECT),
        }
        assert_eq!(bench.get(other), expected, "{end}");
    }
}

#[test]
fn s9_18_a_will_on_a_write_topic_is_a_write() {
    let mut bench = Bench::new();
    let topic = format!("W/{PORTAL}/battery/0/Soc");
    let client = with_will(&mut bench, "c", 4, &topic, "{\"value\": 0}");
    bench.lose(client);
    let requests = bench.requests();
    assert_eq!((&*requests[0].topic, requests.len()), (topic.as_str(), 1));
    // A will under our own topics is dropped.
    let client = with_will(
        &mut bench,
        "c",
        4,
        &format!("N/{PORTAL}/battery/0/Soc"),
        "1",
    );
    bench.lose(client);
    assert_eq!(bench.server.counts()[0].foreign, 1);
}

#[test]
fn s9_19_sys_of_clients_is_accepted_and_dropped() {
    let mut bench = Bench::new();
    let (a, b) = (bench.client("a", 5), bench.client("b", 4));
    bench.subscribe(b, "$SYS/#", 0);
    bench.send(a, &publish5(3, 1, "$SYS/x", &[], "1"));
    assert_eq!(bench.get(a), ["PUBACK 1"]);
    assert_eq!(bench.get(b), Vec::<String>::new());
}

#[test]
fn s9_19_without_relay_nothing_else_is_published() {
    let mut bench = Bench::with(|settings| settings.listeners[0].relay = false);
    let (old, new) = (bench.client("old", 4), bench.client("new", 5));
    bench.subscribe(old, "#", 0);
    bench.get(old);
    bench.send(new, &publish5(1, 0, "a", &[], "1"));
    bench.send(new, &publish5(3, 1, "a", &[], "1"));
    bench.send(new, &publish5(5, 2, "a", &[], "1"));
    bench.send(old, &publish(2, 3, "a", "1"));
    assert_eq!(bench.get(new), ["PUBACK 1 87", "PUBREC 2 87"]);
    assert_eq!(bench.get(old), ["PUBACK 3"]);
    bench.send(
        new,
        &publish5(0, 0, &format!("R/{PORTAL}/keepalive"), &[], ""),
    );
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn s9_19_each_listener_has_its_own_word_on_relay() {
    let mut bench = Bench::with(|settings| {
        let mut other = settings.listeners[0].clone();
        other.relay = false;
        settings.listeners.push(other);
    });
    let (open, alone) = (bench.client("open", 4), bench.socket_at(1));
    bench.greet(alone, &connect("alone", 4), 4);
    bench.subscribe(open, "#", 0);
    bench.send(open, &publish(1, 0, "a", "1"));
    bench.subscribe(alone, "#", 0);
    bench.get(alone);
    bench.send(open, &publish(0, 0, "b", "2"));
    bench.send(alone, &publish(0, 0, "c", "3"));
    let got = bench.get(open);
    assert_eq!(got[got.len() - 2..], ["a 1", "b 2"]);
    assert_eq!(bench.get(alone), Vec::<String>::new());
}
