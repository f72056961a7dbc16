//! What waits to be sent to one reader, in first-come order (§4.4).
//!
//! ```text
//! push(slot) ──▶ [slot, slot, CONTROL, slot, …] ──▶ pop
//!                 each slot once: the latest value is read when it is popped
//! ```
//!
//! Notifications are state, one place per item; the few messages that are not items stand in the same
//! line, so that a completion follows all it completes.

use std::collections::VecDeque;

use super::answers::Requester;
use crate::bridge::store::bits::Bits;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::{DeviceId, ItemRef};
use crate::bridge::subscriber::response::Response;

/// A message that is not an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// `N/<portal>/bridge/status` = online (§4.10).
    Online,
    /// `N/<portal>/bridge/status` = offline: the bridge ends.
    Offline,
    /// `N/<portal>/system/0/Serial` (§4.2).
    Serial,
    /// `N/<portal>/keepalive` (§4.2).
    KeepAlive,
    /// `N/<portal>/keepalive`, taken back: the bridge ends.
    NoKeepAlive,
    /// `N/<portal>/heartbeat` (§4.8).
    Heartbeat,
    /// `N/<portal>/batch`: what changed in some seconds, or a part of that.
    Batch,
    /// `N/<portal>/bridge/stats`: what the bridge tells of itself.
    Stats,
    /// `N/<portal>/full_publish_completed`, with the JSON text to carry back (§5.3).
    Completed(Option<Box<str>>),
    /// Everything once more for a client that is served directly, and a completion that carries this back
    /// (§9.9).
    Republish(Requester, Option<Box<str>>),
    /// An item, once more or for once: the answer to a read (§5.5).
    Answer(ItemRef),
    /// What a client is told of its request (§5.8).
    Respond(Box<Response>),
    /// An empty retained payload for a topic below the portal id that no item has (§4.9).
    Clear(Box<str>),
    /// The configuration of a device, for Home Assistant.
    Describe(DeviceId),
    /// An empty retained payload for the configuration of a device that is gone: its object id.
    Forget(Box<str>),
}

impl Control {
    /// Whether clients can have as many of it as they like.
    fn is_answer(&self) -> bool {
        match self {
            Control::Serial
            | Control::Completed(_)
            | Control::Republish(..)
            | Control::Answer(_)
            | Control::Respond(_) => true,
            Control::Online
            | Control::Offline
            | Control::KeepAlive
            | Control::NoKeepAlive
            | Control::Heartbeat
            | Control::Batch
            | Control::Stats
            | Control::Clear(_)
            | Control::Describe(_)
            | Control::Forget(_) => false,
        }
    }
}

impl Control {
    fn is_completion(&self) -> bool {
        matches!(self, Control::Completed(_) | Control::Republish(..))
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// An item.
    Item(SlotId),
    /// An item that may be held back.
    Held(SlotId),
    /// Something else.
    Control(Control),
}

/// What waits for one reader.
#[derive(Debug, Default)]
pub struct Outbox {
    ring: VecDeque<u32>,
    queued: Bits,
    controls: VecDeque<Control>,
    /// Answers that go before all of that, where the broker's pace lets values wait (§4.13).
    first: VecDeque<Control>,
    answers_first: bool,
    /// How many of the controls clients have asked for.
    answers: usize,
    /// How many of them end a full publish.
    completions: usize,
}

/// Stands in the ring for the next control.
const CONTROL: u32 = u32::MAX;
/// Marks a slot in the ring that may be held back. No slot has so high a number.
const HELD: u32 = 1 << 31;

impl Outbox {
    /// An outbox where answers to requests go before values, or wait for their turn.
    pub fn new(answers_first: bool) -> Outbox {
        Outbox {
            answers_first,
            ..Outbox::default()
        }
    }

    /// Whether answers to requests go before values.
    pub fn answers_first(&self) -> bool {
        self.answers_first
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.first.is_empty()
    }

    /// Whether the slot waits.
    pub fn contains(&self, slot: SlotId) -> bool {
        self.queued.contains(slot)
    }

    /// Puts a slot at the end, unless it waits already. `false` where it does.
    #[inline]
    pub fn push(&mut self, slot: SlotId) -> bool {
        let new = self.queued.insert(slot);
        if new {
            self.ring.push_back(slot.0);
        }
        new
    }

    /// The same for a slot that may be held back: whether it is, is asked when its turn comes.
    pub fn push_held(&mut self, slot: SlotId) -> bool {
        let new = self.queued.insert(slot);
        if new {
            self.ring.push_back(slot.0 | HELD);
        }
        new
    }

    /// How many messages wait that are not items, and that clients have asked for.
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// How many completion messages wait.
    pub fn completions(&self) -> usize {
        self.completions
    }

    /// Puts a control at the end.
    pub fn push_control(&mut self, control: Control) {
        self.answers += usize::from(control.is_answer());
        self.completions += usize::from(control.is_completion());
        self.ring.push_back(CONTROL);
        self.controls.push_back(control);
    }

    /// Puts an answer to a request at the end, or behind the answers before it. A completion is none: it
    /// follows all that it completes.
    pub fn push_answer(&mut self, answer: Control) {
        if self.answers_first {
            self.answers += usize::from(answer.is_answer());
            self.first.push_back(answer);
        } else {
            self.push_control(answer);
        }
    }

    /// How many answers go before all that waits in turn.
    #[inline]
    pub fn first(&self) -> usize {
        self.first.len()
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Entry> {
        if let Some(answer) = self.first.pop_front() {
            self.answers -= usize::from(answer.is_answer());
            return Some(Entry::Control(answer));
        }
        self.pop_in_turn()
    }

    /// Takes the first of what waits in turn. The slot's mark is cleared before its value is read: a change
    /// in between queues it again.
    #[inline]
    pub fn pop_in_turn(&mut self) -> Option<Entry> {
        let Some(first) = self.ring.pop_front() else {
            if self.ring.capacity() > 4096 {
                // After a full republish of a large system: give the memory back.
                self.ring.shrink_to(1024);
            }
            return None;
        };
        if first >= HELD {
            return self.pop_marked(first);
        }
        let slot = SlotId(first);
        self.queued.remove(slot);
        Some(Entry::Item(slot))
    }

    fn pop_marked(&mut self, first: u32) -> Option<Entry> {
        if first == CONTROL {
            let control = self.controls.pop_front()?;
            self.answers -= usize::from(control.is_answer());
            self.completions -= usize::from(control.is_completion());
            return Some(Entry::Control(control));
        }
        let slot = SlotId(first & !HELD);
        self.queued.remove(slot);
        Some(Entry::Held(slot))
    }

    /// Forgets all, and gives the slots that waited.
    pub fn clear(&mut self) -> Vec<SlotId> {
        self.queued.clear();
        self.controls.clear();
        self.first.clear();
        self.answers = 0;
        self.completions = 0;
        self.ring
            .drain(..)
            .filter(|&slot| slot != CONTROL)
            .map(|slot| SlotId(slot & !HELD))
            .collect()
    }
}
