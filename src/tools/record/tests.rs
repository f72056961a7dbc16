//! What is replayed is what is recorded.
#![cfg(feature = "demo")] // the bus is the one of the demo
#![allow(clippy::large_futures)] // each is run once

use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;

use super::*;
use crate::tools::demo::private_bus;
use crate::tools::item::Item;
use crate::tools::recording::{Recording, load_all};
use crate::tools::replay::Player;
use crate::tools::service::{Behaviour, Peer, Service};
use crate::tools::value;

/// Records what `act` does on a bus; the recordings, by name.
async fn recorded<F>(
    names: &[&str],
    act: impl FnOnce(String, oneshot::Receiver<()>) -> F,
) -> Vec<Recording>
where
    F: Future<Output = ()>,
{
    let bus = private_bus().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let (begun, is_begun) = oneshot::channel();
    let mut begun = Some(begun);
    let mut say = |line: &str| {
        if line.starts_with("recording ")
            && let Some(begun) = begun.take()
        {
            begun.send(()).unwrap();
        }
    };
    let act = act(bus.address().to_owned(), is_begun);
    let stop = async {
        act.await;
        // What was signalled is on its way still.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let what = What {
        services: &names,
        schema: &Schema::default(),
    };
    record(bus.address(), what, directory.path(), stop, &mut say)
        .await
        .unwrap();
    let loaded = load_all(&[directory.path().to_owned()]).unwrap();
    loaded.into_iter().map(|(_, recording)| recording).collect()
}

fn written(recording: &Recording) -> Vec<String> {
    let mut out = Vec::new();
    let same_origin = Recording {
        origin: String::new(),
        ..recording.clone()
    };
    same_origin.write(&mut out).unwrap();
    String::from_utf8(out)
        .unwrap()
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}

#[tokio::test]
async fn a_replay_recorded_is_the_recording() {
    let lines = [
        r#"{"service":"com.victronenergy.battery.x","origin":"","items":{"/Soc":{"t":"d","v":87.5,"text":"87.5%"},"/State":{"t":"ai","v":[],"text":""},"/x":{"t":"i","v":3,"min":0,"max":5,"default":1}}}"#,
        r#"{"ts_ms":0,"path":"/Soc","t":"d","v":0.1,"text":"0.1%"}"#,
        r#"{"ts_ms":50,"path":"/Raw","t":"ay","v":[1,2]}"#,
        r#"{"ts_ms":50,"path":"/Soc","t":"d","v":-0.0,"text":"0.0%"}"#,
        r#"{"ts_ms":50,"path":"/State","t":"t","v":18446744073709551615,"text":"?"}"#,
        r#"{"ts_ms":60,"path":"/Soc","t":"ai","v":[],"text":""}"#,
    ];
    let original = Recording::read(lines.join("\n").as_bytes(), Path::new("x")).unwrap();
    let played = original.clone();
    let recordings = recorded(&[], |bus, begun| async move {
        let named = vec![("x".into(), played)];
        let mut playing = Player::start(&bus, named, &Schema::default())
            .await
            .unwrap();
        begun.await.unwrap();
        playing.play(1.0, &mut |_| {}).await.unwrap();
        playing.stop().await;
    })
    .await;
    let [recording] = recordings.as_slice() else {
        panic!("{recordings:?}");
    };
    let without_time = |recording: &Recording| {
        let mut recording = recording.clone();
        for change in &mut recording.changes {
            change.ts_ms = 0;
        }
        // The order within one signal is anybody's.
        recording.changes[1..4].sort_by(|one, other| one.path.cmp(&other.path));
        written(&recording)
    };
    assert_eq!(without_time(recording), without_time(&original));
}

#[tokio::test]
async fn old_services_are_recorded_with_their_texts() {
    let recordings = recorded(&["battery"], |bus, begun| async move {
        let items = [
            ("/Soc", Item::new(5.5).text("5.5%")),
            ("/Ac/P", Item::new(1).text("1W")),
        ];
        let items = items.map(|(path, item)| (path.to_owned(), item));
        let old = Behaviour {
            get_items: false,
            ..Behaviour::default()
        };
        let peer = Peer::connect(&bus).await.unwrap();
        let name = "com.victronenergy.battery.old";
        let service = peer.add(name, items, old, None).await.unwrap();
        let other = Service::start(&bus, "com.victronenergy.tank.x", [])
            .await
            .unwrap();
        begun.await.unwrap();
        service.set("/Soc", 6.5).unwrap();
        service.flushed().await.unwrap();
        drop(other);
    })
    .await;
    assert_eq!(recordings.len(), 1, "only what was asked for");
    let lines = written(&recordings[0]);
    assert!(
        lines[0].contains(r#""/Ac/P":{"t":"i","v":1,"text":"1W"}"#),
        "{}",
        lines[0]
    );
    assert!(lines[1].ends_with(r#""path":"/Soc","t":"d","v":6.5,"text":"6.5%"}"#));
}

#[tokio::test]
async fn s2_2_services_that_only_introspect_are_recorded() {
    let recordings = recorded(&[], |bus, begun| async move {
        let items = [
            ("/Soc", Item::new(5.5)),
            ("/Ac/P", Item::new(1)),
            ("/Ac/L1/P", Item::new("text")),
        ];
        let items = items.map(|(path, item)| (path.to_owned(), item));
        let oldest = Behaviour {
            get_items: false,
            get_value_root: false,
            ..Behaviour::default()
        };
        let peer = Peer::connect(&bus).await.unwrap();
        let name = "com.victronenergy.battery.old";
        let service = peer.add(name, items, oldest, None).await.unwrap();
        begun.await.unwrap();
        service.set("/Soc", 6.5).unwrap();
        service.flushed().await.unwrap();
    })
    .await;
    let items: Vec<_> = recordings[0].items.keys().map(String::as_str).collect();
    assert_eq!(items, ["/Ac/L1/P", "/Ac/P", "/Soc"]);
    let lines = written(&recordings[0]);
    assert!(lines[1].contains(r#""path":"/Soc","t":"d","v":6.5"#));
}

#[tokio::test]
async fn secrets_and_returns() {
    const NAME: &str = "com.victronenergy.settings";
    let password = "/Settings/Services/AccessPointPassword";
    let recordings = recorded(&[], |bus, begun| async move {
        let items = |value: i32| {
            [
                (password.to_owned(), Item::new("hunter2").text("hunter2")),
                ("/x".to_owned(), Item::new(value)),
            ]
        };
        let service = Service::start(&bus, NAME, items(1)).await.unwrap();
        begun.await.unwrap();
        service.set(password, "hunter3").unwrap();
        service.stop().await;
        let service = Service::start(&bus, NAME, items(2)).await.unwrap();
        while service.calls("GetItems") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        service.set("/x", 3).unwrap();
        service.flushed().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
    let text = written(&recordings[0]).join("\n");
    assert!(!text.contains("hunter"), "{text}");
    let numbers: Vec<String> = recordings[0]
        .changes
        .iter()
        .filter(|change| change.path == "/x")
        .map(|change| value::plain_text(&change.value))
        .collect();
    assert_eq!(numbers, ["2", "3"]);
}
