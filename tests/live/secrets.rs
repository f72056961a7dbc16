//! Secrets never leave: a word is put in every place where a secret can be, and must then be nowhere
//! else: not in the log at its loudest, not on a broker, not in the printed configuration, not in an
//! error.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::bridge::Bridge;
use crate::support::broker::{Broker, free_port};
use crate::support::bus::Bus;
use crate::support::certificates::{Authority, NOW, exclusive, trusted};
use crate::support::fake_broker::{CONNECT, FakeBroker, Manner};
use crate::support::program::{program, run};
use crate::support::rig::{PORTAL, n, r, value, w};
use crate::support::service::{BATTERY, Reply, Service, VEBUS, battery, vebus};
use crate::support::wire::{V, s};
use tempfile::TempDir;

const CANARY: &str = "canary";
const SETTINGS: &str = "com.victronenergy.settings";
const WIFI: &str = "/Settings/Services/AccessPointPassword";
const PIN: &str = "/Settings/Ble/Service/Pincode";
const TUNNEL: &str = "/Interfaces/Mk2/Tunnel";
/// What VRM takes: 32 hexadecimal digits.
const VRM: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e7ff";

/// What must be nowhere, as it is and as others may write it.
fn assert_clean(what: &str, text: &str, secrets: &[&str]) {
    let text = text.to_lowercase();
    for secret in secrets {
        let secret = secret.to_lowercase();
        let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        let numbers: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
        for form in [secret, hex, numbers.join(", ")] {
            if let Some(at) = text.find(&form) {
                let from = text[..at].rfind('\n').map_or(0, |at| at + 1);
                let line: String = text[from..].chars().take(400).collect();
                panic!("{what} shows {form:?}: {line}");
            }
        }
    }
}

fn file(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

// --- errors ---

#[test]
fn no_error_shows_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let readable = file(folder, "readable", "canary-file\n", 0o644);
    let empty = file(folder, "empty", "\ncanary-second-line\n", 0o600);
    let key = file(
        folder,
        "key.pem",
        "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n",
        0o600,
    );
    let garbage = file(folder, "garbage.pem", "canary-garbage\n", 0o600);
    let show = |path: &Path| path.display().to_string();
    let flag = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let mut cases: Vec<Vec<String>> = vec![
        flag("-P canary-flag"),
        flag("-P canary-flag --mqtt-password-file x -u boat"),
        flag("-q mqtt://boat:canary-url@127.0.0.1"),
        flag("-q boat:canary-url@127.0.0.1:1883"),
        flag("-q wss://boat:canary-url@127.0.0.1/mqtt"),
        flag("-q canary://canary-url@127.0.0.1:port/x"),
        flag(&format!("-u boat --mqtt-password-file {}", show(&readable))),
        flag(&format!("-u boat --mqtt-password-file {}", show(&empty))),
        flag(&format!("-u boat --mqtt-password-file {}", show(folder))),
        flag("-u boat -P canary-flag -k nonsense"),
        flag("-u boat -P canary-flag --unknown"),
        flag("-u boat -P canary-flag extra"),
        flag("-u boat -P canary-flag get system/0/Serial"),
        flag("get system/0/Serial --timeout 1 -u boat -P canary-flag -q 127.0.0.1:1"),
        flag(&format!(
            "get system/0/Serial --timeout 1 -q mqtts://127.0.0.1:1 --mqtt-client-certificate {} --mqtt-client-key {}",
            show(&garbage),
            show(&key)
        )),
    ];
    // A mistake in the settings file beside a password, or of a password.
    for (name, text) in [
        (
            "open",
            "mqtt-password = \"canary-toml\nmqtt-user = 'boat'\n",
        ),
        ("bare", "mqtt-password = canary-toml\n"),
        ("list", "mqtt-password = ['canary-toml']\n"),
        ("table", "[mqtt-password]\ncanary-toml = 1\n"),
        ("typo", "mqtt-pasword = 'canary-toml'\n"),
        (
            "twice",
            "mqtt-password = 'canary-toml'\nmqtt-password = 'canary-toml'\n",
        ),
        ("same", "mqtt-password = 'canary-toml' keep-alive = 3\n"),
        ("escape", "mqtt-password = \"canary-toml\\q\"\n"),
        ("user", "mqtt-password = 'canary-toml'\n"),
        ("broker", "[[broker]]\nserver = 'a:canary-toml@b'\n"),
        ("pass", "[[broker]]\npassword = 'canary-toml'\n"),
        (
            "word",
            "[[broker]]\nuser = 'a'\npassword = 'canary-toml'\nretain = 'x'\n",
        ),
        (
            "url",
            "init-broker = true\n[vrm]\nregister-url = 'https://boat:canary-toml@host/x'\n",
        ),
    ] {
        let path = file(folder, &format!("{name}.toml"), text, 0o600);
        cases.push(flag(&format!("--config {}", show(&path))));
    }
    for args in &cases {
        let is_client = args.first().is_some_and(|word| word == "get");
        let mut all: Vec<String> = args.clone();
        if !is_client {
            all.extend(["--portal-id", PORTAL, "--dbus", "unix:path=/nowhere"].map(str::to_owned));
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let said = run(program(1, &all)
            .env_remove("DBUS_MQTT_SERVER")
            .env("RUST_LOG", "trace"));
        assert_ne!(said.status, 0, "{args:?}: {said:?}");
        let all = format!("{}\n{}", said.out, said.error);
        assert_clean(&format!("{args:?}"), &all, &[CANARY]);
        // And the same where it is looked at rather than run.
        for look in ["config", "doctor"] {
            if is_client {
                continue;
            }
            let mut command = Command::new(env!("CARGO_BIN_EXE_dbus-mqtt"));
            command.env_clear().env("RUST_LOG", "trace").arg(look);
            command.args(args).args(["--portal-id", PORTAL]);
            if look == "doctor" {
                command.args(["--timeout", "1", "--dbus", "unix:path=/nowhere"]);
            }
            let said = run(&mut command);
            let all = format!("{}\n{}", said.out, said.error);
            assert_clean(&format!("{look} {args:?}"), &all, &[CANARY]);
        }
    }
    // In the environment.
    for (name, text) in [
        ("DBUS_MQTT_PASSWORD", "canary-variable"),
        ("DBUS_MQTT_SERVER", "boat:canary-variable@host"),
    ] {
        let said = run(program(1, &["--portal-id", PORTAL]).env(name, text));
        assert_eq!(said.status, 2, "{said:?}");
        assert_clean(name, &said.error, &[CANARY]);
    }
}

// --- a bridge at work ---

/// The settings, and what is secret in the files that they name.
fn settings(folder: &Path, bus: &Bus, broker: &Broker, refuses: &FakeBroker) -> (PathBuf, String) {
    let authority = Authority::new("a CA");
    let clients = Authority::new("a CA of clients");
    let server = authority.server(&["127.0.0.1"]);
    let tls = broker.listen("127.0.0.1", &exclusive(folder, "server", &server, &clients));
    let (certificate, key) = clients.client("boat", NOW).write(folder, "client");
    let password = file(folder, "password", "canary-file\n", 0o600);
    let vrm = file(folder, "vrm", &format!("{VRM}\n"), 0o600);
    let text = format!(
        "dbus = '{}'\nportal-id = '{PORTAL}'\ninit-broker = true\n\
         [[broker]]\nname = 'plain'\nserver = '127.0.0.1:{}'\nuser = 'boat'\n\
         password = 'canary-right'\nkeep-alive = 0\n\
         [[broker]]\nname = 'encrypted'\nserver = 'mqtts://127.0.0.1:{tls}'\nkeep-alive = 0\n\
         user = 'boat'\npassword = 'canary-right'\nclient-id = 'b'\nprefix = 'tls'\n\
         certificate = '{}'\nclient-certificate = '{}'\nclient-key = '{}'\n\
         [[broker]]\nname = 'refuses'\nserver = '{}'\nuser = 'boat'\npassword-file = '{}'\n\
         [vrm]\nserver = '127.0.0.1:{}'\npassword-file = '{}'\naccess = 'full'\n\
         register-url = 'https://127.0.0.1:{}/x'\nregister-retry-s = 1\n",
        bus.address(),
        broker.port,
        trusted(folder, "ca", &authority),
        certificate.display(),
        key.display(),
        refuses.address,
        password.display(),
        free_port(),
        vrm.display(),
        free_port(),
    );
    let key = std::fs::read_to_string(key).unwrap();
    let secret = key.lines().nth(1).unwrap().to_owned();
    assert!(secret.len() > 30);
    (file(folder, "settings.toml", &text, 0o600), secret)
}

fn services(bus: &Bus) -> [crate::support::peer::Peer; 3] {
    let settings = Service::new(SETTINGS)
        .item(WIFI, s("canary-wifi"))
        .item(PIN, s("canary-pin"));
    let vebus = vebus()
        .item(TUNNEL, s("canary-tunnel"))
        .item("/Password/Input", s("canary-input"));
    [bus.serve(settings), bus.serve(vebus), bus.serve(battery())]
}

#[test]
fn no_log_no_topic_and_no_command_shows_a_secret() {
    let (Some(mut bus), Some(broker)) = (Bus::start(), Broker::absent()) else {
        return;
    };
    let Some(mut broker) = broker.with_login("boat", "canary-right") else {
        return;
    };
    let refuses = FakeBroker::start(Manner::Refuse(4));
    let folder: TempDir = tempfile::tempdir().unwrap();
    let (path, key) = settings(folder.path(), &bus, &broker, &refuses);
    broker.restart();
    let [settings, vebus, battery] = services(&bus);
    let client = broker.listener();
    let file = path.display().to_string();
    let loud = [("RUST_LOG", "trace"), ("RUST_BACKTRACE", "1")];
    let mut bridge = Bridge::spawn_with(&["--config", &file], &loud);
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    client.expect(0, &format!("tls/{}", n("battery/258/Soc")), &value("87.5"));
    refuses.wait_connections(2, crate::support::PATIENCE);
    bridge.wait_log(&["VRM"]);

    // What changes, is read, is written and is refused.
    settings.update(SETTINGS, WIFI, s("canary-wifi-2"));
    vebus.update(VEBUS, TUNNEL, s("canary-tunnel-2"));
    vebus.items_changed([(TUNNEL, s("canary-tunnel-3"))]);
    let wifi = format!("settings/0{WIFI}");
    for topic in [
        &*wifi,
        "settings/0/Settings",
        "vebus/257/Interfaces",
        "vebus/257/Password",
    ] {
        client.publish(&r(topic), "");
    }
    // A service that refuses, in its own words.
    settings.on(|call| match call.member.as_str() {
        "SetValue" => Reply::Says("com.victronenergy.Error.Refused", "no: canary-refused"),
        _ => Reply::Normal,
    });
    client.publish(&w(&wifi), r#"{"value": "canary-refused"}"#);
    bridge.wait_log(&["com.victronenergy.Error.Refused", "not shown"]);
    settings.behave();
    for payload in [
        r#"{"value": "canary-written"}"#,
        r#"{"value": "canary-broken"#,
        r#"{"value": {"a": ["canary-nested"]}}"#,
        r#"{"canary-key": 1}"#,
        r#"["canary-list"]"#,
        r#""canary-text""#,
    ] {
        client.publish(&w(&wifi), payload);
        client.publish(&w(&format!("settings/0{PIN}")), payload);
        client.publish(&w("vebus/257/Password/Input"), payload);
        client.publish(&w(&format!("vebus/257{TUNNEL}")), payload);
    }
    let large = format!(r#"{{"value": "canary{}"}}"#, "x".repeat(70_000));
    client.publish(&w(&wifi), &large);
    client.publish_retained(&w(&wifi), r#"{"value": "canary-retained"}"#);
    settings.wait_calls("a write", 1, |call| call.is("SetValue", WIFI));
    // The bus goes and comes back, with all that is said then; the settings are read again.
    bridge.signal(rustix::process::Signal::HUP);
    bridge.wait_log(&["settings reloaded"]);
    bus.kill();
    bridge.wait_log(&["bus", "trying again"]);
    bus.restart();
    drop((settings, vebus, battery));
    let peers = services(&bus);
    let mark = client.mark();
    poll_until_published(&peers[2], &client, mark);
    client.publish(&r("keepalive"), "");
    client.wait(mark, "everything", |message| {
        message.topic == n("full_publish_completed")
    });
    bridge.terminate();

    let secrets = [CANARY, VRM, &*key];
    let log = bridge.log();
    assert!(log.iter().any(|line| line.contains("DEBUG")), "not loud");
    assert_clean("the log", &log.join("\n"), &secrets);
    let mut masked = 0;
    for message in client.since(0) {
        let topic = &message.topic;
        if topic.starts_with("W/") {
            continue; // our own
        }
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        assert_clean("a topic", &format!("{topic} {payload}"), &secrets);
        masked += usize::from(topic.ends_with(WIFI) && payload.contains("******"));
    }
    assert!(masked >= 2, "the secret is there, masked");
    for packet in refuses.packets() {
        // A login is what a password is for.
        if packet.kind() != CONNECT {
            let text = String::from_utf8_lossy(&packet.body).into_owned();
            assert_clean("a packet", &text, &secrets);
        }
    }
    assert_commands_clean(&file, &secrets);
}

/// What is printed of the same settings.
fn assert_commands_clean(file: &str, secrets: &[&str]) {
    for command in [
        &["config", "--config"][..],
        &["doctor", "--timeout", "1", "--config"],
        &["doctor", "--timeout", "1", "--json", "--config"],
        &["devices", "--timeout", "1", "--config"],
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_dbus-mqtt"));
        program.env_clear().env("RUST_LOG", "trace");
        let said = run(program.args(command).arg(file));
        assert!(!said.out.is_empty() || !said.error.is_empty());
        let all = format!("{}\n{}", said.out, said.error);
        assert_clean(&command.join(" "), &all, secrets);
    }
}

/// Waits until a value comes through again.
fn poll_until_published(
    battery: &crate::support::peer::Peer,
    client: &crate::support::client::Client,
    mark: usize,
) {
    let mut voltage = 50.0;
    crate::support::poll(
        "the bus to be found again",
        crate::support::PATIENCE,
        || {
            voltage += 0.5;
            battery.update(BATTERY, "/Dc/0/Voltage", V::D(voltage));
            std::thread::sleep(std::time::Duration::from_millis(100));
            let seen = client.payloads(mark, &n("battery/258/Dc/0/Voltage"));
            (!seen.is_empty()).then_some(())
        },
    );
}
