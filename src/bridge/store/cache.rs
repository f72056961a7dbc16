//! The value cache: a dense slab of slots, one writer, any number of readers.
//!
//! ```text
//! Writer ──store──▶ Slot, Slot, Slot …   numbers, booleans, invalid: words, lock-free
//!    │                 │ beside
//!    └───lock──▶ Beside, Beside …        texts, arrays, limits: rare, as JSON made once
//!                      ▲
//! Reader ──load────────┘ render: JSON into the caller's buffer
//! ```
//!
//! What enters is what clients may see: secrets are masked here, on the way in (§4.7), so that no
//! road out can show one. Which item a slot belongs to is known in `super::items`.

use std::sync::{Arc, OnceLock, PoisonError};

use super::sizes::{Sizes, Unkept};
use super::slot::{Slot, Words};
use super::sync::{CHUNK_SLOTS, Mutex, MutexGuard};
use crate::codec::payload;
use crate::model::item::ItemChange;
use crate::model::value::Value;
use crate::schema::rule::Marks;

/// Which slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// The kinds of value that a slot's head tells; the D-Bus type code stands eight bits higher.
mod kind {
    pub(in crate::bridge) const EMPTY: u32 = 0;
    pub(in crate::bridge) const INVALID: u32 = 1;
    pub(in crate::bridge) const BOOL: u32 = 2;
    pub(in crate::bridge) const INT: u32 = 3;
    pub(in crate::bridge) const UINT: u32 = 4;
    pub(in crate::bridge) const DOUBLE: u32 = 5;
    pub(in crate::bridge) const BESIDE: u32 = 6;
}

#[derive(Debug)]
struct Shared {
    /// Grows by a chunk at a time, and never moves what is there.
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
    beside: Mutex<Vec<Beside>>,
}

/// What does not fit a slot's words.
#[derive(Debug, Default, Clone)]
struct Beside {
    /// The JSON of a text, array, dict or struct.
    json: Vec<u8>,
    /// Its D-Bus signature.
    signature: Box<str>,
    /// The JSON of the lowest and highest value; empty where the service announces none.
    min: Vec<u8>,
    max: Vec<u8>,
}

/// The D-Bus type that an item's present value has (§3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresentType {
    /// There is no value, or it is invalid.
    None,
    /// A basic type: its code.
    Basic(u8),
    /// Another type: its signature.
    Compound(Box<str>),
}

/// What one message says of an item, owned: for changes that must wait.
#[derive(Debug, Clone, Default)]
pub struct Update {
    value: Option<Owned>,
    min: Option<Vec<u8>>,
    max: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Owned {
    Words(Words),
    Beside { json: Vec<u8>, signature: Box<str> },
    Unkept(Unkept),
}

/// The one that sets values.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    beside_free: Vec<u32>,
    sizes: Sizes,
    /// The bytes of all that is kept beside the slots.
    beside_bytes: usize,
    /// The bytes that others use of what there is for it.
    reserved: usize,
    /// What was not kept, until somebody takes note of it.
    unkept: Vec<(SlotId, Unkept)>,
}

/// One of those that read values.
#[derive(Debug, Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// A cache for at most `slots_max` items.
pub fn cache(slots_max: usize) -> (Writer, Reader) {
    let chunks = (0..slots_max.div_ceil(CHUNK_SLOTS))
        .map(|_| OnceLock::new())
        .collect();
    let shared = Arc::new(Shared {
        chunks,
        beside: Mutex::new(Vec::new()),
    });
    (
        Writer {
            shared: Arc::clone(&shared),
            beside_free: Vec::new(),
            sizes: Sizes::default(),
            beside_bytes: 0,
            reserved: 0,
            unkept: Vec::new(),
        },
        Reader { shared },
    )
}

impl Beside {
    fn bytes(&self) -> usize {
        self.json.len() + self.min.len() + self.max.len()
    }
}

impl Shared {
    #[inline]
    fn slot(&self, id: SlotId) -> Option<&Slot> {
        let index = id.0 as usize;
        self.chunks
            .get(index / CHUNK_SLOTS)?
            .get()?
            .get(index % CHUNK_SLOTS)
    }

    /// A poisoned lock means that a writer panicked between two bytes of a text: the text is what
    /// it is, and the bridge goes on.
    fn beside(&self) -> MutexGuard<'_, Vec<Beside>> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The words of a value that fits them.
#[inline]
fn words_of(value: &Value<'_>) -> Option<Words> {
    let words = |kind: u32, code: u8, bits: u64| {
        #[allow(clippy::cast_possible_truncation)] // the two halves of it
        let (low, high) = (bits as u32, (bits >> 32) as u32);
        Some(Words {
            head: kind | u32::from(code) << 8,
            low,
            high,
            beside: 0,
        })
    };
    match *value {
        Value::Double(value) => words(kind::DOUBLE, b'd', value.to_bits()),
        Value::Int(int, value) => words(kind::INT, int.code(), value.cast_unsigned()),
        Value::Uint(uint, value) => words(kind::UINT, uint.code(), value),
        Value::Bool(value) => words(kind::BOOL, b'b', u64::from(value)),
        Value::Invalid => words(kind::INVALID, 0, 0),
        Value::Text(..) | Value::Compound(_) => None,
    }
}

fn owned(value: &Value<'_>, rule: Marks, sizes: Sizes) -> Owned {
    if let Some(words) = words_of(value) {
        return Owned::Words(words);
    }
    if let Some(unkept) = sizes.exceeded(value) {
        return Owned::Unkept(unkept);
    }
    let (signature, json): (Box<str>, _) = match *value {
        Value::Text(_, text) if rule.secret && !text.is_empty() => {
            ("s".into(), payload::MASK.to_vec())
        }
        Value::Text(text_type, _) => (char::from(text_type.code()).to_string().into(), json(value)),
        // A password may be spelt in bytes, or be in a part of it.
        Value::Compound(ref compound) if rule.secret => {
            (compound.signature.into(), payload::MASK.to_vec())
        }
        Value::Compound(ref compound) => (compound.signature.into(), json(value)),
        Value::Invalid | Value::Bool(_) | Value::Int(..) | Value::Uint(..) | Value::Double(_) => {
            ("".into(), json(value))
        }
    };
    Owned::Beside { json, signature }
}

fn json(value: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    payload::write_value(&mut out, value);
    out
}

/// A limit as JSON; one that is invalid, or too long, is none, and so is one of a secret that is no
/// number.
fn limit(value: Option<&Value<'_>>, rule: Marks, sizes: Sizes) -> Option<Vec<u8>> {
    value.map(|value| {
        let hidden = rule.secret && words_of(value).is_none();
        if *value == Value::Invalid || hidden || sizes.exceeded(value).is_some() {
            Vec::new()
        } else {
            json(value)
        }
    })
}

/// Puts the mask in the place of a text that is not empty, or of what has parts, and of nothing else.
fn mask(json: &mut Vec<u8>, signature: &mut Box<str>) {
    if !signature.is_empty() && json != b"\"\"" {
        *json = payload::MASK.to_vec();
    }
}

impl Update {
    /// Takes over what a change says.
    pub fn new(change: &ItemChange<'_>, rule: Marks, sizes: Sizes) -> Update {
        let value = change.value.as_ref();
        Update {
            value: value.map(|value| owned(value, rule, sizes)),
            min: limit(change.min.as_ref(), rule, sizes),
            max: limit(change.max.as_ref(), rule, sizes),
        }
    }

    /// Makes a secret of the text in it, and hides limits that are no numbers (§4.7).
    pub fn mask(&mut self) {
        if let Some(Owned::Beside { json, signature }) = &mut self.value {
            mask(json, signature);
        }
        for limit in [&mut self.min, &mut self.max].into_iter().flatten() {
            if matches!(limit.first(), Some(b'"' | b'[' | b'{')) {
                limit.clear();
            }
        }
    }

    /// How many bytes it has beside itself.
    pub fn bytes(&self) -> usize {
        let value = match &self.value {
            Some(Owned::Beside { json, signature }) => json.capacity() + signature.len(),
            Some(Owned::Words(_) | Owned::Unkept(_)) | None => 0,
        };
        let limits = [&self.min, &self.max].into_iter().flatten();
        value + limits.map(Vec::capacity).sum::<usize>()
    }

    /// How many bytes would stand beside the slot that has this there now.
    fn bytes_in(&self, beside: &Beside) -> usize {
        let json = match &self.value {
            Some(Owned::Beside { json, .. }) => json.len(),
            Some(Owned::Unkept(_)) => 0,
            Some(Owned::Words(_)) | None => beside.json.len(),
        };
        let limit = |new: &Option<Vec<u8>>, old: &Vec<u8>| new.as_ref().unwrap_or(old).len();
        json + limit(&self.min, &beside.min) + limit(&self.max, &beside.max)
    }

    /// Keeps nothing of it that has a length.
    fn give_up(&mut self, unkept: Unkept) {
        if let Some(value @ Owned::Beside { .. }) = &mut self.value {
            *value = Owned::Unkept(unkept);
        }
        for limit in [&mut self.min, &mut self.max].into_iter().flatten() {
            *limit = Vec::new();
        }
    }

    /// Adds what came later, without erasing what that does not mention (§2.1).
    pub fn merge(&mut self, later: Update) {
        self.value = later.value.or_else(|| self.value.take());
        self.min = later.min.or_else(|| self.min.take());
        self.max = later.max.or_else(|| self.max.take());
    }
}

impl Writer {
    /// Makes room for the slot. `false` where the cache is full.
    pub fn make_room(&mut self, id: SlotId) -> bool {
        let Some(chunk) = self.shared.chunks.get(id.0 as usize / CHUNK_SLOTS) else {
            return false;
        };
        chunk.get_or_init(|| (0..CHUNK_SLOTS).map(|_| Slot::default()).collect());
        true
    }

    /// Applies a change. Tells whether clients see a difference.
    #[inline]
    pub fn apply(&mut self, id: SlotId, change: &ItemChange<'_>, rule: Marks) -> bool {
        if let (Some(value), None, None) = (&change.value, &change.min, &change.max)
            && let Some(words) = words_of(value)
        {
            return self.set_words(id, words);
        }
        self.apply_update(id, Update::new(change, rule, self.sizes))
    }

    /// The bytes of all texts, lists and limits.
    pub fn bytes(&self) -> usize {
        self.beside_bytes
    }

    /// Others use so many of the bytes that there are for all.
    pub fn reserve(&mut self, bytes: usize) {
        self.reserved = bytes;
    }

    /// Values longer than this are not kept from now on.
    pub fn limit(&mut self, sizes: Sizes) {
        self.sizes = sizes;
    }

    /// Whether values were not kept.
    #[inline]
    pub fn has_unkept(&self) -> bool {
        !self.unkept.is_empty()
    }

    /// The values that were not kept. What was there before them is gone too: it is no more true.
    pub fn take_unkept(&mut self) -> Vec<(SlotId, Unkept)> {
        std::mem::take(&mut self.unkept)
    }

    /// Why the slot's value was not kept, where nobody has taken note of it yet.
    pub fn unkept(&self, id: SlotId) -> Option<Unkept> {
        let of_it = |(slot, unkept): &(SlotId, Unkept)| (*slot == id).then_some(*unkept);
        self.unkept.iter().rev().find_map(of_it)
    }

    #[inline]
    fn set_words(&mut self, id: SlotId, words: Words) -> bool {
        let Some(slot) = self.shared.slot(id) else {
            return false;
        };
        let before = slot.load_own();
        let words = Words {
            beside: before.beside,
            ..words
        };
        slot.store(words);
        before != words
    }

    /// Applies a change that had to wait.
    pub fn apply_update(&mut self, id: SlotId, mut update: Update) -> bool {
        let Some(slot) = self.shared.slot(id) else {
            return false;
        };
        let before = slot.load_own();
        let needs_beside = matches!(update.value, Some(Owned::Beside { .. }))
            || update.min.as_ref().is_some_and(|min| !min.is_empty())
            || update.max.as_ref().is_some_and(|max| !max.is_empty());
        let mut changed = false;
        if needs_beside || before.beside != 0 {
            let mut all = self.shared.beside();
            let index = match before.beside {
                0 => take_beside(&mut all, &mut self.beside_free),
                index => index,
            };
            let Some(beside) = all.get_mut(index as usize - 1) else {
                return false;
            };
            let max = self.sizes.cache_bytes_max;
            let others_bytes = self.beside_bytes - beside.bytes();
            if update.bytes_in(beside) > max.saturating_sub(others_bytes + self.reserved) {
                update.give_up(Unkept::NoRoom { max });
            }
            for (place, new) in [(&mut beside.min, update.min), (&mut beside.max, update.max)] {
                if let Some(new) = new {
                    changed |= *place != new;
                    *place = new;
                }
            }
            if let Some(Owned::Beside { json, signature }) = &update.value {
                changed |= beside.json != *json;
                keep(&mut beside.json, json);
                beside.signature.clone_from(signature);
            }
            if let Some(Owned::Unkept(unkept)) = update.value {
                self.unkept.push((id, unkept));
                beside.json = Vec::new();
            }
            self.beside_bytes = others_bytes + beside.bytes();
            let new = match update.value {
                Some(Owned::Words(new)) => new,
                Some(Owned::Beside { .. }) => Words {
                    head: kind::BESIDE,
                    ..Words::default()
                },
                Some(Owned::Unkept(_)) => Words::default(),
                None => before,
            };
            let in_place = |words| Words {
                beside: index,
                ..words
            };
            // Under the lock, so that a reader who finds a text finds the right one.
            slot.store(in_place(new));
            return changed || in_place(new) != in_place(before);
        }
        match update.value {
            Some(Owned::Words(new)) => self.set_words(id, new),
            Some(Owned::Unkept(unkept)) => {
                self.unkept.push((id, unkept));
                self.set_words(id, Words::default())
            }
            Some(Owned::Beside { .. }) | None => changed,
        }
    }

    /// Copies what one slot holds to another, which holds nothing yet.
    pub fn copy(&mut self, from: SlotId, to: SlotId) {
        let (Some(from), Some(to)) = (self.shared.slot(from), self.shared.slot(to)) else {
            return;
        };
        let mut words = from.load_own();
        if words.beside != 0 {
            let mut all = self.shared.beside();
            let copy = all
                .get(words.beside as usize - 1)
                .cloned()
                .unwrap_or_default();
            words.beside = take_beside(&mut all, &mut self.beside_free);
            if let Some(beside) = all.get_mut(words.beside as usize - 1) {
                self.beside_bytes += copy.bytes();
                *beside = copy;
            }
            to.store(words);
            return;
        }
        to.store(words);
    }

    /// Makes a secret of the text that the slot holds (§4.7).
    pub fn mask(&mut self, id: SlotId) {
        let Some(words) = self.shared.slot(id).map(Slot::load_own) else {
            return;
        };
        if words.head != kind::BESIDE {
            return;
        }
        let mut all = self.shared.beside();
        if let Some(beside) = all.get_mut((words.beside as usize).wrapping_sub(1)) {
            self.beside_bytes -= beside.bytes();
            mask(&mut beside.json, &mut beside.signature);
            self.beside_bytes += beside.bytes();
        }
    }

    /// Forgets what the slot holds: its item is gone.
    pub fn clear(&mut self, id: SlotId) {
        let Some(slot) = self.shared.slot(id) else {
            return;
        };
        let before = slot.load_own();
        if before.beside == 0 {
            slot.store(Words::default());
            return;
        }
        let mut all = self.shared.beside();
        if let Some(beside) = all.get_mut(before.beside as usize - 1) {
            self.beside_bytes -= beside.bytes();
            *beside = Beside::default();
        }
        slot.store(Words::default());
        self.beside_free.push(before.beside);
    }

    /// The D-Bus type of the present value.
    pub fn present_type(&self, id: SlotId) -> PresentType {
        let Some(words) = self.shared.slot(id).map(Slot::load_own) else {
            return PresentType::None;
        };
        match words.head & 0xff {
            kind::EMPTY | kind::INVALID => PresentType::None,
            kind::BESIDE => {
                let all = self.shared.beside();
                let beside = all.get((words.beside as usize).wrapping_sub(1));
                match beside.map(|beside| &*beside.signature) {
                    Some("s") => PresentType::Basic(b's'),
                    Some("o") => PresentType::Basic(b'o'),
                    Some("g") => PresentType::Basic(b'g'),
                    Some(signature) => PresentType::Compound(signature.into()),
                    None => PresentType::None,
                }
            }
            _ => PresentType::Basic(u8::try_from(words.head >> 8 & 0xff).unwrap_or_default()),
        }
    }
}

/// Puts a text in the place of another, and gives memory back after a very long one.
fn keep(place: &mut Vec<u8>, json: &[u8]) {
    const BYTES_KEPT: usize = 4096;
    if place.capacity() > BYTES_KEPT.max(json.len() * 4) {
        *place = Vec::new();
    }
    place.clear();
    place.extend_from_slice(json);
}

fn take_beside(all: &mut Vec<Beside>, free: &mut Vec<u32>) -> u32 {
    free.pop().unwrap_or_else(|| {
        all.push(Beside::default());
        u32::try_from(all.len()).unwrap_or(u32::MAX)
    })
}

impl Reader {
    /// Whether the slot holds a value, be it the invalid one.
    pub fn has_value(&self, id: SlotId) -> bool {
        self.shared
            .slot(id)
            .is_some_and(|slot| slot.load().head & 0xff != kind::EMPTY)
    }

    /// Writes the value alone. The slot must hold one.
    pub fn render_value(&self, id: SlotId, out: &mut Vec<u8>) {
        let words = self.shared.slot(id).map(Slot::load).unwrap_or_default();
        if words.beside == 0 {
            return render_words(words, out);
        }
        let all = self.shared.beside();
        // Once more, as below.
        let words = self.shared.slot(id).map(Slot::load).unwrap_or_default();
        match all.get((words.beside as usize).wrapping_sub(1)) {
            Some(beside) if words.head == kind::BESIDE => out.extend_from_slice(&beside.json),
            _ => render_words(words, out),
        }
    }

    /// Writes the payload of a notification (§3): `{"value": …}`. The slot must hold a value.
    #[inline]
    pub fn render(&self, id: SlotId, out: &mut Vec<u8>) {
        out.extend_from_slice(payload::HEAD);
        let words = self.shared.slot(id).map(Slot::load).unwrap_or_default();
        if words.beside == 0 {
            render_words(words, out);
            out.push(b'}');
            return;
        }
        let all = self.shared.beside();
        // Once more: the text may have been replaced by a number before the lock was ours.
        let words = self.shared.slot(id).map(Slot::load).unwrap_or_default();
        let beside = all.get((words.beside as usize).wrapping_sub(1));
        match beside {
            Some(beside) if words.head == kind::BESIDE => out.extend_from_slice(&beside.json),
            _ => render_words(words, out),
        }
        if let Some(beside) = beside {
            if !beside.min.is_empty() {
                out.extend_from_slice(b", \"min\": ");
                out.extend_from_slice(&beside.min);
            }
            if !beside.max.is_empty() {
                out.extend_from_slice(b", \"max\": ");
                out.extend_from_slice(&beside.max);
            }
        }
        out.push(b'}');
    }
}

#[inline]
fn render_words(words: Words, out: &mut Vec<u8>) {
    let bits = u64::from(words.low) | u64::from(words.high) << 32;
    match words.head & 0xff {
        kind::DOUBLE => payload::write_double(out, f64::from_bits(bits)),
        kind::INT => payload::write_int(out, bits.cast_signed()),
        kind::UINT => payload::write_uint(out, bits),
        kind::BOOL => payload::write_bool(out, bits != 0),
        _ => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
#[path = "cache/tests.rs"] // also where the proof over loom includes this file
mod tests;
