//! Bad input from the bus: services that hang, vanish, lie, babble or flood. Each time: a report that names the thing, nothing else harmed, and the bridge goes on.

use std::time::Duration;

use crate::support::rig::{Rig, n, r, value};
use crate::support::service::{
    BATTERY, BUS_ITEM, Reply, Service, VEBUS, battery, properties_changed, vebus,
};
use crate::support::wire::{Message, V, array, dict, s, vardict, variant};

const SOC: &str = "battery/258/Soc";

/// Checks that the bridge still takes a signal of the battery and publishes it.
fn assert_goes_on(rig: &Rig, battery: &crate::support::peer::Peer, what: &str) {
    let mark = rig.client.mark();
    battery.update(BATTERY, "/Soc", V::D(55.5));
    rig.client
        .wait(mark, &format!("a value after {what}"), |m| {
            m.is(&n(SOC), &value("55.5"))
        });
}

// -------------------------------------------------------------------------------------- scans

#[test]
fn a_service_that_vanishes_during_its_scan_harms_nobody() {
    // At each step of the scan; and when the name comes back, it is scanned as if nothing had been.
    for step in ["GetItems", "GetValue", "Introspect"] {
        let Some(rig) = Rig::start() else { return };
        let battery_peer = rig.bus.serve(battery());
        let _bridge = rig.bridge("--retain true --keep-alive 0");
        let vanishing = rig.bus.peer();
        vanishing.on(move |call| match call.member.as_str() {
            member if member == step => Reply::Later,
            "GetItems" | "GetValue" => Reply::Error("org.freedesktop.DBus.Error.UnknownMethod"),
            _ => Reply::Normal,
        });
        vanishing.serve(vebus());
        vanishing.wait_calls(step, 1, |call| call.member == step);
        drop(vanishing);
        assert_goes_on(&rig, &battery_peer, step);
        let _back = rig.bus.serve(vebus());
        rig.client.expect(0, &n("vebus/257/Mode"), &value("3"));
    }
}

#[test]
fn a_service_that_comes_and_goes_in_a_hurry_ends_up_right() {
    // A hundred times, without waiting for anything; the last word counts.
    let Some(rig) = Rig::start() else { return };
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    let peer = rig.bus.peer();
    peer.prepare(battery());
    for _ in 0..100 {
        peer.own(BATTERY);
        peer.release_name(BATTERY);
    }
    peer.own(BATTERY);
    rig.wait_retained("there", &battery().topics(258));
    peer.release_name(BATTERY);
    rig.wait_retained("gone", &std::collections::BTreeMap::new());
}

#[test]
fn a_scan_reply_of_another_type_is_reported_and_asked_for_again() {
    // Wrong signatures, an empty reply, values where dicts should be.
    for reply in [
        Reply::Return(vec![]),
        Reply::Return(vec![V::I(1)]),
        Reply::Return(vec![array("s", [s("/Soc")])]),
        Reply::Return(vec![dict("s", "s", [(s("/Soc"), s("1"))])]),
        Reply::Return(vec![vardict([("/Soc", V::I(1))])]),
        Reply::Return(vec![variant(V::I(1))]),
    ] {
        let Some(rig) = Rig::start() else { return };
        let what = format!("{reply:?}");
        let battery_peer = rig.bus.serve(battery());
        let liar = rig.bus.peer();
        let mut lies = 1;
        liar.on(move |call| {
            if call.member == "GetItems" && lies > 0 {
                lies -= 1;
                return reply.clone();
            }
            Reply::Normal
        });
        liar.serve(vebus());
        let bridge = rig.bridge("--retain true --keep-alive 0");
        assert_goes_on(&rig, &battery_peer, &what);
        bridge.wait_log(&[VEBUS]);
        rig.client
            .wait(0, &format!("the service after {what}"), |m| {
                m.is(&n("vebus/257/Mode"), &value("3"))
            });
    }
}

#[test]
fn facets_of_odd_types_do_not_spoil_the_others() {
    // A min that is a text, a max that is a dict, a value that is missing: the rest of the service stands.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.peer();
    let items = dict(
        "s",
        "a{sv}",
        [
            (s("/DeviceInstance"), vardict([("Value", V::I(1))])),
            (
                s("/TextMin"),
                vardict([("Value", V::I(1)), ("Min", s("low"))]),
            ),
            (
                s("/DictMax"),
                vardict([("Max", vardict([("a", V::I(1))])), ("Value", V::I(2))]),
            ),
            (s("/NoValue"), vardict([("Text", s("---"))])),
            (s("/Nothing"), vardict([])),
            (s("/Good"), vardict([("Value", V::I(3))])),
        ],
    );
    peer.on(move |call| match call.member.as_str() {
        "GetItems" => Reply::Return(vec![items.clone()]),
        _ => Reply::Normal,
    });
    peer.serve(Service::new("com.victronenergy.tank.odd"));
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    rig.client.expect(0, &n("tank/1/Good"), &value("3"));
    for (topic, start) in [
        ("tank/1/TextMin", "{\"value\": 1"),
        ("tank/1/DictMax", "{\"value\": 2"),
    ] {
        rig.client.wait(0, topic, |m| {
            m.topic == n(topic) && m.text().starts_with(start)
        });
    }
}

#[test]
fn a_tree_without_end_harms_nobody() {
    // Every node has children: others are served meanwhile, memory stays bounded, and the service can go.
    let Some(rig) = Rig::start() else { return };
    let battery_peer = rig.bus.serve(battery());
    for xml in [
        "<node><node name=\"a\"/></node>",
        "<node><node name=\"a\"/><node name=\"b\"/></node>",
    ] {
        let endless = rig.bus.peer();
        endless.on(|call| match call.member.as_str() {
            "Introspect" => Reply::Return(vec![s(xml)]),
            _ => Reply::Error("org.freedesktop.DBus.Error.UnknownMethod"),
        });
        endless.serve(vebus());
        let mut bridge = rig.bridge("--retain true --keep-alive 0");
        endless.wait_calls("the walk", 25, |call| call.member == "Introspect");
        assert_goes_on(&rig, &battery_peer, "an endless tree");
        assert!(bridge.peak_kib() < 200 * 1024, "{} KiB", bridge.peak_kib());
        drop(endless);
        let _good = rig.bus.serve(vebus());
        rig.wait_retained("after it", &{
            let charged = battery().item("/Soc", V::D(55.5));
            crate::support::rig::both(charged.topics(258), vebus().topics(257))
        });
        bridge.terminate();
    }
}

#[test]
fn an_introspection_that_is_no_xml_is_reported() {
    // Or not even a text; the other services do not notice.
    for reply in [
        Reply::Return(vec![s("<node><node name=")]),
        Reply::Return(vec![s("")]),
        Reply::Return(vec![s("no xml at all & more < > \" '")]),
        Reply::Return(vec![V::I(1)]),
        Reply::Error("org.freedesktop.DBus.Error.UnknownMethod"),
    ] {
        let Some(rig) = Rig::start() else { return };
        let what = format!("{reply:?}");
        let battery_peer = rig.bus.serve(battery());
        let odd = rig.bus.peer();
        odd.on(move |call| match call.member.as_str() {
            "Introspect" => reply.clone(),
            _ => Reply::Error("org.freedesktop.DBus.Error.UnknownMethod"),
        });
        odd.serve(vebus());
        let bridge = rig.bridge("--retain true --keep-alive 0");
        assert_goes_on(&rig, &battery_peer, &what);
        bridge.wait_log(&[VEBUS]);
    }
}

// ------------------------------------------------------------------------------------ signals

#[test]
fn signals_with_wrong_signatures_are_dropped_and_reported() {
    // The sender is named, its next signal is taken, and the value is what it was.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let bridge = rig.bridge("--retain true --keep-alive 0");
    rig.client.expect(0, &n(SOC), &value("87.5"));
    let mark = rig.client.mark();
    let bodies: [&[V]; 7] = [
        &[],
        &[s("Value")],
        &[array("s", [s("Value")])],
        &[dict("s", "s", [(s("Value"), s("1"))])],
        &[dict("s", "d", [(s("Value"), V::D(1.0))])],
        &[variant(V::D(1.0))],
        &[V::D(1.0)],
    ];
    for body in bodies {
        peer.send(Message::signal("/Soc", BUS_ITEM, "PropertiesChanged").with(body));
        peer.send(Message::signal("/", BUS_ITEM, "ItemsChanged").with(body));
    }
    peer.send(
        Message::signal("/", BUS_ITEM, "ItemsChanged").with(&[vardict([("/Soc", V::D(1.0))])]),
    );
    peer.send(Message::signal("/Soc", BUS_ITEM, "NobodyKnows").with(&[s("this")]));
    assert_goes_on(&rig, &peer, "wrong signatures");
    assert_eq!(rig.client.payloads(mark, &n(SOC)), [value("55.5")]);
    bridge.wait_log(&["battery"]);
}

#[test]
fn values_nested_too_deep_harm_nobody() {
    // More variants in variants, or arrays in arrays, than anybody needs.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    for depth in [33, 50] {
        let variants = (0..depth).fold(V::I(7), |inner, _| variant(inner));
        peer.changed("/Deep", variants.clone());
        peer.items_changed([("/Deep/Too", variants)]);
    }
    let arrays = (0..30).fold(V::I(7), |inner, _| array(&inner.signature(), [inner]));
    peer.changed("/Arrays", arrays);
    assert_goes_on(&rig, &peer, "deep values");
}

#[test]
fn a_path_that_is_too_long_for_a_topic_is_left_out() {
    // MQTT has 65,535 bytes for a topic; a longer one must not be cut short into another.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let bridge = rig.bridge("--retain true --keep-alive 0");
    let long = format!("/{}", "x".repeat(70_000));
    peer.items_changed([(long.as_str(), V::I(1)), ("/Beside", V::I(2))]);
    rig.client.expect(0, &n("battery/258/Beside"), &value("2"));
    assert_goes_on(&rig, &peer, "a long path");
    assert!(
        !rig.client
            .since(0)
            .iter()
            .any(|message| message.topic.contains("xxxx"))
    );
    let report = bridge.wait_log(&[BATTERY]);
    assert!(report.len() < 2_000, "a report of {} bytes", report.len());
}

#[test]
fn a_value_of_a_megabyte_is_published_whole() {
    // Rare, but legal: it goes through, and through once.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    let text = "0123456789abcdef".repeat(65_536);
    peer.changed("/Large", s(&text));
    rig.client
        .expect(0, &n("battery/258/Large"), &value(&format!("\"{text}\"")));
    assert_goes_on(&rig, &peer, "a large value");
}

#[test]
fn a_flood_of_signals_ends_with_the_right_values() {
    // Fifty thousand of one service: another is still served, memory stays bounded, nothing is lost.
    let Some(rig) = Rig::start() else { return };
    let mut service = vebus();
    let paths: Vec<String> = (0..200).map(|item| format!("/Flood/{item}")).collect();
    for path in &paths {
        service = service.item(path, V::I(-1));
    }
    let flooding = rig.bus.serve(service.clone());
    let battery_peer = rig.bus.serve(battery());
    let bridge = rig.bridge("--retain true --keep-alive 0");
    rig.client
        .expect(0, &n("vebus/257/Flood/199"), &value("-1"));
    let before_kib = bridge.peak_kib();
    for round in 0..250 {
        flooding.burst(
            paths
                .iter()
                .map(|path| properties_changed(path, V::I(round))),
        );
        if round == 125 {
            battery_peer.changed("/Soc", V::D(1.0));
        }
    }
    for path in &paths {
        service = service.item(path, V::I(249));
    }
    let mut expected = crate::support::rig::both(service.topics(257), battery().topics(258));
    expected.insert(n(SOC), value("1.0"));
    rig.client
        .expect(0, &n("vebus/257/Flood/199"), &value("249"));
    rig.wait_retained("after the flood", &expected);
    let grown_kib = bridge.peak_kib() - before_kib;
    assert!(grown_kib < 64 * 1024, "{grown_kib} KiB more in a flood");
}

#[test]
fn a_flood_of_bad_signals_does_not_flood_the_log() {
    // Twenty thousand that nobody can read: counted, but not written down one by one.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let bridge = rig.bridge("--retain true --keep-alive 0");
    let bad = Message::signal("/Soc", BUS_ITEM, "PropertiesChanged").with(&[V::I(1)]);
    for _ in 0..200 {
        peer.burst(std::iter::repeat_n(bad.clone(), 100));
    }
    assert_goes_on(&rig, &peer, "twenty thousand bad signals");
    let lines = bridge.log().len();
    assert!(lines < 500, "{lines} lines of log");
}

#[test]
fn a_service_that_answers_no_read_does_not_stall_the_others() {
    // Neither their values nor, for long, their answers.
    let Some(rig) = Rig::start() else { return };
    let hanging = rig.bus.serve(vebus());
    let battery_peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    hanging.on(|_| Reply::Later);
    rig.client.publish(&r("vebus/257/Mode"), "");
    hanging.wait_calls("the read", 1, |call| call.is("GetValue", "/Mode"));
    let start = std::time::Instant::now();
    assert_goes_on(&rig, &battery_peer, "a read that hangs");
    rig.fence_by_read(SOC);
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}
