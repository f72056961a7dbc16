//! What a broker's clients may have and write (§8), of the items that a request is about.

use super::Bridge;
use super::cache::SlotId;
use super::items::DeviceId;
use crate::model::access::Access;
use crate::model::request::Rejection;

impl Bridge {
    /// Whether a broker's clients may have an item, or any of those below a node (§8).
    pub(super) fn reads_any(
        &self,
        broker: usize,
        device: DeviceId,
        path: &str,
        below: &[SlotId],
    ) -> bool {
        let Some(outlet) = self.outlets.get(broker) else {
            return false;
        };
        let reads = |path: &str| outlet.gate().reads(self.items.device_key(device), path);
        reads(path)
            || below
                .iter()
                .filter_map(|slot| self.items.get(*slot))
                .any(|item| reads(self.items.path(item)))
    }

    /// Refuses a write that a broker's clients may not make (§8). Who may not write an item may not
    /// write a node above it either.
    pub(super) fn may_write(
        &self,
        broker: usize,
        device: DeviceId,
        path: &str,
    ) -> Result<(), Rejection> {
        let Some(outlet) = self.outlets.get(broker) else {
            return Ok(());
        };
        if outlet.gate().access() != Access::Full {
            return Err(Rejection::ReadOnly);
        }
        let writes = |path: &str| outlet.gate().writes(self.items.device_key(device), path);
        let below = self.below(device, path);
        let mut items = below.iter().filter_map(|slot| self.items.get(*slot));
        if writes(path) && items.all(|item| writes(self.items.path(item))) {
            Ok(())
        } else {
            Err(Rejection::NotAllowed { what: "write" })
        }
    }
}
