//! Scans: how the bridge learns what a service has (§2.2, §2.3).
//!
//! ```text
//! GetItems ──▶ done            all items, with their limits
//!    │ unknown method, or not readable
//! GetValue on / ──▶ done       a dict of all values
//!    │ fails, or no dict
//! Introspect, node by node, and GetValue of every leaf ──▶ done
//! ```
//!
//! Calls and answers in the order of the bus's stream; a scan that fails is repeated later
//! (`super::registry`).

use std::collections::HashMap;
use std::time::Instant;

use tracing::{debug, info, warn};

use super::Bridge;
use super::bits::Bits;
use super::cache::Update;
use super::calls::{Method, Purpose, Step};
use super::items::{DeviceId, ServiceId};
use super::registry::{Scan, State, Walk};
use super::requests::Outcome;
use crate::codec::bus_item::{self, Changes};
use crate::codec::introspect;
use crate::model::time::Now;

/// How many calls of one walk may wait for their answers.
const WALK_CALLS_MAX: usize = 16;
/// How many nodes a walk goes through; the largest trees known have some thousands.
const WALK_NODES_MAX: usize = 20_000;

/// How deep a walk goes; the deepest paths known have seven levels.
const WALK_DEPTH_MAX: usize = 32;

/// Errors that mean that a service does not have the method, so that another one may do (§2.2).
const UNKNOWN: [&str; 3] = [
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.UnknownInterface",
];

impl Bridge {
    /// Asks a service for all it has.
    pub(super) fn start_scan(&mut self, now: Now, id: ServiceId) {
        let Some(service) = self.registry.get_mut(id) else {
            return;
        };
        service.scan = service.scan.wrapping_add(1);
        service.seen = Bits::default();
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
        self.calls.call(
            now.monotonic,
            timeout,
            service.name.as_str(),
            path,
            method,
            purpose,
        );
    }

    /// A step of a scan has its answer.
    pub(super) fn scanned(&mut self, now: Now, id: ServiceId, step: Step, outcome: Outcome<'_>) {
        match (step, outcome) {
            (Step::Items, Outcome::Reply(frame)) => match Changes::of_items(frame) {
                Ok(changes) if readable(&changes) => self.finish_scan(now, id, Some(changes)),
                _ => {
                    self.malformed(now, &[id], frame);
                    self.ask_tree(now, id);
                }
            },
            (Step::Items, Outcome::Error(frame)) if UNKNOWN.contains(&frame.error_name) => {
                self.ask_tree(now, id);
            }
            (Step::Tree, Outcome::Reply(frame)) => match Changes::of_tree(frame) {
                Ok(Some(changes)) if readable(&changes) => self.finish_scan(now, id, Some(changes)),
                _ => self.start_walk(now, id),
            },
            (Step::Tree, Outcome::Error(_)) => self.start_walk(now, id),
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
        let name = service.name.clone();
        if self.may_warn(now) {
            let reason = outcome.rejection();
            warn!(
                "{name}: does not tell its items: {reason}; asked again in {} s",
                after.as_secs()
            );
        }
        self.registry.next_retry = Some(self.registry.next_retry.map_or(at, |next| next.min(at)));
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
            "{}: has neither GetItems nor GetValue on /, its tree is walked",
            service.name
        );
        let walk = Walk {
            todo: ["/".into()].into(),
            in_flight: 0,
            nodes: 1,
        };
        service.state = State::Scanning(Scan::Walk(walk));
        self.continue_walk(now, id);
    }

    fn continue_walk(&mut self, now: Now, id: ServiceId) {
        loop {
            let Some(walk) = self.walk(id) else { return };
            if walk.todo.is_empty() && walk.in_flight == 0 {
                return self.finish_scan(now, id, None);
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
            Outcome::Error(_) | Outcome::Lost => None,
        };
        let Some(walk) = self.walk(id) else { return };
        walk.in_flight -= 1;
        let Some(node) = node else {
            if path == "/" {
                return self.fail_scan(now, id, outcome);
            }
            return self.continue_walk(now, id);
        };
        let before = walk.nodes;
        let children = if path.matches('/').count() < WALK_DEPTH_MAX {
            node.children
        } else {
            Vec::new()
        };
        for child in children {
            walk.nodes += 1;
            if walk.nodes <= WALK_NODES_MAX {
                walk.todo
                    .push_back(format!("{}/{child}", path.trim_end_matches('/')).into());
            }
        }
        let endless = before <= WALK_NODES_MAX && walk.nodes > WALK_NODES_MAX;
        walk.in_flight += usize::from(node.is_item && path != "/");
        if endless
            && self.may_warn(now)
            && let Some(service) = self.registry.get(id)
        {
            warn!(
                "{}: more than {WALK_NODES_MAX} nodes, further ones are left out",
                service.name
            );
        }
        if node.is_item && path != "/" {
            self.scan_call(now, id, path, Method::GetValue, Step::Leaf(path.into()));
        }
        self.continue_walk(now, id);
    }

    fn walked_leaf(&mut self, now: Now, id: ServiceId, path: &str, outcome: Outcome<'_>) {
        if let Outcome::Reply(frame) = outcome {
            // In the order of the stream, like a signal: a later one is newer, an earlier one older.
            if let Some(Ok(change)) = Changes::of_value(frame, path)
                .ok()
                .and_then(|mut changes| changes.next())
            {
                self.change_of(now, id, &change);
            }
        } else if let Some(service) = self.registry.get(id) {
            debug!("{}: {path}: {}", service.name, outcome.rejection());
        }
        if let Some(walk) = self.walk(id) {
            walk.in_flight -= 1;
        }
        self.continue_walk(now, id);
    }

    // The end of a scan.

    /// All items are known: `changes` has them, or they came one by one. What a signal brought
    /// before is older than the reply, and counts only where the reply says nothing (§2.3).
    fn finish_scan(&mut self, now: Now, id: ServiceId, changes: Option<Changes<'_>>) {
        let Some(service) = self.registry.get_mut(id) else {
            return;
        };
        service.failures = 0;
        let relative = changes.as_ref().is_some_and(Changes::are_relative);
        let mut buffer = String::new();
        for change in changes.iter().flat_map(Clone::clone).map_while(Result::ok) {
            let path = absolute(change.path, relative, &mut buffer);
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
        let early = std::mem::take(&mut service.early);
        let Some(device) = device else {
            return self.settle();
        };
        let mut seen = std::mem::take(&mut service.seen);
        self.take_items(now, (id, device), changes, early, &mut seen);
        let missing: Vec<_> = self
            .items
            .slots(device)
            .filter(|slot| !seen.contains(*slot))
            .collect();
        for slot in missing {
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
        let relative = changes.as_ref().is_some_and(Changes::are_relative);
        let mut buffer = String::new();
        for change in changes.into_iter().flatten().map_while(Result::ok) {
            let path = absolute(change.path, relative, &mut buffer);
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
                && let Some(update) = early.remove(path)
            {
                self.cache.apply_update(slot, update);
            }
            self.cache.apply(slot, &change, rule);
        }
        for (path, update) in early {
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

/// Whether all of it can be read; what cannot is taken for no answer.
fn readable(changes: &Changes<'_>) -> bool {
    changes.clone().all(|change| change.is_ok())
}

/// The path from the root: what `GetValue` on `/` tells has no leading slash.
fn absolute<'a>(path: &'a str, relative: bool, buffer: &'a mut String) -> &'a str {
    if !relative || path.starts_with('/') {
        return path;
    }
    buffer.clear();
    buffer.push('/');
    buffer.push_str(path);
    buffer
}
