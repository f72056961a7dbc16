//! What the bridge tells of itself, where it is asked to: `N/<portal>/bridge/stats`, and the numbers
//! of whoever else looks.
//!
//! A plain notification, sent with a heartbeat and never retained: numbers that nobody keeps up to
//! date any more would be stale values (§4.9), and with nobody interested nothing leaves (§4.3).
//! It cannot be the topic of an item: those have a path behind the second level.

use std::time::Duration;

use super::Bridge;
use super::subscriber::remote::Outlet;
use super::subscriber::tally::{BrokerStats, METRICS};
use crate::codec::payload;
use crate::model::counts::CLIENT_COUNTS;
use crate::model::time::Now;

/// What the bridge as a whole has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// For how long it has been there.
    pub uptime: Duration,
    /// How many services are there.
    pub services: usize,
    /// How many items they have.
    pub items: usize,
    /// Changes of items that the bus brought.
    pub changes: u64,
    /// Values of them that were too long to be kept.
    pub too_long: u64,
    /// Whether the bus is connected.
    pub bus_connected: bool,
    /// How often it was connected again.
    pub bus_reconnects: u64,
}

impl Bridge {
    /// What the bridge as a whole has done.
    pub fn stats(&self, now: Now) -> Stats {
        let (services, items) = self.size();
        let since = self.started.unwrap_or(now.monotonic);
        Stats {
            uptime: now.monotonic.saturating_duration_since(since),
            services,
            items,
            changes: self.bus.counters.updates,
            too_long: self.bus.counters.too_long,
            bus_connected: self.bus.tally.connected,
            bus_reconnects: self.bus.tally.connections.saturating_sub(1),
        }
    }

    /// How many bytes count towards `cache-bytes-max`.
    pub fn bytes_charged(&self) -> usize {
        self.bus.bytes_charged(&self.store)
    }

    /// How many changes the bus brought, and how many messages were published.
    pub fn traffic(&self) -> (u64, u64) {
        let published = self.outlets.iter().map(|outlet| outlet.tally.published);
        (self.bus.counters.updates, published.sum())
    }

    /// What was done for each broker.
    pub fn broker_stats(&self) -> impl Iterator<Item = BrokerStats<'_>> {
        self.outlets.iter().map(Outlet::stats)
    }

    /// Writes the payload of `N/<portal>/bridge/stats`: what concerns all, and this broker alone.
    pub(super) fn write_stats(
        &self,
        now: Now,
        outlet: &Outlet,
        memory_bytes: Option<u64>,
        out: &mut Vec<u8>,
    ) {
        let all = self.stats(now);
        let broker = outlet.stats();
        out.extend_from_slice(payload::HEAD);
        out.push(b'{');
        let numbers = [
            ("uptime", Some(all.uptime.as_secs())),
            ("memory", memory_bytes),
            ("services", Some(all.services as u64)),
            ("items", Some(all.items as u64)),
            ("changes", Some(all.changes)),
            ("too-long", Some(all.too_long)),
            ("bus-reconnects", Some(all.bus_reconnects)),
        ];
        let of_broker = METRICS
            .iter()
            .filter_map(|metric| Some((metric.key?, Some((metric.read)(&broker)))));
        for (key, number) in numbers.into_iter().chain(of_broker) {
            let Some(number) = number else { continue };
            member(out, key, number);
            out.extend_from_slice(b", ");
        }
        if broker.hides_retained {
            out.extend_from_slice(b"\"hides-retained\": true, ");
        }
        if let Some(counts) = &broker.clients {
            out.extend_from_slice(b"\"listener\": {");
            for (index, count) in CLIENT_COUNTS.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                member(out, count.name, (count.of)(counts));
            }
            out.extend_from_slice(b"}, ");
        }
        out.extend_from_slice(b"\"refused\": {");
        for (index, (code, count)) in broker.refused.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            member(out, code, *count);
        }
        out.extend_from_slice(b"}}}");
    }
}

fn member(out: &mut Vec<u8>, key: &str, number: u64) {
    payload::write_text(out, key);
    out.extend_from_slice(b": ");
    payload::write_uint(out, number);
}
