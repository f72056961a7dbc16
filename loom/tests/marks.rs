//! Slot, marks and wake-up under loom: the bus thread stores, marks and rouses, the serving thread takes,
//! reads and sleeps, in every order in which they can see each other.
//!
//! `cargo test --release --manifest-path loom/Cargo.toml --test marks`
#![allow(clippy::unwrap_used)] // a test that cannot go on should say where, and stop

use std::sync::Arc;

use dbus_mqtt_loom::bridge::cache::{Reader, SlotId, Writer, cache};
use dbus_mqtt_loom::bridge::marks::Marks;
use dbus_mqtt_loom::model::item::ItemChange;
use dbus_mqtt_loom::model::value::{IntType, TextType, Value};
use dbus_mqtt_loom::schema::rule::Marks as RuleMarks;
use loom::sync::Notify;

fn set(writer: &mut Writer, slot: SlotId, value: Value<'_>) {
    let change = ItemChange {
        path: "/A",
        value: Some(value),
        min: None,
        max: None,
    };
    writer.apply(slot, &change, RuleMarks::DEFAULT);
}

fn int(n: i64) -> Value<'static> {
    Value::Int(IntType::I32, n)
}

fn rendered(reader: &Reader, slot: SlotId) -> String {
    let mut out = Vec::new();
    assert!(reader.render_present(slot, &mut out));
    String::from_utf8(out).unwrap()
}

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// What the serving thread does, until it has seen `last` in the slot. It would wait without end, which loom
/// reports, if a change were left unread.
fn serve(reader: &Reader, marks: &Marks, bell: &Notify, slot: SlotId, last: &str) {
    loop {
        let mut seen = false;
        marks.take(|word, bits| {
            if word == slot.0 as usize / 32 && bits >> (slot.0 % 32) & 1 == 1 {
                seen |= rendered(reader, slot) == last;
            }
        });
        if seen {
            return;
        }
        if marks.rest() {
            bell.wait();
            marks.awake();
        }
    }
}

fn check(write: fn(&mut Writer, &dyn Fn(SlotId), &dyn Fn()), slot: u32, last: &'static str) {
    model(move || {
        let (mut writer, reader) = cache(2);
        assert!(writer.make_room(SlotId(1)));
        let (marks, bell) = (Arc::new(Marks::new(64)), Arc::new(Notify::new()));
        let (others_marks, others_bell) = (Arc::clone(&marks), Arc::clone(&bell));
        let server = loom::thread::spawn(move || {
            serve(&reader, &others_marks, &others_bell, SlotId(slot), last);
        });
        let rouse = || {
            if marks.rouse() {
                bell.notify();
            }
        };
        write(&mut writer, &|slot| marks.set(slot), &rouse);
        server.join().unwrap();
    });
}

#[test]
fn no_change_is_left_unread() {
    check(
        |writer, mark, rouse| {
            set(writer, SlotId(1), int(1));
            mark(SlotId(1));
            rouse();
            set(writer, SlotId(1), int(2));
            mark(SlotId(1));
            rouse();
        },
        1,
        r#"{"value": 2}"#,
    );
}

#[test]
fn a_batch_is_read_to_its_end() {
    check(
        |writer, mark, rouse| {
            set(writer, SlotId(0), int(1));
            mark(SlotId(0));
            set(writer, SlotId(1), Value::Text(TextType::String, "b"));
            mark(SlotId(1));
            rouse();
        },
        1,
        r#"{"value": "b"}"#,
    );
}
