//! Names whose owner changes all the time: how soon the new one is scanned (§2.9).
//!
//! The first owners of a name are scanned at once: a service that is restarted is not kept waiting.
//! Beyond that each scan doubles the wait, from 1 s to 60 s, until the name has been calm for a minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So many scans are made at once.
const FREE: u32 = 4;
/// The longest wait, and how long a name is calm before it counts as new.
const CALM: Duration = Duration::from_secs(60);
/// How many names are remembered; beyond that each waits for a second.
const NAMES_MAX: usize = 4_096;

/// When a name may be scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// After this time; `is_new` where it was not said before.
    Later {
        /// How long to wait.
        after: Duration,
        /// Whether no scan of the name waits already.
        is_new: bool,
    },
}

#[derive(Debug)]
struct Name {
    scans: u32,
    /// No scan before this.
    free_at: Instant,
    /// Whether a scan waits for that.
    waits: bool,
}

impl Name {
    fn is_calm(&self, now: Instant) -> bool {
        now >= self.free_at + CALM
    }

    fn scanned(&mut self, at: Instant) {
        self.scans = self.scans.saturating_add(1);
        self.free_at = at + pause(self.scans);
        self.waits = false;
    }
}

fn pause(scans: u32) -> Duration {
    let doubled = scans.checked_sub(FREE).map(|more| 1 << more.min(6));
    doubled
        .map_or(Duration::ZERO, Duration::from_secs)
        .min(CALM)
}

/// The names that had an owner lately.
#[derive(Debug, Default)]
pub struct Flapping {
    names: HashMap<Box<str>, Name>,
}

impl Flapping {
    /// A name has a new owner: when that may be scanned. Where it is later, it is.
    pub fn owned(&mut self, now: Instant, name: &str) -> Turn {
        if !self.names.contains_key(name) {
            if self.names.len() >= NAMES_MAX {
                self.names.retain(|_, name| !name.is_calm(now));
            }
            if self.names.len() >= NAMES_MAX {
                let (after, is_new) = (Duration::from_secs(1), false);
                return Turn::Later { after, is_new };
            }
        }
        let fresh = || Name {
            scans: 0,
            free_at: now,
            waits: false,
        };
        let known = self.names.entry(name.into()).or_insert_with(fresh);
        if known.is_calm(now) {
            *known = fresh();
        }
        if known.waits && now >= known.free_at {
            // That scan was made then.
            known.scanned(known.free_at);
        }
        if now >= known.free_at {
            known.scanned(now);
            return Turn::Now;
        }
        Turn::Later {
            after: known.free_at - now,
            is_new: !std::mem::replace(&mut known.waits, true),
        }
    }

    /// Whether a name's owners come and go too fast to be told of each.
    pub fn is_damped(&self, now: Instant, name: &str) -> bool {
        let known = self.names.get(name);
        known.is_some_and(|known| known.scans >= FREE && !known.is_calm(now))
    }

    /// Forgets all: the bus is gone, and every name with it.
    pub fn clear(&mut self) {
        self.names.clear();
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    /// When a name is scanned whose owner changes every 10 ms for that long.
    fn scans(flapping: &mut Flapping, start: Instant, seconds: u64) -> Vec<Duration> {
        let mut scans = Vec::new();
        for step in 0..seconds * 100 {
            let now = start + Duration::from_millis(step * 10);
            match flapping.owned(now, "a") {
                Turn::Now => scans.push(now - start),
                Turn::Later {
                    after,
                    is_new: true,
                } => scans.push(now + after - start),
                Turn::Later { .. } => {}
            }
        }
        scans
    }

    #[test]
    fn s2_9_a_name_that_flaps_is_scanned_less_and_less() {
        let start = Instant::now();
        let mut flapping = Flapping::default();
        let found = scans(&mut flapping, start, 300);
        let rounded: Vec<u64> = found
            .iter()
            .map(|at| (*at + Duration::from_millis(500)).as_secs())
            .collect();
        assert_eq!(
            rounded,
            [0, 0, 0, 0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303]
        );
        assert!(flapping.is_damped(start + Duration::from_secs(300), "a"));
        assert!(!flapping.is_damped(start, "b"));
        // Calm for a minute, it is like any other.
        let later = start + Duration::from_secs(303 + 121);
        assert_eq!(flapping.owned(later, "a"), Turn::Now);
        assert!(!flapping.is_damped(later, "a"));
    }

    #[test]
    fn s2_9_what_is_remembered_of_names_is_bounded() {
        let now = Instant::now();
        let mut flapping = Flapping::default();
        for number in 0..NAMES_MAX {
            assert_eq!(flapping.owned(now, &number.to_string()), Turn::Now);
        }
        let later = Turn::Later {
            after: Duration::from_secs(1),
            is_new: false,
        };
        assert_eq!(flapping.owned(now, "one more"), later);
        assert_eq!(flapping.owned(now + CALM, "one more"), Turn::Now);
        assert_eq!(flapping.names.len(), 1);
    }
}
