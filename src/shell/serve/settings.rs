//! The settings as the server takes them.

use crate::config::{Config, ListenConfig};
use crate::model::access::{Access, AccessRule};
use crate::serve::{ListenerSettings, Settings};

/// Whether the clients of a listener get anything of ours before the device says what they may do (§8).
pub(super) fn serves(listener: &ListenConfig) -> bool {
    matches!(listener.access, AccessRule::Always(access) if access != Access::Off)
}

/// What the server is told.
pub(super) fn settings(config: &Config) -> Settings {
    let limits = &config.limits;
    let listener = |listener: &ListenConfig| ListenerSettings {
        name: listener.name.as_str().into(),
        login: listener.auth != crate::config::Auth::Anonymous,
        retain: listener.retain,
        serves: serves(listener),
        publish: listener.lists.publish.clone(),
        relay: listener.relay,
        discovery_prefix: listener
            .home_assistant
            .as_ref()
            .map(|home| home.prefix.as_str().into()),
    };
    Settings {
        portal: config.portal_id.clone(),
        listeners: config.listeners.iter().map(listener).collect(),
        gather: config.gather,
        client_writes_max: u32::try_from(limits.client_writes_max).unwrap_or(u32::MAX),
        limits: crate::serve::Limits {
            packet_bytes_max: limits.request_bytes_max + PACKET_HEAD_BYTES,
            filters_max: limits.client_filters_max,
            ..crate::serve::Limits::default()
        },
    }
}

/// Room beyond a request's payload: topic and properties.
const PACKET_HEAD_BYTES: usize = 64 * 1024;
