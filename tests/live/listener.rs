//! Clients that connect to the bridge itself, without a broker (§9): real sockets, real clients.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::bridge::Bridge;
use crate::support::broker::free_port;
use crate::support::bus::Bus;
use crate::support::client::Client;
use crate::support::rig::{OFFLINE, ONLINE, PORTAL, n, value, w};
use crate::support::service::{Service, battery};
use crate::support::wire::{V, s};
use crate::support::{PATIENCE, poll};

/// A bridge with these arguments, and a free port in the place of `PORT`.
fn listening(bus: &Bus, args: &str) -> (Bridge, SocketAddr) {
    let port = free_port();
    let args = args.replace("PORT", &port.to_string());
    let mut all = vec!["--dbus".to_owned(), bus.address()];
    all.extend(["--portal-id".to_owned(), PORTAL.to_owned()]);
    all.extend(args.split_whitespace().map(str::to_owned));
    let bridge = Bridge::spawn(&all);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    poll("the listener", PATIENCE, || {
        TcpStream::connect(address).ok()
    });
    (bridge, address)
}

#[test]
fn s9_8_a_client_sees_the_values_and_their_changes() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let (_bridge, address) = listening(&bus, "--listen PORT");
    let client = Client::connect(address, None);
    client.subscribe("N/#");
    client.expect(0, &n("bridge/status"), ONLINE);
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    let mark = client.mark();
    peer.changed("/Soc", V::D(88.5));
    client.expect(mark, &n("battery/258/Soc"), &value("88.5"));
}

#[test]
fn s9_1_a_port_that_is_taken_is_a_sentence_and_status_1() {
    let Some(bus) = Bus::start() else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = Command::new(crate::support::program::path())
        .args(["--dbus", &bus.address(), "--portal-id", PORTAL])
        .args(["--listen", &port.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{text}"
    );
}

#[test]
fn s9_20_an_address_that_others_reach_needs_auth() {
    let output = Command::new(crate::support::program::path())
        .args(["--portal-id", PORTAL, "--listen", "0.0.0.0:1883"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("say who may connect"), "{text}");
}

#[test]
fn s9_11_a_client_that_never_reads_delays_nobody() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let (bridge, address) = listening(&bus, "--listen PORT");
    let stopped = Client::connect(address, None);
    stopped.subscribe("N/#");
    // Half a connection, too.
    let _half = TcpStream::connect(address).unwrap();
    let client = Client::connect(address, None);
    client.subscribe("N/#");
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    let before_kib = bridge.peak_kib();
    let long = "x".repeat(2_000);
    for round in 0..2_000 {
        peer.changed("/ProductName", s(&format!("{round}{long}")));
    }
    let last = value(&format!("\"1999{long}\""));
    client.expect(0, &n("battery/258/ProductName"), &last);
    let grown_kib = bridge.peak_kib() - before_kib;
    assert!(grown_kib < 8 * 1024, "{grown_kib} KiB");
}

/// A bridge with this settings file, and free ports in the places of `PORT` and `OTHER`.
pub fn configured(bus: &Bus, folder: &Path, text: &str) -> (Bridge, [SocketAddr; 2]) {
    let ports = [free_port(), free_port()];
    let file = folder.join("settings.toml");
    std::fs::write(&file, filled(text, ports)).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let address = bus.address();
    let bridge = Bridge::spawn(&["--dbus", &address, "--portal-id", PORTAL, "--config", &file]);
    let addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    poll("the listener", PATIENCE, || {
        TcpStream::connect(addresses[0]).ok()
    });
    (bridge, addresses)
}

fn filled(text: &str, ports: [u16; 2]) -> String {
    let [port, other] = ports.map(|port| port.to_string());
    text.replace("PORT", &port).replace("OTHER", &other)
}

/// Has the bridge read another settings file.
pub fn reload(bridge: &Bridge, folder: &Path, text: &str, addresses: [SocketAddr; 2]) {
    let ports = addresses.map(|address| address.port());
    let count = bridge.log_with(&["settings reloaded"]).len();
    std::fs::write(folder.join("settings.toml"), filled(text, ports)).unwrap();
    bridge.signal(Signal::HUP);
    poll("the settings", PATIENCE, || {
        let log = bridge.log_with(&["settings reloaded"]);
        (log.len() > count).then_some(())
    });
}

#[test]
fn what_clients_of_a_listener_may_do_is_reloaded() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let text = "[[listen]]\naddress = \"PORT\"\npublish-deny = [\"battery/+/Soc\"]\n";
    let (bridge, addresses) = configured(&bus, folder.path(), text);
    let (client, other) = (
        Client::connect(addresses[0], None),
        Client::connect(addresses[0], None),
    );
    client.subscribe("#");
    client.expect(0, &n("battery/258/Dc/0/Current"), &value("-15.3"));
    assert_eq!(
        client.payloads(0, &n("battery/258/Soc")),
        Vec::<String>::new()
    );
    let text = "[[listen]]\naddress = \"PORT\"\nrelay = false\naccess = \"read-only\"\n\
        [limits]\nclient-filters-max = 1\n";
    reload(&bridge, folder.path(), text, addresses);
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    let mark = client.mark();
    other.publish("chat", "hello");
    client.publish(&w("battery/258/Dc/0/Current"), r#"{"value": 1}"#);
    bridge.wait_log(&["battery/258/Dc/0/Current"]);
    peer.changed("/Soc", V::D(88.5));
    client.expect(mark, &n("battery/258/Soc"), &value("88.5"));
    assert_eq!(client.payloads(mark, "chat"), Vec::<String>::new());
    // What takes a restart is named.
    let text = "[[listen]]\naddress = \"OTHER\"\nname = \"hall\"\n";
    reload(&bridge, folder.path(), text, addresses);
    for what in ["the name of a listener", "the address of a listener"] {
        bridge.wait_log(&[what, "restart to apply it"]);
    }
    let text = "[[listen]]\naddress = \"PORT\"\n[[listen]]\naddress = \"OTHER\"\n";
    reload(&bridge, folder.path(), text, addresses);
    bridge.wait_log(&["the number of listeners", "restart to apply it"]);
}

#[test]
fn s8_clients_of_a_listener_have_what_the_device_says_that_vrm_may() {
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let text =
        "[[listen]]\naddress = \"PORT\"\naccess = \"vrm\"\n[[listen]]\naddress = \"OTHER\"\n";
    let (_bridge, addresses) = configured(&bus, folder.path(), text);
    let client = Client::connect(addresses[0], None);
    client.subscribe("N/#");
    let owner = Client::connect(addresses[1], None);
    owner.subscribe("N/#");
    owner.expect(0, &n("battery/258/Soc"), &value("87.5"));
    client.fence();
    for topic in ["battery/258/Soc", "bridge/status", "system/0/Serial"] {
        assert_eq!(client.payloads(0, &n(topic)), Vec::<String>::new());
    }
    let path = "/Settings/Network/VrmPortal";
    let settings = Service::new("com.victronenergy.settings").item(path, V::I(2));
    let peer = bus.serve(settings);
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    client.expect(0, &n("bridge/status"), ONLINE);
    let (mark, owners) = (client.mark(), owner.mark());
    peer.changed(path, V::I(0));
    client.expect(mark, &n("battery/258/Soc"), "");
    client.expect(mark, &n("bridge/status"), OFFLINE);
    assert_eq!(
        owner.payloads(owners, &n("bridge/status")),
        Vec::<String>::new()
    );
}
