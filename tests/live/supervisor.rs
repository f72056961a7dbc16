//! What a service manager is told (sd_notify): ready, status, reloads, the end, and that the loop is
//! alive. Here a socket of our own is the service manager.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::bridge::Bridge;
use crate::support::process::Process;
use crate::support::rig::{Rig, n, value};
use crate::support::service::{BATTERY, battery};
use crate::support::wire::V;
use crate::support::{PATIENCE, poll};
use rustix::process::Signal;
use tempfile::TempDir;

/// What a bridge that finds neither bus nor broker logs into a file, once it has said that.
fn logged_into(file: &std::path::Path, journal: impl Fn(&std::fs::Metadata) -> String) -> String {
    let log = std::fs::File::create(file).unwrap();
    let journal = journal(&log.metadata().unwrap());
    let nowhere = ["--dbus", "unix:path=/nonexistent/bus", "-q", "127.0.0.1:9"];
    let mut command = Command::new(crate::support::program::path());
    let child = command
        .args(["--portal-id", crate::support::rig::PORTAL])
        .args(nowhere)
        .env("JOURNAL_STREAM", journal)
        .env("RUST_LOG", "warn,dbus_mqtt=info")
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut process = Process::new(child);
    let said = poll("both to be told", PATIENCE, || {
        let said = std::fs::read_to_string(file).unwrap();
        (said.matches("trying again").count() >= 2).then_some(said)
    });
    process.signal(Signal::TERM);
    assert!(process.wait_exit(PATIENCE).success());
    said
}

#[test]
fn a_line_for_the_journal_has_a_priority_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let this = |data: &std::fs::Metadata| format!("{}:{}", data.dev(), data.ino());
    let said = logged_into(&file, this);
    for (line, priority) in [("portal id ", 6), ("trying again", 4)] {
        assert!(
            said.lines()
                .any(|said| said.starts_with(&format!("<{priority}>")) && said.contains(line)),
            "{said}"
        );
    }
    let version = concat!("<6>dbus-mqtt ", env!("CARGO_PKG_VERSION"), "\n");
    assert!(said.starts_with(version), "{said}");
    // What was inherited, and is about another file, is none of our business.
    let other = |data: &std::fs::Metadata| format!("{}:{}", data.dev(), data.ino() + 1);
    for line in logged_into(&file, other).lines() {
        assert!(line.starts_with("20") && !line.contains('<'), "{line}");
    }
}

/// A socket that stands where that of a service manager would.
struct Manager {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

impl Manager {
    fn in_file() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager::listen(path.display().to_string(), socket, folder)
    }

    fn without_file() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("notify{}", folder.path().display());
        let socket =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Manager::listen(format!("@{name}"), socket, folder)
    }

    fn listen(address: String, socket: UnixDatagram, folder: TempDir) -> Manager {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ours = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
                ours.lock().unwrap().push(text);
            }
        });
        Manager {
            address,
            heard,
            _folder: folder,
        }
    }

    fn environment(&self) -> [(&str, &str); 2] {
        [("NOTIFY_SOCKET", &self.address), WATCHDOG]
    }

    fn mark(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    fn since(&self, mark: usize) -> Vec<String> {
        self.heard.lock().unwrap()[mark..].to_vec()
    }

    /// The assignments since a mark, in order.
    fn lines(&self, mark: usize) -> Vec<String> {
        let messages = self.since(mark);
        let lines = messages.iter().flat_map(|message| message.lines());
        lines.map(str::to_owned).collect()
    }

    /// Waits for such an assignment.
    fn wait(&self, mark: usize, what: &str, such: impl Fn(&str) -> bool) -> String {
        poll(what, PATIENCE, || {
            self.lines(mark).into_iter().find(|line| such(line))
        })
    }

    fn wait_line(&self, mark: usize, line: &str) {
        self.wait(mark, line, |heard| heard == line);
    }

    /// Waits until the watchdog was fed that often since a mark.
    fn wait_feeds(&self, mark: usize, count: usize) {
        poll("the watchdog to be fed", PATIENCE, || {
            let lines = self.lines(mark);
            let fed = lines.iter().filter(|line| *line == FEED).count();
            (fed >= count).then_some(())
        });
    }

    /// That nothing comes for three times as long as a watchdog waits.
    fn assert_silent(&self, what: &str) {
        // What was on its way has come by then.
        std::thread::sleep(Duration::from_millis(300));
        let mark = self.mark();
        std::thread::sleep(Duration::from_secs(6));
        assert_eq!(self.since(mark), [""; 0], "{what}");
    }
}

const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "2000000");
const FEED: &str = "WATCHDOG=1";
const ONE_SERVICE: &str = "STATUS=1 services, 7 items; broker ";

#[test]
fn ready_status_and_the_end_are_told() {
    for manager in [Manager::in_file(), Manager::without_file()] {
        let Some(rig) = Rig::start() else { return };
        let peer = rig.bus.serve(battery());
        let mut bridge = Bridge::spawn_with(&rig.args("--keep-alive 0"), &manager.environment());
        manager.wait_line(0, "READY=1");
        let is_whole =
            |line: &str| line.starts_with(ONE_SERVICE) && line.ends_with(" is connected");
        manager.wait(0, "the status", is_whole);
        manager.wait_feeds(manager.mark(), 3);
        drop(peer);
        let none = |line: &str| line.starts_with("STATUS=0 services, 0 items;");
        manager.wait(0, "that the service has gone", none);
        let mark = manager.mark();
        bridge.terminate();
        manager.wait_line(mark, "STOPPING=1");
        let readies = manager.lines(0);
        let readies = readies.iter().filter(|line| *line == "READY=1").count();
        assert_eq!(readies, 1);
    }
}

#[test]
fn a_broker_or_a_bus_out_of_reach_is_no_reason_to_start_again() {
    // Dead from the start: ready all the same, and fed. Then there, then dead again: fed.
    let manager = Manager::in_file();
    let Some(mut rig) = Rig::start() else { return };
    rig.bus.kill();
    rig.broker.kill();
    let mut bridge = Bridge::spawn_with(&rig.args("--keep-alive 0"), &manager.environment());
    manager.wait_line(0, "READY=1");
    manager.wait(0, "the status", |line| {
        line.starts_with("STATUS=the D-Bus is out of reach;") && line.ends_with("is out of reach")
    });
    manager.wait_feeds(manager.mark(), 3);
    rig.bus.restart();
    rig.broker.restart();
    let _peer = rig.bus.serve(battery());
    manager.wait(0, "both", |line| {
        line.starts_with(ONE_SERVICE) && line.ends_with(" is connected")
    });
    let mark = manager.mark();
    rig.broker.kill();
    manager.wait(mark, "that the broker is dead", |line| {
        line.starts_with(ONE_SERVICE) && line.ends_with("is out of reach")
    });
    manager.wait_feeds(manager.mark(), 5);
    bridge.assert_alive();
    // One that takes connections and says nothing is no reason either.
    rig.broker.restart();
    let mark = manager.mark();
    manager.wait(mark, "the broker", |line| line.ends_with("is connected"));
    rig.broker.pause();
    rig.bus.pause();
    manager.wait_feeds(manager.mark(), 5);
    bridge.assert_alive();
}

#[test]
fn a_process_that_stands_still_feeds_nothing() {
    let manager = Manager::without_file();
    let Some(rig) = Rig::start() else { return };
    let bridge = Bridge::spawn_with(&rig.args("--keep-alive 0"), &manager.environment());
    manager.wait_feeds(0, 2);
    bridge.signal(Signal::STOP);
    manager.assert_silent("a stopped process");
    bridge.signal(Signal::CONT);
    manager.wait_feeds(manager.mark(), 2);
}

#[test]
fn a_loop_that_hangs_feeds_nothing() {
    // A log that nobody reads: the loop hangs in a write, as it would in a fault of its own.
    let manager = Manager::in_file();
    let Some(rig) = Rig::start() else { return };
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbus-mqtt"));
    command
        .args(rig.args("--keep-alive 0"))
        .env_clear()
        .envs(manager.environment())
        .stdout(Stdio::null())
        .stderr(writer);
    let process = Process::new(command.spawn().unwrap());
    drop(command); // which keeps its end of the pipe
    manager.wait_feeds(0, 2);
    let filling = std::thread::spawn(move || while filler.write_all(b".").is_ok() {});
    // The pipe is full when its filler stands still: nothing says so but time.
    poll("the bridge to hang", PATIENCE, || {
        process.signal(Signal::HUP);
        let mark = manager.mark();
        std::thread::sleep(Duration::from_secs(3));
        manager.since(mark).is_empty().then_some(())
    });
    manager.assert_silent("a loop that hangs");
    let mark = manager.mark();
    let reading = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while reader.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
    manager.wait_feeds(mark, 2);
    drop(process);
    // Its end of the pipe is closed; ours ends with the test.
    drop((filling, reading));
}

#[test]
fn a_reload_is_told_with_its_time_whether_it_succeeds_or_not() {
    let manager = Manager::in_file();
    let Some(rig) = Rig::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "keep-alive = 0\n").unwrap();
    let args = rig.args(&format!("--config {}", file.display()));
    let mut bridge = Bridge::spawn_with(&args, &manager.environment());
    manager.wait_line(0, "READY=1");
    bridge.wait_log(&["bus connected"]);
    for (text, told) in [
        ("keep-alive = 30\n", "settings reloaded"),
        ("keep-alive = nonsense\n", "settings not reloaded"),
        ("keep-alive = 0\n", "settings reloaded"),
    ] {
        std::fs::write(&file, text).unwrap();
        let (mark, logged) = (manager.mark(), bridge.log_with(&[told]).len());
        let before = monotonic_us();
        bridge.signal(Signal::HUP);
        manager.wait_line(mark, "READY=1");
        let after = monotonic_us();
        poll(told, PATIENCE, || {
            (bridge.log_with(&[told]).len() > logged).then_some(())
        });
        let heard = manager.since(mark);
        let reload = heard
            .iter()
            .position(|message| message.contains("RELOADING=1"));
        let ready = heard.iter().position(|message| message == "READY=1");
        assert!(reload.unwrap() < ready.unwrap(), "{heard:?}");
        // In one message: it says which of several reloads it is about.
        let time = heard[reload.unwrap()].strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time: i128 = time.unwrap().parse().unwrap();
        assert!((before..=after).contains(&time), "{before} {time} {after}");
    }
    bridge.assert_alive();
}

fn monotonic_us() -> i128 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(time.tv_sec) * 1_000_000 + i128::from(time.tv_nsec) / 1_000
}

#[test]
fn a_service_manager_that_is_gone_or_deaf_harms_nobody() {
    // Nobody at the socket; and one that never reads, until its queue is full.
    for deaf in [false, true] {
        let Some(rig) = Rig::start() else { return };
        let peer = rig.bus.serve(battery());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _socket = deaf.then(|| UnixDatagram::bind(&path).unwrap());
        let address = path.display().to_string();
        let environment = [("NOTIFY_SOCKET", &*address), ("WATCHDOG_USEC", "20000")];
        let mut bridge = Bridge::spawn_with(&rig.args("--keep-alive 0"), &environment);
        rig.online(0);
        // More than a queue of datagrams holds.
        std::thread::sleep(Duration::from_secs(2));
        let mark = rig.client.mark();
        peer.update(BATTERY, "/Soc", V::D(55.5));
        rig.client
            .expect(mark, &n("battery/258/Soc"), &value("55.5"));
        bridge.assert_alive();
    }
}
