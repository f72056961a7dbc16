//! The fuzzers' seeds, replayed on stable: what once was interesting stays so. A crash that a fuzzer
//! finds becomes a seed, named for what it holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod frames;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
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
    replay("bus_body", targets::bus_body);
}

#[test]
fn mqtt_stream() {
    replay("mqtt_stream", targets::mqtt_stream);
}

#[test]
fn topic() {
    replay("topic", targets::topic);
}

#[test]
fn payload() {
    replay("payload", targets::payload);
}

#[test]
fn bridge_ops() {
    replay("bridge_ops", targets::bridge_ops);
}
