//! Settings that change while the bridge runs: which of them it takes over, and which need a restart.

use tracing::{info, warn};

use super::run::{Shared, now};
use crate::bridge::Settings;
use crate::config::{BrokerConfig, Config, Limits};

/// Takes over what can be changed while the bridge runs, in one step, and names the rest.
pub(super) fn apply(shared: &Shared, config: &mut Config, new: Config) {
    for key in needs_restart(config, &new) {
        warn!("{key} has changed in the settings, and stays as it was until the next start");
    }
    let Config {
        brokers,
        limits,
        schema,
        strict_writes,
        ..
    } = new;
    config.schema = schema;
    config.strict_writes = strict_writes;
    config.limits = Limits {
        items_max: config.limits.items_max,
        request_bytes_max: config.limits.request_bytes_max,
        filters_max: config.limits.filters_max,
        frame_bytes_max: config.limits.frame_bytes_max,
        out_buffer_bytes: config.limits.out_buffer_bytes,
        ..limits
    };
    for (broker, new) in config.brokers.iter_mut().zip(brokers) {
        broker.keep_alive = new.keep_alive;
    }
    shared.with(|bridge| bridge.reconfigure(now(), settings(config)));
    info!("the settings were read again");
}

/// What the bridge can be told anew.
pub(super) fn settings(config: &Config) -> Settings {
    let Limits {
        services_max,
        writes_in_flight_max,
        calls_in_flight_max,
        call_timeout,
        read_timeout,
        ..
    } = config.limits;
    let keep_alive = config.brokers.iter().map(|broker| broker.keep_alive);
    Settings {
        schema: config.schema.clone(),
        strict_writes: config.strict_writes,
        keep_alive: keep_alive.collect(),
        services_max,
        writes_in_flight_max,
        calls_in_flight_max,
        call_timeout,
        read_timeout,
    }
}

/// The settings that differ and cannot be taken over. Whoever adds a setting decides here whether it
/// can: every field is named.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let Config {
        portal_id,
        bus,
        brokers,
        gather,
        limits,
        vrm,
        schema: _,
        strict_writes: _,
    } = new;
    let mut keys = Vec::new();
    let mut differs = |key, differs: bool| {
        if differs {
            keys.push(key);
        }
    };
    differs("portal-id", *portal_id != old.portal_id);
    differs("dbus", *bus != old.bus);
    differs("gather-ms", *gather != old.gather);
    differs("vrm", *vrm != old.vrm);
    differs("the list of brokers", brokers.len() != old.brokers.len());
    for (broker, old) in brokers.iter().zip(&old.brokers) {
        let BrokerConfig {
            name: _,
            host,
            port,
            client_id,
            login,
            retain,
            keep_alive: _,
            ping,
            transport,
            tls,
            version,
            expire,
            topic_aliases,
            access,
            prefix,
            lists,
            home_assistant,
        } = broker;
        differs("mqtt-server", (host, *port) != (&old.host, old.port));
        differs("client-id", *client_id != old.client_id);
        differs("the user or password", *login != old.login);
        differs("retain", *retain != old.retain);
        differs("ping", *ping != old.ping);
        let way = (transport, tls) == (&old.transport, &old.tls);
        differs("the way to a broker", !way);
        differs("mqtt-version", *version != old.version);
        differs("expire", *expire != old.expire);
        differs("topic-aliases", *topic_aliases != old.topic_aliases);
        differs("access", *access != old.access);
        differs("prefix", *prefix != old.prefix);
        differs("the allow and deny lists", *lists != old.lists);
        let home = *home_assistant != old.home_assistant;
        differs("home-assistant", home);
    }
    let Limits {
        items_max,
        services_max: _,
        request_bytes_max,
        writes_in_flight_max: _,
        calls_in_flight_max: _,
        filters_max,
        frame_bytes_max,
        out_buffer_bytes,
        call_timeout: _,
        read_timeout: _,
        shutdown: _,
    } = limits;
    let old = &old.limits;
    differs("items-max", *items_max != old.items_max);
    differs(
        "request-bytes-max",
        *request_bytes_max != old.request_bytes_max,
    );
    differs("filters-max", *filters_max != old.filters_max);
    differs("frame-bytes-max", *frame_bytes_max != old.frame_bytes_max);
    differs(
        "out-buffer-bytes",
        *out_buffer_bytes != old.out_buffer_bytes,
    );
    keys
}
