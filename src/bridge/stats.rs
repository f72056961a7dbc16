//! What the bridge tells of itself, where it is asked to: `N/<portal>/bridge/stats`, and the numbers
//! of whoever else looks.
//!
//! A plain notification, sent with a heartbeat and never retained: numbers that nobody keeps up to
//! date any more would be stale values (§4.9), and with nobody interested nothing leaves (§4.3).
//! It cannot be the topic of an item: those have a path behind the second level.

use std::time::Duration;

use crate::bridge::Bridge;
use crate::bridge::subscriber::remote::Outlet;
use crate::codec::payload;
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

/// What was done for one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerStats<'a> {
    /// The broker's name.
    pub name: &'a str,
    /// Whether it is connected.
    pub connected: bool,
    /// How often it was connected again.
    pub reconnects: u64,
    /// Messages that were published there.
    pub published: u64,
    /// Changes that came while an earlier one of the same value waited to be sent: one message is for all
    /// of them.
    pub conflated: u64,
    /// Messages of other clients below our topics that were not as they should be (§4.11), and how many
    /// of them were put right.
    pub foreign: u64,
    /// See `foreign`.
    pub corrected: u64,
    /// Topics that were left out because the broker does not take them (§4.12).
    pub left_out: u64,
    /// Whether subscriptions with wildcards get no retained messages (§4.9): late clients see nothing.
    pub hides_retained: bool,
    /// Requests of its clients.
    pub requests: u64,
    /// Messages that were too large for us (§4.14).
    pub skipped: u64,
    /// Those that were refused, by reason; each reason once.
    pub refused: &'a [(&'static str, u64)],
}

/// What is counted of the bus.
#[derive(Debug, Default)]
pub struct BusTally {
    /// Whether it is connected.
    pub connected: bool,
    /// How often it was connected.
    pub connections: u64,
}

/// The counts of one outlet.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often the broker was connected.
    pub connections: u64,
    /// Messages that were published.
    pub published: u64,
    /// Messages of other clients below our topics that were not as they should be, and those of them that
    /// were put right.
    pub foreign: u64,
    /// See `foreign`.
    pub corrected: u64,
    /// Topics that were left out because the broker does not take them.
    pub left_out: u64,
    /// Whether subscriptions with wildcards get no retained messages.
    pub hides_retained: bool,
    /// Requests of its clients.
    pub requests: u64,
    /// Messages that were too large for us (§4.14).
    pub skipped: u64,
    refused: Vec<(&'static str, u64)>,
}

impl Tally {
    /// Counts a request that was refused for this reason; there are some twenty of them.
    pub fn refused(&mut self, code: &'static str) {
        match self.refused.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.refused.push((code, 1)),
        }
    }
}

impl Outlet {
    fn stats(&self) -> BrokerStats<'_> {
        BrokerStats {
            name: self.name(),
            connected: self.subscriber.is_connected(),
            reconnects: self.tally.connections.saturating_sub(1),
            published: self.tally.published,
            conflated: self.subscriber.conflated,
            foreign: self.tally.foreign,
            corrected: self.tally.corrected,
            left_out: self.tally.left_out,
            hides_retained: self.tally.hides_retained,
            requests: self.tally.requests,
            skipped: self.tally.skipped,
            refused: &self.tally.refused,
        }
    }
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
            changes: self.counters.updates,
            too_long: self.counters.too_long,
            bus_connected: self.bus.connected,
            bus_reconnects: self.bus.connections.saturating_sub(1),
        }
    }

    /// How many bytes count towards `cache-bytes-max`.
    pub fn bytes_charged(&self) -> usize {
        self.cache.bytes() + self.registry.kept.bytes() + self.items.path_bytes()
    }

    /// How many changes the bus brought, and how many messages were published.
    pub fn traffic(&self) -> (u64, u64) {
        let published = self.outlets.iter().map(|outlet| outlet.tally.published);
        (self.counters.updates, published.sum())
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
            ("reconnects", Some(broker.reconnects)),
            ("published", Some(broker.published)),
            ("conflated", Some(broker.conflated)),
            ("foreign", Some(broker.foreign)),
            ("corrected", Some(broker.corrected)),
            ("left-out", Some(broker.left_out)),
            ("requests", Some(broker.requests)),
            ("skipped", Some(broker.skipped)),
        ];
        for (key, number) in numbers {
            let Some(number) = number else { continue };
            member(out, key, number);
            out.extend_from_slice(b", ");
        }
        if broker.hides_retained {
            out.extend_from_slice(b"\"hides-retained\": true, ");
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
