//! What limits left out: reported once each time that a limit is reached, and asked for again when
//! there is room (§2.11).

use std::time::{Duration, Instant};

use crate::bridge::store::items::ItemRef;
use crate::model::time::Now;

/// How often it is looked whether there is room, while something is left out.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// The same after a service left, which makes room.
pub(super) const LOOK_SOON: Duration = Duration::from_secs(1);
/// What limits left out.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each limit is reached, and reported, by itself"
)]
#[derive(Debug, Default)]
pub struct Overflow {
    /// When it is looked whether there is room.
    pub at: Option<Instant>,
    /// Whether something was left out since.
    pub(super) waits: bool,
    /// Whether services are left out.
    pub(super) services: bool,
    pub(super) services_reported: bool,
    pub(super) items_reported: bool,
    pub(super) paths_reported: bool,
    /// How many items, and how many bytes, there was room for when something was last left out.
    pub(super) room: (usize, usize),
    /// Whether the limits are others now.
    pub(super) limits_changed: bool,
    /// Values that had no room, and that were reported.
    pub(super) unkept: Vec<ItemRef>,
}

impl Overflow {
    /// The limits are others now.
    pub fn limits_changed(&mut self, now: Now) {
        self.limits_changed = true;
        self.at = Some(now.monotonic);
    }

    /// Something was left out, or not: when to look for room.
    #[inline]
    pub fn watch_room(&mut self, now: Now) {
        if self.waits {
            self.waits = false;
            self.at.get_or_insert(now.monotonic + LOOK);
        }
    }
}
