//! Sets of slots, which grow by themselves: one bit each, or a count.

use super::cache::SlotId;

/// A set of slots.
#[derive(Debug, Default)]
pub struct Bits(Vec<u32>);

impl Bits {
    /// Whether `slot` is in it.
    #[inline]
    pub fn contains(&self, slot: SlotId) -> bool {
        self.0
            .get(slot.0 as usize / 32)
            .is_some_and(|word| word >> (slot.0 % 32) & 1 != 0)
    }

    /// Puts `slot` in, and tells whether it was not in it.
    #[inline]
    pub fn insert(&mut self, slot: SlotId) -> bool {
        let index = slot.0 as usize / 32;
        if index >= self.0.len() {
            self.0.resize((index + 1).next_power_of_two(), 0);
        }
        let Some(word) = self.0.get_mut(index) else {
            return false;
        };
        let bit = 1 << (slot.0 % 32);
        let absent = *word & bit == 0;
        *word |= bit;
        absent
    }

    /// Takes `slot` out, and tells whether it was in it.
    #[inline]
    pub fn remove(&mut self, slot: SlotId) -> bool {
        let Some(word) = self.0.get_mut(slot.0 as usize / 32) else {
            return false;
        };
        let bit = 1 << (slot.0 % 32);
        let present = *word & bit != 0;
        *word &= !bit;
        present
    }

    /// No slot that is in it has this number or a higher one.
    pub fn slots(&self) -> u32 {
        u32::try_from(self.0.len() * 32).unwrap_or(u32::MAX)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// All that are in it, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = SlotId> + '_ {
        (0_u32..).zip(&self.0).flat_map(|(index, &word)| {
            (0..32)
                .filter(move |bit| word >> bit & 1 != 0)
                .map(move |bit| SlotId(index * 32 + bit))
        })
    }
}

/// How often each slot is in it.
#[derive(Debug, Default)]
pub struct Counts(Vec<u32>);

impl Counts {
    /// Whether `slot` is in it.
    #[inline]
    pub fn contains(&self, slot: SlotId) -> bool {
        self.0.get(slot.0 as usize).is_some_and(|count| *count != 0)
    }

    /// Puts `slot` in once more.
    pub fn insert(&mut self, slot: SlotId) {
        self.set(
            slot,
            self.0.get(slot.0 as usize).map_or(1, |count| count + 1),
        );
    }

    /// Takes `slot` out once.
    pub fn remove(&mut self, slot: SlotId) {
        if let Some(count) = self.0.get_mut(slot.0 as usize) {
            *count = count.saturating_sub(1);
        }
    }

    /// Has `slot` in it so many times.
    pub fn set(&mut self, slot: SlotId, count: u32) {
        let index = slot.0 as usize;
        if count != 0 && index >= self.0.len() {
            self.0.resize((index + 1).next_power_of_two(), 0);
        }
        if let Some(place) = self.0.get_mut(index) {
            *place = count;
        }
    }

    /// Takes all out, and gives the memory back.
    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }
}
