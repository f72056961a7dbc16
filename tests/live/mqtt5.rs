//! MQTT 5 against a real broker, and against one that shows every byte: the choice of the version, what
//! a broker allows, values that expire, topics that are abbreviated.

use std::time::{Duration, Instant};

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::client::{Client, packet, put_text};
use crate::support::fake_broker::{
    CONNECT, Connect, DISCONNECT, FakeBroker, Manner, PUBLISH, SUBSCRIBE,
};
use crate::support::peer::Peer;
use crate::support::rig::{PORTAL, Rig, bridge_to, n, r, retained, value, w};
use crate::support::service::{BATTERY, battery};
use crate::support::wire::{V, s};
use crate::support::{PATIENCE, in_parallel, poll};

const SOC: &str = "battery/258/Soc";
const NAME: &str = "battery/258/CustomName";

/// A bridge that need not come online.
fn spawn(bus: &Bus, broker: &FakeBroker, more: &str) -> Bridge {
    let (address, server) = (bus.address(), broker.address.to_string());
    let base = [
        "--dbus",
        &address,
        "--mqtt-server",
        &server,
        "--portal-id",
        PORTAL,
    ];
    let args: Vec<&str> = base.into_iter().chain(more.split_whitespace()).collect();
    Bridge::spawn(&args)
}

/// Waits for the broker to see what a signal brings just now.
fn assert_goes_on(peer: &Peer, broker: &FakeBroker, what: &str) {
    let from = broker.packets().len();
    let mut number = 100_000.0;
    poll(&format!("a value after {what}"), PATIENCE, || {
        number += 1.0;
        peer.update(BATTERY, "/Soc", V::D(number));
        std::thread::sleep(Duration::from_millis(20));
        let published = broker.packets()[from..]
            .iter()
            .filter_map(crate::support::fake_broker::Packet::published)
            .any(|(topic, payload, _)| topic == n(SOC) && payload.contains(": 100"));
        published.then_some(())
    });
}

fn levels(broker: &FakeBroker) -> Vec<u8> {
    let packets = broker.packets().into_iter();
    packets
        .filter(|packet| packet.kind() == CONNECT)
        .map(|packet| packet.level)
        .collect()
}

// ------------------------------------------------------------------------------------ versions

#[test]
fn s6_auto_takes_mqtt_5_where_the_broker_has_it() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let bridge = rig.bridge("--keep-alive 0");
    rig.wait_retained("with MQTT 5", &battery().topics(258));
    assert_eq!(bridge.log_with(&["connected, with MQTT 5"]).len(), 1);
}

#[test]
fn s6_auto_falls_back_to_3_1_1_however_the_broker_refuses() {
    // In the form of 3.1.1, with its code for it or another; in that of 5; and by closing.
    let refusals = [
        packet(0x20, &[0, 1]),
        packet(0x20, &[0, 5]),
        packet(0x20, &[0, 0x84, 0]),
        packet(0x20, &[0, 0x84]),
        packet(0x20, &[0, 0, 0, 0]),
        Vec::new(),
    ];
    in_parallel(&refusals, |refusal| {
        let Some(bus) = Bus::start() else { return };
        let peer = bus.serve(battery());
        let broker = FakeBroker::start(Manner::Old(refusal.clone()));
        let bridge = spawn(&bus, &broker, "--keep-alive 0 --retain false");
        bridge.wait_log(&["connected, with MQTT 3.1.1"]);
        broker.wait_completed(0);
        assert_goes_on(&peer, &broker, &format!("a refusal with {refusal:?}"));
        // It is remembered: the next connection begins with 3.1.1.
        broker.close();
        broker.wait_connections(3, PATIENCE);
        broker.wait("a third CONNECT", |packet| {
            packet.kind() == CONNECT && packet.connection == 3
        });
        assert_eq!(levels(&broker), [5, 4, 4], "{refusal:?}");
    });
}

#[test]
fn s6_a_version_that_is_set_is_the_only_one() {
    let Some(bus) = Bus::start() else { return };
    let broker = FakeBroker::start(Manner::Old(packet(0x20, &[0, 1])));
    let bridge = spawn(&bus, &broker, "--mqtt-version 5");
    bridge.wait_log(&["the broker does not support MQTT 5"]);
    drop(bridge);
    assert_eq!(levels(&broker), [5]);
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(&bus, &broker, "--mqtt-version 3 --retain false");
    assert_eq!(levels(&broker), [4]);
}

#[test]
fn s6_connect_asks_for_a_clean_session_and_says_how_much_it_takes() {
    let Some(bus) = Bus::start() else { return };
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(&bus, &broker, "--mqtt-version 5");
    let (_, connect) = broker.wait("CONNECT", |packet| packet.kind() == CONNECT);
    let connect = Connect::parse(&connect.body);
    assert_eq!(
        (connect.protocol.as_str(), connect.level, connect.clean),
        ("MQTT", 5, true)
    );
    // Nothing but the longest packet: a session that ends with the connection, and no aliases.
    let max = u32::from_be_bytes(connect.properties[1..].try_into().unwrap());
    assert_eq!((connect.properties[0], max > 65_536), (0x27, true));
    let will = connect.will.unwrap();
    assert_eq!((will.0, will.2), (n("bridge/status"), true));
    // Requests that the broker has in store are not wanted, and a live one has its retain flag (§5.7);
    // what it retains of ours is wanted.
    let (at, requests) = broker.wait("SUBSCRIBE", |packet| packet.kind() == SUBSCRIBE);
    assert_eq!(requests.filters(), [(r("#"), 0x29), (w("#"), 0x29)]);
    let reads = |packet: &crate::support::fake_broker::Packet| packet.kind() == SUBSCRIBE;
    let (_, reads) = broker.wait_for("the reading back", PATIENCE, at + 1, reads);
    assert_eq!(reads.filters(), [(n("#"), 0x01)]);
}

// ------------------------------------------------------------------------------------ bad input

#[test]
fn what_is_no_mqtt_5_ends_the_session_and_not_the_bridge() {
    // Each type of packet: cut short, too long, with wrong flags, out of place.
    let publish = |head: u8, body: &[u8]| packet(PUBLISH | head, body);
    let packets = [
        packet(0x20, &[0, 0, 0]),
        packet(0x22, &[0, 0, 0]),
        packet(0x20, &[0]),
        packet(0x00, &[]),
        packet(0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\x01x"),
        packet(0x90, &[0, 1]),
        packet(0x92, &[0, 1, 0, 0]),
        packet(0x90, &[0, 1, 9, 0]),
        packet(0xB0, &[0, 2, 0]),
        packet(0xB1, &[0, 2, 0, 0]),
        packet(0x40, &[0]),
        packet(0x62, &[0, 1]),
        packet(0x82, &[0, 1, 0, 0, 1, b'a', 0]),
        packet(0xA2, &[0, 1, 0, 0, 1, b'a']),
        packet(0xC0, &[]),
        packet(0xD0, &[0]),
        packet(0xD3, &[]),
        packet(0xF0, &[0x18, 0]),
        publish(0, &[]),
        publish(0, &[0, 3, b'R']),
        publish(0, b"\0\x03R/x"),
        publish(0, b"\0\x03R/x\x05\x0b"),
        publish(0, b"\0\x03R/x\x03\x23\0\x01"),
        publish(0, b"\0\0\x03\x23\0\x01"),
        publish(0, b"\0\x03R/x\x04\x0b\x01\x0b"),
        publish(0, b"\0\x03R/x\x02\x63\0"),
        publish(0, b"\0\x03R/+\0"),
        publish(0, b"\0\x03R/\xff\0"),
        publish(2, b"\0\x03R/x\0\0\0"),
        publish(4, b"\0\x03R/x\0\x01\0"),
        publish(6, b"\0\x03R/x\0\x01\0"),
        publish(8, b"\0\x03R/x\0"),
        vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
    ];
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    for half in packets.chunks(packets.len().div_ceil(2)) {
        in_parallel(half, |bytes| {
            let broker = FakeBroker::start(Manner::Good);
            let args = "--retain false --keep-alive 0 --mqtt-version 5 --client-id";
            let mut bridge = spawn(&bus, &broker, &format!("{args} {}", broker.address.port()));
            broker.wait_completed(0);
            broker.send(bytes);
            // The broker is told that it is at fault, and the bridge comes back.
            let farewell =
                |packet: &crate::support::fake_broker::Packet| packet.kind() == DISCONNECT;
            let (_, farewell) = broker.wait(&format!("DISCONNECT after {bytes:02x?}"), farewell);
            assert!(matches!(farewell.body[..], [0x81 | 0x82 | 0x94 | 0x95]));
            bridge.wait_log(&["the broker sent"]);
            broker.wait_connections(2, PATIENCE);
            bridge.assert_alive();
            assert!(bridge.peak_kib() < 200 * 1024, "{} KiB", bridge.peak_kib());
        });
    }
    drop(peer);
}

#[test]
fn a_broker_that_stalls_within_a_packet_is_dropped() {
    // Its own ping interval holds, which is how this test gets by with seconds.
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Allowing(vec![0x13, 0, 2]));
    let bridge = bridge_to(
        &bus,
        &broker,
        "--retain false --keep-alive 0 --mqtt-version 5",
    );
    broker.wait_completed(0);
    broker.behave(Manner::Mute);
    broker.send(&[0x30, 200, 1, 0, 3, b'R']);
    let start = Instant::now();
    broker.wait_closed(1, PATIENCE);
    assert!(start.elapsed() > Duration::from_secs(1));
    bridge.wait_log(&["the broker has been silent for"]);
    broker.behave(Manner::Good);
    broker.wait_connections(2, PATIENCE);
    assert_goes_on(&peer, &broker, "a stall");
}

#[test]
fn a_broker_that_closes_at_once_in_a_loop_costs_one_line() {
    let Some(bus) = Bus::start() else { return };
    let broker = FakeBroker::start(Manner::Close);
    let bridge = spawn(&bus, &broker, "--retain false");
    broker.wait_connections(2, PATIENCE);
    std::thread::sleep(Duration::from_secs(3)); // the rate is what is tested
    let attempts = broker.connections();
    assert!(
        (2..=6).contains(&attempts),
        "{attempts} within some seconds"
    );
    assert_eq!(
        bridge.log_with(&["the broker closed the connection"]).len(),
        1
    );
    // Nobody answers in either version, so that both are tried in turn.
    assert_eq!(levels(&broker)[..2], [5, 4]);
}

#[test]
fn a_flood_of_requests_with_response_topics_is_survived() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Good);
    let mut bridge = bridge_to(
        &bus,
        &broker,
        "--retain false --keep-alive 0 --mqtt-version 5",
    );
    broker.wait_completed(0);
    let properties = crate::support::fake_broker::respond_to(&"t".repeat(500), &[7; 500]);
    let mut flood = Vec::new();
    for _ in 0..10_000 {
        flood.extend(crate::support::fake_broker::publish(
            5,
            &r(SOC),
            &properties,
            b"",
        ));
    }
    broker.send(&flood);
    assert_goes_on(&peer, &broker, "a flood");
    bridge.assert_alive();
    assert!(bridge.peak_kib() < 200 * 1024, "{} KiB", bridge.peak_kib());
}

// ------------------------------------------------------------------------------------ words

#[test]
fn s6_a_brokers_reasons_are_said_in_plain_words() {
    // The codes of CONNACK and of DISCONNECT, with the broker's own words.
    let cases = [
        (true, 0x85, "rejected the client id"),
        (true, 0x86, "rejected the user name or password"),
        (true, 0x8A, "has banned this client"),
        (true, 0x9D, "has moved to another address"),
        (false, 0x8B, "it is shutting down"),
        (
            false,
            0x8E,
            "another client connected with the same client id",
        ),
        (false, 0x98, "ended by its administrator"),
        (false, 0x89, "it is busy"),
    ];
    in_parallel(&cases, |(connack, code, words)| {
        let Some(bus) = Bus::start() else { return };
        let mut properties = vec![0x1F];
        put_text(&mut properties, "because of me");
        let length = u8::try_from(properties.len()).unwrap();
        let bridge;
        let broker;
        if *connack {
            let body = [&[0, *code, length], &properties[..]].concat();
            broker = FakeBroker::start(Manner::Babble(packet(0x20, &body)));
            bridge = spawn(&bus, &broker, "--retain false");
        } else {
            broker = FakeBroker::start(Manner::Good);
            bridge = bridge_to(&bus, &broker, "--retain false");
            let body = [&[*code, length], &properties[..]].concat();
            broker.send(&packet(0xE0, &body));
        }
        bridge.wait_log(&[words, "the broker says: because of me"]);
    });
}

#[test]
fn s4_10_nothing_is_retained_where_the_broker_refuses_the_flag() {
    // Neither status nor serial nor last will, in the manner of either generation.
    for retain in ["true", "false"] {
        let Some(bus) = Bus::start() else { return };
        let _battery = bus.serve(battery());
        // Retain available: 0. It refuses a CONNECT that asks for more.
        let broker = FakeBroker::start(Manner::Allowing(vec![0x25, 0]));
        let args = format!("--keep-alive 0 --mqtt-version 5 --retain {retain}");
        let bridge = spawn(&bus, &broker, &args);
        bridge.wait_log(&["does not retain messages"]);
        broker.wait_published(0, &n(SOC), &value("87.5"));
        let packets = broker.packets();
        let last = packets.iter().rfind(|packet| packet.kind() == CONNECT);
        assert!(!Connect::parse(&last.unwrap().body).will.unwrap().2);
        let kept = broker
            .published()
            .into_iter()
            .filter(|(.., retain)| *retain);
        assert_eq!(kept.count(), 0);
    }
}

// ------------------------------------------------------------------------------------ limits

#[test]
fn s6_what_is_too_large_for_the_broker_is_left_out_and_the_rest_goes_on() {
    // 200 bytes at most, and one message at a time, which touches QoS 1 and 2 only.
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let allowed = vec![0x27, 0, 0, 0, 200, 0x21, 0, 1];
    let broker = FakeBroker::start(Manner::Allowing(allowed));
    let bridge = bridge_to(&bus, &broker, "--keep-alive 0 --mqtt-version 5");
    let mark = broker.wait_completed(0);
    for length in [300, 301, 302] {
        peer.update(BATTERY, "/CustomName", s(&"x".repeat(length)));
    }
    bridge.wait_log(&[&n(NAME), "left out", "200"]);
    assert_goes_on(&peer, &broker, "a long text");
    // The broker must not keep an older value instead.
    broker.wait_for("the older value to go", PATIENCE, mark, |packet| {
        packet.published().is_some_and(|(topic, payload, retain)| {
            topic == n(NAME) && payload.is_empty() && retain
        })
    });
    peer.update(BATTERY, "/CustomName", s("short"));
    broker.wait_published(mark, &n(NAME), &value("\"short\""));
    for packet in broker.packets() {
        assert!(packet.body.len() <= 198 || packet.kind() == CONNECT);
    }
    assert_eq!(bridge.log_with(&["left out"]).len(), 1);
}

// ------------------------------------------------------------------------------------ expiry

/// The message expiry among the properties of a PUBLISH.
fn expiry(properties: &[u8]) -> Option<u32> {
    let at = properties.iter().position(|byte| *byte == 2)?;
    Some(u32::from_be_bytes(
        properties[at + 1..at + 5].try_into().unwrap(),
    ))
}

#[test]
fn s6_a_value_expires_with_its_bridge_and_not_before() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let mut bridge = rig.bridge("--keep-alive 0 --expire 12");
    rig.wait_retained("at first", &battery().topics(258));
    // Nothing changes: for longer than two lives of a value all of it stays, and is said again.
    let mark = rig.client.mark();
    let until = Instant::now() + Duration::from_secs(26); // the time is what is tested
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(500));
        let seen = rig.retained();
        assert_eq!(seen.get(&n(SOC)), Some(&value("87.5")));
        assert!(
            battery()
                .topics(258)
                .iter()
                .all(|(topic, _)| seen.contains_key(topic))
        );
    }
    let again = rig.client.payloads(mark, &n(SOC)).len();
    assert!((3..=9).contains(&again), "said {again} times in 26 s");
    // What tells of the bridge itself stays, the values go.
    bridge.kill();
    poll("the values to expire", PATIENCE, || {
        let seen = rig.retained();
        let own = ["system/0/Serial", "keepalive", "bridge/status"];
        (seen
            .keys()
            .all(|topic| own.iter().any(|own| *topic == n(own))))
        .then_some(())
    });
    assert!(retained(&rig.broker, &n("system/0/Serial")).len() == 1);
}

#[test]
fn s6_only_values_expire() {
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(
        &bus,
        &broker,
        "--keep-alive 0 --expire 600 --mqtt-version 5",
    );
    broker.wait_completed(0);
    for packet in broker.packets() {
        let Some((topic, ..)) = packet.published() else {
            continue;
        };
        let is_value = topic.starts_with(&n("battery/"));
        let expected = is_value.then_some(600);
        assert_eq!(expiry(packet.properties()), expected, "{topic}");
    }
}

// ------------------------------------------------------------------------------------ aliases

/// The topic of each PUBLISH, as a broker that knows the aliases has it; fails where one does not
/// know, or is higher than allowed.
fn resolved(broker: &FakeBroker, max: u16) -> Vec<(String, String)> {
    let mut known = std::collections::HashMap::new();
    let mut connection = 0;
    let packets = broker.packets().into_iter();
    packets
        .filter_map(|packet| {
            if packet.connection != connection {
                known.clear();
                connection = packet.connection;
            }
            let (topic, payload, _) = packet.published()?;
            let properties = packet.properties();
            let alias = properties
                .iter()
                .position(|byte| *byte == 0x23)
                .map(|at| u16::from_be_bytes([properties[at + 1], properties[at + 2]]));
            let topic = match alias {
                None => topic,
                Some(alias) => {
                    assert!((1..=max).contains(&alias), "alias {alias}");
                    if !topic.is_empty() {
                        known.insert(alias, topic);
                    }
                    known[&alias].clone()
                }
            };
            Some((topic, payload))
        })
        .collect()
}

#[test]
fn s6_topics_are_abbreviated_where_that_is_wanted_and_allowed() {
    // Up to as many as the broker allows, anew with each connection.
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Allowing(vec![0x22, 0, 2]));
    let args = "--keep-alive 0 --retain false --mqtt-version 5";
    let bridge = bridge_to(
        &bus,
        &broker,
        &format!("{args} --topic-aliases true --gather-ms 0"),
    );
    for connection in 1..=2 {
        broker.wait_completed(0);
        for round in 0..20 {
            let plus = f64::from(round + 100 * connection);
            for (path, number) in [
                ("/Soc", 1.0),
                ("/Dc/0/Voltage", 2.0),
                ("/Dc/0/Current", 3.0),
            ] {
                peer.update(BATTERY, path, V::D(number + plus));
            }
            // Each round by itself: what waits is replaced by what is newer.
            let last = value(&format!("{:.1}", 3.0 + plus));
            poll("the last value", PATIENCE, || {
                let seen = resolved(&broker, 2);
                let such = |(topic, payload): &(String, String)| {
                    *topic == n("battery/258/Dc/0/Current") && *payload == last
                };
                seen.iter().any(such).then_some(())
            });
        }
        let short = broker.packets().into_iter().filter(|packet| {
            packet.connection == usize::try_from(connection).unwrap()
                && packet
                    .published()
                    .is_some_and(|(topic, ..)| topic.is_empty())
        });
        assert!(short.count() >= 10);
        if connection == 1 {
            broker.close();
            broker.wait_connections(2, PATIENCE);
            broker.wait_for("everything again", PATIENCE, 0, |packet| {
                packet.connection == 2
                    && packet
                        .published()
                        .is_some_and(|(topic, ..)| topic.ends_with("full_publish_completed"))
            });
        }
    }
    drop(bridge);
}

#[test]
fn s6_a_real_broker_makes_the_right_topics_of_the_numbers() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--keep-alive 0 --mqtt-version 5 --topic-aliases true --gather-ms 0");
    let modern = Client::connect_as(5, rig.broker.address(), None);
    modern.subscribe("#");
    let mut expected = battery();
    for round in 0..50 {
        for path in ["/Soc", "/Dc/0/Voltage", "/Dc/0/Current"] {
            peer.update(BATTERY, path, V::D(f64::from(round)));
        }
    }
    for path in ["/Soc", "/Dc/0/Voltage", "/Dc/0/Current"] {
        expected = expected.item(path, V::D(49.0));
    }
    rig.wait_retained("after all changes", &expected.topics(258));
    let topics = expected.topics(258);
    for message in modern.since(0) {
        if message.topic.starts_with(&n("battery/")) {
            assert!(topics.contains_key(&message.topic), "{}", message.topic);
        }
    }
}

#[test]
fn s4_9_everything_is_taken_back_at_the_end() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let mut bridge =
        rig.bridge("--keep-alive 0 --mqtt-version 5 --expire 600 --topic-aliases true");
    rig.wait_retained("at first", &battery().topics(258));
    bridge.terminate();
    rig.wait_retained("in the end", &std::collections::BTreeMap::new());
}

#[test]
fn a_broker_with_a_login_is_opened_with_mqtt_5() {
    let Some(mut broker) = Broker::absent().and_then(|broker| broker.with_login("venus", "s3cret"))
    else {
        return;
    };
    broker.restart();
    let Some(rig) = Rig::with(broker) else { return };
    let _battery = rig.bus.serve(battery());
    let wrong =
        Bridge::spawn(&rig.args("--mqtt-version 5 --mqtt-user venus --mqtt-password wr0ng"));
    wrong.wait_log(&["password"]);
    assert!(wrong.log_with(&["wr0ng"]).is_empty());
    drop(wrong);
    let right = "--mqtt-version 5 --mqtt-user venus --mqtt-password s3cret --keep-alive 0";
    let _bridge = rig.bridge(right);
    rig.wait_retained("with the right one", &battery().topics(258));
}
