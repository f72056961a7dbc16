//! The fuzzers' seeds, replayed on stable: what once was interesting stays so. A crash that a fuzzer
//! finds becomes a seed, named for what it holds.

use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(name)
}

fn replay(target: &str, run: fn(&[u8])) {
    let folder = folder("corpus").join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 8, "{target} has {} seeds", seeds.len());
    for seed in seeds {
        // Shown where it fails.
        println!("{}", seed.display());
        run(&std::fs::read(&seed).unwrap());
    }
}

#[test]
fn bus_body() {
    replay("bus_body", crate::targets::bus_body);
}

#[test]
fn mqtt_stream() {
    replay("mqtt_stream", crate::targets::mqtt_stream);
}

#[test]
fn topic() {
    replay("topic", crate::targets::topic);
}

#[test]
fn payload() {
    replay("payload", crate::targets::payload);
}

#[test]
fn bridge_ops() {
    replay("bridge_ops", crate::targets::bridge_ops);
}

#[test]
fn config_schema() {
    replay("config_schema", crate::targets::config_schema);
}

#[test]
fn names() {
    replay("names", crate::targets::names);
}

#[test]
fn config_file() {
    replay("config_file", crate::targets::config_file);
}

#[cfg(feature = "listen")]
#[test]
fn client_stream() {
    replay("client_stream", crate::targets::client_stream);
}

/// Each target has its replay here: what a fuzzer calls is what this file calls.
#[test]
fn every_target_is_replayed() {
    let here = include_str!("corpus.rs");
    let mut targets = 0;
    for entry in folder("fuzz_targets").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let target = path.file_stem().unwrap().to_str().unwrap();
        let call = format!("targets::{target}(data)");
        assert!(std::fs::read_to_string(&path).unwrap().contains(&call));
        assert!(here.contains(&format!("replay(\"{target}\", crate::targets::{target})")));
        targets += 1;
    }
    assert_eq!(targets, 9);
}
