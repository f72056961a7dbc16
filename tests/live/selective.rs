//! §5.4, selective interests: one test or more for what the rule says.

use std::time::{Duration, Instant};

use crate::support::rig::{Rig, n, r, value};
use crate::support::service::{Service, battery};
use crate::support::wire::{V, s};

/// Four tanks and a battery, for filters to choose from.
fn choice(rig: &Rig) -> Vec<crate::support::peer::Peer> {
    let tank = |number: i32| {
        Service::device("tank", &format!("t{number}"), number)
            .item("/Level", V::D(f64::from(number)))
            .item("/Alarms/Low/State", V::I(0))
    };
    let mut peers: Vec<_> = (0..4).map(|number| rig.bus.serve(tank(number))).collect();
    peers.push(rig.bus.serve(battery()));
    peers
}

#[test]
fn s5_4_only_what_a_filter_matches_is_published() {
    // A list of filters instead of everything, with the wildcards of MQTT.
    for (filters, expected) in [
        (r#"["battery/+/Soc"]"#, vec!["battery/258/Soc"]),
        (
            r#"["tank/2/#"]"#,
            vec![
                "tank/2/Alarms/Low/State",
                "tank/2/DeviceInstance",
                "tank/2/Level",
            ],
        ),
        (
            r#"["+/+/Level"]"#,
            vec![
                "tank/0/Level",
                "tank/1/Level",
                "tank/2/Level",
                "tank/3/Level",
            ],
        ),
        (
            r#"["+/258/Dc/#"]"#,
            vec![
                "battery/258/Dc/0/Current",
                "battery/258/Dc/0/Temperature",
                "battery/258/Dc/0/Voltage",
            ],
        ),
        (
            r#"["tank/1/Level", "battery/258/Soc"]"#,
            vec!["battery/258/Soc", "tank/1/Level"],
        ),
        (
            r#"["tank/1", "nothing/#", "battery/258/Soc"]"#,
            vec!["battery/258/Soc"],
        ),
    ] {
        let Some(rig) = Rig::start() else { return };
        let peers = choice(&rig);
        let _bridge = rig.bridge("--retain true");
        rig.client.publish(&r("keepalive"), filters);
        for topic in &expected {
            let topic = n(topic);
            rig.client
                .wait(0, &format!("{topic} for {filters}"), |message| {
                    message.topic == topic
                });
        }
        // Changes of everything: only what is wanted comes.
        let mark = rig.client.mark();
        for number in 0..4 {
            peers[usize::try_from(number).unwrap()]
                .items_changed([("/Level", V::D(50.0)), ("/Alarms/Low/State", V::I(1))]);
        }
        peers[4].items_changed([
            ("/Soc", V::D(50.0)),
            ("/Dc/0/Current", V::D(50.0)),
            ("/ProductName", s("x")),
        ]);
        rig.bus.fence(&peers.iter().collect::<Vec<_>>());
        // A read is answered behind the changes, whatever the filters say.
        rig.fence_by_read("battery/258/Serial");
        let mut seen = rig.chosen(0);
        seen.retain(|topic| topic != "battery/258/Serial");
        seen.sort();
        seen.dedup();
        assert_eq!(seen, expected, "for {filters}");
        let changed = expected
            .iter()
            .any(|topic| topic.ends_with("/Level") || topic.ends_with("/Soc"));
        assert_eq!(
            changed,
            rig.chosen(mark)
                .iter()
                .any(|topic| topic.ends_with("/Level") || topic.ends_with("/Soc"))
        );
    }
}

#[test]
fn s5_4_a_new_filter_publishes_its_matches_once_and_a_renewed_one_nothing() {
    // A client sends its list again and again; it costs nothing until the list grows.
    let Some(rig) = Rig::start() else { return };
    let _peers = choice(&rig);
    let _bridge = rig.bridge("--retain true");
    rig.client.publish(&r("keepalive"), r#"["battery/+/Soc"]"#);
    rig.client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    for _ in 0..20 {
        rig.client.publish(&r("keepalive"), r#"["battery/+/Soc"]"#);
    }
    rig.client
        .publish(&r("keepalive"), r#"["battery/+/Soc", "tank/3/Level"]"#);
    rig.client.expect(0, &n("tank/3/Level"), &value("3.0"));
    rig.fence_by_read("battery/258/Serial");
    assert_eq!(
        rig.chosen(0),
        ["battery/258/Soc", "tank/3/Level", "battery/258/Serial"]
    );
}

#[test]
fn s5_4_each_filter_has_an_interval_of_its_own() {
    // One is renewed and stays, the other runs out and goes.
    let Some(rig) = Rig::start() else { return };
    let _peers = choice(&rig);
    let _bridge = rig.bridge("--retain true --keep-alive 3");
    rig.client
        .publish(&r("keepalive"), r#"["battery/+/Soc", "tank/3/Level"]"#);
    rig.client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    rig.client.expect(0, &n("tank/3/Level"), &value("3.0"));
    let start = Instant::now();
    while rig.client.payloads(0, &n("tank/3/Level")).len() < 2 {
        assert!(
            start.elapsed() < crate::support::PATIENCE,
            "the filter that nobody renews never runs out"
        );
        rig.client.publish(&r("keepalive"), r#"["battery/+/Soc"]"#);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(
        rig.client.payloads(0, &n("tank/3/Level")),
        [value("3.0"), String::new()]
    );
    assert_eq!(
        rig.client.payloads(0, &n("battery/258/Soc")),
        [value("87.5")]
    );
}

#[test]
fn s5_4_an_empty_list_is_a_plain_keep_alive() {
    // No filter at all is no selection: everything is published.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true");
    rig.client.publish(&r("keepalive"), "[]");
    rig.completed(0);
    assert_eq!(rig.chosen(0).len(), battery().items.len());
}

#[test]
fn s5_4_a_hundred_filters_a_second_cost_next_to_nothing() {
    // Twenty seconds' worth of an eager client, over two thousand items.
    let Some(rig) = Rig::start() else { return };
    let mut peers = Vec::new();
    for number in 0..20 {
        let mut service = Service::device("tank", &format!("t{number}"), number);
        for item in 0..100 {
            service = service.item(&format!("/Custom/{item}/Level"), V::I(item));
        }
        peers.push(rig.bus.serve(service));
    }
    let bridge = rig.bridge("--retain true");
    let filters: Vec<String> = (0..100)
        .map(|item| format!("\"tank/+/Custom/{item}/Level\""))
        .collect();
    let request = format!("[{}]", filters.join(", "));
    rig.client.publish(&r("keepalive"), &request);
    for number in 0..20 {
        rig.client.expect(
            0,
            &n(&format!("tank/{number}/Custom/99/Level")),
            &value("99"),
        );
    }
    rig.fence_by_read("tank/0/DeviceInstance");
    let before = bridge.cpu();
    for _ in 0..20 {
        rig.client.publish(&r("keepalive"), &request);
    }
    rig.fence_by_read("tank/1/DeviceInstance");
    let used = bridge.cpu().saturating_sub(before);
    assert!(used < Duration::from_secs(1), "{used:?} for 2,000 renewals");
    assert_eq!(rig.client.payloads(0, &n("tank/3/Custom/7/Level")).len(), 1);
}
