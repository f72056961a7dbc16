//! No descriptors left: the bridge says so, goes on with what it has, and comes back to what it lost as
//! soon as there are some.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::bridge::Bridge;
use crate::support::process::find;
use crate::support::rig::{ONLINE, Rig, both, n, value, wait_one_retained};
use crate::support::service::{BATTERY, battery, vebus};
use crate::support::wire::V;

/// Sets how many descriptors a running bridge may have; what it has it keeps.
fn limit(bridge: &Bridge, descriptors: u64) {
    let pid = Pid::from_raw(i32::try_from(bridge.id()).unwrap());
    let limit = Rlimit {
        current: Some(descriptors),
        maximum: Some(1024),
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

#[test]
fn without_descriptors_the_bridge_says_so_and_heals() {
    // First the broker goes, then the bus; neither can be had again until there are descriptors.
    let Some(mut rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    rig.wait_retained("at first", &battery().topics(258));
    let before = bridge.vitals();

    limit(&bridge, 3);
    rig.broker.kill();
    bridge.wait_log(&["broker", "Too many open files"]);
    peer.update(BATTERY, "/Soc", V::D(1.0));
    rig.bus.fence(&[&peer]); // the bus goes on meanwhile
    rig.broker.restart();
    limit(&bridge, 1024);
    let now = battery().item("/Soc", V::D(1.0));
    rig.wait_retained("the broker is back", &now.topics(258));

    limit(&bridge, 3);
    rig.bus.kill();
    drop(peer);
    rig.wait_retained("without a bus", &BTreeMap::new()); // the broker goes on meanwhile
    bridge.wait_log(&["bus", "Too many open files"]);
    rig.bus.restart();
    limit(&bridge, 1024);
    let _there = [rig.bus.serve(battery()), rig.bus.serve(vebus())];
    let both = both(battery().topics(258), vebus().topics(257));
    rig.wait_retained("the bus is back", &both);
    bridge.wait_vitals("after two times without descriptors", &before);
    bridge.terminate();
    rig.wait_retained("after the end", &BTreeMap::new());
}

#[test]
fn sigterm_is_obeyed_without_descriptors() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    rig.wait_retained("at first", &battery().topics(258));
    limit(&bridge, 3);
    bridge.terminate();
    rig.wait_retained("after the end", &BTreeMap::new());
}

#[test]
fn one_that_starts_with_too_few_descriptors_ends_or_waits_but_does_not_hang() {
    // However many there are: it ends with a sentence, or runs, waits for more, and ends when told to.
    let Some(shell) = find("sh") else { return };
    let Some(rig) = Rig::start() else { return };
    let battery_peer = rig.bus.serve(battery());
    let mut ran = 0;
    for descriptors in 4..=20 {
        // With fewer the system cannot load it.
        let limited = format!("ulimit -n {descriptors}; exec \"$@\"");
        let mut command = std::process::Command::new(&shell);
        command.args(["-c", &limited, "sh"]);
        let mut bridge = Bridge::spawn_under(command, &rig.args("--retain true --keep-alive 0"));
        let ended = crate::support::poll("it to start or to end", crate::support::PATIENCE, || {
            let ended = bridge.exited();
            let runs = bridge.log_with(&["portal id"]).len() == 1;
            (runs || ended.is_some()).then_some(ended)
        });
        if let Some(status) = ended {
            assert_eq!(status.code(), Some(1), "with {descriptors}");
            bridge.wait_log(&["Too many open files"]);
            assert!(bridge.log_with(&["panicked"]).is_empty());
            continue;
        }
        ran += 1;
        // Long enough for an attempt to connect to either side.
        std::thread::sleep(Duration::from_millis(100));
        bridge.terminate();
        assert!(bridge.log_with(&["panicked"]).is_empty());
    }
    assert!(ran > 0, "twenty descriptors are enough");
    rig.wait_retained("after them all", &BTreeMap::new());
    battery_peer.update(BATTERY, "/Soc", V::D(2.0));
    let _bridge = rig.bridge("--retain true --keep-alive 0");
    wait_one_retained(&rig.broker, &n("battery/258/Soc"), Some(&value("2.0")));
    wait_one_retained(&rig.broker, &n("bridge/status"), Some(ONLINE));
}
