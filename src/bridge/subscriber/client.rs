//! Clients that are connected to the bridge itself, as the thread of the bus sees them (§9).
//!
//! ```text
//! bus thread:      item is new, or gone ──▶ take_directory ─┐
//!                  value changed ─────────▶ Marks ──────────┼──▶ serving thread, its own clients
//!                  rules of §5, in order ─▶ poll_client ────┘
//!                  request_of_client ◀──────────────────────── R/…, W/… of a client
//! ```
//!
//! A listener is an outlet like a broker's: access, lists, limits, requests in their order. But no value
//! waits in it, and nothing is known of who subscribes to what: one mark for all clients says that a slot
//! has changed, and whoever wants it reads it from the cache. So an update costs the bus thread the same,
//! however many clients there are.
//!
//! What there is, is told as state: of an item that came and went ten times before the other thread had
//! time, the last is told. INVARIANT: a slot is not another item's before the other thread has taken note
//! that its item is gone (`Bridge::directory_handled`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::bridge::store::cache::SlotId;
use crate::bridge::store::marks::Marks;
use crate::bridge::subscriber::rate::Rates;
use crate::model::request::ResponseAddress;
use crate::schema::rule::{self, Publish};

/// What the bus thread keeps for the one that serves clients.
#[derive(Debug)]
pub struct Direct {
    marks: Arc<Marks>,
    /// What the other thread is to be told of items; `None`: gone.
    changes: BTreeMap<SlotId, Option<DirectoryItem>>,
    /// Slots of items that are gone, and in which of the batches that was told.
    leaving: HashMap<SlotId, Option<u32>>,
    /// The last batch that was taken.
    batch: u32,
    /// How many requests each client has.
    rates: HashMap<u64, Rates>,
}

/// An item, as clients that are served directly know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryItem {
    /// `<type>/<instance><path>`.
    pub topic: Box<str>,
    /// Whether it comes first in a full publish (§5.5).
    pub identifying: bool,
}

/// What has come and gone, by slot. Those that are gone are to be handled first: their topics may be
/// others' now.
#[derive(Debug, Default)]
pub struct Directory {
    /// Its number, for `Bridge::directory_handled`.
    pub batch: u32,
    /// Those that are gone.
    pub gone: Vec<SlotId>,
    /// Those that are there.
    pub items: Vec<(SlotId, DirectoryItem)>,
}

/// What clients of a listener are to be told, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAnswer {
    /// An item was read: to all who have a filter for it, whether it changed or not (§9.10).
    Read(SlotId),
    /// Everything once more, then a completion message that carries this back (§5.3, §9.9).
    Republish {
        /// Who asked; `None`: for all.
        client: Option<u64>,
        /// A JSON text.
        echo: Option<Box<str>>,
    },
    /// What is not an item.
    Say {
        /// The whole topic.
        topic: Box<str>,
        /// Its payload; empty where it is cleared.
        payload: Box<[u8]>,
        /// Whether clients that come later get it too.
        retain: bool,
    },
    /// Whether the clients get anything of ours: the device says what they may do (§8).
    Serves(bool),
    /// What one client is told of its request (§5.8).
    Respond {
        /// Whom, and where.
        to: ResponseAddress,
        /// The payload.
        payload: Box<[u8]>,
    },
}

impl Direct {
    /// Nothing is known yet.
    pub fn new(marks: Arc<Marks>) -> Direct {
        Direct {
            marks,
            changes: BTreeMap::new(),
            leaving: HashMap::new(),
            batch: 0,
            rates: HashMap::new(),
        }
    }

    /// An item has changed.
    #[inline]
    pub fn changed(&self, slot: SlotId) {
        self.marks.set(slot);
    }

    /// An item is new, or back.
    pub fn added(&mut self, slot: SlotId, key: &str, path: &str, rule: rule::Marks) {
        // What the portal id's topic says is not in the cache; the listener says it (§4.2).
        if rule.publish == Publish::PortalId {
            return;
        }
        let item = DirectoryItem {
            topic: [key, path].concat().into(),
            identifying: rule.identifying,
        };
        self.leaving.remove(&slot);
        self.changes.insert(slot, Some(item));
    }

    /// An item is gone. Tells whether its slot must wait until the other thread knows.
    pub fn gone(&mut self, slot: SlotId) -> bool {
        self.changes.insert(slot, None);
        self.leaving.insert(slot, None);
        true
    }

    /// Whether a client may ask for something now, by its own budget.
    pub fn rates(&mut self, client: u64) -> &mut Rates {
        self.rates.entry(client).or_default()
    }

    /// A client is gone.
    pub fn client_gone(&mut self, client: u64) {
        self.rates.remove(&client);
    }

    /// Whether there is anything to tell.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What has come and gone since the last time.
    pub fn take(&mut self) -> Directory {
        self.batch = self.batch.wrapping_add(1);
        let mut directory = Directory {
            batch: self.batch,
            ..Directory::default()
        };
        for (slot, change) in std::mem::take(&mut self.changes) {
            if let Some(item) = change {
                directory.items.push((slot, item));
            } else {
                directory.gone.push(slot);
                self.leaving.insert(slot, Some(self.batch));
            }
        }
        directory
    }

    /// All batches up to this one are known. Gives the slots that need wait no longer.
    pub fn handled(&mut self, batch: u32) -> Vec<SlotId> {
        let is_done = |told: &Option<u32>| told.is_some_and(|told| told <= batch);
        let done = self.leaving.extract_if(|_, told| is_done(told));
        done.map(|(slot, _)| slot).collect()
    }

    /// Whether slots wait for that.
    pub fn awaits(&self) -> bool {
        !self.leaving.is_empty()
    }
}
