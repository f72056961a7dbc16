//! What every installation of a fleet plays: recordings as the messages of a bus, made once for all.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use zbus::{Message, Variant};

use crate::bridge::calls::{BUS, Call, Method};
use crate::codec::frame::{self, Frame, Kind};
use crate::tools::ToolError;
use crate::tools::bus::BUS_ITEM;
use crate::tools::item::Item;
use crate::tools::recording::{Change, Recording};
use crate::tools::replay::bursts;
use crate::tools::tree::{Fields, Node, Tree};
use crate::tools::value;

/// The recordings, and the signals of all their changes.
#[derive(Debug)]
pub(super) struct Track {
    services: Vec<Recorded>,
    /// In the order of time; those of the same time may be several.
    pub(super) steps: Vec<Step>,
    /// What brings every item back to the start.
    pub(super) rewind: Vec<Signal>,
    /// How long one pass takes.
    pub(super) length: Duration,
    /// How many changes one pass has.
    pub(super) changes: usize,
}

/// One service.
#[derive(Debug)]
struct Recorded {
    /// The name on the bus, and the unique name of its connection.
    name: String,
    owner: String,
    recording: Recording,
    /// What `GetItems` answers at the start: the longest message, made once for all.
    announcement: Option<Message>,
}

/// What one service sends at one time.
#[derive(Debug)]
pub(super) struct Step {
    /// When, from the start.
    pub(super) at: Duration,
    /// Which changes of which recording.
    service: usize,
    changes: std::ops::Range<usize>,
    pub(super) signals: Vec<Signal>,
}

/// `ItemsChanged` of one service, as it is sent on a bus.
#[derive(Debug)]
pub(super) struct Signal {
    owner: String,
    bytes: Box<[u8]>,
}

impl Signal {
    /// The message; `None` cannot be, for zbus made it.
    pub(super) fn frame(&self) -> Option<Frame<'_>> {
        let frame = frame::parse(&self.bytes).ok()?;
        Some(Frame {
            sender: &self.owner,
            ..frame
        })
    }
}

impl Track {
    /// A track of these recordings; each comes with the file that errors name.
    pub(super) fn new(recordings: Vec<(PathBuf, Recording)>) -> Result<Track, ToolError> {
        let services = recordings.into_iter().zip(1_u32..);
        let services: Vec<Recorded> = services
            .map(|((_, recording), number)| {
                let recording = recording.without_tree_nodes();
                let items = recording.items.iter();
                let tree = Tree::new(items.map(|(path, item)| (path.clone(), item.clone())));
                Recorded {
                    name: recording.service.clone(),
                    owner: format!(":1.{number}"),
                    announcement: encode(&tree.announcement()),
                    recording,
                }
            })
            .collect();
        let mut steps = Vec::new();
        let all = services.iter().map(|one| one.recording.changes.as_slice());
        for burst in bursts(all) {
            let Some(service) = services.get(burst.track) else {
                continue;
            };
            let changes = service.recording.changes.get(burst.changes.clone());
            steps.push(Step {
                at: Duration::from_millis(burst.ts_ms),
                service: burst.track,
                signals: signals(service, changes.unwrap_or_default())?,
                changes: burst.changes,
            });
        }
        let last = steps.last().map_or(Duration::ZERO, |step| step.at);
        let mut track = Track {
            rewind: Vec::new(),
            length: last + PAUSE,
            changes: services.iter().map(|one| one.recording.changes.len()).sum(),
            services,
            steps,
        };
        let mut rewind = Vec::new();
        for (number, service) in track.services.iter().enumerate() {
            let end = track.tree(number, track.steps.len());
            let starts = service.recording.items.iter().filter(|(path, start)| {
                let now = end.get(path);
                now.is_none_or(|now| !value::same(&now.value, &start.value))
            });
            let back: Vec<Change> = starts
                .map(|(path, start)| Change {
                    ts_ms: 0,
                    path: path.clone(),
                    value: value::copy(&start.value),
                    text: start.text.clone(),
                })
                .collect();
            rewind.extend(signals(service, &back)?);
        }
        track.rewind = rewind;
        Ok(track)
    }

    /// The items of a service after this many steps.
    fn tree(&self, service: usize, steps: usize) -> Tree {
        let Some(recorded) = self.services.get(service) else {
            return Tree::default();
        };
        let start = recorded.recording.items.iter();
        let mut tree = Tree::new(start.map(|(path, item)| (path.clone(), item.clone())));
        let past = self.steps.iter().take(steps);
        for step in past.filter(|step| step.service == service) {
            let changes = recorded.recording.changes.get(step.changes.clone());
            for change in changes.unwrap_or_default() {
                let value = value::copy(&change.value);
                match tree.get_mut(&change.path) {
                    Some(item) => {
                        item.value = value;
                        item.text.clone_from(&change.text);
                    }
                    None => tree.insert(&change.path, Item::new(value)),
                }
            }
        }
        tree
    }

    /// What the bus, or a service on it, answers to a call after this many steps.
    pub(super) fn answer(&self, call: &Call, steps: usize) -> Option<Answer> {
        let reply = |owner: &str, message: Option<Message>| {
            Some(Answer {
                serial: call.id.serial(),
                owner: owner.to_owned(),
                message: message?,
                kind: Kind::MethodReturn,
                service: None,
            })
        };
        match &call.method {
            Method::AddMatch(_) => return reply(BUS, encode(&())),
            Method::ListNames => {
                let names = self.services.iter().map(|service| service.name.as_str());
                return reply(BUS, encode(&names.collect::<Vec<_>>()));
            }
            Method::GetNameOwner(name) => {
                let mut all = self.services.iter();
                let found = all.find(|service| *service.name == **name)?;
                return reply(BUS, encode(&found.owner));
            }
            Method::GetItems | Method::GetValue | Method::SetValue(_) | Method::Introspect => {}
        }
        let called = |service: &Recorded| {
            *service.name == *call.destination || *service.owner == *call.destination
        };
        let number = self.services.iter().position(called)?;
        let recorded = self.services.get(number)?;
        let owner = recorded.owner.as_str();
        if call.method == Method::GetItems {
            return Some(Answer {
                service: Some(number),
                ..reply(owner, recorded.announcement.clone())?
            });
        }
        let tree = self.tree(number, steps);
        let body = match (&call.method, tree.node(&call.path)) {
            (Method::SetValue(_), _) => encode(&READ_ONLY),
            (Method::Introspect, _) => encode(&tree.introspection(&call.path)),
            (_, Node::Item(item)) => encode(&item.value),
            (_, Node::Inner) => encode(&tree.values(&call.path)),
            (_, Node::Unknown) => {
                return Some(Answer {
                    kind: Kind::Error,
                    ..reply(owner, encode(&"no such item"))?
                });
            }
        };
        reply(owner, body)
    }

    /// How many services and items there are.
    pub(super) fn size(&self) -> (usize, usize) {
        let items = self.services.iter().map(|one| one.recording.items.len());
        (self.services.len(), items.sum())
    }
}

/// The answer to one call.
#[derive(Debug)]
pub(super) struct Answer {
    serial: u32,
    owner: String,
    message: Message,
    kind: Kind,
    /// The service whose changes since the start follow.
    service: Option<usize>,
}

impl Answer {
    /// The message that it is, and those that follow it.
    pub(super) fn frames<'a>(
        &'a self,
        track: &'a Track,
        steps: usize,
    ) -> impl Iterator<Item = Frame<'a>> {
        let past = track.steps.iter().take(steps);
        let past = past.filter(|step| Some(step.service) == self.service);
        let changes = past.flat_map(|step| step.signals.iter().filter_map(Signal::frame));
        self.frame().into_iter().chain(changes)
    }

    fn frame(&self) -> Option<Frame<'_>> {
        let frame = frame::parse(self.message.data()).ok()?;
        Some(Frame {
            kind: self.kind,
            path: b"",
            interface: "",
            member: "",
            error_name: if self.kind == Kind::Error {
                "org.freedesktop.DBus.Error.UnknownObject"
            } else {
                ""
            },
            sender: &self.owner,
            reply_serial: self.serial,
            ..frame
        })
    }
}

/// A message with this body. Its head is of no meaning: the bridge is given the frame of the answer.
fn encode<B: serde::Serialize + zbus::DynamicType>(body: &B) -> Option<Message> {
    let message = Message::signal("/", BUS_ITEM, "ItemsChanged");
    message.build(body).ok()
}

/// The signals of changes. One holds each path once.
fn signals(service: &Recorded, changes: &[Change]) -> Result<Vec<Signal>, ToolError> {
    let mut all = Vec::new();
    let mut rest = changes;
    while !rest.is_empty() {
        let mut seen = HashSet::new();
        let twice = (rest.iter()).position(|change| !seen.insert(change.path.as_str()));
        let (now, later) = rest.split_at(twice.unwrap_or(rest.len()));
        let body: BTreeMap<&str, Fields<'static>> = now
            .iter()
            .map(|change| {
                let mut fields = Fields::from([("Value", value::copy(&change.value))]);
                if let Some(text) = &change.text {
                    fields.insert("Text", Variant::from(text.clone()));
                }
                (change.path.as_str(), fields)
            })
            .collect();
        let message = Message::signal("/", BUS_ITEM, "ItemsChanged").build(&body);
        let message = message.map_err(|reason| ToolError::Message {
            name: service.name.clone(),
            path: "/".to_owned(),
            reason: Box::new(reason),
        })?;
        all.push(Signal {
            owner: service.owner.clone(),
            bytes: Box::from(&message.data()[..]),
        });
        rest = later;
    }
    Ok(all)
}

/// Between the last change and the next pass.
const PAUSE: Duration = Duration::from_secs(1);
/// What `SetValue` answers.
const READ_ONLY: i32 = 1;
