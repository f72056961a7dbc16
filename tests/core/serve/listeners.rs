//! Several listeners in one server, and what changes while clients are connected (§8, §9.1).

use super::bench::*;
use dbus_mqtt::model::filter::{Filter, List};
use dbus_mqtt::serve::{Answer, ListenerSettings, Settings};

/// Two listeners, of which only the second tells Home Assistant of the devices.
fn two(settings: &mut Settings) {
    let listener = |name: &str, prefix: Option<&str>| ListenerSettings {
        name: name.into(),
        discovery_prefix: prefix.map(Into::into),
        ..ListenerSettings::default()
    };
    settings.listeners = vec![
        listener("one", None),
        listener("two", Some("homeassistant")),
    ];
}

fn client_at(bench: &mut Bench, listener: usize, name: &str) -> Client {
    let client = bench.socket_at(listener);
    bench.greet(client, &connect(name, 4), 4);
    client
}

fn say(listener: usize, topic: &str, payload: &str) -> Answer {
    Answer::Say {
        listener,
        topic: topic.into(),
        payload: payload.as_bytes().into(),
        retain: true,
    }
}

#[test]
fn s9_what_a_listener_says_is_for_its_clients() {
    let mut bench = Bench::with(two);
    let (one, two) = (client_at(&mut bench, 0, "a"), client_at(&mut bench, 1, "b"));
    bench.subscribe(one, "homeassistant/#", 0);
    bench.subscribe(two, "homeassistant/#", 0);
    let config = "homeassistant/device/x/config";
    bench.server.answer(bench.now, say(1, config, "{}"));
    bench.settle();
    assert_eq!(bench.get(one), Vec::<String>::new());
    assert_eq!(bench.get(two), ["homeassistant/device/x/config {}"]);
    let late = client_at(&mut bench, 0, "c");
    assert_eq!(bench.subscribe(late, "#", 0).len(), 5);
    // Ours for all: nobody publishes there.
    bench.send(one, &publish(0, 0, config, "x"));
    assert_eq!(bench.get(two), Vec::<String>::new());
    // Home Assistant comes to the second, and only there is that a request too.
    bench.send(one, &publish(0, 0, "homeassistant/status", "online"));
    assert_eq!(bench.requests().len(), 0);
    bench.send(two, &publish(0, 0, "homeassistant/status", "online"));
    let requests = bench.requests();
    assert_eq!((requests.len(), requests[0].listener), (1, 1));
}

#[test]
fn s8_what_clients_had_is_taken_back_when_they_may_have_nothing_any_more() {
    let mut bench = Bench::with(two);
    let (one, two) = (client_at(&mut bench, 0, "a"), client_at(&mut bench, 1, "b"));
    bench.subscribe(one, "N/#", 0);
    bench.subscribe(two, "N/#", 0);
    let serves = |serves| Answer::Serves {
        listener: 0,
        serves,
    };
    bench.server.answer(bench.now, serves(false));
    bench.settle();
    let mut got = bench.get(one);
    got.sort();
    assert_eq!(
        got,
        [
            "N/P/battery/0/Dc/0/Voltage ",
            "N/P/battery/0/Serial ",
            "N/P/battery/0/Soc ",
            "N/P/keepalive ",
            "N/P/system/0/Serial ",
        ]
    );
    bench.set(1, "51");
    bench.pass(1000);
    assert_eq!(bench.get(one), Vec::<String>::new());
    assert_eq!(bench.get(two), [r#"N/P/battery/0/Soc {"value": 51}"#]);
    bench.send(
        one,
        &subscribe(
            false,
            1,
            &[(&format!("N/{PORTAL}/battery/0/Soc"), 0), ("N/#", 0)],
        ),
    );
    assert_eq!(bench.get(one), ["SUBACK 1 [80 0]"]);
    bench.server.answer(bench.now, serves(true));
    bench.settle();
    let mut got = bench.get(one);
    got.sort();
    assert_eq!(
        got,
        [
            r#"N/P/battery/0/Dc/0/Voltage {"value": 12.5}"#,
            r#"N/P/battery/0/Serial {"value": "x"}"#,
            r#"N/P/battery/0/Soc {"value": 51}"#,
            r#"N/P/keepalive {"value": 1}"#,
            &format!(r#"N/P/system/0/Serial {{"value": "{PORTAL}"}}"#),
        ]
    );
    assert_eq!(bench.get(two), Vec::<String>::new());
}

#[test]
fn s9_other_lists_hold_for_who_is_connected() {
    let mut settings = Settings::new(dbus_mqtt::model::name::PortalId::new(PORTAL).unwrap());
    let hidden = List {
        deny: vec![Filter::parse("battery/+/Soc").unwrap()],
        ..List::default()
    };
    let mut bench = Bench::with(|settings| settings.listeners[0].publish = hidden.clone());
    let client = bench.client("c", 4);
    bench.subscribe(client, "N/+/battery/#", 0);
    bench.set(1, "51");
    bench.pass(1000);
    assert_eq!(bench.get(client), Vec::<String>::new());
    bench.server.reload(bench.now, settings.clone());
    bench.pass(1000);
    let got = bench.get(client);
    assert!(
        got.contains(&r#"N/P/battery/0/Soc {"value": 51}"#.into()),
        "{got:?}"
    );
    settings.listeners[0].publish = hidden;
    settings.listeners[0].relay = false;
    bench.server.reload(bench.now, settings);
    bench.set(1, "52");
    bench.set(2, "13");
    bench.pass(1000);
    assert_eq!(
        bench.get(client),
        [r#"N/P/battery/0/Dc/0/Voltage {"value": 13}"#]
    );
    bench.send(client, &subscribe(false, 1, &[("a", 0)]));
    assert_eq!(bench.get(client), ["SUBACK 1 [80]"]);
}
