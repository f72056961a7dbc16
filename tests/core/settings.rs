//! What is made of the declarations of the settings: `dbus-mqtt.example.toml`, and the tables in
//! `docs/configuration.md`. `UPDATE_DOCS=1 cargo test --test core settings` writes them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use dbus_mqtt::config::setting::Setting;
use dbus_mqtt::config::settings::{BROKER, LIMITS, LISTEN, TOP, VRM};

/// Holds a file against what it should be, or writes it.
fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, expected).unwrap();
        return;
    }
    let found = fs::read_to_string(path).unwrap();
    let hint = "run UPDATE_DOCS=1 cargo test --test core settings";
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(
            found, expected,
            "{name} is not what src/config/settings says: {hint}"
        );
    }
    assert!(found == expected, "{name} has another length: {hint}");
}

/// The settings at the top of the file, by heading, in the order in which the headings come.
fn sections() -> Vec<(&'static str, Vec<&'static Setting>)> {
    let mut sections: Vec<(&str, Vec<&Setting>)> = Vec::new();
    for setting in BROKER.iter().chain(TOP).filter(|setting| !setting.no_key) {
        let title = match setting.section {
            "" => "Other",
            title => title,
        };
        match sections.iter_mut().find(|(known, _)| *known == title) {
            Some((_, settings)) => settings.push(setting),
            None => sections.push((title, vec![setting])),
        }
    }
    sections
}

/// What a setting does, as whole sentences.
fn sentences(setting: &Setting) -> String {
    let mut paragraphs = setting.prose();
    paragraphs[0].push('.');
    paragraphs.join(" ")
}

fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > 100 {
            writeln!(out, "{line}").unwrap();
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(out, "{line}").unwrap();
    out
}

fn heading(title: &str) -> String {
    let line = "-".repeat(95 - title.len());
    format!("\n# --- {title} {line}\n")
}

fn lines<'a>(settings: impl IntoIterator<Item = &'a Setting>) -> String {
    let mut out = String::new();
    for setting in settings {
        let key = setting.key;
        let value = match (setting.default, setting.example) {
            (Some(default), _) => format!("#{key} = {default}"),
            (None, Some(example)) => format!("# {key} = {example}"),
            (None, None) => panic!("{key} has neither a default nor an example"),
        };
        write!(out, "\n{}{value}\n", wrapped(&sentences(setting))).unwrap();
    }
    out
}

#[test]
fn the_example_has_every_setting() {
    let mut out = String::from(EXAMPLE_HEAD);
    for (title, settings) in sections() {
        out.push_str(&heading(title));
        if title == "MQTT broker" {
            out.push_str(EXAMPLE_BROKER);
        }
        out.push_str(&lines(settings));
    }
    out.push_str(&heading("Table [vrm]"));
    out.push_str(EXAMPLE_VRM);
    out.push_str(&lines(VRM));
    out.push_str(&heading("Tables [[listen]]"));
    out.push_str(EXAMPLE_LISTEN);
    // Prose: there is none to begin with.
    out.push_str(
        &lines(LISTEN)
            .replace("\n#", "\n# ")
            .replace("\n#  ", "\n# "),
    );
    out.push_str(&heading("Table [limits]"));
    out.push_str(EXAMPLE_LIMITS);
    out.push_str(&lines(LIMITS));
    out.push_str(&heading("Several brokers"));
    out.push_str(EXAMPLE_BROKERS);
    check("dbus-mqtt.example.toml", &out);
}

/// A table of some settings.
fn table<'a>(settings: impl IntoIterator<Item = &'a Setting>) -> String {
    let mut out = String::from(
        "\n| Setting | Default | SIGHUP | What it does |\n| --- | --- | --- | --- |\n",
    );
    for setting in settings {
        let mut name = format!("`{}`", setting.key);
        if let Some(short) = setting.short {
            write!(name, ", `-{short}`").unwrap();
        }
        if setting.value.is_none() && setting.section != "VRM" && setting.section != "Limits" {
            name.push_str(" (file only)");
        }
        let default = match (setting.without, setting.default) {
            (Some(words), _) => words.to_owned(),
            (None, Some(toml)) => format!("`{toml}`"),
            (None, None) => String::new(),
        };
        let reload = if setting.reload { "yes" } else { "" };
        let text = sentences(setting).replace('|', "\\|").replace('<', "\\<");
        writeln!(out, "| {name} | {default} | {reload} | {text} |").unwrap();
    }
    out
}

#[test]
fn the_reference_has_every_setting() {
    let name = "docs/configuration.md";
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("where the tables begin");
    let (_, after) = rest.split_once(END).expect("where they end");
    let mut out = format!("{before}{BEGIN}");
    for (title, settings) in sections() {
        write!(out, "\n### {title}\n{}", table(settings)).unwrap();
    }
    write!(out, "\n### `[vrm]`\n{}", table(VRM)).unwrap();
    write!(out, "\n### `[[listen]]`\n{}", table(LISTEN)).unwrap();
    write!(out, "\n### `[limits]`\n{}", table(LIMITS)).unwrap();
    write!(out, "\n{END}{after}").unwrap();
    check(name, &out);
}

/// One row declares a setting, one line uses it: nothing else in `src/` names it.
#[test]
fn a_setting_of_a_broker_is_in_two_files() {
    fn files(folder: &Path, word: &str, found: &mut Vec<String>) {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                files(&path, word, found);
            } else if !name.starts_with("tests")
                && fs::read_to_string(&path).unwrap().contains(word)
            {
                found.push(name);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (field, key, table) in [
        ("reconnect_max", "\"reconnect-max\"", "broker.rs"),
        ("strict_writes", "\"strict-writes\"", "top.rs"),
    ] {
        let mut found = Vec::new();
        files(&src, key, &mut found);
        assert_eq!(found, [table], "{key}");
        let mut found = Vec::new();
        files(&src.join("config"), field, &mut found);
        assert_eq!(found, [table], "{field}");
    }
}

const BEGIN: &str =
    "<!-- Made of src/config/settings: UPDATE_DOCS=1 cargo test --test core settings -->\n";
const END: &str = "<!-- So far. -->\n";

const EXAMPLE_HEAD: &str = "\
# Settings of dbus-mqtt. Copy this file, take the # away from the lines you want to change, and
# start the program with
#
#     dbus-mqtt --config /data/conf/dbus-mqtt.toml
#
# Every line with a # directly before a name shows the default. Flags and environment variables
# override this file: --keep-alive 10 or DBUS_MQTT_KEEP_ALIVE=10 wins over keep-alive = 60 here.
#
# This file is made of the declarations in src/config/settings.
";
const EXAMPLE_BROKER: &str = "\
# These settings describe the only broker. Several brokers are further down, under [[broker]].
";
const EXAMPLE_VRM: &str = "\
# What VRM needs besides init-broker. Every setting of a broker can stand here too, such as retain or
# keep-alive. password-file is where this device's password at VRM is kept: 32 hexadecimal digits, in
# the file where Venus OS keeps it unless given, and made if it does not exist.
#[vrm]
";
const EXAMPLE_LISTEN: &str = "\
# Each listener has a table [[listen]]; docs/listener.md says what a listener is. Of a broker's settings
# name, access, retain, the lists (publish-allow and so on), home-assistant and keep-alive can stand here
# too; keep-alive is 0 unless given, since values flow for as long as somebody subscribes to them.
#
# [[listen]]
";
const EXAMPLE_LIMITS: &str = "\
# What the program may use at most. No installation should need other numbers: each is far above what
# has been seen in the field. They keep a faulty service or client from exhausting the device.
#[limits]
";
const EXAMPLE_BROKERS: &str = "\
# Each broker has a table [[broker]], with the settings of a broker from the first parts of this file,
# without the mqtt- in front of their names (but mqtt-version), and keep-alive. Then nothing of a
# broker may stand at the top of the file. Flags and environment variables describe the first of the
# tables. Each broker has its own clients: what one of them asks for costs no traffic to the others.
#
# [[broker]]
# name = \"home\"
# server = \"127.0.0.1\"
#
# [[broker]]
# name = \"uplink\"
# server = \"mqtts://broker.example.com\"
# user = \"boat\"
# password-file = \"/data/conf/uplink-password\"
# retain = false
# topic-aliases = true
# access = \"read-only\"
# publish-deny = [\"settings/#\"]
";
