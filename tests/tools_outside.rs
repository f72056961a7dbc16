//! What reaches the programs around the bridge from outside: directories of schema files; and a log that
//! nobody takes. The demo's are in `demo_outside.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods // tests have clocks
)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use support::bridge::Bridge;
use support::bus::Bus;
use support::process::Process;
use support::program::folder_of;
use support::service::{BUS_ITEM, Service};
use support::wire::{Message, V, s, variant};
use support::{PATIENCE, poll};

/// A windmill, which no schema knows but the one of the test.
const MILL: &str = "com.victronenergy.windmill.a";

fn mill() -> Service {
    Service::device("windmill", "a", 3)
        .item("/Pin", s("s3cret"))
        .item("/Wind", V::D(12.0))
}

fn windmill() -> (TempDir, String) {
    let rows = "description = \"a windmill\"\n[items]\n\
                \"/Pin\" = { type = \"s\", access = \"rw\", secret = true }\n\
                \"/Wind\" = { type = \"d\", access = \"r\" }\n";
    folder_of(&[("windmill.toml", rows)])
}

fn recorded(folder: &Path) -> String {
    let file = folder.join(format!("{MILL}.jsonl"));
    fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn a_secret_that_only_an_overlay_declares_is_not_recorded() {
    // Neither as it is at the start nor as it becomes; the directory is an argument, or in the
    // environment.
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(mill());
    let (_folder, overlay) = windmill();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (address, to) = (bus.address(), one.path().display().to_string());
    let args = ["record", "--dbus", &address, "--out", &to];
    let by_argument = [&args[..], &["--schema", &overlay]].concat();
    let mut first = Bridge::spawn(&by_argument);
    let to = two.path().display().to_string();
    let args = ["record", "--dbus", &address, "--out", &to];
    let mut second = Bridge::spawn_with(&args, &[("DBUS_MQTT_SCHEMA", &overlay)]);
    for tool in [&first, &second] {
        tool.wait_log(&[&format!("recording {MILL}")]);
    }
    peer.update(MILL, "/Pin", s("an0ther"));
    peer.update(MILL, "/Wind", V::D(99.5));
    for (tool, folder) in [(&mut first, &one), (&mut second, &two)] {
        poll("the change to be on file", PATIENCE, || {
            recorded(folder.path()).contains("99.5").then_some(())
        });
        tool.signal(Signal::INT);
        assert_eq!(tool.wait_exit(PATIENCE).code(), Some(0));
        let text = recorded(folder.path());
        assert!(!text.contains("s3cret"), "{text}");
        assert!(!text.contains("an0ther"), "{text}");
        assert_eq!(text.matches(r#""/Pin""#).count(), 2, "{text}");
        assert!(text.contains("******"), "{text}");
    }
}

#[test]
fn a_replay_takes_no_write_that_an_overlay_speaks_against() {
    let Some(bus) = Bus::start() else { return };
    let (_folder, overlay) = windmill();
    let files = tempfile::tempdir().unwrap();
    let line = format!(
        r#"{{"service":"{MILL}","origin":"","items":{{"/Pin":{{"t":"s","v":"1"}},"/Wind":{{"t":"d","v":1.5}}}}}}"#
    );
    fs::write(files.path().join("mill.jsonl"), line).unwrap();
    let (address, from) = (bus.address(), files.path().display().to_string());
    let peer = bus.peer();
    for (more, taken) in [(&["--schema", &overlay][..], false), (&[], true)] {
        let args = [&["replay", "--dbus", &address][..], more, &[&from]].concat();
        let mut replay = Bridge::spawn(&args);
        replay.wait_log(&["all played"]);
        let write = |path: &str, value: V| {
            let call = Message::call(MILL, path, BUS_ITEM, "SetValue");
            peer.call(call.with(&[variant(value)])).args() == [V::I(0)]
        };
        assert!(write("/Pin", s("2")));
        assert_eq!(write("/Wind", V::D(2.0)), taken, "{more:?}");
        replay.signal(Signal::INT);
        assert_eq!(replay.wait_exit(PATIENCE).code(), Some(0));
    }
}

#[test]
fn a_tool_refuses_a_schema_with_a_mistake() {
    let (_folder, overlay) =
        folder_of(&[("vebus.toml", "[items]\n\"/X\" = { type = \"nonsense\" }\n")]);
    for tool in ["record", "replay", "demo"] {
        if tool == "demo" && cfg!(not(feature = "demo")) {
            continue;
        }
        let file = if tool == "replay" {
            &["x.jsonl"][..]
        } else {
            &[]
        };
        let nowhere = ["--dbus", "unix:path=/nonexistent/bus"];
        let bus = if tool == "demo" { &[][..] } else { &nowhere };
        let mut program = Bridge::spawn(&[&[tool, "--schema", &overlay][..], bus, file].concat());
        assert_eq!(program.wait_exit(PATIENCE).code(), Some(2), "{tool}");
        program.wait_log(&["vebus.toml", "nonsense"]);
    }
}

#[test]
fn a_bridge_whose_log_nobody_takes_goes_on() {
    // A supervisor whose logger has died: each line fails, and the bridge must not.
    let Some(bus) = Bus::start() else { return };
    let (address, server) = (bus.address(), "127.0.0.1:1");
    let child = Command::new(env!("CARGO_BIN_EXE_dbus-mqtt"))
        .args(["--dbus", &address, "-q", server, "--portal-id", "x", "-d"])
        .stdin(Stdio::null())
        .stdout(closed())
        .stderr(closed())
        .spawn()
        .unwrap();
    let mut bridge = Process::new(child);
    let peer = bus.peer();
    peer.serve(mill());
    // It scans, and logs a line for each step of it.
    peer.wait_calls("a scan", 1, |call| call.member == "GetItems");
    bridge.signal(Signal::HUP);
    peer.release_name(MILL);
    peer.own(MILL);
    peer.wait_calls("another scan", 2, |call| call.member == "GetItems");
    assert!(bridge.exited().is_none());
    bridge.signal(Signal::TERM);
    assert_eq!(bridge.wait_exit(PATIENCE).code(), Some(0));
}

/// The writing end of a pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}
