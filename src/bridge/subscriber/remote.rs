//! A broker that we connect to: what it is besides a [`Subscriber`] that reads the cache.
//!
//! ```text
//!          connected               read back, or nothing to read back
//! Closed ───────────▶ CatchingUp ─────────────────────────────────────▶ Open
//! ```
//!
//! A broker keeps what it was sent, and others may publish there too. So what it holds of ours is known
//! (`published`) and read back on every connect, and it is cleared when it goes (§4.5, §4.6, §4.9);
//! topics that no item has are cleared (`orphans`); it is told whether the bridge is there (§4.10); and
//! some of our topics may not fit it (§4.12).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::Subscriber;
use super::batch::BatchConfig;
use super::client::Direct;
use super::corrections::Corrections;
use super::discovery_state::{DiscoveryConfig, DiscoveryState};
use super::fit::Fit;
use super::gate::{Admission, Gate};
use super::interest::Renewed;
use super::outbox::{Control, Entry};
use super::refresh::Refresh;
use super::tally::{BrokerStats, Tally};
use crate::bridge::bus::registry::Unscanned;
use crate::bridge::store::bits::Bits;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::ids::BrokerId;
use crate::bridge::store::items::{Item, Items, Life};
use crate::bridge::store::marks::Marks;
use crate::model::access::{Access, AccessRule};
use crate::model::counts::ClientCounts;
use crate::model::filter::Lists;
use crate::model::throttle::ThrottleRule;
use crate::model::topic::{self, Misfit, TopicRules};
use crate::schema::rule::Publish;

/// How many retained topics without an item are remembered until the scans are done.
const ORPHANS_MAX: usize = 100_000;
/// How long they wait for services that are not scanned yet: longer than any that answers at all takes.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How many topics that do not fit are shown in the log, if not at the level of debug.
const LEFT_OUT_SHOWN: u64 = 10;
/// How often a device that is not watched says who and what it is.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// All brokers that we connect to. They are there from the start to the end.
#[derive(Debug)]
pub struct Outlets {
    all: Vec<Outlet>,
    /// What the thread that serves clients of listeners is to know, where there is one (§9).
    pub direct: Option<Direct>,
    /// What a number stands for that no broker has: a mistake of ours, and a broker that never connects.
    nobody: Box<Outlet>,
}

impl Outlets {
    /// Brokers that are not connected. `prefix` is `N/<portal id>/`.
    pub fn new(configs: &[OutletConfig], prefix: &str) -> Outlets {
        let all = configs.iter().cloned();
        Outlets {
            all: all.map(|config| Outlet::new(config, prefix)).collect(),
            direct: None,
            nobody: Box::new(Outlet::new(OutletConfig::nobody(), prefix)),
        }
    }

    /// Listeners follow the brokers: their clients are connected to the bridge itself (§9).
    pub fn listen(&mut self, configs: Vec<OutletConfig>, prefix: &str, marks: Arc<Marks>) {
        let listeners = configs.into_iter();
        self.all
            .extend(listeners.map(|config| Outlet::direct(config, prefix)));
        self.direct = Some(Direct::new(marks));
    }

    /// The broker of a number. That there is one is asserted in debug builds.
    pub fn at(&self, id: BrokerId) -> &Outlet {
        let found = self.all.get(id.index());
        debug_assert!(found.is_some(), "no broker has the number {}", id.index());
        found.unwrap_or(&self.nobody)
    }

    /// The same, to be changed.
    #[inline]
    pub fn at_mut(&mut self, id: BrokerId) -> &mut Outlet {
        let found = self.all.get_mut(id.index());
        debug_assert!(found.is_some(), "no broker has the number {}", id.index());
        found.unwrap_or(&mut self.nobody)
    }

    /// All numbers.
    pub fn ids(&self) -> impl Iterator<Item = BrokerId> + use<> {
        (0..self.all.len()).map(BrokerId::from)
    }

    /// All brokers.
    pub fn iter(&self) -> std::slice::Iter<'_, Outlet> {
        self.all.iter()
    }

    /// All brokers with their numbers, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = (BrokerId, &mut Outlet)> {
        let all = self.all.iter_mut().enumerate();
        all.map(|(index, outlet)| (BrokerId::from(index), outlet))
    }

    /// All brokers, to be changed.
    #[inline]
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Outlet> {
        self.all.iter_mut()
    }
}

/// What an outlet is told at the start.
#[derive(Debug, Clone)]
pub struct OutletConfig {
    /// The broker's name, for the log.
    pub name: Box<str>,
    /// Whether notifications are retained (§4.1).
    pub retain: bool,
    /// How long a request keeps data flowing; `None`: always (§5.1).
    pub keep_alive: Option<Duration>,
    /// How many filters of selective keep-alives may be live.
    pub filters_max: usize,
    /// Stands before every topic: empty, or ends in `/` (§8).
    pub prefix: Box<str>,
    /// What its clients may do (§8).
    pub access: AccessRule,
    /// What may be published there, read and written from there (§8).
    pub lists: Lists,
    /// Whether answers to requests go before values: where values may have to wait long (§4.13).
    pub answers_first: bool,
    /// Which values go out less often than they change.
    pub throttle: Vec<ThrottleRule>,
    /// Whether values go out in batches, and how.
    pub batch: Option<BatchConfig>,
    /// What topics it takes (§4.12).
    pub topics: TopicRules,
    /// Home Assistant, where it is set up by us, or was.
    pub discovery: Option<DiscoveryConfig>,
}

impl OutletConfig {
    /// A broker that never connects, and whose clients may have nothing.
    fn nobody() -> OutletConfig {
        OutletConfig {
            name: "nobody".into(),
            retain: false,
            keep_alive: None,
            filters_max: 0,
            prefix: "".into(),
            access: AccessRule::Always(Access::Off),
            lists: Lists::default(),
            answers_first: false,
            throttle: Vec::new(),
            batch: None,
            topics: TopicRules::default(),
            discovery: None,
        }
    }

    /// How long a request keeps data flowing; `None`: always, also because Home Assistant sends none.
    pub(in crate::bridge) fn keep_alive_wanted(&self) -> Option<Duration> {
        let endless = self.discovery.as_ref().is_some_and(|home| home.enabled);
        self.keep_alive.filter(|_| !endless)
    }
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
    /// What it reads, and how.
    pub(in crate::bridge) subscriber: Subscriber,
    pub(in crate::bridge) fit: Fit,
    /// Whether values are retained: not where only answers to requests have topics.
    retains_values: bool,
    /// What the broker, or its clients, have of us.
    published: Bits,
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
    /// How often, and when next, the bridge tells of itself.
    stats: Option<Duration>,
    stats_at: Option<Instant>,
    /// What was done for it.
    pub(in crate::bridge) tally: Tally,
    /// What the broker holds for Home Assistant.
    pub(in crate::bridge) board: Option<DiscoveryState>,
}

impl Outlet {
    /// An outlet whose broker is not connected.
    pub fn new(config: OutletConfig, prefix: &str) -> Outlet {
        let board = config.discovery.clone().map(DiscoveryState::new);
        let keep_alive = config.keep_alive_wanted();
        let mut gate = Gate::new(config.access, config.lists.clone());
        let fit = Fit::new(config.topics.clone());
        if !fit.is_open() {
            gate.close();
        }
        let (filters_max, answers_first) = (config.filters_max, config.answers_first);
        let mut subscriber = Subscriber::new(gate, keep_alive, filters_max, answers_first);
        subscriber.throttle(&config.throttle);
        subscriber.batch(config.batch);
        let retains_values = config.retain && subscriber.has_topics();
        Outlet {
            prefix: [&*config.prefix, prefix].concat().into(),
            subscriber,
            retains_values,
            fit,
            published: Bits::default(),
            expiry: None,
            refresh: None,
            orphans: Vec::new(),
            settle_by: None,
            clears: VecDeque::new(),
            clears_next: false,
            again_at: None,
            watched: false,
            corrections: Corrections::default(),
            stats: None,
            stats_at: None,
            tally: Tally::default(),
            board,
            config,
        }
    }

    /// A listener: its clients are connected to the bridge itself (§9).
    fn direct(config: OutletConfig, prefix: &str) -> Outlet {
        let mut outlet = Outlet::new(
            OutletConfig {
                keep_alive: None,
                ..config.clone()
            },
            prefix,
        );
        outlet.config = config;
        outlet.subscriber.serve_directly();
        outlet.tally.clients = Some(ClientCounts::default());
        for control in [Control::Online, Control::Serial, Control::KeepAlive] {
            outlet.subscriber.queue(control);
        }
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

    /// The broker's name, for the log.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What was done for it.
    pub fn stats(&self) -> BrokerStats<'_> {
        BrokerStats {
            name: self.name(),
            connected: self.subscriber.is_connected(),
            conflated: self.subscriber.conflated,
            tally: &self.tally,
        }
    }

    /// How long a request keeps data flowing; `None`: always.
    pub fn keep_alive(&self) -> Option<Duration> {
        self.config.keep_alive_wanted()
    }

    /// Whether notifications are retained.
    pub fn retains(&self) -> bool {
        self.config.retain
    }

    /// The broker has something for an item that is not right: its value is sent, or taken back where
    /// nobody wants it.
    pub fn put_right(&mut self, slot: SlotId) {
        self.published.insert(slot);
        self.subscriber.push(slot);
    }

    /// Whether anything can be sent.
    pub fn has_work(&self) -> bool {
        !self.subscriber.is_idle() || (self.subscriber.is_open() && !self.clears.is_empty())
    }

    // Connection.

    /// The broker is connected: what is published on every connect (§4.2, §4.10).
    pub fn connected(&mut self) {
        if self.subscriber.is_leaving() {
            return;
        }
        self.tally.connections += 1;
        self.subscriber.opened();
        for control in [Control::Online, Control::Serial, Control::KeepAlive] {
            self.subscriber.hurry(control);
        }
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
        if watched && !self.subscriber.is_leaving() {
            self.subscriber.hurry(Control::Online);
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
                if self.subscriber.is_open() && !self.subscriber.covers(slot) {
                    self.subscriber.push(slot);
                }
            }
            None if self.orphans.len() < ORPHANS_MAX => self.orphans.push(rest.into()),
            None => {}
        }
    }

    /// The broker has told all that it retains, or there was nothing to ask for. What no item can be any
    /// more is cleared before anything is published.
    pub fn ready(&mut self, now: Instant, items: &Items, unscanned: &Unscanned<'_>) {
        if !self.subscriber.is_catching_up() {
            return;
        }
        self.subscriber.ready();
        self.again_at = (!self.watched).then(|| now + SAY_AGAIN);
        self.refresh = self.expiry.map(|expiry| Refresh::new(expiry, now));
        self.settle(now, items, unscanned);
        // What left while the broker was away, and what nobody asks for any more.
        for slot in items
            .all_gone()
            .filter(|slot| self.published.contains(*slot))
        {
            self.subscriber.push(slot);
        }
        self.sweep();
        self.subscriber.queue_wanted(now, items);
    }

    /// Clears the retained topics that no item has and that no service can bring any more (§4.9). One
    /// service that answers slowly holds up only those of its own type, and those not forever.
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
                if self.published.insert(slot) && !self.subscriber.covers(slot) {
                    self.subscriber.push(slot);
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
        self.subscriber.is_open() && !self.orphans.is_empty()
    }

    /// Whether [`Outlet::settle`] has something to do that waits for nothing but the time.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.is_unsettled() && self.settle_by.is_some_and(|at| at <= now)
    }

    /// The broker is lost. Gives the slots that waited and that nobody must be told of any more.
    pub fn disconnected(&mut self, items: &Items) -> Vec<SlotId> {
        self.refresh = None;
        self.orphans.clear();
        self.settle_by = None;
        self.clears.clear();
        self.again_at = None;
        self.watched = false;
        self.stats_at = None;
        if let Some(board) = &mut self.board {
            board.disconnected();
        }
        let waited = self.subscriber.closed();
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
        self.subscriber.end();
        self.leave();
    }

    /// The device says what clients may do, to brokers that follow it (§8). Tells whether that is new
    /// here. Without access everything is taken back, as at the end; the link closes then.
    pub fn device_says(&mut self, now: Instant, access: Access, items: &Items) -> bool {
        let was_off = self.subscriber.gate().access() == Access::Off;
        if !self.subscriber.gate_mut().device_says(access) {
            return false;
        }
        self.access_changed(now, was_off, items);
        true
    }

    /// A listener's clients may do what these settings say, from now on. Tells whether their access is
    /// another.
    pub fn admit(
        &mut self,
        now: Instant,
        admission: Admission,
        device_says: Access,
        items: &Items,
    ) -> bool {
        if self.subscriber.gate().is(&admission) {
            return false;
        }
        let was_off = self.subscriber.gate().access() == Access::Off;
        let has_changed = self.subscriber.gate_mut().admit(admission, device_says);
        for slot in items.all() {
            if let Some(item) = items.get(slot) {
                let (key, path) = (items.device_key(item.device), items.path(item));
                self.subscriber.gate_mut().added(slot, key, path);
            }
        }
        if has_changed {
            self.access_changed(now, was_off, items);
        }
        has_changed
    }

    /// What its clients may do is another.
    fn access_changed(&mut self, now: Instant, was_off: bool, items: &Items) {
        let subscriber = &mut self.subscriber;
        subscriber.update_wanted();
        if subscriber.gate().access() == Access::Off {
            self.leave();
        } else if was_off && subscriber.is_open() && !subscriber.is_ending() {
            // It was about to leave, and stays: all it took back comes again, behind that.
            for control in [Control::Online, Control::Serial, Control::KeepAlive] {
                subscriber.queue(control);
            }
            if subscriber.interest().is_alive() {
                subscriber.publish_all(items);
                subscriber.queue(Control::Completed(None));
                subscriber.start_heartbeat(now);
            }
        }
    }

    fn leave(&mut self) {
        self.subscriber.leave();
        if !self.subscriber.is_connected() {
            return;
        }
        let published: Vec<_> = self.published.iter().collect();
        for slot in published {
            self.subscriber.push(slot);
        }
        if self.config.retain {
            self.subscriber.queue(Control::NoKeepAlive);
        }
        self.subscriber.queue(Control::Offline);
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
        self.subscriber.gate_mut().close();
        if let Some(slot) = slot {
            self.subscriber.hide(slot);
            if items.is_live(slot) {
                self.published.remove(slot);
            }
        }
        self.subscriber.update_wanted();
    }

    /// Tries again what was left out for long enough.
    pub(in crate::bridge) fn take_in(&mut self, now: Instant, items: &Items) {
        for rest in self.fit.returning(now) {
            let Some(slot) = self.find(&rest, items) else {
                continue;
            };
            let item = items.at(slot);
            self.fit.holds(slot);
            self.added(slot, items.device_key(item.device), items.path(item));
            self.subscriber.changed(slot);
        }
    }

    /// An item is new, or back.
    pub fn added(&mut self, slot: SlotId, key: &str, path: &str) {
        self.subscriber.gate_mut().added(slot, key, path);
        if let Err(why) = self.fit.added(slot, &self.prefix, key, path) {
            self.subscriber.hide_misfit(slot);
            if let Some(why) = why {
                self.tally.left_out += 1;
                self.report_left_out(&[key, path].concat(), why);
            }
        }
        self.subscriber.added(slot, key, path);
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
    pub fn gone(&mut self, slot: SlotId, items: &Items) -> bool {
        self.subscriber.gone(slot, items);
        let published = self.published.contains(slot);
        if published && self.subscriber.is_open() {
            self.subscriber.push(slot);
        }
        published || self.subscriber.is_pending(slot)
    }

    /// A slot is free, and may be another item's soon.
    pub fn released(&mut self, slot: SlotId) {
        self.subscriber.released(slot);
        self.fit.released(slot);
        self.published.remove(slot);
    }

    // What to send.

    /// What comes next.
    #[inline]
    pub fn next(&mut self) -> Option<Entry> {
        // Nearly always items wait, and nothing else: one look at all that may go before them.
        if self.subscriber.has_first() | !self.clears.is_empty() {
            return self.next_of_all();
        }
        if !self.subscriber.is_open() {
            return None;
        }
        self.subscriber.next_in_turn()
    }

    #[cold]
    #[inline(never)]
    fn next_of_all(&mut self) -> Option<Entry> {
        if let Some(control) = self.subscriber.next_urgent() {
            return Some(Entry::Control(control));
        }
        if !self.subscriber.is_open() {
            return None;
        }
        if !self.clears.is_empty() {
            // However many there are, values do not wait for them, nor they for values.
            self.clears_next ^= true;
            if self.clears_next || self.subscriber.has_nothing_pending() {
                let rest = self.clears.pop_front()?;
                return Some(Entry::Control(Control::Clear(rest)));
            }
        }
        self.subscriber.next_pending()
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
            if self.subscriber.takes(slot) {
                if !has_value() {
                    // Its value is too long to be kept: no value is better than a stale one.
                    return self.unpublish(slot, always);
                }
                self.published.insert(slot);
                self.tally.published += 1;
                return Verdict::Publish {
                    retain: self.retains_values || always,
                };
            }
            if !self.config.retain && !self.subscriber.is_leaving() {
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
        if !self.config.retain || !self.subscriber.is_open() {
            return;
        }
        let unwanted: Vec<_> = self
            .published
            .iter()
            .filter(|slot| !self.subscriber.covers(*slot))
            .collect();
        for slot in unwanted {
            self.subscriber.push(slot);
        }
    }

    // Requests.

    /// Changes how long a request keeps data flowing; what that wakes is published.
    pub fn set_keep_alive(&mut self, now: Instant, keep_alive: Option<Duration>, items: &Items) {
        self.config.keep_alive = keep_alive;
        let keep_alive = self.config.keep_alive_wanted();
        self.subscriber.set_keep_alive(now, keep_alive, items);
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
        self.subscriber.renew_selective(now, filters, items)
    }

    /// Renews a selective interest as far as it is live.
    pub fn renew_live(&mut self, now: Instant, filters: &[Box<str>]) {
        let filters = filters.iter().map(|filter| self.relative(filter.clone()));
        let filters: Vec<Box<str>> = filters.collect();
        self.subscriber.renew_live(now, &filters);
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

    // Time.

    /// When [`Outlet::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let board = self.board.as_ref().filter(|_| self.subscriber.is_open());
        [
            self.subscriber.deadline(),
            self.settle_by,
            self.again_at,
            self.fit.deadline(),
            board.and_then(DiscoveryState::deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, items: &Items) {
        let ticked = self.subscriber.tick(now, items);
        if ticked.expired {
            self.sweep();
        }
        if ticked.heartbeat {
            self.say_again(now);
            self.tell_stats(now);
        }
        self.take_in(now, items);
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = Some(now + SAY_AGAIN);
            if !self.subscriber.is_leaving() {
                self.subscriber.hurry(Control::Online);
                self.subscriber.hurry(Control::Serial);
            }
        }
        self.subscriber.advance(now, items);
    }

    /// Queues values that the broker would forget soon.
    fn say_again(&mut self, now: Instant) {
        let Some(refresh) = &mut self.refresh else {
            return;
        };
        for slot in refresh.due(now, self.published.slots()) {
            if self.published.contains(slot) && self.subscriber.covers(slot) {
                self.subscriber.push(slot);
            }
        }
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
        if self.stats_at.is_none_or(|at| at <= now) && self.subscriber.wants_topic(topic::STATS) {
            self.stats_at = Some(now + every);
            self.subscriber.hurry(Control::Stats);
        }
    }
}

#[cfg(test)]
mod tests;
