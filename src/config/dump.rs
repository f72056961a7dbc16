//! The configuration as text: TOML that resolves to the same again, each value with where it is from.
//!
//! No secret is in it: a password that was written somewhere is shown as `***`, one in a file by the
//! file's name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::error::{ConfigError, Origin};
use super::layers::Layers;
use super::machine::Machine;
use super::portal::PortalSource;
use super::setting::Setting;
use super::settings::BrokerConfig;
use super::settings::{BROKER, LIMITS, LISTEN, SHARED, TOP, VRM};
use super::text::quoted;
use super::values::Values;
use super::vrm::{Registration, VrmConfig};
use crate::model::name::PortalId;
use crate::model::outside::Outside;

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

/// What is shown of settings in another way than as they are written: the value as TOML, or not at all.
type Shown = BTreeMap<&'static str, Option<String>>;

impl Layers {
    /// The configuration as text.
    pub fn dump(&self, machine: &Machine) -> Result<String, ConfigError> {
        let source = self.portal_id(machine)?;
        let unknown = PortalId::unknown();
        let config = self.resolve(machine, source.id().unwrap_or(&unknown))?;
        let (_, bus) = self.bus_and_origin(machine)?;
        let mut text = Text::default();
        text.0.push_str(HEAD);
        text.line("dbus", &quoted(config.bus.as_str()), &bus);
        match &source {
            PortalSource::Set(id) => {
                text.line(
                    "portal-id",
                    &quoted(id.as_str()),
                    &self.top.origin("portal-id"),
                );
            }
            PortalSource::Device(id, _) => {
                text.said("portal-id", &quoted(id.as_str()), "this device");
            }
            PortalSource::Bus => text.said("#portal-id", "\"\"", "asked of the bus at the start"),
        }
        // What flags say of listeners is in their tables.
        let shown = ["dbus", "portal-id", "listen", "listen-auth"].map(|key| (key, None));
        text.table(TOP, &self.top, &shown.into(), |setting| setting.key);
        text.0.push_str("\n[limits]\n");
        text.table(LIMITS, &self.limits, &Shown::new(), |setting| setting.key);
        for (index, listener) in config.listeners.iter().enumerate() {
            // That of the page has no table.
            let Some(address) = listener.address else {
                continue;
            };
            text.0.push_str("\n[[listen]]\n");
            let none = Values::default();
            let values = self.listeners.get(index).unwrap_or(&none);
            let address = Some(quoted(&address.to_string()));
            let word = |word: &str| Some(quoted(word));
            let shown = Shown::from([
                ("name", word(&listener.name)),
                ("address", address),
                ("transport", word(listener.transport.word())),
                ("auth", word(listener.auth.word())),
            ]);
            text.table(LISTEN, values, &shown, |setting| setting.key);
            let is_shared = |setting: &&Setting| SHARED.contains(&setting.key);
            let shared: Vec<Setting> = BROKER.iter().filter(is_shared).copied().collect();
            text.table(&shared, values, &shown, Setting::table_key);
        }
        let vrm = config.vrm.as_ref();
        let (mut values, own) = (self.brokers.iter(), vrm.map(|vrm| vrm.broker));
        for (index, broker) in config.brokers.iter().enumerate() {
            match (vrm, values.next()) {
                (Some(vrm), _) if own == Some(index) => {
                    text.0.push_str("\n[vrm]\n");
                    let mut enabled = self.vrm.origin("enabled");
                    if enabled == Origin::Default {
                        enabled = self.top.origin("init-broker");
                    }
                    text.line("enabled", "true", &enabled);
                    let shown = vrm.shown();
                    text.table(VRM, &self.vrm, &shown, |setting| setting.key);
                    let shown = broker.shown(&self.vrm, Some(&machine.vrm_password_file));
                    text.table(BROKER, &self.vrm, &shown, Setting::table_key);
                }
                (_, Some(values)) => {
                    text.0.push_str("\n[[broker]]\n");
                    let shown = broker.shown(values, None);
                    text.table(BROKER, values, &shown, Setting::table_key);
                }
                (_, None) => {}
            }
        }
        Ok(match source.id() {
            Some(_) => text.0,
            None => without_portal_id(&text.0),
        })
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

    /// Every setting of a table that has a value.
    fn table(
        &mut self,
        settings: &[Setting],
        values: &Values,
        shown: &Shown,
        name: fn(&Setting) -> &'static str,
    ) {
        for setting in settings.iter().filter(|setting| !setting.no_key) {
            let value = match shown.get(setting.key) {
                Some(shown) => shown.clone(),
                None => match values.written(setting.key) {
                    Some(written) => Some(written.toml(setting.kind)),
                    None => setting.default().map(|default| default.toml(setting.kind)),
                },
            };
            if let Some(value) = value {
                self.line(name(setting), &value, &values.origin(setting.key));
            }
        }
    }
}

impl BrokerConfig {
    /// What is made of several settings. `password` is the file that has it where no setting says another.
    fn shown(&self, values: &Values, password: Option<&Path>) -> Shown {
        let mut shown = Shown::from([
            ("name", Some(quoted(&self.name))),
            ("mqtt-server", Some(quoted(&self.urls()))),
            ("client-id", Some(quoted(&self.client_id))),
            ("mqtt-prefix", Some(quoted(&self.prefix))),
            ("access", Some(quoted(self.access.word()))),
        ]);
        let login = self.login.as_ref();
        shown.insert("mqtt-user", login.map(|login| quoted(&login.user)));
        let (text, file) = ("mqtt-password", "mqtt-password-file");
        match (values.rank(text), values.rank(file)) {
            (Some(strong), Some(weak)) if strong < weak => drop(shown.insert(file, None)),
            (_, Some(_)) => drop(shown.insert(text, None)),
            (Some(_), None) => {}
            (None, None) => drop(shown.insert(file, password.map(quoted_path))),
        }
        let tls = self.tls.as_ref();
        let ca = tls.and_then(|tls| tls.ca.as_deref());
        shown.insert("mqtt-certificate", ca.map(quoted_path));
        if let Some((_, key)) = tls.and_then(|tls| tls.client.as_ref()) {
            shown.insert("mqtt-client-key", Some(quoted_path(key)));
        }
        if self.home_assistant.is_none() {
            // It is left alone.
            let settings = BROKER.iter().map(|setting| setting.key);
            let settings = settings.filter(|key| key.starts_with("home-assistant"));
            shown.extend(settings.map(|key| (key, None)));
        }
        shown
    }
}

impl VrmConfig {
    fn shown(&self) -> Shown {
        let mut shown = Shown::from([("enabled", None)]);
        if let Some(Registration { ca, .. }) = &self.registration {
            shown.insert("register-certificate", ca.as_deref().map(quoted_path));
        } else {
            let settings = VRM.iter().map(|setting| setting.key);
            let settings = settings.filter(|key| key.starts_with("register-"));
            shown.extend(settings.map(|key| (key, None)));
        }
        shown
    }
}

fn place(origin: &Origin) -> String {
    match origin {
        Origin::File { path, line, .. } => format!("{}:{line}", path.display()),
        Origin::Flag(_)
        | Origin::Variable(_)
        | Origin::Default
        | Origin::Engine(_)
        | Origin::VrmPasswordFile => origin.to_string(),
    }
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

const HEAD: &str = "\
# The effective settings, each followed by where it comes from. Passwords are not shown.
";
