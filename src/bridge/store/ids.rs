//! Numbers of what there is in a fixed order: which broker.
//!
//! Devices and services have theirs in [`super::items`], slots in [`mod@super::cache`].

/// One of the brokers, in the order of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(usize);

impl From<usize> for BrokerId {
    fn from(index: usize) -> BrokerId {
        BrokerId(index)
    }
}

impl BrokerId {
    /// Its place in the settings.
    pub(in crate::bridge) fn index(self) -> usize {
        self.0
    }
}
