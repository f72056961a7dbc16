//! A private `dbus-daemon`, owned by a guard.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;

use super::peer::{Peer, Watch};
use super::process::{Process, find};
use super::service::Service;

/// A bus of our own, where everything is allowed, with the limits that dbus-daemon has by default.
pub struct Bus {
    program: PathBuf,
    process: Option<Process>, // dropped before its folder
    folder: TempDir,
    fences: AtomicU32,
    peers: Mutex<Vec<Watch>>,
}

impl Bus {
    /// Starts one; `None` where there is no `dbus-daemon`.
    pub fn start() -> Option<Bus> {
        let mut bus = Bus::absent()?;
        bus.restart();
        Some(bus)
    }

    /// The address and the configuration of a bus that does not run yet.
    pub fn absent() -> Option<Bus> {
        let program = find("dbus-daemon")?;
        let folder = tempfile::Builder::new().prefix("bus").tempdir().unwrap();
        let bus = Bus {
            program,
            process: None,
            folder,
            fences: AtomicU32::new(0),
            peers: Mutex::default(),
        };
        bus.configure(CONFIG);
        Some(bus)
    }

    /// Another configuration, with `ADDRESS` where its address belongs. Before it is started.
    pub fn configure(&self, config: &str) {
        let config = config.replace("ADDRESS", &self.address());
        std::fs::write(self.folder.path().join("bus.conf"), config).unwrap();
    }

    /// Lets other users reach its socket.
    pub fn open_folder(&self) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.folder.path(), mode).unwrap();
    }

    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    /// Starts it, once more on the same address where it ran before. Ready on return.
    pub fn restart(&mut self) {
        self.kill();
        std::fs::remove_file(self.socket()).ok();
        let mut command = Command::new(&self.program);
        let config = self.folder.path().join("bus.conf");
        command.args(["--nofork", "--nopidfile"]);
        command.arg(format!("--config-file={}", config.display()));
        let complaints = self.folder.path().join("complaints");
        self.process = Some(Process::serve(command, &complaints, || {
            Peer::try_connect(&self.address()).is_ok()
        }));
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it in its tracks (SIGSTOP).
    pub fn pause(&self) {
        self.process.as_ref().unwrap().signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.process.as_ref().unwrap().signal(Signal::CONT);
    }

    /// A new connection.
    pub fn peer(&self) -> Peer {
        let peer = Peer::try_connect(&self.address()).unwrap();
        self.peers.lock().unwrap().push(peer.watch());
        peer
    }

    /// Runs what starts a bridge, and returns when that bridge has scanned every service here that
    /// answers of its own accord.
    pub fn scanned_by<T>(&self, start: impl FnOnce() -> T) -> T {
        let due: Vec<Option<usize>> = self
            .peers
            .lock()
            .unwrap()
            .iter()
            .map(Watch::scans_due)
            .collect();
        let started = start();
        for (peer, due) in self.peers.lock().unwrap().iter().zip(due) {
            if let Some(due) = due {
                peer.wait_scans(due);
            }
        }
        self.fence(&[]);
        started
    }

    /// A new connection that owns one service.
    pub fn serve(&self, service: Service) -> Peer {
        let peer = self.peer();
        peer.serve(service);
        peer
    }

    /// Returns when the bridge has taken in all that these peers have sent.
    ///
    /// The bus hands on messages in the order in which it reads them. Each peer's round trip proves
    /// that the bus has read its signals; the name that appears after that reaches the bridge behind
    /// them, and the bridge's scan of it proves that it has come so far. Twice, so that whatever the
    /// first round left half done is done.
    pub fn fence(&self, peers: &[&Peer]) {
        for peer in peers {
            peer.sync();
        }
        for _ in 0..2 {
            let number = self.fences.fetch_add(1, Ordering::Relaxed);
            let fence = Peer::try_connect(&self.address()).unwrap();
            fence.serve(Service::new(&format!("com.victronenergy.fence.f{number}")));
            fence.wait_calls("the fence to be scanned", 1, |call| {
                call.member == "GetItems"
            });
        }
    }
}

/// The limits are those that dbus-daemon has by default, as the system bus of a GX device does. Only the
/// connections of one user are as many as all may have together, since here all services have the same
/// user, and a message may be longer than the 32 MiB after which the bridge leaves it out.
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*" eavesdrop="true"/>
    <allow send_type="*"/>
    <allow receive_type="*"/>
  </policy>
  <limit name="max_incoming_bytes">133169152</limit>
  <limit name="max_outgoing_bytes">133169152</limit>
  <limit name="max_message_size">134217728</limit>
  <limit name="max_completed_connections">2048</limit>
  <limit name="max_connections_per_user">2048</limit>
  <limit name="max_incomplete_connections">64</limit>
  <limit name="max_names_per_connection">512</limit>
  <limit name="max_match_rules_per_connection">512</limit>
  <limit name="max_replies_per_connection">128</limit>
</busconfig>
"#;
