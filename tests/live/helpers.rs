//! The guards and fakes of the other live tests, against the real programs and each other: where one of
//! these fails, nothing else says much.

use std::process::Command;
use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::client::Client;
use crate::support::fake_broker::{Connect, FakeBroker, Manner};
use crate::support::fake_bus::FakeBus;
use crate::support::json::{double, json};
use crate::support::process::find;
use crate::support::service::{BUS_ITEM, Reply, Service};
use crate::support::wire::{ERROR, Message, SIGNAL, V, array, dict, invalid, s, vardict, variant};

const NAME: &str = "com.victronenergy.battery.ttyO0";

fn battery() -> Service {
    Service::device("battery", "ttyO0", 258)
        .item("/Dc/0/Voltage", V::D(51.96))
        .item("/Dc/0/Temperature", invalid())
        .ranged("/Soc", V::D(87.5), V::I(0), V::I(100))
}

#[test]
fn the_wire_format_survives_a_round_trip() {
    let values = [
        V::Y(200),
        V::B(true),
        V::N(-2),
        V::Q(65_535),
        V::I(-5),
        V::U(4_000_000_000),
        V::X(i64::MIN),
        V::T(u64::MAX),
        V::D(-0.0),
        s("a\u{e9}\"\\\n"),
        V::O("/a/b".into()),
        V::G("a{sv}".into()),
        invalid(),
        array(
            "(is)",
            [
                V::Struct(vec![V::I(1), s("x")]),
                V::Struct(vec![V::I(2), s("")]),
            ],
        ),
        dict("y", "t", [(V::Y(1), V::T(2)), (V::Y(3), V::T(4))]),
        variant(variant(vardict([
            ("a", V::Y(1)),
            ("b", array("x", [V::X(5)])),
        ]))),
    ];
    for big_endian in [false, true] {
        let mut message = Message {
            big_endian,
            ..Message::signal("/a", "b.c", "d")
        }
        .with(&values);
        message.serial = 77;
        message.sender = ":1.5".into();
        let read = Message::decode(&message.encode());
        assert_eq!(read, message);
        assert_eq!(read.args(), values);
    }
}

#[test]
fn doubles_are_laid_out_as_python_does_it() {
    // Python 3: json.dumps(x).
    for (value, text) in [
        (936.0, "936.0"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1e-7, "1e-07"),
        (0.0001, "0.0001"),
        (0.000_012_3, "1.23e-05"),
        (1e15, "1000000000000000.0"),
        (9_999_999_999_999_998.0, "9999999999999998.0"),
        (1e16, "1e+16"),
        (1.5e300, "1.5e+300"),
        (5e-324, "5e-324"),
        (123_456_789.125, "123456789.125"),
        (51.959_999_084_472_656, "51.959999084472656"),
    ] {
        assert_eq!(double(value), text);
    }
    let Some(python) = find("python3") else {
        return;
    };
    // Doubles of every size, by a simple generator; both ends see the bits.
    let mut bits: u64 = 0x9E37_79B9_7F4A_7C15;
    let values: Vec<f64> = std::iter::repeat_with(|| {
        bits = bits
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from_bits(bits)
    })
    .filter(|value| value.is_finite())
    .take(20_000)
    .chain((-30..30).flat_map(|exponent| [10f64.powi(exponent), 3.7 * 10f64.powi(exponent)]))
    .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("doubles");
    let lines: Vec<String> = values
        .iter()
        .map(|value| format!("{:016x}", value.to_bits()))
        .collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let program = "import json,struct,sys\nfor l in open(sys.argv[1]):\n \
                   print(json.dumps(struct.unpack('>d',bytes.fromhex(l.strip()))[0]))";
    let output = Command::new(python)
        .args(["-c", program])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().count(),
        values.len(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (value, line) in values.iter().zip(text.lines()) {
        assert_eq!(double(*value), line);
    }
}

#[test]
fn texts_and_containers_are_written_as_python_does_it() {
    assert_eq!(
        json(&s("\"\\/\u{1}\n\t\u{7f}\u{e9}")),
        "\"\\\"\\\\/\\u0001\\n\\t\u{7f}\u{e9}\""
    );
    assert_eq!(
        json(&array("ai", [invalid(), array("i", [V::I(1), V::I(2)])])),
        "[null, [1, 2]]"
    );
    assert_eq!(
        json(&dict("i", "v", [(V::I(1), variant(V::B(true)))])),
        "{\"1\": true}"
    );
}

#[test]
fn a_fake_service_answers_and_signals_over_a_real_bus() {
    let Some(bus) = Bus::start() else { return };
    let service = bus.serve(battery());
    let asker = bus.peer();
    asker.driver(
        "AddMatch",
        &[s("type='signal',interface='com.victronenergy.BusItem'")],
    );

    let ask = |path: &str, member: &str, args: &[V]| {
        asker.call(Message::call(NAME, path, BUS_ITEM, member).with(args))
    };
    assert_eq!(ask("/Soc", "GetValue", &[]).args(), [variant(V::D(87.5))]);
    let reply = ask("/Dc", "GetValue", &[]).args();
    assert_eq!(
        reply,
        [variant(vardict([
            ("0/Temperature", invalid()),
            ("0/Voltage", V::D(51.96))
        ]))]
    );
    let items = ask("/", "GetItems", &[]);
    assert_eq!(items.signature, "a{sa{sv}}");
    assert_eq!(ask("/None", "GetValue", &[]).kind, ERROR);
    assert_eq!(
        ask("/Soc", "SetValue", &[variant(V::I(5))]).args(),
        [V::I(0)]
    );
    assert_eq!(ask("/Soc", "GetValue", &[]).args(), [variant(V::I(5))]);
    assert_eq!(service.writes("/Soc"), [V::I(5)]);

    service.on(|call| match call.path.as_str() {
        "/Late" => Reply::Later,
        _ => Reply::Error("com.example.No"),
    });
    assert_eq!(ask("/Soc", "GetValue", &[]).error, "com.example.No");
    asker.send(Message::call(NAME, "/Late", BUS_ITEM, "GetValue"));
    let call = &service.wait_calls("the late call", 1, |call| call.path == "/Late")[0];
    service.answer(call, &Reply::Return(vec![V::I(1)]));
    service.behave();
}

#[test]
fn the_system_tools_understand_the_fake_service() {
    let (Some(bus), Some(tool)) = (Bus::start(), find("dbus-send")) else {
        return;
    };
    let _service = bus.serve(battery());
    let send = |path: &str, member: &str| {
        let output = Command::new(&tool)
            .arg(format!("--bus={}", bus.address()))
            .args(["--print-reply", &format!("--dest={NAME}"), path, member])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(send("/", "com.victronenergy.BusItem.GetItems").contains("double 51.96"));
    let xml = send("/Dc", "org.freedesktop.DBus.Introspectable.Introspect");
    assert!(xml.contains("<node name=\"0\"/>"), "{xml}");
}

#[test]
fn a_bus_comes_back_on_the_same_address() {
    let Some(mut bus) = Bus::start() else { return };
    let before = bus.serve(battery());
    bus.restart();
    before.wait_closed();
    let after = bus.serve(battery());
    let reply = bus
        .peer()
        .call(Message::call(NAME, "/Soc", BUS_ITEM, "GetValue"));
    assert_eq!(reply.sender, after.unique());
    bus.pause();
    bus.resume();
    after.sync();
}

#[test]
fn a_broker_retains_routes_and_comes_back() {
    let Some(mut broker) = Broker::absent().map(Broker::persistent) else {
        return;
    };
    broker.restart();
    let listener = broker.listener();
    let client = broker.client();
    client.publish_retained("a/b", "kept");
    client.publish("a/c", "gone");
    listener.expect(0, "a/c", "gone");
    let (_, first) = listener.wait(0, "a/b", |message| message.topic == "a/b");
    assert!(!first.retain && first.qos == 0);
    broker.pause();
    broker.resume();
    broker.stop();
    listener.wait_closed();
    broker.restart();
    let listener = broker.listener();
    listener.fence();
    let seen: Vec<_> = listener
        .since(0)
        .into_iter()
        .filter(|message| message.retain)
        .collect();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].is("a/b", "kept"));
}

#[test]
fn a_broker_with_a_login_takes_only_that() {
    let Some(mut broker) = Broker::absent().and_then(|broker| broker.with_login("venus", "secret"))
    else {
        return;
    };
    broker.restart();
    broker.listener().fence();
    let stranger = std::panic::catch_unwind(|| Client::connect(broker.address(), None));
    assert!(stranger.is_err());
}

#[test]
fn the_fake_broker_shows_what_it_is_sent() {
    let broker = FakeBroker::start(Manner::Good);
    let client = Client::connect(broker.address, Some(("me", "secret")));
    client.subscribe("a/+");
    client.publish_retained("a/b", "1");
    client.expect(0, "a/b", "1");
    broker.publish("a/c", "2");
    client.expect(0, "a/c", "2");
    let (_, connect) = broker.wait("CONNECT", |packet| packet.kind() == 0x10);
    let connect = Connect::parse(&connect.body);
    assert_eq!(
        (connect.user.as_deref(), connect.password.as_deref()),
        (Some("me"), Some("secret"))
    );
    assert_eq!(
        broker.published(),
        [("a/b".to_owned(), "1".to_owned(), true)]
    );
    broker.close();
    client.wait_closed();
    broker.wait_closed(1, Duration::from_secs(5));
}

#[test]
fn the_fake_bus_takes_a_peer() {
    let bus = FakeBus::start(vec![battery()]);
    let peer = crate::support::peer::Peer::try_connect(&bus.address()).unwrap();
    peer.sync();
    let reply = peer.call(Message::call(NAME, "/Soc", BUS_ITEM, "GetValue"));
    assert_eq!(reply.args(), [variant(V::D(87.5))]);
    bus.reply_raw("GetItems", "s", b"\x01\0\0\0a\0");
    let reply = peer.call(Message::call(NAME, "/", BUS_ITEM, "GetItems"));
    assert_eq!(reply.args(), [s("a")]);
    let signal =
        Message::decode(&bus.bytes_of(Message::signal("/Soc", BUS_ITEM, "PropertiesChanged")));
    assert_eq!(signal.kind, SIGNAL);
}
