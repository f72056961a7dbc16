//! Topics and payloads of clients: each is held against a second, plainer reading of the same rule.

use dbus_mqtt::bridge::PublishSink;
use dbus_mqtt::bridge::calls::Method;
use dbus_mqtt::codec::request::{JSON_DEPTH_MAX, RequestReader};
use dbus_mqtt::model::filter::Filter;
use dbus_mqtt::model::name::{
    DeviceInstance, PortalId, ServiceName, is_topic_level, is_topic_path,
};
use dbus_mqtt::model::request::{KeepAlive, Rejection, Request, ResponseAddress};
use dbus_mqtt::model::topic::{self, parse_request};
use dbus_mqtt::model::value::{BusValue, Json};
use serde_json::Value;

use crate::frames;
use crate::frames::wire::{V, array, s};

/// A topic of anybody's making; what follows a line break is a filter, held against it.
pub fn topic(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (text, filter) = text.split_once('\n').unwrap_or((text, text));
    let portal = frames::portal();
    for topic in [
        text.to_owned(),
        format!("R/{portal}/{text}"),
        format!("W/{portal}/{text}"),
    ] {
        if let Some(Ok(found)) = parse_request(&topic, &portal) {
            use dbus_mqtt::model::topic::RequestTopic::{KeepAlive, Read, Serial, Write};
            match found {
                Read(at) | Write(at) => {
                    let again = format!("/{portal}/{}/{}{}", at.service_type, at.instance, at.path);
                    assert!(topic.ends_with(&again) && topic.len() == again.len() + 1);
                }
                KeepAlive | Serial => assert!(topic.starts_with('R')),
            }
            // So that no answer is ever sent there (§5.8).
            assert!(topic::is_reserved(&topic));
        }
    }
    let _ = (topic::parse_any(text), topic::parse_notification(text));
    names(text);
    matching(filter, text);
}

fn names(text: &str) {
    if let Some(instance) = DeviceInstance::identifier(text) {
        let level = is_topic_level(instance.as_str());
        assert_eq!(level, instance.is_topic_level(), "{text:?}");
    }
    if let Some(name) = ServiceName::new(text) {
        assert!(is_topic_level(name.service_type()), "{text:?}");
    }
    if let Ok(id) = PortalId::new(text) {
        assert!(is_topic_level(id.as_str()), "{text:?}");
    }
    if is_topic_path(text) {
        // Behind any device, one address and no other.
        let topic = format!("battery/0{text}");
        let address = topic::parse_address(&topic).unwrap();
        assert_eq!((address.instance, address.path), ("0", text));
    }
}

/// A filter matches what MQTT says it does [MQTT-4.7.1].
fn matching(filter: &str, topic: &str) {
    let parsed = Filter::parse(filter);
    if let Some(parsed) = &parsed {
        assert_eq!(parsed.to_string(), filter);
    }
    let levels: Vec<_> = topic.split('/').collect();
    if levels.len() < 3 {
        return;
    }
    let wanted: Vec<_> = filter.split('/').collect();
    let is_filter = filter.len() <= 1024
        && !filter.contains('\0')
        && wanted.iter().enumerate().all(|(at, level)| match *level {
            "+" => true,
            "#" => at + 1 == wanted.len(),
            level => !level.contains(['+', '#']),
        });
    let expected = is_filter && matches(&wanted, &levels);
    let (at, _) = topic.match_indices('/').nth(1).unwrap();
    let found = parsed.is_some_and(|parsed| parsed.matches(&topic[..at], &topic[at..]));
    assert_eq!(found, expected, "{filter:?} {topic:?}");
}

fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => matches(filter, topic),
        ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && matches(filter, topic),
        (_, _) => false,
    }
}

/// An item of each type that services have, below `battery/0`.
fn items() -> Vec<(&'static str, V)> {
    vec![
        ("/Y", V::Y(1)),
        ("/B", V::B(true)),
        ("/N", V::N(1)),
        ("/Q", V::Q(1)),
        ("/I", V::I(1)),
        ("/U", V::U(1)),
        ("/X", V::X(1)),
        ("/T", V::T(1)),
        ("/D", V::D(1.5)),
        ("/S", s("text")),
        ("/Ai", array("i", [V::I(1)])),
        ("/As", array("s", [s("a")])),
        ("/Ad", array("d", [V::D(1.5)])),
        ("/Invalid", array("i", [])),
    ]
}

/// A payload of anybody's making, under each kind of topic, and what the bridge does with it.
pub fn payload(data: &[u8]) {
    let portal = frames::portal();
    let mut reader = RequestReader::new(65_536);
    let items = items();
    let device = frames::Device {
        name: "com.victronenergy.battery.fuzz".into(),
        owner: ":1.42".into(),
        items: (items
            .iter()
            .map(|(path, value)| ((*path).into(), value.clone())))
        .collect(),
        ..frames::Device::default()
    };
    let (mut bridge, now) = frames::live_bridge(std::slice::from_ref(&device));
    let reference = reference(data);
    let (head, tail) = data.split_at(data.len() / 2);
    let topics = ["R/{}/keepalive", "R/{}/system/0/Serial", "R/{}/battery/0/S"]
        .map(|topic| topic.replace("{}", frames::PORTAL))
        .into_iter()
        .chain(
            items
                .iter()
                .map(|(path, _)| format!("W/{portal}/battery/0{path}")),
        );
    for topic in topics {
        let request = reader.read(&topic, &mut data.to_vec(), &portal).unwrap();
        let again = reader.read(&topic, &mut data.to_vec(), &portal).unwrap();
        // Buffers are kept between requests, and nothing else.
        assert_eq!(format!("{request:?}"), format!("{again:?}"));
        if topic.ends_with("/keepalive") {
            keep_alive(&request, reference.as_ref());
        }
        let written = topic.starts_with('W').then(|| {
            write(data, &request, reference.as_ref());
            reference.as_ref().and_then(|object| object.get("value"))
        });
        bridge.request(now, 0, &topic, request, false);
        while let Some(call) = bridge.poll_call() {
            if let Method::SetValue(value) = &call.method {
                let wanted = written.flatten().expect("a write of what is there");
                assert!(same(value, wanted), "{topic} {value:?} is not {wanted}");
                assert!(levels(value) < 60, "no service can announce {value:?}");
            }
            frames::feed(
                &mut bridge,
                now,
                &frames::answer(&call, std::slice::from_ref(&device)),
            );
        }
        // And again by a client that wants to be told, wherever these bytes say.
        let respond_to = ResponseAddress {
            topic: String::from_utf8_lossy(head).into(),
            correlation: tail.into(),
            client: None,
        };
        bridge.request_from(now, 0, &topic, again, false, Some(respond_to));
        frames::answer_all(&mut bridge, now, std::slice::from_ref(&device));
    }
    while bridge.poll_publish(now, 0, &mut Answers) {}
}

/// What another reader makes of the bytes. It wants them without what a client may put around them.
fn reference(data: &[u8]) -> Option<Value> {
    let data = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    let end = |byte: &u8| !b"\0 \t\r\n".contains(byte);
    let end = data.iter().rposition(end).map_or(0, |last| last + 1);
    serde_json::from_slice(&data[..end]).ok()
}

/// The payload of a write, read by us and by the reference.
pub fn write_payload(reader: &mut RequestReader, data: &[u8]) {
    let topic = format!("W/{}/battery/0/Soc", frames::PORTAL);
    let found = reader.read(&topic, &mut data.to_vec(), &frames::portal());
    let reference = reference(data);
    write(data, &found.unwrap(), reference.as_ref());
}

/// A write is read as any other reader of JSON would (§5.6).
fn write(data: &[u8], found: &Result<Request<'_>, Rejection>, reference: Option<&Value>) {
    match (found, reference) {
        (Ok(Request::Write(_, value)), Some(reference)) => {
            let wanted = reference.get("value").expect("a value");
            assert!(equal(value, wanted), "{value:?} is not {wanted}");
        }
        (Ok(Request::Write(_, value)), None) => {
            panic!("{value:?} of {:?}", String::from_utf8_lossy(data))
        }
        (Err(rejection), Some(reference)) => {
            let right = match rejection {
                Rejection::NoObject => !reference.is_object(),
                Rejection::NoValue => reference.get("value").is_none(),
                Rejection::TooLarge { .. } => data.len() > 65_536,
                Rejection::TooDeep { .. } => depth(reference) >= JSON_DEPTH_MAX,
                // An integer beyond 64 bits is a double elsewhere.
                Rejection::NoJson | Rejection::Number => has_integral_float(reference),
                _ => false,
            };
            assert!(right, "{rejection} of {:?}", String::from_utf8_lossy(data));
        }
        (Err(_), None) => {}
        (Ok(_), _) => panic!("no write"),
    }
}

/// §5.3 and §5.4, as they are written.
fn keep_alive(found: &Result<Request<'_>, Rejection>, reference: Option<&Value>) {
    let Ok(Request::KeepAlive(found)) = found else {
        panic!("a keep-alive is never refused")
    };
    let understood = reference.filter(|value| depth(value) < 16 && !has_integral_float(value));
    let Some(reference) = understood else { return };
    let texts: Vec<_> = match reference {
        Value::Array(elements) => elements.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    match found {
        KeepAlive::Selective(filters) => {
            let filters: Vec<_> = filters.iter().map(|filter| &**filter).collect();
            assert_eq!(filters, texts);
        }
        KeepAlive::Full {
            echo,
            suppress_republish,
        } => {
            assert!(texts.is_empty(), "{reference}");
            let options = reference.get("keepalive-options");
            let options = options.and_then(Value::as_array).into_iter().flatten();
            let suppress = options.clone().any(|option| option == "suppress-republish");
            assert_eq!(*suppress_republish, suppress);
            let mut echoes = options.filter_map(|option| option.get("full-publish-completed-echo"));
            let last = echoes.rfind(|echo| !echo.is_array() && !echo.is_object());
            let read = echo
                .as_ref()
                .map(|echo| serde_json::from_str::<Value>(echo).unwrap());
            assert_eq!(read.as_ref(), last);
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn has_integral_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().unwrap().fract() == 0.0,
        Value::Array(elements) => elements.iter().any(has_integral_float),
        Value::Object(members) => members.values().any(has_integral_float),
        _ => false,
    }
}

fn equal(found: &Json, wanted: &Value) -> bool {
    match (found, wanted) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(found), Value::Bool(wanted)) => found == wanted,
        (Json::Int(found), Value::Number(wanted)) => {
            // Minus zero is a double elsewhere.
            wanted.as_i64() == Some(*found) || (*found == 0 && wanted.as_f64() == Some(0.0))
        }
        (Json::Uint(found), Value::Number(wanted)) => wanted.as_u64() == Some(*found),
        (Json::Float(found), Value::Number(wanted)) => wanted.as_f64() == Some(*found),
        (Json::Text(found), Value::String(wanted)) => **found == **wanted,
        (Json::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| equal(f, w))
        }
        (Json::Object(found), Value::Object(wanted)) => {
            // Of members of one name, the last counts.
            wanted.iter().all(|(key, wanted)| {
                let found = found.iter().rev().find(|(name, _)| **name == **key);
                found.is_some_and(|(_, found)| equal(found, wanted))
            }) && found.iter().all(|(name, _)| wanted.contains_key(&**name))
        }
        _ => false,
    }
}

/// How deep the message would be that has the value: each array, dict entry and variant is a level.
fn levels(value: &BusValue) -> usize {
    match value {
        BusValue::Array(_, all) => 1 + all.iter().map(levels).max().unwrap_or_default(),
        BusValue::Dict(all) => {
            3 + (all.iter().map(|(_, value)| levels(value)).max()).unwrap_or_default()
        }
        BusValue::Variant(inner) => 1 + levels(inner),
        _ => 0,
    }
}

/// Whether a service is sent what the client wrote, without loss (§3, "Back").
fn same(found: &BusValue, wanted: &Value) -> bool {
    let integer = |found: i128| match wanted {
        // Yes and no for a number.
        Value::Bool(wanted) => i128::from(*wanted) == found,
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(wanted), _) => i128::from(wanted) == found,
            (_, Some(wanted)) => i128::from(wanted) == found,
            #[allow(clippy::cast_possible_truncation)] // a whole one, and small
            _ => number.as_f64().is_some_and(|wanted| {
                wanted.fract() == 0.0 && wanted.abs() <= 2_f64.powi(53) && wanted as i128 == found
            }),
        },
        _ => false,
    };
    match found {
        BusValue::Bool(found) => {
            wanted.as_bool() == Some(*found) || integer(i128::from(u8::from(*found)))
        }
        BusValue::U8(found) => integer((*found).into()),
        BusValue::I16(found) => integer((*found).into()),
        BusValue::U16(found) => integer((*found).into()),
        BusValue::I32(found) => integer((*found).into()),
        BusValue::U32(found) => integer((*found).into()),
        BusValue::I64(found) => integer((*found).into()),
        BusValue::U64(found) => integer((*found).into()),
        #[allow(clippy::cast_possible_truncation)] // a whole one
        BusValue::Double(found) => {
            let exact = wanted.is_f64() && wanted.as_f64() == Some(*found);
            exact || (found.fract() == 0.0 && integer(*found as i128))
        }
        // D-Bus has no NUL in texts. A number for a text goes as its text.
        BusValue::Text(found) | BusValue::ObjectPath(found) => match wanted {
            Value::String(wanted) => **found == **wanted && !found.contains('\0'),
            Value::Number(wanted) if wanted.is_f64() => {
                found.parse() == Ok(wanted.as_f64().unwrap())
            }
            Value::Number(wanted) => **found == wanted.to_string(),
            _ => false,
        },
        BusValue::Array(_, found) => match wanted {
            Value::Array(wanted) => {
                found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| same(f, w))
            }
            Value::Null => found.is_empty(),
            _ => false,
        },
        BusValue::Dict(found) => {
            // A dict has no key twice.
            let mut keys: Vec<_> = found.iter().map(|(key, _)| key).collect();
            keys.sort();
            let differ = keys.windows(2).all(|pair| pair[0] != pair[1]);
            let Value::Object(wanted) = wanted else {
                return false;
            };
            differ
                && found.iter().all(|(key, found)| {
                    let mut members = wanted.iter();
                    members.any(|(name, wanted)| **name == **key && same(found, wanted))
                })
                && wanted
                    .keys()
                    .all(|name| found.iter().any(|(key, _)| **key == **name))
        }
        BusValue::Variant(found) => same(found, wanted),
    }
}

/// Sees to it that what clients are told is JSON, and told where nobody else listens.
struct Answers;

impl PublishSink for Answers {
    fn publish(&mut self, _: bool, _: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        payload(&mut out);
        assert!(out.is_empty() || serde_json::from_slice::<Value>(&out).is_ok());
    }

    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        assert!(!to.topic.is_empty() && !to.topic.contains(['+', '#', '\0']));
        assert!(
            !["N/", "R/", "W/", "$"]
                .iter()
                .any(|start| to.topic.starts_with(start))
        );
        assert!(!topic::is_reserved(&to.topic) && !to.topic.contains("/$"));
        let mut out = Vec::new();
        payload(&mut out);
        let told: Value = serde_json::from_slice(&out).unwrap();
        assert!(
            told["status"] == "ok" || told["error"].is_string(),
            "{told}"
        );
    }
}
