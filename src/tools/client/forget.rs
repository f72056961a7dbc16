//! Clears all that a broker retains of an installation: what a trial left behind, or a device that is gone.
//!
//! ```text
//!  subscribe to all of it ──▶ told, and quiet ──▶ list ──(yes)──▶ an empty message each ──▶ told
//! ```
//!
//! Only what the broker has in store is cleared (the retain flag says so, §4.1), so that a device that runs
//! loses nothing that it would not publish again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::reading::Reading;
use super::task::{Action, Message, Task};
use crate::model::name::PortalId;
use crate::model::topic::{self, KEEPALIVE, SERIAL, STATUS};

/// How long nothing must have come after the broker said that it has told all.
const QUIET: Duration = Duration::from_millis(500);
/// The status of a bridge that is there.
const ONLINE: &str = "online";
/// More than an installation has.
const TOPICS_MAX: usize = 1_000_000;

/// What a broker retains of an installation.
#[derive(Debug)]
pub struct Stored {
    filters: Vec<String>,
    status: String,
    timeout: Duration,
    began: Option<Instant>,
    fenced: bool,
    last: Option<Instant>,
    topics: BTreeSet<String>,
    online: bool,
    done: bool,
}

impl Stored {
    /// Looks for what is retained of it: values, requests that should never have been retained, and what
    /// Home Assistant was told below `discovery`.
    pub fn new(portal_id: &PortalId, discovery: &str, timeout: Duration) -> Stored {
        let id = portal_id.as_str();
        let own = |rest| topic::notification(id, rest);
        Stored {
            filters: vec![
                own("#"),
                // Some brokers give nothing retained to a wildcard.
                own(SERIAL),
                own(KEEPALIVE),
                own(STATUS),
                format!("R/{id}/#"),
                format!("W/{id}/#"),
                format!("{discovery}/device/dbus-mqtt_{id}/+/config"),
                format!("{discovery}/device/dbus-mqtt_{id}/+/location"),
            ],
            status: own(STATUS),
            timeout,
            began: None,
            fenced: false,
            last: None,
            topics: BTreeSet::new(),
            online: false,
            done: false,
        }
    }

    /// The topics, and whether a bridge of that name is there.
    pub fn finish(self) -> (BTreeSet<String>, bool) {
        (self.topics, self.online)
    }
}

impl Task for Stored {
    fn begin(&mut self, now: Instant, todo: &mut Vec<Action>) {
        self.began = Some(now);
        todo.push(Action::Subscribe(self.filters.clone()));
        todo.push(Action::Fence);
    }

    fn message(&mut self, now: Instant, message: &Message<'_>, _: &mut Vec<Action>) {
        self.last = Some(now);
        if message.payload.is_empty() {
            self.topics.remove(message.topic);
            return;
        }
        if message.topic == self.status {
            self.online |= Reading::parse("", message.payload).raw() == ONLINE;
        }
        if message.retained {
            if self.topics.len() < TOPICS_MAX {
                self.topics.insert(message.topic.to_owned());
            }
        } else if message.topic.starts_with("N/") {
            // Somebody speaks for it right now.
            self.online = true;
        }
    }

    fn fenced(&mut self, now: Instant) {
        self.fenced = true;
        self.last = self.last.max(Some(now));
    }

    fn deadline(&self) -> Option<Instant> {
        let end = self.began.map(|began| began + self.timeout);
        match self.last.filter(|_| self.fenced) {
            Some(last) => end.map(|end| end.min(last + QUIET)),
            None => end,
        }
    }

    fn tick(&mut self, now: Instant, _: &mut Vec<Action>) {
        self.done = self.deadline().is_some_and(|deadline| deadline <= now);
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

/// Clears topics, and waits until the broker has dealt with that.
#[derive(Debug)]
pub struct Clear {
    topics: BTreeSet<String>,
    timeout: Duration,
    end: Option<Instant>,
    fenced: bool,
    done: bool,
}

impl Clear {
    /// Clears these.
    pub fn new(topics: BTreeSet<String>, timeout: Duration) -> Clear {
        Clear {
            topics,
            timeout,
            end: None,
            fenced: false,
            done: false,
        }
    }

    /// Whether the broker has said that it has dealt with them.
    pub fn finish(self) -> bool {
        self.fenced
    }
}

impl Task for Clear {
    fn begin(&mut self, now: Instant, todo: &mut Vec<Action>) {
        self.end = Some(now + self.timeout);
        todo.extend(self.topics.iter().cloned().map(Action::Clear));
        todo.push(Action::Fence);
    }

    fn message(&mut self, _: Instant, _: &Message<'_>, _: &mut Vec<Action>) {}

    fn fenced(&mut self, _: Instant) {
        self.fenced = true;
        self.done = true;
    }

    fn deadline(&self) -> Option<Instant> {
        self.end
    }

    fn tick(&mut self, now: Instant, _: &mut Vec<Action>) {
        self.done = self.done || self.end.is_some_and(|end| end <= now);
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found with these messages: topic, payload, whether it was retained.
    fn stored(messages: &[(&str, &str, bool)]) -> (Vec<String>, bool) {
        let id = PortalId::new("a").unwrap();
        let mut stored = Stored::new(&id, "homeassistant", Duration::from_secs(5));
        let (start, mut todo) = (Instant::now(), Vec::new());
        stored.begin(start, &mut todo);
        for &(topic, payload, retained) in messages {
            let payload = payload.as_bytes();
            stored.message(
                start,
                &Message {
                    topic,
                    payload,
                    retained,
                },
                &mut todo,
            );
        }
        stored.tick(start, &mut todo);
        assert!(!stored.is_done(), "the broker has not told all");
        stored.fenced(start);
        stored.tick(start + QUIET, &mut todo);
        assert!(stored.is_done());
        let (topics, online) = stored.finish();
        (topics.into_iter().collect(), online)
    }

    #[test]
    fn what_is_in_store_is_cleared_and_nothing_else() {
        let offline = r#"{"value": "offline"}"#;
        let (topics, online) = stored(&[
            ("N/a/system/0/Serial", r#"{"value": "a"}"#, true),
            ("N/a/bridge/status", offline, true),
            ("W/a/vebus/1/Mode", r#"{"value": 4}"#, true),
            ("R/a/keepalive", "1", false),
            ("N/a/gone/0/X", "1", true),
            ("N/a/gone/0/X", "", false),
        ]);
        let expected = [
            "N/a/bridge/status",
            "N/a/system/0/Serial",
            "W/a/vebus/1/Mode",
        ];
        assert_eq!(topics, expected);
        assert!(!online);
    }

    #[test]
    fn one_that_is_there_is_known() {
        let status = |word: &str| format!(r#"{{"value": "{word}"}}"#);
        let online = |messages: &[(&str, &str, bool)]| stored(messages).1;
        assert!(online(&[("N/a/bridge/status", &status("online"), true)]));
        // A bridge of another kind, after one of ours.
        let gone = ("N/a/bridge/status", &*status("offline"), true);
        assert!(!online(&[gone]));
        assert!(online(&[gone, ("N/a/heartbeat", "1", false)]));
    }
}
