//! §4.1 to §4.5, what is published and when: one test or more for each numbered rule.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::bus::Bus;
use crate::support::fake_broker::{FakeBroker, Manner};
use crate::support::json::payload;
use crate::support::rig::{
    COMPLETED, OFFLINE, ONLINE, PORTAL, Rig, bridge_to, difference, n, r, value,
};
use crate::support::service::{BATTERY, Service, VEBUS, battery, properties_changed, vebus};
use crate::support::wire::{V, dict, s, vardict};

// ---------------------------------------------------------------------------------------------- 4.1

#[test]
fn s4_1_notifications_are_retained_at_qos_0() {
    // With retain = true every notification is kept by the broker for whoever comes later.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    let mark = rig.wake();
    let (_, live) = rig.client.wait(mark, "the charge", |message| {
        message.topic.ends_with("/Soc")
    });
    assert!(live.is(&n("battery/258/Soc"), &value("87.5")));
    assert!(!live.retain && live.qos == 0, "{live:?}");
    rig.wait_retained("after waking", &battery().topics(258));
    assert_eq!(rig.retained()[&n("keepalive")], value("1"));
}

#[test]
fn s4_1_with_retain_false_only_the_serial_is_retained() {
    // With retain = false nobody finds anything at the broker but the serial and the bridge's state.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain false");
    let mark = rig.wake();
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("87.5"));
    let expected = BTreeMap::from([
        (n("system/0/Serial"), value(&format!("\"{PORTAL}\""))),
        (n("bridge/status"), ONLINE.to_owned()),
    ]);
    assert_eq!(rig.retained(), expected);
}

#[test]
fn s4_1_the_retain_flags_on_the_wire_are_as_configured() {
    // What goes out carries the retain flag, or does not, topic by topic.
    for retain in [true, false] {
        let Some(bus) = Bus::start() else { return };
        let _battery = bus.serve(battery());
        let broker = FakeBroker::start(Manner::Good);
        let _bridge = bridge_to(&bus, &broker, &format!("--retain {retain} --keep-alive 0"));
        broker.wait_published(0, &n("battery/258/Soc"), &value("87.5"));
        broker.wait_completed(0);
        for (topic, payload, flag) in broker.published() {
            let always = topic == n("system/0/Serial") || topic == n("bridge/status");
            let never = topic == n(COMPLETED) || topic == n("heartbeat");
            assert_eq!(flag, always || (retain && !never), "{topic} {payload}");
        }
    }
}

#[test]
fn s4_1_min_and_max_are_part_of_the_payload() {
    // Where a service announces a range, each notification carries it (§3).
    let Some(rig) = Rig::start() else { return };
    let _vebus = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    let mark = rig.wake();
    let expected = payload(&V::D(50.0), Some(&V::D(0.0)), Some(&V::D(100.0)));
    assert_eq!(expected, r#"{"value": 50.0, "min": 0.0, "max": 100.0}"#);
    rig.client
        .expect(mark, &n("vebus/257/Ac/In/1/CurrentLimit"), &expected);
}

// ---------------------------------------------------------------------------------------------- 4.2

#[test]
fn s4_2_the_serial_is_the_portal_id_whatever_the_service_says() {
    // On connect the serial and the keep-alive are there, alive or not; the serial never changes or goes.
    let Some(rig) = Rig::start() else { return };
    let name = "com.victronenergy.system";
    let system = || {
        Service::new(name)
            .item("/Serial", s("another"))
            .item("/Dc/Pv/Power", V::D(1.0))
    };
    let peer = rig.bus.serve(system());
    let mut bridge = rig.bridge("--retain true --keep-alive 2");
    let serial = value(&format!("\"{PORTAL}\""));
    rig.client.expect(0, &n("system/0/Serial"), &serial);
    rig.client.expect(0, &n("keepalive"), &value("1"));

    rig.wake();
    peer.update(name, "/Serial", s("a third"));
    peer.update(name, "/Dc/Pv/Power", V::D(2.0));
    rig.client
        .expect(0, &n("system/0/Dc/Pv/Power"), &value("2.0"));
    rig.client.expect(0, &n("system/0/Dc/Pv/Power"), ""); // the interest has expired
    let mark = rig.wake();
    rig.client
        .expect(mark, &n("system/0/Dc/Pv/Power"), &value("2.0"));
    drop(peer); // the service has gone
    rig.client.expect(mark, &n("system/0/Dc/Pv/Power"), "");
    bridge.terminate();
    rig.client.expect(mark, &n("bridge/status"), OFFLINE);

    let said = rig.client.payloads(0, &n("system/0/Serial"));
    assert!(said.iter().all(|payload| *payload == serial), "{said:?}");
    assert_eq!(rig.retained()[&n("system/0/Serial")], serial);
}

#[test]
fn s4_2_only_one_serial_is_the_portal_id() {
    // That of another system service is an item like any other, and goes with it.
    let Some(rig) = Rig::start() else { return };
    let other = Service::new("com.victronenergy.system.other")
        .item("/DeviceInstance", V::I(1))
        .item("/Serial", s("its own"));
    let peer = rig.bus.serve(other);
    let _bridge = rig.bridge("--retain true");
    let mark = rig.wake();
    let topic = n("system/1/Serial");
    rig.client.expect(mark, &topic, &value("\"its own\""));
    drop(peer);
    rig.client.expect(mark, &topic, "");
    let serial = value(&format!("\"{PORTAL}\""));
    assert_eq!(rig.retained()[&n("system/0/Serial")], serial);
}

#[test]
fn s4_2_every_connect_says_so_again() {
    // Serial, keep-alive and state are published on each connect, not only on the first.
    let Some(bus) = Bus::start() else { return };
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(&bus, &broker, "--retain false");
    let before = broker.packets().len();
    broker.close();
    for (topic, payload) in [
        ("bridge/status", ONLINE.to_owned()),
        ("system/0/Serial", value(&format!("\"{PORTAL}\""))),
        ("keepalive", value("1")),
    ] {
        broker.wait_published(before, &n(topic), &payload);
    }
}

// ---------------------------------------------------------------------------------------------- 4.3

#[test]
fn s4_3_nothing_is_published_while_not_alive() {
    // Until somebody asks, no value leaves, whatever comes and goes on the bus.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    for soc in [80.0, 81.0, 82.0] {
        peer.update(BATTERY, "/Soc", V::D(soc));
    }
    let vebus_peer = rig.bus.serve(vebus());
    vebus_peer.update(VEBUS, "/Mode", V::U(1));
    rig.bus.fence(&[&peer, &vebus_peer]);
    drop(vebus_peer);
    rig.bus.fence(&[]);
    rig.wake();

    // Everything that the bridge sent before the waking has come before the end of it.
    let seen = rig.client.since(0);
    let charges: Vec<&str> = seen
        .iter()
        .filter(|m| m.topic.ends_with("/Soc"))
        .map(crate::support::client::Message::text)
        .collect();
    assert_eq!(charges, [value("82.0")]);
    assert!(
        !seen.iter().any(|message| message.topic.contains("/vebus/")),
        "{seen:?}"
    );
    let count = seen
        .iter()
        .filter(|message| message.topic.contains("/battery/"))
        .count();
    assert_eq!(count, battery().items.len());
}

// ---------------------------------------------------------------------------------------------- 4.4

#[test]
fn s4_4_waking_publishes_every_item_once_and_then_each_change() {
    // Once all, and from then on what a signal brings.
    let Some(rig) = Rig::start() else { return };
    let mut services = vec![battery(), vebus()];
    for number in 0..10 {
        let mut tank = Service::device("tank", &format!("t{number}"), number);
        for item in 0..30 {
            tank = tank.item(&format!("/Custom/{item}/Level"), V::I(item * number));
        }
        services.push(tank);
    }
    let mut expected = BTreeMap::new();
    expected.extend(battery().topics(258));
    expected.extend(vebus().topics(257));
    for (number, tank) in services[2..].iter().enumerate() {
        expected.extend(tank.topics(number));
    }
    let peers: Vec<_> = services
        .into_iter()
        .map(|service| rig.bus.serve(service))
        .collect();
    let _bridge = rig.bridge("--retain true");
    let mark = rig.wake();
    let end = rig.completed(mark);
    let mut counts = BTreeMap::new();
    for message in &rig.client.since(mark)[..end - mark] {
        *counts.entry(message.topic.clone()).or_insert(0) += 1;
    }
    for topic in expected.keys() {
        assert_eq!(counts.get(topic), Some(&1), "{topic}");
    }
    let last = rig.client.last(mark);
    let seen: BTreeMap<_, _> = expected
        .keys()
        .map(|topic| (topic.clone(), last[topic].clone()))
        .collect();
    assert!(seen == expected, "{}", difference(&expected, &seen));

    for soc in ["70.0", "71.0", "72.0"] {
        peers[0].update(BATTERY, "/Soc", V::D(soc.parse().unwrap()));
        rig.client.expect(mark, &n("battery/258/Soc"), &value(soc));
    }
}

#[test]
fn s4_4_a_repeated_value_is_published_again() {
    // An item is published whenever a signal brings it, the same value too.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    for _ in 0..3 {
        let mark = rig.client.mark();
        peer.update(BATTERY, "/Soc", V::D(87.5));
        rig.client
            .expect(mark, &n("battery/258/Soc"), &value("87.5"));
    }
}

#[test]
fn s4_4_a_slow_broker_gets_the_latest_values_in_first_come_order() {
    // Unsent values of an item are replaced, none of the latest is lost, and memory stays bounded.
    const ITEMS: usize = 50;
    const ROUNDS: usize = 400;
    let Some(bus) = Bus::start() else { return };
    let mut service = battery()
        .item("/X", V::I(0))
        .item("/Y", V::I(0))
        .item("/Z", V::I(0));
    let paths: Vec<String> = (0..ITEMS).map(|item| format!("/Fill/{item}")).collect();
    for path in &paths {
        service = service.item(path, s(""));
    }
    let peer = bus.serve(service);
    let broker = FakeBroker::start(Manner::Good);
    let bridge = bridge_to(&bus, &broker, "--retain false --keep-alive 0");
    broker.wait_completed(0);
    let before = broker.packets().len();
    let peak_before = bridge.peak_kib();

    broker.stall();
    // Ten megabytes: more than the buffers between the two hold.
    let text = |round: usize| format!("{round:0500}");
    for round in 1..=ROUNDS {
        peer.burst(
            paths
                .iter()
                .map(|path| properties_changed(path, s(&text(round)))),
        );
    }
    for (path, number) in [("/Z", 1), ("/Y", 1), ("/X", 1), ("/Z", 2)] {
        peer.changed(path, V::I(number));
    }
    bus.fence(&[&peer]);
    let grown_kib = bridge.peak_kib() - peak_before;
    assert!(
        grown_kib < 32 * 1024,
        "{grown_kib} KiB more for a stalled broker"
    );
    broker.resume();

    broker.wait_published(before, &n("battery/258/X"), &value("1"));
    let sent: Vec<_> = broker.packets()[before..]
        .iter()
        .filter_map(crate::support::fake_broker::Packet::published)
        .collect();
    let of = |path: &str| -> Vec<(usize, &str)> {
        let topic = n(&format!("battery/258{path}"));
        let all = sent
            .iter()
            .enumerate()
            .filter(|(_, message)| message.0 == topic);
        all.map(|(at, message)| (at, message.1.as_str())).collect()
    };
    let mut last_fill = 0;
    for path in &paths {
        let (at, payload) = *of(path).last().unwrap();
        assert_eq!(
            payload,
            value(&format!("\"{}\"", text(ROUNDS))),
            "the last of {path}"
        );
        last_fill = last_fill.max(at);
    }
    let (x, y, z) = (of("/X"), of("/Y"), of("/Z"));
    assert_eq!(
        (x[0].1, y[0].1, z[0].1),
        (&*value("1"), &*value("1"), &*value("2"))
    );
    assert_eq!((x.len(), y.len(), z.len()), (1, 1, 1));
    assert!(
        last_fill < z[0].0 && z[0].0 < y[0].0 && y[0].0 < x[0].0,
        "first come, first sent"
    );
    assert!(
        sent.len() < ITEMS * ROUNDS * 3 / 4,
        "{} messages: nothing was replaced",
        sent.len()
    );
}

#[test]
fn s4_4_one_signal_with_many_items_publishes_each() {
    // ItemsChanged brings several items at once; each is a notification of its own.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    let items = ["/Soc", "/Dc/0/Voltage", "/Dc/0/Current"];
    let body = dict(
        "s",
        "a{sv}",
        items.map(|path| (s(path), vardict([("Value", V::D(7.25))]))),
    );
    let signal = crate::support::wire::Message::signal(
        "/",
        crate::support::service::BUS_ITEM,
        "ItemsChanged",
    );
    peer.send(signal.with(&[body]));
    for path in items {
        rig.client
            .expect(mark, &n(&format!("battery/258{path}")), &value("7.25"));
    }
}

// ---------------------------------------------------------------------------------------------- 4.5

#[test]
fn s4_5_at_expiry_retained_topics_are_emptied() {
    // When nobody asks any longer, the broker is made to forget, and changes stay inside.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 2");
    rig.wake();
    for topic in battery().topics(258).keys() {
        rig.client.expect(0, topic, "");
    }
    rig.wait_retained("after expiry", &BTreeMap::new());
    for soc in [1.0, 2.0, 3.0] {
        peer.update(BATTERY, "/Soc", V::D(soc));
    }
    rig.bus.fence(&[&peer]);
    rig.wake();
    assert_eq!(
        rig.client.payloads(0, &n("battery/258/Soc")),
        [value("87.5"), String::new(), value("3.0")]
    );
}

#[test]
fn s4_5_what_another_interest_covers_stays() {
    // Only what no interest covers any longer is emptied.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true --keep-alive 3");
    rig.wake();
    // The selective client stays, the general one has gone.
    let start = std::time::Instant::now();
    while !rig
        .client
        .payloads(0, &n("vebus/257/Mode"))
        .contains(&String::new())
    {
        assert!(
            start.elapsed() < crate::support::PATIENCE,
            "the general interest never expires"
        );
        rig.client.publish(&r("keepalive"), r#"["battery/#"]"#);
        std::thread::sleep(Duration::from_millis(300));
    }
    for topic in vebus().topics(257).keys() {
        rig.client.expect(0, topic, "");
    }
    rig.wait_retained("what the selective interest covers", &battery().topics(258));
    for topic in battery().topics(258).keys() {
        assert!(
            !rig.client.payloads(0, topic).contains(&String::new()),
            "{topic} was emptied"
        );
    }
}

#[test]
fn s4_5_with_retain_false_expiry_is_silent() {
    // Nothing is retained, so there is nothing to empty; changes just stop.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery().item("/Count", V::I(-1)));
    let _bridge = rig.bridge("--retain false --keep-alive 1 --gather-ms 0");
    let topic = n("battery/258/Count");
    rig.wake();
    // Counting goes on three times as long as the interest does.
    for count in 0..60 {
        peer.update(BATTERY, "/Count", V::I(count));
        std::thread::sleep(Duration::from_millis(50));
    }
    rig.bus.fence(&[&peer]);
    rig.wake();
    let seen = rig.client.payloads(0, &topic);
    assert_eq!(seen.last(), Some(&value("59")));
    assert!(
        seen.len() < 50,
        "changes were published long after the expiry: {seen:?}"
    );
    assert!(
        seen.contains(&value("0")),
        "not even the first change came: {seen:?}"
    );
    assert!(rig.emptied(0).is_empty(), "{:?}", rig.emptied(0));
}
