//! Requests of somebody who may do less than he wants (§4.7, §8): whatever a topic or a filter looks
//! like, what is blocked, secret or denied is neither read, written nor published; with both versions
//! of MQTT, and from a broker that lets everything through.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::support::bridge::Bridge;
use crate::support::bus::Bus;
use crate::support::client::packet;
use crate::support::fake_broker::{FakeBroker, Manner, PUBLISH, Packet, publish, respond_to};
use crate::support::peer::Peer;
use crate::support::rig::{ONLINE, PORTAL, n, r, value, w};
use crate::support::service::{Service, VEBUS, battery, vebus};
use crate::support::wire::{V, s};
use crate::support::{PATIENCE, in_parallel, poll};

const SETTINGS: &str = "com.victronenergy.settings";
/// In every value that nobody may see.
const CANARY: &str = "canary";
const BLOCKED: &str = "/Interfaces/Mk2/Tunnel";
const DENIED: &str = "/Settings/Denied";
const SECRET: &str = "/Settings/Services/AccessPointPassword";

/// What no spelling may reach: the device in topics, and the path.
const TARGETS: [(&str, &str); 3] = [
    ("vebus/257", BLOCKED),
    ("vebus/257", DENIED),
    ("settings/0", SECRET),
];

struct Rig {
    vebus: Peer,
    settings: Peer,
    battery: Peer,
    fake: FakeBroker,
    bridge: Bridge,
    level: u8,
    _bus: Bus,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn start(level: u8, access: &str) -> Option<Rig> {
        let bus = Bus::start()?;
        let vebus = bus.serve(
            vebus()
                .item(BLOCKED, s("canary-blocked"))
                .item("/Interfaces/Mk2/Version", V::I(1))
                .item(DENIED, s("canary-denied"))
                .item("/Settings/Allowed", V::I(6)),
        );
        let settings = bus.serve(
            Service::new(SETTINGS)
                .item(SECRET, s("canary-secret"))
                .item("/Settings/Services/Console", V::I(0)),
        );
        let battery = bus.serve(battery());
        let fake = FakeBroker::start(Manner::Good);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        let version = if level == 5 { "5" } else { "3" };
        let text = format!(
            "dbus = '{}'\nportal-id = '{PORTAL}'\n[[broker]]\nserver = '{}'\nmqtt-version = {version}\n\
             keep-alive = 0\naccess = '{access}'\npublish-deny = ['+/+{DENIED}']\n\
             read-deny = ['+/+{DENIED}']\nwrite-deny = ['+/+{DENIED}', 'settings/+{SECRET}']\n",
            bus.address(),
            fake.address,
        );
        std::fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let bridge = bus.scanned_by(|| {
            let bridge = Bridge::spawn(&["--config", &file]);
            fake.wait_published(0, &n("bridge/status"), ONLINE);
            bridge
        });
        Some(Rig {
            vebus,
            settings,
            battery,
            fake,
            bridge,
            level,
            _bus: bus,
            _folder: folder,
        })
    }

    /// Sends a request; one that wants an answer where MQTT knows that.
    fn request(&self, topic: &str, payload: &str) {
        let properties = respond_to("answers/here", b"c");
        self.fake.publish_with(topic, &properties, payload);
    }

    /// Every request before has been dealt with.
    fn fence(&self) {
        let mark = self.fake.packets().len();
        self.fake.publish(&r("battery/258/Soc"), "");
        self.fake
            .wait_published(mark, &n("battery/258/Soc"), &value("87.5"));
    }

    /// What was called of this method, over all services.
    fn called(&self, member: &str) -> BTreeSet<String> {
        let peers = [&self.vebus, &self.settings, &self.battery];
        let calls = peers.into_iter().flat_map(Peer::calls);
        calls
            .filter(|call| call.member == member)
            .map(|call| call.path)
            .collect()
    }

    /// That nothing of it has come to the broker, in a topic or in a payload.
    fn assert_nothing_told(&self, what: &str) {
        for packet in self.fake.packets() {
            let text = String::from_utf8_lossy(&packet.body).into_owned();
            assert!(!text.contains(CANARY), "{what}: {text:?}");
            let published = packet.published().map(|(topic, ..)| topic);
            let topic = published.unwrap_or_default();
            assert!(
                !topic.starts_with("N/") || !(topic.ends_with(BLOCKED) || topic.ends_with(DENIED)),
                "{what}: {topic}"
            );
        }
    }
}

/// A topic in all the spellings that might be taken for it, itself first.
fn spellings(device: &str, path: &str) -> Vec<String> {
    let (kind, instance) = device.split_once('/').unwrap();
    let plain = format!("{device}{path}");
    let encoded = plain.replace('/', "%2F");
    let last = path.rsplit('/').next().unwrap();
    let node = path.strip_suffix(last).unwrap();
    let hex = path.bytes().fold(String::new(), |mut all, byte| {
        write!(all, "%{byte:02x}").unwrap();
        all
    });
    let long = "x".repeat(60_000);
    let mut all = vec![
        plain.clone(),
        encoded.clone(),
        encoded.replace("%2F", "%2f"),
        encoded.replace("%2F", "%252F"),
        encoded.replace("%2F", "\\"),
        encoded.replace("%2F", "\u{2215}"), // looks like a slash
        encoded.replace("%2F", "\u{ff0f}"),
        encoded.replace("%2F", "//"),
        format!("{device}/{hex}"),
        format!("{device}{}", hex.replacen("%2f", "/", 1)),
        // empty levels and dots
        format!("/{plain}"),
        format!("//{plain}"),
        format!("{plain}/"),
        format!("{plain}//"),
        format!("{plain}/."),
        format!("{plain}/.."),
        format!("{device}/{path}"),
        format!("{device}/.{path}"),
        format!("{device}/..{path}"),
        format!("{device}/x/..{path}"),
        format!("{device}{node}./{last}"),
        format!("{device}{node}x/../{last}"),
        format!("../{PORTAL}/{plain}"),
        format!("{kind}/{instance}/../{instance}{path}"),
        format!("../../W/{PORTAL}/{plain}"),
        // case
        plain.to_lowercase(),
        plain.to_uppercase(),
        format!("{}/{instance}{path}", kind.to_uppercase()),
        // other ways to write the instance
        format!("{kind}/0{instance}{path}"),
        format!("{kind}/+{instance}{path}"),
        format!("{kind}/{instance}.0{path}"),
        format!("{kind}/0x{instance}{path}"),
        format!("{kind}/ {instance}{path}"),
        format!("{kind}//{instance}{path}"),
        format!("com.victronenergy.{kind}/{instance}{path}"),
        format!("{kind}.ttyO1/{instance}{path}"),
        // characters that are not seen
        format!("{plain}\u{200b}"),
        format!("\u{feff}{plain}"),
        format!("{device}\u{feff}{path}"),
        format!("{plain}\u{202e}"),
        format!("{plain}\r\n"),
        format!("{plain} "),
        format!("{plain}\t"),
        format!("{plain}\u{301}"),
        // prefix tricks
        format!("{plain}2"),
        format!("{}", &plain[..plain.len() - 1]),
        format!("{PORTAL}/{plain}"),
        format!("R/{PORTAL}/{plain}"),
        format!("W/{PORTAL}/{plain}"),
        format!("N/{PORTAL}/{plain}"),
        format!("keepalive/{plain}"),
        // wildcards, which only subscriptions may have
        format!("{kind}/+{path}"),
        format!("+/{instance}{path}"),
        format!("{device}{node}+"),
        format!("{device}{node}#"),
        format!("{device}/#"),
        format!("#/{plain}"),
        format!("$SYS/{plain}"),
        format!("$share/group/{plain}"),
        // too long
        format!("{plain}/{long}"),
        format!("{long}/{plain}"),
    ];
    all.dedup();
    all
}

/// Those that MQTT lets a client publish on.
fn topics(device: &str, path: &str) -> Vec<String> {
    let mut all = spellings(device, path);
    all.retain(|topic| !topic.contains(['+', '#']));
    all
}

/// Filters for a selective keep-alive that would show what nobody may see.
fn filters(device: &str, path: &str) -> Vec<String> {
    let (kind, instance) = device.split_once('/').unwrap();
    let mut all = spellings(device, path);
    all.retain(|filter| filter.len() < 10_000);
    all.extend([
        "#".into(),
        "+/#".into(),
        "+/+/#".into(),
        format!("+/+{path}"),
        format!("{kind}/+{path}/#"),
        format!("{kind}/{instance}/#"),
        "$SYS/#".into(),
        "../#".into(),
        "vebus/#/Tunnel".into(),
        "vebus+/257/Settings".into(),
        "\u{0}".into(),
        String::new(),
        "/".into(),
        "////".into(),
    ]);
    all
}

fn write_and_read_in_every_spelling(level: u8) {
    let Some(rig) = Rig::start(level, "full") else {
        return;
    };
    rig.fence();
    // What may be asked for by name, so that the spellings are the only difference.
    rig.request(&w("vebus/257/Settings/Allowed"), r#"{"value": 7}"#);
    rig.request(&r("vebus/257/Settings/Allowed"), "");
    for (device, path) in TARGETS {
        for topic in topics(device, path) {
            rig.request(&w(&topic), r#"{"value": "written"}"#);
            // A secret may be asked for: it is masked.
            rig.request(&r(&topic), "");
        }
        // The nodes above give what is beside it.
        let mut node = path;
        while let Some((above, _)) = node.rsplit_once('/') {
            rig.request(&r(&format!("{device}{above}")), "");
            rig.request(&w(&format!("{device}{above}")), r#"{"value": "written"}"#);
            rig.request(&r(&format!("{device}{above}/")), "");
            node = above;
        }
        rig.fence();
        rig.assert_nothing_told(path);
    }
    // Requests for another, or for one that only looks like ours.
    for portal in [
        "",
        "E0FF50A097C0",
        "e0ff50a097c",
        "e0ff50a097c01",
        " e0ff50a097c0",
        "e0ff50a097c0%2F",
        "\u{feff}e0ff50a097c0",
    ] {
        for kind in ["R", "W", "r", "w", "/W", "W/", "N"] {
            let topic = format!("{kind}/{portal}/vebus/257/Settings/Allowed");
            rig.request(&topic, r#"{"value": 9}"#);
        }
    }
    rig.fence();
    let written = rig.called("SetValue");
    let allowed: BTreeSet<String> = ["/Settings/Allowed".to_owned()].into();
    // A path that is merely close to another is one of its own; those are the service's to refuse.
    let reached: Vec<&String> = written
        .iter()
        .filter(|path| [BLOCKED, DENIED, SECRET].contains(&path.as_str()))
        .collect();
    assert_eq!(reached, [""; 0]);
    assert!(written.is_superset(&allowed), "{written:?}");
    assert_eq!(rig.vebus.writes("/Settings/Allowed"), [V::I(7)]);
    for path in [BLOCKED, DENIED] {
        assert!(
            !rig.called("GetValue").contains(path),
            "{path} was asked for"
        );
    }
    rig.assert_nothing_told("at the end");
    let masked = rig.fake.published();
    let masked = masked
        .iter()
        .any(|(topic, payload, _)| topic.ends_with(SECRET) && *payload == value("\"******\""));
    assert!(masked, "the secret is there, masked");
}

#[test]
fn s8_no_spelling_of_a_topic_gets_around_the_lists() {
    write_and_read_in_every_spelling(4);
}

#[test]
fn s8_no_spelling_of_a_topic_gets_around_the_lists_with_mqtt_5() {
    write_and_read_in_every_spelling(5);
}

#[test]
fn s8_no_filter_of_a_keep_alive_shows_what_is_hidden() {
    for level in [4, 5] {
        let Some(rig) = Rig::start(level, "full") else {
            return;
        };
        rig.fence();
        for (device, path) in TARGETS {
            for filter in filters(device, path) {
                let mut payload = String::from("[");
                payload.push_str(&serde_json::Value::from(filter).to_string());
                payload.push(']');
                rig.request(&r("keepalive"), &payload);
            }
            for payload in ["[null, 5, {}]", "[[\"#\"]]", "[\"#\"", "{\"#\": 1}"] {
                rig.request(&r("keepalive"), payload);
            }
            rig.fence();
        }
        // What changes now would come, were it to be seen.
        let mark = rig.fake.packets().len();
        rig.vebus.update(VEBUS, BLOCKED, s("canary-blocked-2"));
        rig.vebus.update(VEBUS, DENIED, s("canary-denied-2"));
        rig.settings.update(SETTINGS, SECRET, s("canary-secret-2"));
        rig.vebus.update(VEBUS, "/Settings/Allowed", V::I(8));
        rig.fake
            .wait_published(mark, &n("vebus/257/Settings/Allowed"), &value("8"));
        rig.request(&r("keepalive"), "");
        rig.fake.wait_completed(mark);
        rig.fence();
        rig.assert_nothing_told("filters");
    }
}

#[test]
fn s8_read_only_is_read_only_in_every_spelling() {
    for level in [4, 5] {
        let Some(rig) = Rig::start(level, "read-only") else {
            return;
        };
        rig.fence();
        for (device, path) in [("vebus/257", "/Mode"), ("settings/0", SECRET)] {
            for topic in topics(device, path) {
                rig.request(&w(&topic), r#"{"value": 1}"#);
                rig.request(&format!("W//{PORTAL}/{topic}"), r#"{"value": 1}"#);
            }
        }
        rig.fence();
        assert_eq!(rig.called("SetValue"), BTreeSet::new());
    }
}

/// Sends bytes where a topic belongs, to a bridge of its own: it may well end that connection.
fn send_as_topic(level: u8, topic: &[u8]) {
    let Some(mut rig) = Rig::start(level, "full") else {
        return;
    };
    rig.fence();
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend(topic);
    if rig.level == 5 {
        body.push(0);
    }
    body.extend(br#"{"value": "written"}"#);
    let before = rig.fake.packets().len();
    rig.fake.send(&packet(PUBLISH, &body));
    // It goes on, or begins anew where the broker cannot be trusted any more. The one or the other
    // answers this.
    let ask = publish(level, &r("battery/258/Soc"), &[], b"");
    poll("the bridge to answer", PATIENCE, || {
        rig.bridge.assert_alive();
        rig.fake.try_send(&ask).ok();
        std::thread::sleep(std::time::Duration::from_millis(100));
        let packets = rig.fake.packets();
        let mut told = packets[before..].iter().filter_map(Packet::published);
        told.any(|(topic, ..)| topic == n("battery/258/Soc"))
            .then_some(())
    });
    assert_eq!(rig.called("SetValue"), BTreeSet::new());
    rig.assert_nothing_told("bytes");
}

#[test]
fn s8_topics_that_no_broker_lets_through_write_nothing() {
    // Not UTF-8, with NUL, with wildcards, and none at all.
    let plain = w(&format!("vebus/257{DENIED}"));
    let plain = plain.as_bytes();
    let mut topics: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\xff\xfe".to_vec(),
        [plain, b"\0"].concat(),
        [b"\0", plain].concat(),
        [plain, b"\xc0\xaf"].concat(), // an overlong slash
        [
            b"W/",
            PORTAL.as_bytes(),
            b"\xc0\xafvebus/257/Settings/Denied",
        ]
        .concat(),
        [plain, b"\xed\xa0\x80"].concat(), // half a surrogate pair
        [plain, b"\xf4\x90\x80\x80"].concat(), // beyond Unicode
    ];
    let wildcards = spellings("vebus/257", DENIED);
    let wildcards = wildcards.iter().filter(|topic| topic.contains(['+', '#']));
    topics.extend(wildcards.map(|topic| w(topic).into_bytes()));
    topics.push(b"W/+/vebus/257/Settings/Denied".to_vec());
    topics.push(b"W/#".to_vec());
    topics.push(b"#".to_vec());
    assert!(topics.len() > 15);
    let cases = topics.iter().flat_map(|topic| [(4, topic), (5, topic)]);
    let cases: Vec<(u8, &Vec<u8>)> = cases.collect();
    for some in cases.chunks(6) {
        in_parallel(some, |(level, topic)| send_as_topic(*level, topic));
    }
}
