//! Keep-alives of several clients: nobody's costs another his (§5.3, §5.5).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::frames::wire::V;
use crate::scene::{Mood, Scene};

const TANK: &str = "com.victronenergy.tank.one";
const HUNG: &str = "com.victronenergy.tank.hung";

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.own(
        TANK,
        ":1.1",
        &[("/DeviceInstance", V::I(1)), ("/Level", V::I(5))],
    );
    scene.own(
        HUNG,
        ":1.2",
        &[("/DeviceInstance", V::I(2)), ("/Level", V::I(5))],
    );
    scene.settle();
    scene.service(HUNG).mood = Mood::Silent;
    scene.sent(0);
    scene
}

fn echo(text: &str) -> String {
    format!(r#"{{"keepalive-options": [{{"full-publish-completed-echo": "{text}"}}]}}"#)
}

/// The echoes that came back since this was last asked, and how many full publishes there were.
fn completed(scene: &mut Scene) -> (Vec<String>, usize) {
    let mut echoes = Vec::new();
    let mut publishes = 0;
    for (topic, payload, _) in scene.sent(0) {
        publishes += usize::from(topic == "tank/1/Level");
        if topic == "full_publish_completed"
            && let Some((_, echo)) = payload.split_once(r#""full-publish-completed-echo": ""#)
        {
            echoes.push(echo.trim_end_matches("\"}").to_owned());
        }
    }
    (echoes, publishes)
}

#[test]
fn s5_3_one_clients_echoes_cost_no_other_his() {
    for topic in [None, Some("greedy")] {
        let mut scene = scene();
        let mut expected = BTreeSet::new();
        // Ten seconds in which one asks two hundred times a second, and another twice.
        for step in 0..2_000 {
            let text = format!("greedy {step}");
            scene.ask_from(0, "R/keepalive", &echo(&text), false, topic);
            expected.insert(text);
            if step % 100 == 7 {
                let text = format!("modest {step}");
                scene.ask("R/keepalive", &echo(&text));
                expected.insert(text);
            }
            scene.pass(Duration::from_millis(5));
        }
        scene.pass(Duration::from_secs(1));
        let (echoes, publishes) = completed(&mut scene);
        assert_eq!(echoes.len(), expected.len());
        assert_eq!(echoes.into_iter().collect::<BTreeSet<_>>(), expected);
        assert!((29..=34).contains(&publishes), "{publishes} full publishes");
    }
}

#[test]
fn s5_3_an_echo_that_is_too_much_is_refused_and_told() {
    let mut scene = scene();
    let long = "x".repeat(60_000);
    for number in 0..100 {
        let text = format!("{number}{long}");
        scene.ask_from(0, "R/keepalive", &echo(&text), false, Some("greedy"));
    }
    scene.ask_from(0, "R/keepalive", &echo("modest"), false, Some("modest"));
    scene.ask("R/keepalive", &echo("nobody"));
    scene.pass(Duration::from_secs(2));
    let (echoes, _) = completed(&mut scene);
    assert!(
        ["modest", "nobody"]
            .iter()
            .all(|text| echoes.iter().any(|echo| echo == text))
    );
    let told = std::mem::take(&mut scene.brokers[0].responses);
    let refused = told
        .iter()
        .filter(|(_, answer)| answer.contains("too-many"))
        .count();
    assert_eq!(told.len(), 101);
    assert!(refused > 50);
    assert_eq!(echoes.len() + refused, 102, "each comes back or is refused");
}

#[test]
fn s5_5_a_read_that_hangs_delays_no_other_clients_completion() {
    let mut scene = scene();
    scene.ask_from(0, "R/tank/2/Level", "", false, Some("unlucky"));
    scene.ask_from(0, "R/keepalive", &echo("unlucky"), false, Some("unlucky"));
    scene.ask_from(0, "R/keepalive", &echo("lucky"), false, Some("lucky"));
    scene.settle();
    assert_eq!(completed(&mut scene).0, ["lucky"]);
    // One client's requests are answered in their order, and so are those that nobody can tell apart.
    scene.ask("R/keepalive", &echo("whose"));
    scene.settle();
    assert_eq!(completed(&mut scene).0, [""; 0]);
    scene.pass(Duration::from_secs(5));
    assert_eq!(completed(&mut scene).0, ["unlucky", "whose"]);
    // It hangs once: after that it is not asked (§2.9).
    scene.ask("R/tank/2/Level", "");
    scene.ask("R/keepalive", &echo("again"));
    scene.pass(Duration::from_secs(1));
    assert_eq!(completed(&mut scene).0, ["again"]);
}
