//! Floods and storms: many requests, many services, many changes, all at once. Each time the state is
//! right in the end, memory is back, and no descriptor or task is left over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::client::Client;
use crate::support::fake_broker::respond_to;
use crate::support::json::json;
use crate::support::load::Load;
use crate::support::rig::{
    ONLINE, Rig, both, bridge_args, difference, n, retained, value, w, wait_one_retained,
};
use crate::support::service::{BATTERY, Call, Service, battery, vebus};
use crate::support::wire::{V, s};
use crate::support::{PATIENCE, poll};

#[test]
fn every_write_of_a_flood_is_answered_and_what_is_accepted_is_done_once_in_order() {
    // Ten thousand in portions that a broker takes; some are too many at once, and are told so.
    let Some(rig) = Rig::start() else { return };
    let mut service = Service::device("battery", "flood", 9);
    for item in 0..8 {
        service = service.item(&format!("/Write/{item}"), V::I(0));
    }
    let peer = rig.bus.serve(service);
    let _other = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    let asker = Client::connect_as(5, rig.broker.address(), None);
    asker.subscribe("answers/#");
    let (portions, each) = (5, 2_000);
    for portion in 0..portions {
        let first = portion * each + 1;
        for number in first..first + each {
            let properties = respond_to(&format!("answers/{number}"), b"");
            let topic = w(&format!("battery/9/Write/{}", number % 8));
            asker.publish_with(&topic, &properties, format!("{{\"value\": {number}}}"));
        }
        asker.wait_until(0, "an answer to every write", |messages| {
            (messages.len() >= usize::try_from(first + each - 1).unwrap()).then_some(())
        });
    }
    let mut accepted: Vec<i32> = asker
        .since(0)
        .iter()
        .filter(|message| message.text().starts_with("{\"status\": \"ok\""))
        .map(|message| message.topic.rsplit_once('/').unwrap().1.parse().unwrap())
        .collect();
    accepted.sort_unstable();
    let called = |call: &Call| match call.written() {
        V::I(number) => number,
        other => panic!("{other:?}"),
    };
    let calls = peer.wait_calls_for("the writes", accepted.len(), PATIENCE, |call| {
        call.member == "SetValue"
    });
    let done: Vec<i32> = calls.iter().map(called).collect();
    assert_eq!(done, accepted, "done in the order in which they came");
}

/// A rig whose client does not listen: floods are for the broker alone.
fn quiet_rig() -> Option<(Bus, Broker)> {
    Some((Bus::start()?, Broker::start()?))
}

fn bridge(bus: &Bus, broker: &Broker) -> Bridge {
    // Strings of 16 MiB are kept by who wants them: usually they are left out (`tests/live/limits.rs`).
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, "[limits]\ntext-bytes-max = 33554432\n").unwrap();
    let server = format!("127.0.0.1:{}", broker.port);
    let more = format!(
        "--config {} --retain true --keep-alive 0 --ping 2",
        settings.display()
    );
    let bridge = Bridge::spawn(&bridge_args(bus, &server, &more));
    wait_one_retained(broker, &n("bridge/status"), Some(ONLINE));
    bridge
}

/// The number of something big, smaller or larger where `SCALE` says so.
fn scaled(number: usize) -> usize {
    let scale = std::env::var("SCALE")
        .ok()
        .and_then(|scale| scale.parse().ok());
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss
    )]
    let number = (number as f64 * scale.unwrap_or(1.0_f64)) as usize;
    number.max(1)
}

/// Waits until the broker retains just this of services.
fn wait_retained(broker: &Broker, what: &str, expected: &BTreeMap<String, String>) {
    let start = Instant::now();
    loop {
        let mut seen = retained(broker, &n("#"));
        for own in ["system/0/Serial", "keepalive", "bridge/status"] {
            seen.remove(&n(own));
        }
        if seen == *expected {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE * 2,
            "{what}:\n{}",
            difference(expected, &seen)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_broker_that_is_killed_stopped_restarted_and_replaced_under_5000_updates_a_second_ends_right() {
    let Some(bus) = Bus::start() else { return };
    let Some(mut broker) = Broker::absent().map(Broker::persistent) else {
        return;
    };
    broker.restart();
    let battery_peer = bus.serve(battery());
    let mut bridge = bridge(&bus, &broker);
    wait_retained(&broker, "at first", &battery().topics(258));
    let load = Load::of(&bus, 250);
    wait_load(&broker);
    let before = bridge.vitals();
    for (round, fault) in ["killed", "stopped", "restarted", "replaced"]
        .into_iter()
        .enumerate()
    {
        let soc = V::D(f64::from(u32::try_from(round).unwrap()));
        match fault {
            "killed" => broker.kill(),
            "stopped" => broker.pause(),
            "restarted" => broker.stop(),
            // By another that knows nothing, on the same port.
            _ => broker.forget(),
        }
        battery_peer.update(BATTERY, "/Soc", soc.clone());
        bus.fence(&[&battery_peer]); // the bus side goes on
        let start = Instant::now();
        if fault == "stopped" {
            broker.resume();
        } else {
            broker.restart();
        }
        let now = value(&json(&soc));
        wait_one_retained(&broker, &n("battery/258/Soc"), Some(&now));
        println!(
            "broker {fault} under load: right again after {:?}",
            start.elapsed()
        );
        bridge.assert_alive();
    }
    let (_owner, last) = load.finish();
    let end = both(
        battery().item("/Soc", V::D(3.0)).topics(258),
        last.topics(1),
    );
    wait_retained(&broker, "in the end", &end);
    bridge.wait_vitals("after four outages of the broker", &before);
}

/// Waits until the load comes through.
fn wait_load(broker: &Broker) {
    poll("the load", PATIENCE, || {
        let item = retained(broker, &n("tank/1/Load/0"));
        (item.values().next()? != &value("-1")).then_some(())
    });
}

#[test]
fn a_bus_that_is_killed_stopped_restarted_and_replaced_under_5000_updates_a_second_ends_right() {
    let Some((mut bus, broker)) = quiet_rig() else {
        return;
    };
    let mut bridge = bridge(&bus, &broker);
    let mut before = None;
    for round in 0..4 {
        let now = battery().item("/Soc", V::D(f64::from(round)));
        let battery_peer = bus.serve(now.clone());
        let load = Load::of(&bus, 250);
        wait_load(&broker);
        let before = before.get_or_insert_with(|| bridge.vitals());
        if round == 1 {
            // Stopped: what waited for it comes when it goes on.
            bus.pause();
            battery_peer.changed("/Soc", V::D(99.0));
            let start = Instant::now();
            bus.resume();
            let soc = n("battery/258/Soc");
            wait_one_retained(&broker, &soc, Some(&value("99.0")));
            println!(
                "bus stopped under load: right again after {:?}",
                start.elapsed()
            );
        }
        if round == 3 {
            let (_owner, last) = load.finish();
            wait_retained(
                &broker,
                "in the end",
                &both(now.topics(258), last.topics(1)),
            );
            bridge.wait_vitals("after three outages of the bus", before);
            return;
        }
        bus.kill();
        load.bereft();
        drop(battery_peer);
        wait_retained(&broker, "without a bus", &BTreeMap::new());
        let start = Instant::now();
        bus.restart(); // another bus on the same address, which knows no name of the old one
        let there = bus.serve(vebus());
        let mode = n("vebus/257/Mode");
        wait_one_retained(&broker, &mode, Some(&value("3")));
        println!(
            "bus killed under load: right again after {:?}",
            start.elapsed()
        );
        bridge.assert_alive();
        drop(there);
        wait_one_retained(&broker, &mode, None);
    }
}

#[test]
fn a_service_that_appears_and_vanishes_a_thousand_times_leaves_nothing() {
    // Each time another connection, so that nothing of the last one helps.
    let Some((bus, broker)) = quiet_rig() else {
        return;
    };
    let _battery = bus.serve(battery());
    let bridge = bridge(&bus, &broker);
    let flicker = |times: usize| {
        for _ in 0..times {
            drop(bus.serve(vebus()));
        }
    };
    flicker(scaled(1000) / 10); // as much memory as that takes is taken
    bus.fence(&[]);
    wait_retained(&broker, "after some", &battery().topics(258));
    let before = bridge.vitals();
    flicker(scaled(1000));
    bus.fence(&[]);
    wait_retained(&broker, "in the end", &battery().topics(258));
    bridge.wait_vitals_within("after a thousand appearances", &before, 4 * 1024);
    let there = bus.serve(vebus());
    let all = both(battery().topics(258), vebus().topics(257));
    wait_retained(&broker, "and there again", &all);
    drop(there);
}

#[test]
fn a_thousand_services_come_and_go() {
    let Some((bus, broker)) = quiet_rig() else {
        return;
    };
    let bridge = bridge(&bus, &broker);
    let before = bridge.vitals();
    for _ in 0..2 {
        let mut expected = BTreeMap::new();
        let start = Instant::now();
        // Forty connections with names of their own each, as one process may have.
        let peers: Vec<_> = (0..40)
            .map(|peer| {
                let connection = bus.peer();
                for number in 0..scaled(1000) / 40 {
                    let instance = i32::try_from(peer * 1000 + number).unwrap();
                    let service = Service::device("tank", &format!("t{instance}"), instance)
                        .item("/Level", V::D(f64::from(instance)))
                        .item("/FluidType", V::I(1));
                    expected.extend(service.topics(instance));
                    connection.serve(service);
                }
                connection
            })
            .collect();
        wait_retained(&broker, "all of them", &expected);
        println!(
            "{} items of a thousand services after {:?}",
            expected.len(),
            start.elapsed()
        );
        drop(peers);
        wait_retained(&broker, "none of them", &BTreeMap::new());
    }
    bridge.wait_vitals("after a thousand services, twice", &before);
}

#[test]
fn a_service_with_50_000_items_is_published_and_forgotten() {
    let Some((bus, broker)) = quiet_rig() else {
        return;
    };
    let battery_peer = bus.serve(battery());
    let bridge = bridge(&bus, &broker);
    let before = bridge.vitals();
    let mut large = Service::device("switch", "large", 7);
    for item in 0..i32::try_from(scaled(50_000)).unwrap() {
        large = large.item(&format!("/Some/Node/{}/{item}", item % 100), V::I(item));
    }
    for round in 0..2 {
        let start = Instant::now();
        let peer = bus.serve(large.clone());
        let all = both(battery().topics(258), large.topics(7));
        wait_retained(&broker, "all items", &all);
        println!("{} items after {:?}", all.len(), start.elapsed());
        battery_peer.changed("/Soc", V::D(87.5)); // another service is served all the same
        drop(peer);
        wait_retained(&broker, &format!("gone, {round}"), &battery().topics(258));
    }
    bridge.wait_vitals_within("after 50,000 items, twice", &before, 48 * 1024);
}

#[test]
fn strings_of_16_mib_go_through_and_their_memory_comes_back() {
    // In an answer to GetItems and in signals; then one whose message is more than a message may be,
    // since it has the value twice: that one is left out and reported, and nobody else notices.
    let Some((bus, broker)) = quiet_rig() else {
        return;
    };
    let battery_peer = bus.serve(battery());
    let bridge = bridge(&bus, &broker);
    let before = bridge.vitals();
    let long = "x".repeat(16 * 1024 * 1024);
    let mut service = vebus().item("/Long", s(&long));
    service.items.get_mut("/Long").unwrap().text = Some("long".to_owned());
    let peer = bus.serve(service.clone());
    let topic = n("vebus/257/Long");
    let wait = |text: &str| {
        let expected = value(&format!("\"{text}\""));
        poll("the text", PATIENCE, || {
            let seen = retained(&broker, &topic);
            (seen.get(&topic) == Some(&expected)).then_some(())
        });
    };
    wait(&long);
    for last in ["a", "b"] {
        let other = format!("{}{last}", &long[1..]);
        peer.facets("/Long", [("Value", s(&other))]);
        wait(&other);
    }
    peer.changed("/Long", s(&long));
    bridge.wait_log(&["was dropped"]);
    battery_peer.changed("/Soc", V::D(1.0));
    wait_one_retained(&broker, &n("battery/258/Soc"), Some(&value("1.0")));
    wait(&format!("{}b", &long[1..]));
    println!("a string of 16 MiB: {} KiB at most", bridge.peak_kib());

    peer.facets("/Long", [("Value", s("short"))]);
    wait("short");
    bridge.wait_vitals_within("after strings of 16 MiB", &before, 48 * 1024);
    drop(peer);
    let battery_now = battery().item("/Soc", V::D(1.0));
    wait_retained(&broker, "without it", &battery_now.topics(258));
}
