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

pub mod description;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

pub use self::description::Known;
use self::description::{Described, as_entity, devices_there};
use crate::bridge::bus::Readers;
use crate::bridge::bus::registry::Registry;
use crate::bridge::store::Store;
use crate::bridge::store::cache::{PresentType, SlotId};
use crate::bridge::store::ids::BrokerId;
use crate::bridge::store::items::{DeviceId, Items};
use crate::bridge::subscriber::answers::Requester;
use crate::bridge::subscriber::discovery_state::{DiscoveryState, Held, hash_of};
use crate::bridge::subscriber::outbox::Control;
use crate::bridge::subscriber::remote::{Outlet, OutletConfig, Outlets};
use crate::bridge::subscriber::sink::PublishSink;
use crate::homeassistant::payload::has_platform;
use crate::homeassistant::words::Words;
use crate::homeassistant::{CONFIG, LOCATION, Names};
use crate::model::access;
use crate::model::item::ItemChange;
use crate::model::time::Now;
use crate::schema::rule::{self, Access, DataType, Kind as Entities, Rule};

/// How long changes of a device are gathered before it is described again.
const GATHER: Duration = Duration::from_secs(2);
/// How often all devices are described to a Home Assistant that says it has started.
const BIRTHS: Duration = Duration::from_secs(10);
/// How long Home Assistant has to set its entities up before values that no broker keeps are
/// published once more.
const SET_UP: Duration = Duration::from_secs(5);
/// How often it is looked whether all scans are done.
const SETTLE: Duration = Duration::from_secs(1);
/// How long scans are waited for before what an earlier run left is cleared.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// What waits to be described to any broker.
#[derive(Debug, Default)]
pub struct Discovery {
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

    /// When [`AllReaders::tick_discovery`] has something to do.
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

    /// The broker told a topic that it retains, and that is not a notification.
    pub fn config_retained(&mut self, topic: &str, payload: &[u8]) {
        if let Some(board) = &mut self.board {
            board.retained(topic, payload);
        }
    }

    /// The device whose configuration has this topic.
    pub fn described(&self, topic: &str, items: &Items) -> Option<DeviceId> {
        let board = self.board.as_ref()?;
        let object = topic.strip_prefix(board.config.names.head())?;
        let object = object.strip_suffix(CONFIG)?;
        let held = board.held.get(object);
        let object = held
            .and_then(|held| held.whole.as_deref())
            .unwrap_or(object);
        let is_it = |device: &DeviceId| *Names::object(items.device_key(*device)) == *object;
        items.devices().find(is_it)
    }

    /// Whether the configuration of this object made the broker close the connection.
    fn leaves_out(&self, object: &str) -> bool {
        let topic = |board: &DiscoveryState| [board.config.names.head(), object, CONFIG].concat();
        let topic = self.board.as_ref().map(topic);
        topic.is_some_and(|topic| self.fit.is_banned(&topic))
    }
}

impl Outlet {
    /// Publishes one of the configurations of a device, unless the broker has it as it is.
    fn publish_described(
        &mut self,
        now: Now,
        device: &str,
        described: Described,
        sink: &mut impl PublishSink,
    ) -> bool {
        let retains = self.retains();
        let Some(board) = self.board.as_mut() else {
            return false;
        };
        let Described {
            object,
            payload,
            written,
            all,
            location,
        } = described;
        let held = board.held.entry(object.clone()).or_default();
        held.remove_at = None;
        held.removing = false;
        held.whole = (*object != *device).then(|| device.into());
        let node = board.config.names.head();
        let hash = Some(hash_of(&payload));
        let same = std::mem::replace(&mut held.hash, hash) == hash;
        held.keys = written.keys.into();
        // Once, and not for each change of a name.
        let left_out = written.left_out;
        if std::mem::replace(&mut held.left_out, left_out) < left_out {
            warn!(
                "{object}: {left_out} of {all} values have no room in its configuration for Home Assistant"
            );
        }
        let place = location.as_deref().map(hash_of);
        let moved = std::mem::replace(&mut held.location, place) != place;
        if !same {
            debug!(
                "described {object} to Home Assistant, {} bytes",
                payload.len()
            );
            let parts = [node.as_bytes(), object.as_bytes(), CONFIG.as_bytes()];
            sink.publish(true, &parts, |out| out.extend_from_slice(&payload));
        }
        if let Some(location) = location.filter(|_| moved) {
            let parts = [node.as_bytes(), object.as_bytes(), LOCATION.as_bytes()];
            sink.publish(true, &parts, |out| out.extend_from_slice(&location));
        }
        if !same {
            board.is_busy(now.monotonic, payload.len());
            if !retains {
                board.republish_at = Some(now.monotonic + SET_UP);
            }
        }
        !same || moved
    }
}

/// Whether an item can be written and shown before it has a value.
fn is_settable(rule: &Rule) -> bool {
    rule.access == Access::ReadWrite
        && (rule.data.is_numeric() || rule.data == DataType::Text || !rule.labels.is_empty())
}

/// Whether values of an item may come that a description has no room for, or that it has to follow.
fn may_be_odd(rule: &Rule) -> bool {
    rule.labels.len() > 1
        || rule.look.entity == Entities::Tracker
        || (rule.access == Access::ReadWrite && rule.bits.is_empty() && rule.data != DataType::Text)
}

/// All who are told of what changes on the bus: the brokers, and what describes devices to them.
#[derive(Debug)]
pub struct AllReaders<'a> {
    /// The brokers.
    pub outlets: &'a mut Outlets,
    /// What waits to be described.
    pub discovery: &'a mut Discovery,
}

impl<'a> AllReaders<'a> {
    /// All of them.
    #[inline]
    pub fn new(outlets: &'a mut Outlets, discovery: &'a mut Discovery) -> AllReaders<'a> {
        AllReaders { outlets, discovery }
    }
}

impl Readers for AllReaders<'_> {
    #[expect(clippy::inline_always)] // once for each value: a call costs 20 instructions
    #[inline(always)]
    fn changed(&mut self, slot: SlotId) {
        for outlet in self.outlets.iter_mut() {
            outlet.subscriber.changed(slot);
        }
        if let Some(direct) = &self.outlets.direct {
            direct.changed(slot);
        }
    }

    fn added(&mut self, slot: SlotId, key: &str, path: &str, rule: rule::Marks) {
        for outlet in self.outlets.iter_mut() {
            outlet.added(slot, key, path);
        }
        if let Some(direct) = &mut self.outlets.direct {
            direct.added(slot, key, path, rule);
        }
    }

    fn gone(&mut self, slot: SlotId, items: &Items) -> u16 {
        let direct = self.outlets.direct.as_mut();
        let direct = u16::from(direct.is_some_and(|direct| direct.gone(slot)));
        let outlets = self.outlets.iter_mut();
        let outlets = outlets.map(|outlet| u16::from(outlet.gone(slot, items)));
        outlets.sum::<u16>() + direct
    }

    fn released(&mut self, slot: SlotId) {
        for outlet in self.outlets.iter_mut() {
            outlet.released(slot);
        }
    }

    fn settle(&mut self, now: Now, items: &Items, registry: &Registry) {
        if self.outlets.iter().any(Outlet::is_unsettled) {
            let unscanned = registry.unscanned();
            for outlet in self.outlets.iter_mut() {
                outlet.settle(now.monotonic, items, &unscanned);
            }
        }
    }

    fn access_changed(
        &mut self,
        now: Now,
        store: &mut Store,
        registry: &Registry,
        access: access::Access,
        why: &str,
    ) {
        for broker in self.outlets.ids() {
            let outlet = self.outlets.at_mut(broker);
            if outlet.device_says(now.monotonic, access, &store.items) {
                let may = match access {
                    access::Access::Off => "have nothing",
                    access::Access::ReadOnly => "only read",
                    access::Access::Full => "read and write",
                };
                info!("{}: its clients may {may} now, {why}", outlet.name());
                // What could be set can only be looked at now, or the other way round.
                self.describe_all(now, store, registry, broker);
            }
        }
    }

    fn device_ready(&mut self, store: &mut Store, registry: &Registry, device: DeviceId) {
        self.describe(store, registry, device);
    }

    fn device_changed(&mut self, now: Now, device: DeviceId) {
        self.describe_soon(now, device);
    }

    fn device_gone(&mut self, now: Now, items: &Items, device: DeviceId, for_good: bool) {
        self.undescribe(now, items, device, for_good);
    }

    fn noted(
        &mut self,
        now: Now,
        store: &mut Store,
        service_type: &str,
        slot: SlotId,
        change: &ItemChange<'_>,
    ) {
        let Some(words) = &self.discovery.words else {
            return;
        };
        let item = *store.items.at(slot);
        let path = store.items.path(&item);
        let tells = words.device.tells(path);
        let limits = change.min.is_some() || change.max.is_some();
        let is_written =
            || store.schema.lookup(service_type, path).rule.access == Access::ReadWrite;
        let limits = limits && is_written();
        let first =
            item.watched && !item.shown && store.cache.present_type(slot) != PresentType::None;
        if first && !tells {
            store.items.unwatch(slot);
        }
        let moved = || {
            let now = as_entity(store, slot, service_type);
            now.is_odd() || now.row.rule.look.entity == Entities::Tracker
        };
        if tells || first || limits || (item.watched && item.shown && moved()) {
            self.describe_soon(now, item.device);
        }
    }
}

impl AllReaders<'_> {
    // What happens to devices.

    /// Which items of a device are shown, and which are watched for what would change that.
    fn choose(&mut self, store: &mut Store, registry: &Registry, device: DeviceId) {
        let Some(words) = &self.discovery.words else {
            return;
        };
        let slots: Vec<_> = store.items.slots(device).collect();
        let object = Names::object(store.items.device_key(device));
        let service = store.items.service(device);
        let service_type = service.map_or("", |id| registry.at(id).name.service_type());
        let mut shown = Vec::new();
        let mut watched = Vec::new();
        for slot in slots {
            let has_value = store.cache.present_type(slot) != PresentType::None;
            let path = store.items.path(store.items.at(slot));
            let rule = store.schema.lookup(service_type, path).rule;
            let had_one = || {
                let mut boards = self
                    .outlets
                    .iter()
                    .filter_map(|outlet| outlet.board.as_ref());
                boards.any(|board| board.has(&object, path))
            };
            // What has had a value stays an entity, and what can be written is one; what has none yet
            // becomes one with its first.
            let visible = has_value || is_settable(rule) || had_one();
            if visible {
                shown.push(slot);
            }
            let tells = words.device.tells(path);
            if tells || !visible || may_be_odd(rule) {
                watched.push(slot);
            }
        }
        for slot in shown {
            store.items.show(slot);
        }
        for slot in watched {
            store.items.watch(slot);
        }
    }

    /// A device's items are known: it is described as soon as the brokers take it.
    fn describe(&mut self, store: &mut Store, registry: &Registry, device: DeviceId) {
        self.choose(store, registry, device);
        let Some(words) = &self.discovery.words else {
            return;
        };
        if *store.items.device_key(device) == *words.device.gateway {
            // The others name it as what they are reached through.
            let others: Vec<_> = devices_there(&store.items).collect();
            for outlet in self.outlets.iter_mut() {
                outlet.describe(device);
                for other in &others {
                    outlet.describe(*other);
                }
            }
        } else {
            for outlet in self.outlets.iter_mut() {
                outlet.describe(device);
            }
        }
    }

    /// Something of a device has changed that its configuration may say: it is described again,
    /// together with what changes in the next moment.
    pub fn describe_soon(&mut self, now: Now, device: DeviceId) {
        let due = &mut self.discovery.due;
        if self.discovery.words.is_some() && !due.iter().any(|(other, _)| *other == device) {
            due.push((device, now.monotonic + GATHER));
        }
    }

    /// A device has no service any more. `for_good` where it is another device now.
    fn undescribe(&mut self, now: Now, items: &Items, device: DeviceId, for_good: bool) {
        if self.discovery.words.is_none() {
            return;
        }
        let object = Names::object(items.device_key(device));
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
    pub fn describe_all(
        &mut self,
        now: Now,
        store: &mut Store,
        registry: &Registry,
        broker: BrokerId,
    ) {
        let Some(words) = &self.discovery.words else {
            return;
        };
        let gateway = store.items.find_device(&words.device.gateway);
        let gateway = gateway.filter(|device| store.items.service(*device).is_some());
        let all: Vec<_> = gateway
            .into_iter()
            .chain(devices_there(&store.items))
            .collect();
        // The broker may hold what an earlier run has described.
        for device in &all {
            self.choose(store, registry, *device);
        }
        let outlet = self.outlets.at_mut(broker);
        for device in all {
            outlet.describe(device);
        }
        if let Some(board) = &mut outlet.board {
            board.settle_at = Some(now.monotonic);
        }
    }

    /// Home Assistant says that it has started: it is told of all devices once more.
    pub fn home_assistant_started(
        &mut self,
        now: Now,
        store: &mut Store,
        registry: &Registry,
        broker: BrokerId,
    ) {
        let outlet = self.outlets.at_mut(broker);
        let Some(board) = outlet
            .board
            .as_mut()
            .filter(|_| outlet.subscriber.is_open())
        else {
            return;
        };
        let from = board.births_from.unwrap_or(now.monotonic);
        board.birth_at = Some(from.max(now.monotonic));
        self.tick_discovery(now, store, registry);
    }

    /// Time has passed.
    pub fn tick_discovery(&mut self, now: Now, store: &mut Store, registry: &Registry) {
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
            if store.items.service(device).is_some() {
                self.describe(store, registry, device);
            }
        }
        for broker in self.outlets.ids() {
            self.tick_board(now, store, registry, broker);
        }
    }

    fn tick_board(&mut self, now: Now, store: &mut Store, registry: &Registry, broker: BrokerId) {
        let time = now.monotonic;
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= time).is_some();
        let (settled, listed) = (registry.is_settled(), registry.listed);
        let outlet = self.outlets.at_mut(broker);
        let settle_at = outlet.board.as_ref().and_then(|board| board.settle_at);
        let settling = outlet.subscriber.is_open() && settle_at.is_some_and(|at| at <= time);
        let there: HashSet<_> = settling
            .then(|| devices_there(&store.items))
            .into_iter()
            .flatten()
            .map(|device| Names::object(store.items.device_key(device)))
            .collect();
        if !outlet.subscriber.is_open() {
            return;
        }
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
                    let whole = held.whole.as_ref().unwrap_or(object);
                    if !board.config.enabled || (!there.contains(whole) && held.remove_at.is_none())
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
        let next = board.later_at().is_some_and(|at| at <= time);
        let next = next.then(|| board.later.pop_front()).flatten();
        if let Some(device) = next {
            outlet.describe(device);
        }
        for object in forgotten {
            outlet.subscriber.queue(Control::Forget(object));
        }
        if republish {
            outlet
                .subscriber
                .answers()
                .ask_republish(&Requester::Anybody, None);
            outlet.subscriber.advance(time, &store.items);
        }
        if born {
            self.describe_all(now, store, registry, broker);
        }
    }

    // What is published.

    /// Publishes the configurations of a device, unless the broker has them as they are.
    pub fn publish_config(
        &mut self,
        now: Now,
        known: &Known<'_>,
        broker: BrokerId,
        device: DeviceId,
        sink: &mut impl PublishSink,
    ) -> bool {
        let object = Names::object(known.store.items.device_key(device));
        let outlet = self.outlets.at_mut(broker);
        let leaving = outlet.subscriber.is_leaving();
        let Some(board) = &mut outlet.board else {
            return false;
        };
        board.queued.remove(&device);
        if leaving || known.store.items.service(device).is_none() {
            return false;
        }
        if !board.has_room(now.monotonic) {
            board.later.push_back(device);
            return false;
        }
        let described = match self.discovery.words.as_deref() {
            Some(words) => known.render_configs(words, self.outlets.at(broker), device, &object),
            None => Vec::new(),
        };
        let outlet = self.outlets.at_mut(broker);
        let Some(board) = outlet.board.as_mut() else {
            return false;
        };
        let there: HashSet<&str> = described.iter().map(|one| &*one.object).collect();
        // A part that is no more goes at once, its device stays.
        let is_lost = |name: &str, held: &Held| {
            held.whole.as_deref() == Some(&*object) && !there.contains(name)
        };
        let lost = board.held.extract_if(|name, held| is_lost(name, held));
        let lost: Vec<_> = lost.map(|(name, _)| name).collect();
        let head = board.config.names.head().to_owned();
        let mut published = !lost.is_empty();
        for name in lost {
            sink.publish(
                true,
                &[head.as_bytes(), name.as_bytes(), CONFIG.as_bytes()],
                |_| {},
            );
        }
        if described.is_empty() {
            board.gone(&object, Some(now.monotonic));
        }
        for one in described {
            if !outlet.leaves_out(&one.object) {
                published |= outlet.publish_described(now, &object, one, sink);
            }
        }
        published
    }

    /// Takes the configuration of a device back, unless it is there again.
    pub fn publish_no_config(
        &mut self,
        items: &Items,
        broker: BrokerId,
        object: &str,
        sink: &mut impl PublishSink,
    ) -> bool {
        let board = self.outlets.at(broker).board.as_ref();
        let held = board.and_then(|board| board.held.get(object));
        let whole = held
            .and_then(|held| held.whole.as_deref())
            .unwrap_or(object);
        let there =
            devices_there(items).any(|device| *Names::object(items.device_key(device)) == *whole);
        let Some(board) = &mut self.outlets.at_mut(broker).board else {
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
        let held = board.held.remove(object).unwrap_or_default();
        let node = board.config.names.head().as_bytes();
        let located = held.location.is_some() || has_platform(&held.keys, "device_tracker");
        if located {
            sink.publish(
                true,
                &[node, object.as_bytes(), LOCATION.as_bytes()],
                |_| {},
            );
        }
        sink.publish(true, &[node, object.as_bytes(), CONFIG.as_bytes()], |_| {});
        true
    }
}
