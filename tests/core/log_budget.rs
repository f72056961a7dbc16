//! How much is logged of what goes wrong all the time: a device keeps its log in flash memory.

use std::time::Duration;

use crate::frames::wire::V;
use crate::log::Log;
use crate::scene::Scene;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn scene() -> Scene {
    let mut scene = Scene::new();
    let items = [
        ("/DeviceInstance", V::I(288)),
        ("/Soc", V::D(50.0)),
        ("/Dc/0/Voltage", V::D(26.0)),
    ];
    scene.own("com.victronenergy.battery.ttyO0", ":1.5", &items);
    scene.settle();
    scene
}

/// Two virtual sensors, each written once a second, for ten minutes.
fn ten_minutes(scene: &mut Scene, payload: &str) {
    for _ in 0..600 {
        scene.ask("W/battery/288/Soc", payload);
        scene.ask("W/battery/288/Dc/0/Voltage", payload);
        scene.settle();
        scene.now.monotonic += Duration::from_secs(1);
    }
}

#[test]
fn writes_to_what_can_only_be_read_are_said_once_a_day() {
    let mut scene = scene();
    let log = Log::new();
    ten_minutes(&mut scene, r#"{"value": 51.5}"#);
    let said = log.take("WARN");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("W/c0619ab12345/battery/288/Soc: the schema says"),
        "{said:?}"
    );
    // Later on that day: nothing. On the next: once more, and how many there were.
    scene.now.monotonic += 20 * HOUR;
    ten_minutes(&mut scene, r#"{"value": 51.5}"#);
    assert_eq!(log.take("WARN"), [""; 0]);
    scene.now.monotonic += 4 * HOUR;
    ten_minutes(&mut scene, r#"{"value": 51.5}"#);
    let said = log.take("WARN");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("(and 1199 more times since the last line)"),
        "{said:?}"
    );
}

#[test]
fn the_same_rejection_is_said_three_times_an_hour() {
    let mut scene = scene();
    let log = Log::new();
    ten_minutes(&mut scene, r#"{"value": "full"}"#);
    let said = log.take("WARN");
    assert_eq!(said.len(), 6, "{said:?}");
    // What else is wrong with the same value is said as well.
    scene.ask("W/battery/288/Soc", "no JSON");
    let said = log.take("WARN");
    assert!(
        said[0].contains("the payload is not valid JSON"),
        "{said:?}"
    );
    scene.now.monotonic += HOUR * 5 / 6;
    ten_minutes(&mut scene, r#"{"value": "full"}"#);
    let said = log.take("WARN");
    assert_eq!(said.len(), 6, "{said:?}");
    assert!(
        said[0].contains("(and 597 more times since the last line)"),
        "{said:?}"
    );
}

#[test]
fn whatever_clients_do_a_day_of_it_is_bounded() {
    let mut scene = scene();
    let log = Log::new();
    // One long text in the line.
    scene.ask("R/keepalive", &format!(r#"["{}#"]"#, "x".repeat(60_000)));
    for number in 0..2_000 {
        scene.ask(&format!("W/battery/288/{number}"), "no JSON");
        scene.now.monotonic += Duration::from_secs(40);
    }
    let said = log.take("WARN");
    assert_eq!(said.len(), 1_000);
    let bytes: usize = said.iter().map(String::len).sum();
    assert!(bytes < 200_000, "{bytes} bytes");
}

/// A queue of answers that is full is its own limit, and what the log names is the request: not where its
/// answer would have gone.
#[test]
fn s5_8_a_full_queue_of_answers_names_its_limit_and_the_request() {
    let mut scene = scene();
    scene.bridge.broker_disconnected(0);
    // What a broker holds is read back: no answer goes out meanwhile.
    scene.bridge.broker_connected(0);
    let log = Log::new();
    let payload = r#"{"keepalive-options": ["suppress-republish"]}"#;
    for _ in 0..2_049 {
        scene.ask_from(0, "R/keepalive", payload, false, Some("answers/1"));
    }
    let said = log.take("WARN");
    assert_eq!(said.len(), 1, "{said:?}");
    let expected = "request R/c0619ab12345/keepalive rejected: 4096 ";
    assert!(said[0].contains(expected), "{said:?}");
}
