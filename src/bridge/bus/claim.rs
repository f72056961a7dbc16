//! Which of the services of one type and one device instance has the topics (§2.7).
//!
//! Only the order is here: what a claim is worth, and who had which topics before. Who has them now
//! is in `crate::bridge::store::items`, and what happens when they change hands in `super::services`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::model::name::ServiceName;

/// What a service can say for itself; the greatest claim has the topics.
///
/// The order of the fields is the order of §2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Its name has exactly three parts: `com.victronenergy.settings` is the real one,
    /// `com.victronenergy.settings.dummydriver` is somebody's addition.
    bare_name: bool,
    /// It says its instance itself, and has not 0 by default.
    says_instance: bool,
    /// How early it first had the topics, among all that ever had some.
    held: Reverse<u64>,
    /// How early it came to the bus.
    came: Reverse<u64>,
}

/// Who had which topics, and in which order, for as long as the bridge runs.
#[derive(Debug, Default)]
pub struct Holders {
    hasher: RandomState,
    /// By a hash of device and name: neither is needed any more, and both are as long as a service
    /// likes.
    first_held: HashMap<u64, u64>,
    next: u64,
}

/// How many are remembered. The older half is forgotten then: a driver that goes through all
/// instances must cost no memory.
const HOLDERS_MAX: usize = 16_384;

impl Holders {
    /// The claim of a service to the device `key` (`<type>/<instance>`). `came` is how many services
    /// came to the bus before it.
    pub fn claim(&self, key: &str, name: &ServiceName, says_instance: bool, came: u64) -> Claim {
        let held = self.first_held.get(&self.hasher.hash_one((key, name)));
        Claim {
            bare_name: name.is_bare(),
            says_instance,
            held: Reverse(held.copied().unwrap_or(u64::MAX)),
            came: Reverse(came),
        }
    }

    /// A service has the topics of the device now.
    pub fn note(&mut self, key: &str, name: &ServiceName) {
        if self.first_held.len() >= HOLDERS_MAX {
            let mut orders: Vec<u64> = self.first_held.values().copied().collect();
            let (_, middle, _) = orders.select_nth_unstable(HOLDERS_MAX / 2);
            let middle = *middle;
            self.first_held.retain(|_, order| *order >= middle);
        }
        let hash = self.hasher.hash_one((key, name));
        self.first_held.entry(hash).or_insert_with(|| {
            self.next += 1;
            self.next
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    /// One that claims `settings/0` or `tank/4`: its name, whether it says its instance, whether it
    /// had the topics before (1: first, 2: later), and when it came.
    type Claimant = (&'static str, bool, u8, u64);

    #[test]
    fn s2_7_the_better_claim() {
        let check = |better: Claimant, worse: Claimant| {
            let mut holders = Holders::default();
            let both = [better, worse];
            for order in 1..=2 {
                for (text, _, held, _) in both {
                    if held == order {
                        holders.note("key", &name(text));
                    }
                }
            }
            let [better, worse] =
                both.map(|(text, says, _, came)| holders.claim("key", &name(text), says, came));
            assert!(better > worse, "{both:?}");
        };
        let (real, dummy) = (
            "com.victronenergy.settings",
            "com.victronenergy.settings.dummydriver",
        );
        let (one, two) = ("com.victronenergy.tank.one", "com.victronenergy.tank.two");
        // Three parts count for more than all the rest.
        check((real, false, 0, 2), (dummy, true, 1, 1));
        // One that says its instance, over one that had the topics and came first.
        check((one, true, 0, 2), (two, false, 1, 1));
        // One that had them, over one that came first.
        check((one, true, 1, 2), (two, true, 0, 1));
        check((one, false, 1, 2), (two, false, 0, 1));
        // Of two that had them, the one that had them first: the other slipped in.
        check((one, true, 1, 2), (two, true, 2, 1));
        // The first to come.
        check((one, true, 0, 1), (two, true, 0, 2));
        check(
            (real, false, 0, 1),
            ("com.victronenergy.system", false, 0, 2),
        );
    }

    #[test]
    fn who_had_other_topics_has_no_better_claim() {
        let mut holders = Holders::default();
        let tank = name("com.victronenergy.tank.one");
        let never = holders.claim("tank/4", &tank, true, 1);
        holders.note("tank/3", &tank);
        assert_eq!(holders.claim("tank/4", &tank, true, 1), never);
        assert!(holders.claim("tank/3", &tank, true, 1) > never);
        // Again is no later than before.
        let first = holders.claim("tank/3", &tank, true, 1);
        holders.note("tank/3", &tank);
        assert_eq!(holders.claim("tank/3", &tank, true, 1), first);
    }

    #[test]
    fn the_memory_of_holders_is_bounded() {
        let mut holders = Holders::default();
        let tank = name("com.victronenergy.tank.one");
        for instance in 0..100_000 {
            holders.note(&format!("tank/{instance}"), &tank);
            assert!(holders.first_held.len() <= HOLDERS_MAX);
        }
        // The latest are remembered.
        let known = holders.claim("tank/99999", &tank, true, 1);
        let forgotten = holders.claim("tank/0", &tank, true, 1);
        assert!(known > forgotten);
    }
}
