//! `dbus-mqtt fleet`: many installations in one process, for load tests of a broker or a cluster.
//!
//! ```text
//!   track ──▶ bus in memory ──▶ the bridge ──▶ the broker      one of each for every installation
//!   (one for all)                     └─ news of its connection ──▶ report
//! ```
//!
//! Every installation is the bridge itself, with its sessions and waits: [`simulated::run`] leaves out only the
//! socket of the bus. What all of them play is made once, in `track`.

mod report;
mod track;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::report::Report;
use self::track::Track;
use super::{ToolError, demo, print, recording, say};
use crate::bridge::calls::Method;
use crate::cli::FleetArgs;
use crate::config::{Config, Layers, Machine};
use crate::error::Fatal;
use crate::model::name::PortalId;
use crate::model::outside;
use crate::shell::memory;
use crate::shell::run::{LinkWatcher, Stats};
use crate::shell::simulated::{self, MemoryBus};

/// Runs a fleet until `shutdown` or the given time.
pub async fn run(
    args: &FleetArgs,
    layers: &Layers,
    machine: &Machine,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ToolError> {
    demo::raise_file_limit();
    let track = if args.recordings.is_empty() {
        let all = demo::recordings(DEMO_TIME);
        Track::new(
            all.into_iter()
                .map(|one| (one.service.clone().into(), one))
                .collect(),
        )?
    } else {
        Track::new(recording::load_all(&args.recordings)?)?
    };
    let configs = configs(args, layers, machine)?;
    if !args.json {
        let (services, items) = track.size();
        say(&format!(
            "{} installations of {services} services with {items} items; Ctrl-C ends it",
            configs.len()
        ))?;
    }
    let mut fleet = Fleet::start(args, &Arc::new(track), configs);
    let outcome = fleet.watch(args, shutdown).await;
    let connected = fleet.report.connected();
    fleet.end(args).await?;
    outcome?;
    let count = fleet.stats.len();
    if connected == count {
        return Ok(());
    }
    Err(ToolError::FleetLost {
        lost: count - connected,
        count,
        reason: fleet.report.reason(),
    })
}

/// The configuration of each installation: that of a bridge with this portal id, without what listens.
fn configs(args: &FleetArgs, layers: &Layers, machine: &Machine) -> Result<Vec<Config>, ToolError> {
    let mut configs: Vec<Config> = Vec::new();
    let count = usize::try_from(args.count).unwrap_or(usize::MAX);
    for number in 0..count {
        let id = report::portal_id(&args.name, number);
        let id = PortalId::new(&id).map_err(|error| Fatal::Usage(Box::new(error)))?;
        let config = layers.resolve(machine, &id).and_then(Config::with_secrets);
        let mut config = config.map_err(Fatal::from)?;
        if let Some(vrm) = config.vrm.take() {
            // VRM has no such installation.
            config.brokers.truncate(vrm.broker);
        }
        config.listeners = Vec::new();
        if let Some(first) = configs.first() {
            config.schema = Arc::clone(&first.schema);
        }
        configs.push(config);
    }
    Ok(configs)
}

/// The installations, and what is known of them.
struct Fleet {
    stats: Vec<Arc<Stats>>,
    answers: Arc<AtomicU32>,
    news: mpsc::UnboundedReceiver<report::News>,
    report: Report,
    stop: watch::Sender<bool>,
    tasks: JoinSet<bool>,
    published: u64,
}

impl Fleet {
    fn start(args: &FleetArgs, track: &Arc<Track>, configs: Vec<Config>) -> Fleet {
        let (tell, news) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let count = configs.len();
        let mut fleet = Fleet {
            stats: Vec::with_capacity(count),
            answers: Arc::default(),
            news,
            report: Report::new(count, &args.name),
            stop,
            tasks: JoinSet::new(),
            published: 0,
        };
        let speed = args.rate.map_or(1.0, |rate| track.speed(rate));
        let started = Instant::now();
        for (number, config) in configs.into_iter().enumerate() {
            let stats = Arc::new(Stats::default());
            let news = tell.clone();
            // Nobody else sets it.
            let _ = stats.links.set(LinkWatcher {
                bridge: number,
                news,
            });
            fleet.stats.push(Arc::clone(&stats));
            let player = Player {
                track: Arc::clone(track),
                answers: Arc::clone(&fleet.answers),
                speed,
                once: args.once,
                first: if args.once {
                    0
                } else {
                    spread(number, track.steps.len())
                },
            };
            #[allow(clippy::cast_precision_loss)] // a fleet has fewer than 2^52
            let wait = Duration::try_from_secs_f64(number as f64 / args.start_rate);
            let due = started + wait.unwrap_or(Duration::MAX);
            let mut stopped = stopped.clone();
            fleet.tasks.spawn(async move {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => return true,
                    () = tokio::time::sleep_until(due) => {}
                }
                let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
                simulated::run(config, stats, |bus| player.play(bus), stop).await
            });
        }
        fleet
    }

    /// Says how things are until the end.
    async fn watch(
        &mut self,
        args: &FleetArgs,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ToolError> {
        let time = args.seconds.map(Duration::from_secs_f64);
        let end = super::until(shutdown, time);
        tokio::pin!(end);
        let mut tick = tokio::time::interval_at(Instant::now() + LINE_EVERY, LINE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = vec![0; self.stats.len()];
        let (mut answers, mut last) = (0, Instant::now());
        loop {
            tokio::select! {
                () = &mut end => {
                    self.count(&mut before);
                    return Ok(());
                }
                Some(news) = self.news.recv() => {
                    if args.json {
                        say_json(&self.report.event(&news))?;
                    }
                    self.report.take(news);
                }
                now = tick.tick() => {
                    let published = self.count(&mut before);
                    let passed = now.duration_since(last).as_secs_f64().max(0.001);
                    last = now;
                    let all = self.answers.load(Ordering::Relaxed);
                    let now = Rates {
                        #[allow(clippy::cast_precision_loss)] // a rate for people
                        publishes: published as f64 / passed,
                        answers: f64::from(all.wrapping_sub(answers)) / passed,
                        memory: memory::resident_bytes().unwrap_or(0),
                    };
                    self.say_rates(args, &now)?;
                    answers = all;
                }
            }
        }
    }

    fn say_rates(&self, args: &FleetArgs, now: &Rates) -> Result<(), ToolError> {
        let (connected, count) = (self.report.connected(), self.stats.len());
        let (connects, errors) = (self.report.connects, self.report.errors());
        let Rates {
            publishes,
            answers,
            memory,
        } = now;
        if args.json {
            return say_json(&json!({
                "ts": report::unix_ms(std::time::Instant::now()),
                "connected": connected,
                "installations": count,
                "connects": connects,
                "publishes_per_second": publishes.round(),
                "answers_per_second": answers.round(),
                "errors": errors,
                "memory_bytes": memory,
            }));
        }
        say(&format!(
            "{connected} of {count} connected · {connects} connects · {publishes:.0} publishes/s · {answers:.0} answers/s · {errors} errors · {} MiB",
            memory / 1024 / 1024
        ))
    }

    /// What was published since the last time.
    fn count(&mut self, before: &mut [u32]) -> u64 {
        let mut sum = 0;
        for (stats, before) in self.stats.iter().zip(before) {
            let published = stats.published.load(Ordering::Relaxed);
            sum += u64::from(published.wrapping_sub(*before));
            *before = published;
        }
        self.published += sum;
        sum
    }

    /// Ends all installations, and says how it was.
    async fn end(&mut self, args: &FleetArgs) -> Result<(), ToolError> {
        // All of them wait for it until they end.
        let _ = self.stop.send(true);
        let mut left = 0;
        while let Some(ended) = self.tasks.join_next().await {
            left += usize::from(!ended.unwrap_or(false));
        }
        let answers = self.answers.load(Ordering::Relaxed);
        if args.json {
            return say_json(&json!({
                "ts": report::unix_ms(std::time::Instant::now()),
                "connects": self.report.connects,
                "publishes": self.published,
                "answers": answers,
                "not_cleared": left,
                "reconnect_seconds": self.report.reconnect_seconds(),
                "errors": self.report.reasons,
            }));
        }
        say(&format!(
            "{} connects, {} publishes, {answers} answers, {} errors",
            self.report.connects,
            self.published,
            self.report.errors()
        ))?;
        self.report.lines().iter().try_for_each(|line| say(line))?;
        if left > 0 {
            say(&format!(
                "{left} installations could not clear all of their retained topics in time"
            ))?;
        }
        Ok(())
    }
}

/// What happens in a second, and what it takes.
struct Rates {
    publishes: f64,
    answers: f64,
    /// Of the process, in bytes.
    memory: u64,
}

fn say_json(value: &Value) -> Result<(), ToolError> {
    Ok(print(
        format!("{}\n", outside::json(&value.to_string())).as_bytes(),
    )?)
}

/// The bus of one installation.
struct Player {
    track: Arc<Track>,
    answers: Arc<AtomicU32>,
    speed: f64,
    once: bool,
    /// The step that comes first.
    first: usize,
}

impl Player {
    async fn play(self, bus: MemoryBus) {
        let track = &*self.track;
        let scaled = |time: Duration| {
            Duration::try_from_secs_f64(time.as_secs_f64() / self.speed).unwrap_or(Duration::MAX)
        };
        let mut next = self.first;
        let at = track.steps.get(next).map_or(Duration::ZERO, |step| step.at);
        let mut start = Instant::now();
        // The time of the recording at `start`.
        let mut from = at;
        loop {
            let due = match track.steps.get(next) {
                Some(step) => Some(step.at),
                None if self.once || track.steps.is_empty() => None,
                None => Some(track.length),
            };
            let wait = async {
                match due {
                    Some(due) => {
                        tokio::time::sleep_until(start + scaled(due.saturating_sub(from))).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                call = bus.call() => {
                    if let Some(answer) = track.answer(&call, next) {
                        bus.send(answer.frames(track, next));
                        if matches!(call.method, Method::GetValue | Method::SetValue(_)) {
                            self.answers.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                () = wait => {
                    if let Some(step) = track.steps.get(next) {
                        bus.send(step.signals.iter().filter_map(track::Signal::frame));
                        next += 1;
                    } else {
                        bus.send(track.rewind.iter().filter_map(track::Signal::frame));
                        (next, from, start) = (0, Duration::ZERO, Instant::now());
                    }
                }
            }
        }
    }
}

impl Track {
    /// How much faster than recorded, for so many changes a second.
    fn speed(&self, rate: f64) -> f64 {
        #[allow(clippy::cast_precision_loss)] // no recording has 2^52 changes
        let recorded = self.changes as f64 / self.length.as_secs_f64();
        if recorded > 0.0 { rate / recorded } else { 1.0 }
    }
}

/// Where an installation begins: neighbours far from each other.
fn spread(number: usize, steps: usize) -> usize {
    number.wrapping_mul(STRIDE) % steps.max(1)
}

/// A prime that has no factor in common with the steps of most recordings.
const STRIDE: usize = 7919;
/// How long the installation of the demo is recorded.
const DEMO_TIME: Duration = Duration::from_secs(60);
/// How often a line says how things are.
const LINE_EVERY: Duration = Duration::from_secs(5);
