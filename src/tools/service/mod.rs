//! A Venus service on a D-Bus: the other side of §2.1, for the tools and for tests.
//!
//! It answers method calls from its [`Tree`] and tells every change by signal, as the services of
//! a GX device do. [`Behaviour`] makes it an old, a slow or a broken one. It must never let two
//! messages overtake each other: what changes the tree and what leaves the connection are one step,
//! under one lock (`core`), so that a reply and the signals around it arrive in the order in which they were
//! true. `peer` is the connection, `answer` says what each method answers.
//!
//! ```text
//!   calls ──▶ MessageStream ──▶ serve ──▶ answer ─┐ lock
//!   set, set_many, … ─────────────────────────────┤──▶ queue ──▶ deliver ──▶ socket
//! ```

use std::collections::BTreeMap;

use zbus::Message;

mod answer;
mod core;
mod peer;
#[cfg(test)]
mod tests;

pub use self::core::{Behaviour, Update, WriteHook};
pub use peer::Peer;

use self::core::{Core, State, apply};
use super::ToolError;
use super::bus::{self, BUS_ITEM};
use super::item::Item;
use super::tree::{self, Fields, Tree};
use super::value::{self, BusValue};

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

impl Peer {
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
        let id = self.lock().insert(State {
            name: name.to_owned(),
            tree: Tree::new(items),
            behaviour,
            on_write,
            calls: BTreeMap::new(),
        });
        // From here on, dropping it removes what was inserted.
        let service = Service {
            peer: self.clone(),
            id,
            name: name.to_owned(),
        };
        let reply = bus::call(&self.connection(), "RequestName", &(name, flags)).await?;
        let outcome = reply.body().deserialize::<u32>().unwrap_or_default();
        if matches!(outcome, REQUEST_PRIMARY_OWNER | REQUEST_ALREADY_OWNER) {
            Ok(service)
        } else {
            Err(ToolError::NameTaken {
                name: name.to_owned(),
            })
        }
    }
}

impl Service {
    /// Starts a service on a separate connection.
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

// Flags and replies of `RequestName`, as the D-Bus specification numbers them.
const REQUEST_ALLOW_REPLACEMENT: u32 = 1;
const REQUEST_REPLACE: u32 = 2;
const REQUEST_DO_NOT_QUEUE: u32 = 4;
const REQUEST_PRIMARY_OWNER: u32 = 1;
const REQUEST_ALREADY_OWNER: u32 = 4;
