//! What an outlet is told, and what the clients of its broker may have: access, and lists of topic
//! filters (§8).
//!
//! Whether an item is published there is decided once, when it becomes known, and kept as a bit.
//! Requests are rare, and are held against the filters when they come.

use std::time::Duration;

use crate::bridge::discovery::board::DiscoveryConfig;
use crate::bridge::store::bits::Bits;
use crate::bridge::store::cache::SlotId;
use crate::model::access::{Access, AccessRule};
use crate::model::filter::Lists;
use crate::model::topic::TopicRules;

/// What an outlet is told at the start.
#[derive(Debug, Clone)]
pub struct OutletConfig {
    /// The broker's name, for the log.
    pub name: Box<str>,
    /// Whether notifications are retained (§4.1).
    pub retain: bool,
    /// How long a request keeps data flowing; `None`: always (§5.1).
    pub keep_alive: Option<Duration>,
    /// How many filters of selective keep-alives may be live.
    pub filters_max: usize,
    /// Stands before every topic: empty, or ends in `/` (§8).
    pub prefix: Box<str>,
    /// What its clients may do (§8).
    pub access: AccessRule,
    /// What may be published there, read and written from there (§8).
    pub lists: Lists,
    /// Whether answers to requests go before values: where values may have to wait long (§4.13).
    pub answers_first: bool,
    /// What topics it takes (§4.12).
    pub topics: TopicRules,
    /// Home Assistant, where it is set up by us, or was.
    pub discovery: Option<DiscoveryConfig>,
}

impl OutletConfig {
    /// How long a request keeps data flowing; `None`: always, also because Home Assistant sends none.
    pub(in crate::bridge) fn keep_alive_wanted(&self) -> Option<Duration> {
        let endless = self.discovery.as_ref().is_some_and(|home| home.enabled);
        self.keep_alive.filter(|_| !endless)
    }
}

/// What the clients of one broker may have.
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

    /// Whether what is no item may be published under such a topic.
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
