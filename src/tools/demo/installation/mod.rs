//! The installation as its services show it: when which item is told, and what a write does.
//!
//! A state machine without a clock or a bus: [`Installation::advance`] is told how much time has
//! passed and gives back what is to be signalled. [`serve`](super::serve) does that.

use std::time::Duration;

mod fleet;
mod rate;

pub(crate) use fleet::DEVICES_MIN;

use super::device::{Control, Device, Measure};
use super::plant::{Mode, Plant};
use crate::tools::item::{Item, Refusal};
use crate::tools::service::Update;
use crate::tools::value::{self, BusValue};
use fleet::devices_of;
use rate::Rate;

/// All devices and the plant behind them.
pub(crate) struct Installation {
    plant: Plant,
    devices: Vec<Device>,
    /// What was told last, by device and measure.
    told: Vec<Vec<BusValue>>,
    /// When each device measures next, in installation time.
    due: Vec<Duration>,
    now: Duration,
    /// The device that is looked at first.
    first: usize,
    rate: Option<Rate>,
}

/// Changes that one device tells at one moment.
#[derive(Debug)]
pub(crate) struct Burst {
    /// The number of the device.
    pub device: usize,
    /// Whether by one signal, or by one each.
    pub together: bool,
    /// The changes; each path once.
    pub updates: Vec<Update>,
}

impl Installation {
    /// An installation with this many devices, at least [`DEVICES_MIN`]. With a rate, so many items
    /// are told each second; without one, what changes.
    pub(crate) fn new(
        portal_id: &str,
        devices: usize,
        updates_per_s: Option<f64>,
        seed: u64,
    ) -> Self {
        let mut plant = Plant::new(seed);
        let devices = devices_of(&mut plant, portal_id, devices);
        plant.settle();
        let told = devices
            .iter()
            .map(|device| {
                device
                    .measures
                    .iter()
                    .map(|m| measured(m, &plant))
                    .collect()
            })
            .collect();
        let rate = updates_per_s.map(|updates_per_s| Rate::new(updates_per_s, &devices));
        // Devices are not in step: the first measurement comes after a part of the period.
        let parts = (1_u32..).map(|number| f64::from(number * 7 % 10) / 10.0);
        let due = devices
            .iter()
            .zip(parts)
            .map(|(device, part)| device.period.mul_f64(part))
            .collect();
        Installation {
            plant,
            devices,
            told,
            due,
            now: Duration::ZERO,
            first: 0,
            rate,
        }
    }

    /// The plant.
    pub(crate) fn plant(&self) -> &Plant {
        &self.plant
    }

    /// Has time pass at this speed, and each day bring its story.
    pub(crate) fn tell_story(&mut self, speed: f64) {
        self.plant.tell_story(speed);
    }

    /// Whether a rate was asked for.
    pub(crate) fn is_paced(&self) -> bool {
        self.rate.is_some()
    }

    /// The bus names of the devices.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|device| device.name.as_str())
    }

    /// The items of a device as they are now.
    pub(crate) fn items(&self, device: usize) -> Vec<(String, Item)> {
        let (Some(device), Some(told)) = (self.devices.get(device), self.told.get(device)) else {
            return Vec::new();
        };
        let mut items = device.items.clone();
        for (measure, value) in device.measures.iter().zip(told) {
            let mut named = items.iter_mut().filter(|(path, _)| *path == measure.path);
            if let Some((_, item)) = named.next() {
                item.value = value::copy(value);
                item.text = Some(measure.form.text(value));
            }
        }
        items
    }

    /// Lets time pass; what the devices have to tell.
    pub(crate) fn advance(&mut self, passed: Duration) -> Vec<Burst> {
        self.plant.advance(passed);
        self.now += passed;
        let mut room = self.rate.as_mut().map(|rate| rate.room(passed));
        let mut bursts: Vec<Burst> = Vec::new();
        for device in self.turn() {
            if self.is_due(device)
                && let Some(burst) = self.changes(device, room)
            {
                room = room.map(|room| room.saturating_sub(burst.updates.len()));
                bursts.push(burst);
            }
        }
        let told: usize = bursts.iter().map(|burst| burst.updates.len()).sum();
        let drawn = self.rate.as_mut().map(|rate| rate.draw(passed, told));
        for (device, measures) in drawn.unwrap_or_default() {
            bursts.extend(self.lively(device, &measures));
        }
        bursts
    }

    /// Takes a write of an item that is writable and in range; the text of the new value.
    pub(crate) fn write(
        &mut self,
        device: usize,
        path: &str,
        value: &BusValue,
    ) -> Result<Option<String>, Refusal> {
        let Some(of) = self.devices.get(device) else {
            return Err(Refusal::VALUE);
        };
        let Some((_, control)) = of.controls.iter().find(|(other, _)| other == path) else {
            return Ok(None);
        };
        let number = value::as_f64(value).ok_or(Refusal::VALUE)?;
        control_plant(&mut self.plant, *control, number)?;
        self.plant.settle();
        // The service tells this one itself; the rest follows with the next measurement.
        let measure = of.measures.iter().position(|measure| measure.path == path);
        let told = self.told.get_mut(device);
        let slot = measure.and_then(|measure| told.and_then(|told| told.get_mut(measure)));
        if let Some(slot) = slot {
            *slot = value::copy(value);
        }
        if let Some(due) = self.due.get_mut(device) {
            *due = self.now;
        }
        Ok(measure
            .and_then(|measure| of.measures.get(measure))
            .map(|measure| measure.form.text(value)))
    }

    fn is_due(&mut self, device: usize) -> bool {
        let (Some(of), Some(due)) = (self.devices.get(device), self.due.get_mut(device)) else {
            return false;
        };
        if *due > self.now {
            return false;
        }
        *due = self.now + of.period;
        true
    }

    /// All devices, each time another one first, so that none always comes too late.
    fn turn(&mut self) -> impl Iterator<Item = usize> + use<> {
        let count = self.devices.len();
        self.first = (self.first + 1) % count.max(1);
        (self.first..count).chain(0..self.first)
    }

    /// What changed since it was told; with a rate, only what is not lively, as far as there is
    /// room.
    fn changes(&mut self, device: usize, room: Option<usize>) -> Option<Burst> {
        let of = self.devices.get(device)?;
        let told = self.told.get_mut(device)?;
        let paced = self.rate.is_some();
        let mut updates = Vec::new();
        for (measure, slot) in of.measures.iter().zip(told) {
            if paced && (measure.lively || room.is_some_and(|room| updates.len() >= room)) {
                continue;
            }
            let value = measured(measure, &self.plant);
            if !value::same(&value, slot) {
                updates.push(update(measure, &value));
                *slot = value;
            }
        }
        burst(device, of, updates)
    }

    /// Tells lively measures, changed or not: the last digit of a meter never rests.
    fn lively(&mut self, device: usize, measures: &[usize]) -> Option<Burst> {
        let of = self.devices.get(device)?;
        let told = self.told.get_mut(device)?;
        let mut updates = Vec::with_capacity(measures.len());
        for &number in measures {
            let (Some(measure), Some(slot)) = (of.measures.get(number), told.get_mut(number))
            else {
                continue;
            };
            let reading = (measure.read)(&self.plant);
            let mut value = measure.form.value(reading);
            if value::same(&value, slot) {
                value = measure
                    .form
                    .value(reading.map(|reading| reading + measure.form.step()));
            }
            updates.push(update(measure, &value));
            *slot = value;
        }
        burst(device, of, updates)
    }
}

fn measured(measure: &Measure, plant: &Plant) -> BusValue {
    match measure.made {
        Some(made) => made(plant),
        None => measure.form.value((measure.read)(plant)),
    }
}

fn update(measure: &Measure, value: &BusValue) -> Update {
    Update::new(measure.path.clone(), value::copy(value)).text(measure.form.text(value))
}

fn burst(device: usize, of: &Device, updates: Vec<Update>) -> Option<Burst> {
    (!updates.is_empty()).then(|| Burst {
        device,
        together: of.together && updates.len() > 1,
        updates,
    })
}

fn control_plant(plant: &mut Plant, control: Control, number: f64) -> Result<(), Refusal> {
    let on = number > 0.5;
    match control {
        Control::Mode => plant.controls.mode = Mode::from_code(number).ok_or(Refusal::VALUE)?,
        Control::InputLimit => plant.controls.input_limit = number,
        Control::GridSetpoint => plant.controls.grid_setpoint = number,
        Control::ReserveSoc => plant.controls.reserve_soc = number,
        Control::FeedIn => plant.controls.feed_in = on,
        Control::ChargeCurrentMax => plant.controls.charge_current_max = number,
        Control::Relay(relay) => {
            *plant.controls.relays.get_mut(relay).ok_or(Refusal::VALUE)? = on;
        }
        Control::ChargerMode(charger) => {
            let charger = plant.chargers.get_mut(charger).ok_or(Refusal::VALUE)?;
            charger.on = match Mode::from_code(number) {
                Some(Mode::ChargerOnly) => true,
                Some(Mode::Off) => false,
                Some(Mode::InverterOnly | Mode::On) | None => return Err(Refusal::VALUE),
            };
        }
        Control::PowerLimit(inverter) => {
            let inverter = plant.pv_inverters.get_mut(inverter).ok_or(Refusal::VALUE)?;
            inverter.limit = number;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    fn small() -> Installation {
        Installation::new("demo", 0, None, 1)
    }

    /// The number of a device, by a part of its name.
    fn number(installation: &Installation, part: &str) -> usize {
        installation
            .names()
            .position(|name| name.contains(part))
            .unwrap()
    }

    fn shown(installation: &Installation, part: &str, path: &str) -> f64 {
        let items = installation.items(number(installation, part));
        let (_, item) = items.iter().find(|(other, _)| other == path).unwrap();
        value::as_f64(&item.value).unwrap_or(f64::NAN)
    }

    fn write(
        installation: &mut Installation,
        part: &str,
        path: &str,
        value: impl Into<BusValue>,
    ) -> Result<Option<String>, Refusal> {
        let device = number(installation, part);
        installation.write(device, path, &value.into())
    }

    fn seconds(installation: &mut Installation, count: u32) -> Vec<Burst> {
        (0..count * 10)
            .flat_map(|_| installation.advance(TICK))
            .collect()
    }

    #[test]
    fn every_device_is_a_whole_service() {
        let installation = Installation::new("demo", 60, None, 1);
        assert_eq!(installation.names().collect::<HashSet<_>>().len(), 60);
        let mut instances = HashSet::new();
        for (device, name) in installation.names().enumerate() {
            assert!(zbus::names::WellKnownName::try_from(name).is_ok(), "{name}");
            let items = installation.items(device);
            let paths: HashSet<_> = items.iter().map(|(path, _)| path.as_str()).collect();
            assert_eq!(paths.len(), items.len(), "{name} has a path twice");
            for (path, item) in &items {
                assert!(zbus::ObjectPath::try_from(path.as_str()).is_ok(), "{path}");
                assert!(value::to_json(&item.value).is_ok(), "{path}");
                let limits = [&item.min, &item.max, &item.default];
                for limit in limits.into_iter().flatten() {
                    let (limit, value) = (limit.value_signature(), item.value.value_signature());
                    assert_eq!(limit, value, "{name}{path}");
                }
            }
            let service_type = crate::tools::recording::service_type(name);
            if !matches!(service_type, "system" | "settings") {
                let instance = shown(&installation, name, "/DeviceInstance");
                assert!(
                    instances.insert((service_type, instance.to_string())),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn what_the_services_show_balances() {
        let mut installation = small();
        for _ in 0..60 {
            seconds(&mut installation, 1);
            // What each device told last is up to its period old, so look at it all anew.
            let fresh = Installation {
                told: installation
                    .devices
                    .iter()
                    .map(|of| {
                        of.measures
                            .iter()
                            .map(|m| measured(m, &installation.plant))
                            .collect()
                    })
                    .collect(),
                devices: Vec::new(),
                due: Vec::new(),
                rate: None,
                first: 0,
                now: Duration::ZERO,
                plant: Plant::new(1),
            };
            let told = std::mem::replace(&mut installation.told, fresh.told);
            let system = |path: &str| shown(&installation, ".system", path);
            let loss = installation.plant.flows.loss();
            let supply = system("/Ac/PvOnGrid/L1/Power")
                + system("/Dc/Pv/Power")
                + shown(&installation, ".grid.", "/Ac/Power")
                - shown(&installation, ".battery.", "/Dc/0/Power");
            let off = supply - loss - system("/Ac/Consumption/L1/Power");
            assert!(off.abs() < 1.0, "off by {off} W");
            installation.told = told;
        }
    }

    #[test]
    fn an_item_is_told_when_it_changes() {
        let mut installation = small();
        let bursts = seconds(&mut installation, 20);
        let updates: usize = bursts.iter().map(|burst| burst.updates.len()).sum();
        assert!((200..4000).contains(&updates), "{updates} updates in 20 s");
        assert!(bursts.iter().any(|burst| burst.together));
        assert!(bursts.iter().any(|burst| !burst.together));
        for burst in &bursts {
            let paths: HashSet<_> = burst.updates.iter().map(|update| &update.path).collect();
            assert_eq!(paths.len(), burst.updates.len());
        }
    }

    #[test]
    fn a_rate_is_kept() {
        for rate in [5.0, 400.0, 20_000.0] {
            let mut installation = Installation::new("demo", 30, Some(rate), 1);
            let bursts = seconds(&mut installation, 10);
            let updates: usize = bursts.iter().map(|burst| burst.updates.len()).sum();
            #[allow(clippy::cast_precision_loss)]
            let per_s = updates as f64 / 10.0;
            assert!(
                (per_s - rate).abs() < rate * 0.02 + 1.0,
                "{per_s} for {rate}"
            );
        }
    }

    #[test]
    fn writes_take_effect() {
        let mut installation = small();
        assert!(shown(&installation, ".vebus.", "/Ac/Out/P") > 100.0);
        let text = write(&mut installation, ".vebus.", "/Mode", 4_u32);
        assert_eq!(text, Ok(Some("off".into())));
        seconds(&mut installation, 3);
        assert!(shown(&installation, ".vebus.", "/Ac/Out/P").abs() < 0.5);
        assert!(shown(&installation, ".vebus.", "/Ac/Out/L1/F").is_nan());
        assert!(shown(&installation, ".vebus.", "/State").abs() < 0.5);
        assert_eq!(
            write(&mut installation, ".vebus.", "/Mode", 7_u32),
            Err(Refusal::VALUE)
        );

        write(&mut installation, ".vebus.", "/Mode", 3_u32).unwrap();
        let path = "/Settings/CGwacs/AcPowerSetPoint";
        write(&mut installation, ".settings", path, -700.0_f64).unwrap();
        seconds(&mut installation, 3);
        assert!((shown(&installation, ".grid.", "/Ac/Power") + 700.0).abs() < 1.0);

        let before = shown(&installation, ".system", "/Ac/ConsumptionOnOutput/L1/Power");
        write(&mut installation, ".system", "/Relay/0/State", 1_i32).unwrap();
        seconds(&mut installation, 2);
        let after = shown(&installation, ".system", "/Ac/ConsumptionOnOutput/L1/Power");
        assert!(after > before + 500.0, "{before} then {after}");

        write(&mut installation, "ttyS6", "/Mode", 4_u32).unwrap();
        seconds(&mut installation, 3);
        assert!(shown(&installation, "ttyS6", "/Yield/Power").abs() < 0.5);
        assert_eq!(
            write(&mut installation, "ttyS6", "/Mode", 3_u32),
            Err(Refusal::VALUE)
        );

        let other = write(&mut installation, ".battery.", "/CustomName", "Cellar");
        assert_eq!(other, Ok(None));
    }

    #[test]
    fn a_write_is_told_once() {
        let mut installation = small();
        write(&mut installation, ".system", "/Relay/1/State", 1_i32).unwrap();
        let bursts = seconds(&mut installation, 3);
        let again = bursts
            .iter()
            .flat_map(|burst| &burst.updates)
            .any(|update| update.path == "/Relay/1/State");
        assert!(!again, "the service has told it already");
    }
}
