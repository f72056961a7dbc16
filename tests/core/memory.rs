//! What is kept for later is bounded, counted once and given back, and what a limit left out comes
//! when there is room (§2.11).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use allocation_counter::measure;
use dbus_mqtt::bridge::calls::Method;
use dbus_mqtt::bridge::{Bounds, Settings, Sizes};

use crate::frames::wire::{V, s};
use crate::frames::{self, items_changed, properties_changed};
use crate::log::Log;
use crate::scene::{Mood, Scene, settings};

const TANK: &str = "com.victronenergy.tank.one";
const MANY: u64 = 50;
/// Longer than it takes until somebody looks whether there is room.
const A_WHILE: Duration = Duration::from_secs(20);

fn with_cache_bytes(cache_bytes_max: usize) -> Settings {
    let sizes = Sizes {
        cache_bytes_max,
        ..Sizes::default()
    };
    Settings {
        bounds: Bounds {
            sizes,
            ..Bounds::default()
        },
        ..settings(1)
    }
}

fn scene(cache_bytes_max: usize) -> Scene {
    let mut scene = Scene::new();
    let now = scene.now;
    let settings = with_cache_bytes(cache_bytes_max);
    scene.bridge.reconfigure(now, settings);
    // So that nothing comes because the limit is another one.
    scene.pass(Duration::from_secs(1));
    scene
}

/// A connection with many names, none of which answers.
fn many_names(scene: &mut Scene) {
    for number in 0..MANY {
        let name = format!("com.victronenergy.tank.n{number}");
        scene.own_with(&name, ":1.5", &[], Mood::Silent);
    }
    scene.settle();
}

/// What the bridge keeps more after this than before, by the count of the allocator.
fn grown(work: impl FnOnce()) -> i64 {
    measure(work).bytes_current
}

#[test]
fn s2_11_early_signals_are_kept_once_however_many_names_a_connection_has() {
    let log = Log::new();
    let max = 400_000;
    let mut scene = scene(max);
    many_names(&mut scene);
    // 450 kB of it, of which a quarter of the limit is kept, for all names.
    let long = "a".repeat(900);
    let signals: Vec<_> = (0..500)
        .map(|n| properties_changed(":1.5", &format!("/{n}/{long}"), [("Value", V::I(n))]))
        .collect();
    let grown = grown(|| {
        for signal in &signals {
            frames::feed(&mut scene.bridge, scene.now, signal);
        }
    });
    let charged = scene.bridge.bytes_charged();
    assert!((50_000..=max / 4).contains(&charged), "{charged}");
    assert!(grown < 300_000, "{grown} bytes");
    assert_eq!(log.take("too much came before its scan").len(), 1);
    // Another connection has room for its own.
    scene.own_with(TANK, ":1.6", &[], Mood::Silent);
    scene.settle();
    scene.hear(&properties_changed(":1.6", "/Level", [("Value", V::I(7))]));
    assert!(scene.bridge.bytes_charged() > charged);
    // All of it is given back when the names are.
    for number in 0..MANY {
        scene.leave(&format!("com.victronenergy.tank.n{number}"));
    }
    scene.leave(TANK);
    assert_eq!(scene.bridge.bytes_charged(), 0);
}

#[test]
fn s2_3_what_came_early_is_still_there_after_the_scan_and_then_costs_nothing() {
    let mut scene = scene(100_000);
    let (one, two) = ("com.victronenergy.tank.one", "com.victronenergy.grid.two");
    for (name, instance) in [(one, 1), (two, 2)] {
        let items = [("/DeviceInstance", V::I(instance))];
        scene.own(name, ":1.5", &items);
    }
    // Of both, as nobody knows better.
    scene.hear(&properties_changed(
        ":1.5",
        "/Signalled",
        [("Value", V::I(7))],
    ));
    scene.hear(&properties_changed(":1.5", "/Text", [("Value", s("abc"))]));
    // Not of one that comes later.
    let third = [("/DeviceInstance", V::I(3))];
    scene.own("com.victronenergy.tank.three", ":1.5", &third);
    scene.settle();
    let seven = Some(r#"{"value": 7}"#);
    assert_eq!(scene.value("tank/1/Signalled"), seven);
    assert_eq!(scene.value("grid/2/Signalled"), seven);
    assert_eq!(scene.value("grid/2/Text"), Some(r#"{"value": "abc"}"#));
    assert_eq!(scene.value("tank/3/Signalled"), None);
    // Two texts with their quotes, and two paths, each for all that have it.
    let left = 2 * r#""abc""#.len() + "/Signalled".len() + "/Text".len();
    assert_eq!(scene.bridge.bytes_charged(), left);
}

#[test]
fn s4_7_what_came_early_is_secret_where_any_of_the_services_says_so() {
    let path = "/Settings/Services/AccessPointPassword";
    for early in [true, false] {
        let mut scene = scene(100_000);
        scene.own("com.victronenergy.tank.one", ":1.5", &[]);
        scene.own("com.victronenergy.settings", ":1.5", &[]);
        if !early {
            scene.settle();
        }
        scene.hear(&properties_changed(":1.5", path, [("Value", s("geheim"))]));
        scene.settle();
        let secret = scene.value(&format!("settings/0{path}"));
        assert_eq!(secret, Some(r#"{"value": "******"}"#));
    }
}

#[test]
fn s2_11_texts_before_the_answer_to_a_scan_are_bounded() {
    let max = 4_000_000;
    let mut scene = scene(max);
    scene.own_with(TANK, ":1.5", &[("/DeviceInstance", V::I(4))], Mood::Silent);
    scene.settle();
    let text = s(&"x".repeat(100_000));
    let signals: Vec<_> = (0..100)
        .map(|n| properties_changed(":1.5", &format!("/T{n}"), [("Value", text.clone())]))
        .collect();
    let used = measure(|| {
        for signal in &signals {
            frames::feed(&mut scene.bridge, scene.now, signal);
        }
    });
    assert!(used.bytes_max < 2_000_000, "{} bytes", used.bytes_max);
    assert!(scene.bridge.bytes_charged() <= max / 4);
}

#[test]
fn s2_11_paths_that_are_no_topics_are_kept_once_and_bounded() {
    let log = Log::new();
    let mut scene = scene(200_000);
    many_names(&mut scene);
    let paths: Vec<_> = (0..20_000).map(|n| format!("/no//topic/{n}")).collect();
    let items = paths.iter().map(|path| (path.as_str(), V::I(1), ""));
    // The names do not change what it costs, only how long it takes.
    for name in 1..MANY {
        scene.leave(&format!("com.victronenergy.tank.n{name}"));
    }
    let signal = items_changed(":1.5", items);
    let before = scene.bridge.bytes_charged();
    let grown = grown(|| scene.hear(&signal));
    let charged = scene.bridge.bytes_charged() - before;
    assert!((1_000..=50_000).contains(&charged), "{charged}");
    assert!(grown < 200_000, "{grown} bytes");
    let lines = log.take("paths that are not published").len();
    assert!(lines <= 1, "{lines}");
    scene.leave("com.victronenergy.tank.n0");
    assert_eq!(scene.bridge.bytes_charged(), 0);
}

#[test]
fn s4_7_a_path_that_is_no_topic_is_reported_once_for_all_names_of_a_connection() {
    let log = Log::new();
    let mut scene = scene(1_000_000);
    many_names(&mut scene);
    for _ in 0..3 {
        scene.hear(&items_changed(":1.5", [("/a//b", V::I(1), "")]));
    }
    assert_eq!(log.take("no topic can have that path").len(), 1);
}

#[test]
fn s2_11_new_paths_at_each_appearance_cost_nothing() {
    let mut scene = scene(10_000_000);
    let mut appear = |from: usize, to: usize| {
        for appearance in from..to {
            let paths: Vec<_> = (0..1_000)
                .map(|n| format!("/Appearance/{appearance}/{n}"))
                .collect();
            let items: Vec<_> = paths.iter().map(|path| (path.as_str(), V::I(1))).collect();
            scene.own(TANK, ":1.5", &items);
            scene.pass(Duration::from_secs(120));
            assert_eq!(scene.topics().len(), 1_000);
            assert!(scene.bridge.bytes_charged() > 10_000);
            scene.leave(TANK);
            scene.settle();
            assert_eq!(scene.bridge.bytes_charged(), 0);
            scene.sent(0);
        }
    };
    appear(0, 10);
    let grown = grown(|| appear(10, 20));
    assert!(grown < 20_000, "{grown} bytes");
}

#[test]
fn s2_11_paths_are_charged_too() {
    let log = Log::new();
    let mut scene = scene(20_000);
    let long = "a".repeat(1_000);
    let paths: Vec<_> = (0..20).map(|n| format!("/{n}/{long}")).collect();
    let mut items: Vec<_> = paths.iter().map(|path| (path.as_str(), V::I(1))).collect();
    items.push(("/DeviceInstance", V::I(4)));
    scene.own(TANK, ":1.5", &items);
    scene.settle();
    // A quarter of it for one service.
    assert_eq!(scene.topics().len(), 5);
    assert!(scene.bridge.bytes_charged() <= 5_000);
    assert_eq!(log.take("its paths need too much memory").len(), 1);
    scene
        .bridge
        .reconfigure(scene.now, with_cache_bytes(1_000_000));
    scene.pass(A_WHILE);
    assert_eq!(scene.topics().len(), 21);
}

// What a limit left out.

#[test]
fn s2_11_services_beyond_the_limit_come_when_one_leaves() {
    let log = Log::new();
    let mut scene = Scene::new();
    let limit = |services_max| Settings {
        services_max,
        ..settings(1)
    };
    scene.bridge.reconfigure(scene.now, limit(2));
    scene.pass(Duration::from_secs(1));
    let name = |number: usize| format!("com.victronenergy.tank.n{number}");
    for number in 0..4 {
        let items = [("/DeviceInstance", V::I(i32::try_from(number).unwrap()))];
        scene.own(&name(number), &format!(":1.{number}"), &items);
        scene.settle();
    }
    let topics = |numbers: &[usize]| -> Vec<String> {
        let topics = numbers.iter();
        topics.map(|n| format!("tank/{n}/DeviceInstance")).collect()
    };
    assert_eq!(scene.topics(), topics(&[0, 1]));
    assert_eq!(log.take("more than 2 services").len(), 1);
    scene.leave(&name(0));
    scene.pass(A_WHILE);
    assert_eq!(scene.topics(), topics(&[1, 2]));
    // The limit is reached again, and that is reported again.
    assert_eq!(log.take("more than 2 services").len(), 1);
    scene.leave(&name(1));
    scene.pass(A_WHILE);
    assert_eq!(scene.topics(), topics(&[2, 3]));
    assert_eq!(log.take("more than 2 services").len(), 0);
    // A higher limit is room too.
    for number in 5..7 {
        let items = [("/DeviceInstance", V::I(i32::try_from(number).unwrap()))];
        scene.own(&name(number), &format!(":1.{number}"), &items);
    }
    scene.settle();
    assert_eq!(log.take("more than 2 services").len(), 1);
    scene.bridge.reconfigure(scene.now, limit(10));
    scene.pass(A_WHILE);
    assert_eq!(scene.topics(), topics(&[2, 3, 5, 6]));
}

#[test]
fn s2_11_items_beyond_the_limit_come_when_there_is_room() {
    let log = Log::new();
    let mut config = frames::config(vec![frames::outlet(true, None)]);
    config.items_max = 6;
    let mut scene = Scene::with(config);
    let names = ["one", "two", "three"].map(|name| format!("com.victronenergy.tank.{name}"));
    let items = |instance| {
        let instance = ("/DeviceInstance", V::I(instance));
        [instance, ("/A", V::I(1)), ("/B", V::I(2))]
    };
    for (name, instance) in names.iter().zip(1..) {
        scene.own(name, &format!(":1.{instance}"), &items(instance));
        scene.settle();
    }
    assert_eq!(scene.topics().len(), 6);
    assert_eq!(log.take("more than 6 items").len(), 1);
    scene.leave(&names[0]);
    scene.pass(A_WHILE);
    let third = ["tank/3/A", "tank/3/B", "tank/3/DeviceInstance"];
    assert_eq!(scene.topics()[3..], third);
    assert_eq!(log.take("more than 6 items").len(), 0);
    // A new path of what is there already: the limit is reached again.
    scene.change(&names[1], "/New", V::I(1));
    scene.settle();
    assert_eq!(log.take("more than 6 items").len(), 1);
    assert_eq!(scene.value("tank/2/New"), None);
    scene.leave(&names[2]);
    scene.pass(A_WHILE);
    assert_eq!(scene.value("tank/2/New"), Some(r#"{"value": 1}"#));
}

#[test]
fn s2_11_texts_without_room_come_when_there_is_some() {
    let log = Log::new();
    let mut scene = scene(10_000);
    let text = |of: &str| s(&of.repeat(6_000));
    for (name, instance) in [("one", 1), ("two", 2)] {
        let items = [("/DeviceInstance", V::I(instance)), ("/Name", text("x"))];
        let name = format!("com.victronenergy.tank.{name}");
        scene.own(&name, &format!(":1.{instance}"), &items);
        scene.settle();
    }
    let (one, two) = ("com.victronenergy.tank.one", "com.victronenergy.tank.two");
    assert!(scene.value("tank/1/Name").is_some());
    assert!(scene.value("tank/2/Name").is_none());
    assert_eq!(log.take("tank/2/Name is not published").len(), 1);
    scene.change(one, "/Name", s("short"));
    scene.pass(A_WHILE);
    assert!(scene.value("tank/2/Name").is_some());
    scene.pass(A_WHILE);
    assert_eq!(log.take("not published").len(), 0);
    // The limit is reached again by the other, and then by the same.
    scene.change(one, "/Name", text("y"));
    assert!(scene.value("tank/1/Name").is_some(), "until it is sent");
    scene.pass(A_WHILE);
    assert!(scene.value("tank/1/Name").is_none());
    assert_eq!(log.take("tank/1/Name is not published").len(), 1);
    scene.change(two, "/Name", s("short"));
    scene.pass(A_WHILE);
    assert!(scene.value("tank/1/Name").is_some());
    scene.change(two, "/Name", text("z"));
    scene.settle();
    assert_eq!(log.take("tank/2/Name is not published").len(), 1);
    assert!(scene.value("tank/2/Name").is_none());
}

#[test]
fn s2_11_what_has_no_room_is_not_asked_for_all_the_time() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let mut scene = scene(10_000);
    let items = [
        ("/DeviceInstance", V::I(4)),
        ("/Name", s(&"x".repeat(20_000))),
    ];
    scene.own(TANK, ":1.5", &items);
    scene.service(TANK).script = Some(|_, call| {
        ASKED.fetch_add(usize::from(call.method == Method::GetItems), Relaxed);
        None
    });
    scene.settle();
    assert_eq!(ASKED.load(Relaxed), 1);
    scene.pass(Duration::from_secs(200));
    assert_eq!(ASKED.load(Relaxed), 1);
}
