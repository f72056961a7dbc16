//! CONNECT, client ids, silence, the end of a connection (§9.2 to §9.6).

use super::bench::*;
use dbus_mqtt::serve::{Close, ListenerSettings, Verdict};

/// What a new connection gets for its first bytes.
fn check(bytes: &[u8], v5: bool, expected: &[&str]) {
    let mut bench = Bench::new();
    let client = bench.socket();
    bench.clients.get_mut(&client.0).unwrap().v5 = v5;
    bench.send(client, bytes);
    assert_eq!(bench.get(client), expected, "{}", hex(bytes));
}

#[test]
fn s9_2_all_three_versions_are_let_in() {
    check(&connect("c", 3), false, &["CONNACK 0"]);
    check(&connect("c", 4), false, &["CONNACK 0"]);
    check(&connect("c", 0x83), false, &["CONNACK 0"]);
    check(&connect("c", 0x84), false, &["CONNACK 0"]);
    check(&connect_with("c", 4, 0, &[], &[]), false, &["CONNACK 0"]);
}

#[test]
fn s9_2_another_version_is_refused_in_its_form() {
    let with = |level: u8| {
        let mut bytes = connect("c", 4);
        bytes[8] = level;
        bytes
    };
    check(&with(3), false, &["CONNACK 1", "closed"]);
    check(&with(2), false, &["CONNACK 1", "closed"]);
    check(&with(6), true, &["CONNACK 84 ", "closed"]);
    check(&with(0x85), false, &["CONNACK 1", "closed"]);
}

#[test]
fn s9_2_a_first_packet_that_is_no_connect_closes() {
    for bytes in [
        PING,
        &subscribe(false, 1, &[("#", 0)]),
        b"GET / HTTP/1.1\r\n",
        &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3],
        &packet(0x10, &text("MQXX")),
        &packet(0x10, b""),
    ] {
        check(bytes, false, &["closed"]);
    }
    // Not before it could be one, and at once where it cannot.
    check(&[0x10], false, &[]);
    check(&[0x30], false, &["closed"]);
}

#[test]
fn s9_2_malformed_connects_close() {
    let whole = connect_with("c", 4, 0xc2, &[], &[text("user"), text("word")].concat());
    check(&whole, false, &["CONNACK 0"]);
    let cut = |by: usize| {
        let mut bytes = whole.clone();
        bytes.truncate(whole.len() - by);
        bytes[1] -= u8::try_from(by).unwrap();
        bytes
    };
    for by in 1..18 {
        check(&cut(by), false, &["closed"]);
    }
    let flags = |flags: u8| connect_with("c", 4, flags, &[], &[]);
    for wrong in [0x03, 0x42, 0x1a, 0x22, 0x0a, 0x1e] {
        check(&flags(wrong), false, &["closed"]);
    }
    check(&connect("a\u{1}b", 4), false, &["closed"]);
}

#[test]
fn s9_4_an_empty_client_id_is_assigned() {
    check(&connect("", 4), false, &["CONNACK 0"]);
    check(
        &connect_with("", 4, 0, &[], &[]),
        false,
        &["CONNACK 2", "closed"],
    );
    check(&connect("", 3), false, &["CONNACK 2", "closed"]);
    let mut bench = Bench::new();
    let (a, b) = (bench.socket(), bench.socket());
    let mut ids = Vec::new();
    for client in [a, b] {
        bench.clients.get_mut(&client.0).unwrap().v5 = true;
        bench.send(client, &connect("", 5));
        let line = bench.get(client).remove(0);
        let (_, id) = line.split_once("280112").unwrap();
        ids.push(id.to_owned());
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn s9_4_a_second_client_of_the_same_id_takes_over() {
    let mut bench = Bench::new();
    let (old, other) = (bench.client("same", 5), bench.client("other", 5));
    let new = bench.client("same", 4);
    assert_eq!(bench.get(old), ["DISCONNECT 8e", "closed"]);
    assert_eq!(bench.closes, [(old.0, Close::TakenOver)]);
    bench.send(new, PING);
    bench.send(other, PING);
    assert_eq!(
        (bench.get(new), bench.get(other)),
        (vec!["PINGRESP".into()], vec!["PINGRESP".into()])
    );
    // 3.1.1: closed without a word.
    bench.client("same", 4);
    assert_eq!(bench.get(new), ["closed"]);
}

#[test]
fn s9_5_connack_of_mqtt_5_says_what_there_is() {
    // Receive maximum 20, aliases 10, packet size, subscription ids 0, shared 0, session expiry 0,
    // retain 1, wildcards 1.
    let said = "CONNACK 0 210014 22000a 2700040000 2900 2a00 1100000000 2501 2801";
    let said = format!("CONNACK 0 {}", said["CONNACK 0 ".len()..].replace(' ', ""));
    check(&connect("c", 5), true, &[&said]);
    check(
        &connect_with("c", 5, 0, &[17, 0, 0, 1, 0], &[]),
        true,
        &[&said],
    );
    // A client that takes little is told the essential, or nothing.
    let small = connect_with("c", 5, 2, &[39, 0, 0, 0, 20], &[]);
    check(&small, true, &["CONNACK 0 21001422000a270004000029002a00"]);
    check(
        &connect_with("c", 5, 2, &[39, 0, 0, 0, 2], &[]),
        true,
        &["closed"],
    );
    check(
        &connect_with("c", 5, 2, &[21, 0, 1, b'x'], &[]),
        true,
        &["CONNACK 8c ", "closed"],
    );
}

#[test]
fn s9_6_silence_of_one_and_a_half_keep_alives_closes() {
    let mut bench = Bench::new();
    let (old, new) = (bench.client("old", 4), bench.client("new", 5));
    bench.pass(80_000);
    bench.send(old, PING);
    // Half a packet does not count.
    bench.send(new, &[0xc0]);
    assert_eq!(bench.get(old), ["PINGRESP"]);
    bench.pass(9_999);
    assert_eq!(bench.get(new), Vec::<String>::new());
    bench.pass(1);
    assert_eq!(bench.get(new), ["DISCONNECT 8d", "closed"]);
    bench.pass(79_000);
    assert_eq!(bench.get(old), Vec::<String>::new());
    bench.pass(2_000);
    assert_eq!(bench.get(old), ["closed"]);
    assert_eq!(bench.closes[1], (old.0, Close::KeepAlive));
}

#[test]
fn s9_6_without_keep_alive_silence_may_last() {
    let mut bench = Bench::new();
    let client = bench.socket();
    let mut bytes = connect("c", 4);
    (bytes[10], bytes[11]) = (0, 0);
    bench.greet(client, &bytes, 4);
    bench.pass(86_400_000);
    bench.send(client, PING);
    assert_eq!(bench.get(client), ["PINGRESP"]);
}

#[test]
fn s9_6_violations_are_told_by_their_code() {
    let sub = |filter: &str, options: u8| subscribe(true, 1, &[(filter, options)]);
    for (bytes, code) in [
        (connect("c", 5), "82"),
        (packet(0x20, &[0, 0]), "82"),
        (packet(0xf0, &[]), "82"),
        (packet(0x00, &[]), "82"),
        (packet(0xc1, &[]), "81"),
        (packet(0x80, &[0, 1, 0, 0, 1, b'a', 0]), "81"),
        (packet(0x82, &[0, 1, 0]), "82"),
        (packet(0x82, &[0, 0, 0, 0, 1, b'a', 0]), "82"),
        (sub("a", 3), "81"),
        (sub("a", 0x40), "81"),
        (sub("a", 0x30), "82"),
        (sub("", 0), "81"),
        (sub("$share/g/a", 4), "82"),
        (unsubscribe(true, 1, "a/#/b"), "81"),
        (publish5(6, 1, "a", &[], ""), "81"),
        (publish5(8, 0, "a", &[], ""), "81"),
        (publish5(2, 0, "a", &[], ""), "82"),
        (publish5(0, 0, "a/+", &[], ""), "90"),
        (publish5(0, 0, "", &[], ""), "82"),
        (publish5(0, 0, "a\0", &[], ""), "81"),
        (publish5(0, 0, "a\u{7f}", &[], ""), "81"),
        (publish5(0, 0, "a", &[35, 0, 0], ""), "94"),
        (publish5(0, 0, "a", &[35, 0, 11], ""), "94"),
        (publish5(0, 0, "", &[35, 0, 3], ""), "94"),
        (publish5(0, 0, "a", &[1, 2], ""), "82"),
        (publish5(0, 0, "a", &[8, 0, 1, b'#'], ""), "82"),
        (publish5(0, 0, "a", &[11, 1], ""), "81"),
        (
            publish5(0, 0, "a", &[2, 0, 0, 0, 1, 2, 0, 0, 0, 1], ""),
            "81",
        ),
        (vec![0x30, 0xff, 0xff, 0xff, 0x7f], "95"),
        (vec![0x30, 0xff, 0xff, 0xff, 0xff], "81"),
        (packet(0x40, &[0, 1, 0x55]), "82"),
        (packet(0xe0, &[0x8e]), "82"),
        (packet(0xc0, &[0]), "81"),
    ] {
        let mut bench = Bench::new();
        let client = bench.client("c", 5);
        bench.send(client, &bytes);
        let told = format!("DISCONNECT {code}");
        assert_eq!(
            bench.get(client),
            [told.as_str(), "closed"],
            "{}",
            hex(&bytes)
        );
        // What comes behind is not looked at; the same in MQTT 3.1.1 closes without a word.
        let old = bench.client("old", 4);
        bench.send(old, &[&[0x36, 3, 0, 1, b'a'][..], PING].concat());
        assert_eq!(bench.get(old), ["closed"]);
    }
}

#[test]
fn s9_6_when_the_bridge_ends_clients_are_told() {
    let mut bench = Bench::new();
    let (old, new) = (bench.client("old", 4), bench.client("new", 5));
    let watcher = bench.client("w", 4);
    bench.subscribe(watcher, "will", 0);
    bench.server.shut_down(bench.now);
    bench.settle();
    assert_eq!(bench.get(old), ["closed"]);
    assert_eq!(bench.get(new), ["DISCONNECT 8b", "closed"]);
    assert_eq!(bench.get(watcher), ["closed"]);
}

#[test]
fn s9_20_a_login_is_asked_about_and_answered() {
    let with_login = || {
        Bench::with(|settings| {
            settings.listeners = vec![ListenerSettings {
                login: true,
                ..ListenerSettings::default()
            }];
        })
    };
    let both = [text("u"), text("p")].concat();
    for (verdict, level, expected) in [
        (Verdict::Welcome, 4, vec!["CONNACK 0", "PINGRESP"]),
        (Verdict::BadCredentials, 4, vec!["CONNACK 4", "closed"]),
        (Verdict::NotAuthorized, 4, vec!["CONNACK 5", "closed"]),
        (Verdict::Busy, 4, vec!["CONNACK 3", "closed"]),
        (Verdict::BadCredentials, 5, vec!["CONNACK 86 ", "closed"]),
        (Verdict::NotAuthorized, 5, vec!["CONNACK 87 ", "closed"]),
        (Verdict::Busy, 5, vec!["CONNACK 97 ", "closed"]),
    ] {
        let mut bench = with_login();
        let client = bench.socket();
        bench.clients.get_mut(&client.0).unwrap().v5 = level == 5;
        let hello = connect_with("c", level, 0xc2, &[], &both);
        // What comes behind CONNECT waits for the answer.
        bench.send(client, &[&hello, PING].concat());
        let login = bench.server.poll_login().unwrap();
        assert_eq!((login.client, login.user.as_deref()), (client.0, Some("u")));
        assert_eq!(login.password.as_deref(), Some(&b"p"[..]));
        assert!(
            !format!("{login:?}").contains("112"),
            "a password is not shown"
        );
        bench.pass(6_000);
        assert_eq!(bench.get(client), Vec::<String>::new());
        bench.server.login(bench.now, client.0, verdict);
        bench.settle();
        assert_eq!(bench.get(client), expected, "{verdict:?} {level}");
    }
    // An empty user name is anonymous (§9.4).
    let mut bench = with_login();
    let client = bench.socket();
    bench.send(client, &connect_with("c", 4, 0x82, &[], &text("")));
    assert_eq!(bench.server.poll_login().unwrap().user, None);
}
