//! Brokers that are absent, refuse, babble, stall, close or die, also under load: the bridge goes on, says
//! what is wrong, and ends with the right state.

use std::time::{Duration, Instant};

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::client::packet;
use crate::support::fake_broker::{FakeBroker, Manner, PUBLISH, oversized};
use crate::support::load::Load;
use crate::support::peer::Peer;
use crate::support::rig::{ONLINE, PORTAL, Rig, both, bridge_to, n, r, value, w};
use crate::support::service::{BATTERY, battery};
use crate::support::wire::{V, s};

use crate::support::in_parallel;

const SOC: &str = "battery/258/Soc";

/// Waits for a broker's client to see the bridge publish what a signal brings just now.
fn assert_goes_on(bus_peer: &Peer, broker: &FakeBroker, what: &str) {
    let from = broker.packets().len();
    let mut number = 100_000.0;
    crate::support::poll(
        &format!("a value after {what}"),
        crate::support::PATIENCE,
        || {
            number += 1.0;
            bus_peer.update(BATTERY, "/Soc", V::D(number));
            std::thread::sleep(Duration::from_millis(20));
            let expected = |packet: &crate::support::fake_broker::Packet| {
                packet
                    .published()
                    .is_some_and(|(topic, payload, _)| topic == n(SOC) && payload.contains(": 100"))
            };
            broker.packets()[from..].iter().any(expected).then_some(())
        },
    );
}

#[test]
fn a_broker_that_is_absent_at_first_is_waited_for() {
    // Its address is in the log; when it comes, all is as always.
    let (Some(bus), Some(mut broker)) = (Bus::start(), Broker::absent()) else {
        return;
    };
    let _battery = bus.serve(battery());
    let (address, server) = (bus.address(), format!("127.0.0.1:{}", broker.port));
    let mut bridge = Bridge::spawn(&[
        "--dbus",
        &address,
        "--mqtt-server",
        &server,
        "--portal-id",
        PORTAL,
        "--keep-alive",
        "0",
    ]);
    bridge.wait_log(&[&broker.port.to_string()]);
    bus.fence(&[]);
    bridge.assert_alive();
    broker.restart();
    let rig = Rig {
        client: broker.listener(),
        bus,
        broker,
    };
    rig.wait_retained("once it is there", &battery().topics(258));
}

#[test]
fn a_refusal_is_said_in_plain_words_and_retried_slowly() {
    // Each return code of a CONNACK has its words, and nobody hammers at a closed door.
    let refusals = [
        (1, ["version", "support"]),
        (2, ["client id", "identifier"]),
        (3, ["unavailable", "available"]),
        (4, ["password", "credentials"]),
        (5, ["authori", "allow"]),
    ];
    in_parallel(&refusals, |(code, words)| {
        let Some(bus) = Bus::start() else { return };
        let broker = FakeBroker::start(Manner::Refuse(*code));
        let (address, server) = (bus.address(), broker.address.to_string());
        let bridge = Bridge::spawn(&[
            "--dbus",
            &address,
            "--mqtt-server",
            &server,
            "--portal-id",
            PORTAL,
            "--reconnect-max",
            "3600",
        ]);
        crate::support::poll(
            &format!("words for code {code}"),
            crate::support::PATIENCE,
            || {
                let said = bridge.log().into_iter().map(|line| line.to_lowercase());
                said.filter(|line| words.iter().any(|word| line.contains(word)))
                    .find(|_| true)
            },
        );
        // Chance decides on each wait, and a busy machine makes these seconds longer; who hammers comes a
        // thousand times.
        std::thread::sleep(Duration::from_secs(2));
        let attempts = broker.connections();
        assert!(attempts <= 20, "{attempts} attempts after code {code}");
    });
}

#[test]
fn a_refused_subscription_is_said_with_its_reason() {
    // 3.1.1 has one code for it, 5 has several: what may heal by itself is tried again soon, what somebody
    // must mend is not. Without what is retained the bridge goes on.
    let modern = |id: u8, codes: &[u8]| packet(0x90, &[&[0, id, 0][..], codes].concat());
    let classic = |id: u8, codes: &[u8]| packet(0x90, &[&[0, id][..], codes].concat());
    let requests = format!(
        "the broker refused our subscription to {} and {}",
        r("#"),
        w("#")
    );
    let (old, new) = (packet(0x20, &[0, 0]), packet(0x20, &[0, 0, 0]));
    let unread = "refused to show us its retained messages: stale values may remain";
    let cases = [
        (
            "3",
            [old.clone(), classic(1, &[1, 0x80])],
            requests.as_str(),
            "no reason given; if this lasts, check its access",
            true,
        ),
        (
            "5",
            [new.clone(), modern(1, &[0x87, 1])],
            &requests,
            "not authorized; check its access",
            false,
        ),
        (
            "5",
            [new.clone(), modern(1, &[1, 0x97])],
            &requests,
            "quota reached",
            true,
        ),
        (
            "3",
            [[old, classic(1, &[1, 1])].concat(), classic(2, &[0x80])],
            unread,
            "",
            false,
        ),
        (
            "5",
            [[new, modern(1, &[1, 1])].concat(), modern(2, &[0x87])],
            unread,
            "",
            false,
        ),
    ];
    in_parallel(&cases, |(version, answer, what, why, heals)| {
        let Some(bus) = Bus::start() else { return };
        let broker = FakeBroker::start(Manner::Babble(answer.concat()));
        let (address, server) = (bus.address(), broker.address.to_string());
        let base = ["--dbus", &address, "--mqtt-server", &server];
        let more = ["--portal-id", PORTAL, "--mqtt-version", version];
        let slow = ["--reconnect-max", "86400"];
        let mut bridge = Bridge::spawn(&[&base[..], &more, &slow].concat());
        bridge.wait_log(&["WARN", what, why]);
        if *heals {
            broker.wait_connections(2, crate::support::PATIENCE);
        } else {
            std::thread::sleep(Duration::from_secs(2)); // the rate is what is tested
            assert_eq!(broker.connections(), 1, "{what} {why}");
        }
        bridge.assert_alive();
    });
}

#[test]
fn a_refusal_that_heals_is_overcome() {
    // A broker that was busy lets the bridge in later.
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Refuse(3));
    let (address, server) = (bus.address(), broker.address.to_string());
    let _bridge = Bridge::spawn(&[
        "--dbus",
        &address,
        "--mqtt-server",
        &server,
        "--portal-id",
        PORTAL,
        "--keep-alive",
        "0",
        "--retain",
        "false",
    ]);
    broker.wait_connections(2, crate::support::PATIENCE);
    broker.behave(Manner::Good);
    broker.wait_published(0, &n(SOC), &value("87.5"));
}

#[test]
fn user_and_password_open_a_broker_that_wants_them() {
    // With the right ones it works; with wrong ones the log says so, and the password is not in it.
    let Some(mut broker) = Broker::absent().and_then(|broker| broker.with_login("venus", "s3cret"))
    else {
        return;
    };
    broker.restart();
    let Some(rig) = Rig::with(broker) else { return };
    let _battery = rig.bus.serve(battery());
    let wrong = Bridge::spawn(&rig.args("--mqtt-user venus --mqtt-password wr0ng"));
    crate::support::poll("words on the password", crate::support::PATIENCE, || {
        let said = wrong.log().into_iter().map(|line| line.to_lowercase());
        said.filter(|line| line.contains("password") || line.contains("allow"))
            .find(|_| true)
    });
    assert!(wrong.log_with(&["wr0ng"]).is_empty());
    drop(wrong);
    let bridge = rig.bridge("--mqtt-user venus --mqtt-password s3cret --keep-alive 0 -d");
    rig.wait_retained("with the right one", &battery().topics(258));
    assert!(bridge.log_with(&["s3cret"]).is_empty());
}

#[test]
fn a_broker_that_closes_at_once_is_tried_again_with_a_back_off() {
    // Not in a busy loop, and with success as soon as it stays.
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Close);
    let (address, server) = (bus.address(), broker.address.to_string());
    let _bridge = Bridge::spawn(&[
        "--dbus",
        &address,
        "--mqtt-server",
        &server,
        "--portal-id",
        PORTAL,
        "--keep-alive",
        "0",
        "--retain",
        "false",
    ]);
    broker.wait_connections(1, crate::support::PATIENCE);
    std::thread::sleep(Duration::from_secs(3)); // the rate is what is tested
    let attempts = broker.connections();
    assert!(
        (2..=7).contains(&attempts),
        "{attempts} attempts within three seconds"
    );
    broker.behave(Manner::Good);
    broker.wait_published(0, &n(SOC), &value("87.5"));
}

#[test]
fn what_is_no_mqtt_is_survived() {
    // Another protocol, half a packet, the wrong packet, a length without end: reported, and tried again.
    let answers = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0xFF; 100],
        vec![0; 100],
        packet(0x20, &[]),
        packet(0x20, &[0, 0, 0, 0]),
        packet(0xD0, &[]),
        packet(0x90, &[0, 1, 0]),
        vec![0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        oversized([0xFF, 0xFF, 0xFF, 0x7F]),
    ];
    in_parallel(&answers, |answer| {
        let Some(bus) = Bus::start() else { return };
        let _battery = bus.serve(battery());
        let broker = FakeBroker::start(Manner::Babble(answer.clone()));
        let (address, server) = (bus.address(), broker.address.to_string());
        let mut bridge = Bridge::spawn(&[
            "--dbus",
            &address,
            "--mqtt-server",
            &server,
            "--portal-id",
            PORTAL,
            "--keep-alive",
            "0",
            "--retain",
            "false",
            "--reconnect-max",
            "2",
        ]);
        broker.wait_connections(1, crate::support::PATIENCE);
        broker.behave(Manner::Good);
        bridge.wait_log(&[&broker.address.port().to_string()]);
        broker.wait_published(0, &n(SOC), &value("87.5"));
        bridge.assert_alive();
    });
}

#[test]
fn packets_that_are_out_of_place_are_survived() {
    // In the middle of a good session of 3.1.1: given up or passed over, but the bridge goes on. MQTT 5
    // has a separate test, in live/mqtt5.rs.
    let publish = |head: u8, body: &[u8]| packet(PUBLISH | head, body);
    let packets = [
        vec![0x00, 0x00],
        vec![0xF0, 0x00],
        packet(0x20, &[0, 0]),
        packet(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01x"),
        packet(0x90, &[0, 200, 0]),
        packet(0x90, &[0]),
        publish(0, &[]),
        publish(0, &[0]),
        publish(0, &[0, 0]),
        publish(0, &[0xFF, 0xFF, b'R']),
        publish(0, b"\0\x02R\0"),
        publish(0, b"\0\x03R/+"),
        publish(0, b"\0\x03R/\xff"),
        publish(2, b"\0\x01R\0\x05"),
        publish(6, b"\0\x01R\0\x05"),
        vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        oversized([0xFF, 0xFF, 0xFF, 0x7F]),
        // Acknowledgements of nothing, cut short, and with flags.
        packet(0x40, &[0]),
        packet(0x41, &[0, 1]),
        packet(0x50, &[]),
        packet(0x62, &[0]),
        packet(0x70, &[0, 1]),
        packet(0x91, &[0, 1, 0]),
        packet(0xB0, &[0]),
        packet(0xB2, &[0, 1]),
        packet(0xD0, &[0]),
        packet(0xD1, &[]),
        // What only a client sends.
        packet(0x82, b"\0\x01\0\x01a\0"),
        packet(0xA2, b"\0\x01\0\x01a"),
        packet(0xC0, &[]),
        packet(0xE0, &[]),
        packet(0xE4, &[0]),
    ];
    for some in packets.chunks(8) {
        in_parallel(some, |bytes| {
            let Some(bus) = Bus::start() else { return };
            let peer = bus.serve(battery());
            let broker = FakeBroker::start(Manner::Good);
            let args = "--retain false --keep-alive 0 --mqtt-version 3";
            let mut bridge = bridge_to(&bus, &broker, args);
            broker.wait_completed(0);
            broker.send(bytes);
            assert_goes_on(&peer, &broker, &format!("{bytes:?}"));
            bridge.assert_alive();
            assert!(
                bridge.peak_kib() < 200 * 1024,
                "{} KiB after {bytes:?}",
                bridge.peak_kib()
            );
        });
    }
}

#[test]
fn a_broker_that_never_answers_a_connect_is_given_up() {
    // It takes the connection and says nothing: after a while the bridge tries again.
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Mute);
    let (address, server) = (bus.address(), broker.address.to_string());
    let bridge = Bridge::spawn(&[
        "--dbus",
        &address,
        "--mqtt-server",
        &server,
        "--portal-id",
        PORTAL,
        "--keep-alive",
        "0",
        "--retain",
        "false",
    ]);
    broker.wait_closed(1, Duration::from_secs(90));
    bridge.wait_log(&[&broker.address.port().to_string()]);
    broker.behave(Manner::Good);
    broker.wait_published(0, &n(SOC), &value("87.5"));
}

#[test]
fn a_broker_that_falls_silent_is_dropped_after_one_and_a_half_intervals() {
    // The PING goes unanswered; the interval is the one in the CONNECT.
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(&bus, &broker, "--retain false");
    let (_, packet) = broker.wait("CONNECT", |packet| packet.kind() == 0x10);
    let connect = crate::support::fake_broker::Connect::parse(&packet.body);
    let ping = Duration::from_secs(connect.ping_s.into());
    broker.behave(Manner::Mute);
    let start = Instant::now();
    broker.wait_closed(1, ping * 2 + Duration::from_secs(5));
    assert!(
        start.elapsed() > ping,
        "dropped after {:?}, an interval is {ping:?}",
        start.elapsed()
    );
    broker.behave(Manner::Good);
    broker.wait_connections(2, crate::support::PATIENCE);
}

#[test]
fn a_broker_that_stalls_under_load_stalls_nothing_else() {
    // The bus side goes on, memory stays bounded, and when it wakes the latest values are there.
    let Some(rig) = Rig::start() else { return };
    let battery_peer = rig.bus.serve(battery());
    let bridge = rig.bridge("--retain true --keep-alive 0");
    let load = Load::start(&rig.bus);
    rig.client
        .wait(0, "load", |message| message.topic == n("tank/1/Load/0"));
    let before_kib = bridge.peak_kib();
    rig.broker.pause();
    let long = "x".repeat(2_000);
    for round in 0..5_000 {
        battery_peer.changed("/ProductName", s(&format!("{round}{long}")));
    }
    rig.bus.fence(&[&battery_peer]); // the bridge reads the bus, broker or not
    let grown_kib = bridge.peak_kib() - before_kib;
    assert!(
        grown_kib < 32 * 1024,
        "{grown_kib} KiB more for a stalled broker"
    );
    rig.broker.resume();
    let (_owner, last) = load.finish();
    let mut expected = both(battery().topics(258), last.topics(1));
    expected.insert(
        n("battery/258/ProductName"),
        value(&format!("\"4999{long}\"")),
    );
    rig.wait_retained("after the stall", &expected);
}

#[test]
fn a_broker_that_is_killed_and_comes_back_empty_gets_everything() {
    // Twice, under load; the second time it forgot all that it had.
    let Some(mut rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    let load = Load::start(&rig.bus);
    for _ in 0..2 {
        rig.broker.kill();
        bridge.assert_alive();
        rig.bus.fence(&[]);
        rig.broker.restart();
        crate::support::rig::wait_one_retained(&rig.broker, &n("bridge/status"), Some(ONLINE));
        crate::support::rig::wait_one_retained(&rig.broker, &n(SOC), Some(&value("87.5")));
    }
    let (_owner, last) = load.finish();
    rig.wait_retained("in the end", &both(battery().topics(258), last.topics(1)));
}

#[test]
fn a_connection_that_closes_again_and_again_under_load_ends_right() {
    // After each reconnect everything is published, and changes go on.
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Good);
    let mut bridge = bridge_to(&bus, &broker, "--retain false --keep-alive 0");
    let load = Load::start(&bus);
    let mut from = 0;
    for _ in 0..4 {
        from = broker.packets().len();
        broker.close();
        broker.wait_published(from, &n(SOC), &value("87.5"));
        bridge.assert_alive();
        // A broker that closes within two seconds of what it is sent, again and again, blames a topic (§4.12):
        // the first heartbeat comes after three.
        broker.wait_for("a heartbeat", crate::support::PATIENCE, from, |packet| {
            let published = packet.published();
            published.is_some_and(|(topic, ..)| topic.ends_with("/heartbeat"))
        });
    }
    let (_owner, last) = load.finish();
    for (topic, payload) in last.topics(1) {
        broker.wait_published(from, &topic, &payload);
    }
}

#[test]
fn a_flood_of_requests_is_survived() {
    // Twenty thousand reads and keep-alives: memory stays bounded, and a good request gets its answer.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let mut bridge = rig.bridge("--retain false");
    rig.wake();
    let (soc, unknown, keepalive) = (r(SOC), r("battery/258/Nothing"), r("keepalive"));
    for _ in 0..100 {
        let round = [
            (soc.as_str(), b"".as_slice()),
            (&unknown, b"x"),
            (&keepalive, b""),
            (&keepalive, b"[\"tank/#\"]"),
        ];
        rig.client.burst(std::iter::repeat_n(round, 50).flatten());
    }
    let mark = rig.client.mark();
    let echo = "\"after the flood\"";
    rig.client.publish(
        &keepalive,
        format!("{{\"keepalive-options\": [{{\"full-publish-completed-echo\": {echo}}}]}}"),
    );
    rig.client
        .wait(mark, "the answer after the flood", |message| {
            message.text().contains(echo)
        });
    bridge.assert_alive();
    assert!(bridge.peak_kib() < 200 * 1024, "{} KiB", bridge.peak_kib());
}
