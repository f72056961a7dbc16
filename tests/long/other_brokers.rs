//! Other brokers than mosquitto, as Debian has them: `nats-server` and `rabbitmq-server`. Each runs on
//! ports and in folders of its own. `tests/run long` runs this; a broker that is not installed is left
//! out, said aloud.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::bridge::Bridge;
use crate::support::broker::free_port;
use crate::support::bus::Bus;
use crate::support::client::{Client, packet, put_text};
use crate::support::process::{Process, find};
use crate::support::rig::{OFFLINE, ONLINE, PORTAL, bridge_args, difference, n, r, value, w};
use crate::support::service::{BATTERY, Service, battery, vebus};
use crate::support::wire::V;
use crate::support::{PATIENCE, poll};

/// RabbitMQ takes half a minute to start on a busy machine.
const START: Duration = Duration::from_secs(180);

/// A broker of some kind. Its process goes before its folder.
struct Other {
    process: Option<Process>,
    /// What it needs beside it.
    beside: Option<Process>,
    kind: Kind,
    folder: TempDir,
    port: u16,
}

enum Kind {
    Nats(PathBuf),
    Rabbit { program: PathBuf, epmd: PathBuf },
}

impl Other {
    fn nats() -> Option<Other> {
        let other = Other::new(Kind::Nats(find("nats-server")?));
        let (folder, port) = (other.path("store"), other.port);
        let inside = free_port();
        let text = format!(
            "listen: 127.0.0.1:{inside}\nserver_name: test\njetstream {{ store_dir: {folder:?} }}\n\
             mqtt {{ listen: \"127.0.0.1:{port}\" }}\n"
        );
        std::fs::write(other.path("nats.conf"), text).unwrap();
        Some(other.started())
    }

    fn rabbitmq() -> Option<Other> {
        find("rabbitmq-server")?;
        // What is in the path changes the user, and writes into the folders of the system.
        let program = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
        if !program.is_file() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: no {}", program.display());
            return None;
        }
        let epmd = find("epmd")?;
        let other = Other::new(Kind::Rabbit { program, epmd });
        let (amqp, port) = (free_port(), other.port);
        let text = format!(
            "listeners.tcp.default = 127.0.0.1:{amqp}\nmqtt.listeners.tcp.default = 127.0.0.1:{port}\n\
             mqtt.allow_anonymous = true\nloopback_users = none\n"
        );
        std::fs::write(other.path("rabbitmq.conf"), text).unwrap();
        std::fs::write(other.path("plugins"), "[rabbitmq_mqtt].\n").unwrap();
        Some(other.started())
    }

    fn new(kind: Kind) -> Other {
        Other {
            process: None,
            beside: None,
            kind,
            folder: tempfile::Builder::new().prefix("other").tempdir().unwrap(),
            port: free_port(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn started(mut self) -> Other {
        self.restart();
        self
    }

    /// Starts it, once more on the same port where it ran before. Ready on return.
    fn restart(&mut self) {
        self.process = None;
        let command = match &self.kind {
            Kind::Nats(program) => {
                let mut command = Command::new(program);
                command.arg("-c").arg(self.path("nats.conf"));
                command
            }
            Kind::Rabbit { program, epmd } => {
                let names = free_port();
                self.beside = None;
                self.beside = Some(name_server(epmd, names));
                rabbit(program, self.folder.path(), names)
            }
        };
        let address = self.address();
        self.process = Some(serve(command, &self.path("complaints"), || {
            takes_mqtt(address)
        }));
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn client(&self) -> Client {
        let client = Client::connect(self.address(), None);
        client.subscribe(&n("#"));
        client
    }

    fn bridge(&self, bus: &Bus, more: &str) -> Bridge {
        let args = bridge_args(bus, &self.address().to_string(), more);
        let bridge = Bridge::spawn(&args);
        bridge.wait_log(&["connected, with MQTT"]);
        bridge
    }
}

/// Where the parts of Erlang find each other: one of our own, which ends with us.
fn name_server(epmd: &Path, port: u16) -> Process {
    let mut command = Command::new(epmd);
    command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    let process = Process::new(command.spawn().unwrap());
    poll("epmd to take connections", PATIENCE, || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    process
}

fn rabbit(program: &Path, folder: &Path, names: u16) -> Command {
    let mut command = Command::new(program);
    let path = |name: &str| folder.join(name);
    command
        .env("HOME", folder)
        // It becomes the broker, instead of starting it: so that it can be ended.
        .env("RUNNING_UNDER_SYSTEMD", "1")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", names.to_string())
        .env("RABBITMQ_NODENAME", "test@localhost")
        .env("RABBITMQ_DIST_PORT", free_port().to_string())
        .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
        .env("RABBITMQ_CONF_ENV_FILE", path("none"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
        .env("RABBITMQ_FEATURE_FLAGS_FILE", path("features"))
        .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
        .env("RABBITMQ_LOG_BASE", path("log"))
        .env("RABBITMQ_PID_FILE", path("pid"))
        .current_dir(folder);
    command
}

/// Starts a server that may take its time.
fn serve(mut command: Command, complaints: &Path, ready: impl Fn() -> bool) -> Process {
    let file = std::fs::File::create(complaints).unwrap();
    command.stdin(Stdio::null());
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let mut process = Process::new(command.spawn().unwrap());
    poll("the broker to take connections", START, || {
        if let Some(status) = process.exited() {
            let said = std::fs::read_to_string(complaints).unwrap_or_default();
            panic!("the broker ended with {status}: {said}");
        }
        ready().then_some(())
    });
    process
}

/// Whether a CONNECT is accepted: the port may be open long before.
fn takes_mqtt(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.extend([4, 2, 0, 10]);
    put_text(&mut body, "ready");
    let mut answer = [0; 4];
    let patience = Some(Duration::from_secs(5));
    stream.set_read_timeout(patience).is_ok()
        && stream.write_all(&packet(0x10, &body)).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == [0x20, 2, 0, 0]
}

/// Asks for everything, and waits until all of these have come with the values that they have.
fn full_publish(client: &Client, services: &[(&Service, &str)]) {
    let mark = client.mark();
    client.publish(&r("keepalive"), "");
    let completed = n("full_publish_completed");
    client.wait(mark, "the end of a full publish", |message| {
        message.topic == completed
    });
    let seen = client.last(mark);
    for (service, instance) in services {
        let expected = service.topics(instance);
        let here = |topic: &&String| topic.starts_with(&n(&format!("{}/", service.kind())));
        let seen = seen
            .keys()
            .filter(here)
            .map(|topic| (topic.clone(), seen[topic].clone()));
        let difference = difference(&expected, &seen.collect());
        assert_eq!(difference, "", "{}", service.name);
    }
}

/// What every broker must carry. `retains` where it gives what it retains to wildcards, too.
fn carries_everything(mut other: Other, retains: bool) {
    let Some(bus) = Bus::start() else { return };
    let (monitor, inverter) = (battery(), vebus());
    let peer = bus.serve(monitor.clone());
    let _inverter = bus.serve(inverter.clone());
    let client = other.client();
    let mark = client.mark();
    let mut bridge = other.bridge(&bus, "");
    client.expect(mark, &n("bridge/status"), ONLINE);
    let services = [(&monitor, "258"), (&inverter, "257")];
    full_publish(&client, &services);
    let warns = ["no retained messages to subscriptions with wildcards"];
    if retains {
        assert_eq!(bridge.log_with(&warns), [""; 0]);
    } else {
        bridge.wait_log(&warns);
    }

    // A keep-alive, with its echo and without values.
    let mark = client.mark();
    let echo = r#"{"keepalive-options": [{"full-publish-completed-echo": "x7"}]}"#;
    client.publish(&r("keepalive"), echo);
    client.wait(mark, "the echo", |message| {
        message.topic == n("full_publish_completed") && message.text().contains("\"x7\"")
    });

    // A change, a read, a write.
    let mark = client.mark();
    peer.update(BATTERY, "/Soc", V::D(42.5));
    client.expect(mark, &n("battery/258/Soc"), &value("42.5"));
    let mark = client.mark();
    client.publish(&r("battery/258/Dc/0/Voltage"), "");
    client.expect(mark, &n("battery/258/Dc/0/Voltage"), &value("51.96"));
    let mark = client.mark();
    client.publish(&w("vebus/257/Mode"), value("1"));
    client.expect(mark, &n("vebus/257/Mode"), &value("1"));

    // The broker goes and comes back, and with it the bridge.
    other.restart();
    let client = other.client();
    poll("the bridge to come back", START, || {
        bridge.assert_alive();
        (bridge.log_with(&["connected, with MQTT"]).len() >= 2).then_some(())
    });
    let monitor = monitor.item("/Soc", V::D(42.5));
    let inverter = inverter.item("/Mode", V::U(1));
    full_publish(&client, &[(&monitor, "258"), (&inverter, "257")]);

    // It is killed: its will says so.
    let mark = client.mark();
    bridge.kill();
    client.expect(mark, &n("bridge/status"), OFFLINE);

    // It stops: what it retained is gone, for who asks for it by its name, too.
    let mark = client.mark();
    let mut bridge = other.bridge(&bus, "--keep-alive 0");
    client.expect(mark, &n("battery/258/Soc"), &value("42.5"));
    let mark = client.mark();
    bridge.terminate();
    client.expect(mark, &n("battery/258/Soc"), "");
    client.expect(mark, &n("bridge/status"), OFFLINE);
    let late = Client::connect(other.address(), None);
    late.subscribe(&n("battery/258/Soc"));
    late.subscribe(&n("system/0/Serial"));
    late.expect(0, &n("system/0/Serial"), &value(&format!("{PORTAL:?}")));
    assert_eq!(late.payloads(0, &n("battery/258/Soc")), [""; 0]);
}

#[test]
fn nats_carries_everything() {
    let Some(nats) = Other::nats() else { return };
    carries_everything(nats, true);
}

#[test]
fn rabbitmq_carries_everything() {
    let Some(rabbitmq) = Other::rabbitmq() else {
        return;
    };
    // Only to a subscription that names the topic [§4.9].
    carries_everything(rabbitmq, false);
}
