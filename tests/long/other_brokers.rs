//! Other brokers than mosquitto, as Debian has them: `nats-server` and `rabbitmq-server`. `tests/run long`
//! runs this; a broker that is not installed is left out, said aloud.

use crate::support::bridge::Bridge;
use crate::support::bus::Bus;
use crate::support::client::Client;
use crate::support::poll;
use crate::support::rig::{OFFLINE, ONLINE, PORTAL, bridge_args, difference, n, r, value, w};
use crate::support::server::{START, Server};
use crate::support::service::{BATTERY, Service, battery, vebus};
use crate::support::wire::V;

/// A client that sees everything.
fn listener(server: &Server) -> Client {
    let client = server.client();
    client.subscribe(&n("#"));
    client
}

fn start_bridge(server: &Server, bus: &Bus, more: &str) -> Bridge {
    let args = bridge_args(bus, &server.address().to_string(), more);
    let bridge = Bridge::spawn(&args);
    bridge.wait_log(&["connected, with MQTT"]);
    bridge
}

/// Asks for everything, and waits until all of these have come with the values that they have.
fn full_publish(client: &Client, services: &[(&Service, &str)]) {
    let mark = client.mark();
    client.publish(&r("keepalive"), "");
    let completed = n("full_publish_completed");
    client.wait(mark, "the end of a full publish", |message| {
        message.topic == completed
    });
    let seen = client.last(mark);
    for (service, instance) in services {
        let expected = service.topics(instance);
        let here = |topic: &&String| topic.starts_with(&n(&format!("{}/", service.kind())));
        let seen = seen
            .keys()
            .filter(here)
            .map(|topic| (topic.clone(), seen[topic].clone()));
        let difference = difference(&expected, &seen.collect());
        assert_eq!(difference, "", "{}", service.name);
    }
}

/// What every broker must carry. `retains` where it gives what it retains to wildcards, too.
fn carries_everything(mut server: Server, retains: bool) {
    let Some(bus) = Bus::start() else { return };
    let (monitor, inverter) = (battery(), vebus());
    let peer = bus.serve(monitor.clone());
    let _inverter = bus.serve(inverter.clone());
    let client = listener(&server);
    let mark = client.mark();
    let mut bridge = start_bridge(&server, &bus, "");
    client.expect(mark, &n("bridge/status"), ONLINE);
    let services = [(&monitor, "258"), (&inverter, "257")];
    full_publish(&client, &services);
    let warns = ["no retained messages to subscriptions with wildcards"];
    if retains {
        assert_eq!(bridge.log_with(&warns), [""; 0]);
    } else {
        bridge.wait_log(&warns);
    }

    // A keep-alive, with its echo and without values.
    let mark = client.mark();
    let echo = r#"{"keepalive-options": [{"full-publish-completed-echo": "x7"}]}"#;
    client.publish(&r("keepalive"), echo);
    client.wait(mark, "the echo", |message| {
        message.topic == n("full_publish_completed") && message.text().contains("\"x7\"")
    });

    // A change, a read, a write.
    let mark = client.mark();
    peer.update(BATTERY, "/Soc", V::D(42.5));
    client.expect(mark, &n("battery/258/Soc"), &value("42.5"));
    let mark = client.mark();
    client.publish(&r("battery/258/Dc/0/Voltage"), "");
    client.expect(mark, &n("battery/258/Dc/0/Voltage"), &value("51.96"));
    let mark = client.mark();
    client.publish(&w("vebus/257/Mode"), value("1"));
    client.expect(mark, &n("vebus/257/Mode"), &value("1"));

    // The broker goes and comes back, and with it the bridge.
    server.restart();
    let client = listener(&server);
    poll("the bridge to come back", START, || {
        bridge.assert_alive();
        (bridge.log_with(&["connected, with MQTT"]).len() >= 2).then_some(())
    });
    let monitor = monitor.item("/Soc", V::D(42.5));
    let inverter = inverter.item("/Mode", V::U(1));
    full_publish(&client, &[(&monitor, "258"), (&inverter, "257")]);

    // It is killed: its will says so.
    let mark = client.mark();
    bridge.kill();
    client.expect(mark, &n("bridge/status"), OFFLINE);

    // It stops: what it retained is gone, for who asks for it by its name, too.
    let mark = client.mark();
    let mut bridge = start_bridge(&server, &bus, "--keep-alive 0");
    client.expect(mark, &n("battery/258/Soc"), &value("42.5"));
    let mark = client.mark();
    bridge.terminate();
    client.expect(mark, &n("battery/258/Soc"), "");
    client.expect(mark, &n("bridge/status"), OFFLINE);
    let late = Client::connect(server.address(), None);
    late.subscribe(&n("battery/258/Soc"));
    late.subscribe(&n("system/0/Serial"));
    late.expect(0, &n("system/0/Serial"), &value(&format!("{PORTAL:?}")));
    assert_eq!(late.payloads(0, &n("battery/258/Soc")), [""; 0]);
}

#[test]
fn nats_carries_everything() {
    let Some(nats) = Server::nats() else { return };
    carries_everything(nats, true);
}

#[test]
fn rabbitmq_carries_everything() {
    let Some(rabbitmq) = Server::rabbitmq() else {
        return;
    };
    // Only to a subscription that names the topic [§4.9].
    carries_everything(rabbitmq, false);
}
