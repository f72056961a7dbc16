//! `dbus-mqtt replay`: recordings onto a bus, as real services.
//!
//! Each recording becomes a separate service with its start state, then its changes follow in
//! time: those of one time and one service are one burst, told by `ItemsChanged`, a single one by
//! `PropertiesChanged`. Items can be written unless the schema says that they cannot; a write stays
//! until the recording changes the item. The schedule is pure, see [`bursts`]; only [`Player`]
//! touches the bus.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::item::Item;
use super::recording::{self, Change, Recording, service_type};
use super::service::{Behaviour, Peer, Service, Update, WriteHook};
use super::value;
use super::{ToolError, say};
use crate::cli::ReplayArgs;
use crate::config::{BusAddress, Machine};
use crate::schema::{Access, Schema};

/// Recordings that are being played: their services are on the bus until [`stop`](Player::stop).
#[derive(Debug)]
pub struct Player {
    tracks: Vec<Track>,
    bursts: Vec<Burst>,
}

/// One service and what it will do.
#[derive(Debug)]
struct Track {
    service: Service,
    recording: Recording,
}

/// Changes of one service at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burst {
    /// When, in milliseconds of the recording.
    pub ts_ms: u64,
    /// Whose: the number of the recording.
    pub track: usize,
    /// Which of its changes.
    pub changes: Range<usize>,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many changes have been sent.
    pub changes: usize,
    /// The time of the recording.
    pub ts_ms: u64,
}

/// Runs the subcommand on a bus until `shutdown`. When all is played the services stay, with their
/// last values.
pub async fn run(
    args: ReplayArgs,
    bus: &BusAddress,
    schema: &Schema,
    machine: &Machine,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ToolError> {
    check_speed(args.speed)?;
    let recordings = recording::load_all(&args.files)?;
    let mut player = Player::start(bus.as_str(), recordings, schema).await?;
    let items: usize = player.tracks.iter().map(|track| track.service.len()).sum();
    say(&format!(
        "replaying {} services with {items} items and {} changes; Ctrl-C ends it",
        player.tracks.len(),
        player.changes(),
    ))?;
    let renew = machine.renews_lines(std::io::stdout().is_terminal());
    let mut display = Display::new(player.changes(), renew);
    let play = async {
        loop {
            player
                .play(args.speed, &mut |progress| display.show(progress))
                .await?;
            if !args.repeat {
                display.end();
                say("all played; the services stay with their last values until Ctrl-C")?;
                std::future::pending::<()>().await;
            }
            player.rewind().await?;
        }
    };
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        outcome = play => outcome,
    };
    player.stop().await;
    outcome
}

/// Plays recordings once and gives the player back, with the services still on the bus.
pub async fn replay(
    bus: &str,
    recordings: Vec<Recording>,
    schema: &Schema,
    speed: f64,
) -> Result<Player, ToolError> {
    let named = recordings
        .into_iter()
        .map(|recording| (PathBuf::from(&recording.service), recording))
        .collect();
    let mut player = Player::start(bus, named, schema).await?;
    player.play(speed, &mut |_| {}).await?;
    Ok(player)
}

impl Player {
    /// Puts the services on the bus with their start states. Each recording comes with the file
    /// that errors name.
    pub async fn start(
        bus: &str,
        recordings: Vec<(PathBuf, Recording)>,
        schema: &Schema,
    ) -> Result<Player, ToolError> {
        check_names(&recordings)?;
        let mut tracks = Vec::with_capacity(recordings.len());
        for (_, recording) in recordings {
            let recording = recording.without_tree_nodes();
            let items = recording.items.iter().map(|(path, item)| {
                (
                    path.clone(),
                    playable(schema, &recording.service, path, item),
                )
            });
            let peer = Peer::connect(bus).await?;
            let behaviour = Behaviour::default();
            let on_write: Option<WriteHook> = None;
            let service = peer
                .add(&recording.service, items, behaviour, on_write)
                .await?;
            tracks.push(Track { service, recording });
        }
        let bursts = bursts(
            tracks
                .iter()
                .map(|track| track.recording.changes.as_slice()),
        );
        Ok(Player { tracks, bursts })
    }

    /// How many changes one pass has.
    pub fn changes(&self) -> usize {
        self.tracks
            .iter()
            .map(|track| track.recording.changes.len())
            .sum()
    }

    /// The services, in the order of the recordings.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.tracks.iter().map(|track| &track.service)
    }

    /// Plays all changes once, `speed` times as fast as they were recorded. Infinity leaves out
    /// every pause.
    pub async fn play(
        &mut self,
        speed: f64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ToolError> {
        check_speed(speed)?;
        let started = Instant::now();
        let mut sent = 0;
        for burst in &self.bursts {
            let due = started + at_speed(burst.ts_ms, speed);
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            let Some(track) = self.tracks.get(burst.track) else {
                continue;
            };
            let changes = track.recording.changes.get(burst.changes.clone());
            track.send(changes.unwrap_or_default())?;
            // The bus sets the pace where the recording does not.
            track.service.flushed().await?;
            sent += burst.changes.len();
            progress(Progress {
                changes: sent,
                ts_ms: burst.ts_ms,
            });
        }
        Ok(())
    }

    /// Sets all items back to the start state, told by signals as any other change.
    pub async fn rewind(&self) -> Result<(), ToolError> {
        for track in &self.tracks {
            let updates = track
                .recording
                .items
                .iter()
                .filter(|(path, start)| {
                    let now = track.service.item(path);
                    now.is_none_or(|now| !value::same(&now.value, &start.value))
                })
                .map(|(path, start)| Update {
                    path: path.clone(),
                    value: value::copy(&start.value),
                    text: start.text.clone(),
                });
            let updates: Vec<Update> = updates.collect();
            track.service.set_many(updates)?;
            track.service.flushed().await?;
        }
        Ok(())
    }

    /// Takes all services off the bus.
    pub async fn stop(self) {
        for track in self.tracks {
            track.service.stop().await;
        }
    }
}

impl Track {
    /// Sends the changes of one burst. A signal holds each path once, so a burst that changes an
    /// item twice is told by several.
    fn send(&self, changes: &[Change]) -> Result<(), ToolError> {
        let update = |change: &Change| Update {
            path: change.path.clone(),
            value: value::copy(&change.value),
            text: change.text.clone(),
        };
        if let [change] = changes {
            return self.service.update(update(change));
        }
        let mut rest = changes;
        while !rest.is_empty() {
            let mut seen = HashSet::new();
            let end = rest
                .iter()
                .position(|change| !seen.insert(change.path.as_str()))
                .unwrap_or(rest.len());
            let (now, later) = rest.split_at(end);
            self.service.set_many(now.iter().map(update))?;
            rest = later;
        }
        Ok(())
    }
}

/// The changes of several recordings as one schedule: bursts in the order of time, and of the
/// recordings where the time is the same.
pub fn bursts<'a>(recordings: impl IntoIterator<Item = &'a [Change]>) -> Vec<Burst> {
    let mut bursts = Vec::new();
    for (track, changes) in recordings.into_iter().enumerate() {
        let mut start = 0;
        for burst in changes.chunk_by(|one, other| one.ts_ms == other.ts_ms) {
            let end = start + burst.len();
            bursts.push(Burst {
                ts_ms: burst.first().map_or(0, |change| change.ts_ms),
                track,
                changes: start..end,
            });
            start = end;
        }
    }
    // Stable: the order within a recording, and of the recordings, stays.
    bursts.sort_by_key(|burst| burst.ts_ms);
    bursts
}

/// Where in a recording's time real time is.
fn at_speed(ts_ms: u64, speed: f64) -> Duration {
    #[allow(clippy::cast_precision_loss)] // a recording of 300,000 years would be off by a ms
    let seconds = ts_ms as f64 / 1000.0 / speed;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn check_speed(speed: f64) -> Result<(), ToolError> {
    if speed > 0.0 {
        Ok(())
    } else {
        Err(ToolError::Speed { speed })
    }
}

fn check_names(recordings: &[(PathBuf, Recording)]) -> Result<(), ToolError> {
    for (index, (file, recording)) in recordings.iter().enumerate() {
        let twin = recordings
            .iter()
            .take(index)
            .find(|(_, other)| other.service == recording.service);
        if let Some((first, _)) = twin {
            return Err(ToolError::SameService {
                name: recording.service.clone(),
                first: first.clone(),
                second: file.clone(),
            });
        }
    }
    Ok(())
}

/// The item as the replayed service has it: open for writes, as far as anyone knows.
fn playable(schema: &Schema, service: &str, path: &str, item: &Item) -> Item {
    let rule = schema.lookup(service_type(service), path).rule;
    Item {
        writable: rule.access != Access::Read,
        ..item.clone()
    }
}

/// A progress bar on a terminal, a line every few seconds elsewhere.
struct Display {
    bar: Option<ProgressBar>,
    total: usize,
    said: Instant,
}

impl Display {
    fn new(total: usize, renew: bool) -> Self {
        let bar = renew.then(|| {
            let length = u64::try_from(total).unwrap_or(u64::MAX);
            let target = ProgressDrawTarget::stdout();
            let bar = ProgressBar::with_draw_target(Some(length), target);
            if let Ok(style) = ProgressStyle::with_template(BAR) {
                bar.set_style(style);
            }
            bar
        });
        Display {
            bar,
            total,
            said: Instant::now(),
        }
    }

    fn show(&mut self, progress: Progress) {
        let seconds = progress.ts_ms / 1000;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{seconds} s"));
            bar.set_position(u64::try_from(progress.changes).unwrap_or(u64::MAX));
        } else if self.said.elapsed() >= LINE_EVERY || progress.changes == self.total {
            self.said = Instant::now();
            // What cannot be said here is told with the next line that matters.
            let _ = say(&format!(
                "{} of {} changes, {seconds} s into the recording",
                progress.changes, self.total
            ));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
            let _ = say("");
        }
    }
}

const BAR: &str = "{bar:40} {pos}/{len} changes, {msg} into the recording";
const LINE_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn change(ts_ms: u64, path: &str) -> Change {
        Change {
            ts_ms,
            path: path.to_owned(),
            value: value::invalid(),
            text: None,
        }
    }

    #[test]
    fn equal_times_of_one_service_are_one_burst() {
        let one = [
            change(0, "/a"),
            change(1000, "/a"),
            change(1000, "/b"),
            change(2000, "/a"),
        ];
        let two = [change(1000, "/c"), change(1500, "/c")];
        let told: Vec<_> = bursts([one.as_slice(), two.as_slice()])
            .into_iter()
            .map(|burst| (burst.ts_ms, burst.track, burst.changes))
            .collect();
        assert_eq!(
            told,
            [
                (0, 0, 0..1),
                (1000, 0, 1..3),
                (1000, 1, 0..1),
                (1500, 1, 1..2),
                (2000, 0, 3..4)
            ]
        );
        assert!(bursts([]).is_empty());
    }

    #[test]
    fn speed_divides_time() {
        assert_eq!(at_speed(3000, 2.0), Duration::from_millis(1500));
        assert_eq!(at_speed(3000, f64::INFINITY), Duration::ZERO);
        assert_eq!(at_speed(u64::MAX, 1e-300), Duration::MAX);
        for speed in [0.0, -1.0, f64::NAN] {
            assert!(check_speed(speed).is_err());
        }
    }

    #[test]
    fn one_name_is_played_once() {
        let recording = |service: &str| Recording {
            service: service.to_owned(),
            ..Recording::default()
        };
        let files = vec![
            (PathBuf::from("a.jsonl"), recording("com.victronenergy.x")),
            (PathBuf::from("b.jsonl"), recording("com.victronenergy.y")),
            (PathBuf::from("c.jsonl"), recording("com.victronenergy.x")),
        ];
        let error = check_names(&files).unwrap_err().to_string();
        assert!(
            error.starts_with("a.jsonl and c.jsonl are both recordings of com.victronenergy.x"),
            "{error}"
        );
    }
}
