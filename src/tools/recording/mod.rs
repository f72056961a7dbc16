//! Recordings of services: JSON Lines, one file per service, in and out.
//!
//! Line 1 is the start state, every other line one change:
//!
//! ```json
//! {"service":"com.victronenergy.battery.ttyO0","origin":"…","items":{"/Soc":{"t":"d","v":87.5,"text":"87.5%"}}}
//! {"ts_ms":3000,"path":"/Soc","t":"d","v":87.4,"text":"87.4%"}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `service` | the bus name |
//! | `origin` | where the recording comes from, for people |
//! | `items` | path to item: all values the service had at the start |
//! | `ts_ms` | milliseconds since the start, never decreasing; changes of one time are one burst |
//! | `t`, `v` | D-Bus signature and value; `ai` with `[]` is an invalid value |
//! | `text` | the text the service gave; may be missing |
//! | `min`, `max`, `default` | where the service announced them |
//!
//! A double that is not a number is written as `"NaN"`, `"Infinity"` or `"-Infinity"`. Reading and
//! writing are exact: what was recorded is what comes back, to the bit and to the type. Nothing
//! here touches a bus.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

use zbus::Variant;

pub mod fault;
mod line;

use self::fault::{Fault, LINE_BYTES_MAX, RecordingError};
use super::ToolError;
use super::item::Item;
use super::value::{self, BusValue, ValueError};
use crate::config::open_regular;
use crate::model::name::SERVICE_PREFIX;
use line::{ChangeLine, Entry, Head, write_line};

/// One service, recorded.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// The bus name.
    pub service: String,
    /// Where it comes from, for people.
    pub origin: String,
    /// All items at the start, by path. None is writable: a recording does not say.
    pub items: BTreeMap<String, Item>,
    /// What changed, in the order in which it did.
    pub changes: Vec<Change>,
}

/// One change of one item.
#[derive(Debug)]
pub struct Change {
    /// Milliseconds since the start.
    pub ts_ms: u64,
    /// The path.
    pub path: String,
    /// The new value.
    pub value: BusValue,
    /// Its text, where it is known.
    pub text: Option<String>,
}

impl Clone for Change {
    fn clone(&self) -> Self {
        Change {
            ts_ms: self.ts_ms,
            path: self.path.clone(),
            value: value::copy(&self.value),
            text: self.text.clone(),
        }
    }
}

impl Recording {
    /// Reads the recording in a file.
    pub fn load(file: &Path) -> Result<Recording, ToolError> {
        let open = open_regular(file);
        let lines = open.map(BufReader::new).map_err(|reason| ToolError::File {
            path: file.to_owned(),
            reason,
        })?;
        Recording::read(lines, file)
    }

    /// Reads a recording; `file` is what errors call it.
    pub fn read(mut lines: impl BufRead, file: &Path) -> Result<Recording, ToolError> {
        let mut recording = Recording::default();
        let mut line = String::new();
        let mut number = 0;
        loop {
            line.clear();
            let mut piece = lines.by_ref().take(LINE_BYTES_MAX + 1);
            let bytes = piece
                .read_line(&mut line)
                .map_err(|reason| ToolError::File {
                    path: file.to_owned(),
                    reason,
                })?;
            if bytes == 0 {
                break;
            }
            number += 1;
            if bytes as u64 > LINE_BYTES_MAX {
                return Err(error(file, number, Fault::Long));
            }
            if number > 1 && line.trim().is_empty() {
                continue;
            }
            let taken = if number == 1 {
                recording.take_head(&line)
            } else {
                recording.take_change(&line)
            };
            taken.map_err(|fault| error(file, number, fault))?;
        }
        if number == 0 {
            return Err(error(file, 1, Fault::Empty));
        }
        Ok(recording)
    }

    /// Writes the recording whole.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut writer = Writer::start(out, &self.service, &self.origin, &self.items)?;
        for change in &self.changes {
            writer.change(change)?;
        }
        writer.flush()
    }

    /// The recording without what old services answer on their tree nodes (`/`, `/Ac`): a path with
    /// items below it and no value itself, which is a dict, invalid, or the text `None`.
    #[must_use]
    pub fn without_tree_nodes(mut self) -> Recording {
        let mut paths: Vec<String> = self.items.keys().cloned().collect();
        paths.extend(self.changes.iter().map(|change| change.path.clone()));
        paths.sort_unstable();
        paths.dedup();
        let is_inner = |path: &str| {
            let prefix = if path == "/" {
                String::from("/")
            } else {
                format!("{path}/")
            };
            let after = paths.partition_point(|other| *other <= prefix);
            paths
                .get(after)
                .is_some_and(|other| other.starts_with(&prefix))
        };
        self.items
            .retain(|path, item| !(is_node_value(&item.value) && is_inner(path)));
        self.changes
            .retain(|change| !(is_node_value(&change.value) && is_inner(&change.path)));
        self
    }

    /// What the service type is: the third part of its name.
    pub fn service_type(&self) -> &str {
        service_type(&self.service)
    }

    fn take_head(&mut self, line: &str) -> Result<(), Fault> {
        let head: Head<'_> = serde_json::from_str(line)?;
        if zbus::names::WellKnownName::try_from(head.service.as_ref()).is_err() {
            return Err(Fault::Name {
                name: head.service.into_owned(),
            });
        }
        if !head.service.starts_with(SERVICE_PREFIX) {
            return Err(Fault::Foreign {
                name: head.service.into_owned(),
            });
        }
        for (path, entry) in head.items {
            let item = entry.item().map_err(|reason| Fault::Value {
                path: path.clone(),
                reason,
            })?;
            check_path(&path)?;
            self.items.insert(path, item);
        }
        self.service = head.service.into_owned();
        self.origin = head.origin.into_owned();
        Ok(())
    }

    fn take_change(&mut self, line: &str) -> Result<(), Fault> {
        let entry: ChangeLine<'_> = serde_json::from_str(line)?;
        let before = self.changes.last().map_or(0, |change| change.ts_ms);
        if entry.ts_ms < before {
            return Err(Fault::Order {
                ts_ms: entry.ts_ms,
                before,
            });
        }
        check_path(&entry.path)?;
        let value = value::signature(&entry.t)
            .and_then(|signature| value::from_json(&signature, &entry.v))
            .map_err(|reason| Fault::Value {
                path: entry.path.clone().into_owned(),
                reason,
            })?;
        self.changes.push(Change {
            ts_ms: entry.ts_ms,
            path: entry.path.into_owned(),
            value,
            text: entry.text.map(Cow::into_owned),
        });
        Ok(())
    }
}

/// Writes a recording line by line, while it happens.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Writes the start state.
    pub fn start(
        mut out: W,
        service: &str,
        origin: &str,
        items: &BTreeMap<String, Item>,
    ) -> io::Result<Self> {
        let head = Head {
            service: service.into(),
            origin: origin.into(),
            items: items
                .iter()
                .map(|(path, item)| Ok((path.clone(), Entry::of(item)?)))
                .collect::<Result<_, ValueError>>()
                .map_err(io::Error::other)?,
        };
        write_line(&mut out, &head)?;
        Ok(Writer { out })
    }

    /// Writes one change.
    pub fn change(&mut self, change: &Change) -> io::Result<()> {
        let line = ChangeLine {
            ts_ms: change.ts_ms,
            path: change.path.as_str().into(),
            t: change.value.value_signature().to_string().into(),
            v: value::to_json(&change.value).map_err(io::Error::other)?,
            text: change.text.as_deref().map(Cow::Borrowed),
        };
        write_line(&mut self.out, &line)
    }

    /// Brings all lines to where they go.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The service type in a bus name: the third dot-separated part (§1).
pub fn service_type(name: &str) -> &str {
    name.split('.').nth(2).unwrap_or("")
}

/// The recordings in these files, and in all `.jsonl` files of these directories, in the order of
/// their names; with each the file it comes from.
pub fn load_all(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Recording)>, ToolError> {
    let mut recordings = Vec::new();
    for path in paths {
        if path.is_dir() {
            let files = files_in(path)?;
            if files.is_empty() {
                return Err(ToolError::NoRecordings { path: path.clone() });
            }
            for file in files {
                let recording = Recording::load(&file)?;
                recordings.push((file, recording));
            }
        } else {
            recordings.push((path.clone(), Recording::load(path)?));
        }
    }
    Ok(recordings)
}

fn is_node_value(value: &Variant<'_>) -> bool {
    matches!(value, Variant::Dict(_))
        || matches!(value, Variant::Str(text) if text.as_str() == "None")
        || value::is_invalid(value)
}

fn check_path(path: &str) -> Result<(), Fault> {
    if zbus::ObjectPath::try_from(path).is_ok() {
        Ok(())
    } else {
        Err(Fault::Path {
            path: path.to_owned(),
        })
    }
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>, ToolError> {
    let fault = |reason| ToolError::File {
        path: directory.to_owned(),
        reason,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        if path.is_file()
            && path
                .extension()
                .is_some_and(|extension| extension == "jsonl")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn error(file: &Path, line: usize, fault: Fault) -> ToolError {
    RecordingError {
        file: file.to_owned(),
        line,
        fault,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"service":"com.victronenergy.battery.ttyO0","origin":"here","items":{"/Soc":{"t":"d","v":87.5,"text":"87.5%"},"/x":{"t":"i","v":3,"min":0,"max":5,"default":1}}}"#;

    fn read(text: &str) -> Result<Recording, String> {
        Recording::read(text.as_bytes(), Path::new("f.jsonl")).map_err(|error| error.to_string())
    }

    fn written(recording: &Recording) -> String {
        let mut out = Vec::new();
        recording.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_read_is_written() {
        let text = [
            HEAD,
            r#"{"ts_ms":0,"path":"/Soc","t":"ai","v":[],"text":""}"#,
            r#"{"ts_ms":3000,"path":"/Soc","t":"d","v":0.1}"#,
            r#"{"ts_ms":3000,"path":"/T","t":"t","v":18446744073709551615}"#,
            r#"{"ts_ms":3001,"path":"/N","t":"d","v":"NaN","text":"Ω"}"#,
            "",
        ]
        .join("\n");
        let recording = read(&text).unwrap();
        assert_eq!(written(&recording), text);
        assert_eq!(recording.service_type(), "battery");
        let item = &recording.items["/x"];
        assert!(value::same(item.min.as_ref().unwrap(), &Variant::I32(0)));
    }

    #[test]
    fn errors_name_file_and_line() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let second = |line: &str| format!("{HEAD}\n{line}\n");
        check("", "f.jsonl, line 1: the file is empty");
        check("x", "f.jsonl, line 1: expected value");
        check(
            r#"{"service":"x","items":{}}"#,
            r#""x" is not a D-Bus name"#,
        );
        check(
            r#"{"service":"org.freedesktop.NetworkManager","items":{}}"#,
            r#""org.freedesktop.NetworkManager" is not a Victron service"#,
        );
        check(&second("{"), "f.jsonl, line 2: EOF");
        check(
            &second(r#"{"ts_ms":1,"path":"/a","t":"i"}"#),
            "missing field `v`",
        );
        check(
            &second(r#"{"ts_ms":1,"path":"/a","t":"y","v":256}"#),
            "line 2: /a: 256 does not fit D-Bus type y",
        );
        check(
            &second(r#"{"ts_ms":1,"path":"/a","t":"ii","v":1}"#),
            "\"ii\" is not a D-Bus signature",
        );
        check(
            &second(r#"{"ts_ms":1,"path":"a","t":"i","v":1}"#),
            "\"a\" is not a D-Bus path",
        );
        let two = second(r#"{"ts_ms":2,"path":"/a","t":"i","v":1}"#);
        check(
            &format!("{two}{}", r#"{"ts_ms":1,"path":"/a","t":"i","v":1}"#),
            "line 3: ts_ms 1 comes after 2",
        );
    }

    #[test]
    fn no_line_is_without_end() {
        let zeros = BufReader::new(io::repeat(b' '));
        let error = Recording::read(zeros, Path::new("f.jsonl")).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("a line of more than 16777216 bytes"),
            "{error}"
        );
        for file in ["/dev/zero", "/dev"] {
            let error = Recording::load(Path::new(file)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{file}: it is a ")), "{error}");
        }
    }

    #[test]
    fn tree_nodes_are_told_from_items() {
        let head = r#"{"service":"com.victronenergy.a.b","items":{
            "/":{"t":"a{sv}","v":{}},"/Ac":{"t":"s","v":"None"},"/Ac/L1":{"t":"ai","v":[]},
            "/Ac/L1/Power":{"t":"ai","v":[]},"/Relay":{"t":"i","v":1},"/Relay/0":{"t":"i","v":0},
            "/Name":{"t":"s","v":"None"}}}"#
            .replace('\n', " ");
        let change = r#"{"ts_ms":0,"path":"/Ac","t":"a{sv}","v":{}}"#;
        let recording = read(&format!("{head}\n{change}"))
            .unwrap()
            .without_tree_nodes();
        let paths: Vec<_> = recording.items.keys().collect();
        assert_eq!(paths, ["/Ac/L1/Power", "/Name", "/Relay", "/Relay/0"]);
        assert!(recording.changes.is_empty());
    }

    #[test]
    fn every_shared_recording_comes_back_whole() {
        let directory = Path::new("../shared/recordings");
        if !directory.is_dir() {
            eprintln!("skipped: no recordings in {}", directory.display());
            return;
        }
        for (file, recording) in load_all(&[directory.to_owned()]).unwrap() {
            let again = read(&written(&recording)).unwrap();
            assert_eq!(written(&again), written(&recording), "{}", file.display());
            for (path, item) in &recording.items {
                assert!(value::same(&item.value, &again.items[path].value), "{path}");
            }
        }
    }
}
