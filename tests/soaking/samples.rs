//! What the bridge's process takes, every few seconds, as a table for `tests/soak-plot`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::World;

/// One look at the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub at: Duration,
    /// Which process of the bridge it was, and for how long that has been there.
    pub process: u32,
    pub age: Duration,
    pub rss_kib: u64,
    pub descriptors: u64,
    pub threads: u64,
    /// Of this process so far.
    pub cpu_ms: u64,
    /// Nothing was being done to anybody.
    pub calm: bool,
}

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);

/// Watches until the end; the thread gives all samples. Each is a line of the file as well.
pub fn follow(world: &Arc<World>, file: &Path) -> JoinHandle<Vec<Sample>> {
    let mut table = File::create(file).unwrap();
    writeln!(table, "{HEAD}").unwrap();
    let world = Arc::clone(world);
    thread::spawn(move || {
        let began = Instant::now();
        let mut samples: Vec<Sample> = Vec::new();
        let mut born = (0, began);
        while !world.is_over() {
            let process = world.processes.load(Ordering::Relaxed);
            if born.0 != process {
                born = (process, Instant::now());
            }
            if let Some(sample) = look(world.process.load(Ordering::Relaxed)) {
                let sample = Sample {
                    at: began.elapsed(),
                    process,
                    age: born.1.elapsed(),
                    calm: world.is_calm(),
                    ..sample
                };
                writeln!(table, "{}", line(&sample, &world)).unwrap();
                samples.push(sample);
            }
            thread::sleep(EVERY);
        }
        samples
    })
}

const HEAD: &str = "seconds,process,age_s,rss_kib,descriptors,threads,cpu_ms,calm,faults,divergences,\
                    lost,messages,writes,done";

fn line(sample: &Sample, world: &World) -> String {
    let messages = world.seen.lock().unwrap().messages;
    let (writes, done) = {
        let books = world.books.lock().unwrap();
        (books.sent, books.calls)
    };
    format!(
        "{:.1},{},{:.1},{},{},{},{},{},{},{},{},{messages},{writes},{done}",
        sample.at.as_secs_f64(),
        sample.process,
        sample.age.as_secs_f64(),
        sample.rss_kib,
        sample.descriptors,
        sample.threads,
        sample.cpu_ms,
        u8::from(sample.calm),
        world.faults.load(Ordering::Relaxed),
        world.divergences.load(Ordering::Relaxed),
        world.lost.load(Ordering::Relaxed),
    )
}

/// `None` where there is no such process, or none any more.
fn look(process: u32) -> Option<Sample> {
    if process == 0 {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd"))
        .ok()?
        .count();
    Some(Sample {
        rss_kib: number("VmRSS:")?,
        threads: number("Threads:")?,
        descriptors: u64::try_from(descriptors).unwrap(),
        cpu_ms: cpu_ms(process)?,
        ..Sample::default()
    })
}

/// The processor time that a process has used.
pub fn cpu_ms(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let sum: u64 = ticks.filter_map(|number| number.parse::<u64>().ok()).sum();
    Some(sum * 10) // Linux counts in hundredths, whatever its own tick
}
