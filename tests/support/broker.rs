//! A real `mosquitto`, owned by a guard.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::PATIENCE;
use super::client::Client;
use super::process::{Process, find};

/// A broker of our own on a port of its own.
pub struct Broker {
    program: PathBuf,
    process: Option<Process>, // dropped before its folder
    folder: TempDir,
    login: Option<(String, String)>,
    /// Whether the settings of OpenSSL hold it back from TLS 1.3.
    old_tls: bool,
    pub port: u16,
}

impl Broker {
    /// Starts one that takes everybody; `None` where there is no `mosquitto`.
    pub fn start() -> Option<Broker> {
        let mut broker = Broker::absent()?;
        broker.restart();
        Some(broker)
    }

    /// The broker as it runs.
    pub fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// The address of a broker that does not run yet.
    pub fn absent() -> Option<Broker> {
        let broker = Broker {
            program: find("mosquitto")?,
            process: None,
            folder: tempfile::Builder::new().prefix("broker").tempdir().unwrap(),
            login: None,
            old_tls: false,
            port: free_port(),
        };
        broker.configure("allow_anonymous true\npersistence false\n");
        Some(broker)
    }

    /// Keeps what is retained over a stop (not over a kill). Before it is started.
    pub fn persistent(self) -> Broker {
        let folder = self.folder.path().display().to_string();
        self.configure(&format!(
            "allow_anonymous true\npersistence true\npersistence_location {folder}/\n"
        ));
        self
    }

    /// Takes only this user. Before it is started; `None` where there is no `mosquitto_passwd`.
    pub fn with_login(mut self, user: &str, password: &str) -> Option<Broker> {
        let file = self.folder.path().join("passwords");
        let status = Command::new(find("mosquitto_passwd")?)
            .args(["-b", "-c"])
            .arg(&file)
            .args([user, password])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        self.configure(&format!(
            "allow_anonymous false\npassword_file {}\n",
            file.display()
        ));
        self.login = Some((user.to_owned(), password.to_owned()));
        Some(self)
    }

    /// One more user, after [`Broker::with_login`].
    pub fn add_login(&self, user: &str, password: &str) {
        let status = Command::new(find("mosquitto_passwd").unwrap())
            .arg("-b")
            .arg(self.folder.path().join("passwords"))
            .args([user, password])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn configure(&self, rest: &str) {
        let port = self.port;
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\nset_tcp_nodelay true\nmax_queued_messages 0\n\
             sys_interval 0\nlog_dest none\n{rest}"
        );
        std::fs::write(self.folder.path().join("mosquitto.conf"), text).unwrap();
    }

    /// Speaks TLS 1.2 at most, for which it has no setting of its own. Before it is started.
    pub fn with_old_tls(mut self) -> Broker {
        let text = "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = limits\n\
                    [limits]\nMaxProtocol = TLSv1.2\n";
        std::fs::write(self.folder.path().join("openssl.conf"), text).unwrap();
        self.old_tls = true;
        self
    }

    /// A further listener, with these lines below it. Before it is started; gives its port.
    pub fn listen(&self, address: &str, lines: &str) -> u16 {
        let port = free_port();
        let file = self.folder.path().join("mosquitto.conf");
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{before}listener {port} {address}\n{lines}")).unwrap();
        port
    }

    /// Where files of its own may stand.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Starts it, once more on the same port where it ran before. Ready on return.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = Command::new(&self.program);
        command
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"));
        if self.old_tls {
            command.env("OPENSSL_CONF", self.folder.path().join("openssl.conf"));
        }
        let complaints = self.folder.path().join("complaints");
        self.process = Some(Process::serve(command, &complaints, || {
            TcpStream::connect_timeout(&self.address(), Duration::from_secs(1)).is_ok()
        }));
    }

    /// A new client.
    pub fn client(&self) -> Client {
        let login = self
            .login
            .as_ref()
            .map(|(user, password)| (user.as_str(), password.as_str()));
        Client::connect(self.address(), login)
    }

    /// A new client that sees everything.
    pub fn listener(&self) -> Client {
        let client = self.client();
        client.subscribe("#");
        client
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills it; it knows nothing when it comes back.
    pub fn forget(&mut self) {
        self.kill();
        std::fs::remove_file(self.folder.path().join("mosquitto.db")).ok();
    }

    /// Ends it in good order: what it retains is written down where it is persistent.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        process.wait_exit(PATIENCE);
    }

    /// Stops it in its tracks (SIGSTOP).
    pub fn pause(&self) {
        self.process.as_ref().unwrap().signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.process.as_ref().unwrap().signal(Signal::CONT);
    }
}

/// A port that nobody listens on, below those which the system hands out for outgoing connections:
/// so it is still free when a broker comes back to it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id().wrapping_mul(61) % 11_000).unwrap();
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
