//! The bridge towards the bus: who is there, what they have, and what changes (§2).

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::calls::{BUS, BUS_PATH, Callee, Method, Purpose};
use super::claim::Claim;
use super::flapping::Turn;
use super::kept::{Keeping, Refused};
use super::registry::{Scan, State};
use super::{BusContext, Readers};
use crate::bridge::store::bits::Bits;
use crate::bridge::store::cache::{SlotId, Update};
use crate::bridge::store::items::{DeviceId, ServiceId};
use crate::codec::bus_item::{self, Changes};
use crate::codec::cursor::Malformed;
use crate::codec::frame::{Frame, INTERFACE, Kind};
use crate::model::item::ItemChange;
use crate::model::name::{DeviceInstance, SERVICE_PREFIX, ServiceName, is_topic_path};
use crate::model::time::Now;
use crate::model::topic;
use crate::schema::rule::{Marks, Publish, Role};

/// How often a service is reported that another keeps from its topics (§2.7).
const CLASH_REPORT: Duration = Duration::from_secs(60 * 60);
/// How long after a signal of a path that no scan knew its service is scanned (§2.2): what comes together
/// is looked for together.
const NEW_PATH_SCAN: Duration = Duration::from_secs(1);
/// How much of a path that can be no topic is shown.
const PATH_CHARS_SHOWN: usize = 200;

impl<R: Readers> BusContext<'_, R> {
    // The bus, and the names on it.

    /// The bus is connected.
    pub fn connected(&mut self, now: Now) {
        self.bus.tally.connected = true;
        self.bus.tally.connections += 1;
        let items = format!("type='signal',interface='{INTERFACE}'");
        let owners = format!(
            "type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',arg0namespace='{}'",
            SERVICE_PREFIX.trim_end_matches('.')
        );
        // For a bus that cannot match by namespace.
        let any = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'";
        self.call_bus(now, Method::AddMatch(items.into()), Purpose::Match(None));
        self.call_bus(
            now,
            Method::AddMatch(owners.into()),
            Purpose::Match(Some(any)),
        );
        self.call_bus(now, Method::ListNames, Purpose::Names);
    }

    /// The bus is gone, and every service with it (§2.8). The calls that were not answered are ended before
    /// that.
    pub fn disconnected(&mut self, now: Now) {
        let ids: Vec<_> = self.bus.registry.ids().collect();
        for id in ids {
            self.service_gone(now, id);
        }
        self.bus.calls.end_all();
        self.forget_overflow();
        self.bus.registry.listed = false;
        self.bus.registry.next_due = None;
        self.bus.registry.rounds.at = None;
        self.bus.flapping.clear();
        self.bus.owners_pending = 0;
    }

    pub fn call_bus(&mut self, now: Now, method: Method, purpose: Purpose) {
        let timeout = self.bus.limits.call_timeout;
        let callee = Callee {
            owner: BUS,
            destination: BUS,
        };
        self.bus
            .calls
            .call(now.monotonic, timeout, callee, BUS_PATH, method, purpose);
    }

    /// A name has another owner; an empty one where it is lost (§2.5).
    pub fn owner_changed(&mut self, now: Now, name: &str, owner: &str) {
        let known = self.bus.registry.find(name);
        match (known, owner.is_empty()) {
            (Some(id), true) => self.service_gone(now, id),
            (Some(id), false) => {
                let service = self.bus.registry.at(id);
                if *service.owner != *owner {
                    let name = service.name.clone();
                    let damped = self.bus.flapping.is_damped(now.monotonic, name.as_str());
                    if !damped && self.may_tell(now, &name) {
                        info!("{name}: has a new owner, {owner}");
                    }
                    self.bus.registry.set_owner(id, owner);
                    self.charge();
                    self.access_in_doubt(now, &name);
                    self.scan_owner(now, id);
                }
            }
            (None, true) => {}
            (None, false) => {
                let Some(service) = ServiceName::new(name) else {
                    return;
                };
                if self.bus.registry.count() >= self.bus.limits.services_max {
                    return self.leave_out_service(name);
                }
                let id = self.bus.registry.add(service, owner, State::Live);
                self.bus.registry.plan_round(now.monotonic);
                self.scan_owner(now, id);
            }
        }
    }

    /// A name has an owner that was not asked yet. Where that happens all the time, it is asked later
    /// (§2.9).
    fn scan_owner(&mut self, now: Now, id: ServiceId) {
        let listed = self.bus.registry.listed;
        let service = self.bus.registry.at_mut(id);
        // What is there while the names are listed may have been so for long.
        service.since = listed.then_some(now.monotonic);
        let turn = self
            .bus
            .flapping
            .owned(now.monotonic, service.name.as_str());
        let Turn::Later { after, is_new } = turn else {
            return self.start_scan(now, id);
        };
        self.bus.calls.abandon_scan(id);
        service.scan = service.scan.wrapping_add(1);
        service.state = State::Failed;
        self.bus.registry.scan_at(id, now.monotonic + after);
        if is_new && self.may_warn(now) {
            let name = &self.bus.registry.at(id).name;
            let seconds = after.as_secs_f64();
            warn!("{name}: its owner keeps changing; scanning it in {seconds:.0} s");
        }
    }

    fn service_gone(&mut self, now: Now, id: ServiceId) {
        let Some(service) = self.bus.registry.remove(id) else {
            return;
        };
        if matches!(service.state, State::Scanning(_)) {
            self.bus.calls.abandon_scan(id);
        }
        let damped = self
            .bus
            .flapping
            .is_damped(now.monotonic, service.name.as_str());
        if !damped && self.may_tell(now, &service.name) {
            info!("{}: gone", service.name);
        }
        self.access_in_doubt(now, &service.name);
        if let Some(device) = service.device {
            self.leave_device(now, device);
        }
        self.charge();
        self.made_room(now);
        self.settle(now);
    }

    /// A device has no service any more: its items are gone, and who waited for it may have it (§2.7).
    pub fn leave_device(&mut self, now: Now, device: DeviceId) {
        self.readers
            .device_gone(now, &self.store.items, device, false);
        let key: Box<str> = self.store.items.device_key(device).into();
        self.retire_all(device);
        self.store.items.unbind(device);
        if let Some((id, _)) = self.best_waiting(&key) {
            self.start_scan(now, id);
        }
    }

    fn retire_all(&mut self, device: DeviceId) {
        let slots: Vec<_> = self.store.items.slots(device).collect();
        for slot in slots {
            self.retire(slot);
        }
    }

    /// An item is gone.
    pub fn retire(&mut self, slot: SlotId) {
        let pending = self.readers.gone(slot, &self.store.items);
        self.store.cache.clear(slot);
        self.store.items.mark_gone(slot, pending);
        if pending == 0 {
            self.charge();
            self.readers.released(slot);
        }
    }

    // Signals.

    #[inline]
    pub fn signal(&mut self, now: Now, frame: &Frame<'_>) {
        let Some(owned) = self.bus.registry.owned_by(frame.sender) else {
            return;
        };
        // Nearly every connection owns one service: a copy, made without a loop.
        let (one, several);
        let owned = if let [service] = **owned {
            one = [service];
            &one[..]
        } else {
            several = owned.clone();
            &several[..]
        };
        let Some(changes) = Changes::of_signal(frame) else {
            return;
        };
        let Ok(mut changes) = changes else {
            return self.malformed(now, owned, frame);
        };
        let mut change = ItemChange::EMPTY;
        let mut before = None;
        let mut buffer = String::new();
        loop {
            let path = match changes.next_into(&mut change) {
                Ok(Some(path)) => path,
                Ok(None) => return,
                Err(Malformed) => return self.malformed(now, owned, frame),
            };
            if change.is_empty() {
                continue;
            }
            self.bus.counters.updates += 1;
            if let [service] = *owned
                && self.known_change(now, service, path, &change, &mut before)
            {
                continue;
            }
            let Ok(path) = std::str::from_utf8(path) else {
                return self.malformed(now, owned, frame);
            };
            let path = bus_item::absolute(path, &mut buffer);
            let change = ItemChange { path, ..change };
            if let [service] = *owned {
                if self.change_of(now, service, &change) {
                    self.scan_soon(now, service);
                }
            } else {
                self.change_of_any(now, owned, &change);
            }
        }
    }

    /// A change on a connection that owns several services: of those that have the path, else of
    /// all of them (§2.5).
    fn change_of_any(&mut self, now: Now, owned: &[ServiceId], change: &ItemChange<'_>) {
        let early = self.bus.registry.early_at(owned, change.path);
        let has = |id: &ServiceId| {
            let service = self.bus.registry.at(*id);
            let device = service.device;
            device
                .and_then(|device| self.store.items.find(device, change.path))
                .is_some_and(|slot| self.store.items.is_live(slot))
                || service.has_early(early)
        };
        let mut having: Vec<_> = owned.iter().copied().filter(has).collect();
        if having.is_empty() {
            having = owned.to_vec();
        }
        let is_known = |id: &ServiceId| self.bus.registry.at(*id).device.is_some();
        let (known, early): (Vec<_>, Vec<_>) = having.into_iter().partition(is_known);
        for id in known {
            if self.change_of(now, id, change) {
                self.scan_soon(now, id);
            }
        }
        self.early_change(now, &early, change);
    }

    /// A signal brought a path that no scan knew: where there is one, there may be others that say
    /// nothing (§2.2).
    fn scan_soon(&mut self, now: Now, id: ServiceId) {
        self.bus.registry.scan_at(id, now.monotonic + NEW_PATH_SCAN);
    }

    /// A change of one service's item, known or not (§2.4). `true` where it is a new one.
    pub fn change_of(&mut self, now: Now, id: ServiceId, change: &ItemChange<'_>) -> bool {
        if self.known_change(now, id, change.path.as_bytes(), change, &mut None) {
            return false;
        }
        let Some(device) = self.bus.registry.at(id).device else {
            self.early_change(now, &[id], change);
            return false;
        };
        self.new_item(now, id, device, change)
    }

    /// A change of an item that its service has. `false` where it has none of that path, or is not
    /// known well enough to tell. The path of `change` is not looked at; `before` is the item that
    /// the same signal spoke of before, and becomes this one.
    #[expect(clippy::inline_always)] // once for each value: a call costs 25 instructions
    #[inline(always)]
    fn known_change(
        &mut self,
        now: Now,
        id: ServiceId,
        path: &[u8],
        change: &ItemChange<'_>,
        before: &mut Option<SlotId>,
    ) -> bool {
        let service = self.bus.registry.at_mut(id);
        let Some((slot, item)) = service
            .device
            .and_then(|device| self.store.items.find_after(*before, device, path))
        else {
            return false;
        };
        *before = Some(slot);
        if matches!(service.state, State::Scanning(_))
            && service.seen.insert(slot)
            && service.replaced
        {
            self.store.cache.clear(slot);
        }
        self.store.cache.apply(slot, change, item.rule);
        let (watched, device) = (item.watched, item.device);
        let watched = watched | change.min.is_some() | change.max.is_some();
        self.readers.changed(slot);
        if watched {
            self.noted(now, (id, device), slot, change);
        }
        true
    }

    /// What says which device the service is has changed: where it is another one now, its topics
    /// move (§2.6).
    pub fn role_changed(&mut self, now: Now, id: ServiceId, role: Role, change: &ItemChange<'_>) {
        let service = self.bus.registry.at_mut(id);
        let new = service.note_role(role, change.value.as_ref());
        self.follow_access(now, id);
        if !new {
            return;
        }
        let service = self.bus.registry.at(id);
        match (&service.state, service.device) {
            (State::Live, Some(device)) => {
                if !self.move_device(now, id, device) {
                    self.contest(now, device);
                }
            }
            // Nothing of it is kept while another has its topics, or before it says which it is.
            (State::Clash | State::Scanning(Scan::Unnamed), _) => self.start_scan(now, id),
            // The end of the scan sees to it.
            (State::Live | State::Scanning(_) | State::Failed | State::Empty, _) => {}
        }
    }

    /// Where a live service is another device now, its old topics are cleared and the new ones published.
    /// Tells whether it is; the number of the old device stands for nothing then.
    fn move_device(&mut self, now: Now, id: ServiceId, old: DeviceId) -> bool {
        let (name, instance, key) = self.identity(id);
        if self.store.items.device_key(old) == &*key {
            return false;
        }
        if self.may_tell(now, &name) {
            info!(
                "{name}: was {}, is {key} now",
                self.store.items.device_key(old)
            );
        }
        self.readers.device_gone(now, &self.store.items, old, true);
        let Some(new) = self.take_device(now, id, &name, &instance, &key) else {
            self.bus.registry.at_mut(id).device = None;
            self.leave_device(now, old);
            return true;
        };
        let slots: Vec<_> = self.store.items.slots(old).collect();
        for slot in slots {
            let item = self.store.items.at(slot);
            let (path, scanned) = (self.store.items.path(item).to_owned(), item.scanned);
            if let Some(moved) = self.add_item(id, new, &path) {
                self.store.cache.copy(slot, moved);
                self.store.items.set_scanned(moved, scanned);
            }
        }
        self.leave_device(now, old);
        self.publish_device(new);
        true
    }

    /// What a service is called on the bus and in topics.
    pub fn identity(&self, id: ServiceId) -> (ServiceName, DeviceInstance, Box<str>) {
        let service = self.bus.registry.at(id);
        let instance = service.device_instance();
        let key = topic::device(service.name.service_type(), instance.as_str());
        (service.name.clone(), instance, key)
    }

    // Who has a device (§2.7).

    /// Gives a service the device it is; where another has it with the better claim, the service
    /// waits. One whose identifier can be in no topic is left out until it says another (§4.7).
    pub fn take_device(
        &mut self,
        now: Now,
        id: ServiceId,
        name: &ServiceName,
        instance: &DeviceInstance,
        key: &str,
    ) -> Option<DeviceId> {
        if !instance.is_topic_level() {
            self.leave_out(now, id, instance);
            return None;
        }
        let device = match self.store.items.bind(id, name, instance) {
            Ok(device) => device,
            Err(holder) if self.claim(id, key) > self.claim(holder, key) => {
                let device = self.store.items.find_device(key)?;
                self.readers
                    .device_gone(now, &self.store.items, device, false);
                self.retire_all(device);
                self.store.items.hand_over(device, id);
                self.lose_device(now, holder, key);
                device
            }
            Err(_) => {
                self.deny(now, id, key);
                return None;
            }
        };
        self.bus.holders.note(key, name);
        let service = self.bus.registry.at_mut(id);
        service.device = Some(device);
        service.state = State::Live;
        service.denied = None;
        self.contest(now, device);
        Some(device)
    }

    fn claim(&self, id: ServiceId, key: &str) -> Claim {
        let service = self.bus.registry.at(id);
        let says = service.says_instance();
        self.bus
            .holders
            .claim(key, &service.name, says, service.came)
    }

    /// A service loses its device to one with a better claim. While it is scanned it may be another device
    /// by now: the end of the scan tells.
    fn lose_device(&mut self, now: Now, id: ServiceId, key: &str) {
        let service = self.bus.registry.at_mut(id);
        if matches!(service.state, State::Live) {
            return self.deny(now, id, key);
        }
        service.device = None;
        service.seen = Bits::default();
    }

    /// A service waits for its topics: another has them.
    fn deny(&mut self, now: Now, id: ServiceId, key: &str) {
        let service = self.bus.registry.at_mut(id);
        service.state = State::Clash;
        service.device = None;
        // Answers to a scan that runs are of no use any more.
        service.scan = service.scan.wrapping_add(1);
        self.bus.calls.abandon_scan(id);
        let reported = |(denied, at): &(Box<str>, Instant)| **denied == *key && *at > now.monotonic;
        if !service.denied.as_ref().is_some_and(reported) {
            self.report_denied(now, id, key);
        }
        self.bus.registry.forget_early(id);
        self.charge();
    }

    fn report_denied(&mut self, now: Now, id: ServiceId, key: &str) {
        let again = now.monotonic + CLASH_REPORT;
        self.bus.clashes_at = Some(self.bus.clashes_at.map_or(again, |at| at.min(again)));
        let service = self.bus.registry.at_mut(id);
        service.denied = Some((key.into(), again));
        let name = service.name.clone();
        if self.may_warn(now) {
            let holder = self.store.items.find_device(key);
            let holder = holder.and_then(|device| self.store.items.service(device));
            let holder = holder.map_or("another service", |holder| {
                self.bus.registry.at(holder).name.as_str()
            });
            warn!(
                "{name}: {key} belongs to {holder}; ignored until one of them leaves or has another device instance"
            );
        }
    }

    /// The service with the best claim to a device among those that wait for it.
    fn best_waiting(&self, key: &str) -> Option<(ServiceId, Claim)> {
        let waits = |id: &ServiceId| {
            let service = self.bus.registry.at(*id);
            let (kind, instance) = (service.name.service_type(), service.device_instance());
            matches!(service.state, State::Clash)
                && key.split_once('/') == Some((kind, instance.as_str()))
        };
        let waiting = self.bus.registry.ids().filter(waits);
        let claims = waiting.map(|id| (id, self.claim(id, key)));
        claims.max_by_key(|(_, claim)| *claim)
    }

    /// The service that has a device may say less of itself than before: where another has the better
    /// claim now, it is scanned, and has the topics then.
    fn contest(&mut self, now: Now, device: DeviceId) {
        let key = self.store.items.device_key(device);
        let holder = self.store.items.service(device);
        let holder = holder.map(|holder| self.claim(holder, key));
        if let Some((waiting, claim)) = self.best_waiting(key)
            && holder < Some(claim)
        {
            self.start_scan(now, waiting);
        }
    }

    /// Reports again, once an hour, which services are kept from their topics.
    pub fn report_clashes(&mut self, now: Now) {
        if self.bus.clashes_at.is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.bus.clashes_at = None;
        let ids: Vec<_> = self.bus.registry.ids().collect();
        for id in ids {
            let service = self.bus.registry.at(id);
            // One that is being scanned is reported at the end of that, where the clash lasts.
            let denied = service
                .denied
                .clone()
                .filter(|_| matches!(service.state, State::Clash));
            let Some((key, at)) = denied else {
                continue;
            };
            if at <= now.monotonic {
                self.report_denied(now, id, &key);
            } else {
                self.bus.clashes_at = Some(self.bus.clashes_at.map_or(at, |first| first.min(at)));
            }
        }
    }

    /// No topic can have a service's identifier: nothing of it is published, and it is reported once.
    fn leave_out(&mut self, now: Now, id: ServiceId, instance: &DeviceInstance) {
        let service = self.bus.registry.at_mut(id);
        service.state = State::Clash;
        service.denied = None;
        self.bus.registry.forget_early(id);
        if self.refuse(id, None, instance.as_str()) == Refused::New && self.may_warn(now) {
            warn!(
                "{}: not published: its /Identifier {:?} has a character that no topic can have",
                self.bus.registry.at(id).name,
                shown(instance.as_str())
            );
        }
    }

    /// A change of services of one connection whose devices are not known yet: nothing of it may be
    /// lost (§2.3), as far as there is room (§2.11).
    fn early_change(&mut self, now: Now, ids: &[ServiceId], change: &ItemChange<'_>) {
        let mut kept_for: Option<(ServiceId, Marks)> = None;
        // What the schema says is the same for all of one type.
        let mut before: Option<(ServiceName, Option<Marks>)> = None;
        for &id in ids {
            let name = &self.bus.registry.at(id).name;
            let same = before.as_ref();
            let same = same.filter(|(before, _)| before.service_type() == name.service_type());
            let admitted = if let Some((_, rule)) = same {
                *rule
            } else {
                let name = name.clone();
                let rule = self.admit(now, id, change.path);
                before = Some((name, rule));
                rule
            };
            let service = self.bus.registry.at_mut(id);
            service.has_blocked |= admitted.is_none();
            let Some(rule) = admitted else {
                continue;
            };
            if matches!(service.state, State::Clash) {
                self.role_changed(now, id, rule.role, change);
                continue;
            }
            if matches!(service.state, State::Scanning(Scan::Unnamed)) {
                self.role_changed(now, id, rule.role, change);
            } else {
                service.note_role(rule.role, change.value.as_ref());
                if rule.role == Role::VrmAccess {
                    self.follow_access(now, id);
                }
            }
            // A secret of one of them is one of all.
            let secret = rule.secret || kept_for.is_some_and(|(_, rule)| rule.secret);
            kept_for = Some((id, Marks { secret, ..rule }));
        }
        let Some((id, rule)) = kept_for else {
            return;
        };
        let update = Update::new(change, rule, self.bus.limits.sizes);
        let shares = self.shares();
        let keeping = self
            .bus
            .registry
            .add_early(id, change.path, update, rule.secret, shares);
        self.charge();
        for id in ids {
            if matches!(self.bus.registry.at(*id).state, State::Empty) {
                self.start_scan(now, *id);
            }
        }
        let Keeping::LeftOut { first } = keeping else {
            return;
        };
        for id in ids {
            self.left_out(*id);
        }
        if first && self.may_warn(now) {
            warn!(
                "{}: too much came before its scan was answered (cache-bytes-max); what is left out is asked for again",
                self.bus.registry.at(id).name
            );
        }
    }

    /// Notes a path that is never published.
    fn refuse(&mut self, id: ServiceId, blocked_in: Option<&str>, path: &str) -> Refused {
        let shares = self.shares();
        let owner = self.bus.registry.at(id).owner.clone();
        let refused = self
            .bus
            .registry
            .kept
            .refuse(&owner, blocked_in, path, shares);
        self.charge();
        refused
    }

    /// What the schema says of an item, or `None` where it is never published (§4.7).
    pub fn admit(&mut self, now: Now, id: ServiceId, path: &str) -> Option<Marks> {
        let service = self.bus.registry.at_mut(id);
        let row = self.store.schema.lookup(service.name.service_type(), path);
        let rule = row.rule.marks();
        let is_topic = is_topic_path(path);
        if is_topic && rule.publish != Publish::Blocked {
            return Some(rule);
        }
        // "/" is what old services answer on with all they have: nothing to tell.
        if path == "/" {
            return None;
        }
        service.has_blocked |= is_topic;
        let name = service.name.clone();
        let blocked_in = is_topic.then(|| name.service_type());
        match self.refuse(id, blocked_in, path) {
            Refused::New if is_topic => debug!("{name}: {path} is blocked"),
            Refused::New if self.may_warn(now) => warn!(
                "{name}: {:?} is not published: no topic can have that path",
                shown(path)
            ),
            Refused::Overflow if self.may_warn(now) => {
                warn!(
                    "{name}: has too many paths that are not published; further ones are not reported"
                );
            }
            Refused::New | Refused::Overflow | Refused::Known => {}
        }
        None
    }

    /// An item that first shows up in a signal, or is back (§2.4).
    fn new_item(
        &mut self,
        now: Now,
        id: ServiceId,
        device: DeviceId,
        change: &ItemChange<'_>,
    ) -> bool {
        let Some(rule) = self.admit(now, id, change.path) else {
            return false;
        };
        let Some(slot) = self.add_item(id, device, change.path) else {
            return false;
        };
        self.store.cache.apply(slot, change, rule);
        self.readers.changed(slot);
        self.bus.registry.at_mut(id).seen.insert(slot);
        self.readers.device_changed(now, device);
        self.role_changed(now, id, rule.role, change);
        true
    }

    pub fn add_item(&mut self, id: ServiceId, device: DeviceId, path: &str) -> Option<SlotId> {
        if self.store.items.find(device, path).is_none() && !self.has_room_for(id, device, path) {
            return None;
        }
        let service = self.bus.registry.at(id);
        let row = self.store.schema.lookup(service.name.service_type(), path);
        let (slot, new) = self.store.items.add(device, path, row);
        if new {
            self.charge();
            self.store.cache.make_room(slot);
            let key = self.store.items.device_key(device);
            let rule = self.store.items.at(slot).rule;
            self.readers.added(slot, key, path, rule);
        }
        Some(slot)
    }

    pub fn malformed(&mut self, now: Now, owned: &[ServiceId], frame: &Frame<'_>) {
        let reported = |id: &ServiceId| self.bus.registry.at(*id).reported.malformed;
        if owned.iter().all(reported) {
            return;
        }
        let what = if frame.kind == Kind::Signal {
            format!(
                "{} on {}",
                frame.member,
                String::from_utf8_lossy(frame.path)
            )
        } else {
            "its list of items".into()
        };
        for id in owned {
            let service = self.bus.registry.at_mut(*id);
            let is_new = !std::mem::replace(&mut service.reported.malformed, true);
            if is_new && self.may_warn(now) {
                warn!(
                    "{}: {what} cannot be read (signature {}); further ones are not reported",
                    self.bus.registry.at(*id).name,
                    String::from_utf8_lossy(frame.signature),
                );
            }
        }
    }
}

/// As much of a path as is shown of one that is not published.
fn shown(path: &str) -> &str {
    let end = path.char_indices().nth(PATH_CHARS_SHOWN);
    end.map_or(path, |(at, _)| path.get(..at).unwrap_or_default())
}
