//! Topics before a real mosquitto (§4.7): it takes all that the rule lets through, and a service with
//! names that it does not take costs nobody else anything.

use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::client::Client;
use crate::support::fake_broker::{FakeBroker, Manner};
use crate::support::rig::{Rig, bridge_to, n, value};
use crate::support::service::{BATTERY, Service, battery};
use crate::support::wire::{V, s};
use dbus_mqtt::model::name::{PATH_BYTES_MAX, TOPIC_LEVELS_MAX, is_topic_char, is_topic_path};

/// The most levels that a prefix may have.
const PREFIX_LEVELS_MAX: usize = 20;

#[test]
fn s4_7_mosquitto_takes_every_topic_that_the_rule_lets_through() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let taken = |level: u8, topics: &[String]| {
        let client = Client::connect_as(level, broker.address(), None);
        let watcher = broker.listener();
        for topic in topics {
            client.publish(topic, "1");
        }
        client.publish("the/last", "1");
        // It would not come where one before it had ended the connection.
        watcher.expect(0, "the/last", "1");
        assert_eq!(watcher.since(0).len(), topics.len() + 1);
    };
    let chars: Vec<char> = ('\0'..=char::MAX)
        .filter(|c| is_topic_char(*c) && *c != '/')
        .collect();
    assert!(chars.len() > 1_111_000, "{}", chars.len());
    let path = |chars: &[char]| format!("/{}", chars.iter().collect::<String>());
    let mut topics: Vec<String> = chars.chunks(250).map(path).collect();
    topics.push("/a".repeat(TOPIC_LEVELS_MAX - 4));
    topics.push("/".to_owned() + &"a".repeat(PATH_BYTES_MAX - 1));
    assert!(topics.iter().all(|path| is_topic_path(path)));
    let prefix = "p/".repeat(PREFIX_LEVELS_MAX);
    let topics: Vec<_> = topics
        .iter()
        .map(|path| format!("{prefix}{}{path}", n("tank/0")))
        .collect();
    taken(4, &topics);
    taken(5, &topics);
}

#[test]
fn s4_7_names_that_mosquitto_refuses_cost_no_connection() {
    let Some(rig) = Rig::start() else { return };
    let deep = "/a".repeat(205);
    let bad = ["/Bad\u{1}", "/Bad\u{7f}", "/Bad\u{fffe}", &deep];
    let poison = Service::device("tank", "poison", 3).item("/Level", V::D(0.5));
    let poison = bad
        .iter()
        .fold(poison, |service, path| service.item(path, V::I(1)));
    let poison = rig.bus.serve(poison);
    let nameless = Service::new("com.victronenergy.rvc.nameless");
    let nameless = nameless
        .item("/Identifier", s("hq\u{2}"))
        .item("/X", V::I(1));
    let _nameless = rig.bus.serve(nameless);
    let healthy = rig.bus.serve(battery());
    for version in ["3", "5"] {
        let mut bridge = rig.bridge(&format!("-k 0 --mqtt-version {version}"));
        let mark = rig.client.mark();
        for round in 1..=30 {
            poison.items_changed(bad.iter().map(|path| (*path, V::I(round))));
            let soc = value(&format!("{round}.5"));
            healthy.update(BATTERY, "/Soc", V::D(f64::from(round) + 0.5));
            rig.client.expect(mark, &n("battery/258/Soc"), &soc);
        }
        assert_eq!(bridge.log_with(&["no topic can have that path"]).len(), 4);
        assert_eq!(
            bridge.log_with(&["not published: its /Identifier"]).len(),
            1
        );
        assert!(bridge.log_with(&["disconnected"]).is_empty());
        assert!(bridge.log_with(&["closed the connection"]).is_empty());
        bridge.terminate();
    }
}

#[test]
fn s4_12_a_topic_or_a_value_that_closes_the_connection_is_found_and_left_out() {
    for version in ["3", "5"] {
        let Some(bus) = Bus::start() else { return };
        let long = "x".repeat(30_000);
        let service = battery().item("/Poison", V::I(1)).item("/Long", s(&long));
        let peer = bus.serve(service);
        let fake = FakeBroker::start(Manner::Touchy("/Poison"));
        let bridge = bridge_to(&bus, &fake, &format!("-k 0 --mqtt-version {version}"));
        for topic in ["battery/258/Poison", "battery/258/Long"] {
            bridge.wait_log(&["closes the connection when", topic, "left out for an hour"]);
        }
        // From then on the connection holds, and everything else goes its way.
        let connections = fake.connections();
        assert!(connections <= 6, "{connections}");
        for round in 0..20 {
            peer.items_changed([("/Poison", V::I(round)), ("/Long", s(&long))]);
            peer.update(BATTERY, "/Soc", V::D(f64::from(round) + 0.5));
            fake.wait_published(0, &n("battery/258/Soc"), &value(&format!("{round}.5")));
        }
        assert_eq!(fake.connections(), connections);
    }
}
