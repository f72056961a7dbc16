//! Random numbers from a seed, so that what went wrong can be done again (splitmix64).

use std::time::Duration;

/// One row of random numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// Whether something that happens so often in a hundred happens now.
    pub fn percent(&mut self, often: usize) -> bool {
        self.below(100) < often
    }

    /// A time in milliseconds from the first to below the second.
    pub fn time_ms(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis(u64::try_from(from + self.below(to - from)).unwrap())
    }

    /// One of them, by weight.
    pub fn weighted<T: Copy>(&mut self, choices: &[(T, usize)]) -> T {
        let all = choices.iter().map(|(_, weight)| weight).sum();
        let mut at = self.below(all);
        for (choice, weight) in choices {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        unreachable!("below the sum of all")
    }
}
