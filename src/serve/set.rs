//! Sets of slots, as words of 32 bits: what changed, what waits for a client, what a filter matches.

use std::collections::VecDeque;

/// A set of numbers, which grows by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits(Vec<u32>);

impl Bits {
    /// A word of it; 0 beyond its end.
    #[inline]
    pub fn word(&self, index: usize) -> u32 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Whether `number` is in it.
    #[inline]
    pub fn contains(&self, number: u32) -> bool {
        self.word(index(number)) & bit(number) != 0
    }

    /// Puts the bits of one word in; gives what the word was before.
    #[inline]
    pub fn insert_word(&mut self, index: usize, bits: u32) -> u32 {
        if index >= self.0.len() {
            if bits == 0 {
                return 0;
            }
            self.0.resize(index + 1, 0);
        }
        match self.0.get_mut(index) {
            Some(word) => {
                let before = *word;
                *word |= bits;
                before
            }
            None => 0,
        }
    }

    /// Puts `number` in; gives what its word was before.
    #[inline]
    pub fn insert(&mut self, number: u32) -> u32 {
        self.insert_word(index(number), bit(number))
    }

    /// Takes `number` out, and tells whether it was in it.
    #[inline]
    pub fn remove(&mut self, number: u32) -> bool {
        let Some(word) = self.0.get_mut(index(number)) else {
            return false;
        };
        let present = *word & bit(number) != 0;
        *word &= !bit(number);
        present
    }

    /// Takes a whole word out.
    #[inline]
    pub fn take_word(&mut self, index: usize) -> u32 {
        self.0.get_mut(index).map_or(0, std::mem::take)
    }

    /// Puts all of another set in.
    pub fn insert_all(&mut self, other: &Bits) {
        for (index, &word) in other.0.iter().enumerate() {
            self.insert_word(index, word);
        }
    }

    /// Leaves only what is in another set too.
    pub fn keep(&mut self, other: &Bits) {
        for (index, word) in self.0.iter_mut().enumerate() {
            *word &= other.word(index);
        }
    }

    /// Whether all of another set is in it.
    pub fn has_all(&self, other: &Bits) -> bool {
        let mut words = other.0.iter().enumerate();
        words.all(|(index, &word)| word & !self.word(index) == 0)
    }

    /// All that are in it.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..)
            .zip(&self.0)
            .flat_map(|(index, &word)| numbers(index, word))
    }
}

/// The numbers of the bits of one word.
pub fn numbers(index: u32, mut word: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let low = word.trailing_zeros();
        word &= word - 1;
        Some(index * 32 + low)
    })
}

#[inline]
fn index(number: u32) -> usize {
    number as usize / 32
}

#[inline]
fn bit(number: u32) -> u32 {
    1 << (number % 32)
}

/// A set that gives its words back in the order in which they came. Each waits once: what comes
/// again before it is taken conflates.
#[derive(Debug, Default)]
pub struct Waiting {
    bits: Bits,
    /// Words that may hold something, each once.
    order: VecDeque<u32>,
}

impl Waiting {
    /// Puts the bits of one word in; gives how many of them were in it.
    #[inline]
    pub fn insert_word(&mut self, index: u32, bits: u32) -> u32 {
        if bits == 0 {
            return 0;
        }
        let before = self.bits.insert_word(index as usize, bits);
        if before == 0 {
            self.order.push_back(index);
        }
        (before & bits).count_ones()
    }

    /// Puts `number` in, and tells whether it was not in it.
    pub fn insert(&mut self, number: u32) -> bool {
        let absent = !self.bits.contains(number);
        self.insert_word(number / 32, bit(number));
        absent
    }

    /// Takes `number` out, and tells whether it was in it.
    pub fn remove(&mut self, number: u32) -> bool {
        // A word that is empty stays in the order, once: `front` skips it.
        let index = index(number);
        let before = self.bits.word(index);
        if before != 0 && before & !bit(number) == 0 {
            self.order.retain(|other| *other as usize != index);
        }
        self.bits.remove(number)
    }

    /// Leaves only what is in another set.
    pub fn keep(&mut self, other: &Bits) {
        self.bits.keep(other);
        let bits = &self.bits;
        self.order.retain(|index| bits.word(*index as usize) != 0);
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The next word and its bits, which are taken out.
    #[inline]
    pub fn pop(&mut self) -> Option<(u32, u32)> {
        let index = self.order.pop_front()?;
        Some((index, self.bits.take_word(index as usize)))
    }

    /// Puts back what was taken and not used: it is the next again.
    pub fn put_back(&mut self, index: u32, bits: u32) {
        if bits != 0 && self.bits.insert_word(index as usize, bits) == 0 {
            self.order.push_front(index);
        }
    }

    /// All words with their bits, in order.
    pub fn words(&self) -> impl ExactSizeIterator<Item = (u32, u32)> + '_ {
        self.order
            .iter()
            .map(|index| (*index, self.bits.word(*index as usize)))
    }

    /// Takes all out; the memory stays.
    pub fn clear(&mut self) {
        while self.pop().is_some() {}
    }
}

/// A set that is gone through once, those of another set first.
#[derive(Debug, Default)]
pub struct Sweep {
    left: Bits,
    at: usize,
    first: bool,
}

impl Sweep {
    /// Begins with what is in `all`.
    pub fn new(all: Bits) -> Sweep {
        Sweep {
            left: all,
            at: 0,
            first: true,
        }
    }

    /// Takes the next one out: those in `before` come before all others.
    pub fn next(&mut self, before: &Bits) -> Option<u32> {
        loop {
            while let Some(&word) = self.left.0.get(self.at) {
                let now = if self.first {
                    word & before.word(self.at)
                } else {
                    word
                };
                if now != 0 {
                    let number =
                        u32::try_from(self.at).unwrap_or(u32::MAX) * 32 + now.trailing_zeros();
                    self.left.remove(number);
                    return Some(number);
                }
                self.at += 1;
            }
            if !self.first {
                return None;
            }
            self.first = false;
            self.at = 0;
        }
    }

    /// Puts back the one that was taken last.
    pub fn put_back(&mut self, number: u32) {
        self.left.insert(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_comes_once_and_in_order() {
        let mut waiting = Waiting::default();
        for number in [70, 3, 70, 64, 3] {
            waiting.insert(number);
        }
        assert_eq!(waiting.words().len(), 2);
        assert_eq!(waiting.pop(), Some((2, 1 << 6 | 1)));
        waiting.put_back(2, 1);
        assert_eq!(waiting.pop(), Some((2, 1)));
        waiting.remove(3);
        assert!(waiting.is_empty());
        waiting.insert(3);
        waiting.insert(40);
        let mut only = Bits::default();
        only.insert(40);
        waiting.keep(&only);
        assert_eq!(waiting.pop(), Some((1, 1 << 8)));
        assert_eq!(waiting.pop(), None);
    }

    #[test]
    fn s5_5_a_sweep_takes_what_identifies_first() {
        let mut all = Bits::default();
        let mut first = Bits::default();
        for number in [1, 2, 40, 90] {
            all.insert(number);
        }
        for number in [40, 90, 91] {
            first.insert(number);
        }
        let mut sweep = Sweep::new(all);
        let mut found = Vec::new();
        while let Some(number) = sweep.next(&first) {
            found.push(number);
        }
        assert_eq!(found, [40, 90, 1, 2]);
    }
}
