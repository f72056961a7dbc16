//! Values that are held back on a real broker (`throttle`): counted between events that are waited for.

use std::time::{Duration, Instant};

use crate::support::rig::{Rig, n, r, value};
use crate::support::service::{BATTERY, Service};
use crate::support::wire::{V, s};

const VOLTAGE: &str = "battery/258/Dc/0/Voltage";
const CURRENT: &str = "battery/258/Dc/0/Current";
const POWER: &str = "battery/258/Dc/0/Power";
const STATE: &str = "battery/258/State";
const SOC: &str = "battery/258/Soc";
/// Of the current, in seconds.
const INTERVAL_S: u64 = 2;
/// 20 of them a second, over some intervals.
const CHANGES: i32 = 90;
const STEP: Duration = Duration::from_millis(50);

#[test]
fn values_come_no_more_often_than_the_settings_say_and_the_last_one_always() {
    let Some(rig) = Rig::start() else { return };
    let config = rig.broker.folder().join("throttle.toml");
    let rules = format!(
        "throttle = [['battery/+/Dc/0/Voltage', '1h', 0], ['battery/+/Dc/0/Current', '{INTERVAL_S}s', 0], ['battery/+/Dc/0/Power', '500ms', 5], ['battery/+/State', '1h', 5]]\n"
    );
    std::fs::write(&config, rules).unwrap();
    let battery = Service::device("battery", "ttyO0", 258)
        .item("/Soc", V::I(0))
        .item("/Dc/0/Voltage", V::D(26.0))
        .item("/Dc/0/Current", V::I(0))
        .item("/Dc/0/Power", V::D(100.0))
        .item("/State", s("idle"));
    let peer = rig.bus.serve(battery.clone());
    let mut bridge = rig.bridge(&format!("--keep-alive 0 --config {}", config.display()));
    // The first values are not held back.
    rig.wait_retained("at the beginning", &battery.topics(258));

    // Changes 20 times a second: one value that may come each two seconds, one that may within an hour, one
    // within its deadband, one that is not throttled.
    let (mark, began) = (rig.client.mark(), Instant::now());
    for number in 1..=CHANGES {
        let within = 100.0 + f64::from(number % 5);
        peer.update(BATTERY, "/Dc/0/Voltage", V::D(26.0 + f64::from(number)));
        peer.update(BATTERY, "/Dc/0/Power", V::D(within));
        peer.update(BATTERY, "/Dc/0/Current", V::I(number));
        // The one that is not throttled comes each time, before the next changes.
        peer.update(BATTERY, "/Soc", V::I(number));
        rig.client
            .expect(mark, &n(SOC), &value(&number.to_string()));
        std::thread::sleep(STEP);
    }
    rig.client
        .expect(mark, &n(CURRENT), &value(&CHANGES.to_string()));
    let most = began.elapsed().as_secs() / INTERVAL_S + 1;
    let currents = rig.client.payloads(mark, &n(CURRENT));
    assert!(currents.len() >= 2, "{currents:?}");
    assert!(
        currents.len() as u64 <= most,
        "{currents:?}, {most} at most"
    );
    // None of those that wait.
    let held = |topic: &str| rig.client.payloads(mark, &n(topic));
    assert!(held(VOLTAGE).is_empty(), "{:?}", held(VOLTAGE));
    assert!(held(POWER).is_empty(), "{:?}", held(POWER));

    // Beyond its deadband it comes, and then others are measured by what came.
    peer.update(BATTERY, "/Dc/0/Power", V::D(105.5));
    rig.client.expect(mark, &n(POWER), &value("105.5"));
    peer.update(BATTERY, "/Dc/0/Power", V::D(101.0));
    peer.update(BATTERY, "/Dc/0/Power", V::D(100.25));
    rig.client.expect(mark, &n(POWER), &value("100.25"));
    assert!(held(POWER).len() <= 3, "{:?}", held(POWER));

    // What is asked for is said at once, and so is all of a keep-alive: the last value, not an older one.
    let read = rig.client.mark();
    rig.client.publish(&r(VOLTAGE), "");
    let last = value(&format!("{}.0", 26 + CHANGES));
    rig.client.expect(read, &n(VOLTAGE), &last);
    peer.update(BATTERY, "/State", s("busy"));
    peer.update(BATTERY, "/State", s("bulk"));
    // The bridge knows of it when it knows of what came after it.
    peer.update(BATTERY, "/Soc", V::I(CHANGES + 1));
    rig.client
        .expect(read, &n(SOC), &value(&(CHANGES + 1).to_string()));
    rig.wake();
    let mut expected = battery.topics(258);
    let payloads = [
        (SOC, value(&(CHANGES + 1).to_string())),
        (CURRENT, value(&CHANGES.to_string())),
        (VOLTAGE, last),
        (POWER, value("100.25")),
        (STATE, value("\"bulk\"")),
    ];
    expected.extend(payloads.map(|(topic, payload)| (n(topic), payload)));
    rig.wait_retained("after a keep-alive", &expected);
    bridge.assert_alive();
}
