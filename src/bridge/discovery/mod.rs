//! When Home Assistant is told of a device, and when it is told that one is gone.
//!
//! ```text
//!        scanned, or changed: in a moment        pulled: rendered, unless the broker has it so
//! device ─────────────────────────▶ Describe ────────────────────────────────▶ configuration
//!    │ leaves                                      its time is up
//!    └────────────▶ kept for a while ──────────▶ Forget ─────────────────────▶ empty payload
//! ```
//!
//! Nothing is rendered before the broker takes it, and nothing of it is kept but a hash. What a
//! configuration says is up to [`crate::homeassistant`]; values keep flowing without anybody asking,
//! since Home Assistant sends no keep-alives. A clean end takes no configuration back: the entities
//! are unavailable until the bridge is there again, and keep what their owner made of them.

pub mod board;
pub mod description;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::bridge::Bridge;
use crate::bridge::store::cache::{PresentType, SlotId};
use crate::bridge::store::items::{DeviceId, Items, ServiceId};
use crate::bridge::subscriber::outbox::Control;
use crate::bridge::subscriber::publishing::PublishSink;
use crate::bridge::subscriber::remote::{Outlet, OutletConfig};
use crate::homeassistant::words::Words;
use crate::homeassistant::{CONFIG, Names};
use crate::model::item::ItemChange;
use crate::model::time::Now;
use crate::schema::rule::{Access, Role};

/// How long changes of a device are gathered before it is described again.
const GATHER: Duration = Duration::from_secs(2);
/// How often all devices are described to a Home Assistant that says it has started.
const BIRTHS: Duration = Duration::from_secs(10);
/// How long Home Assistant has to set its entities up before values that no broker keeps are
/// published once more.
const SET_UP: Duration = Duration::from_secs(5);
/// How often it is looked whether all scans are done.
const SETTLE: Duration = Duration::from_secs(1);
/// How long scans are waited for before what an earlier run left is taken back.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// What waits to be described to any broker.
#[derive(Debug, Default)]
pub(in crate::bridge) struct Discovery {
    /// None where no broker has Home Assistant.
    pub words: Option<Box<Words>>,
    due: Vec<(DeviceId, Instant)>,
}

impl Discovery {
    /// Reads the words, where a broker has Home Assistant.
    pub fn new(outlets: &[OutletConfig]) -> Discovery {
        let mut discovery = Discovery::default();
        if outlets.iter().any(|outlet| outlet.discovery.is_some()) {
            match Words::built_in() {
                Ok(words) => discovery.words = Some(Box::new(words)),
                Err(error) => warn!("nothing is described to Home Assistant: {error}"),
            }
        }
        discovery
    }

    /// When [`Bridge::tick_discovery`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.iter().map(|(_, at)| *at).min()
    }
}

impl Outlet {
    /// Queues a device to be described, unless it waits already.
    fn describe(&mut self, device: DeviceId) {
        if !self.subscriber.is_connected() {
            return;
        }
        if let Some(board) = self.board.as_mut().filter(|board| board.config.enabled)
            && board.queued.insert(device)
        {
            self.subscriber.queue(Control::Describe(device));
        }
    }

    /// The broker told a topic that it retains, and that is no notification.
    pub(in crate::bridge) fn config_retained(&mut self, topic: &str) {
        if let Some(board) = &mut self.board {
            board.retained(topic);
        }
    }

    /// The device whose configuration has this topic.
    pub(in crate::bridge) fn described(&self, topic: &str, items: &Items) -> Option<DeviceId> {
        let head = self.board.as_ref()?.config.names.head();
        let object = topic.strip_prefix(head)?.strip_suffix(CONFIG)?;
        let is_it = |device: &DeviceId| *Names::object(items.device_key(*device)) == *object;
        items.devices().find(is_it)
    }

    /// Whether the configuration of this object made the broker close the connection.
    fn leaves_out(&self, object: &str) -> bool {
        let topic = |board: &board::Board| [board.config.names.head(), object, CONFIG].concat();
        let topic = self.board.as_ref().map(topic);
        topic.is_some_and(|topic| self.fit.is_banned(&topic))
    }
}

impl Bridge {
    // What happens to devices.

    /// A device's items are known: it is described as soon as the brokers take it.
    pub(in crate::bridge) fn describe(&mut self, device: DeviceId) {
        let Some(words) = &self.discovery.words else {
            return;
        };
        let slots: Vec<_> = self.items.slots(device).collect();
        for slot in slots {
            let has_value = self.cache.present_type(slot) != PresentType::None;
            let path = self.items.get(slot).map(|item| self.items.path(item));
            let tells = path.is_some_and(|path| words.device.describes(path));
            // What has had a value stays an entity; what has none yet becomes one with its first.
            if has_value {
                self.items.show(slot);
            }
            if tells || !has_value {
                self.items.watch(slot);
            }
        }
        if *self.items.device_key(device) == *words.device.gateway {
            // The others name it as what they are reached through.
            let others: Vec<_> = self.devices_there().collect();
            for outlet in &mut self.outlets {
                outlet.describe(device);
                for other in &others {
                    outlet.describe(*other);
                }
            }
        } else {
            for outlet in &mut self.outlets {
                outlet.describe(device);
            }
        }
    }

    /// Something of a device has changed that its configuration may say: it is described again,
    /// together with what changes in the next moment.
    pub(in crate::bridge) fn describe_soon(&mut self, now: Now, device: DeviceId) {
        let due = &mut self.discovery.due;
        if self.discovery.words.is_some() && !due.iter().any(|(other, _)| *other == device) {
            due.push((device, now.monotonic + GATHER));
        }
    }

    /// An item that is watched has changed, or the limits of any.
    #[cold]
    pub(in crate::bridge) fn noted(
        &mut self,
        now: Now,
        (id, device): (ServiceId, DeviceId),
        slot: SlotId,
        change: &ItemChange<'_>,
    ) {
        let Some(item) = self.items.get(slot).copied() else {
            return;
        };
        if item.rule.role != Role::None {
            self.role_changed(now, id, item.rule.role, change);
        }
        let Some(words) = &self.discovery.words else {
            return;
        };
        let path = self.items.path(&item);
        let tells = words.device.describes(path);
        let limits = change.min.is_some() || change.max.is_some();
        let is_written = || {
            let service = self.registry.get(id);
            service.is_some_and(|service| {
                let row = self.schema.lookup(service.name.service_type(), path);
                row.rule.access == Access::ReadWrite
            })
        };
        let limits = limits && is_written();
        let first =
            item.watched && !item.shown && self.cache.present_type(slot) != PresentType::None;
        if first && !tells {
            self.items.unwatch(slot);
        }
        if tells || first || limits {
            self.describe_soon(now, device);
        }
    }

    /// A device has no service any more. `for_good` where it is another device now.
    pub(in crate::bridge) fn undescribe(&mut self, now: Now, device: DeviceId, for_good: bool) {
        if self.discovery.words.is_none() {
            return;
        }
        let object = Names::object(self.items.device_key(device));
        for board in self
            .outlets
            .iter_mut()
            .filter_map(|outlet| outlet.board.as_mut())
        {
            let at = if for_good {
                Some(now.monotonic)
            } else {
                board.keep_until(now.monotonic)
            };
            board.gone(&object, at);
        }
    }

    // What happens to brokers.

    /// A broker is told of all devices, the one first that the others are reached through.
    pub(in crate::bridge) fn describe_all(&mut self, now: Now, broker: usize) {
        let Some(words) = &self.discovery.words else {
            return;
        };
        let gateway = self.items.find_device(&words.device.gateway);
        let gateway = gateway.filter(|device| self.items.service(*device).is_some());
        let all: Vec<_> = gateway.into_iter().chain(self.devices_there()).collect();
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return;
        };
        for device in all {
            outlet.describe(device);
        }
        if let Some(board) = &mut outlet.board {
            board.settle_at = Some(now.monotonic);
        }
    }

    /// Home Assistant says that it has started: it is told of all devices once more.
    pub fn home_assistant_started(&mut self, now: Now, broker: usize) {
        let outlet = self
            .outlets
            .get_mut(broker)
            .filter(|outlet| outlet.subscriber.is_open());
        let Some(board) = outlet.and_then(|outlet| outlet.board.as_mut()) else {
            return;
        };
        let from = board.births_from.unwrap_or(now.monotonic);
        board.birth_at = Some(from.max(now.monotonic));
        self.tick_discovery(now);
    }

    fn devices_there(&self) -> impl Iterator<Item = DeviceId> + '_ {
        let there = |device: &DeviceId| self.items.service(*device).is_some();
        self.items.devices().filter(there)
    }

    /// Time has passed.
    pub(in crate::bridge) fn tick_discovery(&mut self, now: Now) {
        if self.discovery.words.is_none() {
            return;
        }
        let time = now.monotonic;
        let is_due = |(_, at): &(DeviceId, Instant)| *at <= time;
        let due: Vec<_> = self
            .discovery
            .due
            .extract_if(.., |due| is_due(due))
            .collect();
        for (device, _) in due {
            if self.items.service(device).is_some() {
                self.describe(device);
            }
        }
        for broker in 0..self.outlets.len() {
            self.tick_board(now, broker);
        }
    }

    fn tick_board(&mut self, now: Now, broker: usize) {
        let time = now.monotonic;
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= time).is_some();
        let (settled, listed) = (self.registry.is_settled(), self.registry.listed);
        let settling = self.outlets.get(broker).and_then(|outlet| {
            let at = outlet.board.as_ref()?.settle_at?;
            (at <= time && outlet.subscriber.is_open()).then_some(())
        });
        let there: HashSet<_> = settling
            .into_iter()
            .flat_map(|()| self.devices_there())
            .map(|device| Names::object(self.items.device_key(device)))
            .collect();
        let Some(outlet) = self
            .outlets
            .get_mut(broker)
            .filter(|outlet| outlet.subscriber.is_open())
        else {
            return;
        };
        let Some(board) = &mut outlet.board else {
            return;
        };
        if is_due(&mut board.settle_at) {
            // No service keeps what was left of others.
            let late = listed && *board.settle_by.get_or_insert(time + SETTLE_MAX) <= time;
            if settled || late || !board.config.enabled {
                let at = if board.config.enabled {
                    board.keep_until(time)
                } else {
                    Some(time)
                };
                for (object, held) in &mut board.held {
                    if !board.config.enabled
                        || (!there.contains(object) && held.remove_at.is_none())
                    {
                        held.remove_at = at;
                    }
                }
            } else {
                board.settle_at = Some(time + SETTLE);
            }
        }
        let mut forgotten = Vec::new();
        for (object, held) in &mut board.held {
            if !held.removing && held.remove_at.is_some_and(|at| at <= time) {
                held.removing = true;
                forgotten.push(object.clone());
            }
        }
        let born = is_due(&mut board.birth_at);
        if born {
            board.births_from = Some(time + BIRTHS);
            for held in board.held.values_mut() {
                held.hash = None;
            }
        }
        let republish = is_due(&mut board.republish_at);
        for object in forgotten {
            outlet.subscriber.queue(Control::Forget(object));
        }
        if republish {
            outlet.subscriber.answers().ask_republish(&None, None);
            outlet.subscriber.advance(time, &self.items);
        }
        if born {
            self.describe_all(now, broker);
        }
    }

    // What is published.

    /// Publishes the configuration of a device, unless the broker has it as it is.
    pub(in crate::bridge) fn publish_config(
        &mut self,
        now: Now,
        broker: usize,
        device: DeviceId,
        sink: &mut impl PublishSink,
    ) -> bool {
        let object = Names::object(self.items.device_key(device));
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return false;
        };
        let (leaving, retains) = (outlet.subscriber.is_leaving(), outlet.retains());
        let Some(board) = &mut outlet.board else {
            return false;
        };
        board.queued.remove(&device);
        if leaving || self.items.service(device).is_none() {
            return false;
        }
        let payload = self.render_config(broker, device, &object);
        let outlet = self.outlets.get_mut(broker);
        let outlet = outlet.filter(|outlet| !outlet.leaves_out(&object));
        let Some(board) = outlet.and_then(|outlet| outlet.board.as_mut()) else {
            return false;
        };
        let Some((payload, (left_out, all))) = payload else {
            board.gone(&object, Some(now.monotonic));
            return false;
        };
        let mut hasher = DefaultHasher::new();
        payload.hash(&mut hasher);
        let hash = Some(hasher.finish());
        let held = board.held.entry(object.clone()).or_default();
        held.remove_at = None;
        if held.hash == hash {
            return false;
        }
        held.hash = hash;
        // Once, and not for each change of a name.
        if std::mem::replace(&mut held.left_out, left_out) < left_out {
            let key = self.items.device_key(device);
            warn!(
                "{key}: {left_out} of {all} values have no room in its configuration for Home Assistant"
            );
        }
        if !retains {
            board.republish_at = Some(now.monotonic + SET_UP);
        }
        debug!(
            "described {object} to Home Assistant, {} bytes",
            payload.len()
        );
        let parts = [
            board.config.names.head().as_bytes(),
            object.as_bytes(),
            CONFIG.as_bytes(),
        ];
        sink.publish(true, &parts, |out| out.extend_from_slice(&payload));
        true
    }

    /// Takes the configuration of a device back, unless it is there again.
    pub(in crate::bridge) fn publish_no_config(
        &mut self,
        broker: usize,
        object: &str,
        sink: &mut impl PublishSink,
    ) -> bool {
        let there = self
            .devices_there()
            .any(|device| *Names::object(self.items.device_key(device)) == *object);
        let outlet = self.outlets.get_mut(broker);
        let Some(board) = outlet.and_then(|outlet| outlet.board.as_mut()) else {
            return false;
        };
        if there
            && board.config.enabled
            && let Some(held) = board.held.get_mut(object)
        {
            held.removing = false;
            held.remove_at = None;
            return false;
        }
        board.held.remove(object);
        let head = board.config.names.head();
        let parts = [head.as_bytes(), object.as_bytes(), CONFIG.as_bytes()];
        sink.publish(true, &parts, |_| {});
        true
    }
}
