//! What suits a broker of a known kind (`engine`): the settings of each kind. Data, and
//! nothing else: whatever is set anywhere overrides it. Where each row is from is in `docs/brokers.md`.

use super::error::{ConfigError, Origin};
use super::setting::{Setting, Written};
use super::settings::BROKER;
use super::toml_value::value;
use super::values::{Found, Values};

/// Kind, setting, value as TOML.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str)] = &[
    // A dot reaches subscribers as a slash; what is retained is kept by one node alone.
    ("rabbitmq", "retain", "false"),
    // With QoS 1 the requests of a client are a queue on one node: while that is away, its client cannot subscribe.
    ("rabbitmq", "subscribe-qos", "0"),
    ("rabbitmq", "topic-replace", r#"".""#),

    // With QoS 1 each subscription is a consumer with a copy on each node, which cannot be made while one is away.
    ("nats", "subscribe-qos", "0"),
    ("nats", "topic-replace", r#"" *>""#),

    ("aws-iot", "retain", "false"),
    ("aws-iot", "topic-levels-max", "8"),
    ("aws-iot", "topic-bytes-max", "256"),
    ("aws-iot", "publish-rate-max", "100"),
    ("aws-iot", "alpn", r#""x-amzn-mqtt-ca""#),

    // What is retained is limited in number, and billed twice.
    ("event-grid", "retain", "false"),
    ("event-grid", "topic-levels-max", "8"),
    ("event-grid", "topic-bytes-max", "256"),
    ("event-grid", "publish-rate-max", "1000"),

    // It keeps 2,000 retained messages, of all devices together.
    ("emqx-serverless", "retain", "false"),
    ("emqx-serverless", "publish-rate-max", "10"),
];

impl Values {
    /// Adds the settings of the kind of broker; whatever is set anywhere overrides them.
    pub(super) fn add_engine(&mut self) -> Result<(), ConfigError> {
        let Some(engine) = self.find::<String>("engine")? else {
            return Ok(());
        };
        for (setting, name, written) in rows().filter(|(_, name, _)| *name == engine.value) {
            let found = Found {
                value: written,
                origin: Origin::Engine(name),
                rank: usize::MAX,
            };
            self.add(setting, found);
        }
        Ok(())
    }
}

/// The table, read; that each row can be read is tested.
fn rows() -> impl Iterator<Item = (&'static Setting, &'static str, Written)> {
    TABLE.iter().filter_map(|(name, key, toml)| {
        let setting = BROKER.iter().find(|setting| setting.key == *key)?;
        Some((setting, *name, value(setting, toml)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::ENGINES;

    #[test]
    fn every_row_can_be_read_and_every_word_has_some() {
        assert_eq!(rows().count(), TABLE.len());
        for (name, key, _) in TABLE {
            assert!(ENGINES.contains(name), "{name}");
            let same = TABLE.iter().filter(|row| (row.0, row.1) == (name, key));
            assert_eq!(same.count(), 1, "{name}: {key}");
        }
        for name in ENGINES {
            assert!(TABLE.iter().any(|row| row.0 == *name), "{name}");
        }
    }
}
