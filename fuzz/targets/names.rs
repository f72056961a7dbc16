//! Names of anybody's making: of services, devices and paths. Whatever they are, no topic comes of them
//! that a broker throws the connection away for (§4.7), and nothing that a terminal obeys (§5.9).

use dbus_mqtt::bridge::{Bridge, PublishSink};
use dbus_mqtt::codec::payload as json;
use dbus_mqtt::model::name::ServiceName;
use dbus_mqtt::model::outside::{self, Outside};

use crate::frames;
use crate::frames::wire::{V, s};

/// A text, line by line: the bus name of a service, its `/Identifier`, and its paths. A path comes in
/// the scan's answer, and once more in a signal.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    shown(text);
    let mut lines = text.split('\n');
    let name = lines.next().unwrap_or_default();
    let identifier = lines.next().unwrap_or_default();
    let paths: Vec<&str> = lines.take(100).collect();
    let Some(_) = ServiceName::new(name) else {
        return;
    };
    let mut items = vec![("/Identifier".to_owned(), s(identifier))];
    items.extend(paths.iter().map(|path| ((*path).to_owned(), V::I(1))));
    let device = frames::Device {
        name: name.to_owned(),
        owner: ":1.42".into(),
        items,
        ..frames::Device::default()
    };
    let now = frames::now();
    let mut bridge = Bridge::new(frames::config(vec![frames::outlet(true, None)]));
    bridge.broker_connected(0);
    bridge.broker_ready(now, 0);
    bridge.bus_connected(now);
    frames::answer_all(&mut bridge, now, &[]);
    frames::feed(
        &mut bridge,
        now,
        &frames::name_owner_changed(name, "", ":1.42"),
    );
    let devices = [device];
    frames::answer_all(&mut bridge, now, &devices);
    while bridge.poll_publish(now, 0, &mut Strict) {}
    for path in &paths {
        let changed = frames::items_changed(":1.42", [(*path, V::I(2), "")]);
        frames::feed(&mut bridge, now, &changed);
    }
    frames::answer_all(&mut bridge, now, &devices);
    while bridge.poll_publish(now, 0, &mut Strict) {}
    let leaves = frames::name_owner_changed(name, ":1.42", "");
    frames::feed(&mut bridge, now, &leaves);
    while bridge.poll_publish(now, 0, &mut Strict) {}
}

/// A broker as strict as they come.
struct Strict;

impl PublishSink for Strict {
    fn publish(&mut self, _: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let topic = String::from_utf8(topic.concat()).unwrap();
        payload(&mut Vec::new());
        assert!(topic.len() <= 65_535, "{} bytes", topic.len());
        assert!(topic.split('/').count() <= 100, "{topic:?}");
        assert!(!topic.split('/').any(str::is_empty), "{topic:?}");
        for letter in topic.chars() {
            // Said anew here, not asked of the bridge: mosquitto 2.0 refuses all of these.
            let code = u32::from(letter);
            let refused = matches!(letter, '+' | '#')
                || code < 0x20
                || (0x7f..0xa0).contains(&code)
                || (0xfdd0..0xfdf0).contains(&code)
                || code % 0x1_0000 >= 0xfffe;
            assert!(!refused, "{topic:?}");
        }
    }
}

/// What a person sees of it is one line of plain characters; a program reads the same text again.
fn shown(text: &str) {
    let lines = [
        Outside::new(text).to_string(),
        Outside::error(text).to_string(),
        Outside::new(text).at_most(10).to_string(),
    ];
    for line in &lines {
        assert!(line.chars().all(is_harmless), "{line:?}");
    }
    // An escape has ten characters at most.
    assert!(lines[1].chars().count() <= 200 * 10 + 1);
    assert!(lines[2].chars().count() <= 10 * 10 + 1);
    let mut document = Vec::new();
    json::write_text(&mut document, text);
    let document = outside::json(std::str::from_utf8(&document).unwrap());
    assert!(document.chars().all(is_harmless), "{document:?}");
    let again: String = serde_json::from_str(&document).unwrap();
    assert_eq!(again, text);
}

fn is_harmless(letter: char) -> bool {
    let code = u32::from(letter);
    let obeyed = code < 0x20
        || (0x7f..0xa0).contains(&code)
        || matches!(code, 0x61c | 0x200e | 0x200f | 0x2028..=0x202e | 0x2066..=0x2069);
    !obeyed
}
