//! What clients do: keep-alives, writes that want an answer, floods and nonsense; and the books on the
//! writes: what was accepted was done, once and in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::World;
use super::dice::Dice;
use super::fleet::{PROBE_INSTANCE, PROBES, WRITABLE};
use super::tap::{Event, Publisher, Tap};
use crate::support::fake_broker::respond_to;
use crate::support::rig::{n, r, w};
use crate::support::service::Call;
use crate::support::wire::V;

/// What the main thread orders.
pub enum Order {
    /// So many writes, as fast as they can be sent.
    Flood(usize),
    /// Requests that are none.
    Nonsense,
    /// Reads of these topics, below the portal id: 300 in all.
    Reads(Vec<String>),
    /// Packets that are larger than any that the bridge takes.
    Large,
}

/// The writes: each has a number of its own, which is the value that it writes.
#[derive(Default)]
pub struct Books {
    next: i32,
    waiting: HashMap<i32, Instant>,
    accepted: BTreeMap<i32, Instant>,
    /// What services were called with, and the highest number of each.
    done: HashSet<i32>,
    highest: HashMap<String, i32>,
    pub sent: u64,
    pub ok: u64,
    pub refused: u64,
    /// Without an answer, since a fault came in between.
    pub unanswered_in_faults: u64,
    pub calls: u64,
    pub faults: Vec<String>,
}

impl Books {
    fn called(&mut self, call: &Call) {
        let V::I(number) = call.written() else {
            self.faults
                .push(format!("{} was called with {:?}", call.path, call.args));
            return;
        };
        self.calls += 1;
        self.done.insert(number);
        let highest = self.highest.entry(call.destination.clone()).or_insert(0);
        if number <= *highest {
            let text = format!("write {number} was done after {highest}");
            self.faults.push(text);
        }
        *highest = number.max(*highest);
    }

    fn answered(&mut self, number: i32, text: &str) {
        self.waiting.remove(&number);
        if text.starts_with("{\"status\": \"ok\"") {
            self.ok += 1;
            self.accepted.insert(number, Instant::now());
        } else {
            self.refused += 1;
        }
    }

    /// How many writes of this time have no answer yet.
    pub fn unanswered(&self, from: Instant, to: Instant) -> usize {
        let such = |at: &&Instant| (from..to).contains(*at);
        self.waiting.values().filter(such).count()
    }

    /// Those that wait when all is over.
    pub fn unanswered_now(&self) -> u64 {
        u64::try_from(self.waiting.len()).unwrap()
    }

    /// Settles accounts: what was accepted so long ago must have been done.
    fn balance(&mut self, booked: Duration) {
        let now = Instant::now();
        let old: Vec<i32> = self
            .accepted
            .iter()
            .filter(|(_, at)| now.duration_since(**at) > booked)
            .map(|(number, _)| *number)
            .collect();
        for number in old {
            self.accepted.remove(&number);
            if !self.done.remove(&number) {
                self.faults
                    .push(format!("write {number} was accepted and never done"));
            }
        }
        let forgotten = |at: &Instant| now.duration_since(*at) > FORGOTTEN;
        let old: Vec<i32> = self
            .waiting
            .iter()
            .filter(|(_, at)| forgotten(at))
            .map(|(number, _)| *number)
            .collect();
        for number in old {
            self.waiting.remove(&number);
            self.done.remove(&number);
            self.unanswered_in_faults += 1;
        }
    }
}

/// How long after an answer the call is in the books at the latest.
const BOOKED: Duration = Duration::from_secs(10);
/// After this time no answer comes any more, whatever happened: a call has 25 s.
const FORGOTTEN: Duration = Duration::from_secs(60);
const KEEP_ALIVE: Duration = Duration::from_secs(3);
const WRITE: Duration = Duration::from_millis(200);
const ANSWERS: &str = "soak/answers/";

/// Runs until the end; connects again whenever it has to.
pub fn run(world: &Arc<World>, seed: u64) -> JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || {
        let mut dice = Dice::new(seed);
        while !world.is_over() {
            if let Ok(tap) = Tap::connect(world.broker, 5, "traffic") {
                talk(tap, &world, &mut dice).ok();
            }
            thread::sleep(Duration::from_millis(100));
        }
        let calls = world.fleet.lock().unwrap().take_calls();
        settle(&world, &calls, Duration::ZERO);
    })
}

fn talk(mut tap: Tap, world: &World, dice: &mut Dice) -> io::Result<()> {
    tap.subscribe(&format!("{ANSWERS}#"), &mut Vec::new())?;
    let mut out = tap.publisher()?;
    let past = Instant::now()
        .checked_sub(KEEP_ALIVE)
        .unwrap_or_else(Instant::now);
    let (mut kept_alive, mut written, mut balanced) = (past, past, past);
    while !world.is_over() {
        if let Some(Event::Message { topic, payload, .. }) =
            tap.next(Instant::now() + Duration::from_millis(50))?
        {
            let number = topic
                .strip_prefix(ANSWERS)
                .and_then(|text| text.parse().ok());
            if let Some(number) = number {
                let text = String::from_utf8_lossy(&payload);
                world.books.lock().unwrap().answered(number, &text);
            }
        }
        if balanced.elapsed() > Duration::from_secs(1) {
            balanced = Instant::now();
            // Not while somebody is at the services: they may wait for a bus that is stopped.
            let calls = world.fleet.try_lock().map(|mut fleet| fleet.take_calls());
            if let Ok(calls) = calls {
                settle(world, &calls, BOOKED);
            }
        }
        if !world.is_wanted() {
            continue;
        }
        if kept_alive.elapsed() > KEEP_ALIVE {
            kept_alive = Instant::now();
            let payload: &[u8] = match dice.below(4) {
                0 => b"",
                1 => b"{\"keepalive-options\": [{\"full-publish-completed-echo\": \"soak\"}]}",
                _ => b"{\"keepalive-options\": [\"suppress-republish\"]}",
            };
            out.publish(&r("keepalive"), &[], payload)?;
        }
        if written.elapsed() > WRITE {
            written = Instant::now();
            write(&mut out, &world.books, dice)?;
        }
        let order = world.orders.lock().unwrap().pop();
        match order {
            Some(Order::Flood(writes)) => {
                for _ in 0..writes {
                    write(&mut out, &world.books, dice)?;
                }
            }
            Some(Order::Nonsense) => nonsense(&mut out)?,
            Some(Order::Reads(topics)) => {
                for topic in topics.iter().cycle().take(300) {
                    out.publish(&r(topic), &[], b"")?;
                }
            }
            Some(Order::Large) => large(&mut out)?,
            None => {}
        }
    }
    Ok(())
}

/// Takes what the services were called with into the books.
fn settle(world: &World, calls: &[Call], booked: Duration) {
    let mut books = world.books.lock().unwrap();
    let written = |call: &&Call| call.member == "SetValue" && call.path.starts_with("/Write/");
    for call in calls.iter().filter(written) {
        books.called(call);
    }
    books.balance(booked);
}

fn write(out: &mut Publisher, books: &Mutex<Books>, dice: &mut Dice) -> io::Result<()> {
    let number = {
        let mut books = books.lock().unwrap();
        books.next += 1;
        books.sent += 1;
        let number = books.next;
        books.waiting.insert(number, Instant::now());
        number
    };
    let instance = PROBE_INSTANCE + i32::try_from(dice.below(PROBES)).unwrap();
    let topic = w(&format!(
        "battery/{instance}/Write/{}",
        dice.below(WRITABLE)
    ));
    let properties = respond_to(&format!("{ANSWERS}{number}"), b"soak");
    out.publish(
        &topic,
        &properties,
        format!("{{\"value\": {number}}}").as_bytes(),
    )
}

/// Packets that are larger than any request, and than what the bridge reads back. What the broker
/// retains of them is taken away again.
fn large(out: &mut Publisher) -> io::Result<()> {
    let bytes = vec![b'x'; 200_000];
    for topic in [r("x/1/y"), w("x/1/y"), n("x/1/y")] {
        out.publish(&topic, &[], &bytes)?;
        out.publish_retained(&topic, &bytes)?;
        out.publish_retained(&topic, b"")?;
    }
    Ok(())
}

/// Requests that are to be refused, or nearly so, and topics that are none.
fn nonsense(out: &mut Publisher) -> io::Result<()> {
    // Of these numbers some can be written, to an item that has no place in the books.
    let item = w(&format!("battery/{PROBE_INSTANCE}/Flooded"));
    let large = format!("{{\"value\": \"{}\"}}", "x".repeat(100_000));
    let deep = format!("{{\"value\": {}1{}}}", "[".repeat(60), "]".repeat(60));
    let bodies: [&[u8]; 12] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b"{\"value\"",
        b"{\"val\": 1}",
        b"\xff\xfe\x00",
        b"{\"value\": 1e999}",
        b"{\"value\": 99999999999999999999999999}",
        large.as_bytes(),
        deep.as_bytes(),
    ];
    for body in bodies {
        for topic in [
            &item,
            &w("nobody/0/Nothing"),
            &w("battery"),
            &w("battery//"),
        ] {
            out.publish(topic, &[], body)?;
        }
        out.publish(&r("keepalive"), &[], body)?;
    }
    for topic in [
        "nobody/0/Nothing",
        "battery",
        "",
        "//",
        "battery/9000/../Count/0",
        "$SYS/x",
    ] {
        for _ in 0..50 {
            out.publish(&r(topic), &[], b"x")?;
        }
    }
    out.publish("R/000000000000/keepalive", &[], b"")?;
    out.publish(
        "W/000000000000/battery/9000/Write/0",
        &[],
        b"{\"value\": 1}",
    )
}
