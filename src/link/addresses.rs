//! Which address of a broker to try next (§6): each once, in random order, then all again.
//!
//! What loses a thousand bridges at once, one node of a cluster, so has them spread over the others. The
//! address that was just lost comes last.

/// The addresses of one broker, by their place in the settings.
#[derive(Debug)]
pub struct Addresses {
    count: usize,
    /// Those that were not tried yet in this round.
    left: Vec<usize>,
    /// The one that was tried last.
    last: usize,
}

impl Addresses {
    /// `count` of them, at least one.
    pub fn new(count: usize) -> Addresses {
        Addresses {
            count: count.max(1),
            left: Vec::new(),
            last: 0,
        }
    }

    /// The next one to try. `random` is any number.
    pub fn next(&mut self, random: u32) -> usize {
        if self.left.is_empty() {
            self.left = (0..self.count).collect();
        }
        let at = random as usize % self.left.len();
        self.last = self.left.swap_remove(at);
        self.last
    }

    /// Whether there is another one to try before all begin anew.
    pub fn has_more(&self) -> bool {
        !self.left.is_empty()
    }

    /// The one that was tried last held a connection: the others are worth trying now.
    pub fn held(&mut self) {
        self.left = (0..self.count).filter(|at| *at != self.last).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_tried_once_before_any_is_tried_again() {
        for seed in 0..100_u32 {
            let mut addresses = Addresses::new(3);
            for round in 0..4 {
                let mut tried: Vec<usize> = (0..3)
                    .map(|turn| {
                        let next = addresses.next(seed.wrapping_mul(2_654_435_761) >> turn);
                        assert_eq!(addresses.has_more(), turn < 2);
                        next
                    })
                    .collect();
                tried.sort_unstable();
                assert_eq!(tried, [0, 1, 2], "{seed}, round {round}");
            }
        }
    }

    #[test]
    fn bridges_that_lose_one_node_spread_over_the_others() {
        let mut counts = [0; 3];
        for bridge in 0..300_u32 {
            let mut addresses = Addresses::new(3);
            while addresses.next(bridge) != 1 {}
            addresses.held();
            let first = addresses.next(bridge);
            counts[first] += 1;
            addresses.next(bridge);
            assert!(
                !addresses.has_more(),
                "the lost one comes in the next round"
            );
        }
        assert_eq!(counts, [150, 0, 150]);
    }

    #[test]
    fn one_alone_is_tried_again_and_again() {
        let mut addresses = Addresses::new(1);
        for random in 0..3 {
            assert_eq!(addresses.next(random), 0);
            addresses.held();
            assert!(!addresses.has_more());
        }
    }
}
