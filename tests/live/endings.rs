//! Buses that die or stop, also under load, and how the bridge itself ends: by a signal in any
//! circumstances, or by a mistake in its configuration.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::fake_broker::{FakeBroker, Manner};
use crate::support::load::Load;
use crate::support::rig::{ONLINE, PORTAL, Rig, both, bridge_to, n, value, w};
use crate::support::service::{BATTERY, battery, vebus};
use crate::support::wire::{V, s};

const SOC: &str = "battery/258/Soc";

// -------------------------------------------------------------------------------------- buses

#[test]
fn a_bus_that_is_killed_and_comes_back_under_load_ends_right() {
    // Twice; what the broker retains in the end is what the last services say.
    let Some(mut rig) = Rig::start() else { return };
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    for soc in [1.0, 2.0, 3.0] {
        let battery_now = battery().item("/Soc", V::D(soc));
        let _battery = rig.bus.serve(battery_now.clone());
        let load = Load::start(&rig.bus);
        rig.client.expect(0, &n(SOC), &value(&format!("{soc:.1}")));
        if soc < 3.0 {
            rig.bus.kill();
            load.bereft();
            rig.wait_retained("without a bus", &BTreeMap::new());
            bridge.assert_alive();
            rig.bus.restart();
        } else {
            let (_owner, last) = load.finish();
            rig.wait_retained("in the end", &both(battery_now.topics(258), last.topics(1)));
        }
    }
}

#[test]
fn a_bus_that_is_stopped_and_goes_on_loses_nothing() {
    // While it is stopped the broker's side lives; what was sent meanwhile comes when it goes on.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    rig.client.expect(0, &n(SOC), &value("87.5"));
    rig.bus.pause();
    peer.update(BATTERY, "/Dc/0/Voltage", V::D(1.0));
    let mark = rig.client.mark();
    rig.client.publish(&w("battery/258/Soc"), value("2")); // its call waits in the socket
    rig.client.wait(mark, "a heartbeat", |message| {
        message.topic == n("heartbeat")
    });
    rig.bus.resume();
    rig.client
        .expect(mark, &n("battery/258/Dc/0/Voltage"), &value("1.0"));
    rig.client.expect(mark, &n(SOC), &value("2.0"));
}

#[test]
fn bus_and_broker_may_die_together() {
    // In either order, and come back in either.
    let Some(mut rig) = Rig::start() else { return };
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    for broker_first in [true, false] {
        let peers = [rig.bus.serve(battery()), rig.bus.serve(vebus())];
        rig.wait_retained(
            "at first",
            &both(battery().topics(258), vebus().topics(257)),
        );
        rig.bus.kill();
        rig.broker.kill();
        drop(peers);
        bridge.assert_alive();
        if broker_first {
            rig.broker.restart();
            crate::support::rig::wait_one_retained(&rig.broker, &n("bridge/status"), Some(ONLINE));
            rig.bus.restart();
        } else {
            rig.bus.restart();
            rig.bus.fence(&[]);
            rig.broker.restart();
        }
        let _battery = rig.bus.serve(battery());
        rig.wait_retained("in the end", &battery().topics(258));
    }
}

// ---------------------------------------------------------------------------------------- end

#[test]
fn sigterm_under_load_leaves_nothing_behind() {
    // Values that are still on their way do not outlive the unpublishing.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    let load = Load::start(&rig.bus);
    rig.client
        .wait(0, "load", |message| message.topic == n("tank/1/Load/0"));
    bridge.terminate();
    load.finish();
    rig.wait_retained("after the end", &BTreeMap::new());
}

#[test]
fn sigterm_is_obeyed_in_time_whatever_the_broker_does() {
    // A broker that stalls may cost five seconds, not more; one that is absent costs nothing.
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Good);
    let mut bridge = bridge_to(&bus, &broker, "--retain true --keep-alive 0");
    broker.wait_published(0, &n(SOC), &value("87.5"));
    broker.stall();
    let long = "x".repeat(10_000);
    for round in 0..1_000 {
        peer.changed("/ProductName", s(&format!("{round}{long}")));
    }
    bus.fence(&[&peer]);
    let start = Instant::now();
    bridge.signal(Signal::TERM);
    assert_eq!(bridge.wait_exit(Duration::from_secs(20)).code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );

    let Some(absent) = Broker::absent() else {
        return;
    };
    let (address, server) = (bus.address(), format!("127.0.0.1:{}", absent.port));
    let mut bridge = Bridge::spawn(&[
        "--dbus",
        &address,
        "--mqtt-server",
        &server,
        "--portal-id",
        PORTAL,
    ]);
    bridge.wait_log(&[&absent.port.to_string()]);
    let start = Instant::now();
    bridge.signal(Signal::TERM);
    assert_eq!(bridge.wait_exit(Duration::from_secs(20)).code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn sigterm_is_obeyed_whatever_the_bus_does() {
    // Stopped or gone: what was published is taken back all the same.
    for kill in [true, false] {
        let Some(mut rig) = Rig::start() else { return };
        let _battery = rig.bus.serve(battery());
        let mut bridge = rig.bridge("--retain true --keep-alive 0");
        rig.wait_retained("at first", &battery().topics(258));
        if kill {
            rig.bus.kill();
        } else {
            rig.bus.pause();
        }
        bridge.terminate();
        rig.wait_retained("after the end", &BTreeMap::new());
    }
}

#[test]
fn a_configuration_mistake_is_one_sentence_and_status_2() {
    // What and where, on stderr; nothing was tried before.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bridge.toml");
    std::fs::write(&file, "keep-alive = \"soon\"\n").unwrap();
    let file = file.to_str().unwrap();
    for (args, word) in [
        (vec!["--portal-id", "a/b"], "portal-id"),
        (vec!["--portal-id", "a+b"], "portal-id"),
        (vec!["--portal-id", ""], "portal-id"),
        (
            vec!["--portal-id", PORTAL, "--keep-alive", "soon"],
            "keep-alive",
        ),
        (
            vec!["--portal-id", PORTAL, "--mqtt-server", "host:99999"],
            "--mqtt-server",
        ),
        (vec!["--portal-id", PORTAL, "--retain", "perhaps"], "retain"),
        (
            vec!["--portal-id", PORTAL, "--no-such-flag"],
            "no-such-flag",
        ),
        (
            vec!["--config", "/nonexistent/bridge.toml"],
            "/nonexistent/bridge.toml",
        ),
        (vec!["--config", file], file),
    ] {
        let mut bridge = Bridge::spawn(&args);
        let status = bridge.wait_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(2), "{args:?}");
        bridge.wait_log(&[word]);
    }
}
