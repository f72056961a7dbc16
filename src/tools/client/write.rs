//! Writes a value, and waits until the device has shown what it made of it.
//!
//! ```text
//!  W, R ──▶ it shows what was asked ─────────────────────────────▶ taken
//!       └─▶ it shows something else ──▶ 1 s, R ──▶ 1 s, still so ─▶ adjusted, or refused
//! ```
//!
//! A write has no answer in MQTT 3.1.1, but the change comes back as a notification (§5.6), and a
//! read after it is answered after it (§5.5), also where nothing changed. A device may need a moment
//! to show what it has taken, so something else is believed only when it stays.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::portal::Portal;
use super::reading::Reading;
use super::task::{Action, Message, Task};
use super::value::agrees;
use crate::model::topic;
use crate::schema::rule::{Access, Rule};

/// How long something else must stay before the device is asked again, and then once more.
const SETTLE: Duration = Duration::from_secs(1);

/// Writes one value.
#[derive(Debug)]
pub struct Write {
    portal: Portal,
    rule: Rule,
    before: Reading,
    asked: Value,
    timeout: Duration,
    began: Option<Instant>,
    shown: Option<Reading>,
    /// When the next step is due, once something else was shown.
    next: Option<Instant>,
    asked_again: bool,
    done: bool,
}

/// What came of a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The device shows what was asked.
    Taken(Reading),
    /// It shows something else than before, and than what was asked.
    Adjusted(Reading),
    /// It shows what it did before.
    Refused(Reading),
    /// It shows nothing at all.
    Silent,
}

impl Write {
    /// Writes `asked` where `before` is now.
    pub fn new(portal: &Portal, before: Reading, asked: Value, timeout: Duration) -> Write {
        Write {
            portal: portal.clone(),
            rule: before.rule(),
            before,
            asked,
            timeout,
            began: None,
            shown: None,
            next: None,
            asked_again: false,
            done: false,
        }
    }

    /// What came of it.
    pub fn finish(self) -> Outcome {
        let Some(shown) = self.shown else {
            return Outcome::Silent;
        };
        let value = shown.value.clone().unwrap_or_default();
        let before = self.before.value.unwrap_or_default();
        if is_taken(&self.rule, &self.asked, &value) {
            Outcome::Taken(shown)
        } else if agrees(&before, &value) || self.rule.access == Access::Read {
            Outcome::Refused(shown)
        } else {
            Outcome::Adjusted(shown)
        }
    }

    fn read(&self, todo: &mut Vec<Action>) {
        let topic = topic::read_request(&self.portal.id, &self.before.topic);
        todo.push(Action::Publish(topic, String::new()));
    }
}

/// Whether a value shows that a write was taken. What a secret is, is never shown.
fn is_taken(rule: &Rule, asked: &Value, shown: &Value) -> bool {
    agrees(asked, shown) || (rule.secret && asked.is_string() && shown == STARS)
}

impl Task for Write {
    fn begin(&mut self, now: Instant, todo: &mut Vec<Action>) {
        self.began = Some(now);
        let topic = topic::write_request(&self.portal.id, &self.before.topic);
        let payload = json!({ "value": self.asked });
        todo.push(Action::Publish(topic, payload.to_string()));
        self.read(todo);
    }

    fn message(&mut self, now: Instant, message: &Message<'_>, _: &mut Vec<Action>) {
        let topic = topic::notification(self.portal.id.as_str(), &self.before.topic);
        if message.retained || message.topic != topic || message.payload.is_empty() {
            return;
        }
        let reading = Reading::parse(&self.before.topic, message.payload);
        let value = reading.value.clone().unwrap_or_default();
        self.done = is_taken(&self.rule, &self.asked, &value);
        self.shown = Some(reading);
        if self.next.is_none() {
            self.next = Some(now + SETTLE);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let end = self.began.map(|began| began + self.timeout);
        self.next.or(end)
    }

    fn tick(&mut self, now: Instant, todo: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.shown.is_none() || self.asked_again {
            self.done = true;
        } else {
            self.asked_again = true;
            self.next = Some(now + SETTLE);
            self.read(todo);
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

/// What is published in the place of a secret (§4.7).
const STARS: &str = "******";
