//! The numbers for Prometheus, live: their form, that they are right, and that nobody who asks can
//! do harm.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::bridge::Bridge;
use crate::support::broker::free_port;
use crate::support::rig::{ONLINE, PORTAL, Rig, n, r, w};
use crate::support::service::{BATTERY, battery};
use crate::support::wire::V;
use crate::support::{PATIENCE, poll};

/// The samples of a scrape, by family; each with its labels as they stand there.
type Scrape = BTreeMap<String, BTreeMap<String, f64>>;

/// What a server answers to these bytes, until it closes.
fn asks(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn request(port: u16, method: &str, path: &str) -> (String, String) {
    let text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    let answer = asks(port, text.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn scrape(port: u16) -> Scrape {
    let (head, body) = request(port, "GET", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    parse(&body)
}

fn is_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// The labels in front of `rest`, taken apart letter by letter; gives what follows them.
fn labels(mut rest: &str) -> &str {
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name}");
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().expect("the end of a label") {
                (_, '\\') => {
                    let (_, escaped) = letters.next().unwrap();
                    assert!(matches!(escaped, '\\' | '"' | 'n'), "{after}");
                }
                (at, '"') => break at,
                (_, letter) => assert!(letter != '\n'),
            }
        };
        rest = &after[end + 1..];
        if let Some(end) = rest.strip_prefix('}') {
            return end;
        }
        rest = rest.strip_prefix(',').expect("another label");
    }
}

/// Reads the text format 0.0.4 and complains about whatever it does not allow.
fn parse(text: &str) -> Scrape {
    assert!(text.ends_with('\n'));
    let mut families = Scrape::new();
    let (mut helped, mut family) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && is_name(name), "{line}");
            name.clone_into(&mut helped);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert_eq!(name, helped, "the type follows the help");
            let new = families.insert(name.to_owned(), BTreeMap::new()).is_none();
            assert!(new, "{name} stands there twice");
            name.clone_into(&mut family);
        } else {
            let end = line.find(['{', ' ']).unwrap();
            let (name, rest) = line.split_at(end);
            assert_eq!(name, family, "a sample stands with its family");
            assert!(name.starts_with("dbus_mqtt_"), "{line}");
            let number = rest.strip_prefix('{').map_or(rest, labels);
            let text = &rest[..rest.len() - number.len()];
            let number: f64 = number.strip_prefix(' ').unwrap().parse().unwrap();
            let samples = families.get_mut(&family).unwrap();
            let new = samples.insert(text.to_owned(), number).is_none();
            assert!(new, "{line} stands there twice");
        }
    }
    families
}

fn one(scrape: &Scrape, name: &str) -> f64 {
    let samples = &scrape[&format!("dbus_mqtt_{name}")];
    assert_eq!(samples.len(), 1, "{name}: {samples:?}");
    *samples.values().next().unwrap()
}

#[test]
fn a_scrape_tells_what_the_bridge_did() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    // A name that wants care.
    let name = r#"a "b" \ c ü"#;
    std::fs::write(&file, format!("name = '{name}'\n")).unwrap();
    let args = format!("--metrics 127.0.0.1:{port} --config {}", file.display());
    let mut bridge = rig.bridge(&args);
    bridge.wait_log(&[&format!("metrics at http://127.0.0.1:{port}/metrics")]);
    let first = scrape(port);
    rig.wake();
    for change in 0..50 {
        peer.update(BATTERY, "/Soc", V::I(change));
    }
    rig.client
        .expect(0, &n("battery/258/Soc"), r#"{"value": 49}"#);
    for _ in 0..3 {
        rig.client.publish(&w("battery/258/Soc"), "no JSON");
    }
    rig.client.publish(&r("nobody/0/X"), "");
    let second = poll("four requests refused", PATIENCE, || {
        let scrape = scrape(port);
        (one(&scrape, "requests_total") >= 5.0).then_some(scrape)
    });
    let label = r#"{broker="a \"b\" \\ c ü""#;
    let refused = &second["dbus_mqtt_requests_refused_total"];
    let expected = [
        (format!("{label},reason=\"not-json\"}}"), 3.0),
        (format!("{label},reason=\"unknown-service\"}}"), 1.0),
    ];
    assert_eq!(*refused, BTreeMap::from(expected));
    let connected = &second["dbus_mqtt_broker_connected"];
    assert_eq!(*connected, BTreeMap::from([(format!("{label}}}"), 1.0)]));
    for (name, number) in [
        ("services", 1.0),
        ("items", 7.0),
        ("changes_total", 50.0),
        ("requests_total", 5.0),
        ("bus_connected", 1.0),
        ("bus_reconnects_total", 0.0),
        ("broker_reconnects_total", 0.0),
        ("too_long_total", 0.0),
        ("build_info", 1.0),
    ] {
        assert_eq!(one(&second, name).to_bits(), f64::to_bits(number), "{name}");
    }
    // What came is what was published, and what was not sent alone was sent with something else.
    let soc = rig.client.payloads(0, &n("battery/258/Soc")).len();
    let conflated = one(&second, "conflated_total");
    let sent_alone = f64::from(u32::try_from(soc).unwrap()) - 1.0;
    assert_eq!((sent_alone + conflated).to_bits(), 50_f64.to_bits());
    assert!(one(&second, "published_total") > one(&first, "published_total"));
    assert!(one(&second, "resident_memory_bytes") > 1e6);
    assert!(one(&second, "uptime_seconds") >= one(&first, "uptime_seconds"));
    assert_eq!(first.len(), second.len());

    let (head, body) = request(port, "HEAD", "/metrics");
    assert!(
        head.starts_with("HTTP/1.1 200") && body.is_empty(),
        "{head}{body}"
    );
    let (head, _) = request(port, "POST", "/metrics");
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    for path in ["/", "/metrics/", "/..%2fmetrics"] {
        let (head, body) = request(port, "GET", path);
        assert!(
            head.starts_with("HTTP/1.1 404") && body.contains("/metrics"),
            "{head}"
        );
    }
    bridge.terminate();
}

#[test]
fn who_asks_badly_slowly_or_too_often_holds_up_nobody() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let port = free_port();
    let mut bridge = rig.bridge(&format!("--keep-alive 0 --metrics 127.0.0.1:{port}"));
    let before_kib = bridge.peak_kib();
    for bytes in [
        &b"\r\n\r\n\r\n"[..],
        b"\0\xff\xfe\x16\x03\x01 no HTTP\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics\r\n",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Reset or closed, with a word or without.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
    }
    // A head without end.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let endless = format!("X-Y: {}\r\n", "z".repeat(1_000));
    let mut written = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
    for _ in 0..100_000 {
        if written.is_err() {
            break;
        }
        written = stream.write_all(endless.as_bytes());
    }
    assert!(written.is_err(), "100 MB of head");
    // Those that ask for nothing make room for one that does.
    let idle: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    peer.update(BATTERY, "/Soc", V::D(1.5));
    rig.client
        .expect(0, &n("battery/258/Soc"), r#"{"value": 1.5}"#);
    let asked_at = Instant::now();
    let answered = scrape(port);
    assert!(one(&answered, "published_total") > 1.0);
    let waited = asked_at.elapsed();
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    drop(idle);
    // One that asks, and does not take the answer, is shut out too.
    let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
    slow.write_all(b"GET /met").unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    assert_eq!(slow.read(&mut [0; 100]).unwrap_or(0), 0);
    let grown_kib = bridge.peak_kib() - before_kib;
    assert!(grown_kib < 8 * 1024, "{grown_kib} KiB more");
    bridge.assert_alive();
    bridge.terminate();
}

#[test]
fn a_web_page_under_a_name_of_its_own_learns_nothing() {
    let Some(rig) = Rig::start() else { return };
    let port = free_port();
    let mut bridge = rig.bridge(&format!("--metrics 127.0.0.1:{port}"));
    for (hosts, status) in [
        ("Host: evil.example\r\n", "421"),
        ("Host: 127.0.0.1\r\nHost: evil.example\r\n", "421"),
        ("Host: localhost\r\n", "200"),
        ("", "200"),
    ] {
        let request = format!("GET /metrics HTTP/1.1\r\n{hosts}\r\n");
        let answer = asks(port, request.as_bytes());
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{hosts}: {answer}"
        );
        assert_eq!(answer.contains("dbus_mqtt"), status == "200", "{answer}");
    }
    bridge.terminate();
}

#[test]
fn an_address_that_cannot_be_had_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let starts = |args: &[&str]| {
        let base = ["--portal-id", PORTAL, "--dbus", "unix:path=/nowhere"];
        let args: Vec<&str> = base.iter().chain(args).copied().collect();
        let mut bridge = Bridge::spawn(&args);
        let status = bridge.wait_exit(PATIENCE).code();
        (status, bridge.log().join("\n"))
    };
    let (status, log) = starts(&["--metrics", &address]);
    assert_eq!(status, Some(2));
    let sentence = format!("metrics: cannot listen on {address}: Address already in use");
    assert!(log.contains(&sentence), "{log}");
    let (status, log) = starts(&["--metrics", "0.0.0.0:0"]);
    assert_eq!(status, Some(2));
    assert!(log.contains("other computers can reach 0.0.0.0:0"), "{log}");
}

#[test]
fn without_being_asked_the_bridge_listens_nowhere() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let mut bridge = rig.bridge("");
    rig.client.expect(0, &n("bridge/status"), ONLINE);
    assert_eq!(bridge.log_with(&["metrics"]).len(), 0);
    rig.wake();
    // And it tells nothing of itself.
    let mark = rig.client.mark();
    rig.client.wait(mark, "a heartbeat", |message| {
        message.topic == n("heartbeat")
    });
    rig.client.fence();
    assert_eq!(rig.client.payloads(0, &n("bridge/stats")).len(), 0);
    bridge.terminate();
}
