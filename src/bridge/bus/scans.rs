//! Scans: how the bridge learns what a service has (§2.2, §2.3).
//!
//! ```text
//! GetItems ──▶ done            all items, with their limits
//!    │ any error of the service, no items, or not readable
//! GetValue on / ──▶ done       a dict of all values
//!    │ the same
//! Introspect, node by node, and GetValue of every leaf ──▶ done, without the leaves that fail
//! ```
//!
//! An error that the bus itself sends, or no answer at all, is about the service and not about the
//! method: no other one is tried then.
//!
//! Calls and answers in the order of the bus's stream; a scan that fails is repeated later
//! (`super::registry`).

use std::collections::HashMap;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::calls::{BUS, Method, Missing, Outcome, Purpose, Step};
use super::registry::{Scan, Service, State, Walk};
use super::{BusContext, Readers};
use crate::bridge::store::bits::Bits;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::cache::Update;
use crate::bridge::store::items::{DeviceId, Life, ServiceId};
use crate::codec::bus_item::{self, Changes, absolute, is_object_path};
use crate::codec::introspect;
use crate::model::item::ItemChange;
use crate::model::name::ServiceName;
use crate::model::request::Rejection;
use crate::model::time::Now;
use crate::schema::rule::Role;

/// How many calls of one walk may wait for their answers.
const WALK_CALLS_MAX: usize = 4;
/// How many nodes a walk goes through; the largest trees known have some thousands.
const WALK_NODES_MAX: usize = 20_000;

/// How deep a walk goes; the deepest paths known have seven levels.
const WALK_DEPTH_MAX: usize = 32;

/// Errors that mean that a service does not have the object or the method: nothing to report of a
/// service that knows no `GetItems`.
pub(in crate::bridge) const UNKNOWN: [&str; 3] = [
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.UnknownInterface",
];

/// How long nothing is published of a service that came a moment ago and has no instance, and when after
/// its coming it is scanned again while it has none.
const UNNAMED: Duration = Duration::from_secs(2);
const UNNAMED_SCANS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// A scan whose answers are there.
struct Finished {
    /// What the service has told of since the scan began, with signals or answers.
    seen: Bits,
    /// What its answers gave.
    given: Bits,
    /// Whether what was not seen is of an owner before this one.
    replaced: bool,
    /// Whether nothing of the device is published yet.
    is_first: bool,
    /// Whether items came or went.
    has_more: bool,
}

const ACCESS_DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";

impl<R: Readers> BusContext<'_, R> {
    /// Asks a service for all it has.
    pub fn start_scan(&mut self, now: Now, id: ServiceId) {
        let service = self.bus.registry.at_mut(id);
        // One scan per name at a time (§2.9).
        if matches!(service.state, State::Scanning(_)) {
            self.bus.calls.abandon_scan(id);
        }
        service.scan = service.scan.wrapping_add(1);
        // What a new owner has said stays its own, however many scans it takes.
        if !service.replaced {
            service.seen = Bits::default();
        }
        service.due = None;
        service.refusal = None;
        service.state = State::Scanning(Scan::Items);
        self.scan_call(now, id, "/", Method::GetItems, Step::Items);
    }

    fn scan_call(&mut self, now: Now, id: ServiceId, path: &str, method: Method, step: Step) {
        let service = self.bus.registry.at(id);
        let purpose = Purpose::Scan {
            service: id,
            scan: service.scan,
            step,
        };
        let timeout = self.bus.limits.call_timeout;
        self.call_service(now, timeout, id, path, method, purpose);
    }

    /// A step of a scan has its answer.
    pub fn scanned(&mut self, now: Now, id: ServiceId, step: Step, outcome: Outcome<'_>) {
        match (step, outcome) {
            (Step::Items, Outcome::Reply(frame)) => match Changes::of_items(frame) {
                Ok(changes) if changes.has_items() => {
                    self.finish_scan(now, id, Some(changes), &Walk::default());
                }
                Ok(changes) if changes.is_empty() => self.ask_tree(now, id),
                _ => {
                    self.malformed(now, &[id], frame);
                    self.ask_tree(now, id);
                }
            },
            (Step::Items, Outcome::Error(frame)) if !is_silence(outcome) => {
                if !UNKNOWN.contains(&frame.error_name) {
                    let refusal = outcome.rejection().to_string();
                    self.bus.registry.at_mut(id).refusal = Some(refusal.into());
                }
                self.ask_tree(now, id);
            }
            (Step::Tree, Outcome::Reply(frame)) => match Changes::of_tree(frame) {
                Ok(Some(changes)) if changes.has_items() => {
                    self.finish_scan(now, id, Some(changes), &Walk::default());
                }
                _ => self.start_walk(now, id),
            },
            (Step::Tree, Outcome::Error(_)) if !is_silence(outcome) => self.start_walk(now, id),
            (Step::Items | Step::Tree, _) => self.fail_scan(now, id, outcome),
            (Step::Node(node), outcome) => self.walked_node(now, id, &node, outcome),
            (Step::Leaf(path), outcome) => self.walked_leaf(now, id, &path, outcome),
        }
    }

    fn ask_tree(&mut self, now: Now, id: ServiceId) {
        self.bus.registry.at_mut(id).state = State::Scanning(Scan::Tree);
        self.scan_call(now, id, "/", Method::GetValue, Step::Tree);
    }

    fn fail_scan(&mut self, now: Now, id: ServiceId, outcome: Outcome<'_>) {
        // What it said to the first question says more than what it said to the last.
        let refusal = self.bus.registry.at_mut(id).refusal.take();
        let refusal = refusal.filter(|_| !is_silence(outcome));
        let reason = refusal.unwrap_or_else(|| outcome.rejection().to_string().into());
        self.repeat_scan(now, id, State::Failed, &reason);
    }

    /// A scan gave nothing; `state` says why.
    fn repeat_scan(&mut self, now: Now, id: ServiceId, state: State, reason: &str) {
        let service = self.bus.registry.at_mut(id);
        let after = service.retry_after();
        let is_first = service.failures == 0;
        service.failures = service.failures.saturating_add(1);
        service.scan = service.scan.wrapping_add(1);
        // One that has no items may well stay so: once is enough.
        let is_news = is_first || matches!(state, State::Failed);
        service.state = state;
        self.bus.calls.abandon_scan(id);
        let name = service.name.clone();
        self.bus.registry.scan_at(id, now.monotonic + after);
        if is_news && self.may_warn(now) {
            let after = after.as_secs();
            warn!("{name}: scan failed ({reason}); retrying in {after} s");
        }
        self.settle(now);
    }

    /// Scans the services whose time has come: those that are due, and the next one of the rounds.
    pub fn scan_due(&mut self, now: Now) {
        for id in self.bus.registry.take_due(now.monotonic) {
            self.start_scan(now, id);
        }
        if let Some(id) = self.bus.registry.take_turn(now.monotonic) {
            self.start_scan(now, id);
        }
    }

    // Walks: for services that can give their items neither way.

    fn start_walk(&mut self, now: Now, id: ServiceId) {
        let service = self.bus.registry.at_mut(id);
        debug!(
            "{}: neither GetItems nor GetValue on / works; reading its items one by one",
            service.name
        );
        let walk = Walk {
            todo: ["/".into()].into(),
            nodes: 1,
            ..Walk::default()
        };
        service.state = State::Scanning(Scan::Walk(walk));
        self.continue_walk(now, id);
    }

    fn continue_walk(&mut self, now: Now, id: ServiceId) {
        loop {
            let Some(walk) = self.walk(id) else { return };
            if walk.todo.is_empty() && walk.in_flight == 0 {
                let walk = std::mem::take(walk);
                if walk.stopped && walk.given.is_empty() {
                    return self.fail_scan(now, id, Outcome::Lost(Missing::TimedOut));
                }
                return self.finish_scan(now, id, None, &walk);
            }
            if walk.in_flight >= WALK_CALLS_MAX {
                return;
            }
            let Some(node) = walk.todo.pop_front() else {
                return;
            };
            walk.in_flight += 1;
            self.scan_call(now, id, &node.clone(), Method::Introspect, Step::Node(node));
        }
    }

    fn walk(&mut self, id: ServiceId) -> Option<&mut Walk> {
        let State::Scanning(Scan::Walk(walk)) = &mut self.bus.registry.at_mut(id).state else {
            debug_assert!(false, "an answer for a walk that has ended");
            return None;
        };
        Some(walk)
    }

    fn walked_node(&mut self, now: Now, id: ServiceId, path: &str, outcome: Outcome<'_>) {
        let node = match outcome {
            Outcome::Reply(frame) => bus_item::text(frame)
                .ok()
                .and_then(|xml| introspect::parse(xml).ok()),
            Outcome::Error(_) | Outcome::Lost(_) => None,
        };
        let Some(walk) = self.walk(id) else { return };
        walk.in_flight -= 1;
        let Some(node) = node else {
            if path == "/" {
                // A new owner that answers and has nothing: what the one before had is gone (§2.5).
                let replaced = |service: &Service| service.replaced && service.device.is_some();
                if !is_silence(outcome) && replaced(self.bus.registry.at(id)) {
                    return self.finish_scan(now, id, None, &Walk::default());
                }
                return self.fail_scan(now, id, outcome);
            }
            leave_out(walk, path, outcome);
            return self.continue_walk(now, id);
        };
        let before = walk.nodes;
        let children = if path.matches('/').count() < WALK_DEPTH_MAX && !walk.stopped {
            node.children
        } else {
            Vec::new()
        };
        for child in children {
            let child = format!("{}/{child}", path.trim_end_matches('/'));
            // No call can name any other, and the bus would end our connection for one that did.
            if !is_object_path(&child) {
                continue;
            }
            walk.nodes += 1;
            if walk.nodes <= WALK_NODES_MAX {
                walk.todo.push_back(child.into());
            }
        }
        let endless = before <= WALK_NODES_MAX && walk.nodes > WALK_NODES_MAX;
        let is_leaf = node.is_item && path != "/" && !walk.stopped;
        walk.in_flight += usize::from(is_leaf);
        if endless && self.may_warn(now) {
            let name = &self.bus.registry.at(id).name;
            warn!("{name}: more than {WALK_NODES_MAX} nodes, further ones are left out");
        }
        if is_leaf {
            self.scan_call(now, id, path, Method::GetValue, Step::Leaf(path.into()));
        }
        self.continue_walk(now, id);
    }

    fn walked_leaf(&mut self, now: Now, id: ServiceId, path: &str, outcome: Outcome<'_>) {
        let change = match outcome {
            Outcome::Reply(frame) => Changes::of_value(frame, path).ok(),
            Outcome::Error(_) | Outcome::Lost(_) => None,
        };
        let change = change.and_then(|mut changes| changes.next()?.ok());
        let Some(walk) = self.walk(id) else { return };
        walk.in_flight -= 1;
        if let Some(change) = change {
            walk.given.push(path.into());
            // In the order of the stream, like a signal: a later one is newer, an earlier one older.
            if !self.learn(now, id, &change) {
                self.change_of(now, id, &change);
            }
        } else {
            leave_out(walk, path, outcome);
        }
        self.continue_walk(now, id);
    }

    /// Says what went wrong in a scan that ended well in the end: once per owner, and again where more
    /// or fewer items are concerned.
    fn report_trouble(&mut self, now: Now, id: ServiceId, walk: &Walk) {
        let service = self.bus.registry.at_mut(id);
        let refusal = service.refusal.take();
        let refusal = refusal.filter(|_| !std::mem::replace(&mut service.reported.refusal, true));
        let left_out = std::mem::replace(&mut service.reported.left_out, walk.left_out);
        let name = service.name.clone();
        if let Some(refusal) = refusal
            && self.may_warn(now)
        {
            warn!("{name}: GetItems failed ({refusal}); its items were read in another way");
        }
        if let Some((path, reason)) = &walk.first_left_out
            && left_out != walk.left_out
            && self.may_warn(now)
        {
            let count = walk.left_out;
            warn!(
                "{name}: {count} items cannot be read and are left out; the first is {path}: {reason}"
            );
        }
    }

    // The end of a scan.

    /// All items are known: `changes` has them, or they came one by one. What a signal brought
    /// before is older than the reply, and counts only where the reply says nothing (§2.3).
    fn finish_scan(&mut self, now: Now, id: ServiceId, changes: Option<Changes<'_>>, walk: &Walk) {
        self.report_trouble(now, id, walk);
        self.note_roles(id, changes.as_ref());
        self.follow_access(now, id);
        let service = self.bus.registry.at(id);
        let is_empty = changes.is_none() && walk.given.is_empty();
        if is_empty && service.device.is_none() && !self.bus.registry.has_any_early(id) {
            return self.repeat_scan(now, id, State::Empty, "it has no items");
        }
        if self.waits_for_instance(now, id) {
            return;
        }
        let service = self.bus.registry.at_mut(id);
        // It is there, but not with all it has: it is asked again, ever less often.
        if is_empty || walk.stopped {
            let at = now.monotonic + service.retry_after();
            service.failures = service.failures.saturating_add(1);
            self.bus.registry.scan_at(id, at);
        } else {
            service.failures = 0;
        }
        let (name, instance, key) = self.identity(id);
        let old = self.bus.registry.at(id).device;
        let is_same = old.is_some_and(|old| self.store.items.device_key(old) == &*key);
        if let Some(old) = old.filter(|_| !is_same) {
            if self.may_tell(now, &name) {
                info!(
                    "{name}: was {}, is {key} now",
                    self.store.items.device_key(old)
                );
            }
            let service = self.bus.registry.at_mut(id);
            service.device = None;
            service.seen = Bits::default();
            self.readers.device_gone(now, &self.store.items, old, true);
            self.leave_device(now, old);
        }
        let device = self.take_device(now, id, &name, &instance, &key);
        let service = self.bus.registry.at_mut(id);
        let Some(device) = device else {
            return self.settle(now);
        };
        let mut scan = Finished {
            seen: std::mem::take(&mut service.seen),
            given: Bits::default(),
            replaced: service.replaced,
            is_first: !is_same || service.replaced,
            has_more: false,
        };
        service.replaced &= walk.stopped;
        let early = self.bus.registry.take_early(id);
        self.charge();
        self.take_items(now, (id, device), changes, early, &mut scan);
        for path in &walk.given {
            if let Some(slot) = self.store.items.find(device, path) {
                scan.given.insert(slot);
            }
        }
        scan.has_more |= self.drop_missing(now, (&name, device), &scan, walk.stopped);
        if scan.is_first {
            self.publish_device(device);
        } else if scan.has_more {
            self.readers.device_changed(now, device);
        }
        let items = self.store.items.slots(device).count();
        if !scan.is_first {
            debug!("{name}: scanned again, {items} items");
        } else if self.may_tell(now, &name) {
            info!("{name}: {items} items as {key}");
        }
        self.settle(now);
    }

    /// Takes note of what says which device the service is.
    fn note_roles(&mut self, id: ServiceId, changes: Option<&Changes<'_>>) {
        let service = self.bus.registry.at_mut(id);
        let mut buffer = String::new();
        for change in changes
            .into_iter()
            .flat_map(Clone::clone)
            .map_while(Result::ok)
        {
            let path = absolute(change.path, &mut buffer);
            let known = service
                .device
                .and_then(|device| self.store.items.find_item(device, path.as_bytes()))
                .filter(|(_, item)| item.life == Life::Live);
            let role = if let Some((_, item)) = known {
                item.rule.role
            } else {
                let row = self.store.schema.lookup(service.name.service_type(), path);
                row.rule.role
            };
            service.note_role(role, change.value.as_ref());
        }
    }

    /// Whether it is too early to say which device a service is that came a moment ago and has no
    /// instance: drivers claim their name before their paths exist (§2.2). It is scanned again, before and
    /// after it is published without one.
    fn waits_for_instance(&mut self, now: Now, id: ServiceId) -> bool {
        let service = self.bus.registry.at_mut(id);
        let has_none = !self.store.schema.has_instance(service.name.service_type());
        let Some(since) = service.since.filter(|_| service.is_unnamed() && !has_none) else {
            return false;
        };
        let waits = since + UNNAMED > now.monotonic;
        if waits {
            service.state = State::Scanning(Scan::Unnamed);
        }
        let mut next = UNNAMED_SCANS.iter().map(|after| since + *after);
        if let Some(at) = next.find(|at| *at > now.monotonic) {
            self.bus.registry.scan_at(id, at);
        }
        waits
    }

    /// Takes over what a scan says of an item that is known already. `false` where it is not.
    fn learn(&mut self, now: Now, id: ServiceId, change: &ItemChange<'_>) -> bool {
        let service = self.bus.registry.at_mut(id);
        let known = service
            .device
            .and_then(|device| self.store.items.find_item(device, change.path.as_bytes()))
            .filter(|(_, item)| item.life == Life::Live);
        let Some((slot, item)) = known else {
            return false;
        };
        let (device, rule) = (item.device, item.rule);
        if service.seen.insert(slot) && service.replaced {
            self.store.cache.clear(slot);
        }
        if self.store.cache.apply(slot, change, rule) {
            self.differs(now, (id, device), slot, change);
        }
        true
    }

    /// A scan found another value than the one that is known: a change that was not signalled.
    fn differs(
        &mut self,
        now: Now,
        owner: (ServiceId, DeviceId),
        slot: SlotId,
        change: &ItemChange<'_>,
    ) {
        self.readers.changed(slot);
        let watched = self.store.items.at(slot).watched;
        if watched || change.min.is_some() || change.max.is_some() {
            self.noted(now, owner, slot, change);
        }
    }

    fn take_items(
        &mut self,
        now: Now,
        (id, device): (ServiceId, DeviceId),
        changes: Option<Changes<'_>>,
        early: HashMap<Box<str>, Update>,
        scan: &mut Finished,
    ) {
        let mut early = early;
        let mut buffer = String::new();
        for change in changes.into_iter().flatten().map_while(Result::ok) {
            let path = absolute(change.path, &mut buffer);
            let known = self.store.items.find_item(device, path.as_bytes());
            let known = known.filter(|(_, item)| item.life == Life::Live);
            let known = known.map(|(slot, item)| (slot, item.rule));
            let (slot, rule) = if let Some(known) = known {
                known
            } else {
                let Some(rule) = self.admit(now, id, path) else {
                    continue;
                };
                let Some(slot) = self.add_item(id, device, path) else {
                    continue;
                };
                scan.has_more = true;
                (slot, rule)
            };
            let is_new = known.is_none();
            scan.given.insert(slot);
            if scan.seen.insert(slot) && scan.replaced {
                self.store.cache.clear(slot);
            }
            // What came before the reply is older, but may have told limits that this does not.
            if !early.is_empty()
                && let Some(mut update) = early.remove(path)
            {
                if rule.secret {
                    update.mask();
                }
                self.store.cache.apply_update(slot, update);
            }
            let differs = self.store.cache.apply(slot, &change, rule) || is_new;
            if differs && !scan.is_first {
                self.differs(now, (id, device), slot, &change);
            }
        }
        for (path, mut update) in early {
            let Some(rule) = self.admit(now, id, &path) else {
                continue;
            };
            if rule.secret {
                update.mask();
            }
            let Some(slot) = self.add_item(id, device, &path) else {
                continue;
            };
            if scan.seen.insert(slot) && scan.replaced {
                self.store.cache.clear(slot);
            }
            self.store.cache.apply_update(slot, update);
        }
    }

    /// Items that a scan gave before and that this one did not are gone, and so are those of an owner
    /// before this one. What signals brought while it ran, or what only they have ever brought, stays.
    /// Tells whether any is gone.
    fn drop_missing(
        &mut self,
        now: Now,
        (name, device): (&ServiceName, DeviceId),
        scan: &Finished,
        stopped: bool,
    ) -> bool {
        let mut missing = Vec::new();
        let slots: Vec<_> = self.store.items.slots(device).collect();
        for slot in slots {
            if scan.given.contains(slot) {
                self.store.items.set_scanned(slot, true);
            } else if stopped {
                // Nobody knows.
            } else if scan.seen.contains(slot) {
                self.store.items.set_scanned(slot, false);
            } else if scan.replaced || self.store.items.at(slot).scanned {
                missing.push(slot);
            }
        }
        for slot in &missing {
            if self.store.items.at(*slot).rule.role == Role::VrmAccess {
                self.access_in_doubt(now, name);
            }
            self.retire(*slot);
        }
        !missing.is_empty()
    }

    /// Queues a device's items: first those that tell what it is.
    pub fn publish_device(&mut self, device: DeviceId) {
        let registry = &self.bus.registry;
        self.readers.device_ready(self.store, registry, device);
        for first in [true, false] {
            for slot in self.store.items.slots(device) {
                if self.store.items.at(slot).rule.identifying == first {
                    self.readers.changed(slot);
                }
            }
        }
    }
}

/// Whether nothing came from the service itself: it is gone or does not answer, or the bus let no call
/// through. What the bus forbids may be allowed with another method.
fn is_silence(outcome: Outcome<'_>) -> bool {
    match outcome {
        Outcome::Lost(_) => true,
        Outcome::Error(frame) => frame.sender == BUS && frame.error_name != ACCESS_DENIED,
        Outcome::Reply(_) => false,
    }
}

/// A node or an item of a walk has no answer that can be read.
fn leave_out(walk: &mut Walk, path: &str, outcome: Outcome<'_>) {
    if is_silence(outcome) {
        // It does not answer any more: the rest would not come either.
        walk.stopped = true;
        walk.todo.clear();
    }
    walk.left_out += 1;
    let reason: Rejection = outcome.rejection();
    let first = || (path.into(), reason.to_string().into());
    walk.first_left_out.get_or_insert_with(first);
}
