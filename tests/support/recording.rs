//! Recordings of real devices: read from their files, and what is published of them, worked out from §3
//! and §4.7 a second time.
//!
//! They lie beside the repository (`../shared/recordings`, or where `RECORDINGS` points); without them
//! those of the repository's own are taken, and it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json::payload;
use super::rig::{PORTAL, n};
use super::service::{Item, Service, items_changed, properties_changed};
use super::wire::{Message, V, array, s};

/// Items that are never published (§4.7), by service type and path.
pub const BLOCKED: [(&str, &str); 2] = [
    ("vebus", "/Interfaces/Mk2/Tunnel"),
    ("paygo", "/LVD/Threshold"),
];
/// Items whose text is masked (§4.7).
const SECRET: [(&str, &str); 2] = [
    ("settings", "/Settings/Services/AccessPointPassword"),
    ("settings", "/Settings/Ble/Service/Pincode"),
];

/// One file: a service as it was, and what changed.
#[derive(Clone)]
pub struct Recording {
    pub file: String,
    pub start: Service,
    pub bursts: Vec<Vec<(String, V)>>,
    /// When each burst came, in milliseconds of the recording.
    pub times_ms: Vec<u64>,
}

impl Recording {
    pub fn read(file: &Path) -> Recording {
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
        let mut times_ms = Vec::new();
        for change in &changes {
            let path = change["path"].as_str().unwrap();
            if inner(path) {
                continue;
            }
            let entry = (
                path.to_owned(),
                typed(change["t"].as_str().unwrap(), &change["v"]),
            );
            let now_ms = change["ts_ms"].as_u64().unwrap();
            match bursts.last_mut() {
                Some(burst)
                    if times_ms.last() == Some(&now_ms)
                        && !burst.iter().any(|(other, _)| other == path) =>
                {
                    burst.push(entry);
                }
                _ => {
                    bursts.push(vec![entry]);
                    times_ms.push(now_ms);
                }
            }
        }
        let file = file.file_name().unwrap().to_string_lossy().into_owned();
        Recording {
            file,
            start,
            bursts,
            times_ms,
        }
    }

    /// The service as it is after this many bursts.
    pub fn after(&self, bursts: usize) -> Service {
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
    pub fn instance(&self) -> String {
        let instance = instance(&self.start);
        let end = self.after(self.bursts.len());
        assert_eq!(self::instance(&end), instance, "{}", self.file);
        instance
    }

    /// What is published of it in a state.
    pub fn published(&self, service: &Service) -> BTreeMap<String, String> {
        topics(service, &self.instance())
    }
}

/// The signal of one burst: a single change is told by `PropertiesChanged`.
pub fn signal(burst: &[(String, V)]) -> Message {
    match burst {
        [(path, value)] => properties_changed(path, value.clone()),
        several => items_changed(
            several
                .iter()
                .map(|(path, value)| (path.as_str(), value.clone())),
        ),
    }
}

/// The device instance of a service (§1).
pub fn instance(service: &Service) -> String {
    let value = |path: &str| service.items.get(path).map(|item| &item.value);
    match value("/DeviceInstance") {
        None | Some(V::Array(..)) => match value("/Identifier") {
            Some(V::S(text)) => text.replace(['+', '#', '/'], "_"),
            _ => "0".to_owned(),
        },
        Some(V::S(text)) => text.trim().parse::<i64>().unwrap().to_string(),
        Some(value) => super::json::json(value),
    }
}

/// What is published of a service under this instance.
pub fn topics(service: &Service, instance: &str) -> BTreeMap<String, String> {
    let kind = service.kind();
    let mut topics = BTreeMap::new();
    for (path, item) in &service.items {
        if !BLOCKED.contains(&(kind, path.as_str())) {
            let topic = n(&format!("{kind}/{instance}{path}"));
            topics.insert(topic, published(kind, path, &item.value, item));
        }
    }
    topics
}

/// The payload of one item with this value.
pub fn published(kind: &str, path: &str, v: &V, item: &Item) -> String {
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
pub fn recordings() -> Vec<Recording> {
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
pub fn sets(recordings: Vec<Recording>) -> Vec<Vec<Recording>> {
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
