//! What is in `packaging/`: the policy of the bus is enough for the bridge and gives nobody else
//! anything, no root is needed, and the unit is as closed as its documentation says.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::process::find;
use crate::support::program::{Said, run};
use crate::support::rig::{ONLINE, PORTAL, n, r, value, w};
use crate::support::service::{BATTERY, battery, vebus};
use crate::support::wire::V;
use tempfile::TempDir;

const POLICY: &str = include_str!("../../packaging/dbus-mqtt.conf");
const README: &str = include_str!("../../packaging/README.md");
/// The user of the bridge, here; and another one.
const USER: u32 = 65_534;
const STRANGER: u32 = 2;

/// A bus that forbids everything that is not allowed by name. The services are root's.
const CLOSED: &str = r#"<busconfig>
  <listen>ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <deny send_type="signal"/>
    <deny receive_type="method_call"/>
    <deny receive_type="signal"/>
    <deny eavesdrop="true"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus" send_member="Hello"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_requested_reply="true" receive_type="method_return"/>
    <allow receive_requested_reply="true" receive_type="error"/>
  </policy>
  <policy user="0">
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow send_type="signal"/>
    <allow receive_sender="*"/>
    <allow receive_type="method_call"/>
    <allow receive_type="signal"/>
  </policy>
POLICY
</busconfig>
"#;

/// The rules of the packaged file, for a user of this machine.
fn policy() -> String {
    let rules = POLICY.split_once("<busconfig>").unwrap().1;
    let rules = rules.rsplit_once("</busconfig>").unwrap().0;
    let named = "<policy user=\"dbus-mqtt\">";
    assert_eq!(rules.matches(named).count(), 1);
    rules.replace(named, &format!("<policy user=\"{USER}\">"))
}

/// Whether this test can become another user; said aloud where it cannot.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Past the harness, which would swallow what a green test prints.
        writeln!(
            std::io::stderr(),
            "SKIPPED {test}: only root can become another user"
        )
        .ok();
    }
    root
}

struct Closed {
    bus: Bus,
    broker: Broker,
    /// Where other users can run the program.
    folder: TempDir,
}

impl Closed {
    /// `None`, said aloud, where that cannot be.
    fn start(policy: &str) -> Option<Closed> {
        if !is_root() {
            return None;
        }
        let mut bus = Bus::absent()?;
        bus.configure(&CLOSED.replace("POLICY", policy));
        bus.open_folder();
        bus.restart();
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let program = env!("CARGO_BIN_EXE_dbus-mqtt");
        let copy = folder.path().join("dbus-mqtt");
        if std::fs::hard_link(program, &copy).is_err() {
            std::fs::copy(program, &copy).unwrap();
        }
        Some(Closed {
            bus,
            broker: Broker::start()?,
            folder,
        })
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("dbus-mqtt")
    }

    /// The program as this user, who has no rights but those of everybody.
    fn command(&self, user: u32) -> Command {
        let mut command = Command::new(self.program());
        command.uid(user).gid(user).current_dir("/");
        command
    }

    fn args(&self) -> Vec<String> {
        let server = format!("127.0.0.1:{}", self.broker.port);
        let bus = self.bus.address();
        let args = [
            "--dbus",
            &*bus,
            "--mqtt-server",
            &*server,
            "--portal-id",
            PORTAL,
        ];
        args.map(str::to_owned).into()
    }

    fn doctor(&self, user: u32) -> Said {
        let mut command = self.command(user);
        command.env_clear().arg("doctor").args(self.args());
        run(command.args(["--timeout", "5"]))
    }
}

/// What doctor says of a check.
fn found<'a>(said: &'a Said, check: &str) -> &'a str {
    let mut lines = said.out.lines();
    let line = lines.find(|line| line.split_whitespace().nth(1) == Some(check));
    line.unwrap_or_else(|| panic!("nothing of {check}: {}", said.out))
}

#[test]
fn the_policy_is_enough_for_a_bridge_without_root() {
    let Some(closed) = Closed::start(&policy()) else {
        return;
    };
    let battery_peer = closed.bus.serve(battery());
    let vebus_peer = closed.bus.serve(vebus());
    // One that has to be walked through.
    let old = closed.bus.peer();
    old.on(|call| match call.member.as_str() {
        "GetItems" => {
            crate::support::service::Reply::Error("org.freedesktop.DBus.Error.UnknownMethod")
        }
        _ => crate::support::service::Reply::Normal,
    });
    old.serve(
        crate::support::service::Service::device("tank", "old", 3).item("/Level", V::D(40.0)),
    );
    let client = closed.broker.listener();
    let mut args = closed.args();
    args.extend(["--keep-alive", "0"].map(str::to_owned));
    let mut bridge = Bridge::spawn_by(closed.command(USER), &args, &[]);
    client.expect(0, &n("bridge/status"), ONLINE);
    client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    client.expect(0, &n("tank/3/Level"), &value("40.0"));
    // A signal, a read, a write, a service that comes and one that goes.
    battery_peer.update(BATTERY, "/Soc", V::D(60.5));
    client.expect(0, &n("battery/258/Soc"), &value("60.5"));
    let mark = client.mark();
    client.publish(&r("vebus/257/Mode"), "");
    client.expect(mark, &n("vebus/257/Mode"), &value("3"));
    client.publish(&w("vebus/257/Mode"), r#"{"value": 1}"#);
    vebus_peer.wait_calls("the write", 1, |call| call.is("SetValue", "/Mode"));
    client.expect(mark, &n("vebus/257/Mode"), &value("1"));
    drop(vebus_peer);
    client.expect(mark, &n("vebus/257/Mode"), "");
    let _back = closed.bus.serve(vebus());
    client.expect(client.mark() - 1, &n("vebus/257/Mode"), &value("3"));
    let said = closed.doctor(USER);
    let reading = found(&said, "reading");
    assert!(reading.starts_with("ok "), "{reading}");
    bridge.terminate();
}

#[test]
fn the_policy_gives_nobody_else_anything() {
    let Some(closed) = Closed::start(&policy()) else {
        return;
    };
    let _battery = closed.bus.serve(battery());
    let said = closed.doctor(STRANGER);
    assert_eq!(said.status, 1, "{}", said.out);
    let bus = found(&said, "bus");
    assert!(
        bus.starts_with("FAULT") && bus.contains("ListNames"),
        "{bus}"
    );
    assert!(bus.contains("packaging/dbus-mqtt.conf"), "{bus}");
}

#[test]
fn without_the_policy_doctor_says_that_it_is_missing() {
    // What every user may on a usual bus, but calls to services.
    let lists = format!(
        "<policy user=\"{USER}\"><allow send_destination=\"org.freedesktop.DBus\"/>\
         <allow receive_sender=\"org.freedesktop.DBus\"/></policy>"
    );
    let Some(closed) = Closed::start(&lists) else {
        return;
    };
    let _battery = closed.bus.serve(battery());
    let said = closed.doctor(USER);
    assert_eq!(said.status, 1, "{}", said.out);
    let reading = found(&said, "reading");
    assert!(reading.starts_with("FAULT"), "{reading}");
    for words in ["does not allow", BATTERY, "packaging/dbus-mqtt.conf"] {
        assert!(reading.contains(words), "{reading}");
    }
}

#[test]
fn the_policy_lets_the_bridge_be_no_service() {
    let Some(dbus_send) = find("dbus-send") else {
        return;
    };
    let Some(closed) = Closed::start(&policy()) else {
        return;
    };
    let ask = |user: u32, arguments: &[&str]| {
        let mut command = Command::new(&dbus_send);
        command
            .uid(user)
            .gid(user)
            .arg(format!("--bus={}", closed.bus.address()))
            .args([
                "--print-reply",
                "--dest=org.freedesktop.DBus",
                "/org/freedesktop/DBus",
            ])
            .args(arguments);
        run(&mut command)
    };
    let own = [
        "org.freedesktop.DBus.RequestName",
        "string:com.victronenergy.battery.false",
        "uint32:0",
    ];
    let said = ask(USER, &own);
    assert!(said.error.contains("AccessDenied"), "{said:?}");
    // The same is possible: it is the policy that forbids it.
    let said = ask(0, &own);
    assert_eq!(said.status, 0, "{said:?}");
    let names = ["org.freedesktop.DBus.ListNames"];
    assert_eq!(ask(USER, &names).status, 0);
}

#[test]
fn the_unit_is_as_closed_as_is_said() {
    let Some(analyze) = find("systemd-analyze") else {
        return;
    };
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/dbus-mqtt.service");
    let figure = README.split_once("exposure level of ").unwrap().1;
    let figure = figure.split_whitespace().next().unwrap();
    let (whole, tenth) = figure.split_once('.').unwrap();
    let mut command = Command::new(analyze);
    command.args(["security", "--offline=true", "--no-pager"]);
    command.arg(format!("--threshold={whole}{tenth}")).arg(unit);
    let said = run(&mut command);
    assert_eq!(said.status, 0, "{said:?}");
    let line = said
        .out
        .lines()
        .find(|line| line.contains("Overall"))
        .unwrap();
    assert!(line.contains(figure), "the README says {figure}: {line}");
}
