//! JSON, both ways, against another implementation of it: what we write is read as what was meant, and
//! what others write is read by us as they read it. Topics and filters beside them, since these are
//! the other texts that strangers send.
//!
//! `PROPTEST_CASES=1000000` makes it a million values instead of some thousands.

use std::cell::RefCell;

use dbus_mqtt::codec::bus_item::Changes;
use dbus_mqtt::codec::request::RequestReader;
use dbus_mqtt::codec::{frame, payload};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

use crate::frames::wire::{V, array, vardict, variant};

fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.map_or(cases, |text| text.parse().expect("a number of cases")),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

// Values.

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        // As devices measure.
        (any::<i32>(), 0..7_i32)
            .prop_map(|(digits, places)| f64::from(digits) / 10_f64.powi(places)),
        // Near what integers can say.
        (0..64_i32, -2..3_i32).prop_map(|(power, more)| 2_f64.powi(power) + f64::from(more)),
        // The smallest.
        (0..u64::from(u16::MAX)).prop_map(f64::from_bits),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9 ]{0,12}",
        any::<String>(),
        "[\"\\\\\n\r\t\u{0}\u{1}\u{1f}\u{7f}\u{80}\u{2028}äß€😀/]{0,9}",
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        double().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        text().prop_map(Value::String),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((text(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A value as a service has it: of one D-Bus type, so that the elements of an array are alike.
fn bus_value() -> impl Strategy<Value = V> {
    let numbers = prop_oneof![
        any::<u8>().prop_map(V::Y),
        any::<i16>().prop_map(V::N),
        any::<u16>().prop_map(V::Q),
        any::<i32>().prop_map(V::I),
        any::<u32>().prop_map(V::U),
        any::<i64>().prop_map(V::X),
        any::<u64>().prop_map(V::T),
        double().prop_map(V::D),
        any::<bool>().prop_map(V::B),
    ];
    prop_oneof![
        4 => numbers,
        2 => text().prop_map(|text| V::S(text.replace('\0', ""))),
        1 => vec(double(), 0..6).prop_map(|all| array("d", all.into_iter().map(V::D))),
        1 => vec(any::<i64>(), 0..6).prop_map(|all| array("x", all.into_iter().map(V::X))),
        1 => vec(text(), 0..4)
            .prop_map(|all| array("s", all.into_iter().map(|text| V::S(text.replace('\0', ""))))),
    ]
}

/// What it means, as the reference has it; §3 gives the rest.
fn meaning(value: &V) -> Value {
    match value {
        V::Y(v) => (*v).into(),
        V::N(v) => (*v).into(),
        V::Q(v) => (*v).into(),
        V::I(v) => (*v).into(),
        V::U(v) => (*v).into(),
        V::X(v) => (*v).into(),
        V::T(v) => (*v).into(),
        V::D(v) => Number::from_f64(*v).map_or(Value::Null, Value::Number),
        V::B(v) => (*v).into(),
        V::S(v) => v.as_str().into(),
        V::Array(_, elements) if elements.is_empty() => Value::Null,
        V::Array(_, elements) => elements.iter().map(meaning).collect(),
        V::O(_) | V::G(_) | V::H(_) | V::Entry(_) | V::Struct(_) | V::Variant(_) => {
            panic!("not made here")
        }
    }
}

thread_local! {
    static READER: RefCell<RequestReader> = RefCell::new(RequestReader::new(65_536));
}

fn read_write(text: &str) {
    READER.with_borrow_mut(|reader| crate::targets::write_payload(reader, text.as_bytes()));
}

/// JSON text with space wherever it may be.
fn spaced(value: &Value, space: &str) -> String {
    let join = |parts: Vec<String>| parts.join(&format!("{space},{space}"));
    match value {
        Value::Array(elements) => {
            let parts = elements.iter().map(|element| spaced(element, space));
            format!("[{space}{}{space}]", join(parts.collect()))
        }
        Value::Object(members) => {
            let parts = members.iter().map(|(key, value)| {
                let key = Value::from(key.as_str());
                format!("{key}{space}:{space}{}", spaced(value, space))
            });
            format!("{{{space}{}{space}}}", join(parts.collect()))
        }
        scalar => scalar.to_string(),
    }
}

/// The same text with characters escaped that need not be.
fn escaped(text: &str) -> String {
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
    format!("\"{}\"", units.collect::<String>())
}

proptest! {
    #![proptest_config(config(4_000))]

    /// From a signal's bytes to the payload: it is read by others as what the service meant, and by
    /// us, in a write, as others read it.
    #[test]
    fn s3_what_we_write_is_read_as_it_was_meant(value in bus_value(), big_endian in any::<bool>()) {
        let mut message = crate::frames::wire::Message::signal("/A", "com.victronenergy.BusItem", "PropertiesChanged");
        message.big_endian = big_endian;
        message.serial = 1;
        let bytes = message.with(&[vardict([("Value", value.clone())])]).encode();
        let frame = frame::parse(&bytes).unwrap();
        let mut out = b"{\"value\": ".to_vec();
        for change in Changes::of_signal(&frame).unwrap().unwrap() {
            payload::write_value(&mut out, &change.unwrap().value.unwrap());
        }
        out.push(b'}');
        let text = String::from_utf8(out).unwrap();
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read["value"], &meaning(&value), "{}", text);
        if let V::D(number) = value && number.is_finite() {
            prop_assert_eq!(read["value"].as_f64().unwrap().to_bits(), number.to_bits());
        }
        read_write(&text);
    }

    /// Numbers alone, byte by byte where there is but one way to write them.
    #[test]
    fn s3_integers_are_written_as_everybody_does(signed in any::<i64>(), unsigned in any::<u64>()) {
        let mut out = Vec::new();
        payload::write_int(&mut out, signed);
        out.push(b' ');
        payload::write_uint(&mut out, unsigned);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{signed} {unsigned}"));
    }

    #[test]
    fn s3_texts_come_back(text in text()) {
        let mut out = Vec::new();
        payload::write_text(&mut out, &text);
        prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    /// What other programs write is read as they meant it.
    #[test]
    fn s5_6_writes_of_any_json_are_read(
        value in json(),
        space in "[ \t\r\n]{0,2}",
        more in proptest::option::of(json()),
    ) {
        let value = spaced(&value, &space);
        let text = match more {
            None => format!("{{{space}\"value\"{space}:{space}{value}}}{space}"),
            Some(more) => format!("{{\"other\":{more},\"value\":{value},{space}\"x\":{more}}}"),
        };
        read_write(&text);
    }

    #[test]
    fn s5_6_escapes_are_read(text in text()) {
        read_write(&format!("{{\"value\":{}}}", escaped(&text)));
        read_write(&format!("{{{}:1,\"value\":2}}", escaped(&text)));
    }

    /// Number texts of every form that JSON has, and of some that it has not.
    #[test]
    fn s5_6_numbers_are_read(
        number in "-?(0|[1-9][0-9]{0,25})([.][0-9]{1,25})?([eE][+-]?[0-9]{1,3})?|[-+.eE0-9]{1,12}",
    ) {
        read_write(&format!("{{\"value\":{number}}}"));
        read_write(&format!("{{\"value\":[{number}, 1]}}"));
    }

    /// One byte wrong: both read it, or neither does.
    #[test]
    fn s5_8_damaged_json_is_refused_as_everybody_does(
        value in json(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(&b"{}[]\",:\\0-.eE tfn"[..])],
    ) {
        let mut text = format!("{{\"value\": {value}}}").into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        READER.with_borrow_mut(|reader| crate::targets::write_payload(reader, &text));
    }
}

// Topics.

fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(&["a", "b", "battery", "0", "Dc", "Soc", "+", "#", "", "$x", "R", "W", "N"][..])
            .prop_map(str::to_owned),
        1 => any::<String>(),
        1 => "[ab+#/\0é]{0,4}",
    ]
}

proptest! {
    #![proptest_config(config(4_000))]

    /// The grammar of topics is total: each text is a request, or none, or is refused in words; and a
    /// filter matches what MQTT says it does (§1, §5.4).
    #[test]
    fn s1_any_topic_is_taken(
        levels in vec(level(), 0..7),
        filter in vec(level(), 0..7),
    ) {
        crate::targets::topic(format!("{}\n{}", levels.join("/"), filter.join("/")).as_bytes());
    }

    /// A filter made from the topic itself, so that many match.
    #[test]
    fn s5_4_a_filter_made_of_a_topic(
        levels in vec("[a-c0-9]{1,2}|", 3..7),
        masks in vec(0..4_u8, 7),
        rest in 0..8_usize,
    ) {
        let mut filter: Vec<_> = levels
            .iter()
            .zip(&masks)
            .map(|(level, mask)| if *mask == 0 { "+" } else { level.as_str() })
            .collect();
        if rest <= filter.len() {
            filter.truncate(rest);
            filter.push("#");
        }
        crate::targets::topic(format!("{}\n{}", levels.join("/"), filter.join("/")).as_bytes());
    }
}

proptest! {
    #![proptest_config(config(300))]

    /// A write goes to its service as the client wrote it, whatever type the item has, and keep-alives
    /// are understood as §5.3 and §5.4 say.
    #[test]
    fn s3_nothing_is_lost_on_the_way_to_a_service(value in json(), options in any::<bool>()) {
        let text = if options {
            format!("{{\"keepalive-options\": [{value}, \"suppress-republish\", {{\"full-publish-completed-echo\": {value}}}]}}")
        } else {
            format!("{{\"value\": {value}}}")
        };
        crate::targets::payload(text.as_bytes());
        crate::targets::payload(value.to_string().as_bytes());
    }
}

/// The reference itself: a variant means what is in it.
#[test]
fn a_variant_is_unwrapped() {
    let inner = variant(variant(V::I(7)));
    let bytes = crate::frames::properties_changed(":1.42", "/A", [("Value", inner)]);
    let frame = frame::parse(&bytes).unwrap();
    let mut out = Vec::new();
    for change in Changes::of_signal(&frame).unwrap().unwrap() {
        payload::write_value(&mut out, &change.unwrap().value.unwrap());
    }
    assert_eq!(out, b"7");
}
