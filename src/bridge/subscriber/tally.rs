//! What was done for one broker, counted: what the bridge tells of it (`super::super::stats`).

use crate::model::counts::ClientCounts;

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
    /// Of a listener: what was counted of its clients.
    pub clients: Option<ClientCounts>,
}

/// The counts of one broker.
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
    pub(super) refused: Vec<(&'static str, u64)>,
    /// Of a listener: what was counted of its clients.
    pub clients: Option<ClientCounts>,
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
