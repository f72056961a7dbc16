//! What came of it: tables for people, and whether all was well.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::checker::Checker;
use super::samples::{Sample, cpu_ms};
use super::scene::Fault;
use super::{Options, World};

/// A fault as it was done, or two at once.
pub struct Event {
    pub at: Duration,
    pub faults: Vec<Fault>,
    pub lasted: Duration,
    /// From its end until bus, broker and client agreed; `None` where they never did.
    pub recovered: Option<Duration>,
}

/// The whole of it.
pub struct Outcome {
    seed: u64,
    devices: usize,
    items: usize,
    out: PathBuf,
    began: Instant,
    pub events: Vec<Event>,
    pub samples: Vec<Sample>,
    /// Every single thing that was not as it should be.
    pub wrong: Vec<String>,
    lines: Vec<(&'static str, String)>,
}

/// What memory may be above what it was in the first third of the time: a quarter, and this.
const GROWTH_KIB: u64 = 4 * 1024;
/// And descriptors, which come and go with attempts to connect.
const GROWTH_DESCRIPTORS: u64 = 3;
/// Threads that hash passwords come and go (§9.20).
const HASHING_THREADS: u64 = 2;
/// The highest that memory may ever be.
const RSS_KIB_MAX: u64 = 96 * 1024;
/// A process that is younger still takes in what there is.
const GROWN_UP: Duration = Duration::from_secs(10);

impl Outcome {
    pub fn new(options: &Options, world: &World) -> Outcome {
        let fleet = world.fleet.lock().unwrap();
        Outcome {
            seed: options.seed,
            devices: fleet.len(),
            items: fleet.items(),
            out: options.out.clone(),
            began: Instant::now(),
            events: Vec::new(),
            samples: Vec::new(),
            wrong: Vec::new(),
            lines: Vec::new(),
        }
    }

    pub fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Sums up, and writes the files.
    pub fn close(&mut self, world: &World, checker: &Checker) {
        let books = world.books.lock().unwrap();
        let seen = world.seen.lock().unwrap();
        self.wrong.extend(books.faults.iter().cloned());
        self.wrong.extend(seen.backwards.iter().cloned());
        self.panics();
        self.growth();
        let time = self.began.elapsed();
        let own_ms = cpu_ms(std::process::id()).unwrap_or(0);
        let divergences = world.divergences.load(Ordering::Relaxed);
        let lost = world.lost.load(Ordering::Relaxed);
        self.lines = vec![
            ("time", format!("{} min", tenths(time.as_secs_f64() / 60.0))),
            ("seed", self.seed.to_string()),
            (
                "services, items",
                format!("{}, {}", self.devices, self.items),
            ),
            ("faults", world.faults.load(Ordering::Relaxed).to_string()),
            (
                "processes of the bridge",
                world.processes.load(Ordering::Relaxed).to_string(),
            ),
            ("messages that the client saw", seen.messages.to_string()),
            (
                "counter values left out, in outages and floods",
                seen.skipped.to_string(),
            ),
            (
                "comparisons",
                format!("{}, of {} topics in all", checker.looks, checker.compared),
            ),
            ("topics retained at the end", checker.topics.to_string()),
            (
                "writes sent, accepted, refused",
                format!("{}, {}, {}", books.sent, books.ok, books.refused),
            ),
            (
                "writes without an answer, in faults",
                (books.unanswered_in_faults + books.unanswered_now()).to_string(),
            ),
            ("writes done by the services", books.calls.to_string()),
            (
                "**divergences of what is retained**",
                divergences.to_string(),
            ),
            ("**last values that did not arrive**", lost.to_string()),
            (
                "**older values after newer ones**",
                seen.backwards.len().to_string(),
            ),
            (
                "**writes accepted and lost, twice, or out of order**",
                books.faults.len().to_string(),
            ),
            ("processor, the bridge", percent(self.bridge_cpu_ms(), time)),
            ("processor, this program", percent(own_ms, time)),
        ];
        drop((books, seen));
        let text = self.text();
        std::fs::write(self.out.join("report.md"), text).unwrap();
        std::fs::write(self.out.join("faults.csv"), self.table()).unwrap();
        std::fs::write(self.out.join("wrong.txt"), self.wrong.join("\n")).unwrap();
    }

    fn panics(&mut self) {
        let log = std::fs::read(self.out.join("bridge.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let panics = log.lines().filter(|line| line.contains("panicked at"));
        self.wrong.extend(panics.map(str::to_owned));
    }

    fn bridge_cpu_ms(&self) -> u64 {
        let mut last = BTreeMap::new();
        for sample in &self.samples {
            last.insert(sample.process, sample.cpu_ms);
        }
        last.values().sum()
    }

    /// The samples of a third of the time, of processes that have settled, while nothing is done.
    fn third(&self, number: u32) -> Vec<Sample> {
        let time = self.samples.last().map_or(Duration::ZERO, |last| last.at);
        let (from, to) = (time * number / 3, time * (number + 1) / 3);
        let samples = self.samples.iter().filter(|sample| {
            sample.calm && sample.age > GROWN_UP && (from..=to).contains(&sample.at)
        });
        samples.copied().collect()
    }

    fn growth(&mut self) {
        let (first, last) = (self.third(0), self.third(2));
        let of = |samples: &[Sample], what: What| median(samples.iter().map(what));
        let mut check = |name: &str, what: What, more: fn(u64) -> u64| {
            let both = of(&first, what).zip(of(&last, what));
            if let Some((before, after)) = both.filter(|(before, after)| *after > more(*before)) {
                self.wrong
                    .push(format!("{name} grew from {before} to {after}"));
            }
        };
        check(
            "memory (KiB)",
            |sample| sample.rss_kib,
            |kib| kib * 5 / 4 + GROWTH_KIB,
        );
        check(
            "descriptors",
            |sample| sample.descriptors,
            |count| count + GROWTH_DESCRIPTORS,
        );
        check(
            "threads",
            |sample| sample.threads,
            |count| count + HASHING_THREADS,
        );
        let peak = self.samples.iter().map(|sample| sample.rss_kib).max();
        if let Some(peak) = peak.filter(|peak| *peak > RSS_KIB_MAX) {
            self.wrong
                .push(format!("memory was {peak} KiB, of {RSS_KIB_MAX} at most"));
        }
    }

    /// All as Markdown.
    pub fn text(&self) -> String {
        let mut text = String::from("| | |\n| --- | --- |\n");
        for (name, value) in &self.lines {
            writeln!(text, "| {name} | {value} |").unwrap();
        }
        text += "\n| Fault | Times | Alone | Lost | Recovered after: median | at most |\n";
        text += "| --- | --- | --- | --- | --- | --- |\n";
        for (fault, _) in Fault::WEIGHTS {
            self.row(&mut text, fault);
        }
        text += "\n| The process, while calm | First third | Last third | At most, ever |\n";
        text += "| --- | --- | --- | --- |\n";
        let (first, last) = (self.third(0), self.third(2));
        let columns: [(&str, What); 3] = [
            ("memory, KiB", |sample| sample.rss_kib),
            ("descriptors", |sample| sample.descriptors),
            ("threads", |sample| sample.threads),
        ];
        for (name, what) in columns {
            let shown =
                |value: Option<u64>| value.map_or("–".to_owned(), |value| value.to_string());
            let (first, last) = (
                median(first.iter().map(what)),
                median(last.iter().map(what)),
            );
            let peak = self.samples.iter().map(what).max();
            let (first, last, peak) = (shown(first), shown(last), shown(peak));
            writeln!(text, "| {name} | {first} | {last} | {peak} |").unwrap();
        }
        match self.wrong.len() {
            0 => text += "\nNothing diverged, was lost, or grew.\n",
            count => writeln!(text, "\n**{count} things are wrong**, see wrong.txt.").unwrap(),
        }
        text
    }

    fn row(&self, text: &mut String, fault: Fault) {
        let with = self
            .events
            .iter()
            .filter(|event| event.faults.contains(&fault));
        let alone: Vec<&Event> = with
            .clone()
            .filter(|event| event.faults.len() == 1)
            .collect();
        let lost = with
            .clone()
            .filter(|event| event.recovered.is_none())
            .count();
        let times = alone.iter().filter_map(|event| event.recovered);
        let middle = median(times.clone().map(|time| time.as_millis()));
        let most = times.map(|time| time.as_millis()).max();
        let shown = |ms: Option<u128>| {
            ms.map_or("–".to_owned(), |ms| {
                #[allow(clippy::cast_precision_loss)]
                let seconds = ms as f64 / 1000.0;
                format!("{} s", tenths(seconds))
            })
        };
        let count = with.count();
        let (name, alone, middle, most) = (fault.name(), alone.len(), shown(middle), shown(most));
        writeln!(
            text,
            "| {name} | {count} | {alone} | {lost} | {middle} | {most} |"
        )
        .unwrap();
    }

    /// A line for each event.
    fn table(&self) -> String {
        let mut text = String::from("seconds,faults,lasted_s,recovered_s\n");
        for event in &self.events {
            let names: Vec<&str> = event.faults.iter().map(|fault| fault.name()).collect();
            let recovered = event.recovered.map_or("never".to_owned(), |time| {
                format!("{:.3}", time.as_secs_f64())
            });
            let (at, lasted) = (event.at.as_secs_f64(), event.lasted.as_secs_f64());
            let names = names.join(" + ");
            writeln!(text, "{at:.1},\"{names}\",{lasted:.1},{recovered}").unwrap();
        }
        text
    }
}

/// One number of a sample.
type What = fn(&Sample) -> u64;

fn median<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort();
    let middle = values.len() / 2;
    values.into_iter().nth(middle)
}

fn tenths(number: f64) -> String {
    format!("{number:.1}")
}

#[allow(clippy::cast_precision_loss)]
fn percent(cpu_ms: u64, time: Duration) -> String {
    let share = cpu_ms as f64 / 10.0 / time.as_secs_f64().max(0.001);
    format!("{} % of a core", tenths(share))
}
