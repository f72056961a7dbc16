//! SECURITY.md is true as far as a test can see: each test and each key that it names exists.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// What stands between single backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let text = read("SECURITY.md");
    let named: Vec<(&str, &str)> = quoted(&text)
        .into_iter()
        .filter_map(|word| word.split_once("::"))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for (file, name) in named {
        let found = [format!("tests/{file}.rs"), format!("src/{file}.rs")]
            .iter()
            .any(|path| {
                let source = std::fs::read_to_string(root().join(path)).unwrap_or_default();
                source.contains(&format!("fn {name}("))
            });
        assert!(found, "SECURITY.md: there is no {file}::{name}");
    }
}

#[test]
fn every_key_and_file_that_is_named_exists() {
    let text = read("SECURITY.md");
    let example = read("dbus-mqtt.example.toml");
    let unit = read("packaging/dbus-mqtt.service");
    let keys = [
        "access",
        "write-deny",
        "write-allow",
        "publish-deny",
        "read-deny",
        "certificate",
        "schema",
        "strict-writes",
        "password-file",
        "allow-readable-secrets",
    ];
    for key in keys {
        assert!(
            text.contains(&format!("`{key}")),
            "{key} is not named any more"
        );
        assert!(
            example.contains(&format!("{key} =")),
            "there is no key {key}"
        );
    }
    for (word, place) in [
        ("LimitCORE=0", &unit),
        ("softlimit -c 0", &read("packaging/venus/service/run")),
    ] {
        assert!(text.contains(word) && place.contains(word), "{word}");
    }
    for word in quoted(&text) {
        let is_file = word.contains('/') && !word.contains([' ', ':', '"', '<']);
        if is_file {
            assert!(
                root().join(word).exists(),
                "SECURITY.md: there is no {word}"
            );
        }
    }
}
