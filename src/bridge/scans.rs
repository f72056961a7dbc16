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
use std::time::Instant;

use tracing::{debug, info, warn};

use super::bits::Bits;
use super::cache::Update;
use super::calls::{Method, Missing, Purpose, Step};
use super::items::{DeviceId, ServiceId};
use super::registry::{Scan, State, Walk};
use super::requests::Outcome;
use super::{BUS, Bridge, convert};
use crate::codec::bus_item::{self, Changes, absolute};
use crate::codec::introspect;
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
pub(super) const UNKNOWN: [&str; 3] = [
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.UnknownInterface",
];

const ACCESS_DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";

impl Bridge {
    /// Asks a service for all it has.
    pub(super) fn start_scan(&mut self, now: Now, id: ServiceId) {
        let Some(service) = self.registry.get_mut(id) else {
            return;
        };
        // One scan per name at a time (§2.9).
        if matches!(service.state, State::Scanning(_)) {
            self.calls.abandon_scan(id);
        }
        service.scan = service.scan.wrapping_add(1);
        service.seen = Bits::default();
        service.refusal = None;
        service.state = State::Scanning(Scan::Items);
        self.scan_call(now, id, "/", Method::GetItems, Step::Items);
    }

    fn scan_call(&mut self, now: Now, id: ServiceId, path: &str, method: Method, step: Step) {
        let Some(service) = self.registry.get(id) else {
            return;
        };
        let purpose = Purpose::Scan {
            service: id,
            scan: service.scan,
            step,
        };
        let timeout = self.config.call_timeout;
        self.call_service(now, timeout, id, path, method, purpose);
    }

    /// A step of a scan has its answer.
    pub(super) fn scanned(&mut self, now: Now, id: ServiceId, step: Step, outcome: Outcome<'_>) {
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
                if let Some(service) = self.registry.get_mut(id)
                    && !UNKNOWN.contains(&frame.error_name)
                {
                    service.refusal = Some(outcome.rejection().to_string().into());
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
        if let Some(service) = self.registry.get_mut(id) {
            service.state = State::Scanning(Scan::Tree);
        }
        self.scan_call(now, id, "/", Method::GetValue, Step::Tree);
    }

    fn fail_scan(&mut self, now: Now, id: ServiceId, outcome: Outcome<'_>) {
        let Some(service) = self.registry.get_mut(id) else {
            return;
        };
        let after = service.retry_after();
        let at = now.monotonic + after;
        service.failures = service.failures.saturating_add(1);
        service.scan = service.scan.wrapping_add(1);
        service.state = State::Retry { at };
        self.calls.abandon_scan(id);
        let name = service.name.clone();
        // What it said to the first question says more than what it said to the last.
        let refusal = service.refusal.take().filter(|_| !is_silence(outcome));
        if self.may_warn(now) {
            let reason = refusal.unwrap_or_else(|| outcome.rejection().to_string().into());
            let after = after.as_secs();
            warn!("{name}: scan failed ({reason}); retrying in {after} s");
        }
        self.registry.retry_at(at);
        self.settle();
    }

    pub(super) fn retry_scans(&mut self, now: Now) {
        if self.registry.next_retry.is_none_or(|at| at > now.monotonic) {
            return;
        }
        let retry_at = |id: &ServiceId| match self.registry.get(*id).map(|service| &service.state) {
            Some(State::Retry { at }) => Some(*at),
            _ => None,
        };
        let waiting: Vec<(ServiceId, Instant)> = self
            .registry
            .ids()
            .filter_map(|id| Some((id, retry_at(&id)?)))
            .collect();
        self.registry.next_retry = waiting
            .iter()
            .map(|(_, at)| *at)
            .filter(|at| *at > now.monotonic)
            .min();
        for (id, at) in waiting {
            if at <= now.monotonic {
                self.start_scan(now, id);
            }
        }
    }

    // Walks: for services that can give their items neither way.

    fn start_walk(&mut self, now: Now, id: ServiceId) {
        let Some(service) = self.registry.get_mut(id) else {
            return;
        };
        debug!(
            "{}: gives its items neither with GetItems nor with GetValue on /; reading them one by one",
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
                if walk.stopped && walk.given == 0 {
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
        let State::Scanning(Scan::Walk(walk)) = &mut self.registry.get_mut(id)?.state else {
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
            if !convert::is_object_path(&child) {
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
        if endless
            && self.may_warn(now)
            && let Some(service) = self.registry.get(id)
        {
            warn!(
                "{}: more than {WALK_NODES_MAX} nodes, further ones are left out",
                service.name
            );
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
            walk.given += 1;
            // In the order of the stream, like a signal: a later one is newer, an earlier one older.
            self.change_of(now, id, &change);
        } else {
            leave_out(walk, path, outcome);
        }
        self.continue_walk(now, id);
    }

    /// Says what went wrong in a scan that ended well in the end: once per owner, and again where more
    /// or fewer items are concerned.
    fn report_trouble(&mut self, now: Now, id: ServiceId, walk: &Walk) {
        let Some(service) = self.registry.get_mut(id) else {
            return;
        };
        let refusal = service.refusal.take();
        let refusal = refusal.filter(|_| !std::mem::replace(&mut service.refusal_reported, true));
        let left_out = std::mem::replace(&mut service.left_out_reported, walk.left_out);
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
        let Some(service) = self.registry.get_mut(id) else {
            return;
        };
        service.failures = 0;
        let mut buffer = String::new();
        for change in changes.iter().flat_map(Clone::clone).map_while(Result::ok) {
            let path = absolute(change.path, &mut buffer);
            let row = self.schema.lookup(service.name.service_type(), path);
            let role = row.rule.role;
            service.note_role(role, change.value.as_ref());
        }
        self.follow_access(now, id);
        let Some(service) = self.registry.get(id) else {
            return;
        };
        let old = service.device;
        let Some((name, instance, key)) = self.identity(id) else {
            return;
        };
        if let Some(old) = old.filter(|old| self.items.device_key(*old) != &*key) {
            if self.may_tell(now, &name) {
                info!("{name}: was {}, is {key} now", self.items.device_key(old));
            }
            if let Some(service) = self.registry.get_mut(id) {
                service.device = None;
                service.seen = Bits::default();
            }
            self.undescribe(now, old, true);
            self.leave_device(now, old);
        }
        let device = self.take_device(now, id, &name, &instance, &key);
        let Some(service) = self.registry.get_mut(id) else {
            return;
        };
        let Some(device) = device else {
            return self.settle();
        };
        let mut seen = std::mem::take(&mut service.seen);
        let early = self.registry.take_early(id);
        self.charge();
        self.take_items(now, (id, device), changes, early, &mut seen);
        let missing: Vec<_> = self
            .items
            .slots(device)
            .filter(|slot| !seen.contains(*slot) && !walk.stopped)
            .collect();
        for slot in missing {
            let role = self.items.get(slot).map(|item| item.rule.role);
            if role == Some(Role::VrmAccess) {
                self.access_in_doubt(now, &name);
            }
            self.retire(slot);
        }
        self.publish_device(device);
        if self.may_tell(now, &name) {
            let items = self.items.slots(device).count();
            info!("{name}: {items} items as {key}");
        }
        self.settle();
    }

    fn take_items(
        &mut self,
        now: Now,
        (id, device): (ServiceId, DeviceId),
        changes: Option<Changes<'_>>,
        early: HashMap<Box<str>, Update>,
        seen: &mut Bits,
    ) {
        let mut early = early;
        let replaced = self
            .registry
            .get_mut(id)
            .is_some_and(|service| std::mem::take(&mut service.replaced));
        let mut buffer = String::new();
        for change in changes.into_iter().flatten().map_while(Result::ok) {
            let path = absolute(change.path, &mut buffer);
            let Some(rule) = self.admit(now, id, path) else {
                continue;
            };
            let Some(slot) = self.add_item(id, device, path) else {
                continue;
            };
            if seen.insert(slot) && replaced {
                self.cache.clear(slot);
            }
            // What came before the reply is older, but may have told limits that this does not.
            if !early.is_empty()
                && let Some(mut update) = early.remove(path)
            {
                if rule.secret {
                    update.mask();
                }
                self.cache.apply_update(slot, update);
            }
            self.cache.apply(slot, &change, rule);
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
            if seen.insert(slot) && replaced {
                self.cache.clear(slot);
            }
            self.cache.apply_update(slot, update);
        }
    }

    /// Queues a device's items: first those that tell what it is.
    pub(super) fn publish_device(&mut self, device: DeviceId) {
        self.describe(device);
        for first in [true, false] {
            for slot in self.items.slots(device) {
                if self
                    .items
                    .get(slot)
                    .is_some_and(|item| item.rule.identifying == first)
                {
                    for outlet in &mut self.outlets {
                        outlet.changed(slot);
                    }
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
