//! An installation, as it is known to who asks a broker.

use crate::model::name::PortalId;

/// An installation on a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portal {
    /// Its portal id.
    pub id: PortalId,
    /// Whether its bridge understands selective keep-alives (§5.4).
    pub selective: bool,
    /// Whether its bridge has said that it is off (§4.10).
    pub offline: bool,
    /// Those on the same broker that are offline, and were not meant.
    pub others: Vec<PortalId>,
}
