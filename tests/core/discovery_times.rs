//! Home Assistant's discovery without sockets: when a device is described, when again, and when it is
//! forgotten. What a description says is in `discovery.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::frames::wire::{V, invalid, s};
use crate::home_assistant::check;
use crate::rig::{DAY, HEAD, Rig, Sent, battery, one, outlet, vebus};
use dbus_mqtt::bridge::Bridge;
use dbus_mqtt::model::access::{Access, AccessRule};
use serde_json::json;

#[test]
fn a_name_that_changes_is_published_in_a_moment_and_once() {
    let mut rig = Rig::start(vec![battery()], outlet(true, Some(DAY), true));
    assert_eq!(one(&rig.connect(&[])).device("name"), "SmartShunt 500A");
    rig.change(0, "/CustomName", &[("Value", s("House"))]);
    rig.change(0, "/CustomName", &[("Value", s("House battery"))]);
    assert!(rig.pull().configs().is_empty());
    assert_eq!(
        one(&rig.pass(Duration::from_secs(3))).device("name"),
        "House battery"
    );
    // What changes nothing in it publishes nothing.
    rig.change(0, "/CustomName", &[("Value", s("House battery"))]);
    rig.change(0, "/Soc", &[("Value", V::D(50.0))]);
    assert!(rig.pass(Duration::from_secs(60)).configs().is_empty());
}

#[test]
fn a_value_that_comes_late_becomes_an_entity_with_its_first() {
    let mut rig = Rig::start(vec![battery()], outlet(true, Some(DAY), true));
    assert!(one(&rig.connect(&[])).entity("/Dc/0/Temperature").is_none());
    rig.change(0, "/Dc/0/Temperature", &[("Value", V::D(21.5))]);
    let config = one(&rig.pass(Duration::from_secs(3)));
    assert!(config.entity("/Dc/0/Temperature").is_some());
    // It stays one while it has none again, also where all is published anew.
    rig.change(0, "/Dc/0/Temperature", &[("Value", invalid())]);
    rig.change(0, "/CustomName", &[("Value", s("House"))]);
    let config = one(&rig.pass(Duration::from_secs(3)));
    assert!(config.entity("/Dc/0/Temperature").is_some());
    // A new item, too.
    rig.change(0, "/Dc/1/Voltage", &[("Value", V::D(12.5))]);
    assert!(
        one(&rig.pass(Duration::from_secs(3)))
            .entity("/Dc/1/Voltage")
            .is_some()
    );
}

#[test]
fn limits_that_come_late_are_those_of_the_number() {
    let mut rig = Rig::start(vec![vebus()], outlet(true, Some(DAY), true));
    let config = one(&rig.connect(&[]));
    let path = "/Ac/In/1/CurrentLimit";
    let number = config.entity(path).unwrap();
    assert_eq!(
        (&number["platform"], &number["max"]),
        (&json!("number"), &json!(100))
    );
    rig.change(0, path, &[("Min", V::D(0.0)), ("Max", V::D(50.0))]);
    let config = one(&rig.pass(Duration::from_secs(3)));
    assert_eq!(config.entity(path).unwrap()["max"], json!(50));
    rig.change(
        0,
        path,
        &[
            ("Value", V::D(20.0)),
            ("Min", V::D(0.0)),
            ("Max", V::D(50.0)),
        ],
    );
    assert!(rig.pass(Duration::from_secs(60)).configs().is_empty());
}

#[test]
fn a_number_that_leaves_its_limits_and_a_code_without_a_label_are_described_anew() {
    let mut rig = Rig::start(vec![vebus()], outlet(true, Some(DAY), true));
    one(&rig.connect(&[]));
    let path = "/Ac/In/1/CurrentLimit";
    rig.change(0, path, &[("Value", V::D(120.0))]);
    let config = one(&rig.pass(Duration::from_secs(3)));
    assert_eq!(config.entity(path).unwrap()["max"], json!(120));
    rig.change(0, "/Mode", &[("Value", V::I(77))]);
    let config = one(&rig.pass(Duration::from_secs(3)));
    let options = &config.entity("/Mode").unwrap()["options"];
    assert!(
        options.as_array().unwrap().contains(&json!("77")),
        "{options}"
    );
    // What is within publishes nothing.
    rig.change(0, path, &[("Value", V::D(40.0))]);
    rig.change(0, "/Mode", &[("Value", V::I(3))]);
    assert!(rig.pass(Duration::from_secs(60)).configs().is_empty());
}

#[test]
fn what_can_be_set_is_there_before_it_has_a_value() {
    let mut device = vebus();
    device
        .items
        .push(("/Hub4/L1/AcPowerSetpoint".to_owned(), invalid()));
    let mut rig = Rig::start(vec![device], outlet(true, Some(DAY), true));
    let config = one(&rig.connect(&[]));
    let number = config.entity("/Hub4/L1/AcPowerSetpoint").unwrap();
    assert_eq!(number["platform"], "number");
    assert!(number.contains_key("command_topic"));
}

#[test]
fn what_an_earlier_run_described_is_kept_and_what_is_no_more_is_taken_away() {
    // The earlier run had a value of the temperature, and could write what this one cannot.
    let mut rig = Rig::start(vec![vebus()], outlet(true, Some(DAY), true));
    let before = rig.connect(&[]);
    let before = before.configs()[0].1.to_owned();
    let topic = format!("{HEAD}vebus_276/config");
    let mut looking = outlet(true, Some(DAY), true);
    looking.access = AccessRule::Always(Access::ReadOnly);
    let mut rig = Rig::start(vec![vebus()], looking);
    let config = one(&rig.connect_to(&[(&topic, &before)]));
    let gone = &config.top["components"]["Mode-select"];
    assert_eq!(*gone, json!({"platform": "select"}));
    assert_eq!(config.entity("/Mode").unwrap()["platform"], "sensor");

    let mut rig = Rig::start(vec![battery()], outlet(true, Some(DAY), true));
    rig.connect(&[]);
    rig.change(0, "/Dc/0/Temperature", &[("Value", V::D(21.5))]);
    let before = rig.pass(Duration::from_secs(3));
    let before = before.configs()[0].1.to_owned();
    let topic = format!("{HEAD}battery_288/config");
    let mut rig = Rig::start(vec![battery()], outlet(true, Some(DAY), true));
    // It is as the broker has it: nothing is published.
    let sent = rig.connect_to(&[(&topic, &before)]);
    assert!(sent.configs().is_empty());
    rig.change(0, "/CustomName", &[("Value", s("House"))]);
    let config = one(&rig.pass(Duration::from_secs(3)));
    assert!(config.entity("/Dc/0/Temperature").is_some());
}

#[test]
fn a_device_that_is_gone_is_kept_for_a_while() {
    let mut rig = Rig::start(vec![battery()], outlet(true, Some(DAY), true));
    one(&rig.connect(&[]));
    rig.leave(0);
    assert!(rig.pass(DAY / 2).configs().is_empty());
    rig.come(0);
    assert!(rig.pass(DAY * 2).configs().is_empty(), "it is as it was");
    rig.leave(0);
    assert!(rig.pass(Duration::from_secs(86_399)).configs().is_empty());
    assert_eq!(
        rig.pass(Duration::from_secs(2)).configs(),
        [("battery_288", "")]
    );
    rig.come(0);
    one(&rig.pull());
}

#[test]
fn a_device_may_be_forgotten_at_once_or_never() {
    for (keep, expected) in [(Some(Duration::ZERO), 1), (None, 0)] {
        let mut rig = Rig::start(vec![battery()], outlet(true, keep, true));
        one(&rig.connect(&[]));
        rig.leave(0);
        let sent = rig.pass(DAY * 3);
        assert_eq!(sent.configs().len(), expected, "{keep:?}");
    }
}

#[test]
fn a_device_with_another_instance_is_another_device() {
    let mut rig = Rig::start(vec![battery()], outlet(true, None, true));
    one(&rig.connect(&[]));
    rig.change(0, "/DeviceInstance", &[("Value", V::I(289))]);
    let sent = rig.pass(Duration::from_secs(3));
    let objects: BTreeMap<_, _> = sent.configs().into_iter().collect();
    assert_eq!(objects["battery_288"], "");
    check(objects["battery_289"]);
    assert_eq!(objects.len(), 2);
}

#[test]
fn what_an_earlier_run_left_is_taken_back_and_what_others_left_is_not() {
    let stale = format!("{HEAD}tank_9/config");
    let there = format!("{HEAD}battery_288/config");
    let others = "homeassistant/device/zigbee_7/config";
    let retained = [stale.as_str(), there.as_str(), others];
    let mut rig = Rig::start(vec![battery()], outlet(true, Some(DAY), true));
    assert_eq!(rig.connect(&retained).configs().len(), 1);
    assert!(rig.pass(DAY / 2).configs().is_empty());
    // A broker that comes and goes delays nothing.
    rig.bridge.broker_disconnected(0);
    assert_eq!(rig.connect(&retained).configs().len(), 1);
    let sent = rig.pass(DAY / 2 + Duration::from_secs(3));
    assert_eq!(sent.configs(), [("tank_9", "")]);

    // Switched off, it takes back all that is ours.
    let mut rig = Rig::start(vec![battery()], outlet(false, Some(DAY), true));
    let mut sent = rig.connect(&retained);
    sent.0.extend(rig.pass(Duration::from_secs(3)).0);
    let objects: BTreeSet<_> = sent.configs().into_iter().collect();
    assert_eq!(
        objects,
        BTreeSet::from([("battery_288", ""), ("tank_9", "")])
    );
}

#[test]
fn nothing_is_forgotten_before_all_scans_are_done() {
    let now = crate::frames::now();
    let mut rig = Rig {
        bridge: Bridge::new(crate::frames::config(vec![outlet(
            true,
            Some(Duration::ZERO),
            true,
        )])),
        now,
        devices: vec![battery()],
    };
    let there = format!("{HEAD}battery_288/config");
    rig.bridge.bus_connected(now);
    assert!(rig.connect(&[&there]).configs().is_empty());
    assert!(rig.pass(Duration::from_secs(10)).configs().is_empty());
    crate::frames::answer_all(&mut rig.bridge, rig.now, &rig.devices);
    let sent = rig.pass(Duration::from_secs(10));
    assert!(
        sent.configs()
            .iter()
            .all(|(_, payload)| !payload.is_empty())
    );
    one(&sent);
}

#[test]
fn a_service_that_is_never_scanned_keeps_nothing_of_others_for_longer_than_a_minute() {
    let mut config = crate::frames::config(vec![outlet(true, Some(Duration::ZERO), true)]);
    config.call_timeout = Duration::from_secs(600);
    let now = crate::frames::now();
    let mut rig = Rig {
        bridge: Bridge::new(config),
        now,
        devices: Vec::new(),
    };
    rig.bridge.bus_connected(now);
    crate::frames::answer_all(&mut rig.bridge, now, &[]);
    // It is there, and answers nothing.
    let silent = crate::frames::name_owner_changed(&battery().name, "", ":1.99");
    crate::frames::feed(&mut rig.bridge, now, &silent);
    rig.connect(&[&format!("{HEAD}tank_9/config")]);
    assert!(rig.pass(Duration::from_secs(50)).configs().is_empty());
    let sent = rig.pass(Duration::from_secs(15));
    assert_eq!(sent.configs(), [("tank_9", "")]);
}

#[test]
fn a_birth_is_answered_at_once_and_not_too_often() {
    let mut rig = Rig::start(vec![battery(), vebus()], outlet(true, Some(DAY), true));
    rig.connect(&[]);
    rig.pass(Duration::from_secs(60));
    let mut answers = 0;
    for _ in 0..100 {
        rig.bridge.home_assistant_started(rig.now, 0);
        answers += rig.pull().configs().len();
        answers += rig.pass(Duration::from_millis(100)).configs().len();
    }
    answers += rig.pass(Duration::from_secs(60)).configs().len();
    assert_eq!(
        answers, 4,
        "two devices, at once and when ten seconds were over"
    );
}

#[test]
fn values_flow_without_anybody_asking() {
    let mut rig = Rig::start(vec![battery()], outlet(true, Some(DAY), true));
    rig.connect(&[]);
    rig.pass(Duration::from_secs(3600));
    rig.change(0, "/Soc", &[("Value", V::D(50.0))]);
    let sent = rig.pull();
    assert_eq!(sent.0[0].1, "{\"value\": 50.0}");
    // Without it they flow only as long as they are asked for.
    let mut rig = Rig::start(vec![battery()], outlet(false, Some(DAY), true));
    rig.connect(&[]);
    rig.change(0, "/Soc", &[("Value", V::D(50.0))]);
    assert!(rig.pull().0.is_empty());
}

#[test]
fn without_retained_values_all_are_published_again_when_the_entities_are_there() {
    let mut rig = Rig::start(vec![battery()], outlet(true, Some(DAY), false));
    one(&rig.connect(&[]));
    let count = |sent: &Sent| {
        sent.0
            .iter()
            .filter(|(topic, ..)| topic.ends_with("/Soc"))
            .count()
    };
    assert_eq!(count(&rig.pass(Duration::from_secs(4))), 0);
    assert_eq!(count(&rig.pass(Duration::from_secs(4))), 1);
    assert_eq!(count(&rig.pass(Duration::from_secs(600))), 0);
}

#[test]
fn the_end_takes_no_configuration_back() {
    let mut rig = Rig::start(vec![battery()], outlet(true, Some(DAY), true));
    one(&rig.connect(&[]));
    rig.change(0, "/CustomName", &[("Value", s("House"))]);
    rig.bridge.end();
    let sent = rig.pass(Duration::from_secs(5));
    assert!(sent.configs().is_empty());
    assert!(
        sent.0
            .iter()
            .any(|(_, payload, _)| payload == "{\"value\": \"offline\"}")
    );
}
