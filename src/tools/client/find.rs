//! Which installations are on a broker, and what their bridge understands.
//!
//! Every bridge retains its portal id (§4.2), so all of them are told as soon as somebody subscribes. What a
//! trial leaves behind looks the same, but for its status: it is offline (§4.10), and is passed over. A broker
//! that gives no retained messages to a wildcard (§4.9) tells of no bridge at first; one that is alive says so
//! by its heartbeat (§4.8), and is then asked for by its name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::error::ClientError;
use super::portal::Portal;
use super::reading::Reading;
use super::task::{Action, Message, Task};
use crate::model::name::PortalId;
use crate::model::topic::{self, HEARTBEAT, KEEPALIVE, SERIAL, STATUS};

/// How long nothing must have come after the broker said that it has told all: not all keep the
/// order.
const QUIET: Duration = Duration::from_millis(200);

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
    /// Something that is never retained has come.
    alive: bool,
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
            .filter(|(_, signs)| signs.serial || signs.alive)
            .filter_map(|(id, signs)| Some(signs.portal(PortalId::new(&id).ok()?)))
            .collect();
        let mut online = portals.iter().filter(|portal| !portal.offline);
        let only = match (portals.as_slice(), online.next(), online.next()) {
            ([], ..) => return Err(ClientError::NoPortal { waited }),
            ([one], ..) | (_, Some(one), None) => one.id.clone(),
            _ => return Err(ClientError::Portals { portals }),
        };
        let place = portals.iter().position(|portal| portal.id == only);
        let mut portal = portals.swap_remove(place.unwrap_or_default());
        portal.others = portals.into_iter().map(|other| other.id).collect();
        portal.others.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(portal)
    }
}

impl Signs {
    fn portal(&self, id: PortalId) -> Portal {
        Portal {
            id,
            // Of the bridges, only those with a status understand them without saying so where
            // nothing is retained.
            selective: self.keepalive || self.status.is_some(),
            offline: self.status == Some(false) && !self.alive,
            others: Vec::new(),
        }
    }
}

impl Task for Find {
    fn begin(&mut self, now: Instant, todo: &mut Vec<Action>) {
        self.began = Some(now);
        let portal = self.wanted.as_ref().map_or("+", PortalId::as_str);
        todo.push(Action::Subscribe(filters(portal)));
        todo.push(Action::Fence);
    }

    fn message(&mut self, now: Instant, message: &Message<'_>, todo: &mut Vec<Action>) {
        let Some((portal, rest)) = topic::parse_notification(message.topic) else {
            return;
        };
        if message.payload.is_empty() || self.found.len() >= PORTALS_MAX {
            return;
        }
        self.last = Some(now);
        let is_new = !self.found.contains_key(portal);
        let signs = self.found.entry(portal.to_owned()).or_default();
        if is_new && !message.retained && self.wanted.is_none() && PortalId::new(portal).is_ok() {
            // By its name all is told that the wildcard may have left out.
            todo.push(Action::Subscribe(filters(portal)));
            todo.push(Action::Fence);
        }
        match rest {
            SERIAL => signs.serial = true,
            HEARTBEAT => signs.alive = true,
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
        self.found.values().any(|signs| signs.serial || signs.alive)
    }
}

/// What tells of an installation, or of all.
fn filters(portal: &str) -> Vec<String> {
    let topics = [SERIAL, KEEPALIVE, STATUS, HEARTBEAT];
    topics.map(|rest| topic::notification(portal, rest)).into()
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
                others: Vec::new(),
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
        // A keep-alive topic alone is not an installation.
        let sentence = find(None, &[keepalive]).unwrap_err();
        assert!(sentence.contains("within 5 s"), "{sentence}");
    }

    #[test]
    fn s4_9_a_broker_without_retained_messages_tells_of_one_that_is_alive() {
        let mut find = Find::new(None, Duration::from_secs(5));
        let (start, mut todo) = (Instant::now(), Vec::new());
        find.begin(start, &mut todo);
        find.fenced(start);
        // Nothing has come: it is waited for.
        assert_eq!(find.deadline(), Some(start + Duration::from_secs(5)));
        todo.clear();
        let tell = |find: &mut Find, topic, payload: &str, retained, todo: &mut Vec<Action>| {
            let payload = payload.as_bytes();
            find.message(
                start,
                &Message {
                    topic,
                    payload,
                    retained,
                },
                todo,
            );
        };
        tell(
            &mut find,
            "N/a/heartbeat",
            r#"{"value": 1700000000}"#,
            false,
            &mut todo,
        );
        let [Action::Subscribe(asked), Action::Fence] = todo.as_slice() else {
            panic!("{todo:?}");
        };
        assert!(asked.contains(&"N/a/keepalive".to_owned()), "{asked:?}");
        // By its name it is told what else is known.
        tell(
            &mut find,
            "N/a/keepalive",
            r#"{"value": 1}"#,
            true,
            &mut Vec::new(),
        );
        find.tick(start + QUIET, &mut Vec::new());
        assert!(find.is_done());
        let portal = find.finish().unwrap();
        assert_eq!(
            (portal.id.as_str(), portal.selective, portal.offline),
            ("a", true, false)
        );
    }

    #[test]
    fn several_are_listed_and_one_can_be_chosen() {
        let sentence = find(None, &[SERIAL_B, SERIAL_A]).unwrap_err();
        assert_eq!(
            sentence,
            "there are several installations on this broker; choose one with --portal-id: a, b"
        );
        let offline = |topic| (topic, r#"{"value": "offline"}"#);
        let (off_a, off_b) = (offline("N/a/bridge/status"), offline("N/b/bridge/status"));
        // What a trial left behind is passed over, and named.
        let online = find(None, &[SERIAL_B, SERIAL_A, off_b]).unwrap();
        assert_eq!((online.id.as_str(), online.offline), ("a", false));
        assert_eq!(online.others, [PortalId::new("b").unwrap()]);
        let sentence = find(None, &[SERIAL_B, SERIAL_A, off_a, off_b]).unwrap_err();
        assert!(
            sentence.ends_with("--portal-id: a (offline), b (offline)"),
            "{sentence}"
        );
        let chosen = find(Some("b"), &[SERIAL_B]).unwrap();
        assert_eq!(chosen.id.as_str(), "b");
        // One that is named need not be there yet: the question will tell.
        assert_eq!(find(Some("c"), &[]).unwrap().id.as_str(), "c");
        // A cleared topic does not count.
        let gone = find(None, &[("N/a/system/0/Serial", "")]).unwrap_err();
        assert!(gone.contains("no installation"), "{gone}");
    }
}
