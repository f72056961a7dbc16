//! Which service is where on its way to a file, and what is asked of it next.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use zbus::message::Type;
use zbus::{Connection, Message, OwnedVariant, Variant};

use super::announced::{announced, answered, paths};
use super::tape::{Tape, file_error, mask, masked_change};
use crate::codec::introspect;
use crate::model::name::SERVICE_PREFIX;
use crate::schema::Schema;
use crate::tools::ToolError;
use crate::tools::bus::{self, BUS, BUS_ITEM, BUS_PATH};
use crate::tools::item::Item;
use crate::tools::recording::Change;
use crate::tools::value;

/// What to record.
#[derive(Debug, Clone, Copy)]
pub struct What<'a> {
    /// These services; without any, all. A name may leave out `com.victronenergy.` and, at its end,
    /// whole parts.
    pub services: &'a [String],
    /// What it says is secret is written as stars.
    pub schema: &'a Schema,
}

/// What was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many services have a file.
    pub services: usize,
    /// How many changes were written.
    pub changes: u64,
    /// Of those that were asked for, who never were on the bus.
    pub missing: Vec<String>,
}

/// The services of a bus, and where each is on its way to a file.
pub(super) struct Recorder<'a> {
    connection: Connection,
    what: What<'a>,
    out: &'a Path,
    say: &'a mut dyn FnMut(&str),
    started: Instant,
    services: BTreeMap<String, Seen>,
    pending: HashMap<NonZeroU32, Pending>,
    summary: Summary,
}

/// Whether a service is the one that was asked for, with or without the first and the last parts of its
/// name.
fn is_meant(name: &str, wanted: &str) -> bool {
    let short = |name: &'_ str| name.strip_prefix(SERVICE_PREFIX).unwrap_or(name).to_owned();
    let (name, wanted) = (short(name), short(wanted));
    let rest = name.strip_prefix(&wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A call that waits for its reply.
struct Pending {
    question: Question,
    deadline: Instant,
}

enum Question {
    Names,
    Owner {
        name: String,
    },
    Items {
        name: String,
        owner: String,
    },
    Values {
        name: String,
        owner: String,
    },
    Texts {
        name: String,
        owner: String,
    },
    Step {
        name: String,
        owner: String,
        step: Step,
    },
}

/// What is asked next of a service that can neither `GetItems` nor `GetValue` on `/` (§2.2): of a node what is
/// below it, of an item its value. One at a time, since a bus allows only so many open calls.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Node(String),
    Item(String),
}

type Announced = HashMap<String, HashMap<String, OwnedVariant>>;

impl<'a> Recorder<'a> {
    /// Listens to the bus and asks who is there.
    pub(super) async fn begin(
        connection: Connection,
        what: What<'a>,
        out: &'a Path,
        say: &'a mut dyn FnMut(&str),
    ) -> Result<Self, ToolError> {
        for rule in MATCH_RULES {
            bus::call(&connection, "AddMatch", &rule).await?;
        }
        let mut recorder = Recorder {
            connection,
            what,
            out,
            say,
            started: Instant::now(),
            services: BTreeMap::new(),
            pending: HashMap::new(),
            summary: Summary::default(),
        };
        let question = Question::Names;
        recorder.ask_bus("ListNames", None, question).await?;
        Ok(recorder)
    }

    /// What was recorded so far.
    pub(super) fn summary(&self) -> Summary {
        let is_there = |wanted: &&String| {
            let mut recorded = self.services.iter().filter(|(_, seen)| seen.file.is_some());
            recorded.any(|(name, _)| is_meant(name, wanted))
        };
        let missing = self.what.services.iter().filter(|name| !is_there(name));
        Summary {
            missing: missing.cloned().collect(),
            ..self.summary.clone()
        }
    }

    /// Takes the next message of the bus.
    pub(super) async fn take(&mut self, message: &Message) -> Result<(), ToolError> {
        match message.message_type() {
            Type::Signal => self.take_signal(message).await,
            Type::MethodReturn | Type::Error => self.take_reply(message).await,
            Type::MethodCall => Ok(()),
        }
    }

    async fn take_signal(&mut self, message: &Message) -> Result<(), ToolError> {
        let header = message.header();
        let interface = header.interface().map_or("", |name| name.as_str());
        let member = header.member().map_or("", |name| name.as_str());
        let sender = header.sender().map_or("", |name| name.as_str());
        let path = header.path().map_or("", |path| path.as_str());
        let body = message.body();
        match (interface, member) {
            (BUS, "NameOwnerChanged") => {
                if let Ok((name, _, owner)) = body.deserialize::<(&str, &str, &str)>() {
                    self.owner(name, owner).await?;
                }
            }
            (BUS_ITEM, "PropertiesChanged") => {
                if let Ok(fields) = body.deserialize::<HashMap<String, OwnedVariant>>() {
                    self.changed(sender, path, fields)?;
                }
            }
            (BUS_ITEM, "ItemsChanged") => {
                if let Ok(items) = body.deserialize::<Announced>() {
                    for (path, fields) in items {
                        self.changed(sender, &path, fields)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn take_reply(&mut self, message: &Message) -> Result<(), ToolError> {
        let serial = message.header().reply_serial();
        let Some(pending) = serial.and_then(|serial| self.pending.remove(&serial)) else {
            return Ok(());
        };
        let body = message.body();
        let failed = message.message_type() == Type::Error;
        match pending.question {
            Question::Names => {
                for name in body.deserialize::<Vec<String>>().unwrap_or_default() {
                    if self.is_wanted(&name) {
                        let question = Question::Owner { name: name.clone() };
                        self.ask_bus("GetNameOwner", Some(&name), question).await?;
                    }
                }
            }
            Question::Owner { name } => {
                if let Ok(owner) = body.deserialize::<&str>()
                    && !failed
                {
                    self.owner(&name, owner).await?;
                }
            }
            Question::Items { name, owner } if self.is_current(&name, &owner) => {
                let items = body.deserialize::<Announced>().unwrap_or_default();
                if failed || items.is_empty() {
                    let question = Question::Values { name, owner };
                    self.ask_service("GetValue", question).await?;
                } else {
                    let items = items.into_iter().filter_map(announced).collect();
                    self.begin_tape(&name, items, Vec::new())?;
                }
            }
            Question::Values { name, owner } if self.is_current(&name, &owner) => {
                let values = body.deserialize::<Variant<'_>>().ok().and_then(paths);
                if let Some(items) = values.filter(|_| !failed) {
                    let stage = Stage::Values {
                        items,
                        later: Vec::new(),
                    };
                    self.set_stage(&name, stage);
                    let question = Question::Texts { name, owner };
                    self.ask_service("GetText", question).await?;
                } else {
                    let stage = Stage::Walk {
                        items: BTreeMap::new(),
                        todo: vec![Step::Node("/".to_owned())],
                        later: Vec::new(),
                    };
                    self.set_stage(&name, stage);
                    self.walk_on(name, owner).await?;
                }
            }
            Question::Step { name, owner, step } if self.is_current(&name, &owner) => {
                if !failed {
                    self.step(&name, step, &body);
                }
                self.walk_on(name, owner).await?;
            }
            Question::Texts { name, owner } if self.is_current(&name, &owner) => {
                let texts = body.deserialize::<Variant<'_>>().ok().and_then(paths);
                self.texts(&name, texts.unwrap_or_default())?;
            }
            // The answer of an owner that is gone.
            Question::Items { .. }
            | Question::Values { .. }
            | Question::Texts { .. }
            | Question::Step { .. } => {}
        }
        Ok(())
    }

    /// Takes the answer to one step of a walk.
    fn step(&mut self, name: &str, step: Step, body: &zbus::message::Body) {
        let Some(Stage::Walk { items, todo, .. }) =
            self.services.get_mut(name).map(|seen| &mut seen.stage)
        else {
            return;
        };
        match step {
            Step::Node(path) => {
                let node = body.deserialize::<&str>().ok().map(introspect::parse);
                let Some(Ok(node)) = node else { return };
                let room = STEPS_MAX.saturating_sub(todo.len() + items.len());
                let parent = path.trim_end_matches('/');
                let below = node.children.iter().take(room);
                todo.extend(
                    below
                        .map(|child| format!("{parent}/{child}"))
                        .filter(|path| path.len() <= PATH_BYTES_MAX)
                        .map(Step::Node),
                );
                if node.is_item && path != "/" {
                    todo.push(Step::Item(path));
                }
            }
            Step::Item(path) => {
                let value = body.deserialize::<Variant<'_>>().ok();
                if let Some(item) = value.and_then(answered) {
                    items.insert(path, item);
                }
            }
        }
    }

    /// Takes the next step of a walk, or writes what it has found.
    async fn walk_on(&mut self, name: String, owner: String) -> Result<(), ToolError> {
        let Some(Stage::Walk { items, todo, later }) =
            self.services.get_mut(&name).map(|seen| &mut seen.stage)
        else {
            return Ok(());
        };
        if let Some(step) = todo.pop() {
            let member = match step {
                Step::Node(_) => "Introspect",
                Step::Item(_) => "GetValue",
            };
            let question = Question::Step { name, owner, step };
            return self.ask_service(member, question).await;
        }
        let (items, later) = (std::mem::take(items), std::mem::take(later));
        if items.is_empty() {
            let why =
                "it answers neither GetItems nor GetValue on /, and no item below it has a value";
            self.give_up(&name, why);
            return Ok(());
        }
        self.begin_tape(&name, items, later)
    }

    /// A name has an owner, another owner, or none any more.
    async fn owner(&mut self, name: &str, owner: &str) -> Result<(), ToolError> {
        if !self.is_wanted(name) {
            return Ok(());
        }
        let seen = self
            .services
            .entry(name.to_owned())
            .or_insert_with(|| Seen {
                owner: String::new(),
                stage: Stage::Waiting { retry: None },
                file: None,
            });
        if seen.owner == owner {
            return Ok(());
        }
        owner.clone_into(&mut seen.owner);
        seen.stage = Stage::Waiting { retry: None };
        if owner.is_empty() {
            if let Some(tape) = &mut seen.file {
                tape.flush()?;
            }
            (self.say)(&format!("{name} is gone"));
            return Ok(());
        }
        let question = Question::Items {
            name: name.to_owned(),
            owner: owner.to_owned(),
        };
        self.ask_service("GetItems", question).await
    }

    /// One item of the service behind a unique name changed.
    fn changed(
        &mut self,
        sender: &str,
        path: &str,
        fields: HashMap<String, OwnedVariant>,
    ) -> Result<(), ToolError> {
        let Some((path, item)) = announced((path.to_owned(), fields)) else {
            return Ok(()); // no value in it: the format has no word for that
        };
        let ts_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let owned: Vec<&String> = self
            .services
            .iter()
            .filter_map(|(name, seen)| (seen.owner == sender).then_some(name))
            .collect();
        // One connection may own several services: then the path says which (§2.5).
        let with_path: Vec<String> = owned
            .iter()
            .filter(|name| {
                owned.len() == 1 || self.services.get(**name).is_some_and(|s| s.has(&path))
            })
            .map(|name| (*name).clone())
            .collect();
        for name in with_path {
            let change = Change {
                ts_ms,
                path: path.clone(),
                value: value::copy(&item.value),
                text: item.text.clone(),
            };
            if let Some(seen) = self.services.get_mut(&name) {
                self.summary.changes +=
                    seen.take(masked_change(self.what.schema, &name, change))?;
            }
        }
        Ok(())
    }

    /// The texts of a service without `GetItems` are there, or there are none.
    fn texts(&mut self, name: &str, texts: BTreeMap<String, Item>) -> Result<(), ToolError> {
        let stage = Stage::Waiting { retry: None };
        let Some(Stage::Values { mut items, later }) = self.set_stage(name, stage) else {
            return Ok(());
        };
        for (path, text) in texts {
            if let (Some(item), Variant::Str(text)) = (items.get_mut(&path), &text.value) {
                item.text = Some(text.to_string());
            }
        }
        self.begin_tape(name, items, later)
    }

    /// Writes the start state of a service; of one that came back, what is different now.
    fn begin_tape(
        &mut self,
        name: &str,
        mut items: BTreeMap<String, Item>,
        later: Vec<Change>,
    ) -> Result<(), ToolError> {
        for (path, item) in &mut items {
            mask(self.what.schema, name, path, item);
        }
        let ts_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Some(seen) = self.services.get_mut(name) else {
            return Ok(());
        };
        let count = items.len();
        seen.stage = Stage::Recorded;
        if let Some(tape) = &seen.file {
            let changes = tape.differences(items, ts_ms);
            for change in changes {
                self.summary.changes += seen.take(change)?;
            }
            (self.say)(&format!("{name} is back with {count} items"));
        } else {
            std::fs::create_dir_all(self.out).map_err(|reason| file_error(self.out, reason))?;
            let path = self.out.join(format!("{name}.jsonl"));
            (self.say)(&format!(
                "recording {name}, {count} items, in {}",
                path.display()
            ));
            seen.file = Some(Tape::begin(path, name, items)?);
            self.summary.services += 1;
        }
        for change in later {
            self.summary.changes += seen.take(change)?;
        }
        Ok(())
    }

    /// Every second: files are brought up to date, what did not answer is given up, what was given
    /// up is asked again.
    pub(super) async fn tick(&mut self) -> Result<(), ToolError> {
        self.flush()?;
        let now = Instant::now();
        let late: Vec<NonZeroU32> = self
            .pending
            .iter()
            .filter_map(|(serial, pending)| (pending.deadline <= now).then_some(*serial))
            .collect();
        for serial in late {
            let Some(pending) = self.pending.remove(&serial) else {
                continue;
            };
            match pending.question {
                Question::Texts { name, owner } if self.is_current(&name, &owner) => {
                    self.texts(&name, BTreeMap::new())?;
                }
                Question::Items { name, owner }
                | Question::Values { name, owner }
                | Question::Step { name, owner, .. }
                    if self.is_current(&name, &owner) =>
                {
                    self.give_up(&name, "it does not answer");
                }
                Question::Names
                | Question::Owner { .. }
                | Question::Items { .. }
                | Question::Values { .. }
                | Question::Texts { .. }
                | Question::Step { .. } => {}
            }
        }
        let again: Vec<Question> = self
            .services
            .iter_mut()
            .filter_map(|(name, seen)| match &mut seen.stage {
                Stage::Waiting { retry } if retry.is_some_and(|retry| retry <= now) => {
                    *retry = None;
                    Some(Question::Items {
                        name: name.clone(),
                        owner: seen.owner.clone(),
                    })
                }
                Stage::Waiting { .. }
                | Stage::Values { .. }
                | Stage::Walk { .. }
                | Stage::Recorded => None,
            })
            .collect();
        for question in again {
            self.ask_service("GetItems", question).await?;
        }
        Ok(())
    }

    /// Brings all files up to date.
    pub(super) fn flush(&mut self) -> Result<(), ToolError> {
        for seen in self.services.values_mut() {
            if let Some(tape) = &mut seen.file {
                tape.flush()?;
            }
        }
        Ok(())
    }

    fn give_up(&mut self, name: &str, why: &str) {
        (self.say)(&format!("{name} is not recorded yet: {why}"));
        let retry = Some(Instant::now() + RETRY);
        self.set_stage(name, Stage::Waiting { retry });
    }

    fn set_stage(&mut self, name: &str, stage: Stage) -> Option<Stage> {
        let seen = self.services.get_mut(name)?;
        Some(std::mem::replace(&mut seen.stage, stage))
    }

    /// Whether a question was asked of the service's present owner.
    fn is_current(&self, name: &str, owner: &str) -> bool {
        self.services
            .get(name)
            .is_some_and(|seen| seen.owner == owner)
    }

    fn is_wanted(&self, name: &str) -> bool {
        let mut wanted = self.what.services.iter();
        name.starts_with(SERVICE_PREFIX)
            && (self.what.services.is_empty() || wanted.any(|wanted| is_meant(name, wanted)))
    }

    async fn ask_bus(
        &mut self,
        member: &'static str,
        argument: Option<&str>,
        question: Question,
    ) -> Result<(), ToolError> {
        let call = Message::method_call(BUS_PATH, member)
            .destination(BUS)
            .interface(BUS);
        let call = match argument {
            Some(argument) => call.build(&argument),
            None => call.build(&()),
        };
        self.ask(call, member, question).await
    }

    async fn ask_service(
        &mut self,
        member: &'static str,
        question: Question,
    ) -> Result<(), ToolError> {
        let (path, interface) = match &question {
            Question::Step { step, .. } => match step {
                Step::Node(path) => (path.clone(), INTROSPECTABLE),
                Step::Item(path) => (path.clone(), BUS_ITEM),
            },
            Question::Items { .. }
            | Question::Values { .. }
            | Question::Texts { .. }
            | Question::Names
            | Question::Owner { .. } => ("/".to_owned(), BUS_ITEM),
        };
        let (name, owner) = match &question {
            Question::Items { name, owner }
            | Question::Values { name, owner }
            | Question::Texts { name, owner }
            | Question::Step { name, owner, .. } => (name.as_str(), owner.as_str()),
            Question::Names | Question::Owner { .. } => (BUS, BUS),
        };
        // By unique name, so that no other owner answers for this one. A connection with several
        // services must know which is meant, so it is asked by name.
        let sharing = |seen: &&Seen| seen.owner == owner;
        let shared = self.services.values().filter(sharing).count() > 1;
        let destination = if shared { name } else { owner };
        let call = Message::method_call(&*path, member)
            .destination(destination)
            .interface(interface)
            .build(&());
        self.ask(call, member, question).await
    }

    async fn ask(
        &mut self,
        call: zbus::Result<Message>,
        member: &'static str,
        question: Question,
    ) -> Result<(), ToolError> {
        let refused = |reason| ToolError::BusCall {
            call: member,
            reason: Box::new(reason),
        };
        let call = call.map_err(refused)?;
        self.connection
            .send(&call)
            .await
            .map_err(|_| ToolError::BusGone)?;
        self.pending.insert(
            call.primary_header().serial_num(),
            Pending {
                question,
                deadline: Instant::now() + ANSWER,
            },
        );
        Ok(())
    }
}

/// A service that was on the bus at some time.
struct Seen {
    /// The unique name; empty when the service is gone.
    owner: String,
    stage: Stage,
    file: Option<Tape>,
}

enum Stage {
    /// A call is out, or none is worth trying before a time.
    Waiting { retry: Option<Instant> },
    /// The values are there, the texts are not; what changed since.
    Values {
        items: BTreeMap<String, Item>,
        later: Vec<Change>,
    },
    /// The service is walked through, node by node; what is still to be asked, and what changed since.
    Walk {
        items: BTreeMap<String, Item>,
        todo: Vec<Step>,
        later: Vec<Change>,
    },
    /// The file holds the start state.
    Recorded,
}

impl Seen {
    fn has(&self, path: &str) -> bool {
        match (&self.stage, &self.file) {
            (Stage::Values { items, .. } | Stage::Walk { items, .. }, _) => {
                items.contains_key(path)
            }
            (_, Some(tape)) => tape.items.contains_key(path),
            _ => false,
        }
    }

    /// Takes one change; how many were written. What comes before the answer to a scan is in it.
    fn take(&mut self, change: Change) -> Result<u64, ToolError> {
        match (&mut self.stage, &mut self.file) {
            (Stage::Recorded, Some(tape)) => tape.change(change).map(|()| 1),
            (Stage::Values { later, .. } | Stage::Walk { later, .. }, _) => {
                later.push(change);
                Ok(0)
            }
            _ => Ok(0),
        }
    }
}

const MATCH_RULES: [&str; 2] = [
    "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'",
    "type='signal',interface='com.victronenergy.BusItem'",
];
const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
/// More nodes than any service has.
const STEPS_MAX: usize = 100_000;
/// As long as a path may be that is published.
const PATH_BYTES_MAX: usize = 1024;
/// How long a service may take to answer.
const ANSWER: Duration = Duration::from_secs(25);
/// When a service that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(10);
