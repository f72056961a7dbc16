//! Recordings of real devices, played through the bridge: at the end every item's last payload is the
//! recorded value, byte for byte as §3 writes it, and no payload on the way was one it never had.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::support::recording::{BLOCKED, Recording, published, recordings, sets, signal};
use crate::support::rig::{PORTAL, Rig, difference, n, value};

/// Waits until the last payload of each topic since a mark is the expected one.
fn wait_last(rig: &Rig, mark: usize, what: &str, expected: &BTreeMap<String, String>) {
    let start = Instant::now();
    loop {
        let mut last = rig.client.last(mark);
        last.retain(|topic, _| expected.contains_key(topic));
        if last == *expected {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what}:\n{}",
            difference(expected, &last)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Plays one set and holds every payload against the recording.
fn play(rig: &Rig, set: &[Recording]) {
    let names: Vec<&str> = set
        .iter()
        .map(|recording| recording.file.as_str())
        .collect();
    let mark = rig.client.mark();
    let peers: Vec<_> = set
        .iter()
        .map(|recording| rig.bus.serve(recording.start.clone()))
        .collect();
    let start = set
        .iter()
        .flat_map(|recording| recording.published(&recording.start))
        .collect();
    wait_last(rig, mark, &format!("the start of {names:?}"), &start);

    // All services at once, a few messages of each in turn, as fast as the bus takes them. A service that is scanned
    // meanwhile answers with what it has then.
    let longest = set.iter().map(|recording| recording.bursts.len()).max();
    for from in (0..longest.unwrap_or(0)).step_by(16) {
        for (peer, recording) in peers.iter().zip(set) {
            for burst in recording.bursts.iter().skip(from).take(16) {
                let name = &recording.start.name;
                peer.try_update(name, burst, signal(burst)).unwrap();
            }
        }
    }
    let end: BTreeMap<String, String> = set
        .iter()
        .flat_map(|recording| recording.published(&recording.after(recording.bursts.len())))
        .collect();
    wait_last(rig, mark, &format!("the end of {names:?}"), &end);
    rig.wait_retained(&format!("the end of {names:?}"), &end);

    // Nothing was published that the item never was, and nothing that the recordings do not have.
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for recording in set {
        let last = recording.after(recording.bursts.len());
        let kind = last.kind();
        let starts = recording
            .start
            .items
            .iter()
            .map(|(path, item)| (path, &item.value));
        let changes = recording
            .bursts
            .iter()
            .flatten()
            .map(|(path, value)| (path, value));
        for (path, v) in starts.chain(changes) {
            let topic = n(&format!("{kind}/{}{path}", recording.instance()));
            let all = allowed.entry(topic).or_default();
            all.insert(published(kind, path, v, &last.items[path]));
        }
    }
    let own = [
        "system/0/Serial",
        "keepalive",
        "bridge/status",
        "heartbeat",
        "full_publish_completed",
    ]
    .map(n);
    for message in rig.client.since(mark) {
        if message.topic.starts_with("N/") && !own.contains(&message.topic) {
            let known = allowed
                .get(&message.topic)
                .is_some_and(|all| all.contains(message.text()));
            assert!(
                known,
                "{} {} was never recorded",
                message.topic,
                message.text()
            );
        }
    }
    assert!(
        !end.keys()
            .any(|topic| BLOCKED.iter().any(|(_, path)| topic.ends_with(path)))
    );
    drop(peers);
    rig.wait_retained(&format!("after {names:?}"), &BTreeMap::new());
    rig.client.fence(); // the last of it has come here as well
}

#[test]
fn every_recording_ends_with_its_last_values() {
    let sets = sets(recordings());
    let Some(rig) = Rig::start() else { return };
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    for set in &sets {
        play(&rig, set);
    }
    bridge.assert_alive();
    assert_eq!(
        rig.client.last(0)[&n("system/0/Serial")],
        value(&format!("\"{PORTAL}\""))
    );
}
