//! Two brokers with a bridge between them that brings back what it once took (§4.11, §5.7): values of
//! yesterday, a device that is gone, a write.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::rig::{OFFLINE, ONLINE, PORTAL, Rig, n, value, w};
use crate::support::service::{VEBUS, battery, vebus};
use crate::support::wire::V;
use crate::support::{PATIENCE, poll};

/// What the owner's broker has retained since yesterday: topic below `venus/`, payload.
fn yesterday() -> [(String, String); 6] {
    [
        (n("ghost/7/Soc"), value("12")),
        (n("battery/258/ProductName"), value("\"Old name\"")),
        (n("battery/258/Soc"), value("1.5")),
        (n("system/0/Serial"), value("\"somebody else\"")),
        (n("bridge/status"), OFFLINE.into()),
        (w("vebus/257/Mode"), value("4")),
    ]
}

/// The owner's broker, with yesterday's messages, joined to `other` by these lines.
fn joined(other: &Broker, lines: &str) -> Option<Broker> {
    let mut owner = Broker::absent()?.persistent();
    owner.restart();
    let client = owner.client();
    for (topic, payload) in yesterday() {
        client.publish_retained(&format!("venus/{topic}"), payload);
    }
    client.subscribe("#");
    client.wait(0, "the last of them", |message| {
        message.topic.ends_with("/Mode")
    });
    drop(client);
    owner.stop();
    let port = other.port;
    owner.listen(
        "127.0.0.1",
        &format!("connection boat\naddress 127.0.0.1:{port}\nrestart_timeout 1\n{lines}"),
    );
    owner.restart();
    Some(owner)
}

#[test]
fn s4_11_what_a_broker_bridge_brings_back_is_corrected_and_a_write_refused() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let vebus_peer = rig.bus.serve(vebus());
    let bridge = rig.bridge("-k 0 --mqtt-version 5");
    let mut right = battery().topics(258);
    right.extend(vebus().topics(257));
    rig.wait_retained("all values", &right);

    let Some(_owner) = joined(&rig.broker, "topic # both 0 venus/ \"\"\n") else {
        return;
    };
    // It comes last, and so all before it has come.
    bridge.wait_log(&["rejected", "vebus/257/Mode", "it has the retain flag"]);
    rig.wait_retained("the right values again", &right);
    let own = poll("serial and status to be right again", PATIENCE, || {
        let retained = rig.retained();
        let right = retained
            .get(&n("bridge/status"))
            .is_some_and(|v| v == ONLINE)
            && retained.get(&n("system/0/Serial")) == Some(&value(&format!("\"{PORTAL}\"")));
        right.then_some(retained)
    });
    assert_eq!(own.get(&n("ghost/7/Soc")), None);
    assert_eq!(bridge.log_with(&["another client published"]).len(), 1);
    assert_eq!(vebus_peer.writes("/Mode"), []);
    // A value that changes goes its usual way.
    let mark = rig.client.mark();
    vebus_peer.update(VEBUS, "/Mode", V::U(1));
    rig.client.expect(mark, &n("vebus/257/Mode"), &value("1"));
    assert!(bridge.log_with(&["disconnected"]).is_empty());
}

#[test]
fn the_bridge_lines_that_the_readme_gives_bring_nothing_back() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    // Not even with the version of MQTT that cannot see it.
    let bridge = rig.bridge("-k 0 --mqtt-version 3");
    let mut right = battery().topics(258);
    right.extend(vebus().topics(257));
    rig.wait_retained("all values", &right);
    let mark = rig.client.mark();
    let lines =
        "topic N/# in 0 venus/ \"\"\ntopic R/# out 0 venus/ \"\"\ntopic W/# out 0 venus/ \"\"\n";
    let Some(owner) = joined(&rig.broker, lines) else {
        return;
    };
    // The owner's clients see what holds now, and ask and write.
    let client = owner.listener();
    client.expect(
        0,
        &format!("venus/{}", n("battery/258/Soc")),
        &value("87.5"),
    );
    client.publish(&format!("venus/{}", w("vebus/257/Mode")), value("1"));
    rig.client.expect(mark, &n("vebus/257/Mode"), &value("1"));
    std::thread::sleep(Duration::from_millis(300)); // for what must not come
    let wrong = rig.client.since(mark).into_iter();
    let wrong: Vec<_> = wrong
        .filter(|message| {
            message.topic == n("ghost/7/Soc") || message.is(&n("battery/258/Soc"), &value("1.5"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    drop(bridge);
}

#[test]
fn s4_11_a_client_that_speaks_for_the_device_is_corrected_in_milliseconds() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let bridge = rig.bridge("-k 0 --mqtt-version 5");
    let right = battery().topics(258);
    rig.wait_retained("all values", &right);
    for (topic, payload) in [
        (n("battery/258/Soc"), value("1.5")),
        (n("ghost/7/Soc"), value("12")),
    ] {
        let mark = rig.client.mark();
        rig.client.publish_retained(&topic, &payload);
        let (at, wrong) = rig.client.wait(mark, "the wrong one", |message| {
            message.is(&topic, &payload)
        });
        let (_, corrected) = rig
            .client
            .wait(at + 1, "the right one", |message| message.topic == topic);
        let expected = right.get(&topic).map_or("", String::as_str);
        assert_eq!(corrected.text(), expected);
        assert!(corrected.at - wrong.at < Duration::from_secs(1));
    }
    rig.wait_retained("the right values", &right);
    // What the bridge publishes itself does not come back to it: nothing else was corrected.
    assert_eq!(bridge.log_with(&["another client published"]).len(), 1);
    assert!(bridge.log_with(&["sends us our own"]).is_empty());
}
