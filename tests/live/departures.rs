//! §4.6 to §4.10, what is never published, what is taken back, and what the bridge says of itself: one
//! test or more for each numbered rule.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::fake_broker::{CONNECT, Connect, DISCONNECT, FakeBroker, Manner};
use crate::support::rig::{
    OFFLINE, ONLINE, PORTAL, Rig, bridge_to, n, r, retained, value, w, wait_one_retained,
};
use crate::support::service::{Service, VEBUS, battery, vebus};
use crate::support::wire::{V, s};

// ---------------------------------------------------------------------------------------------- 4.6

#[test]
fn s4_6_a_service_that_goes_takes_its_topics_with_it() {
    // Each topic that was published gets an empty payload, and no other one does.
    let Some(rig) = Rig::start() else { return };
    let battery_peer = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    let mark = rig.wake();
    drop(battery_peer);
    for topic in battery().topics(258).keys() {
        rig.client.expect(mark, topic, "");
    }
    rig.wait_retained("what is left", &vebus().topics(257));
    assert_eq!(rig.emptied(mark).len(), battery().items.len());

    // It comes back while alive: it is published again, unasked.
    let _battery = rig.bus.serve(battery());
    let mut all = battery().topics(258);
    all.extend(vebus().topics(257));
    rig.wait_retained("after its return", &all);
}

#[test]
fn s4_6_the_empty_payload_is_retained_if_notifications_are() {
    // An empty retained message makes a broker forget; where nothing is retained it only tells clients.
    for retain in [true, false] {
        let Some(bus) = Bus::start() else { return };
        let peer = bus.serve(battery());
        let broker = FakeBroker::start(Manner::Good);
        let _bridge = bridge_to(&bus, &broker, &format!("--retain {retain} --keep-alive 0"));
        broker.wait_completed(0);
        drop(peer);
        for topic in battery().topics(258).keys() {
            broker.wait_published(0, topic, "");
        }
        let empty = broker
            .published()
            .into_iter()
            .filter(|(_, payload, _)| payload.is_empty());
        for (topic, _, flag) in empty {
            assert_eq!(flag, retain, "{topic}");
        }
    }
}

#[test]
fn s4_6_what_was_never_published_is_not_unpublished() {
    // A service that goes while nobody listens goes silently.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    drop(peer);
    rig.bus.fence(&[]);
    rig.wake();
    let seen = rig.client.since(0);
    assert!(
        !seen
            .iter()
            .any(|message| message.topic.contains("/battery/")),
        "{seen:?}"
    );
}

// ---------------------------------------------------------------------------------------------- 4.7

#[test]
fn s4_7_blocked_items_are_never_published() {
    // Neither by a scan, nor by a signal, nor for a read of the item or of its parent.
    let Some(rig) = Rig::start() else { return };
    let paygo_name = "com.victronenergy.paygo.p0";
    let vebus_peer = rig.bus.serve(
        vebus()
            .item("/Interfaces/Mk2/Tunnel", s("t"))
            .item("/Interfaces/Mk2/Other", s("o")),
    );
    let paygo = Service::device("paygo", "p0", 0)
        .item("/LVD/Threshold", V::D(11.5))
        .item("/LVD/Other", V::I(1));
    let paygo_peer = rig.bus.serve(paygo);
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    rig.client
        .expect(0, &n("vebus/257/Interfaces/Mk2/Other"), &value("\"o\""));
    rig.client.expect(0, &n("paygo/0/LVD/Other"), &value("1"));

    vebus_peer.update(VEBUS, "/Interfaces/Mk2/Tunnel", s("t2"));
    paygo_peer.update(paygo_name, "/LVD/Threshold", V::D(12.5));
    vebus_peer.set(VEBUS, "/Interfaces/Mk2/Other", s("o2"));
    vebus_peer.items_changed([
        ("/Interfaces/Mk2/Tunnel", s("t3")),
        ("/Interfaces/Mk2/Other", s("o2")),
    ]);
    for topic in [
        "vebus/257/Interfaces/Mk2/Tunnel",
        "vebus/257/Interfaces",
        "paygo/0/LVD/Threshold",
        "paygo/0/LVD",
    ] {
        rig.client.publish(&r(topic), "");
    }
    paygo_peer.update(paygo_name, "/LVD/Other", V::I(2));
    rig.client
        .expect(0, &n("vebus/257/Interfaces/Mk2/Other"), &value("\"o2\""));
    rig.wake();
    let topics: Vec<String> = rig
        .client
        .since(0)
        .into_iter()
        .map(|message| message.topic)
        .collect();
    let blocked = |topic: &&String| {
        topic.starts_with("N/") && (topic.ends_with("/Tunnel") || topic.ends_with("/Threshold"))
    };
    assert_eq!(topics.iter().find(blocked), None);
}

#[test]
fn s4_7_secrets_are_masked_on_every_road() {
    // Stars for a text that is not empty: by scan, by signal, for a read of it or of its parent.
    let Some(rig) = Rig::start() else { return };
    let name = "com.victronenergy.settings";
    let password = "/Settings/Services/AccessPointPassword";
    let pincode = "/Settings/Ble/Service/Pincode";
    let settings = Service::new(name)
        .item(password, s("hunter2"))
        .item(pincode, s(""));
    let peer = rig
        .bus
        .serve(settings.item("/Settings/Services/Other", s("open")));
    let _bridge = rig.bridge("--retain true");
    let (password_topic, pincode_topic) = (
        n(&format!("settings/0{password}")),
        n(&format!("settings/0{pincode}")),
    );
    let masked = value("\"******\"");
    let mut mark = rig.wake();
    rig.client.expect(mark, &password_topic, &masked);
    rig.client.expect(mark, &pincode_topic, &value("\"\""));

    mark = rig.client.mark();
    peer.update(name, password, s("hunter3"));
    peer.items_changed([(pincode, s("123456"))]);
    rig.client.expect(mark, &password_topic, &masked);
    rig.client.expect(mark, &pincode_topic, &masked);

    for read in [
        format!("settings/0{password}"),
        "settings/0/Settings/Services".to_owned(),
    ] {
        mark = rig.client.mark();
        rig.client.publish(&r(&read), "");
        rig.client.expect(mark, &password_topic, &masked);
    }
    rig.client
        .publish(&w(&format!("settings/0{password}")), value("\"hunter4\""));
    peer.wait_calls("the write", 1, |call| call.is("SetValue", password));
    rig.wake();
    for message in rig
        .client
        .since(0)
        .iter()
        .filter(|message| message.topic.starts_with("N/"))
    {
        assert!(
            !message.text().contains("hunter") && !message.text().contains("123456"),
            "{message:?}"
        );
    }
}

#[test]
fn s4_7_secrets_do_not_get_into_the_log() {
    // Not with -d either, and not where a write of one fails.
    let Some(rig) = Rig::start() else { return };
    let name = "com.victronenergy.settings";
    let password = "/Settings/Services/AccessPointPassword";
    let peer = rig
        .bus
        .serve(Service::new(name).item(password, s("hunter2")));
    let bridge = rig.bridge("--retain true -d");
    rig.wake();
    peer.on(|_| crate::support::service::Reply::Error("com.victronenergy.Error.NotAllowed"));
    rig.client
        .publish(&w(&format!("settings/0{password}")), value("\"hunter3\""));
    bridge.wait_log(&[password]);
    peer.behave();
    rig.client.publish(&w("settings/0/Nothing"), value("1"));
    bridge.wait_log(&["/Nothing"]);
    assert!(
        bridge.log_with(&["hunter"]).is_empty(),
        "{:?}",
        bridge.log_with(&["hunter"])
    );
}

#[test]
fn s4_7_paths_that_are_no_topics_are_reported_once_and_left_out() {
    // What MQTT forbids or confuses in a path stays inside, and the rest of the service is fine.
    let Some(rig) = Rig::start() else { return };
    let bad = [
        "/Plus/+/a",
        "/Hash/#",
        "/Mid#dle",
        "//Double",
        "/In//side",
        "/Trailing/",
        "",
    ];
    let mut service = battery();
    for path in bad {
        service = service.item(path, V::I(1));
    }
    let peer = rig.bus.serve(service);
    let bridge = rig.bridge("--retain true --keep-alive 0");
    rig.client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    for count in 0..20 {
        peer.items_changed([("/Plus/+/a", V::I(count)), ("/Soc", V::D(f64::from(count)))]);
    }
    rig.client.expect(0, &n("battery/258/Soc"), &value("19.0"));
    rig.wake();
    rig.wait_retained("the good paths", &{
        let mut good = battery().topics(258);
        good.insert(n("battery/258/Soc"), value("19.0"));
        good
    });
    bridge.wait_log(&["battery", "/Plus/+/a"]);
    assert_eq!(bridge.log_with(&["/Plus/+/a"]).len(), 1, "reported once");
}

// ---------------------------------------------------------------------------------------------- 4.8

#[test]
fn s4_8_a_heart_beats_while_alive() {
    // Every three seconds, the time in whole seconds, not retained; none while nobody listens.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 7");
    let topic = n("heartbeat");
    rig.wake();
    let beats = rig.client.wait_until(0, "two heartbeats", |messages| {
        let beats: Vec<_> = messages
            .iter()
            .filter(|message| message.topic == topic)
            .cloned()
            .collect();
        (beats.len() >= 2).then_some(beats)
    });
    let unix_s: Vec<u64> = beats
        .iter()
        .map(|beat| {
            assert!(!beat.retain);
            let digits = beat
                .text()
                .strip_prefix("{\"value\": ")
                .unwrap()
                .strip_suffix('}')
                .unwrap();
            digits.parse().unwrap()
        })
        .collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(now.abs_diff(unix_s[1]) <= 5, "{unix_s:?}, now {now}");
    let apart = beats[1].at - beats[0].at;
    assert!(
        apart > Duration::from_millis(2_500) && apart < Duration::from_secs(5),
        "{apart:?}"
    );
    assert!(!rig.retained().contains_key(&topic));

    rig.client.expect(0, &n("battery/258/Soc"), ""); // expired
    let mark = rig.client.mark();
    std::thread::sleep(Duration::from_millis(3_500)); // silence has no event to wait for
    rig.client.fence();
    assert!(
        rig.client.payloads(mark, &topic).is_empty(),
        "a heartbeat while nobody listens"
    );
}

// ---------------------------------------------------------------------------------------------- 4.9

#[test]
fn s4_9_what_a_dead_bridge_left_behind_is_cleared() {
    // On connect the bridge reads what the broker retains of it and clears what is not, or not asked for.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    for stale in [
        "battery/99/Soc",
        "battery/258/Gone",
        "battery/258/Soc",
        "gone/0/A/B/C",
        "system/0/Old",
    ] {
        rig.client.publish_retained(&n(stale), value("1"));
    }
    rig.client
        .publish_retained(&n("system/0/Serial"), value("\"stale\""));
    rig.client
        .publish_retained("N/another/battery/0/Soc", value("2"));
    let _bridge = rig.bridge("--retain true");
    rig.wait_retained("while not alive", &BTreeMap::new());
    wait_one_retained(
        &rig.broker,
        &n("system/0/Serial"),
        Some(&value(&format!("\"{PORTAL}\""))),
    );
    rig.wake();
    rig.wait_retained("once alive", &battery().topics(258));
    assert_eq!(
        retained(&rig.broker, "N/another/#").len(),
        1,
        "that was somebody else's"
    );
}

#[test]
fn s4_9_stale_topics_are_cleared_before_the_first_full_set() {
    // A client that comes with the first values finds no others beside them.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    rig.client
        .publish_retained(&n("battery/99/Soc"), value("1"));
    let mark = rig.client.mark();
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    rig.completed(mark);
    let (cleared, _) = rig.client.wait(mark, "the clearing", |message| {
        message.is(&n("battery/99/Soc"), "")
    });
    let (first, _) = rig.client.wait(mark, "a value", |message| {
        message.topic.starts_with(&n("battery/258/")) && !message.payload.is_empty()
    });
    assert!(
        cleared < first,
        "cleared at {cleared}, the first value at {first}"
    );
    rig.wait_retained("in the end", &battery().topics(258));
}

#[test]
fn s4_9_a_reconnect_clears_what_went_meanwhile() {
    // The broker comes back with what it had; what has gone in between must not stay.
    let Some(mut broker) = Broker::absent().map(Broker::persistent) else {
        return;
    };
    broker.restart();
    let Some(mut rig) = Rig::with(broker) else {
        return;
    };
    let battery_peer = rig.bus.serve(battery());
    let vebus_peer = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    let mut all = battery().topics(258);
    all.extend(vebus().topics(257));
    rig.wait_retained("at first", &all);
    rig.broker.stop();
    drop(battery_peer);
    vebus_peer.update(VEBUS, "/Mode", V::U(1));
    rig.bus.fence(&[&vebus_peer]);
    rig.broker.restart();
    let mut left = vebus().topics(257);
    left.insert(n("vebus/257/Mode"), value("1"));
    rig.wait_retained("after the reconnect", &left);
}

#[test]
fn s4_9_with_retain_false_the_broker_is_not_read_back() {
    // What others retain is theirs, where the bridge retains nothing.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    rig.client
        .publish_retained(&n("battery/99/Soc"), value("1"));
    let _bridge = rig.bridge("--retain false");
    rig.wake();
    wait_one_retained(&rig.broker, &n("battery/99/Soc"), Some(&value("1")));
}

#[test]
fn s4_9_sigterm_and_sigint_unpublish_and_exit_with_0() {
    // A bridge that ends in good order leaves nothing but the serial and its state.
    for signal in [Signal::TERM, Signal::INT] {
        let Some(rig) = Rig::start() else { return };
        let _battery = rig.bus.serve(battery());
        let mut bridge = rig.bridge("--retain true");
        let mark = rig.wake();
        rig.wait_retained("before the end", &battery().topics(258));
        bridge.signal(signal);
        assert_eq!(
            bridge.wait_exit(Duration::from_secs(10)).code(),
            Some(0),
            "{signal:?}"
        );
        for topic in battery().topics(258).keys() {
            rig.client.expect(mark, topic, "");
        }
        rig.wait_retained("after the end", &BTreeMap::new());
        wait_one_retained(&rig.broker, &n("bridge/status"), Some(OFFLINE));
    }
}

#[test]
fn s4_9_the_last_packet_is_a_disconnect() {
    // First unpublished, then disconnected, so that the will stays unsaid; with retain = false as well.
    for retain in [true, false] {
        let Some(bus) = Bus::start() else { return };
        let _battery = bus.serve(battery());
        let broker = FakeBroker::start(Manner::Good);
        let mut bridge = bridge_to(&bus, &broker, &format!("--retain {retain} --keep-alive 0"));
        broker.wait_completed(0);
        bridge.terminate();
        for topic in battery().topics(258).keys() {
            broker.wait_published(0, topic, "");
        }
        broker.wait_published(0, &n("bridge/status"), OFFLINE);
        broker.wait_closed(1, Duration::from_secs(5));
        assert_eq!(broker.packets().last().unwrap().kind(), DISCONNECT);
        let empty = broker
            .published()
            .into_iter()
            .filter(|(_, payload, _)| payload.is_empty());
        for (topic, _, flag) in empty {
            assert_eq!(flag, retain, "{topic}");
        }
    }
}

// --------------------------------------------------------------------------------------------- 4.10

#[test]
fn s4_10_the_state_is_online_and_the_will_says_offline() {
    // Retained both: a bridge that dies without a word is found dead by whoever comes later.
    let Some(rig) = Rig::start() else { return };
    let mut bridge = rig.bridge("--retain false");
    wait_one_retained(&rig.broker, &n("bridge/status"), Some(ONLINE));
    let mark = rig.client.mark();
    bridge.kill();
    rig.client.expect(mark, &n("bridge/status"), OFFLINE);
    wait_one_retained(&rig.broker, &n("bridge/status"), Some(OFFLINE));
}

#[test]
fn s4_10_the_will_is_part_of_the_connect() {
    // The CONNECT itself, byte by byte: will, clean session, a client id without wildcards.
    let Some(bus) = Bus::start() else { return };
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(&bus, &broker, "--retain true");
    let (_, packet) = broker.wait("CONNECT", |packet| packet.kind() == CONNECT);
    let connect = Connect::parse(&packet.body);
    assert_eq!(
        (connect.protocol.as_str(), connect.level, connect.clean),
        ("MQTT", 5, true)
    );
    assert_eq!(
        connect.will,
        Some((n("bridge/status"), OFFLINE.to_owned(), true))
    );
    assert!(!connect.client_id.is_empty() && !connect.client_id.contains(['+', '#', '/']));
    assert!(connect.ping_s > 0);
}
