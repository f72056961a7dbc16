//! What the clients of a broker may do (§8).

/// What the clients of a broker may do, from nothing to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing is published, and no request is carried out.
    Off,
    /// Read, and keep values coming; writes are refused.
    ReadOnly,
    /// Write too.
    Full,
}

/// Who says what the clients of a broker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessRule {
    /// The configuration.
    Always(Access),
    /// The device's setting for VRM, at any time (§8).
    AsDeviceSays,
}

impl AccessRule {
    /// As the settings write it.
    pub fn word(self) -> &'static str {
        match self {
            AccessRule::Always(Access::Full) => "full",
            AccessRule::Always(Access::ReadOnly) => "read-only",
            AccessRule::Always(Access::Off) => "off",
            AccessRule::AsDeviceSays => "vrm",
        }
    }
}

impl Default for AccessRule {
    fn default() -> AccessRule {
        AccessRule::Always(Access::Full)
    }
}
