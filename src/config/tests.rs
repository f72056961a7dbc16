//! The configuration as a whole: what wins, what is refused, and in which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use super::setting::{Kind, Setting, Written};
use super::settings::{BROKER, LIMITS, TOP, VRM};
use super::*;
use crate::cli::Args;
use crate::error::Fatal;
use crate::model::access::Access;
use crate::model::filter::Lists;

/// What can be set, and where.
#[derive(Default)]
pub(super) struct Given<'a> {
    pub(super) flags: &'a [&'a str],
    pub(super) variables: &'a [(&'a str, &'a str)],
    pub(super) file: Option<&'a str>,
}

impl Given<'_> {
    /// Resolves it on a device with a portal id. The settings file is called FILE in complaints.
    pub(super) fn resolve(&self) -> Result<Config, String> {
        self.with(|layers, machine| {
            let source = layers.portal_id(machine)?;
            let portal_id = source.id().cloned().unwrap_or_else(PortalId::unknown);
            layers.resolve(machine, &portal_id)
        })
    }

    /// The configuration as text.
    pub(super) fn dump(&self) -> Result<String, String> {
        self.with(|layers, machine| {
            let folder = machine
                .unique_id_file
                .parent()
                .unwrap()
                .display()
                .to_string();
            let text = layers.dump(machine)?;
            Ok(text.replace(&format!("{folder}/"), ""))
        })
    }

    pub(super) fn with<T>(
        &self,
        act: impl Fn(&Layers, &Machine) -> Result<T, ConfigError>,
    ) -> Result<T, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("unique-id"), "e0ff50a097c0\n").unwrap();
        let mut flags = vec!["dbus-mqtt".to_owned()];
        flags.extend(self.flags.iter().map(|&flag| flag.to_owned()));
        if let Some(text) = self.file {
            fs::write(path("FILE"), text).unwrap();
            flags.extend(["--config".to_owned(), path("FILE")]);
        }
        let variables = self.variables.iter();
        let machine = Machine {
            environment: variables
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            venus: vec![folder.path().to_owned()],
            unique_id_file: path("unique-id").into(),
            unique_id_command: path("get-unique-id").into(),
            interfaces: path("net").into(),
            vrm_certificate: path("vrm-ca.pem").into(),
            vrm_password_file: path("vrm-password").into(),
            version_file: path("version").into(),
        };
        let resolve = || {
            let args = match Args::parse_from_command_line(flags.iter().map(Into::into)) {
                Ok(args) => args.unwrap(),
                Err(Fatal::Config(error)) => return Err(error),
                Err(other) => panic!("{other}"),
            };
            act(&Layers::read(args.settings(), &machine)?, &machine)
        };
        resolve().map_err(|error| error.to_string().replace(&path(""), ""))
    }

    #[track_caller]
    pub(super) fn broker(&self) -> BrokerConfig {
        let config = self.resolve().unwrap();
        assert_eq!(config.brokers.len(), 1);
        config.brokers.into_iter().next().unwrap()
    }

    #[track_caller]
    pub(super) fn refused(&self, sentence: &str) {
        assert_eq!(self.resolve().unwrap_err(), sentence);
    }
}

pub(super) fn flags<'a>(flags: &'a [&'a str]) -> Given<'a> {
    Given {
        flags,
        ..Given::default()
    }
}

pub(super) fn variables<'a>(variables: &'a [(&'a str, &'a str)]) -> Given<'a> {
    Given {
        variables,
        ..Given::default()
    }
}

pub(super) fn file(text: &str) -> Given<'_> {
    Given {
        file: Some(text),
        ..Given::default()
    }
}

#[test]
fn defaults() {
    let broker = BrokerConfig {
        name: "broker".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 1883,
        transport: Transport::Tcp,
        others: Vec::new(),
        tls: None,
        version: MqttVersion::Auto,
        client_id: "dbus-mqtt-e0ff50a097c0".to_owned(),
        login: None,
        retain: true,
        expire: None,
        topic_aliases: false,
        keep_alive: Some(Duration::from_secs(60)),
        ping: Duration::from_secs(30),
        reconnect_max: Duration::from_secs(30),
        republish_jitter: Duration::ZERO,
        will_delay: Duration::ZERO,
        subscribe_qos: 1,
        follow_redirect: false,
        publish_rate_max: 0,
        throttle: Vec::new(),
        batch: None,
        batch_full: Some(Duration::from_secs(300)),
        batch_compress: false,
        topics_of_values: true,
        access: AccessRule::Always(Access::Full),
        prefix: String::new(),
        lists: Lists::default(),
        topics: crate::model::topic::TopicRules::default(),
        home_assistant: None,
    };
    let expected = Config {
        portal_id: PortalId::new("e0ff50a097c0").unwrap(),
        bus: BusAddress::parse("unix:path=/var/run/dbus/system_bus_socket").unwrap(),
        brokers: vec![broker],
        vrm: None,
        gather: Duration::from_millis(20),
        refresh: Some(Duration::from_secs(300)),
        stats: None,
        metrics: None,
        web: None,
        web_hosts: Vec::new(),
        limits: Limits::default(),
        schema: Arc::default(),
        strict_writes: false,
        ..Config::default()
    };
    assert_eq!(Given::default().resolve(), Ok(expected));
}

#[test]
fn s7_the_flags_of_dbus_mqtt() {
    let words = "-q venus.local:1884 -u me -P secret -b tcp:host=gx,port=78 -k 0 -d";
    let words: Vec<&str> = words.split(' ').collect();
    let given = flags(&words);
    let broker = given.broker();
    assert_eq!(broker.address(), "venus.local:1884");
    assert_eq!(
        broker.login,
        Some(Login {
            user: "me".to_owned(),
            password: Secret::from("secret")
        })
    );
    assert_eq!(broker.keep_alive, None);
    assert_eq!(given.resolve().unwrap().bus.as_str(), "tcp:host=gx,port=78");
}

#[test]
fn s7_flag_wins_over_environment_over_file_over_default() {
    let mut given = file("mqtt-server = 'file'\nretain = false\nkeep-alive = 3\ngather-ms = 3");
    assert_eq!(given.broker().host, "file");
    given.variables = &[
        ("DBUS_MQTT_SERVER", "environment"),
        ("DBUS_MQTT_KEEP_ALIVE", "2"),
    ];
    assert_eq!(given.broker().host, "environment");
    given.flags = &["--mqtt-server", "flag"];
    let broker = given.broker();
    assert_eq!(broker.host, "flag");
    assert_eq!(broker.keep_alive, Some(Duration::from_secs(2)));
    assert!(!broker.retain);
    assert_eq!(given.resolve().unwrap().gather, Duration::from_millis(3));
    assert_eq!(broker.port, 1883);
}

#[test]
fn s7_every_flag_is_a_variable_and_a_key() {
    for setting in RawConfig::settings() {
        let key = setting.key;
        let (word, value) = match setting.kind {
            _ if key == "config" => continue,
            Kind::Truth | Kind::Switch => ("false", "false"),
            Kind::Number | Kind::Seconds | Kind::Milliseconds => ("7", "7"),
            Kind::Word(words) => (words[0], &*format!("'{}'", words[0])),
            Kind::Folders => ("x", "['x']"),
            Kind::Throttle => continue,
            _ if key == "dbus" => ("unix:path=/x", "'unix:path=/x'"),
            Kind::Text | Kind::Secret | Kind::File | Kind::Filters | Kind::Characters => {
                ("x", "'x'")
            }
        };
        let text = format!("{key} = {value}");
        let given = file(&text);
        let written = given.with(|layers, _| {
            let values = [&layers.top, &layers.brokers[0]];
            Ok(values
                .into_iter()
                .any(|values| values.written(key).is_some()))
        });
        assert_eq!(written, Ok(true), "{key}");
        // A variable does what the flag does, be it to be refused.
        let name = setting.variable();
        let by_variable = variables(&[(&name, word)]).resolve();
        let by_flag = flags(&[&format!("--{key}={word}")]).resolve();
        let by_flag =
            by_flag.map_err(|sentence| sentence.replace(&format!("--{key}:"), &format!("{name}:")));
        assert_eq!(by_variable, by_flag, "{key}");
    }
}

/// What a declaration says of its default, it takes; and no two have one key.
#[test]
fn every_default_can_be_read() {
    let mut keys = std::collections::BTreeSet::new();
    for setting in [TOP, BROKER, VRM, LIMITS].into_iter().flatten() {
        let Setting { key, default, .. } = setting;
        assert!(keys.insert(key), "{key} is declared twice");
        for toml in [default, &setting.example].into_iter().flatten() {
            let written = super::toml_value::value(setting, toml);
            let written = written.unwrap_or_else(|| panic!("{key} = {toml}"));
            if let Written::Number(number) = written {
                assert!(
                    (setting.min..=setting.max).contains(&number),
                    "{key} = {toml}"
                );
            }
        }
        let paragraphs = setting.prose();
        let first = paragraphs.first().map_or("", String::as_str);
        assert!(first.starts_with(char::is_uppercase), "{key}: {first:?}");
        assert!(!first.ends_with('.'), "{key}: {first:?}");
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    assert_eq!(
        variables(&[("DBUS_MQTT_SERVER", ""), ("DBUS_MQTT_DEBUG", "")])
            .broker()
            .host,
        "127.0.0.1"
    );
}

#[test]
fn switches_can_be_switched_off() {
    let debug = |flags: &[&str]| {
        Args::parse_from_command_line(flags.iter().map(Into::into))
            .unwrap()
            .unwrap()
            .settings
            .get("debug")
            .cloned()
    };
    let is = |truth| Some(Written::Truth(truth));
    assert_eq!(debug(&["dbus-mqtt"]), None);
    assert_eq!(debug(&["dbus-mqtt", "-d"]), is(true));
    assert_eq!(debug(&["dbus-mqtt", "--debug=false"]), is(false));
    assert_eq!(debug(&["dbus-mqtt", "demo", "-d"]), is(true));
    assert!(flags(&["--init-broker=no"]).resolve().is_ok());
}

#[test]
fn s2_8_the_bus() {
    let bus = |given: Given| given.resolve().map(|config| config.bus.to_string());
    let of = |address: &str| Ok(address.to_owned());
    let session = ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/session");
    let system = ("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/system");
    let both = &[session, system];
    assert_eq!(bus(variables(&[system])), of("unix:path=/system"));
    assert_eq!(bus(variables(both)), of("unix:path=/session"));
    assert_eq!(
        bus(Given {
            flags: &["-b", "system"],
            ..variables(both)
        }),
        of("unix:path=/system")
    );
    assert_eq!(
        bus(Given {
            flags: &["-b", "session"],
            ..variables(both)
        }),
        of("unix:path=/session")
    );
    assert_eq!(
        bus(Given {
            flags: &["-b", "unix:abstract=x;tcp:port=1"],
            ..variables(both)
        }),
        of("unix:abstract=x;tcp:port=1")
    );
    assert_eq!(
        bus(flags(&["-b", "system"])),
        of("unix:path=/var/run/dbus/system_bus_socket")
    );
    flags(&["-b", "session"])
        .refused("--dbus: there is no session bus here: DBUS_SESSION_BUS_ADDRESS is not set");
    for wrong in ["gx", "tcp:host=a b", "unix:path=/x;", ":path=/x"] {
        let complaint =
            "is not a D-Bus address; one looks like unix:path=/var/run/dbus/system_bus_socket";
        flags(&["-b", wrong]).refused(&format!("--dbus: {wrong:?} {complaint}"));
    }
}

#[test]
fn the_bus_of_a_command() {
    let args = ["dbus-mqtt", "record", "--dbus", "unix:path=/x"]
        .iter()
        .map(Into::into);
    let args = Args::parse_from_command_line(args).unwrap().unwrap();
    let machine = Machine {
        environment: [("DBUS_MQTT_DBUS".into(), "unix:path=/y".into())].into(),
        ..Machine::this()
    };
    let bus = |raw: RawConfig| {
        Layers::read(raw, &machine)
            .unwrap()
            .bus(&machine)
            .unwrap()
            .to_string()
    };
    assert_eq!(bus(args.settings()), "unix:path=/x");
    assert_eq!(bus(RawConfig::default()), "unix:path=/y");
}

#[test]
fn s7_a_password_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password").display().to_string();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let login = |text: &str| {
        fs::write(&path, text).unwrap();
        flags(&["-u", "me", "--mqtt-password-file", &path])
            .resolve()
            .map(|config| config.brokers[0].login.clone())
    };
    let expected = Login {
        user: "me".to_owned(),
        password: Secret::from(" pass word "),
    };
    for text in [" pass word ", " pass word \n", " pass word \r\nmore\n"] {
        assert_eq!(login(text), Ok(Some(expected.clone())), "{text:?}");
    }
    for text in ["", "\nsecret\n"] {
        let sentence = format!(
            "--mqtt-password-file: the first line of {path} is empty, so there is no password in it"
        );
        assert_eq!(login(text), Err(sentence));
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    flags(&["-u", "me", "--mqtt-password-file", &path]).refused(&format!(
        "--mqtt-password-file: cannot read {path}: stream did not contain valid UTF-8"
    ));
    fs::remove_file(&path).unwrap();
    Given {
        variables: &[("DBUS_MQTT_PASSWORD_FILE", &path)],
        ..flags(&["-u", "me"])
    }
    .refused(&format!(
        "DBUS_MQTT_PASSWORD_FILE: cannot read {path}: No such file or directory"
    ));
}

#[test]
fn the_stronger_of_password_and_password_file() {
    let given = Given {
        flags: &["-u", "me", "-P", "flag"],
        variables: &[("DBUS_MQTT_PASSWORD_FILE", "/nowhere")],
        file: None,
    };
    assert_eq!(given.broker().login.unwrap().password.expose(), "flag");
    let given = Given {
        flags: &["-u", "me", "--mqtt-password-file", "/nowhere"],
        ..file("mqtt-password = 'weak'")
    };
    given.refused("--mqtt-password-file: cannot read /nowhere: No such file or directory");
    file("mqtt-user = 'me'\nmqtt-password = 'a'\nmqtt-password-file = 'b'").refused(
        "FILE:3: mqtt-password-file: set either the password or the password file, not both",
    );
}

#[test]
fn a_user_without_password_and_a_password_without_user() {
    let expected = Login {
        user: "me".to_owned(),
        password: Secret::default(),
    };
    assert_eq!(flags(&["-u", "me"]).broker().login, Some(expected));
    variables(&[("DBUS_MQTT_PASSWORD", "hunter2")])
        .refused("DBUS_MQTT_PASSWORD: a password needs a user: set --mqtt-user too");
}

#[test]
fn a_secret_is_never_shown() {
    let config = flags(&["-u", "me", "-P", "hunter2"]).resolve().unwrap();
    let shown = format!(
        "{config:?} {:#?} {}",
        config,
        config.brokers[0].login.as_ref().unwrap().password
    );
    assert!(
        shown.contains("***") && !shown.contains("hunter2"),
        "{shown}"
    );
    let args = ["dbus-mqtt", "-P", "hunter2"].iter().map(Into::into);
    let args = Args::parse_from_command_line(args).unwrap();
    assert!(!format!("{args:?}").contains("hunter2"));
    file("mqtt-password = 4711").refused("FILE:1: a password is a text, in quotes");
    flags(&["-P", "hunter2"])
        .refused("--mqtt-password: a password needs a user: set --mqtt-user too");
}

#[test]
fn what_is_wrong_in_a_file_has_its_line() {
    let wrong = |text, sentence| file(text).refused(sentence);
    wrong(
        "# a\n\nretain = 1",
        "FILE:3: invalid type: integer `1`, expected true or false",
    );
    wrong(
        "keep-alive = -5",
        "FILE:1: invalid value: integer `-5`, expected a whole number",
    );
    wrong(
        "mqtt-server = 5",
        "FILE:1: invalid type: integer `5`, expected a text in quotes",
    );
    wrong(
        "[limits]\nitems-max = 0",
        "FILE:2: items-max: 0 is too small: at least 1",
    );
    wrong("\nretain = [", "FILE:2: unclosed array, expected `]`");
    wrong(
        "\n\nportal-id = 'a/b'",
        "FILE:3: portal-id: the portal id \"a/b\" has the character '/'; only letters, digits, - and _ can be in it",
    );
    wrong(
        "mqtt-server = 'http://x'",
        "FILE:1: mqtt-server: http:// is not an MQTT address; write HOST, HOST:PORT, or one that begins with mqtt://, mqtts://, ws:// or wss://",
    );
    wrong(
        "gather-ms = 1001",
        "FILE:1: gather-ms: 1001 is too large: at most 1000",
    );
    wrong(
        "client-id = 'a+b'",
        "FILE:1: client-id: \"a+b\" is not a client id: 1 to 256 bytes, without + # / and control characters",
    );
    wrong(
        "dbus = 'x'",
        "FILE:1: dbus: \"x\" is not a D-Bus address; one looks like unix:path=/var/run/dbus/system_bus_socket",
    );
    // The settings file cannot name another.
    wrong(
        "config = 'x'",
        "FILE:1: there is no setting config; dbus-mqtt.example.toml has all of them",
    );
}

#[test]
fn what_was_likely_meant_by_a_key() {
    let wrong = |text: &str, sentence: &str| file(text).refused(&format!("FILE:{sentence}"));
    let top = |key: &str, hint: &str| {
        let sentence = format!("2: there is no setting {key}; {hint}");
        wrong(&format!("\n{key} = 'x'"), &sentence);
    };
    top("mqtt-sever", "did you mean mqtt-server?");
    top("server", "did you mean mqtt-server?");
    top("keep_alive", "did you mean keep-alive?");
    top("portal", "dbus-mqtt.example.toml has all of them");
    top("broekr", "did you mean broker?");
    top("items-max", "it belongs to [limits]");
    top("register-url", "it belongs to [vrm]");
    wrong(
        "[limits]\nitms-max = 5",
        "2: [limits] has no setting itms-max; did you mean items-max?",
    );
    wrong(
        "[limits]\nretain = true",
        "2: [limits] has no setting retain; it belongs to the top of the file, before the first table",
    );
    wrong(
        "[[broker]]\nservr = 'x'",
        "2: [[broker]] has no setting servr; did you mean server?",
    );
    wrong(
        "[[broker]]\nserver = 'x'\nportal-id = 'abc'",
        "3: [[broker]] has no setting portal-id; it belongs to the top of the file, before the first table",
    );
    wrong(
        "[vrm]\nenable = true",
        "2: [vrm] has no setting enable; did you mean enabled?",
    );
    for key in VRM.iter().map(|setting| setting.key) {
        if let Err(error) = file(&format!("[vrm]\n{key} = 0")).resolve() {
            assert!(!error.contains("has no setting"), "{error}");
        }
    }
}

#[test]
fn text_needs_quotes() {
    let wrong = |line: &str, key: &str| {
        let sentence =
            format!("FILE:2: the value of {key} is text, and text needs quotes: {key} = \"…\"");
        file(&format!("\n{line}\n")).refused(&sentence);
    };
    wrong("mqtt-server = 127.0.0.1", "mqtt-server");
    wrong("mqtt-server = gx.local:1883 # mine", "mqtt-server");
    wrong("mqtt-password = hunter2", "mqtt-password");
    wrong("config = /data/x", "config");
    wrong("mqtt-server = ::1", "mqtt-server");
    for other in ["retain = [", "retain = ", "= 5", "'a' 'b' = x"] {
        let error = file(other).resolve().unwrap_err();
        assert!(!error.contains("quotes"), "{error}");
    }
}

#[test]
fn a_variable_that_is_no_setting_is_told() {
    let told = |name: &str| {
        let environment = [
            (name.into(), "1".into()),
            ("DBUS_MQTT_RETAIN".into(), "1".into()),
        ];
        let machine = Machine {
            environment: environment.into(),
            ..Machine::this()
        };
        Layers::read(RawConfig::default(), &machine)
            .unwrap()
            .unknown
    };
    assert_eq!(
        told("DBUS_MQTT_SEVER"),
        [
            "the variable DBUS_MQTT_SEVER is not a setting, and has no effect; did you mean DBUS_MQTT_SERVER?"
        ]
    );
    assert_eq!(
        told("DBUS_MQTT_XYZZY"),
        ["the variable DBUS_MQTT_XYZZY is not a setting, and has no effect"]
    );
    assert_eq!(told("DBUS_SESSION"), [""; 0]);
}

#[test]
fn what_is_wrong_elsewhere_has_its_name() {
    variables(&[("DBUS_MQTT_RETAIN", "maybe")])
        .refused("DBUS_MQTT_RETAIN: \"maybe\" is neither true nor false");
    variables(&[("DBUS_MQTT_KEEP_ALIVE", "1h")])
        .refused("DBUS_MQTT_KEEP_ALIVE: \"1h\" is not a whole number");
    flags(&["-k", "4294967296"])
        .refused("--keep-alive: 4294967296 is too large: at most 4294967295");
    flags(&["-k", "-1"]).refused("--keep-alive: \"-1\" is not a whole number");
    flags(&["--client-id", ""]).refused(
        "--client-id: \"\" is not a client id: 1 to 256 bytes, without + # / and control characters",
    );
    flags(&["--config", "/nowhere"])
        .refused("--config: cannot read /nowhere: No such file or directory");
    flags(&["--portal-id", ""]).refused("--portal-id: the portal id is empty");
}

#[cfg(feature = "client")]
#[test]
fn a_client_has_the_settings_of_the_bridge_and_a_name_of_its_own() {
    let client = |words: &[&str], variables: &[(&str, &str)]| {
        let words = ["dbus-mqtt", "get", "a/0/X"].iter().chain(words);
        let machine = Machine {
            environment: variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            ..Machine::this()
        };
        let args = Args::parse_from_command_line(words.map(Into::into))
            .unwrap()
            .unwrap();
        let layers = Layers::read(args.settings(), &machine).unwrap();
        layers
            .client("own".to_owned())
            .map_err(|error| error.to_string())
    };
    let found = client(
        &["-q", "gx:1884", "-u", "me", "-P", "x", "--portal-id", "abc"],
        &[
            ("DBUS_MQTT_SERVER", "other"),
            ("DBUS_MQTT_CLIENT_ID", "bridge"),
        ],
    )
    .unwrap();
    assert_eq!(found.broker.address(), "gx:1884");
    assert_eq!(found.broker.login.unwrap().password.expose(), "x");
    assert_eq!(found.broker.client_id, "own");
    assert_eq!(found.portal_id.unwrap().as_str(), "abc");
    let found = client(&[], &[("DBUS_MQTT_SERVER", "other")]).unwrap();
    assert_eq!(
        (found.broker.host.as_str(), found.portal_id),
        ("other", None)
    );
    let wrong = client(&[], &[("DBUS_MQTT_PORTAL_ID", "a/b")]).unwrap_err();
    assert!(wrong.starts_with("DBUS_MQTT_PORTAL_ID: "), "{wrong}");
    let wrong = client(&["-c", "ca.pem"], &[]).unwrap_err();
    assert!(wrong.starts_with("--mqtt-certificate: "), "{wrong}");
}

#[test]
fn home_assistant_is_left_alone_unless_it_is_asked_for() {
    let home = |given: Given<'_>| given.broker().home_assistant;
    assert_eq!(home(Given::default()), None);
    assert_eq!(home(flags(&["--home-assistant-keep", "5"])), None);
    let expected = HomeAssistant {
        enabled: true,
        prefix: "homeassistant".into(),
        keep: Some(Duration::from_secs(86_400)),
    };
    assert_eq!(home(flags(&["--home-assistant"])), Some(expected.clone()));
    let off = HomeAssistant {
        enabled: false,
        ..expected
    };
    assert_eq!(home(file("home-assistant = false")), Some(off));
    let given = "home-assistant = true\nhome-assistant-prefix = 'a/b'\nhome-assistant-keep = 0";
    let expected = HomeAssistant {
        enabled: true,
        prefix: "a/b".into(),
        keep: Some(Duration::ZERO),
    };
    assert_eq!(home(file(given)), Some(expected));
    flags(&["--home-assistant-prefix", "a/#"]).refused(
        "--home-assistant-prefix: \"a/#\" is not a topic to begin with; the usual one is homeassistant",
    );
    variables(&[("DBUS_MQTT_HOME_ASSISTANT_PREFIX", "/a")]).refused(
        "DBUS_MQTT_HOME_ASSISTANT_PREFIX: \"/a\" is not a topic to begin with; the usual one is \
         homeassistant",
    );
}

/// In the example a `#` directly before a setting hides a default, one before a space is prose.
#[test]
fn the_example_shows_the_defaults() {
    let example = include_str!("../../dbus-mqtt.example.toml");
    assert_eq!(file(example).resolve(), Given::default().resolve());

    let settings: Vec<&str> = example
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
        .collect();
    let uncommented = settings.join("\n");
    assert_eq!(file(&uncommented).resolve(), Given::default().resolve());

    // Nothing is left out: each setting stands there, as a default or as prose.
    let table: toml::Table = uncommented.parse().unwrap();
    let in_table = |name: &str| table[name].as_table().unwrap();
    for (settings, table) in [
        (BROKER, &table),
        (TOP, &table),
        (VRM, in_table("vrm")),
        (LIMITS, in_table("limits")),
    ] {
        for key in settings
            .iter()
            .filter(|setting| !setting.no_key)
            .map(|setting| setting.key)
        {
            let is_prose = example.contains(&format!("\n# {key} = "));
            assert!(is_prose || table.contains_key(key), "{key}");
        }
    }
}

#[test]
fn an_address_as_people_write_it() {
    let address = |server: &str| flags(&["-q", server]).broker().address();
    assert_eq!(address("gx"), "gx:1883");
    assert_eq!(address("::1"), "[::1]:1883");
}
