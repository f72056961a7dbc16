//! Items by their topics, and by filters of topics.

use super::{Item, Items};
use crate::bridge::store::cache::SlotId;
use crate::model::filter::{Filter, Path};
use crate::model::topic;

impl Items {
    /// The topic of an item without `N/<portal>/`.
    pub fn topic(&self, item: &Item) -> String {
        [self.device_key(item.device), self.path(item)].concat()
    }

    /// The live slot of the topic without `N/<portal>/`.
    pub fn find_topic(&self, rest: &str) -> Option<SlotId> {
        let slot = self.find_gone_topic(rest)?;
        self.is_live(slot).then_some(slot)
    }

    /// The same, of an item that is live or gone.
    pub fn find_gone_topic(&self, rest: &str) -> Option<SlotId> {
        let (key, path) = topic::split_item(rest)?;
        self.find(self.find_device(key)?, path)
    }

    /// The live slots that a filter matches: by device, and by one look where the filter names the
    /// path.
    pub fn matching(&self, filter: &Filter, mut found: impl FnMut(SlotId)) {
        for device in self.devices() {
            match filter.of_device(self.device_key(device)) {
                None => {}
                Some(Path::One(path)) => {
                    let slot = self.find(device, path);
                    slot.filter(|slot| self.is_live(*slot))
                        .into_iter()
                        .for_each(&mut found);
                }
                Some(path) => {
                    let wanted = |slot: &SlotId| {
                        #[cfg(test)]
                        LOOKS.with(|looks| looks.set(looks.get() + 1));
                        self.get(*slot)
                            .is_some_and(|item| path.matches(self.path(item)))
                    };
                    self.slots(device).filter(wanted).for_each(&mut found);
                }
            }
        }
    }
}

#[cfg(test)]
thread_local! {
    /// How many items were held against a filter, for a test that counts them.
    pub static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
