//! §5.5 to §5.8, reads, writes and requests that cannot be: one test or more for each numbered rule.

use std::time::Duration;

use crate::support::rig::{Rig, n, r, value, w};
use crate::support::service::{BATTERY, Reply, Service, VEBUS, battery, vebus};
use crate::support::wire::{V, s};

// ---------------------------------------------------------------------------------------------- 5.5

#[test]
fn s5_5_a_read_is_fetched_afresh_and_published() {
    // Not what was last heard, but what the service says now; the payload does not matter.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    for (payload, soc) in [("", 11.0), ("anything", 12.0), (r#"{"value": 99}"#, 13.0)] {
        let mark = rig.client.mark();
        peer.set(BATTERY, "/Soc", V::D(soc)); // without a signal
        rig.client.publish(&r("battery/258/Soc"), payload);
        rig.client
            .expect(mark, &n("battery/258/Soc"), &value(&format!("{soc:.1}")));
        assert_eq!(rig.chosen(mark), ["battery/258/Soc"]);
    }
    assert_eq!(
        peer.calls()
            .iter()
            .filter(|call| call.is("GetValue", "/Soc"))
            .count(),
        3
    );
    // What was fetched is what the bridge knows from now on.
    let mark = rig.wake();
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("13.0"));
}

#[test]
fn s5_5_a_read_keeps_min_and_max() {
    // GetValue brings the value alone; the range stays what it was.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    peer.set(VEBUS, "/Ac/In/1/CurrentLimit", V::D(16.0));
    rig.client.publish(&r("vebus/257/Ac/In/1/CurrentLimit"), "");
    rig.client.expect(
        0,
        &n("vebus/257/Ac/In/1/CurrentLimit"),
        r#"{"value": 16.0, "min": 0.0, "max": 100.0}"#,
    );
}

#[test]
fn s5_5_an_inner_node_publishes_every_item_below_it() {
    // One read for a whole branch.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    peer.set(BATTERY, "/Dc/0/Voltage", V::D(48.0));
    rig.client.publish(&r("battery/258/Dc"), "");
    rig.client
        .expect(mark, &n("battery/258/Dc/0/Voltage"), &value("48.0"));
    rig.client
        .expect(mark, &n("battery/258/Dc/0/Current"), &value("-15.3"));
    rig.client
        .expect(mark, &n("battery/258/Dc/0/Temperature"), &value("null"));
    rig.fence_by_read("battery/258/Serial");
    assert_eq!(
        rig.chosen(mark).len(),
        4,
        "and nothing else: {:?}",
        rig.chosen(mark)
    );
}

#[test]
fn s5_5_the_unknown_is_not_answered() {
    // Neither a service nor a path that is not there, nor an instance that is another's.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    for topic in [
        "nothing/0/Here",
        "battery/258/Nothing",
        "battery/259/Soc",
        "battery/x/Soc",
        "battery",
    ] {
        rig.client.publish(&r(topic), "");
    }
    rig.fence_by_read("battery/258/Soc");
    assert_eq!(rig.chosen(mark), ["battery/258/Soc"]);
    bridge.wait_log(&["battery/258/Nothing"]);
}

#[test]
fn s5_5_requests_are_answered_in_the_order_in_which_they_came() {
    // A slow service does not let later answers, nor the republish, overtake its own.
    let Some(rig) = Rig::start() else { return };
    let battery_peer = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    battery_peer.on(|call| {
        if call.member == "GetValue" {
            Reply::Later
        } else {
            Reply::Normal
        }
    });
    rig.client.publish(&r("battery/258/Soc"), "");
    rig.client.publish(&r("vebus/257/Mode"), "");
    rig.client.publish(&r("keepalive"), "");
    rig.client.publish(&r("vebus/257/State"), "");
    battery_peer.wait_calls("the read", 1, |call| call.is("GetValue", "/Soc"));
    rig.bus.fence(&[]); // time for a hasty bridge to show itself
    battery_peer.release();
    let end = rig.completed(mark);
    let seen = rig.chosen(mark);
    assert_eq!(seen[..2], ["battery/258/Soc", "vebus/257/Mode"], "{seen:?}");
    // The answers may count as part of the republish, as they are of just now; nothing else is missing.
    for topic in battery()
        .topics(258)
        .keys()
        .chain(vebus().topics(257).keys())
    {
        assert!(
            seen.iter().any(|other| n(other) == *topic),
            "{topic} in {seen:?}"
        );
    }
    rig.client.wait(mark, "the last answer", |message| {
        message.topic == n("vebus/257/State")
    });
    assert!(end > mark + 2);
}

#[test]
fn s5_5_a_full_republish_begins_with_what_identifies_a_device() {
    // Some clients drop what comes before they know whose it is.
    let Some(rig) = Rig::start() else { return };
    let with_identity = |service: Service, name: &str| {
        service
            .item("/Serial", s(name))
            .item("/ProductId", V::I(41))
            .item("/ProductName", s(name))
            .item("/CustomName", s(name))
            .item("/A", V::I(1))
            .item("/Z", V::I(1))
            .item("/Mgmt/Connection", s("x"))
    };
    let tank = Service::device("tank", "t1", 1)
        .item("/FluidType", V::I(1))
        .item("/Level", V::D(5.0));
    let temperature = Service::device("temperature", "t2", 2)
        .item("/TemperatureType", V::I(1))
        .item("/Temperature", V::D(5.0));
    let _peers = [
        rig.bus.serve(with_identity(tank, "tank")),
        rig.bus.serve(with_identity(temperature, "temperature")),
        rig.bus
            .serve(with_identity(Service::device("battery", "b", 3), "battery")),
    ];
    let _bridge = rig.bridge("--retain true");
    for round in 0..2 {
        let mark = rig.wake();
        let seen = rig.chosen(mark);
        let first = [
            "/Serial",
            "/ProductId",
            "/DeviceInstance",
            "/ProductName",
            "/CustomName",
            "/FluidType",
            "/TemperatureType",
        ];
        let identifies = |topic: &String| first.iter().any(|path| topic.ends_with(path));
        let count = seen.iter().filter(|topic| identifies(topic)).count();
        assert_eq!(count, 3 * 5 + 2, "{seen:?}");
        assert!(
            seen[..count].iter().all(identifies),
            "round {round}: {seen:?}"
        );
    }
}

// ---------------------------------------------------------------------------------------------- 5.6

#[test]
fn s5_6_a_write_sets_the_value_and_comes_back_as_a_notification() {
    // What clients see is what the service made of it.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    let mark = rig.client.mark();
    rig.client.publish(&w("vebus/257/Mode"), r#"{"value": 1}"#);
    rig.client.expect(mark, &n("vebus/257/Mode"), &value("1"));
    assert_eq!(
        peer.writes("/Mode"),
        [V::U(1)],
        "as the type that the item has"
    );
    rig.client.publish(
        &w("vebus/257/Ac/In/1/CurrentLimit"),
        r#" { "other" : [1,{}] , "value":16 } "#,
    );
    rig.client.expect(
        mark,
        &n("vebus/257/Ac/In/1/CurrentLimit"),
        r#"{"value": 16.0, "min": 0.0, "max": 100.0}"#,
    );
    assert_eq!(peer.writes("/Ac/In/1/CurrentLimit"), [V::D(16.0)]);
}

#[test]
fn s5_6_a_write_is_executed_while_not_alive_too() {
    // It is a request like any other: executed, and it wakes the bridge.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.client.publish(&w("vebus/257/Mode"), value("4"));
    rig.client.expect(0, &n("vebus/257/Mode"), &value("4"));
    assert_eq!(peer.writes("/Mode"), [V::U(4)]);
}

#[test]
fn s5_6_writes_to_one_service_keep_their_order() {
    // Two hundred writes to two items arrive as they were sent, none lost.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    for number in 0..100 {
        rig.client
            .publish(&w("vebus/257/Mode"), value(&number.to_string()));
        rig.client
            .publish(&w("vebus/257/State"), value(&number.to_string()));
    }
    let calls = peer.wait_calls("the writes", 200, |call| call.member == "SetValue");
    let written: Vec<(String, V)> = calls
        .iter()
        .map(|call| (call.path.clone(), call.written()))
        .collect();
    let sent: Vec<(String, V)> = (0..100)
        .flat_map(|number| {
            [
                ("/Mode".into(), V::U(number)),
                ("/State".into(), V::U(number)),
            ]
        })
        .collect();
    assert_eq!(written, sent);
}

#[test]
fn s5_6_services_do_not_wait_for_each_other() {
    // A service that takes its time over a write holds up its own writes only.
    let Some(rig) = Rig::start() else { return };
    let slow = rig.bus.serve(vebus());
    let quick = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.wake();
    slow.on(|call| {
        if call.member == "SetValue" {
            Reply::Later
        } else {
            Reply::Normal
        }
    });
    let mark = rig.client.mark();
    rig.client.publish(&w("vebus/257/Mode"), value("1"));
    slow.wait_calls("the write", 1, |call| call.member == "SetValue");
    rig.client.publish(&w("battery/258/Soc"), value("50"));
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("50.0"));
    assert_eq!(quick.writes("/Soc"), [V::D(50.0)]);
    slow.release();
    rig.client.expect(mark, &n("vebus/257/Mode"), &value("1"));
}

#[test]
fn s5_6_more_than_1024_writes_in_flight_refuse_the_newest() {
    // The first 1,024 are kept in order, the rest is refused and reported; then all is well again.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let bridge = rig.bridge("--retain true");
    rig.wake();
    peer.on(|call| {
        if call.member == "SetValue" {
            Reply::Later
        } else {
            Reply::Normal
        }
    });
    // In portions: a broker drops messages of QoS 0 that it cannot hand on as fast as they come.
    for portion in 0..11 {
        for number in portion * 100..(portion + 1) * 100 {
            rig.client
                .publish(&w("vebus/257/Mode"), value(&number.to_string()));
        }
        // Few of them are at the service (§2.9), which answers reads meanwhile.
        rig.fence_by_read("vebus/257/State");
    }
    bridge.wait_log(&["vebus/257/Mode rejected"]);
    // One service has its share of the 64 that may be at the bus (§2.9); the others follow as those are
    // answered.
    let is_write = |call: &crate::support::service::Call| call.member == "SetValue";
    assert_eq!(peer.wait_calls("the writes", 8, is_write).len(), 8);
    peer.release();
    let calls = peer.wait_calls("the writes", 1_024, |call| call.member == "SetValue");
    let written: Vec<V> = calls
        .iter()
        .map(crate::support::service::Call::written)
        .collect();
    assert_eq!(written, (0..1_024).map(V::U).collect::<Vec<_>>());
    rig.client.expect(0, &n("vebus/257/Mode"), &value("1023"));
    let mark = rig.client.mark(); // a 2 was among those before
    rig.client.publish(&w("vebus/257/Mode"), value("2"));
    rig.client.expect(mark, &n("vebus/257/Mode"), &value("2"));
    assert_eq!(peer.writes("/Mode").len(), 1_025);
}

// ---------------------------------------------------------------------------------------------- 5.7

#[test]
fn s5_7_a_retained_write_is_ignored_and_reported() {
    // It would repeat itself at every connect. With MQTT 5 the broker does not even hand it over.
    for version in ["3", "5"] {
        let Some(rig) = Rig::start() else { return };
        let peer = rig.bus.serve(vebus());
        rig.client
            .publish_retained(&w("vebus/257/Mode"), value("1"));
        rig.client.fence();
        let bridge = rig.bridge(&format!("--retain true --mqtt-version {version}"));
        if version == "3" {
            bridge.wait_log(&["vebus/257/Mode", "it has the retain flag"]);
        }
        // Of one that is sent while the bridge listens, MQTT 5 shows that flag as well. Else nobody
        // would learn that the broker withholds it later.
        rig.client
            .publish_retained(&w("vebus/257/Mode"), value("2"));
        if version == "5" {
            bridge.wait_log(&["vebus/257/Mode", "it has the retain flag"]);
            rig.client.publish(&w("vebus/257/Mode"), value("1"));
            rig.client.expect(0, &n("vebus/257/Mode"), &value("1"));
            assert_eq!(peer.writes("/Mode"), [V::U(1)]);
        } else {
            rig.client.expect(0, &n("vebus/257/Mode"), &value("2"));
            assert_eq!(peer.writes("/Mode"), [V::U(2)]);
        }
    }
}

// ---------------------------------------------------------------------------------------------- 5.8

/// A write that cannot be, and a word that its report must hold beside the topic.
fn hopeless() -> Vec<(&'static str, Vec<u8>)> {
    let nested =
        |depth: usize| format!("{{\"value\": {}1{}}}", "[".repeat(depth), "]".repeat(depth));
    let large = format!("{{\"value\": \"{}\"}}", "x".repeat(65 * 1024));
    vec![
        ("vebus/257/Mode", b"no json".to_vec()),
        ("vebus/257/Mode", b"".to_vec()),
        ("vebus/257/Mode", b"{\"value\": ".to_vec()),
        ("vebus/257/Mode", b"{\"value\": 1} trailing".to_vec()),
        ("vebus/257/Mode", b"{\"value\": nan}".to_vec()),
        ("vebus/257/Mode", b"{\"value\": 1e999}".to_vec()),
        (
            "vebus/257/Mode",
            b"{\"value\": 99999999999999999999}".to_vec(),
        ),
        ("vebus/257/Mode", b"{\"value\": \"\xff\xfe\"}".to_vec()),
        ("vebus/257/Mode", b"5".to_vec()),
        ("vebus/257/Mode", b"[{\"value\": 5}]".to_vec()),
        ("vebus/257/Mode", b"null".to_vec()),
        ("vebus/257/Mode", b"{}".to_vec()),
        ("vebus/257/Mode", b"{\"Value\": 5}".to_vec()),
        ("vebus/257/Mode", large.into_bytes()),
        ("vebus/257/Mode", nested(40).into_bytes()),
        ("vebus/257/Mode", nested(5_000).into_bytes()),
        (
            "vebus/257/Mode",
            b"{\"value\": \"a text for a number\"}".to_vec(),
        ),
        ("vebus/99/Mode", b"{\"value\": 1}".to_vec()),
        ("nothing/0/Here", b"{\"value\": 1}".to_vec()),
        ("nothing", b"{\"value\": 1}".to_vec()),
        ("vebus/257", b"{\"value\": 1}".to_vec()),
        ("", b"{\"value\": 1}".to_vec()),
    ]
}

#[test]
fn s5_8_a_request_that_cannot_be_is_reported_and_stops_nothing() {
    // No JSON, no object, no value, too large, too deep, unknown, of the wrong type.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    for (topic, payload) in hopeless() {
        let mut bridge = rig.bridge("--retain true");
        rig.wake();
        rig.client.publish(&w(topic), &payload);
        let what = format!(
            "W/{topic} {:?}",
            String::from_utf8_lossy(&payload[..payload.len().min(60)])
        );
        rig.fence_by_read("vebus/257/State");
        assert!(peer.writes("/Mode").is_empty(), "{what} was written");
        let report = bridge.wait_log(&[topic, "W/"]);
        assert!(
            report.len() < 1_000,
            "{what}: a report of {} bytes",
            report.len()
        );
        bridge.assert_alive();
        bridge.terminate();
    }
}

#[test]
fn s5_8_a_write_as_deep_as_may_be_leaves_the_bus_connected() {
    // A bus throws out who sends what is nested deeper than D-Bus allows, be it the bridge or the service
    // that tells what was written; and JSON may be deeper.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let mut bridge = rig.bridge("--retain true");
    rig.wake();
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    let mark = rig.client.mark();
    for depth in 1..=31 {
        for (open, close) in [(r#"{"a": "#, "}"), ("[", "]"), (r#"["x", "#, "]")] {
            let payload = value(&nested(open, close, depth));
            rig.client.publish(&w("vebus/257/State"), payload);
        }
        rig.fence_by_read("vebus/257/Mode");
    }
    assert_eq!(rig.emptied(mark), [""; 0], "the bus was lost");
    // An object is an array, an entry and a variant, and D-Bus has room for 64 of these, five of them
    // around what a service announces: 19 objects fit. What does not is refused at once.
    assert_eq!(peer.writes("/State").len(), 19 + 31 + 29);
    let refused = bridge.wait_log(&["vebus/257/State", "at most 64 levels"]);
    assert!(refused.contains("rejected"), "{refused}");
    bridge.assert_alive();
}

#[test]
fn s5_8_what_the_service_refuses_is_reported() {
    // A return code that is not 0, an error, a reply of another type: the topic and the reason in the log.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    for (reply, reason) in [
        (Reply::Return(vec![V::I(77)]), "77"),
        (Reply::Return(vec![V::I(-78)]), "-78"),
        (Reply::Error("com.victronenergy.Error.NotNow"), "NotNow"),
        (Reply::Return(vec![s("what?")]), "vebus"),
        (Reply::Return(vec![]), "vebus"),
    ] {
        let mut bridge = rig.bridge("--retain true");
        rig.wake();
        let what = format!("{reply:?}");
        peer.on(move |call| {
            if call.member == "SetValue" {
                reply.clone()
            } else {
                Reply::Normal
            }
        });
        rig.client.publish(&w("vebus/257/Mode"), value("1"));
        bridge.wait_log(&["vebus/257/Mode", reason]);
        let mark = rig.client.mark();
        rig.client.publish(&r("vebus/257/Mode"), "");
        let (_, answer) = rig
            .client
            .wait(mark, &what, |message| message.topic == n("vebus/257/Mode"));
        assert_eq!(
            answer.text(),
            value("3"),
            "{what}: the value is what it was"
        );
        peer.behave();
        bridge.terminate();
    }
}

#[test]
fn s5_8_a_write_that_is_not_answered_times_out() {
    // Reported with its topic; the writes behind it go through.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let bridge = rig.bridge("--retain true --keep-alive 0");
    peer.on(|call| {
        if call.is("SetValue", "/Mode") {
            Reply::Later
        } else {
            Reply::Normal
        }
    });
    rig.client.publish(&w("vebus/257/Mode"), value("1"));
    rig.client.publish(&w("vebus/257/State"), value("9"));
    crate::support::poll("the report of a time-out", Duration::from_secs(60), || {
        bridge
            .log_with(&["vebus/257/Mode", "not answer"])
            .into_iter()
            .next()
    });
    rig.client.expect(0, &n("vebus/257/State"), &value("9"));
}

#[test]
fn s5_8_a_flood_of_bad_requests_does_not_flood_the_log() {
    // Reports are rate limited, and good requests still get through.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let bridge = rig.bridge("--retain true");
    rig.wake();
    let topic = w("vebus/257/Mode");
    for _ in 0..100 {
        rig.client.burst(std::iter::repeat_n(
            (topic.as_str(), b"no json".as_slice()),
            100,
        ));
    }
    rig.client.publish(&topic, value("1"));
    rig.client.expect(0, &n("vebus/257/Mode"), &value("1"));
    assert_eq!(peer.writes("/Mode"), [V::U(1)]);
    let lines = bridge.log_with(&["vebus/257/Mode"]).len();
    assert!(
        (1..500).contains(&lines),
        "{lines} lines for 10,000 bad requests"
    );
}

#[test]
fn s5_8_a_read_that_is_not_answered_holds_up_others_for_a_while_only() {
    // A service that hangs is given up; what was asked behind it is answered, and it is reported.
    let Some(rig) = Rig::start() else { return };
    let slow = rig.bus.serve(vebus());
    let _quick = rig.bus.serve(battery());
    let bridge = rig.bridge("--retain true");
    rig.wake();
    slow.on(|call| {
        if call.member == "GetValue" {
            Reply::Later
        } else {
            Reply::Normal
        }
    });
    rig.client.publish(&r("vebus/257/Mode"), "");
    rig.fence_by_read("battery/258/Soc");
    bridge.wait_log(&["vebus"]);
}
