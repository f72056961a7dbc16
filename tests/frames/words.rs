//! What things are called in the world of [`super`], and the values that they take.

use super::*;

pub(super) fn value(n: u8) -> V {
    match n % 9 {
        0 => V::D(f64::from(n) / 8.0),
        1 => V::I(-i32::from(n)),
        2 => V::U(u32::from(n)),
        3 => V::B(n.is_multiple_of(2)),
        4 => s(&format!("text {n}")),
        5 => array("i", [V::I(1), V::I(i32::from(n))]),
        6 => V::D(f64::NAN),
        7 => s(""),
        _ => invalid(),
    }
}

pub(super) fn wire_value(value: &BusValue) -> V {
    match value {
        BusValue::Bool(v) => V::B(*v),
        BusValue::U8(v) => V::Y(*v),
        BusValue::I16(v) => V::N(*v),
        BusValue::U16(v) => V::Q(*v),
        BusValue::I32(v) => V::I(*v),
        BusValue::U32(v) => V::U(*v),
        BusValue::I64(v) => V::X(*v),
        BusValue::U64(v) => V::T(*v),
        BusValue::Double(v) => V::D(*v),
        BusValue::Text(v) => s(v),
        BusValue::ObjectPath(v) => V::O(v.to_string()),
        BusValue::Array(element, elements) => array(element, elements.iter().map(wire_value)),
        BusValue::Dict(entries) => vardict(
            entries
                .iter()
                .map(|(key, value)| (&**key, wire_value(value))),
        ),
        BusValue::Variant(inner) => variant(wire_value(inner)),
    }
}

/// What broker 2 may have: not all that there is, and less of it to write.
pub(super) fn lists() -> Lists {
    let list = |allow: &[&str], deny: &[&str]| List {
        allow: allow
            .iter()
            .filter_map(|text| Filter::parse(text))
            .collect(),
        deny: deny.iter().filter_map(|text| Filter::parse(text)).collect(),
    };
    Lists {
        publish: list(&["#"], &["battery/+/Dc/#", "tank/0/CustomName"]),
        read: list(&["#"], &["vebus/#"]),
        write: list(&["battery/#", "vebus/+/Mode"], &["+/1/#"]),
        ..Lists::default()
    }
}

/// `<type>/<instance>` and the path of a topic.
pub(super) fn split_topic(topic: &str) -> Option<(&str, &str)> {
    let (at, _) = topic.match_indices('/').nth(1)?;
    Some(topic.split_at(at))
}

/// `<type><path>`
pub(super) fn without_instance(topic: &str) -> String {
    let mut levels: Vec<_> = topic.split('/').collect();
    if levels.len() > 1 {
        levels.remove(1);
    }
    levels.join("/")
}

pub(super) fn full_name(name: &str) -> String {
    format!("com.victronenergy.{name}")
}

/// One of the paths. The system has no identifier: it is always 0, as on every device.
pub(super) fn path_of(service: usize, n: u8) -> &'static str {
    match PATHS[usize::from(n) % PATHS.len()] {
        "/Identifier" if SERVICES[service] == "system" => "/Soc",
        path => path,
    }
}

/// The device instance that a number chooses.
pub(super) fn instance_value(service: usize, n: u8) -> Option<V> {
    match (SERVICES[service], n % 4) {
        ("system", _) => None,
        (_, 3) => Some(invalid()),
        (_, n) => Some(V::I(i32::from(n))),
    }
}
