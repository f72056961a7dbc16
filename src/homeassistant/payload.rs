//! The configuration of one device as Home Assistant reads it: JSON, with its abbreviated keys.
//!
//! Templates survive what a topic may say: `{"value": null}`, an empty payload, a payload that is no
//! object. All of these are "None", which Home Assistant takes for unknown.

use super::entity::{Category, Entity, Form, Item, Kind};
use super::name;
use super::words::{OnOff, Words};
use crate::codec::payload;
use crate::schema::rule::Text;

/// A configuration is not made longer than this: Home Assistant takes its time over each of them.
/// What is for everyday use comes first, so that what is left out is what is hidden anyway.
pub const BYTES_MAX: usize = 200_000;

/// The value in a topic's payload, none where there is none.
const VALUE: &str = "(value_json|default({})).value|default(none)";
/// The same for a text entity, which takes "None" for a text.
const TEXT: &str = "{{ (value_json|default({})).value|default('', true) }}";
/// The bridge's own presence.
const STATUS: &str = "{{ (value_json|default({})).value|default('offline') }}";
/// A device's presence, as it tells itself.
const CONNECTED: &str =
    "{{ 'offline' if (value_json|default({'value':0})).value == 0 else 'online' }}";
/// A device's presence, told by one of its items: gone with it.
const THERE: &str = "{{ 'online' if value_json is defined else 'offline' }}";

/// What a configuration says of the device as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Device<'a> {
    /// `N/<portal>/`, what topics of notifications begin with.
    pub notifications: &'a str,
    /// `W/<portal>/`, what topics of writes begin with.
    pub writes: &'a str,
    /// The topic of the bridge's presence, below [`Device::notifications`].
    pub status: &'a str,
    /// `<type>/<instance>`
    pub key: &'a str,
    /// What Home Assistant knows the device by.
    pub identifier: &'a str,
    /// The identifier of the device that this one is reached through.
    pub via: Option<&'a str>,
    /// What the device says of itself.
    pub about: &'a About,
    /// The item that tells whether the device is there, and whether it does so by its value.
    pub presence: Option<(&'a str, bool)>,
}

/// What a device says of itself; empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its name; never empty.
    pub name: String,
    /// Who made it.
    pub manufacturer: String,
    /// What it is.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// The version of its software.
    pub software: String,
    /// The version of its hardware.
    pub hardware: String,
}

/// Writes the configuration of a device. Gives how many entities found no room in it.
pub fn write(
    out: &mut Vec<u8>,
    device: &Device<'_>,
    entities: &[Entity<'_>],
    words: &Words,
) -> usize {
    let mut entities: Vec<&Entity<'_>> = entities.iter().collect();
    entities.sort_by(|a, b| (a.category, a.item.path).cmp(&(b.category, b.item.path)));
    let start = out.len();
    let mut left_out = 0;
    Object::write(out, |config| {
        config.object("dev", |dev| write_device(dev, device));
        config.object("o", |origin| {
            origin.text("name", env!("CARGO_PKG_NAME"));
            origin.text("sw", env!("CARGO_PKG_VERSION"));
        });
        config.array("avty", |out| write_availability(out, device));
        config.text("avty_mode", "all");
        config.number("qos", 1.0);
        config.object("cmps", |components| {
            for entity in &entities {
                let mark = components.out.len();
                let first = components.first;
                write_component(
                    components,
                    device,
                    entity,
                    &name_of(entity, &entities, words),
                );
                if components.out.len() - start > BYTES_MAX {
                    components.out.truncate(mark);
                    components.first = first;
                    left_out += 1;
                }
            }
        });
    });
    left_out
}

fn write_device(dev: &mut Object<'_>, device: &Device<'_>) {
    let about = device.about;
    dev.array("ids", |out| payload::write_text(out, device.identifier));
    dev.text("name", &about.name);
    for (key, text) in [
        ("mf", &about.manufacturer),
        ("mdl", &about.model),
        ("sn", &about.serial),
        ("sw", &about.software),
        ("hw", &about.hardware),
    ] {
        if !text.is_empty() {
            dev.text(key, text);
        }
    }
    if let Some(via) = device.via {
        dev.text("via_device", via);
    }
}

fn write_availability(out: &mut Vec<u8>, device: &Device<'_>) {
    Object::write(out, |status| {
        status.text("t", &[device.notifications, device.status].concat());
        status.text("val_tpl", STATUS);
    });
    if let Some((path, by_value)) = device.presence {
        out.push(b',');
        Object::write(out, |presence| {
            presence.text("t", &[device.notifications, device.key, path].concat());
            presence.text("val_tpl", if by_value { CONNECTED } else { THERE });
        });
    }
}

/// A description that no other entity of the device has, else the path in words.
fn name_of(entity: &Entity<'_>, all: &[&Entity<'_>], words: &Words) -> String {
    let Item {
        rule, description, ..
    } = entity.item;
    let same = |other: &&&Entity<'_>| other.item.description == description;
    if name::is_name(description, words) && all.iter().filter(same).count() == 1 {
        name::capital(description)
    } else {
        name::of_path(entity.item.path, &rule.unit, words)
    }
}

fn write_component(
    components: &mut Object<'_>,
    device: &Device<'_>,
    entity: &Entity<'_>,
    name: &str,
) {
    let item = entity.item;
    let mut id = component_id(item.path);
    // A number that may be set becomes one as soon as its limits are known: the two forms have ids
    // of their own, and each takes the other away.
    let may_be_set = matches!(entity.form, Form::Number { .. });
    let could_be_set = matches!(entity.form, Form::Sensor)
        && item.rule.access == crate::schema::rule::Access::ReadWrite;
    if may_be_set {
        components.object(&[&id, "-sensor"].concat(), |gone| gone.text("p", "sensor"));
    } else if could_be_set {
        components.object(&id, |gone| gone.text("p", "number"));
        id.push_str("-sensor");
    }
    components.object(&id, |component| {
        component.text("p", entity.platform());
        component.text("name", name);
        let unique = [device.identifier, item.path].concat();
        component.text("uniq_id", &unique);
        let topic = [device.key, item.path].concat();
        component.text("stat_t", &[device.notifications, &topic].concat());
        match entity.category {
            Category::Primary => {}
            Category::Config => component.text("ent_cat", "config"),
            Category::Diagnostic => component.text("ent_cat", "diagnostic"),
        }
        if entity.category != Category::Primary {
            component.raw("en", "false");
        }
        write_form(component, entity, &[device.writes, &topic].concat());
    });
}

fn write_form(component: &mut Object<'_>, entity: &Entity<'_>, writes: &str) {
    let rule = entity.item.rule;
    match entity.form {
        Form::Sensor => {
            component.text("val_tpl", &format!("{{{{ {VALUE} }}}}"));
            if !matches!(entity.item.value, Kind::Text(_)) {
                write_unit(component, entity, true);
            }
        }
        Form::Moment => {
            component.text("dev_cla", "timestamp");
            component.text(
                "val_tpl",
                &format!("{{% set v = {VALUE} %}}{{{{ v|timestamp_utc if v is number and v > 0 else none }}}}"),
            );
        }
        Form::Enum => {
            component.text("dev_cla", "enum");
            write_labels(component, &rule.labels);
        }
        Form::BinarySensor(on_off) => {
            if let Some(class) = on_off.class {
                component.text("dev_cla", class);
            }
            write_on_off(component, on_off);
        }
        Form::Switch(on_off) => {
            write_on_off(component, on_off);
            component.text("cmd_t", writes);
            component.text("stat_on", "ON");
            component.text("stat_off", "OFF");
            let is_bool = entity.item.value == Kind::Bool;
            for (key, code) in [("pl_on", on_off.on), ("pl_off", on_off.off)] {
                let value = if is_bool {
                    (code != 0).to_string()
                } else {
                    code.to_string()
                };
                component.text(key, &format!("{{\"value\": {value}}}"));
            }
        }
        Form::Select => {
            write_labels(component, &rule.labels);
            component.text("cmd_t", writes);
            let codes =
                labels_once(&rule.labels).map(|(code, label)| (quoted(label), code.to_string()));
            component.text(
                "cmd_tpl",
                &format!("{{\"value\": {{{{ {}[value] }}}} }}", map(codes)),
            );
        }
        Form::Number { min, max, step } => {
            component.text("val_tpl", &format!("{{{{ {VALUE} }}}}"));
            write_unit(component, entity, false);
            component.text("cmd_t", writes);
            component.text("cmd_tpl", "{\"value\": {{ value }} }");
            component.number("min", min);
            component.number("max", max);
            component.number("step", step);
        }
        Form::Text => {
            component.text("val_tpl", TEXT);
            component.text("cmd_t", writes);
            component.text("cmd_tpl", "{\"value\": {{ value|to_json }} }");
        }
    }
}

/// The unit and what it means; a state class only where it is a sensor's.
fn write_unit(component: &mut Object<'_>, entity: &Entity<'_>, sensor: bool) {
    let rule = entity.item.rule;
    let Some(unit) = entity.unit else {
        if !rule.unit.is_empty() {
            component.text("unit_of_meas", &rule.unit);
        }
        return;
    };
    if !unit.shown().is_empty() {
        component.text("unit_of_meas", unit.shown());
    }
    if let Some(class) = &unit.class {
        component.text("dev_cla", class);
    }
    if !sensor {
        return;
    }
    if let Some(state) = &unit.state {
        component.text("stat_cla", state);
    }
    if let Some(digits) = unit.digits {
        component.number("sug_dsp_prc", digits.into());
    }
}

fn write_on_off(component: &mut Object<'_>, on_off: OnOff<'_>) {
    let codes = [(on_off.off, "OFF"), (on_off.on, "ON")];
    let codes = codes.map(|(code, state)| (code.to_string(), quoted(state)));
    component.text("val_tpl", &format!("{{{{ {}.get({VALUE}) }}}}", map(codes)));
}

/// The labels to choose from, and which code each stands for; a code without one is unknown.
fn write_labels(component: &mut Object<'_>, labels: &[(i64, Text)]) {
    let codes = labels
        .iter()
        .map(|(code, label)| (code.to_string(), quoted(label)));
    component.text("val_tpl", &format!("{{{{ {}.get({VALUE}) }}}}", map(codes)));
    component.array("ops", |out| {
        for (number, (_, label)) in labels_once(labels).enumerate() {
            if number > 0 {
                out.push(b',');
            }
            payload::write_text(out, label);
        }
    });
}

/// Each label once, with its first code.
fn labels_once(labels: &[(i64, Text)]) -> impl Iterator<Item = (i64, &str)> {
    let is_first = |at: usize, label: &str| {
        let before = labels.get(..at).unwrap_or_default();
        !before.iter().any(|(_, other)| *other == label)
    };
    let all = labels.iter().enumerate();
    all.filter(move |(at, (_, label))| is_first(*at, label))
        .map(|(_, (code, label))| (*code, &**label))
}

/// A map as a template has it: `{0:'off',1:'on'}`.
fn map(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(key, value)| format!("{key}:{value}"))
        .collect();
    format!("{{{}}}", entries.join(","))
}

/// A text as a template has it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// What Home Assistant tells the entities of one device apart by: letters, digits, `_` and `-`.
fn component_id(path: &str) -> String {
    let plain = |c: char| match c {
        '/' => '-',
        c if c.is_ascii_alphanumeric() => c,
        _ => '_',
    };
    path.trim_start_matches('/').chars().map(plain).collect()
}

/// A JSON object in the making.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Object<'_> {
    fn write(out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        let mut object = Object { out, first: true };
        members(&mut object);
        object.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        payload::write_text(self.out, key);
        self.out.push(b':');
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        payload::write_text(self.out, text);
    }

    fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// A number; one without a fraction as an integer.
    fn number(&mut self, key: &str, number: f64) {
        self.raw(key, &number.to_string());
    }

    fn array(&mut self, key: &str, elements: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        self.out.push(b'[');
        elements(self.out);
        self.out.push(b']');
    }

    fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        Object::write(self.out, members);
    }
}
