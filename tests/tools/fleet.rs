//! `fleet`: what each installation publishes, that all come back, and the exit status.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::bridge::Bridge;
use crate::support::broker::{Broker, free_port};
use crate::support::program::{program, run};
use crate::support::recording::Recording;
use crate::support::rig::{PORTAL, difference, retained};
use crate::support::{PATIENCE, poll};

const COUNT: usize = 20;
const SERVICES: [&str; 3] = [
    "com.victronenergy.battery.ttyS5",
    "com.victronenergy.solarcharger.ttyS6",
    "com.victronenergy.tank.adc_builtin0_1",
];

fn portal_id(number: usize) -> String {
    format!("fleet{number:06}")
}

/// The last values of the recordings, as every installation has to publish them.
fn expected(recordings: &[Recording]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for recording in recordings {
        let end = recording.after(recording.bursts.len());
        for number in 0..COUNT {
            let topics = recording.published(&end).into_iter();
            all.extend(topics.map(|(topic, payload)| {
                let topic = topic.replacen(PORTAL, &portal_id(number), 1);
                (topic, payload)
            }));
        }
    }
    all
}

/// What the broker retains of the services that are played.
fn values(broker: &Broker) -> BTreeMap<String, String> {
    let mut all = retained(broker, "N/#");
    let played = ["/battery/", "/solarcharger/", "/tank/"];
    all.retain(|topic, _| played.iter().any(|kind| topic.contains(kind)));
    all
}

fn wait_for_all(broker: &Broker, fleet: &mut Bridge, expected: &BTreeMap<String, String>) {
    let mut last = String::new();
    let mut tries = 0;
    poll(
        "the last values of every installation",
        PATIENCE * 2,
        || {
            fleet.assert_alive();
            last = difference(expected, &values(broker));
            tries += 1;
            if tries % 100 == 0 {
                eprintln!("{last}");
            }
            last.is_empty().then_some(())
        },
    );
}

#[test]
fn every_installation_has_its_last_values_on_the_broker_and_comes_back_with_them() {
    let Some(mut broker) = Broker::start() else {
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
    let files = SERVICES.map(|name| folder.join(format!("{name}.jsonl")));
    let recordings = files.each_ref().map(|file| Recording::read(file));
    let expected = expected(&recordings);

    let mut args = vec!["fleet".to_owned(), "--broker".to_owned()];
    args.push(broker.address().to_string());
    let rest = "--count 20 --keep-alive 0 --once --rate 300 --start-rate 1000 --debug";
    args.extend(rest.split(' ').map(str::to_owned));
    for file in &files {
        args.extend(["--recording".to_owned(), file.display().to_string()]);
    }
    let mut fleet = Bridge::spawn(&args);
    wait_for_all(&broker, &mut fleet, &expected);

    // Each answers for itself.
    let client = broker.listener();
    let mark = client.mark();
    let topic = format!("battery/{}/Soc", recordings[0].instance());
    client.publish(&format!("R/{}/{topic}", portal_id(7)), "");
    let asked = format!("N/{}/{topic}", portal_id(7));
    client.expect(mark, &asked, &expected[&asked]);

    // The broker forgets everything, and has it all again.
    broker.forget();
    broker.restart();
    wait_for_all(&broker, &mut fleet, &expected);

    fleet.signal(Signal::INT);
    assert_eq!(fleet.wait_exit(Duration::from_secs(20)).code(), Some(0));
    fleet.wait_log(&["reconnects: half within"]);
    assert_eq!(values(&broker).len(), 0, "all is cleared");
}

#[test]
fn a_fleet_without_a_broker_says_so() {
    let said = run(&mut program(
        free_port(),
        &["fleet", "--count", "2", "--for", "1"],
    ));
    assert_eq!(said.status, 1, "{said:?}");
    let sentence = "dbus-mqtt: 2 of 2 installations were not connected at the end; most often: ";
    assert!(said.error.contains(sentence), "{said:?}");
    assert!(said.out.contains("0 connects, 0 publishes"), "{said:?}");
}
