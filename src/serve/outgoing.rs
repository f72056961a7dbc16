//! What one client is to get, in order: steps, then values.
//!
//! A step is an acknowledgement, an answer, a message of another client, or a sweep of values (those of
//! a new subscription, a republish). Steps keep their order. Values that have changed come behind them:
//! each waits once, and is read when it is written, so that a client that reads slowly costs its bits.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use smallvec::SmallVec;

use super::directory::{Cover, Directory, Shared};
use super::interface::{Slot, Values};
use super::own::Own;
use super::relay::{Event, Retained};
use super::set::{Bits, Sweep, Waiting};
use crate::codec::packet::{self, Version, v5};

/// How many bytes are gathered for one write.
pub const WRITE_BYTES: usize = 64 * 1024;

/// What one client is to get.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Of packets begun: what the socket did not take.
    pub rest: Vec<u8>,
    /// How much of `rest` it has taken since.
    pub written: usize,
    steps: VecDeque<Step>,
    /// Items that have changed.
    pub pending: Waiting,
    /// Topics of ours that are no items, by number.
    pub own: Waiting,
    /// Bytes of steps that the client has asked for itself.
    owed: usize,
    /// Bytes of other clients' messages.
    event_bytes: usize,
    /// How many of them.
    events: usize,
}

#[derive(Debug)]
enum Step {
    Bytes(Vec<u8>),
    Event(Rc<Event>, bool),
    Read(Rc<[Slot]>, usize),
    Stored(Box<Stored>),
    Republish(Box<Republish>),
}

/// What is in store for new subscriptions (§9.8).
#[derive(Debug)]
struct Stored {
    filters: SmallVec<[Rc<Shared>; 1]>,
    begun: bool,
    own: Sweep,
    items: Sweep,
    after: Option<Rc<str>>,
    relayed: bool,
}

#[derive(Debug)]
struct Republish {
    begun: bool,
    items: Sweep,
    /// What each completion message carries back.
    echoes: SmallVec<[Option<Box<str>>; 1]>,
}

/// What of a client and of the server is needed to write.
pub struct Context<'a, V> {
    /// The time, for what expires.
    pub now: Instant,
    /// The time that a completion says.
    pub unix_s: u64,
    /// `N/<portal id>/`.
    pub prefix: &'a str,
    /// What items there are.
    pub directory: &'a Directory,
    /// Topics of ours that are no items.
    pub own: &'a mut Own,
    /// What is retained of clients.
    pub retained: &'a Retained,
    /// The values.
    pub values: &'a V,
    /// The form of packets.
    pub version: Version,
    /// The longest packet that the client takes.
    pub packet_bytes_max: usize,
    /// Which listener's lists hold.
    pub listener: usize,
    /// Whether the client gets anything of ours.
    pub serves: bool,
    /// Whether it gets what is retained of others.
    pub relays: bool,
    /// Whether values come with a new subscription.
    pub stored_values: bool,
    /// What the client has filters for.
    pub cover: &'a Cover,
    /// Which items go with the retain flag when they change.
    pub flags: Flags<'a>,
    /// Whether the client has a filter for a topic.
    pub wants: &'a dyn Fn(&str) -> bool,
    /// Messages written.
    pub sent: &'a mut u64,
}

/// Which items go with the retain flag when they change (§9.8).
#[derive(Clone, Copy)]
pub enum Flags<'a> {
    /// None, or all, of them.
    Same(bool),
    /// Those that one of these filters matches.
    Of(&'a [Rc<Shared>]),
}

impl Flags<'_> {
    fn of(self, slot: u32) -> bool {
        match self {
            Flags::Same(flag) => flag,
            Flags::Of(filters) => filters.iter().any(|shared| shared.bits().contains(slot)),
        }
    }
}

impl Outgoing {
    /// Adds a packet, or several.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Step::Bytes(bytes)) = self.steps.back_mut() {
            let before = bytes.len();
            write(bytes);
            self.owed += bytes.len() - before;
            return;
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.owed += bytes.len();
        self.steps.push_back(Step::Bytes(bytes));
    }

    /// Adds another client's message. `false` where there is no room for it (§9.16).
    pub fn push_event(
        &mut self,
        event: &Rc<Event>,
        retain: bool,
        bytes_max: usize,
        messages_max: usize,
    ) -> bool {
        let bytes = event.bytes();
        if self.events >= messages_max || self.event_bytes + bytes > bytes_max {
            return false;
        }
        self.events += 1;
        self.event_bytes += bytes;
        self.steps.push_back(Step::Event(event.clone(), retain));
        true
    }

    /// Adds items that were read.
    pub fn push_read(&mut self, slots: &Rc<[Slot]>) {
        if self.steps.len() >= STEPS_MAX {
            // It does not take its answers: they conflate with what has changed.
            for slot in slots.iter() {
                self.pending.insert(slot.0);
            }
            return;
        }
        self.steps.push_back(Step::Read(slots.clone(), 0));
    }

    /// Adds what is in store for new subscriptions.
    pub fn push_stored(&mut self, filters: SmallVec<[Rc<Shared>; 1]>) {
        self.owed += STORED_BYTES + filters.len() * size_of::<Rc<Shared>>();
        self.steps.push_back(Step::Stored(Box::new(Stored {
            filters,
            begun: false,
            own: Sweep::default(),
            items: Sweep::default(),
            after: None,
            relayed: false,
        })));
    }

    /// Adds a full publish with its completion.
    pub fn push_republish(&mut self, echo: Option<Box<str>>) {
        let bytes = echo.as_ref().map_or(0, |echo| echo.len()) + 16;
        // One that has not begun does for both; each echo comes back (§5.3).
        if let Some(Step::Republish(republish)) = self.steps.back_mut()
            && !republish.begun
        {
            if republish.echoes.len() < STEPS_MAX {
                republish.echoes.push(echo);
                self.owed += bytes;
            }
            return;
        }
        if self.steps.len() >= STEPS_MAX {
            return;
        }
        self.owed += bytes;
        self.steps.push_back(Step::Republish(Box::new(Republish {
            begun: false,
            items: Sweep::default(),
            echoes: smallvec::smallvec![echo],
        })));
    }

    /// Whether it takes so little of what it asks for that no more of it is read.
    pub fn is_full(&self) -> bool {
        self.owed > OWED_BYTES_MAX || self.steps.len() >= STEPS_MAX * 2
    }

    /// Whether there is room for another answer (§9.15).
    pub fn has_room(&self) -> bool {
        self.owed <= OWED_BYTES_MAX * 8 && self.steps.len() < STEPS_MAX
    }

    /// How many bytes wait: packets that were begun, answers, and other clients' messages.
    pub fn bytes(&self) -> usize {
        self.rest.len() + self.owed + self.event_bytes
    }

    /// Whether anything is left to write.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty() && !self.has_more()
    }

    /// Whether anything is left besides what was begun.
    #[inline]
    pub fn has_more(&self) -> bool {
        !self.steps.is_empty() || !self.pending.is_empty() || !self.own.is_empty()
    }

    /// Whether values that have changed are all there is.
    #[inline]
    pub fn is_values_only(&self) -> bool {
        self.steps.is_empty() && self.own.is_empty() && !self.pending.is_empty()
    }

    /// The connection ends: leaves what was begun and acknowledgements, no more.
    pub fn end(&mut self, own: &mut Own) {
        self.pending = Waiting::default();
        while let Some((index, word)) = self.own.pop() {
            for number in super::set::numbers(index, word) {
                own.told(number);
            }
        }
        self.steps.retain(|step| matches!(step, Step::Bytes(_)));
        (self.events, self.event_bytes) = (0, 0);
    }

    /// Writes as much as one write may have behind what is in `out`.
    pub fn fill<V: Values>(&mut self, out: &mut Vec<u8>, context: &mut Context<'_, V>) {
        while out.len() < WRITE_BYTES {
            let Some(step) = self.steps.front_mut() else {
                break;
            };
            let done = match step {
                Step::Bytes(bytes) => {
                    self.owed -= bytes.len().min(self.owed);
                    out.extend_from_slice(bytes);
                    true
                }
                Step::Event(event, retain) => {
                    self.events -= 1;
                    self.event_bytes -= event.bytes().min(self.event_bytes);
                    if !event.is_over(context.now) {
                        context.packet(out, |out, context| {
                            event.write(context.now, context.version, *retain, out);
                            true
                        });
                    }
                    true
                }
                Step::Read(slots, at) => loop {
                    let Some(slot) = slots.get(*at) else {
                        break true;
                    };
                    if out.len() >= WRITE_BYTES {
                        break false;
                    }
                    *at += 1;
                    if context.cover.bits().contains(slot.0) {
                        self.pending.remove(slot.0);
                        context.item(out, slot.0, context.flags.of(slot.0));
                    }
                },
                Step::Stored(stored) => {
                    let done = stored.fill(out, context, &mut self.pending);
                    if done {
                        let bytes = STORED_BYTES + stored.filters.len() * size_of::<Rc<Shared>>();
                        self.owed -= bytes.min(self.owed);
                    }
                    done
                }
                Step::Republish(republish) => {
                    let done = republish.fill(out, context, &mut self.pending);
                    if done {
                        let bytes = |echo: &Option<Box<str>>| {
                            echo.as_ref().map_or(0, |echo| echo.len()) + 16
                        };
                        let bytes: usize = republish.echoes.iter().map(bytes).sum();
                        self.owed -= bytes.min(self.owed);
                    }
                    done
                }
            };
            if !done {
                return;
            }
            self.steps.pop_front();
        }
        while out.len() < WRITE_BYTES
            && let Some((index, word)) = self.own.pop()
        {
            for number in super::set::numbers(index, word) {
                let retain = matches!(context.flags, Flags::Same(true));
                context.own_topic(out, number, retain);
                context.own.told(number);
            }
        }
        while out.len() < WRITE_BYTES
            && let Some((index, mut word)) = self.pending.pop()
        {
            for number in super::set::numbers(index, word) {
                if out.len() >= WRITE_BYTES {
                    self.pending.put_back(index, word);
                    return;
                }
                word &= word - 1;
                context.item(out, number, context.flags.of(number));
            }
        }
    }
}

impl Stored {
    /// `true`: that was all.
    fn fill<V: Values>(
        &mut self,
        out: &mut Vec<u8>,
        context: &mut Context<'_, V>,
        pending: &mut Waiting,
    ) -> bool {
        if !self.begun {
            self.begun = true;
            self.relayed = !context.relays;
            self.begin(context);
        }
        // The serial and its like first: they identify the whole.
        while out.len() < WRITE_BYTES
            && let Some(number) = self.own.next(&Bits::default())
        {
            context.own_topic(out, number, true);
        }
        while out.len() < WRITE_BYTES
            && let Some(slot) = self.items.next(context.directory.identifying())
        {
            pending.remove(slot);
            context.item(out, slot, true);
        }
        while out.len() < WRITE_BYTES && !self.relayed {
            let only = |shared: &Rc<Shared>| shared.filter.only().is_some();
            // Without wildcards each is looked up.
            if self.filters.iter().all(only) {
                for shared in &self.filters {
                    if let Some(event) = context.retained.of(shared.filter.text()) {
                        context.event(out, event);
                    }
                }
                self.relayed = true;
                break;
            }
            let Some(event) = context.retained.after(self.after.as_ref()) else {
                self.relayed = true;
                break;
            };
            self.after = Some(event.topic.clone());
            let matches = |shared: &Rc<Shared>| shared.filter.matches(&event.topic);
            if self.filters.iter().any(matches) {
                context.event(out, event);
            }
        }
        self.relayed
    }

    fn begin<V: Values>(&mut self, context: &Context<'_, V>) {
        if !context.serves {
            return;
        }
        let mut own = Bits::default();
        for (number, topic) in context.own.kept(context.listener) {
            let ours = topic.topic.strip_prefix(context.prefix);
            // With `retain = false` only the serial comes so (§9.8).
            let stored = context.stored_values
                || ours.is_none_or(|rest| rest == crate::model::topic::SERIAL);
            let matches = |shared: &Rc<Shared>| shared.filter.matches(&topic.topic);
            if stored && self.filters.iter().any(matches) {
                own.insert(number);
            }
        }
        self.own = Sweep::new(own);
        if context.stored_values {
            let mut items = Bits::default();
            for shared in &self.filters {
                items.insert_all(&shared.bits());
            }
            context.directory.hide(context.listener, &mut items);
            self.items = Sweep::new(items);
        }
    }
}

impl Republish {
    /// `true`: that was all.
    fn fill<V: Values>(
        &mut self,
        out: &mut Vec<u8>,
        context: &mut Context<'_, V>,
        pending: &mut Waiting,
    ) -> bool {
        if !self.begun {
            self.begun = true;
            self.items = Sweep::new(context.cover.bits().clone());
            let serial = format!("{}{}", context.prefix, crate::model::topic::SERIAL);
            if (context.wants)(&serial)
                && let Some(number) = context.own.number(context.listener, &serial)
            {
                context.own_topic(out, number, matches!(context.flags, Flags::Same(true)));
            }
        }
        while let Some(slot) = self.items.next(context.directory.identifying()) {
            if out.len() >= WRITE_BYTES {
                self.items.put_back(slot);
                return false;
            }
            pending.remove(slot);
            context.item(out, slot, context.flags.of(slot));
        }
        let topic = format!("{}{}", context.prefix, crate::model::topic::COMPLETED);
        if (context.wants)(&topic) {
            for echo in &self.echoes {
                context.packet(out, |out, context| {
                    context.publish(out, false, ["", "", &topic], |out| {
                        completion(out, context.unix_s, echo.as_deref());
                        true
                    })
                });
            }
        }
        true
    }
}

/// Writes the payload of the completion message (§5.3).
fn completion(out: &mut Vec<u8>, unix_s: u64, echo: Option<&str>) {
    use crate::codec::payload;
    out.extend_from_slice(payload::HEAD);
    payload::write_uint(out, unix_s);
    if let Some(echo) = echo {
        out.extend_from_slice(b", \"full-publish-completed-echo\": ");
        out.extend_from_slice(echo.as_bytes());
    }
    out.push(b'}');
}

impl<V: Values> Context<'_, V> {
    /// An item, as it is now.
    #[inline]
    pub fn item(&mut self, out: &mut Vec<u8>, slot: u32, retain: bool) {
        let directory = self.directory;
        let Some(item) = directory.item(slot) else {
            return;
        };
        let start = out.len();
        let values = self.values;
        let published = self.publish(out, retain, [self.prefix, item.device, item.path], |out| {
            values.payload(Slot(slot), out)
        });
        self.check(out, start, published);
    }

    fn own_topic(&mut self, out: &mut Vec<u8>, number: u32, retain: bool) {
        let start = out.len();
        let Some(own) = self.own.get(number) else {
            return;
        };
        let published = self.publish(out, retain && own.retain, ["", "", &own.topic], |out| {
            out.extend_from_slice(&own.payload);
            true
        });
        self.check(out, start, published);
    }

    fn event(&mut self, out: &mut Vec<u8>, event: &Event) {
        if event.is_over(self.now) {
            return;
        }
        self.packet(out, |out, context| {
            event.write(context.now, context.version, true, out);
            true
        });
    }

    /// Has a packet written, unless it is longer than the client takes.
    fn packet(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>, &Self) -> bool) {
        let start = out.len();
        let written = write(out, self);
        self.check(out, start, written);
    }

    #[inline]
    fn check(&mut self, out: &mut Vec<u8>, start: usize, written: bool) {
        if written && out.len() - start <= self.packet_bytes_max {
            *self.sent += 1;
        } else {
            out.truncate(start);
        }
    }

    /// Writes a PUBLISH; gives what `payload` gives.
    #[inline]
    fn publish(
        &self,
        out: &mut Vec<u8>,
        retain: bool,
        topic: [&str; 3],
        payload: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> bool {
        let topic = &topic.map(str::as_bytes);
        let mut published = false;
        let write = |out: &mut Vec<u8>| published = payload(out);
        match self.version {
            Version::V3 => packet::write_publish(out, retain, topic, write),
            Version::V5 => {
                let extra = v5::Extra {
                    retain,
                    ..v5::Extra::default()
                };
                v5::write_publish(out, extra, topic, write);
            }
        }
        published
    }
}

/// How many answers may wait for a client that does not read.
const STEPS_MAX: usize = 1000;
/// How many bytes of acknowledgements and the like may wait before no more of a client is read.
const OWED_BYTES_MAX: usize = 32 * 1024;
/// What a new subscription's values take while they wait.
const STORED_BYTES: usize = 256;
