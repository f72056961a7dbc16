//! The soak: recorded devices, a bus, a broker and the bridge between them, faults by chance, and a
//! checker that asks both ends all the while. Minutes or days, as one wants it.
//!
//! Nothing here shares a line with the bridge. [`fleet`] are the services, [`traffic`] the clients,
//! [`scene`] does the damage, [`checker`] compares, [`samples`] watches the process, [`report`] sums up.

pub mod checker;
pub mod dice;
pub mod fleet;
pub mod mirror;
pub mod report;
pub mod samples;
pub mod scene;
pub mod tap;
pub mod traffic;
pub mod unruly;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use checker::{Checker, Clock, Divergence};
use dice::Dice;
use fleet::{Fleet, TICK};
use mirror::Seen;
use report::{Event, Outcome};
use scene::{Fault, Scene};
use traffic::{Books, Order};

use crate::support::broker::{Broker, free_port};
use crate::support::bus::Bus;
use crate::support::recording::{Recording, recordings, sets};

/// What is to be done.
pub struct Options {
    pub time: Duration,
    pub program: PathBuf,
    pub seed: u64,
    /// How much faster than they were recorded the devices are played.
    pub speed: f64,
    /// How many recorded devices there are, at most.
    pub devices: usize,
    /// Where the files go.
    pub out: PathBuf,
    /// How long bus and broker may differ after a fault.
    pub patience: Duration,
}

/// What all threads share.
pub struct World {
    pub bus: String,
    pub broker: u16,
    /// Where clients connect to the bridge itself.
    pub listener: u16,
    /// The same for those who have a password.
    pub guarded: u16,
    pub fleet: Mutex<Fleet>,
    pub seen: Mutex<Seen>,
    /// The same of a client of the bridge itself.
    pub near: Mutex<Seen>,
    pub books: Mutex<Books>,
    pub orders: Mutex<Vec<Order>>,
    /// Since when nothing is done to anybody.
    pub calm: Mutex<Option<Instant>>,
    /// The bridge's process, 0 where there is none, and how many there have been.
    pub process: AtomicU32,
    pub processes: AtomicU32,
    pub faults: AtomicU32,
    pub divergences: AtomicU32,
    pub lost: AtomicU32,
    over: AtomicBool,
    wanted: AtomicBool,
}

impl World {
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Ends it before its time, or at its end.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether clients ask for anything.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    fn is_calm(&self) -> bool {
        self.calm.lock().unwrap().is_some()
    }

    fn calm(&self, calm: bool) {
        *self.calm.lock().unwrap() = calm.then(Instant::now);
    }
}

/// How long bus and broker may differ after a fault: a bridge waits up to 30 s before it tries again.
pub const RECOVERY: Duration = Duration::from_secs(90);
/// And where nothing was done to anybody.
const LAG: Duration = Duration::from_secs(20);

/// Runs until its time is over or `ended` says so; `None` where a program is missing.
pub fn run(options: &Options, ended: &Arc<AtomicBool>) -> Option<Outcome> {
    std::fs::create_dir_all(&options.out).unwrap();
    let bus = Bus::start()?;
    let mut broker = Broker::absent()?.persistent();
    broker.restart();
    let mut dice = Dice::new(options.seed);
    let world = Arc::new(World {
        fleet: Mutex::new(Fleet::new(
            &bus.address(),
            choose(&mut dice, options.devices),
        )),
        bus: bus.address(),
        broker: broker.port,
        listener: free_port(),
        guarded: free_port(),
        seen: Mutex::default(),
        near: Mutex::default(),
        books: Mutex::default(),
        orders: Mutex::default(),
        calm: Mutex::default(),
        process: AtomicU32::new(0),
        processes: AtomicU32::new(0),
        faults: AtomicU32::new(0),
        divergences: AtomicU32::new(0),
        lost: AtomicU32::new(0),
        over: AtomicBool::new(false),
        wanted: AtomicBool::new(true),
    });
    world.fleet.lock().unwrap().join_all();
    let scene = Scene::new(bus, broker, &world, options);
    let mut soak = Soak {
        checker: Checker::new(&world),
        outcome: Outcome::new(options, &world),
        patience: options.patience,
        began: Instant::now(),
        world: Arc::clone(&world),
        scene,
        dice,
    };
    play(&world, options.speed);
    mirror::listen(&world);
    unruly::run(&world, options.seed);
    let traffic = traffic::run(&world, options.seed);
    let samples = samples::follow(&world, &options.out.join("samples.csv"));
    soak.scene.start_bridge();
    soak.until(options.time, ended);
    soak.finish();
    world.end();
    traffic.join().unwrap();
    soak.outcome.samples = samples.join().unwrap();
    soak.outcome.close(&world, &soak.checker);
    Some(soak.outcome)
}

/// Recorded devices that can be on one bus, by chance.
fn choose(dice: &mut Dice, count: usize) -> Vec<Recording> {
    let mut all = recordings();
    for at in (1..all.len()).rev() {
        all.swap(at, dice.below(at + 1));
    }
    // Those that fit beside the first; the rest are of the same instance of the same type, or name.
    let mut first = sets(all).remove(0);
    first.truncate(count);
    first
}

/// Plays the fleet's recordings, in a thread of its own.
fn play(world: &Arc<World>, speed: f64) {
    let world = Arc::clone(world);
    thread::spawn(move || {
        let start = Instant::now();
        for count in 1.. {
            if world.is_over() {
                break;
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let now_ms = (start.elapsed().as_secs_f64() * 1000.0 * speed) as u64;
            world.fleet.lock().unwrap().play(now_ms, count);
            thread::sleep(TICK);
        }
    });
}

struct Soak {
    world: Arc<World>,
    scene: Scene,
    checker: Checker,
    outcome: Outcome,
    patience: Duration,
    dice: Dice,
    began: Instant,
}

impl Soak {
    fn until(&mut self, time: Duration, ended: &AtomicBool) {
        self.judge("the start", self.patience);
        while self.began.elapsed() < time && !ended.load(Ordering::Relaxed) {
            self.world.calm(true);
            self.rest(time, ended);
            self.world.calm(false);
            self.harm();
        }
    }

    /// Nothing happens but what always does; the checker looks all the while.
    fn rest(&mut self, time: Duration, ended: &AtomicBool) {
        let long = if self.dice.percent(10) { 15_000 } else { 1_000 };
        let rest = self.dice.time_ms(long, long + 3_000);
        let start = Instant::now();
        while start.elapsed() < rest
            && self.began.elapsed() < time
            && !ended.load(Ordering::Relaxed)
        {
            self.judge("calm", LAG.min(self.patience));
            thread::sleep(Duration::from_millis(700));
        }
        self.judge_answers(start);
        let unasked = self.scene.bridge_died();
        self.outcome.wrong.extend(unasked);
    }

    /// Every write that was sent in this calm is answered in it.
    fn judge_answers(&mut self, calm: Instant) {
        // Those that were on their way when it began may have been lost with what went before.
        let (from, to) = (calm + Duration::from_millis(500), Instant::now());
        let mut clock = Clock::start();
        loop {
            let open = self.world.books.lock().unwrap().unanswered(from, to);
            if open == 0 {
                return;
            }
            if clock.elapsed() > LAG.min(self.patience) {
                let at = self.began.elapsed().as_secs_f64();
                let text = format!("{at:.1} s, calm: {open} writes were not answered");
                eprintln!("{text}");
                return self.outcome.wrong.push(text);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// One fault, or two at once.
    fn harm(&mut self) {
        let first = self.dice.weighted(&Fault::WEIGHTS);
        let mut faults = vec![first];
        if self.dice.percent(25) {
            let second = self.dice.weighted(&Fault::WEIGHTS);
            faults.extend(first.goes_with(second).then_some(second));
        }
        let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
        let what = names.join(" + ");
        self.world
            .faults
            .fetch_add(u32::try_from(faults.len()).unwrap(), Ordering::Relaxed);
        let alone = faults.len() == 1;
        let start = Instant::now();
        for fault in &faults {
            let wrong = self.scene.begin(*fault, &mut self.dice);
            self.outcome.wrong.extend(wrong);
        }
        match first {
            Fault::KeepAlivesStop if alone => self.judge_forgotten(&what, true),
            Fault::BridgeTerminated if alone => self.judge_forgotten(&what, false),
            Fault::ServicesLeave if alone => {
                self.judge(&format!("{what}, meanwhile"), self.patience);
            }
            _ => thread::sleep(first.hold(&mut self.dice)),
        }
        for fault in faults.iter().rev() {
            self.scene.end(*fault);
        }
        let harmed = start.elapsed();
        let recovered = self.judge(&what, self.patience);
        self.outcome.events.push(Event {
            at: start - self.began,
            faults,
            lasted: harmed,
            recovered,
        });
    }

    fn judge(&mut self, what: &str, patience: Duration) -> Option<Duration> {
        let found = self.checker.agree(patience);
        self.took(what, found)
    }

    fn judge_forgotten(&mut self, what: &str, online: bool) {
        let found = self.checker.forgotten(self.patience, online);
        self.took(&format!("{what}, what is left"), found);
    }

    fn took(&mut self, what: &str, found: Result<Duration, Divergence>) -> Option<Duration> {
        match found {
            Ok(time) => Some(time),
            Err(found) => {
                let count = |of: &[String]| u32::try_from(of.len()).unwrap();
                let world = &self.world;
                world
                    .divergences
                    .fetch_add(count(&found.retained), Ordering::Relaxed);
                world.lost.fetch_add(count(&found.lost), Ordering::Relaxed);
                let lines = found
                    .retained
                    .iter()
                    .take(20)
                    .chain(found.lost.iter().take(20));
                let head = format!("{:.1} s, {what}:", self.began.elapsed().as_secs_f64());
                eprintln!("DIVERGED at {head}");
                for line in lines {
                    eprintln!("  {line}");
                    self.outcome.wrong.push(format!("{head} {line}"));
                }
                None
            }
        }
    }

    /// The end: what is there is taken back.
    fn finish(&mut self) {
        self.world.calm(false);
        self.judge("the end", self.patience);
        let wrong = self.scene.begin(Fault::BridgeTerminated, &mut self.dice);
        self.outcome.wrong.extend(wrong);
        self.judge_forgotten("the end", false);
    }
}
