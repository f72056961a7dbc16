//! What changes while the bridge runs: another schema, and settings that need no restart.
//!
//! Everything is taken over at once, before the next message of the bus or of a broker. What is
//! known of an item is looked up here and where the item turns up, and nowhere else: an update finds
//! it in the item.

use std::sync::Arc;
use std::time::Duration;

use super::Bridge;
use super::bus::registry::State;
use super::discovery::AllReaders;
use super::store::items::ServiceId;
use super::store::sizes::Sizes;
use super::store::throttle::LogRate;
use super::subscriber::gate::Admission;
use super::subscriber::rate::RequestRate;
use crate::model::time::Now;
use crate::schema::Schema;
use crate::schema::rule::Publish;

/// What can be told anew while the bridge runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is known of services and their items.
    pub schema: Arc<Schema>,
    /// Whether a write is refused that the schema speaks against (§5.6).
    pub strict_writes: bool,
    /// For each broker, how long a request keeps data flowing; `None`: always (§5.1).
    pub keep_alive: Vec<Option<Duration>>,
    /// For each listener, what its clients may do; they follow the brokers.
    pub listeners: Vec<Admission>,
    /// How many services are followed.
    pub services_max: usize,
    /// How many writes may wait for their answers (§5.6).
    pub writes_in_flight_max: usize,
    /// How many clients' reads may wait for their answers.
    pub calls_in_flight_max: usize,
    /// How long a scan's call, or a write, may take.
    pub call_timeout: Duration,
    /// How long a read may take.
    pub read_timeout: Duration,
    /// The bounds on what clients and services can do at will.
    pub bounds: Bounds,
    /// How often the bridge tells of itself; `None`: never.
    pub stats: Option<Duration>,
    /// How often each service is scanned anew (§2.2); `None`: never.
    pub refresh: Option<Duration>,
}

/// The bounds on what clients and services can do at will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many requests each broker's clients have in a second, keep-alives apart.
    pub request_rate_max: usize,
    /// How many they have at once.
    pub request_burst_max: usize,
    /// The longest values that are kept.
    pub sizes: Sizes,
    /// How much of one kind is logged.
    pub log: LogRate,
}

impl Default for Bounds {
    /// None but that of the log.
    fn default() -> Bounds {
        Bounds {
            request_rate_max: usize::MAX,
            request_burst_max: usize::MAX,
            sizes: Sizes::default(),
            log: LogRate::default(),
        }
    }
}

impl Bounds {
    /// How many requests there may be.
    pub(super) fn request_rate(&self) -> RequestRate {
        RequestRate {
            per_second_max: self.request_rate_max,
            burst_max: self.request_burst_max,
        }
    }
}

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
