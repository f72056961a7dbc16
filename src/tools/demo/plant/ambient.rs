//! What has nothing to do with power: tanks and temperatures.

use super::day::outside;

/// A tank.
#[derive(Debug, Clone)]
pub(crate) struct Tank {
    /// What is in it, as the code of `/FluidType`.
    pub fluid: Fluid,
    /// In m³.
    pub capacity: f64,
    /// In %.
    pub level: f64,
}

/// What a tank holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fluid {
    /// For the generator; it lasts long.
    Fuel,
    /// From the well, by the pump.
    FreshWater,
    /// What becomes of the fresh water.
    WasteWater,
}

/// A temperature sensor.
#[derive(Debug, Clone)]
pub(crate) struct Sensor {
    /// Where it hangs.
    pub place: Place,
    /// In °C.
    pub temperature: f64,
    /// In %.
    pub humidity: f64,
}

/// Where a temperature sensor hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a fridge.
    Fridge,
    /// Outside.
    Outdoor,
    /// In a room.
    Room,
}

impl Tank {
    /// A tank of so many m³, so many % full.
    pub(crate) fn new(fluid: Fluid, capacity: f64, level: f64) -> Self {
        Tank {
            fluid,
            capacity,
            level,
        }
    }
}

impl Fluid {
    /// Its code in `/FluidType`, and what people call it.
    pub(crate) fn code(self) -> (i32, &'static str) {
        match self {
            Fluid::Fuel => (0, "Fuel"),
            Fluid::FreshWater => (1, "Fresh water"),
            Fluid::WasteWater => (2, "Waste water"),
        }
    }
}

impl Place {
    /// Its code in `/TemperatureType`, and what people call it.
    pub(crate) fn code(self) -> (i32, &'static str) {
        match self {
            Place::Fridge => (1, "Fridge"),
            Place::Room => (3, "Room"),
            Place::Outdoor => (4, "Outdoor"),
        }
    }
}

impl Sensor {
    /// A sensor in its place.
    pub(crate) fn new(place: Place) -> Self {
        let temperature = match place {
            Place::Fridge => 5.0,
            Place::Outdoor => 14.0,
            Place::Room => 21.0,
        };
        Sensor {
            place,
            temperature,
            humidity: 50.0,
        }
    }

    pub(super) fn follow(&mut self, clock_s: f64, step_s: f64, index: usize) {
        #[allow(clippy::cast_precision_loss)] // a few hundred
        let phase = index as f64 * 700.0;
        let target = match self.place {
            // The compressor runs a third of the time.
            Place::Fridge if (clock_s + phase).rem_euclid(3600.0) < 1200.0 => 2.5,
            Place::Fridge => 7.0,
            Place::Outdoor => outside(clock_s),
            Place::Room => 21.0 + 0.15 * (outside(clock_s + phase) - 15.0),
        };
        self.temperature += (target - self.temperature) * (step_s / 2400.0).min(1.0);
        let damp = 62.0 - 1.1 * (self.temperature - 12.0);
        self.humidity += (damp.clamp(20.0, 95.0) - self.humidity) * (step_s / 3600.0).min(1.0);
    }
}
