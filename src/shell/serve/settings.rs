//! The settings as the server takes them.

use crate::config::{Config, Limits, ListenConfig};
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
        limits: self::limits(limits),
        log: limits.log(),
    }
}

fn limits(limits: &Limits) -> crate::serve::Limits {
    crate::serve::Limits {
        packet_bytes_max: limits.request_bytes_max + PACKET_HEAD_BYTES,
        filters_max: limits.client_filters_max,
        levels_max: limits.client_levels_max,
        packet_timeout: limits.client_packet,
        connect_timeout: limits.client_handshake,
        logins_max: limits.logins_max,
        login_bytes_max: limits.login_bytes_max,
        ..crate::serve::Limits::default()
    }
}

/// Room beyond a request's payload: topic and properties.
const PACKET_HEAD_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn s9_22_each_limit_has_its_name() {
        let found = limits(&Limits {
            request_bytes_max: 1,
            client_filters_max: 2,
            client_levels_max: 3,
            client_packet: Duration::from_secs(4),
            client_handshake: Duration::from_secs(5),
            logins_max: 6,
            login_bytes_max: 7,
            ..Limits::default()
        });
        assert_eq!(found.packet_bytes_max, 1 + PACKET_HEAD_BYTES);
        assert_eq!((found.filters_max, found.levels_max), (2, 3));
        assert_eq!(found.packet_timeout, Duration::from_secs(4));
        assert_eq!(found.connect_timeout, Duration::from_secs(5));
        assert_eq!((found.logins_max, found.login_bytes_max), (6, 7));
        // What is set by default is what the contract says.
        let usual = crate::serve::Limits::default();
        let found = limits(&Limits::default());
        assert_eq!((found.filters_max, found.levels_max), (200, 128));
        assert_eq!(
            (found.packet_timeout, found.connect_timeout),
            (usual.packet_timeout, usual.connect_timeout)
        );
        assert_eq!(
            (found.logins_max, found.login_bytes_max),
            (usual.logins_max, usual.login_bytes_max)
        );
    }
}
