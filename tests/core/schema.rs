//! The schema: every mistake in a row is told in one sentence, the schema of this repository has
//! none, and it agrees with what real devices sent.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dbus_mqtt::schema::{self, Access, DataType, Publish, Schema, Show, lookup};
use dbus_mqtt::tools::schema::markdown;
use serde_json::{Map, Value};

use compile::{Source, compile};

// Build scripts are not tested otherwise.
#[path = "../../build/compile.rs"]
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
                    lower-case letters and digits; `SolarCharger` is not";
    assert_eq!(lines, [expected]);
}

/// A file of some kilobytes may not ask for more rows than memory holds.
#[test]
fn the_rows_of_all_files_are_bounded() {
    let rows = |families: usize| {
        let rows = (0..families).map(|n| format!("\"/P{n}/{{0..999}}\" = {{}}\n"));
        let rows: String = rows.collect();
        Source {
            name: "sail.toml".into(),
            text: format!("description = \"x\"\n[items]\n{rows}"),
        }
    };
    assert_eq!(compile(&[rows(65)]).map(|_| ()), Ok(()));
    let told = "sail.toml:68: with this row, the files stand for more than 65535 rows";
    assert_eq!(compile(&[rows(4_000)]).unwrap_err(), [told]);
}

#[test]
fn a_path_is_no_longer_than_one_that_is_published() {
    let path = |len: usize| {
        let path = "x".repeat(len - 1);
        let text = format!("description = \"x\"\n[items]\n\"/{path}\" = {{}}\n");
        compile(&[source("sail.toml", &text)])
    };
    assert!(path(1_024).is_ok());
    let told = "sail.toml:3: a path of 1025 bytes is too long: at most 1024";
    assert_eq!(path(1_025).unwrap_err(), [told]);
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
        ["schema/_default.toml:1: this is not valid TOML: unclosed array, expected `]`"]
    );
}

#[test]
fn the_schema_of_this_repository_has_no_mistake() {
    let sources = own_sources();
    let types = sources.len() - 1;
    if let Err(errors) = compile(&sources) {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"));
    }
    assert_eq!(schema::service_types().count(), types);
}

/// Rows that say what they mean neither in a description nor in labels or bits: no source told. There
/// may be fewer, never more.
const ROWS_WITHOUT_WORDS_MAX: usize = 32;

#[test]
fn every_row_says_what_it_means() {
    let mut rows = 0;
    let mut without = vec![];
    for source in own_sources() {
        let file: toml::Table = source.text.parse().unwrap();
        for (path, row) in file["items"].as_table().unwrap() {
            rows += 1;
            if !["description", "labels", "bits"]
                .iter()
                .any(|key| row.get(key).is_some())
            {
                without.push(format!("{} {path}", source.name));
            }
        }
    }
    assert!(rows > 2_000, "{rows}");
    assert!(
        without.len() <= ROWS_WITHOUT_WORDS_MAX,
        "{} of {rows} rows have no description, labels or bits, and {ROWS_WITHOUT_WORDS_MAX} may:\n{}",
        without.len(),
        without.join("\n")
    );
}

/// A description is a few words that the path does not say: no sentence, and not the path once more.
#[test]
fn descriptions_have_one_form() {
    let mut checked = 0;
    for source in own_sources() {
        let file: toml::Table = source.text.parse().unwrap();
        for (path, row) in file["items"].as_table().unwrap() {
            let Some(text) = row.get("description") else {
                continue;
            };
            let (place, text) = (format!("{} {path}", source.name), text.as_str().unwrap());
            let letters = |text: &str| -> String {
                let letters = text.chars().filter(|c| c.is_alphanumeric());
                letters.flat_map(char::to_lowercase).collect()
            };
            assert_eq!(text, text.trim(), "{place}");
            assert!(!text.ends_with('.'), "{place}: `{text}` has a full stop");
            assert!(
                text.len() <= 90,
                "{place}: `{text}` is more than a few words"
            );
            assert_ne!(letters(text), letters(path), "{place} says the path again");
            checked += 1;
        }
    }
    assert!(checked > 1_000, "{checked}");
}

/// The sources of this repository's schema.
fn own_sources() -> Vec<Source> {
    let files = files(&root("schema"), "toml").into_iter();
    let named = files.map(|path| {
        let name = format!("schema/{}", path.file_name().unwrap().to_string_lossy());
        source(&name, &fs::read_to_string(path).unwrap())
    });
    named.collect()
}

/// What a new kind of service brings: a service type, its paths, a unit and labels.
const WINDMILL: &str = "description = \"a windmill\"\n[items]\n\
    \"/Wind\" = { type = \"d\", unit = \"knots\", access = \"r\" }\n\
    \"/Blade/{1..3}/Angle\" = { type = \"i\", labels = \"feathering\" }\n\
    [labels]\nfeathering = { 0 = \"furled\", 90 = \"feathered\" }\n";

#[test]
fn a_service_type_a_path_a_unit_and_a_label_are_a_change_of_schema_alone() {
    // In the build: files of the copy are added or have a line more, and nothing else changes.
    let mut sources = own_sources();
    for source in &mut sources {
        if source.name.ends_with("_default.toml") {
            source.text = source
                .text
                .replacen("units = [", "units = [\n    \"knots\",", 1);
        }
        if source.name.ends_with("vebus.toml") {
            let row = "[items]\n\"/My/Path\" = { unit = \"knots\" }";
            source.text = source.text.replacen("[items]", row, 1);
        }
    }
    sources.push(source("schema/windmill.toml", WINDMILL));
    let tables = compile(&sources).unwrap();
    for part in [
        "\"windmill\"",
        "a windmill",
        "/My/Path",
        "/Blade/3/Angle",
        "\"knots\"",
        "feathered",
    ] {
        assert!(tables.contains(part), "{part}");
    }

    // As an overlay: the same files, without a copy of the rest.
    let mut schema = Schema::default();
    let overlay = [
        overlaid("_default.toml", "units = [\"knots\"]"),
        overlaid(
            "vebus.toml",
            "[items]\n\"/My/Path\" = { unit = \"knots\" }\n\"/Ac/L{1..2}\" = {}",
        ),
        overlaid("windmill.toml", WINDMILL),
    ];
    assert_eq!(schema.add(&overlay), Ok(7));
    assert_eq!(schema.lookup("vebus", "/My/Path").rule.unit, "knots");
    let angle = schema.lookup("windmill", "/Blade/2/Angle").rule;
    assert_eq!(
        *angle.labels,
        [(0, "furled".into()), (90, "feathered".into())]
    );
    assert_eq!(schema.describe("windmill"), Some("a windmill"));
    assert!(schema.service_types().contains("windmill"));
    // What is built in holds beside it, and for the new type too.
    assert_eq!(
        schema.lookup("vebus", "/Mode"),
        schema::lookup("vebus", "/Mode")
    );
    assert!(schema.lookup("windmill", "/DeviceInstance").known);
    assert!(!schema::lookup("vebus", "/My/Path").known);
}

#[test]
fn a_later_directory_goes_before_an_earlier_one_and_both_before_what_is_built_in() {
    let mut schema = Schema::default();
    let soc = |text: &str| [overlaid("battery.toml", &format!("[items]\n{text}"))];
    schema
        .add(&soc(
            "\"/Soc\" = { unit = \"A\" }\n\"/Time{name}\" = { unit = \"V\" }",
        ))
        .unwrap();
    assert_eq!(schema.lookup("battery", "/Soc").rule.unit, "A");
    schema.add(&soc("\"/Soc\" = { unit = \"W\" }")).unwrap();
    assert_eq!(schema.lookup("battery", "/Soc").rule.unit, "W");
    // A pattern of a directory goes before a built-in row that names the path.
    assert_eq!(schema::lookup("battery", "/TimeToGo").rule.unit, "s");
    assert_eq!(schema.lookup("battery", "/TimeToGo").rule.unit, "V");
    // A row is taken as a whole: what it leaves out is not known.
    assert_eq!(
        schema.lookup("battery", "/Soc").rule.data,
        DataType::Unknown
    );
    // A row of every type does not go before one of the service type.
    schema
        .add(&[overlaid(
            "_default.toml",
            "[items]\n\"/Soc\" = { unit = \"g\" }",
        )])
        .unwrap();
    assert_eq!(schema.lookup("battery", "/Soc").rule.unit, "W");
    assert_eq!(schema.lookup("nosuchtype", "/Soc").rule.unit, "g");
    let rows = schema.rows("battery");
    assert_eq!((&*rows["/Soc"].unit, &*rows["/TimeToGo"].unit), ("W", "V"));
}

/// The build and the program have one compiler; where an example is one file, so are its mistakes.
#[test]
fn an_overlay_has_the_sentences_of_the_build() {
    // What the built-in schema has already, an overlay need not say.
    let not_needed = ["file-no-description", "file-empty-description"];
    let mut compared = 0;
    for path in files(&root("tests/schema/bad"), "toml") {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if stem.starts_with("default") || not_needed.contains(&&*stem) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let (expected, _) = split_expected(&text);
        let found = Schema::default()
            .add(&[overlaid("example.toml", &text)])
            .unwrap_err();
        let found: Vec<_> = found
            .iter()
            .map(|error| error.to_string().replacen("/data/example.toml:", "", 1))
            .collect();
        assert_eq!(found, expected, "{stem}");
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn an_overlay_must_not_take_away_what_the_bridge_works_with() {
    let check = |name: &str, row: &str, expected: &str| {
        let text = format!("[items]\n{row} = {{ type = \"s\" }}");
        let errors = Schema::default().add(&[overlaid(name, &text)]).unwrap_err();
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [format!("/data/{name}:2: this row hides {expected}`")]
        );
    };
    check(
        "battery.toml",
        "\"/Serial\"",
        "`/Serial` of _default.toml, so it must repeat `identifying = true",
    );
    check(
        "system.toml",
        "\"/Serial\"",
        "`/Serial` of system.toml, so it must repeat `identifying = true, publish = \"portal-id\"",
    );
    check(
        "_default.toml",
        "\"/CustomName\"",
        "`/CustomName` of _default.toml, so it must repeat `identifying = true",
    );
    check(
        "tank.toml",
        "\"/FluidType\"",
        "`/FluidType` of tank.toml, so it must repeat `identifying = true",
    );
}

/// A newer schema can be laid over an older program as a whole.
#[test]
fn the_whole_schema_is_an_overlay_too() {
    let sources: Vec<_> = own_sources()
        .into_iter()
        .map(|Source { name, text }| schema::Source { name, text })
        .collect();
    let start = Instant::now();
    let mut schema = Schema::default();
    let paths = schema.add(&sources).unwrap();
    let took = start.elapsed();
    say(&format!(
        "an overlay of all {paths} paths was read in {took:?}"
    ));
    assert!(paths > 3_000, "{paths}");
    for service_type in schema::service_types() {
        let (over, built_in) = (schema.rows(service_type), Schema::default());
        assert_eq!(over, built_in.rows(service_type), "{service_type}");
    }
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// `docs/services.md` is what the schema says. `UPDATE_DOCS=1` writes it.
#[test]
fn the_document_of_services_is_not_stale() {
    let path = root("docs/services.md");
    let expected = markdown::services(&Schema::default());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert!(
        found == expected,
        "docs/services.md is stale: UPDATE_DOCS=1 cargo test --test core schema writes it anew; first \
         difference: {differs:?}"
    );
}

fn overlaid(name: &str, text: &str) -> schema::Source {
    schema::Source {
        name: format!("/data/{name}"),
        text: text.to_owned(),
    }
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
    for (item, count) in &unknown {
        say(&format!("unknown, {count} times: {item}"));
    }
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
    let data = &schema::lookup(service_type, path).rule.data;
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

/// Names of Home Assistant's entities are what people say: short, in sentence case, each once.
#[test]
fn names_are_what_people_say() {
    let schema = Schema::default();
    let mut named = 0;
    for service_type in schema.service_types() {
        let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
        for (path, known) in schema.rows(service_type) {
            let name = known.name;
            let rule = known.rule;
            let what = format!("{service_type} {path}: {name:?}");
            let settable = path.starts_with("/Settings/") && rule.access == Access::ReadWrite;
            let open =
                rule.look.show != Show::Never && !rule.secret && rule.publish == Publish::Normal;
            let daily = path.starts_with("/History/Daily/");
            let says = !rule.unit.is_empty() || !rule.labels.is_empty();
            let own = !lookup("nosuchtype", &path).known && open && !daily;
            assert!(
                !(own && (settable || says)) || !name.is_empty(),
                "{what} has no name"
            );
            for (_, label) in rule.labels.iter() {
                let no = ["none", "unknown", "unavailable"];
                assert!(!no.contains(&&*label.to_lowercase()), "{what}: {label}");
            }
            if name.is_empty() || name == "{device}" || !open {
                continue;
            }
            named += 1;
            assert!(name.chars().count() <= 40, "{what} is too long");
            let first = name.chars().next().unwrap();
            assert!(!first.is_lowercase(), "{what} has no capital");
            let words: Vec<String> = name.split(' ').map(str::to_lowercase).collect();
            assert!(
                words.windows(2).all(|two| two[0] != two[1]),
                "{what} says a word twice"
            );
            // A level of the path that is a number is in the name only where there are several.
            for level in path
                .split('/')
                .filter(|level| level.bytes().all(|byte| byte.is_ascii_digit()))
            {
                let several = (0..5_u32).filter(|number| {
                    let level_of = |number: u32| format!("/{number}/");
                    let other = path.replacen(&format!("/{level}/"), &level_of(*number), 1);
                    lookup(service_type, &other).known
                });
                let is_said = !level.is_empty() && words.iter().any(|word| *word == level);
                assert!(
                    !is_said || several.count() > 1,
                    "{what} has a number of the path"
                );
            }
            // The parts of a device are separate devices.
            let part = path.strip_prefix("/SwitchableOutput/").map(|_| "output");
            let key = (part.unwrap_or_default().to_owned(), name.to_owned());
            if let Some(other) = seen.insert(key, path.clone()) {
                panic!("{what} is the name of {other} too");
            }
        }
        assert!(
            schema.device(service_type).is_some(),
            "{service_type} has no name for a device"
        );
    }
    println!("{named} names");
    assert!(named > 1_500, "{named}");
}
