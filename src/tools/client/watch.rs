//! Shows values as they change, and keeps them coming.
//!
//! A bridge that understands it is asked for these values only (§5.4); for any other bridge a plain
//! keep-alive goes out. Both are renewed, the plain one without having all published again (§5.3).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::error::ClientError;
use super::hint::likely;
use super::portal::Portal;
use super::reading::Reading;
use super::task::{Action, Message, Task};
use super::want::Want;
use crate::config::Limits;
use crate::model::topic::{self, KEEPALIVE};

/// How often keep-alives are renewed: twice in the interval of a bridge (§5.1).
const RENEWAL: Duration = Duration::from_secs(30);
/// A keep-alive that has nothing published again.
const SUPPRESS: &str = r#"{"keepalive-options": ["suppress-republish"]}"#;

/// Watches values.
#[derive(Debug)]
pub struct Watch {
    portal: Portal,
    wants: Vec<Want>,
    /// Stop after so many.
    count: Option<u64>,
    /// Stop after this time.
    time: Option<Duration>,
    /// Say so where nothing has come for this long.
    patience: Duration,
    until: Option<Instant>,
    renew_at: Option<Instant>,
    impatient_at: Option<Instant>,
    /// What was shown last of each topic.
    shown: HashMap<String, Vec<u8>>,
    lines: u64,
    done: bool,
}

impl Watch {
    /// Watches these, without end unless one is set.
    pub fn new(
        portal: &Portal,
        wants: Vec<Want>,
        count: Option<u64>,
        time: Option<Duration>,
        patience: Duration,
    ) -> Watch {
        Watch {
            portal: portal.clone(),
            wants,
            count,
            time,
            patience,
            until: None,
            renew_at: None,
            impatient_at: None,
            shown: HashMap::new(),
            lines: 0,
            done: count == Some(0),
        }
    }

    /// What came of it: nothing at all is worth an exit status where it was to end by itself.
    pub fn finish(self) -> Result<(), ClientError> {
        let waited = self.time.unwrap_or_default();
        if self.lines > 0 || self.count == Some(0) {
            return Ok(());
        }
        Err(ClientError::NoAnswer {
            what: topics(&self.wants),
            waited,
            hint: likely(&self.wants, &[]),
        })
    }

    fn keep_alive(&mut self, now: Instant, todo: &mut Vec<Action>) {
        let is_first = self.renew_at.is_none();
        self.renew_at = Some(now + RENEWAL);
        let payload = if self.portal.selective {
            let filters: Vec<&str> = self.wants.iter().map(Want::filter).collect();
            serde_json::Value::from(filters).to_string()
        } else if is_first {
            String::new()
        } else {
            SUPPRESS.to_owned()
        };
        let topic = topic::read_request(&self.portal.id, KEEPALIVE);
        todo.push(Action::Publish(topic, payload));
    }
}

impl Task for Watch {
    fn begin(&mut self, now: Instant, todo: &mut Vec<Action>) {
        self.until = self.time.map(|time| now + time);
        self.impatient_at = Some(now + self.patience);
        let portal = self.portal.id.as_str();
        let filters = self.wants.iter().map(Want::filter);
        let filters = filters.map(|filter| topic::notification(portal, filter));
        todo.push(Action::Subscribe(filters.collect()));
        self.keep_alive(now, todo);
        if self.portal.selective {
            // Another client may have asked for the same: then nothing is published anew for us.
            let readable = self.wants.iter().filter(|want| want.can_be_read());
            let topics = readable.map(|want| topic::read_request(&self.portal.id, &want.topic));
            todo.extend(topics.map(|topic| Action::Publish(topic, String::new())));
        }
        if self.portal.offline {
            let text = "the bridge says that it is offline; waiting for it";
            todo.push(Action::Note(text.to_owned()));
        }
    }

    fn message(&mut self, _: Instant, message: &Message<'_>, todo: &mut Vec<Action>) {
        let Some((portal, rest)) = topic::parse_notification(message.topic) else {
            return;
        };
        let is_ours = portal == self.portal.id.as_str();
        if !is_ours || !self.wants.iter().any(|want| want.covers(rest)) {
            return;
        }
        let is_full = self.shown.len() >= Limits::default().items_max;
        match self.shown.get_mut(rest) {
            // Renewals and other clients have the same published again: nothing has changed.
            Some(before) if before == message.payload => return,
            Some(before) => {
                before.clear();
                before.extend_from_slice(message.payload);
            }
            // It was never there for us.
            None if message.payload.is_empty() => return,
            None if is_full => return,
            None => {
                self.shown.insert(rest.to_owned(), message.payload.to_vec());
            }
        }
        todo.push(Action::Show(Reading::parse(rest, message.payload)));
        self.lines += 1;
        self.done = self.count == Some(self.lines);
    }

    fn deadline(&self) -> Option<Instant> {
        let impatient_at = self.impatient_at.filter(|_| self.lines == 0);
        let all = [self.until, self.renew_at, impatient_at];
        all.into_iter().flatten().min()
    }

    fn tick(&mut self, now: Instant, todo: &mut Vec<Action>) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.until) {
            self.done = true;
            return;
        }
        if is_due(self.renew_at) {
            self.keep_alive(now, todo);
        }
        if is_due(self.impatient_at) && self.lines == 0 {
            self.impatient_at = None;
            let topics = topics(&self.wants);
            let hint = likely(&self.wants, &[]);
            let hint = hint.map_or_else(String::new, |hint| format!("; did you mean {hint}?"));
            todo.push(Action::Note(format!(
                "nothing has come of {topics} yet; still watching{hint}"
            )));
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

fn topics(wants: &[Want]) -> String {
    let topics: Vec<&str> = wants.iter().map(|want| want.topic.as_str()).collect();
    topics.join(", ")
}
