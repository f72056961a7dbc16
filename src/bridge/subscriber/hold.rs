//! Values that go out less often than they change (`throttle`): at most once in an interval, and not while
//! they stay near the one that the reader has.
//!
//! ```text
//!             its turn has come
//! changed ──▶ first? interval over, and outside the deadband? ──yes──▶ published
//!   ▲                                   │ no
//!   └──── the interval or the rest ends ┴─ held back
//! ```
//!
//! It is decided when a value's turn comes, from what is true then, so that nothing is kept but when and
//! what went out last. The last value of a series always goes out: one within the interval when that ends,
//! one within the deadband once it has rested.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::bridge::store::cache::SlotId;
use crate::model::throttle::ThrottleRule;

/// A value within the deadband goes out when it has not changed for so long, or for the interval, if that
/// is longer.
const REST_MIN: Duration = Duration::from_secs(60);
/// At least so long after some were let go nobody looks for further ones: they go together.
const WAKE_PAUSE: Duration = Duration::from_millis(250);

/// What is held back from one reader.
#[derive(Debug)]
pub struct Holds {
    rules: Vec<ThrottleRule>,
    /// One for each slot that a rule matches.
    states: HashMap<u32, State>,
    /// When the first that is held back is to be looked at again.
    next: Option<Instant>,
    woken: Option<Instant>,
}

#[derive(Debug)]
struct State {
    interval: Duration,
    deadband: f64,
    /// When the last value went out, and its number, if it was one.
    last: Option<(Instant, Option<f64>)>,
    changed: Option<Instant>,
    /// Until when it is held back, if it is.
    until: Option<Instant>,
    /// Whether its turn has come because of that, and not because it changed.
    is_woken: bool,
    /// Whether it was asked for: it goes out at once.
    is_due: bool,
}

impl Holds {
    /// Nothing yet; `None` where there are no rules.
    pub fn new(rules: &[ThrottleRule]) -> Option<Box<Holds>> {
        (!rules.is_empty()).then(|| {
            Box::new(Holds {
                rules: rules.to_vec(),
                states: HashMap::new(),
                next: None,
                woken: None,
            })
        })
    }

    /// An item is new, or back. The first rule that matches applies.
    pub fn added(&mut self, slot: SlotId, key: &str, path: &str) {
        let matches = |rule: &&ThrottleRule| rule.filter.matches(key, path);
        if let Some(rule) = self.rules.iter().find(matches) {
            let state = State {
                interval: rule.interval,
                deadband: rule.deadband,
                last: None,
                changed: None,
                until: None,
                is_woken: false,
                is_due: false,
            };
            self.states.insert(slot.0, state);
        }
    }

    /// A slot is free.
    pub fn released(&mut self, slot: SlotId) {
        self.states.remove(&slot.0);
    }

    /// The reader is gone, and whatever it has.
    pub fn closed(&mut self) {
        for state in self.states.values_mut() {
            state.forget();
        }
        self.next = None;
    }

    /// Whether a rule matches the slot.
    pub fn has(&self, slot: SlotId) -> bool {
        self.states.contains_key(&slot.0)
    }

    /// The slot is asked for: its turn is not put off. Tells whether a rule matches it.
    pub fn ask(&mut self, slot: SlotId) -> bool {
        let state = self.states.get_mut(&slot.0);
        state.is_some_and(|state| {
            state.is_due = true;
            true
        })
    }

    /// The reader does not have the slot's value any more.
    pub fn forget(&mut self, slot: SlotId) {
        if let Some(state) = self.states.get_mut(&slot.0) {
            state.forget();
        }
    }

    /// A slot's turn has come: whether its value is held back all the same. Otherwise it goes out now.
    pub fn holds_back(&mut self, now: Instant, slot: SlotId, number: Option<f64>) -> bool {
        let Some(state) = self.states.get_mut(&slot.0) else {
            return false;
        };
        if !std::mem::take(&mut state.is_woken) {
            state.changed = Some(now);
        }
        let is_due = std::mem::take(&mut state.is_due);
        let Some(until) = state.held_until(number).filter(|at| *at > now && !is_due) else {
            state.last = Some((now, number));
            state.until = None;
            return false;
        };
        state.until = Some(until);
        let pause = self.woken.map(|at| at + WAKE_PAUSE);
        let look = pause.map_or(until, |pause| until.max(pause));
        self.next = Some(self.next.map_or(look, |next| next.min(look)));
        true
    }

    /// When to call [`Holds::wake`].
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Lets go what was held back for long enough.
    pub fn wake(&mut self, now: Instant, mut push: impl FnMut(SlotId)) {
        if self.next.is_none_or(|at| at > now) {
            return;
        }
        self.woken = Some(now);
        let mut first: Option<Instant> = None;
        for (slot, state) in &mut self.states {
            match state.until {
                Some(until) if until <= now => {
                    state.until = None;
                    state.is_woken = true;
                    push(SlotId(*slot));
                }
                Some(until) => first = Some(first.map_or(until, |first| first.min(until))),
                None => {}
            }
        }
        self.next = first.map(|first| first.max(now + WAKE_PAUSE));
    }
}

impl State {
    fn forget(&mut self) {
        self.last = None;
        self.until = None;
        self.is_woken = false;
        self.is_due = false;
    }

    /// Until when this number is held back; `None`: not at all.
    fn held_until(&self, number: Option<f64>) -> Option<Instant> {
        let (at, last) = self.last?;
        let interval_ends = at + self.interval;
        let is_near =
            matches!((number, last), (Some(a), Some(b)) if (a - b).abs() <= self.deadband);
        let rested = self.changed.map(|at| at + self.interval.max(REST_MIN));
        Some(match rested {
            Some(rested) if is_near => rested.max(interval_ends),
            _ => interval_ends,
        })
    }
}
