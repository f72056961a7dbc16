//! The tasks, on a separate clock: what they ask of a bridge, and what they make of its answers.

use std::time::{Duration, Instant};

use serde_json::json;

use super::collect::{Collect, Collected, Key};
use super::portal::Portal;
use super::reading::Reading;
use super::task::{Action, Message, Task};
use super::want::Want;
use super::watch::Watch;
use super::write::{Outcome, Write};
use super::*;
use crate::error::Fatal;

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);

fn portal(selective: bool) -> Portal {
    Portal {
        id: PortalId::new("p").unwrap(),
        selective,
        offline: false,
        others: Vec::new(),
    }
}

fn wants(topics: &[&str]) -> Vec<Want> {
    topics
        .iter()
        .map(|topic| Want::parse(topic).unwrap())
        .collect()
}

/// A task, its clock, and what it has asked for.
struct Stage<T> {
    task: T,
    now: Instant,
    todo: Vec<Action>,
}

impl<T: Task> Stage<T> {
    fn new(task: T) -> Stage<T> {
        let mut stage = Stage {
            task,
            now: Instant::now(),
            todo: Vec::new(),
        };
        stage.task.begin(stage.now, &mut stage.todo);
        stage
    }

    fn message(&mut self, topic: &str, payload: &str, retained: bool) {
        assert!(!self.task.is_done(), "{topic} comes too late");
        let message = Message {
            topic,
            payload: payload.as_bytes(),
            retained,
        };
        self.task.message(self.now, &message, &mut self.todo);
    }

    fn live(&mut self, rest: &str, payload: &str) {
        self.message(&format!("N/p/{rest}"), payload, false);
    }

    fn stored(&mut self, rest: &str, payload: &str) {
        self.message(&format!("N/p/{rest}"), payload, true);
    }

    /// Lets time pass to the next deadline; how long that was.
    fn wait(&mut self) -> Duration {
        let deadline = self.task.deadline().unwrap();
        let passed = deadline.saturating_duration_since(self.now);
        self.now = deadline;
        self.task.tick(self.now, &mut self.todo);
        passed
    }

    /// What was published since the last call: topic and payload.
    fn published(&mut self) -> Vec<(String, String)> {
        let published = self.todo.drain(..).filter_map(|action| match action {
            Action::Publish(topic, payload) => Some((topic, payload)),
            Action::Subscribe(_)
            | Action::Clear(_)
            | Action::Fence
            | Action::Show(_)
            | Action::Note(_) => None,
        });
        published.collect()
    }

    /// What was shown since the last call.
    fn shown(&mut self) -> Vec<String> {
        let shown = self.todo.drain(..).filter_map(|action| match action {
            Action::Show(reading) => Some(format!("{} {}", reading.topic, reading.words().line())),
            Action::Note(note) => Some(note),
            Action::Publish(..) | Action::Subscribe(_) | Action::Clear(_) | Action::Fence => None,
        });
        shown.collect()
    }
}

fn value(json: &str) -> String {
    format!("{{\"value\": {json}}}")
}

fn read(rest: &str) -> (String, String) {
    (format!("R/p/{rest}"), String::new())
}

// --- collect ---

fn collecting(selective: bool, topics: &[&str]) -> Stage<Collect> {
    let wants = wants(topics);
    Stage::new(Collect::new(&portal(selective), wants, "echo", TIMEOUT))
}

const ALL: &str = r#"{"keepalive-options":[{"full-publish-completed-echo":"echo"}]}"#;
const COMPLETED: &str = r#"{"value": 1, "full-publish-completed-echo": "echo"}"#;

fn asked_for_all() -> (String, String) {
    ("R/p/keepalive".to_owned(), ALL.to_owned())
}

/// Each topic that was asked for, with its values.
fn found(collected: &Collected) -> Vec<String> {
    let line = |found: &Found| {
        let readings = found.readings.iter();
        let readings = readings.map(|r| format!("{}={}", r.topic, r.raw()));
        format!(
            "{}: {}",
            found.topic,
            readings.collect::<Vec<_>>().join(" ")
        )
    };
    collected.found.iter().map(line).collect()
}

#[test]
fn a_value_is_read_and_its_answer_is_enough() {
    let mut stage = collecting(true, &["a/0/X", "a/0/Y"]);
    let filters = ["N/p/a/0/X/#", "N/p/a/0/Y/#", "N/p/full_publish_completed"];
    let filters = filters.map(ToOwned::to_owned).into();
    assert_eq!(stage.todo[0], Action::Subscribe(filters));
    assert_eq!(stage.published(), [read("a/0/X"), read("a/0/Y")]);
    // What the broker has in store may be old.
    stage.stored("a/0/X", &value("1"));
    stage.live("a/0/X", &value("2"));
    stage.live("a/0/X", &value("3"));
    stage.message("N/q/a/0/Y", &value("9"), false);
    assert!(!stage.task.is_done());
    stage.live("a/0/Y", &value("null"));
    assert!(stage.task.is_done());
    assert_eq!(stage.published(), []);
    let collected = stage.task.finish();
    assert!(collected.answered);
    assert_eq!(found(&collected), ["a/0/X: a/0/X=2", "a/0/Y: a/0/Y=null"]);
}

#[test]
fn s5_3_the_echo_of_a_full_publish_tells_that_all_below_a_node_has_come() {
    let mut stage = collecting(true, &["a/0/Dc"]);
    assert_eq!(stage.published(), [read("a/0/Dc")]);
    stage.live("a/0/Dc/10", &value("10"));
    assert_eq!(stage.published(), [asked_for_all()]);
    stage.live("a/0/Dc/2", &value("2"));
    stage.stored("a/0/Dc/3", &value("3"));
    // Somebody else's.
    stage.live("full_publish_completed", &value("1"));
    assert!(!stage.task.is_done());
    stage.live("full_publish_completed", COMPLETED);
    assert!(stage.task.is_done());
    let collected = stage.task.finish();
    assert!(collected.answered && !collected.found[0].exact);
    assert_eq!(found(&collected), ["a/0/Dc: a/0/Dc/2=2 a/0/Dc/10=10"]);
}

#[test]
fn what_a_full_publish_did_not_bring_does_not_exist() {
    let mut stage = collecting(true, &["a/0/Nope"]);
    stage.todo.clear();
    assert_eq!(stage.wait(), SECOND);
    assert_eq!(stage.published(), [asked_for_all()]);
    stage.live("full_publish_completed", COMPLETED);
    let collected = stage.task.finish();
    assert!(collected.answered);
    assert_eq!(found(&collected), ["a/0/Nope: "]);
}

#[test]
fn a_bridge_that_says_nothing_is_not_waited_for_for_ever() {
    let mut stage = collecting(true, &["a/0/X"]);
    stage.stored("a/0/X", &value("1"));
    let waited = stage.wait() + stage.wait();
    assert_eq!(waited, TIMEOUT);
    assert!(stage.task.is_done());
    let collected = stage.task.finish();
    assert!(!collected.answered);
    assert_eq!(found(&collected), ["a/0/X: "]);
}

#[test]
fn a_wildcard_takes_what_fits_and_leaves_what_has_gone() {
    let mut stage = collecting(true, &["a/+/X"]);
    assert_eq!(stage.published(), [asked_for_all()]);
    stage.live("a/0/X", &value("0"));
    stage.live("a/0/Y", &value("1"));
    stage.live("a/1/X", &value("2"));
    stage.live("a/1/X", "");
    stage.live("full_publish_completed", COMPLETED);
    assert_eq!(found(&stage.task.finish()), ["a/+/X: a/0/X=0"]);
}

#[test]
fn a_bridge_of_2018_answers_a_node_with_one_object() {
    let mut stage = collecting(false, &["a/0/Dc"]);
    stage.live("a/0/Dc", &value(r#"{"10/I": 1, "2/V": 26.1}"#));
    assert!(stage.task.is_done());
    let collected = stage.task.finish();
    assert!(!collected.found[0].exact);
    assert_eq!(found(&collected), ["a/0/Dc: a/0/Dc/2/V=26.1 a/0/Dc/10/I=1"]);
    // With a bridge of today it is a value that is an object.
    let mut stage = collecting(true, &["a/0/Dc"]);
    stage.live("a/0/Dc", &value(r#"{"0/V": 26.1}"#));
    assert_eq!(
        found(&stage.task.finish()),
        [r#"a/0/Dc: a/0/Dc={"0/V":26.1}"#]
    );
}

#[test]
fn a_bridge_of_2018_has_told_a_wildcard_when_nothing_new_comes() {
    let mut stage = collecting(false, &["a/+/X"]);
    stage.stored("a/0/X", &value("0"));
    stage.now += SECOND;
    stage.live("a/1/X", &value("1"));
    assert_eq!(stage.wait(), 2 * SECOND);
    assert!(stage.task.is_done());
    assert_eq!(found(&stage.task.finish()), ["a/+/X: a/0/X=0 a/1/X=1"]);
}

#[test]
fn topics_are_sorted_as_people_count() {
    let mut keys = [
        "a/10", "a/9", "a/1x", "a/01", "a/1", "a", "a/1/b", "ä", "a/x2", "a/x10",
    ];
    keys.sort_by_key(|key| Key((*key).to_owned()));
    assert_eq!(
        keys,
        [
            "a", "a/01", "a/1", "a/1/b", "a/1x", "a/9", "a/10", "a/x2", "a/x10", "ä"
        ]
    );
}

// --- watch ---

fn watching(selective: bool, count: Option<u64>, time: Option<Duration>) -> Stage<Watch> {
    let wants = wants(&["a/+/X", "b/0/Y"]);
    Stage::new(Watch::new(&portal(selective), wants, count, time, TIMEOUT))
}

#[test]
fn s5_4_only_what_is_watched_is_kept_alive_where_the_bridge_can_do_that() {
    let mut stage = watching(true, None, None);
    let filters = (
        "R/p/keepalive".to_owned(),
        r#"["a/+/X","b/0/Y/#"]"#.to_owned(),
    );
    assert_eq!(stage.published(), [filters.clone(), read("b/0/Y")]);
    stage.live("a/0/X", &value("1"));
    for _ in 0..3 {
        assert_eq!(stage.wait(), 30 * SECOND);
        assert_eq!(stage.published(), std::slice::from_ref(&filters));
    }
}

#[test]
fn s5_1_any_other_bridge_is_kept_alive_as_a_whole() {
    let mut stage = watching(false, None, None);
    assert_eq!(stage.published(), [read("keepalive")]);
    stage.live("a/0/X", &value("1"));
    assert_eq!(stage.wait(), 30 * SECOND);
    let (topic, payload) = stage.published().remove(0);
    assert_eq!(topic, "R/p/keepalive");
    assert!(payload.contains("suppress-republish"), "{payload}");
}

#[test]
fn changes_are_shown_and_repetitions_are_not() {
    let mut stage = watching(true, Some(4), None);
    stage.todo.clear();
    stage.stored("a/0/X", &value("1"));
    stage.live("a/0/X", &value("1"));
    stage.live("a/7/X", "");
    stage.live("a/0/Z", &value("5"));
    stage.live("a/0/X", &value("2"));
    stage.live("a/0/X", "");
    assert!(!stage.task.is_done());
    stage.live("a/0/X", &value("2"));
    assert!(stage.task.is_done());
    assert_eq!(
        stage.shown(),
        ["a/0/X 1", "a/0/X 2", "a/0/X gone", "a/0/X 2"]
    );
    assert!(stage.task.finish().is_ok());
}

#[test]
fn a_watch_ends_in_its_time_and_says_when_nothing_came() {
    let mut stage = watching(true, None, Some(20 * SECOND));
    stage.todo.clear();
    assert_eq!(stage.wait(), TIMEOUT);
    let said = stage.shown();
    assert_eq!(
        said,
        ["nothing has come of a/+/X, b/0/Y yet; still watching"]
    );
    assert_eq!(stage.wait(), 10 * SECOND);
    assert!(stage.task.is_done());
    let sentence = stage.task.finish().unwrap_err().to_string();
    assert!(
        sentence.starts_with("no answer within 20 s: a/+/X, b/0/Y"),
        "{sentence}"
    );
    let mut stage = watching(true, None, Some(20 * SECOND));
    stage.live("a/0/X", &value("1"));
    assert_eq!(stage.wait(), 20 * SECOND);
    assert!(stage.task.finish().is_ok());
}

// --- write ---

fn writing(topic: &str, before: &str, asked: &serde_json::Value) -> Stage<Write> {
    let before = Reading::parse(topic, value(before).as_bytes());
    let mut stage = Stage::new(Write::new(&portal(true), before, asked.clone(), TIMEOUT));
    let payload = json!({ "value": asked }).to_string();
    let expected = [(format!("W/p/{topic}"), payload), read(topic)];
    assert_eq!(stage.published(), expected);
    stage
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Taken(now) => format!("taken {}", now.raw()),
        Outcome::Adjusted(now) => format!("adjusted {}", now.raw()),
        Outcome::Refused(now) => format!("refused {}", now.raw()),
        Outcome::Silent => "silent".to_owned(),
    }
}

#[test]
fn a_write_is_over_when_the_device_shows_it() {
    let mut stage = writing("vebus/1/Mode", "3", &json!(4));
    stage.stored("vebus/1/Mode", &value("4"));
    stage.live("vebus/1/State", &value("4"));
    stage.live("vebus/1/Mode", "");
    // On its way before the write.
    stage.live("vebus/1/Mode", &value("3"));
    assert!(!stage.task.is_done());
    stage.live("vebus/1/Mode", &value("4.0"));
    assert!(stage.task.is_done());
    assert_eq!(word(&stage.task.finish()), "taken 4.0");
}

#[test]
fn a_device_may_need_a_moment_and_is_asked_again() {
    let mut stage = writing("vebus/1/Mode", "3", &json!(4));
    stage.now += SECOND;
    stage.live("vebus/1/Mode", &value("3"));
    assert_eq!(stage.wait(), SECOND);
    assert_eq!(stage.published(), [read("vebus/1/Mode")]);
    stage.live("vebus/1/Mode", &value("4"));
    assert!(stage.task.is_done());
    assert_eq!(word(&stage.task.finish()), "taken 4");
}

#[test]
fn what_stays_otherwise_is_adjusted_or_refused() {
    let check =
        |topic: &str, before: &str, asked: serde_json::Value, shown: &str, expected: &str| {
            let mut stage = writing(topic, before, &asked);
            stage.live(topic, &value(shown));
            assert_eq!(stage.wait() + stage.wait(), 2 * SECOND);
            assert!(stage.task.is_done());
            assert_eq!(word(&stage.task.finish()), expected);
        };
    let limit = "vebus/1/Ac/In/1/CurrentLimit";
    check(limit, "50.0", json!(200), "100.0", "adjusted 100.0");
    check(limit, "50.0", json!(200), "50.0", "refused 50.0");
    // What is only measured moves by itself.
    check(
        "vebus/1/Ac/ActiveIn/L1/V",
        "230",
        json!(0),
        "231",
        "refused 231",
    );
}

#[test]
fn a_secret_is_taken_as_stars_and_silence_is_silence() {
    let mut stage = writing("settings/0/Settings/Modem/PIN", "\"\"", &json!("1234"));
    stage.live("settings/0/Settings/Modem/PIN", &value("\"******\""));
    assert!(stage.task.is_done());
    assert_eq!(word(&stage.task.finish()), "taken ******");
    let mut stage = writing("a/0/X", "1", &json!(2));
    assert_eq!(stage.wait(), TIMEOUT);
    assert!(stage.task.is_done());
    assert_eq!(word(&stage.task.finish()), "silent");
}

// --- the whole ---

#[test]
fn an_error_is_the_users_or_it_is_not() {
    let status = |error: ClientError| Fatal::from(error).exit_status();
    assert_eq!(status(Want::parse("").unwrap_err()), 2);
    let portals = vec![portal(true), portal(false)];
    assert_eq!(status(ClientError::Portals { portals }), 2);
    let waited = TIMEOUT;
    assert_eq!(status(ClientError::NoPortal { waited }), 1);
    assert_eq!(status(ClientError::Interrupted), 1);
    let closed = io::Error::from(io::ErrorKind::BrokenPipe);
    assert!(quietly(Err(ClientError::Output(closed))).is_ok());
    let full = io::Error::from(io::ErrorKind::StorageFull);
    assert!(quietly(Err(ClientError::Output(full))).is_err());
}

#[test]
fn one_portal_id_at_a_time() {
    let id = |text: &str| PortalId::new(text).unwrap();
    let plain = wants(&["a/0/X"]);
    assert_eq!(portal_of(&plain, None).unwrap(), None);
    assert_eq!(portal_of(&plain, Some(id("p"))).unwrap(), Some(id("p")));
    let whole = wants(&["N/p/a/0/X", "a/0/Y"]);
    assert_eq!(portal_of(&whole, None).unwrap(), Some(id("p")));
    assert_eq!(portal_of(&whole, Some(id("p"))).unwrap(), Some(id("p")));
    let sentence = portal_of(&whole, Some(id("q"))).unwrap_err().to_string();
    assert_eq!(
        sentence,
        "p is another installation than q; ask for one at a time"
    );
}

#[test]
fn a_client_id_is_ours_alone_and_short() {
    let (one, two) = (
        crate::tools::session::client_id(),
        crate::tools::session::client_id(),
    );
    assert_ne!(one, two);
    assert!(one.len() <= 23 && one.starts_with("dbus-mqtt-"), "{one}");
}

#[test]
fn a_device_is_named_by_its_values() {
    let reading = |topic: &str, json: &str| Reading::parse(topic, value(json).as_bytes());
    let readings = [
        reading("tank/10/ProductName", "\"Tank\""),
        reading("tank/10/CustomName", "\"\""),
        reading("tank/10/Level", "5"),
        reading("tank/9/CustomName", "\"Diesel\\u001b[2J\""),
        Reading::parse("keepalive", b"1"),
    ];
    let devices = devices::devices_of(&readings);
    let printed = |form| {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, form, false, false);
        devices::print(&portal(true), &devices, &mut screen).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        printed(Form::Text),
        "TYPE  INSTANCE  PRODUCT  NAME             TOPICS\n\
         tank  9         -        Diesel\\u{1b}[2J       1\n\
         tank  10        Tank     -                     3\n"
    );
    let json = printed(Form::Json);
    let first = r#"{"portal_id":"p","type":"tank","instance":"9","product":null,"name":"Diesel\u001b[2J","topics":1}"#;
    assert_eq!(json.lines().next(), Some(first));
}
