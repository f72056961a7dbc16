//! What reaches the demo from outside: a directory of schema files, and a terminal that goes away.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bridge::Bridge;
use crate::support::broker::free_port;
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::program::folder_of;
use crate::support::{PATIENCE, poll};

/// A demo whose output goes into files or nowhere, with a folder of its own for its temporary files.
struct Demo {
    program: Process,
    folder: TempDir,
    port: u16,
}

impl Demo {
    fn start(before: &[&str], more: &[&str], output: impl Fn() -> Stdio) -> Demo {
        let folder = tempfile::Builder::new().prefix("demo").tempdir().unwrap();
        let port = free_port();
        let program = env!("CARGO_BIN_EXE_dbus-mqtt");
        let words: Vec<&str> = before.iter().copied().chain([program, "demo"]).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["--port", &port.to_string()])
            .args(more)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .spawn()
            .unwrap();
        let demo = Demo {
            program: Process::new(child),
            folder,
            port,
        };
        let client = demo.client();
        client.subscribe("N/demo00c0ffee/bridge/status");
        client.expect(0, "N/demo00c0ffee/bridge/status", r#"{"value": "online"}"#);
        demo
    }

    fn client(&self) -> Client {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        poll("the demo's broker", PATIENCE, || {
            std::net::TcpStream::connect(address).ok()
        });
        Client::connect(address, None)
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn the_demo_follows_an_overlay() {
    let (_folder, overlay) = folder_of(&[(
        "battery.toml",
        "[items]\n\"/Mgmt/Connection\" = { type = \"s\", secret = true }\n",
    )]);
    let demo = Demo::start(&[], &["--schema", &overlay], Stdio::null);
    let client = demo.client();
    client.subscribe("N/demo00c0ffee/+/+/Mgmt/Connection");
    client.publish("R/demo00c0ffee/keepalive", "");
    for (service, masked) in [("battery", true), ("vebus", false)] {
        let (_, message) = client.wait(0, &format!("the connection of the {service}"), |message| {
            message.topic.contains(&format!("/{service}/"))
        });
        let value: Value = serde_json::from_str(message.text()).unwrap();
        assert_eq!(value["value"] == "******", masked, "{}", message.text());
    }
}

#[test]
fn the_demo_gives_no_warning() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port().to_string());
    let place = folder.path().display().to_string();
    let environment = [("RUST_LOG", "warn,dbus_mqtt=info"), ("TMPDIR", &place)];
    let mut demo = Bridge::spawn_with(&["demo", "--port", &port], &environment);
    demo.wait_log(&["WebSocket: ws://127.0.0.1:"]);
    demo.wait_log(&["com.victronenergy.vebus", "items"]);
    demo.terminate();
    assert_eq!(demo.log_with(&["WARN"]), Vec::<String>::new());
}

#[test]
fn a_demo_whose_terminal_is_closed_leaves_nothing_behind() {
    // The kernel sends SIGHUP then, and nobody reads any more what the demo prints.
    for read_on in [true, false] {
        let mut demo = Demo::start(&[], &[], || if read_on { Stdio::null() } else { closed() });
        assert_eq!(demo.files().len(), 1, "the directory of its bus");
        let client = demo.client();
        client.subscribe("N/demo00c0ffee/bridge/status");
        client.expect(0, "N/demo00c0ffee/bridge/status", r#"{"value": "online"}"#);
        demo.program.signal(Signal::HUP);
        assert_eq!(demo.program.wait_exit(PATIENCE).code(), Some(0));
        client.wait_closed();
        assert_eq!(demo.files(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_demo_under_nohup_outlives_its_terminal() {
    let mut demo = Demo::start(&["nohup"], &[], Stdio::null);
    demo.program.signal(Signal::HUP);
    // It still does what it is asked for.
    let client = demo.client();
    client.subscribe("N/demo00c0ffee/full_publish_completed");
    client.publish("R/demo00c0ffee/keepalive", "");
    client.wait(0, "a full publish after SIGHUP", |_| true);
    demo.program.signal(Signal::TERM);
    assert_eq!(demo.program.wait_exit(PATIENCE).code(), Some(0));
}

/// The writing end of a pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}
