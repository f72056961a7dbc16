//! What an outlet does as time passes: interest that ends, heartbeats, and what goes with them.

use std::time::{Duration, Instant};

use super::{ANSWERS_MAX, Outlet, SAY_AGAIN};
use crate::bridge::discovery::board::Board;
use crate::bridge::store::items::Items;
use crate::bridge::subscriber::interest::HEARTBEAT;
use crate::bridge::subscriber::outbox::Control;
use crate::model::topic;

impl Outlet {
    /// When [`Outlet::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let board = self.board.as_ref().filter(|_| self.is_up());
        [
            self.interest.deadline(),
            self.heartbeat_at,
            self.settle_by,
            self.again_at,
            self.fit.deadline(),
            self.answers.deadline().filter(|_| self.may_republish()),
            board.and_then(Board::deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether a republish could begin now: not before the one before it is done, which a slow broker may
    /// take its time for.
    fn may_republish(&self) -> bool {
        self.is_up() && self.outbox.completions() == 0 && self.outbox.answers() < ANSWERS_MAX
    }

    /// Queues values that the broker would forget soon.
    fn say_again(&mut self, now: Instant) {
        let Some(refresh) = &mut self.refresh else {
            return;
        };
        for slot in refresh.due(now, self.published.slots()) {
            if self.published.contains(slot) && self.covers(slot) {
                self.outbox.push(slot);
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, items: &Items) {
        let expired = self.interest.expire(now);
        if self.interest.is_selective() {
            let (covered, gate) = (&mut self.covered, &self.gate);
            for filter in &expired.filters {
                items.matching(filter, |slot| {
                    if !gate.hides(slot) {
                        covered.remove(slot);
                    }
                });
            }
        } else {
            self.covered.clear();
        }
        if expired.general || !expired.filters.is_empty() {
            self.update_wanted();
            self.sweep();
        }
        if !self.interest.is_alive() {
            self.heartbeat_at = None;
        } else if self.heartbeat_at.is_some_and(|at| at <= now) {
            // One is enough for a broker that takes nothing.
            if !self.urgent.contains(&Control::Heartbeat) {
                self.urgent.push_back(Control::Heartbeat);
            }
            self.heartbeat_at = Some(now + HEARTBEAT);
            self.say_again(now);
            self.tell_stats(now);
        }
        self.take_in(now, items);
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = Some(now + SAY_AGAIN);
            if !self.is_leaving() {
                self.hurry(Control::Online);
                self.hurry(Control::Serial);
            }
        }
        self.advance(now, items);
    }

    /// Has the bridge tell of itself so often; `None`: never.
    pub fn set_stats(&mut self, every: Option<Duration>) {
        if self.stats != every {
            self.stats = every;
            self.stats_at = None;
        }
    }

    /// Queues what the bridge tells of itself, with the first heartbeat after its time: nothing wakes
    /// up for it.
    fn tell_stats(&mut self, now: Instant) {
        let Some(every) = self.stats else { return };
        let due = self.stats_at.is_none_or(|at| at <= now);
        let wanted = self.interest.is_general()
            || self
                .interest
                .filters()
                .any(|filter| filter.matches(topic::STATS, ""));
        if !due || !wanted || self.is_leaving() || !self.gate.publishes(topic::STATS, "") {
            return;
        }
        self.stats_at = Some(now + every);
        if !self.urgent.contains(&Control::Stats) {
            self.urgent.push_back(Control::Stats);
        }
    }
}
