//! One connection to the bus and the services on it: the queue of what leaves, the calls that come.
//!
//! The tree changes and the message about it is queued under one lock; the queue keeps the order.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zbus::{Connection, Message, MessageStream};

use super::answer::{self, Hold};
use super::core::{Core, Traffic, lock};
use crate::tools::ToolError;
use crate::tools::bus;

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
        let core = Arc::new(Mutex::new(Core::new(queue, Arc::clone(&traffic))));
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

impl Drop for Inner {
    fn drop(&mut self) {
        // They hold the connection, and with them it closes.
        for task in &self.tasks {
            task.abort();
        }
    }
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
