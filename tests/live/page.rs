//! The page's server, asked by hand: who gets an answer, which, and where its WebSocket leads. What a browser
//! makes of the page is in `tests/page`.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::PATIENCE;
use crate::support::bridge::Bridge;
use crate::support::broker::free_port;
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

    // CONNECT of MQTT 3.1.1 in a masked frame; the mask is zero. CONNACK comes back.
    let (_, _, mut stream) = get(port, "/mqtt", &mqtt);
    let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01x";
    let mut frame = vec![
        0x82,
        0x80 | u8::try_from(connect.len()).unwrap(),
        0,
        0,
        0,
        0,
    ];
    frame.extend_from_slice(connect);
    stream.write_all(&frame).unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x82, 4, 0x20, 2, 0, 0]);
    bridge.terminate();
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
