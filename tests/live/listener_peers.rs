//! Who connects to the bridge itself (§9): other people's clients over TCP, TLS and WebSocket, a broker as bridge, and
//! peers that do not behave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::listener::{configured, reload};
use crate::support::bridge::Bridge;
use crate::support::broker::{Broker, free_port};
use crate::support::bus::Bus;
use crate::support::certificates::{Authority, trusted};
use crate::support::client::{Client, packet, put_text, read_packet};
use crate::support::process::find;
use crate::support::rig::{ONLINE, PORTAL, n, r, value, w};
use crate::support::service::{battery, vebus};
use crate::support::wire::V;
use crate::support::{PATIENCE, poll};

/// Runs a program and gives what it prints; it must succeed.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{error}");
    text
}

/// `mosquitto_sub` for one message of a topic, with these arguments.
#[track_caller]
fn one_message(port: u16, topic: &str, more: &[&str]) -> String {
    let mut command = Command::new("mosquitto_sub");
    let port = port.to_string();
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-t",
        topic,
        "-C",
        "1",
        "-W",
        "30",
    ]);
    said(command.args(more)).trim().to_owned()
}

#[test]
fn s9_23_tls_and_secure_websocket() {
    let (Some(bus), Some(_)) = (Bus::start(), find("mosquitto_sub")) else {
        return;
    };
    let _peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("boat");
    let (certificate, key) = authority
        .server(&["127.0.0.1"])
        .write(folder.path(), "server");
    let ca = trusted(folder.path(), "ca.crt", &authority);
    let text = format!(
        "[[listen]]\naddress = 'PORT'\ntransport = 'tls'\ncertificate = '{0}'\nkey = '{1}'\n\
         [[listen]]\naddress = 'OTHER'\ntransport = 'wss'\ncertificate = '{0}'\nkey = '{1}'\n",
        certificate.display(),
        key.display()
    );
    let (_bridge, addresses) = configured(&bus, folder.path(), &text);
    let soc = n("battery/258/Soc");
    for version in ["tlsv1.2", "tlsv1.3"] {
        let more = ["--cafile", &ca, "--tls-version", version];
        assert_eq!(one_message(addresses[0].port(), &soc, &more), value("87.5"));
    }
    let server = format!("wss://{}/any/path", addresses[1]);
    let got = said(Command::new(crate::support::program::path()).args([
        "get",
        "-q",
        &server,
        "-c",
        &ca,
        "--portal-id",
        PORTAL,
        "battery/258/Soc",
    ]));
    assert_eq!(got.trim(), "battery/258/Soc  87.5 %");
    // Another authority's client does not trust it, and nothing is the worse for that.
    let other = trusted(folder.path(), "other.crt", &Authority::new("other"));
    let port = addresses[0].port().to_string();
    let refused = Command::new("mosquitto_sub")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-t",
            "#",
            "-C",
            "1",
            "-W",
            "5",
        ])
        .args(["--cafile", &other])
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let more = ["--cafile", &ca];
    assert_eq!(one_message(addresses[0].port(), &soc, &more), value("87.5"));
}

#[test]
fn s9_23_a_certificate_is_made_and_named_before_anyone_connects() {
    let (Some(bus), Some(_)) = (Bus::start(), find("mosquitto_sub")) else {
        return;
    };
    let _peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let listen = format!("mqtts://127.0.0.1:{port}");
    let args = [
        "--dbus",
        &bus.address(),
        "--portal-id",
        PORTAL,
        "--listen",
        &listen,
    ];
    let state = folder.path().join("state");
    let bridge = Bridge::spawn_with(&args, &[("STATE_DIRECTORY", state.to_str().unwrap())]);
    let certificate = state.join("listener.pem");
    let named = certificate.to_string_lossy();
    bridge.wait_log(&["made a certificate", &named, "SHA-256 fingerprint"]);
    for file in [&certificate, &state.join("listener-key.pem")] {
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let more = ["--cafile", &named, "--insecure"];
    let soc = n("battery/258/Soc");
    assert_eq!(one_message(port, &soc, &more), value("87.5"));
}

#[test]
fn s9_23_a_certificate_that_cannot_be_used_is_said_at_the_start_and_once() {
    let (Some(bus), Some(_)) = (Bus::start(), find("mosquitto_sub")) else {
        return;
    };
    let _peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("boat");
    let (certificate, key) = authority
        .server(&["127.0.0.1"])
        .write(folder.path(), "server");
    let ca = trusted(folder.path(), "ca.crt", &authority);
    let good = std::fs::read(&certificate).unwrap();
    std::fs::write(&certificate, "no certificate").unwrap();
    let text = format!(
        "[[listen]]\naddress = 'PORT'\ntransport = 'tls'\ncertificate = '{}'\nkey = '{}'\n\
         [[listen]]\naddress = 'OTHER'\n",
        certificate.display(),
        key.display()
    );
    let (bridge, [tls, plain]) = configured(&bus, folder.path(), &text);
    let named = certificate.to_string_lossy();
    let line = ["no client can connect", &*named];
    bridge.wait_log(&line);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(tls).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = Vec::new();
        // It is closed, in one way or another.
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty());
    }
    assert_eq!(bridge.log_with(&line).len(), 1);
    // Others do not notice, and nobody need start it anew.
    let soc = n("battery/258/Soc");
    assert_eq!(one_message(plain.port(), &soc, &[]), value("87.5"));
    std::fs::write(&certificate, good).unwrap();
    let more = ["--cafile", &*ca];
    assert_eq!(one_message(tls.port(), &soc, &more), value("87.5"));
}

/// What CONNACK says to this user in MQTT 3.1.1.
fn login(address: std::net::SocketAddr, user: &str, password: &str) -> u8 {
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.extend([4, 0xc2, 0, 60]);
    for text in ["", user, password] {
        put_text(&mut body, text);
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&packet(0x10, &body)).unwrap();
    let (head, body) = read_packet(&mut stream).unwrap();
    assert_eq!(head, 0x20);
    body[1]
}

#[test]
fn s9_20_users_of_a_file_right_wrong_and_changed() {
    let Some(bus) = Bus::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let row = |user: &str, password| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
    std::fs::write(&users, row("me", "secret")).unwrap();
    let text = format!(
        "[[listen]]\naddress = 'PORT'\nauth = 'users'\nusers = '{}'\n",
        users.display()
    );
    let (bridge, addresses) = configured(&bus, folder.path(), &text);
    let at = addresses[0];
    assert_eq!(login(at, "me", "secret"), 0);
    assert_eq!(login(at, "me", "wrong one"), 4);
    bridge.wait_log(&["\"me\" from 127.0.0.1 may not connect"]);
    assert!(
        bridge.log_with(&["wrong one"]).is_empty(),
        "a password is in the log"
    );
    // The file changes: it is read again, without a signal.
    std::fs::write(&users, row("me", "secret") + &row("you", "another one")).unwrap();
    assert_eq!(login(at, "you", "another one"), 0);
    // Another file, with a signal.
    let others = folder.path().join("others");
    std::fs::write(&others, row("they", "third")).unwrap();
    let text = text.replace("/users'", "/others'");
    reload(&bridge, folder.path(), &text, addresses);
    assert_eq!(login(at, "they", "third"), 0);
    assert_eq!(login(at, "me", "secret"), 4);
}

#[test]
fn s9_11_a_flood_and_who_never_reads_cost_others_nothing() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let (bridge, addresses) = configured(&bus, folder.path(), "listen = 'PORT'\n");
    let client = Client::connect(addresses[0], None);
    client.subscribe(&n("battery/#"));
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    let stopped = raw_client(addresses[0], "stopped", 0);
    (&stopped).write_all(&subscribe("#")).unwrap();
    let before = bridge.peak_kib();
    let flooder = Client::connect(addresses[0], None);
    let topic = "chat/flood";
    let payload = vec![b'x'; 500];
    for round in 0..40 {
        flooder.burst((0..500).map(|_| (topic, &payload[..])));
        let soc = f64::from(round) + 0.5;
        peer.changed("/Soc", V::D(soc));
        client.expect(0, &n("battery/258/Soc"), &value(&format!("{soc:?}")));
    }
    flooder.fence();
    let grown = bridge.peak_kib() - before;
    assert!(grown < 8 * 1024, "{grown} KiB");
}

/// A connection that has logged in with MQTT 3.1.1, this keep-alive, and a will on `last/words`.
fn raw_client(address: std::net::SocketAddr, name: &str, keep_alive_s: u8) -> TcpStream {
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.extend([4, 0x06, 0, keep_alive_s]);
    for text in [name, "last/words", name] {
        put_text(&mut body, text);
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&packet(0x10, &body)).unwrap();
    assert_eq!(read_packet(&mut stream).unwrap(), (0x20, vec![0, 0]));
    stream
}

fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    put_text(&mut body, filter);
    body.push(0);
    packet(0x82, &body)
}

/// Whether the other side closes, whatever it says before.
fn is_closed(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn s9_6_and_s9_22_half_open_connections_end() {
    let Some(bus) = Bus::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_bridge, addresses) = configured(&bus, folder.path(), "listen = 'PORT'\n");
    let watcher = Client::connect(addresses[0], None);
    watcher.subscribe("last/words");
    // Nothing at all, half of a CONNECT, and one who fell silent.
    let mut nothing = TcpStream::connect(addresses[0]).unwrap();
    let mut half = TcpStream::connect(addresses[0]).unwrap();
    half.write_all(b"\x10\x20\0\x04MQ").unwrap();
    let mut silent = raw_client(addresses[0], "silent", 1);
    for stream in [&mut silent, &mut nothing, &mut half] {
        is_closed(stream);
    }
    watcher.expect(0, "last/words", "silent");
}

#[test]
fn s9_22_so_many_clients_and_no_more() {
    let Some(bus) = Bus::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let text = "listen = 'PORT'\n[limits]\nclients-max = 2\n";
    let (_bridge, addresses) = configured(&bus, folder.path(), text);
    let one = Client::connect(addresses[0], None);
    one.subscribe("last/words");
    // The one that looked whether there is a listener may still be leaving.
    let second = poll("a place", PATIENCE, || is_let_in(addresses[0]));
    assert!(is_let_in(addresses[0]).is_none());
    drop(second);
    poll("a place", PATIENCE, || is_let_in(addresses[0]));
    one.fence();
}

/// A client of MQTT 3.1.1, where there is room for one.
fn is_let_in(address: std::net::SocketAddr) -> Option<TcpStream> {
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.extend([4, 2, 0, 60, 0, 0]);
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&packet(0x10, &body)).ok()?;
    let (head, _) = read_packet(&mut stream).ok()?;
    assert_eq!(head, 0x20);
    Some(stream)
}

#[test]
fn s9_2_a_broker_as_bridge_in_both_directions() {
    let (Some(bus), Some(broker)) = (Bus::start(), Broker::absent()) else {
        return;
    };
    let (battery, inverter) = (bus.serve(battery()), bus.serve(vebus()));
    let folder = tempfile::tempdir().unwrap();
    let (_bridge, addresses) = configured(&bus, folder.path(), "listen = 'PORT'\n");
    let mut broker = broker;
    let lines = format!(
        "connection gx\naddress {}\nremote_clientid gx\nrestart_timeout 1\nnotifications false\n\
         topic N/# in 0\ntopic R/{PORTAL}/# out 0\ntopic W/{PORTAL}/# out 0\ntopic chat/# both 0\n",
        addresses[0]
    );
    broker.listen("127.0.0.1", &lines);
    broker.restart();
    let there = broker.client();
    there.subscribe("N/#");
    there.expect(0, &n("battery/258/Soc"), &value("87.5"));
    battery.changed("/Soc", V::D(88.5));
    there.expect(0, &n("battery/258/Soc"), &value("88.5"));
    // What changed is retained there too: who comes later finds it.
    let late = broker.client();
    late.subscribe(&n("battery/258/Soc"));
    let (_, message) = late.wait(0, "the value in store", |message| {
        message.topic.ends_with("Soc")
    });
    assert_eq!(message.text(), value("88.5"));
    there.publish(&w("vebus/257/Mode"), r#"{"value": 4}"#);
    poll("the write", PATIENCE, || {
        (inverter.writes("/Mode") == [V::U(4)]).then_some(())
    });
    // No message comes back to where it was said.
    let here = Client::connect(addresses[0], None);
    here.subscribe("chat/#");
    there.subscribe("chat/#");
    there.publish("chat/a", "there");
    here.expect(0, "chat/a", "there");
    here.publish("chat/b", "here");
    there.expect(0, "chat/b", "here");
    there.fence();
    here.fence();
    assert_eq!(there.payloads(0, "chat/a"), ["there"]);
    assert_eq!(here.payloads(0, "chat/b"), ["here"]);
}

#[test]
fn s9_15_mosquitto_rr_gets_its_answer() {
    let (Some(bus), Some(_)) = (Bus::start(), find("mosquitto_rr")) else {
        return;
    };
    let inverter = bus.serve(vebus());
    let folder = tempfile::tempdir().unwrap();
    let (_bridge, addresses) = configured(&bus, folder.path(), "listen = 'PORT'\n");
    let ask = |topic: &str, payload: &str| -> serde_json::Value {
        let port = addresses[0].port().to_string();
        let text = said(Command::new("mosquitto_rr").args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "5",
            "-W",
            "30",
            "-t",
            topic,
            "-e",
            "answers/1",
            "-m",
            payload,
        ]));
        serde_json::from_str(&text).unwrap()
    };
    // Its item is there.
    let client = Client::connect(addresses[0], None);
    client.subscribe(&n("vebus/#"));
    client.wait(0, "the inverter", |message| {
        message.topic.ends_with("/Mode")
    });
    let answer = ask(&w("vebus/257/Mode"), r#"{"value": 4}"#);
    assert_eq!(
        (&answer["status"], &answer["value"]),
        (&"ok".into(), &4.into())
    );
    assert_eq!(inverter.writes("/Mode"), [V::U(4)]);
    let answer = ask(&w("vebus/257/Nowhere"), r#"{"value": 4}"#);
    assert_eq!(answer["status"], "error");
    let answer = ask(&r("vebus/257/Mode"), "");
    assert_eq!(answer["value"], 4);
}

/// A Python with paho-mqtt: the one that is there, or one made for this test, where the package can be had.
fn paho(folder: &Path) -> Option<std::path::PathBuf> {
    let python = find("python3")?;
    let has = |python: &Path| {
        let output = Command::new(python)
            .args(["-c", "import paho.mqtt"])
            .output();
        output.is_ok_and(|output| output.status.success())
    };
    if has(&python) {
        return Some(python);
    }
    let venv = folder.join("venv");
    let made = Command::new(&python)
        .args(["-m", "venv"])
        .arg(&venv)
        .output();
    let own = venv.join("bin/python");
    if made.is_ok_and(|made| made.status.success()) {
        let pip = [
            "-m",
            "pip",
            "install",
            "-q",
            "--timeout",
            "10",
            "--retries",
            "1",
            "paho-mqtt>=2,<3",
        ];
        // Whether that went well is seen next.
        let _ = Command::new(&own).args(pip).output();
        if has(&own) {
            return Some(own);
        }
    }
    // Past the harness, which would swallow it.
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED: paho-mqtt is not installed, and pip does not reach it"
    );
    None
}

const PAHO: &str = r#"
import sys, time, json, threading
import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
port, version, transport, portal = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
protocol = {"3": mqtt.MQTTv31, "4": mqtt.MQTTv311, "5": mqtt.MQTTv5}[version]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho" + version, protocol=protocol, transport=transport)
got, ready = {}, threading.Event()
def on_connect(client, userdata, flags, reason, properties):
    assert not reason.is_failure, reason
    client.subscribe("N/" + portal + "/#", qos=1)
def on_message(client, userdata, message):
    got[message.topic] = (message.payload.decode(), bool(message.retain), message)
client.on_connect, client.on_message = on_connect, on_message
client.connect("127.0.0.1", port, keepalive=5)
client.loop_start()
def wait(what, test):
    end = time.time() + 30
    while not test():
        assert time.time() < end, (what, got)
        time.sleep(0.01)
mode = "N/" + portal + "/vebus/257/Mode"
wait("the value in store", lambda: mode in got)
assert got[mode][1], "retained"
if version == "5":
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = "answers/1", b"7"
    client.publish("W/" + portal + "/vebus/257/Mode", '{"value": 1}', qos=2, properties=properties).wait_for_publish(30)
    wait("the answer", lambda: "answers/1" in got)
    assert json.loads(got["answers/1"][0]) == {"status": "ok", "value": 1}, got["answers/1"]
    assert got["answers/1"][2].properties.CorrelationData == b"7"
else:
    client.publish("W/" + portal + "/vebus/257/Mode", '{"value": 1}', qos=1).wait_for_publish(30)
wait("the new value", lambda: json.loads(got[mode][0])["value"] == 1 and not got[mode][1])
client.publish("W/" + portal + "/vebus/257/Mode", '{"value": 3}', qos=2).wait_for_publish(30)
wait("the old one", lambda: json.loads(got[mode][0])["value"] == 3)
client.disconnect()
client.loop_stop()
print("done")
"#;

#[test]
fn s9_2_paho_in_all_versions_over_tcp_and_websocket() {
    let Some(bus) = Bus::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(python) = paho(folder.path()) else {
        return;
    };
    let _peer = bus.serve(vebus());
    let text = "[[listen]]\naddress = 'PORT'\n[[listen]]\naddress = 'OTHER'\ntransport = 'ws'\n";
    let (_bridge, addresses) = configured(&bus, folder.path(), text);
    let client = Client::connect(addresses[0], None);
    client.subscribe(&n("vebus/#"));
    client.expect(0, &n("vebus/257/Mode"), &value("3"));
    for version in ["3", "4", "5"] {
        for (address, transport) in addresses.iter().zip(["tcp", "websockets"]) {
            let port = address.port().to_string();
            let mut command = Command::new(&python);
            command.args(["-c", PAHO, &port, version, transport, PORTAL]);
            assert_eq!(said(&mut command), "done\n");
        }
    }
}

#[test]
fn what_clients_do_is_counted_for_each_listener() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let metrics = crate::support::broker::free_port();
    let text = format!(
        "metrics = '127.0.0.1:{metrics}'\nstats = 3\n\
         [[listen]]\naddress = 'PORT'\nname = 'hall'\n[[listen]]\naddress = 'OTHER'\nname = 'cabin'\n"
    );
    let (_bridge, addresses) = configured(&bus, folder.path(), &text);
    let client = Client::connect(addresses[0], None);
    client.subscribe("#");
    client.expect(0, &n("bridge/status"), ONLINE);
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    client.publish(&n("battery/258/Soc"), "1");
    peer.changed("/Soc", V::D(88.5));
    client.expect(0, &n("battery/258/Soc"), &value("88.5"));
    let count = |name: &str, listener: &str| -> Option<u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", metrics)).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let head = format!("dbus_mqtt_listener_{name}{{listener=\"{listener}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&head))?;
        Some(line.parse().unwrap())
    };
    poll("the numbers", PATIENCE, || {
        (count("foreign_total", "hall") == Some(1)).then_some(())
    });
    assert_eq!(count("clients", "hall"), Some(1));
    assert_eq!(count("subscriptions", "hall"), Some(1));
    assert_eq!(count("received_total", "hall"), Some(1));
    assert!(count("sent_total", "hall").unwrap() > 7);
    assert_eq!(count("sent_total", "cabin"), Some(0));
    let (_, stats) = client.wait(0, "statistics", |message| {
        message.topic == n("bridge/stats") && message.text().contains("\"clients\": 1")
    });
    let stats: serde_json::Value = serde_json::from_str(stats.text()).unwrap();
    assert_eq!(stats["value"]["listener"]["clients"], 1, "{stats}");
    assert_eq!(stats["value"]["listener"]["refused"], 0, "{stats}");
}

#[test]
fn what_clients_do_wrong_does_not_fill_the_log() {
    let Some(bus) = Bus::start() else { return };
    let _peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(
        &users,
        format!("me:{}\n", bcrypt::hash("secret", 4).unwrap()),
    )
    .unwrap();
    let text = format!(
        "[[listen]]\naddress = 'PORT'\nauth = 'users'\nusers = '{}'\n[[listen]]\naddress = 'OTHER'\n\
         [limits]\nlog-lines-max = 3\nlog-interval-s = 1000000\nclient-filters-max = 2\n",
        users.display()
    );
    let (bridge, [guarded, open]) = configured(&bus, folder.path(), &text);
    // Each is a client that comes for the first time.
    for _ in 0..6 {
        let client = Client::connect(open, None);
        // It has a filter of its own.
        client.fence();
        client.publish(&n("battery/258/Soc"), "{}");
        client.subscribe("a/+");
        client.subscribe("b/+");
        client.fence();
    }
    let guesses: Vec<_> = (0..12)
        .map(|number| std::thread::spawn(move || login(guarded, "me", &format!("wrong {number}"))))
        .collect();
    for guess in guesses {
        assert_eq!(guess.join().unwrap(), 4);
    }
    for line in [
        "which only the bridge may",
        "more than 2 filters",
        "may not connect: wrong user name or password",
    ] {
        assert_eq!(bridge.log_with(&[line]).len(), 3, "{line}");
    }
}

#[test]
fn s9_16_two_bridges_that_are_each_others_broker_make_no_circle() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let ports = [free_port(), free_port()];
    let bridge = |portal: &str, own: u16, other: u16| {
        let (own, other) = (own.to_string(), format!("127.0.0.1:{other}"));
        let address = bus.address();
        let mut args = vec!["--dbus", &address, "--portal-id", portal];
        args.extend([
            "--listen",
            &own,
            "--mqtt-server",
            &other,
            "--keep-alive",
            "0",
        ]);
        Bridge::spawn(&args)
    };
    let bridges = [
        bridge("first", ports[0], ports[1]),
        bridge("second", ports[1], ports[0]),
    ];
    for bridge in &bridges {
        bridge.wait_log(&["broker", ": connected"]);
    }
    let clients = ports.map(|port| Client::connect(SocketAddr::from(([127, 0, 0, 1], port)), None));
    let topics = ["first", "second"].map(|portal| format!("N/{portal}/battery/258/Soc"));
    for client in &clients {
        client.subscribe("#");
        client.wait(0, "both", |message| message.topic == topics[0]);
        client.wait(0, "both", |message| message.topic == topics[1]);
    }
    let marks = clients.each_ref().map(Client::mark);
    for step in 0..5 {
        let soc = 60.0 + f64::from(step);
        peer.changed("/Soc", V::D(soc));
        clients[0].publish("chat", step.to_string());
        for (client, mark) in clients.iter().zip(marks) {
            for topic in &topics {
                client.expect(mark, topic, &value(&format!("{soc:.1}")));
            }
        }
    }
    clients[0].expect(marks[0], "chat", "4");
    // Each change came once for each bridge, and a chat at one is none at the other.
    for (client, mark) in clients.iter().zip(marks) {
        for topic in &topics {
            let said = client.payloads(mark, topic);
            assert_eq!(said.len(), 5, "{topic}: {said:?}");
        }
    }
    assert_eq!(clients[0].payloads(marks[0], "chat").len(), 5);
    assert_eq!(clients[1].payloads(marks[1], "chat").len(), 0);
}

#[test]
fn s9_22_limits_of_clients_are_set_by_name() {
    let Some(bus) = Bus::start() else { return };
    let _peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let limits = "client-levels-max = 5\nclient-packet-s = 1\nclient-handshake-s = 2\nlogins-max = 2\n\
                  login-bytes-max = 100\n";
    let text = format!("listen = 'PORT'\n[limits]\n{limits}");
    let (_bridge, [address, _]) = configured(&bus, folder.path(), &text);
    let client = Client::connect(address, None);
    // Five levels, and one more.
    client.subscribe("N/+/battery/+/Soc");
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    client.publish("1/2/3/4/5/6", "too deep");
    client.fence();
    // A packet that does not end, and a CONNECT that is too long: neither waits for what others have by default.
    let mut slow = poll("a place", PATIENCE, || is_let_in(address));
    slow.write_all(b"\x30\x20\0\x04").unwrap();
    is_closed(&mut slow);
    let mut long = TcpStream::connect(address).unwrap();
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.extend([4, 2, 0, 60]);
    put_text(&mut body, &"x".repeat(120));
    long.write_all(&packet(0x10, &body)).unwrap();
    is_closed(&mut long);
    // The third that says nothing has the first closed, and the others end by themselves.
    let mut silent: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        is_closed(stream);
    }
    client.fence();
}

#[test]
fn s9_22_each_handshake_has_ten_seconds() {
    let Some(bus) = Bus::start() else { return };
    let _peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("here");
    let (certificate, key) = authority
        .server(&["127.0.0.1"])
        .write(folder.path(), "server");
    let third = free_port();
    let text = format!(
        "[[listen]]\naddress = 'PORT'\ntransport = 'tls'\ncertificate = '{}'\nkey = '{}'\n\
         [[listen]]\naddress = 'OTHER'\ntransport = 'ws'\n\
         [[listen]]\naddress = '{third}'\n",
        certificate.display(),
        key.display()
    );
    let (_bridge, [tls, websocket]) = configured(&bus, folder.path(), &text);
    let plain = SocketAddr::from(([127, 0, 0, 1], third));
    // What each begins with, and never goes on.
    let begun: [(SocketAddr, &[u8]); 6] = [
        (tls, b""),
        (tls, b"\x16\x03\x01\x02\x00\x01"),
        (websocket, b""),
        (websocket, b"GET / HTTP/1.1\r\nHost: here\r\n"),
        (plain, b""),
        (plain, b"\x10\x20\0\x04MQ"),
    ];
    let began = Instant::now();
    let mut open = begun.map(|(address, bytes)| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    });
    // Others are let in meanwhile.
    let client = Client::connect(plain, None);
    client.subscribe("N/#");
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    for (stream, (address, bytes)) in open.iter_mut().zip(begun) {
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        let named = format!("{address}, {bytes:?}: {ended:?} {said:?}");
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(ended.as_ref().map_or_else(reset, |_| true), "{named}");
        assert!(began.elapsed() >= Duration::from_secs(9), "{named}");
    }
}
