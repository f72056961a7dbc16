//! What was done for one broker, counted, and where each count is told: a new one is a field of [`Tally`] and
//! a row of [`METRICS`].

use std::ops::Deref;

use crate::model::counts::ClientCounts;

/// The counts of one broker.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often the broker was connected.
    pub connections: u64,
    /// Messages that were published.
    pub published: u64,
    /// Messages of other clients below our topics that were not as they should be (§4.11), and those of them
    /// that were put right.
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
    /// Requests that were refused, by reason; each reason once.
    pub refused: Vec<(&'static str, u64)>,
    /// Of a listener: what was counted of its clients.
    pub clients: Option<ClientCounts>,
}

/// What was done for one broker: its counts, and what others know of it.
#[derive(Debug, Clone, Copy)]
pub struct BrokerStats<'a> {
    /// The broker's name.
    pub name: &'a str,
    /// Whether it is connected.
    pub connected: bool,
    /// Changes that came while an earlier one of the same value waited to be sent: one message is for all
    /// of them.
    pub conflated: u64,
    pub(super) tally: &'a Tally,
}

/// A number of each broker.
#[derive(Debug)]
pub struct Metric {
    /// Its key in `N/<portal>/bridge/stats`, where it is told there.
    pub key: Option<&'static str>,
    /// Its name, its type and its help, where Prometheus is told of it.
    pub family: Option<(&'static str, &'static str, &'static str)>,
    /// The number.
    pub read: fn(&BrokerStats<'_>) -> u64,
}

/// All numbers, in the order in which they are told.
pub const METRICS: [Metric; 10] = [
    Metric {
        key: None,
        family: Some((
            "broker_connected",
            "gauge",
            "Whether the broker is connected.",
        )),
        read: |broker| broker.connected.into(),
    },
    Metric {
        key: Some("reconnects"),
        family: Some((
            "broker_reconnects_total",
            "counter",
            "How often the broker was connected again.",
        )),
        read: |broker| broker.connections.saturating_sub(1),
    },
    Metric {
        key: Some("published"),
        family: Some((
            "published_total",
            "counter",
            "Messages that were published.",
        )),
        read: |broker| broker.published,
    },
    Metric {
        key: Some("conflated"),
        family: Some((
            "conflated_total",
            "counter",
            "Changes of a value that waited to be sent already.",
        )),
        read: |broker| broker.conflated,
    },
    Metric {
        key: Some("foreign"),
        family: Some((
            "foreign_total",
            "counter",
            "Wrong messages of other clients below the topics of this installation.",
        )),
        read: |broker| broker.foreign,
    },
    Metric {
        key: Some("corrected"),
        family: Some((
            "corrected_total",
            "counter",
            "Those of them that were put right.",
        )),
        read: |broker| broker.corrected,
    },
    Metric {
        key: Some("left-out"),
        family: None,
        read: |broker| broker.left_out,
    },
    Metric {
        key: None,
        family: Some((
            "broker_hides_retained",
            "gauge",
            "Whether subscriptions with wildcards get no retained messages.",
        )),
        read: |broker| broker.hides_retained.into(),
    },
    Metric {
        key: Some("requests"),
        family: Some(("requests_total", "counter", "Requests of clients.")),
        read: |broker| broker.requests,
    },
    Metric {
        key: Some("skipped"),
        family: Some((
            "skipped_total",
            "counter",
            "Messages that were too large to be taken.",
        )),
        read: |broker| broker.skipped,
    },
];

impl Deref for BrokerStats<'_> {
    type Target = Tally;

    fn deref(&self) -> &Tally {
        self.tally
    }
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
