//! What changes while the bridge runs: another schema, and settings that need no restart.
//!
//! Everything is taken over at once, before the next message of the bus or of a broker. What is
//! known of an item is looked up here and where the item turns up, and nowhere else: an update finds
//! it in the item.

use std::sync::Arc;

use super::Bridge;
use super::bus::registry::State;
use super::discovery::AllReaders;
use super::settings::Settings;
use super::store::items::ServiceId;
use super::subscriber::gate::Admission;
use crate::model::time::Now;
use crate::schema::Schema;
use crate::schema::rule::Publish;

impl Bridge {
    /// Takes over settings, all or those that differ.
    pub fn reconfigure(&mut self, now: Now, settings: Settings) {
        let Settings {
            schema,
            strict_writes,
            keep_alive,
            listeners,
            services_max,
            writes_in_flight_max,
            calls_in_flight_max,
            call_timeout,
            read_timeout,
            bounds,
            stats,
            refresh,
        } = settings;
        self.started.get_or_insert(now.monotonic);
        let limits = (services_max, bounds.sizes);
        let held = &mut self.bus.limits;
        if limits != (held.services_max, held.sizes) {
            self.bus.overflow.limits_changed(now);
        }
        held.sizes = bounds.sizes;
        held.log = bounds.log;
        self.store.cache.limit(bounds.sizes);
        self.limits.strict_writes = strict_writes;
        self.limits.rate = bounds.request_rate();
        held.services_max = services_max;
        self.limits.writes_in_flight_max = writes_in_flight_max;
        self.limits.calls_in_flight_max = calls_in_flight_max;
        held.call_timeout = call_timeout;
        self.limits.read_timeout = read_timeout;
        self.bus.registry.set_rounds(now.monotonic, refresh);
        for (outlet, keep_alive) in self.outlets.iter_mut().zip(keep_alive) {
            outlet.set_keep_alive(now.monotonic, keep_alive, &self.store.items);
            outlet.set_stats(stats);
        }
        self.admit(now, listeners);
        if self.store.schema != schema {
            self.set_schema(now, schema);
        }
    }

    /// What the clients of listeners may do is this from now on.
    fn admit(&mut self, now: Now, listeners: Vec<Admission>) {
        let first = self.outlets.ids().count() - listeners.len();
        for (listener, admission) in self.outlets.ids().skip(first).zip(listeners) {
            let said = self.bus.device_access.last();
            let outlet = self.outlets.at_mut(listener);
            if !outlet.admit(now.monotonic, admission, said, &self.store.items) {
                continue;
            }
            // What could be set can only be looked at now, or the other way round.
            AllReaders::new(&mut self.outlets, &mut self.discovery).describe_all(
                now,
                &mut self.store,
                &self.bus.registry,
                listener,
            );
        }
    }

    /// The schema that holds now.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.store.schema
    }

    /// What is known of items is this from now on, also of those that are there.
    fn set_schema(&mut self, now: Now, schema: Arc<Schema>) {
        self.store.schema = schema;
        self.bus.registry.kept.forget_blocked();
        let ids: Vec<_> = self.bus.registry.ids().collect();
        for id in ids {
            if self.apply_schema(id) {
                self.on_bus().start_scan(now, id);
            }
            if let Some(device) = self.bus.registry.at(id).device {
                self.readers().describe_soon(now, device);
            }
        }
        self.on_bus().settle(now);
    }

    /// Has one service's items follow the schema. `true` where something is wanted that was never
    /// kept, so that the service must be asked again.
    fn apply_schema(&mut self, id: ServiceId) -> bool {
        let early = self.bus.registry.has_any_early(id);
        let service = self.bus.registry.at_mut(id);
        let service_type = service.name.service_type();
        // What was blocked may be wanted now. What waits for the end of a scan may have been masked, or
        // half of it left out: that scan begins anew, and its answer is newer.
        let mut ask = std::mem::take(&mut service.has_blocked) | early;
        let rule = |path: &str| self.store.schema.lookup(service_type, path).rule;
        let mut roles_changed = false;
        let mut changed = Vec::new();
        let mut retired = Vec::new();
        for slot in service
            .device
            .into_iter()
            .flat_map(|device| self.store.items.slots(device))
        {
            let item = self.store.items.at(slot);
            let (path, old) = (self.store.items.path(item), item.rule);
            let new = self.store.items.marks(item.device, path, rule(path));
            if new == old {
                continue;
            }
            roles_changed |= new.role != old.role;
            ask |= old.secret && !new.secret;
            if new.publish == Publish::Blocked {
                service.has_blocked = true;
                retired.push(slot);
            } else {
                if new.secret {
                    self.store.cache.mask(slot);
                }
                changed.push((slot, new));
            }
        }
        if roles_changed {
            // Another path says which device it is, or none: the scan finds it.
            service.instance = None;
            service.identifier = None;
        }
        ask |= roles_changed;
        // One that waits for its topics, or for its next scan, is scanned before it has them.
        let asks = matches!(service.state, State::Live | State::Scanning(_))
            || (roles_changed && matches!(service.state, State::Clash));
        for (slot, rule) in changed {
            self.store.items.set_rule(slot, rule);
            for outlet in self.outlets.iter_mut() {
                outlet.subscriber.changed(slot);
            }
        }
        for slot in retired {
            self.on_bus().retire(slot);
        }
        ask && asks
    }
}
