//! Which of our topics a broker takes, and under which names (§4.12).
//!
//! Held against an item when it becomes known, and never at an update: what is left out is a bit of the
//! gate, and only what is renamed is looked up when it is published.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crate::bridge::store::bits::Bits;
use crate::bridge::store::cache::SlotId;
use crate::model::topic::{Misfit, TopicRules};

/// How many topics are remembered as reported.
const REPORTED_MAX: usize = 1_000;

/// What one broker takes of our topics.
#[derive(Debug, Default)]
pub struct Fit {
    rules: TopicRules,
    /// The topics, below the prefix, of items that are not called there as they are.
    renamed: HashMap<SlotId, Box<str>>,
    by_topic: HashMap<Box<str>, SlotId>,
    /// Topics that made the broker close the connection, below the prefix where they have it, and until
    /// when they are left out.
    banned: HashMap<Box<str>, Instant>,
    /// The items of these that the broker is not known to hold.
    refused: Bits,
    reported: HashSet<Box<str>>,
}

impl Fit {
    /// As the settings say.
    pub fn new(rules: TopicRules) -> Fit {
        Fit {
            rules,
            ..Fit::default()
        }
    }

    /// Whether every topic fits, as far as is known.
    pub fn is_open(&self) -> bool {
        self.rules.are_none() && self.banned.is_empty()
    }

    /// An item is new, or back. Tells whether it is to be left out; why, where that is to be said.
    pub fn added(
        &mut self,
        slot: SlotId,
        prefix: &str,
        key: &str,
        path: &str,
    ) -> Result<(), Option<Misfit>> {
        if self.is_open() {
            return Ok(());
        }
        let rest = [key, path].concat();
        let wire = self.rules.replaced(&rest);
        let shown = wire.as_deref().unwrap_or(&rest);
        if self.banned.contains_key(shown) {
            return Err(None);
        }
        let mut misfit = self.rules.misfit(prefix, shown);
        if let Some(wire) = wire.filter(|_| misfit.is_none()) {
            let wire: Box<str> = wire.into();
            match self.by_topic.get(&wire) {
                Some(other) if *other != slot => misfit = Some(Misfit::Taken),
                _ => {
                    self.by_topic.insert(wire.clone(), slot);
                    self.renamed.insert(slot, wire);
                }
            }
        }
        match misfit {
            None => Ok(()),
            Some(misfit) => {
                let new = self.reported.len() < REPORTED_MAX && self.reported.insert(rest.into());
                Err(new.then_some(misfit))
            }
        }
    }

    /// A slot is free.
    pub fn released(&mut self, slot: SlotId) {
        self.refused.remove(slot);
        if let Some(wire) = self.renamed.remove(&slot) {
            self.by_topic.remove(&wire);
        }
    }

    /// The topic of an item below the prefix, where it is not `<type>/<instance><path>`.
    #[inline]
    pub fn topic(&self, slot: SlotId) -> Option<&str> {
        if self.renamed.is_empty() {
            return None;
        }
        self.renamed.get(&slot).map(|wire| &**wire)
    }

    /// The item that has a topic which is not its own.
    pub fn find(&self, rest: &str) -> Option<SlotId> {
        self.by_topic.get(rest).copied()
    }

    /// Any item of the device that is called `key` there.
    pub fn find_device(&self, key: &str) -> Option<SlotId> {
        let of_device = |topic: &str| {
            let rest = topic.strip_prefix(key);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let mut topics = self.by_topic.iter();
        topics.find_map(|(topic, slot)| of_device(topic).then_some(*slot))
    }

    /// Leaves a topic out, and its item.
    pub fn ban(&mut self, topic: &str, slot: Option<SlotId>, until: Instant) {
        self.banned.insert(topic.into(), until);
        if let Some(slot) = slot {
            self.refused.insert(slot);
        }
    }

    /// Whether the topic is left out because of what it did.
    pub fn is_banned(&self, topic: &str) -> bool {
        self.banned.contains_key(topic)
    }

    /// Whether the broker is not even to be told that the item is gone.
    pub fn refuses(&self, slot: SlotId) -> bool {
        self.refused.contains(slot)
    }

    /// The broker has the item's topic in store, and so it takes it.
    pub fn holds(&mut self, slot: SlotId) {
        self.refused.remove(slot);
    }

    /// When the next topic may be tried again.
    pub fn deadline(&self) -> Option<Instant> {
        self.banned.values().min().copied()
    }

    /// Takes the topics that may be tried again.
    pub fn returning(&mut self, now: Instant) -> Vec<Box<str>> {
        if self.deadline().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let due = self.banned.extract_if(|_, until| *until <= now);
        due.map(|(topic, _)| topic).collect()
    }
}
