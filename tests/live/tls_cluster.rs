//! TLS with several addresses of one broker (§6): the certificate of each is held against the name in its own
//! address, or all against one name.

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::certificates::{Authority, encrypted, trusted};
use crate::support::rig::PORTAL;

const CONNECTED: &str = ": connected";
const V4: &str = "127.0.0.1";

/// A node of a cluster that does not run yet, and the port where it speaks TLS with a certificate of this name.
fn node(authority: &Authority, name: &str) -> Option<(Broker, u16)> {
    let broker = Broker::absent()?;
    let lines = encrypted(broker.folder(), "node", &authority.server(&[name]));
    let port = broker.listen(V4, &lines);
    Some((broker, port))
}

/// A bridge that tries all addresses within a second.
fn bridge(bus: &Bus, servers: &str, ca: &str, more: &[&str]) -> Bridge {
    let address = bus.address();
    let base = [
        "--dbus",
        &address,
        "--portal-id",
        PORTAL,
        "-q",
        servers,
        "-c",
        ca,
    ];
    let base = base.into_iter().chain(["--reconnect-max", "1"]);
    let args: Vec<&str> = base.chain(more.iter().copied()).collect();
    Bridge::spawn(&args)
}

/// Ends the node that the bridge is connected to, and waits until it is at the other one.
fn fail_over(bridge: &Bridge, nodes: [(&str, &mut Broker); 2]) {
    let [(first, one), (second, two)] = nodes;
    let line = bridge.wait_log(&[CONNECTED]);
    if line.contains(first) {
        one.kill();
        bridge.wait_log(&[second, CONNECTED]);
    } else {
        two.kill();
        bridge.wait_log(&[first, CONNECTED]);
    }
}

#[test]
fn s6_each_node_has_the_name_of_its_own_address() {
    let Some(bus) = Bus::start() else { return };
    let authority = Authority::new("boat");
    let (Some((mut one, a)), Some((mut two, b))) =
        (node(&authority, "localhost"), node(&authority, V4))
    else {
        return;
    };
    let ca = trusted(one.folder(), "ca.crt", &authority);
    one.restart();
    two.restart();
    let (first, second) = (format!("localhost:{a}"), format!("{V4}:{b}"));
    let servers = format!("mqtts://{first},mqtts://{second}");
    let bridge = bridge(&bus, &servers, &ca, &[]);
    fail_over(&bridge, [(&first, &mut one), (&second, &mut two)]);
    assert!(bridge.log_with(&["certificate"]).is_empty());
}

#[test]
fn s6_a_node_with_the_name_of_another_is_refused_and_the_other_used() {
    let Some(bus) = Bus::start() else { return };
    let authority = Authority::new("boat");
    // The second has the name of the first: good for the first address, and not for its own.
    let (Some((mut one, a)), Some((mut two, b))) =
        (node(&authority, "localhost"), node(&authority, "localhost"))
    else {
        return;
    };
    let ca = trusted(one.folder(), "ca.crt", &authority);
    two.restart();
    let (first, second) = (format!("localhost:{a}"), format!("{V4}:{b}"));
    let servers = format!("mqtts://{first},mqtts://{second}");
    let bridge = bridge(&bus, &servers, &ca, &[]);
    let reason = "the broker's certificate is for localhost, not for 127.0.0.1";
    bridge.wait_log(&[&second, reason]);
    one.restart();
    bridge.wait_log(&[&first, CONNECTED]);
    assert!(bridge.log_with(&[&second, CONNECTED]).is_empty());
    assert!(bridge.log_with(&[&first, "certificate"]).is_empty());
}

#[test]
fn s6_server_name_is_one_name_for_all_nodes() {
    let Some(bus) = Bus::start() else { return };
    let authority = Authority::new("boat");
    let name = "mqtt.boat.example";
    let (Some((mut one, a)), Some((mut two, b))) = (node(&authority, name), node(&authority, name))
    else {
        return;
    };
    let ca = trusted(one.folder(), "ca.crt", &authority);
    one.restart();
    two.restart();
    let (first, second) = (format!("localhost:{a}"), format!("{V4}:{b}"));
    let servers = format!("mqtts://{first},mqtts://{second}");
    let with_name = ["--mqtt-server-name", name];
    let named = bridge(&bus, &servers, &ca, &with_name);
    fail_over(&named, [(&first, &mut one), (&second, &mut two)]);
    assert!(named.log_with(&["certificate"]).is_empty());
    drop(named);
    // Without it neither is right.
    one.restart();
    two.restart();
    let unnamed = bridge(&bus, &servers, &ca, &[]);
    for (at, host) in [(&first, "localhost"), (&second, V4)] {
        let reason = format!("the broker's certificate is for {name}, not for {host}");
        unnamed.wait_log(&[at, &reason]);
    }
    assert!(unnamed.log_with(&[CONNECTED]).is_empty());
}
