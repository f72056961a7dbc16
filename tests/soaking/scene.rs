//! What is done to bus, broker, line, services and bridge, and undone.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;

use super::checker::Clock;
use super::dice::Dice;
use super::traffic::Order;
use super::{Options, World, unruly};
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::line::Line;
use crate::support::process::Process;
use crate::support::rig::PORTAL;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    BrokerKilled,
    BrokerRestarted,
    BrokerStopped,
    LineFrozen,
    LineCut,
    BusKilled,
    BusStopped,
    ServicesLeave,
    ServiceReplaced,
    ServiceHangs,
    ServicesHang,
    ServiceFlickers,
    OwnersFlap,
    SignalFlood,
    BadSignals,
    PoisonPaths,
    BridgeTerminated,
    BridgeKilled,
    BridgeStopped,
    BridgeReloaded,
    WriteFlood,
    BadRequests,
    LargePackets,
    KeepAlivesStop,
}

/// Whom a fault befalls. Only one befalls each at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Broker,
    Bus,
    Bridge,
    Client,
}

impl Fault {
    /// How often each comes. The bridge itself is restarted seldom, so that it grows old between.
    pub const WEIGHTS: [(Fault, usize); 24] = [
        (Fault::BrokerKilled, 6),
        (Fault::BrokerRestarted, 6),
        (Fault::BrokerStopped, 6),
        (Fault::LineFrozen, 6),
        (Fault::LineCut, 6),
        (Fault::BusKilled, 6),
        (Fault::BusStopped, 6),
        (Fault::ServicesLeave, 10),
        (Fault::ServiceReplaced, 6),
        (Fault::ServiceHangs, 4),
        (Fault::ServicesHang, 4),
        (Fault::ServiceFlickers, 5),
        (Fault::OwnersFlap, 4),
        (Fault::SignalFlood, 5),
        (Fault::BadSignals, 4),
        (Fault::PoisonPaths, 4),
        (Fault::BridgeTerminated, 2),
        (Fault::BridgeKilled, 2),
        (Fault::BridgeStopped, 5),
        (Fault::BridgeReloaded, 3),
        (Fault::WriteFlood, 6),
        (Fault::BadRequests, 6),
        (Fault::LargePackets, 4),
        (Fault::KeepAlivesStop, 2),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::BrokerKilled => "broker killed, back empty",
            Fault::BrokerRestarted => "broker restarted, back with what it retained",
            Fault::BrokerStopped => "broker stopped (SIGSTOP)",
            Fault::LineFrozen => "line to the broker frozen (half open)",
            Fault::LineCut => "line to the broker cut",
            Fault::BusKilled => "bus killed and restarted",
            Fault::BusStopped => "bus stopped (SIGSTOP)",
            Fault::ServicesLeave => "services leave and return",
            Fault::ServiceReplaced => "service replaced without a gap",
            Fault::ServiceHangs => "service answers nothing",
            Fault::ServicesHang => "8 services answer nothing, and 300 reads ask them",
            Fault::OwnersFlap => "3 services change owner 40 times",
            Fault::ServiceFlickers => "service leaves and returns 30 times",
            Fault::SignalFlood => "5,000 signals at once",
            Fault::PoisonPaths => "paths that can be no topic",
            Fault::BadSignals => "malformed signals",
            Fault::BridgeTerminated => "bridge terminated (SIGTERM)",
            Fault::BridgeKilled => "bridge killed (SIGKILL)",
            Fault::BridgeStopped => "bridge stopped (SIGSTOP)",
            Fault::BridgeReloaded => "bridge reloaded (SIGHUP)",
            Fault::WriteFlood => "2,000 writes at once",
            Fault::LargePackets => "packets of 200 kB, retained and not",
            Fault::BadRequests => "malformed requests",
            Fault::KeepAlivesStop => "keep-alives stop",
        }
    }

    fn victim(self) -> Victim {
        match self {
            Fault::BrokerKilled
            | Fault::BrokerRestarted
            | Fault::BrokerStopped
            | Fault::LineFrozen
            | Fault::LineCut => Victim::Broker,
            Fault::BusKilled
            | Fault::BusStopped
            | Fault::ServicesLeave
            | Fault::ServiceReplaced
            | Fault::ServiceHangs
            | Fault::ServicesHang
            | Fault::ServiceFlickers
            | Fault::OwnersFlap
            | Fault::SignalFlood
            | Fault::BadSignals
            | Fault::PoisonPaths => Victim::Bus,
            Fault::BridgeTerminated
            | Fault::BridgeKilled
            | Fault::BridgeStopped
            | Fault::BridgeReloaded => Victim::Bridge,
            Fault::WriteFlood
            | Fault::BadRequests
            | Fault::LargePackets
            | Fault::KeepAlivesStop => Victim::Client,
        }
    }

    /// Whether both may be done at once.
    pub fn goes_with(self, other: Fault) -> bool {
        self.victim() != other.victim() && ![self, other].contains(&Fault::KeepAlivesStop)
    }

    /// How long it lasts.
    pub fn hold(self, dice: &mut Dice) -> Duration {
        match self {
            // Sometimes long enough that the bridge takes the broker for dead.
            Fault::BrokerStopped | Fault::LineFrozen if dice.percent(25) => {
                dice.time_ms(8_000, 12_000)
            }
            Fault::LineCut | Fault::ServiceReplaced | Fault::ServiceFlickers => {
                dice.time_ms(10, 500)
            }
            _ => dice.time_ms(300, 4_000),
        }
    }
}

/// Those to whom it is done.
pub struct Scene {
    world: Arc<World>,
    bus: Bus,
    broker: Broker,
    line: Line,
    bridge: Option<Process>,
    /// The services that a fault has befallen.
    chosen: Vec<usize>,
    program: PathBuf,
    log: File,
    settings: PathBuf,
}

/// Writes the settings of the listeners, and who may log in.
fn settings(world: &World, out: &Path) -> PathBuf {
    let [users, settings] = ["users", "settings.toml"].map(|name| out.join(name));
    let hash = bcrypt::hash(unruly::PASSWORD, 8).unwrap();
    std::fs::write(&users, format!("me:{hash}\n")).unwrap();
    let users = users.canonicalize().unwrap();
    let text = format!(
        "[[listen]]\naddress = '{}'\n[[listen]]\naddress = '{}'\nauth = 'users'\nusers = '{}'\n",
        world.listener,
        world.guarded,
        users.display()
    );
    std::fs::write(&settings, text).unwrap();
    settings
}

/// The bridge may take 5 s to take back what it published (§4.9).
const END: Duration = Duration::from_secs(8);

impl Scene {
    pub fn new(bus: Bus, broker: Broker, world: &Arc<World>, options: &Options) -> Scene {
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(options.out.join("bridge.log"));
        Scene {
            world: Arc::clone(world),
            line: Line::to(broker.port),
            bus,
            broker,
            bridge: None,
            chosen: Vec::new(),
            program: options.program.clone(),
            log: log.unwrap(),
            settings: settings(world, &options.out),
        }
    }

    pub fn start_bridge(&mut self) {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DBUS_") {
                command.env_remove(name);
            }
        }
        let server = format!("127.0.0.1:{}", self.line.port);
        command
            .args(["--dbus", &self.world.bus, "--mqtt-server", &server])
            .args(["--portal-id", PORTAL, "--retain", "true"])
            .args(["--keep-alive", "15", "--ping", "5"])
            .arg("--config")
            .arg(&self.settings)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(self.log.try_clone().unwrap())
            .stderr(self.log.try_clone().unwrap());
        let bridge = Process::new(command.spawn().unwrap());
        self.world.process.store(bridge.id(), Ordering::Relaxed);
        self.world.processes.fetch_add(1, Ordering::Relaxed);
        self.bridge = Some(bridge);
    }

    /// What to say where the bridge has ended though nobody asked it to; it is started again.
    pub fn bridge_died(&mut self) -> Option<String> {
        let status = self.bridge.as_mut()?.exited()?;
        self.start_bridge();
        Some(format!("the bridge ended by itself, with {status}"))
    }

    /// Begins a fault. Gives what went wrong at that already.
    pub fn begin(&mut self, fault: Fault, dice: &mut Dice) -> Option<String> {
        match fault {
            Fault::BrokerKilled => self.broker.kill(),
            Fault::BrokerRestarted => self.broker.stop(),
            Fault::BrokerStopped => self.broker.pause(),
            Fault::LineFrozen => self.line.freeze(),
            Fault::LineCut => self.line.cut(),
            Fault::BusKilled => {
                self.bus.kill();
                self.world.fleet.lock().unwrap().leave_all();
            }
            Fault::BusStopped => self.bus.pause(),
            Fault::ServicesLeave => {
                self.choose(1 + dice.below(3), dice);
                for service in &self.chosen {
                    self.world.fleet.lock().unwrap().leave(*service);
                }
            }
            Fault::ServiceReplaced => {
                self.choose(1, dice);
                for service in &self.chosen {
                    self.world.fleet.lock().unwrap().replace(*service);
                }
            }
            Fault::ServiceHangs => {
                self.choose(1, dice);
                for service in &self.chosen {
                    self.world.fleet.lock().unwrap().hang(*service);
                }
            }
            Fault::ServicesHang => {
                self.choose(8, dice);
                let mut topics = Vec::new();
                for service in &self.chosen {
                    let fleet = self.world.fleet.lock().unwrap();
                    fleet.hang(*service);
                    topics.extend(fleet.a_topic(*service));
                }
                self.order(Order::Reads(topics));
            }
            Fault::OwnersFlap => {
                self.choose(3, dice);
                for service in &self.chosen {
                    for _ in 0..40 {
                        self.world.fleet.lock().unwrap().replace(*service);
                    }
                }
            }
            Fault::ServiceFlickers => {
                self.choose(1, dice);
                for service in &self.chosen {
                    for _ in 0..30 {
                        let mut fleet = self.world.fleet.lock().unwrap();
                        fleet.leave(*service);
                        fleet.join(*service);
                    }
                }
            }
            Fault::SignalFlood => self.world.fleet.lock().unwrap().flood(0, 5_000),
            Fault::BadSignals => self.world.fleet.lock().unwrap().babble(1),
            Fault::PoisonPaths => self.world.fleet.lock().unwrap().poison(1),
            Fault::BridgeTerminated => return self.terminate(),
            Fault::BridgeKilled => {
                self.world.process.store(0, Ordering::Relaxed);
                self.bridge = None; // the guard kills it
            }
            Fault::BridgeStopped => self.signal(Signal::STOP),
            Fault::BridgeReloaded => self.signal(Signal::HUP),
            Fault::WriteFlood => self.order(Order::Flood(2_000)),
            Fault::BadRequests => self.order(Order::Nonsense),
            Fault::LargePackets => self.order(Order::Large),
            Fault::KeepAlivesStop => self.world.want(false),
        }
        None
    }

    /// Ends it: all is in its place again.
    pub fn end(&mut self, fault: Fault) {
        match fault {
            Fault::BrokerKilled | Fault::BrokerRestarted => self.broker.restart(),
            Fault::BrokerStopped => self.broker.resume(),
            Fault::LineFrozen => self.line.thaw(),
            Fault::BusKilled => {
                self.bus.restart();
                self.world.fleet.lock().unwrap().join_all();
            }
            Fault::BusStopped => self.bus.resume(),
            Fault::ServicesLeave => {
                for service in &self.chosen {
                    self.world.fleet.lock().unwrap().join(*service);
                }
            }
            Fault::ServiceHangs | Fault::ServicesHang => {
                for service in &self.chosen {
                    self.world.fleet.lock().unwrap().go_on(*service);
                }
            }
            Fault::BridgeTerminated | Fault::BridgeKilled => self.start_bridge(),
            Fault::BridgeStopped => self.signal(Signal::CONT),
            Fault::KeepAlivesStop => self.world.want(true),
            Fault::LineCut
            | Fault::ServiceReplaced
            | Fault::ServiceFlickers
            | Fault::OwnersFlap
            | Fault::SignalFlood
            | Fault::BadSignals
            | Fault::PoisonPaths
            | Fault::BridgeReloaded
            | Fault::WriteFlood
            | Fault::BadRequests
            | Fault::LargePackets => {}
        }
    }

    fn choose(&mut self, count: usize, dice: &mut Dice) {
        let all = self.world.fleet.lock().unwrap().len();
        self.chosen = (0..count).map(|_| dice.below(all)).collect();
        self.chosen.sort_unstable();
        self.chosen.dedup();
    }

    fn order(&self, order: Order) {
        self.world.orders.lock().unwrap().push(order);
    }

    fn signal(&self, signal: Signal) {
        if let Some(bridge) = &self.bridge {
            bridge.signal(signal);
        }
    }

    /// SIGTERM: it ends in time, with status 0.
    fn terminate(&mut self) -> Option<String> {
        self.world.process.store(0, Ordering::Relaxed);
        let mut bridge = self.bridge.take()?;
        bridge.signal(Signal::TERM);
        let mut clock = Clock::start();
        while clock.elapsed() < END {
            match bridge.exited() {
                Some(status) if status.code() == Some(0) => return None,
                Some(status) => return Some(format!("after SIGTERM: {status}")),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Some(format!("after SIGTERM it still runs, {END:?} later"))
    }
}
