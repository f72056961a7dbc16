//! TLS to peers that do not behave (§6): they hang at every stage, renegotiate, speak what is too old,
//! or do not end. Each time: a line that names the thing, bounded time and memory, and another attempt.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::certificates::{Authority, Identity, write};
use crate::support::client::{packet, publish, read_packet, take_text};
use crate::support::fake_broker::{FakeBroker, Manner, Packet};
use crate::support::front::{Front, server_config, server_config_up_to_1_2};
use crate::support::process::find;
use crate::support::rig::{bridge_args, n, r, value};
use crate::support::service::{BATTERY, battery};
use crate::support::wire::V;
use crate::support::{PATIENCE, in_parallel, poll};

/// Who vouches for the peers of a test, and what they have.
struct Setting {
    bus: Bus,
    folder: TempDir,
    identity: Identity,
}

impl Setting {
    fn new() -> Option<Setting> {
        let bus = Bus::start()?;
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("boat");
        write(folder.path(), "ca.crt", &authority.pem());
        let identity = authority.server(&["127.0.0.1"]);
        Some(Setting {
            bus,
            folder,
            identity,
        })
    }

    /// A bridge to this port, in MQTT 3.1.1.
    fn bridge(&self, port: u16, more: &str) -> Bridge {
        let ca = self.folder.path().join("ca.crt").display().to_string();
        let (bus, server) = (self.bus.address(), format!("mqtts://127.0.0.1:{port}"));
        // Bridges that live side by side have names of their own.
        let portal = format!("tls{port}");
        let args = ["--dbus", &bus, "-q", &server, "-c", &ca];
        let args = args.into_iter().chain(["--portal-id", &portal]);
        let args = args.chain(["--mqtt-version", "3", "--retain", "false"]);
        let args: Vec<&str> = args.chain(more.split_whitespace()).collect();
        Bridge::spawn(&args)
    }
}

/// A peer: what it does with a connection, and what the log has to say to it.
struct Peer {
    front: Front,
    says: &'static str,
}

fn peer(
    says: &'static str,
    serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> Peer {
    let front = Front::start(move |stream, _| {
        serve(stream).ok(); // ends with either end
    });
    Peer { front, says }
}

/// Runs a bridge against each, until the log says it and there is another attempt.
fn check(setting: &Setting, peers: &[Peer], more: &str) {
    in_parallel(peers, |Peer { front, says }| {
        let mut bridge = setting.bridge(front.address.port(), more);
        bridge.wait_log(&[says]);
        let patience = Duration::from_secs(90); // the slowest back-off, and a hundred per cent more
        poll(&format!("another attempt after {says:?}"), patience, || {
            (front.connections() > 1).then_some(())
        });
        bridge.assert_alive();
        let peak_kib = bridge.peak_kib();
        assert!(peak_kib < 100 * 1024, "{peak_kib} KiB after {says:?}");
        assert_eq!(bridge.log_with(&["panicked"]).len(), 0);
    });
}

/// Our end of a handshake up to what we would say to the greeting, which is given back unsent.
fn first_flight(config: &Arc<ServerConfig>, stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
    while connection.is_handshaking() && !connection.wants_write() {
        connection.read_tls(stream)?;
        connection.process_new_packets().unwrap();
    }
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}

type Encrypted = StreamOwned<ServerConnection, TcpStream>;

/// A handshake in good order, and CONNECT.
fn connected(config: &Arc<ServerConfig>, stream: TcpStream) -> std::io::Result<Encrypted> {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let (head, _) = read_packet(&mut stream)?;
    assert_eq!(head, 0x10);
    Ok(stream)
}

/// The same, acknowledged, and the subscription too.
fn subscribed(config: &Arc<ServerConfig>, stream: TcpStream) -> std::io::Result<Encrypted> {
    let mut stream = connected(config, stream)?;
    stream.write_all(&packet(0x20, &[0, 0]))?;
    let (head, body) = read_packet(&mut stream)?;
    assert_eq!(head, 0x82);
    stream.write_all(&packet(0x90, &[body[0], body[1], 0, 0]))?;
    stream.flush()?;
    Ok(stream)
}

/// One record with this in it, not sent.
fn record(stream: &mut Encrypted, plain: &[u8]) -> Vec<u8> {
    stream.conn.writer().write_all(plain).unwrap();
    let mut bytes = Vec::new();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Reads what comes, and says nothing, until the other end closes.
fn hang(mut stream: TcpStream) -> std::io::Result<()> {
    let mut space = [0; 4096];
    while stream.read(&mut space)? > 0 {}
    Ok(())
}

/// Sends bytes one by one, slowly, and hangs when they are over.
fn drip(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte])?;
        std::thread::sleep(Duration::from_millis(300)); // that it comes slowly is what is tested
    }
    hang(stream)
}

const HANDSHAKE: &str = "the broker did not complete the TLS handshake within 10 s";

#[test]
fn s6_a_peer_that_hangs_in_the_handshake_is_given_up() {
    // Before it has said anything, in the middle of what it says, and so slowly that it never ends; in
    // both versions of TLS.
    let Some(setting) = Setting::new() else {
        return;
    };
    let mut peers = vec![peer(HANDSHAKE, hang)];
    let configs = [server_config, server_config_up_to_1_2];
    for config in configs.map(|config| config(&setting.identity)) {
        let (half, whole) = (Arc::clone(&config), Arc::clone(&config));
        peers.push(peer(HANDSHAKE, move |mut stream| {
            let flight = first_flight(&half, &mut stream)?;
            stream.write_all(&flight[..flight.len() / 2])?;
            hang(stream)
        }));
        peers.push(peer(HANDSHAKE, move |mut stream| {
            let flight = first_flight(&whole, &mut stream)?;
            drip(stream, &flight)
        }));
    }
    check(&setting, &peers, "");
}

#[test]
fn s6_a_peer_that_hangs_after_the_handshake_is_given_up() {
    // Before CONNACK, within it, before SUBACK, and within a record later on: slowly too, since bytes
    // that make no packet are no sign of life.
    let Some(setting) = Setting::new() else {
        return;
    };
    let config = || server_config(&setting.identity);
    let connack = "the broker did not answer CONNECT within 10 s";
    let (mute, half, late) = (config(), config(), config());
    let (rest, slow) = (config(), config());
    let peers = [
        peer(connack, move |stream| hang(connected(&mute, stream)?.sock)),
        peer(connack, move |stream| {
            let mut stream = connected(&half, stream)?;
            let record = record(&mut stream, &packet(0x20, &[0, 0]));
            stream.sock.write_all(&record[..record.len() - 1])?;
            hang(stream.sock)
        }),
        peer(
            "the broker did not answer SUBSCRIBE within 10 s",
            move |stream| {
                let mut stream = connected(&late, stream)?;
                stream.write_all(&packet(0x20, &[0, 0]))?;
                hang(stream.sock)
            },
        ),
        peer("the broker has been silent for", move |stream| {
            let mut stream = subscribed(&rest, stream)?;
            let record = record(&mut stream, &[0x30; 16_000]);
            stream.sock.write_all(&record[..record.len() / 2])?;
            hang(stream.sock)
        }),
        peer("the broker has been silent for", move |stream| {
            let mut stream = subscribed(&slow, stream)?;
            let record = record(&mut stream, &[0x30; 16_000]);
            drip(stream.sock, &record)
        }),
    ];
    check(&setting, &peers, "--ping 8");
}

#[test]
fn s6_a_peer_of_an_older_tls_is_told_apart() {
    // It answers with its own version, as those do that do not look at what is asked for.
    let Some(setting) = Setting::new() else {
        return;
    };
    let versions = [[3, 0], [3, 1], [3, 2]];
    let peers = versions.map(|version| {
        peer(
            "the broker does not speak TLS 1.2 or newer",
            move |mut stream| {
                let _greeting = stream.read(&mut [0; 2000])?;
                let mut hello = vec![2, 0, 0, 38];
                hello.extend(version);
                hello.extend([7; 32]);
                hello.extend([0, 0xC0, 0x13, 0]);
                let length = u8::try_from(hello.len()).unwrap();
                let record = [&[22, version[0], version[1], 0, length][..], &hello].concat();
                stream.write_all(&record)?;
                hang(stream)
            },
        )
    });
    check(&setting, &peers, "");
}

#[test]
fn s6_a_peer_that_does_not_come_to_an_end_costs_no_memory() {
    // A certificate of 16 MB in the handshake; and records that nobody can decrypt after it.
    let Some(setting) = Setting::new() else {
        return;
    };
    let (first, second) = (
        server_config(&setting.identity),
        server_config(&setting.identity),
    );
    let flood = |mut stream: TcpStream, head: &[u8]| {
        stream.write_all(head)?;
        let record = [&[22, 3, 3, 0x40, 0][..], &[0; 0x4000]].concat();
        for _ in 0..4096 {
            stream.write_all(&record)?;
        }
        hang(stream)
    };
    let peers = [
        peer("TLS failed: ", move |mut stream| {
            let flight = first_flight(&first, &mut stream)?;
            // All of ServerHello, which is the first record, and no more of it.
            let length = usize::from(u16::from_be_bytes([flight[3], flight[4]]));
            stream.write_all(&flight[..5 + length])?;
            flood(stream, &[22, 3, 3, 0, 4, 11, 0xFF, 0xFF, 0xFF])
        }),
        peer("TLS failed: ", move |stream| {
            let stream = subscribed(&second, stream)?;
            flood(stream.sock, &[23, 3, 3, 0, 17])
        }),
    ];
    check(&setting, &peers, "");
}

#[test]
fn s6_new_keys_within_a_session_are_taken() {
    // TLS 1.3 lets either end ask for them at any time: what comes after is still understood, and so is
    // what the bridge says with keys of its own.
    let Some(setting) = Setting::new() else {
        return;
    };
    let config = server_config(&setting.identity);
    let (tell, told) = std::sync::mpsc::channel();
    let front = Front::start(move |stream, _| {
        let renew = || -> std::io::Result<()> {
            let portal = format!("tls{}", stream.local_addr()?.port());
            let mut stream = subscribed(&config, stream)?;
            for _ in 0..3 {
                stream.conn.refresh_traffic_keys().unwrap();
                stream.write_all(&publish(&format!("R/{portal}/keepalive"), b"", false))?;
                stream.flush()?;
                let answer = format!("N/{portal}/full_publish_completed");
                loop {
                    match read_packet(&mut stream)? {
                        (0xC0, _) => stream.write_all(&packet(0xD0, &[]))?,
                        (0x30, body) if take_text(&body).0 == answer => break,
                        _ => {}
                    }
                }
            }
            Ok(())
        };
        tell.send(renew()).ok();
    });
    let _bridge = setting.bridge(front.address.port(), "");
    told.recv_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
fn s6_a_port_that_serves_several_things_is_told_which() {
    // As at port 443 of AWS IoT Core: who offers nothing, or something else, does not get in.
    let (Some(setting), Some(broker)) = (Setting::new(), Broker::start()) else {
        return;
    };
    let front = Front::tls_for("x-amzn-mqtt-ca", &setting.identity, broker.address());
    let port = front.address.port();
    let wrong = setting.bridge(port, "--alpn mqtt");
    wrong.wait_log(&["WARN", "does not know the protocol that alpn names"]);
    drop(wrong);
    let without = setting.bridge(port, "");
    without.wait_log(&["WARN", "closed the connection"]);
    drop(without);
    for more in ["--alpn x-amzn-mqtt-ca", "--engine aws-iot"] {
        let bridge = setting.bridge(port, more);
        bridge.wait_log(&["connected, with MQTT 3.1.1"]);
    }
}

#[test]
fn s4_12_within_the_limits_of_aws_nothing_is_refused_and_no_last_value_lost() {
    const LOADS: usize = 600;
    let Some(setting) = Setting::new() else {
        return;
    };
    let load = |number: usize| format!("/Load/{number}");
    let long = format!("/{}", "x".repeat(250));
    let mut service = battery()
        .item("/A/B/C/D", V::I(8))
        .item("/A/B/C/E/F", V::I(9))
        .item(&long, V::I(9));
    for number in 0..LOADS {
        service = service.item(&load(number), V::I(-1));
    }
    let peer = setting.bus.serve(service);
    let broker = FakeBroker::start(Manner::Aws);
    let front = Front::tls_for("x-amzn-mqtt-ca", &setting.identity, broker.address);
    let server = format!("mqtts://127.0.0.1:{}", front.address.port());
    let ca = setting.folder.path().join("ca.crt").display().to_string();
    let more = format!("--engine aws-iot --mqtt-certificate {ca} --keep-alive 0");
    let _bridge = Bridge::spawn(&bridge_args(&setting.bus, &server, &more));
    broker.wait_published(0, &n("battery/258/A/B/C/D"), &value("8"));
    // They change while the full publish, of six seconds and more, is on its way.
    for number in 0..LOADS {
        let new = i32::try_from(number).unwrap();
        peer.update(BATTERY, &load(number), V::I(new));
    }
    let are_last = |from: usize| {
        let packets = broker.packets();
        let published = packets[from..].iter().filter_map(Packet::published);
        let last: BTreeMap<String, String> = published
            .map(|(topic, payload, _)| (topic, payload))
            .collect();
        (0..LOADS)
            .all(|number| {
                let topic = n(&format!("battery/258{}", load(number)));
                last.get(&topic) == Some(&value(&number.to_string()))
            })
            .then_some(())
    };
    poll("the last values", PATIENCE, || are_last(0));
    // An answer does not wait for them.
    let from = broker.packets().len();
    broker.publish(&r("battery/258/Soc"), "");
    broker.wait_published(from, &n("battery/258/Soc"), &value("87.5"));
    assert_eq!(broker.connections(), 1, "something was refused");
    // After a loss all of them come again, at the same pace.
    let from = broker.packets().len();
    broker.close();
    poll("the last values again", PATIENCE, || are_last(from));
    assert_eq!(broker.connections(), 2, "something was refused");
    let deep = [n("battery/258/A/B/C/E/F"), n(&format!("battery/258{long}"))];
    let packets = broker.packets();
    let mut topics = packets.iter().filter_map(Packet::published);
    assert!(topics.all(|(topic, ..)| !deep.contains(&topic)));
}

/// `openssl s_server`, which does what it is told on its standard input.
struct OpenSsl {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
}

impl OpenSsl {
    fn start(program: &Path, setting: &Setting, port: u16, more: &[&str]) -> OpenSsl {
        let (certificate, key) = setting.identity.write(setting.folder.path(), "server");
        let mut child = Command::new(program)
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}")])
            .arg("-cert")
            .arg(certificate)
            .arg("-key")
            .arg(key)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let (mut out, theirs) = (child.stdout.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut space = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut space) {
                theirs.lock().unwrap().extend(&space[..read]);
            }
        });
        OpenSsl { child, said }
    }

    /// Waits until its output has this text so many times.
    fn wait(&self, text: &str, times: usize) {
        poll(&format!("openssl to say {text:?}"), PATIENCE, || {
            let said = self.said.lock().unwrap();
            let found = said.windows(text.len()).filter(|at| *at == text.as_bytes());
            (found.count() >= times).then_some(())
        });
    }

    /// Sends what it takes for text, or does what it takes for a command: a letter and a line end.
    fn say(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn s6_a_peer_that_renegotiates_is_told_apart() {
    // Before CONNACK, and within a session: the bridge declines, openssl gives up, and the bridge comes
    // back.
    let (Some(program), Some(setting)) = (find("openssl"), Setting::new()) else {
        return;
    };
    for in_session in [false, true] {
        let port = crate::support::broker::free_port();
        let mut server = OpenSsl::start(&program, &setting, port, &["-tls1_2"]);
        server.wait("ACCEPT", 1);
        let mut bridge = setting.bridge(port, "--ping 600");
        server.wait("MQTT", 1);
        if in_session {
            server.say(&packet(0x20, &[0, 0]));
            server.wait("/#", 2);
            server.say(&packet(0x90, &[0, 1, 0, 0]));
            bridge.wait_log(&[": connected"]);
        }
        server.say(b"R\n");
        bridge.wait_log(&["the broker wants to renegotiate TLS"]);
        server.wait("MQTT", 2);
        bridge.assert_alive();
        bridge.signal(Signal::TERM);
    }
}

#[test]
fn s6_openssl_of_old_is_told_apart() {
    // Only TLS 1.1 or 1.0: it says so by itself.
    let (Some(program), Some(setting)) = (find("openssl"), Setting::new()) else {
        return;
    };
    for version in ["-tls1_1", "-tls1"] {
        let port = crate::support::broker::free_port();
        let more = [version, "-cipher", "ALL:@SECLEVEL=0"];
        let server = OpenSsl::start(&program, &setting, port, &more);
        server.wait("ACCEPT", 1);
        let bridge = setting.bridge(port, "");
        bridge.wait_log(&["the broker does not speak TLS 1.2 or newer"]);
        assert!(bridge.log_with(&["does it speak TLS"]).is_empty());
    }
}
