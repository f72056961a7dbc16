//! One line that says how the demo is: renewed on a terminal, printed now and then elsewhere.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::plant::{Plant, hour};
use crate::logging;
use crate::shell::run::Stats;
use crate::tools::{ToolError, say};

/// The status line.
pub(crate) struct Status {
    bar: Option<ProgressBar>,
    before: Sample,
}

/// What is counted, at one time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    updates: u32,
    published: u32,
    /// CPU time of this thread, where the bridge runs, and of the process.
    bridge: Option<Duration>,
    process: Option<Duration>,
}

impl Status {
    /// A status line on stdout, renewed in place or not. Call it on the thread of the bridge.
    pub(crate) fn new(stats: &Stats, renew: bool) -> Status {
        let bar = renew.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            // A line of the log goes above it.
            let shown = bar.clone();
            logging::around(move |write| shown.suspend(write));
            bar
        });
        Status {
            bar,
            before: Sample::take(stats),
        }
    }

    /// How often it wants to be shown.
    pub(crate) fn period(&self) -> Duration {
        if self.bar.is_some() {
            Duration::from_secs(1)
        } else {
            Duration::from_secs(5)
        }
    }

    /// Shows how things are.
    pub(crate) fn show(&mut self, stats: &Stats, plant: &Plant) -> Result<(), ToolError> {
        let now = Sample::take(stats);
        let line = line(stats, plant, &self.before, &now);
        self.before = now;
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                Ok(())
            }
            None => say(&line),
        }
    }

    /// Leaves the last line behind.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            let last = bar.message();
            bar.finish_and_clear();
            // What could be told of a screen that takes nothing was told before.
            let _ = say(&last);
        }
    }
}

impl Sample {
    fn take(stats: &Stats) -> Sample {
        Sample {
            at: Instant::now(),
            updates: stats.updates.load(Relaxed),
            published: stats.published.load(Relaxed),
            bridge: cpu_time("/proc/thread-self/schedstat"),
            process: process_cpu_time(),
        }
    }
}

fn line(stats: &Stats, plant: &Plant, before: &Sample, now: &Sample) -> String {
    let passed = now.at.duration_since(before.at).as_secs_f64().max(1e-3);
    let per_s = |before: u32, now: u32| f64::from(now.wrapping_sub(before)) / passed;
    let load = |before: Option<Duration>, now: Option<Duration>| match (before, now) {
        (Some(before), Some(now)) => {
            let busy = now.saturating_sub(before).as_secs_f64();
            format!("{:.1} %", busy / passed * 100.0)
        }
        _ => String::from("–"),
    };
    let hour = hour(plant.clock_s());
    let kilowatts = |watts: f64| format!("{:.1} kW", watts / 1000.0 + 0.0).replace("-0.0", "0.0");
    let grid = if plant.grid_lost() {
        String::from("lost")
    } else {
        kilowatts(plant.flows.grid)
    };
    let word = plant.story_word();
    // What matters most comes first, and fits 80 columns: a terminal may cut the rest off.
    let first = format!(
        "sun {} · battery {:.0} % · grid {grid} · {:02}:{:02} {word}",
        kilowatts(plant.flows.pv_ac + plant.flows.pv_dc),
        plant.soc(),
        hour.trunc(),
        (hour.fract() * 60.0).trunc(),
    );
    format!(
        "{first:<57} · {:.0} updates/s · CPU {} · {} services · {} items · {:.0} publishes/s · {} \
         (CPU of the whole demo {})",
        per_s(before.updates, now.updates),
        load(before.bridge, now.bridge),
        stats.services.load(Relaxed),
        stats.items.load(Relaxed),
        per_s(before.published, now.published),
        memory().map_or_else(|| String::from("–"), |mib| format!("{mib} MiB")),
        load(before.process, now.process),
    )
}

/// CPU time of a task, as the kernel's scheduler counts it.
fn cpu_time(file: &str) -> Option<Duration> {
    let text = fs::read_to_string(file).ok()?;
    let nanoseconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// CPU time of all threads that live.
fn process_cpu_time() -> Option<Duration> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let times = tasks.filter_map(|task| {
        let file = task.ok()?.path().join("schedstat");
        cpu_time(file.to_str()?)
    });
    Some(times.sum())
}

/// Resident memory, in MiB.
fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_line_counts_what_happened_between() {
        let stats = Stats::default();
        let before = Sample::take(&stats);
        let now = Sample {
            at: before.at + Duration::from_secs(2),
            updates: before.updates + 300,
            published: before.published + 100,
            bridge: before.bridge.map(|time| time + Duration::from_millis(100)),
            process: None,
        };
        let told = line(&stats, &Plant::new(1), &before, &now);
        assert!(told.starts_with("sun "), "{told}");
        assert!(told.contains(" · 09:00 "), "{told}");
        let seen: String = told.chars().take(80).collect();
        assert!(
            seen.contains("grid") && seen.contains("150 updates/s"),
            "{told}"
        );
        assert!(told.contains("50 publishes/s"), "{told}");
        assert!(told.contains("CPU of the whole demo –"), "{told}");
    }
}
