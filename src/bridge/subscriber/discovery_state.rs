//! What one broker holds for Home Assistant: which configurations, and until when.
//!
//! What is done about it is decided in [`super`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::bridge::store::items::DeviceId;
use crate::homeassistant::{Names, payload};

/// How fast configurations are published once more than a burst of them waits, in bytes a second: Home
/// Assistant sets up some hundred entities a second, and does nothing else meanwhile.
const BYTES_PER_SECOND: f64 = 65_536.0;
/// How much may be published at once.
const BURST: Duration = Duration::from_secs(6);
/// How many configurations of an earlier run are looked after.
const HELD_MAX: usize = 100_000;

/// What an outlet is told about Home Assistant at the start.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// What our devices and their topics are called.
    pub names: Names,
    /// Whether devices are described. Else what an earlier run has described is cleared.
    pub enabled: bool,
    /// How long the configuration of a device that is gone is kept; `None`: without limit.
    pub keep: Option<Duration>,
    /// Where the page of this bridge is, `http://192.168.1.5:8080`; empty where people cannot open it.
    pub page: Box<str>,
}

/// What one broker holds of our configurations.
#[derive(Debug)]
pub struct DiscoveryState {
    /// What it was told at the start.
    pub config: DiscoveryConfig,
    /// By object id.
    pub held: HashMap<Box<str>, Held>,
    /// The devices that wait to be described.
    pub queued: HashSet<DeviceId>,
    /// The devices whose turn is when what was published is set up.
    pub later: VecDeque<DeviceId>,
    /// When all that was published is set up.
    busy_until: Option<Instant>,
    /// When it is next looked whether all scans are done, and what was left by an earlier run.
    pub settle_at: Option<Instant>,
    /// Until when scans are waited for.
    pub settle_by: Option<Instant>,
    /// When the next birth may be answered.
    pub births_from: Option<Instant>,
    /// When a birth that waits is answered.
    pub birth_at: Option<Instant>,
    /// When all values are published once more.
    pub republish_at: Option<Instant>,
}

/// One configuration.
#[derive(Debug, Default)]
pub struct Held {
    /// What was published; `None` where that is not known.
    pub hash: Option<u64>,
    /// The entities that it has, as [`crate::homeassistant::payload::Written::keys`].
    pub keys: Box<str>,
    /// The device that it is a part of.
    pub whole: Option<Box<str>>,
    /// Where the device was said to be.
    pub location: Option<u64>,
    /// How many values had no room in it.
    pub left_out: usize,
    /// When it is cleared.
    pub remove_at: Option<Instant>,
    /// Whether that waits to be sent.
    pub removing: bool,
}

impl DiscoveryState {
    /// A board of which nothing is known yet.
    pub fn new(config: DiscoveryConfig) -> DiscoveryState {
        DiscoveryState {
            config,
            held: HashMap::new(),
            queued: HashSet::new(),
            later: VecDeque::new(),
            busy_until: None,
            settle_at: None,
            settle_by: None,
            births_from: None,
            birth_at: None,
            republish_at: None,
        }
    }

    /// The broker is lost, and with it what waited and what is known of it.
    pub fn disconnected(&mut self) {
        self.queued.clear();
        self.later.clear();
        self.birth_at = None;
        self.republish_at = None;
        self.settle_at = None;
        self.settle_by = None;
        for held in self.held.values_mut() {
            held.hash = None;
            held.location = None;
            held.removing = false;
        }
    }

    /// Whether one more configuration may be published, so that Home Assistant is not flooded.
    pub fn has_room(&self, now: Instant) -> bool {
        self.busy_until.is_none_or(|until| until <= now + BURST)
    }

    /// A configuration of so many bytes is published.
    pub fn is_busy(&mut self, now: Instant, bytes: usize) {
        let from = self.busy_until.filter(|until| *until > now).unwrap_or(now);
        #[allow(clippy::cast_precision_loss, reason = "of few bytes")]
        let time = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        self.busy_until = Some(from + time);
    }

    /// When the next of those that wait may be published.
    pub fn later_at(&self) -> Option<Instant> {
        let until = self.busy_until.filter(|_| !self.later.is_empty())?;
        until.checked_sub(BURST)
    }

    /// When there is something to do for this broker.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.held.values().filter(|held| !held.removing);
        let removals = waiting.filter_map(|held| held.remove_at);
        removals
            .chain(self.settle_at)
            .chain(self.birth_at)
            .chain(self.republish_at)
            .chain(self.later_at())
            .min()
    }

    /// The broker told one of the topics that it retains, and what is there.
    pub fn retained(&mut self, topic: &str, config: &[u8]) {
        if let Some(object) = self.config.names.object_of(topic)
            && (self.held.len() < HELD_MAX || self.held.contains_key(object))
        {
            let held = self.held.entry(object.into()).or_default();
            if held.hash.is_none() && !config.is_empty() {
                held.hash = Some(hash_of(config));
                held.keys = payload::read_keys(config).into();
            }
        }
    }

    /// Whether a configuration of this device, or of a part of it, has an entity for the path.
    pub fn has(&self, object: &str, path: &str) -> bool {
        let own = |name: &str| {
            let rest = name.strip_prefix(object);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        let mut held = self.held.iter().filter(|(name, _)| own(name));
        held.any(|(_, held)| payload::has_path(&held.keys, path))
    }

    /// A device is gone: its configuration is cleared then, unless it is sooner.
    pub fn gone(&mut self, object: &str, at: Option<Instant>) {
        for (name, held) in &mut self.held {
            if **name == *object || held.whole.as_deref() == Some(object) {
                held.remove_at = held.remove_at.into_iter().chain(at).min();
            }
        }
    }

    /// Until when a device that is gone now is kept.
    pub fn keep_until(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.config.keep?)
    }
}

/// Tells one payload from another.
pub fn hash_of(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // any moment will do

    use super::*;
    use crate::model::name::PortalId;

    #[test]
    fn what_home_assistant_cannot_set_up_at_once_waits() {
        let mut board = DiscoveryState::new(DiscoveryConfig {
            names: Names::new("homeassistant", &PortalId::new("c0619ab12345").unwrap()),
            enabled: true,
            keep: None,
            page: "".into(),
        });
        let start = Instant::now();
        let (mut now, mut sent) = (start, 0);
        // 217 devices of 10 kB.
        for _ in 0..217 {
            while !board.has_room(now) {
                now += Duration::from_millis(100);
            }
            board.is_busy(now, 10_000);
            sent += 10_000;
        }
        let time = now - start;
        assert!(time > Duration::from_secs(20), "{sent} bytes in {time:?}");
        assert!(time < Duration::from_secs(40), "{sent} bytes in {time:?}");
        // A few devices do not wait.
        now += Duration::from_secs(60);
        for _ in 0..30 {
            assert!(board.has_room(now));
            board.is_busy(now, 10_000);
        }
    }
}
