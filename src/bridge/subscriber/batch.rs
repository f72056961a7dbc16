//! Batches: what changed in some seconds, in one message (`batch`).
//!
//! ```text
//! changed ──▶ a bit per slot ──every `batch` seconds──▶ N/<portal id>/batch, in parts where it is long
//! gone    ──▶ its topic       ──────────┘
//! ```
//!
//! Values are read when the batch is written: state, and no queue. What a batch needs of a topic is only its
//! text, so that items whose topics the broker does not take (§4.12) are in it too.

use std::time::{Duration, Instant};

use crate::bridge::store::Store;
use crate::bridge::store::bits::Bits;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::Life;
use crate::codec::payload;
use crate::schema::rule::Publish;

/// The longest payload of a part, where the broker takes that.
const PART_BYTES_MAX: usize = 65_536;
/// What comes behind the last value of a part.
const TAIL: &[u8] = br#"}, "full": true, "more": true}"#;

/// How batches are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchConfig {
    /// How often.
    pub every: Duration,
    /// How often with everything; `None`: only when everything is published.
    pub full: Option<Duration>,
    /// Whether each value has a topic all the same.
    pub topics: bool,
    /// Whether they are compressed, where the message can say so.
    pub compress: bool,
}

/// The batches of one reader.
#[derive(Debug)]
pub struct Batch {
    config: BatchConfig,
    changed: Bits,
    /// What clients know from a batch.
    known: Bits,
    /// The topics, without `N/<portal id>/`, of what they know and is gone.
    gone: Vec<Box<str>>,
    /// What cannot be published for its topic alone.
    misfits: Bits,
    /// Whether all that is wanted is being said.
    is_full: bool,
    next: Option<Instant>,
    full_at: Option<Instant>,
}

impl Batch {
    /// Nothing to say yet.
    pub fn new(config: BatchConfig) -> Batch {
        Batch {
            config,
            changed: Bits::default(),
            known: Bits::default(),
            gone: Vec::new(),
            misfits: Bits::default(),
            is_full: false,
            next: None,
            full_at: None,
        }
    }

    /// Whether each value has a topic all the same.
    pub fn has_topics(&self) -> bool {
        self.config.topics
    }

    /// Whether they are to be compressed.
    pub fn is_compressed(&self) -> bool {
        self.config.compress
    }

    /// An item changed that is wanted.
    pub fn changed(&mut self, slot: SlotId) {
        self.changed.insert(slot);
    }

    /// The item's topic does not fit the broker; in a batch it does.
    pub fn misfit(&mut self, slot: SlotId) {
        self.misfits.insert(slot);
    }

    /// Whether an item is that.
    pub fn is_misfit(&self, slot: SlotId) -> bool {
        self.misfits.contains(slot)
    }

    /// An item is gone.
    pub fn gone(&mut self, slot: SlotId, topic: impl FnOnce() -> Box<str>) {
        self.changed.remove(slot);
        self.misfits.remove(slot);
        if self.known.remove(slot) {
            self.gone.push(topic());
        }
    }

    /// What waits is wanted only where this says so, of a slot and whether its topic is a misfit.
    pub fn retain(&mut self, is_wanted: impl Fn(SlotId, bool) -> bool) {
        let unwanted = |slot: &SlotId| !is_wanted(*slot, self.misfits.contains(*slot));
        let unwanted: Vec<SlotId> = self.changed.iter().filter(unwanted).collect();
        for slot in unwanted {
            self.changed.remove(slot);
        }
    }

    /// A slot is free, and may be another item's soon.
    pub fn released(&mut self, slot: SlotId) {
        self.changed.remove(slot);
        self.known.remove(slot);
        self.misfits.remove(slot);
    }

    /// The next batch has all that is wanted.
    pub fn begin_full(&mut self, wanted: impl Iterator<Item = SlotId>) {
        for slot in wanted {
            self.changed.insert(slot);
        }
        self.is_full = true;
    }

    /// Nobody listens any more.
    pub fn closed(&mut self) {
        self.changed.clear();
        self.known.clear();
        self.gone.clear();
        self.is_full = false;
        self.next = None;
        self.full_at = None;
    }

    /// Somebody listens.
    pub fn start(&mut self, now: Instant) {
        self.next.get_or_insert(now + self.config.every);
        if let Some(full) = self.config.full {
            self.full_at.get_or_insert(now + full);
        }
    }

    /// When [`Batch::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        [self.next, self.full_at].into_iter().flatten().min()
    }

    /// Time has passed: whether a batch is due, and whether with everything.
    pub fn tick(&mut self, now: Instant) -> (bool, bool) {
        let is_full_due = self.full_at.is_some_and(|at| at <= now);
        let is_due = is_full_due || self.next.is_some_and(|at| at <= now);
        if is_due {
            self.next = Some(now + self.config.every);
        }
        if is_full_due {
            self.full_at = self.config.full.map(|full| now + full);
        }
        (is_full_due || (is_due && self.has_news()), is_full_due)
    }

    /// Something new is wanted: it is not waited for the time of the next batch.
    pub fn hurry(&mut self, now: Instant) {
        self.next = Some(now);
    }

    /// Whether there is anything to say.
    pub fn has_news(&self) -> bool {
        self.is_full || self.has_changes()
    }

    fn has_changes(&self) -> bool {
        !self.changed.is_empty() || !self.gone.is_empty()
    }

    /// Writes the next part, of at most that many bytes. What the part has no room for stays for the next one, and
    /// [`Batch::has_news`] tells so. What fits no part at all is left out.
    pub fn write(
        &mut self,
        store: &Store,
        (unix_ms, portal_id): (u64, &str),
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) {
        let end = out.len() + bytes_max.min(PART_BYTES_MAX) - TAIL.len().min(bytes_max);
        let is_full = self.is_full;
        out.extend_from_slice(b"{\"ts\": ");
        payload::write_uint(out, unix_ms);
        self.write_gone(end, out);
        out.extend_from_slice(b", \"values\": {");
        let start = out.len();
        let slots: Vec<SlotId> = if self.gone.is_empty() {
            self.changed.iter().collect()
        } else {
            // What is gone is said before what is there: it may be back.
            Vec::new()
        };
        for slot in slots {
            let Some(item) = store.items.get(slot).filter(|item| item.life == Life::Live) else {
                self.changed.remove(slot);
                continue;
            };
            let before = out.len();
            let topic = store.items.topic(item);
            if before > start {
                out.extend_from_slice(b", ");
            }
            payload::write_text(out, &topic);
            out.extend_from_slice(b": ");
            let is_said = if item.rule.publish == Publish::PortalId {
                payload::write_text(out, portal_id);
                true
            } else if store.values.has_value(slot) {
                store.values.render_value(slot, out);
                true
            } else {
                // Its value is too long to be kept: no value is better than a stale one.
                false
            };
            if is_said && out.len() <= end {
                self.changed.remove(slot);
                self.known.insert(slot);
                continue;
            }
            out.truncate(before);
            if is_said && before > start {
                break;
            }
            self.changed.remove(slot);
            if self.known.remove(slot) {
                self.gone.push(topic.into());
            }
        }
        out.push(b'}');
        let has_more = self.has_changes();
        if is_full {
            out.extend_from_slice(b", \"full\": true");
        }
        if has_more {
            out.extend_from_slice(b", \"more\": true");
        }
        out.push(b'}');
        self.is_full = is_full && has_more;
    }

    /// Writes what is gone, as far as there is room.
    fn write_gone(&mut self, end: usize, out: &mut Vec<u8>) {
        let mut separator: &[u8] = b", \"gone\": [";
        while let Some(topic) = self.gone.last() {
            let before = out.len();
            out.extend_from_slice(separator);
            payload::write_text(out, topic);
            // The bracket, and the head of the values.
            if out.len() + 16 > end {
                out.truncate(before);
                if separator != b", " {
                    // It fits no part.
                    self.gone.pop();
                }
                break;
            }
            self.gone.pop();
            separator = b", ";
        }
        if separator == b", " {
            out.push(b']');
        }
    }
}
