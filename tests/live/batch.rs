//! Batches on a real broker: what a client makes of them is what the bus has (`batch`).

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::client::{Client, Message};
use crate::support::rig::{Rig, n, r};
use crate::support::service::{Service, battery};
use crate::support::wire::V;

/// The property that says gzip, as it stands in the packet.
const IS_GZIP: &[u8] = b"\x03\x00\x10application/gzip";

/// What a batch says, compressed or not.
fn plain(message: &Message) -> Vec<u8> {
    if message.properties != IS_GZIP {
        assert!(message.properties.is_empty());
        return message.payload.clone();
    }
    let mut plain = Vec::new();
    let mut decoder = GzDecoder::new(&*message.payload);
    decoder.read_to_end(&mut plain).unwrap();
    assert!(message.payload.len() < plain.len());
    plain
}

/// All values that these batches tell, in their order.
fn values(messages: &[Message]) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    for message in messages
        .iter()
        .filter(|message| message.topic == n("batch"))
    {
        let batch: Value = serde_json::from_slice(&plain(message)).unwrap();
        for gone in batch["gone"].as_array().into_iter().flatten() {
            values.remove(gone.as_str().unwrap());
        }
        for (key, value) in batch["values"].as_object().unwrap() {
            values.insert(key.clone(), value.clone());
        }
    }
    values
}

#[test]
fn batches_end_with_what_the_bus_has_in_parts_that_the_broker_takes() {
    const PACKET_BYTES_MAX: usize = 2_000;
    let Some(mut broker) = Broker::absent() else {
        return;
    };
    broker.listen(
        "127.0.0.1",
        &format!("max_packet_size {PACKET_BYTES_MAX}\n"),
    );
    broker.restart();
    let Some(rig) = Rig::with(broker) else { return };
    let config = rig.broker.folder().join("batch.toml");
    std::fs::write(&config, "batch = 1\ntopics = false\n").unwrap();
    let mut tank = Service::device("tank", "t1", 1);
    for number in 0..200 {
        tank = tank.item(&format!("/Level/{number}"), V::I(0));
    }
    let (tank, battery) = (rig.bus.serve(tank), rig.bus.serve(battery()));
    let _bridge = rig.bridge(&format!("--mqtt-version 5 --config {}", config.display()));
    let mark = rig.client.mark();
    rig.client.publish(&r("keepalive"), "");
    for round in 1..=20 {
        for number in 0..200 {
            let path = format!("/Level/{number}");
            tank.items_changed([(path.as_str(), V::I(round * number))]);
        }
    }
    battery.items_changed([("/Soc", V::D(12.5))]);
    let what = "the last values in a batch";
    rig.client.wait_until(mark, what, |messages| {
        let seen = values(messages);
        let level = |number: i32| {
            let value = seen.get(&format!("tank/1/Level/{number}"));
            value.is_some_and(|value| *value == i64::from(20 * number))
        };
        let is_right = (0..200).all(level) && seen.get("battery/258/Soc") == Some(&12.5.into());
        is_right.then_some(())
    });
    let batches: Vec<Message> = rig.client.since(mark);
    let batches: Vec<&Message> = batches
        .iter()
        .filter(|message| message.topic == n("batch"))
        .collect();
    assert!(
        batches
            .iter()
            .all(|batch| batch.text().len() < PACKET_BYTES_MAX)
    );
    assert!(batches[0].text().contains(r#""more": true"#));
    // No value has a topic.
    let tank = n("tank/");
    let messages = rig.client.since(mark);
    assert!(
        !messages
            .iter()
            .any(|message| message.topic.starts_with(&tank))
    );
}

#[test]
fn compressed_batches_say_so_to_clients_of_mqtt_5() {
    let Some(rig) = Rig::start() else { return };
    let config = rig.broker.folder().join("batch.toml");
    std::fs::write(&config, "batch = 1\nbatch-compress = true\n").unwrap();
    let mut tank = Service::device("tank", "t1", 1);
    for number in 0..200 {
        tank = tank.item(&format!("/Level/{number}"), V::I(number));
    }
    let _services = (rig.bus.serve(tank), rig.bus.serve(battery()));
    let client = Client::connect_as(5, rig.broker.address(), None);
    client.subscribe(&n("#"));
    let mark = client.mark();
    let mut bridge = rig.bridge(&format!("--mqtt-version 5 --config {}", config.display()));
    rig.client.publish(&r("keepalive"), "");
    let what = "all values in a batch";
    let batches = client.wait_until(mark, what, |messages| {
        let seen = values(messages);
        let is_right = (0..200).all(|number| {
            let value = seen.get(&format!("tank/1/Level/{number}"));
            value.is_some_and(|value| *value == i64::from(number))
        });
        let batches = messages
            .iter()
            .filter(|message| message.topic == n("batch"));
        is_right.then(|| batches.cloned().collect::<Vec<_>>())
    });
    let compressed = |message: &&Message| message.properties == IS_GZIP;
    assert!(batches.iter().filter(compressed).count() >= 1);
    // Nothing else says anything of its kind.
    client.wait(mark, "the end of the full publish", |message| {
        message.topic == n("full_publish_completed")
    });
    let messages = client.since(mark);
    let others = messages
        .iter()
        .filter(|message| message.topic != n("batch"));
    assert!(others.clone().count() > 200);
    assert!(others.into_iter().all(|other| other.properties.is_empty()));
    assert!(bridge.log_with(&["not compressed"]).is_empty());
    bridge.terminate();

    // With 3.1.1 nothing could say it: the same comes plain, and the log says why.
    let mark = client.mark();
    let bridge = rig.bridge(&format!("--mqtt-version 3 --config {}", config.display()));
    rig.client.publish(&r("keepalive"), "");
    client.wait(mark, "a plain batch", |message| {
        message.topic == n("batch")
            && message.properties.is_empty()
            && message.text().contains("\"tank/1/Level/199\": 199")
    });
    let batches = client.since(mark).into_iter();
    let mut batches = batches.filter(|message| message.topic == n("batch"));
    assert!(batches.all(|batch| batch.properties.is_empty()));
    let said = ["connected, with MQTT 3.1.1; batches are not compressed, that needs MQTT 5"];
    assert_eq!(bridge.log_with(&said).len(), 1);
}
