//! The page's server, asked by hand: who gets an answer, which, and where its WebSocket leads. What a browser
//! makes of the page is in `tests/page`.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::PATIENCE;
use crate::support::bridge::Bridge;
use crate::support::broker::free_port;
use crate::support::bus::Bus;
use crate::support::rig::{PORTAL, Rig};
use crate::support::service::battery;

/// What the server answers to a GET with these lines of head, and the stream.
fn get(port: u16, path: &str, head: &str) -> (String, Vec<u8>, TcpStream) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = format!("GET {path} HTTP/1.1\r\n{head}\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let end = loop {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap() == 0 {
            break answer.len();
        }
        answer.push(byte[0]);
        if answer.ends_with(b"\r\n\r\n") {
            break answer.len();
        }
    };
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut body = Vec::new();
    if !head.starts_with("HTTP/1.1 101") {
        stream.read_to_end(&mut body).unwrap();
    }
    (head.to_ascii_lowercase(), body, stream)
}

fn status(port: u16, path: &str, head: &str) -> u16 {
    let (head, _, _) = get(port, path, head);
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

#[test]
fn the_page_is_for_those_who_know_the_device() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let port = free_port();
    let mut bridge = rig.bridge(&format!("--keep-alive 0 --web {port}"));
    bridge.wait_log(&[&format!("page at http://127.0.0.1:{port}/")]);
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    for path in ["/", "/main.js", "/style.css", "/schema.json"] {
        let (head, body, _) = get(port, path, &own);
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        assert!(body.starts_with(&[0x1f, 0x8b]), "{path} is not compressed");
        let (_, tag) = head.split_once("etag: ").unwrap();
        let tag = tag.lines().next().unwrap();
        let again = format!("{own}If-None-Match: \"x\", {tag}\r\n");
        let (head, body, _) = get(port, path, &again);
        assert!(head.starts_with("http/1.1 304"), "{path}: {head}");
        assert!(body.is_empty());
    }
    let (head, _, _) = get(port, "/", &own);
    for word in [
        "default-src 'none'",
        "script-src 'self'",
        "trusted-types 'none'",
    ] {
        assert!(head.contains(word), "{head}");
    }
    let (_, body, _) = get(port, "/page.json", &own);
    let facts: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(facts["portal"], PORTAL);
    assert_eq!(facts["readOnly"], false);
    assert_eq!(status(port, "/metrics", &own), 200);
    assert_eq!(status(port, "/nothing", &own), 404);
    for path in ["/../Cargo.toml", "/%2e%2e/x", "/main.js/", "//main.js"] {
        assert_eq!(status(port, path, &own), 404, "{path}");
    }
    assert_eq!(status(port, "/", "Host: evil.example\r\n"), 421);
    bridge.terminate();
}

#[test]
fn the_websocket_is_for_our_own_page_and_for_programs() {
    let Some(rig) = Rig::start() else { return };
    let port = free_port();
    let mut bridge = rig.bridge(&format!("--web {port}"));
    bridge.wait_log(&["page at"]);
    let host = format!("Host: 127.0.0.1:{port}\r\n");
    let mqtt = format!("{host}{UPGRADE}Sec-WebSocket-Protocol: mqtt\r\n");
    for path in ["/mqtt", "/websocket-mqtt", "/"] {
        assert_eq!(status(port, path, &mqtt), 101, "{path}");
    }
    assert_eq!(status(port, "/elsewhere", &mqtt), 404);
    let own = format!("{mqtt}Origin: http://127.0.0.1:{port}\r\n");
    assert_eq!(status(port, "/mqtt", &own), 101);
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let other = format!("{mqtt}Origin: {origin}\r\n");
        assert_eq!(status(port, "/mqtt", &other), 403, "{origin}");
    }
    let rebound = format!("Host: evil.example\r\n{UPGRADE}Sec-WebSocket-Protocol: mqtt\r\n");
    assert_eq!(status(port, "/mqtt", &rebound), 421);
    let chat = format!("{host}{UPGRADE}Sec-WebSocket-Protocol: chat\r\n");
    assert_eq!(status(port, "/mqtt", &chat), 400);

    let (_, _, mut stream) = get(port, "/mqtt", &mqtt);
    stream.write_all(&connect(None)).unwrap();
    assert_eq!(connack(&mut stream), 0);
    bridge.terminate();
}

/// CONNECT of MQTT 3.1.1, with user and password perhaps, in a masked frame; the mask is zero.
fn connect(login: Option<[&str; 2]>) -> Vec<u8> {
    let mut rest = b"\0\x04MQTT\x04\x02\0\x0a\0\x01x".to_vec();
    for text in login.into_iter().flatten() {
        rest[7] = 0xc2;
        rest.extend([0, u8::try_from(text.len()).unwrap()]);
        rest.extend(text.as_bytes());
    }
    let length = u8::try_from(rest.len()).unwrap();
    let mut frame = vec![0x82, 0x80 | (length + 2), 0, 0, 0, 0, 0x10, length];
    frame.extend(rest);
    frame
}

/// The code with which CONNECT is answered.
fn connack(stream: &mut TcpStream) -> u8 {
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..5], [0x82, 4, 0x20, 2, 0]);
    answer[5]
}

/// A bridge with a page and these arguments, and no broker. Gives the port of the page.
fn alone(bus: &Bus, more: &str) -> (Bridge, u16) {
    let port = free_port();
    let address = bus.address();
    let args = format!("--portal-id {PORTAL} --dbus {address} --web {port} {more}");
    let args: Vec<&str> = args.split_whitespace().collect();
    let bridge = Bridge::spawn(&args);
    bridge.wait_log(&["page at"]);
    (bridge, port)
}

#[test]
fn the_page_needs_neither_broker_nor_listener() {
    let Some(bus) = Bus::start() else { return };
    let _peer = bus.serve(battery());
    let (mut bridge, port) = alone(&bus, "");
    let host = format!("Host: 127.0.0.1:{port}\r\n");
    let (_, body, _) = get(port, "/page.json", &host);
    let facts: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(facts["login"], "");
    assert_eq!(facts["mqtt"], serde_json::Value::Null);
    // What follows the handshake in one packet is not lost.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET /mqtt HTTP/1.1\r\n{host}{UPGRADE}Sec-WebSocket-Protocol: mqtt\r\n\r\n");
    let mut both = head.into_bytes();
    both.extend(connect(None));
    stream.write_all(&both).unwrap();
    let mut end = Vec::new();
    while !end.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        end.push(byte[0]);
    }
    // tungstenite, for one, takes this word and no other.
    let end = String::from_utf8(end).unwrap().to_ascii_lowercase();
    assert!(end.contains("\r\nconnection: upgrade\r\n"), "{end}");
    assert_eq!(connack(&mut stream), 0);
    // SUBSCRIBE to everything: SUBACK, and the values.
    let subscribe = b"\x82\x8a\0\0\0\0\x82\x08\0\x01\0\x03N/#\0";
    stream.write_all(subscribe).unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("battery/258/Soc") {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).unwrap();
        assert_ne!(count, 0, "{seen:?}");
        seen.extend_from_slice(&some[..count]);
    }
    bridge.terminate();
}

#[test]
fn the_listeners_login_guards_the_page() {
    let Some(bus) = Bus::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    // The password is "secret".
    let hash = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
    std::fs::write(&users, format!("me:{hash}\n")).unwrap();
    for (more, wrong) in [("", None), ("--listen 0", Some(["me", "x"]))] {
        let more = format!("--listen-auth {} {more}", users.display());
        let (mut bridge, port) = alone(&bus, &more);
        let host = format!("Host: 127.0.0.1:{port}\r\n");
        let (_, body, _) = get(port, "/page.json", &host);
        let facts: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(facts["login"], "user", "{more}");
        let mqtt = format!("{host}{UPGRADE}Sec-WebSocket-Protocol: mqtt\r\n");
        for (login, code) in [(Some(["me", "secret"]), 0), (wrong, 4)] {
            let (_, _, mut stream) = get(port, "/mqtt", &mqtt);
            stream.write_all(&connect(login)).unwrap();
            assert_eq!(connack(&mut stream), code, "{login:?} {more}");
        }
        bridge.terminate();
    }
}

#[test]
fn health_says_what_is_missing() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let port = free_port();
    let mut bridge = rig.bridge(&format!("--web {port}"));
    bridge.wait_log(&["connected, with"]);
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    crate::support::poll("health", PATIENCE, || {
        (status(port, "/health", &own) == 200).then_some(())
    });
    let (_, body, _) = get(port, "/health", &own);
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["ok"], true);
    // The battery, and what the bridge of a rig was waited for with.
    assert_eq!(told["services"], 2);
    bridge.terminate();

    let port = free_port();
    let args = format!("--portal-id x --dbus unix:path=/nowhere --web {port}");
    let args: Vec<&str> = args.split(' ').collect();
    let bridge = Bridge::spawn(&args);
    bridge.wait_log(&["page at"]);
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    assert_eq!(status(port, "/health", &own), 503);
}
