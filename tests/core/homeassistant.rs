//! What Home Assistant is told of devices.

use dbus_mqtt::bridge::{DiscoveryConfig, OutletConfig};
use dbus_mqtt::homeassistant::Names;
use serde_json::Value;

use crate::frames;
use crate::frames::wire::{V, s};
use crate::scene::Scene;

/// The configuration of a battery that says this of itself.
fn described(name: &str, serial: &str) -> Value {
    let items = [("/ProductName", s(name)), ("/Serial", s(serial))];
    let mut scene = scene("");
    battery(&mut scene, 288, &items);
    scene.settle();
    config(&scene, "battery_288")
}

/// A bridge with a broker that has Home Assistant, and with a page there.
fn scene(page: &str) -> Scene {
    let outlet = OutletConfig {
        discovery: Some(DiscoveryConfig {
            names: Names::new("homeassistant", &frames::portal()),
            enabled: true,
            keep: None,
            page: page.into(),
        }),
        ..frames::outlet(true, None)
    };
    Scene::with(frames::config(vec![outlet]))
}

fn battery(scene: &mut Scene, instance: i32, items: &[(&str, V)]) {
    let common = [
        ("/DeviceInstance", V::I(instance)),
        ("/Soc", V::D(87.5)),
        ("/Dc/0/Voltage", V::D(26.1)),
    ];
    let all: Vec<_> = common.iter().chain(items).cloned().collect();
    let name = format!("com.victronenergy.battery.ttyO{instance}");
    scene.own(&name, &format!(":1.{instance}"), &all);
}

fn config(scene: &Scene, object: &str) -> Value {
    let topic = format!("homeassistant/device/dbus-mqtt_c0619ab12345/{object}/config");
    serde_json::from_str(scene.value(&topic).unwrap()).unwrap()
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

#[test]
fn who_made_it_is_told_by_the_number_of_the_product() {
    let mut scene = scene("");
    let monitor = [("/ProductId", V::I(0xA389))];
    battery(&mut scene, 1, &monitor);
    // A battery of another maker, in a range that Victron Energy gives to others.
    battery(&mut scene, 2, &[("/ProductId", V::I(0xB012))]);
    let named = [monitor[0].clone(), ("/Manufacturer", s("Pylontech"))];
    battery(&mut scene, 3, &named);
    scene.settle();
    let maker = |object| config(&scene, object)["dev"]["mf"].clone();
    assert_eq!(maker("battery_1"), "Victron Energy");
    assert_eq!(maker("battery_2"), Value::Null);
    assert_eq!(maker("battery_3"), "Pylontech");
}

#[test]
fn devices_of_one_name_are_told_apart_by_their_instances() {
    let mut scene = scene("");
    for (instance, name) in [(1, "Shunt"), (5, "Shunt"), (7, "Bow")] {
        battery(&mut scene, instance, &[("/CustomName", s(name))]);
    }
    scene.settle();
    let name = |object| config(&scene, object)["dev"]["name"].clone();
    assert_eq!(name("battery_1"), "Shunt (1)");
    assert_eq!(name("battery_5"), "Shunt (5)");
    assert_eq!(name("battery_7"), "Bow");
}

#[test]
fn the_page_of_a_device_is_a_click_away() {
    let mut scene = scene("http://192.168.1.5:8080");
    battery(&mut scene, 288, &[]);
    scene.settle();
    let url = &config(&scene, "battery_288")["dev"]["cu"];
    assert_eq!(url, "http://192.168.1.5:8080/#/devices/battery/288");
    assert_eq!(described("Shunt", "HQ1")["dev"]["cu"], Value::Null);
}
