//! A bridge with one broker that has Home Assistant, without sockets, and devices for it.
#![allow(
    dead_code, // each test binary uses its own part of this
    unreachable_pub, // this module is included by path, and has no outside
    missing_docs,
    clippy::unwrap_used, // a test that cannot go on should say where, and stop
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate
)]

use std::time::Duration;

use dbus_mqtt::bridge::{Bridge, DiscoveryConfig, OutletConfig, PublishSink};
use dbus_mqtt::homeassistant::Names;
use dbus_mqtt::model::time::Now;

use crate::frames::wire::{V, invalid, s};
use crate::frames::{self, Device, PORTAL};
use crate::home_assistant::{Config, check};

pub const DAY: Duration = Duration::from_secs(86_400);
pub const HEAD: &str = "homeassistant/device/dbus-mqtt_c0619ab12345/";

/// All that a broker was sent, in order.
#[derive(Default)]
pub struct Sent(pub Vec<(String, String, bool)>);

impl PublishSink for Sent {
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        payload(&mut out);
        let topic = String::from_utf8(topic.concat()).unwrap();
        self.0
            .push((topic, String::from_utf8(out).unwrap(), retain));
    }
}

impl Sent {
    /// The configurations among it, by object id; all of them are retained.
    pub fn configs(&self) -> Vec<(&str, &str)> {
        let ours = self.0.iter().filter(|(topic, ..)| {
            topic.starts_with("homeassistant/") && topic.ends_with("/config")
        });
        ours.map(|(topic, payload, retain)| {
            assert!(retain, "{topic}");
            let object = topic
                .strip_prefix(HEAD)
                .unwrap()
                .strip_suffix("/config")
                .unwrap();
            (object, payload.as_str())
        })
        .collect()
    }
}

/// A bridge with one broker that has Home Assistant, and a clock that is moved by hand.
pub struct Rig {
    pub bridge: Bridge,
    pub now: Now,
    pub devices: Vec<Device>,
}

pub fn outlet(enabled: bool, keep: Option<Duration>, retain: bool) -> OutletConfig {
    OutletConfig {
        answers_first: false,
        throttle: Vec::new(),
        batch: None,
        discovery: Some(DiscoveryConfig {
            names: Names::new("homeassistant", &frames::portal()),
            enabled,
            keep,
            page: "".into(),
        }),
        ..frames::outlet(retain, Some(Duration::from_secs(60)))
    }
}

impl Rig {
    /// Everything is scanned; the broker is not connected yet.
    pub fn start(devices: Vec<Device>, outlet: OutletConfig) -> Rig {
        let now = frames::now();
        let mut bridge = Bridge::new(frames::config(vec![outlet]));
        bridge.bus_connected(now);
        frames::answer_all(&mut bridge, now, &devices);
        Rig {
            bridge,
            now,
            devices,
        }
    }

    /// Connects the broker, which has these topics in store, and gives what it is sent.
    pub fn connect(&mut self, retained: &[&str]) -> Sent {
        let retained: Vec<_> = retained.iter().map(|topic| (*topic, "")).collect();
        self.connect_to(&retained)
    }

    /// The same, with what is stored under each topic.
    pub fn connect_to(&mut self, retained: &[(&str, &str)]) -> Sent {
        self.bridge.broker_connected(0);
        for (topic, payload) in retained {
            self.bridge.broker_retained(0, topic, payload.as_bytes());
        }
        self.bridge.broker_ready(self.now, 0);
        self.pull()
    }

    /// What the broker is sent now.
    pub fn pull(&mut self) -> Sent {
        let mut sent = Sent::default();
        while self.bridge.poll_publish(self.now, 0, &mut sent) {}
        sent
    }

    /// Lets time pass, as far as the bridge has anything to do in it, and gives what is sent.
    pub fn pass(&mut self, time: Duration) -> Sent {
        let end = self.now.monotonic + time;
        let mut sent = Sent::default();
        loop {
            let next = self.bridge.poll_timeout().filter(|at| *at <= end);
            self.now.monotonic = next.unwrap_or(end).max(self.now.monotonic);
            self.bridge.tick(self.now);
            while self.bridge.poll_publish(self.now, 0, &mut sent) {}
            if next.is_none() {
                return sent;
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        frames::feed(&mut self.bridge, self.now, bytes);
    }

    /// A service changes an item, and says so.
    pub fn change(&mut self, device: usize, path: &str, properties: &[(&str, V)]) {
        let owner = self.devices[device].owner.clone();
        let signal = frames::properties_changed(&owner, path, properties.iter().cloned());
        self.feed(&signal);
    }

    pub fn leave(&mut self, device: usize) {
        let Device { name, owner, .. } = self.devices[device].clone();
        self.feed(&frames::name_owner_changed(&name, &owner, ""));
    }

    pub fn come(&mut self, device: usize) {
        let Device { name, owner, .. } = self.devices[device].clone();
        self.feed(&frames::name_owner_changed(&name, "", &owner));
        frames::answer_all(&mut self.bridge, self.now, &self.devices);
    }
}

pub fn device(service_type: &str, owner: &str, items: &[(&str, V)]) -> Device {
    Device {
        name: format!("com.victronenergy.{service_type}.x"),
        owner: owner.into(),
        items: items
            .iter()
            .map(|(path, value)| ((*path).to_owned(), value.clone()))
            .collect(),
        changes: Vec::new(),
    }
}

pub fn battery() -> Device {
    let items = [
        ("/DeviceInstance", V::I(288)),
        ("/ProductName", s("SmartShunt 500A")),
        ("/CustomName", s("")),
        ("/FirmwareVersion", V::I(776)),
        ("/Serial", s("HQ1548R36DZ")),
        ("/Connected", V::I(1)),
        ("/Soc", V::D(87.5)),
        ("/Dc/0/Voltage", V::D(26.13)),
        ("/Dc/0/Temperature", invalid()),
        ("/Alarms/LowVoltage", V::U(0)),
        ("/History/DischargedEnergy", V::D(12.5)),
    ];
    device("battery", ":1.7", &items)
}

pub fn vebus() -> Device {
    let items = [
        ("/DeviceInstance", V::I(276)),
        ("/Mode", V::U(3)),
        ("/Ac/In/1/CurrentLimit", V::D(16.0)),
        ("/Ac/Out/L1/P", V::I(300)),
    ];
    device("vebus", ":1.8", &items)
}

/// A module with one output that its owner has named, and one that nobody has.
pub fn switch() -> Device {
    let items = [
        ("/DeviceInstance", V::I(7)),
        ("/ProductName", s("Energy Meter Switch")),
        ("/State", V::I(256)),
        ("/SwitchableOutput/output_1/State", V::I(1)),
        ("/SwitchableOutput/output_1/Dimming", V::D(50.0)),
        (
            "/SwitchableOutput/output_1/Settings/CustomName",
            s("Deck lights"),
        ),
        ("/SwitchableOutput/output_1/Settings/Group", s("Deck")),
        ("/SwitchableOutput/output_2/State", V::I(0)),
    ];
    device("switch", ":1.10", &items)
}

pub fn gps() -> Device {
    let items = [
        ("/DeviceInstance", V::I(3)),
        ("/Position/Latitude", V::D(52.5)),
        ("/Position/Longitude", V::D(5.25)),
        ("/Fix", V::I(1)),
    ];
    device("gps", ":1.11", &items)
}

pub fn gx() -> Device {
    let items = [
        ("/Serial", s(PORTAL)),
        ("/DeviceInstance", V::I(0)),
        ("/Relay/0/State", V::I(0)),
        ("/Dc/Battery/Soc", V::D(87.5)),
    ];
    device("system", ":1.9", &items)
}

pub fn one(sent: &Sent) -> Config {
    let configs = sent.configs();
    assert_eq!(configs.len(), 1, "{configs:?}");
    check(configs[0].1)
}
