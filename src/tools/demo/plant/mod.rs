//! The simulated installation as physics: sun, loads, battery, tanks, temperatures.
//!
//! A state machine without a clock: [`Plant::advance`] is told how much time has passed, and
//! [`Controls`] are what people set. A simulated day passes in four minutes. It knows nothing of
//! services and paths; [`device`](super::device) shows it as such.

mod ambient;
mod day;
mod flows;
mod solar;
mod storage;
mod story;

use std::time::Duration;

pub(crate) use ambient::{Fluid, Place, Sensor, Tank};
pub(crate) use day::{hour, outside};
pub(crate) use flows::{Demand, Flows, INVERTER_MAX, Mode};
pub(crate) use solar::{Charger, DAYS, PvInverter, SolarDay};
pub(crate) use storage::Bank;

use day::Chance;
use story::Story;

/// The installation.
#[derive(Debug)]
pub(crate) struct Plant {
    /// What people set.
    pub controls: Controls,
    /// Where the power goes now.
    pub flows: Flows,
    /// The batteries, in parallel.
    pub banks: Vec<Bank>,
    /// The solar chargers.
    pub chargers: Vec<Charger>,
    /// The PV inverters, at the grid side.
    pub pv_inverters: Vec<PvInverter>,
    /// The tanks: the first holds fresh water, the second waste water.
    pub tanks: Vec<Tank>,
    /// The temperature sensors.
    pub sensors: Vec<Sensor>,
    /// How many metered circuits share the loads at the output.
    pub circuits: usize,
    /// Energy in kWh, since the start.
    pub energy: Energy,
    chance: Chance,
    story: Story,
    clock_s: f64,
    /// How many simulated seconds pass in one.
    speed: f64,
}

/// What people set.
#[derive(Debug, Clone)]
pub(crate) struct Controls {
    /// The switch of the inverter/charger.
    pub mode: Mode,
    /// What the grid meter should show, in W.
    pub grid_setpoint: f64,
    /// The state of charge kept for a power failure, in %.
    pub reserve_soc: f64,
    /// Whether solar power that the battery cannot take goes to the grid.
    pub feed_in: bool,
    /// The limit of the AC input, in A.
    pub input_limit: f64,
    /// The most that the batteries are charged with, in A; below 0, no limit.
    pub charge_current_max: f64,
    /// The relays of the GX device: the first switches the boiler, the second the water pump.
    pub relays: [bool; 2],
}

/// Energy in kWh.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Energy {
    /// From the grid.
    pub grid_in: f64,
    /// Into the grid.
    pub grid_out: f64,
    /// From the AC input to the AC output.
    pub input_to_output: f64,
    /// From the AC input to the DC side.
    pub input_to_dc: f64,
    /// From the DC side to the AC output.
    pub dc_to_output: f64,
    /// From the DC side to the AC input.
    pub dc_to_input: f64,
    /// To the loads at the output.
    pub loads_out: f64,
}

impl Plant {
    /// The small installation, at nine in the morning.
    pub(crate) fn new(seed: u64) -> Self {
        let mut plant = Plant {
            controls: Controls::default(),
            flows: Flows::default(),
            banks: vec![Bank::new(300.0, 62.0)],
            chargers: vec![
                Charger::new(2400.0, 0.0, seed),
                Charger::new(1600.0, 1.2, seed + 1),
            ],
            pv_inverters: vec![PvInverter::new(2500.0, -0.8)],
            tanks: vec![
                Tank::new(Fluid::FreshWater, 0.4, 71.0),
                Tank::new(Fluid::WasteWater, 0.3, 24.0),
            ],
            sensors: vec![Sensor::new(Place::Fridge), Sensor::new(Place::Outdoor)],
            circuits: 0,
            energy: Energy::default(),
            chance: Chance::new(seed),
            story: Story::None,
            clock_s: 9.0 * 3600.0,
            speed: SPEED,
        };
        plant.settle();
        plant
    }

    /// The simulated seconds since the first midnight.
    pub(crate) fn clock_s(&self) -> f64 {
        self.clock_s
    }

    /// Has time pass at another speed, and each day bring what is in the story.
    pub(crate) fn tell_story(&mut self, speed: f64) {
        self.speed = speed;
        self.story = Story::EachDay;
        self.settle();
    }

    /// What goes on just now, in a word or two; empty mostly.
    pub(crate) fn story_word(&self) -> &'static str {
        self.story.word(hour(self.clock_s))
    }

    /// Whether the grid has failed.
    pub(crate) fn grid_lost(&self) -> bool {
        self.story.grid_fails(hour(self.clock_s))
    }

    /// Lets real time pass; simulated time passes faster.
    pub(crate) fn advance(&mut self, passed: Duration) {
        let mut left = passed.as_secs_f64().min(ADVANCE_S_MAX) * self.speed;
        while left > 0.0 {
            let step_s = left.min(STEP_S);
            left -= step_s;
            self.step(step_s);
        }
        self.settle();
    }

    /// Finds where the power goes, after anything changed.
    pub(crate) fn settle(&mut self) {
        let hour = hour(self.clock_s);
        let clear = self.story.sun(hour);
        let grid_lost = self.grid_lost();
        for charger in &mut self.chargers {
            let sun = self.chance.sun(self.clock_s, charger.early) * clear;
            charger.available = if charger.on { charger.peak * sun } else { 0.0 };
        }
        for inverter in &mut self.pv_inverters {
            let sun = self.chance.sun(self.clock_s, inverter.early) * clear;
            // Those at the grid side stop with it.
            let able = if grid_lost { 0.0 } else { inverter.peak * sun };
            inverter.power = able.min(inverter.limit);
        }
        let demand = self.demand();
        self.flows = Flows::settle(&demand);

        // A throttled charger gives its share of what is used.
        let share = if demand.pv_dc > 0.0 {
            self.flows.pv_dc / demand.pv_dc
        } else {
            0.0
        };
        for charger in &mut self.chargers {
            charger.power = charger.available * share;
        }
        let capacity = self.capacity();
        for bank in &mut self.banks {
            bank.load(self.flows.battery * bank.capacity / capacity);
        }
    }

    /// The voltage of the grid, in V.
    pub(crate) fn mains_voltage(&self) -> f64 {
        self.chance.mains_voltage()
    }

    /// What the inverter/charger does, which is not always what its switch says.
    pub(crate) fn mode(&self) -> Mode {
        match self.controls.mode {
            Mode::On if self.grid_lost() => Mode::InverterOnly,
            Mode::ChargerOnly if self.grid_lost() => Mode::Off,
            mode @ (Mode::On | Mode::Off | Mode::ChargerOnly | Mode::InverterOnly) => mode,
        }
    }

    /// The voltage at the AC output, in V.
    pub(crate) fn output_voltage(&self) -> f64 {
        match self.mode() {
            Mode::Off => 0.0,
            Mode::InverterOnly => 230.0,
            Mode::ChargerOnly | Mode::On => self.mains_voltage(),
        }
    }

    /// The voltage of the DC side, in V.
    pub(crate) fn dc_voltage(&self) -> f64 {
        self.banks.first().map_or(51.2, |bank| bank.voltage)
    }

    /// The state of charge of all batteries together, in %.
    pub(crate) fn soc(&self) -> f64 {
        let charge = |bank: &Bank| bank.soc * bank.capacity;
        self.banks.iter().map(charge).sum::<f64>() / self.capacity()
    }

    /// The capacity of all batteries together, in Ah.
    pub(crate) fn capacity(&self) -> f64 {
        let capacity = self.banks.iter().map(|bank| bank.capacity).sum::<f64>();
        capacity.max(1.0)
    }

    /// How long the batteries last at this rate, in s; `None` when they are charged.
    pub(crate) fn time_to_go(&self) -> Option<f64> {
        let current = self.banks.iter().map(|bank| bank.current).sum::<f64>();
        (current < -1.0).then(|| {
            let left = (self.soc() - self.controls.reserve_soc).max(0.0) / 100.0 * self.capacity();
            (left / -current * 3600.0).min(864_000.0)
        })
    }

    fn demand(&self) -> Demand {
        let controls = &self.controls;
        let soc = self.soc();
        let scale = self.scale();
        let household = self.chance.household(self.clock_s) * scale;
        let kettle = self.story.kettle(hour(self.clock_s));
        let boiler = if controls.relays[0] { BOILER } else { 0.0 };
        let sum = |of: fn(&Bank) -> f64| self.banks.iter().map(of).sum::<f64>();
        let limit = if controls.charge_current_max < 0.0 {
            f64::INFINITY
        } else {
            controls.charge_current_max * self.dc_voltage()
        };
        Demand {
            mode: self.mode(),
            grid_setpoint: controls.grid_setpoint,
            // The grid alone carries these.
            loads_in: if self.grid_lost() {
                0.0
            } else {
                household * 0.3
            },
            loads_out: household * 0.7 + boiler + kettle,
            pv_ac: self
                .pv_inverters
                .iter()
                .map(|inverter| inverter.power)
                .sum(),
            pv_dc: self.chargers.iter().map(|charger| charger.available).sum(),
            charge_max: sum(Bank::charge_max).min(limit),
            discharge_max: sum(Bank::discharge_max),
            above_reserve: soc > controls.reserve_soc,
            import_max: controls.input_limit * self.mains_voltage(),
            feed_in: controls.feed_in,
        }
    }

    /// A larger installation has more to supply.
    fn scale(&self) -> f64 {
        let generators = self.chargers.len() + self.pv_inverters.len();
        #[allow(clippy::cast_precision_loss)] // a few hundred
        let extra = generators.saturating_sub(3) as f64;
        1.0 + 0.3 * extra
    }

    fn step(&mut self, step_s: f64) {
        let midnight_before = (self.clock_s / DAY_S).floor();
        self.chance.advance(self.clock_s, step_s);
        self.clock_s += step_s;
        self.settle();
        let hours = step_s / 3600.0;
        self.energy.add(&self.flows, hours);
        for bank in &mut self.banks {
            bank.charge(hours, outside(self.clock_s));
        }
        let voltage = self.dc_voltage();
        let new_day = (self.clock_s / DAY_S).floor() > midnight_before;
        for charger in &mut self.chargers {
            charger.harvest(hours, voltage, new_day);
        }
        for inverter in &mut self.pv_inverters {
            inverter.total += inverter.power * hours / 1000.0;
        }
        self.water(hours);
        for (index, sensor) in self.sensors.iter_mut().enumerate() {
            sensor.follow(self.clock_s, step_s, index);
        }
    }

    fn water(&mut self, hours: f64) {
        let hour = hour(self.clock_s);
        let awake = (6.5..23.5).contains(&hour);
        let used = if awake { 0.012 } else { 0.0005 } * hours; // m³
        let pumped = if self.controls.relays[1] {
            0.5 * hours
        } else {
            0.0
        };
        for tank in &mut self.tanks {
            let change = match tank.fluid {
                // The pump starts by itself before the tap runs dry.
                Fluid::FreshWater if tank.level < 8.0 => 0.3,
                Fluid::FreshWater => pumped - used,
                // The tank is emptied before it overflows.
                Fluid::WasteWater if tank.level > 92.0 => -0.25,
                Fluid::WasteWater => used * 0.9,
                Fluid::Fuel => -0.0002 * hours,
            };
            tank.level = (tank.level + change / tank.capacity * 100.0).clamp(0.0, 100.0);
        }
    }
}

impl Default for Controls {
    fn default() -> Self {
        Controls {
            mode: Mode::On,
            grid_setpoint: 50.0,
            reserve_soc: 20.0,
            feed_in: true,
            input_limit: 32.0,
            charge_current_max: -1.0,
            relays: [false, false],
        }
    }
}

impl Energy {
    fn add(&mut self, flows: &Flows, hours: f64) {
        let kwh = |watts: f64| watts.max(0.0) * hours / 1000.0;
        self.grid_in += kwh(flows.grid);
        self.grid_out += kwh(-flows.grid);
        self.loads_out += kwh(flows.ac_out);
        let inverted_to_output = flows.inverter_ac.clamp(0.0, flows.ac_out.max(0.0));
        self.dc_to_output += kwh(inverted_to_output);
        self.dc_to_input += kwh(flows.inverter_ac - inverted_to_output);
        self.input_to_output += kwh(flows.ac_out - inverted_to_output);
        self.input_to_dc += kwh(-flows.inverter_ac);
    }
}

/// How much faster simulated time is, if nobody says: a day in four minutes.
pub(crate) const SPEED: f64 = 360.0;
/// The longest simulated step at once.
const STEP_S: f64 = 60.0;
/// The longest real time that is made up for, as after the machine slept.
const ADVANCE_S_MAX: f64 = 60.0;
const DAY_S: f64 = 86_400.0;
/// What the boiler on the first relay draws.
const BOILER: f64 = 1500.0;

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(500);

    fn balance(plant: &Plant) -> f64 {
        let flows = &plant.flows;
        let battery: f64 = plant.banks.iter().map(Bank::power).sum();
        let solar: f64 = plant.chargers.iter().map(|charger| charger.power).sum();
        let pv: f64 = plant
            .pv_inverters
            .iter()
            .map(|inverter| inverter.power)
            .sum();
        pv + solar + flows.grid - battery - flows.loss() - flows.loads_in - flows.ac_out
    }

    #[test]
    fn energy_balances_through_a_week() {
        let mut plant = Plant::new(42);
        plant.banks.push(Bank::new(150.0, 40.0));
        let (mut least, mut most) = (100.0_f64, 0.0_f64);
        for _ in 0..7 * 480 {
            plant.advance(TICK);
            let off = balance(&plant);
            assert!(off.abs() < 0.01, "off by {off} W: {plant:?}");
            least = least.min(plant.soc());
            most = most.max(plant.soc());
        }
        assert!(
            least < 60.0 && most > 80.0,
            "a lively week: {least} to {most} %"
        );
        assert!(least > 15.0, "the reserve is kept: {least} %");
        assert!((plant.clock_s() - (9.0 * 3600.0 + 7.0 * DAY_S)).abs() < 1.0);
    }

    #[test]
    fn what_the_meters_counted_is_what_flowed() {
        let mut plant = Plant::new(3);
        let charge_before = plant.soc() / 100.0 * plant.capacity();
        let total_before: f64 = plant.chargers.iter().map(|charger| charger.total).sum();
        for _ in 0..480 {
            plant.advance(TICK);
        }
        let total: f64 = plant.chargers.iter().map(|charger| charger.total).sum();
        let day: f64 = plant
            .chargers
            .iter()
            .map(|charger| charger.days[0].harvest + charger.days[1].harvest)
            .sum();
        // The first day began at nine; the other charger days are of before.
        assert!((total - total_before) - day < 0.01);
        let charge = plant.soc() / 100.0 * plant.capacity();
        assert!((charge - charge_before).abs() < plant.capacity());
        let energy = plant.energy;
        let out = energy.input_to_output + energy.dc_to_output;
        assert!((out - energy.loads_out).abs() < 0.01, "{energy:?}");
    }

    #[test]
    fn mode_off_takes_the_output_away() {
        let mut plant = Plant::new(1);
        assert!(plant.flows.ac_out > 100.0);
        plant.controls.mode = Mode::Off;
        plant.settle();
        assert!(plant.flows.ac_out.abs() < 1e-9);
        assert!(plant.output_voltage().abs() < 1e-9);
        assert!(balance(&plant).abs() < 0.01);
    }

    #[test]
    fn the_first_relay_switches_the_boiler() {
        let mut plant = Plant::new(1);
        let before = plant.flows.ac_out;
        plant.controls.relays[0] = true;
        plant.settle();
        assert!((plant.flows.ac_out - before - BOILER).abs() < 1e-6);
        assert!(balance(&plant).abs() < 0.01);
    }

    #[test]
    fn the_second_relay_pumps_water() {
        let mut plant = Plant::new(1);
        plant.controls.relays[1] = true;
        let before = plant.tanks[0].level;
        plant.advance(Duration::from_secs(1));
        assert!(plant.tanks[0].level > before + 5.0);
    }

    #[test]
    fn the_grid_follows_the_set_point() {
        let mut plant = Plant::new(1);
        for setpoint in [50.0, -800.0, 300.0] {
            plant.controls.grid_setpoint = setpoint;
            plant.settle();
            assert!((plant.flows.grid - setpoint).abs() < 1e-6, "{plant:?}");
        }
    }

    #[test]
    fn chargers_remember_a_month() {
        let mut plant = Plant::new(1);
        for _ in 0..480 {
            plant.advance(TICK);
        }
        let charger = &plant.chargers[0];
        assert_eq!(charger.days.len(), DAYS);
        assert!(
            charger.days[1].harvest > 1.0,
            "yesterday: {:?}",
            charger.days[1]
        );
    }
}
