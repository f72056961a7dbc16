//! Settings that change while the bridge runs: which of them it takes over, and which need a restart.

use tracing::{info, warn};

use super::run::Shared;
use crate::bridge::{Bounds, LogRate, Settings, Sizes};
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
        stats,
        ..
    } = new;
    config.stats = stats;
    config.schema = schema;
    config.strict_writes = strict_writes;
    config.limits.take_over(&limits);
    for (broker, new) in config.brokers.iter_mut().zip(brokers) {
        broker.keep_alive = new.keep_alive;
    }
    shared.reconfigure(settings(config));
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
        stats: _,
        refresh: _,
        metrics,
        web,
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
    differs("metrics", *metrics != old.metrics);
    differs("web", *web != old.web);
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
            reconnect_max,
            republish_jitter,
            publish_rate_max,
            transport,
            tls,
            version,
            expire,
            topic_aliases,
            access,
            prefix,
            lists,
            topics,
            home_assistant,
        } = broker;
        differs("mqtt-server", (host, *port) != (&old.host, old.port));
        differs("client-id", *client_id != old.client_id);
        differs("the user or password", *login != old.login);
        differs("retain", *retain != old.retain);
        differs("ping", *ping != old.ping);
        differs("reconnect-max", *reconnect_max != old.reconnect_max);
        let jitter = *republish_jitter != old.republish_jitter;
        differs("republish-jitter", jitter);
        let rate = *publish_rate_max != old.publish_rate_max;
        differs("publish-rate-max", rate);
        let way = (transport, tls) == (&old.transport, &old.tls);
        differs("the way to a broker", !way);
        differs("mqtt-version", *version != old.version);
        differs("expire", *expire != old.expire);
        differs("topic-aliases", *topic_aliases != old.topic_aliases);
        differs("access", *access != old.access);
        differs("prefix", *prefix != old.prefix);
        differs("the allow and deny lists", *lists != old.lists);
        let names = "topic-levels-max, topic-bytes-max or topic-replace";
        differs(names, *topics != old.topics);
        let home = *home_assistant != old.home_assistant;
        differs("home-assistant", home);
    }
    keys.extend(old.limits.clone().take_over(limits));
    keys
}
