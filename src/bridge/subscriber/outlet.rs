//! One broker as the bridge sees it: its interest, what waits for it, what it holds of ours.
//!
//! ```text
//!          connected            read back, or nothing to read back
//! Down ───────────────▶ Reading ─────────────────────────────────▶ Up
//!   ▲                      │                                        │
//!   └──────────────────────┴────────────────────────────────────────┘ disconnected
//! ```
//!
//! What is published there is known, and taken back when it goes (§4.5, §4.6, §4.9). Whether an item
//! is to be published or taken back is decided when its turn comes, from what is true then: a slow
//! broker gets the latest state, and never a history.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::answers::{Answer, Answers};
use super::corrections::Corrections;
use super::fit::Fit;
use super::gate::Gate;
pub use super::gate::OutletConfig;
use super::interest::Interest;
use super::outbox::{Control, Entry, Outbox};
use super::refresh::Refresh;
use crate::bridge::bus::registry::Unscanned;
use crate::bridge::discovery::board::Board;
use crate::bridge::request::rate::Rates;
use crate::bridge::stats::Tally;
use crate::bridge::store::bits::{Bits, Counts};
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::{Item, Items, Life};
use crate::bridge::store::throttle::{Repeats, Throttle};
use crate::model::access::Access;
use crate::model::topic::{self, Misfit};
use crate::schema::rule::Publish;

mod requests;
mod time;

/// How many retained topics without an item are remembered until the scans are done.
const ORPHANS_MAX: usize = 100_000;
/// How long they wait for services that are not scanned yet: longer than any that answers at all takes.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How many topics that do not fit are shown in the log, if not at the level of debug.
const LEFT_OUT_SHOWN: u64 = 10;
/// How often a device that is not watched says who and what it is.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// How many messages that are no items, and that clients have asked for, may wait.
const ANSWERS_MAX: usize = 4096;

/// What of all that changes is wanted. Kept, so that a change costs one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Everything,
    /// Everything that the gate does not hide.
    Shown,
    /// What filters of selective keep-alives match.
    Covered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    Reading,
    Up,
}

/// What is to be done about an item whose turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Nothing,
    /// Publish its value.
    Publish {
        /// Whether the broker keeps it.
        retain: bool,
    },
    /// Publish an empty payload.
    Unpublish {
        /// Whether the broker is to forget it.
        retain: bool,
    },
}

/// One broker as the bridge sees it.
#[derive(Debug)]
pub struct Outlet {
    config: OutletConfig,
    /// What its topics begin with: `N/<portal id>/`, and before that its own prefix.
    prefix: Box<str>,
    gate: Gate,
    pub(in crate::bridge) fit: Fit,
    link: Link,
    interest: Interest,
    wanted: Wanted,
    outbox: Outbox,
    /// Goes before the outbox, and also while the link is reading back.
    urgent: VecDeque<Control>,
    /// What the broker, or its clients, have of us.
    published: Bits,
    /// How many filters of selective keep-alives match each item.
    covered: Counts,
    /// What a read asked for: published once, whatever the interest.
    forced: Bits,
    answers: Answers,
    heartbeat_at: Option<Instant>,
    /// After what time the broker forgets what it retains of ours, and what is done against it.
    expiry: Option<Duration>,
    refresh: Option<Refresh>,
    /// Retained topics that no item has, until their devices are scanned (§4.9).
    orphans: Vec<Box<str>>,
    /// When those that are left are cleared all the same.
    settle_by: Option<Instant>,
    /// What is cleared of them, in turn with what the outbox has.
    clears: VecDeque<Box<str>>,
    clears_next: bool,
    /// What others publish below our topics is not seen, so that who and what the device is, is said
    /// again then (§4.14).
    again_at: Option<Instant>,
    watched: bool,
    /// What others published there and was put right (§4.11).
    pub(in crate::bridge) corrections: Corrections,
    ending: bool,
    /// How often, and when next, the bridge tells of itself.
    stats: Option<Duration>,
    stats_at: Option<Instant>,
    /// What was done for it.
    pub(in crate::bridge) tally: Tally,
    /// How many requests its clients have.
    pub(in crate::bridge) rates: Rates,
    /// What of its clients' requests is logged.
    pub(in crate::bridge) rejections: Throttle,
    pub(in crate::bridge) doubts: Throttle,
    /// What of that was said already.
    pub(in crate::bridge) repeats: Repeats,
    /// What the broker holds for Home Assistant.
    pub(in crate::bridge) board: Option<Board>,
}

impl Outlet {
    /// An outlet whose broker is not connected.
    pub fn new(config: OutletConfig, prefix: &str) -> Outlet {
        let board = config.discovery.clone().map(Board::new);
        let keep_alive = config.keep_alive_wanted();
        let mut gate = Gate::new(config.access, config.lists.clone());
        let fit = Fit::new(config.topics.clone());
        if !fit.is_open() {
            gate.close();
        }
        let mut outlet = Outlet {
            prefix: [&*config.prefix, prefix].concat().into(),
            gate,
            fit,
            wanted: Wanted::Nothing,
            link: Link::Down,
            interest: Interest::new(keep_alive, config.filters_max),
            outbox: Outbox::new(config.answers_first),
            urgent: VecDeque::new(),
            published: Bits::default(),
            covered: Counts::default(),
            forced: Bits::default(),
            answers: Answers::default(),
            heartbeat_at: None,
            expiry: None,
            refresh: None,
            orphans: Vec::new(),
            settle_by: None,
            clears: VecDeque::new(),
            clears_next: false,
            again_at: None,
            watched: false,
            corrections: Corrections::default(),
            ending: false,
            stats: None,
            stats_at: None,
            tally: Tally::default(),
            rates: Rates::default(),
            rejections: Throttle::default(),
            doubts: Throttle::default(),
            repeats: Repeats::default(),
            board,
            config,
        };
        outlet.update_wanted();
        outlet
    }

    /// What all of its topics begin with.
    #[inline]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What it was told at the start.
    pub fn config(&self) -> &OutletConfig {
        &self.config
    }

    /// What its clients may have.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether everything is taken back: the bridge ends, or the broker may have nothing any more.
    pub fn is_leaving(&self) -> bool {
        self.ending || self.gate.access() == Access::Off
    }

    /// After each change of what it depends on.
    pub(in crate::bridge) fn update_wanted(&mut self) {
        self.wanted = if self.is_leaving() {
            Wanted::Nothing
        } else if self.interest.is_general() {
            if self.gate.is_open() {
                Wanted::Everything
            } else {
                Wanted::Shown
            }
        } else if self.interest.is_selective() {
            Wanted::Covered
        } else {
            Wanted::Nothing
        };
    }

    /// The broker's name, for the log.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether the broker is connected.
    pub fn is_connected(&self) -> bool {
        self.link != Link::Down
    }

    /// How long a request keeps data flowing; `None`: always.
    pub fn keep_alive(&self) -> Option<Duration> {
        self.config.keep_alive_wanted()
    }

    /// Whether notifications are retained.
    pub fn retains(&self) -> bool {
        self.config.retain
    }

    /// Whether the slot's changes are wanted.
    #[inline]
    pub fn covers(&self, slot: SlotId) -> bool {
        match self.wanted {
            Wanted::Nothing => false,
            Wanted::Everything => true,
            Wanted::Shown => !self.gate.hides(slot),
            Wanted::Covered => self.covered.contains(slot),
        }
    }

    /// Whether the broker is connected and has been read back.
    pub fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Puts a message that is no item at the end of what waits.
    pub fn queue(&mut self, control: Control) {
        self.outbox.push_control(control);
    }

    /// Has a message that is no item sent before all that waits, once.
    pub fn hurry(&mut self, control: Control) {
        if !self.urgent.contains(&control) {
            self.urgent.push_back(control);
        }
    }

    /// The broker has something for an item that is not right: its value is sent, or taken back where
    /// nobody wants it.
    pub fn put_right(&mut self, slot: SlotId) {
        self.published.insert(slot);
        self.outbox.push(slot);
    }

    /// Whether anything can be sent.
    pub fn has_work(&self) -> bool {
        !self.urgent.is_empty()
            || (self.link == Link::Up && !(self.outbox.is_empty() && self.clears.is_empty()))
    }

    /// An item changed.
    #[inline]
    pub fn changed(&mut self, slot: SlotId) {
        // While it is read back, nothing waits: everything wanted is queued when that is over.
        if self.link == Link::Up && self.covers(slot) && !self.outbox.push(slot) {
            self.tally.conflated += 1;
        }
    }

    // Connection.

    /// The broker is connected: what is published on every connect (§4.2, §4.10).
    pub fn connected(&mut self) {
        if self.is_leaving() {
            return;
        }
        self.tally.connections += 1;
        self.link = Link::Reading;
        self.urgent
            .extend([Control::Online, Control::Serial, Control::KeepAlive]);
    }

    /// The broker forgets what it retains of ours after this time; `None`: never.
    pub fn expires(&mut self, after: Option<Duration>) {
        self.expiry = after.filter(|_| self.config.retain);
    }

    /// What others publish below our topics is told to us, or not. Where it is, our status is said once
    /// more: it must not come back.
    pub fn watched(&mut self, now: Instant, watched: bool) {
        self.watched = watched;
        self.again_at = (!watched).then(|| now + SAY_AGAIN);
        if watched && !self.is_leaving() {
            self.hurry(Control::Online);
        }
    }

    /// The broker told one of the topics that it retains, without `N/<portal>/` (§4.9); or one that
    /// another client published while it was read back.
    pub fn retained(&mut self, rest: &str, items: &Items) {
        if matches!(
            rest,
            topic::SERIAL | topic::KEEPALIVE | topic::STATUS | topic::DOCTOR
        ) {
            return;
        }
        match self.find(rest, items) {
            Some(slot) => {
                self.fit.holds(slot);
                self.published.insert(slot);
                if self.link == Link::Up && !self.covers(slot) {
                    self.outbox.push(slot);
                }
            }
            None if self.orphans.len() < ORPHANS_MAX => self.orphans.push(rest.into()),
            None => {}
        }
    }

    /// The broker has told all that it retains, or there was nothing to ask for. What no item can be any
    /// more is cleared before anything is published.
    pub fn ready(&mut self, now: Instant, items: &Items, unscanned: &Unscanned<'_>) {
        if self.link != Link::Reading {
            return;
        }
        self.link = Link::Up;
        self.again_at = (!self.watched).then(|| now + SAY_AGAIN);
        self.refresh = self.expiry.map(|expiry| Refresh::new(expiry, now));
        self.settle(now, items, unscanned);
        // What left while the broker was away, and what nobody asks for any more.
        for slot in items
            .all_gone()
            .filter(|slot| self.published.contains(*slot))
        {
            self.outbox.push(slot);
        }
        self.sweep();
        if self.interest.is_general() {
            if !self.answers.republish_waits() {
                self.answers.ask_republish(&None, None);
            }
        } else if self.interest.is_selective() {
            for slot in items.all().filter(|slot| self.covered.contains(*slot)) {
                self.outbox.push(slot);
            }
        }
        if self.interest.is_alive() {
            self.heartbeat_at.get_or_insert(now);
        }
        self.advance(now, items);
    }

    /// Clears the retained topics that no item has and that no service can bring any more (§4.9). One
    /// service that answers slowly holds up only those of its own type, and those not for ever.
    pub fn settle(&mut self, now: Instant, items: &Items, unscanned: &Unscanned<'_>) {
        if !self.is_unsettled() {
            return;
        }
        let overdue = self.is_overdue(now) && unscanned.is_listed();
        self.sort_orphans(items, |rest| !overdue && unscanned.may_have(items, rest));
        if self.orphans.is_empty() || !unscanned.is_listed() {
            self.settle_by = None;
        } else {
            self.settle_by.get_or_insert(now + SETTLE_MAX);
        }
    }

    /// A retained topic came late, when all services are scanned.
    pub fn settle_late(&mut self, items: &Items) {
        self.sort_orphans(items, |_| false);
    }

    fn sort_orphans(&mut self, items: &Items, may_come: impl Fn(&str) -> bool) {
        let mut waiting = Vec::new();
        for rest in std::mem::take(&mut self.orphans) {
            if let Some(slot) = self.find(&rest, items) {
                if self.published.insert(slot) && !self.covers(slot) {
                    self.outbox.push(slot);
                }
            } else if may_come(&rest) {
                waiting.push(rest);
            } else {
                self.clears.push_back(rest);
            }
        }
        self.orphans = waiting;
    }

    /// Whether [`Outlet::settle`] has something to do.
    pub fn is_unsettled(&self) -> bool {
        self.link == Link::Up && !self.orphans.is_empty()
    }

    /// Whether [`Outlet::settle`] has something to do that waits for nothing but the time.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.is_unsettled() && self.settle_by.is_some_and(|at| at <= now)
    }

    /// The broker is lost. Gives the slots that waited and that nobody must be told of any more.
    pub fn disconnected(&mut self, items: &Items) -> Vec<SlotId> {
        self.link = Link::Down;
        self.refresh = None;
        self.urgent.clear();
        self.orphans.clear();
        self.settle_by = None;
        self.clears.clear();
        self.again_at = None;
        self.watched = false;
        self.answers.clear();
        self.forced.clear();
        self.heartbeat_at = None;
        self.stats_at = None;
        if let Some(board) = &mut self.board {
            board.disconnected();
        }
        let waited = self.outbox.clear();
        let told = |slot: &SlotId| {
            !self.published.contains(*slot)
                && items
                    .get(*slot)
                    .is_some_and(|item| matches!(item.life, Life::Gone { .. }))
        };
        waited.into_iter().filter(told).collect()
    }

    /// The bridge ends: everything is taken back (§4.9).
    pub fn end(&mut self) {
        self.ending = true;
        self.leave();
    }

    /// The device says what clients may do, to brokers that follow it (§8). Tells whether that is new
    /// here. Without access everything is taken back, as at the end; the link closes then.
    pub fn device_says(&mut self, now: Instant, access: Access, items: &Items) -> bool {
        let was_off = self.gate.access() == Access::Off;
        if !self.gate.device_says(access) {
            return false;
        }
        self.update_wanted();
        if access == Access::Off {
            self.leave();
        } else if was_off && self.link == Link::Up && !self.ending {
            // It was about to leave, and stays: all it took back comes again, behind that.
            for control in [Control::Online, Control::Serial, Control::KeepAlive] {
                self.outbox.push_control(control);
            }
            if self.interest.is_alive() {
                self.publish_all(items);
                self.outbox.push_control(Control::Completed(None));
                self.heartbeat_at.get_or_insert(now);
            }
        }
        true
    }

    fn leave(&mut self) {
        self.update_wanted();
        self.urgent.clear();
        self.answers.clear();
        self.heartbeat_at = None;
        if self.link == Link::Down {
            return;
        }
        self.link = Link::Up;
        let published: Vec<_> = self.published.iter().collect();
        for slot in published {
            self.outbox.push(slot);
        }
        if self.config.retain {
            self.outbox.push_control(Control::NoKeepAlive);
        }
        self.outbox.push_control(Control::Offline);
    }

    // Items.

    /// The live item that has this topic here.
    pub fn find(&self, rest: &str, items: &Items) -> Option<SlotId> {
        let is_called_so = |slot: &SlotId| self.fit.topic(*slot).is_none_or(|topic| topic == rest);
        let renamed = || self.fit.find(rest).filter(|slot| items.is_live(*slot));
        (items.find_topic(rest).filter(is_called_so)).or_else(renamed)
    }

    /// A topic made the broker close the connection: it is left out until then (§4.12).
    pub fn leave_out(&mut self, topic: &str, until: Instant, items: &Items) {
        let rest = topic.strip_prefix(&*self.prefix);
        if matches!(rest, Some(topic::SERIAL | topic::STATUS | topic::KEEPALIVE)) {
            return;
        }
        self.tally.left_out += 1;
        let Some(rest) = rest else {
            return self.fit.ban(topic, None, until);
        };
        let slot = items.find_gone_topic(rest).or_else(|| self.fit.find(rest));
        self.fit.ban(rest, slot, until);
        self.gate.close();
        if let Some(slot) = slot {
            self.gate.hide(slot);
            self.covered.set(slot, 0);
            if items.is_live(slot) {
                self.published.remove(slot);
            }
        }
        self.update_wanted();
    }

    /// Tries again what was left out for long enough.
    pub(in crate::bridge) fn take_in(&mut self, now: Instant, items: &Items) {
        for rest in self.fit.returning(now) {
            let Some(slot) = self.find(&rest, items) else {
                continue;
            };
            let Some(item) = items.get(slot) else {
                continue;
            };
            self.fit.holds(slot);
            self.added(slot, items.device_key(item.device), items.path(item));
            self.changed(slot);
        }
    }

    /// An item is new, or back.
    pub fn added(&mut self, slot: SlotId, key: &str, path: &str) {
        self.gate.added(slot, key, path);
        if let Err(why) = self.fit.added(slot, &self.prefix, key, path) {
            self.gate.hide(slot);
            if let Some(why) = why {
                self.tally.left_out += 1;
                self.report_left_out(&[key, path].concat(), why);
            }
        }
        if self.interest.is_selective() && !self.gate.hides(slot) {
            let filters = self.interest.filters();
            let count = filters.filter(|filter| filter.matches(key, path)).count();
            self.covered
                .set(slot, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    fn report_left_out(&self, rest: &str, why: Misfit) {
        let rest = rest.escape_debug().take(200).collect::<String>();
        match self.tally.left_out {
            ..LEFT_OUT_SHOWN => warn!("{}: {rest} is left out: {why}", self.config.name),
            LEFT_OUT_SHOWN => warn!(
                "{}: {rest} is left out: {why}; further ones are not shown",
                self.config.name
            ),
            _ => debug!("{}: {rest} is left out: {why}", self.config.name),
        }
    }

    /// An item is gone. Tells whether this broker must still be told, or has it in its outbox.
    pub fn gone(&mut self, slot: SlotId) -> bool {
        self.forced.remove(slot);
        let published = self.published.contains(slot);
        if published && self.link == Link::Up {
            self.outbox.push(slot);
        }
        published || self.outbox.contains(slot)
    }

    /// A slot is free, and may be another item's soon.
    pub fn released(&mut self, slot: SlotId) {
        self.gate.released(slot);
        self.fit.released(slot);
        self.covered.set(slot, 0);
        self.forced.remove(slot);
        self.published.remove(slot);
    }

    // What to send.

    /// What comes next.
    #[inline]
    pub fn next(&mut self) -> Option<Entry> {
        if let Some(control) = self.urgent.pop_front() {
            return Some(Entry::Control(control));
        }
        if self.link != Link::Up {
            return None;
        }
        if !self.clears.is_empty() {
            // However many there are, values do not wait for them, nor they for values.
            self.clears_next ^= true;
            if self.clears_next || self.outbox.is_empty() {
                let rest = self.clears.pop_front()?;
                return Some(Entry::Control(Control::Clear(rest)));
            }
        }
        self.outbox.pop()
    }

    /// What is to be done about an item whose turn has come.
    #[inline]
    pub fn verdict(
        &mut self,
        slot: SlotId,
        item: &Item,
        has_value: impl FnOnce() -> bool,
    ) -> Verdict {
        let always = item.rule.publish == Publish::PortalId;
        if item.life == Life::Live {
            let forced = self.forced.remove(slot);
            if (forced && !self.is_leaving() && !self.gate.hides(slot)) || self.covers(slot) {
                if !has_value() {
                    // Its value is too long to be kept: no value is better than a stale one.
                    return self.unpublish(slot, always);
                }
                self.published.insert(slot);
                self.tally.published += 1;
                return Verdict::Publish {
                    retain: self.config.retain || always,
                };
            }
            if !self.config.retain && !self.is_leaving() {
                return Verdict::Nothing;
            }
        }
        self.unpublish(slot, always)
    }

    fn unpublish(&mut self, slot: SlotId, always: bool) -> Verdict {
        if self.published.remove(slot) && !always && !self.fit.refuses(slot) {
            self.tally.published += 1;
            return Verdict::Unpublish {
                retain: self.config.retain,
            };
        }
        Verdict::Nothing
    }

    /// Queues what is published, but wanted no more, to be taken back (§4.5).
    fn sweep(&mut self) {
        if !self.config.retain || self.link != Link::Up {
            return;
        }
        let unwanted: Vec<_> = self
            .published
            .iter()
            .filter(|slot| !self.covers(*slot))
            .collect();
        for slot in unwanted {
            self.outbox.push(slot);
        }
    }

    // Requests: more in `requests`.

    /// Answers what can be answered, in the order of the requests.
    pub fn advance(&mut self, now: Instant, items: &Items) {
        if self.link != Link::Up {
            return;
        }
        // Beyond that they wait where they are counted, and new ones are refused.
        while self.outbox.answers() < ANSWERS_MAX
            && let Some(answer) = self.answers.next(now, self.outbox.completions() == 0)
        {
            match answer {
                // An answer of its own, even where the item waits in a republish already: a client
                // may drop all that comes before it.
                Answer::Items(found) if found.len() == 1 => {
                    for item in found {
                        self.outbox.push_answer(Control::Answer(item));
                    }
                }
                Answer::Items(found) => {
                    for item in found.into_iter().filter(|item| items.is_there(*item)) {
                        if self.config.answers_first {
                            self.outbox.push_answer(Control::Answer(item));
                        } else {
                            self.force(item.slot);
                        }
                    }
                }
                Answer::Serial => self.outbox.push_answer(Control::Serial),
                Answer::Respond(response) => {
                    self.outbox.push_answer(Control::Respond(response));
                }
                Answer::Everything(echoes) => {
                    self.publish_all(items);
                    for echo in echoes {
                        self.outbox.push_control(Control::Completed(echo));
                    }
                }
            }
        }
    }

    /// Queues every item: first those that tell what a device is (§5.5).
    fn publish_all(&mut self, items: &Items) {
        let identifying =
            |slot: &SlotId| items.get(*slot).is_some_and(|item| item.rule.identifying);
        let gate = &self.gate;
        let shown = |slot: &SlotId| !gate.hides(*slot);
        for slot in items.all().filter(identifying).filter(shown) {
            self.outbox.push(slot);
        }
        for slot in items.all().filter(shown) {
            self.outbox.push(slot);
        }
    }
}

#[cfg(test)]
mod tests;
