//! What the clients of one reader may have: access, and lists of topic filters (§8).
//!
//! Whether an item is published there is decided once, when it becomes known, and kept as a bit.
//! Requests are rare, and are held against the filters when they come.

use crate::bridge::store::bits::Bits;
use crate::bridge::store::cache::SlotId;
use crate::model::access::{Access, AccessRule};
use crate::model::filter::Lists;

/// What the clients of a listener may do (§8).
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// Whether they may read and write.
    pub access: AccessRule,
    /// What of it.
    pub lists: Lists,
}

/// What the clients of one reader may have.
#[derive(Debug)]
pub struct Gate {
    rule: AccessRule,
    access: Access,
    lists: Lists,
    /// Whether every item may be published.
    open: bool,
    /// What may not be published, where not everything may.
    hidden: Bits,
}

impl Gate {
    /// A gate that lets nothing through until the device says so, where it is the one to say.
    pub fn new(rule: AccessRule, lists: Lists) -> Gate {
        let access = match rule {
            AccessRule::Always(access) => access,
            AccessRule::AsDeviceSays => Access::Off,
        };
        Gate {
            rule,
            access,
            open: lists.publish.is_open(),
            lists,
            hidden: Bits::default(),
        }
    }

    /// Other settings; what the device says is told with them. `true` where other things may be done than
    /// before. Which items are hidden is to be told anew, with [`Gate::added`].
    pub fn admit(&mut self, admission: Admission, device_says: Access) -> bool {
        let Admission {
            access: rule,
            lists,
        } = admission;
        let before = self.access;
        self.rule = rule;
        self.access = match rule {
            AccessRule::Always(access) => access,
            AccessRule::AsDeviceSays => device_says,
        };
        self.open = lists.publish.is_open();
        self.lists = lists;
        self.hidden = Bits::default();
        before != self.access
    }

    /// Whether other settings are the same.
    pub fn is(&self, admission: &Admission) -> bool {
        self.rule == admission.access && self.lists == admission.lists
    }

    /// The device says what may be done. `true` where that is new here.
    pub fn device_says(&mut self, access: Access) -> bool {
        let follows = self.rule == AccessRule::AsDeviceSays && self.access != access;
        if follows {
            self.access = access;
        }
        follows
    }

    /// What may be done.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether every item may be published.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the item may not be published.
    #[inline]
    pub fn hides(&self, slot: SlotId) -> bool {
        !self.open && self.hidden.contains(slot)
    }

    /// Whether what is not an item may be published under such a topic.
    pub fn publishes(&self, key: &str, path: &str) -> bool {
        self.open || self.lists.publish.admits(key, path)
    }

    /// An item is new, or back.
    pub fn added(&mut self, slot: SlotId, key: &str, path: &str) {
        if self.open {
            return;
        }
        if self.lists.publish.admits(key, path) {
            self.hidden.remove(slot);
        } else {
            self.hidden.insert(slot);
        }
    }

    /// From now on not everything may be published.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// The item may not be published, whatever the lists say.
    pub fn hide(&mut self, slot: SlotId) {
        self.open = false;
        self.hidden.insert(slot);
    }

    /// A slot is free.
    pub fn released(&mut self, slot: SlotId) {
        self.hidden.remove(slot);
    }

    /// Whether clients may ask for an item, and get it.
    pub fn reads(&self, key: &str, path: &str) -> bool {
        self.lists.read.admits(key, path) && (self.open || self.lists.publish.admits(key, path))
    }

    /// Whether clients may write an item.
    pub fn writes(&self, key: &str, path: &str) -> bool {
        self.lists.write.admits(key, path)
    }
}
