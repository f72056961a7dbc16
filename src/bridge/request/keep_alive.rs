//! Keep-alives, and the request for the serial that counts as one: from the check to the completion
//! (§5.1–§5.4).
//!
//! A keep-alive renews an interest; what it asks to be published waits for its turn among the requests
//! of its reader ([`Answers`](crate::bridge::subscriber::answers::Answers)), and ends with a completion.

use super::{Done, Origin, RequestContext};
use crate::bridge::subscriber::answers::{Echo, WAITING_MAX};
use crate::bridge::subscriber::response::ResponseBody;
use crate::model::request::Rejection;
use crate::model::time::Now;

impl RequestContext<'_> {
    /// Renews the interest in what some filters match (§5.4). A selective keep-alive renews nothing else.
    pub(super) fn keep_filters_alive(
        &mut self,
        now: Now,
        origin: Origin<'_>,
        filters: Vec<Box<str>>,
    ) {
        let kept = self.renew_filters(now, &origin, filters);
        let body = match kept {
            Ok(seconds) => ResponseBody::Alive(seconds),
            Err(rejection) => ResponseBody::rejection(&rejection),
        };
        self.respond_in_turn(now, origin, body);
    }

    /// Fails with the last of what is wrong; all of it is in the log. Gives for how many seconds the
    /// filters live, 0 where that is for good.
    fn renew_filters(
        &mut self,
        now: Now,
        origin: &Origin<'_>,
        filters: Vec<Box<str>>,
    ) -> Result<u64, Rejection> {
        let items = &self.store.items;
        let outlet = self.outlets.at_mut(origin.broker);
        let seconds = outlet.keep_alive().map_or(0, |time| time.as_secs());
        let max = outlet.config().filters_max;
        let renewed = outlet.renew_selective(now.monotonic, filters, items);
        let invalid = renewed.invalid.into_iter();
        let mut wrong: Vec<_> = invalid.map(|filter| Rejection::Filter { filter }).collect();
        if renewed.refused > 0 {
            wrong.push(Rejection::Filters { max });
        }
        for rejection in &wrong {
            self.reject(now, origin.broker, origin.topic, rejection);
        }
        wrong.pop().map_or(Ok(seconds), Err)
    }

    /// Tells a client that its interest lives, and queues a full publish where that is asked for, which is
    /// told too where there is no room for it. `republish` is what its completion carries back.
    pub(super) fn keep_all_alive(
        &mut self,
        now: Now,
        origin: Origin<'_>,
        republish: Option<Echo>,
    ) -> Done {
        let who = origin.requester();
        let broker = origin.broker;
        let outlet = self.outlets.at_mut(broker);
        let seconds = outlet.keep_alive().map_or(0, |time| time.as_secs());
        let answers = outlet.subscriber.answers();
        let has_room = |echo: &Echo| answers.may_republish(&who, echo);
        let body = if republish.as_ref().is_none_or(has_room) {
            ResponseBody::Alive(seconds)
        } else {
            ResponseBody::rejection(&Rejection::Completions)
        };
        self.respond_in_turn(now, origin, body);
        let republishes = republish.is_some();
        let answers = self.outlets.at_mut(broker).subscriber.answers();
        let queued = republish.is_none_or(|echo| answers.ask_republish(&who, echo));
        Done {
            result: queued.then_some(()).ok_or(Rejection::Completions),
            republishes,
        }
    }

    /// Answers with the portal id (§5.2). A broker that retains nothing is told all the rest too.
    pub(super) fn tell_serial(&mut self, now: Now, origin: Origin<'_>) -> Done {
        let who = origin.requester();
        let broker = origin.broker;
        let outlet = self.outlets.at_mut(broker);
        let queued = outlet.subscriber.answers().ask_serial(&who);
        let republishes = !outlet.retains();
        let mut result = queued
            .then_some(())
            .ok_or(Rejection::Busy { max: WAITING_MAX });
        self.respond_in_turn(now, origin, ResponseBody::PortalId);
        if republishes {
            let answers = self.outlets.at_mut(broker).subscriber.answers();
            let queued = answers.ask_republish(&who, None);
            result = queued.then_some(()).ok_or(Rejection::Completions);
        }
        Done {
            result,
            republishes,
        }
    }
}
