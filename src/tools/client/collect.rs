//! Asks for values and waits until all of them have come.
//!
//! ```text
//!  read each ──▶ an answer for each ─────────────────────────────────────▶ done
//!            └─▶ something below it, silence, or a wildcard:
//!                ask for everything, with an echo ──▶ the echo has come back ▶ done
//! ```
//!
//! A read of a value is answered on its topic by every bridge. Where values lie below it, only the
//! end of a full publish tells that all have come (§5.3), and that others do not exist. A bridge of
//! 2018 knows neither: it answers with one object for all below, and retains what it published, so
//! for a wildcard some quiet time has to do.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::portal::Portal;
use super::reading::Reading;
use super::task::{Action, Message, Task};
use super::want::Want;
use crate::codec::request::ECHO;
use crate::config::Limits;
use crate::model::topic::{self, COMPLETED, KEEPALIVE};

/// How long a read may go unanswered before everything is asked for.
const GRACE: Duration = Duration::from_secs(1);
/// How long no new topic must have come from a bridge that does not say when it is done.
const QUIET: Duration = Duration::from_secs(2);

/// Collects values.
#[derive(Debug)]
pub struct Collect {
    portal: Portal,
    timeout: Duration,
    /// What the end of our own full publish carries.
    echo: String,
    slots: Vec<Slot>,
    /// When something new came last, or the start.
    last: Option<Instant>,
    asked_for_all: bool,
    completed: bool,
    done: bool,
}

#[derive(Debug)]
struct Slot {
    want: Want,
    answer: Option<Reading>,
    below: BTreeMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    reading: Reading,
    /// Whether it came while we waited, and not from the broker's store.
    live: bool,
}

/// What came for one topic that was asked for.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// The topic.
    pub topic: String,
    /// Whether this is the value of that very topic, not of those below it.
    pub exact: bool,
    /// The values, in the order of their topics; none where there is nothing.
    pub readings: Vec<Reading>,
}

/// What came of it all.
#[derive(Debug, PartialEq)]
pub struct Collected {
    /// In the order in which they were asked for.
    pub found: Vec<Found>,
    /// Whether the bridge has answered: what is missing then does not exist.
    pub answered: bool,
}

impl Collect {
    /// Asks for these. `echo` is a text that nobody else uses.
    pub fn new(portal: &Portal, wants: Vec<Want>, echo: &str, timeout: Duration) -> Collect {
        let slots = wants.into_iter().map(|want| Slot {
            want,
            answer: None,
            below: BTreeMap::new(),
        });
        Collect {
            portal: portal.clone(),
            timeout,
            echo: echo.to_owned(),
            slots: slots.collect(),
            last: None,
            asked_for_all: false,
            completed: false,
            done: false,
        }
    }

    /// What has come.
    pub fn finish(self) -> Collected {
        let (completed, spreads) = (self.completed, !self.portal.selective);
        let answered = completed || self.slots.iter().all(|slot| slot.answer.is_some());
        let found = self.slots.into_iter().map(|slot| {
            let exact = slot.answer.is_some();
            let readings = match slot.answer {
                Some(answer) if spreads => spread(answer),
                Some(answer) => vec![answer],
                None => {
                    let entries = slot.below.into_values();
                    // Once all has been published, what has not come is only in the broker's store.
                    let there = entries.filter(|entry| entry.live || !completed);
                    there.map(|entry| entry.reading).collect()
                }
            };
            Found {
                topic: slot.want.topic,
                exact: exact && readings.len() == 1,
                readings,
            }
        });
        Collected {
            found: found.collect(),
            answered,
        }
    }

    fn ask_for_all(&mut self, todo: &mut Vec<Action>) {
        if self.asked_for_all {
            return;
        }
        self.asked_for_all = true;
        let options = json!({ "keepalive-options": [{ ECHO: self.echo }] });
        let topic = topic::read_request(&self.portal.id, KEEPALIVE);
        todo.push(Action::Publish(topic, options.to_string()));
    }

    fn is_complete(&self) -> bool {
        self.completed || self.slots.iter().all(|slot| slot.answer.is_some())
    }

    /// Whether each has something.
    fn has_something(&self) -> bool {
        let has = |slot: &Slot| slot.answer.is_some() || !slot.below.is_empty();
        self.slots.iter().all(has)
    }

    fn completion(&mut self, message: &Message<'_>) {
        let json: Value = serde_json::from_slice(message.payload).unwrap_or_default();
        if json.get(ECHO).and_then(Value::as_str) == Some(&self.echo) {
            self.completed = true;
        }
    }

    fn value(&mut self, now: Instant, rest: &str, message: &Message<'_>, todo: &mut Vec<Action>) {
        let items_max = Limits::default().items_max;
        let mut is_inner = false;
        for slot in &mut self.slots {
            if !slot.want.covers(rest) {
                continue;
            }
            let reading = Reading::parse(rest, message.payload);
            if slot.want.can_be_read() && slot.want.topic == rest {
                if !message.retained && reading.value.is_some() {
                    slot.answer.get_or_insert(reading);
                    self.last = Some(now);
                }
                continue;
            }
            let key = Key(rest.to_owned());
            if reading.value.is_none() {
                slot.below.remove(&key);
                continue;
            }
            is_inner |= slot.answer.is_none();
            let live = !message.retained;
            let known = slot.below.contains_key(&key);
            if known || slot.below.len() < items_max {
                let was_live = slot.below.insert(key, Entry { reading, live });
                if was_live.is_none_or(|before| !before.live && live) {
                    self.last = Some(now);
                }
            }
        }
        if is_inner {
            self.ask_for_all(todo);
        }
    }
}

impl Task for Collect {
    fn begin(&mut self, now: Instant, todo: &mut Vec<Action>) {
        self.last = Some(now);
        let portal = self.portal.id.as_str();
        let filters = self.slots.iter().map(|slot| slot.want.filter());
        let filters = filters.chain([COMPLETED]);
        let filters = filters.map(|filter| topic::notification(portal, filter));
        todo.push(Action::Subscribe(filters.collect()));
        for slot in &self.slots {
            if slot.want.can_be_read() {
                let topic = topic::read_request(&self.portal.id, &slot.want.topic);
                todo.push(Action::Publish(topic, String::new()));
            }
        }
        if self.slots.iter().any(|slot| !slot.want.can_be_read()) {
            self.ask_for_all(todo);
        }
    }

    fn message(&mut self, now: Instant, message: &Message<'_>, todo: &mut Vec<Action>) {
        match topic::parse_notification(message.topic) {
            Some((portal, COMPLETED)) if portal == self.portal.id.as_str() => {
                self.completion(message);
            }
            Some((portal, rest)) if portal == self.portal.id.as_str() => {
                self.value(now, rest, message, todo);
            }
            Some(_) | None => {}
        }
        self.done = self.is_complete();
    }

    fn deadline(&self) -> Option<Instant> {
        let wait = if !self.asked_for_all {
            GRACE.min(self.timeout / 2)
        } else if !self.portal.selective && self.has_something() {
            QUIET.min(self.timeout)
        } else {
            self.timeout
        };
        self.last.map(|last| last + wait)
    }

    fn tick(&mut self, now: Instant, todo: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.asked_for_all {
            self.done = true;
        } else {
            self.ask_for_all(todo);
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

/// One object for all values below a topic, as a bridge of 2018 answers, value by value.
fn spread(reading: Reading) -> Vec<Reading> {
    match &reading.value {
        Some(Value::Object(below)) if !below.is_empty() => {
            let mut all: Vec<(Key, Reading)> = below
                .iter()
                .map(|(path, value)| {
                    let topic = format!("{}/{path}", reading.topic);
                    let value = Some(value.clone());
                    let (min, max) = (None, None);
                    (
                        Key(topic.clone()),
                        Reading {
                            topic,
                            value,
                            min,
                            max,
                        },
                    )
                })
                .collect();
            all.sort_by(|(a, _), (b, _)| a.cmp(b));
            all.into_iter().map(|(_, reading)| reading).collect()
        }
        _ => vec![reading],
    }
}

/// A topic, sorted as people count: `L2` before `L10`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub String);

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        let (mut a, mut b) = (self.0.as_str(), other.0.as_str());
        while !a.is_empty() && !b.is_empty() {
            let ((first_a, rest_a), (first_b, rest_b)) = (first(a), first(b));
            let order = match (magnitude(first_a), magnitude(first_b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => first_a.cmp(first_b),
            };
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        }
        // `01` and `1` are two topics.
        let left = a.len().cmp(&b.len());
        left.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The number that a text begins with, or its first letter; and the rest.
fn first(text: &str) -> (&str, &str) {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let letter = text.chars().next().map_or(0, char::len_utf8);
    text.split_at(digits.max(letter))
}

/// What compares as the number in digits does: how many they are, and which.
fn magnitude(text: &str) -> Option<(usize, &str)> {
    let digits = text.trim_start_matches('0');
    text.starts_with(|c: char| c.is_ascii_digit())
        .then_some((digits.len(), digits))
}
