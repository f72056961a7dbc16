//! Brokers of other kinds than mosquitto, as Debian has them: `nats-server` and `rabbitmq-server`, one
//! alone or several as a cluster. Each node runs on ports and in a folder of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::broker::free_port;
use super::client::{Client, packet, put_text};
use super::process::{Process, find};
use super::{PATIENCE, poll};

/// RabbitMQ takes half a minute to start on a busy machine.
pub const START: Duration = Duration::from_secs(180);

/// A broker, or one node of a cluster. Its process goes before its folder.
pub struct Server {
    process: Option<Process>,
    /// What was told to end.
    ending: Option<Process>,
    kind: Kind,
    folder: TempDir,
    pub port: u16,
}

enum Kind {
    Nats(PathBuf),
    Rabbit {
        program: PathBuf,
        node: String,
        names: Arc<Names>,
    },
}

/// Where the nodes of Erlang find each other: one of our own, which ends with the last of them.
struct Names {
    _process: Process,
    port: u16,
}

impl Server {
    /// One alone, ready; `None`, said aloud, where it is not installed.
    pub fn nats() -> Option<Server> {
        Server::nats_cluster(1)?.pop()
    }

    /// The same of RabbitMQ.
    pub fn rabbitmq() -> Option<Server> {
        Server::rabbitmq_cluster(1)?.pop()
    }

    /// So many nodes, which keep what they store as often as there are nodes.
    pub fn nats_cluster(nodes: usize) -> Option<Vec<Server>> {
        let program = find("nats-server")?;
        let routes: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let all: Vec<String> = routes
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        let mut servers = Vec::new();
        for (number, route) in routes.iter().enumerate() {
            let server = Server::new(Kind::Nats(program.clone()));
            let (store, port, inside) = (server.path("store"), server.port, free_port());
            let cluster = if nodes > 1 {
                format!(
                    "cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: {all:?} }}\n"
                )
            } else {
                String::new()
            };
            let text = format!(
                "listen: 127.0.0.1:{inside}\nserver_name: test{number}\njetstream {{ store_dir: \"{}\" }}\n\
                 mqtt {{ listen: \"127.0.0.1:{port}\" }}\n{cluster}",
                store.display()
            );
            std::fs::write(server.path("nats.conf"), text).unwrap();
            servers.push(server);
        }
        // They wait for each other.
        servers.iter_mut().for_each(Server::launch);
        servers.iter_mut().for_each(Server::wait_ready);
        Some(servers)
    }

    /// So many nodes of RabbitMQ.
    pub fn rabbitmq_cluster(nodes: usize) -> Option<Vec<Server>> {
        find("rabbitmq-server")?;
        // What is in the path changes the user, and writes into the folders of the system.
        let program = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
        if !program.is_file() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: no {}", program.display());
            return None;
        }
        let names = Arc::new(Names::start(&find("epmd")?));
        let list: String = (0..nodes)
            .map(|n| {
                let number = n + 1;
                format!("cluster_formation.classic_config.nodes.{number} = test{n}@localhost\n")
            })
            .collect();
        let mut servers = Vec::new();
        for number in 0..nodes {
            let server = Server::new(Kind::Rabbit {
                program: program.clone(),
                node: format!("test{number}@localhost"),
                names: Arc::clone(&names),
            });
            let (amqp, port) = (free_port(), server.port);
            let mut text = format!(
                "listeners.tcp.default = 127.0.0.1:{amqp}\nmqtt.listeners.tcp.default = 127.0.0.1:{port}\n\
                 mqtt.allow_anonymous = true\nloopback_users = none\nlog.console = true\n"
            );
            if nodes > 1 {
                text.push_str("cluster_formation.peer_discovery_backend = classic_config\n");
                text.push_str(&list);
            }
            std::fs::write(server.path("rabbitmq.conf"), text).unwrap();
            std::fs::write(server.path("plugins"), "[rabbitmq_mqtt].\n").unwrap();
            let cookie = server.path(".erlang.cookie");
            std::fs::write(&cookie, "TEST").unwrap();
            std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400)).unwrap();
            servers.push(server);
        }
        // Of those that join at the same moment, one may never learn who leads.
        servers.iter_mut().for_each(Server::restart);
        Some(servers)
    }

    fn new(kind: Kind) -> Server {
        Server {
            process: None,
            ending: None,
            kind,
            folder: tempfile::Builder::new().prefix("other").tempdir().unwrap(),
            port: free_port(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address(), None)
    }

    /// Starts it, once more on the same port where it ran before. Ready on return.
    pub fn restart(&mut self) {
        self.launch();
        self.wait_ready();
    }

    /// Starts it. It takes its time until it is ready.
    pub fn launch(&mut self) {
        self.process = None;
        if let Some(mut ending) = self.ending.take() {
            ending.wait_exit(START);
        }
        let mut command = match &self.kind {
            Kind::Nats(program) => {
                let mut command = Command::new(program);
                command.arg("-c").arg(self.path("nats.conf"));
                command
            }
            Kind::Rabbit {
                program,
                node,
                names,
            } => rabbit(program, self.folder.path(), node, names.port),
        };
        let mut file = std::fs::File::options();
        let file = file.create(true).append(true);
        let file = file.open(self.path("complaints")).unwrap();
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        self.process = Some(Process::new(command.spawn().unwrap()));
    }

    /// Waits until it takes clients.
    pub fn wait_ready(&mut self) {
        let (address, complaints) = (self.address(), self.path("complaints"));
        let process = self.process.as_mut().unwrap();
        poll("the broker to take connections", START, || {
            if let Some(status) = process.exited() {
                let said = std::fs::read_to_string(&complaints).unwrap_or_default();
                panic!("the broker ended with {status}: {said}");
            }
            takes_mqtt(address).then_some(())
        });
    }

    /// Tells it to end, as a supervisor does (SIGTERM).
    pub fn terminate(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        self.ending = Some(process);
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.process = None;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.path("complaints")).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines.len().saturating_sub(100);
            eprintln!("--- the log of the broker at port {} ---", self.port);
            eprintln!("{}", lines[tail..].join("\n"));
        }
    }
}

impl Names {
    fn start(epmd: &Path) -> Names {
        let port = free_port();
        let mut command = Command::new(epmd);
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        let process = Process::new(command.spawn().unwrap());
        poll("epmd to take connections", PATIENCE, || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Names {
            _process: process,
            port,
        }
    }
}

fn rabbit(program: &Path, folder: &Path, node: &str, names: u16) -> Command {
    let mut command = Command::new(program);
    let path = |name: &str| folder.join(name);
    command
        .env("HOME", folder)
        // It becomes the broker, instead of starting it: so that it can be ended.
        .env("RUNNING_UNDER_SYSTEMD", "1")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", names.to_string())
        .env("RABBITMQ_NODENAME", node)
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

/// Whether a CONNECT is accepted: the port may be open long before.
pub fn takes_mqtt(address: SocketAddr) -> bool {
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
