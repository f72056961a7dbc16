//! What Home Assistant is told of devices.

use dbus_mqtt::bridge::{DiscoveryConfig, OutletConfig};
use dbus_mqtt::homeassistant::Names;
use serde_json::Value;

use crate::frames;
use crate::frames::wire::{V, s};
use crate::scene::Scene;

/// The configuration of a battery that says this of itself.
fn described(name: &str, serial: &str) -> Value {
    let outlet = OutletConfig {
        discovery: Some(DiscoveryConfig {
            names: Names::new("homeassistant", &frames::portal()),
            enabled: true,
            keep: None,
        }),
        ..frames::outlet(true, None)
    };
    let mut scene = Scene::with(frames::config(vec![outlet]));
    let items = [
        ("/DeviceInstance", V::I(288)),
        ("/ProductName", s(name)),
        ("/Serial", s(serial)),
        ("/Soc", V::D(87.5)),
        ("/Dc/0/Voltage", V::D(26.1)),
    ];
    scene.own("com.victronenergy.battery.ttyO0", ":1.5", &items);
    scene.settle();
    let topic = "homeassistant/device/dbus-mqtt_c0619ab12345/battery_288/config";
    serde_json::from_str(scene.value(topic).unwrap()).unwrap()
}

#[test]
fn a_very_long_name_leaves_the_entities_where_they_are() {
    let long = "é".repeat(150_000);
    let (plain, found) = (described("Shunt", "HQ1"), described(&long, &long));
    let entities = |config: &Value| -> Vec<String> {
        config["cmps"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(entities(&found), entities(&plain));
    assert!(entities(&found).len() >= 2);
    for key in ["name", "mdl", "sn"] {
        assert_eq!(found["dev"][key], "é".repeat(100), "{key}");
    }
}
