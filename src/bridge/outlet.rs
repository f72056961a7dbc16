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

use super::answers::{Answer, Answers};
use super::bits::Bits;
use super::board::{Board, DiscoveryConfig};
use super::cache::SlotId;
use super::filter::{Filter, Path};
use super::interest::{HEARTBEAT, Interest};
use super::items::{Item, Items, Life};
use super::outbox::{Control, Entry, Outbox};
use crate::model::topic;
use crate::schema::rule::Publish;

/// How many retained topics without an item are remembered until the scans are done.
const ORPHANS_MAX: usize = 100_000;
/// How many messages that are no items may wait; answers beyond share their item's place.
const CONTROLS_MAX: usize = 4096;

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
    /// Home Assistant, where it is set up by us, or was.
    pub discovery: Option<DiscoveryConfig>,
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
    link: Link,
    interest: Interest,
    outbox: Outbox,
    /// Goes before the outbox, and also while the link is reading back.
    urgent: VecDeque<Control>,
    /// What the broker, or its clients, have of us.
    published: Bits,
    /// What the filters of selective keep-alives match.
    covered: Bits,
    /// What a read asked for: published once, whatever the interest.
    forced: Bits,
    answers: Answers,
    heartbeat_at: Option<Instant>,
    /// Retained topics that no item has, until the scans are done (§4.9).
    orphans: Vec<Box<str>>,
    ending: bool,
    /// What the broker holds for Home Assistant.
    pub(super) board: Option<Board>,
}

impl Outlet {
    /// An outlet whose broker is not connected.
    pub fn new(config: OutletConfig) -> Outlet {
        let board = config.discovery.clone().map(Board::new);
        // Home Assistant sends no keep-alives.
        let endless = board.as_ref().is_some_and(Board::is_enabled);
        let keep_alive = config.keep_alive.filter(|_| !endless);
        Outlet {
            link: Link::Down,
            interest: Interest::new(keep_alive, config.filters_max),
            outbox: Outbox::default(),
            urgent: VecDeque::new(),
            published: Bits::default(),
            covered: Bits::default(),
            forced: Bits::default(),
            answers: Answers::default(),
            heartbeat_at: None,
            orphans: Vec::new(),
            ending: false,
            board,
            config,
        }
    }

    /// The broker's name, for the log.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether notifications are retained.
    pub fn retains(&self) -> bool {
        self.config.retain
    }

    /// Whether the slot's changes are wanted.
    #[inline]
    pub fn covers(&self, slot: SlotId) -> bool {
        !self.ending
            && (self.interest.is_general()
                || (self.interest.is_selective() && self.covered.contains(slot)))
    }

    /// Whether the broker is connected and has been read back.
    pub fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Whether the broker is connected.
    pub fn is_connected(&self) -> bool {
        self.link != Link::Down
    }

    /// Whether the bridge ends.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Puts a message that is no item at the end of what waits.
    pub fn queue(&mut self, control: Control) {
        self.outbox.push_control(control);
    }

    /// Whether anything can be sent.
    pub fn has_work(&self) -> bool {
        !self.urgent.is_empty() || (self.link == Link::Up && !self.outbox.is_empty())
    }

    /// An item changed.
    #[inline]
    pub fn changed(&mut self, slot: SlotId) {
        // While it is read back, nothing waits: everything wanted is queued when that is over.
        if self.link == Link::Up && self.covers(slot) {
            self.outbox.push(slot);
        }
    }

    // Connection.

    /// The broker is connected: what is published on every connect (§4.2, §4.10).
    pub fn connected(&mut self) {
        self.link = Link::Reading;
        self.urgent
            .extend([Control::Online, Control::Serial, Control::KeepAlive]);
    }

    /// The broker told one of the topics that it retains, without `N/<portal>/` (§4.9).
    pub fn retained(&mut self, rest: &str, items: &Items) {
        if matches!(rest, topic::SERIAL | topic::KEEPALIVE | topic::STATUS) {
            return;
        }
        match find(rest, items) {
            Some(slot) => {
                self.published.insert(slot);
            }
            None if self.orphans.len() < ORPHANS_MAX => self.orphans.push(rest.into()),
            None => {}
        }
    }

    /// The broker has told all that it retains, or there was nothing to ask for. `settled` where
    /// all scans are done: what has no item then is cleared before anything is published.
    pub fn ready(&mut self, now: Instant, items: &Items, settled: bool) {
        if self.link != Link::Reading {
            return;
        }
        self.link = Link::Up;
        if settled {
            self.settle(items);
        }
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
                self.answers.ask_republish(None);
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

    /// The scans are done: retained topics that still have no item are cleared (§4.9).
    pub fn settle(&mut self, items: &Items) {
        if self.link != Link::Up || self.orphans.is_empty() {
            return;
        }
        for rest in std::mem::take(&mut self.orphans) {
            if let Some(slot) = find(&rest, items) {
                if self.published.insert(slot) && !self.covers(slot) {
                    self.outbox.push(slot);
                }
            } else {
                self.outbox.push_control(Control::Clear(rest));
            }
        }
    }

    /// Whether [`Outlet::settle`] has something to do.
    pub fn is_unsettled(&self) -> bool {
        self.link == Link::Up && !self.orphans.is_empty()
    }

    /// The broker is lost. Gives the slots that waited and that nobody must be told of any more.
    pub fn disconnected(&mut self, items: &Items) -> Vec<SlotId> {
        self.link = Link::Down;
        self.urgent.clear();
        self.orphans.clear();
        self.answers.clear();
        self.forced.clear();
        self.heartbeat_at = None;
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

    /// An item is new, or back.
    pub fn added(&mut self, slot: SlotId, key: &str, path: &str) {
        if self
            .interest
            .filters()
            .any(|filter| filter.matches(key, path))
        {
            self.covered.insert(slot);
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
        self.covered.remove(slot);
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
        if self.link == Link::Up {
            self.outbox.pop()
        } else {
            None
        }
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
            if (forced && !self.ending) || self.covers(slot) {
                if !has_value() {
                    return Verdict::Nothing;
                }
                self.published.insert(slot);
                return Verdict::Publish {
                    retain: self.config.retain || always,
                };
            }
            if !self.config.retain && !self.ending {
                return Verdict::Nothing;
            }
        }
        if self.published.remove(slot) && !always {
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

    // Requests.

    /// A request renews the general interest; one that only reads or writes does not where only
    /// selective interests are live (§5.1). What that wakes is queued behind the request itself.
    pub fn renew(&mut self, now: Instant, keep_alive: bool) -> bool {
        if !keep_alive && !self.interest.is_general() && self.interest.is_selective() {
            return false;
        }
        let woke = self.interest.renew(now);
        if woke && self.link == Link::Up {
            self.heartbeat_at.get_or_insert(now);
        }
        woke
    }

    /// Renews a selective interest; what new filters match is published once (§5.4).
    pub fn renew_selective(
        &mut self,
        now: Instant,
        filters: Vec<Box<str>>,
        items: &Items,
    ) -> super::interest::Renewed {
        let renewed = self.interest.renew_selective(now, filters);
        for filter in &renewed.new {
            matching(items, filter, |slot| {
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

    /// The requests that wait for their turn.
    pub fn answers(&mut self) -> &mut Answers {
        &mut self.answers
    }

    /// Has an item published once, whatever the interest.
    pub fn allow(&mut self, slot: SlotId) {
        self.forced.insert(slot);
    }

    /// Queues an item to be published once, whatever the interest.
    fn force(&mut self, slot: SlotId) {
        if self.link == Link::Up {
            self.forced.insert(slot);
            self.outbox.push(slot);
        }
    }

    /// Answers what can be answered, in the order of the requests.
    pub fn advance(&mut self, now: Instant, items: &Items) {
        if self.link != Link::Up {
            return;
        }
        while let Some(answer) = self.answers.next(now) {
            match answer {
                // An answer of its own, even where the item waits in a republish already: a client
                // may drop all that comes before it.
                Answer::Items(found)
                    if found.len() == 1 && self.outbox.controls() < CONTROLS_MAX =>
                {
                    for item in found {
                        self.outbox.push_control(Control::Answer(item));
                    }
                }
                Answer::Items(found) => {
                    for item in found.into_iter().filter(|item| items.is_there(*item)) {
                        self.force(item.slot);
                    }
                }
                Answer::Serial => self.outbox.push_control(Control::Serial),
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
        for slot in items.all().filter(identifying) {
            self.outbox.push(slot);
        }
        for slot in items.all() {
            self.outbox.push(slot);
        }
    }

    // Time.

    /// When [`Outlet::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let board = self.board.as_ref().filter(|_| self.is_up());
        [
            self.interest.deadline(),
            self.heartbeat_at,
            self.answers.deadline(),
            board.and_then(Board::deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, items: &Items) {
        let expired = self.interest.expire(now);
        if expired.selective {
            self.covered.clear();
            let covered = &mut self.covered;
            for filter in self.interest.filters() {
                matching(items, filter, |slot| {
                    covered.insert(slot);
                });
            }
        }
        if expired.general || expired.selective {
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
        }
        self.advance(now, items);
    }
}

/// The live slot of the topic without `N/<portal>/`.
fn find(rest: &str, items: &Items) -> Option<SlotId> {
    let (at, _) = rest.match_indices('/').nth(1)?;
    let (key, path) = rest.split_at_checked(at)?;
    let slot = items.find(items.find_device(key)?, path)?;
    items.is_live(slot).then_some(slot)
}

/// The live slots that a filter matches: by device, and by one look where the filter names the path.
fn matching(items: &Items, filter: &Filter, mut found: impl FnMut(SlotId)) {
    for device in items.devices() {
        match filter.of_device(items.device_key(device)) {
            None => {}
            Some(Path::One(path)) => {
                if let Some(slot) = items.find(device, path).filter(|slot| items.is_live(*slot)) {
                    found(slot);
                }
            }
            Some(path) => {
                let wanted = |slot: &SlotId| {
                    items
                        .get(*slot)
                        .is_some_and(|item| path.matches(items.path(item)))
                };
                items.slots(device).filter(wanted).for_each(&mut found);
            }
        }
    }
}
