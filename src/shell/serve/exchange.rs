//! What passes between the thread of the bus and the one that serves clients.
//!
//! ```text
//!  bus thread                                           serving thread
//!  Cache ────────── slots, read without a lock ──────────▶ values
//!  Marks ────────── bits, taken without a lock ──────────▶ what has changed
//!  inbox ────────── items, answers: rare, in order ──────▶ directory, answer
//!  handled ◀─────── which of that is known ────────────────
//!  requests ◀────── R/…, W/…: in order ────────────────────
//! ```
//!
//! Nothing on the way of a value is behind a lock that the other side takes. The two queues are, for as long
//! as it takes to move what is in them. Each side rings a bell for the other: the bus thread once for a
//! batch, and for values only while the other one sleeps ([`Marks`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::bridge::{Bridge, ClientAnswer, Directory, Marks};
use crate::model::counts::ClientCounts;
use crate::model::time::Now;
use crate::serve::ClientRequest;

/// How many requests may wait for the bus thread; each client has a separate budget besides.
const REQUESTS_MAX: usize = 16_384;

/// What both threads have.
#[derive(Debug)]
pub(in crate::shell) struct Exchange {
    /// Which slots have changed.
    pub(super) marks: Arc<Marks>,
    inbox: Mutex<Inbox>,
    /// The last batch of the directory that the serving thread has handled.
    handled: AtomicU32,
    /// For the serving thread.
    pub(super) bell: Notify,
    requests: Mutex<VecDeque<FromClients>>,
    /// For the bus thread.
    pub(super) bus_bell: Notify,
    ending: AtomicBool,
    /// What was counted of each listener, and whether the bus thread has not seen it.
    counts: Mutex<Vec<ClientCounts>>,
    is_counted: AtomicBool,
    /// The outlet of the first listener; the others follow it.
    first: usize,
    /// Whether the clients of each were last told that they get what is ours (§8).
    serves: Box<[AtomicBool]>,
}

/// For the serving thread.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// What items there are.
    pub(super) directories: Vec<Directory>,
    /// What the clients of a listener are told, in this order, after that.
    pub(super) answers: VecDeque<(usize, ClientAnswer)>,
}

/// For the bus thread.
#[derive(Debug)]
pub(super) enum FromClients {
    /// One asks for something.
    Request(ClientRequest),
    /// One is gone.
    Gone(u64),
    /// Some are there, or none any more, at a listener.
    Listen(usize, bool),
}

impl Exchange {
    /// `first` is the number of the first listener's outlet; `serves` says of each listener whether its clients
    /// get what is ours at the start.
    pub(super) fn new(
        marks: Arc<Marks>,
        first: usize,
        serves: impl Iterator<Item = bool>,
    ) -> Exchange {
        Exchange {
            marks,
            inbox: Mutex::default(),
            handled: AtomicU32::new(0),
            bell: Notify::new(),
            requests: Mutex::default(),
            bus_bell: Notify::new(),
            ending: AtomicBool::new(false),
            counts: Mutex::default(),
            is_counted: AtomicBool::new(false),
            first,
            serves: serves.map(AtomicBool::new).collect(),
        }
    }

    // The bus thread.

    /// Hands over what the bridge has for clients, and wakes the serving thread where it is to.
    pub(in crate::shell) fn tell(
        &self,
        now: impl Fn() -> Now,
        memory_bytes: impl Fn() -> Option<u64>,
        bridge: &mut Bridge,
    ) {
        let mut rings = false;
        if bridge.has_directory() {
            let directory = bridge.take_directory();
            let slots: Vec<_> = directory.items.iter().map(|(slot, _)| *slot).collect();
            lock(&self.inbox).directories.push(directory);
            // A mark from before the item was known went by unheard.
            for slot in slots {
                self.marks.set(slot);
            }
            rings = true;
        }
        self.hand_counts(bridge);
        for (listener, served) in self.serves.iter().enumerate() {
            let outlet = self.outlet(listener);
            let serves = bridge.serves(outlet);
            let has_changed = served.swap(serves, Ordering::Relaxed) != serves;
            let mut push = |answer| {
                lock(&self.inbox).answers.push_back((listener, answer));
                rings = true;
            };
            if has_changed && serves {
                push(ClientAnswer::Serves(true));
            }
            if bridge.has_work(outlet) {
                while let Some(answer) = bridge.poll_client(now(), outlet, &memory_bytes) {
                    push(answer);
                }
            }
            // The last that they hear is that we are not there.
            if has_changed && !serves {
                push(ClientAnswer::Serves(false));
            }
        }
        if bridge.awaits_directory() {
            bridge.directory_handled(self.handled.load(Ordering::Acquire));
        }
        if self.marks.rouse() || rings {
            self.bell.notify_one();
        }
    }

    /// What clients have asked for since the last time.
    pub(super) fn take_requests(&self) -> VecDeque<FromClients> {
        std::mem::take(&mut *lock(&self.requests))
    }

    /// The outlet of this listener.
    pub(super) fn outlet(&self, listener: usize) -> usize {
        self.first + listener
    }

    /// The bridge ends: clients are told, and their connections closed.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// Hands over what was counted, not long ago.
    pub(in crate::shell) fn hand_counts(&self, bridge: &mut Bridge) {
        if self.is_counted.swap(false, Ordering::Acquire) {
            for (listener, counts) in lock(&self.counts).iter().enumerate() {
                bridge.clients_counted(self.outlet(listener), *counts);
            }
        }
    }

    // The serving thread.

    /// What has come since the last time.
    pub(super) fn take_inbox(&self) -> Inbox {
        std::mem::take(&mut *lock(&self.inbox))
    }

    /// What this batch of the directory says is known.
    pub(super) fn handled(&self, batch: u32) {
        self.handled.store(batch, Ordering::Release);
    }

    /// Hands something to the bus thread. `false` where too much waits there.
    pub(super) fn push(&self, from: FromClients) -> bool {
        let mut requests = lock(&self.requests);
        let has_room = requests.len() < REQUESTS_MAX || !matches!(from, FromClients::Request(_));
        if has_room {
            requests.push_back(from);
            drop(requests);
            self.bus_bell.notify_one();
        }
        has_room
    }

    /// Whether the bridge ends.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Tells what was counted.
    pub(super) fn note(&self, counts: Vec<ClientCounts>) {
        *lock(&self.counts) = counts;
        self.is_counted.store(true, Ordering::Release);
    }
}

/// For a moment; a panic elsewhere ends the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
