//! What requests do to an outlet: interest, and answers of their own (§5).

use std::time::{Duration, Instant};

use super::{ANSWERS_MAX, Link, Outlet};
use crate::bridge::request::responses::Response;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::Items;
use crate::bridge::subscriber::answers::Answers;
use crate::bridge::subscriber::interest::Renewed;
use crate::bridge::subscriber::outbox::Control;
use crate::model::request::Rejection;

impl Outlet {
    /// A request renews the general interest; one that only reads or writes does not where only
    /// selective interests are live (§5.1). What that wakes is queued behind the request itself.
    pub fn renew(&mut self, now: Instant, keep_alive: bool) -> bool {
        if !keep_alive && !self.interest.is_general() && self.interest.is_selective() {
            return false;
        }
        let woke = self.interest.renew(now);
        if woke {
            self.update_wanted();
        }
        if woke && self.link == Link::Up {
            self.heartbeat_at.get_or_insert(now);
        }
        woke
    }

    /// Changes how long a request keeps data flowing; what that wakes is published.
    pub fn set_keep_alive(&mut self, now: Instant, keep_alive: Option<Duration>, items: &Items) {
        self.config.keep_alive = keep_alive;
        let keep_alive = self.config.keep_alive_wanted();
        let woke = self.interest.set_keep_alive(now, keep_alive);
        self.update_wanted();
        if woke && self.link == Link::Up {
            self.heartbeat_at.get_or_insert(now);
            self.answers.ask_republish(&None, None);
            self.advance(now, items);
        }
    }

    /// Renews a selective interest; what new filters match is published once (§5.4).
    pub fn renew_selective(
        &mut self,
        now: Instant,
        filters: Vec<Box<str>>,
        items: &Items,
    ) -> Renewed {
        let filters = filters.into_iter().map(|filter| self.relative(filter));
        let filters = filters.collect();
        let renewed = self.interest.renew_selective(now, filters);
        self.update_wanted();
        for filter in &renewed.new {
            items.matching(filter, |slot| {
                if self.gate.hides(slot) {
                    return;
                }
                self.covered.insert(slot);
                if self.link == Link::Up {
                    self.outbox.push(slot);
                }
            });
        }
        if self.link == Link::Up && self.interest.is_alive() {
            self.heartbeat_at.get_or_insert(now);
        }
        renewed
    }

    /// Renews a selective interest as far as it is live.
    pub fn renew_live(&mut self, now: Instant, filters: &[Box<str>]) {
        let filters = filters.iter().map(|filter| self.relative(filter.clone()));
        let filters: Vec<Box<str>> = filters.collect();
        self.interest.renew_live(now, &filters);
    }

    /// A filter without what clients write before it that do not know that it is relative to the portal
    /// id (§5.4).
    fn relative(&self, filter: Box<str>) -> Box<str> {
        let prefix = self.prefix.strip_prefix(&*self.config.prefix);
        let rest = filter.strip_prefix('/').unwrap_or(&filter);
        let rest = prefix
            .and_then(|prefix| rest.strip_prefix(prefix))
            .unwrap_or(rest);
        if rest.len() == filter.len() {
            filter
        } else {
            rest.into()
        }
    }

    /// The requests that wait for their turn.
    pub fn answers(&mut self) -> &mut Answers {
        &mut self.answers
    }

    /// Queues what a client is told of its request (§5.8); what is too much comes back.
    pub fn respond(&mut self, response: Response) -> Result<(), (Response, Rejection)> {
        if self.link == Link::Down {
            // Its client is gone with the broker.
            return Ok(());
        }
        if self.outbox.answers() >= ANSWERS_MAX {
            let max = ANSWERS_MAX;
            return Err((response, Rejection::Busy { max }));
        }
        self.outbox
            .push_answer(Control::Respond(Box::new(response)));
        Ok(())
    }

    /// Has an item published once, whatever the interest.
    pub fn allow(&mut self, slot: SlotId) {
        self.forced.insert(slot);
    }

    /// Queues an item to be published once, whatever the interest.
    pub(super) fn force(&mut self, slot: SlotId) {
        if self.link == Link::Up {
            self.forced.insert(slot);
            self.outbox.push(slot);
        }
    }
}
