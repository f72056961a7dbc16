//! Brokers: how each is reached, what it may have, several of them, and that of VRM (§6, §8).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::settings::BROKER;
use super::tests::{Given, file, flags, variables};
use super::*;
use crate::model::access::Access;
use crate::model::filter::Filter;

const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

/// A file with a text and a mode, in a separate folder.
fn secret(text: &str, mode: u32) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let name = path.display().to_string();
    (folder, name)
}

/// The text has each of these lines.
#[track_caller]
fn assert_has_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|found| found == *line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn s6_a_certificate_switches_encryption_on() {
    let broker = flags(&["-c", CA]).broker();
    assert_eq!((broker.transport, broker.port), (Transport::Tls, 8883));
    let tls = TlsConfig {
        ca: Some(CA.into()),
        ..TlsConfig::default()
    };
    assert_eq!(broker.tls, Some(tls));
    let over = |server: &str| {
        let broker = flags(&["-q", server, "-c", CA]).broker();
        (broker.transport, broker.port)
    };
    let wss = |path: &str| Transport::Wss { path: path.into() };
    assert_eq!(over("gx:1884"), (Transport::Tls, 1884));
    assert_eq!(over("mqtt://gx"), (Transport::Tls, 8883));
    assert_eq!(over("ws://gx/x"), (wss("/x"), 443));
    // The system's certificates will do.
    let broker = flags(&["-q", "mqtts://gx"]).broker();
    assert_eq!((broker.transport, broker.port), (Transport::Tls, 8883));
    assert_eq!(broker.tls, Some(TlsConfig::default()));
    let broker = flags(&["-q", "ws://gx"]).broker();
    assert_eq!((broker.port, broker.tls), (80, None));
    flags(&["-c", "/nowhere"])
        .refused("--mqtt-certificate: cannot read /nowhere: No such file or directory");
}

#[test]
fn s6_a_client_certificate_and_a_server_name() {
    let tls = |words: &[&str]| flags(words).broker().tls.unwrap();
    let client = Some((CA.into(), CA.into()));
    assert_eq!(tls(&["--mqtt-client-certificate", CA]).client, client);
    let (_folder, key) = secret("key", 0o600);
    let both = tls(&["--mqtt-client-certificate", CA, "--mqtt-client-key", &key]);
    assert_eq!(both.client, Some((CA.into(), key.as_str().into())));
    let named = tls(&["--mqtt-server-name", "gx.local"]);
    assert_eq!(named.server_name.as_deref(), Some("gx.local"));
    flags(&["--mqtt-client-key", &key])
        .refused("--mqtt-client-key: a key needs a certificate: set --mqtt-client-certificate too");
    flags(&["--mqtt-server-name", "a b"])
        .refused("--mqtt-server-name: \"a b\" is not a name of a server");
}

#[test]
fn s6_one_file_of_settings_serves_a_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let file_of = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "s3cret\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    };
    let text = format!(
        "portal-id = 'abc'\n[[broker]]\nserver = 'mqtts://fleet'\nclient-id = 'gx-{{portal-id}}'\n\
         user = '{{portal-id}}@boats'\nprefix = 'fleet/{{portal-id}}'\n\
         password-file = '{0}/{{portal-id}}.pw'\ncertificate = '{0}/ca-{{portal-id}}'\n\
         client-certificate = '{0}/{{portal-id}}.pem'\nclient-key = '{0}/{{portal-id}}.key'",
        folder.path().display()
    );
    for name in ["abc.pw", "ca-abc", "abc.pem", "abc.key"] {
        file_of(name);
    }
    let broker = file(&text).broker();
    assert_eq!(broker.client_id, "gx-abc");
    assert_eq!(broker.prefix, "fleet/abc/");
    let login = broker.login.unwrap();
    assert_eq!(
        (&*login.user, login.password.expose()),
        ("abc@boats", "s3cret")
    );
    let tls = broker.tls.unwrap();
    let path = |name: &str| folder.path().join(name);
    assert_eq!(tls.ca, Some(path("ca-abc")));
    assert_eq!(tls.client, Some((path("abc.pem"), path("abc.key"))));
    // Where the bus has to be asked first, nothing is said of files that cannot be named yet.
    file(&text)
        .with(|layers, _| {
            let unknown = layers.of_portal(&PortalId::unknown());
            let values = &unknown.brokers[0];
            for key in [
                "mqtt-password-file",
                "mqtt-certificate",
                "mqtt-client-certificate",
                "mqtt-client-key",
            ] {
                assert_eq!(values.written(key), None, "{key}");
            }
            let user = values.find::<String>("mqtt-user")?.unwrap();
            assert_eq!(user.value, "PORTAL-ID@boats");
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_a_broker_can_be_told() {
    let text = "mqtt-version = 5\nexpire = 90\ntopic-aliases = true\nping = 10\n\
                access = 'read-only'\nmqtt-prefix = 'venus'\npublish-deny = ['settings/#']\n\
                write-allow = ['vebus/+/Mode']\nname = 'home'";
    let broker = file(text).broker();
    assert_eq!(broker.version, MqttVersion::V5);
    assert_eq!(broker.expire, Some(Duration::from_secs(90)));
    assert!(broker.topic_aliases);
    assert_eq!(broker.ping, Duration::from_secs(10));
    assert_eq!(broker.access, AccessRule::Always(Access::ReadOnly));
    assert_eq!(
        (broker.prefix.as_str(), broker.name.as_str()),
        ("venus/", "home")
    );
    let text = "reconnect-max = 300\nrepublish-jitter = 60\npublish-rate-max = 100";
    let fleet = file(text).broker();
    assert_eq!(fleet.reconnect_max, Duration::from_secs(300));
    assert_eq!(fleet.republish_jitter, Duration::from_secs(60));
    assert_eq!(fleet.publish_rate_max, 100);
    flags(&["--reconnect-max", "0"]).refused("--reconnect-max: 0 is too small: at least 1");
    let filter = |text| vec![Filter::parse(text).unwrap()];
    assert_eq!(broker.lists.publish.deny, filter("settings/#"));
    assert_eq!(broker.lists.write.allow, filter("vebus/+/Mode"));
    assert!(broker.lists.read.is_open());
    assert_eq!(
        file("mqtt-version = 'auto'").broker().version,
        MqttVersion::Auto
    );
    assert_eq!(
        flags(&["--mqtt-version", "3.1.1"]).broker().version,
        MqttVersion::V3
    );
    assert_eq!(flags(&["--mqtt-prefix", "a/b/"]).broker().prefix, "a/b/");
    assert_eq!(
        flags(&["--access", "vrm"]).broker().access,
        AccessRule::AsDeviceSays
    );
}

#[test]
fn what_a_broker_cannot_be_told() {
    let wrong = |text, sentence| file(text).refused(sentence);
    wrong(
        "mqtt-version = 4",
        "FILE:1: \"4\" is not one of 3, 5, auto, 3.1.1",
    );
    wrong(
        "\naccess = 'some'",
        "FILE:2: \"some\" is not one of full, read-only, off, vrm",
    );
    wrong("ping = 0", "FILE:1: ping: 0 is too small: at least 1");
    wrong(
        "ping = 65536",
        "FILE:1: ping: 65536 is too large: at most 65535",
    );
    wrong(
        "read-deny = 'x'",
        "FILE:1: invalid type: string \"x\", expected a list in brackets",
    );
    let filter = |key: &str, text: &str| {
        format!(
            "FILE:1: {key}: {text:?} matches no topic; a filter looks like battery/+/Soc or settings/#"
        )
    };
    for text in ["", "battery", "a/#/b", "a/b+/c", "N/e0ff/+"] {
        let sentence = filter("write-deny", text);
        let toml = format!("write-deny = ['{text}']");
        if text == "N/e0ff/+" {
            assert!(file(&toml).resolve().is_ok());
        } else {
            file(&toml).refused(&sentence);
        }
    }
    file("response-allow = ['a/#/b']").refused(&filter("response-allow", "a/#/b"));
    assert!(
        file("response-allow = ['answers/#', 'x']")
            .resolve()
            .is_ok()
    );
    for (text, sentence) in [
        (
            "topic-levels-max = 4",
            "topic-levels-max: 4 is too small: at least 5",
        ),
        (
            "topic-bytes-max = 63",
            "topic-bytes-max: 63 is too small: at least 64",
        ),
        (
            "topic-replace = { ' ' = 'a/b' }",
            "topic-replace: \" \" cannot become \"a/b\" in a topic: one character becomes one or more that are not replaced themselves, without / + #",
        ),
        (
            "topic-replace = '_'",
            "topic-replace: \"_\" cannot become \"_\" in a topic: one character becomes one or more that are not replaced themselves, without / + #",
        ),
        (
            "topics = false",
            "topics: false needs batches: set batch to a number of seconds",
        ),
        (
            "batch-compress = true",
            "batch-compress: true needs batches: set batch to a number of seconds",
        ),
        (
            "throttle = [['a#', '10s', 1]]",
            "throttle: [\"a#\", \"10s\", 1] is not an entry of throttle: a filter such as battery/+/Dc/0/#, an interval of at most a day (500ms, 10s, 5m, 1h), and a deadband of 0 or more",
        ),
    ] {
        file(text).refused(&format!("FILE:1: {sentence}"));
    }
    let batched = file("batch = 5\nbatch-compress = true\ntopics = false").broker();
    assert_eq!(batched.batch, Some(Duration::from_secs(5)));
    assert!(batched.batch_compress && !batched.topics_of_values);
    let throttle = file("throttle = [['battery/+/Dc/0/#', '10s', 0.5], ['#', '1m', 2]]").broker();
    let throttle = throttle.throttle.iter();
    let times = throttle.map(|rule| (rule.interval.as_secs(), rule.deadband));
    assert!(times.eq([(10, 0.5), (60, 2.0)]));
    let replaced = |text: &str| {
        let config = file(&format!("topic-replace = {text}")).resolve().unwrap();
        config.brokers[0].topics.replace.clone()
    };
    assert_eq!(replaced("' *'"), [(' ', "_".into()), ('*', "_".into())]);
    assert_eq!(replaced("{ ' ' = '-' }"), [(' ', "-".into())]);
    for text in ["a+", "#", "$SYS/", "a\nb", "a\u{ffff}", &"a/".repeat(20)] {
        flags(&["--mqtt-prefix", text]).refused(&format!(
            "--mqtt-prefix: {text:?} cannot stand before a topic: at most 256 bytes and 20 levels, without + # and control characters, and without $ in front"
        ));
    }
    variables(&[("DBUS_MQTT_VERSION", "2")])
        .refused("DBUS_MQTT_VERSION: \"2\" is not one of 3, 5, auto, 3.1.1");
    variables(&[("DBUS_MQTT_ACCESS", "x")])
        .refused("DBUS_MQTT_ACCESS: \"x\" is not one of full, read-only, off, vrm");
}

#[test]
fn s8_several_brokers() {
    let text = "gather-ms = 7\n[[broker]]\nserver = 'one'\nretain = false\n\
                [[broker]]\nname = 'uplink'\nserver = 'wss://two/x'\nkeep-alive = 5\n";
    let config = file(text).resolve().unwrap();
    let seen: Vec<_> = config
        .brokers
        .iter()
        .map(|b| (b.name.as_str(), b.address()))
        .collect();
    assert_eq!(
        seen,
        [
            ("broker 1", "one:1883".into()),
            ("uplink", "two:443".into())
        ]
    );
    assert!(!config.brokers[0].retain && config.brokers[1].retain);
    assert_eq!(config.brokers[1].keep_alive, Some(Duration::from_secs(5)));
    assert_eq!(config.gather, Duration::from_millis(7));
    // Flags and variables describe the first.
    let given = Given {
        flags: &["-q", "flag"],
        variables: &[("DBUS_MQTT_KEEP_ALIVE", "9")],
        file: Some(text),
    };
    let config = given.resolve().unwrap();
    assert_eq!(
        (
            config.brokers[0].host.as_str(),
            config.brokers[1].host.as_str()
        ),
        ("flag", "two")
    );
    assert_eq!(config.brokers[0].keep_alive, Some(Duration::from_secs(9)));
    assert_eq!(config.brokers[1].keep_alive, Some(Duration::from_secs(5)));
    // In a table the flag's name will do as well.
    assert_eq!(file("[[broker]]\nmqtt-server = 'x'").broker().host, "x");
}

#[test]
fn s8_what_is_wrong_in_a_table_has_its_line() {
    let wrong = |text, sentence| file(text).refused(sentence);
    wrong(
        "[[broker]]\nserver = 'a'\n[[broker]]\n\nserver = 'a:0'",
        "FILE:5: server: \"0\" is not a port: a number from 1 to 65535",
    );
    wrong(
        "[[broker]]\nserver = 'a'\n[[broker]]\nserver = 'a'",
        "FILE:4: server: \"broker 1\" is the same broker (a:1883) with the same client id \"dbus-mqtt-e0ff50a097c0\": the two would throw each other out; give one of them another client-id",
    );
    wrong(
        "[[broker]]\nname = 'x'\n[[broker]]\nserver = 'a'\nname = 'x'",
        "FILE:5: name: another broker has the name \"x\" already",
    );
    wrong(
        "\nretain = false\n[[broker]]\nserver = 'a'",
        "FILE:2: retain is a broker's, and the brokers are in [[broker]] (line 3): put it into one of them, as retain",
    );
    wrong(
        "mqtt-server = 'x'\n[[broker]]",
        "FILE:1: mqtt-server is a broker's, and the brokers are in [[broker]] (line 2): put it into one of them, as server",
    );
    wrong(
        "\n[broker]\nserver = 'x'",
        "FILE:2: the settings of a broker stand below [[broker]], in two brackets",
    );
    wrong(
        "[[broker]]\nretain = 1",
        "FILE:2: invalid type: integer `1`, expected true or false",
    );
    let unknown = file("[[broker]]\n\nservr = 'x'").resolve().unwrap_err();
    assert!(
        unknown.starts_with("FILE:3: [[broker]] has no setting servr; did you mean server?"),
        "{unknown}"
    );
    let unknown = file("[vrm]\n\nservr = 'x'").resolve().unwrap_err();
    assert!(
        unknown.starts_with("FILE:3: [vrm] has no setting servr; did you mean server?"),
        "{unknown}"
    );
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    for mode in [0o644, 0o640, 0o604] {
        let (_folder, path) = secret("hunter2\n", mode);
        flags(&["-u", "me", "--mqtt-password-file", &path]).refused(&format!(
            "--mqtt-password-file: other users can read {path}; take that away from them (chmod 600), or allow it with --allow-readable-secrets"
        ));
        let words = [
            "-u",
            "me",
            "--mqtt-password-file",
            &path,
            "--allow-readable-secrets",
        ];
        let login = flags(&words).broker().login.unwrap();
        assert_eq!(login.password.expose(), "hunter2");
    }
    for mode in [0o620, 0o602, 0o622] {
        let (_folder, path) = secret("hunter2\n", mode);
        flags(&["-u", "me", "--mqtt-password-file", &path]).refused(&format!(
            "--mqtt-password-file: other users can change {path}; take that away from them (chmod 600), or allow it with --allow-readable-secrets"
        ));
    }
    let (_folder, path) = secret("hunter2\n", 0o600);
    // Only root can give a file away.
    if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
        flags(&["-u", "me", "--mqtt-password-file", &path]).refused(&format!(
            "--mqtt-password-file: another user owns {path}; take that away from them (chown), or allow it with --allow-readable-secrets"
        ));
    }
    let (_folder, path) = secret("hunter2\n", 0o400);
    assert!(
        flags(&["-u", "me", "--mqtt-password-file", &path])
            .resolve()
            .is_ok()
    );
}

/// A pipe that nobody writes into, and a device without an end: neither holds up the start.
#[test]
fn only_regular_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe").display().to_string();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [&pipe, "/dev/zero"] {
        let says = format!("cannot read {path}: it is a pipe or a device, not a regular file");
        for (key, words) in [
            (
                "mqtt-password-file",
                &["-u", "me", "--mqtt-password-file", path][..],
            ),
            ("mqtt-certificate", &["--mqtt-certificate", path]),
            ("config", &["--config", path]),
        ] {
            flags(words).refused(&format!("--{key}: {says}"));
        }
    }
    let path = folder.path().display().to_string();
    flags(&["--config", &path]).refused(&format!("--config: cannot read {path}: it is a folder"));
}

#[test]
fn what_systemd_gives_to_the_service_alone_may_seem_to_be_its_groups_too() {
    for (mode, given, taken) in [
        (0o440, true, true),
        (0o440, false, false),
        (0o444, true, false),
    ] {
        let (folder, path) = secret("hunter2\n", mode);
        let credentials = folder.path().display().to_string();
        let variables = [
            ("DBUS_MQTT_USER", "me"),
            ("DBUS_MQTT_PASSWORD_FILE", &path),
            (
                "CREDENTIALS_DIRECTORY",
                if given { &credentials } else { "/run" },
            ),
        ];
        let resolved = super::tests::variables(&variables).resolve();
        assert_eq!(resolved.is_ok(), taken, "{mode:o}: {resolved:?}");
    }
}

#[test]
fn s8_vrm() {
    assert_eq!(file("[vrm]\nretain = false").resolve().unwrap().vrm, None);
    assert_eq!(
        file("[vrm]\nenabled = false")
            .resolve()
            .unwrap()
            .brokers
            .len(),
        1
    );
    let (_folder, path) = secret("0123456789abcdefABCDEF0123456789\n", 0o600);
    let text = format!("[vrm]\nenabled = true\npassword-file = '{path}'\nretain = false");
    let config = file(&text).resolve().unwrap();
    let [first, vrm] = &config.brokers[..] else {
        panic!("{:?}", config.brokers);
    };
    assert_eq!((first.name.as_str(), vrm.name.as_str()), ("broker", "vrm"));
    // The sum of the character codes of e0ff50a097c0 is 101 + 48 + 102 + 102 + 53 + 48 + 97 + 48 + 57
    // + 55 + 99 + 48 = 858, and that modulo 128 is 90.
    assert_eq!(vrm.address(), "mqtt90.victronenergy.com:8883");
    assert_eq!(
        (&vrm.transport, &vrm.tls),
        (&Transport::Tls, &Some(TlsConfig::default()))
    );
    let login = vrm.login.as_ref().unwrap();
    assert_eq!(login.user, "ccgxapikey_e0ff50a097c0");
    assert_eq!(login.password.expose(), "0123456789abcdefABCDEF0123456789");
    assert_eq!(vrm.access, AccessRule::AsDeviceSays);
    assert!(first.retain && !vrm.retain);
    let expected = VrmConfig {
        broker: 1,
        password_file: None,
        registration: None,
    };
    assert_eq!(config.vrm, Some(expected));
    let wss = format!("{text}\ntransport = 'wss'");
    let wss = file(&wss).resolve().unwrap().brokers.remove(1);
    assert_eq!(wss.address(), "webmqtt90.victronenergy.com:443");
    assert_eq!(
        wss.transport,
        Transport::Wss {
            path: "/mqtt".into()
        }
    );
    file("[vrm]\nenabled = true\ntransport = 'tcp'")
        .refused("FILE:3: \"tcp\" is not one of tls, wss");
    // Never in the clear.
    let other = format!("{text}\nserver = 'mqtt://127.0.0.1:1'");
    let other = file(&other).resolve().unwrap().brokers.remove(1);
    assert_eq!(
        (other.address().as_str(), other.transport),
        ("127.0.0.1:1", Transport::Tls)
    );
}

#[test]
fn s8_registration() {
    let config = flags(&["-i"]).resolve().unwrap();
    let expected = Registration {
        host: "ccgxlogging.victronenergy.com".into(),
        port: 443,
        path: "/log/storemqttpassword.php".into(),
        ca: None,
        retry: Duration::from_secs(60),
        again_max: Duration::from_secs(600),
    };
    assert_eq!(config.vrm.unwrap().registration, Some(expected));
    let text = format!(
        "init-broker = true\n[vrm]\nregister-url = 'https://[::1]:8443/x'\nregister-certificate = '{CA}'\n\
         register-retry-s = 1\nregister-again-s = 0"
    );
    let expected = Registration {
        host: "::1".into(),
        port: 8443,
        path: "/x".into(),
        ca: Some(CA.into()),
        retry: Duration::from_secs(1),
        again_max: Duration::ZERO,
    };
    let config = file(&text).resolve().unwrap();
    assert_eq!(config.vrm.unwrap().registration, Some(expected));
    Given {
        flags: &["-i"],
        ..file("[vrm]\nenabled = false")
    }
    .refused("--init-broker: there is nothing to register: [vrm] has enabled = false");
    for url in ["http://x/", "https://", "https://a b/", "https://x:0/"] {
        file(&format!("init-broker = true\n[vrm]\nregister-url = '{url}'")).refused(&format!(
            "FILE:3: register-url: {url:?} is not an address to register at; one looks like https://HOST/PATH"
        ));
    }
    file("init-broker = true\n[vrm]\nregister-url = 'https://u:p@x/'")
        .refused("FILE:3: register-url: user and password cannot be part of this address");
    file("init-broker = true\n[vrm]\nregister-retry-s = 0")
        .refused("FILE:3: register-retry-s: 0 is too small: at least 1");
}

#[test]
fn s8_the_password_for_vrm_is_made_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password.txt");
    let text = format!(
        "[vrm]\nenabled = true\npassword-file = '{}'",
        path.display()
    );
    let config = file(&text).resolve().unwrap();
    // To look at the configuration makes nothing.
    assert!(!path.exists());
    let config = config.with_secrets().unwrap();
    let made = config.brokers[1]
        .login
        .as_ref()
        .unwrap()
        .password
        .expose()
        .to_owned();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{made}\n"));
    assert!(
        made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{made}"
    );
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let again = file(&text).resolve().unwrap().with_secrets().unwrap();
    assert_eq!(
        again.brokers[1].login.as_ref().unwrap().password.expose(),
        made
    );

    fs::write(&path, "hunter2").unwrap();
    let name = path.display();
    file(&text).refused(&format!(
        "FILE:3: password-file: the first line of {name} is not a password for VRM: 32 hexadecimal digits"
    ));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    file(&text).refused(&format!(
        "FILE:3: password-file: other users can read {name}; take that away from them (chmod 600), or allow it with --allow-readable-secrets"
    ));
    let text = "[vrm]\nenabled = true\npassword-file = '/nowhere/password'";
    let error = file(text)
        .resolve()
        .unwrap()
        .with_secrets()
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the password for VRM: cannot create /nowhere/password: No such file or directory"
    );
}

/// The configuration as text, with the folder of the test left out of it.
fn dump(given: &Given) -> String {
    given.dump().unwrap()
}

#[test]
fn the_configuration_is_shown_with_where_it_is_from() {
    let given = Given {
        flags: &["-q", "wss://gx/x", "--client-id", "a\"\\b"],
        variables: &[("DBUS_MQTT_KEEP_ALIVE", "7"), ("DBUS_MQTT_VERSION", "5")],
        file: Some(
            "gather-ms = 3\n\n[limits]\nitems-max = 9\n[[broker]]\nretain = false\n\
             publish-deny = ['settings/#', '+/+/Serial']\n\
             topic-levels-max = 8\ntopic-bytes-max = 256\ntopic-replace = ' >'\n\
             throttle = [['battery/#', '10s', 0.5], ['#', '1h', 1]]\n\
             [[broker]]\nname = 'two'\nserver = 'two'\naccess = 'off'\n\
             home-assistant = false\nhome-assistant-keep = 9\n",
        ),
    };
    let text = dump(&given);
    assert_has_lines(
        &text,
        &[
            "server = \"wss://gx:443/x\"  # --mqtt-server",
            "client-id = \"a\\\"\\\\b\"  # --client-id",
            "keep-alive = 7  # DBUS_MQTT_KEEP_ALIVE",
            "keep-alive = 60  # default",
            "mqtt-version = 5  # DBUS_MQTT_VERSION",
            "gather-ms = 3  # FILE:1",
            "items-max = 9  # FILE:4",
            "services-max = 2000  # default",
            "retain = false  # FILE:6",
            "publish-deny = [\"settings/#\", \"+/+/Serial\"]  # FILE:7",
            "topic-levels-max = 8  # FILE:8",
            "topic-bytes-max = 256  # FILE:9",
            "topic-replace = { \" \" = \"_\", \">\" = \"_\" }  # FILE:10",
            "throttle = [[\"battery/#\", \"10s\", 0.5], [\"#\", \"1h\", 1]]  # FILE:11",
            "server = \"mqtt://two:1883\"  # FILE:14",
            "access = \"off\"  # FILE:15",
            "home-assistant = false  # FILE:16",
            "home-assistant-prefix = \"homeassistant\"  # default",
            "home-assistant-keep = 9  # FILE:17",
            "portal-id = \"e0ff50a097c0\"  # this device",
        ],
    );
    // It is a settings file, of the same configuration.
    assert_eq!(file(&text).resolve(), given.resolve());
    let plain = dump(&Given::default());
    assert_eq!(file(&plain).resolve(), Given::default().resolve());
    let table: toml::Table = plain.parse().unwrap();
    let broker = table["broker"][0].as_table().unwrap();
    for key in BROKER.iter().map(super::setting::Setting::table_key) {
        let hidden = ["user", "password", "password-file", "server-name", "engine", "alpn"]
            .contains(&key)
            || key.contains("certificate")
            || key == "client-key"
            || key.starts_with("home-assistant")
            // Without a value the broker takes all topics.
            || ["topic-levels-max", "topic-bytes-max", "topic-replace"].contains(&key);
        assert!(hidden || broker.contains_key(key), "{key}");
    }
}

#[test]
fn a_broker_may_have_several_addresses() {
    let broker =
        file("mqtt-server = 'mqtts://a, mqtts://b:8884,wss://[::1]/x'\nname = 'c'").broker();
    let places: Vec<_> = broker
        .at_each()
        .into_iter()
        .map(|place| (place.host, place.port, place.transport.scheme()))
        .collect();
    let expected = [
        ("a", 8883, "mqtts"),
        ("b", 8884, "mqtts"),
        ("::1", 443, "wss"),
    ];
    let expected = expected.map(|(host, port, scheme)| (host.to_owned(), port, scheme));
    assert_eq!(places, expected);
    // Each has the name in its address, unless all have one.
    assert!(broker.at_each().iter().all(|place| {
        let tls = place.tls.as_ref().unwrap();
        tls.server_name.is_none()
    }));
    // A setting of encryption is for all. Of a flag that is given twice the last one counts, as always.
    let broker = flags(&["-q", "x", "-q", "a,b", "-c", CA]).broker();
    assert!(
        broker
            .at_each()
            .iter()
            .all(|place| place.transport.is_encrypted())
    );
    assert_eq!(broker.urls(), "mqtts://a:8883,mqtts://b:8883");
    for (server, sentence) in [
        (
            "mqtts://a,b",
            "--mqtt-server: some of these addresses are encrypted and some are not; write mqtts:// or wss:// before each",
        ),
        (
            "a,,b",
            "--mqtt-server: \"\" is not a host; write HOST or HOST:PORT, an IPv6 address as [::1]:PORT",
        ),
    ] {
        flags(&["-q", server]).refused(sentence);
    }
    let given = "[[broker]]\nserver = 'a,b'\nclient-id = 'x'\n\
                 [[broker]]\nname = 'two'\nserver = 'c,b'\nclient-id = 'x'";
    assert!(
        file(given)
            .resolve()
            .unwrap_err()
            .contains("the two would throw")
    );
    let given = file("mqtt-server = 'ws://a/x,b:1884'");
    assert_eq!(file(&dump(&given)).resolve(), given.resolve());
}

#[test]
fn a_broker_sends_us_to_another_server() {
    let broker = flags(&["-q", "mqtts://a:8884"]).broker();
    let place = |reference: &str| {
        let there = broker.referred(reference)?;
        assert_eq!(there.transport, Transport::Tls);
        Some(there.address())
    };
    let known = |address: &str| Some(address.to_owned());
    assert_eq!(place("b.example:1883"), known("b.example:1883"));
    assert_eq!(place("b.example"), known("b.example:8884"));
    assert_eq!(place("[::1]:1 c"), known("[::1]:1"));
    // What is not an address, or says how it is reached, is passed over.
    assert_eq!(place("mqtt://b user@c d"), known("d:8884"));
    assert_eq!(place("/x"), None);
}

#[test]
fn an_engine_sets_what_suits_it_and_every_setting_overrides_it() {
    let given = "[[broker]]\nengine = 'aws-iot'\npublish-rate-max = 50\n\
                 [[broker]]\nserver = 'two'\nname = 'two'\nengine = 'nats'\n";
    let brokers = file(given).resolve().unwrap().brokers;
    let aws = &brokers[0];
    assert!(!aws.retain);
    assert_eq!(aws.topics.levels_max, Some(8));
    assert_eq!(aws.topics.bytes_max, Some(256));
    assert_eq!(aws.publish_rate_max, 50);
    let tls = aws.tls.as_ref().unwrap();
    assert_eq!(tls.alpn.as_deref(), Some("x-amzn-mqtt-ca"));
    let without = file("engine = 'aws-iot'\nalpn = ''").broker();
    assert_eq!((without.tls, without.port), (None, 1883));
    flags(&["--alpn", "two words"]).refused(
        "--alpn: \"two words\" is not a protocol name: 1 to 255 letters, digits and signs without spaces",
    );
    // Of one broker alone.
    assert!(brokers[1].retain);
    let replaced = brokers[1].topics.replace.iter().map(|(from, _)| *from);
    assert_eq!(replaced.collect::<String>(), " *>");
    let qos = brokers.iter().map(|broker| broker.subscribe_qos);
    assert_eq!(qos.collect::<Vec<_>>(), [1, 0]);
    let text = dump(&file(given));
    assert_has_lines(
        &text,
        &[
            "engine = \"aws-iot\"  # FILE:2",
            "publish-rate-max = 50  # FILE:3",
            "retain = false  # engine = \"aws-iot\"",
            "topic-levels-max = 8  # engine = \"aws-iot\"",
            "retain = true  # default",
        ],
    );
    // A flag overrides it too, and it is one itself.
    let broker = flags(&["--engine", "rabbitmq", "--retain", "true"]).broker();
    assert!(broker.retain);
    assert_eq!(broker.topics.replace, [('.', "_".into())]);
    file("engine = 'aws'").refused(
        "FILE:1: \"aws\" is not one of rabbitmq, nats, aws-iot, event-grid, emqx-serverless",
    );
}

#[test]
fn no_secret_is_in_the_configuration_as_shown() {
    let text = dump(&flags(&["-u", "me", "-P", "hunter2", "-c", CA]));
    assert!(
        text.contains("password = \"***\"  # --mqtt-password"),
        "{text}"
    );
    assert!(
        text.contains(&format!("certificate = {CA:?}  # --mqtt-certificate")),
        "{text}"
    );
    assert!(
        !text.contains("hunter2") && file(&text).resolve().is_ok(),
        "{text}"
    );
    let (_folder, path) = secret("0123456789abcdefABCDEF0123456789", 0o600);
    let given = format!("init-broker = true\n[vrm]\npassword-file = '{path}'");
    let text = dump(&file(&given));
    assert!(
        text.contains(&format!("password-file = {path:?}  # FILE:3")),
        "{text}"
    );
    assert!(!text.contains("0123456789abcdefABCDEF"), "{text}");
    assert_eq!(file(&text).resolve(), file(&given).resolve(), "{text}");
}

#[cfg(feature = "listen")]
#[test]
fn s9_1_each_flag_is_one_more_listener() {
    let given = Given {
        flags: &["--listen", "1883", "--listen", "ws://127.0.0.1:9001"],
        ..Given::default()
    };
    let listeners = given.resolve().unwrap().listeners;
    let places: Vec<String> = listeners
        .iter()
        .map(|listener| {
            format!(
                "{}://{}",
                listener.transport.word(),
                listener.address.unwrap()
            )
        })
        .collect();
    assert_eq!(places, ["tcp://127.0.0.1:1883", "ws://127.0.0.1:9001"]);
}
