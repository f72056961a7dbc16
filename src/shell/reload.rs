//! Settings that change while the bridge runs. Which of them it takes over, and which need a restart, is
//! declared with them.

use tracing::{info, warn};

use super::shared::Shared;
use crate::bridge::{Admission, Bounds, Settings, Sizes};
use crate::config::{Config, Limits};
use crate::model::log_rate::LogRate;

/// Takes over what can be changed while the bridge runs, in one step, and names the rest.
pub(super) fn apply(shared: &Shared, config: &mut Config, new: Config) {
    for key in config.reload(new) {
        warn!("{key} has changed in the settings; restart to apply it");
    }
    shared.reconfigure(settings(config));
    info!("settings reloaded");
}

/// What the bridge can be told anew.
pub(super) fn settings(config: &Config) -> Settings {
    let Limits {
        services_max,
        writes_in_flight_max,
        calls_in_flight_max,
        call_timeout,
        read_timeout,
        request_rate_max,
        request_burst_max,
        text_bytes_max,
        array_bytes_max,
        cache_bytes_max,
        log_lines_max,
        log_interval,
        log_day_lines_max,
        ..
    } = config.limits;
    let brokers = config.brokers.iter().map(|broker| broker.keep_alive);
    let listeners = config.listeners.iter().map(|listener| listener.keep_alive);
    let keep_alive = brokers.chain(listeners);
    let listeners = config.listeners.iter().map(|listener| Admission {
        access: listener.access,
        lists: listener.lists.clone(),
    });
    Settings {
        schema: config.schema.clone(),
        strict_writes: config.strict_writes,
        keep_alive: keep_alive.collect(),
        listeners: listeners.collect(),
        services_max,
        writes_in_flight_max,
        calls_in_flight_max,
        call_timeout,
        read_timeout,
        bounds: Bounds {
            request_rate_max,
            request_burst_max,
            sizes: Sizes {
                text_bytes_max,
                array_bytes_max,
                cache_bytes_max,
            },
            log: LogRate {
                lines_max: log_lines_max,
                interval: log_interval,
                day_lines_max: log_day_lines_max,
            },
        },
        stats: config.stats,
        refresh: config.refresh,
    }
}
