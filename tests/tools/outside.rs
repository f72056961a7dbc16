//! What reaches the programs around the bridge from outside: directories of schema files; and a log that
//! nobody takes. The demo's are in `demo_outside.rs`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::bridge::Bridge;
use crate::support::bus::Bus;
use crate::support::process::Process;
use crate::support::program::{folder_of, program, run};
use crate::support::rig::Rig;
use crate::support::service::{BUS_ITEM, Reply, Service, battery};
use crate::support::wire::{Message, V, s, variant};
use crate::support::{PATIENCE, poll};

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

/// A line of the log, a sequence for the terminal, and a mark that turns the text around.
const FORGED: &str =
    "x\n2026-01-01T00:00:00.000Z  WARN forged\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\u{85}\u{7f}y";

/// Whether this is lines of characters that show themselves and do nothing else.
#[track_caller]
fn assert_plain(what: &str, text: &str) {
    let marks = ['\u{202e}', '\u{2028}'];
    let obeyed = |letter: char| letter != '\n' && (letter.is_control() || marks.contains(&letter));
    assert!(!text.contains(obeyed), "{what}: {text:?}");
    let forged = |line: &str| line.starts_with("2026-01-01");
    assert!(!text.lines().any(forged), "{what}: {text}");
}

#[test]
fn s5_9_no_text_from_outside_forges_a_line_or_reaches_a_terminal() {
    let Some(rig) = Rig::start() else { return };
    let names = Service::new("com.victronenergy.tank.evil")
        .item("/Identifier", s(FORGED))
        .item("/ProductName", s("Tank"));
    let named = battery()
        .item("/ProductName", s(FORGED))
        .item("/CustomName", s(FORGED));
    let _peers = [rig.bus.serve(names), rig.bus.serve(named)];
    // One that says it in an error.
    let failing = rig.bus.serve(Service::device("grid", "evil", 5));
    failing.on(|_| Reply::Says("com.example.Error.Odd", FORGED));
    let mut bridge = rig.bridge("--keep-alive 0 --debug");
    // Topics of anybody's making, too.
    rig.client
        .publish("W/e0ff50a097c0/tank/9/\u{202e}\u{2028}x", "{}");
    bridge.wait_log(&["rejected"]);
    let topic = "battery/258/ProductName";
    for words in [
        &["devices"][..],
        &["devices", "--json"],
        &["get", topic],
        &["get", topic, "--json"],
        &["watch", topic, "--count", "1"],
        &["watch", topic, "--count", "1", "--json"],
        &["doctor", "--dbus", &rig.bus.address()],
        &["doctor", "--dbus", &rig.bus.address(), "--json"],
    ] {
        let said = run(&mut program(rig.broker.port, words));
        assert!(
            words[0] == "doctor" || said.status == 0,
            "{words:?} {said:?}"
        );
        assert!(
            words[0] == "doctor" || said.out.contains("forged"),
            "{words:?} {said:?}"
        );
        assert_plain(words[0], &said.out);
        assert_plain(words[0], &said.error);
        for line in said.out.lines().filter(|_| words.contains(&"--json")) {
            assert!(
                serde_json::from_str::<serde_json::Value>(line).is_ok(),
                "{line}"
            );
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out").display().to_string();
    let words = [
        "record",
        "--dbus",
        &rig.bus.address(),
        "--out",
        &to,
        "--seconds",
        "2",
    ];
    let said = run(&mut program(rig.broker.port, &words));
    assert_eq!(said.status, 0, "{said:?}");
    assert_plain("record", &said.out);
    let file = format!("{to}/com.victronenergy.battery.ttyO0.jsonl");
    let recorded = fs::read_to_string(file).unwrap();
    assert_plain("a recording", &recorded);
    assert!(recorded.contains("forged"), "{recorded}");
    bridge.terminate();
    assert_plain("the log", &bridge.log().join("\n"));
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
