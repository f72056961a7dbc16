//! One reader of the cache: what it covers, what is pending, in which order, and how fast (§4, §5).
//!
//! ```text
//!          opened                 ready
//! Closed ─────────▶ CatchingUp ───────────▶ Open     changed ──▶ covers? ──▶ outbox ──▶ next
//!   ▲                   │                    │       requests ──▶ answers ──▶ outbox
//!   └───────────────────┴────────────────────┘ closed
//! ```
//!
//! A [`Subscriber`] is what every reader has in common, wherever it sits: what it may have
//! ([`Gate`]), what it asks for ([`Interest`]), which items are pending ([`Outbox`]), and the answers
//! to its requests in their order ([`Answers`]). It knows no topic and no connection. A broker that we
//! connect to is one, with what we hold there besides: see [`remote`].
//!
//! Whether an item is to be sent is decided when its turn comes, from what is true then: a slow reader
//! gets the latest state, and never a history.

pub mod answers;
pub mod batch;
pub mod client;
pub mod corrections;
pub mod discovery_state;
pub mod fit;
pub mod foreign;
pub mod gate;
pub mod hold;
pub mod interest;
pub mod outbox;
pub mod rate;
pub mod refresh;
pub mod remote;
pub mod response;
pub mod sink;
pub mod tally;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::answers::{Answer, Answers, Requester};
use self::batch::{Batch, BatchConfig};
use self::gate::Gate;
use self::hold::Holds;
use self::interest::{HEARTBEAT, Interest, Renewed};
use self::outbox::{Control, Entry, Outbox};
use self::rate::Rates;
use self::response::Response;
use crate::bridge::store::bits::{Bits, Counts};
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::Items;
use crate::model::access::Access;
use crate::model::filter::Filter;
use crate::model::log_rate::{Repeats, Throttle};
use crate::model::request::Rejection;
use crate::model::throttle::ThrottleRule;

/// How many messages that are not items, and that clients have asked for, may wait.
const ANSWERS_MAX: usize = 4096;

/// Which changes are wanted. Kept, so that a change costs one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Everything,
    /// Everything that the gate does not hide.
    Shown,
    /// What filters of selective keep-alives match.
    Covered,
    /// What the interest covers, and some of that may be held back, or goes out in batches.
    Apart,
}

/// Whether the reader takes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody is there.
    Closed,
    /// It takes urgent messages only: it is told of no item before it has told what it holds.
    CatchingUp,
    Open,
}

/// One reader of the cache.
#[derive(Debug)]
pub struct Subscriber {
    gate: Gate,
    phase: Phase,
    /// Whether its clients read the cache themselves (§9): no value waits here.
    direct: bool,
    /// Whether anybody hears heartbeats, where that is known.
    heard: bool,
    /// Whether everything is being cleared, for good.
    ending: bool,
    interest: Interest,
    wanted: Wanted,
    /// How many filters of selective keep-alives match each item.
    covered: Counts,
    /// What a read asked for: published once, whatever the interest.
    forced: Bits,
    outbox: Outbox,
    /// What goes out less often than it changes, where the settings say so.
    holds: Option<Box<Holds>>,
    /// What goes out in batches, where the settings say so.
    batch: Option<Box<Batch>>,
    /// Goes before the outbox, and also while the reader catches up.
    urgent: VecDeque<Control>,
    answers: Answers,
    heartbeat_at: Option<Instant>,
    /// Changes of a value that was pending already.
    pub(in crate::bridge) conflated: u64,
    /// How many requests its clients have.
    pub(in crate::bridge) rates: Rates,
    /// What of its clients' requests is logged.
    pub(in crate::bridge) rejections: Throttle,
    pub(in crate::bridge) doubts: Throttle,
    /// What of that was said already.
    pub(in crate::bridge) repeats: Repeats,
}

/// What came of the passing of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticked {
    /// An interest has expired: less is wanted than before.
    pub expired: bool,
    /// A heartbeat was due, and is queued (§4.8).
    pub heartbeat: bool,
}

impl Subscriber {
    /// A reader that is not there yet. `keep_alive` is how long a request keeps data flowing, `None`:
    /// always; `answers_first` whether answers go before values (§4.13).
    pub fn new(
        gate: Gate,
        keep_alive: Option<Duration>,
        filters_max: usize,
        answers_first: bool,
    ) -> Subscriber {
        let mut subscriber = Subscriber {
            gate,
            phase: Phase::Closed,
            direct: false,
            heard: true,
            ending: false,
            interest: Interest::new(keep_alive, filters_max),
            wanted: Wanted::Nothing,
            covered: Counts::default(),
            forced: Bits::default(),
            outbox: Outbox::new(answers_first),
            holds: None,
            batch: None,
            urgent: VecDeque::new(),
            answers: Answers::default(),
            heartbeat_at: None,
            conflated: 0,
            rates: Rates::default(),
            rejections: Throttle::default(),
            doubts: Throttle::default(),
            repeats: Repeats::default(),
        };
        subscriber.update_wanted();
        subscriber
    }

    /// Values that these rules match go out less often than they change.
    pub fn throttle(&mut self, rules: &[ThrottleRule]) {
        self.holds = Holds::new(rules);
        self.update_wanted();
    }

    /// Values go out in batches, in addition to their topics or instead of them.
    pub fn batch(&mut self, config: Option<BatchConfig>) {
        self.batch = config.map(|config| Box::new(Batch::new(config)));
        self.update_wanted();
    }

    // Whether it is there.

    /// Its clients are connected to the bridge itself, and read the cache themselves (§9).
    pub fn serve_directly(&mut self) {
        self.direct = true;
        self.heard = false;
        self.phase = Phase::Open;
        self.update_wanted();
    }

    /// Whether that is so.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Clients listen that are connected to the bridge itself, or none does any more.
    pub fn listens(&mut self, now: Instant, listens: bool) {
        self.heard = listens;
        self.heartbeat_at = None;
        self.start_heartbeat(now);
    }

    /// Whether anybody is there to read.
    pub fn is_connected(&self) -> bool {
        self.phase != Phase::Closed
    }

    /// Whether it takes items now.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether it is there, but takes no items yet.
    pub fn is_catching_up(&self) -> bool {
        self.phase == Phase::CatchingUp
    }

    /// Somebody is there. Until [`Subscriber::ready`] it takes urgent messages only.
    pub fn opened(&mut self) {
        self.phase = Phase::CatchingUp;
    }

    /// It takes items from now on. What its interest covers is queued.
    pub fn ready(&mut self) {
        self.phase = Phase::Open;
    }

    /// Queues what the interest covers, once the reader takes items.
    pub fn queue_wanted(&mut self, now: Instant, items: &Items) {
        if self.interest.is_general() {
            if !self.answers.republish_waits() {
                self.answers.ask_republish(&Requester::Anybody, None);
            }
        } else if self.interest.is_selective() {
            self.begin_full_batch(items);
            self.queue_batch();
            if self.has_topics() {
                for slot in items.all().filter(|slot| self.covered.contains(*slot)) {
                    put(&mut self.outbox, &mut self.holds, slot);
                }
            }
        }
        self.start_heartbeat(now);
        self.advance(now, items);
    }

    /// Nobody is there any more. Gives the slots that were pending.
    pub fn closed(&mut self) -> Vec<SlotId> {
        self.phase = Phase::Closed;
        self.urgent.clear();
        self.answers.clear();
        self.forced.clear();
        self.heartbeat_at = None;
        if let Some(holds) = &mut self.holds {
            holds.closed();
        }
        if let Some(batch) = &mut self.batch {
            batch.closed();
        }
        self.outbox.clear()
    }

    // What it covers.

    /// What its clients may have.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What its clients may have, to be changed; call [`Subscriber::update_wanted`] after that.
    pub(in crate::bridge) fn gate_mut(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// What its clients ask for.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Whether everything is cleared: the bridge ends, or the reader may have nothing any more.
    pub fn is_leaving(&self) -> bool {
        self.ending || self.gate.access() == Access::Off
    }

    /// The bridge ends.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// Whether the bridge ends.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Forgets what its clients asked for: they are to have nothing any more.
    pub fn leave(&mut self) {
        self.update_wanted();
        self.urgent.clear();
        self.answers.clear();
        self.heartbeat_at = None;
        if let Some(batch) = &mut self.batch {
            batch.closed();
        }
        if self.phase == Phase::CatchingUp {
            self.phase = Phase::Open;
        }
    }

    /// After each change of what it depends on.
    pub(in crate::bridge) fn update_wanted(&mut self) {
        self.wanted = if self.is_leaving() || self.direct {
            Wanted::Nothing
        } else if (self.holds.is_some() || self.batch.is_some()) && self.interest.is_alive() {
            Wanted::Apart
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

    /// Whether the slot's changes are wanted.
    #[inline]
    pub fn covers(&self, slot: SlotId) -> bool {
        let apart = || self.has_topics() && self.is_wanted(slot);
        self.covers_at_once(slot).unwrap_or_else(apart)
    }

    /// The same, of a reader that has all that is wanted at once and in topics; `None`: it has not.
    #[inline]
    fn covers_at_once(&self, slot: SlotId) -> Option<bool> {
        match self.wanted {
            Wanted::Nothing => Some(false),
            Wanted::Everything => Some(true),
            Wanted::Shown => Some(!self.gate.hides(slot)),
            Wanted::Covered => Some(self.covered.contains(slot)),
            Wanted::Apart => None,
        }
    }

    fn is_wanted(&self, slot: SlotId) -> bool {
        if self.interest.is_general() {
            !self.gate.hides(slot)
        } else {
            self.covered.contains(slot)
        }
    }

    /// Whether the slot's changes go into batches.
    fn batches(&self, slot: SlotId) -> bool {
        self.batch.as_ref().is_some_and(|batch| {
            self.wanted == Wanted::Apart
                && (self.is_wanted(slot) || (batch.is_misfit(slot) && self.interest.is_general()))
        })
    }

    /// Whether each value has a topic, whether there are batches or not.
    pub fn has_topics(&self) -> bool {
        self.batch.as_ref().is_none_or(|batch| batch.has_topics())
    }

    /// Whether a pending item is to be sent, now that its turn has come: its changes are wanted, or a
    /// read asked for it. The latter counts once.
    #[inline]
    pub fn takes(&mut self, slot: SlotId) -> bool {
        let forced = self.forced.remove(slot);
        (forced && !self.is_leaving() && !self.gate.hides(slot)) || self.covers(slot)
    }

    /// An item is new, or back; the gate knows of it already.
    pub fn added(&mut self, slot: SlotId, key: &str, path: &str) {
        if let Some(holds) = &mut self.holds {
            holds.added(slot, key, path);
        }
        if self.interest.is_selective() && !self.gate.hides(slot) {
            let filters = self.interest.filters();
            let count = filters.filter(|filter| filter.matches(key, path)).count();
            self.covered
                .set(slot, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// The item may not be published, whatever the lists say.
    pub fn hide(&mut self, slot: SlotId) {
        self.gate.hide(slot);
        self.covered.set(slot, 0);
    }

    /// The item may not be published for its topic alone: in a batch it may.
    pub fn hide_misfit(&mut self, slot: SlotId) {
        if let Some(batch) = self.batch.as_mut().filter(|_| !self.gate.hides(slot)) {
            batch.misfit(slot);
        }
        self.gate.hide(slot);
    }

    /// An item is gone: no read asks for it any more.
    pub fn gone(&mut self, slot: SlotId, items: &Items) {
        if let Some(batch) = &mut self.batch {
            batch.gone(slot, || items.topic(items.at(slot)).into());
        }
        self.forced.remove(slot);
    }

    /// A slot is free, and may be another item's soon.
    pub fn released(&mut self, slot: SlotId) {
        self.gate.released(slot);
        self.covered.set(slot, 0);
        self.forced.remove(slot);
        if let Some(holds) = &mut self.holds {
            holds.released(slot);
        }
        if let Some(batch) = &mut self.batch {
            batch.released(slot);
        }
    }

    // What is pending, and in which order.

    /// An item changed.
    #[inline]
    pub fn changed(&mut self, slot: SlotId) {
        // While it catches up, nothing waits: everything wanted is queued when that is over.
        if self.phase != Phase::Open {
            return;
        }
        match self.covers_at_once(slot) {
            Some(true) if !self.outbox.push(slot) => self.conflated += 1,
            Some(_) => {}
            None => self.changed_apart(slot),
        }
    }

    #[cold]
    #[inline(never)]
    fn changed_apart(&mut self, slot: SlotId) {
        let (has_topic, is_batched) = (self.covers(slot), self.batches(slot));
        let may_wait = self.holds.as_ref().is_some_and(|holds| holds.has(slot));
        let is_new = if may_wait && (has_topic || is_batched) {
            self.outbox.push_held(slot)
        } else {
            if let Some(batch) = self.batch.as_mut().filter(|_| is_batched) {
                batch.changed(slot);
            }
            !has_topic || self.outbox.push(slot)
        };
        if !is_new {
            self.conflated += 1;
        }
    }

    /// Whether an item is not published, now that its turn has come: it is held back, or only goes into a
    /// batch. `number` is its value, if that is one.
    pub fn holds_back(&mut self, now: Instant, slot: SlotId, number: Option<f64>) -> bool {
        let (has_topic, is_batched) = (self.covers(slot), self.batches(slot));
        let Some(holds) = &mut self.holds else {
            return false;
        };
        if !has_topic && !is_batched {
            holds.forget(slot);
            return false;
        }
        if holds.holds_back(now, slot, number) {
            return true;
        }
        if let Some(batch) = self.batch.as_mut().filter(|_| is_batched) {
            batch.changed(slot);
        }
        !has_topic && !self.forced.contains(slot)
    }

    /// What goes out in batches.
    pub fn batch_mut(&mut self) -> Option<&mut Batch> {
        self.batch.as_deref_mut()
    }

    /// The next batch has all that is wanted.
    fn begin_full_batch(&mut self, items: &Items) {
        let Some(mut batch) = self.batch.take() else {
            return;
        };
        let is_misfit = |slot: SlotId| self.interest.is_general() && batch.is_misfit(slot);
        let wanted = items
            .all()
            .filter(|slot| self.is_wanted(*slot) || is_misfit(*slot));
        let wanted: Vec<SlotId> = wanted.collect();
        batch.begin_full(wanted.into_iter());
        self.batch = Some(batch);
    }

    /// A batch follows all that waits.
    fn queue_batch(&mut self) {
        if self.batch.is_some() {
            self.outbox.push_control(Control::Batch);
        }
    }

    /// The next part of a batch comes before all else.
    pub fn continue_batch(&mut self) {
        self.urgent.push_front(Control::Batch);
    }

    /// Has an item's turn come, whether it is wanted or not.
    pub fn push(&mut self, slot: SlotId) {
        put(&mut self.outbox, &mut self.holds, slot);
    }

    /// Whether an item is pending.
    pub fn is_pending(&self, slot: SlotId) -> bool {
        self.outbox.contains(slot)
    }

    /// Puts a message that is not an item at the end of what waits.
    pub fn queue(&mut self, control: Control) {
        self.outbox.push_control(control);
    }

    /// Has a message that is not an item sent before all that waits, once.
    pub fn hurry(&mut self, control: Control) {
        if !self.urgent.contains(&control) {
            self.urgent.push_back(control);
        }
    }

    /// Whether nothing waits that may be sent now.
    pub fn is_idle(&self) -> bool {
        self.urgent.is_empty() && (self.phase != Phase::Open || self.outbox.is_empty())
    }

    /// Whether nothing waits in turn.
    pub fn has_nothing_pending(&self) -> bool {
        self.outbox.is_empty()
    }

    /// What comes before all that waits in turn.
    #[inline]
    pub fn next_urgent(&mut self) -> Option<Control> {
        self.urgent.pop_front()
    }

    /// Whether something goes before all that waits in turn.
    #[inline]
    pub fn has_first(&self) -> bool {
        (!self.urgent.is_empty()) | (self.outbox.first() != 0)
    }

    /// What comes next of what waits in turn, where nothing goes before that.
    #[inline]
    pub fn next_in_turn(&mut self) -> Option<Entry> {
        self.outbox.pop_in_turn()
    }

    /// What comes next of what waits.
    pub fn next_pending(&mut self) -> Option<Entry> {
        self.outbox.pop()
    }

    // What its clients ask for (§5).

    /// A request renews the general interest; one that only reads or writes does not where only
    /// selective interests are live (§5.1). What that wakes is queued behind the request itself.
    pub fn renew(&mut self, now: Instant, keep_alive: bool) -> bool {
        if !keep_alive && !self.interest.is_general() && self.interest.is_selective() {
            return false;
        }
        let woke = self.interest.renew(now);
        if woke {
            self.update_wanted();
            self.start_heartbeat(now);
        }
        woke
    }

    /// Changes how long a request keeps data flowing; what that wakes is published.
    pub fn set_keep_alive(&mut self, now: Instant, keep_alive: Option<Duration>, items: &Items) {
        if self.direct {
            // Values flow for as long as somebody subscribes to them (§9.9).
            return;
        }
        let woke = self.interest.set_keep_alive(now, keep_alive);
        self.update_wanted();
        if woke && self.is_open() {
            self.start_heartbeat(now);
            self.answers.ask_republish(&Requester::Anybody, None);
            self.advance(now, items);
        }
    }

    /// Renews a selective interest; what new filters match is published once (§5.4). The filters are
    /// relative to the portal id.
    pub fn renew_selective(
        &mut self,
        now: Instant,
        filters: Vec<Box<str>>,
        items: &Items,
    ) -> Renewed {
        let renewed = self.interest.renew_selective(now, filters);
        self.update_wanted();
        for filter in &renewed.new {
            items.matching(filter, |slot| {
                if self.gate.hides(slot) {
                    return;
                }
                if self.direct {
                    if let Some(item) = items.item_ref(slot) {
                        self.outbox.push_answer(Control::Answer(item));
                    }
                    return;
                }
                self.covered.insert(slot);
                if let Some(batch) = &mut self.batch {
                    batch.changed(slot);
                    batch.hurry(now);
                }
                if self.phase == Phase::Open && self.has_topics() {
                    put(&mut self.outbox, &mut self.holds, slot);
                }
            });
        }
        self.start_heartbeat(now);
        renewed
    }

    /// Renews a selective interest as far as it is live.
    pub fn renew_live(&mut self, now: Instant, filters: &[Box<str>]) {
        self.interest.renew_live(now, filters);
    }

    /// The requests that wait for their turn.
    pub fn answers(&mut self) -> &mut Answers {
        &mut self.answers
    }

    /// Queues what a client is told of its request (§5.8); what is too much comes back.
    #[allow(clippy::result_large_err)] // it goes back to who asked, at once
    pub fn respond(&mut self, response: Response) -> Result<(), (Response, Rejection)> {
        if self.phase == Phase::Closed {
            // Its client is gone with the reader.
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
        if let Some(holds) = &mut self.holds {
            holds.ask(slot);
        }
    }

    /// Answers what can be answered, in the order of the requests.
    pub fn advance(&mut self, now: Instant, items: &Items) {
        if self.phase != Phase::Open {
            return;
        }
        // Beyond that they wait where they are counted, and new ones are refused.
        while self.outbox.answers() < ANSWERS_MAX
            && let Some(answer) = self.answers.next(now, self.outbox.completions() == 0)
        {
            match answer {
                // A separate answer, even where the item waits in a republish already: a client
                // may drop all that comes before it.
                Answer::Items(found) if found.len() == 1 => {
                    for item in found {
                        self.outbox.push_answer(Control::Answer(item));
                    }
                }
                Answer::Items(found) => {
                    for item in found.into_iter().filter(|item| items.is_there(*item)) {
                        if self.outbox.answers_first() || self.direct {
                            self.outbox.push_answer(Control::Answer(item));
                        } else {
                            self.forced.insert(item.slot);
                            put(&mut self.outbox, &mut self.holds, item.slot);
                        }
                    }
                }
                Answer::Serial => self.outbox.push_answer(Control::Serial),
                Answer::Respond(response) => {
                    self.outbox.push_answer(Control::Respond(response));
                }
                Answer::Everything(echoes) if self.direct => {
                    for (who, echo) in echoes {
                        self.outbox.push_control(Control::Republish(who, echo));
                    }
                }
                Answer::Everything(echoes) => {
                    self.publish_all(items);
                    for (_, echo) in echoes {
                        self.outbox.push_control(Control::Completed(echo));
                    }
                }
            }
        }
    }

    /// Queues every item: first those that tell what a device is (§5.5).
    pub fn publish_all(&mut self, items: &Items) {
        if self.direct {
            return;
        }
        self.begin_full_batch(items);
        self.queue_batch();
        if !self.has_topics() {
            return;
        }
        let identifying = |slot: &SlotId| items.at(*slot).rule.identifying;
        let gate = &self.gate;
        let shown = |slot: &SlotId| !gate.hides(*slot);
        for slot in items.all().filter(identifying).filter(shown) {
            put(&mut self.outbox, &mut self.holds, slot);
        }
        for slot in items.all().filter(shown) {
            put(&mut self.outbox, &mut self.holds, slot);
        }
    }

    // Time.

    /// When [`Subscriber::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let answers = self.answers.deadline().filter(|_| self.may_republish());
        let holds = self.holds.as_ref().and_then(|holds| holds.deadline());
        let batch = self.batch.as_ref().and_then(|batch| batch.deadline());
        let batch = batch.filter(|_| self.is_open());
        let deadlines = [
            batch,
            self.interest.deadline(),
            self.heartbeat_at,
            answers,
            holds,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether a republish could begin now: not before the one before it is done, which a slow reader
    /// may take its time for.
    fn may_republish(&self) -> bool {
        self.is_open() && self.outbox.completions() == 0 && self.outbox.answers() < ANSWERS_MAX
    }

    /// Where anything is wanted, heartbeats are sent (§4.8).
    pub fn start_heartbeat(&mut self, now: Instant) {
        if self.is_open() && self.heard && self.interest.is_alive() {
            self.heartbeat_at.get_or_insert(now);
            if let Some(batch) = &mut self.batch {
                batch.start(now);
            }
        }
    }

    /// Time has passed: interests end, and heartbeats are due. Call [`Subscriber::advance`] after it.
    pub fn tick(&mut self, now: Instant, items: &Items) -> Ticked {
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
        let mut ticked = Ticked {
            expired: expired.general || !expired.filters.is_empty(),
            heartbeat: false,
        };
        if ticked.expired {
            self.update_wanted();
        }
        if let Some(holds) = &mut self.holds {
            holds.wake(now, |slot| {
                self.outbox.push_held(slot);
            });
        }
        self.tick_batch(now, items, ticked.expired);
        if !self.interest.is_alive() {
            self.heartbeat_at = None;
        } else if self.heartbeat_at.is_some_and(|at| at <= now) {
            // One is enough for a reader that takes nothing.
            if self.has_topics() {
                self.hurry(Control::Heartbeat);
            }
            self.heartbeat_at = Some(now + HEARTBEAT);
            ticked.heartbeat = true;
        }
        ticked
    }

    fn tick_batch(&mut self, now: Instant, items: &Items, has_expired: bool) {
        if has_expired && let Some(mut batch) = self.batch.take() {
            let is_general = self.interest.is_general();
            batch.retain(|slot, is_misfit| self.is_wanted(slot) || (is_general && is_misfit));
            self.batch = Some(batch);
        }
        let (is_open, is_alive) = (self.is_open(), self.interest.is_alive());
        let Some(batch) = self.batch.as_mut().filter(|_| is_open) else {
            return;
        };
        if !is_alive {
            batch.closed();
            return;
        }
        let (is_due, is_full) = batch.tick(now);
        if is_full {
            self.begin_full_batch(items);
        }
        if is_due {
            self.hurry(Control::Batch);
        }
    }

    /// Whether a topic that is not an item's is wanted: one below the portal id, of two levels.
    pub fn wants_topic(&self, topic: &str) -> bool {
        let matches = |filter: &Filter| filter.matches(topic, "");
        let wanted = self.interest.is_general() || self.interest.filters().any(matches);
        wanted && !self.is_leaving() && self.gate.publishes(topic, "")
    }
}

/// Puts an item at the end of what waits; what was throttled is not held back this time.
fn put(outbox: &mut Outbox, holds: &mut Option<Box<Holds>>, slot: SlotId) {
    if holds.as_mut().is_some_and(|holds| holds.ask(slot)) {
        outbox.push_held(slot);
    } else {
        outbox.push(slot);
    }
}
