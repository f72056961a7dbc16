//! Which address of a broker to try next (§6): each once, in random order, then all again.
//!
//! What loses a thousand bridges at once, one node of a cluster, so has them spread over the others. The
//! address that was just lost comes last.
//!
//! A broker may send us to another server. That one is tried next, and when it is lost or cannot be reached,
//! those of the settings are: whoever has moved for good says so again.

/// The addresses of one broker, by their place in the settings.
#[derive(Debug)]
pub struct Addresses {
    count: usize,
    /// Those that were not tried yet in this round.
    left: Vec<usize>,
    /// The one that was tried last, if it is one of the settings.
    last: Option<usize>,
    /// A broker has sent us elsewhere, and we were not there yet.
    referred: bool,
    /// How often that was so since a connection held.
    hops: u32,
}

/// Where to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One of the settings.
    Listed(usize),
    /// Where a broker has sent us.
    Referred,
}

/// Brokers that send us to each other are not followed for longer than that.
const HOPS_MAX: u32 = 3;

impl Addresses {
    /// `count` of them, at least one.
    pub fn new(count: usize) -> Addresses {
        Addresses {
            count: count.max(1),
            left: Vec::new(),
            last: None,
            referred: false,
            hops: 0,
        }
    }

    /// The next one to try. `random` is any number.
    pub fn next(&mut self, random: u32) -> Place {
        if std::mem::take(&mut self.referred) {
            self.last = None;
            return Place::Referred;
        }
        if self.left.is_empty() {
            self.left = (0..self.count).collect();
        }
        let at = random as usize % self.left.len();
        let next = self.left.swap_remove(at);
        self.last = Some(next);
        Place::Listed(next)
    }

    /// A broker sends us to another server. `false` where we have followed too often.
    pub fn refer(&mut self) -> bool {
        self.referred = self.hops < HOPS_MAX;
        self.hops = if self.referred { self.hops + 1 } else { 0 };
        self.referred
    }

    /// Whether there is another one to try before all begin anew.
    pub fn has_more(&self) -> bool {
        self.referred || !self.left.is_empty()
    }

    /// The one that was tried last held a connection: the others are worth trying now.
    pub fn held(&mut self) {
        self.left = (0..self.count)
            .filter(|at| Some(*at) != self.last)
            .collect();
        self.hops = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Addresses {
        fn listed(&mut self, random: u32) -> usize {
            match self.next(random) {
                Place::Listed(place) => place,
                Place::Referred => panic!("nobody has sent us anywhere"),
            }
        }
    }

    #[test]
    fn where_a_broker_sends_us_is_tried_next_and_once() {
        let mut addresses = Addresses::new(2);
        let first = addresses.listed(0);
        assert!(addresses.refer() && addresses.has_more());
        assert_eq!(addresses.next(0), Place::Referred);
        // It cannot be reached: the other one of the settings, then both again.
        assert_ne!(addresses.listed(0), first);
        assert!(!addresses.has_more());
        addresses.listed(0);
        // It holds: when it is lost, all of the settings are worth trying.
        assert!(addresses.refer());
        assert_eq!(addresses.next(0), Place::Referred);
        addresses.held();
        let mut all = [addresses.listed(0), addresses.listed(0)];
        all.sort_unstable();
        assert_eq!(all, [0, 1]);
    }

    #[test]
    fn brokers_that_send_us_to_each_other_are_followed_three_times() {
        let mut addresses = Addresses::new(1);
        addresses.next(0);
        for _ in 0..HOPS_MAX {
            assert!(addresses.refer());
            assert_eq!(addresses.next(0), Place::Referred);
        }
        // Now the wait grows as for any broker that cannot be reached.
        assert!(!addresses.refer() && !addresses.has_more());
        assert_eq!(addresses.next(0), Place::Listed(0));
        assert!(addresses.refer());
    }

    #[test]
    fn each_is_tried_once_before_any_is_tried_again() {
        for seed in 0..100_u32 {
            let mut addresses = Addresses::new(3);
            for round in 0..4 {
                let mut tried: Vec<usize> = (0..3)
                    .map(|turn| {
                        let next = addresses.listed(seed.wrapping_mul(2_654_435_761) >> turn);
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
            while addresses.listed(bridge) != 1 {}
            addresses.held();
            let first = addresses.listed(bridge);
            counts[first] += 1;
            addresses.listed(bridge);
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
            assert_eq!(addresses.listed(random), 0);
            addresses.held();
            assert!(!addresses.has_more());
        }
    }
}
