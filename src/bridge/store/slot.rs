//! One item's value as words that one writer sets and any number of readers copy, without locks.
//!
//! A sequence lock over 32-bit words: the writer makes the sequence odd, sets the words, and makes
//! it even again; a reader that saw it odd, or changed, copies once more. 32 bits because a 64-bit
//! atomic store is a loop of exclusive loads and stores on ARMv7, and two 32-bit ones are two
//! stores.

use super::sync::{AtomicU32, Ordering, fence, spin_loop};

/// What a slot holds, copied out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Words {
    /// What kind of value it is, and its D-Bus type; see `cache::Kind`.
    pub head: u32,
    /// The low half of the value.
    pub low: u32,
    /// The high half of the value.
    pub high: u32,
    /// Where its text, array or limits are, plus one; 0 where it has none.
    pub beside: u32,
}

/// A place for [`Words`].
#[derive(Debug, Default)]
pub struct Slot {
    sequence: AtomicU32,
    head: AtomicU32,
    low: AtomicU32,
    high: AtomicU32,
    beside: AtomicU32,
}

impl Slot {
    /// Sets the words. There must be one writer at a time; the cache's writer is not shared.
    #[inline]
    pub fn store(&self, words: Words) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.head.store(words.head, Ordering::Relaxed);
        self.low.store(words.low, Ordering::Relaxed);
        self.high.store(words.high, Ordering::Relaxed);
        self.beside.store(words.beside, Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Copies the words.
    #[inline]
    pub fn load(&self) -> Words {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                let words = self.load_own();
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return words;
                }
            }
            spin_loop();
        }
    }

    /// Copies the words in the one thread that writes them.
    #[inline]
    pub fn load_own(&self) -> Words {
        Words {
            head: self.head.load(Ordering::Relaxed),
            low: self.low.load(Ordering::Relaxed),
            high: self.high.load(Ordering::Relaxed),
            beside: self.beside.load(Ordering::Relaxed),
        }
    }
}
