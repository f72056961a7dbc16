//! Clients that connect to the bridge itself, without a broker (§9): real sockets, real clients.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use crate::support::bridge::Bridge;
use crate::support::broker::free_port;
use crate::support::bus::Bus;
use crate::support::client::Client;
use crate::support::rig::{ONLINE, PORTAL, n, value};
use crate::support::service::battery;
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
