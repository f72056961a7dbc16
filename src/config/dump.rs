//! The configuration as text: TOML that resolves to the same again, each value with where it is from.
//!
//! No secret is in it: a password that was written somewhere is shown as `***`, one in a file by the
//! file's name.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::layers::{BrokerLayers, Layers, Which};
use super::machine::Machine;
use super::{
    AccessRule, BrokerConfig, ConfigError, Limits, MqttVersion, Origin, PortalSource, RawBroker,
    RawConfig, RawLimits, RawVrm, Transport, VrmConfig,
};
use crate::model::access::Access;
use crate::model::filter::Lists;
use crate::model::name::PortalId;
use crate::model::outside::{Outside, is_plain};

/// Comments out what is made from the portal id, where that is not known yet.
fn without_portal_id(text: &str) -> String {
    let unknown = PortalId::unknown();
    let mut is_vrm = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            is_vrm = line == "[vrm]";
        }
        let is_made = line.contains(unknown.as_str()) || (is_vrm && line.starts_with("server = "));
        let is_default = line.ends_with(&place(&Origin::Default));
        let mark = if is_made && is_default { "#" } else { "" };
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{mark}{line}");
    }
    out
}

/// What is written, line by line.
#[derive(Default)]
struct Text(String);

type IsSet = fn(&RawBroker) -> bool;

impl Layers {
    /// The configuration as text.
    pub fn dump(&self, machine: &Machine) -> Result<String, ConfigError> {
        let source = self.portal_id(machine)?;
        let unknown = PortalId::unknown();
        let config = self.resolve(machine, source.id().unwrap_or(&unknown))?;
        let (_, bus) = self.bus_and_origin(machine)?;
        let set = |key, is_set: fn(&RawConfig) -> bool| self.origin_of(key, is_set);
        let mut text = Text::default();
        text.0.push_str(HEAD);
        text.line("dbus", &quoted(config.bus.as_str()), &bus);
        match &source {
            PortalSource::Set(id) => {
                let origin = set("portal-id", |raw| raw.portal_id.is_some());
                text.line("portal-id", &quoted(id.as_str()), &origin);
            }
            PortalSource::Device(id, _) => {
                text.said("portal-id", &quoted(id.as_str()), "this device");
            }
            PortalSource::Bus => text.said("#portal-id", "\"\"", "asked of the bus at the start"),
        }
        let gather = config.gather.as_millis().to_string();
        text.line(
            "gather-ms",
            &gather,
            &set("gather-ms", |raw| raw.gather_ms.is_some()),
        );
        let refresh = config.refresh.unwrap_or_default().as_secs().to_string();
        text.line(
            "refresh-s",
            &refresh,
            &set("refresh-s", |raw| raw.refresh_s.is_some()),
        );
        text.line(
            "debug",
            &self.debug().to_string(),
            &set("debug", |raw| raw.debug.is_some()),
        );
        text.line(
            "allow-readable-secrets",
            &self.privacy().readable.to_string(),
            &set("allow-readable-secrets", |raw| {
                raw.allow_readable_secrets.is_some()
            }),
        );
        let vrm = config.vrm.as_ref();
        let registers = vrm.is_some_and(|vrm| vrm.registration.is_some());
        text.line(
            "init-broker",
            &registers.to_string(),
            &set("init-broker", |raw| raw.init_broker.is_some()),
        );
        let stats = config.stats.unwrap_or_default().as_secs().to_string();
        text.line("stats", &stats, &set("stats", |raw| raw.stats.is_some()));
        let metrics = config.metrics.map(|address| address.to_string());
        text.line(
            "metrics",
            &quoted(&metrics.unwrap_or_default()),
            &set("metrics", |raw| raw.metrics.is_some()),
        );
        text.line(
            "allow-remote-metrics",
            &self.allows_remote_metrics().to_string(),
            &set("allow-remote-metrics", |raw| {
                raw.allow_remote_metrics.is_some()
            }),
        );
        let web = config.web.map(|address| address.to_string());
        text.line(
            "web",
            &quoted(&web.unwrap_or_default()),
            &set("web", |raw| raw.web.is_some()),
        );
        text.line(
            "allow-remote-web",
            &self.allows_remote_web().to_string(),
            &set("allow-remote-web", |raw| raw.allow_remote_web.is_some()),
        );
        let limits = self.find("limits", |raw| raw.limits.clone());
        let (raw, origin) = limits.map_or_else(
            || (RawLimits::default(), Origin::Default),
            |found| (found.value, found.origin),
        );
        text.limits(&config.limits, &raw, &origin);
        for (index, broker) in config.brokers.iter().enumerate() {
            match vrm.filter(|vrm| vrm.broker == index) {
                None => {
                    let which = match index {
                        0 => Which::First,
                        _ => Which::Further(index),
                    };
                    text.0.push_str("\n[[broker]]\n");
                    text.broker(self.of_broker(which), broker, None);
                }
                Some(vrm) => text.vrm(self, vrm, broker, &machine.vrm_password_file),
            }
        }
        Ok(match source.id() {
            Some(_) => text.0,
            None => without_portal_id(&text.0),
        })
    }

    fn origin_of(&self, key: &'static str, is_set: fn(&RawConfig) -> bool) -> Origin {
        self.find(key, |raw| is_set(raw).then_some(()))
            .map_or(Origin::Default, |found| found.origin)
    }

    fn vrm_origin(&self, key: &'static str, is_set: fn(&RawVrm) -> bool) -> Origin {
        self.find_vrm(key, |raw| is_set(raw).then_some(()))
            .map_or(Origin::Default, |found| found.origin)
    }
}

impl Text {
    fn line(&mut self, key: &str, value: &str, origin: &Origin) {
        self.said(key, value, &place(origin));
    }

    fn said(&mut self, key: &str, value: &str, place: &str) {
        let place = Outside::new(place);
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "{key} = {value}  # {place}");
    }

    fn limits(&mut self, limits: &Limits, raw: &RawLimits, origin: &Origin) {
        self.0.push_str("\n[limits]\n");
        for (key, value, is_set) in limits.lines(raw) {
            let origin = if is_set { origin } else { &Origin::Default };
            self.line(key, &value.to_string(), origin);
        }
    }

    fn vrm(&mut self, layers: &Layers, vrm: &VrmConfig, broker: &BrokerConfig, password: &Path) {
        self.0.push_str("\n[vrm]\n");
        let set = |key, is_set: fn(&RawVrm) -> bool| layers.vrm_origin(key, is_set);
        let mut enabled = set("enabled", |vrm| vrm.enabled.is_some());
        if enabled == Origin::Default {
            enabled = layers.origin_of("init-broker", |raw| raw.init_broker.is_some());
        }
        self.line("enabled", "true", &enabled);
        let transport = match broker.transport {
            Transport::Wss { .. } | Transport::Ws { .. } => "\"wss\"",
            Transport::Tls | Transport::Tcp => "\"tls\"",
        };
        self.line(
            "transport",
            transport,
            &set("transport", |vrm| vrm.transport.is_some()),
        );
        if let Some(registration) = &vrm.registration {
            let url = registration.url();
            let origin = set("register-url", |vrm| vrm.register_url.is_some());
            self.line("register-url", &quoted(&url), &origin);
            if let Some(ca) = &registration.ca {
                let origin = set("register-certificate", |vrm| {
                    vrm.register_certificate.is_some()
                });
                self.line("register-certificate", &quoted_path(ca), &origin);
            }
            let seconds = registration.retry.as_secs().to_string();
            let origin = set("register-retry-s", |vrm| vrm.register_retry_s.is_some());
            self.line("register-retry-s", &seconds, &origin);
            let seconds = registration.again_max.as_secs().to_string();
            let origin = set("register-again-s", |vrm| vrm.register_again_s.is_some());
            self.line("register-again-s", &seconds, &origin);
        }
        self.broker(layers.of_broker(Which::Vrm), broker, Some(password));
    }

    /// `password` is the file that has it where no setting says another.
    fn broker(&mut self, layers: BrokerLayers<'_>, broker: &BrokerConfig, password: Option<&Path>) {
        self.connection(layers, broker, password);
        self.session(layers, broker);
        let access = match broker.access {
            AccessRule::Always(Access::Full) => "full",
            AccessRule::Always(Access::ReadOnly) => "read-only",
            AccessRule::Always(Access::Off) => "off",
            AccessRule::AsDeviceSays => "vrm",
        };
        let set = |key, is_set| layers.origin_of(key, is_set);
        self.line(
            "access",
            &quoted(access),
            &set("access", |raw| raw.access.is_some()),
        );
        let Lists {
            publish,
            read,
            write,
            respond,
        } = &broker.lists;
        let lists: [(_, _, IsSet); 6] = [
            ("publish-allow", &publish.allow, |raw| {
                raw.publish_allow.is_some()
            }),
            ("publish-deny", &publish.deny, |raw| {
                raw.publish_deny.is_some()
            }),
            ("read-allow", &read.allow, |raw| raw.read_allow.is_some()),
            ("read-deny", &read.deny, |raw| raw.read_deny.is_some()),
            ("write-allow", &write.allow, |raw| raw.write_allow.is_some()),
            ("write-deny", &write.deny, |raw| raw.write_deny.is_some()),
        ];
        for (key, list, is_set) in lists {
            self.line(key, &filters(list), &set(key, is_set));
        }
        let origin = set("response-allow", |raw| raw.response_allow.is_some());
        self.line("response-allow", &filters(respond), &origin);
        self.topics(layers, broker);
    }

    /// What topics it takes: no value means all of them.
    fn topics(&mut self, layers: BrokerLayers<'_>, broker: &BrokerConfig) {
        let set = |key, is_set| layers.origin_of(key, is_set);
        let topics = &broker.topics;
        if let Some(max) = topics.levels_max {
            let origin = set("topic-levels-max", |raw| raw.topic_levels_max.is_some());
            self.line("topic-levels-max", &max.to_string(), &origin);
        }
        if let Some(max) = topics.bytes_max {
            let origin = set("topic-bytes-max", |raw| raw.topic_bytes_max.is_some());
            self.line("topic-bytes-max", &max.to_string(), &origin);
        }
        if !topics.replace.is_empty() {
            let pair = |(from, to): &(char, Box<str>)| {
                format!("{} = {}", quoted(&from.to_string()), quoted(to))
            };
            let pairs: Vec<_> = topics.replace.iter().map(pair).collect();
            let origin = set("topic-replace", |raw| raw.topic_replace.is_some());
            self.line(
                "topic-replace",
                &format!("{{ {} }}", pairs.join(", ")),
                &origin,
            );
        }
    }

    fn connection(
        &mut self,
        layers: BrokerLayers<'_>,
        broker: &BrokerConfig,
        password: Option<&Path>,
    ) {
        let set = |key, is_set| layers.origin_of(key, is_set);
        let url = format!(
            "{}://{}{}",
            broker.transport.scheme(),
            broker.address(),
            broker.transport.path()
        );
        self.line(
            "name",
            &quoted(&broker.name),
            &set("name", |raw| raw.name.is_some()),
        );
        self.line(
            "server",
            &quoted(&url),
            &set("mqtt-server", |raw| raw.server.is_some()),
        );
        if let Some(login) = &broker.login {
            self.line(
                "user",
                &quoted(&login.user),
                &set("mqtt-user", |raw| raw.user.is_some()),
            );
            self.password(layers, password);
        }
        let Some(tls) = &broker.tls else {
            return;
        };
        if let Some(ca) = &tls.ca {
            let origin = set("mqtt-certificate", |raw| raw.certificate.is_some());
            self.line("certificate", &quoted_path(ca), &origin);
        }
        if let Some((certificate, key)) = &tls.client {
            let origin = set("mqtt-client-certificate", |raw| {
                raw.client_certificate.is_some()
            });
            self.line("client-certificate", &quoted_path(certificate), &origin);
            let origin = set("mqtt-client-key", |raw| raw.client_key.is_some());
            self.line("client-key", &quoted_path(key), &origin);
        }
        if let Some(name) = &tls.server_name {
            let origin = set("mqtt-server-name", |raw| raw.server_name.is_some());
            self.line("server-name", &quoted(name), &origin);
        }
    }

    fn session(&mut self, layers: BrokerLayers<'_>, broker: &BrokerConfig) {
        let version = match broker.version {
            MqttVersion::V3 => "3",
            MqttVersion::V5 => "5",
            MqttVersion::Auto => "\"auto\"",
        };
        let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs().to_string();
        let aliases = broker.topic_aliases.to_string();
        let values: [(_, _, _, IsSet); 11] = [
            ("mqtt-version", "mqtt-version", version.to_owned(), |raw| {
                raw.mqtt_version.is_some()
            }),
            ("client-id", "client-id", quoted(&broker.client_id), |raw| {
                raw.client_id.is_some()
            }),
            ("retain", "retain", broker.retain.to_string(), |raw| {
                raw.retain.is_some()
            }),
            ("expire", "expire", seconds(broker.expire), |raw| {
                raw.expire.is_some()
            }),
            ("topic-aliases", "topic-aliases", aliases, |raw| {
                raw.topic_aliases.is_some()
            }),
            (
                "keep-alive",
                "keep-alive",
                seconds(broker.keep_alive),
                |raw| raw.keep_alive.is_some(),
            ),
            ("ping", "ping", seconds(Some(broker.ping)), |raw| {
                raw.ping.is_some()
            }),
            (
                "reconnect-max",
                "reconnect-max",
                seconds(Some(broker.reconnect_max)),
                |raw| raw.reconnect_max.is_some(),
            ),
            (
                "republish-jitter",
                "republish-jitter",
                seconds(Some(broker.republish_jitter)),
                |raw| raw.republish_jitter.is_some(),
            ),
            (
                "publish-rate-max",
                "publish-rate-max",
                broker.publish_rate_max.to_string(),
                |raw| raw.publish_rate_max.is_some(),
            ),
            ("prefix", "mqtt-prefix", quoted(&broker.prefix), |raw| {
                raw.prefix.is_some()
            }),
        ];
        for (key, flag, value, is_set) in values {
            self.line(key, &value, &layers.origin_of(flag, is_set));
        }
        // Where nothing is said of it, Home Assistant is left alone: no value means that.
        let Some(home) = &broker.home_assistant else {
            return;
        };
        let values: [(_, _, IsSet); 3] = [
            ("home-assistant", home.enabled.to_string(), |raw| {
                raw.home_assistant.is_some()
            }),
            ("home-assistant-prefix", quoted(&home.prefix), |raw| {
                raw.home_assistant_prefix.is_some()
            }),
            ("home-assistant-keep", seconds(home.keep), |raw| {
                raw.home_assistant_keep.is_some()
            }),
        ];
        for (key, value, is_set) in values {
            self.line(key, &value, &layers.origin_of(key, is_set));
        }
    }

    fn password(&mut self, layers: BrokerLayers<'_>, usual: Option<&Path>) {
        let text = layers.find("mqtt-password", |raw| raw.password.clone());
        let file = layers.find("mqtt-password-file", |raw| raw.password_file.clone());
        match (text, file, usual) {
            (Some(text), file, _) if file.as_ref().is_none_or(|file| text.rank < file.rank) => {
                self.line("password", &quoted(&text.value.to_string()), &text.origin);
            }
            (_, Some(file), _) => {
                self.line("password-file", &quoted_path(&file.value), &file.origin);
            }
            (_, None, Some(path)) => {
                self.line("password-file", &quoted_path(path), &Origin::Default);
            }
            (_, None, None) => {}
        }
    }
}

fn place(origin: &Origin) -> String {
    match origin {
        Origin::File { path, line, .. } => format!("{}:{line}", path.display()),
        Origin::Flag(_) | Origin::Variable(_) | Origin::Default | Origin::VrmPasswordFile => {
            origin.to_string()
        }
    }
}

fn filters(filters: &[impl ToString]) -> String {
    let all: Vec<String> = filters
        .iter()
        .map(|filter| quoted(&filter.to_string()))
        .collect();
    format!("[{}]", all.join(", "))
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if !is_plain(letter) => {
                // Writing to a text cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

const HEAD: &str = "\
# The configuration as dbus-mqtt understands it. Behind each value stands where it is from. Passwords
# are not shown.
";
