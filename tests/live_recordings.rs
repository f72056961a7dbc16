//! Recordings of real devices, played through the bridge: at the end every item's last payload is the
//! recorded value, byte for byte as §3 writes it, and no payload on the way was one it never had.
//!
//! The recordings lie beside the repository (`../shared/recordings`, or where `RECORDINGS` points);
//! without them the test says so and plays those of the repository's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods // tests have clocks
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use support::json::payload;
use support::rig::{PORTAL, Rig, difference, n, value};
use support::service::{Item, Service, items_changed, properties_changed};
use support::wire::{Message, V, array, s};

/// Items that are never published (§4.7), by service type and path.
const BLOCKED: [(&str, &str); 2] = [
    ("vebus", "/Interfaces/Mk2/Tunnel"),
    ("paygo", "/LVD/Threshold"),
];
/// Items whose text is masked (§4.7).
const SECRET: [(&str, &str); 2] = [
    ("settings", "/Settings/Services/AccessPointPassword"),
    ("settings", "/Settings/Ble/Service/Pincode"),
];

/// One file: a service as it was, and what changed.
struct Recording {
    file: String,
    start: Service,
    bursts: Vec<Vec<(String, V)>>,
}

impl Recording {
    fn read(file: &Path) -> Recording {
        let text = std::fs::read_to_string(file).unwrap();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let head = lines.next().unwrap();
        let changes: Vec<Value> = lines.collect();
        let items = head["items"].as_object().unwrap();
        let paths: BTreeSet<&str> = items
            .keys()
            .map(String::as_str)
            .chain(
                changes
                    .iter()
                    .map(|change| change["path"].as_str().unwrap()),
            )
            .collect();
        // Old services answer on the nodes of the tree too; those are not items.
        let inner = |path: &str| {
            let below = format!("{}/", path.trim_end_matches('/'));
            paths
                .iter()
                .any(|other| other.starts_with(&below) && *other != path)
        };

        let mut start = Service::new(head["service"].as_str().unwrap());
        for (path, item) in items.iter().filter(|(path, _)| !inner(path)) {
            let kind = item["t"].as_str().unwrap();
            // Some services announce bounds that their own type cannot hold.
            let bound = |key: &str| {
                item.get(key).map(|bound| match bound.as_i64() {
                    Some(number) if i32::try_from(number).is_err() => V::X(number),
                    _ => typed(kind, bound),
                })
            };
            start.items.insert(
                path.clone(),
                Item {
                    value: typed(kind, &item["v"]),
                    min: bound("min"),
                    max: bound("max"),
                    text: item["text"].as_str().map(str::to_owned),
                },
            );
        }
        let mut bursts: Vec<Vec<(String, V)>> = Vec::new();
        let mut last_ms = None;
        for change in &changes {
            let path = change["path"].as_str().unwrap();
            if inner(path) {
                continue;
            }
            let entry = (
                path.to_owned(),
                typed(change["t"].as_str().unwrap(), &change["v"]),
            );
            let now_ms = change["ts_ms"].as_u64();
            match bursts.last_mut() {
                Some(burst)
                    if now_ms == last_ms && !burst.iter().any(|(other, _)| other == path) =>
                {
                    burst.push(entry);
                }
                _ => bursts.push(vec![entry]),
            }
            last_ms = now_ms;
        }
        let file = file.file_name().unwrap().to_string_lossy().into_owned();
        Recording {
            file,
            start,
            bursts,
        }
    }

    /// The service as it is after this many bursts.
    fn after(&self, bursts: usize) -> Service {
        let mut service = self.start.clone();
        for (path, value) in self.bursts[..bursts].iter().flatten() {
            let item = service.items.entry(path.clone());
            item.and_modify(|item| item.value = value.clone())
                .or_insert(Item {
                    value: value.clone(),
                    min: None,
                    max: None,
                    text: None,
                });
        }
        service
    }

    /// The device instance, which none of the recordings changes on the way.
    fn instance(&self) -> String {
        let of = |service: &Service| match service
            .items
            .get("/DeviceInstance")
            .map(|item| &item.value)
        {
            None | Some(V::Array(..)) => {
                match service.items.get("/Identifier").map(|item| &item.value) {
                    Some(V::S(text)) => text.replace(['+', '#', '/'], "_"),
                    _ => "0".to_owned(),
                }
            }
            Some(value) => support::json::json(value),
        };
        let instance = of(&self.start);
        assert_eq!(
            of(&self.after(self.bursts.len())),
            instance,
            "{}",
            self.file
        );
        instance
    }

    /// What is published of it in a state.
    fn published(&self, service: &Service) -> BTreeMap<String, String> {
        let kind = service.kind();
        let mut topics = BTreeMap::new();
        for (path, item) in &service.items {
            if BLOCKED.contains(&(kind, path.as_str())) {
                continue;
            }
            let topic = n(&format!("{kind}/{}{path}", self.instance()));
            topics.insert(topic, published(kind, path, &item.value, item));
        }
        topics
    }

    fn signals(&self) -> Vec<Message> {
        let signal = |burst: &Vec<(String, V)>| match burst.as_slice() {
            [(path, value)] => properties_changed(path, value.clone()),
            several => items_changed(
                several
                    .iter()
                    .map(|(path, value)| (path.as_str(), value.clone())),
            ),
        };
        self.bursts.iter().map(signal).collect()
    }
}

/// The payload of one item with this value.
fn published(kind: &str, path: &str, v: &V, item: &Item) -> String {
    let shown = match v {
        V::S(text) if SECRET.contains(&(kind, path)) && !text.is_empty() => s("******"),
        _ if kind == "system" && path == "/Serial" => s(PORTAL),
        other => other.clone(),
    };
    payload(&shown, item.min.as_ref(), item.max.as_ref())
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
        "x" => V::X(integer()),
        "t" => V::T(json.as_u64().unwrap()),
        "d" => V::D(json.as_f64().unwrap()),
        "b" => V::B(json.as_bool().unwrap_or_else(|| integer() != 0)),
        "s" => s(json.as_str().unwrap()),
        _ => match (kind.strip_prefix('a'), json) {
            (Some(element), Value::Array(elements)) => {
                array(element, elements.iter().map(|json| typed(element, json)))
            }
            _ => panic!("a recording with type {kind}: {json}"),
        },
    }
}

/// The files to play, sorted.
fn recordings() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("RECORDINGS")
        .map_or_else(|| root.join("../shared/recordings"), PathBuf::from);
    let own = root.join("tests/fixtures/recordings");
    let folder = if shared.is_dir() {
        shared
    } else {
        let text = format!(
            "{} is not there: playing {}",
            shared.display(),
            own.display()
        );
        writeln!(std::io::stderr(), "recordings: {text}").ok();
        own
    };
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "jsonl")
    });
    files.sort();
    assert!(!files.is_empty(), "no recordings in {}", folder.display());
    files.iter().map(|file| Recording::read(file)).collect()
}

/// Sorts the recordings into sets that can be on one bus: no name twice, no instance of a type twice.
fn sets(recordings: Vec<Recording>) -> Vec<Vec<Recording>> {
    let mut sets: Vec<Vec<Recording>> = Vec::new();
    for recording in recordings {
        let clashes = |other: &Recording| {
            let (a, b) = (&recording.start, &other.start);
            a.name == b.name || (a.kind() == b.kind() && recording.instance() == other.instance())
        };
        match sets.iter_mut().find(|set| !set.iter().any(clashes)) {
            Some(set) => set.push(recording),
            None => sets.push(vec![recording]),
        }
    }
    sets
}

/// Waits until the last payload of each topic since a mark is the expected one.
fn wait_last(rig: &Rig, mark: usize, what: &str, expected: &BTreeMap<String, String>) {
    let start = Instant::now();
    loop {
        let mut last = rig.client.last(mark);
        last.retain(|topic, _| expected.contains_key(topic));
        if last == *expected {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what}:\n{}",
            difference(expected, &last)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Plays one set and holds every payload against the recording.
fn play(rig: &Rig, set: &[Recording]) {
    let names: Vec<&str> = set
        .iter()
        .map(|recording| recording.file.as_str())
        .collect();
    let mark = rig.client.mark();
    let peers: Vec<_> = set
        .iter()
        .map(|recording| rig.bus.serve(recording.start.clone()))
        .collect();
    let start = set
        .iter()
        .flat_map(|recording| recording.published(&recording.start))
        .collect();
    wait_last(rig, mark, &format!("the start of {names:?}"), &start);

    // All services at once, a few messages of each in turn, as fast as the bus takes them.
    let mut queues: Vec<_> = set
        .iter()
        .map(|recording| recording.signals().into_iter())
        .collect();
    loop {
        let mut more = false;
        for (peer, queue) in peers.iter().zip(&mut queues) {
            let some: Vec<Message> = queue.by_ref().take(16).collect();
            more |= !some.is_empty();
            peer.burst(some);
        }
        if !more {
            break;
        }
    }
    let end: BTreeMap<String, String> = set
        .iter()
        .flat_map(|recording| recording.published(&recording.after(recording.bursts.len())))
        .collect();
    wait_last(rig, mark, &format!("the end of {names:?}"), &end);
    rig.wait_retained(&format!("the end of {names:?}"), &end);

    // Nothing was published that the item never was, and nothing that the recordings do not have.
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for recording in set {
        let last = recording.after(recording.bursts.len());
        let kind = last.kind();
        let starts = recording
            .start
            .items
            .iter()
            .map(|(path, item)| (path, &item.value));
        let changes = recording
            .bursts
            .iter()
            .flatten()
            .map(|(path, value)| (path, value));
        for (path, v) in starts.chain(changes) {
            let topic = n(&format!("{kind}/{}{path}", recording.instance()));
            let all = allowed.entry(topic).or_default();
            all.insert(published(kind, path, v, &last.items[path]));
        }
    }
    let own = [
        "system/0/Serial",
        "keepalive",
        "bridge/status",
        "heartbeat",
        "full_publish_completed",
    ]
    .map(n);
    for message in rig.client.since(mark) {
        if message.topic.starts_with("N/") && !own.contains(&message.topic) {
            let known = allowed
                .get(&message.topic)
                .is_some_and(|all| all.contains(message.text()));
            assert!(
                known,
                "{} {} was never recorded",
                message.topic,
                message.text()
            );
        }
    }
    assert!(
        !end.keys()
            .any(|topic| BLOCKED.iter().any(|(_, path)| topic.ends_with(path)))
    );
    drop(peers);
    rig.wait_retained(&format!("after {names:?}"), &BTreeMap::new());
    rig.client.fence(); // the last of it has come here as well
}

#[test]
fn every_recording_ends_with_its_last_values() {
    let sets = sets(recordings());
    let Some(rig) = Rig::start() else { return };
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    for set in &sets {
        play(&rig, set);
    }
    bridge.assert_alive();
    assert_eq!(
        rig.client.last(0)[&n("system/0/Serial")],
        value(&format!("\"{PORTAL}\""))
    );
}
