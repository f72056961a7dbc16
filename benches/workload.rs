//! Work to be counted from outside: signals as bytes in, PUBLISH packets as bytes out, in one process
//! without a clock or a socket. `benches/instructions` and `benches/topics` run it.
//!
//! ```text
//! workload double COUNT          that many PropertiesChanged of one double
//! workload ten COUNT             that many ItemsChanged of ten doubles
//! workload update TOPICS ITEMS COUNT
//!                                that many signals of one item, or of ten, all over as many topics
//! workload refresh ITEMS COUNT   that many scans in rounds, of ten services with as many items together
//! workload compare ROUNDS COUNT TOPICS…
//!                                the same by the clock, for each number of topics in turn; lines of
//!                                JSON, also with the memory that a topic takes
//! ```
//!
//! An example and no bench, so that it is linked without the program beside it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "common/mod.rs"]
mod common;
#[path = "../tests/frames/mod.rs"]
mod frames;

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use allocation_counter::measure;
use common::{TEN, take};
use dbus_mqtt::bridge::calls::Method;
use dbus_mqtt::bridge::{Bridge, Settings};
use dbus_mqtt::model::time::Now;
use frames::wire::{V, s};
use frames::{Device, Packets};

/// How many paths a device has.
const PATHS: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    match *words.as_slice() {
        ["double", count] => signals(&common::doubles(), number(count)),
        ["ten", count] => signals(&common::tens(), number(count)),
        ["update", topics, items, count] => {
            let mut system = System::new(number(topics));
            let mut traffic = Traffic::new(number(topics), number(items));
            for _ in 0..number(count) {
                traffic.send(&mut system);
            }
        }
        ["refresh", items, count] => refresh(number(items), number(count)),
        ["compare", rounds, count, ref topics @ ..] => {
            let topics: Vec<_> = topics.iter().map(|text| number(text)).collect();
            compare(number(rounds), number(count), &topics);
        }
        _ => {
            eprintln!(
                "workload double|ten COUNT, update TOPICS ITEMS COUNT, refresh ITEMS COUNT, compare ROUNDS COUNT TOPICS…"
            );
            std::process::exit(2);
        }
    }
}

fn signals(signals: &[Vec<u8>], count: usize) {
    let (mut bridge, now) = frames::live_bridge(&[common::device()]);
    let mut packets = Packets::with_room();
    let signals: Vec<&[u8]> = signals.iter().map(Vec::as_slice).collect();
    for signal in signals.iter().cycle().take(count) {
        take(&mut bridge, now, black_box(signal), &mut packets);
    }
    assert!(packets.count == count || packets.count == count * TEN);
}

/// A system that is scanned in rounds, and in which nothing has changed: what `refresh-s` costs. The
/// answers are made once, so that only what the bridge does with them counts.
fn refresh(items: usize, count: usize) {
    let devices = frames::large_system(i32::try_from(items).unwrap());
    let (mut bridge, mut now) = frames::live_bridge(&devices);
    let settings = Settings {
        refresh: Some(Duration::from_secs(300)),
        ..frames::settings(1)
    };
    bridge.reconfigure(now, settings);
    let mut answers: HashMap<&str, (Vec<u8>, usize)> = HashMap::new();
    for device in &devices {
        let body = [frames::get_items(&device.items)];
        let [one, other] = [MARK, !MARK].map(|to| frames::reply(&device.owner, to, &body));
        let at = one.iter().zip(&other).position(|(one, other)| one != other);
        answers.insert(&device.name, (one, at.unwrap()));
    }
    let mut packets = Packets::with_room();
    let mut scans = 0;
    while scans < count {
        now.monotonic = bridge.poll_timeout().unwrap().max(now.monotonic);
        bridge.tick(now);
        while let Some(call) = bridge.poll_call() {
            assert_eq!(call.method, Method::GetItems);
            let (answer, at) = answers.get_mut(&*call.destination).unwrap();
            answer[*at..*at + 4].copy_from_slice(&call.id.serial().to_le_bytes());
            assert!(frames::feed(&mut bridge, now, black_box(answer)));
            scans += 1;
        }
        while bridge.poll_publish(now, 0, &mut packets) {
            packets.out.clear();
        }
    }
    // Heartbeats, and nothing else.
    assert!(
        packets.count <= count * 300 / devices.len(),
        "{}",
        packets.count
    );
}

/// The number in an answer, in whose place the call's goes.
const MARK: u32 = 0x5555_aaaa;

/// A bridge with many topics: devices of one type with the same paths, as the rig has them.
struct System {
    bridge: Bridge,
    now: Now,
    packets: Packets,
}

impl System {
    fn new(topics: usize) -> System {
        let devices = (0..topics.div_ceil(PATHS)).map(|n| Device {
            name: format!("com.victronenergy.battery.n{n:04}"),
            owner: format!(":1.{n:04}"),
            items: (0..PATHS)
                .map(|path| (made(path), V::D(0.5)))
                .chain([("/DeviceInstance".into(), V::I(i32::try_from(n).unwrap()))])
                .collect(),
            changes: Vec::new(),
        });
        let (bridge, now) = frames::live_bridge(&devices.collect::<Vec<_>>());
        System {
            bridge,
            now,
            packets: Packets::with_room(),
        }
    }
}

fn made(path: usize) -> String {
    format!("/Made/{path:03}/Up")
}

/// What the devices send: one signal, written over each time, since a socket's buffer is in the
/// processor's cache as well. Devices and paths come in no order; ten items are neighbours.
struct Traffic {
    topics: usize,
    signal: Vec<u8>,
    /// Where in the signal the last digits of the sender are, and of each path, and each value.
    sender_at: usize,
    paths_at: Vec<usize>,
    values_at: Vec<usize>,
    random: u64,
    sent: usize,
}

impl Traffic {
    fn new(topics: usize, items: usize) -> Traffic {
        const SENDER: &str = ":1.0000";
        const MARK: f64 = 7.25;
        let path = made(0);
        let signal = if items == 1 {
            let properties = [("Value", V::D(MARK)), ("Text", s("229.4V"))];
            frames::properties_changed(SENDER, &path, properties)
        } else {
            let item = (path.as_str(), V::D(MARK), "1235W");
            frames::items_changed(SENDER, std::iter::repeat_n(item, items))
        };
        let find = |mark: &[u8], digits: usize| -> Vec<usize> {
            let windows = signal.windows(mark.len()).enumerate();
            let found = windows.filter(|(_, part)| *part == mark);
            found.map(|(at, _)| at + digits).collect()
        };
        Traffic {
            topics,
            sender_at: find(SENDER.as_bytes(), 3)[0],
            paths_at: find(path.as_bytes(), 6),
            values_at: find(&MARK.to_le_bytes(), 0),
            signal,
            random: 1,
            sent: 0,
        }
    }

    fn items(&self) -> usize {
        self.paths_at.len()
    }

    fn send(&mut self, system: &mut System) {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let topic = usize::try_from(self.random >> 33).unwrap() % self.topics;
        let first = topic % PATHS / self.items() * self.items();
        self.sent += 1;
        #[allow(clippy::cast_precision_loss)] // far from 2^53
        let value = (self.sent % 40_000) as f64 * 0.01;
        digits(&mut self.signal[self.sender_at..][..4], topic / PATHS);
        for (&at, path) in self.paths_at.iter().zip(first..) {
            digits(&mut self.signal[at..][..3], path);
        }
        for &at in &self.values_at {
            self.signal[at..][..8].copy_from_slice(&value.to_le_bytes());
        }
        let signal = black_box(&self.signal);
        take(&mut system.bridge, system.now, signal, &mut system.packets);
    }
}

fn digits(place: &mut [u8], mut number: usize) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap();
        number /= 10;
    }
}

/// One number of topics, and the least time that an update took so far, for each kind of signal.
struct Subject {
    system: System,
    traffic: [(Traffic, u64); 2],
    topics: usize,
}

fn compare(rounds: usize, count: usize, topics: &[usize]) {
    let mut subjects = Vec::new();
    for &topics in topics {
        let mut system = None;
        let info = measure(|| system = Some(System::new(topics)));
        let system = system.unwrap();
        // The room for packets is no topic's.
        let room = system.packets.out.capacity();
        let bytes = usize::try_from(info.bytes_current).unwrap() - room;
        assert!(system.bridge.size().1 >= topics);
        let bytes = bytes / topics;
        println!("{{\"topics\": {topics}, \"bytes_per_topic\": {bytes}}}");
        subjects.push(Subject {
            system,
            traffic: [1, TEN].map(|items| (Traffic::new(topics, items), u64::MAX)),
            topics,
        });
    }
    // In turn, so that a busy machine is busy for all of them.
    for _ in 0..rounds {
        for subject in &mut subjects {
            for (traffic, best_ns) in &mut subject.traffic {
                let signals = count / traffic.items();
                let published = subject.system.packets.count;
                let before = cpu_ns();
                for _ in 0..signals {
                    traffic.send(&mut subject.system);
                }
                let ns = (cpu_ns() - before) / (signals * traffic.items()) as u64;
                *best_ns = ns.min(*best_ns);
                let published = subject.system.packets.count - published;
                assert_eq!(published, signals * traffic.items());
            }
        }
    }
    for subject in &subjects {
        for (traffic, ns) in &subject.traffic {
            println!(
                "{{\"topics\": {}, \"items_per_signal\": {}, \"ns_per_update\": {ns}}}",
                subject.topics,
                traffic.items()
            );
        }
    }
}

/// The processor time of this process: what others do on the machine matters less to it.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    text.split(' ').next().unwrap().parse().unwrap()
}
