//! One connection to the bus and the services on it: the queue of what leaves, the calls that come.
//!
//! The tree changes and the message about it is queued under one lock; the queue keeps the order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zbus::{Connection, Message, MessageStream, Variant};

use super::answer::{self, Hold};
use super::{Behaviour, Service, Update, WriteHook};
use crate::tools::ToolError;
use crate::tools::bus;
use crate::tools::item::Item;
use crate::tools::tree::{Fields, Tree};
use crate::tools::value;

/// A connection to the bus, on which any number of services can live.
#[derive(Debug, Clone)]
pub struct Peer {
    inner: Arc<Inner>,
}

impl Peer {
    /// Opens a connection; see [`bus::connect`].
    pub async fn connect(bus: &str) -> Result<Peer, ToolError> {
        let connection = bus::connect(bus).await?;
        let stream = MessageStream::from(&connection);
        let (queue, queued) = mpsc::unbounded_channel();
        let traffic = Arc::new(Traffic::default());
        let core = Arc::new(Mutex::new(Core {
            services: BTreeMap::new(),
            next_id: 0,
            queue,
            traffic: Arc::clone(&traffic),
        }));
        let tasks = [
            tokio::spawn(deliver(connection.clone(), queued, Arc::clone(&traffic))),
            tokio::spawn(serve(stream, Arc::clone(&core))),
        ];
        Ok(Peer {
            inner: Arc::new(Inner {
                connection,
                core,
                traffic,
                tasks,
            }),
        })
    }

    /// Adds a service: takes its name on the bus and answers for its items.
    pub async fn add(
        &self,
        name: &str,
        items: impl IntoIterator<Item = (String, Item)>,
        behaviour: Behaviour,
        on_write: Option<WriteHook>,
    ) -> Result<Service, ToolError> {
        let flags = REQUEST_DO_NOT_QUEUE
            | if behaviour.replaceable {
                REQUEST_ALLOW_REPLACEMENT
            } else {
                0
            }
            | if behaviour.replaces {
                REQUEST_REPLACE
            } else {
                0
            };
        let id = {
            let mut core = self.lock();
            let id = core.next_id;
            core.next_id += 1;
            core.services.insert(
                id,
                State {
                    name: name.to_owned(),
                    tree: Tree::new(items),
                    behaviour,
                    on_write,
                    calls: BTreeMap::new(),
                },
            );
            id
        };
        // From here on, dropping it removes what was inserted.
        let service = Service {
            peer: self.clone(),
            id,
            name: name.to_owned(),
        };
        let reply = bus::call(&self.inner.connection, "RequestName", &(name, flags)).await?;
        let outcome = reply.body().deserialize::<u32>().unwrap_or_default();
        if matches!(outcome, REQUEST_PRIMARY_OWNER | REQUEST_ALREADY_OWNER) {
            Ok(service)
        } else {
            Err(ToolError::NameTaken {
                name: name.to_owned(),
            })
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        lock(&self.inner.core)
    }

    pub(super) fn connection(&self) -> Connection {
        self.inner.connection.clone()
    }

    /// The unique name of the connection.
    pub fn unique_name(&self) -> String {
        self.inner
            .connection
            .unique_name()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Waits until everything said so far has been given to the bus.
    pub async fn flushed(&self) -> Result<(), ToolError> {
        let traffic = &self.inner.traffic;
        loop {
            // Registered before the look at the count, so that no wake-up falls between.
            let moved = traffic.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if traffic.gone.load(Ordering::Acquire) {
                return Err(ToolError::BusGone);
            }
            if traffic.waiting.load(Ordering::Acquire) == 0 {
                return Ok(());
            }
            moved.await;
        }
    }
}

/// What all handles of one connection share.
#[derive(Debug)]
struct Inner {
    connection: Connection,
    core: Arc<Mutex<Core>>,
    traffic: Arc<Traffic>,
    tasks: [JoinHandle<()>; 2],
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
struct Traffic {
    waiting: AtomicUsize,
    gone: AtomicBool,
    moved: Notify,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // They hold the connection, and with them it closes.
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Core {
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

/// Answers calls, each when its time has come, until the connection closes.
async fn serve(mut stream: MessageStream, core: Arc<Mutex<Core>>) {
    let mut late: VecDeque<(Instant, Message)> = VecDeque::new();
    loop {
        let due = late.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = sleep_until(due) => {
                if let Some((_, call)) = late.pop_front() {
                    answer::answer(&core, &call);
                }
            }
            message = bus::next(&mut stream) => {
                let Some(message) = message else { return };
                match answer::hold(&core, &message) {
                    Hold::Never => {}
                    Hold::Until(delay) if delay.is_zero() => answer::answer(&core, &message),
                    Hold::Until(delay) => {
                        let due = Instant::now() + delay;
                        let place = late.partition_point(|(other, _)| *other <= due);
                        late.insert(place, (due, message));
                    }
                }
            }
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Writes queued messages to the socket, as many at once as there are.
async fn deliver(
    connection: Connection,
    mut queue: mpsc::UnboundedReceiver<Message>,
    traffic: Arc<Traffic>,
) {
    let mut batch = Vec::with_capacity(BATCH_MESSAGES_MAX);
    loop {
        let count = queue.recv_many(&mut batch, BATCH_MESSAGES_MAX).await;
        if count == 0 {
            return;
        }
        let sent = connection.send_all(&batch).await;
        batch.clear();
        traffic.waiting.fetch_sub(count, Ordering::AcqRel);
        if sent.is_err() {
            traffic.gone.store(true, Ordering::Release);
            traffic.moved.notify_waiters();
            return;
        }
        traffic.moved.notify_waiters();
    }
}

/// How many messages one write takes.
const BATCH_MESSAGES_MAX: usize = 64;

// Flags and replies of `RequestName`, as the D-Bus specification numbers them.
const REQUEST_ALLOW_REPLACEMENT: u32 = 1;
const REQUEST_REPLACE: u32 = 2;
const REQUEST_DO_NOT_QUEUE: u32 = 4;
const REQUEST_PRIMARY_OWNER: u32 = 1;
const REQUEST_ALREADY_OWNER: u32 = 4;
