//! The schema: every mistake in a row is told in one sentence, the schema of this repository has
//! none, and it agrees with what real devices sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dbus_mqtt::schema::{self, DataType};
use serde_json::{Map, Value};

use compile::{Source, compile};

// Build scripts are not tested otherwise.
#[path = "../build/compile.rs"]
mod compile;

/// Each file in `tests/schema/bad` begins with the errors that it must give, `#= line: sentence`.
/// `UPDATE_EXPECT=1` rewrites them; the diff is reviewed like code.
#[test]
fn every_mistake_is_told_in_one_sentence() {
    let default = fs::read_to_string(root("schema/_default.toml")).unwrap();
    let files = files(&root("tests/schema/bad"), "toml");
    assert!(files.len() > 40, "the examples are gone");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let found = if stem.starts_with("default") {
            errors(&[("_default.toml", &text)])
        } else {
            errors(&[("_default.toml", &default), ("example.toml", &text)])
        };
        let (expected, body) = split_expected(&text);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let lines = found
                .iter()
                .fold(String::new(), |lines, line| lines + "#= " + line + "\n");
            fs::write(&path, lines + body).unwrap();
        } else {
            assert!(!found.is_empty(), "{stem}: nothing was found wrong");
            assert_eq!(expected, found, "{stem}");
        }
    }
}

#[test]
fn a_file_is_named_for_its_service_type() {
    let text = "description = \"x\"\n[items]\n\"/Power\" = {}\n";
    let found = compile(&[source("schema/SolarCharger.toml", text)]).unwrap_err();
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    let expected = "schema/SolarCharger.toml:1: a schema file is named for its service type, in \
                    lower-case letters and digits; `SolarCharger` is no such name";
    assert_eq!(lines, [expected]);
}

#[test]
fn where_a_file_is_no_toml_only_that_is_told() {
    let default = source("schema/_default.toml", "units = [");
    let example = source(
        "schema/example.toml",
        "[items]\n\"/Power\" = { unit = \"V\" }",
    );
    let found = compile(&[default, example]).unwrap_err();
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["schema/_default.toml:1: this is no TOML: unclosed array, expected `]`"]
    );
}

#[test]
fn the_schema_of_this_repository_has_no_mistake() {
    let sources: Vec<_> = files(&root("schema"), "toml")
        .iter()
        .map(|path| {
            let name = format!("schema/{}", path.file_name().unwrap().to_string_lossy());
            source(&name, &fs::read_to_string(path).unwrap())
        })
        .collect();
    let types = sources.len() - 1;
    if let Err(errors) = compile(&sources) {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"));
    }
    assert_eq!(schema::service_types().count(), types);
}

/// What devices sent when they were recorded: nearly every item has a row, and the row's type is the
/// one that was recorded. Inner nodes of the tree are no items, though old services answer on them.
#[test]
fn the_schema_agrees_with_recorded_devices() {
    let Some(folder) = recordings() else {
        say("SKIPPED: neither ../shared/recordings nor tests/fixtures/recordings is there");
        return;
    };
    let (mut items, mut known) = (0, 0);
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    let mut disagree = vec![];
    for path in files(&folder, "jsonl") {
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Map<String, Value>>(line).unwrap());
        let head = lines.next().unwrap();
        let service_type = head["service"]
            .as_str()
            .unwrap()
            .split('.')
            .nth(2)
            .unwrap()
            .to_owned();
        let start = head["items"].as_object().unwrap();
        for (path, item) in start {
            if is_node(path, start) {
                continue;
            }
            items += 1;
            let row = schema::lookup(&service_type, path);
            if row.known {
                known += 1;
            } else {
                *unknown.entry(format!("{service_type} {path}")).or_default() += 1;
            }
            disagree.extend(disagreement(&service_type, path, item));
        }
        for change in lines {
            let path = change["path"].as_str().unwrap().to_owned();
            disagree.extend(disagreement(&service_type, &path, &Value::Object(change)));
        }
    }
    assert!(items > 0, "no items in {}", folder.display());
    let share = known * 1000 / items;
    say(&format!(
        "{}: {known} of {items} items have a row, {share} in a thousand",
        folder.display()
    ));
    disagree.sort();
    disagree.dedup();
    assert!(disagree.is_empty(), "{}", disagree.join("\n"));
    assert!(
        known * 100 >= items * 98,
        "too many without a row: {unknown:#?}"
    );
}

/// Says so where an item was recorded with a type that its row excludes.
fn disagreement(service_type: &str, path: &str, item: &Value) -> Option<String> {
    let found = item["t"].as_str().unwrap();
    let data = schema::lookup(service_type, path).rule.data;
    let invalid = found.starts_with('a') && item["v"].as_array().is_some_and(Vec::is_empty);
    let fits = match data {
        DataType::Unknown => true,
        DataType::Number => "bynqiuxtd".contains(found),
        DataType::Compound(signature) => signature == found,
        DataType::Bool => found == "b",
        DataType::Byte => found == "y",
        DataType::Int16 => found == "n",
        DataType::Uint16 => found == "q",
        DataType::Int32 => found == "i",
        DataType::Uint32 => found == "u",
        DataType::Int64 => found == "x",
        DataType::Uint64 => found == "t",
        DataType::Double => found == "d",
        DataType::Text => found == "s",
    };
    let node = found == "a{sv}";
    (!fits && !invalid && !node)
        .then(|| format!("{service_type} {path} is {data:?}, recorded as {found}"))
}

/// Whether other items lie below this one.
fn is_node(path: &str, items: &Map<String, Value>) -> bool {
    let below = format!("{}/", path.trim_end_matches('/'));
    items
        .keys()
        .any(|other| other != path && other.starts_with(&below))
}

fn recordings() -> Option<PathBuf> {
    [
        root("../shared/recordings"),
        root("tests/fixtures/recordings"),
    ]
    .into_iter()
    .find(|folder| folder.is_dir())
}

/// To the terminal itself: what is printed the usual way, the test harness keeps to itself.
fn say(line: &str) {
    let mut terminal = io::stderr();
    writeln!(terminal, "{line}").unwrap();
}

fn errors(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> = files
        .iter()
        .map(|(name, text)| source(&format!("schema/{name}"), text))
        .collect();
    let errors = compile(&sources).err().unwrap_or_default();
    // Here only the file under test is of interest: it is the last.
    let prefix = format!("schema/{}:", files.last().unwrap().0);
    let own = |line: String| line.strip_prefix(&prefix).map(str::to_owned);
    errors
        .iter()
        .map(ToString::to_string)
        .filter_map(own)
        .collect()
}

fn split_expected(text: &str) -> (Vec<String>, &str) {
    let mut expected = vec![];
    let mut body = text;
    while let Some((line, rest)) = body
        .strip_prefix("#= ")
        .and_then(|rest| rest.split_once('\n'))
    {
        expected.push(line.to_owned());
        body = rest;
    }
    (expected, body)
}

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
