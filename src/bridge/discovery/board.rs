//! What one broker holds for Home Assistant: which configurations, and until when.
//!
//! What is done about it is decided in [`super`].

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::bridge::store::items::DeviceId;
use crate::homeassistant::Names;

/// How many configurations of an earlier run are looked after.
const HELD_MAX: usize = 100_000;

/// What an outlet is told about Home Assistant at the start.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// What our devices and their topics are called.
    pub names: Names,
    /// Whether devices are described. Else what an earlier run has described is taken back.
    pub enabled: bool,
    /// How long the configuration of a device that is gone is kept; `None`: for ever.
    pub keep: Option<Duration>,
}

/// What one broker holds of our configurations.
#[derive(Debug)]
pub struct Board {
    /// What it was told at the start.
    pub config: DiscoveryConfig,
    /// By object id.
    pub held: HashMap<Box<str>, Held>,
    /// The devices that wait to be described.
    pub queued: HashSet<DeviceId>,
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
    /// How many values had no room in it.
    pub left_out: usize,
    /// When it is taken back.
    pub remove_at: Option<Instant>,
    /// Whether that waits to be sent.
    pub removing: bool,
}

impl Board {
    /// A board of which nothing is known yet.
    pub fn new(config: DiscoveryConfig) -> Board {
        Board {
            config,
            held: HashMap::new(),
            queued: HashSet::new(),
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
        self.birth_at = None;
        self.republish_at = None;
        self.settle_at = None;
        self.settle_by = None;
        for held in self.held.values_mut() {
            held.hash = None;
            held.removing = false;
        }
    }

    /// When there is something to do for this broker.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.held.values().filter(|held| !held.removing);
        let removals = waiting.filter_map(|held| held.remove_at);
        removals
            .chain(self.settle_at)
            .chain(self.birth_at)
            .chain(self.republish_at)
            .min()
    }

    /// The broker told one of the topics that it retains.
    pub fn retained(&mut self, topic: &str) {
        if let Some(object) = self.config.names.object_of(topic)
            && (self.held.len() < HELD_MAX || self.held.contains_key(object))
        {
            self.held.entry(object.into()).or_default();
        }
    }

    /// A device is gone: its configuration is taken back then, unless it is sooner.
    pub fn gone(&mut self, object: &str, at: Option<Instant>) {
        if let Some(held) = self.held.get_mut(object) {
            held.remove_at = held.remove_at.into_iter().chain(at).min();
        }
    }

    /// Until when a device that is gone now is kept.
    pub fn keep_until(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.config.keep?)
    }
}
