//! `dbus-mqtt devices | get | watch | set` as their user meets them: the real program, a real broker,
//! and bridges of every generation: ours with and without retained values, the demo, and two scripted
//! ones that behave as dbus-mqtt (2018) and dbus-flashmq (2023) do.
//!
//! Their rules are tested without sockets in `src/tools/client`. Here is what only the program shows.

use std::os::unix::fs::PermissionsExt;

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::bridge::Bridge;
use crate::support::broker::{Broker, free_port};
use crate::support::fake_broker::{FakeBroker, Manner};
use crate::support::program::{program, run};
use crate::support::rig::{PORTAL, Rig, n, r, retained, value};
use crate::support::scripted::{Generation, Scripted};
use crate::support::service::{battery, vebus};

/// Checks what a command prints where all goes well.
#[track_caller]
fn prints(port: u16, arguments: &[&str], expected: &str) {
    let said = run(&mut program(port, arguments));
    assert_eq!((said.status, said.error.as_str()), (0, ""), "{arguments:?}");
    assert_eq!(said.out, expected, "{arguments:?}");
}

/// Checks the one sentence of a command that fails, and its status; gives what it printed before.
#[track_caller]
fn fails(port: u16, arguments: &[&str], status: i32, sentence: &str) -> String {
    let said = run(&mut program(port, arguments));
    assert_eq!(said.status, status, "{said:?}");
    assert_eq!(
        said.error,
        format!("dbus-mqtt: {sentence}\n"),
        "{arguments:?}"
    );
    said.out
}

// --- our bridge ---

#[test]
fn s8_our_bridge_below_a_prefix() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let bridge = Bridge::spawn(&rig.args("--mqtt-prefix venus --keep-alive 0"));
    let port = rig.broker.port;
    let client = rig.broker.client();
    client.subscribe("venus/N/#");
    let below = |rest: &str| format!("venus/{}", n(rest));
    client.expect(0, &below("battery/258/Soc"), &value("87.5"));
    let wanted = ["get", "battery/258/Soc", "--mqtt-prefix", "venus/"];
    prints(port, &wanted, "battery/258/Soc  87.5 %\n");
    let above = ["get", "battery/258/Soc", "--timeout", "1"];
    assert_eq!(run(&mut program(port, &above)).status, 1);
    bridge.signal(Signal::KILL);
    client.expect(0, &below("bridge/status"), r#"{"value": "offline"}"#);
    let forget = ["forget", PORTAL, "--yes", "--mqtt-prefix", "venus"];
    assert_eq!(run(&mut program(port, &forget)).status, 0);
    let left = retained(&rig.broker, "#");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn our_bridge_with_and_without_retained_values() {
    for retain in ["--retain true", "--retain false"] {
        let Some(rig) = Rig::start() else { return };
        let _peers = [rig.bus.serve(battery()), rig.bus.serve(vebus())];
        let _bridge = rig.bridge(retain);
        let port = rig.broker.port;
        prints(
            port,
            &["devices"],
            "TYPE     INSTANCE  PRODUCT     NAME  TOPICS\n\
             battery  258       SmartShunt  -          7\n\
             vebus    257       MultiPlus   -          5\n",
        );
        prints(
            port,
            &["get", "battery/258/Soc"],
            "battery/258/Soc  87.5 %\n",
        );
        prints(
            port,
            &["get", "vebus/257/Mode", "battery/258/Dc"],
            "vebus/257/Mode                3 (on)\n\
             battery/258/Dc/0/Current      -15.3 A\n\
             battery/258/Dc/0/Temperature  no value\n\
             battery/258/Dc/0/Voltage      51.96 V\n",
        );
        prints(
            port,
            &["get", "--raw", "+/+/ProductName"],
            "SmartShunt\nMultiPlus\n",
        );
        prints(
            port,
            &["get", "--json", &n("vebus/257/Ac/In/1/CurrentLimit")],
            "{\"topic\":\"vebus/257/Ac/In/1/CurrentLimit\",\"value\":50.0,\"unit\":\"A\",\
             \"min\":0.0,\"max\":100.0}\n",
        );
        let found = fails(
            port,
            &["get", "battery/258/Soc", "battery/258/Nope", "tank/0/Level"],
            1,
            "there is no battery/258/Nope, tank/0/Level",
        );
        assert_eq!(found, "battery/258/Soc  87.5 %\n");

        // By name and by number; a write that changes nothing is answered too.
        let mode = "vebus/257/Mode";
        prints(
            port,
            &["set", mode, "Charger only"],
            "vebus/257/Mode  1 (charger only)  was 3 (on)\n",
        );
        prints(port, &["set", mode, "3", "--raw"], "3\n");
        prints(
            port,
            &["set", mode, "on"],
            "vebus/257/Mode  3 (on)  as before\n",
        );
        prints(
            port,
            &["set", "--json", "vebus/257/Ac/In/1/CurrentLimit", "-5"],
            "{\"topic\":\"vebus/257/Ac/In/1/CurrentLimit\",\"value\":-5.0,\"unit\":\"A\",\"min\":0.0,\
             \"max\":100.0,\"before\":50.0,\"asked\":-5,\"outcome\":\"taken\"}\n",
        );
        fails(
            port,
            &["set", "vebus/257/Ac", "1"],
            2,
            "vebus/257/Ac has no value of its own, but 1 below it; set one of those, such as \
             vebus/257/Ac/In/1/CurrentLimit",
        );
        fails(
            port,
            &["set", "vebus/257/Nope", "1"],
            1,
            "there is no vebus/257/Nope",
        );
    }
}

#[test]
fn a_watch_shows_changes_until_ctrl_c_and_wakes_nothing_else() {
    for retain in ["--retain true", "--retain false"] {
        let Some(rig) = Rig::start() else { return };
        let battery = battery();
        let peer = rig.bus.serve(battery.clone());
        let _other = rig.bus.serve(vebus());
        let _bridge = rig.bridge(retain);
        let server = format!("127.0.0.1:{}", rig.broker.port);
        let mark = rig.client.mark();
        let mut watch = Bridge::spawn(&["watch", "-q", &server, "battery/+/Dc/0/#"]);
        watch.wait_log(&["battery/258/Dc/0/Current", "-15.3 A"]);
        watch.wait_log(&["battery/258/Dc/0/Voltage", "51.96 V"]);
        peer.set(
            &battery.name,
            "/Dc/0/Voltage",
            crate::support::wire::V::D(52.5),
        );
        let signal = crate::support::service::properties_changed(
            "/Dc/0/Voltage",
            crate::support::wire::V::D(52.5),
        );
        peer.burst([signal]);
        watch.wait_log(&["battery/258/Dc/0/Voltage", "52.5 V"]);
        let chosen = rig.chosen(mark);
        assert!(
            chosen
                .iter()
                .all(|topic| topic.starts_with("battery/258/Dc/")),
            "{chosen:?}"
        );
        watch.signal(Signal::INT);
        assert_eq!(watch.wait_exit(PATIENCE).code(), Some(0));
        let said = watch.log();
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(said.iter().all(|line| !line.contains('\u{1b}')), "{said:?}");
    }
}

#[test]
fn a_watch_ends_by_count_by_time_and_when_nobody_reads() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("");
    let port = rig.broker.port;
    prints(
        port,
        &["watch", "--count", "1", "--raw", "battery/258/Soc"],
        "87.5\n",
    );
    prints(
        port,
        &["watch", "--for", "3", "--json", "battery/258/Soc"],
        "{\"topic\":\"battery/258/Soc\",\"value\":87.5,\"unit\":\"%\"}\n",
    );
    let said = run(&mut program(
        port,
        &["watch", "--for", "2", "--timeout", "1", "tank/#"],
    ));
    assert_eq!((said.status, said.out.as_str()), (1, ""), "{said:?}");
    assert!(
        said.error.contains("nothing has come of tank/# yet"),
        "{said:?}"
    );
    assert!(
        said.error.contains("no answer within 2 s: tank/#"),
        "{said:?}"
    );

    // `dbus-mqtt watch '#' | head -n1`
    for arguments in [&["watch", "#"][..], &["get", "#"], &["devices"], &["man"]] {
        let mut command = program(port, arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "",
            "{arguments:?}"
        );
    }
}

// --- scripted bridges ---

#[test]
fn bridges_of_both_generations_are_understood() {
    for generation in [Generation::Y2018, Generation::Y2023] {
        let Some(broker) = Broker::start() else {
            return;
        };
        let bridge = Scripted::start(&broker, generation);
        let port = broker.port;
        prints(port, &["get", "battery/1/Soc"], "battery/1/Soc  50.5 %\n");
        prints(
            port,
            &["get", "battery/1/Dc"],
            "battery/1/Dc/0/Power    -100 W\nbattery/1/Dc/0/Voltage  26 V\n",
        );
        prints(
            port,
            &["get", "--raw", "+/+/Soc", "vebus/2/Mode"],
            "50.5\n3\n",
        );
        prints(
            port,
            &["devices", "--json"],
            &format!(
                "{{\"portal_id\":\"{PORTAL}\",\"type\":\"battery\",\"instance\":\"1\",\"product\":\"BMV\",\
                 \"name\":null,\"topics\":{}}}\n\
                 {{\"portal_id\":\"{PORTAL}\",\"type\":\"system\",\"instance\":\"0\",\"product\":null,\
                 \"name\":null,\"topics\":1}}\n\
                 {{\"portal_id\":\"{PORTAL}\",\"type\":\"vebus\",\"instance\":\"2\",\"product\":null,\
                 \"name\":null,\"topics\":3}}\n",
                // The object that a bridge of 2018 has answered is retained as well.
                if generation == Generation::Y2018 {
                    5
                } else {
                    4
                }
            ),
        );
        prints(
            port,
            &["watch", "--count", "1", "battery/1/Soc"],
            "battery/1/Soc  50.5 %\n",
        );
        prints(
            port,
            &["set", "vebus/2/Mode", "off"],
            "vebus/2/Mode  4 (off)  was 3 (on)\n",
        );
        prints(
            port,
            &["set", "vebus/2/Mode", "off"],
            "vebus/2/Mode  4 (off)  as before\n",
        );
        prints(
            port,
            &["set", "vebus/2/Limit", "120"],
            "vebus/2/Limit  100  was 50, asked for 120\n",
        );
        let out = fails(
            port,
            &["set", "--json", "vebus/2/Stubborn", "8"],
            1,
            "the device did not take 8: vebus/2/Stubborn is still 7",
        );
        assert!(out.contains("\"outcome\":\"refused\""), "{out}");
        if generation == Generation::Y2023 {
            fails(
                port,
                &["get", "battery/1/Nope"],
                1,
                "there is no battery/1/Nope",
            );
        } else {
            fails(
                port,
                &["get", "battery/1/Nope", "--timeout", "2"],
                1,
                "no answer within 2 s: battery/1/Nope (the bridge may be gone, or has no such value)",
            );
        }
        // Neither has announced that it understands lists of topics.
        let requests = bridge.requests();
        assert!(
            requests
                .iter()
                .all(|(_, payload)| !payload.starts_with('[')),
            "{requests:?}"
        );
        let keep_alive = (r("keepalive"), String::new());
        assert!(requests.contains(&keep_alive), "{requests:?}");
    }
}

// --- nobody there ---

#[test]
fn several_installations_are_listed_and_one_is_chosen() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let _bridge = Scripted::start(&broker, Generation::Y2023);
    let client = broker.client();
    client.publish_retained("N/aaa/system/0/Serial", value("\"aaa\""));
    client.fence();
    let port = broker.port;
    let sentence = format!(
        "there are several installations on this broker; choose one with --portal-id: aaa, {PORTAL}"
    );
    fails(port, &["get", "battery/1/Soc"], 2, &sentence);
    fails(port, &["devices"], 2, &sentence);
    let expected = "battery/1/Soc  50.5 %\n";
    prints(
        port,
        &["get", "battery/1/Soc", "--portal-id", PORTAL],
        expected,
    );
    prints(port, &["get", &n("battery/1/Soc")], expected);
    let mut command = program(port, &["get", "battery/1/Soc"]);
    assert_eq!(
        run(command.env("DBUS_MQTT_PORTAL_ID", PORTAL)).out,
        expected
    );
    // What a trial left behind is passed over, and named; asked for, it says at once that it is offline.
    client.publish_retained("N/aaa/bridge/status", value("\"offline\""));
    client.fence();
    let said = run(&mut program(port, &["get", "battery/1/Soc"]));
    assert_eq!((said.status, said.out.as_str()), (0, expected), "{said:?}");
    assert!(
        said.error.contains("offline on this broker: aaa"),
        "{said:?}"
    );
    let began = Instant::now();
    let offline = "aaa is offline: its bridge said so, and does not answer";
    let named = ["get", "battery/1/Soc", "--portal-id", "aaa"];
    fails(port, &named, 1, offline);
    fails(port, &["devices", "--portal-id", "aaa"], 1, offline);
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
    fails(
        port,
        &["get", &n("battery/1/Soc"), "--portal-id", "aaa"],
        2,
        &format!("{PORTAL} is another installation than aaa; ask for one at a time"),
    );
}

#[test]
fn only_a_bridge_that_is_gone() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let client = broker.client();
    client.publish_retained("N/aaa/system/0/Serial", value("\"aaa\""));
    client.publish_retained("N/aaa/bridge/status", value("\"offline\""));
    client.fence();
    let offline = "aaa is offline: its bridge said so, and does not answer";
    fails(broker.port, &["devices"], 1, offline);
}

#[test]
fn no_room_to_print_is_one_sentence_and_status_1() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    let soc = "battery/258/Soc";
    let bus = rig.bus.address();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    for arguments in [
        &["get", soc][..],
        &["get", "--json", soc],
        &["devices"],
        &["watch", "--for", "5", soc],
        &["set", soc, "50"],
        &["forget", "nobody"],
        &["record", "-b", &bus, "--out", &out, "--seconds", "1"],
        &["doctor", "-b", &bus, "--portal-id", PORTAL],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let mut command = program(rig.broker.port, arguments);
        let output = command.stdout(full.unwrap()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.as_str()),
            (
                Some(1),
                "dbus-mqtt: cannot print: No space left on device\n"
            ),
            "{arguments:?}"
        );
    }
}

#[test]
fn s4_9_a_broker_that_gives_nothing_retained_to_a_wildcard() {
    // It tells of no installation when asked for all: a heartbeat that comes by does.
    let fake = FakeBroker::start(Manner::Good);
    let asks_for = |from: usize, filter: &str| {
        let such = |packet: &crate::support::fake_broker::Packet| {
            packet.kind() == crate::support::fake_broker::SUBSCRIBE
                && packet.filters().iter().any(|(own, _)| own == filter)
        };
        fake.wait_for(filter, PATIENCE, from, such).0 + 1
    };
    let client = program(fake.address.port(), &["get", "battery/1/Soc"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let from = asks_for(0, "N/+/heartbeat");
    fake.publish(&n("heartbeat"), &value("1700000000"));
    // It is asked for by its name then, where such a broker has what is in store.
    let from = asks_for(from, &n("bridge/status"));
    let from = fake.wait_published(from, &r("battery/1/Soc"), "");
    assert!(from > 0);
    fake.publish(&n("battery/1/Soc"), &value("50.5"));
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, "battery/1/Soc  50.5 %\n");
}

#[test]
fn what_was_likely_meant_by_a_topic() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain false");
    let port = rig.broker.port;
    for (given, meant) in [
        ("batery/258/Soc", "battery/258/Soc"),
        ("battery/0/Soc", "battery/258/Soc"),
        ("battery/258/Sco", "battery/258/Soc"),
        ("batery/+/Soc", "battery/+/Soc"),
    ] {
        let sentence = format!("there is no {given}; did you mean {meant}?");
        fails(port, &["get", given], 1, &sentence);
    }
    let sentence = "there is no batery/258/Soc; did you mean battery/258/Soc?";
    fails(port, &["set", "batery/258/Soc", "1"], 1, sentence);
}

#[test]
fn an_installation_that_is_gone_is_forgotten() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let mut bridge = rig.bridge("--retain true --home-assistant --keep-alive 0");
    let (client, port) = (&rig.client, rig.broker.port);
    let write = format!("W/{PORTAL}/battery/258/Soc");
    client.publish_retained(&write, value("4"));
    client.publish_retained("N/other/system/0/Serial", value("\"other\""));
    client.fence();
    let online = format!(
        "{PORTAL} is online, and would publish it all again; stop its bridge, or add --online"
    );
    fails(port, &["forget", PORTAL, "--yes"], 2, &online);
    bridge.kill();
    let topic = n("bridge/status");
    crate::support::rig::wait_one_retained(&rig.broker, &topic, Some(crate::support::rig::OFFLINE));
    let all = || crate::support::rig::retained(&rig.broker, "#");
    let before = all();
    assert!(
        before.len() > 10 && before.contains_key(&write),
        "{before:?}"
    );
    // Nobody says yes: the standard input is at its end.
    let said = run(&mut program(port, &["forget", PORTAL]));
    assert_eq!((said.status, said.out.as_str()), (2, ""), "{said:?}");
    assert!(
        said.error.contains("[y/N]") && said.error.contains("--yes"),
        "{said:?}"
    );
    assert_eq!(all(), before);
    let count = before.len() - 1;
    let said = format!("cleared {count} topics of {PORTAL}\n");
    prints(port, &["forget", PORTAL, "--yes"], &said);
    let left: Vec<String> = all().into_keys().collect();
    assert_eq!(left, ["N/other/system/0/Serial"]);
    let said = format!("127.0.0.1:{port} retains nothing of {PORTAL}\n");
    prints(port, &["forget", PORTAL], &said);
}

#[test]
fn whoever_does_not_answer_is_told_from_one_who_refuses() {
    // No broker.
    let port = free_port();
    let sentence = format!("the broker at 127.0.0.1:{port}: Connection refused");
    fails(port, &["devices"], 1, &sentence);
    let name = "nosuchhost.invalid";
    let said = run(&mut program(1, &["devices", "-q", name]));
    assert_eq!(said.status, 1);
    assert!(
        said.error
            .starts_with("dbus-mqtt: the broker at nosuchhost.invalid:1883: "),
        "{said:?}"
    );

    // A broker that does not want us.
    let fake = FakeBroker::start(Manner::Refuse(5));
    let port = fake.address.port();
    let sentence = format!(
        "the broker at 127.0.0.1:{port}: not authorized to connect (check the user name and password)"
    );
    fails(port, &["get", "battery/1/Soc"], 1, &sentence);
    fake.behave(Manner::Close);
    let sentence = format!("the broker at 127.0.0.1:{port}: the broker closed the connection");
    fails(port, &["get", "battery/1/Soc"], 1, &sentence);

    // A broker where nobody has ever been.
    fake.behave(Manner::Good);
    let sentence = "there is no installation on this broker: nothing came on N/+/system/0/Serial within \
                    1 s (where the broker gives no retained messages to wildcards, name it with --portal-id)";
    for command in [
        &["devices", "--timeout", "1"][..],
        &["get", "battery/1/Soc", "--timeout", "1"],
        &["watch", "battery/1/Soc", "--timeout", "1"],
        &["set", "battery/1/Soc", "1", "--timeout", "1"],
    ] {
        fails(port, command, 1, sentence);
    }

    // A bridge that has died: its broker still knows its name.
    let Some(broker) = Broker::start() else {
        return;
    };
    let client = broker.client();
    client.publish_retained(&n("system/0/Serial"), value("\"x\""));
    client.publish_retained(&n("battery/1/Soc"), value("50"));
    client.fence();
    let start = Instant::now();
    let sentence =
        "no answer within 1 s: battery/1/Soc (the bridge may be gone, or has no such value)";
    fails(
        broker.port,
        &["get", "battery/1/Soc", "--timeout", "1"],
        1,
        sentence,
    );
    fails(
        broker.port,
        &["set", "battery/1/Soc", "1", "--timeout", "1"],
        1,
        sentence,
    );
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_password_is_taken_as_the_bridge_takes_it() {
    let Some(broker) = Broker::absent() else {
        return;
    };
    let Some(mut broker) = broker.with_login("boat", "secret") else {
        return;
    };
    broker.restart();
    let _bridge = Scripted::start(&broker, Generation::Y2023);
    let port = broker.port;
    let said = run(&mut program(
        port,
        &["get", "battery/1/Soc", "-u", "boat", "-P", "wrong"],
    ));
    assert_eq!(said.status, 1);
    assert!(said.error.contains("user name and password"), "{said:?}");
    assert!(!said.error.contains("wrong"), "{said:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("password"), "secret\n").unwrap();
    let only_ours = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path("password"), only_ours).unwrap();
    let settings = format!(
        "mqtt-user = 'boat'\nmqtt-password-file = '{}'\n",
        path("password")
    );
    std::fs::write(path("settings"), settings).unwrap();
    for arguments in [
        &["-u", "boat", "-P", "secret"][..],
        &["-u", "boat", "--mqtt-password-file", &path("password")],
        &["--config", &path("settings")],
    ] {
        let arguments = [&["get", "--raw", "battery/1/Soc"], arguments].concat();
        prints(port, &arguments, "50.5\n");
    }
}

#[test]
fn what_is_asked_wrongly_needs_no_broker() {
    let no_topic = |given: &str| {
        format!(
            "{given:?} is not a topic: write it as it stands after the portal id, such as \
             system/0/Dc/Battery/Soc or 'battery/+/Soc'"
        )
    };
    let check = |arguments: &[&str], sentence: &str| {
        assert_eq!(fails(9, arguments, 2, sentence), "");
    };
    check(&["get", "battery/#/Soc"], &no_topic("battery/#/Soc"));
    check(&["watch", ""], &no_topic(""));
    check(&["set", "battery/+/Soc", "1"], &no_topic("battery/+/Soc"));
    check(
        &["set", "vebus/257/Mode", "sideways"],
        "vebus/257/Mode has no \"sideways\": it takes 1 (charger only), 2 (inverter only), 3 (on), 4 (off)",
    );
    check(
        &["watch", "#", "--for", "0"],
        "--for: \"0\" is not a number greater than 0",
    );
    check(
        &["get", "a/0/X", "-q", "b:0"],
        "--mqtt-server: \"0\" is not a port: a number from 1 to 65535",
    );
    for (arguments, part) in [
        (&["get"][..], "<TOPIC>"),
        (&["set", "vebus/257/Mode"], "<VALUE>"),
        (&["get", "--raw", "--json", "a/0/X"], "cannot be used with"),
        (&["completions", "cobol"], "cobol"),
        (&["-q", "x", "get", "a/0/X"], "options before the command"),
    ] {
        let said = run(&mut program(9, arguments));
        assert_eq!((said.status, said.out.as_str()), (2, ""), "{said:?}");
        assert!(said.error.contains(part), "{said:?}");
    }
}

#[test]
fn a_signal_before_the_answer_ends_it_as_unanswered() {
    let mute = FakeBroker::start(Manner::Mute);
    let server = mute.address.to_string();
    let mut get = Bridge::spawn(&["get", "-q", &server, "battery/1/Soc", "--timeout", "600"]);
    mute.wait_connections(1, PATIENCE);
    get.signal(Signal::INT);
    assert_eq!(get.wait_exit(PATIENCE).code(), Some(1));
    get.wait_log(&["stopped before there was an answer"]);
}

#[test]
fn a_port_that_nobody_answers_on_does_not_hang() {
    // Accepts, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sentence = format!("the broker at 127.0.0.1:{port}: the broker has been silent for 1 s");
    fails(port, &["devices", "--timeout", "1"], 1, &sentence);
}
