//! What VRM may do, after what the device says (§8).

use std::time::Duration;

use dbus_mqtt::bridge::OutletConfig;
use dbus_mqtt::bridge::calls::Method;
use dbus_mqtt::model::access::AccessRule;

use crate::frames::wire::{V, invalid};
use crate::frames::{self, name_owner_changed};
use crate::scene::Scene;

const SETTINGS: &str = "com.victronenergy.settings";
const PORTAL: &str = "/Settings/Network/VrmPortal";
const VEBUS: &str = "com.victronenergy.vebus.ttyS4";
const MINUTE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(1);

/// A broker that follows the device, and an inverter to write to.
fn scene() -> Scene {
    let outlet = OutletConfig {
        access: AccessRule::AsDeviceSays,
        ..frames::outlet(true, None)
    };
    let mut scene = Scene::with(frames::config(vec![outlet]));
    let items = [("/DeviceInstance", V::I(276)), ("/Mode", V::I(3))];
    scene.own(VEBUS, ":1.5", &items);
    scene.settle();
    scene
}

fn says(scene: &mut Scene, name: &str, owner: &str, access: V) {
    scene.own(name, owner, &[(PORTAL, access)]);
    scene.settle();
}

/// What the broker's clients may do now.
fn may(scene: &mut Scene) -> &'static str {
    if !scene.bridge.wants(0) {
        return "nothing";
    }
    if !scene.bridge.is_connected(0) {
        scene.bridge.broker_connected(0);
        scene.bridge.broker_ready(scene.now, 0);
    }
    scene.settle();
    scene.ask("W/vebus/276/Mode", r#"{"value": 4}"#);
    let writes = scene.calls();
    // A service that owes answers would not be asked the next time.
    for call in &writes {
        let answer = scene.answer(call).unwrap();
        scene.hear(&answer);
    }
    match writes.first().map(|call| &call.method) {
        Some(Method::SetValue(_)) => "write",
        Some(other) => panic!("{other:?}"),
        None => "read",
    }
}

#[test]
fn s8_the_setting_of_the_device_is_followed() {
    let mut scene = scene();
    assert_eq!(may(&mut scene), "nothing");
    says(&mut scene, SETTINGS, ":1.6", V::I(1));
    assert_eq!(may(&mut scene), "read");
    for (value, expected) in [
        (V::I(2), "write"),
        (V::I(0), "nothing"),
        (V::D(2.0), "write"),
        (V::I(7), "nothing"),
        (V::I(1), "read"),
    ] {
        scene.change(SETTINGS, PORTAL, value.clone());
        assert_eq!(may(&mut scene), expected, "{value:?}");
    }
}

#[test]
fn s8_only_the_service_of_exactly_that_name_is_believed() {
    let mut scene = scene();
    // Alone on the bus, in a scan and in a signal.
    let other = "com.victronenergy.settings.dummydriver";
    says(&mut scene, other, ":1.66", V::I(2));
    assert_eq!(may(&mut scene), "nothing");
    scene.change(other, PORTAL, V::I(1));
    scene.change(other, PORTAL, V::I(2));
    assert_eq!(may(&mut scene), "nothing");
    // Beside the real one, whichever has the topics.
    says(&mut scene, SETTINGS, ":1.6", V::I(1));
    assert_eq!(may(&mut scene), "read");
    scene.change(other, PORTAL, V::I(2));
    assert_eq!(may(&mut scene), "read");
    scene.pass(2 * MINUTE);
    scene.leave(other);
    scene.pass(2 * MINUTE);
    assert_eq!(may(&mut scene), "read");
    // And it takes nothing away.
    scene.change(SETTINGS, PORTAL, V::I(2));
    says(&mut scene, "com.victronenergy.settings.x", ":1.67", V::I(0));
    assert_eq!(may(&mut scene), "write");
}

#[test]
fn s8_gone_for_a_minute_it_counts_as_read_only() {
    let mut scene = scene();
    says(&mut scene, SETTINGS, ":1.6", V::I(2));
    assert_eq!(may(&mut scene), "write");
    scene.leave(SETTINGS);
    scene.pass(MINUTE.saturating_sub(MOMENT));
    assert_eq!(may(&mut scene), "write");
    scene.pass(MOMENT);
    assert_eq!(may(&mut scene), "read");
    // What it says later holds again.
    says(&mut scene, SETTINGS, ":1.9", V::I(2));
    assert_eq!(may(&mut scene), "write");
    // Back within the minute: nothing happens, not later either.
    scene.leave(SETTINGS);
    scene.pass(MINUTE / 2);
    says(&mut scene, SETTINGS, ":1.10", V::I(2));
    scene.pass(2 * MINUTE);
    assert_eq!(may(&mut scene), "write");
}

#[test]
fn s8_nothing_never_becomes_something() {
    let mut scene = scene();
    scene.pass(2 * MINUTE);
    assert_eq!(may(&mut scene), "nothing", "it was never there");
    says(&mut scene, SETTINGS, ":1.6", V::I(0));
    scene.leave(SETTINGS);
    scene.pass(2 * MINUTE);
    assert_eq!(may(&mut scene), "nothing", "it was off when it went");
}

#[test]
fn s8_a_setting_that_says_nothing_counts_as_gone() {
    let mut scene = scene();
    says(&mut scene, SETTINGS, ":1.6", V::I(2));
    scene.change(SETTINGS, PORTAL, invalid());
    scene.pass(MINUTE / 2);
    // Said again and again, it is still the first that counts.
    scene.change(SETTINGS, PORTAL, invalid());
    assert_eq!(may(&mut scene), "write");
    scene.pass(MINUTE / 2);
    assert_eq!(may(&mut scene), "read");
    scene.change(SETTINGS, PORTAL, V::I(2));
    assert_eq!(may(&mut scene), "write");
}

#[test]
fn s8_another_owner_has_a_minute_to_say_it() {
    let mut scene = scene();
    says(&mut scene, SETTINGS, ":1.6", V::I(2));
    // It has the name, but no such item.
    scene.service(SETTINGS).items = vec![("/Settings/Other".into(), V::I(1))];
    scene.service(SETTINGS).owner = ":1.7".into();
    scene.hear(&name_owner_changed(SETTINGS, ":1.6", ":1.7"));
    scene.settle();
    scene.pass(MINUTE.saturating_sub(MOMENT));
    assert_eq!(may(&mut scene), "write");
    scene.pass(MOMENT);
    assert_eq!(may(&mut scene), "read");
    scene.change(SETTINGS, PORTAL, V::I(2));
    assert_eq!(may(&mut scene), "write");
}

#[test]
fn s8_a_setting_that_a_read_finds_gone_is_gone() {
    let mut scene = scene();
    says(&mut scene, SETTINGS, ":1.6", V::I(2));
    scene.service(SETTINGS).items = Vec::new();
    scene.ask("R/settings/0/Settings/Network/VrmPortal", "");
    scene.settle();
    scene.pass(MINUTE.saturating_sub(MOMENT));
    assert_eq!(may(&mut scene), "write");
    scene.pass(MOMENT);
    assert_eq!(may(&mut scene), "read");
}

#[test]
fn s8_a_bus_that_is_gone_says_nothing() {
    let mut scene = scene();
    says(&mut scene, SETTINGS, ":1.6", V::I(2));
    scene.bridge.bus_disconnected(scene.now);
    scene.pass(MINUTE);
    scene.bridge.bus_connected(scene.now);
    scene.service(SETTINGS).items = Vec::new();
    scene.settle();
    assert_eq!(may(&mut scene), "read");
}
