//! What the device itself says that the clients of VRM may do, and how long that holds (§8).

use std::time::Instant;

use crate::model::access::Access;
use crate::model::name::ServiceName;

/// What a service says that VRM may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// This.
    Access(Access),
    /// Nothing: its value is invalid, or no number.
    Nothing,
}

/// What the device says that VRM may do, and until when that holds.
#[derive(Debug, Default)]
pub struct DeviceAccess {
    /// The last word, and whose it is; `None` where there was none yet, which lets nothing through.
    pub(super) last: Option<(ServiceName, Access)>,
    /// When it holds no longer: while nothing is said.
    pub(super) until: Option<Instant>,
}

impl DeviceAccess {
    /// What it said last, as long as that holds; nothing is let through before.
    pub fn last(&self) -> Access {
        self.last
            .as_ref()
            .map_or(Access::Off, |(_, access)| *access)
    }

    /// When [`super::BusContext::lower_access`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.until
    }
}
