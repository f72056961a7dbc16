//! The soak itself: a short one goes well, and one with a bridge that does nothing is not taken for one
//! that went well.

#[allow(dead_code)] // the program of its own has more use for it
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::soaking::{Options, RECOVERY, run};
use crate::support::process::find;

fn options(program: &Path, out: &Path, seconds: u64, patience: Duration) -> Options {
    Options {
        time: Duration::from_secs(seconds),
        program: program.to_owned(),
        seed: 1,
        speed: 10.0,
        devices: 6,
        out: out.to_owned(),
        patience,
    }
}

#[test]
fn a_short_soak_goes_well() {
    let out = tempfile::tempdir().unwrap();
    let options = options(crate::support::program::path(), out.path(), 6, RECOVERY);
    let Some(outcome) = run(&options, &Arc::new(AtomicBool::new(false))) else {
        return;
    };
    assert!(
        outcome.is_good(),
        "{}\n{:#?}",
        outcome.text(),
        outcome.wrong
    );
    assert!(!outcome.events.is_empty(), "there were faults");
    let table = std::fs::read_to_string(out.path().join("samples.csv")).unwrap();
    assert!(table.lines().count() > 1, "{table}");
}

#[test]
fn a_bridge_that_does_nothing_is_found_out() {
    let Some(idle) = find("true") else { return };
    let out = tempfile::tempdir().unwrap();
    let options = options(&idle, out.path(), 4, Duration::from_secs(1));
    let Some(outcome) = run(&options, &Arc::new(AtomicBool::new(false))) else {
        return;
    };
    let found = |text: &str| outcome.wrong.iter().any(|wrong| wrong.contains(text));
    assert!(!outcome.is_good() && found("missing N/") && found("lost N/"));
    assert!(found("ended by itself"), "{:#?}", outcome.wrong);
}
