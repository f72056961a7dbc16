//! The cache, with one writer and one reader.

use super::*;
use crate::model::value::{Compound, IntType, TextType};

const RULE: Marks = Marks::DEFAULT;

fn change<'a>(
    value: Option<Value<'a>>,
    min: Option<Value<'a>>,
    max: Option<Value<'a>>,
) -> ItemChange<'a> {
    ItemChange {
        path: "/A",
        value,
        min,
        max,
    }
}

fn rendered(reader: &Reader, id: SlotId) -> String {
    let mut out = Vec::new();
    reader.render(id, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn s2_1_a_partial_change_erases_nothing() {
    let (mut writer, reader) = cache(1000);
    let id = SlotId(300);
    assert!(writer.make_room(id));
    assert!(!reader.has_value(id));
    let int = |n| Some(Value::Int(IntType::I32, n));
    assert!(writer.apply(id, &change(int(5), None, None), RULE));
    assert!(!writer.apply(id, &change(int(5), None, None), RULE));
    assert_eq!(rendered(&reader, id), r#"{"value": 5}"#);
    assert!(writer.apply(id, &change(None, None, int(9)), RULE));
    assert_eq!(rendered(&reader, id), r#"{"value": 5, "max": 9}"#);
    assert!(writer.apply(id, &change(int(6), int(0), None), RULE));
    assert_eq!(rendered(&reader, id), r#"{"value": 6, "min": 0, "max": 9}"#);
    assert!(writer.apply(
        id,
        &change(Some(Value::Text(TextType::String, "on")), None, None),
        RULE
    ));
    assert_eq!(
        rendered(&reader, id),
        r#"{"value": "on", "min": 0, "max": 9}"#
    );
    assert_eq!(writer.present_type(id), PresentType::Basic(b's'));
    assert!(writer.apply(
        id,
        &change(Some(Value::Invalid), Some(Value::Invalid), None),
        RULE
    ));
    assert_eq!(rendered(&reader, id), r#"{"value": null, "max": 9}"#);
    writer.clear(id);
    assert!(!reader.has_value(id));
    assert!(writer.apply(id, &change(int(1), None, None), RULE));
    assert_eq!(rendered(&reader, id), r#"{"value": 1}"#);
}

#[test]
fn s4_7_a_secret_never_enters() {
    let (mut writer, reader) = cache(10);
    let id = SlotId(0);
    assert!(writer.make_room(id));
    let secret = Marks {
        secret: true,
        ..Marks::DEFAULT
    };
    writer.apply(
        id,
        &change(Some(Value::Text(TextType::String, "hunter2")), None, None),
        secret,
    );
    assert_eq!(rendered(&reader, id), r#"{"value": "******"}"#);
    writer.apply(
        id,
        &change(Some(Value::Text(TextType::String, "")), None, None),
        secret,
    );
    assert_eq!(rendered(&reader, id), r#"{"value": ""}"#);
    // Spelt in bytes, and as a limit.
    let bytes = Value::Compound(Compound {
        signature: "ay",
        bytes: b"\x07\0\0\0hunter2",
        at: 0,
        big_endian: false,
    });
    let text = Value::Text(TextType::String, "hunter2");
    writer.apply(id, &change(Some(bytes), Some(text), Some(bytes)), secret);
    assert_eq!(rendered(&reader, id), r#"{"value": "******"}"#);
    assert!(!format!("{:?}", writer.shared).contains("hunter2"));
}

#[test]
fn s4_7_what_turns_out_to_be_a_secret_is_masked() {
    let (mut writer, reader) = cache(10);
    let text = |text| change(Some(Value::Text(TextType::String, text)), None, None);
    for (id, change, expected) in [
        (SlotId(0), text("hunter2"), r#"{"value": "******"}"#),
        (SlotId(1), text(""), r#"{"value": ""}"#),
        (
            SlotId(2),
            change(Some(Value::Bool(true)), None, None),
            r#"{"value": true}"#,
        ),
    ] {
        assert!(writer.make_room(id));
        writer.apply(id, &change, RULE);
        writer.mask(id);
        assert_eq!(rendered(&reader, id), expected);
    }
    let mut update = Update::new(&text("hunter2"), RULE, Sizes::default());
    update.mask();
    assert!(!format!("{update:?} {:?}", writer.shared).contains("hunter2"));
    writer.mask(SlotId(9));
}

#[test]
fn a_full_cache_has_no_room() {
    let (mut writer, _) = cache(10);
    assert!(writer.make_room(SlotId(255)));
    assert!(!writer.make_room(SlotId(256)));
}

#[test]
fn a_value_that_is_too_long_is_not_kept_and_nothing_before_it_either() {
    let (mut writer, reader) = cache(10);
    writer.limit(Sizes {
        text_bytes_max: 4,
        array_bytes_max: 12,
        ..Sizes::default()
    });
    let id = SlotId(0);
    assert!(writer.make_room(id));
    let text = |text| change(Some(Value::Text(TextType::String, text)), None, None);
    assert!(writer.apply(id, &text("four"), RULE));
    assert_eq!(rendered(&reader, id), r#"{"value": "four"}"#);
    assert!(!writer.has_unkept());
    assert!(writer.apply(id, &text("fives"), RULE));
    assert!(!reader.has_value(id));
    assert_eq!(
        writer.take_unkept(),
        [(id, DroppedValue::TooLong { found: 5, max: 4 })]
    );
    assert_eq!(writer.present_type(id), PresentType::None);
    assert!(!format!("{:?}", writer.shared).contains("102, 111, 117, 114"));
    // The limits stay, unless one of them is too long itself.
    let max = Value::Text(TextType::String, "too long");
    let min = Value::Int(IntType::I32, 1);
    let both = change(Some(Value::Int(IntType::I32, 2)), Some(min), Some(max));
    assert!(writer.apply(id, &both, RULE));
    assert_eq!(rendered(&reader, id), r#"{"value": 2, "min": 1}"#);
    // Also where it comes in words before, and where it has to wait.
    let id = SlotId(1);
    assert!(writer.make_room(id));
    assert!(writer.apply(id, &change(Some(Value::Bool(true)), None, None), RULE));
    let update = Update::new(&text("fives"), RULE, writer.sizes);
    assert!(!format!("{update:?}").contains("102, 105, 118, 101"));
    assert!(writer.apply_update(id, update));
    assert!(!reader.has_value(id));
    assert_eq!(
        writer.take_unkept(),
        [(id, DroppedValue::TooLong { found: 5, max: 4 })]
    );
}

#[test]
fn texts_are_bounded_together_and_what_goes_makes_room() {
    let (mut writer, reader) = cache(10);
    writer.limit(Sizes {
        cache_bytes_max: 20,
        ..Sizes::default()
    });
    for id in 0..4 {
        assert!(writer.make_room(SlotId(id)));
    }
    let text = |text| change(Some(Value::Text(TextType::String, text)), None, None);
    let none = [];
    let no_room_of = |id, max| [(SlotId(id), DroppedValue::NoRoom { max })];
    let no_room = |id| no_room_of(id, 20);
    // With its quotes each has ten bytes.
    assert!(writer.apply(SlotId(0), &text("12345678"), RULE));
    assert!(writer.apply(SlotId(1), &text("12345678"), RULE));
    assert_eq!(writer.take_unkept(), none);
    assert!(!writer.apply(SlotId(2), &text(""), RULE));
    assert!(!reader.has_value(SlotId(2)));
    assert_eq!(
        writer.unkept(SlotId(2)),
        Some(DroppedValue::NoRoom { max: 20 })
    );
    assert_eq!(writer.unkept(SlotId(1)), None);
    assert_eq!(writer.take_unkept(), no_room(2));
    // Another of the same length fits in its place; a longer one does not, and what was there is gone.
    assert!(writer.apply(SlotId(1), &text("87654321"), RULE));
    assert_eq!(writer.take_unkept(), none);
    assert!(writer.apply(SlotId(1), &text("123456789"), RULE));
    assert!(!reader.has_value(SlotId(1)));
    assert_eq!(writer.take_unkept(), no_room(1));
    // Numbers need no room, their limits do.
    let max = |text| {
        change(
            Some(Value::Bool(true)),
            None,
            Some(Value::Text(TextType::String, text)),
        )
    };
    assert!(writer.apply(SlotId(1), &max("12345678"), RULE));
    assert_eq!(
        rendered(&reader, SlotId(1)),
        r#"{"value": true, "max": "12345678"}"#
    );
    assert!(writer.apply(SlotId(2), &max("1"), RULE));
    assert_eq!(rendered(&reader, SlotId(2)), r#"{"value": true}"#);
    // A mask is shorter, a copy is as long, and what is gone has no length.
    writer.mask(SlotId(0));
    let masked = writer.beside_bytes;
    assert_eq!(masked, payload::MASK.len() + 10);
    writer.copy(SlotId(0), SlotId(3));
    assert_eq!(writer.beside_bytes, masked + payload::MASK.len());
    for id in 0..4 {
        writer.clear(SlotId(id));
    }
    assert_eq!(writer.beside_bytes, 0);
    assert!(writer.apply(SlotId(3), &text("12345678"), RULE));
    // A lower limit lets be what is there.
    writer.limit(Sizes {
        cache_bytes_max: 5,
        ..Sizes::default()
    });
    assert_eq!(rendered(&reader, SlotId(3)), r#"{"value": "12345678"}"#);
    assert!(writer.apply(SlotId(3), &text("12345678"), RULE));
    assert_eq!(writer.take_unkept(), no_room_of(3, 5));
}

#[test]
fn the_length_of_an_array_is_that_of_its_bytes() {
    let sizes = Sizes {
        text_bytes_max: 1,
        array_bytes_max: 12,
        ..Sizes::default()
    };
    let bytes = [0; 40];
    let exceeded = |end: usize| {
        sizes.exceeded(&Value::Compound(crate::model::value::Compound {
            signature: "ai",
            bytes: &bytes[..end],
            at: 16,
            big_endian: false,
        }))
    };
    assert_eq!(exceeded(28), None);
    assert_eq!(
        exceeded(29),
        Some(DroppedValue::TooLong { found: 13, max: 12 })
    );
    assert_eq!(sizes.exceeded(&Value::Double(1.0)), None);
}

#[test]
fn memory_comes_back_after_a_very_long_text() {
    let mut place = Vec::new();
    keep(&mut place, &vec![b'x'; 1_000_000]);
    keep(&mut place, b"short");
    assert_eq!(place, b"short");
    assert!(place.capacity() < 1_000);
}
