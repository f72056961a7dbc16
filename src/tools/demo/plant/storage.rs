//! Batteries.

/// A battery of 16 lithium iron phosphate cells.
#[derive(Debug, Clone)]
pub(crate) struct Bank {
    /// In Ah.
    pub capacity: f64,
    /// In %.
    pub soc: f64,
    /// In A; negative when it is discharged.
    pub current: f64,
    /// In V.
    pub voltage: f64,
    /// In °C.
    pub temperature: f64,
    /// All that was ever taken out, in Ah.
    pub drawn: f64,
    /// The deepest discharge, in Ah, negative.
    pub deepest: f64,
}

impl Bank {
    /// A battery of so many Ah, so many % full.
    pub(crate) fn new(capacity: f64, soc: f64) -> Self {
        Bank {
            capacity,
            soc,
            current: 0.0,
            voltage: 51.2,
            temperature: 21.0,
            drawn: 13_653.3,
            deepest: -0.7 * capacity,
        }
    }

    /// In W, positive when it is charged.
    pub(crate) fn power(&self) -> f64 {
        self.voltage * self.current
    }

    /// What is missing to full, in Ah, negative.
    pub(crate) fn consumed(&self) -> f64 {
        -(100.0 - self.soc) / 100.0 * self.capacity
    }

    pub(super) fn charge_max(&self) -> f64 {
        let taper = ((100.0 - self.soc) / 4.0).clamp(0.0, 1.0);
        0.5 * self.capacity * self.voltage * taper
    }

    pub(super) fn discharge_max(&self) -> f64 {
        let taper = ((self.soc - 2.0) / 3.0).clamp(0.0, 1.0);
        0.7 * self.capacity * self.voltage * taper
    }

    /// Puts power on it: the voltage follows from charge and current.
    pub(super) fn load(&mut self, power: f64) {
        let rest = 48.8 + 4.2 * (self.soc / 100.0).clamp(0.0, 1.0);
        let steep = if self.soc > 97.0 {
            (self.soc - 97.0) * 0.8
        } else {
            0.0
        };
        let resistance = 3.0 / self.capacity;
        let open = rest + steep;
        // open · I + R · I² = power
        let root = (open * open + 4.0 * resistance * power).max(0.0).sqrt();
        self.current = (root - open) / (2.0 * resistance);
        self.voltage = open + resistance * self.current;
    }

    pub(super) fn charge(&mut self, hours: f64, outside: f64) {
        let amp_hours = self.current * hours;
        self.soc = (self.soc + amp_hours / self.capacity * 100.0).clamp(0.0, 100.0);
        if amp_hours < 0.0 {
            self.drawn -= amp_hours;
        }
        self.deepest = self.deepest.min(self.consumed());
        let warm = 18.0 + 0.2 * (outside - 15.0) + self.current.abs() / self.capacity * 20.0;
        self.temperature += (warm - self.temperature) * (hours / 4.0).min(1.0);
    }
}
