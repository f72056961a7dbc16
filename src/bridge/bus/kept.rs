//! What is kept of a connection to the bus before it is known what to do with it, or so that it is
//! reported once: all of it is charged to `cache-bytes-max` (§2.11).
//!
//! By connection, not by service: one connection may have hundreds of names, and what it sends is
//! kept once. The items themselves are in `crate::bridge::store::items`, and what is left out of them for want of
//! room is asked for again by `super::overflow`.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use crate::bridge::store::cache::Update;

/// What may be kept for one connection, or for the paths of one service: this part of all.
pub const SHARE: usize = 4;
/// How many paths of a connection that are never published are remembered, of each kind.
const REFUSED_MAX: usize = 10_000;
/// What one of them costs.
const REFUSED_BYTES: usize = 2 * size_of::<u64>();

/// What is kept of all connections.
#[derive(Debug, Default)]
pub struct Kept {
    connections: HashMap<Box<str>, Connection>,
    hasher: RandomState,
    bytes: usize,
    /// Counts what is kept, so that a service gets nothing from before it was there.
    clock: u64,
}

#[derive(Debug, Default)]
struct Connection {
    /// What signals, and the leaves of a walk, brought of services whose device is not known (§2.3).
    early: HashMap<Box<str>, Early>,
    /// Paths that are not topics, hashed: they may be as long and as many as a service likes.
    no_topics: HashSet<u64>,
    /// Paths that the schema blocks, each with the service type, hashed.
    blocked: HashSet<u64>,
    bytes: usize,
    early_overflow: bool,
    refused_overflow: bool,
}

#[derive(Debug)]
struct Early {
    update: Update,
    at: u64,
}

/// Whether something was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// It was.
    Kept,
    /// There was no room.
    LeftOut {
        /// Whether that is so for the first time, and thus to be reported.
        first: bool,
    },
}

/// A path that is not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It was seen for the first time.
    New,
    /// It is not to be reported.
    Known,
    /// It could not be remembered, and is the first of that connection.
    Overflow,
}

impl Connection {
    fn early_bytes(path: &str, update: &Update) -> usize {
        size_of::<(Box<str>, Early)>() + path.len() + update.bytes()
    }
}

impl Kept {
    /// The bytes of all that is kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The moment, for [`Kept::take_early`].
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// When something of that path came early, by [`Kept::clock`].
    pub fn early_at(&self, owner: &str, path: &str) -> Option<u64> {
        let early = self.connections.get(owner)?.early.get(path)?;
        Some(early.at)
    }

    /// Whether anything came early, after `since`.
    pub fn has_any_early(&self, owner: &str, since: u64) -> bool {
        let connection = self.connections.get(owner);
        connection.is_some_and(|connection| {
            let mut early = connection.early.values();
            early.any(|early| early.at > since)
        })
    }

    /// Keeps a change that came early. `max` is for this connection, `room` what there is for all.
    pub fn add_early(
        &mut self,
        owner: &str,
        path: &str,
        update: Update,
        secret: bool,
        (max, room): (usize, usize),
    ) -> Keeping {
        self.clock += 1;
        let connection = connection(&mut self.connections, owner);
        let old = connection.early.remove(path).map(|early| early.update);
        let old_bytes = old
            .as_ref()
            .map_or(0, |old| Connection::early_bytes(path, old));
        connection.bytes -= old_bytes;
        self.bytes -= old_bytes;
        let mut update = match old {
            Some(mut old) => {
                old.merge(update);
                old
            }
            None => update,
        };
        if secret {
            update.mask();
        }
        let bytes = Connection::early_bytes(path, &update);
        let room = room.saturating_add(old_bytes);
        if bytes > room || connection.bytes.saturating_add(bytes) > max {
            // What there was of it is not true any more.
            let first = !std::mem::replace(&mut connection.early_overflow, true);
            return Keeping::LeftOut { first };
        }
        connection.bytes += bytes;
        self.bytes += bytes;
        let early = Early {
            update,
            at: self.clock,
        };
        connection.early.insert(path.into(), early);
        Keeping::Kept
    }

    /// What came early after `since`, for one service. `last` where no other waits for any of it.
    pub fn take_early(&mut self, owner: &str, since: u64, last: bool) -> HashMap<Box<str>, Update> {
        let Some(connection) = self.connections.get_mut(owner) else {
            return HashMap::new();
        };
        if !last {
            let early = connection.early.iter();
            let wanted = early.filter(|(_, early)| early.at > since);
            return wanted
                .map(|(path, early)| (path.clone(), early.update.clone()))
                .collect();
        }
        let early = std::mem::take(&mut connection.early);
        self.drop_early(owner);
        let wanted = early.into_iter().filter(|(_, early)| early.at > since);
        wanted.map(|(path, early)| (path, early.update)).collect()
    }

    /// Nobody waits any more for what came early.
    pub fn drop_early(&mut self, owner: &str) {
        let Some(connection) = self.connections.get_mut(owner) else {
            return;
        };
        connection.early = HashMap::new();
        connection.early_overflow = false;
        let refused = connection.no_topics.len() + connection.blocked.len();
        let bytes = std::mem::replace(&mut connection.bytes, refused * REFUSED_BYTES);
        self.bytes = self.bytes + connection.bytes - bytes;
    }

    /// The connection has no service any more.
    pub fn forget(&mut self, owner: &str) {
        if let Some(connection) = self.connections.remove(owner) {
            self.bytes -= connection.bytes;
        }
    }

    /// Notes a path that is never published; `blocked_in` is the service type in which it is blocked,
    /// `None` where it can be no topic.
    pub fn refuse(
        &mut self,
        owner: &str,
        blocked_in: Option<&str>,
        path: &str,
        (max, room): (usize, usize),
    ) -> Refused {
        let hash = self.hasher.hash_one((blocked_in, path));
        let connection = connection(&mut self.connections, owner);
        let paths = match blocked_in {
            Some(_) => &mut connection.blocked,
            None => &mut connection.no_topics,
        };
        if paths.contains(&hash) {
            return Refused::Known;
        }
        let full = REFUSED_BYTES > room || connection.bytes.saturating_add(REFUSED_BYTES) > max;
        if full || paths.len() >= REFUSED_MAX {
            let known = std::mem::replace(&mut connection.refused_overflow, true);
            return if known {
                Refused::Known
            } else {
                Refused::Overflow
            };
        }
        paths.insert(hash);
        connection.bytes += REFUSED_BYTES;
        self.bytes += REFUSED_BYTES;
        Refused::New
    }

    /// The schema says anew what is blocked.
    pub fn forget_blocked(&mut self) {
        for connection in self.connections.values_mut() {
            let bytes = std::mem::take(&mut connection.blocked).len() * REFUSED_BYTES;
            connection.bytes -= bytes;
            self.bytes -= bytes;
        }
    }
}

fn connection<'a>(
    connections: &'a mut HashMap<Box<str>, Connection>,
    owner: &str,
) -> &'a mut Connection {
    if !connections.contains_key(owner) {
        connections.insert(owner.into(), Connection::default());
    }
    // It is there.
    connections.entry(owner.into()).or_default()
}
