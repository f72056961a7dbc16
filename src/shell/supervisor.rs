//! The service manager: what it is told of us (sd_notify(3)).
//!
//! The timekeeper ([`super::run`]) asks `Watch` what there is to tell whenever it has woken up
//! anyway, so that a heartbeat feeds the watchdog too; only at rest does the watchdog wake us up, once
//! in half its time. What cannot go on, with the bridge's lock or without, feeds nothing: a loop that
//! hangs is started again. A broker or a bus that is out of reach is nothing that a restart would mend,
//! and so the watchdog is fed, and the start counts as complete after `READY_AFTER`.

use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

use crate::config::{NotifySocket, Supervision};
use crate::error::{one_line, plain};

/// When the start counts as complete, whoever is out of reach.
const READY_AFTER: Duration = Duration::from_secs(5);
/// How often to look whether it is, until then.
const READY_STEP: Duration = Duration::from_millis(250);
/// When services have been scanned, mostly, after a bus was found.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The service manager; nobody, where none wants to hear of us.
#[derive(Debug, Clone, Default)]
pub struct Supervisor(Option<Arc<Line>>);

/// The line to it.
#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Opens the line. Where that fails the bridge runs all the same.
    pub fn open(supervision: Option<Supervision>) -> Supervisor {
        let Some(supervision) = supervision else {
            return Supervisor::default();
        };
        match Line::open(&supervision) {
            Ok(line) => Supervisor(Some(Arc::new(line))),
            Err(error) => {
                let error = plain(&error);
                warn!("cannot reach the service manager: {error}");
                Supervisor::default()
            }
        }
    }

    /// The settings are read again.
    pub fn reloading(&self) {
        let time = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(time.tv_sec) * 1_000_000 + i128::from(time.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// That is done.
    pub fn reloaded(&self) {
        self.tell("READY=1");
    }

    /// The bridge has not begun yet: something has to be there first. That is not a failure, so after a while
    /// the start counts as complete, and the watchdog is fed.
    pub(super) fn waiting(&self, began: Instant, status: &str) {
        let ready = if began.elapsed() >= READY_AFTER {
            "READY=1\n"
        } else {
            ""
        };
        self.tell(&format!("{ready}STATUS={status}\nWATCHDOG=1"));
    }

    /// The bridge ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=clearing retained topics");
    }

    /// Whether there is anybody.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Tells it. `false` where it could not take it.
    pub(super) fn tell(&self, message: &str) -> bool {
        let Some(line) = &self.0 else { return true };
        let sent = line.socket.send_to_addr(message.as_bytes(), &line.address);
        if let Err(error) = &sent {
            debug!("cannot notify the service manager: {error}");
        }
        sent.is_ok()
    }
}

impl Line {
    fn open(supervision: &Supervision) -> io::Result<Line> {
        let socket = UnixDatagram::unbound()?;
        // One that takes nothing must not hold up the bridge.
        socket.set_nonblocking(true)?;
        let address = match &supervision.socket {
            NotifySocket::Path(path) => SocketAddr::from_pathname(path)?,
            NotifySocket::Abstract(name) => SocketAddr::from_abstract_name(name.as_bytes())?,
        };
        Ok(Line {
            socket,
            address,
            watchdog: supervision.watchdog,
        })
    }
}

/// A broker, as the service manager is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It is connected.
    Connected,
    /// It is not.
    Lost,
    /// It is not wanted: its clients may have nothing.
    Off,
}

/// What there is to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Situation {
    /// Whether the bus is there and has named its services.
    pub(super) bus: bool,
    /// Each broker with its name.
    pub(super) brokers: Vec<(String, Reach)>,
    pub(super) services: usize,
    pub(super) items: usize,
    /// How often a connection has come or gone; the number wraps.
    pub(super) changes: u32,
    /// The bridge takes back what it published.
    pub(super) ending: bool,
}

/// Decides when the service manager is told what.
#[derive(Debug)]
pub(super) struct Watch {
    supervisor: Supervisor,
    watchdog: Option<Duration>,
    began: Instant,
    ready: bool,
    fed: Option<Instant>,
    changes: u32,
    look_at: Option<Instant>,
    said: String,
}

impl Watch {
    pub(super) fn new(supervisor: Supervisor, now: Instant) -> Watch {
        let watchdog = supervisor.0.as_ref().and_then(|line| line.watchdog);
        Watch {
            watchdog,
            began: now,
            ready: !supervisor.is_there(),
            supervisor,
            fed: None,
            changes: 0,
            look_at: None,
            said: String::new(),
        }
    }

    /// Whether anybody wants to know.
    pub(super) fn is_there(&self) -> bool {
        self.supervisor.is_there()
    }

    /// When to look at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let feed = self
            .fed
            .zip(self.watchdog)
            .map(|(fed, time)| fed + time / 2);
        feed.into_iter().chain(self.look_at).min()
    }

    /// Tells what is new.
    pub(super) fn look(&mut self, now: Instant, situation: &Situation) {
        let message = self.message(now, situation);
        if !message.is_empty() && !self.supervisor.tell(&message) {
            // Later, all of it.
            self.said.clear();
            self.fed = None;
            self.look_at = Some(now + SETTLED_AFTER);
        } else if message.starts_with(READY) {
            self.ready = true;
        }
    }

    fn message(&mut self, now: Instant, situation: &Situation) -> String {
        let mut lines: Vec<String> = Vec::new();
        if situation.changes != self.changes {
            self.changes = situation.changes;
            self.look_at = Some(now + SETTLED_AFTER);
        } else if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
        }
        let connected = |(_, reach): &(_, Reach)| *reach == Reach::Connected;
        if !self.ready {
            let complete = situation.bus && situation.brokers.iter().any(connected);
            if complete || now >= self.began + READY_AFTER {
                lines.push(READY.to_owned());
            } else {
                self.look_at = Some(now + READY_STEP);
            }
        }
        let status = situation.status();
        if !situation.ending && status != self.said {
            lines.push(format!("STATUS={status}"));
            self.said = status;
        }
        if let Some(time) = self.watchdog
            && self.fed.is_none_or(|fed| now >= fed + time / 4)
        {
            lines.push("WATCHDOG=1".to_owned());
            self.fed = Some(now);
        }
        lines.join("\n")
    }
}

impl Situation {
    /// The same in words.
    fn status(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = if self.bus {
            write!(text, "{} services, {} items", self.services, self.items)
        } else {
            write!(text, "the D-Bus is out of reach")
        };
        for (name, reach) in &self.brokers {
            let word = match reach {
                Reach::Connected => "is connected",
                Reach::Lost => "is out of reach",
                Reach::Off => "is switched off",
            };
            // A line break would be a separate message.
            let _ = write!(text, "; broker {} {word}", one_line(name));
        }
        text
    }
}

const READY: &str = "READY=1";

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watch(watchdog: Option<Duration>) -> (Watch, Instant) {
        let socket = NotifySocket::Abstract(format!("nobody-{}", std::process::id()));
        let supervisor = Supervisor::open(Some(Supervision { socket, watchdog }));
        assert!(supervisor.is_there());
        let start = Instant::now();
        (Watch::new(supervisor, start), start)
    }

    fn situation(bus: bool, reach: Reach) -> Situation {
        Situation {
            bus,
            brokers: vec![("home".to_owned(), reach)],
            services: 2,
            items: 30,
            ..Situation::default()
        }
    }

    /// As when all that is told is taken.
    fn told(watch: &mut Watch, now: Instant, situation: &Situation) -> String {
        let message = watch.message(now, situation);
        watch.ready |= message.starts_with(READY);
        message
    }

    #[test]
    fn ready_once_bus_and_a_broker_are_there() {
        let (mut watch, start) = watch(None);
        let lost = situation(false, Reach::Lost);
        let first = "STATUS=the D-Bus is out of reach; broker home is out of reach";
        assert_eq!(told(&mut watch, start, &lost), first);
        assert_eq!(watch.deadline(), Some(start + READY_STEP));
        assert_eq!(told(&mut watch, start + SECOND, &lost), "");
        let there = situation(true, Reach::Connected);
        let second = "READY=1\nSTATUS=2 services, 30 items; broker home is connected";
        assert_eq!(told(&mut watch, start + SECOND, &there), second);
        assert_eq!(told(&mut watch, start + SECOND * 9, &there), "");
        let third = "STATUS=2 services, 30 items; broker home is out of reach";
        let lost = situation(true, Reach::Lost);
        assert_eq!(told(&mut watch, start + SECOND * 9, &lost), third);
    }

    #[test]
    fn ready_whatever_is_out_of_reach() {
        // A service manager that waited for a broker would start us again and again.
        let (mut watch, start) = watch(None);
        let lost = situation(false, Reach::Lost);
        told(&mut watch, start, &lost);
        assert_eq!(told(&mut watch, start + READY_AFTER, &lost), "READY=1");
        assert_eq!(told(&mut watch, start + READY_AFTER * 2, &lost), "");
        assert_eq!(watch.deadline(), None, "nothing wakes it up at rest");
    }

    #[test]
    fn the_watchdog_is_fed_along_with_a_heartbeat() {
        let time = SECOND * 20;
        let (mut watch, start) = watch(Some(time));
        let there = situation(true, Reach::Connected);
        assert!(told(&mut watch, start, &there).ends_with("\nWATCHDOG=1"));
        assert_eq!(watch.deadline(), Some(start + time / 2));
        let mut fed = Vec::new();
        for heartbeat in 1..=10 {
            let now = start + SECOND * 3 * heartbeat;
            assert!(watch.deadline().unwrap() > now, "no wake-up of its own");
            if told(&mut watch, now, &there) == "WATCHDOG=1" {
                fed.push(heartbeat);
            }
        }
        assert_eq!(fed, [2, 4, 6, 8, 10]);
        let rest = watch.deadline().unwrap();
        assert_eq!(told(&mut watch, rest, &there), "WATCHDOG=1");
        assert_eq!(watch.deadline(), Some(rest + time / 2));
    }

    #[test]
    fn a_connection_that_comes_is_looked_at_once_more() {
        let (mut watch, start) = watch(None);
        let mut there = situation(true, Reach::Connected);
        told(&mut watch, start, &there);
        there.changes += 1;
        told(&mut watch, start, &there);
        assert_eq!(watch.deadline(), Some(start + SETTLED_AFTER));
        there.items = 31;
        let told = told(&mut watch, start + SETTLED_AFTER, &there);
        assert_eq!(
            told,
            "STATUS=2 services, 31 items; broker home is connected"
        );
        assert_eq!(watch.deadline(), None);
    }

    #[test]
    fn what_is_not_taken_is_said_again() {
        let (mut watch, start) = watch(Some(SECOND * 20));
        let there = situation(true, Reach::Connected);
        // Nobody listens at this socket.
        watch.look(start, &there);
        assert_eq!(watch.deadline(), Some(start + SETTLED_AFTER));
        let again = watch.message(start + SETTLED_AFTER, &there);
        assert!(again.starts_with("READY=1\nSTATUS="), "{again}");
        assert!(again.ends_with("\nWATCHDOG=1"), "{again}");
    }

    #[test]
    fn the_name_of_a_broker_is_no_message() {
        let mut there = situation(true, Reach::Off);
        there.brokers[0].0 = "a\nSTOPPING=1".to_owned();
        let status = there.status();
        let expected = "2 services, 30 items; broker a\\nSTOPPING=1 is switched off";
        assert_eq!(status, expected);
    }
}
