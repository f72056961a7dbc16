//! A broker that is sent only so many messages a second (§4.13).

use dbus_mqtt::bridge::OutletConfig;

use crate::frames;
use crate::frames::wire::V;
use crate::scene::Scene;

const BATTERY: &str = "com.victronenergy.battery.one";

/// What comes after a keep-alive, a read and a request for the serial, in its order.
fn order(answers_first: bool) -> Vec<String> {
    let mut scene = Scene::with(frames::config(vec![OutletConfig {
        answers_first,
        ..frames::outlet(true, None)
    }]));
    let paths: Vec<String> = (0..100).map(|item| format!("/Load/{item}")).collect();
    let mut items = vec![("/DeviceInstance", V::I(3)), ("/Soc", V::D(0.5))];
    items.extend(paths.iter().map(|path| (path.as_str(), V::I(1))));
    scene.own(BATTERY, ":1.7", &items);
    scene.settle();
    scene.sent(0);
    scene.ask("R/keepalive", "");
    scene.ask("R/battery/3/Soc", "");
    scene.ask("R/system/0/Serial", "");
    scene.settle();
    let sent = scene.sent(0).into_iter().map(|(topic, ..)| topic);
    sent.filter(|topic| topic != "heartbeat").collect()
}

#[test]
fn s4_13_answers_go_before_values_that_have_to_wait() {
    let paced = order(true);
    assert_eq!(paced[..2], ["battery/3/Soc", "system/0/Serial"]);
    // The completion follows all that it completes, and each value is still there.
    assert_eq!(paced.last().unwrap(), "full_publish_completed");
    assert_eq!(paced.len(), 2 + 102 + 1);
    // Without a pace nothing waits long, and requests are answered in their order.
    let plain = order(false);
    let place = plain
        .iter()
        .position(|topic| topic == "full_publish_completed");
    assert_eq!(
        plain[place.unwrap() + 1..],
        ["battery/3/Soc", "system/0/Serial"]
    );
}
