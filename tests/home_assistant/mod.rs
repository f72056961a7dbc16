//! What Home Assistant takes in a device's discovery configuration, from its documentation of "MQTT
//! discovery" and the constants of its sensor, number and binary sensor integrations; written down a
//! second time, and with no line of the bridge's.
#![allow(
    dead_code, // each test binary uses its own part of this
    unreachable_pub, // this module is included by path, and has no outside
    missing_docs,
    clippy::unwrap_used, // a test that cannot go on should say where, and stop
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Abbreviations of keys, as far as they may be used here, and what they stand for.
const ABBREVIATIONS: &[(&str, &str)] = &[
    ("avty", "availability"),
    ("avty_mode", "availability_mode"),
    ("cmd_t", "command_topic"),
    ("cmd_tpl", "command_template"),
    ("cmps", "components"),
    ("dev", "device"),
    ("dev_cla", "device_class"),
    ("en", "enabled_by_default"),
    ("ent_cat", "entity_category"),
    ("json_attr_t", "json_attributes_topic"),
    ("json_attr_tpl", "json_attributes_template"),
    ("l_ver_t", "latest_version_topic"),
    ("l_ver_tpl", "latest_version_template"),
    ("o", "origin"),
    ("ops", "options"),
    ("p", "platform"),
    ("pl_off", "payload_off"),
    ("pl_inst", "payload_install"),
    ("pl_on", "payload_on"),
    ("pl_prs", "payload_press"),
    ("stat_cla", "state_class"),
    ("stat_off", "state_off"),
    ("stat_on", "state_on"),
    ("stat_t", "state_topic"),
    ("sug_dsp_prc", "suggested_display_precision"),
    ("t", "topic"),
    ("uniq_id", "unique_id"),
    ("unit_of_meas", "unit_of_measurement"),
    ("val_tpl", "value_template"),
];
const DEVICE_ABBREVIATIONS: &[(&str, &str)] = &[
    ("cns", "connections"),
    ("cu", "configuration_url"),
    ("hw", "hw_version"),
    ("ids", "identifiers"),
    ("mdl", "model"),
    ("mdl_id", "model_id"),
    ("mf", "manufacturer"),
    ("sa", "suggested_area"),
    ("sn", "serial_number"),
    ("sw", "sw_version"),
];
const ORIGIN_ABBREVIATIONS: &[(&str, &str)] = &[("sw", "sw_version"), ("url", "support_url")];

const DEVICE: &[&str] = &[
    "configuration_url",
    "connections",
    "hw_version",
    "identifiers",
    "manufacturer",
    "model",
    "model_id",
    "name",
    "serial_number",
    "suggested_area",
    "sw_version",
    "via_device",
];
const ORIGIN: &[&str] = &["name", "support_url", "sw_version"];
const TOP: &[&str] = &[
    "availability",
    "availability_mode",
    "command_topic",
    "components",
    "device",
    "encoding",
    "origin",
    "qos",
    "state_topic",
];
/// What every entity may have.
const COMMON: &[&str] = &[
    "availability",
    "availability_mode",
    "default_entity_id",
    "enabled_by_default",
    "encoding",
    "entity_category",
    "entity_picture",
    "icon",
    "json_attributes_template",
    "json_attributes_topic",
    "name",
    "platform",
    "qos",
    "state_topic",
    "unique_id",
    "value_template",
];

/// What a platform needs, and what it takes besides.
#[allow(clippy::too_many_lines)] // one list of checks
fn platform(name: &str) -> Option<(&'static [&'static str], &'static [&'static str])> {
    Some(match name {
        "sensor" => (
            &["state_topic"],
            &[
                "device_class",
                "expire_after",
                "force_update",
                "last_reset_value_template",
                "options",
                "state_class",
                "suggested_display_precision",
                "unit_of_measurement",
            ],
        ),
        "binary_sensor" => (
            &["state_topic"],
            &[
                "device_class",
                "expire_after",
                "force_update",
                "off_delay",
                "payload_off",
                "payload_on",
            ],
        ),
        "switch" => (
            &["command_topic"],
            &[
                "command_template",
                "device_class",
                "optimistic",
                "payload_off",
                "payload_on",
                "retain",
                "state_off",
                "state_on",
            ],
        ),
        "number" => (
            &["command_topic"],
            &[
                "command_template",
                "device_class",
                "max",
                "min",
                "mode",
                "optimistic",
                "payload_reset",
                "retain",
                "step",
                "unit_of_measurement",
            ],
        ),
        "select" => (
            &["command_topic", "options"],
            &["command_template", "optimistic", "retain"],
        ),
        "text" => (
            &["command_topic"],
            &[
                "command_template",
                "max",
                "min",
                "mode",
                "optimistic",
                "pattern",
                "retain",
            ],
        ),
        "button" => (
            &["command_topic", "payload_press"],
            &["command_template", "device_class", "retain"],
        ),
        "time" => (
            &["command_topic", "command_template"],
            &["optimistic", "retain"],
        ),
        "device_tracker" => (
            &["json_attributes_topic"],
            &[
                "payload_home",
                "payload_not_home",
                "payload_reset",
                "source_type",
            ],
        ),
        "update" => (
            &["state_topic"],
            &[
                "command_topic",
                "device_class",
                "display_precision",
                "latest_version_template",
                "latest_version_topic",
                "payload_install",
                "release_summary",
                "release_url",
                "retain",
                "title",
            ],
        ),
        _ => return None,
    })
}

/// Device classes of sensors and numbers: the units and the state classes that each takes. `m` is
/// measurement, `t` total, `i` total_increasing.
const CLASSES: &[(&str, &[&str], &str)] = &[
    ("apparent_power", &["VA", "kVA", "mVA"], "m"),
    (
        "atmospheric_pressure",
        &["hPa", "kPa", "mbar", "bar", "Pa"],
        "m",
    ),
    ("battery", &["%"], "m"),
    ("carbon_dioxide", &["ppm"], "m"),
    ("current", &["A", "mA"], "m"),
    ("data_size", &["B", "kB", "MB", "GB", "bit"], "mti"),
    ("distance", &["mm", "cm", "m", "km", "mi", "nmi"], "mti"),
    ("duration", &["d", "h", "min", "s", "ms"], "mti"),
    ("energy", &["Wh", "kWh", "MWh"], "ti"),
    ("energy_storage", &["Wh", "kWh", "MWh"], "m"),
    ("frequency", &["Hz", "kHz"], "m"),
    ("humidity", &["%"], "m"),
    ("illuminance", &["lx"], "m"),
    ("irradiance", &["W/m²"], "m"),
    ("pm25", &["µg/m³", "μg/m³"], "m"),
    ("power", &["mW", "W", "kW", "MW"], "m"),
    ("power_factor", &["%", ""], "m"),
    ("pressure", &["Pa", "hPa", "kPa", "bar", "mbar", "psi"], "m"),
    ("signal_strength", &["dB", "dBm"], "m"),
    ("speed", &["m/s", "km/h", "kn"], "m"),
    ("temperature", &["°C", "°F", "K"], "m"),
    ("voltage", &["V", "mV", "kV"], "m"),
    ("volume", &["m³", "L", "mL"], "ti"),
    ("volume_storage", &["m³", "L", "mL"], "m"),
    ("wind_direction", &["°"], ""),
    ("wind_speed", &["m/s", "km/h", "kn"], "m"),
];

const BINARY_CLASSES: &[&str] = &[
    "battery",
    "connectivity",
    "heat",
    "lock",
    "opening",
    "plug",
    "power",
    "problem",
    "running",
    "safety",
    "update",
];

/// A configuration with all keys written out.
#[derive(Debug)]
pub struct Config {
    pub top: Map<String, Value>,
}

/// Reads a configuration, and fails for whatever Home Assistant would refuse, drop or complain of.
pub fn check(payload: &str) -> Config {
    let value: Value = serde_json::from_str(payload).unwrap();
    let mut top = expand(value.as_object().unwrap(), ABBREVIATIONS);
    only(&top, TOP, "the configuration");
    for key in ["device", "origin", "components"] {
        assert!(top[key].is_object(), "{key}");
    }
    let device = expand(top["device"].as_object().unwrap(), DEVICE_ABBREVIATIONS);
    only(&device, DEVICE, "device");
    assert!(!device["identifiers"].as_array().unwrap().is_empty());
    for (key, value) in device.iter().filter(|(key, _)| *key != "identifiers") {
        assert!(!text(value).is_empty(), "{key}");
    }
    let origin = expand(top["origin"].as_object().unwrap(), ORIGIN_ABBREVIATIONS);
    only(&origin, ORIGIN, "origin");
    assert!(!text(&origin["name"]).is_empty());
    let availability = top["availability"].as_array().unwrap().iter();
    let availability: Vec<Value> = availability
        .map(|one| {
            let one = expand(one.as_object().unwrap(), ABBREVIATIONS);
            let known = [
                "topic",
                "payload_available",
                "payload_not_available",
                "value_template",
            ];
            only(&one, &known, "availability");
            topic(&one["topic"], "N/");
            Value::Object(one)
        })
        .collect();
    assert!(["all", "any", "latest"].contains(&text(&top["availability_mode"])));
    assert!(top["qos"].as_u64().unwrap() <= 2);

    let components = top["components"].as_object().unwrap();
    let components: Map<String, Value> = components
        .iter()
        .map(|(id, one)| {
            let one = expand(one.as_object().unwrap(), ABBREVIATIONS);
            component(id, &one);
            (id.clone(), Value::Object(one))
        })
        .collect();
    // A key that stands there twice would be lost above.
    assert_eq!(
        payload.matches("\"uniq_id\":").count(),
        entities(&components).count()
    );
    let mut seen = BTreeSet::new();
    for (id, one) in entities(&components) {
        assert!(
            seen.insert(text(&one["unique_id"]).to_owned()),
            "{id}: not unique"
        );
    }
    for (key, value) in [
        ("device", device.into()),
        ("origin", origin.into()),
        ("availability", availability.into()),
        ("components", components.into()),
    ] {
        top.insert(key.into(), value);
    }
    Config { top }
}

impl Config {
    /// The entities; what only takes another one away is left out.
    pub fn entities(&self) -> Vec<(&str, &Map<String, Value>)> {
        entities(self.top["components"].as_object().unwrap()).collect()
    }

    /// The entity of the item with this path.
    pub fn entity(&self, path: &str) -> Option<&Map<String, Value>> {
        let all = self.entities().into_iter();
        let mut all = all.filter(|(_, one)| text(&one["unique_id"]).ends_with(path));
        all.next().map(|(_, one)| one)
    }

    pub fn device(&self, key: &str) -> &str {
        self.top["device"].get(key).map_or("", text)
    }
}

fn entities(components: &Map<String, Value>) -> impl Iterator<Item = (&str, &Map<String, Value>)> {
    let all = components
        .iter()
        .map(|(id, one)| (id.as_str(), one.as_object().unwrap()));
    all.filter(|(_, one)| one.len() > 1)
}

fn component(id: &str, one: &Map<String, Value>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    assert!(!id.is_empty() && id.chars().all(plain), "{id}");
    let name = text(&one["platform"]);
    let (needed, more) = platform(name).unwrap_or_else(|| panic!("{id}: platform {name}"));
    if one.len() == 1 {
        return; // takes an entity away
    }
    let known: Vec<&str> = COMMON.iter().chain(needed).chain(more).copied().collect();
    only(one, &known, id);
    let stateless = ["button", "device_tracker"].contains(&name);
    let state: &[&str] = if stateless {
        &[]
    } else {
        &["state_topic", "value_template"]
    };
    for key in needed.iter().chain(&["unique_id", "name"]).chain(state) {
        assert!(one.contains_key(*key), "{id}: no {key}");
    }
    // Without one it goes by the name of its device.
    assert!(
        one["name"].is_null() || !text(&one["name"]).is_empty(),
        "{id}"
    );
    if let Some(state) = one.get("state_topic") {
        topic(state, "N/");
    }
    if let Some(command) = one.get("command_topic") {
        topic(command, "W/");
        let same = one
            .get("state_topic")
            .is_none_or(|state| text(command)[1..] == text(state)[1..]);
        assert!(same || name == "update", "{id}");
    }
    let category = one.get("entity_category").map_or("", text);
    assert!(["", "config", "diagnostic"].contains(&category), "{id}");
    // What cannot be set is no configuration there.
    assert!(!(category == "config" && name.ends_with("sensor")), "{id}");
    assert!(
        one.get("enabled_by_default").is_none_or(Value::is_boolean),
        "{id}"
    );
    classes(id, name, one);
    if let Some(options) = one.get("options") {
        let options: Vec<&str> = options.as_array().unwrap().iter().map(text).collect();
        let different: BTreeSet<&&str> = options.iter().collect();
        assert!(
            !options.is_empty() && different.len() == options.len(),
            "{id}: {options:?}"
        );
        assert!(
            options
                .iter()
                .all(|option| (1..=255).contains(&option.len())),
            "{id}"
        );
    }
    if name == "number" {
        let number = |key: &str| one[key].as_f64().unwrap();
        assert!(
            number("min") < number("max") && number("step") >= 0.001,
            "{id}"
        );
    }
}

fn classes(id: &str, platform: &str, one: &Map<String, Value>) {
    let class = one.get("device_class").map(text);
    let unit = one.get("unit_of_measurement").map(text);
    let state = one.get("state_class").map(text);
    match (platform, class) {
        ("sensor" | "number", None) => {
            assert!(one.get("options").is_none() || platform != "sensor", "{id}");
            assert!(state.is_none_or(|state| state == "measurement"), "{id}");
        }
        ("sensor", Some("enum")) => {
            assert!(one.contains_key("options"), "{id}");
            assert_eq!((unit, state), (None, None), "{id}");
        }
        ("sensor", Some("timestamp")) => assert_eq!((unit, state), (None, None), "{id}"),
        ("sensor" | "number", Some(class)) => {
            let known = CLASSES.iter().find(|(name, ..)| *name == class);
            let (_, units, states) = known.unwrap_or_else(|| panic!("{id}: class {class}"));
            assert!(
                units.contains(&unit.unwrap_or_default()),
                "{id}: {class} in {unit:?}"
            );
            let letter = match state {
                None => "",
                Some("measurement") => "m",
                Some("total") => "t",
                Some("total_increasing") => "i",
                Some(other) => panic!("{id}: state class {other}"),
            };
            assert!(states.contains(letter), "{id}: {class} as {state:?}");
        }
        ("button", Some("restart")) | ("update", Some("firmware")) => {}
        ("binary_sensor", Some(class)) => assert!(BINARY_CLASSES.contains(&class), "{id}: {class}"),
        (_, class) => assert_eq!(class, None, "{id}"),
    }
}

/// Long names for short ones; both at once would be a mistake.
fn expand(map: &Map<String, Value>, abbreviations: &[(&str, &str)]) -> Map<String, Value> {
    let mut long = Map::new();
    for (key, value) in map {
        let known = abbreviations.iter().find(|(short, _)| short == key);
        let name = known.map_or(key.as_str(), |(_, name)| name);
        assert!(
            long.insert(name.into(), value.clone()).is_none(),
            "{name} twice"
        );
    }
    long
}

fn only(map: &Map<String, Value>, known: &[&str], what: &str) {
    for key in map.keys() {
        assert!(known.contains(&key.as_str()), "{what}: unknown key {key}");
    }
}

pub fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

fn topic(value: &Value, start: &str) {
    let topic = text(value);
    assert!(
        topic.starts_with(start) && !topic.contains(['+', '#', '\0']),
        "{topic}"
    );
}
