//! Which installations are on a broker, and what their bridge understands.
//!
//! Every bridge retains its portal id (§4.2), so all of them are told as soon as somebody subscribes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ClientError;
use super::reading::Reading;
use super::task::{Action, Message, Task};
use crate::model::name::PortalId;
use crate::model::topic::{self, KEEPALIVE, SERIAL, STATUS};

/// How long nothing must have come after the broker said that it has told all: not all keep the
/// order.
const QUIET: Duration = Duration::from_millis(200);

/// An installation on a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portal {
    /// Its portal id.
    pub id: PortalId,
    /// Whether its bridge understands selective keep-alives (§5.4).
    pub selective: bool,
    /// Whether its bridge has said that it is off (§4.10).
    pub offline: bool,
}

/// Finds the installations on a broker.
#[derive(Debug)]
pub struct Find {
    wanted: Option<PortalId>,
    timeout: Duration,
    began: Option<Instant>,
    fenced: bool,
    last: Option<Instant>,
    found: BTreeMap<String, Signs>,
    done: bool,
}

#[derive(Debug, Default)]
struct Signs {
    serial: bool,
    keepalive: bool,
    status: Option<bool>,
}

impl Find {
    /// Looks for this installation, or for all.
    pub fn new(wanted: Option<PortalId>, timeout: Duration) -> Find {
        Find {
            wanted,
            timeout,
            began: None,
            fenced: false,
            last: None,
            found: BTreeMap::new(),
            done: false,
        }
    }

    /// The one that was found, or asked for.
    pub fn finish(self) -> Result<Portal, ClientError> {
        let waited = self.timeout;
        let mut found = self.found;
        if let Some(id) = self.wanted {
            let signs = found.remove(id.as_str()).unwrap_or_default();
            return Ok(signs.portal(id));
        }
        let mut portals: Vec<Portal> = found
            .into_iter()
            .filter(|(_, signs)| signs.serial)
            .filter_map(|(id, signs)| Some(signs.portal(PortalId::new(&id).ok()?)))
            .collect();
        match (portals.pop(), portals.len()) {
            (None, _) => Err(ClientError::NoPortal { waited }),
            (Some(portal), 0) => Ok(portal),
            (Some(portal), _) => {
                portals.push(portal);
                Err(ClientError::Portals { portals })
            }
        }
    }
}

impl Signs {
    fn portal(&self, id: PortalId) -> Portal {
        Portal {
            id,
            // Of the bridges, only those with a status understand them without saying so where
            // nothing is retained.
            selective: self.keepalive || self.status.is_some(),
            offline: self.status == Some(false),
        }
    }
}

impl Task for Find {
    fn begin(&mut self, now: Instant, todo: &mut Vec<Action>) {
        self.began = Some(now);
        let portal = self.wanted.as_ref().map_or("+", PortalId::as_str);
        let filters = [SERIAL, KEEPALIVE, STATUS].map(|rest| topic::notification(portal, rest));
        todo.push(Action::Subscribe(filters.into()));
        todo.push(Action::Fence);
    }

    fn message(&mut self, now: Instant, message: &Message<'_>, _: &mut Vec<Action>) {
        let Some((portal, rest)) = topic::parse_notification(message.topic) else {
            return;
        };
        if message.payload.is_empty() || self.found.len() >= PORTALS_MAX {
            return;
        }
        self.last = Some(now);
        let signs = self.found.entry(portal.to_owned()).or_default();
        match rest {
            SERIAL => signs.serial = true,
            KEEPALIVE => signs.keepalive = true,
            STATUS => {
                let reading = Reading::parse(rest, message.payload);
                signs.status = Some(reading.raw() != OFFLINE);
            }
            _ => {}
        }
    }

    fn fenced(&mut self, now: Instant) {
        self.fenced = true;
        self.last = self.last.max(Some(now));
    }

    fn deadline(&self) -> Option<Instant> {
        let told = self.fenced && (self.wanted.is_some() || self.is_there());
        match (told, self.last) {
            (true, Some(last)) => Some(last + QUIET),
            _ => self.began.map(|began| began + self.timeout),
        }
    }

    fn tick(&mut self, now: Instant, _: &mut Vec<Action>) {
        self.done = self.deadline().is_some_and(|deadline| deadline <= now);
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

impl Find {
    fn is_there(&self) -> bool {
        self.found.values().any(|signs| signs.serial)
    }
}

/// The status of a bridge that has gone.
pub const OFFLINE: &str = "offline";
/// More than a broker has.
const PORTALS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of these retained messages.
    fn find(wanted: Option<&str>, messages: &[(&str, &str)]) -> Result<Portal, String> {
        let mut find = Find::new(
            wanted.map(|id| PortalId::new(id).unwrap()),
            Duration::from_secs(5),
        );
        let (start, mut todo) = (Instant::now(), Vec::new());
        find.begin(start, &mut todo);
        assert!(matches!(
            todo.as_slice(),
            [Action::Subscribe(_), Action::Fence]
        ));
        for (topic, payload) in messages {
            let message = Message {
                topic,
                payload: payload.as_bytes(),
                retained: true,
            };
            find.message(start, &message, &mut todo);
            assert!(!find.is_done());
        }
        find.fenced(start);
        find.tick(start, &mut todo);
        assert!(!find.is_done());
        find.tick(find.deadline().unwrap(), &mut todo);
        assert!(find.is_done());
        find.finish().map_err(|error| error.to_string())
    }

    const SERIAL_A: (&str, &str) = ("N/a/system/0/Serial", r#"{"value": "a"}"#);
    const SERIAL_B: (&str, &str) = ("N/b/system/0/Serial", r#"{"value": "b"}"#);

    #[test]
    fn one_installation_is_found_with_what_it_announces() {
        let portal = |selective, offline| {
            Ok(Portal {
                id: PortalId::new("a").unwrap(),
                selective,
                offline,
            })
        };
        let keepalive = ("N/a/keepalive", r#"{"value": 1}"#);
        let status = |payload| ("N/a/bridge/status", payload);
        assert_eq!(find(None, &[SERIAL_A]), portal(false, false));
        assert_eq!(find(None, &[SERIAL_A, keepalive]), portal(true, false));
        let online = status(r#"{"value": "online"}"#);
        assert_eq!(find(None, &[online, SERIAL_A]), portal(true, false));
        let offline = status(r#"{"value": "offline"}"#);
        assert_eq!(find(None, &[offline, SERIAL_A]), portal(true, true));
        // A keep-alive topic alone is no installation.
        let sentence = find(None, &[keepalive]).unwrap_err();
        assert!(sentence.contains("within 5 s"), "{sentence}");
    }

    #[test]
    fn several_are_listed_and_one_can_be_chosen() {
        let offline = ("N/b/bridge/status", r#"{"value": "offline"}"#);
        let sentence = find(None, &[SERIAL_B, SERIAL_A, offline]).unwrap_err();
        assert_eq!(
            sentence,
            "there are several installations on this broker; choose one with --portal-id: a, b (offline)"
        );
        let chosen = find(Some("b"), &[SERIAL_B]).unwrap();
        assert_eq!(chosen.id.as_str(), "b");
        // One that is named need not be there yet: the question will tell.
        assert_eq!(find(Some("c"), &[]).unwrap().id.as_str(), "c");
        // What was taken back is not there.
        let gone = find(None, &[("N/a/system/0/Serial", "")]).unwrap_err();
        assert!(gone.contains("no installation"), "{gone}");
    }
}
