//! The services on the bus: recorded devices, played again and again, and probes, whose counters only
//! rise and whose items can be written.
//!
//! A service outlives the bus: what it was when its connection ended is what it is when it returns.

use std::time::Duration;

use crate::support::peer::Peer;
use crate::support::recording::{Recording, instance, signal};
use crate::support::service::{Call, Reply, Service, properties_changed};
use crate::support::wire::{V, s};

/// How many probes there are.
pub const PROBES: usize = 2;
/// How many items of a probe count, and how many can be written.
pub const COUNTERS: usize = 10;
pub const WRITABLE: usize = 8;
/// The device instance of the first probe.
pub const PROBE_INSTANCE: i32 = 9000;
/// A recording is played again after this time of its own at the earliest.
const LAP_MS: u64 = 60_000;

/// All of them.
pub struct Fleet {
    bus: String,
    devices: Vec<Device>,
    /// The calls of connections that have ended.
    calls: Vec<Call>,
}

struct Device {
    /// As it was when it was last seen off the bus.
    service: Service,
    recording: Option<Recording>,
    /// What of the recording comes next, and when it began, in milliseconds of all recordings.
    next: usize,
    began_ms: u64,
    peer: Option<Peer>,
}

impl Fleet {
    pub fn new(bus: &str, recordings: Vec<Recording>) -> Fleet {
        let probes = (0..PROBES).map(|number| Device::new(probe(number), None));
        let recorded = recordings
            .into_iter()
            .map(|recording| Device::new(recording.start.clone(), Some(recording)));
        Fleet {
            bus: bus.to_owned(),
            devices: probes.chain(recorded).collect(),
            calls: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// How many items they have in all.
    pub fn items(&self) -> usize {
        let items = self.devices.iter().map(|device| device.service.items.len());
        items.sum()
    }

    /// Comes onto the bus, if it is not there.
    pub fn join(&mut self, device: usize) {
        let device = &mut self.devices[device];
        if device.peer.is_none() {
            let peer = Peer::try_connect(&self.bus).expect("the bus takes connections");
            peer.serve(device.service.clone());
            device.peer = Some(peer);
        }
    }

    pub fn join_all(&mut self) {
        for device in 0..self.len() {
            self.join(device);
        }
    }

    /// Leaves the bus, or is left by it.
    pub fn leave(&mut self, device: usize) {
        let device = &mut self.devices[device];
        if let Some(peer) = device.peer.take() {
            peer.leave();
            device.service = peer.services().remove(0);
            self.calls.extend(peer.take_calls());
        }
    }

    pub fn leave_all(&mut self) {
        for device in 0..self.len() {
            self.leave(device);
        }
    }

    /// Another connection takes its name; no moment passes without an owner.
    pub fn replace(&mut self, device: usize) {
        let old = self.devices[device].peer.take();
        if let Some(old) = &old {
            self.devices[device].service = old.services().remove(0);
        }
        self.join(device);
        if let Some(old) = old {
            old.leave();
            self.calls.extend(old.take_calls());
        }
    }

    /// Answers no call.
    pub fn hang(&self, device: usize) {
        if let Some(peer) = &self.devices[device].peer {
            peer.on(|_| Reply::Later);
        }
    }

    /// Where one of its items is, below the portal id.
    pub fn a_topic(&self, device: usize) -> Option<String> {
        let service = &self.devices[device].service;
        let path = service.items.keys().next()?;
        Some(format!("{}/{}{path}", service.kind(), instance(service)))
    }

    /// Signals items that no broker would take.
    pub fn poison(&self, probe: usize) {
        let deep = "/a".repeat(205);
        let long = format!("/{}", "x".repeat(70_000));
        let paths = [
            &*deep,
            &*long,
            "/Bad\u{1}",
            "/Bad\u{7f}",
            "/Bad\u{9b}31m",
            "/Bad+",
            "/Bad/#",
            "//",
        ];
        if let Some(peer) = &self.devices[probe].peer {
            for path in paths {
                // Several, so that they are told by `ItemsChanged`: its paths are texts to the bus.
                let both = [(path.to_owned(), V::I(1)), ("/+".to_owned(), V::I(0))];
                peer.try_burst(vec![signal(&both); 20]).ok();
            }
        }
    }

    /// Answers again, first what has come meanwhile.
    pub fn go_on(&self, device: usize) {
        if let Some(peer) = &self.devices[device].peer {
            peer.release();
        }
    }

    /// The calls that came since this was last asked, in the order of each connection.
    pub fn take_calls(&mut self) -> Vec<Call> {
        let mut calls = std::mem::take(&mut self.calls);
        let peers = self
            .devices
            .iter()
            .filter_map(|device| device.peer.as_ref());
        calls.extend(peers.flat_map(Peer::take_calls));
        calls
    }

    /// Sends what is due at this time of the recordings, and the counters' next number.
    pub fn play(&mut self, now_ms: u64, count: i32) {
        for (number, device) in self.devices.iter_mut().enumerate() {
            if number < PROBES {
                device.count(count);
            } else {
                device.play(now_ms);
            }
        }
    }

    /// Changes one item of a probe as fast as the bus takes it; the last number stays.
    pub fn flood(&self, probe: usize, changes: i32) {
        let device = &self.devices[probe];
        for number in 0..changes {
            device.tell(&[("/Flooded".to_owned(), V::I(number))]);
        }
    }

    /// Sends signals that no service should send.
    pub fn babble(&self, probe: usize) {
        if let Some(peer) = &self.devices[probe].peer {
            let odd = [
                properties_changed("/Write/0", V::I(-1)).with(&[V::I(1)]),
                properties_changed("/Write/0", V::I(-1)).with(&[]),
                properties_changed("/Write/0", V::I(-1)).with_raw("a{sv}", &[255; 64]),
                properties_changed("/", V::I(-1)).with(&[s("Value")]),
            ];
            // The bus throws out who sends what is malformed; so that one comes from another.
            for signal in odd {
                if signal.body.first() == Some(&255) {
                    if let Ok(other) = Peer::try_connect(&self.bus) {
                        other.try_burst([signal]).ok();
                    }
                } else {
                    peer.try_burst(vec![signal; 200]).ok();
                }
            }
        }
    }
}

impl Device {
    fn new(service: Service, recording: Option<Recording>) -> Device {
        Device {
            service,
            recording,
            next: 0,
            began_ms: 0,
            peer: None,
        }
    }

    /// Changes items and says so by one signal.
    fn tell(&self, changes: &[(String, V)]) {
        if let Some(peer) = &self.peer {
            // A bus that has gone is told to all of them by who killed it.
            peer.try_update(&self.service.name, changes, signal(changes))
                .ok();
        }
    }

    fn count(&mut self, count: i32) {
        let counter = |item: usize| (format!("/Count/{item}"), V::I(count));
        for item in 0..3 {
            self.tell(&[counter(item)]);
        }
        let rest: Vec<_> = (3..COUNTERS).map(counter).collect();
        self.tell(&rest);
    }

    fn play(&mut self, now_ms: u64) {
        if self.peer.is_none() {
            return;
        }
        let Some(recording) = self.recording.take() else {
            return;
        };
        while let (Some(burst), Some(at_ms)) = (
            recording.bursts.get(self.next),
            recording.times_ms.get(self.next),
        ) {
            if self.began_ms + at_ms > now_ms {
                break;
            }
            self.tell(burst);
            self.next += 1;
        }
        let lap_ms = recording.times_ms.last().copied().unwrap_or(0).max(LAP_MS);
        if now_ms > self.began_ms + lap_ms {
            self.rewind(&recording);
            self.next = 0;
            self.began_ms = now_ms;
        }
        self.recording = Some(recording);
    }

    /// Sets back what the recording changes.
    fn rewind(&self, recording: &Recording) {
        let mut back = Vec::new();
        for (path, _) in recording.bursts.iter().flatten() {
            let start = recording.start.items.get(path);
            let known = back.iter().any(|(other, _)| other == path);
            if let (Some(start), false) = (start, known) {
                back.push((path.clone(), start.value.clone()));
            }
        }
        for some in back.chunks(20) {
            self.tell(some);
        }
    }
}

fn probe(number: usize) -> Service {
    let instance = PROBE_INSTANCE + i32::try_from(number).unwrap();
    let mut service = Service::device("battery", &format!("soak{number}"), instance)
        .item("/ProductName", s("Probe"))
        .item("/Flooded", V::I(0));
    for item in 0..COUNTERS {
        service = service.item(&format!("/Count/{item}"), V::I(0));
    }
    for item in 0..WRITABLE {
        service = service.item(&format!("/Write/{item}"), V::I(0));
    }
    service
}

/// How often the fleet sends what is due.
pub const TICK: Duration = Duration::from_millis(100);
