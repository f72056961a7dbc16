//! `dbus-mqtt doctor`: what it says where all is well, and of each fault.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::bridge::Bridge;
use crate::support::broker::{Broker, free_port};
use crate::support::bus::Bus;
use crate::support::fake_broker::{FakeBroker, Manner, Packet, SUBSCRIBE};
use crate::support::peer::Peer;
use crate::support::program::{Said, program, run};
use crate::support::rig::{PORTAL, Rig, n};
use crate::support::service::{BATTERY, Reply, Service, battery, vebus};
use crate::support::wire::{V, s};
use crate::support::{PATIENCE, poll};
use rustix::process::Signal;

/// Runs the doctor with the settings of a rig's bridge.
fn doctor(rig: &Rig, more: &str) -> Said {
    let mut args = vec!["doctor".to_owned()];
    args.extend(rig.args(more));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run(&mut program(rig.broker.port, &args))
}

/// Runs it while a value changes all the time, as some do on a device.
fn doctor_while_changing(rig: &Rig, peer: &Peer, more: &str) -> Said {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut soc = 0.0;
            while !done.load(Ordering::Relaxed) {
                soc = f64::from(50) + (soc + 1.0) % 10.0;
                peer.update(BATTERY, "/Soc", V::D(soc));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let said = doctor(rig, more);
        done.store(true, Ordering::Relaxed);
        said
    })
}

/// That the check of this name has found this, with these words.
#[track_caller]
fn assert_found(said: &Said, verdict: &str, check: &str, words: &[&str]) {
    let found = said.out.lines().find(|line| {
        let mut parts = line.split_whitespace();
        (parts.next(), parts.next()) == (Some(verdict), Some(check))
    });
    let line = found.unwrap_or_else(|| panic!("no {verdict} of {check}:\n{}", said.out));
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
    let fault = verdict == "FAULT";
    assert!(said.status == 1 || !fault, "{said:?}");
    assert!(
        line.contains(" -> ") || !fault,
        "nothing to do about: {line}"
    );
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn all_is_well_and_nothing_is_changed() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let second = rig.bus.serve(vebus());
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    let keys = |rig: &Rig| -> Vec<String> { rig.retained().into_keys().collect() };
    rig.wake();
    rig.client.fence();
    let before = keys(&rig);
    assert!(before.len() > 12, "{before:?}");
    let said = doctor_while_changing(&rig, &peer, "");
    assert_eq!((said.status, said.error.as_str()), (0, ""), "{}", said.out);
    let checks: Vec<(&str, &str)> = said
        .out
        .lines()
        .map(|line| {
            let mut parts = line.split_whitespace();
            (parts.next().unwrap(), parts.next().unwrap())
        })
        .collect();
    let expected = [
        "clock", "settings", "secrets", "bus", "reading", "signals", "broker", "rights", "bridge",
    ];
    assert_eq!(checks, expected.map(|check| ("ok", check)), "{}", said.out);
    assert!(!said.out.contains('\u{1b}'), "colours are for terminals");
    assert_eq!(keys(&rig), before);
    assert_eq!(second.writes("/Mode").len(), 0);
    bridge.assert_alive();

    let said = doctor_while_changing(&rig, &peer, "--json");
    assert_eq!((said.status, said.error.as_str()), (0, ""), "{}", said.out);
    let lines: Vec<serde_json::Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let checks: Vec<&str> = lines
        .iter()
        .map(|line| line["check"].as_str().unwrap())
        .collect();
    assert_eq!(checks, expected);
    assert!(lines.iter().all(|line| line["status"] == "ok"), "{lines:?}");
}

#[test]
fn a_bus_that_is_not_there_or_not_the_right_one() {
    let Some(mut rig) = Rig::start() else { return };
    let said = doctor(&rig, "--timeout 1");
    assert_found(&said, "FAULT", "bus", &["no service of Victron", "--dbus"]);
    rig.bus.kill();
    let said = doctor(&rig, "--timeout 1");
    assert_found(&said, "FAULT", "bus", &["cannot connect", "--dbus"]);
    // One that takes connections and says nothing.
    rig.bus.restart();
    rig.bus.pause();
    let said = doctor(&rig, "--timeout 1");
    assert_found(&said, "FAULT", "bus", &["no answer within 1 s"]);
}

#[test]
fn a_service_that_hangs_is_named_and_holds_up_nothing() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let hanging = rig.bus.peer();
    hanging.on(|_| Reply::Later);
    hanging.serve(vebus());
    let said = doctor(&rig, "--timeout 1");
    let words = ["1 of 2 services", "com.victronenergy.vebus.ttyO1"];
    assert_found(&said, "note", "reading", &words);
    // Nothing changed here in the meantime, which is no fault by itself.
    assert_found(&said, "note", "signals", &["no value has changed"]);
}

#[test]
fn the_content_of_each_answer_is_looked_at() {
    let Some(rig) = Rig::start() else { return };
    let tank = |tail: &str, instance: V| {
        let mut tank = Service::device("tank", tail, 0).item("/Level", V::D(1.0));
        tank.items.get_mut("/DeviceInstance").unwrap().value = instance;
        tank
    };
    let _peers = [
        rig.bus.serve(tank("a", V::I(4))),
        rig.bus.serve(tank("b", s("4"))),
    ];
    let failing = rig.bus.peer();
    failing.on(|_| Reply::Says("org.example.Error", "sensor\nfailed"));
    failing.serve(vebus());
    let said = doctor(&rig, "--timeout 1");
    let words = [
        "1 of 3 services give no values",
        "vebus.ttyO1",
        r"sensor\nfailed",
    ];
    assert_found(&said, "note", "reading", &words);
    let words = [
        "2 services are tank/4",
        "tank.a",
        "tank.b",
        "a different instance",
    ];
    assert_found(&said, "FAULT", "devices", &words);
    assert_found(&said, "note", "devices", &["is a text", "tank.b"]);
}

#[test]
fn what_a_broker_should_not_have_in_store() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let _bridge = rig.bridge("--retain true --keep-alive 0 --mqtt-version 3");
    let write = format!("W/{}/vebus/257/Mode", crate::support::rig::PORTAL);
    rig.client.publish_retained(&write, r#"{"value": 4}"#);
    rig.client.fence();
    for version in ["3", "5"] {
        let done = AtomicBool::new(false);
        let said = std::thread::scope(|scope| {
            // Again and again, as another bridge does: ours clears what it finds when it has connected.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let topic = n("tank/9/Level");
                    rig.client.publish_retained(&topic, r#"{"value": 4}"#);
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            let said = doctor_while_changing(&rig, &peer, &format!("--mqtt-version {version}"));
            done.store(true, Ordering::Relaxed);
            said
        });
        let spoken = if version == "3" {
            "MQTT 3.1.1"
        } else {
            "MQTT 5"
        };
        assert_found(&said, "ok", "broker", &[spoken]);
        assert_found(
            &said,
            "FAULT",
            "requests",
            &["keeps 1 requests", &write, "-r -n -t"],
        );
        assert_found(&said, "FAULT", "foreign", &["not on the bus: tank/9"]);
        assert!(!said.out.contains("battery/258"), "{}", said.out);
    }
}

#[test]
fn s4_9_a_broker_that_gives_nothing_retained_to_a_wildcard() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let fake = FakeBroker::start(Manner::Good);
    let asked = |filter: &str| {
        let such = |packet: &Packet| {
            packet.kind() == SUBSCRIBE && packet.filters().iter().any(|(own, _)| own == filter)
        };
        fake.wait(filter, such);
    };
    let mut args = vec!["doctor".to_owned()];
    args.extend(crate::support::rig::bridge_args(
        &rig.bus,
        &fake.address.to_string(),
        "--timeout 3",
    ));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = std::thread::scope(|scope| {
        let said = scope.spawn(|| run(&mut program(fake.address.port(), &args)));
        // Only who asks for it by its name is given what is in store.
        asked(&n("system/+/Serial"));
        asked(&n("system/0/Serial"));
        let (topic, payload) = (n("system/0/Serial"), r#"{"value": "e0ff50a097c0"}"#);
        let mut packet = vec![
            0x31,
            u8::try_from(2 + topic.len() + payload.len()).unwrap(),
            0,
        ];
        packet.push(u8::try_from(topic.len()).unwrap());
        packet.extend_from_slice(topic.as_bytes());
        packet.extend_from_slice(payload.as_bytes());
        fake.send(&packet);
        said.join().unwrap()
    });
    assert_found(
        &said,
        "note",
        "retained",
        &["no retained messages to subscriptions with wildcards"],
    );
}

#[test]
fn each_way_in_which_a_broker_is_out_of_reach() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let refused = format!("--mqtt-server 127.0.0.1:{} --timeout 2", free_port());
    let said = doctor(&rig, &refused);
    let words = ["Connection refused", "nothing listens there"];
    assert_found(&said, "FAULT", "broker", &words);
    let said = doctor(&rig, "--mqtt-server no-such-broker.invalid --timeout 5");
    assert_found(&said, "FAULT", "broker", &["no-such-broker.invalid"]);
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let begun = Instant::now();
    let said = doctor(&rig, &format!("--mqtt-server 127.0.0.1:{port} --timeout 1"));
    let words = ["no answer within 1 s", "is that an MQTT broker"];
    assert_found(&said, "FAULT", "broker", &words);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "it takes its time"
    );
    #[cfg(feature = "tls")]
    {
        let port = rig.broker.port;
        let said = doctor(
            &rig,
            &format!("--mqtt-server mqtts://127.0.0.1:{port} --timeout 3"),
        );
        assert_found(&said, "FAULT", "broker", &["TLS"]);
    }
}

#[test]
fn a_login_that_is_refused() {
    let Some(broker) = Broker::absent() else {
        return;
    };
    let Some(mut broker) = broker.with_login("boat", "right") else {
        return;
    };
    broker.restart();
    let Some(rig) = Rig::with(broker) else { return };
    let _peer = rig.bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    write(&password, "wrong\n", 0o600);
    let login = format!(
        "--mqtt-user boat --mqtt-password-file {} --timeout 5",
        password.display()
    );
    let said = doctor(&rig, &login);
    assert_found(&said, "FAULT", "broker", &["--mqtt-user"]);
    write(&password, "right\n", 0o600);
    let said = doctor(&rig, &login);
    assert_found(&said, "ok", "broker", &[]);
    assert_found(&said, "ok", "secrets", &["only their owner"]);
    assert_found(&said, "FAULT", "bridge", &["no bridge answers", "start it"]);
}

#[test]
fn a_broker_that_lets_us_not_publish() {
    let Some(mut broker) = Broker::absent() else {
        return;
    };
    let acl = broker.folder().join("acl");
    write(
        &acl,
        "topic readwrite R/#\ntopic readwrite W/#\ntopic read N/#\n",
        0o644,
    );
    broker.listen("127.0.0.1", &format!("acl_file {}\n", acl.display()));
    broker.restart();
    let Some(rig) = Rig::with(broker) else { return };
    let _peer = rig.bus.serve(battery());
    let said = doctor(&rig, "--timeout 2");
    // Some brokers say nothing to that, some close the connection.
    let words = ["must let this user subscribe", "publish below N/"];
    assert_found(&said, "FAULT", "rights", &words);
}

#[test]
fn a_health_check_is_quick_and_wakes_nobody() {
    let Some(rig) = Rig::start() else { return };
    let _peer = rig.bus.serve(battery());
    let said = doctor(&rig, "--quick --timeout 2");
    assert_found(&said, "FAULT", "bridge", &["has no status there"]);
    let mut bridge = rig.bridge("--retain false --keep-alive 60");
    let mark = rig.client.mark();
    let said = doctor(&rig, "--quick");
    assert_eq!((said.status, said.error.as_str()), (0, ""), "{}", said.out);
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
    assert_found(&said, "ok", "bridge", &["is online"]);
    rig.client.fence();
    assert!(rig.client.payloads(mark, &n("battery/258/Soc")).is_empty());
    bridge.terminate();
    let said = doctor(&rig, "--quick");
    assert_found(&said, "FAULT", "bridge", &["is offline", "without --quick"]);
}

#[test]
fn no_bridge_a_dead_one_and_one_too_many() {
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let said = doctor_while_changing(&rig, &peer, "--timeout 3");
    assert_found(&said, "FAULT", "bridge", &["no bridge answers"]);
    assert_eq!(said.error.trim(), "dbus-mqtt: 1 of 9 checks found a fault");

    let first = rig.bridge("--retain true --keep-alive 0");
    first.signal(Signal::STOP);
    let said = doctor(&rig, "--timeout 3");
    let words = ["says it is online, and does not answer"];
    assert_found(&said, "FAULT", "bridge", &words);
    first.signal(Signal::CONT);

    let second = Bridge::spawn(&rig.args("--retain true --keep-alive 0 --client-id second"));
    second.wait_log(&[": connected"]);
    let said = doctor(&rig, "");
    assert_found(
        &said,
        "FAULT",
        "bridge",
        &["2 bridges answer", "all but one"],
    );
    let heard = rig.client.payloads(0, &n("bridge/doctor"));
    assert_eq!(heard.len(), 3, "each has talked to itself once");
}

#[test]
fn secrets_that_others_can_read_and_settings_that_are_wrong() {
    let Some(rig) = Rig::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.toml");
    let text = "mqtt-user = \"boat\"\nmqtt-password = \"canary-7\"\n";
    write(&settings, text, 0o644);
    let config = format!("--config {} --timeout 1", settings.display());
    let said = doctor(&rig, &config);
    let path = settings.display().to_string();
    let words = ["other users can read", &*path, "chmod 600"];
    assert_found(&said, "FAULT", "secrets", &words);
    assert!(!format!("{said:?}").contains("canary"), "{said:?}");
    write(&settings, text, 0o600);
    assert_found(&doctor(&rig, &config), "ok", "secrets", &["secrets (1)"]);

    write(&settings, "mqtt-password = \"canary-8\"\n", 0o600);
    let said = doctor(&rig, &config);
    let words = ["settings.toml:1", "a password needs a user"];
    assert_found(&said, "FAULT", "settings", &words);
    assert!(!format!("{said:?}").contains("canary"), "{said:?}");

    // A schema with a mistake.
    let schema = folder.path().join("schema");
    std::fs::create_dir(&schema).unwrap();
    write(&schema.join("battery.toml"), "nonsense = 1\n", 0o644);
    let said = doctor(&rig, &format!("--schema {} --timeout 1", schema.display()));
    assert_found(&said, "FAULT", "settings", &["battery.toml"]);
}

#[test]
fn a_listener_is_looked_at_as_a_client_sees_it() {
    let Some(bus) = Bus::start() else { return };
    let _peer = bus.serve(battery());
    let folder = tempfile::tempdir().unwrap();
    let (open, closed) = (free_port(), free_port());
    write(&folder.path().join("users"), "me:x\n", 0o600);
    let settings = format!(
        "[[listen]]\naddress = '{open}'\n[[listen]]\naddress = '{closed}'\nauth = 'users'\nusers = '{}'\n",
        folder.path().join("users").display()
    );
    let file = folder.path().join("settings.toml");
    write(&file, &settings, 0o600);
    let (file, address) = (file.display().to_string(), bus.address());
    let args = ["--dbus", &address, "--portal-id", PORTAL, "--config", &file];
    let doctor = |more: &[&str]| {
        let args = [&["doctor", "--timeout", "5"], &args[..], more].concat();
        run(program(open, &args).env_remove("DBUS_MQTT_SERVER"))
    };
    let said = doctor(&[]);
    assert_found(
        &said,
        "FAULT",
        "listener",
        &["listener 1", "is the bridge running"],
    );
    let _bridge = bus.scanned_by(|| {
        let bridge = Bridge::spawn(&args);
        poll("the listener", PATIENCE, || {
            std::net::TcpStream::connect(("127.0.0.1", closed)).ok()
        });
        bridge
    });
    let said = doctor(&[]);
    assert_eq!(said.status, 0, "{said:?}");
    assert_found(&said, "ok", "listener", &["lets clients in"]);
    assert_found(&said, "ok", "bridge", &["a bridge answers"]);
    assert_found(&said, "ok", "values", &["1 devices have values"]);
    assert!(said.out.contains("it asks for a password"), "{}", said.out);
    let said = doctor(&["--quick"]);
    assert_found(&said, "ok", "bridge", &["is online"]);
}
