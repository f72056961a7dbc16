//! `tests/soak`: the soak as a program of its own. See [`soaking`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods // it has clocks
)]

#[path = "mod.rs"]
mod soaking;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use soaking::Options;

/// Runs the bridge between a bus and a broker of its own, with recorded devices and faults by chance,
/// and compares both ends all the while. Ends with 0 where nothing diverged, was lost or grew.
#[derive(Parser)]
#[command(name = "tests/soak")]
struct Arguments {
    /// For how long
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// The bridge to run
    #[arg(long)]
    binary: PathBuf,
    /// Which faults at which times; random otherwise, and printed
    #[arg(long)]
    seed: Option<u64>,
    /// How much faster than they were recorded the devices are played
    #[arg(long, default_value_t = 10.0)]
    speed: f64,
    /// How many recorded devices, at most
    #[arg(long, default_value_t = 24)]
    devices: usize,
    /// Where report.md, samples.csv, faults.csv, wrong.txt and bridge.log go
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = arguments
        .seed
        .unwrap_or_else(|| clock.unwrap_or_default().as_secs() % 1_000_000);
    println!(
        "soaking for {} min with --seed {seed}, files in {}",
        arguments.minutes,
        arguments.out.display()
    );
    let options = Options {
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        program: arguments.binary,
        seed,
        speed: arguments.speed,
        devices: arguments.devices,
        out: arguments.out,
        patience: soaking::RECOVERY,
    };
    let Some(outcome) = soaking::run(&options, &ended_by_signal()) else {
        return ExitCode::from(2); // what is missing has been said
    };
    print!("\n{}", outcome.text());
    for wrong in outcome.wrong.iter().take(50) {
        println!("WRONG: {wrong}");
    }
    if outcome.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Becomes true with SIGINT or SIGTERM: then it ends as it does when its time is over, with a report.
fn ended_by_signal() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&ended);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut int = signal(SignalKind::interrupt()).unwrap();
            let mut term = signal(SignalKind::terminate()).unwrap();
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
        });
        theirs.store(true, Ordering::Relaxed);
    });
    ended
}
