//! Home Assistant's discovery with a real broker: set up and taken back, a device that goes, a name
//! that changes, a restart, a birth, and a command that reaches its service.

use crate::home_assistant::{Config, check, text};
use crate::support::rig::{OFFLINE, PORTAL, Rig, n, retained, value, w, wait_one_retained};
use crate::support::service::{BATTERY, VEBUS, battery, vebus};
use crate::support::wire::{V, s};
use crate::support::{PATIENCE, poll};

/// The topic of a device's configuration.
fn config(object: &str) -> String {
    format!("homeassistant/device/dbus-mqtt_{PORTAL}/{object}/config")
}

/// Waits until the broker retains a configuration that is such.
fn wait_config(rig: &Rig, object: &str, what: &str, such: impl Fn(&Config) -> bool) -> Config {
    let topic = config(object);
    poll(&format!("{object}: {what}"), PATIENCE, || {
        let found = retained(&rig.broker, &topic);
        let config = check(found.get(&topic)?);
        such(&config).then_some(config)
    })
}

fn configs(rig: &Rig) -> Vec<String> {
    let all = retained(&rig.broker, "homeassistant/#");
    all.into_keys().collect()
}

#[test]
fn home_assistant_finds_devices_and_values_that_nobody_asked_for() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    let mark = rig.client.mark();
    let mut bridge = rig.bridge("--home-assistant");
    let found = wait_config(&rig, "battery_258", "is there", |_| true);
    assert_eq!(found.device("name"), "SmartShunt");
    let entity = found.entity("/Soc").unwrap();
    let soc = text(&entity["state_topic"]);
    assert_eq!(soc, n("battery/258/Soc"));
    rig.client.expect(mark, soc, &value("87.5"));
    peer.update(BATTERY, "/Soc", V::D(50.0));
    rig.client.expect(mark, soc, &value("50.0"));
    wait_config(&rig, "vebus_257", "is there", |_| true);

    // Stopped, it says so, and Home Assistant keeps what its owner made of the entities.
    bridge.terminate();
    rig.client.expect(mark, &n("bridge/status"), OFFLINE);
    assert_eq!(configs(&rig), [config("battery_258"), config("vebus_257")]);

    // Switched off, it takes them back. Those of others are none of its business.
    let others = "homeassistant/device/other/config";
    rig.client.publish_retained(others, "{}");
    rig.client.fence();
    let _bridge = rig.bridge("--home-assistant=false");
    poll("the configurations to be taken back", PATIENCE, || {
        (configs(&rig) == [others]).then_some(())
    });
}

#[test]
fn without_the_setting_nothing_is_said_to_home_assistant() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let stale = config("tank_9");
    rig.client.publish_retained(&stale, "{}");
    rig.client.fence();
    let mark = rig.client.mark();
    let _bridge = rig.bridge("--home-assistant-keep 0");
    rig.wake();
    let topics: Vec<String> = rig.client.last(mark).into_keys().collect();
    assert!(
        !topics
            .iter()
            .any(|topic| topic.starts_with("homeassistant/"))
    );
    assert_eq!(configs(&rig), [stale]);
}

#[test]
fn a_command_reaches_its_service() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--home-assistant --home-assistant-prefix ha/discovery");
    let topic = format!("ha/discovery/device/dbus-mqtt_{PORTAL}/vebus_257/config");
    wait_one_there(&rig, &topic);
    let found = check(&retained(&rig.broker, &topic)[&topic]);
    let limit = found.entity("/Ac/In/1/CurrentLimit").unwrap();
    assert_eq!(text(&limit["platform"]), "number");
    assert_eq!(
        (limit["min"].as_f64(), limit["max"].as_f64()),
        (Some(0.0), Some(100.0))
    );
    let mark = rig.client.mark();
    // As Home Assistant renders it.
    let command = text(&limit["command_template"]).replace("{{ value }}", "16.5");
    let command_topic = text(&limit["command_topic"]);
    assert_eq!(command_topic, w("vebus/257/Ac/In/1/CurrentLimit"));
    rig.client.publish(command_topic, &command);
    let calls = peer.wait_calls("the write", 1, |call| {
        call.is("SetValue", "/Ac/In/1/CurrentLimit")
    });
    assert_eq!(calls[0].written(), V::D(16.5));
    let state = text(&limit["state_topic"]);
    rig.client.wait(mark, "the new limit", |message| {
        message.topic == state && message.text().starts_with("{\"value\": 16.5")
    });
}

fn wait_one_there(rig: &Rig, topic: &str) {
    poll(&format!("{topic} retained"), PATIENCE, || {
        retained(&rig.broker, topic)
            .contains_key(topic)
            .then_some(())
    });
}

#[test]
fn a_name_changes_and_a_device_goes() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery().item("/CustomName", s("")));
    let _vebus = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--home-assistant --home-assistant-keep 0");
    wait_config(&rig, "battery_258", "is there", |_| true);
    peer.update(BATTERY, "/CustomName", s("House battery"));
    let renamed = |found: &Config| found.device("name") == "House battery";
    wait_config(&rig, "battery_258", "has its new name", renamed);
    drop(peer);
    wait_one_retained(&rig.broker, &config("battery_258"), None);
    assert_eq!(configs(&rig), [config("vebus_257")]);
}

#[test]
fn after_a_crash_what_is_gone_is_forgotten_and_what_is_there_is_not() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _vebus = rig.bus.serve(vebus());
    let mut bridge = rig.bridge("--home-assistant --home-assistant-keep 0");
    wait_config(&rig, "battery_258", "is there", |_| true);
    wait_config(&rig, "vebus_257", "is there", |_| true);
    bridge.kill();
    drop(peer);
    // Longer than any request may be.
    let long = config("solarcharger_1");
    rig.client
        .publish_retained(&long, format!("\"{}\"", "x".repeat(99_000)));
    rig.client.fence();
    let mark = rig.client.mark();
    let _bridge = rig.bridge("--home-assistant --home-assistant-keep 0");
    wait_one_retained(&rig.broker, &config("battery_258"), None);
    wait_one_retained(&rig.broker, &long, None);
    let emptied = rig.client.payloads(mark, &config("vebus_257"));
    assert!(
        !emptied.contains(&String::new()),
        "it was there all the time"
    );
    wait_config(&rig, "vebus_257", "is still there", |_| true);
}

#[test]
fn a_birth_is_answered_with_all_devices() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let peer = rig.bus.serve(vebus());
    let _bridge = rig.bridge("--home-assistant");
    wait_config(&rig, "battery_258", "is there", |_| true);
    wait_config(&rig, "vebus_257", "is there", |_| true);
    let mark = rig.client.mark();
    rig.client.publish("homeassistant/status", "offline");
    rig.client.publish("homeassistant/status", "online");
    for object in ["battery_258", "vebus_257"] {
        let topic = config(object);
        rig.client
            .wait(mark, &topic, |message| message.topic == topic);
    }
    // One that is not seen as a request of anybody.
    peer.update(VEBUS, "/Mode", V::U(1));
    rig.client.expect(mark, &n("vebus/257/Mode"), &value("1"));
}
