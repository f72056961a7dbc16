//! §2.1 to §2.3, reading services: signals and their facets, scans and what overtakes them; and the
//! device instance (§1). One test or more for each numbered rule.

use crate::support::bridge::Bridge;
use crate::support::rig::{Rig, both, n, value};
use crate::support::service::{BATTERY, Reply, Service, VEBUS, battery, properties_changed, vebus};
use crate::support::wire::{V, array, dict, invalid, s, vardict, variant};

const LIMIT: &str = "vebus/257/Ac/In/1/CurrentLimit";
const UNKNOWN: [&str; 3] = [
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.UnknownInterface",
];

// ------------------------------------------------------------------------------------------------ 1

#[test]
fn s1_the_identifier_stands_in_for_a_missing_instance() {
    // No valid /DeviceInstance: the text of /Identifier, made one topic level; neither: 0.
    let Some(rig) = Rig::start() else { return };
    let service =
        |name: &str| Service::new(&format!("com.victronenergy.{name}")).item("/A", V::I(1));
    let _peers = [
        rig.bus
            .serve(service("vecan.can0").item("/Identifier", s("can0/+#x"))),
        rig.bus.serve(
            service("rvc.can1")
                .item("/DeviceInstance", invalid())
                .item("/Identifier", s("can1")),
        ),
        rig.bus.serve(
            service("acsystem.a")
                .item("/DeviceInstance", V::I(7))
                .item("/Identifier", s("can2")),
        ),
        rig.bus.serve(service("settings")),
        rig.bus
            .serve(service("gps.x").item("/DeviceInstance", invalid())),
    ];
    let _bridge = rig.bridge("--retain true");
    let mark = rig.wake();
    for topic in [
        "vecan/can0___x/A",
        "rvc/can1/A",
        "acsystem/7/A",
        "settings/0/A",
        "gps/0/A",
    ] {
        rig.client.expect(mark, &n(topic), &value("1"));
    }
    let items = rig
        .chosen(mark)
        .into_iter()
        .filter(|topic| topic.ends_with("/A"));
    assert_eq!(items.count(), 5);
    rig.fence_by_read("vecan/can0___x/A"); // requests find it under that name
}

// ---------------------------------------------------------------------------------------------- 2.1

#[test]
fn s2_1_a_signal_changes_only_what_it_mentions() {
    // One with only Max leaves the value, one with only Value leaves min and max.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let path = "/Ac/In/1/CurrentLimit";
    for (facets, payload) in [
        (
            [("Max", V::D(63.0))],
            r#"{"value": 50.0, "min": 0.0, "max": 63.0}"#,
        ),
        (
            [("Value", V::D(16.0))],
            r#"{"value": 16.0, "min": 0.0, "max": 63.0}"#,
        ),
        (
            [("Min", V::D(6.0))],
            r#"{"value": 16.0, "min": 6.0, "max": 63.0}"#,
        ),
    ] {
        let mark = rig.client.mark();
        peer.facets(path, facets);
        rig.client.expect(mark, &n(LIMIT), payload);
    }
}

#[test]
fn s2_1_a_signal_with_nothing_to_publish_publishes_nothing() {
    // A text alone, a default alone, an unknown key alone, nothing at all.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    peer.facets("/Mode", [("Text", s("Charger only"))]);
    peer.facets("/Mode", [("Default", V::U(3))]);
    peer.facets("/Mode", [("Colour", array("s", [s("red")]))]);
    peer.facets("/Mode", []);
    peer.items_changed([]);
    peer.update(VEBUS, "/State", V::U(9));
    rig.client.expect(mark, &n("vebus/257/State"), &value("9"));
    assert_eq!(rig.chosen(mark), ["vebus/257/State"]);
}

#[test]
fn s2_1_unknown_keys_are_skipped_wherever_they_stand() {
    // Whatever type they have, before or after the ones that count, in replies and in signals.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.peer();
    let odd = |number: i32| {
        vardict([
            (
                "Colour",
                array("(sv)", [V::Struct(vec![s("x"), variant(V::Y(1))])]),
            ),
            ("Max", V::I(9)),
            ("Deep", vardict([("a", vardict([("b", V::D(1.0))]))])),
            ("Value", V::I(number)),
            ("Default", V::I(2)),
            ("Min", V::I(1)),
            ("", V::Y(1)),
        ])
    };
    let items = dict(
        "s",
        "a{sv}",
        [
            (s("/A"), odd(5)),
            (s("/DeviceInstance"), vardict([("Value", V::I(3))])),
        ],
    );
    peer.on(move |call| match call.member.as_str() {
        "GetItems" => Reply::Return(vec![items.clone()]),
        _ => Reply::Normal,
    });
    peer.serve(Service::new("com.victronenergy.tank.odd"));
    let _bridge = rig.bridge("--retain true");
    let mark = rig.wake();
    rig.client
        .expect(mark, &n("tank/3/A"), r#"{"value": 5, "min": 1, "max": 9}"#);
    let signal = |path: &str, member: &str| {
        crate::support::wire::Message::signal(path, crate::support::service::BUS_ITEM, member)
    };
    peer.send(signal("/A", "PropertiesChanged").with(&[odd(6)]));
    rig.client
        .expect(mark, &n("tank/3/A"), r#"{"value": 6, "min": 1, "max": 9}"#);
    peer.send(signal("/", "ItemsChanged").with(&[dict("s", "a{sv}", [(s("/A"), odd(7))])]));
    rig.client
        .expect(mark, &n("tank/3/A"), r#"{"value": 7, "min": 1, "max": 9}"#);
}

#[test]
fn s2_1_signals_of_other_interfaces_are_not_ours() {
    // Same path and member, but not a BusItem; and names that do not begin with com.victronenergy.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let other = rig
        .bus
        .serve(Service::new("org.example.battery.x").item("/Soc", V::I(1)));
    let lookalike = rig
        .bus
        .serve(Service::new("com.victronenergyx.battery.x").item("/Soc", V::I(1)));
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    let foreign = properties_changed("/Soc", V::D(1.0));
    peer.send(crate::support::wire::Message {
        interface: "org.example.BusItem".into(),
        ..foreign
    });
    other.changed("/Soc", V::I(2));
    lookalike.changed("/Soc", V::I(3));
    rig.bus.fence(&[&peer, &other, &lookalike]);
    peer.changed("/Dc/0/Voltage", V::D(50.0));
    rig.client
        .expect(mark, &n("battery/258/Dc/0/Voltage"), &value("50.0"));
    assert_eq!(rig.chosen(mark), ["battery/258/Dc/0/Voltage"]);
    assert!(other.calls().is_empty() && lookalike.calls().is_empty());
}

// ---------------------------------------------------------------------------------------------- 2.2

#[test]
fn s2_2_without_get_items_the_root_is_asked_for_its_value() {
    // Unknown method, object or interface: the same question in the old way, a dict of relative paths.
    for error in UNKNOWN {
        let Some(rig) = Rig::start() else { return };
        let peer = rig.bus.peer();
        peer.on(move |call| {
            if call.member == "GetItems" {
                Reply::Error(error)
            } else {
                Reply::Normal
            }
        });
        peer.serve(battery());
        let _bridge = rig.bridge("--retain true");
        rig.wake();
        rig.wait_retained(error, &battery().topics(258));
        assert!(peer.calls().iter().any(|call| call.is("GetValue", "/")));
    }
}

#[test]
fn s2_2_without_that_the_tree_is_walked() {
    // The root's GetValue fails, or is no dict: every node is introspected, every leaf asked.
    let root_answers = [
        Reply::Error(UNKNOWN[0]),
        Reply::Error(UNKNOWN[1]),
        Reply::Return(vec![variant(s("no dict"))]),
        Reply::Return(vec![variant(invalid())]),
        Reply::Return(vec![V::I(5)]),
        Reply::Return(vec![]),
    ];
    for answer in root_answers {
        let Some(rig) = Rig::start() else { return };
        let what = format!("after {answer:?}");
        let peer = rig.bus.peer();
        peer.on(
            move |call| match (call.member.as_str(), call.path.as_str()) {
                ("GetItems", _) => Reply::Error(UNKNOWN[0]),
                ("GetValue", "/") => answer.clone(),
                _ => Reply::Normal,
            },
        );
        peer.serve(battery());
        let mark = rig.client.mark();
        let _bridge = Bridge::spawn(&rig.args("--retain true --keep-alive 0"));
        rig.online(mark);
        rig.wait_retained(&what, &battery().topics(258));
        assert!(peer.calls().iter().any(|call| call.is("Introspect", "/")));
    }
}

#[test]
fn s2_2_all_services_are_scanned_at_once() {
    // None waits for another: all are asked before any has answered.
    let Some(rig) = Rig::start() else { return };
    let peers: Vec<_> = (0..20)
        .map(|number| {
            let peer = rig.bus.peer();
            peer.on(|call| {
                if call.member == "GetItems" {
                    Reply::Later
                } else {
                    Reply::Normal
                }
            });
            peer.serve(Service::device("tank", &format!("t{number}"), number));
            peer
        })
        .collect();
    let mark = rig.client.mark();
    let _bridge = Bridge::spawn(&rig.args("--retain true --keep-alive 0"));
    rig.online(mark);
    for peer in &peers {
        peer.wait_calls("its scan", 1, |call| call.member == "GetItems");
    }
    for (number, peer) in peers.iter().enumerate() {
        peer.release();
        rig.client.expect(
            mark,
            &n(&format!("tank/{number}/DeviceInstance")),
            &value(&number.to_string()),
        );
    }
}

#[test]
fn s2_2_a_service_that_hangs_holds_up_no_other_and_is_asked_again() {
    // The others are served meanwhile; it is reported, called no more while it owes an answer (§2.9), and
    // scanned again as soon as it gave one.
    let Some(rig) = Rig::start() else { return };
    let hanging = rig.bus.peer();
    hanging.on(|call| {
        if call.member == "GetItems" {
            Reply::Later
        } else {
            Reply::Normal
        }
    });
    hanging.serve(vebus());
    let _battery = rig.bus.serve(battery());
    let bridge = rig.bridge("--retain true --keep-alive 0");
    rig.wait_retained("the service beside it", &battery().topics(258));
    bridge.wait_log(&[VEBUS, "does not answer its calls"]); // a call may take 25 s
    assert_eq!(hanging.calls().len(), 1);
    hanging.release();
    rig.wait_retained("both", &both(battery().topics(258), vebus().topics(257)));
}

#[test]
fn s2_2_a_scan_that_fails_is_reported_and_tried_again() {
    // With a back-off, while the name is owned.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.peer();
    let mut scans = 0;
    peer.on(move |call| {
        scans += usize::from(call.member == "GetItems");
        if scans <= 2 {
            return Reply::Error("com.victronenergy.Error.NotYet");
        }
        Reply::Normal
    });
    peer.serve(battery());
    let bridge = rig.bridge("--retain true --keep-alive 0");
    rig.wait_retained("in the end", &battery().topics(258));
    bridge.wait_log(&[BATTERY]);
    assert_eq!(
        peer.calls()
            .iter()
            .filter(|call| call.member == "GetItems")
            .count(),
        3
    );
}

// ---------------------------------------------------------------------------------------------- 2.3

#[test]
fn s2_3_signal_before_scan_reply_is_older() {
    // What came before the reply is overwritten by it, what comes after it is not.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.peer();
    peer.on(|call| {
        if call.member == "GetItems" {
            Reply::Later
        } else {
            Reply::Normal
        }
    });
    peer.serve(battery());
    let mark = rig.client.mark();
    let _bridge = Bridge::spawn(&rig.args("--retain true --keep-alive 0"));
    rig.online(mark);
    peer.wait_calls("the scan", 1, |call| call.member == "GetItems");
    peer.changed("/Soc", V::D(1.0)); // before: the table still says 87.5
    peer.items_changed([("/Dc/0/Voltage", V::D(1.0))]);
    peer.release();
    peer.changed("/Dc/0/Current", V::D(3.0)); // after
    let mut expected = battery().topics(258);
    expected.insert(n("battery/258/Dc/0/Current"), value("3.0"));
    rig.wait_retained("after the scan", &expected);
    rig.bus.fence(&[&peer]);
    rig.wait_retained("and still", &expected);
}

#[test]
fn s2_3_nothing_is_lost_because_the_instance_is_not_known_yet() {
    // Items that only a signal brought, before the reply, are there after it, with their latest value.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.peer();
    peer.on(|call| {
        if call.member == "GetItems" {
            Reply::Later
        } else {
            Reply::Normal
        }
    });
    peer.serve(battery());
    let mark = rig.client.mark();
    let _bridge = Bridge::spawn(&rig.args("--retain true --keep-alive 0"));
    rig.online(mark);
    peer.wait_calls("the scan", 1, |call| call.member == "GetItems");
    let mut expected = battery().topics(258);
    for number in 0..200 {
        peer.changed(&format!("/New/{number}"), V::I(-1));
        peer.changed(&format!("/New/{number}"), V::I(number));
        expected.insert(
            n(&format!("battery/258/New/{number}")),
            value(&number.to_string()),
        );
    }
    peer.facets("/New/0", [("Max", V::I(5))]);
    expected.insert(
        n("battery/258/New/0"),
        r#"{"value": 0, "max": 5}"#.to_owned(),
    );
    peer.release();
    rig.wait_retained("after the scan", &expected);
}

#[test]
fn s2_3_a_signal_between_two_replies_of_a_walk_is_newer_than_the_first() {
    // Where a scan has many replies, each leaf's own reply is what counts.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.peer();
    peer.on(|call| match (call.member.as_str(), call.path.as_str()) {
        ("GetItems", _) | ("GetValue", "/") => Reply::Error(UNKNOWN[0]),
        ("GetValue", "/Dc/0/Voltage") => Reply::Later,
        _ => Reply::Normal,
    });
    peer.serve(battery());
    let mark = rig.client.mark();
    let _bridge = Bridge::spawn(&rig.args("--retain true --keep-alive 0"));
    rig.online(mark);
    for path in ["/Soc", "/Dc/0/Voltage"] {
        peer.wait_calls("the leaf's call", 1, |call| call.is("GetValue", path));
    }
    peer.changed("/Soc", V::D(2.0));
    peer.sync();
    peer.release();
    let mut expected = battery().topics(258);
    expected.insert(n("battery/258/Soc"), value("2.0"));
    rig.wait_retained("after the walk", &expected);
}
