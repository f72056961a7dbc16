//! The program as its user meets it: what it prints, and how it ends (§7).
//!
//! The rules of each setting are tested where they are, in `src/config/tests.rs`. Here is what only
//! the real binary shows.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The program without anything of the environment but what it needs to start.
fn dbus_mqtt(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbus-mqtt"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A mistake: status 2, nothing on stdout, one line on stderr.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let stderr = text(&stderr);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(text(&stdout), "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
        .trim_end()
        .strip_prefix("dbus-mqtt: ")
        .unwrap()
        .to_owned()
}

#[test]
fn s7_a_wrong_flag() {
    let sentence = refused(&mut dbus_mqtt(&["--keepalive", "3"]));
    assert!(
        sentence.starts_with("unexpected argument '--keepalive' found"),
        "{sentence}"
    );
    assert!(sentence.contains("'--keep-alive'"), "{sentence}");
    let sentence = refused(&mut dbus_mqtt(&["demonstrate"]));
    assert!(
        sentence.starts_with("unrecognized subcommand 'demonstrate'"),
        "{sentence}"
    );
    // One line, whatever the argument is.
    refused(&mut dbus_mqtt(&["--a\nb"]));
}

#[test]
fn s7_a_wrong_value() {
    let check = |arguments: &[&str], expected: &str| {
        assert_eq!(refused(&mut dbus_mqtt(arguments)), expected);
    };
    check(
        &["-k", "soon"],
        "--keep-alive: \"soon\" is not a whole number",
    );
    check(
        &["--retain", "perhaps"],
        "--retain: \"perhaps\" is neither true nor false",
    );
    check(
        &["-q", "gx:0"],
        "--mqtt-server: \"0\" is not a port: a number from 1 to 65535",
    );
    check(&["demo", "--port", "0"], "--port: 0 is not a port");
    check(
        &["demo", "--rate", "nan"],
        "--rate: \"nan\" is not a number greater than 0",
    );
    check(
        &["replay", "--speed", "-1", "x"],
        "--speed: \"-1\" is not a number greater than 0",
    );
    let sentence = refused(&mut dbus_mqtt(&["replay"]));
    assert!(
        sentence.starts_with("the following required arguments were not provided: <FILE|DIR>...")
    );
    let sentence = refused(&mut dbus_mqtt(&["-q", "gx", "demo"]));
    assert!(
        sentence.starts_with("the options before the command are the bridge's"),
        "{sentence}"
    );
}

#[test]
fn s7_a_bad_portal_id() {
    let sentence = refused(&mut dbus_mqtt(&["--portal-id", "e0/ff"]));
    assert!(sentence.starts_with("--portal-id: "), "{sentence}");
    let sentence = refused(dbus_mqtt(&[]).env("DBUS_MQTT_PORTAL_ID", "+"));
    assert!(sentence.starts_with("DBUS_MQTT_PORTAL_ID: "), "{sentence}");
}

#[test]
fn s7_a_mistake_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml").display().to_string();
    let sentence = refused(&mut dbus_mqtt(&["--config", &path]));
    assert_eq!(
        sentence,
        format!("--config: cannot read {path}: No such file or directory")
    );
    let sentence = refused(dbus_mqtt(&[]).env("DBUS_MQTT_CONFIG", &path));
    assert_eq!(
        sentence,
        format!("DBUS_MQTT_CONFIG: cannot read {path}: No such file or directory")
    );

    fs::write(&path, "# settings\nretain = false\nportal = 'x'\n").unwrap();
    let sentence = refused(&mut dbus_mqtt(&["--config", &path]));
    assert!(
        sentence.starts_with(&format!("{path}:3: there is no setting portal; ")),
        "{sentence}"
    );
}

#[test]
fn s7_a_mistake_in_the_environment() {
    use std::os::unix::ffi::OsStrExt;

    let sentence = refused(dbus_mqtt(&[]).env("DBUS_MQTT_RETAIN", "2"));
    assert_eq!(
        sentence,
        "DBUS_MQTT_RETAIN: \"2\" is neither true nor false"
    );
    let sentence = refused(dbus_mqtt(&[]).env("RUST_LOG", "dbus_mqtt=loud"));
    assert!(sentence.starts_with("RUST_LOG: "), "{sentence}");
    let bytes = std::ffi::OsStr::from_bytes(&[b'a', 0xff]);
    let sentence = refused(dbus_mqtt(&[]).env("DBUS_MQTT_USER", bytes));
    assert_eq!(sentence, "DBUS_MQTT_USER: the value is not valid UTF-8");
}

#[test]
fn the_configuration_is_printed_and_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml").display().to_string();
    fs::write(
        &path,
        "retain = false\nmqtt-user = 'me'\nmqtt-password = 'hunter2'\n",
    )
    .unwrap();
    let arguments = [
        "config",
        "--config",
        &path,
        "-q",
        "gx:1",
        "--portal-id",
        "e0ff",
    ];
    let Output {
        status,
        stdout,
        stderr,
    } = dbus_mqtt(&arguments).output().unwrap();
    assert_eq!((status.code(), text(&stderr)), (Some(0), String::new()));
    let stdout = text(&stdout);
    assert!(
        stdout.contains("server = \"mqtt://gx:1\"  # --mqtt-server\n"),
        "{stdout}"
    );
    assert!(
        stdout.contains(&format!("retain = false  # {path}:1\n")),
        "{stdout}"
    );
    assert!(!stdout.contains("hunter2"), "{stdout}");
    fs::write(&path, &stdout).unwrap();
    let again = dbus_mqtt(&["config", "--config", &path, "-d"])
        .output()
        .unwrap();
    assert_eq!(
        (again.status.code(), text(&again.stderr)),
        (Some(0), String::new())
    );
    assert!(text(&again.stdout).contains("debug = true  # --debug"));
    let sentence = refused(&mut dbus_mqtt(&["config", "-k", "x"]));
    assert_eq!(sentence, "--keep-alive: \"x\" is not a whole number");
}

#[test]
fn the_schema_is_shown_to_people_and_programs() {
    let run = |arguments: &[&str]| {
        let Output {
            status,
            stdout,
            stderr,
        } = dbus_mqtt(arguments).output().unwrap();
        (status.code(), text(&stdout), text(&stderr))
    };
    let (status, list, _) = run(&["schema", "list"]);
    assert_eq!(status, Some(0));
    assert!(
        list.lines().any(|line| line.starts_with("vebus ")),
        "{list}"
    );
    let (_, table, _) = run(&["schema", "show", "vebus"]);
    let mode = table
        .lines()
        .position(|line| line.starts_with("/Mode "))
        .unwrap();
    let below = table.lines().nth(mode + 1).unwrap().trim();
    assert_eq!(below, "1 charger only, 2 inverter only, 3 on, 4 off");
    let (_, json, _) = run(&["schema", "show", "vebus", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let mode = rows.iter().find(|row| row["path"] == "/Mode").unwrap();
    assert_eq!(mode["labels"]["3"], "on");
    let (_, found, _) = run(&["schema", "find", "WASTE water"]);
    assert!(
        found.contains("/FluidType") && !found.contains("/Level"),
        "{found}"
    );

    let failed = |arguments: &[&str], sentence: &str| {
        let expected = (Some(1), String::new(), format!("dbus-mqtt: {sentence}\n"));
        assert_eq!(run(arguments), expected);
    };
    failed(
        &["schema", "show", "solar"],
        "there is no service type \"solar\" in the schema; there is solarcharger",
    );
    failed(
        &["schema", "find", "xyzzy"],
        "no row of the schema has \"xyzzy\" in it",
    );
}

#[test]
fn a_mistake_in_a_schema_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let sentence = refused(&mut dbus_mqtt(&["--schema", &path]));
    let empty = "no schema files are in it; one ends in .toml";
    assert_eq!(sentence, format!("--schema: cannot read {path}: {empty}"));
    fs::write(
        folder.path().join("tank.toml"),
        "[items]\n\"/Level\" = { unit = \"x\" }\n\"Level\" = {}\n",
    )
    .unwrap();
    let unit = format!("{path}/tank.toml:2: `x` is not among the units of _default.toml");
    let start = format!("{path}/tank.toml:3: the path `Level` must begin with `/`");
    let more = format!("(and 1 more: dbus-mqtt schema check {path})");
    let sentence = refused(dbus_mqtt(&[]).env("DBUS_MQTT_SCHEMA", &path));
    assert_eq!(sentence, format!("{unit} {more}"));
    // All of them, for whoever is about to mend them.
    let Output {
        status,
        stdout,
        stderr,
    } = dbus_mqtt(&["schema", "check", &path]).output().unwrap();
    assert_eq!(status.code(), Some(2));
    assert_eq!(text(&stdout), format!("{unit}\n{start}\n"));
    assert_eq!(
        text(&stderr),
        format!("dbus-mqtt: {path}: 2 mistakes in the schema\n")
    );
}

#[test]
fn help_and_version() {
    let check = |arguments: &[&str], expected: &[&str]| {
        let Output {
            status,
            stdout,
            stderr,
        } = dbus_mqtt(arguments).output().unwrap();
        assert_eq!((status.code(), text(&stderr)), (Some(0), String::new()));
        let stdout = text(&stdout);
        for part in expected {
            assert!(stdout.contains(part), "{part:?} is not in\n{stdout}");
        }
    };
    let flags = [
        "-q, --mqtt-server",
        "-u, --mqtt-user",
        "-P, --mqtt-password",
        "-c, --mqtt-certificate",
    ];
    check(&["--help"], &flags);
    check(
        &["-h"],
        &[
            "-b, --dbus",
            "-k, --keep-alive",
            "-i, --init-broker",
            "-d, --debug",
            "Examples:",
        ],
    );
    check(
        &["--help"],
        &[
            "demo",
            "record",
            "replay",
            "DBUS_MQTT_KEEP_ALIVE",
            "--mqtt-password-file",
        ],
    );
    check(&["replay", "--help"], &["--speed", "--loop"]);
    check(
        &["schema", "--help"],
        &["list", "show", "find", "check", "--schema", "--json"],
    );
    check(
        &["--version"],
        &[&format!("dbus-mqtt {}\n", env!("CARGO_PKG_VERSION"))],
    );
}

#[test]
fn help_is_a_command_too() {
    let shown = |arguments: &[&str]| {
        let output = dbus_mqtt(arguments).output().unwrap();
        let said = (output.status.code(), text(&output.stderr));
        assert_eq!(said, (Some(0), String::new()), "{arguments:?}");
        text(&output.stdout)
    };
    assert_eq!(shown(&["help"]), shown(&["--help"]));
    assert_eq!(shown(&["help", "replay"]), shown(&["replay", "--help"]));
    let schema = shown(&["schema"]);
    assert!(
        schema.contains("\n  list ") && schema.contains("\n  check "),
        "{schema}"
    );
}

/// A device without room takes what is printed, and gives it back as an error.
#[test]
fn no_room_to_print_is_one_sentence_and_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let mut commands = vec![
        vec!["--help"],
        vec!["help"],
        vec!["--version"],
        vec!["schema"],
        vec!["schema", "list"],
        vec!["schema", "check", &out],
        vec!["config", "--portal-id", "x"],
        vec![
            "doctor",
            "-b",
            "unix:path=/nonexistent/bus",
            "--portal-id",
            "x",
        ],
    ];
    if cfg!(feature = "client") {
        commands.extend([vec!["man"], vec!["completions", "bash"]]);
    }
    if cfg!(feature = "demo") {
        commands.push(vec!["demo", "--seconds", "5"]);
    }
    for arguments in commands {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = dbus_mqtt(&arguments).stdout(full).output().unwrap();
        let stderr = text(&output.stderr);
        if arguments.contains(&"check") {
            // The mistake in what is checked comes first.
            assert_ne!(output.status.code(), Some(0));
            continue;
        }
        assert_eq!(
            (output.status.code(), stderr.as_str()),
            (
                Some(1),
                "dbus-mqtt: cannot print: No space left on device\n"
            ),
            "{arguments:?}"
        );
    }
}

#[cfg(feature = "demo")]
#[test]
fn a_port_that_was_asked_for_must_be_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = dbus_mqtt(&["demo", "--port", &port, "--seconds", "1"])
        .output()
        .unwrap();
    let sentence = format!(
        "dbus-mqtt: port {port} is taken; give another, or leave it out to take a free one\n"
    );
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(1), sentence)
    );
}

#[test]
fn a_variable_that_is_no_setting_is_warned_of() {
    let output = dbus_mqtt(&["config", "--portal-id", "x"])
        .env("DBUS_MQTT_SEVER", "gx")
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(
        (output.status.code(), said.lines().count()),
        (Some(0), 1),
        "{said}"
    );
    assert!(
        said.contains("WARN") && said.contains("did you mean DBUS_MQTT_SERVER?"),
        "{said}"
    );
}

#[test]
fn the_configuration_without_a_portal_id_can_be_read_again() {
    let shown = |arguments: &[&str]| {
        let output = dbus_mqtt(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml").display().to_string();
    // A bus elsewhere, so that this holds on a GX device too.
    let first = shown(&["config", "-b", "tcp:host=gx,port=78", "-i"]);
    assert!(first.contains("\n#portal-id = "), "{first}");
    assert!(first.contains("\n#client-id = "), "{first}");
    fs::write(&path, &first).unwrap();
    let second = shown(&["config", "--config", &path, "--portal-id", "abc"]);
    assert!(second.contains("client-id = \"dbus-mqtt-abc\""), "{second}");
    assert!(second.contains("ccgxapikey_abc"), "{second}");
}

#[test]
fn the_help_shows_what_this_build_has() {
    let help = text(&dbus_mqtt(&["--help"]).output().unwrap().stdout);
    for (built, parts) in [
        (cfg!(feature = "demo"), ["    dbus-mqtt demo", "\n  demo "]),
        (
            cfg!(feature = "client"),
            ["    dbus-mqtt devices", "\n  get "],
        ),
        (true, ["    dbus-mqtt record", "\n  record "]),
    ] {
        for part in parts {
            assert_eq!(help.contains(part), built, "{part:?}: {help}");
        }
    }
    if cfg!(not(feature = "client")) {
        for arguments in [&["get", "-q", "gx", "a/0/X"][..], &["watch"], &["man"]] {
            let output = dbus_mqtt(arguments).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("leaves the client out"), "{said}");
        }
    }
}

/// A bridge that finds neither bus nor broker: it goes on trying.
fn lonely_bridge() -> Child {
    let arguments = [
        "--portal-id",
        "e0ff50a097c0",
        "-b",
        "unix:path=/nonexistent/bus",
        "-q",
        "127.0.0.1:9",
    ];
    dbus_mqtt(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_child(child);
    kill_process(pid, signal).unwrap();
}

#[test]
fn s7_a_signal_ends_it_with_status_0() {
    for end in [Signal::TERM, Signal::INT] {
        let mut bridge = lonely_bridge();
        let mut stderr = BufReader::new(bridge.stderr.take().unwrap());
        // Signals are looked after before the bridge says its first word.
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        signal(&bridge, end);
        let status = bridge.wait().unwrap();
        stderr.read_to_string(&mut line).unwrap();
        assert_eq!(status.code(), Some(0), "{line}");
        assert!(line.contains("INFO"), "{line}");
        assert!(
            !line.contains('\u{1b}'),
            "no colours where there is no terminal: {line}"
        );
    }
}
