//! A Venus service on a D-Bus: the other side of §2.1, for the tools and for tests.
//!
//! It answers method calls from its [`Tree`](super::tree::Tree) and tells every change by signal, as the services of
//! a GX device do. [`Behaviour`] makes it an old, a slow or a broken one. It must never let two
//! messages overtake each other: what changes the tree and what leaves the connection are one step,
//! under one lock, so that a reply and the signals around it arrive in the order in which they were
//! true. `peer` is the connection, `answer` says what each method answers.
//!
//! ```text
//!   calls ──▶ MessageStream ──▶ serve ──▶ answer ─┐ lock
//!   set, set_many, … ─────────────────────────────┤──▶ queue ──▶ deliver ──▶ socket
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use zbus::Message;

mod answer;
mod peer;
#[cfg(test)]
mod tests;

pub use peer::Peer;

use super::ToolError;
use super::bus::{self, BUS_ITEM};
use super::item::{Item, Refusal};
use super::tree::{self, Fields};
use super::value::{self, BusValue};
use peer::{Core, apply};

/// One service: a bus name and the tree behind it.
///
/// Dropping it takes the service off the bus, once it was the last of its connection; [`stop`]
/// does so at once and waits for it.
///
/// [`stop`]: Service::stop
#[derive(Debug)]
pub struct Service {
    peer: Peer,
    id: usize,
    name: String,
}

/// How a service differs from a new and healthy one. Tests change it at run time, with
/// [`Service::behave`].
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // each is one switch of its own
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

/// One change, for [`Service::set_many`].
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

impl Service {
    /// Starts a service on a connection of its own.
    pub async fn start(
        bus: &str,
        name: &str,
        items: impl IntoIterator<Item = (String, Item)>,
    ) -> Result<Service, ToolError> {
        Peer::connect(bus)
            .await?
            .add(name, items, Behaviour::default(), None)
            .await
    }

    /// The bus name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The connection it lives on.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Sets one item and tells it by `PropertiesChanged`, also where the value is the same.
    pub fn set(&self, path: &str, value: impl Into<BusValue>) -> Result<(), ToolError> {
        self.update(Update::new(path, value))
    }

    /// Sets one item, with a text, and tells it by `PropertiesChanged`.
    pub fn update(&self, update: Update) -> Result<(), ToolError> {
        let mut core = self.peer.lock();
        let Some(state) = core.services.get_mut(&self.id) else {
            return Ok(());
        };
        let path = update.path.clone();
        let changes = apply(&mut state.tree, update);
        if state.behaviour.signals {
            self.signal(&mut core, &path, "PropertiesChanged", &changes)?;
        }
        Ok(())
    }

    /// Sets several items and tells them by one `ItemsChanged`. Of several values for one path the
    /// last counts.
    pub fn set_many(&self, updates: impl IntoIterator<Item = Update>) -> Result<(), ToolError> {
        let mut core = self.peer.lock();
        let Some(state) = core.services.get_mut(&self.id) else {
            return Ok(());
        };
        let mut changes = BTreeMap::new();
        for update in updates {
            let path = update.path.clone();
            changes.insert(path, apply(&mut state.tree, update));
        }
        if state.behaviour.signals && !changes.is_empty() {
            self.signal(&mut core, "/", "ItemsChanged", &changes)?;
        }
        Ok(())
    }

    /// Adds an item, or replaces it, and tells all that it announces by `ItemsChanged`.
    pub fn add_item(&self, path: &str, item: Item) -> Result<(), ToolError> {
        let mut core = self.peer.lock();
        let Some(state) = core.services.get_mut(&self.id) else {
            return Ok(());
        };
        let changes = BTreeMap::from([(path, tree::fields(&item))]);
        state.tree.insert(path, item);
        if state.behaviour.signals {
            self.signal(&mut core, "/", "ItemsChanged", &changes)?;
        }
        Ok(())
    }

    /// Takes an item away. No signal says so: only a scan can tell (§2.5).
    pub fn remove_item(&self, path: &str) {
        if let Some(state) = self.peer.lock().services.get_mut(&self.id) {
            state.tree.remove(path);
        }
    }

    /// Sets the greatest value of an item, and tells it by a `PropertiesChanged` that has nothing
    /// but `Max` (§2.1).
    pub fn set_max(&self, path: &str, max: impl Into<BusValue>) -> Result<(), ToolError> {
        let mut core = self.peer.lock();
        let Some(item) = core
            .services
            .get_mut(&self.id)
            .and_then(|state| state.tree.get_mut(path))
        else {
            return Ok(());
        };
        let max = item.max.insert(max.into());
        let changes = Fields::from([("Max", value::copy(max))]);
        self.signal(&mut core, path, "PropertiesChanged", &changes)
    }

    /// Sends any signal of the items' interface, however wrong its body.
    pub fn emit<B>(&self, path: &str, member: &str, body: &B) -> Result<(), ToolError>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.signal(&mut self.peer.lock(), path, member, body)
    }

    /// A copy of the item at a path.
    pub fn item(&self, path: &str) -> Option<Item> {
        let core = self.peer.lock();
        core.services.get(&self.id)?.tree.get(path).cloned()
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        let core = self.peer.lock();
        core.services
            .get(&self.id)
            .map_or(0, |state| state.tree.len())
    }

    /// Whether it has no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a method was called, answered or not.
    pub fn calls(&self, method: &str) -> usize {
        let core = self.peer.lock();
        core.services
            .get(&self.id)
            .and_then(|state| state.calls.get(method).copied())
            .unwrap_or(0)
    }

    /// Changes its behaviour from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        if let Some(state) = self.peer.lock().services.get_mut(&self.id) {
            change(&mut state.behaviour);
        }
    }

    /// Waits until everything said so far has been given to the bus.
    pub async fn flushed(&self) -> Result<(), ToolError> {
        self.peer.flushed().await
    }

    /// Takes the service off the bus, and its connection with the last one.
    pub async fn stop(self) {
        // A bus that is gone has forgotten the name already.
        let _ = self.flushed().await;
        let last = {
            let mut core = self.peer.lock();
            core.services.remove(&self.id);
            core.services.is_empty()
        };
        let connection = self.peer.connection();
        if last {
            let _ = connection.close().await;
        } else {
            let _ = bus::call(&connection, "ReleaseName", &self.name).await;
        }
    }

    fn signal<B>(
        &self,
        core: &mut Core,
        path: &str,
        member: &str,
        body: &B,
    ) -> Result<(), ToolError>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let message = Message::signal(path, BUS_ITEM, member)
            .build(body)
            .map_err(|reason| ToolError::Message {
                name: self.name.clone(),
                path: path.to_owned(),
                reason: Box::new(reason),
            })?;
        core.send(message)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.peer.lock().services.remove(&self.id);
    }
}
