//! Solar chargers and PV inverters, and what they remember.

use std::collections::VecDeque;

use super::day::Dice;

/// A solar charger and its panels.
#[derive(Debug, Clone)]
pub(crate) struct Charger {
    /// Peak power of the panels, in W.
    pub peak: f64,
    /// By how many hours its noon comes early.
    pub early: f64,
    /// Whether it is switched on.
    pub on: bool,
    /// What it delivers, in W.
    pub power: f64,
    /// What it could deliver, in W.
    pub available: f64,
    /// All it ever delivered, in kWh.
    pub total: f64,
    /// Today first, then the days before.
    pub days: VecDeque<SolarDay>,
}

/// One day of a solar charger.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SolarDay {
    /// In kWh.
    pub harvest: f64,
    /// In W.
    pub power_max: f64,
    /// In V.
    pub battery_max: f64,
    /// In V; 0 when nothing was measured yet.
    pub battery_min: f64,
}

/// A PV inverter.
#[derive(Debug, Clone)]
pub(crate) struct PvInverter {
    /// Peak power, in W.
    pub peak: f64,
    /// The limit that was set, in W.
    pub limit: f64,
    /// By how many hours its noon comes early.
    pub early: f64,
    /// What it delivers, in W.
    pub power: f64,
    /// All it ever delivered, in kWh.
    pub total: f64,
}

impl Charger {
    /// A charger with a month behind it.
    pub(crate) fn new(peak: f64, early: f64, seed: u64) -> Self {
        let mut dice = Dice::new(seed.wrapping_add(977));
        let past = (0..DAYS).map(|day| {
            if day == 0 {
                return SolarDay::default();
            }
            let sun = dice.between(0.25, 1.0);
            SolarDay {
                harvest: peak * sun * 5.2 / 1000.0,
                power_max: peak * (0.4 + 0.5 * sun),
                battery_max: 53.0 + 2.5 * sun,
                battery_min: dice.between(49.5, 51.0),
            }
        });
        Charger {
            peak,
            early,
            on: true,
            power: 0.0,
            available: 0.0,
            total: peak * 1.3,
            days: past.collect(),
        }
    }

    /// Whether it delivers less than it could.
    pub(crate) fn throttled(&self) -> bool {
        self.power < self.available * 0.999
    }

    pub(super) fn harvest(&mut self, hours: f64, battery: f64, new_day: bool) {
        if new_day {
            self.days.push_front(SolarDay::default());
            self.days.truncate(DAYS);
        }
        let yielded = self.power * hours / 1000.0;
        self.total += yielded;
        if let Some(today) = self.days.front_mut() {
            today.harvest += yielded;
            today.power_max = today.power_max.max(self.power);
            today.battery_max = today.battery_max.max(battery);
            today.battery_min = if today.battery_min > 0.0 {
                today.battery_min.min(battery)
            } else {
                battery
            };
        }
    }
}

impl PvInverter {
    /// An inverter without a limit.
    pub(crate) fn new(peak: f64, early: f64) -> Self {
        PvInverter {
            peak,
            limit: peak,
            early,
            power: 0.0,
            total: peak * 2.1,
        }
    }
}

/// How many days a solar charger remembers, today included.
pub(crate) const DAYS: usize = 31;
