//! Topic aliases of one connection [MQTT-3.3.2.3.4]: which topics get one of the numbers that the
//! broker allows.
//!
//! A full publish names every topic once, and of those few ever change, so that first come is the
//! wrong choice: a topic gets a number when it comes for the second time. Where all numbers are
//! taken (a broker may allow ten, or 65,535) a topic takes that of another one that came less than
//! half as often; taking it costs no more than going without. Each time one holder is looked at, in
//! turn, so that the cost stays the same with any number of topics, and counts are halved from time
//! to time, so that what was busy long ago gives way.

/// The topic aliases of one connection.
#[derive(Debug, Default)]
pub struct Aliases {
    max: u16,
    /// By the number of the item's slot.
    topics: Vec<Topic>,
    /// Which slot has the alias, by the alias less one.
    holders: Vec<u32>,
    /// The holder to look at next.
    hand: usize,
    /// How many were asked for since the counts were halved.
    asked: u16,
}

/// What is known of the topic of a slot.
#[derive(Debug, Clone, Copy, Default)]
struct Topic {
    /// Tells the item from others that had the same slot.
    serial: u32,
    /// How often it came.
    count: u16,
    /// 0: none.
    alias: u16,
}

/// A holder that has gone.
const NOBODY: u32 = u32::MAX;

impl Aliases {
    /// As many as the broker allows; 0: none.
    pub fn new(max: u16) -> Aliases {
        Aliases {
            max,
            ..Aliases::default()
        }
    }

    /// The alias for the topic of this item, and whether the broker knows it already. `None`: the
    /// topic goes out as it is.
    #[inline]
    pub fn pick(&mut self, slot: u32, serial: u32) -> Option<(u16, bool)> {
        if self.max == 0 {
            return None;
        }
        self.asked = self.asked.wrapping_add(1);
        if self.asked == 0 {
            self.halve();
        }
        let index = slot as usize;
        if index >= self.topics.len() {
            self.topics
                .resize((index + 1).next_power_of_two(), Topic::default());
        }
        let topic = self.topics.get_mut(index)?;
        if topic.serial != serial {
            // Another item has the slot now; what alias there is goes over to its topic.
            topic.serial = serial;
            topic.count = 1;
            return (topic.alias != 0).then_some((topic.alias, false));
        }
        topic.count = topic.count.saturating_add(1);
        if topic.alias != 0 {
            return Some((topic.alias, true));
        }
        let count = topic.count;
        let alias = self.take(slot, count)?;
        if let Some(topic) = self.topics.get_mut(index) {
            topic.alias = alias;
        }
        Some((alias, false))
    }

    /// The packet in which the topic came did not go out: the broker knows nothing of its alias.
    pub fn forget(&mut self, slot: u32) {
        let Some(topic) = self.topics.get_mut(slot as usize) else {
            return;
        };
        let alias = std::mem::take(&mut topic.alias);
        if let Some(holder) = self.holders.get_mut(usize::from(alias).wrapping_sub(1)) {
            *holder = NOBODY;
        }
    }

    /// An alias for one that has none, where there is one to be had.
    fn take(&mut self, slot: u32, count: u16) -> Option<u16> {
        if let Ok(held) = u16::try_from(self.holders.len())
            && held < self.max
        {
            self.holders.push(slot);
            return Some(held + 1);
        }
        let place = self.hand;
        self.hand = (place + 1) % self.holders.len().max(1);
        let holder = self.holders.get_mut(place)?;
        if let Some(other) = self.topics.get_mut(*holder as usize) {
            if count < 2 || count <= other.count.saturating_mul(2) {
                return None;
            }
            other.alias = 0;
        }
        *holder = slot;
        u16::try_from(place + 1).ok()
    }

    fn halve(&mut self) {
        for topic in &mut self.topics {
            topic.count /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_gets_its_number_when_it_comes_again() {
        let mut aliases = Aliases::new(2);
        for slot in [5, 6, 7] {
            assert_eq!(aliases.pick(slot, 1), None);
        }
        assert_eq!(aliases.pick(6, 1), Some((1, false)));
        assert_eq!(aliases.pick(6, 1), Some((1, true)));
        assert_eq!(aliases.pick(5, 1), Some((2, false)));
        assert_eq!(aliases.pick(7, 1), None);
        // Another item in a slot is another topic under the same number.
        assert_eq!(aliases.pick(5, 2), Some((2, false)));
        assert_eq!(aliases.pick(5, 2), Some((2, true)));
        // What the broker was not told it does not know.
        aliases.forget(5);
        assert_eq!(aliases.pick(5, 2), Some((2, false)));
        assert_eq!(aliases.pick(5, 2), Some((2, true)));
    }

    #[test]
    fn a_broker_that_allows_none_gets_none() {
        let mut aliases = Aliases::new(0);
        for _ in 0..10 {
            assert_eq!(aliases.pick(1, 1), None);
        }
        aliases.forget(1);
        assert!(aliases.topics.is_empty());
    }

    /// What a broker makes of the numbers must always be the topic that was meant.
    #[test]
    fn the_busiest_topics_end_up_with_the_numbers() {
        const MAX: u16 = 10;
        let mut aliases = Aliases::new(MAX);
        let mut broker = std::collections::HashMap::new();
        let mut saved = 0;
        let mut random = 1_u32;
        for round in 0..20_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // One half of all is of ten topics, the others of a thousand.
            let slot = if round % 2 == 0 {
                1_000 + (random >> 16) % 10
            } else {
                (random >> 16) % 1_000
            };
            if let Some((alias, known)) = aliases.pick(slot, 1) {
                assert!((1..=MAX).contains(&alias));
                if known {
                    assert_eq!(broker.get(&alias), Some(&slot));
                    saved += u32::from(round > 10_000);
                } else {
                    broker.insert(alias, slot);
                }
            }
        }
        assert!(saved > 4_500, "{saved} of 10,000 went without their topic");
    }

    #[test]
    fn the_numbers_go_up_to_the_highest() {
        let mut aliases = Aliases::new(u16::MAX);
        for _ in 0..2 {
            for slot in 0..70_000 {
                aliases.pick(slot, 1);
            }
        }
        assert_eq!(aliases.holders.len(), usize::from(u16::MAX));
    }
}
