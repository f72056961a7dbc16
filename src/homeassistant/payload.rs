//! The configuration of one device as Home Assistant reads it: JSON, with its abbreviated keys.
//!
//! Templates survive what a topic may say: `{"value": null}`, an empty payload, a payload that is no
//! object. All of these are "None", which Home Assistant takes for unknown.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use super::entity::{Category, Entity, Form, Kind};
use super::name;
use super::words::OnOff;
use crate::codec::payload;
use crate::schema::rule::DataType;

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
    /// What it knows the device by that this one is a part of, else the same.
    pub whole: &'a str,
    /// The identifier of the device that this one is reached through.
    pub via: Option<&'a str>,
    /// What the device says of itself.
    pub about: &'a About,
    /// The item that tells whether the device is there, and whether it does so by its value.
    pub presence: Option<(&'a str, bool)>,
    /// The topic that tells where it is.
    pub location: &'a str,
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
    /// In which area it is.
    pub area: String,
    /// The page that it is set up on.
    pub url: String,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// The entities that it has, a line each: platform and key.
    pub keys: String,
    /// How many entities found no room in it.
    pub left_out: usize,
}

/// Writes the configuration of a device. `before` are the lines of [`Written::keys`] that the last one
/// had: what is no more is taken away by its platform, before anything takes its place.
pub fn write(
    out: &mut Vec<u8>,
    device: &Device<'_>,
    entities: &[Entity<'_>],
    before: &str,
) -> Written {
    let mut entities: Vec<&Entity<'_>> = entities.iter().collect();
    entities.sort_by(|a, b| {
        let order = |entity: &Entity<'_>| (!entity.enabled, entity.category);
        (order(a), a.item.path).cmp(&(order(b), b.item.path))
    });
    let start = out.len();
    let mut written = Written::default();
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
            let keys: HashSet<String> = entities.iter().map(|entity| line(entity)).collect();
            for (platform, key) in lines(before) {
                if !keys.contains(&format!("{platform} {key}")) {
                    components.object(key, |gone| gone.text("p", platform));
                }
            }
            for entity in &entities {
                let mark = components.out.len();
                let first = components.first;
                write_component(components, device, entity);
                if components.out.len() - start > BYTES_MAX {
                    components.out.truncate(mark);
                    components.first = first;
                    written.left_out += 1;
                } else {
                    written.keys.push_str(&line(entity));
                    written.keys.push('\n');
                }
            }
        });
    });
    written
}

/// The entities of a published configuration, as [`Written::keys`] has them. An entry that only removes an
/// entity does not count. Empty where the payload is not a configuration of ours.
pub fn read_keys(config: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Config {
        cmps: BTreeMap<String, BTreeMap<String, IgnoredOr>>,
    }
    /// The text of the platform; nothing else is of interest.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum IgnoredOr {
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    let Ok(config) = serde_json::from_slice::<Config>(config) else {
        return String::new();
    };
    let mut keys = String::new();
    for (key, members) in config.cmps {
        if let Some(IgnoredOr::Text(platform)) = members.get("p")
            && members.len() > 1
            && !key.contains(char::is_whitespace)
            && !platform.contains(char::is_whitespace)
        {
            keys.extend([&**platform, " ", &*key, "\n"]);
        }
    }
    keys
}

/// Platform and key of each line.
fn lines(keys: &str) -> impl Iterator<Item = (&str, &str)> {
    keys.lines().filter_map(|line| line.split_once(' '))
}

/// Whether there is an entity for this path among the lines, of whatever platform.
pub fn has_path(keys: &str, path: &str) -> bool {
    let id = component_id(path);
    lines(keys).any(|(platform, key)| {
        let own = key
            .strip_prefix(&*id)
            .map(|rest| rest.trim_start_matches('-'));
        own.is_some_and(|rest| rest.is_empty() || rest == platform)
    })
}

/// Whether there is an entity of this platform among the lines.
pub fn has_platform(keys: &str, platform: &str) -> bool {
    lines(keys).any(|(own, _)| own == platform)
}

fn line(entity: &Entity<'_>) -> String {
    format!("{} {}", entity.platform(), key_of(entity))
}

/// An entity that becomes one of another platform is another component, so that the first can be taken
/// away while the second is there.
fn key_of(entity: &Entity<'_>) -> String {
    format!("{}-{}", component_id(entity.item.path), entity.platform())
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
        ("sa", &about.area),
        ("cu", &about.url),
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

fn write_component(components: &mut Object<'_>, device: &Device<'_>, entity: &Entity<'_>) {
    let item = entity.item;
    components.object(&key_of(entity), |component| {
        component.text("p", entity.platform());
        if entity.name.is_empty() {
            component.raw("name", "null");
        } else {
            component.text("name", &entity.name);
        }
        // Beside the list that it belongs to.
        let beside = if matches!(entity.form, Form::Toggle) {
            "/enabled"
        } else {
            ""
        };
        component.text("uniq_id", &[device.whole, item.path, beside].concat());
        match entity.category {
            Category::Primary => {}
            Category::Config => component.text("ent_cat", "config"),
            Category::Diagnostic => component.text("ent_cat", "diagnostic"),
        }
        if !entity.enabled {
            component.raw("en", "false");
        }
        write_form(component, device, entity);
    });
}

#[allow(clippy::too_many_lines, reason = "one kind of entity after the other")]
fn write_form(component: &mut Object<'_>, device: &Device<'_>, entity: &Entity<'_>) {
    let rule = entity.item.row.rule;
    let topic = |path: &str| [device.notifications, device.key, path].concat();
    let writes = |path: &str| [device.writes, device.key, path].concat();
    let (state, write) = (topic(entity.item.path), writes(entity.item.path));
    if !matches!(entity.form, Form::Button | Form::Tracker) {
        component.text("stat_t", &state);
    }
    match entity.form {
        Form::Button => {
            component.text("cmd_t", &write);
            component.text("pl_prs", "{\"value\": 1}");
            if !rule.look.class.is_empty() {
                component.text("dev_cla", &rule.look.class);
            }
        }
        Form::Tracker => component.text("json_attr_t", device.location),
        Form::Sensor => {
            component.text("val_tpl", &value_template(entity.factor));
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
            write_labels(component, &entity.item.choices());
        }
        Form::Bits => {
            let bits = rule.bits.iter();
            let bits = bits
                .map(|(bit, label)| ((1_u128 << bit).to_string(), quoted(&name::capital(label))));
            component.text(
                "val_tpl",
                &format!(
                    "{{% set v = {VALUE} %}}{{% if v is number %}}{{% set n = namespace(t=[]) %}}\
                     {{% for b, t in {}.items() %}}{{% if v|int // b % 2 == 1 %}}{{% set n.t = n.t + [t] %}}{{% endif %}}{{% endfor %}}\
                     {{{{ (n.t|join(', '))[:255] or '-' }}}}{{% else %}}{{{{ none }}}}{{% endif %}}",
                    map(bits)
                ),
            );
        }
        Form::BinarySensor(on_off) => {
            if let Some(class) = on_off.class {
                component.text("dev_cla", class);
            }
            write_on_off(component, on_off);
        }
        Form::Level(level) => {
            component.text("dev_cla", level.class);
            component.text(
                "val_tpl",
                &format!(
                    "{{% set v = {VALUE} %}}{{{{ none if v is none else 'OFF' if v == {} else 'ON' }}}}",
                    level.off
                ),
            );
            component.text("json_attr_t", &state);
            let labels = rule.labels.iter();
            let labels =
                labels.map(|(code, label)| (code.to_string(), quoted(&name::capital(label))));
            component.text(
                "json_attr_tpl",
                &format!(
                    "{{{{ {{'level': {}.get({VALUE})}}|to_json }}}}",
                    map(labels)
                ),
            );
        }
        Form::Switch(on_off) => {
            write_on_off(component, on_off);
            component.text("cmd_t", &write);
            component.text("stat_on", "ON");
            component.text("stat_off", "OFF");
            let is_bool = entity.item.value == Kind::Bool
                || (entity.item.value == Kind::Nothing && rule.data == DataType::Bool);
            for (key, code) in [("pl_on", on_off.on), ("pl_off", on_off.off)] {
                let value = if is_bool {
                    (code != 0).to_string()
                } else {
                    code.to_string()
                };
                component.text(key, &format!("{{\"value\": {value}}}"));
            }
        }
        Form::Toggle => {
            let states = entity
                .item
                .toggles()
                .flat_map(|(off, on)| [(off, "OFF"), (on, "ON")]);
            let states = states.map(|(code, state)| (code.to_string(), quoted(state)));
            write_meanings(component, states);
            // What it is now says what it becomes. An empty payload is not JSON, and would be complained of.
            component.text("json_attr_t", &state);
            component.text(
                "json_attr_tpl",
                &format!("{{{{ {{'value': {VALUE}}}|to_json }}}}"),
            );
            component.text("cmd_t", &write);
            component.text("stat_on", "ON");
            component.text("stat_off", "OFF");
            let to = |turn: fn((i64, i64)) -> (i64, i64)| {
                let codes = entity.item.toggles().map(turn);
                map(codes.map(|(from, to)| (from.to_string(), to.to_string())))
            };
            component.text(
                "cmd_tpl",
                &format!(
                    "{{% set v = this.attributes.value %}}{{\"value\": {{{{ ({} if value == 'ON' else {}).get(v, v) }}}} }}",
                    to(|(off, on)| (off, on)),
                    to(|(off, on)| (on, off)),
                ),
            );
        }
        Form::Select => {
            let choices = entity.item.choices();
            write_labels(component, &choices);
            component.text("cmd_t", &write);
            let codes =
                labels_once(&choices).map(|(code, label)| (quoted(label), code.to_string()));
            component.text(
                "cmd_tpl",
                &format!("{{\"value\": {{{{ {}[value] }}}} }}", map(codes)),
            );
        }
        Form::Number { min, max, step } => {
            component.text("val_tpl", &value_template(entity.factor));
            write_unit(component, entity, false);
            component.text("cmd_t", &write);
            component.text("cmd_tpl", &command_template(entity));
            component.number("min", min);
            component.number("max", max);
            component.number("step", step);
        }
        Form::Text => {
            component.text("val_tpl", TEXT);
            component.text("cmd_t", &write);
            component.text("cmd_tpl", "{\"value\": {{ value|to_json }} }");
        }
        Form::Time => {
            component.text("val_tpl", &format!(
                "{{% set v = {VALUE} %}}{{{{ '%02d:%02d:%02d'|format(v|int // 3600 % 24, v|int // 60 % 60, v|int % 60) if v is number else none }}}}"
            ));
            component.text("cmd_t", &write);
            component.text(
                "cmd_tpl",
                "{% set p = (value|string).split(':') %}{\"value\": {{ p[0]|int * 3600 + p[1]|int * 60 + p[2]|default(0)|int }} }",
            );
        }
        Form::Update => {
            component.text("val_tpl", &format!("{{{{ {VALUE} }}}}"));
            component.text("dev_cla", "firmware");
            if let [latest, install] = &*rule.look.with {
                component.text("l_ver_t", &topic(latest));
                component.text("l_ver_tpl", &format!("{{{{ {VALUE}|default('', true) }}}}"));
                if entity.writable {
                    component.text("cmd_t", &writes(install));
                    component.text("pl_inst", "{\"value\": 1}");
                }
            }
        }
    }
}

/// The value as it is shown: as it is, or in another unit.
fn value_template(factor: f64) -> String {
    if is_one(factor) {
        return format!("{{{{ {VALUE} }}}}");
    }
    let by = by(factor);
    format!("{{% set v = {VALUE} %}}{{{{ (v {by})|round(4) if v is number else none }}}}")
}

/// The value as it is written: as it was set, or back in its own unit.
fn command_template(entity: &Entity<'_>) -> String {
    if is_one(entity.factor) {
        return "{\"value\": {{ value }} }".to_owned();
    }
    let by = by(1.0 / entity.factor);
    let data = &entity.item.row.rule.data;
    let whole = if matches!(data, DataType::Double) {
        ""
    } else {
        "|int"
    };
    format!("{{\"value\": {{{{ (value|float {by})|round(6){whole} }}}} }}")
}

fn is_one(factor: f64) -> bool {
    (factor - 1.0).abs() < f64::EPSILON
}

/// A multiplication without the digits of a fraction, where the other way round has none.
fn by(factor: f64) -> String {
    if factor < 1.0 {
        format!("/ {}", (1.0 / factor).round())
    } else {
        format!("* {}", factor.round())
    }
}

/// The unit and what it means; a state class only where it is a sensor's.
fn write_unit(component: &mut Object<'_>, entity: &Entity<'_>, sensor: bool) {
    let rule = entity.item.row.rule;
    let own = &*rule.look.class;
    let Some(unit) = entity.unit else {
        if !rule.unit.is_empty() {
            component.text("unit_of_meas", &rule.unit);
        }
        if !own.is_empty() {
            component.text("dev_cla", own);
        }
        return;
    };
    if !unit.shown().is_empty() {
        component.text("unit_of_meas", unit.shown());
    }
    let class = unit.class.as_deref();
    if let Some(class) = Some(own).filter(|own| !own.is_empty()).or(class) {
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

/// The template for what a code means: a map of codes to texts.
fn write_meanings(component: &mut Object<'_>, codes: impl IntoIterator<Item = (String, String)>) {
    component.text("val_tpl", &format!("{{{{ {}.get({VALUE}) }}}}", map(codes)));
}

fn write_on_off(component: &mut Object<'_>, on_off: OnOff<'_>) {
    let codes = [(on_off.off, "OFF"), (on_off.on, "ON")];
    let codes = codes.map(|(code, state)| (code.to_string(), quoted(state)));
    write_meanings(component, codes);
}

/// The labels to choose from, and which code each stands for; a code that is not among them is unknown
/// until the device is described again.
fn write_labels(component: &mut Object<'_>, choices: &[(i64, String)]) {
    let codes = choices
        .iter()
        .map(|(code, label)| (code.to_string(), quoted(label)));
    write_meanings(component, codes);
    component.array("ops", |out| {
        for (number, (_, label)) in labels_once(choices).enumerate() {
            if number > 0 {
                out.push(b',');
            }
            payload::write_text(out, label);
        }
    });
}

/// Each label once, with its first code.
fn labels_once(labels: &[(i64, String)]) -> impl Iterator<Item = (i64, &str)> {
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
