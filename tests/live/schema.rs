//! The schema at run time: directories laid over it, SIGHUP, and what it says of writes (§3, §4.7, §5.6).

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::rig::{Rig, n, r, value, w};
use crate::support::service::{BATTERY, Reply, Service, battery, vebus};
use crate::support::wire::{V, s};
use rustix::process::Signal;
use tempfile::TempDir;

const MASKED: &str = "\"******\"";

fn directory(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write(folder.path(), name, text);
    }
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

fn overlay(folder: &TempDir) -> String {
    format!("--schema {}", folder.path().display())
}

#[test]
fn a_service_type_a_path_a_unit_and_a_label_come_by_schema_alone() {
    // None of them is known to the program as it was built.
    let Some(rig) = Rig::start() else { return };
    let folder = directory(&[
        ("_default.toml", "units = [\"knots\"]\n"),
        (
            "windmill.toml",
            "description = \"a windmill\"\n[items]\n\
             \"/Mode\" = { type = \"i\", access = \"rw\", labels = { 0 = \"furled\", 1 = \"running\" } }\n\
             \"/Wind\" = { type = \"d\", unit = \"knots\", access = \"r\" }\n\
             \"/Pin\" = { type = \"s\", access = \"rw\", secret = true }\n",
        ),
        (
            "vebus.toml",
            "[items]\n\"/My/Note\" = { type = \"s\", access = \"rw\", secret = true }\n",
        ),
    ]);
    let mill = Service::device("windmill", "a", 3)
        .item("/Mode", V::I(0))
        .item("/Wind", V::D(12.0))
        .item("/Pin", s("1234"));
    let peer = rig.bus.serve(mill);
    let _vebus = rig.bus.serve(vebus().item("/My/Note", s("psst")));
    let _bridge = rig.bridge(&overlay(&folder));
    let mark = rig.wake();
    rig.client
        .expect(mark, &n("windmill/3/Pin"), &value(MASKED));
    rig.client
        .expect(mark, &n("windmill/3/Wind"), &value("12.0"));
    rig.client
        .expect(mark, &n("vebus/257/My/Note"), &value(MASKED));

    rig.client
        .publish(&w("windmill/3/Mode"), value("\"Running\""));
    rig.client.expect(mark, &n("windmill/3/Mode"), &value("1"));
    assert_eq!(peer.writes("/Mode"), [V::I(1)]);

    // People see the same as the bridge.
    let shown = Command::new(env!("CARGO_BIN_EXE_dbus-mqtt"))
        .args(["schema", "show", "windmill", "--schema"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in ["windmill: a windmill", "knots", "0 furled, 1 running"] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
}

#[test]
fn a_mistake_at_the_start_ends_it_with_status_2() {
    // File, line and sentence are those of the build.
    let Some(rig) = Rig::start() else { return };
    let folder = directory(&[("battery.toml", "[items]\n\"/Soc\" = { unit = \"knots\" }\n")]);
    let mut bridge = crate::support::bridge::Bridge::spawn(&rig.args(&overlay(&folder)));
    let status = bridge.wait_exit(crate::support::PATIENCE);
    assert_eq!(status.code(), Some(2));
    let file = folder.path().join("battery.toml");
    bridge.wait_log(&[
        "dbus-mqtt: ",
        &format!("{}:2: `knots` is not among the units", file.display()),
    ]);
}

#[test]
fn s4_7_sighup_brings_what_the_schema_says_now() {
    // Blocked, unblocked, secret and no secret any more, on items that are there.
    let Some(rig) = Rig::start() else { return };
    let folder = directory(&[(
        "battery.toml",
        "[items]\n\"/Soc\" = { publish = \"blocked\" }\n\"/Note\" = { type = \"s\", secret = true }\n",
    )]);
    let peer = rig
        .bus
        .serve(battery().item("/Note", s("a")).item("/Hint", s("b")));
    let bridge = rig.bridge(&overlay(&folder));
    let mark = rig.wake();
    rig.client
        .expect(mark, &n("battery/258/Note"), &value(MASKED));
    rig.client
        .expect(mark, &n("battery/258/Hint"), &value("\"b\""));
    assert!(rig.client.payloads(0, &n("battery/258/Soc")).is_empty());

    let mark = rig.client.mark();
    write(
        folder.path(),
        "battery.toml",
        "[items]\n\"/Dc/0/Voltage\" = { publish = \"blocked\" }\n\"/Hint\" = { type = \"s\", secret = true }\n",
    );
    bridge.signal(Signal::HUP);
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("87.5"));
    rig.client.expect(mark, &n("battery/258/Dc/0/Voltage"), "");
    rig.client
        .expect(mark, &n("battery/258/Hint"), &value(MASKED));
    rig.client
        .expect(mark, &n("battery/258/Note"), &value("\"a\""));

    // What changes from now on follows it as well.
    let mark = rig.client.mark();
    peer.update(BATTERY, "/Dc/0/Voltage", V::D(48.0));
    peer.update(BATTERY, "/Hint", s("c"));
    peer.update(BATTERY, "/Soc", V::D(50.0));
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("50.0"));
    let last = rig.client.last(mark);
    assert_eq!(last.get(&n("battery/258/Dc/0/Voltage")), None);
    assert_eq!(last[&n("battery/258/Hint")], value(MASKED));
    let retained = rig.retained();
    assert!(!retained.contains_key(&n("battery/258/Dc/0/Voltage")));
    assert_eq!(retained[&n("battery/258/Hint")], value(MASKED));
}

#[test]
fn a_mistake_at_sighup_changes_nothing_and_is_told_in_one_line() {
    // All or nothing: the good row beside the bad one is not taken over either.
    let Some(rig) = Rig::start() else { return };
    let folder = directory(&[(
        "battery.toml",
        "[items]\n\"/Soc\" = { publish = \"blocked\" }\n",
    )]);
    let _peer = rig.bus.serve(battery());
    let mut bridge = rig.bridge(&overlay(&folder));
    write(
        folder.path(),
        "battery.toml",
        "[items]\n\"/Soc\" = {}\n\"/Serial\" = { unit = \"knots\", identifying = true }\n",
    );
    bridge.signal(Signal::HUP);
    bridge.wait_log(&[
        "ERROR",
        "settings not reloaded: ",
        "battery.toml:3: `knots`",
    ]);
    assert_eq!(bridge.log_with(&["ERROR"]).len(), 1);
    let mark = rig.wake();
    assert!(rig.client.payloads(mark, &n("battery/258/Soc")).is_empty());
    bridge.assert_alive();

    write(folder.path(), "battery.toml", "[items]\n\"/Soc\" = {}\n");
    let mark = rig.client.mark();
    bridge.signal(Signal::HUP);
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("87.5"));
}

#[test]
fn sighup_names_what_needs_a_restart_and_takes_over_the_rest() {
    let Some(rig) = Rig::start() else { return };
    let folder = directory(&[("settings.toml", "retain = true\nkeep-alive = 60\n")]);
    let file = folder.path().join("settings.toml");
    let _peer = rig.bus.serve(battery());
    let bridge = rig.bridge(&format!("--config {}", file.display()));
    write(
        folder.path(),
        "settings.toml",
        "retain = false\nkeep-alive = 0\ndebug = true\n[limits]\nitems-max = 7\n",
    );
    let mark = rig.client.mark();
    bridge.signal(Signal::HUP);
    bridge.wait_log(&["WARN", "retain has changed in the settings"]);
    bridge.wait_log(&["WARN", "items-max has changed in the settings"]);
    // Always alive from now on, and nobody asked; retained still.
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("87.5"));
    assert_eq!(rig.retained()[&n("battery/258/Soc")], value("87.5"));
    assert_eq!(bridge.log_with(&["restart to apply it"]).len(), 2);
}

#[test]
fn limits_and_what_is_logged_follow_sighup() {
    // One write in flight at first, two later; and a log that says more for a while.
    let Some(rig) = Rig::start() else { return };
    let (few, more) = ("writes-in-flight-max = 1\n", "writes-in-flight-max = 2\n");
    let settings = |debug: bool, limit: &str| format!("debug = {debug}\n[limits]\n{limit}");
    let folder = directory(&[("settings.toml", &settings(false, few))]);
    let read_again = |bridge: &crate::support::bridge::Bridge, times: usize| {
        bridge.signal(Signal::HUP);
        crate::support::poll(
            "the settings to be reloaded",
            crate::support::PATIENCE,
            || {
                let said = bridge.log_with(&["settings reloaded"]);
                (said.len() == times).then_some(())
            },
        );
    };
    let peer = rig.bus.peer();
    peer.on_items(|call| match call.member.as_str() {
        "SetValue" => Reply::Later,
        _ => Reply::Normal,
    });
    peer.serve(vebus());
    let bridge = rig.bridge(&format!(
        "--config {}",
        folder.path().join("settings.toml").display()
    ));
    let topic = w("vebus/257/Mode");
    let writes = |count: usize| {
        peer.wait_calls("the writes", count, |call| call.member == "SetValue");
    };
    rig.client.publish(&topic, value("1"));
    writes(1);
    rig.client.publish(&topic, value("2"));
    let refused = [
        "WARN",
        "vebus/257/Mode",
        "1 calls wait for their answers already",
    ];
    let wait_refused = |times: usize| {
        crate::support::poll("a refusal", crate::support::PATIENCE, || {
            (bridge.log_with(&refused).len() == times).then_some(())
        });
    };
    wait_refused(1);
    assert!(bridge.log_with(&["DEBUG"]).is_empty());

    write(folder.path(), "settings.toml", &settings(true, more));
    read_again(&bridge, 1);
    rig.client.publish(&topic, value("3"));
    writes(2);
    // What is blocked is told to those only who want to know.
    let blocked = |tail: &str| {
        let service = Service::device("paygo", tail, 1).item("/LVD/Threshold", V::D(1.0));
        rig.bus.serve(service)
    };
    let one = blocked("one");
    bridge.wait_log(&["DEBUG", "paygo.one", "is blocked"]);
    drop(one);
    bridge.wait_log(&["INFO", "paygo.one", "gone"]);
    assert_eq!(bridge.log_with(&["restart to apply it"]).len(), 0);

    write(folder.path(), "settings.toml", &settings(false, few));
    read_again(&bridge, 2);
    let _two = blocked("two");
    bridge.wait_log(&["INFO", "paygo.two", "items as"]);
    assert!(bridge.log_with(&["DEBUG", "paygo.two"]).is_empty());
    rig.client.publish(&topic, value("4"));
    wait_refused(2);
    peer.release();
    rig.client.publish(&r("keepalive"), "");
    rig.client.expect(0, &n("vebus/257/Mode"), &value("3"));
    assert_eq!(peer.writes("/Mode"), [V::U(1), V::U(3)]);
}

#[test]
fn s5_6_a_label_is_written_as_its_number() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let bridge = rig.bridge("");
    rig.wake();
    for (written, mode) in [("\"Charger only\"", 1), ("\"off\"", 4), ("3", 3)] {
        let mark = rig.client.mark();
        rig.client.publish(&w("vebus/257/Mode"), value(written));
        rig.client
            .expect(mark, &n("vebus/257/Mode"), &value(&mode.to_string()));
    }
    assert_eq!(peer.writes("/Mode"), [V::U(1), V::U(4), V::U(3)]);
    rig.client
        .publish(&w("vebus/257/Mode"), value("\"sideways\""));
    bridge.wait_log(&["vebus/257/Mode rejected: the text is not a label of the item; it has"]);
    assert_eq!(peer.writes("/Mode").len(), 3);
}

#[test]
fn s5_6_what_the_schema_speaks_against_is_passed_on_or_refused() {
    // By default the service decides; with strict-writes the schema does.
    for strict in [false, true] {
        let Some(rig) = Rig::start() else { return };
        let folder = directory(&[(
            "vebus.toml",
            "[items]\n\"/Power\" = { type = \"d\", access = \"rw\", range = [0, 100] }\n\
             \"/State\" = { type = \"u\", access = \"r\" }\n",
        )]);
        let peer = rig.bus.serve(vebus().item("/Power", V::D(1.0)));
        let flag = if strict { "--strict-writes" } else { "" };
        let bridge = rig.bridge(&format!("{flag} {}", overlay(&folder)));
        let mark = rig.wake();
        rig.client.publish(&w("vebus/257/Power"), value("101"));
        rig.client.publish(&w("vebus/257/State"), value("5"));
        rig.client.publish(&w("vebus/257/Power"), value("100"));
        rig.client
            .expect(mark, &n("vebus/257/Power"), &value("100.0"));
        let word = if strict { "rejected" } else { "passed on" };
        bridge.wait_log(&[
            "vebus/257/Power",
            "the schema says that it takes 0 to 100",
            word,
        ]);
        bridge.wait_log(&[
            "vebus/257/State",
            "the schema says that it can only be read",
            word,
        ]);
        let (power, state) = (peer.writes("/Power"), peer.writes("/State"));
        if strict {
            assert_eq!((power, state), (vec![V::D(100.0)], vec![]));
        } else {
            assert_eq!(power, [V::D(101.0), V::D(100.0)]);
            assert_eq!(state, [V::U(5)]);
        }
    }
}
