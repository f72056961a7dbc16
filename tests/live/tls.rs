//! TLS to a real broker (§6): what works, each reason for which it does not, and a broker that goes and
//! comes back.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::certificates::{
    Authority, FUTURE, Identity, NOW, PAST, encrypted, exclusive, trusted, write,
};
use crate::support::front::Front;
use crate::support::in_parallel;
use crate::support::load::Load;
use crate::support::rig::{ONLINE, Rig, both, n, value};
use crate::support::service::battery;
use crate::support::wire::s;

/// A bridge that lives beside others: a name of its own, and an installation of its own.
fn bridge(bus: &Bus, number: usize, args: &[String], environment: &[(&str, &str)]) -> Bridge {
    let address = bus.address();
    let (portal, client) = (format!("tls{number}"), format!("tls-{number}"));
    let base = ["--dbus", &address, "--portal-id", &portal];
    let base = base.into_iter().chain(["--client-id", &client]);
    let all: Vec<&str> = base.chain(args.iter().map(String::as_str)).collect();
    Bridge::spawn_with(&all, environment)
}

fn args(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Arguments, and what the log has to say to them.
struct Case {
    args: String,
    says: &'static [&'static str],
}

fn case(args: impl Into<String>, says: &'static [&'static str]) -> Case {
    let args = args.into();
    Case { args, says }
}

/// Runs a bridge for each case until the log says what it should.
fn check(bus: &Bus, cases: Vec<Case>, environment: &[(&str, &str)]) {
    let cases: Vec<(usize, Case)> = cases.into_iter().enumerate().collect();
    in_parallel(&cases, |(number, case)| {
        let mut bridge = bridge(bus, *number, &args(&case.args), environment);
        bridge.wait_log(case.says);
        bridge.assert_alive();
    });
}

const CONNECTED: &[&str] = &[": connected"];

#[test]
fn s6_tls_carries_all_that_tcp_does() {
    // Values, requests and the farewell; the certificate's authority is in a file.
    let Some(broker) = Broker::absent() else {
        return;
    };
    let authority = Authority::new("boat");
    let ca = write(broker.folder(), "ca.crt", &authority.pem());
    let lines = encrypted(broker.folder(), "server", &authority.server(&["localhost"]));
    let port = broker.listen("127.0.0.1", &lines);
    let mut broker = broker;
    broker.restart();
    let Some(rig) = Rig::with(broker) else { return };
    let _battery = rig.bus.serve(battery());
    let server = format!("mqtts://localhost:{port}");
    let mut bridge = rig.bridge(&format!("-q {server} -c {}", ca.display()));
    rig.wake();
    rig.wait_retained("over TLS", &battery().topics(258));
    rig.fence_by_read("battery/258/Soc");
    bridge.terminate();
    rig.wait_retained("after the end", &BTreeMap::new());
}

#[test]
fn s6_tls_in_all_its_forms() {
    // Names and addresses, both versions of TLS, certificates of our own, keys in each form.
    let (Some(mut broker), Some(bus)) = (Broker::absent(), Bus::start()) else {
        return;
    };
    let folder = broker.folder().to_owned();
    let authority = Authority::new("boat");
    let ca = trusted(&folder, "ca.crt", &authority);
    let listen = |address: &str, name: &str, identity: &Identity, more: &str| {
        broker.listen(address, &(encrypted(&folder, name, identity) + more))
    };
    let v4 = "127.0.0.1";
    let named = listen(v4, "named", &authority.server(&["localhost"]), "");
    let numbered = listen(v4, "numbered", &authority.server(&[v4]), "");
    let has_six = TcpListener::bind("[::1]:0").is_ok();
    let six = has_six.then(|| listen("::1", "six", &authority.server(&["::1"]), ""));
    let star = listen(v4, "star", &authority.server(&["*.boat.example"]), "");
    let Some(elder) = Broker::absent() else {
        return;
    };
    let mut elder = elder.with_old_tls();
    let lines = encrypted(&folder, "old", &authority.server(&[v4]));
    let old = elder.listen(v4, &lines);
    elder.restart();
    let new = listen(v4, "new", &authority.server(&[v4]), "tls_version tlsv1.3\n");
    let own = listen(v4, "own", &Identity::own_authority(&[v4], NOW), "");
    let clients = Authority::new("crew");
    let lines = exclusive(&folder, "closed", &authority.server(&[v4]), &clients);
    let closed = broker.listen(v4, &lines);
    broker.restart();

    let us = clients.client("bridge", NOW);
    let (certificate, key) = us.write(&folder, "us");
    let (certificate, key) = (certificate.display(), key.display());
    let sec1 = write(&folder, "us.sec1", &us.sec1_pem());
    let both = us.certificate_pem() + &us.key_pem();
    let both = write(&folder, "us.pem", &both);
    let own_ca = folder.join("own.crt");
    let client = format!("-q {v4}:{closed} -c {ca} --mqtt-client-certificate");
    let ok = |args: String| case(args, CONNECTED);
    check(
        &bus,
        vec![
            ok(format!("-q mqtts://localhost:{named} -c {ca}")),
            ok(format!("-q localhost:{named} -c {ca}")), // a CA is enough to ask for it
            ok(format!("-q mqtts://{v4}:{numbered} -c {ca}")),
            ok(format!(
                "-q {v4}:{named} -c {ca} --mqtt-server-name localhost"
            )),
            ok(format!(
                "-q {v4}:{star} -c {ca} --mqtt-server-name mqtt.boat.example"
            )),
            ok(format!("-q {v4}:{old} -c {ca}")),
            ok(format!("-q {v4}:{new} -c {ca}")),
            ok(format!("-q {v4}:{own} -c {}", own_ca.display())),
            ok(format!("{client} {certificate} --mqtt-client-key {key}")),
            ok(format!(
                "{client} {certificate} --mqtt-client-key {}",
                sec1.display()
            )),
            ok(format!("{client} {}", both.display())),
        ],
        &[],
    );
    if let Some(six) = six {
        check(
            &bus,
            vec![ok(format!("-q mqtts://[::1]:{six} -c {ca}"))],
            &[],
        );
    }
    // Without a file the system says whom to trust.
    let system = [("SSL_CERT_FILE", ca.as_str())];
    check(
        &bus,
        vec![ok(format!("-q mqtts://localhost:{named}"))],
        &system,
    );
}

#[test]
fn s6_each_fault_of_a_certificate_has_its_sentence() {
    let (Some(mut broker), Some(bus)) = (Broker::absent(), Bus::start()) else {
        return;
    };
    let folder = broker.folder().to_owned();
    let authority = Authority::new("boat");
    let ca = trusted(&folder, "ca.crt", &authority);
    let other = Authority::new("other");
    let other_ca = trusted(&folder, "other.crt", &other);
    let v4 = "127.0.0.1";
    let listen =
        |name: &str, identity: &Identity| broker.listen(v4, &encrypted(&folder, name, identity));
    let good = listen("good", &authority.server(&[v4]));
    let expired = listen("expired", &authority.server_in(&[v4], PAST));
    let early = listen("early", &authority.server_in(&[v4], FUTURE));
    let elsewhere = listen("elsewhere", &authority.server(&["venus.local", "10.0.0.1"]));
    let nameless = listen("nameless", &authority.server(&[]));
    let client = listen("client", &authority.client("no server", NOW));
    let own = listen("own", &Identity::own_authority(&[v4], NOW));
    let own_expired = listen("own1", &Identity::own_authority(&[v4], PAST));
    let own_elsewhere = listen("own2", &Identity::own_authority(&["venus.local"], NOW));
    broker.restart();

    let in_folder = |name: &str| folder.join(name).display().to_string();
    check(
        &bus,
        vec![
            case(
                format!("-q {v4}:{good} -c {other_ca}"),
                &[
                    "the broker's certificate is from another CA than the one in",
                    "other.crt",
                ],
            ),
            case(
                format!("-q {v4}:{expired} -c {ca}"),
                &["the broker's certificate expired", "days ago"],
            ),
            case(
                format!("-q {v4}:{early} -c {ca}"),
                &[
                    "the broker's certificate is not valid for another",
                    "days (is the clock of this device right?)",
                ],
            ),
            case(
                format!("-q {v4}:{elsewhere} -c {ca}"),
                &["the broker's certificate is for venus.local, 10.0.0.1, not for 127.0.0.1"],
            ),
            case(
                format!("-q {v4}:{good} -c {ca} --mqtt-server-name mqtt.example"),
                &["the broker's certificate is for 127.0.0.1, not for mqtt.example"],
            ),
            case(
                format!("-q {v4}:{nameless} -c {ca}"),
                &[
                    "the broker's certificate has no name (no subjectAltName), so it is not valid for 127.0.0.1",
                ],
            ),
            case(
                format!("-q {v4}:{client} -c {ca}"),
                &["the broker's certificate", "not meant for a server"],
            ),
            case(
                format!("-q {v4}:{own} -c {ca}"),
                &["the broker's certificate is its own CA, so it has to be given in a file itself"],
            ),
            // INVARIANT: a_certificate_that_is_its_own_ca_still_needs_its_dates_and_its_name
            case(
                format!("-q {v4}:{own_expired} -c {}", in_folder("own1.crt")),
                &["the broker's certificate expired"],
            ),
            case(
                format!("-q {v4}:{own_elsewhere} -c {}", in_folder("own2.crt")),
                &["the broker's certificate is for venus.local, not for 127.0.0.1"],
            ),
        ],
        &[],
    );
    // Nobody the system knows; and a system that knows nobody has those that Mozilla trusts.
    let words = &["the broker's certificate is from a CA that this system does not know"];
    let empty = write(&folder, "empty.crt", "").display().to_string();
    for file in [&other_ca, &empty] {
        let cases = vec![case(format!("-q mqtts://{v4}:{good}"), words)];
        check(&bus, cases, &[("SSL_CERT_FILE", file)]);
    }
}

#[test]
fn s6_a_client_certificate_that_is_missing_or_refused_is_said() {
    // With TLS 1.3 the refusal comes when the handshake is over for us.
    let (Some(mut broker), Some(bus)) = (Broker::absent(), Bus::start()) else {
        return;
    };
    let folder = broker.folder().to_owned();
    let (authority, clients) = (Authority::new("boat"), Authority::new("crew"));
    let ca = trusted(&folder, "ca.crt", &authority);
    let v4 = "127.0.0.1";
    let lines = exclusive(&folder, "closed", &authority.server(&[v4]), &clients);
    let new = broker.listen(v4, &lines);
    broker.restart();
    let Some(elder) = Broker::absent() else {
        return;
    };
    let mut elder = elder.with_old_tls();
    let old = elder.listen(v4, &lines);
    elder.restart();
    let (stranger, stranger_key) = Authority::new("pirates")
        .client("x", NOW)
        .write(&folder, "x");
    let (late, late_key) = clients.client("late", PAST).write(&folder, "late");
    let with = |port: u16, certificate: &Path, key: &Path| {
        format!(
            "-q {v4}:{port} -c {ca} --mqtt-client-certificate {} --mqtt-client-key {}",
            certificate.display(),
            key.display()
        )
    };
    check(
        &bus,
        vec![
            case(
                format!("-q {v4}:{new} -c {ca}"),
                &["the broker wants a client certificate, and there is none in the settings"],
            ),
            case(
                format!("-q {v4}:{old} -c {ca}"),
                &["it wants a client certificate"],
            ),
            case(
                with(new, &stranger, &stranger_key),
                &["the broker refused our client certificate: it does not know its CA"],
            ),
            case(
                with(old, &stranger, &stranger_key),
                &["the broker refused our client certificate: it does not know its CA"],
            ),
            case(
                with(new, &late, &late_key),
                &["the broker refused our client certificate: it has expired"],
            ),
        ],
        &[],
    );
}

#[test]
fn s6_a_faulty_file_is_named_and_nothing_of_a_key_is_told() {
    let Some(bus) = Bus::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new("boat");
    let (us, we) = (authority.client("us", NOW), authority.client("we", NOW));
    let (certificate, key) = us.write(folder, "us");
    let (_, other_key) = we.write(folder, "we");
    let (certificate, key) = (certificate.display(), key.display());
    let other_key = other_key.display();
    let damaged = write(
        folder,
        "damaged.crt",
        &authority.pem().replace("-----END", "END"),
    );
    let no_der = crate::support::certificates::pem("CERTIFICATE", b"no certificate at all");
    let no_der = write(folder, "no-der.crt", &no_der);
    let no_key = crate::support::certificates::pem("PRIVATE KEY", b"no key at all");
    let no_key = write(folder, "no.key", &no_key);
    let locked = us.key_pem().replace("PRIVATE", "ENCRYPTED PRIVATE");
    let locked = write(folder, "locked.key", &locked);
    let large = write(folder, "large.crt", &"x".repeat(1 << 21));
    let q = "-q mqtts://127.0.0.1:1"; // nobody has to be there for it
    let client = format!("{q} --mqtt-client-certificate");
    let cases = vec![
        case(
            format!("{q} -c {}/none.crt", folder.display()),
            &["none.crt: No such file"],
        ),
        case(format!("{q} -c {}", folder.display()), &["it is a folder"]),
        case(
            format!("{q} -c {key}"),
            &["us.key: there is no certificate in it"],
        ),
        case(
            format!("{q} -c {}", damaged.display()),
            &["damaged.crt: it is damaged, or not a PEM file"],
        ),
        case(
            format!("{q} -c {}", no_der.display()),
            &["no-der.crt: a certificate in it is damaged"],
        ),
        case(
            format!("{q} -c {}", large.display()),
            &["large.crt: it is larger than 1024 KiB"],
        ),
        case(
            format!("{client} {certificate} --mqtt-client-key {other_key}"),
            &[
                "the key in",
                "we.key does not belong to the certificate in",
                "us.crt",
            ],
        ),
        case(
            format!("{client} {certificate}"),
            &["us.crt: there is no private key in it"],
        ),
        case(
            format!(
                "{client} {certificate} --mqtt-client-key {}",
                locked.display()
            ),
            &["locked.key: the key in it is encrypted"],
        ),
        case(
            format!(
                "{client} {certificate} --mqtt-client-key {}",
                no_key.display()
            ),
            &["no.key: the key in it is damaged, or of an unknown kind"],
        ),
    ];
    let secret: Vec<String> = [&us, &we]
        .into_iter()
        .flat_map(|identity| {
            identity
                .key_pem()
                .lines()
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter(|line| !line.starts_with('-'))
        .collect();
    let cases: Vec<(usize, Case)> = cases.into_iter().enumerate().collect();
    in_parallel(&cases, |(number, case)| {
        let loud = [("RUST_LOG", "trace")];
        let bridge = bridge(&bus, *number, &args(&case.args), &loud);
        bridge.wait_log(case.says);
        for line in &secret {
            assert!(bridge.log_with(&[line]).is_empty(), "a key in the log");
        }
    });
}

#[test]
fn s6_a_peer_that_does_not_speak_tls_is_told_apart() {
    let (Some(broker), Some(bus)) = (Broker::start(), Bus::start()) else {
        return;
    };
    let http = Front::start(|mut stream, _| {
        use std::io::{Read, Write};
        let _greeting = stream.read(&mut [0; 100]).unwrap_or_default();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
    });
    let closing = Front::start(|_, _| {});
    let authority = Authority::new("boat");
    let encrypted = Front::tls(&authority.server(&["127.0.0.1"]), closing.address);
    // Half of an answer to our greeting, and then nothing.
    let half = Front::start(|mut stream, _| {
        use std::io::{Read, Write};
        let _greeting = stream.read(&mut [0; 1000]).unwrap_or_default();
        stream
            .write_all(&[22, 3, 3, 0, 100, 2, 0, 0, 96, 3, 3])
            .ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        std::thread::sleep(Duration::from_secs(1));
    });
    let silent = Front::start(|stream, _| {
        std::thread::sleep(Duration::from_secs(60));
        drop(stream);
    });
    let closed = &[
        "the broker closed the connection during the TLS handshake; is this port for TLS? Without TLS, write mqtt://",
    ];
    check(
        &bus,
        vec![
            case(format!("-q mqtts://127.0.0.1:{}", broker.port), closed),
            case(format!("-q mqtts://{}", closing.address), closed),
            case(format!("-q mqtts://{}", half.address), closed),
            case(
                format!("-q mqtts://{}", http.address),
                &["this port does not speak TLS. Without TLS, write mqtt://"],
            ),
            // MQTT to a port that is encrypted, and to one for WebSocket.
            case(format!("-q {}", encrypted.address), &["write mqtts://"]),
            case(format!("-q {}", http.address), &["write ws://"]),
            case(
                format!("-q mqtts://{}", silent.address),
                &["the broker did not complete the TLS handshake within 10 s"],
            ),
        ],
        &[],
    );
}

#[test]
fn s6_what_cannot_heal_is_retried_slowly() {
    // A wrong CA is one attempt in seconds, not one after the other.
    let Some(bus) = Bus::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("boat"), Authority::new("other"));
    let ca = write(folder.path(), "ca.crt", &other.pem());
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let front = Front::tls(&authority.server(&["127.0.0.1"]), nowhere);
    let line = format!(
        "-q mqtts://{} -c {} --reconnect-max 86400",
        front.address,
        ca.display()
    );
    let bridge = bridge(&bus, 0, &args(&line), &[]);
    bridge.wait_log(&["from another CA"]);
    std::thread::sleep(Duration::from_secs(2)); // the rate is what is tested
    assert_eq!(front.connections(), 1);
}

#[test]
fn s6_password_and_access_list_hold_within_tls() {
    let Some(broker) = Broker::absent().and_then(|broker| broker.with_login("venus", "s3cret"))
    else {
        return;
    };
    let mut broker = broker;
    let authority = Authority::new("boat");
    let ca = write(broker.folder(), "ca.crt", &authority.pem());
    let acl = write(broker.folder(), "acl", "user venus\ntopic readwrite #\n");
    let lines = encrypted(broker.folder(), "server", &authority.server(&["127.0.0.1"]));
    let port = broker.listen("127.0.0.1", &format!("{lines}acl_file {}\n", acl.display()));
    broker.restart();
    let Some(rig) = Rig::with(broker) else { return };
    let _battery = rig.bus.serve(battery());
    let login = format!("-q 127.0.0.1:{port} -c {} --mqtt-user venus", ca.display());
    let wrong = Bridge::spawn(&rig.args(&format!("{login} --mqtt-password wr0ng")));
    crate::support::poll("words on the password", crate::support::PATIENCE, || {
        let said = wrong.log().into_iter().map(|line| line.to_lowercase());
        said.filter(|line| line.contains("password") || line.contains("authorized"))
            .find(|_| true)
    });
    assert!(wrong.log_with(&["wr0ng"]).is_empty());
    drop(wrong);
    let bridge = rig.bridge(&format!("{login} --mqtt-password s3cret --keep-alive 0 -d"));
    rig.wait_retained("with the right one", &battery().topics(258));
    assert!(bridge.log_with(&["s3cret"]).is_empty());
}

#[test]
fn s6_a_broker_that_comes_back_with_another_certificate_gets_everything() {
    // Killed under load; both its certificate and its authority are new. No restart of ours is needed.
    let Some(mut broker) = Broker::absent() else {
        return;
    };
    let folder = broker.folder().to_owned();
    let make = |name: &str| {
        let authority = Authority::new(name);
        let ca = write(&folder, "ca.crt", &authority.pem());
        (
            ca,
            encrypted(&folder, "server", &authority.server(&["127.0.0.1"])),
        )
    };
    let (ca, lines) = make("boat");
    let port = broker.listen("127.0.0.1", &lines);
    broker.restart();
    let Some(mut rig) = Rig::with(broker) else {
        return;
    };
    let _battery = rig.bus.serve(battery());
    let line = format!("-q 127.0.0.1:{port} -c {} --keep-alive 0", ca.display());
    let mut bridge = rig.bridge(&line);
    let load = Load::start(&rig.bus);
    for name in ["boat again", "boat once more"] {
        rig.broker.kill();
        bridge.assert_alive();
        make(name);
        rig.broker.restart();
        crate::support::rig::wait_one_retained(&rig.broker, &n("bridge/status"), Some(ONLINE));
    }
    let (_owner, last) = load.finish();
    rig.wait_retained("in the end", &both(battery().topics(258), last.topics(1)));
}

#[test]
fn s6_a_broker_that_stalls_within_tls_costs_freshness_not_memory() {
    let Some(mut broker) = Broker::absent() else {
        return;
    };
    let authority = Authority::new("boat");
    let ca = write(broker.folder(), "ca.crt", &authority.pem());
    let lines = encrypted(broker.folder(), "server", &authority.server(&["127.0.0.1"]));
    let port = broker.listen("127.0.0.1", &lines);
    broker.restart();
    let Some(rig) = Rig::with(broker) else { return };
    let peer = rig.bus.serve(battery());
    let line = format!("-q 127.0.0.1:{port} -c {} --keep-alive 0", ca.display());
    let bridge = rig.bridge(&line);
    rig.wait_retained("before", &battery().topics(258));
    let before_kib = bridge.peak_kib();
    rig.broker.pause();
    let long = "x".repeat(2_000);
    for round in 0..5_000 {
        peer.changed("/ProductName", s(&format!("{round}{long}")));
    }
    rig.bus.fence(&[&peer]); // the bridge reads the bus, broker or not
    let grown_kib = bridge.peak_kib() - before_kib;
    assert!(grown_kib < 32 * 1024, "{grown_kib} KiB more");
    rig.broker.resume();
    let mut expected = battery().topics(258);
    let last = value(&format!("\"4999{long}\""));
    expected.insert(n("battery/258/ProductName"), last);
    rig.wait_retained("after the stall", &expected);
}
