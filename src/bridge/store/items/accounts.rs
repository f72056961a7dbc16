//! What paths cost, and what of items and devices changes hands or is reported anew.

use super::{DeviceId, ItemRef, Items, ServiceId};

impl Items {
    /// The bytes of all paths that the schema does not have.
    pub fn path_bytes(&self) -> usize {
        self.paths.bytes()
    }

    /// The bytes of the device's paths that the schema does not have.
    pub fn path_bytes_of(&self, id: DeviceId) -> usize {
        self.device(id).map_or(0, |device| device.path_bytes)
    }

    /// How many bytes a new item of that path would add to [`Items::path_bytes`].
    pub fn path_cost(&self, path: &str) -> usize {
        if self.paths.knows(path) {
            0
        } else {
            path.len()
        }
    }

    /// Gives the device of one service to another; the items of the first must have been marked gone.
    pub fn hand_over(&mut self, id: DeviceId, service: ServiceId) {
        if let Some(device) = self.device_mut(id) {
            device.service = Some(service);
        }
    }

    /// The next value of the item that is too long is reported again.
    pub fn forget_unkept(&mut self, item: ItemRef) {
        if self.is_there(item)
            && let Some(item) = self.all.get_mut(item.slot.0 as usize)
        {
            item.unkept_told = false;
        }
    }
}
