//! The programs around the bridge as their user meets them: `demo`, `record` and `replay` as processes,
//! with a real bus and clients that follow what is printed to the letter.
//!
//! Their rules are tested where they are, in `src/tools`. Here is what only the real binary shows.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bridge::Bridge;
use crate::support::broker::free_port;
use crate::support::bus::Bus;
use crate::support::client::Client;
use crate::support::peer::Peer;
use crate::support::process::Process;
use crate::support::service::BUS_ITEM;
use crate::support::wire::{ERROR, Message, V, array, s, variant};
use crate::support::{PATIENCE, poll};

/// How long a program may take to end when it is asked to.
const END: Duration = Duration::from_secs(10);

/// Asks a program to end as Ctrl-C does, and checks that it does so well.
fn interrupt(program: &mut Bridge) {
    program.signal(Signal::INT);
    assert_eq!(program.wait_exit(END).code(), Some(0), "after SIGINT");
}

// --- recordings ---

/// A recording of the demo, read by other means than the program's own.
struct Recording {
    head: Value,
    changes: Vec<Value>,
}

impl Recording {
    fn read(file: &Path) -> Recording {
        let text = fs::read_to_string(file).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        Recording {
            head: lines.next().unwrap(),
            changes: lines.collect(),
        }
    }

    fn read_all(folder: &Path) -> BTreeMap<String, Recording> {
        let entries = fs::read_dir(folder).unwrap();
        let files = entries.map(|entry| entry.unwrap().path());
        files
            .filter(|file| file.extension().is_some_and(|e| e == "jsonl"))
            .map(|file| Recording::read(&file))
            .map(|recording| (recording.name().to_owned(), recording))
            .collect()
    }

    fn name(&self) -> &str {
        self.head["service"].as_str().unwrap()
    }

    /// Every change, later by some milliseconds: so that there is time to look at the start.
    fn write_later(&self, folder: &Path, later_ms: u64) {
        let mut file = File::create(folder.join(format!("{}.jsonl", self.name()))).unwrap();
        writeln!(file, "{}", self.head).unwrap();
        for change in &self.changes {
            let mut change = change.clone();
            change["ts_ms"] = (change["ts_ms"].as_u64().unwrap() + later_ms).into();
            writeln!(file, "{change}").unwrap();
        }
    }

    /// The values that each path had, in order: type, value and text.
    fn histories(&self) -> BTreeMap<&str, Vec<[&Value; 3]>> {
        let mut histories: BTreeMap<&str, Vec<[&Value; 3]>> = BTreeMap::new();
        for (path, item) in self.head["items"].as_object().unwrap() {
            histories.insert(path, vec![["t", "v", "text"].map(|key| &item[key])]);
        }
        for change in &self.changes {
            let path = change["path"].as_str().unwrap();
            let history = histories.entry(path).or_default();
            history.push(["t", "v", "text"].map(|key| &change[key]));
        }
        histories
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings")
}

/// A value of a recording: D-Bus type and JSON.
fn typed(kind: &str, json: &Value) -> V {
    let integer = || json.as_i64().unwrap_or_else(|| panic!("{kind}: {json}"));
    match kind {
        "y" => V::Y(integer().try_into().unwrap()),
        "n" => V::N(integer().try_into().unwrap()),
        "q" => V::Q(integer().try_into().unwrap()),
        "i" => V::I(integer().try_into().unwrap()),
        "u" => V::U(integer().try_into().unwrap()),
        "d" => V::D(json.as_f64().unwrap()),
        "b" => V::B(json.as_bool().unwrap()),
        "s" => s(json.as_str().unwrap()),
        _ => {
            let element = kind.strip_prefix('a').unwrap();
            let elements = json.as_array().unwrap();
            array(element, elements.iter().map(|json| typed(element, json)))
        }
    }
}

fn call(peer: &Peer, service: &str, path: &str, member: &str, args: &[V]) -> Message {
    peer.call(Message::call(service, path, BUS_ITEM, member).with(args))
}

/// What a service says of all its items: by path, what it says by key.
fn get_items(peer: &Peer, service: &str) -> BTreeMap<String, BTreeMap<String, V>> {
    let reply = call(peer, service, "/", "GetItems", &[]);
    let items = entries(&reply.args()[0]);
    items
        .into_iter()
        .map(|(path, facets)| (path, entries(&facets).into_iter().collect()))
        .collect()
}

/// The entries of a dict with text keys, its values out of their variants.
fn entries(dict: &V) -> Vec<(String, V)> {
    let V::Array(_, elements) = dict else {
        panic!("{dict:?} is no dict");
    };
    let pair = |element: &V| match element {
        V::Entry(entry) => match entry.as_ref() {
            (V::S(key), V::Variant(value)) => (key.clone(), value.as_ref().clone()),
            (V::S(key), value) => (key.clone(), value.clone()),
            other => panic!("{other:?} in a dict"),
        },
        other => panic!("{other:?} in a dict"),
    };
    elements.iter().map(pair).collect()
}

fn get_value(peer: &Peer, service: &str, path: &str) -> V {
    match call(peer, service, path, "GetValue", &[]).args().as_slice() {
        [V::Variant(value)] => value.as_ref().clone(),
        other => panic!("{service} {path}: {other:?}"),
    }
}

fn is_owned(peer: &Peer, service: &str) -> bool {
    peer.driver("NameHasOwner", &[s(service)]).args() == [V::B(true)]
}

/// Recordings whose changes begin three seconds after the start, at the speed that goes with them.
fn late_recordings() -> (TempDir, &'static str) {
    let folder = tempfile::tempdir().unwrap();
    for recording in Recording::read_all(&fixtures()).values() {
        recording.write_later(folder.path(), 30_000);
    }
    (folder, "10")
}

#[test]
fn replay_serves_what_was_recorded_and_record_writes_it_again() {
    let Some(bus) = Bus::start() else { return };
    let (folder, speed) = late_recordings();
    let recordings = Recording::read_all(folder.path());
    let out = tempfile::tempdir().unwrap();
    let (address, from, to) = (
        bus.address(),
        folder.path().display().to_string(),
        out.path().display().to_string(),
    );
    let mut record = Bridge::spawn(&["record", "--dbus", &address, "--out", &to]);
    let mut replay = Bridge::spawn(&["replay", "--dbus", &address, "--speed", speed, &from]);

    let changes: usize = recordings.values().map(|all| all.changes.len()).sum();
    let said = replay.wait_log(&["replaying", "Ctrl-C ends it"]);
    let expected = format!("replaying {} services", recordings.len());
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.contains(&format!("and {changes} changes")), "{said}");

    // The start, as another client of the bus sees it.
    let peer = bus.peer();
    for (name, recording) in &recordings {
        let served = get_items(&peer, name);
        let items = recording.head["items"].as_object().unwrap();
        assert_eq!(served.len(), items.len(), "{name}");
        for (path, item) in items {
            let facets = &served[path];
            let kind = item["t"].as_str().unwrap();
            for (key, recorded) in [
                ("Value", "v"),
                ("Min", "min"),
                ("Max", "max"),
                ("Default", "default"),
            ] {
                let expected = item.get(recorded).map(|json| typed(kind, json));
                assert_eq!(facets.get(key), expected.as_ref(), "{name} {path} {key}");
            }
            if let Some(text) = item["text"].as_str() {
                assert_eq!(facets.get("Text"), Some(&s(text)), "{name} {path}");
            }
        }
    }
    replay.wait_log(&["all played"]);

    // The end. The services stay, and take writes unless the schema says that they do not.
    for (name, recording) in &recordings {
        for (path, history) in recording.histories() {
            let [kind, value, _] = history[history.len() - 1];
            let expected = typed(kind.as_str().unwrap(), value);
            assert_eq!(get_value(&peer, name, path), expected, "{name} {path}");
        }
    }
    let vebus = "com.victronenergy.vebus.ttyS4";
    let write = |path: &str, value: V| {
        let answer = call(&peer, vebus, path, "SetValue", &[variant(value)]);
        assert_ne!(answer.kind, ERROR, "{answer:?}");
        answer.args()
    };
    assert_eq!(write("/Mode", V::I(1)), [V::I(0)]);
    assert_eq!(get_value(&peer, vebus, "/Mode"), V::U(1));
    assert_ne!(write("/State", V::I(1)), [V::I(0)]);

    // What was recorded of it is what was played, and the write.
    interrupt(&mut record);
    interrupt(&mut replay);
    let summary = format!(
        "recorded {} services with {} changes in {to}",
        recordings.len(),
        changes + 1
    );
    record.wait_log(&[&summary]);
    let again = Recording::read_all(out.path());
    assert_eq!(
        again.keys().collect::<Vec<_>>(),
        recordings.keys().collect::<Vec<_>>()
    );
    for (name, recording) in &recordings {
        let (first, second) = (&recording.head["items"], &again[name].head["items"]);
        let (played, mut written) = (recording.histories(), again[name].histories());
        if name == vebus {
            let write = written.get_mut("/Mode").unwrap().pop().unwrap();
            assert_eq!([write[0], write[1]], [&Value::from("u"), &Value::from(1)]);
        }
        for (path, history) in &played {
            assert_eq!(first.get(path), second.get(path), "{name} {path}");
            assert_eq!(written.get(path), Some(history), "{name} {path}");
        }
        assert_eq!(played.len(), written.len(), "{name}");
    }

    // Nothing stays behind.
    for name in recordings.keys() {
        assert!(!is_owned(&peer, name), "{name}");
    }
}

#[test]
fn a_tool_that_cannot_do_it_says_why_in_one_sentence() {
    let Some(bus) = Bus::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (address, empty) = (bus.address(), folder.path().display().to_string());
    let check = |arguments: &[&str], expected: &[&str]| {
        let mut tool = Bridge::spawn(arguments);
        let status = tool.wait_exit(PATIENCE);
        let line = tool.wait_log(expected);
        assert_eq!(status.code(), Some(1), "{line}");
        assert!(line.starts_with("dbus-mqtt: "), "{line}");
    };
    let nowhere = "unix:path=/nonexistent/bus";
    let own = fixtures().display().to_string();
    check(
        &["record", "--dbus", nowhere, "--out", &empty],
        &["cannot connect to the D-Bus at unix:path=/nonexistent/bus: No such file"],
    );
    check(
        &["replay", "--dbus", nowhere, &own],
        &["cannot connect to the D-Bus at unix:path=/nonexistent/bus: No such file"],
    );
    check(
        &["replay", "--dbus", &address, &empty],
        &["no recordings in", &empty],
    );
    check(
        &["replay", "--dbus", &address, &own, &own],
        &["com.victronenergy.battery.ttyS5", "only one owner"],
    );
    let battery = "com.victronenergy.battery.ttyS5";
    let file = format!("{own}/{battery}.jsonl");
    let replay = Bridge::spawn(&["replay", "--dbus", &address, &file]);
    replay.wait_log(&["replaying 1 services"]);
    check(
        &["replay", "--dbus", &address, &file],
        &[&format!("the bus name {battery} is taken")],
    );
    check(
        &["record", "--dbus", &address, "--out", &own, battery],
        &[&format!("{battery}.jsonl exists already")],
    );
    // What is not there leaves no folder behind.
    let none = folder.path().join("none");
    let to = none.display().to_string();
    let record = ["record", "--dbus", &address, "--out", &to, "--seconds", "1"];
    let with = |services: &[&'static str]| [&record[..], services].concat();
    check(
        &with(&["com.victronenergy.nosuch", "tank"]),
        &["not recorded: com.victronenergy.nosuch, tank (not on this bus"],
    );
    assert!(!none.exists());
    // Beside one that is there it is told too.
    check(&with(&["battery", "tank"]), &["not recorded: tank (not on"]);
    assert!(none.join(format!("{battery}.jsonl")).exists());
}

#[test]
fn a_tool_ends_when_the_bus_goes() {
    let Some(mut bus) = Bus::start() else { return };
    let out = tempfile::tempdir().unwrap();
    let (address, to) = (bus.address(), out.path().display().to_string());
    let file = fixtures().display().to_string();
    let mut replay = Bridge::spawn(&["replay", "--dbus", &address, &file]);
    let mut record = Bridge::spawn(&["record", "--dbus", &address, "--out", &to]);
    replay.wait_log(&["replaying"]);
    record.wait_log(&["recording com.victronenergy.settings"]);
    bus.kill();
    for tool in [&mut replay, &mut record] {
        let status = tool.wait_exit(PATIENCE);
        tool.wait_log(&["dbus-mqtt: ", "the D-Bus connection was lost"]);
        assert_eq!(status.code(), Some(1));
    }
    assert!(out.path().join("com.victronenergy.settings.jsonl").exists());
}

// --- the demo ---

/// A running demo, and what it printed. Its files for the time being are in a folder of its own.
struct Demo {
    program: Bridge,
    folder: TempDir,
    port: u16,
    websocket: u16,
    commands: Vec<String>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        let folder = tempfile::Builder::new().prefix("demo").tempdir().unwrap();
        let place = folder.path().display().to_string();
        let arguments: Vec<&str> = ["demo"].iter().chain(arguments).copied().collect();
        let program = Bridge::spawn_with(&arguments, &[("TMPDIR", &place)]);
        // The last of what it prints before it is at work.
        program.wait_log(&["/Mode on"]);
        let address = program.wait_log(&["  MQTT  "]);
        let websocket = program.wait_log(&["  WebSocket  "]);
        let commands = program.log_with(&["  dbus-mqtt "]);
        Demo {
            folder,
            port: number_after(&address, "127.0.0.1:"),
            websocket: number_after(&websocket, "ws://127.0.0.1:"),
            commands: commands.iter().map(|line| line.trim().to_owned()).collect(),
            program,
        }
    }

    fn client(&self) -> Client {
        Client::connect(SocketAddr::from(([127, 0, 0, 1], self.port)), None)
    }

    /// Nothing is left where it was: no file, no socket.
    fn assert_gone(&self) {
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 0);
        for port in [self.port, self.websocket] {
            assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "{port}");
        }
    }
}

fn number_after(line: &str, before: &str) -> u16 {
    let rest = line.split_once(before).unwrap().1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// The portal id of the demo, in topics that begin with this letter.
fn topic(kind: char, rest: &str) -> String {
    format!("{kind}/demo00c0ffee/{rest}")
}

#[test]
fn the_demo_prints_what_to_do_and_doing_it_works() {
    let port = free_port();
    let mut demo = Demo::start(&["--port", &port.to_string()]);
    assert_eq!(demo.port, port);
    demo.program.wait_log(&["portal id", "demo00c0ffee"]);
    demo.program.wait_log(&["Look at http://127.0.0.1:"]);
    let [see, switch, again] = demo.commands.as_slice() else {
        panic!("three commands, not {:?}", demo.commands);
    };
    // The README has them without the address, which is the usual one there.
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    for command in &demo.commands {
        let plain = command.replace(&format!(" -q 127.0.0.1:{port}"), "");
        assert!(readme.contains(&plain), "the README has no {plain}");
    }

    // Just as they are printed.
    let seen = demo.folder.path().with_extension("seen");
    let run = |command: &str, to: Stdio| {
        let program = Path::new(env!("CARGO_BIN_EXE_dbus-mqtt"));
        let folder = program.parent().unwrap().display();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec {command}")])
            .env("PATH", format!("{folder}:/usr/bin:/bin"))
            .stdout(to);
        Process::new(shell.stdin(Stdio::null()).spawn().unwrap())
    };
    let window = run(see, File::create(&seen).unwrap().into());
    poll("a value in the window", PATIENCE, || {
        let text = fs::read_to_string(&seen).unwrap();
        text.contains("Dc/Battery/Soc").then_some(())
    });

    let client = demo.client();
    client.subscribe(&topic('N', "#"));
    client.fence();
    let mark = client.mark();
    let status = run(switch, Stdio::null()).wait_exit(PATIENCE);
    assert!(status.success());
    client.expect(
        mark,
        &topic('N', "vebus/276/Mode"),
        r#"{"value": 4, "min": 1, "max": 4}"#,
    );
    client.expect(mark, &topic('N', "vebus/276/State"), r#"{"value": 0}"#);
    client.expect(
        mark,
        &topic('N', "vebus/276/Ac/Out/L1/P"),
        r#"{"value": 0}"#,
    );
    let mark = client.mark();
    assert!(run(again, Stdio::null()).wait_exit(PATIENCE).success());
    client.wait(mark, "power at the output", |message| {
        message.topic == topic('N', "vebus/276/Ac/Out/L1/P") && message.text() != r#"{"value": 0}"#
    });

    // A relay, and what cannot be.
    let relay = "system/0/Relay/1/State";
    let mark = client.mark();
    client.publish(&topic('W', relay), r#"{"value": 1}"#);
    client.expect(
        mark,
        &topic('N', relay),
        r#"{"value": 1, "min": 0, "max": 1}"#,
    );
    client.publish(&topic('W', "vebus/276/Mode"), r#"{"value": 5}"#);
    demo.program.wait_log(&["WARN", "vebus/276/Mode"]);

    interrupt(&mut demo.program);
    client.wait_closed();
    drop(window);
    fs::remove_file(&seen).unwrap();
    demo.assert_gone();
}

#[test]
fn the_demo_takes_the_next_port_and_ends_by_itself() {
    // Somebody has the usual port: this test, or whoever was quicker.
    let port = 1883;
    let _taken = TcpListener::bind(("127.0.0.1", port));
    let mut demo = Demo::start(&["--seconds", "3"]);
    let said = demo
        .program
        .wait_log(&[&format!("port {port} is taken, so MQTT is on port ")]);
    assert_eq!(number_after(&said, "on port "), demo.port);
    assert!(demo.port > port);
    for command in &demo.commands {
        assert!(
            command.contains(&format!(" -q 127.0.0.1:{} ", demo.port)),
            "{command}"
        );
    }
    demo.client();
    TcpStream::connect(("127.0.0.1", demo.websocket)).unwrap();
    assert_eq!(demo.program.wait_exit(PATIENCE).code(), Some(0));
    demo.program.wait_log(&["stopping"]);
    demo.assert_gone();
}

#[test]
fn the_demo_has_as_many_devices_as_asked_for() {
    let port = free_port().to_string();
    let mut demo = Demo::start(&["--devices", "30", "--rate", "500", "--port", &port]);
    demo.program.wait_log(&["installation of 30 devices"]);
    let client = demo.client();
    client.subscribe(&topic('N', "+/+/ProductName"));
    client.publish(&topic('R', "keepalive"), "");
    client.wait_until(0, "30 devices", |messages| {
        let topics: std::collections::BTreeSet<&str> =
            messages.iter().map(|m| m.topic.as_str()).collect();
        // The settings have no product name.
        (topics.len() == 29).then_some(())
    });
    interrupt(&mut demo.program);
    demo.assert_gone();
}
