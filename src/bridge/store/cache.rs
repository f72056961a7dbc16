//! The value cache: a dense slab of slots, one writer, any number of readers.
//!
//! ```text
//! Writer ──store──▶ Slot, Slot, Slot …   numbers, booleans, invalid: words, lock-free
//!    │                 │ beside
//!    └──fill───▶ LongValue, LongValue …        texts, arrays, limits: rare, as JSON made once
//!                      ▲
//! Reader ──load────────┘ render: JSON into the caller's buffer
//! ```
//!
//! Nobody ever waits for a lock. What stands beside a slot is never changed while the slot refers to it:
//! the writer fills a free place, has the slot refer to that, and gives the old place back. A reader that
//! is in a place keeps the writer from using it again (it takes another one); a reader that finds a
//! place being filled came too late, and reads the slot again.
//!
//! What enters is what clients may see: secrets are masked here, on the way in (§4.7), so that no
//! road out can show one. Which item a slot belongs to is known in `super::items`.

use std::sync::{Arc, OnceLock};

use super::sizes::{DroppedValue, Sizes};
use super::slot::{Slot, Words};
use super::sync::{CHUNK_SLOTS, RwLock, RwLockReadGuard, spin_loop};
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

/// What grows by a chunk at a time.
type Chunks<T> = Box<[OnceLock<Box<[T]>>]>;

#[derive(Debug)]
struct Shared {
    /// Grows by a chunk at a time, and never moves what is there.
    chunks: Chunks<Slot>,
    /// Likewise. An index counts from 1.
    beside: Chunks<RwLock<LongValue>>,
}

/// What does not fit a slot's words.
#[derive(Debug, Default, Clone)]
struct LongValue {
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
    LongValue { json: Vec<u8>, signature: Box<str> },
    DroppedValue(DroppedValue),
}

/// The one that sets values.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    /// Places that no slot refers to; a reader may still be in one.
    beside_free: Vec<u32>,
    /// How many places there are.
    beside_count: u32,
    sizes: Sizes,
    /// The bytes of all that is kept beside the slots.
    beside_bytes: usize,
    /// The bytes that others use of what there is for it.
    reserved: usize,
    /// What was not kept, until somebody takes note of it.
    unkept: Vec<(SlotId, DroppedValue)>,
}

/// One of those that read values.
#[derive(Debug, Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// A cache for at most `slots_max` items.
pub fn cache(slots_max: usize) -> (Writer, Reader) {
    let chunks = slots_max.div_ceil(CHUNK_SLOTS);
    let shared = Arc::new(Shared {
        chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
        // One more: for the place that is filled while the old one is still referred to, and for those
        // that readers are in.
        beside: (0..=chunks).map(|_| OnceLock::new()).collect(),
    });
    (
        Writer {
            shared: Arc::clone(&shared),
            beside_free: Vec::new(),
            beside_count: 0,
            sizes: Sizes::default(),
            beside_bytes: 0,
            reserved: 0,
            unkept: Vec::new(),
        },
        Reader { shared },
    )
}

impl LongValue {
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

    fn place(&self, index: u32) -> Option<&RwLock<LongValue>> {
        let index = (index as usize).checked_sub(1)?;
        self.beside
            .get(index / CHUNK_SLOTS)?
            .get()?
            .get(index % CHUNK_SLOTS)
    }

    /// What stands there; `None` where it is being filled.
    fn read(&self, index: u32) -> Option<RwLockReadGuard<'_, LongValue>> {
        self.place(index)?.try_read().ok()
    }

    /// What a slot refers to, and the words that do. Nothing of it changes while it is held.
    fn load(&self, slot: &Slot) -> (Words, Option<RwLockReadGuard<'_, LongValue>>) {
        loop {
            let words = slot.load();
            if words.beside == 0 {
                return (words, None);
            }
            if let Some(beside) = self.read(words.beside) {
                // Once more: the slot may have left the place before we came, and another one taken it.
                let now = slot.load();
                if now.beside == words.beside {
                    return (now, Some(beside));
                }
            }
            spin_loop();
        }
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
        return Owned::DroppedValue(unkept);
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
    Owned::LongValue { json, signature }
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

    /// Makes a secret of the text in it, and hides limits that are not numbers (§4.7).
    pub fn mask(&mut self) {
        if let Some(Owned::LongValue { json, signature }) = &mut self.value {
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
            Some(Owned::LongValue { json, signature }) => json.capacity() + signature.len(),
            Some(Owned::Words(_) | Owned::DroppedValue(_)) | None => 0,
        };
        let limits = [&self.min, &self.max].into_iter().flatten();
        value + limits.map(Vec::capacity).sum::<usize>()
    }

    /// How many bytes would stand beside the slot that has this there now.
    fn bytes_in(&self, beside: &LongValue) -> usize {
        let json = match &self.value {
            Some(Owned::LongValue { json, .. }) => json.len(),
            Some(Owned::DroppedValue(_)) => 0,
            Some(Owned::Words(_)) | None => beside.json.len(),
        };
        let limit = |new: &Option<Vec<u8>>, old: &Vec<u8>| new.as_ref().unwrap_or(old).len();
        json + limit(&self.min, &beside.min) + limit(&self.max, &beside.max)
    }

    /// Keeps nothing of it that has a length.
    fn give_up(&mut self, unkept: DroppedValue) {
        if let Some(value @ Owned::LongValue { .. }) = &mut self.value {
            *value = Owned::DroppedValue(unkept);
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
    #[expect(clippy::inline_always)] // once for each value
    #[inline(always)]
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

    /// The values that were not kept. What was there before them is gone too: it is not true any more.
    pub fn take_unkept(&mut self) -> Vec<(SlotId, DroppedValue)> {
        std::mem::take(&mut self.unkept)
    }

    /// Why the slot's value was not kept, where nobody has taken note of it yet.
    pub fn unkept(&self, id: SlotId) -> Option<DroppedValue> {
        let of_it = |(slot, unkept): &(SlotId, DroppedValue)| (*slot == id).then_some(*unkept);
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
    pub fn apply_update(&mut self, id: SlotId, update: Update) -> bool {
        let Some(slot) = self.shared.slot(id) else {
            return false;
        };
        let before = slot.load_own();
        let needs_beside = matches!(update.value, Some(Owned::LongValue { .. }))
            || update.min.as_ref().is_some_and(|min| !min.is_empty())
            || update.max.as_ref().is_some_and(|max| !max.is_empty());
        if needs_beside || before.beside != 0 {
            return self.apply_beside(id, before, update);
        }
        match update.value {
            Some(Owned::Words(new)) => self.set_words(id, new),
            Some(Owned::DroppedValue(unkept)) => {
                self.unkept.push((id, unkept));
                self.set_words(id, Words::default())
            }
            Some(Owned::LongValue { .. }) | None => false,
        }
    }

    /// The same, where the slot has something beside it, or will have.
    fn apply_beside(&mut self, id: SlotId, before: Words, mut update: Update) -> bool {
        let shared = Arc::clone(&self.shared);
        let Some(slot) = shared.slot(id) else {
            return false;
        };
        // Only this writer fills places, so that the slot's own can always be read.
        let empty = RwLock::new(LongValue::default());
        let old = shared.read(before.beside).or_else(|| empty.try_read().ok());
        let Some(old) = old else {
            return false;
        };
        let max = self.sizes.cache_bytes_max;
        let others_bytes = self.beside_bytes - old.bytes();
        if update.bytes_in(&old) > max.saturating_sub(others_bytes + self.reserved) {
            update.give_up(DroppedValue::NoRoom { max });
        }
        let (json, signature): (&[u8], &str) = match &update.value {
            Some(Owned::LongValue { json, signature }) => (json, signature),
            Some(Owned::DroppedValue(_)) => (&[], &old.signature),
            Some(Owned::Words(_)) | None => (&old.json, &old.signature),
        };
        let min = update.min.as_ref().unwrap_or(&old.min);
        let max = update.max.as_ref().unwrap_or(&old.max);
        let is_same = (json, min, max) == (&old.json, &old.min, &old.max);
        let index = if is_same && (before.beside == 0 || *signature == *old.signature) {
            before.beside
        } else {
            let fill = |place: &mut LongValue| {
                keep(&mut place.json, json);
                keep(&mut place.min, min);
                keep(&mut place.max, max);
                if *place.signature != *signature {
                    place.signature = signature.into();
                }
            };
            match self.fill(fill) {
                Some(index) => index,
                None => return false,
            }
        };
        self.beside_bytes = others_bytes + json.len() + min.len() + max.len();
        drop(old);
        let words = match update.value {
            Some(Owned::Words(new)) => new,
            Some(Owned::LongValue { .. }) => Words {
                head: kind::BESIDE,
                ..Words::default()
            },
            Some(Owned::DroppedValue(unkept)) => {
                self.unkept.push((id, unkept));
                Words::default()
            }
            None => before,
        };
        let words = Words {
            beside: index,
            ..words
        };
        slot.store(words);
        if index != before.beside {
            self.free(before.beside);
        }
        let beside = before.beside;
        !is_same || Words { beside, ..words } != before
    }

    /// Fills a place that nobody is in, and gives its index.
    fn fill(&mut self, fill: impl FnOnce(&mut LongValue)) -> Option<u32> {
        // A reader is in one place at a time, for as long as it takes to copy a text.
        let mut at = self.beside_free.len();
        let index = loop {
            let Some(before) = at.checked_sub(1) else {
                break self.more_beside()?;
            };
            at = before;
            let index = *self.beside_free.get(at)?;
            let place = self.shared.place(index)?;
            if let Ok(mut place) = place.try_write() {
                fill(&mut place);
                self.beside_free.swap_remove(at);
                return Some(index);
            }
        };
        fill(&mut *self.shared.place(index)?.try_write().ok()?);
        Some(index)
    }

    fn more_beside(&mut self) -> Option<u32> {
        let chunk = self
            .shared
            .beside
            .get(self.beside_count as usize / CHUNK_SLOTS)?;
        let places = || RwLock::new(LongValue::default());
        chunk.get_or_init(|| (0..CHUNK_SLOTS).map(|_| places()).collect());
        self.beside_count += 1;
        Some(self.beside_count)
    }

    /// Gives a place back that no slot refers to any more, and the memory of a long text.
    fn free(&mut self, index: u32) {
        let Some(place) = self.shared.place(index) else {
            return;
        };
        // Where a reader is in it, its memory waits for the next one who fills it.
        if let Ok(mut place) = place.try_write() {
            let LongValue { json, min, max, .. } = &mut *place;
            for text in [json, min, max] {
                keep(text, b"");
            }
        }
        self.beside_free.push(index);
    }

    /// Copies what one slot holds to another, which holds nothing yet.
    pub fn copy(&mut self, from: SlotId, to: SlotId) {
        let shared = Arc::clone(&self.shared);
        let (Some(from), Some(to)) = (shared.slot(from), shared.slot(to)) else {
            return;
        };
        let mut words = from.load_own();
        if let Some(beside) = shared.read(words.beside) {
            let Some(index) = self.fill(|place| place.clone_from(&beside)) else {
                return;
            };
            self.beside_bytes += beside.bytes();
            words.beside = index;
        }
        to.store(words);
    }

    /// Makes a secret of the text that the slot holds (§4.7).
    pub fn mask(&mut self, id: SlotId) {
        let shared = Arc::clone(&self.shared);
        let Some(slot) = shared.slot(id) else {
            return;
        };
        let words = slot.load_own();
        let Some(beside) = shared
            .read(words.beside)
            .filter(|_| words.head == kind::BESIDE)
        else {
            return;
        };
        let mut masked = beside.clone();
        mask(&mut masked.json, &mut masked.signature);
        let bytes = self.beside_bytes - beside.bytes() + masked.bytes();
        drop(beside);
        if let Some(index) = self.fill(|place| *place = masked) {
            self.beside_bytes = bytes;
            slot.store(Words {
                beside: index,
                ..words
            });
            self.free(words.beside);
        }
    }

    /// Forgets what the slot holds: its item is gone.
    pub fn clear(&mut self, id: SlotId) {
        let shared = Arc::clone(&self.shared);
        let Some(slot) = shared.slot(id) else {
            return;
        };
        let before = slot.load_own();
        if let Some(beside) = shared.read(before.beside) {
            self.beside_bytes -= beside.bytes();
        }
        slot.store(Words::default());
        self.free(before.beside);
    }

    /// The D-Bus type of the present value.
    pub fn present_type(&self, id: SlotId) -> PresentType {
        let Some(words) = self.shared.slot(id).map(Slot::load_own) else {
            return PresentType::None;
        };
        match words.head & 0xff {
            kind::EMPTY | kind::INVALID => PresentType::None,
            kind::BESIDE => {
                let beside = self.shared.read(words.beside);
                match beside.as_ref().map(|beside| &*beside.signature) {
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

impl Reader {
    /// Whether the slot holds a value, be it the invalid one.
    pub fn has_value(&self, id: SlotId) -> bool {
        self.shared
            .slot(id)
            .is_some_and(|slot| slot.load().head & 0xff != kind::EMPTY)
    }

    /// The value, where it is a number.
    pub fn number(&self, id: SlotId) -> Option<f64> {
        let words = self.shared.slot(id)?.load();
        let bits = u64::from(words.low) | u64::from(words.high) << 32;
        // Two whole numbers that far apart in no `f64` are near each other.
        #[allow(clippy::cast_precision_loss)]
        let number = match words.head & 0xff {
            kind::DOUBLE => f64::from_bits(bits),
            kind::INT => bits.cast_signed() as f64,
            kind::UINT => bits as f64,
            _ => return None,
        };
        Some(number).filter(|number| number.is_finite())
    }

    /// Writes the value alone. The slot must hold one.
    pub fn render_value(&self, id: SlotId, out: &mut Vec<u8>) {
        let Some(slot) = self.shared.slot(id) else {
            return render_words(Words::default(), out);
        };
        match self.shared.load(slot) {
            (words, Some(beside)) if words.head == kind::BESIDE => {
                out.extend_from_slice(&beside.json);
            }
            (words, _) => render_words(words, out),
        }
    }

    /// Writes the payload of a notification (§3): `{"value": …}`. The slot must hold a value.
    #[inline]
    pub fn render(&self, id: SlotId, out: &mut Vec<u8>) {
        self.render_if(id, out, |_| true);
    }

    /// The same where the slot holds a value; tells whether it did. For a thread that does not know: an item
    /// may have gone meanwhile.
    #[inline]
    pub fn render_present(&self, id: SlotId, out: &mut Vec<u8>) -> bool {
        self.render_if(id, out, |words| words.head & 0xff != kind::EMPTY)
    }

    #[inline]
    fn render_if(&self, id: SlotId, out: &mut Vec<u8>, takes: impl FnOnce(Words) -> bool) -> bool {
        let slot = self.shared.slot(id);
        let (words, beside) = slot.map(|slot| self.shared.load(slot)).unwrap_or_default();
        if !takes(words) {
            return false;
        }
        out.extend_from_slice(payload::HEAD);
        match &beside {
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
        true
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
