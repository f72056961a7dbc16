//! Bounds on what clients may cost (§9.22).

use super::bench::*;
use dbus_mqtt::serve::Close;

#[test]
fn s9_22_connect_has_10_s_and_a_packet_30_s() {
    let mut bench = Bench::new();
    let (silent, slow) = (bench.socket(), bench.client("c", 5));
    bench.send(silent, &[0x10]);
    bench.send(slow, &[0x30, 100, 0]);
    bench.pass(9_999);
    assert_eq!(bench.get(silent), Vec::<String>::new());
    bench.pass(1);
    assert_eq!(bench.get(silent), ["closed"]);
    bench.pass(10_000);
    bench.send(slow, &[5]);
    bench.pass(9_999);
    assert_eq!(bench.get(slow), Vec::<String>::new());
    bench.pass(1);
    assert_eq!(bench.get(slow), ["DISCONNECT 81", "closed"]);
    assert_eq!(
        bench.closes,
        [(silent.0, Close::TooSlow), (slow.0, Close::TooSlow)]
    );
}

#[test]
fn s9_22_before_the_login_32_connections_the_oldest_dropped() {
    let mut bench = Bench::new();
    let inside = bench.client("inside", 4);
    let mut sockets = Vec::new();
    for _ in 0..40 {
        bench.pass(1);
        sockets.push(bench.socket());
        bench.settle();
    }
    for (number, socket) in sockets.iter().enumerate() {
        let expected = if number < 8 {
            vec!["closed".to_owned()]
        } else {
            vec![]
        };
        assert_eq!(bench.get(*socket), expected, "{number}");
    }
    bench.send(inside, PING);
    assert_eq!(bench.get(inside), ["PINGRESP"]);
}

#[test]
fn s9_22_before_the_login_64_kib() {
    let mut bench = Bench::new();
    let client = bench.socket();
    bench.send(client, &[0x10, 0x81, 0x80, 0x04]);
    assert_eq!(bench.get(client), ["closed"]);
    // What comes behind CONNECT while the login is looked at.
    let mut bench = Bench::with(|settings| settings.listeners[0].login = true);
    let client = bench.socket();
    bench.send(client, &connect("c", 4));
    assert!(bench.server.wants(client.0));
    for _ in 0..3 {
        bench.send(client, &vec![0; 16 * 1024]);
    }
    assert!(!bench.server.wants(client.0));
    assert_eq!(bench.get(client), Vec::<String>::new());
    bench.send(client, &vec![0; 17 * 1024]);
    assert_eq!(bench.get(client), ["closed"]);
}

#[test]
fn a_client_that_asks_and_does_not_read_is_not_read_either() {
    let mut bench = Bench::new();
    let client = bench.client("c", 4);
    bench.open(client, Some(0));
    let pings: Vec<u8> = PING.repeat(8 * 1024);
    let mut sent = 0;
    while bench.server.wants(client.0) {
        bench.send(client, &pings);
        sent += pings.len() / 2;
        assert!(sent < 200_000);
    }
    assert!(bench.server.held_bytes(client.0) < 200_000);
    bench.open(client, None);
    bench.pass(1_000);
    assert_eq!(bench.get(client).len(), sent);
    assert!(bench.server.wants(client.0));
}

#[test]
fn hostile_subscriptions_wait_for_their_turn() {
    let mut bench = Bench::new();
    let client = bench.client("c", 4);
    let mut sent = 0;
    for round in 0..100 {
        let filters: Vec<String> = (0..200).map(|n| format!("+/+/{}/{n}", round % 2)).collect();
        let filters: Vec<(&str, u8)> = filters.iter().map(|text| (text.as_str(), 0)).collect();
        if !bench.server.wants(client.0) {
            break;
        }
        bench.send(client, &subscribe(false, 1, &filters));
        sent += 1;
    }
    assert!(sent < 20, "{sent}");
    bench.pass(1_000);
    assert!(bench.get(client).len() < sent + 1);
    // In the end all are answered.
    bench.pass(50_000);
    bench.send(client, PING);
    bench.pass(1_000);
    assert_eq!(bench.get(client).last().unwrap(), "PINGRESP");
}

#[test]
fn thousands_of_topics_do_not_wait_as_wildcards_do() {
    let mut bench = Bench::with(|settings| {
        settings.listeners[0].discovery_prefix = Some("homeassistant".into());
    });
    let client = bench.client("c", 4);
    for packet in 0..38 {
        let topics: Vec<String> = (0..100)
            .map(|n| format!("N/{PORTAL}/battery/0/{packet}/{n}"))
            .collect();
        let topics: Vec<(&str, u8)> = topics.iter().map(|text| (text.as_str(), 0)).collect();
        bench.send(client, &subscribe(false, packet + 1, &topics));
        assert_eq!(bench.get(client).len(), 1, "{packet}");
    }
    // Here somebody else would wait.
    bench.send(client, &subscribe(false, 39, &[("+/+/+", 0); 40]));
    bench.send(client, &subscribe(false, 40, &[("a", 0)]));
    assert!(bench.get(client)[0].starts_with("SUBACK 39 "));
    assert_eq!(bench.get(client), Vec::<String>::new());
    bench.pass(1_000);
    assert_eq!(bench.get(client), ["SUBACK 40 [0]"]);
}

#[test]
fn bytes_may_be_split_anywhere() {
    let bytes = [
        connect("c", 5),
        subscribe(true, 1, &[("a/#", 0)]),
        publish5(2, 2, "a/b", &[], "1"),
        PING.to_vec(),
    ]
    .concat();
    let expected = ["SUBACK 1 [0]", "a/b 1", "PUBACK 2", "PINGRESP"];
    for at in 0..bytes.len() {
        let mut bench = Bench::new();
        let client = bench.socket();
        bench.clients.get_mut(&client.0).unwrap().v5 = true;
        bench.send(client, &bytes[..at]);
        bench.send(client, &bytes[at..]);
        assert_eq!(bench.get(client)[1..], expected, "{at}");
    }
    let mut bench = Bench::new();
    let client = bench.socket();
    bench.clients.get_mut(&client.0).unwrap().v5 = true;
    for byte in &bytes {
        bench.send(client, &[*byte]);
    }
    assert_eq!(bench.get(client)[1..], expected);
}

#[test]
fn s9_22_a_topic_has_128_levels() {
    for (level, refused) in [(4, "PUBACK 1"), (5, "PUBACK 1 90")] {
        let mut bench = Bench::new();
        let (client, other) = (bench.client("c", level), bench.client("o", 4));
        bench.subscribe(other, "#", 0);
        bench.get(other);
        let message = |topic: &str| match level {
            5 => publish5(2, 1, topic, &[], "x"),
            _ => publish(2, 1, topic, "x"),
        };
        bench.send(client, &message(&("a/".repeat(127) + "a")));
        assert_eq!(bench.get(client), ["PUBACK 1"]);
        assert_eq!(bench.get(other).len(), 1);
        bench.send(client, &message(&("a/".repeat(128) + "a")));
        assert_eq!(bench.get(client), [refused]);
        assert_eq!(bench.get(other), Vec::<String>::new());
    }
}
