//! See `../targets.rs`.
#![no_main]

#[path = "../../tests/frames/mod.rs"]
mod frames;
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::client_stream(data));
