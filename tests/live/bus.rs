//! §2.4 to §2.8, following services: new ones, new owners, moves, clashes, and the bus itself. One test
//! or more for each numbered rule.

use std::collections::BTreeMap;

use crate::support::bridge::Bridge;
use crate::support::rig::{ONLINE, PORTAL, Rig, both, bridge_args, n, r, value};
use crate::support::service::{BATTERY, Service, VEBUS, battery, vebus};
use crate::support::wire::{V, invalid, s};

// ---------------------------------------------------------------------------------------------- 2.4

#[test]
fn s2_4_new_items_and_new_services_are_added_on_the_fly() {
    // By either signal; and a service that appears while alive is published unasked.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    peer.update(BATTERY, "/New/One", V::I(1));
    peer.items_changed([("/New/Two", V::I(2)), ("/New/Three", s("3"))]);
    let mut expected = battery().topics(258);
    expected.insert(n("battery/258/New/One"), value("1"));
    expected.insert(n("battery/258/New/Two"), value("2"));
    expected.insert(n("battery/258/New/Three"), value("\"3\""));
    rig.wait_retained("with the new items", &expected);
    let _vebus = rig.bus.serve(vebus());
    rig.wait_retained("with the new service", &both(expected, vebus().topics(257)));
}

// ---------------------------------------------------------------------------------------------- 2.5

#[test]
fn s2_5_a_service_that_loses_its_owner_is_gone() {
    // Its connection may live on; what it says then is nobody's.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    peer.release_name(BATTERY);
    rig.wait_retained("without it", &vebus().topics(257));
    peer.changed("/Soc", V::D(1.0));
    rig.bus.fence(&[&peer]);
    let mark = rig.wake();
    assert!(rig.client.payloads(mark, &n("battery/258/Soc")).is_empty());
    peer.own(BATTERY);
    rig.wait_retained(
        "back again",
        &both(battery().topics(258), vebus().topics(257)),
    );
}

#[test]
fn s2_5_a_new_owner_without_a_gap_is_scanned_again() {
    // What is no longer there is unpublished, what is new published, and the old owner no longer heard.
    let Some(rig) = Rig::start() else { return };
    let old = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    rig.wait_retained("the old owner's", &battery().topics(258));
    let mut second = battery().item("/Soc", V::D(12.0)).item("/New", V::I(1));
    second.items.remove("/Dc/0/Current");
    let mark = rig.client.mark();
    let new = rig.bus.serve(second.clone());
    new.wait_calls("its scan", 1, |call| call.member == "GetItems");
    rig.wait_retained("the new owner's", &second.topics(258));
    rig.client.expect(mark, &n("battery/258/Dc/0/Current"), "");

    old.changed("/Soc", V::D(1.0));
    rig.bus.fence(&[&old]);
    new.update(BATTERY, "/Soc", V::D(13.0));
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("13.0"));
    assert!(
        !rig.client
            .payloads(mark, &n("battery/258/Soc"))
            .contains(&value("1.0"))
    );
}

#[test]
fn s2_5_a_new_owner_may_have_another_instance() {
    // Everything moves with it.
    let Some(rig) = Rig::start() else { return };
    let _old = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    rig.wait_retained("the old owner's", &battery().topics(258));
    let second = battery().item("/DeviceInstance", V::I(5));
    let _new = rig.bus.serve(second.clone());
    rig.wait_retained("the new owner's", &second.topics(5));
}

#[test]
fn s2_5_a_connection_with_several_names_is_matched_by_path() {
    // A path of one service is that service's, a path of both is both's.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    peer.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let before = both(battery().topics(258), vebus().topics(257));
    rig.wait_retained("both", &before);
    peer.changed("/Soc", V::D(1.0));
    peer.changed("/Mode", V::U(1));
    peer.items_changed([
        ("/Dc/0/Voltage", V::D(2.0)),
        ("/State", V::U(2)),
        ("/ProductName", s("both")),
    ]);
    let mut expected = before;
    for (topic, json) in [
        ("battery/258/Soc", "1.0"),
        ("battery/258/Dc/0/Voltage", "2.0"),
        ("battery/258/ProductName", "\"both\""),
        ("vebus/257/Mode", "1"),
        ("vebus/257/State", "2"),
        ("vebus/257/ProductName", "\"both\""),
    ] {
        expected.insert(n(topic), value(json));
    }
    rig.wait_retained("after the signals", &expected);
    peer.release_name(VEBUS);
    expected.retain(|topic, _| topic.contains("/battery/"));
    rig.wait_retained("one name less", &expected);
    peer.changed("/Soc", V::D(3.0));
    rig.client.expect(0, &n("battery/258/Soc"), &value("3.0"));
}

// ---------------------------------------------------------------------------------------------- 2.6

#[test]
fn s2_6_a_changed_instance_moves_every_topic() {
    // The old topics are unpublished, the new ones published; requests follow.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    rig.wait_retained("at first", &battery().topics(258));
    peer.update(BATTERY, "/DeviceInstance", V::I(300));
    let moved = battery().item("/DeviceInstance", V::I(300));
    rig.wait_retained("after the move", &moved.topics(300));
    for topic in battery().topics(258).keys() {
        rig.client.expect(0, topic, "");
    }
    peer.update(BATTERY, "/Soc", V::D(5.0));
    rig.client.expect(0, &n("battery/300/Soc"), &value("5.0"));
    rig.client.publish(&r("battery/258/Soc"), "");
    rig.fence_by_read("battery/300/Soc");
    assert_eq!(
        rig.client.payloads(0, &n("battery/258/Soc")),
        [value("87.5"), String::new()]
    );

    // Invalid, and an identifier beside it: the rule of §1 once more.
    let mark = rig.client.mark();
    peer.set(BATTERY, "/DeviceInstance", invalid());
    peer.set(BATTERY, "/Identifier", s("x/y"));
    peer.items_changed([("/DeviceInstance", invalid()), ("/Identifier", s("x/y"))]);
    rig.client
        .expect(mark, &n("battery/x_y/Soc"), &value("5.0"));
    rig.client.expect(mark, &n("battery/300/Soc"), "");
}

#[test]
fn s2_6_the_same_instance_again_moves_nothing() {
    // Also where its type is another: 258 as a double, as a byte-sized type it may not fit.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    for instance in [V::I(258), V::U(258), V::Q(258)] {
        peer.update(BATTERY, "/DeviceInstance", instance);
    }
    peer.update(BATTERY, "/Soc", V::D(5.0));
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("5.0"));
    assert!(rig.emptied(mark).is_empty());
}

// ---------------------------------------------------------------------------------------------- 2.7

#[test]
fn s2_7_of_two_with_one_instance_the_first_keeps_the_topics() {
    // The second is reported by name, and taken up as soon as the first has gone.
    let Some(rig) = Rig::start() else { return };
    let first = rig.bus.serve(battery());
    let bridge = rig.bridge("--retain true");
    rig.wake();
    rig.wait_retained("the first", &battery().topics(258));
    let name = "com.victronenergy.battery.ttyO9";
    let mut twin = Service::device("battery", "ttyO9", 258).item("/Soc", V::D(1.0));
    let second = rig.bus.serve(twin.clone());
    bridge.wait_log(&[name]);
    second.update(name, "/Soc", V::D(2.0));
    rig.bus.fence(&[&second]);
    first.update(BATTERY, "/Dc/0/Voltage", V::D(50.0));
    rig.client
        .expect(0, &n("battery/258/Dc/0/Voltage"), &value("50.0"));
    assert_eq!(
        rig.client.payloads(0, &n("battery/258/Soc")),
        [value("87.5")]
    );

    drop(first);
    twin = twin.item("/Soc", V::D(2.0));
    rig.wait_retained("the second", &twin.topics(258));
    second.update(name, "/Soc", V::D(3.0));
    rig.client.expect(0, &n("battery/258/Soc"), &value("3.0"));
}

#[test]
fn s2_7_a_clash_ends_too_when_one_of_the_two_moves() {
    // Whichever of the two changes its instance: both are there then.
    for first_moves in [true, false] {
        let Some(rig) = Rig::start() else { return };
        let first = rig.bus.serve(battery());
        let _bridge = rig.bridge("--retain true");
        rig.wake();
        let name = "com.victronenergy.battery.ttyO9";
        let twin = Service::device("battery", "ttyO9", 258).item("/Soc", V::D(1.0));
        let second = rig.bus.serve(twin.clone());
        rig.bus.fence(&[]);
        rig.wait_retained("the first", &battery().topics(258));
        let expected = if first_moves {
            first.update(BATTERY, "/DeviceInstance", V::I(9));
            both(
                battery().item("/DeviceInstance", V::I(9)).topics(9),
                twin.topics(258),
            )
        } else {
            second.update(name, "/DeviceInstance", V::I(9));
            both(
                battery().topics(258),
                twin.item("/DeviceInstance", V::I(9)).topics(9),
            )
        };
        rig.wait_retained("both", &expected);
    }
}

#[test]
fn s2_7_the_instance_alone_is_no_clash() {
    // Types are worlds of their own.
    let Some(rig) = Rig::start() else { return };
    let services = [
        Service::device("tank", "t", 1),
        Service::device("grid", "g", 1),
    ];
    let _peers: Vec<_> = services
        .iter()
        .map(|service| rig.bus.serve(service.clone()))
        .collect();
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    rig.wait_retained("both", &both(services[0].topics(1), services[1].topics(1)));
}

// ---------------------------------------------------------------------------------------------- 2.8

#[test]
fn s2_8_the_bus_is_the_option_else_the_session_else_the_system() {
    // The first of these that is given wins.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let address = rig.bus.address();
    let nowhere = "unix:path=/nonexistent/bus";
    let server = format!("127.0.0.1:{}", rig.broker.port);
    let without = [
        "--mqtt-server",
        &server,
        "--portal-id",
        PORTAL,
        "--keep-alive",
        "0",
    ];
    let with: Vec<&str> = without.into_iter().chain(["--dbus", &address]).collect();
    for (args, environment) in [
        (
            with.as_slice(),
            vec![
                ("DBUS_SESSION_BUS_ADDRESS", nowhere),
                ("DBUS_SYSTEM_BUS_ADDRESS", nowhere),
            ],
        ),
        (
            &without,
            vec![
                ("DBUS_SESSION_BUS_ADDRESS", &*address),
                ("DBUS_SYSTEM_BUS_ADDRESS", nowhere),
            ],
        ),
        (&without, vec![("DBUS_SYSTEM_BUS_ADDRESS", &*address)]),
    ] {
        let mark = rig.client.mark();
        let mut bridge = Bridge::spawn_with(args, &environment);
        rig.client
            .expect(mark, &n("battery/258/Soc"), &value("87.5"));
        bridge.terminate();
    }
}

#[test]
fn s2_8_a_bus_that_goes_takes_every_service_and_is_found_again() {
    // Every topic is emptied; when the bus is back, all is scanned anew.
    let Some(mut rig) = Rig::start() else { return };
    let peers = [rig.bus.serve(battery()), rig.bus.serve(vebus())];
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    rig.wait_retained(
        "at first",
        &both(battery().topics(258), vebus().topics(257)),
    );
    rig.bus.kill();
    rig.wait_retained("without a bus", &BTreeMap::new());
    drop(peers);
    bridge.assert_alive();
    rig.bus.restart();
    let _battery = rig.bus.serve(battery().item("/Soc", V::D(1.0)));
    rig.wait_retained(
        "with the next bus",
        &battery().item("/Soc", V::D(1.0)).topics(258),
    );
}

#[test]
fn s2_8_a_bus_that_is_absent_at_first_is_waited_for() {
    // Said in the log, with the address; then as always.
    let Some(broker) = crate::support::broker::Broker::start() else {
        return;
    };
    let Some(mut bus) = crate::support::bus::Bus::absent() else {
        return;
    };
    let client = broker.listener();
    let server = format!("127.0.0.1:{}", broker.port);
    let bridge = Bridge::spawn(&bridge_args(&bus, &server, "--keep-alive 0"));
    client.expect(0, &n("bridge/status"), ONLINE);
    bridge.wait_log(&[bus.socket().to_str().unwrap()]);
    bus.restart();
    let _battery = bus.serve(battery());
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
}

#[test]
fn s2_8_a_bus_without_services_is_told_once() {
    let Some(rig) = Rig::start() else { return };
    let bridge = rig.bridge("--keep-alive 0");
    bridge.wait_log(&["WARN", "no Victron service is on this bus yet"]);
    let _battery = rig.bus.serve(battery());
    rig.client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    assert_eq!(bridge.log_with(&["no Victron service"]).len(), 1);
    drop(bridge);
    let mut bridge = rig.bridge("--keep-alive 0");
    rig.client.fence();
    bridge.assert_alive();
    assert!(bridge.log_with(&["no Victron service"]).is_empty());
}

// ------------------------------------------------------------------------------------------------ 6

/// The bridge on a computer that is no GX device, with no portal id given.
fn without_portal_id(rig: &Rig) -> Bridge {
    let server = format!("127.0.0.1:{}", rig.broker.port);
    Bridge::spawn(&["--dbus", &rig.bus.address(), "--mqtt-server", &server])
}

#[test]
fn s6_the_bus_has_the_portal_id_and_is_waited_for() {
    // The service may come later, and its value later still; a mistake of its own is not believed.
    let Some(rig) = Rig::start() else { return };
    let mut bridge = without_portal_id(&rig);
    bridge.wait_log(&["dbus-mqtt 0."]);
    bridge.wait_log(&["waiting for com.victronenergy.system"]);
    let system = |serial| Service::device("system", "x", 0).item("/Serial", serial);
    let mut nameless = system(invalid());
    nameless.name = "com.victronenergy.system".to_owned();
    let peer = rig.bus.serve(nameless);
    peer.wait_calls("a question for the portal id", 1, |call| {
        call.path == "/Serial"
    });
    peer.set("com.victronenergy.system", "/Serial", s(PORTAL));
    rig.client.expect(0, &n("bridge/status"), ONLINE);
    bridge.wait_log(&["portal id", PORTAL, "com.victronenergy.system"]);
    assert_eq!(bridge.log_with(&["waiting for"]).len(), 1);
    // What was learnt holds when the settings are read again.
    bridge.signal(rustix::process::Signal::HUP);
    bridge.wait_log(&["settings"]);
    bridge.assert_alive();
    assert!(bridge.log_with(&["ERROR"]).is_empty());
    bridge.terminate();
}

#[test]
fn s6_a_bus_without_a_portal_id_is_an_error() {
    let Some(rig) = Rig::start() else { return };
    let mut waiting = without_portal_id(&rig);
    waiting.wait_log(&["waiting for com.victronenergy.system"]);
    waiting.terminate();
    let _peer = rig
        .bus
        .serve(Service::new("com.victronenergy.system").item("/Serial", s("a/b")));
    let mut bridge = without_portal_id(&rig);
    let status = bridge.wait_exit(std::time::Duration::from_secs(30));
    assert_eq!(status.code(), Some(2));
    let said = bridge.log_with(&["has no portal id at /Serial", "--portal-id"]);
    assert_eq!(said.len(), 1, "{:?}", bridge.log());
    assert!(rig.client.since(0).is_empty());
}
