//! Which slots have changed, told by one thread to another without a lock.
//!
//! ```text
//! bus thread:      store the value ▶ set(slot) ▶ … ▶ rouse()    true: the other one sleeps, wake it
//! serving thread:  rest() ▶ sleep … ▶ take(word, bits) ▶ read the values
//! ```
//!
//! One bit for each slot in words of 32, and one bit for each of these words in a summary, so that a
//! thread that is told of one change among 500,000 slots looks at a few hundred words. A mark says that
//! there is something to read, never what: a slot that changes ten times is marked once.
//!
//! INVARIANT: no change is left unread. Who takes a mark sees the value that was stored before it was set,
//! or a later one; and who goes to sleep has either seen the mark or is woken for it.

use super::cache::SlotId;
use super::sync::{AtomicU32, Ordering};

/// The one who reads the marks is awake, or will be: it looks at them before it sleeps.
const AWAKE: u32 = 0;
/// It sleeps, and is to be woken.
const ASLEEP: u32 = 1;

/// Marks of slots that have changed.
#[derive(Debug)]
pub struct Marks {
    words: Box<[AtomicU32]>,
    /// A bit for each word that has, or had just now, a mark.
    summary: Box<[AtomicU32]>,
    reader: AtomicU32,
}

impl Marks {
    /// Marks for so many slots; none is set.
    pub fn new(slots: usize) -> Marks {
        let words = slots.div_ceil(32);
        let zeros = |count: usize| (0..count).map(|_| AtomicU32::new(0)).collect();
        Marks {
            words: zeros(words),
            summary: zeros(words.div_ceil(32)),
            reader: AtomicU32::new(AWAKE),
        }
    }

    /// The slot has changed; its value is stored. Wakes nobody: that is [`Marks::rouse`]'s.
    #[inline]
    pub fn set(&self, slot: SlotId) {
        let (at, bit) = (slot.0 as usize / 32, 1 << (slot.0 % 32));
        let Some(word) = self.words.get(at) else {
            return;
        };
        // A mark that was there was not taken yet: whoever takes it sees this value too, and has, or
        // will find, its bit in the summary.
        if word.fetch_or(bit, Ordering::AcqRel) & bit == 0
            && let Some(summary) = self.summary.get(at / 32)
        {
            summary.fetch_or(1 << (at % 32), Ordering::AcqRel);
        }
    }

    /// After a batch of changes, or of other messages for the reader: whether it sleeps and is to be woken.
    /// `true` once for each sleep.
    #[inline]
    pub fn rouse(&self) -> bool {
        self.reader.swap(AWAKE, Ordering::AcqRel) == ASLEEP
    }

    /// The reader is going to sleep, and has looked at everything. `false` where there is something to be
    /// read after all: then it does not sleep.
    pub fn rest(&self) -> bool {
        // Whoever rouses after this finds it asleep; what was set before such a rouse is seen below.
        self.reader.swap(ASLEEP, Ordering::AcqRel);
        let is_set = |word: &AtomicU32| word.load(Ordering::Acquire) != 0;
        let rests = !self.summary.iter().any(is_set);
        if !rests {
            self.reader.swap(AWAKE, Ordering::AcqRel);
        }
        rests
    }

    /// The reader is awake, whoever woke it.
    pub fn awake(&self) {
        // No plain store: that would hide a rouse before it from the next rest, and what was set before it.
        self.reader.swap(AWAKE, Ordering::AcqRel);
    }

    /// Takes all marks: gives each word that has any, with its number and its bits; bit `n` of word `w` is
    /// slot `32 w + n`.
    #[inline]
    pub fn take(&self, mut each: impl FnMut(usize, u32)) {
        for (at, summary) in self.summary.iter().enumerate() {
            if summary.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut found = summary.swap(0, Ordering::AcqRel);
            while found != 0 {
                let word = at * 32 + found.trailing_zeros() as usize;
                found &= found - 1;
                let bits = self.words.get(word);
                let bits = bits.map_or(0, |bits| bits.swap(0, Ordering::AcqRel));
                if bits != 0 {
                    each(word, bits);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(marks: &Marks) -> Vec<(usize, u32)> {
        let mut all = Vec::new();
        marks.take(|word, bits| all.push((word, bits)));
        all
    }

    #[test]
    fn each_mark_is_taken_once() {
        let marks = Marks::new(100_000);
        for slot in [0, 31, 32, 99_999, 31] {
            marks.set(SlotId(slot));
        }
        marks.set(SlotId(100_001)); // beyond what there is
        assert_eq!(taken(&marks), [(0, 1 | 1 << 31), (1, 1), (3124, 1 << 31)]);
        assert_eq!(taken(&marks), []);
    }

    #[test]
    fn one_wake_up_for_a_batch_and_none_for_who_is_awake() {
        let marks = Marks::new(64);
        marks.set(SlotId(1));
        assert!(!marks.rouse());
        assert!(!marks.rest(), "there is something to read");
        taken(&marks);
        assert!(marks.rest());
        marks.set(SlotId(1));
        marks.set(SlotId(40));
        assert!(marks.rouse());
        assert!(!marks.rouse());
        taken(&marks);
        assert!(marks.rest());
        marks.awake(); // for another reason
        assert!(!marks.rouse());
    }
}
