//! What the bus says, what the broker retains, and what a listening client has: the three compared.
//!
//! It asks the services itself, and works out topics and payloads a second time. Values change all the
//! while: one that was the same before and after a look at the broker has to be there.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::World;
use super::tap::{Event, Tap};
use crate::support::peer::Peer;
use crate::support::recording::{instance, topics};
use crate::support::rig::{ONLINE, PORTAL, n, value};
use crate::support::service::{BUS_ITEM, Item, Service};
use crate::support::wire::{METHOD_RETURN, Message, V, s};

type Topics = BTreeMap<String, String>;

/// How long one look may wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it looks while the two differ.
const PAUSE: Duration = Duration::from_millis(50);

/// The checker.
pub struct Checker {
    world: Arc<World>,
    /// How often it has looked, and how many topics it has compared.
    pub looks: u64,
    pub compared: u64,
    /// What there was to retain at the last look.
    pub topics: usize,
}

/// What differed until patience ended.
pub struct Divergence {
    /// At the broker: missing, wrong, or left behind.
    pub retained: Vec<String>,
    /// Whose last value a client that listens has not.
    pub lost: Vec<String>,
}

impl Checker {
    pub fn new(world: &Arc<World>) -> Checker {
        Checker {
            world: Arc::clone(world),
            looks: 0,
            compared: 0,
            topics: 0,
        }
    }

    /// Looks until bus, broker and client agree; gives how long that took.
    pub fn agree(&mut self, patience: Duration) -> Result<Duration, Divergence> {
        self.until(patience, Checker::look)
    }

    /// Looks until the broker retains nothing of any service.
    pub fn forgotten(&mut self, patience: Duration, online: bool) -> Result<Duration, Divergence> {
        self.until(patience, |checker| {
            checker.looks += 1;
            let retained = retained(checker.world.broker)?;
            let rest = retained.into_iter().filter(|(topic, payload)| {
                // What a bridge that is not there says of itself is looked at when it is back.
                let own = own();
                if online {
                    own.get(topic) != Some(payload)
                } else {
                    !own.contains_key(topic)
                }
            });
            let rest = rest.map(|(topic, payload)| format!("too much {topic} {payload}"));
            Ok(Divergence {
                retained: rest.collect(),
                lost: Vec::new(),
            })
        })
    }

    fn until(
        &mut self,
        patience: Duration,
        mut look: impl FnMut(&mut Checker) -> io::Result<Divergence>,
    ) -> Result<Duration, Divergence> {
        let mut clock = Clock::start();
        loop {
            let found = look(self).unwrap_or_else(|error| Divergence {
                retained: vec![format!("nothing to see: {error}")],
                lost: Vec::new(),
            });
            if found.retained.is_empty() && found.lost.is_empty() {
                return Ok(clock.elapsed());
            }
            if clock.elapsed() > patience || self.world.is_over() {
                return Err(found);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn look(&mut self) -> io::Result<Divergence> {
        self.looks += 1;
        let before = self.bus()?;
        let retained = retained(self.world.broker)?;
        let seen = self.world.seen.lock().unwrap().last.clone();
        let near = self.world.near.lock().unwrap().last.clone();
        let after = self.bus()?;
        self.topics = after.len();
        self.compared += u64::try_from(after.len()).unwrap();

        let settled = before
            .iter()
            .filter(|(topic, payload)| after.get(*topic) == Some(payload));
        let mut found = Divergence {
            retained: Vec::new(),
            lost: Vec::new(),
        };
        for (topic, payload) in settled {
            match retained.get(topic) {
                Some(other) if other == payload => {}
                Some(other) => {
                    let text = format!("differs {topic} {other}, should be {payload}");
                    found.retained.push(text);
                }
                None => found.retained.push(format!("missing {topic} {payload}")),
            }
            if seen.get(topic) != Some(payload) {
                let text = format!("lost {topic} {:?}, should be {payload}", seen.get(topic));
                found.lost.push(text);
            }
            if near.get(topic) != Some(payload) {
                let other = near.get(topic);
                let text = format!("lost by a listener {topic} {other:?}, should be {payload}");
                found.lost.push(text);
            }
        }
        for (topic, payload) in &retained {
            if !before.contains_key(topic) && !after.contains_key(topic) {
                found.retained.push(format!("too much {topic} {payload}"));
            }
        }
        for (topic, payload) in &near {
            let is_there = before.contains_key(topic) || after.contains_key(topic);
            if !is_there && topic.matches('/').count() > 3 {
                let text = format!("too much at a listener {topic} {payload}");
                found.lost.push(text);
            }
        }
        Ok(found)
    }

    /// What should be retained, by what the services on the bus answer just now.
    fn bus(&self) -> io::Result<Topics> {
        let peer = Peer::try_connect(&self.world.bus)?;
        let driver = "org.freedesktop.DBus";
        let list = Message::call(driver, "/org/freedesktop/DBus", driver, "ListNames");
        let names = answer(peer.try_calls(vec![list], ANSWER)?.pop().flatten())?;
        let [V::Array(_, names)] = names.as_slice() else {
            return Err(io::Error::other("no list of names"));
        };
        let names: Vec<&str> = names
            .iter()
            .filter_map(|name| match name {
                V::S(name) => Some(name.as_str()),
                _ => None,
            })
            .filter(|name| name.starts_with("com.victronenergy."))
            .collect();
        let calls = names
            .iter()
            .map(|name| Message::call(name, "/", BUS_ITEM, "GetItems"));
        let replies = peer.try_calls(calls.collect(), ANSWER)?;
        let mut all = own();
        for (name, reply) in names.into_iter().zip(replies) {
            let service = service(name, &answer(reply)?);
            all.extend(topics(&service, &instance(&service)));
        }
        // The bridge's own word on this one holds (§4.2).
        all.extend(own());
        Ok(all)
    }
}

fn answer(reply: Option<Message>) -> io::Result<Vec<V>> {
    let reply = reply.ok_or(io::ErrorKind::TimedOut)?;
    if reply.kind == METHOD_RETURN {
        Ok(reply.args())
    } else {
        Err(io::Error::other(format!("the bus says {}", reply.error)))
    }
}

/// The service that answered `GetItems` so.
fn service(name: &str, args: &[V]) -> Service {
    let mut service = Service::new(name);
    for (path, facets) in args.first().into_iter().flat_map(entries) {
        let mut item = Item {
            value: s(""),
            min: None,
            max: None,
            text: None,
        };
        let mut valued = false;
        for (facet, value) in entries(facets) {
            let value = match value {
                V::Variant(inner) => inner.as_ref().clone(),
                other => other.clone(),
            };
            match facet {
                "Value" => (item.value, valued) = (value, true),
                "Min" => item.min = Some(value),
                "Max" => item.max = Some(value),
                _ => {}
            }
        }
        if valued {
            service.items.insert(path.to_owned(), item);
        }
    }
    service
}

/// The entries of a dict with texts as keys.
fn entries(dict: &V) -> impl Iterator<Item = (&str, &V)> {
    let entries = match dict {
        V::Array(_, entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().filter_map(|entry| match entry {
        V::Entry(entry) => match entry.as_ref() {
            (V::S(key), value) => Some((key.as_str(), value)),
            _ => None,
        },
        _ => None,
    })
}

/// What the bridge says of itself, retained (§4.2, §4.10).
fn own() -> Topics {
    Topics::from([
        (n("system/0/Serial"), value(&format!("\"{PORTAL}\""))),
        (n("keepalive"), value("1")),
        (n("bridge/status"), ONLINE.to_owned()),
    ])
}

/// What a broker retains below our portal id.
fn retained(port: u16) -> io::Result<Topics> {
    let mut tap = Tap::connect(port, 4, "checker")?;
    let mut come = Vec::new();
    tap.subscribe(&n("#"), &mut come)?;
    // What is retained is sent before what comes later.
    let fence = "soak/fence";
    tap.subscribe(fence, &mut come)?;
    tap.publisher()?.publish(fence, &[], b"1")?;
    let deadline = Instant::now() + ANSWER;
    loop {
        match tap.next(deadline)? {
            Some(Event::Message { topic, .. }) if topic == fence => break,
            Some(event) => come.push(event),
            None => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    let mut topics = Topics::new();
    for event in come {
        if let Event::Message {
            topic,
            payload,
            retain: true,
            ..
        } = event
        {
            topics.insert(topic, String::from_utf8_lossy(&payload).into_owned());
        }
    }
    Ok(topics)
}

/// Time that this process was not stopped for: a look that takes longer than a second counts as one.
pub struct Clock {
    last: Instant,
    sum: Duration,
}

impl Clock {
    pub fn start() -> Clock {
        Clock {
            last: Instant::now(),
            sum: Duration::ZERO,
        }
    }

    pub fn elapsed(&mut self) -> Duration {
        let now = Instant::now();
        let longest = ANSWER + Duration::from_secs(1);
        self.sum += (now - self.last).min(longest);
        self.last = now;
        self.sum
    }
}
