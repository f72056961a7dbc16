//! Bytes that no service should send and no real bus would hand on: bodies that are not what they claim,
//! headers that lack what they need, streams that cannot be cut into messages.

use std::time::Duration;

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::fake_bus::FakeBus;
use crate::support::rig::{PORTAL, n, value};
use crate::support::service::{BUS_ITEM, battery, items_changed, properties_changed};
use crate::support::wire::{Message, V, Writer, array, s, vardict, variant};

const SOC: &str = "battery/258/Soc";

/// A bridge on a bus that lets everything through, with a battery on it.
struct Lab {
    bus: FakeBus,
    bridge: Bridge,
    client: Client,
    _broker: Broker,
    count: f64,
}

impl Lab {
    fn start() -> Option<Lab> {
        let broker = Broker::start()?;
        let client = broker.listener();
        let bus = FakeBus::start(vec![battery()]);
        let (address, server) = (bus.address(), format!("127.0.0.1:{}", broker.port));
        let bridge = Bridge::spawn(&[
            "--dbus",
            &address,
            "--mqtt-server",
            &server,
            "--portal-id",
            PORTAL,
            "--keep-alive",
            "0",
        ]);
        client.expect(0, &n(SOC), &value("87.5"));
        Some(Lab {
            bus,
            bridge,
            client,
            _broker: broker,
            count: 0.0,
        })
    }

    /// Sends a good signal until it is published: at once where the connection stands, after the next
    /// scan where it had to be given up.
    fn assert_goes_on(&mut self, what: &str) {
        self.count += 1.0;
        let (count, expected) = (self.count, value(&format!("{:.1}", self.count)));
        let mark = self.client.mark();
        crate::support::poll(
            &format!("a value after {what}"),
            crate::support::PATIENCE,
            || {
                self.bus.send(properties_changed("/Soc", V::D(count)));
                std::thread::sleep(Duration::from_millis(20));
                self.client
                    .payloads(mark, &n(SOC))
                    .contains(&expected)
                    .then_some(())
            },
        );
        self.bridge.assert_alive();
    }
}

/// The body of a good `PropertiesChanged`: one value, -1.0. The key's length is at 8, the key at 12, the
/// signature at 18, the value at 24.
fn good_body() -> Vec<u8> {
    properties_changed("/Soc", V::D(-1.0))
        .with(&[vardict([("Value", V::D(-1.0))])])
        .body
}

/// Bodies that claim to be `a{sv}` and are not.
fn spoilt_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let edit = |at: usize, bytes: &[u8]| {
        let mut body = good_body();
        body[at..at + bytes.len()].copy_from_slice(bytes);
        body
    };
    let of = |v: V| {
        properties_changed("/Soc", v.clone())
            .with(&[vardict([("Value", v)])])
            .body
    };
    let mut text = of(s("abc"));
    text[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut boolean = of(V::U(2));
    boolean[19] = b'b';
    let nested = (0..100).fold(V::I(7), |inner, _| variant(inner));
    let arrays = (0..60).fold(V::I(7), |inner, _| array(&inner.signature(), [inner]));
    vec![
        ("nothing", Vec::new()),
        ("half an array length", good_body()[..2].to_vec()),
        (
            "an array longer than the body",
            edit(0, &1_000_u32.to_le_bytes()),
        ),
        (
            "an array that ends in its first entry",
            edit(0, &3_u32.to_le_bytes()),
        ),
        (
            "an array longer than allowed",
            edit(0, &0x0400_0001_u32.to_le_bytes()),
        ),
        (
            "an array longer than memory",
            edit(0, &u32::MAX.to_le_bytes()),
        ),
        (
            "a key longer than the body",
            edit(8, &100_u32.to_le_bytes()),
        ),
        ("a key longer than memory", edit(8, &u32::MAX.to_le_bytes())),
        ("a key that is no UTF-8", edit(12, b"\xff")),
        ("a key without its NUL", edit(17, b"x")),
        ("an unknown type", edit(19, b"z")),
        ("an array of nothing", edit(19, b"a")),
        ("a struct that does not end", edit(19, b"(")),
        ("a dict entry outside an array", edit(19, b"{")),
        ("a signature without its NUL", edit(20, b"d")),
        ("a signature longer than the body", edit(18, &[200])),
        ("half a double", good_body()[..28].to_vec()),
        ("a text longer than memory", text),
        ("a boolean that is 2", boolean),
        ("a hundred variants", of(nested)),
        ("sixty arrays", of(arrays)),
    ]
}

#[test]
fn bodies_that_are_not_what_they_claim_are_dropped() {
    // Every length, signature and text is checked; the connection stands, and the sender is named.
    let Some(mut lab) = Lab::start() else { return };
    let mark = lab.client.mark();
    for (what, body) in spoilt_bodies() {
        let signal =
            Message::signal("/Soc", BUS_ITEM, "PropertiesChanged").with_raw("a{sv}", &body);
        lab.bus.send(signal);
        lab.assert_goes_on(what);
    }
    assert_eq!(lab.bus.connections(), 1, "the connection stands");
    let published = lab.client.payloads(mark, &n(SOC));
    let good = |payload: &String| {
        let number = payload
            .trim_start_matches("{\"value\": ")
            .trim_end_matches(".0}");
        number.parse::<u32>().is_ok_and(|number| number > 0)
    };
    assert!(published.iter().all(good), "{published:?}");
    lab.bridge.wait_log(&["battery"]);
}

#[test]
fn the_bodies_of_items_changed_are_checked_as_well() {
    // What stands before the damage may be taken or not; what stands after it must not be invented.
    let Some(mut lab) = Lab::start() else { return };
    let good = items_changed([("/A", V::I(1)), ("/B", s("text")), ("/C", V::D(2.5))]).body;
    for cut in (0..good.len()).step_by(3) {
        let signal =
            Message::signal("/", BUS_ITEM, "ItemsChanged").with_raw("a{sa{sv}}", &good[..cut]);
        lab.bus.send(signal);
    }
    lab.assert_goes_on("cut bodies");
    for at in 0..good.len() {
        let mut body = good.clone();
        body[at] ^= 0xA5;
        lab.bus
            .send(Message::signal("/", BUS_ITEM, "ItemsChanged").with_raw("a{sa{sv}}", &body));
    }
    lab.assert_goes_on("bodies with a wrong byte each");
    assert_eq!(lab.bus.connections(), 1, "the connection stands");
}

#[test]
fn scan_replies_that_are_not_what_they_claim_are_reported() {
    // The scan fails, with the service's name, and is tried again.
    let good = items_changed([("/Soc", V::D(1.0))]).body;
    let mut wrong_text = good.clone();
    wrong_text[12] = 0xFF;
    for body in [
        Vec::new(),
        good[..good.len() - 5].to_vec(),
        vec![0xFF; 64],
        wrong_text,
    ] {
        let Some(broker) = Broker::start() else {
            return;
        };
        let client = broker.listener();
        let bus = FakeBus::start(vec![battery()]);
        bus.reply_raw("GetItems", "a{sa{sv}}", &body);
        bus.reply_raw("GetValue", "v", &body);
        bus.reply_raw("Introspect", "s", &body);
        let (address, server) = (bus.address(), format!("127.0.0.1:{}", broker.port));
        let mut bridge = Bridge::spawn(&[
            "--dbus",
            &address,
            "--mqtt-server",
            &server,
            "--portal-id",
            PORTAL,
            "--keep-alive",
            "0",
        ]);
        client.wait(0, "the bridge", |message| {
            message.topic == n("bridge/status")
        });
        bus.wait_calls("GetItems", 2);
        bridge.wait_log(&["battery"]);
        bridge.assert_alive();
    }
}

#[test]
fn a_signal_in_single_bytes_is_one_signal() {
    // However the stream is cut, the messages are the same.
    let Some(mut lab) = Lab::start() else { return };
    let mark = lab.client.mark();
    let bytes = lab.bus.bytes_of(properties_changed("/Soc", V::D(-7.0)));
    for byte in bytes {
        lab.bus.send_bytes(&[byte]);
    }
    lab.client.expect(mark, &n(SOC), &value("-7.0"));
    // And many in one write, the last one cut in two.
    let mut bytes: Vec<u8> = Vec::new();
    for number in 0..500 {
        bytes.extend(lab.bus.bytes_of(properties_changed("/Many", V::I(number))));
    }
    let (front, back) = bytes.split_at(bytes.len() - 5);
    lab.bus.send_bytes(front);
    lab.bus.send_bytes(back);
    lab.client
        .expect(mark, &n("battery/258/Many"), &value("499"));
    lab.assert_goes_on("a cut stream");
    assert_eq!(lab.bus.connections(), 1);
}

#[test]
fn a_message_that_is_legal_but_huge_is_thrown_away() {
    // Forty megabytes in one value: reported, and the connection stands.
    let Some(mut lab) = Lab::start() else { return };
    let text = "x".repeat(40 << 20);
    lab.bus.send(properties_changed("/Huge", s(&text)));
    lab.assert_goes_on("a huge message");
    assert_eq!(lab.bus.connections(), 1);
    assert!(
        lab.client
            .since(0)
            .iter()
            .all(|message| !message.topic.ends_with("/Huge"))
    );
    assert!(
        lab.bridge.peak_kib() < 200 * 1024,
        "{} KiB",
        lab.bridge.peak_kib()
    );
}

#[test]
fn header_fields_that_nobody_knows_are_skipped() {
    // The specification keeps them for the future.
    let Some(mut lab) = Lab::start() else { return };
    let body = properties_changed("/Soc", V::D(-3.0)).body;
    let mut out = Writer::default();
    out.bytes.extend_from_slice(&[b'l', 4, 1, 1]);
    out.u32(u32::try_from(body.len()).unwrap());
    out.u32(9_999);
    let field = |code: u8, v: V| V::Struct(vec![V::Y(code), variant(v)]);
    out.value(&array(
        "(yv)",
        [
            field(200, vardict([("new", V::T(1))])),
            field(1, V::O("/Soc".into())),
            field(2, s(BUS_ITEM)),
            field(77, array("(ii)", [])),
            field(3, s("PropertiesChanged")),
            field(7, s(crate::support::fake_bus::OWNER)),
            field(8, V::G("a{sv}".into())),
        ],
    ));
    out.align(8);
    out.bytes.extend_from_slice(&body);
    let mark = lab.client.mark();
    lab.bus.send_bytes(&out.bytes);
    lab.client.expect(mark, &n(SOC), &value("-3.0"));
    lab.assert_goes_on("new header fields");
}

#[test]
fn headers_that_lack_what_a_signal_needs_harm_nobody() {
    // No path, no interface, no member, no sender, a sender that nobody is.
    let Some(mut lab) = Lab::start() else { return };
    let good = properties_changed("/Soc", V::D(-1.0));
    let owner = crate::support::fake_bus::OWNER.to_owned();
    for spoilt in [
        Message {
            path: String::new(),
            sender: owner.clone(),
            ..good.clone()
        },
        Message {
            interface: String::new(),
            sender: owner.clone(),
            ..good.clone()
        },
        Message {
            member: String::new(),
            sender: owner.clone(),
            ..good.clone()
        },
        Message {
            signature: String::new(),
            sender: owner,
            ..good.clone()
        },
        Message {
            sender: String::new(),
            ..good.clone()
        },
        Message {
            sender: ":1.999".into(),
            ..good.clone()
        },
        Message {
            sender: "not a name".into(),
            ..good
        },
    ] {
        let what = format!("{spoilt:?}");
        lab.bus.send_bytes(
            &Message {
                serial: 8_000,
                ..spoilt
            }
            .encode(),
        );
        lab.assert_goes_on(&what);
    }
}

#[test]
fn a_message_beyond_the_limit_is_thrown_away_and_the_stream_goes_on() {
    // 33 MiB, allowed by D-Bus but not by us: not kept, not waited for, and what follows is read.
    let Some(mut lab) = Lab::start() else { return };
    let before = lab.bus.connections();
    let body = 33 << 20;
    let mut bytes = vec![b'l', 4, 1, 1];
    for number in [body, 1, 0_u32] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.resize(bytes.len() + body as usize, 0);
    lab.bus.send_bytes(&bytes);
    lab.assert_goes_on("a message of 33 MiB");
    assert_eq!(lab.bus.connections(), before);
    assert!(
        lab.bridge.peak_kib() < 64 * 1024,
        "{} KiB",
        lab.bridge.peak_kib()
    );
}

#[test]
fn a_stream_that_cannot_be_cut_into_messages_is_given_up_and_opened_anew() {
    // Where the length itself is nonsense, only a new connection helps; it is made, and all is scanned again.
    let Some(mut lab) = Lab::start() else { return };
    let head = |endian: u8, version: u8, body: u32, fields: u32| {
        let mut bytes = vec![endian, 4, 1, version];
        for number in [body, 1, fields] {
            bytes.extend(number.to_le_bytes());
        }
        bytes
    };
    for (what, bytes) in [
        ("an unknown byte order", head(b'x', 1, 0, 0)),
        ("an unknown version", head(b'l', 9, 0, 0)),
        ("a body of two gigabytes", head(b'l', 1, 0x7FFF_FFFF, 16)),
        ("a header longer than memory", head(b'l', 1, 0, u32::MAX)),
        (
            "lengths that wrap around",
            head(b'l', 1, u32::MAX - 7, u32::MAX - 7),
        ),
    ] {
        let before = lab.bus.connections();
        lab.bus.send_bytes(&bytes);
        lab.bus.wait_connections(before + 1);
        lab.assert_goes_on(what);
    }
    assert!(
        lab.bridge.peak_kib() < 200 * 1024,
        "{} KiB",
        lab.bridge.peak_kib()
    );
}
