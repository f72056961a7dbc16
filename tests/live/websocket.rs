//! WebSocket, plain and in TLS (§6): what works, however frames are cut, and each way in which a server
//! can refuse, hang or babble.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

use crate::support::bridge::Bridge;
use crate::support::bus::Bus;
use crate::support::certificates::{Authority, write};
use crate::support::client::{packet, publish};
use crate::support::fake_broker::{FakeBroker, Manner as Broken};
use crate::support::front::Front;
use crate::support::gateway::{
    BINARY, CLOSE, Gateway, Manner, PING, PONG, TEXT, header, write_frame,
};
use crate::support::load::Load;
use crate::support::rig::{ONLINE, PORTAL, Rig, both, n, r, value};
use crate::support::service::battery;
use crate::support::wire::s;
use crate::support::{PATIENCE, in_parallel, poll};

/// A bridge that has no broker of its own to be seen by.
fn bridge(bus: &Bus, url: &str, more: &str) -> Bridge {
    let address = bus.address();
    let base = ["--dbus", &address, "--portal-id", PORTAL, "-q", url];
    let all: Vec<&str> = base.into_iter().chain(more.split_whitespace()).collect();
    Bridge::spawn(&all)
}

#[test]
fn s6_websocket_carries_all_that_tcp_does() {
    // Binary frames with masks, the right subprotocol, a batch a frame, a goodbye at the end.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let gateway = Gateway::start(rig.broker.address(), Manner::default());
    let mut bridge = rig.bridge(&format!("-q {}", gateway.url("/some/where?token=s3cret")));
    rig.wake();
    rig.wait_retained("over WebSocket", &battery().topics(258));
    rig.fence_by_read("battery/258/Soc");
    bridge.terminate();
    rig.wait_retained("after the end", &BTreeMap::new());

    let requests = gateway.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].starts_with("GET /some/where?token=s3cret HTTP/1.1\r\n"));
    assert_eq!(header(&requests[0], "Sec-WebSocket-Protocol"), Some("mqtt"));
    assert_eq!(
        header(&requests[0], "Host"),
        Some(gateway.address().to_string().as_str())
    );
    // The program may end before the gateway has looked at its last frame.
    let frames = poll("the goodbye", PATIENCE, || {
        let frames = gateway.frames();
        let last = frames.last().map(|frame| frame.opcode);
        (last == Some(CLOSE)).then_some(frames)
    });
    let kinds = |opcode: u8| frames.iter().filter(|frame| frame.opcode == opcode).count();
    assert!(frames.iter().all(|frame| frame.masked && frame.last));
    assert_eq!(frames.len(), kinds(BINARY) + kinds(CLOSE));
    assert_eq!(frames.last().unwrap().opcode, CLOSE);
    let packets = battery().topics(258).len();
    let biggest = frames
        .iter()
        .map(|frame| frame.payload.len())
        .max()
        .unwrap();
    assert!(
        biggest > packets * 30,
        "a republish of {packets} values is one frame, not many"
    );
}

#[test]
fn s6_frames_may_split_packets_anywhere() {
    // One byte at a time, and every message in two parts with a ping between them.
    let manners = [
        Manner {
            frame_bytes: 1,
            ..Manner::default()
        },
        Manner {
            frame_bytes: 7,
            fragments: true,
            ..Manner::default()
        },
        Manner {
            fragments: true,
            ..Manner::default()
        },
        Manner {
            first: write_frame(true, BINARY, b""),
            ..Manner::default()
        },
        Manner {
            first: write_frame(true, PING, &[7; 125]),
            ..Manner::default()
        },
    ];
    in_parallel(&manners, |manner| {
        let Some(rig) = Rig::start() else { return };
        let _battery = rig.bus.serve(battery());
        let gateway = Gateway::start(rig.broker.address(), manner.clone());
        let _bridge = rig.bridge(&format!("-q {}", gateway.url("/mqtt")));
        rig.wake();
        rig.fence_by_read("battery/258/Soc");
        rig.wait_retained("in pieces", &battery().topics(258));
        let pongs: Vec<Vec<u8>> = gateway
            .frames()
            .into_iter()
            .filter(|frame| frame.opcode == PONG)
            .map(|frame| frame.payload)
            .collect();
        if manner.fragments {
            assert!(pongs.contains(&b"there?".to_vec()));
        }
        if !manner.first.is_empty() && manner.first[0] & 0x0F == PING {
            assert_eq!(pongs, [vec![7; 125]]);
        }
    });
}

#[test]
fn s6_secure_websocket_is_websocket_in_tls() {
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let authority = Authority::new("boat");
    let ca = write(rig.broker.folder(), "ca.crt", &authority.pem())
        .display()
        .to_string();
    let gateway = Gateway::start(
        rig.broker.address(),
        Manner {
            frame_bytes: 100,
            ..Manner::default()
        },
    );
    let front = Front::tls(&authority.server(&["localhost"]), gateway.address());
    let url = format!("wss://localhost:{}/mqtt", front.address.port());
    let mut bridge = rig.bridge(&format!("-q {url} -c {ca}"));
    rig.wake();
    rig.wait_retained("over secure WebSocket", &battery().topics(258));
    rig.fence_by_read("battery/258/Soc");
    bridge.terminate();
    // The bytes may still be on their way through the front.
    poll("the last frame to be a close", PATIENCE, || {
        (gateway.frames().last()?.opcode == CLOSE).then_some(())
    });
    // The name counts here too.
    let url = format!("wss://127.0.0.1:{}/mqtt", front.address.port());
    let stranger = self::bridge(&rig.bus, &url, &format!("-c {ca}"));
    stranger.wait_log(&["the broker's certificate is for localhost, not for 127.0.0.1"]);
}

#[test]
fn s6_each_refusal_of_the_upgrade_has_its_sentence() {
    let Some(bus) = Bus::start() else { return };
    let answer = |text: &str| Manner {
        answer: Some(text.to_owned()),
        ..Manner::default()
    };
    let status = |status: &str| {
        answer(&format!(
            "HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nno!\n"
        ))
    };
    let named = |name: &'static str| Manner {
        subprotocol: Some(name),
        ..Manner::default()
    };
    let no_websocket = "this port does not speak WebSocket. Without WebSocket, write mqtt://";
    let no_mqtt =
        "the WebSocket /secret is not one for MQTT (the server does not take the subprotocol mqtt)";
    let cases = [
        (
            status("404 Not Found"),
            "the server answered 404 Not Found when asked for the WebSocket /secret",
        ),
        (
            status("401 Unauthorized"),
            "the server answered 401 Unauthorized when asked for",
        ),
        (
            status("301 Moved Permanently"),
            "the server answered 301 Moved Permanently when asked for",
        ),
        (
            status("503 Service Unavailable"),
            "the server answered 503 Service Unavailable when asked for",
        ),
        (
            status("200 OK"),
            "the server answered 200 OK when asked for",
        ),
        (named("mqttv3.1"), no_mqtt),
        (named(""), no_mqtt),
        (
            answer("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            no_websocket,
        ),
        (answer("220 mail.example ESMTP\r\n"), no_websocket),
        (answer("\u{20}\u{2}\0\0"), no_websocket),
        (
            answer(&("HTTP/1.1 200 OK\r\n".to_owned() + &"X-Y: z\r\n".repeat(20_000))),
            no_websocket,
        ),
        (
            answer("HTTP/1.1 101 Swi"),
            "the broker closed the connection during the WebSocket handshake",
        ),
        (
            answer(""),
            "the broker closed the connection during the WebSocket handshake",
        ),
    ];
    in_parallel(&cases, |(manner, sentence)| {
        let gateway = Gateway::start("127.0.0.1:1".parse().unwrap(), manner.clone());
        let broker = FakeBroker::start(Broken::Good);
        let gateway = if manner.answer.is_none() {
            Gateway::start(broker.address, manner.clone())
        } else {
            gateway
        };
        let mut bridge = bridge(&bus, &gateway.url("/secret?token=hidden"), "-d");
        bridge.wait_log(&[sentence]);
        bridge.assert_alive();
        assert!(
            bridge.log_with(&["hidden"]).is_empty(),
            "a query may be a secret"
        );
    });
}

#[test]
fn s6_a_server_that_hangs_in_the_upgrade_is_given_up() {
    let Some(bus) = Bus::start() else { return };
    let hanging = Front::start(|mut stream, _| {
        let mut space = [0; 1000];
        while stream.read(&mut space).is_ok_and(|length| length > 0) {}
    });
    // A byte now and then is no answer either.
    let dripping = Front::start(|mut stream, _| {
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    in_parallel(&[hanging.address, dripping.address], |address| {
        let bridge = bridge(&bus, &format!("ws://{address}/mqtt"), "");
        bridge.wait_log(&["the broker did not complete the WebSocket handshake within 10 s"]);
    });
}

#[test]
fn s6_what_is_no_websocket_any_more_ends_the_connection_with_a_reason() {
    // After a good start; then the gateway behaves, and the bridge comes back by itself.
    let mut huge = vec![0x81, 127];
    huge.extend(u64::MAX.to_be_bytes());
    let mut large = vec![0x81, 127];
    large.extend((16_u64 << 20).to_be_bytes());
    let cases = [
        (
            write_frame(true, TEXT, b"hello"),
            "the broker sent text in the WebSocket, where MQTT is binary",
        ),
        (
            large,
            "the broker sent a WebSocket frame of 16777216 bytes, more than 8388608",
        ),
        (huge, "WebSocket frame of"),
        (
            write_frame(true, CLOSE, b"\x03\xf0go away"),
            "the broker closed the WebSocket (code 1008: \"go away\")",
        ),
        (
            write_frame(true, CLOSE, b"\x03\xe8"),
            "the broker closed the connection",
        ),
        (
            write_frame(true, CLOSE, b""),
            "the broker closed the connection",
        ),
        (
            write_frame(true, 3, b""),
            "the broker does not speak WebSocket as it should",
        ),
        (
            write_frame(true, 0, b"x"),
            "the broker does not speak WebSocket as it should",
        ),
        (
            vec![0xC2, 0],
            "the broker does not speak WebSocket as it should",
        ),
        (
            vec![0x82, 0x80, 1, 2, 3, 4],
            "the broker does not speak WebSocket as it should",
        ),
        (
            write_frame(true, PING, &[0; 126]),
            "the broker does not speak WebSocket as it should",
        ),
        (write_frame(true, BINARY, &[0xFF; 100]), "the broker sent"),
        (
            write_frame(true, BINARY, &packet(0xD0, b"")),
            "the broker sent an unexpected packet",
        ),
        (
            write_frame(true, BINARY, &publish("N/x", b"", false)),
            "the broker sent an unexpected packet",
        ),
    ];
    in_parallel(&cases, |(first, sentence)| {
        let Some(rig) = Rig::start() else { return };
        let manner = Manner {
            first: first.clone(),
            ..Manner::default()
        };
        let gateway = Gateway::start(rig.broker.address(), manner);
        let mut bridge = Bridge::spawn(&rig.args(&format!("-q {}", gateway.url("/mqtt"))));
        bridge.wait_log(&[sentence]);
        gateway.behave(Manner::default());
        rig.online(0);
        bridge.assert_alive();
        assert!(bridge.peak_kib() < 200 * 1024, "{} KiB", bridge.peak_kib());
    });
}

#[test]
fn s4_14_a_packet_too_large_to_keep_ends_no_websocket() {
    // Retained at a request, so that it comes at each connect; and in a message that is longer still.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let client = rig.broker.client();
    let large = "x".repeat(9 << 20);
    client.publish_retained(&r("x/1/y"), &large);
    client.fence();
    let manner = Manner {
        endless: true,
        ..Manner::default()
    };
    let gateway = Gateway::start(rig.broker.address(), manner);
    let args = format!(
        "--keep-alive 0 --mqtt-version 3 -q {}",
        gateway.url("/mqtt")
    );
    let bridge = rig.bridge(&args);
    rig.wait_retained("beside what is too large", &battery().topics(258));
    let mark = client.mark();
    client.subscribe(&n("battery/258/Soc"));
    client.publish(&r("battery/258/Soc"), &large);
    client.publish(&r("battery/258/Soc"), "");
    client.expect(mark, &n("battery/258/Soc"), &value("87.5"));
    assert!(bridge.log_with(&["trying again"]).is_empty());
    assert!(bridge.peak_kib() < 200 * 1024, "{} KiB", bridge.peak_kib());
}

#[test]
fn s6_a_server_that_is_busy_is_asked_again_soon_and_a_wrong_one_slowly() {
    let Some(bus) = Bus::start() else { return };
    let attempts = |status: &str| {
        let answer = Some(format!("HTTP/1.1 {status}\r\n\r\n"));
        let manner = Manner {
            answer,
            ..Manner::default()
        };
        let gateway = Gateway::start("127.0.0.1:1".parse().unwrap(), manner);
        // The wait is any up to this one.
        let bridge = bridge(&bus, &gateway.url("/mqtt"), "--reconnect-max 86400");
        bridge.wait_log(&[status]);
        std::thread::sleep(Duration::from_secs(5)); // the rate is what is tested
        gateway.connections()
    };
    assert_eq!(attempts("404 Not Found"), 1);
    assert!(attempts("503 Service Unavailable") > 1);
}

#[test]
fn s6_a_broker_that_dies_behind_its_gateway_gets_everything_when_it_is_back() {
    let Some(mut rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let gateway = Gateway::start(rig.broker.address(), Manner::default());
    let mut bridge = rig.bridge(&format!("-q {} --keep-alive 0", gateway.url("/mqtt")));
    let load = Load::start(&rig.bus);
    for _ in 0..2 {
        rig.broker.kill();
        bridge.assert_alive();
        rig.broker.restart();
        crate::support::rig::wait_one_retained(&rig.broker, &n("bridge/status"), Some(ONLINE));
    }
    let (_owner, last) = load.finish();
    rig.wait_retained("in the end", &both(battery().topics(258), last.topics(1)));
    assert!(
        gateway
            .frames()
            .iter()
            .all(|frame| frame.payload.len() <= 64 * 1024)
    );
}

#[test]
fn s6_a_broker_that_stalls_behind_websocket_costs_freshness_not_memory() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let gateway = Gateway::start(rig.broker.address(), Manner::default());
    let bridge = rig.bridge(&format!("-q {} --keep-alive 0", gateway.url("/mqtt")));
    rig.wait_retained("before", &battery().topics(258));
    let before_kib = bridge.peak_kib();
    rig.broker.pause();
    let long = "x".repeat(2_000);
    for round in 0..5_000 {
        peer.changed("/ProductName", s(&format!("{round}{long}")));
    }
    rig.bus.fence(&[&peer]); // the bridge reads the bus, broker or not
    let grown_kib = bridge.peak_kib() - before_kib;
    assert!(
        grown_kib < 32 * 1024,
        "{grown_kib} KiB for a stalled broker"
    );
    rig.broker.resume();
    let mut expected = battery().topics(258);
    expected.insert(
        n("battery/258/ProductName"),
        value(&format!("\"4999{long}\"")),
    );
    rig.wait_retained("after the stall", &expected);
}

#[test]
fn s6_a_broker_with_a_websocket_of_its_own_takes_us() {
    // No gateway of ours in between.
    let Some(mut rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let port = rig
        .broker
        .listen("127.0.0.1", "protocol websockets\nallow_anonymous true");
    rig.broker.restart();
    let client = rig.broker.client();
    client.subscribe("N/#");
    let _bridge = bridge(
        &rig.bus,
        &format!("ws://127.0.0.1:{port}/mqtt"),
        "--keep-alive 0",
    );
    client.expect(0, &n("bridge/status"), ONLINE);
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
}
