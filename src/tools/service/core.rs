//! What a connection knows of its services, under one lock, and the queue of what leaves.
//!
//! The tree changes and the message about it is queued under the same lock; the queue keeps the order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use zbus::{Message, Variant};

use crate::tools::ToolError;
use crate::tools::item::{Item, Refusal};
use crate::tools::tree::{Fields, Tree};
use crate::tools::value::{self, BusValue};

/// How a service differs from a new and healthy one. Tests change it at run time, with
/// [`Service::behave`](super::Service::behave).
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // each is a separate switch
pub struct Behaviour {
    /// Answers `GetItems`; else it is an unknown method, as with old services.
    pub get_items: bool,
    /// Answers `GetValue` on `/`; else it is an unknown method.
    pub get_value_root: bool,
    /// Never answers anything.
    pub hang: bool,
    /// Answers with a body of a wrong signature.
    pub wrong_signature: bool,
    /// How long each answer takes.
    pub delay: Duration,
    /// The code with which every write is refused.
    pub refuse_writes: Option<i32>,
    /// Tells changes by signal.
    pub signals: bool,
    /// Another process may take the name over.
    pub replaceable: bool,
    /// Takes the name over from a replaceable owner.
    pub replaces: bool,
}

/// One change, for [`Service::set_many`](super::Service::set_many).
#[derive(Debug)]
pub struct Update {
    /// The path of the item; a new one is added, read only.
    pub path: String,
    /// The new value.
    pub value: BusValue,
    /// Its text. Without one, it has the form of the item's present text, if there is one.
    pub text: Option<String>,
}

/// What a service asks before it takes a write that is in range: the path and the value. The answer
/// may give the text of the new value. It runs in the task of the connection, and must not wait.
pub type WriteHook = Arc<dyn Fn(&str, &BusValue) -> Result<Option<String>, Refusal> + Send + Sync>;

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            get_items: true,
            get_value_root: true,
            hang: false,
            wrong_signature: false,
            delay: Duration::ZERO,
            refuse_writes: None,
            signals: true,
            replaceable: false,
            replaces: false,
        }
    }
}

impl Update {
    /// A change whose text follows from the value.
    pub fn new(path: impl Into<String>, value: impl Into<BusValue>) -> Self {
        Update {
            path: path.into(),
            value: value.into(),
            text: None,
        }
    }

    /// With this text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}

/// What the tasks and the handles change, under one lock.
pub(super) struct Core {
    pub(super) services: BTreeMap<usize, State>,
    next_id: usize,
    queue: mpsc::UnboundedSender<Message>,
    traffic: Arc<Traffic>,
}

/// One service as its connection knows it.
pub(super) struct State {
    pub(super) name: String,
    pub(super) tree: Tree,
    pub(super) behaviour: Behaviour,
    pub(super) on_write: Option<WriteHook>,
    pub(super) calls: BTreeMap<String, usize>,
}

/// How many messages are on their way to the socket.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) waiting: AtomicUsize,
    pub(super) gone: AtomicBool,
    pub(super) moved: Notify,
}

impl Core {
    pub(super) fn new(queue: mpsc::UnboundedSender<Message>, traffic: Arc<Traffic>) -> Core {
        Core {
            services: BTreeMap::new(),
            next_id: 0,
            queue,
            traffic,
        }
    }

    /// Adds a service; by its number it is found again.
    pub(super) fn insert(&mut self, state: State) -> usize {
        let id = self.next_id;
        self.next_id += 1;
        self.services.insert(id, state);
        id
    }

    /// Queues a message; the order of the queue is the order on the bus.
    pub(super) fn send(&mut self, message: Message) -> Result<(), ToolError> {
        if self.traffic.gone.load(Ordering::Acquire) {
            return Err(ToolError::BusGone);
        }
        self.traffic.waiting.fetch_add(1, Ordering::AcqRel);
        self.queue.send(message).map_err(|_| ToolError::BusGone)
    }

    /// The service that a call is for: by the name it was sent to; a call to the unique name is for
    /// the first service that has the path.
    pub(super) fn service_mut(&mut self, destination: &str, path: &str) -> Option<&mut State> {
        let by_name = |state: &State| state.name == destination;
        let by_path = |state: &State| state.tree.get(path).is_some();
        let services = &self.services;
        let first = |wanted: &dyn Fn(&State) -> bool| {
            services
                .iter()
                .find_map(|(id, state)| wanted(state).then_some(*id))
        };
        let id = first(&by_name).or_else(|| {
            if destination.starts_with(':') {
                first(&by_path).or_else(|| first(&|_| true))
            } else {
                None
            }
        })?;
        self.services.get_mut(&id)
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self
            .services
            .values()
            .map(|state| state.name.as_str())
            .collect();
        f.debug_struct("Core")
            .field("services", &names)
            .finish_non_exhaustive()
    }
}

/// Applies one change to a tree; what is to be told of it.
pub(super) fn apply(tree: &mut Tree, update: Update) -> Fields<'static> {
    let Update { path, value, text } = update;
    let mut changes = Fields::from([("Value", value::copy(&value))]);
    let text = if let Some(item) = tree.get_mut(&path) {
        let text = item.text_for(&value, text);
        item.value = value;
        item.text.clone_from(&text);
        text
    } else {
        let item = Item {
            text,
            ..Item::new(value)
        };
        let text = item.text.clone();
        tree.insert(&path, item);
        text
    };
    if let Some(text) = text {
        changes.insert("Text", Variant::from(text));
    }
    changes
}

pub(super) fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    // A panic elsewhere leaves no half-made change behind: each is complete before it is told.
    core.lock().unwrap_or_else(PoisonError::into_inner)
}
