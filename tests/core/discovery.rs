//! Home Assistant's discovery without sockets: what is published for every recorded device, held
//! against what Home Assistant takes. When it is published is in `discovery_times.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use crate::frames::wire::V;
use crate::home_assistant::{Config, check, text};
use crate::rig::{DAY, Rig, Sent, battery, device, gps, gx, one, outlet, switch, vebus};
use dbus_mqtt::homeassistant::payload::BYTES_MAX;
use dbus_mqtt::model::access::{Access, AccessRule};
use dbus_mqtt::model::filter::Filter;
use serde_json::{Value, json};

/// The recordings beside the repository, where they are, and its own.
fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = root.join("tests/fixtures/recordings");
    let mut files = crate::frames::recordings();
    files.extend(
        std::fs::read_dir(own)
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    files.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    files.sort();
    files.dedup();
    assert!(files.len() >= 12, "{files:?}");
    files
}

/// The limits that a recording's items announce.
fn limits(file: &Path) -> Vec<(String, V, V)> {
    let text = std::fs::read_to_string(file).unwrap();
    let head: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let items = head["items"].as_object().unwrap().iter();
    items
        .filter_map(|(path, item)| {
            let limit = |key: &str| Some(V::D(item.get(key)?.as_f64()?));
            Some((path.clone(), limit("min")?, limit("max")?))
        })
        .collect()
}

/// What a recorded device becomes, with the limits that it announces, and the values it publishes.
fn recorded(file: &Path) -> (String, Config, BTreeMap<String, String>) {
    let device = crate::frames::load(file);
    let mut rig = Rig::start(vec![device], outlet(true, Some(DAY), true));
    let mut sent = rig.connect(&[]);
    for (path, min, max) in limits(file) {
        rig.change(0, &path, &[("Min", min), ("Max", max)]);
    }
    sent.0.extend(rig.pass(Duration::from_secs(3)).0);
    let payload = sent.configs().last().expect("a configuration").1.to_owned();
    let values = sent
        .0
        .into_iter()
        .filter(|(topic, ..)| topic.starts_with("N/"));
    let values = values.map(|(topic, payload, _)| (topic, payload)).collect();
    let config = check(&payload);
    (payload, config, values)
}

#[test]
fn home_assistant_takes_what_every_recorded_device_becomes() {
    let mut platforms: BTreeMap<String, usize> = BTreeMap::new();
    let mut largest = (0, String::new());
    for file in recordings() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let (payload, config, values) = recorded(&file);
        assert!(
            payload.len() <= BYTES_MAX + 100,
            "{name}: {} bytes",
            payload.len()
        );
        let entities = config.entities();
        for (id, entity) in &entities {
            // Every entity shows an item that is there.
            if let Some(topic) = entity.get("state_topic").map(text) {
                assert!(values.contains_key(topic), "{name}: {id} shows {topic}");
            }
            *platforms
                .entry(text(&entity["platform"]).into())
                .or_default() += 1;
        }
        let availability = config.top["availability"].as_array().unwrap();
        assert_eq!(availability.len(), 2, "{name}");
        for one in availability {
            let topic = text(&one["topic"]);
            assert!(
                values.contains_key(topic),
                "{name}: {topic} tells of its presence"
            );
        }
        assert!(!config.device("name").is_empty(), "{name}");
        let shown = entities
            .iter()
            .filter(|(_, one)| !one.contains_key("enabled_by_default"));
        let shown = shown.count();
        println!(
            "{name}: {} bytes, {} entities, {shown} shown",
            payload.len(),
            entities.len()
        );
        if payload.len() > largest.0 {
            largest = (payload.len(), name);
        }
    }
    println!("{platforms:?}; the largest: {largest:?}");
    for platform in [
        "sensor",
        "binary_sensor",
        "switch",
        "select",
        "number",
        "text",
    ] {
        assert!(platforms.contains_key(platform), "no {platform} at all");
    }
}

#[test]
fn units_labels_and_limits_make_the_entity() {
    let mut rig = Rig::start(
        vec![battery(), vebus(), gx()],
        outlet(true, Some(DAY), true),
    );
    let sent = rig.connect(&[]);
    let configs: Vec<(&str, Config)> = sent
        .configs()
        .into_iter()
        .map(|(object, payload)| (object, check(payload)))
        .collect();
    let objects: Vec<&str> = configs.iter().map(|(object, _)| *object).collect();
    assert_eq!(objects, ["system_0", "battery_288", "vebus_276"]);
    // The devices are announced before any of their values.
    let first_value = sent.0.iter().position(|(topic, ..)| topic.contains("/Soc"));
    let last_config = sent
        .0
        .iter()
        .rposition(|(topic, ..)| topic.ends_with("/config"));
    assert!(last_config < first_value);

    let (gx, battery, vebus) = (&configs[0].1, &configs[1].1, &configs[2].1);
    assert_eq!(battery.device("name"), "SmartShunt 500A");
    assert_eq!(battery.device("model"), "SmartShunt 500A");
    assert_eq!(battery.device("serial_number"), "HQ1548R36DZ");
    assert_eq!(battery.device("sw_version"), "3.08");
    assert_eq!(
        battery.device("via_device"),
        "dbus-mqtt_c0619ab12345_system_0"
    );
    assert_eq!(
        battery.top["device"]["identifiers"],
        json!(["dbus-mqtt_c0619ab12345_battery_288"])
    );
    assert_eq!(gx.device("name"), "GX device");
    assert_eq!(gx.device("via_device"), "");
    assert_eq!(vebus.device("name"), "Inverter/charger 276");

    let words = |config: &Config, path: &str, keys: &[&str]| -> Vec<String> {
        let entity = config.entity(path).unwrap_or_else(|| panic!("no {path}"));
        let shown = |key: &&str| {
            entity.get(*key).map_or(String::new(), |value| match value {
                Value::String(text) => text.clone(),
                _ => value.to_string(),
            })
        };
        keys.iter().map(shown).collect()
    };
    let sensor = [
        "platform",
        "device_class",
        "unit_of_measurement",
        "state_class",
    ];
    assert_eq!(
        words(battery, "/Soc", &sensor),
        ["sensor", "battery", "%", "measurement"]
    );
    assert_eq!(
        words(battery, "/Dc/0/Voltage", &sensor),
        ["sensor", "voltage", "V", "measurement"]
    );
    assert_eq!(
        words(battery, "/History/DischargedEnergy", &sensor),
        ["sensor", "energy", "kWh", "total_increasing"]
    );
    let hidden = ["entity_category", "enabled_by_default"];
    assert_eq!(
        words(battery, "/Alarms/LowVoltage", &hidden),
        ["diagnostic", ""]
    );
    assert_eq!(
        words(
            battery,
            "/Alarms/LowVoltage",
            &["platform", "device_class", "name"]
        ),
        ["binary_sensor", "problem", "Low voltage alarm"]
    );
    assert_eq!(words(battery, "/Soc", &hidden), ["", ""]);
    let control = ["platform", "command_topic"];
    assert_eq!(
        words(vebus, "/Mode", &control),
        ["select", "W/c0619ab12345/vebus/276/Mode"]
    );
    assert_eq!(
        words(gx, "/Relay/0/State", &control),
        ["switch", "W/c0619ab12345/system/0/Relay/0/State"]
    );
    assert_eq!(words(vebus, "/Ac/Out/L1/P", &["name"]), ["Output power L1"]);
    assert!(
        battery.entity("/Dc/0/Temperature").is_none(),
        "it has no value yet"
    );
    assert_eq!(
        words(battery, "/Connected", &["platform", "enabled_by_default"]),
        ["binary_sensor", "false"]
    );
}

#[test]
fn outputs_are_devices_of_their_own_under_the_names_of_their_owner() {
    let mut rig = Rig::start(vec![switch()], outlet(true, Some(DAY), true));
    let sent = rig.connect(&[]);
    let configs: BTreeMap<_, _> = sent.configs().into_iter().collect();
    assert_eq!(configs.len(), 3, "{:?}", configs.keys());
    let lights = check(configs["switch_7_SwitchableOutput_output_1"]);
    assert_eq!(lights.device("name"), "Deck lights");
    assert_eq!(lights.device("suggested_area"), "Deck");
    assert_eq!(
        lights.device("via_device"),
        "dbus-mqtt_c0619ab12345_switch_7"
    );
    let state = lights.entity("/SwitchableOutput/output_1/State").unwrap();
    assert_eq!(
        (&state["platform"], &state["name"]),
        (&json!("switch"), &Value::Null)
    );
    let dimming = lights.entity("/SwitchableOutput/output_1/Dimming").unwrap();
    assert_eq!(
        (&dimming["platform"], &dimming["max"]),
        (&json!("number"), &json!(100))
    );
    let other = check(configs["switch_7_SwitchableOutput_output_2"]);
    assert_eq!(other.device("name"), "Output output_2");
    let whole = check(configs["switch_7"]);
    assert!(whole.entity("/SwitchableOutput/output_1/State").is_none());
    // They go with their device.
    rig.leave(0);
    let gone = rig.pass(DAY + Duration::from_secs(2));
    let gone: BTreeSet<_> = gone.configs().into_iter().collect();
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert!(gone.iter().all(|(_, payload)| payload.is_empty()));
}

#[test]
fn a_place_is_told_where_a_receiver_knows_it() {
    let mut rig = Rig::start(vec![gps()], outlet(true, Some(DAY), true));
    let sent = rig.connect(&[]);
    let config = one(&sent);
    assert_eq!(config.device("name"), "GPS 3");
    let tracker = config.entity("/Position/Latitude").unwrap();
    assert_eq!(tracker["platform"], "device_tracker");
    let topic = text(&tracker["json_attributes_topic"]);
    let at = |sent: &Sent| {
        let mut all = sent.0.iter().rev();
        all.find(|(own, ..)| own == topic)
            .map(|(_, payload, _)| serde_json::from_str::<Value>(payload).unwrap())
    };
    assert_eq!(at(&sent).unwrap()["latitude"], json!(52.5));
    assert!(config.entity("/Position/Longitude").is_none());
    rig.change(0, "/Position/Latitude", &[("Value", V::D(52.75))]);
    let moved = rig.pass(Duration::from_secs(3));
    assert!(moved.configs().is_empty());
    assert_eq!(
        at(&moved).unwrap(),
        json!({"latitude": 52.75, "longitude": 5.25, "gps_accuracy": 10})
    );
}

#[test]
fn a_broker_without_commands_gets_entities_to_look_at() {
    let mut looking = outlet(true, Some(DAY), true);
    looking.access = AccessRule::Always(Access::ReadOnly);
    let mut rig = Rig::start(vec![gx()], looking);
    let config = one(&rig.connect(&[]));
    for (id, entity) in config.entities() {
        assert!(!entity.contains_key("command_topic"), "{id}");
    }
    let relay = config.entity("/Relay/0/State").unwrap();
    assert!(text(&relay["platform"]).ends_with("sensor"));
}

#[test]
fn s8_what_the_clients_of_a_broker_may_not_have_is_no_entity() {
    let filters = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| Filter::parse(text).unwrap())
            .collect()
    };
    let mut partly = outlet(true, Some(DAY), true);
    partly.lists.publish.deny = filters(&["+/+/Dc/Battery/Soc"]);
    partly.lists.write.deny = filters(&["vebus/276/Mode"]);
    let mut rig = Rig::start(vec![gx(), vebus()], partly);
    let sent = rig.connect(&[]);
    let configs: BTreeMap<_, _> = sent.configs().into_iter().collect();
    let (gx, vebus) = (check(configs["system_0"]), check(configs["vebus_276"]));
    assert!(gx.entity("/Dc/Battery/Soc").is_none());
    assert!(!configs["system_0"].contains("/Dc/Battery/Soc"));
    let relay = gx.entity("/Relay/0/State").unwrap();
    assert!(relay.contains_key("command_topic"));
    let mode = vebus.entity("/Mode").unwrap();
    assert_eq!(text(&mode["platform"]), "sensor");
    assert!(!mode.contains_key("command_topic"));
}

#[test]
fn s8_a_gateway_that_a_broker_is_not_told_of_is_not_named_there() {
    // Its lists hide all of it, or all that would be an entity; a part is enough to be there.
    for (deny, named) in [
        (&["system/#"][..], false),
        (&["+/0/Dc/#", "+/0/Relay/#", "+/0/Ac/#"], false),
        (&["system/0/Dc/#"], true),
        (&[], true),
    ] {
        let mut partly = outlet(true, Some(DAY), true);
        let deny = deny.iter().map(|text| Filter::parse(text).unwrap());
        partly.lists.publish.deny = deny.collect();
        let mut rig = Rig::start(vec![gx(), battery()], partly);
        let sent = rig.connect(&[]);
        let configs: BTreeMap<_, _> = sent.configs().into_iter().collect();
        assert_eq!(configs.contains_key("system_0"), named);
        let via = check(configs["battery_288"])
            .device("via_device")
            .to_owned();
        assert_eq!(!via.is_empty(), named, "{via}");
    }
}

#[test]
fn s8_topics_in_a_configuration_have_the_prefix_of_the_broker() {
    let mut ours = outlet(true, Some(DAY), true);
    ours.prefix = "venus/".into();
    let mut rig = Rig::start(vec![gx()], ours);
    let gone = format!("{}tank_9/config", crate::rig::HEAD);
    let sent = rig.connect(&[&gone, "venus/N/c0619ab12345/tank/9/Level"]);
    let configs = sent.configs();
    let [(_, config)] = configs.as_slice() else {
        panic!("one configuration, not {configs:?}");
    };
    let config: Value = serde_json::from_str(config).unwrap();
    let mut topics = Vec::new();
    topics_in(&config, &mut topics);
    for kind in ["venus/N/c0619ab12345/", "venus/W/c0619ab12345/"] {
        assert!(topics.iter().any(|topic| topic.starts_with(kind)), "{kind}");
    }
    for topic in topics {
        assert!(topic.starts_with("venus/"), "{topic}");
    }
    // What the broker held of devices that are gone is taken back, of both kinds.
    let cleared = |sent: &Sent, topic: &str| sent.0.iter().any(|(at, ..)| at == topic);
    assert!(cleared(&sent, "venus/N/c0619ab12345/tank/9/Level"));
    assert!(cleared(&rig.pass(DAY * 2), &gone));
}

/// The values of all keys that are topics.
fn topics_in(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(topic) if ["t", "stat_t", "cmd_t"].contains(&key.as_str()) => {
                        found.push(topic.clone());
                    }
                    _ => topics_in(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| topics_in(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

// Templates, with the real Jinja where it is installed: Home Assistant uses the same.

/// Looks at what a template has become.
type Check = Box<dyn Fn(&str)>;

const JINJA: &str = r"
import datetime, json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
environment = ImmutableSandboxedEnvironment()
environment.filters['to_json'] = json.dumps
environment.filters['timestamp_utc'] = lambda seconds: datetime.datetime.fromtimestamp(
    seconds, datetime.timezone.utc).isoformat()
compiled = {}
for line in sys.stdin:
    template, payload, known = json.loads(line)
    if template not in compiled:
        compiled[template] = environment.from_string(template)
    variables = payload if isinstance(payload, dict) else {'value': payload}
    if not known:
        try:
            variables['value_json'] = json.loads(payload)
        except ValueError:
            pass
    print(json.dumps(compiled[template].render(variables).strip()))
";

/// Renders templates with payloads, or with the value of a command. `None`, said aloud, where there
/// is no Jinja.
fn render(cases: &[(String, Value, bool)]) -> Option<Vec<String>> {
    let probe = Command::new("python3")
        .args(["-c", "import jinja2"])
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        let needed = std::env::var_os("REQUIRE_LIVE").is_some_and(|value| value == "1");
        assert!(
            !needed,
            "there is no Jinja (python3-jinja2), and REQUIRE_LIVE=1 says that it must be"
        );
        eprintln!("SKIPPED: there is no Jinja (python3-jinja2)");
        return None;
    }
    let mut child = Command::new("python3")
        .args(["-c", JINJA])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = cases.iter().map(|case| json!(case).to_string()).collect();
    let lines = lines.join("\n");
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let rendered: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rendered.len(), cases.len());
    Some(rendered)
}

/// What an entity makes of a payload is a state that it can have.
fn check_state(what: &str, entity: &serde_json::Map<String, Value>, payload: &str, state: &str) {
    let value: Option<Value> = serde_json::from_str(payload).ok();
    let value = value
        .and_then(|json| json.get("value").cloned())
        .filter(|json| !json.is_null());
    let what = format!("{what}: {payload:?} is {state:?}");
    let class = entity.get("device_class").map_or("", text);
    match (text(&entity["platform"]), value) {
        ("text", None) => assert_eq!(state, "", "{what}"),
        (_, None) => assert_eq!(state, "None", "{what}"),
        ("select", Some(_)) => {
            assert!(state == "None" || options(entity).contains(state), "{what}");
        }
        ("sensor", Some(_)) if class == "enum" => {
            assert!(state == "None" || options(entity).contains(state), "{what}");
        }
        // They are shown in words, or in another unit.
        ("time", Some(_)) => assert!(state.len() == 8 || state == "None", "{what}"),
        ("sensor", Some(_)) if entity["value_template"].as_str().unwrap().contains("{%") => {
            assert!(!state.is_empty(), "{what}");
        }
        ("number", Some(_)) if entity["value_template"].as_str().unwrap().contains("{%") => {
            assert!(state.parse::<f64>().is_ok(), "{what}");
        }
        ("switch" | "binary_sensor", Some(_)) => {
            assert!(["ON", "OFF", "None"].contains(&state), "{what}");
        }
        ("sensor", Some(_)) if class == "timestamp" => {
            assert!(state == "None" || state.contains("+00:00"), "{what}");
        }
        (_, Some(Value::String(text))) => assert_eq!(state, text.trim(), "{what}"),
        (_, Some(number)) => {
            assert_eq!(state.parse::<f64>().ok(), number.as_f64(), "{what}");
        }
    }
}

fn options(entity: &serde_json::Map<String, Value>) -> BTreeSet<&str> {
    entity["options"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect()
}

/// A schedule of charging is a list of days, and a switch beside it.
#[test]
fn a_schedule_is_switched_without_losing_its_days() {
    let day = "/Settings/CGwacs/BatteryLife/Schedule/Charge/1/Day";
    let settings = device("settings", ":1.12", &[(day, V::I(-8))]);
    let mut rig = Rig::start(vec![settings], outlet(true, Some(DAY), true));
    let config = one(&rig.connect(&[]));
    let entities: BTreeMap<_, _> = config
        .entities()
        .into_iter()
        .map(|(_, entity)| (text(&entity["platform"]).to_owned(), entity.clone()))
        .collect();
    let (list, switch) = (&entities["select"], &entities["switch"]);
    assert_eq!(text(&list["name"]), "Scheduled charge 2");
    assert_eq!(text(&switch["name"]), "Scheduled charge 2 enabled");
    assert_ne!(list["unique_id"], switch["unique_id"]);
    assert_eq!(switch["command_topic"], list["command_topic"]);
    assert_eq!(switch["json_attributes_topic"], list["state_topic"]);
    let states = [
        (-8, "OFF"),
        (8, "ON"),
        (0, "ON"),
        (-10, "OFF"),
        (11, "None"),
    ];
    let turns = [
        ("ON", -8, 8),
        ("ON", 8, 8),
        ("OFF", 8, -8),
        ("OFF", 0, -10),
        ("ON", -10, 0),
        ("OFF", -1, -1),
    ];
    let mut cases = Vec::new();
    for (code, _) in states {
        let payload = json!(json!({ "value": code }).to_string());
        cases.push((text(&switch["value_template"]).to_owned(), payload, false));
    }
    for (turn, from, _) in turns {
        let known = json!({ "value": turn, "this": { "attributes": { "value": from } } });
        cases.push((text(&switch["command_template"]).to_owned(), known, true));
    }
    let Some(rendered) = render(&cases) else {
        return;
    };
    let (shown, written) = rendered.split_at(states.len());
    assert_eq!(shown, states.map(|(_, state)| state));
    let written: Vec<Value> = written
        .iter()
        .map(|command| serde_json::from_str(command).unwrap())
        .collect();
    assert_eq!(written, turns.map(|(.., to)| json!({ "value": to })));
    // Where nothing can be written there is nothing to switch.
    let mut outlet = outlet(true, Some(DAY), true);
    outlet.access = AccessRule::Always(Access::ReadOnly);
    let settings = device("settings", ":1.12", &[(day, V::I(-8))]);
    let mut rig = Rig::start(vec![settings], outlet);
    let config = one(&rig.connect(&[]));
    assert_eq!(config.entities().len(), 1);
}

#[test]
fn templates_survive_every_payload_and_commands_are_writes() {
    let mut cases = Vec::new();
    let mut checks: Vec<Check> = Vec::new();
    for file in recordings() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let (_, config, values) = recorded(&file);
        for one in config.top["availability"].as_array().unwrap() {
            let template = text(&one["value_template"]);
            let there = values[text(&one["topic"])].clone();
            for (payload, expected) in [(there.as_str(), "online"), ("", "offline")] {
                cases.push((template.to_owned(), json!(payload), false));
                let what = format!("{name}: {template} with {payload}");
                checks.push(Box::new(move |state| assert_eq!(state, expected, "{what}")));
            }
        }
        for (id, entity) in config.entities() {
            if !entity.contains_key("state_topic") {
                continue;
            }
            let shared = Rc::new(entity.clone());
            let payloads = [
                values[text(&entity["state_topic"])].as_str(),
                "{\"value\": null}",
                "{\"value\": 240}",
                "{}",
                "",
                "5",
                "[1]",
                "not JSON",
            ];
            for payload in payloads {
                let is_number = payload.ends_with("240}");
                if is_number && text(&entity["platform"]) == "text" {
                    continue;
                }
                cases.push((
                    text(&entity["value_template"]).to_owned(),
                    json!(payload),
                    false,
                ));
                let (what, entity) = (format!("{name}: {id}"), Rc::clone(&shared));
                let payload = payload.to_owned();
                checks.push(Box::new(move |state| {
                    check_state(&what, &entity, &payload, state);
                }));
            }
            let chosen: Vec<(Value, Value)> = match text(&entity["platform"]) {
                "number" => vec![(entity["min"].clone(), Value::Bool(true))],
                "time" => vec![(json!("07:30:00"), json!(27_000))],
                "text" => vec![(json!("a \"b\" \\ é\n"), json!("a \"b\" \\ é\n"))],
                "select" => options(entity)
                    .iter()
                    .map(|one| (json!(one), Value::Null))
                    .collect(),
                _ => Vec::new(),
            };
            for (value, expected) in chosen {
                cases.push((text(&entity["command_template"]).to_owned(), value, true));
                let what = format!("{name}: {id}");
                checks.push(Box::new(move |command| {
                    let write: Value = serde_json::from_str(command).unwrap();
                    if expected == Value::Bool(true) {
                        assert!(write["value"].is_number(), "{what}: {command}");
                    } else if expected.is_null() {
                        assert!(write["value"].is_i64(), "{what}: {command}");
                    } else {
                        assert_eq!(write["value"], expected, "{what}: {command}");
                    }
                }));
            }
            for key in ["payload_on", "payload_off"] {
                if let Some(payload) = entity.get(key) {
                    let write: Value = serde_json::from_str(text(payload)).unwrap();
                    assert!(
                        write["value"].is_i64() || write["value"].is_boolean(),
                        "{name}: {id}"
                    );
                }
            }
        }
    }
    let Some(rendered) = render(&cases) else {
        return;
    };
    for (check, state) in checks.iter().zip(&rendered) {
        check(state);
    }
    println!("{} templates rendered", rendered.len());
}
