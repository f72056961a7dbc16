//! What items there are, and which of them each set of filters matches: a [`Cover`], one bitmap, shared
//! by all clients with the same filters. Filters are matched when an item comes or a filter does,
//! never at an update.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::filter::Filter;
use super::interface::Slot;
use super::set::Bits;
use crate::model::filter::List;
use crate::model::interner::{Interner, TextId};
use crate::model::topic;

/// All items, and the filters and covers in use.
#[derive(Debug)]
pub struct Directory {
    portal: Box<str>,
    /// By slot; [`NOTHING`] where there is none.
    items: Vec<Item>,
    /// `<type>/<instance>` of each device.
    devices: Interner,
    paths: Interner,
    /// The slots of each device, in the order of their paths' ids: smaller than a table of all.
    slots: HashMap<TextId, Vec<Slot>>,
    identifying: Bits,
    /// What was there before the directory was read anew, and has not been named since.
    unseen: Option<Bits>,
    filters: HashMap<Box<str>, Weak<Shared>>,
    covers: HashMap<(usize, Box<[u64]>), Weak<Cover>>,
    /// For each listener, what its lists hide.
    hidden: Vec<Hidden>,
    serial: u64,
}

/// What is kept of an item. Its topic is not kept whole: there are twenty thousand.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Item {
    device: TextId,
    path: TextId,
}

const NOTHING: Item = Item {
    device: TextId::NONE,
    path: TextId::NONE,
};

/// An item.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// `<type>/<instance>` of its device.
    pub device: &'a str,
    /// Its path, which begins with a slash.
    pub path: &'a str,
}

impl Entry<'_> {
    /// Whether this is its topic below the portal id.
    pub fn has_topic(&self, topic: &str) -> bool {
        topic.strip_prefix(self.device) == Some(self.path)
    }
}

#[derive(Debug)]
struct Hidden {
    list: List,
    open: bool,
    bits: Bits,
}

/// A filter that some client has, with what it matches.
#[derive(Debug)]
pub struct Shared {
    /// The filter.
    pub filter: Filter,
    serial: u64,
    bits: RefCell<Bits>,
}

impl Shared {
    /// The items that it matches.
    pub fn bits(&self) -> Ref<'_, Bits> {
        self.bits.borrow()
    }
}

/// What a set of filters matches, for the clients of one listener.
#[derive(Debug, Default)]
pub struct Cover {
    listener: usize,
    filters: Box<[Rc<Shared>]>,
    bits: RefCell<Bits>,
}

impl Cover {
    /// The items that it matches.
    #[inline]
    pub fn bits(&self) -> Ref<'_, Bits> {
        self.bits.borrow()
    }
}

impl Directory {
    /// No items yet; a list for each listener.
    pub fn new(portal: &str, lists: impl Iterator<Item = List>) -> Directory {
        let hidden = lists.map(|list| Hidden {
            open: list.is_open(),
            list,
            bits: Bits::default(),
        });
        Directory {
            portal: portal.into(),
            items: Vec::new(),
            devices: Interner::default(),
            paths: Interner::default(),
            slots: HashMap::new(),
            identifying: Bits::default(),
            unseen: None,
            filters: HashMap::new(),
            covers: HashMap::new(),
            hidden: hidden.collect(),
            serial: 0,
        }
    }

    /// The item in a slot.
    #[inline]
    pub fn item(&self, slot: u32) -> Option<Entry<'_>> {
        let item = self.items.get(slot as usize)?;
        (*item != NOTHING).then(|| self.entry(*item))
    }

    #[inline]
    fn entry(&self, item: Item) -> Entry<'_> {
        Entry {
            device: self.devices.text(item.device),
            path: self.paths.text(item.path),
        }
    }

    /// The slots of all items, with their topics below the portal id.
    fn for_each(&self, mut each: impl FnMut(u32, &str)) {
        let mut topic = String::new();
        for (slot, _) in (0_u32..).zip(&self.items) {
            if let Some(Entry { device, path }) = self.item(slot) {
                topic.clear();
                topic.push_str(device);
                topic.push_str(path);
                each(slot, &topic);
            }
        }
    }

    /// The slot of an item, by its topic below the portal id.
    pub fn slot(&self, topic: &str) -> Option<Slot> {
        let (device, path) = split(topic);
        let slots = self.slots.get(&self.devices.find(device)?)?;
        let at = position(&self.items, slots, self.paths.find(path)?).ok()?;
        slots.get(at).copied()
    }

    /// Those that come first in a full publish.
    pub fn identifying(&self) -> &Bits {
        &self.identifying
    }

    /// Whether the lists of a listener hide an item that there may be.
    pub fn hides(&self, listener: usize, topic: &str) -> bool {
        self.hidden
            .get(listener)
            .is_some_and(|hidden| !hidden.open && !admits(&hidden.list, topic))
    }

    /// An item is there.
    pub fn insert(&mut self, slot: Slot, topic: &str, identifying: bool) {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(slot.0);
        }
        let index = slot.0 as usize;
        if self.item(slot.0).is_some_and(|item| item.has_topic(topic)) {
            return;
        }
        self.remove(slot);
        // The same topic in another slot: its old one was not named as gone yet.
        if let Some(other) = self.slot(topic) {
            self.remove(other);
        }
        let (device, path) = split(topic);
        let device = self.devices.intern(device, None);
        let path = self.paths.intern(path, None);
        if index >= self.items.len() {
            self.items.resize(index + 1, NOTHING);
        }
        if let Some(place) = self.items.get_mut(index) {
            *place = Item { device, path };
        }
        let slots = self.slots.entry(device).or_default();
        if let Err(at) = position(&self.items, slots, path) {
            slots.insert(at, slot);
        }
        if identifying {
            self.identifying.insert(slot.0);
        }
        for hidden in self.hidden.iter_mut().filter(|hidden| !hidden.open) {
            if !admits(&hidden.list, topic) {
                hidden.bits.insert(slot.0);
            }
        }
        self.filters.retain(|_, filter| {
            let Some(filter) = filter.upgrade() else {
                return false;
            };
            if filter.filter.matches_ours(topic) {
                filter.bits.borrow_mut().insert(slot.0);
            }
            true
        });
        let hidden = &self.hidden;
        self.covers.retain(|_, cover| {
            let Some(cover) = cover.upgrade() else {
                return false;
            };
            let hides = hidden
                .get(cover.listener)
                .is_some_and(|hidden| hidden.bits.contains(slot.0));
            let wanted = |filter: &Rc<Shared>| filter.bits.borrow().contains(slot.0);
            if !hides && cover.filters.iter().any(wanted) {
                cover.bits.borrow_mut().insert(slot.0);
            }
            true
        });
    }

    /// An item has gone. Those to be told of it have it in their covers until then.
    pub fn remove(&mut self, slot: Slot) {
        let Some(&item) = self.items.get(slot.0 as usize) else {
            return;
        };
        if item == NOTHING {
            return;
        }
        if let Some(slots) = self.slots.get_mut(&item.device) {
            if let Ok(at) = position(&self.items, slots, item.path) {
                slots.remove(at);
            }
            if slots.is_empty() {
                self.slots.remove(&item.device);
            }
        }
        if let Some(place) = self.items.get_mut(slot.0 as usize) {
            *place = NOTHING;
        }
        self.devices.release(item.device);
        self.paths.release(item.path);
        self.identifying.remove(slot.0);
        for hidden in &mut self.hidden {
            hidden.bits.remove(slot.0);
        }
        for filter in self.filters.values().filter_map(Weak::upgrade) {
            filter.bits.borrow_mut().remove(slot.0);
        }
        for cover in self.covers.values().filter_map(Weak::upgrade) {
            cover.bits.borrow_mut().remove(slot.0);
        }
    }

    /// All items follow anew.
    pub fn begin_anew(&mut self) {
        let mut unseen = Bits::default();
        for (slot, _) in (0_u32..)
            .zip(&self.items)
            .filter(|(_, item)| **item != NOTHING)
        {
            unseen.insert(slot);
        }
        self.unseen = Some(unseen);
    }

    /// They have: gives those that were not named again.
    pub fn end_anew(&mut self) -> Vec<Slot> {
        let unseen = self.unseen.take().unwrap_or_default();
        unseen.iter().map(Slot).collect()
    }

    /// A filter that some client has already.
    pub fn known_filter(&self, text: &str) -> Option<Rc<Shared>> {
        self.filters.get(text).and_then(Weak::upgrade)
    }

    /// A filter, with what it matches; the same one where some client has it already.
    pub fn filter(&mut self, filter: Filter) -> Rc<Shared> {
        if let Some(shared) = self.known_filter(filter.text()) {
            return shared;
        }
        let mut bits = Bits::default();
        if filter.is_ours() {
            if let Some(only) = filter.only() {
                let rest = only
                    .strip_prefix("N/")
                    .and_then(|rest| rest.strip_prefix(&*self.portal))
                    .and_then(|rest| rest.strip_prefix('/'));
                if let Some(slot) = rest.and_then(|rest| self.slot(rest)) {
                    bits.insert(slot.0);
                }
            } else {
                self.for_each(|slot, topic| {
                    if filter.matches_ours(topic) {
                        bits.insert(slot);
                    }
                });
            }
        }
        self.serial += 1;
        let shared = Rc::new(Shared {
            serial: self.serial,
            bits: RefCell::new(bits),
            filter,
        });
        // What no client has any more goes before there are twice as many.
        if self.filters.len() == self.filters.capacity() {
            self.filters.retain(|_, filter| filter.strong_count() > 0);
        }
        let text = shared.filter.text().into();
        self.filters.insert(text, Rc::downgrade(&shared));
        shared
    }

    /// The cover of a set of filters; the same one where some client has it already.
    pub fn cover<'a>(
        &mut self,
        listener: usize,
        filters: impl Iterator<Item = &'a Rc<Shared>>,
    ) -> Rc<Cover> {
        let mut filters: Vec<Rc<Shared>> = filters
            .filter(|shared| shared.filter.is_ours())
            .cloned()
            .collect();
        filters.sort_unstable_by_key(|shared| shared.serial);
        filters.dedup_by_key(|shared| shared.serial);
        let serials: Box<[u64]> = filters.iter().map(|shared| shared.serial).collect();
        let key = (listener, serials);
        if let Some(cover) = self.covers.get(&key).and_then(Weak::upgrade) {
            return cover;
        }
        let mut bits = Bits::default();
        for shared in &filters {
            bits.insert_all(&shared.bits.borrow());
        }
        self.hide(listener, &mut bits);
        let cover = Rc::new(Cover {
            listener,
            filters: filters.into(),
            bits: RefCell::new(bits),
        });
        if self.covers.len() == self.covers.capacity() {
            self.covers.retain(|_, cover| cover.strong_count() > 0);
        }
        self.covers.insert(key, Rc::downgrade(&cover));
        cover
    }

    /// Takes out what the lists of a listener hide.
    pub fn hide(&self, listener: usize, bits: &mut Bits) {
        let Some(hidden) = self.hidden.get(listener).filter(|hidden| !hidden.open) else {
            return;
        };
        for slot in hidden.bits.iter() {
            bits.remove(slot);
        }
    }

    /// Other lists, one for each listener. All covers have to be asked for anew after this.
    pub fn set_lists(&mut self, lists: impl Iterator<Item = List>) {
        self.covers.clear();
        self.hidden.clear();
        for list in lists {
            let mut hidden = Hidden {
                open: list.is_open(),
                list,
                bits: Bits::default(),
            };
            if !hidden.open {
                self.for_each(|slot, topic| {
                    if !admits(&hidden.list, topic) {
                        hidden.bits.insert(slot);
                    }
                });
            }
            self.hidden.push(hidden);
        }
    }
}

/// Where the slot of this path is among those of a device, or is to be put.
fn position(items: &[Item], slots: &[Slot], path: TextId) -> Result<usize, usize> {
    let path_of = |slot: &Slot| items.get(slot.0 as usize).map(|item| item.path);
    slots.binary_search_by_key(&Some(path), path_of)
}

/// Whether a list lets an item through, by its topic below the portal id.
fn admits(list: &List, topic: &str) -> bool {
    let (device, path) = split(topic);
    list.admits(device, path)
}

/// `<type>/<instance>`, and the path; a topic that is not an item's has no path.
fn split(topic: &str) -> (&str, &str) {
    topic::split_item(topic).unwrap_or((topic, ""))
}
