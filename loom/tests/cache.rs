//! The cache under loom: one writer, two readers, and every order in which they can see each other.
//!
//! `cargo test --release --manifest-path loom/Cargo.toml`. A test names what must hold; where it
//! does not, loom prints the order that broke it.
#![allow(clippy::unwrap_used)] // a test that cannot go on should say where, and stop

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use dbus_mqtt_loom::bridge::cache::{Reader, SlotId, Writer, cache};
use dbus_mqtt_loom::bridge::slot::{Slot, Words};
use dbus_mqtt_loom::model::item::ItemChange;
use dbus_mqtt_loom::model::value::{IntType, TextType, Value};
use dbus_mqtt_loom::schema::rule::Marks;

const SLOT: SlotId = SlotId(1);

/// Words that all say the same number, so that two halves of different ones are seen.
fn words(n: u32) -> Words {
    Words {
        head: n,
        low: n,
        high: n,
        beside: n,
    }
}

/// Follows the orders of threads in which no more of them than `preemptions` are interrupted where
/// they need not wait; `None`: all orders.
///
/// The thread that loom starts with should be the writer. Of the accesses to a word loom remembers the
/// last one alone: where the writer looks at a word before it sets it, a reader that came before
/// goes unnoticed, and the order in which it comes later would never be tried.
fn model(preemptions: Option<usize>, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(run);
}

fn set(writer: &mut Writer, value: Option<Value<'_>>, max: Option<Value<'_>>) {
    let change = ItemChange {
        path: "/A",
        value,
        min: None,
        max,
    };
    writer.apply(SLOT, &change, Marks::DEFAULT);
}

fn int(n: i64) -> Option<Value<'static>> {
    Some(Value::Int(IntType::I32, n))
}

fn text(text: &str) -> Option<Value<'_>> {
    Some(Value::Text(TextType::String, text))
}

fn rendered(reader: &Reader) -> String {
    let mut out = Vec::new();
    reader.render(SLOT, &mut out);
    String::from_utf8(out).unwrap()
}

/// Lets one reader look twice while `write` goes on, holds each look to `expected`, and wants every
/// one of these to be seen in some order: a proof that never meets them proves nothing.
fn check(expected: &'static [&'static str], prepare: fn(&mut Writer), write: fn(&mut Writer)) {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let all = Arc::clone(&seen);
    model(Some(2), move || {
        let (mut writer, reader) = cache(2);
        assert!(writer.make_room(SLOT));
        prepare(&mut writer);
        let other = reader.clone();
        let thread = loom::thread::spawn(move || [rendered(&other), rendered(&other)]);
        write(&mut writer);
        let looks = thread.join().unwrap();
        let place = |look: &String| {
            let place = expected.iter().position(|one| one == look);
            place.unwrap_or_else(|| panic!("nobody ever set {look}"))
        };
        let places = looks.each_ref().map(place);
        assert!(places[0] <= places[1], "{looks:?}: back in time");
        assert_eq!(rendered(&reader), expected[expected.len() - 1]);
        seen.lock().unwrap().extend(looks);
    });
    let all = all.lock().unwrap();
    assert_eq!(all.len(), expected.len(), "only {all:?} were ever seen");
}

#[test]
fn a_reader_never_sees_half_a_value() {
    model(None, || {
        let slot = Arc::new(Slot::default());
        slot.store(words(1));
        let readers = Arc::clone(&slot);
        let reader = loom::thread::spawn(move || readers.load());
        slot.store(words(2));
        let seen = reader.join().unwrap();
        assert!(seen == words(1) || seen == words(2), "{seen:?}");
    });
}

#[test]
fn a_reader_never_goes_back_in_time() {
    model(Some(2), || {
        let slot = Arc::new(Slot::default());
        let readers = Arc::clone(&slot);
        let reader = loom::thread::spawn(move || (readers.load(), readers.load()));
        slot.store(words(1));
        slot.store(words(2));
        let (first, second) = reader.join().unwrap();
        for seen in [first, second] {
            assert!(seen.head <= 2 && seen == words(seen.head), "{seen:?}");
        }
        assert!(first.head <= second.head, "{first:?}, then {second:?}");
    });
}

#[test]
fn two_readers_do_not_disturb_each_other() {
    model(Some(2), || {
        let slot = Arc::new(Slot::default());
        let read = |slot: &Slot| {
            let seen = slot.load();
            assert!(seen.head <= 1 && seen == words(seen.head), "{seen:?}");
        };
        let (writers, others) = (Arc::clone(&slot), Arc::clone(&slot));
        // Not the first thread here: two that spin would give way to each other for ever.
        let writer = loom::thread::spawn(move || writers.store(words(1)));
        let other = loom::thread::spawn(move || read(&others));
        read(&slot);
        writer.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn a_reader_finds_the_text_that_belongs_to_the_value() {
    check(
        &[r#"{"value": "a"}"#, r#"{"value": "b"}"#],
        |writer| set(writer, text("a"), None),
        |writer| set(writer, text("b"), None),
    );
}

#[test]
fn a_number_follows_a_text_and_a_text_a_number() {
    check(
        &[r#"{"value": 1}"#, r#"{"value": "a"}"#, r#"{"value": 2}"#],
        |writer| set(writer, int(1), None),
        |writer| {
            set(writer, text("a"), None);
            set(writer, int(2), None);
        },
    );
}

#[test]
fn a_limit_comes_with_its_value() {
    check(
        &[
            r#"{"value": 1}"#,
            r#"{"value": 2, "max": 9}"#,
            r#"{"value": 3, "max": 9}"#,
        ],
        |writer| set(writer, int(1), None),
        |writer| {
            set(writer, int(2), int(9));
            set(writer, int(3), None);
        },
    );
}

/// The place beside the slots is given to another item: nobody may read that one's text in it.
#[test]
fn what_is_cleared_is_not_taken_for_what_follows() {
    check(
        &[r#"{"value": "a"}"#, r#"{"value": null}"#],
        |writer| set(writer, text("a"), None),
        |writer| {
            writer.clear(SLOT);
            let other = ItemChange {
                path: "/B",
                value: text("another's"),
                min: None,
                max: None,
            };
            writer.apply(SlotId(0), &other, Marks::DEFAULT);
        },
    );
}
