//! What nobody in the house decides: the sun, the clouds, the temperature, who cooks when.
//!
//! Pure functions of the simulated time, and two slow random walks with a separate generator,
//! so that a run can be repeated.

use std::f64::consts::PI;

/// A small generator of random numbers (xorshift64*). For weather, not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    state: u64,
}

/// The clouds and the household, which change at random.
#[derive(Debug, Clone)]
pub(crate) struct Chance {
    dice: Dice,
    cloud: f64,
    cloud_target: f64,
    appliance: f64,
    appliance_ends_s: f64,
    mains: f64,
}

impl Dice {
    /// A generator; the same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Dice {
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    /// The next number in 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        #[allow(clippy::cast_precision_loss)] // 24 bits
        let unit = bits as f64 / 16_777_216.0;
        unit
    }

    /// The next number between two.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}

impl Chance {
    /// A fair day to begin with.
    pub(crate) fn new(seed: u64) -> Self {
        Chance {
            dice: Dice::new(seed),
            cloud: 0.1,
            cloud_target: 0.1,
            appliance: 0.0,
            appliance_ends_s: 0.0,
            mains: 0.0,
        }
    }

    /// Lets time pass: from `clock_s`, for `step_s` simulated seconds.
    pub(crate) fn advance(&mut self, clock_s: f64, step_s: f64) {
        if self.dice.unit() < step_s / 5400.0 {
            self.cloud_target = if self.dice.unit() < 0.6 {
                self.dice.between(0.0, 0.15)
            } else {
                self.dice.between(0.3, 0.95)
            };
        }
        let pull = (step_s / 900.0).min(1.0);
        self.cloud += (self.cloud_target - self.cloud) * pull + self.dice.between(-0.03, 0.03);
        self.cloud = self.cloud.clamp(0.0, 1.0);

        if clock_s >= self.appliance_ends_s {
            self.appliance = 0.0;
            let awake = (7.0..23.0).contains(&hour(clock_s));
            if awake && self.dice.unit() < step_s / 4500.0 {
                self.appliance = self.dice.between(600.0, 2200.0);
                self.appliance_ends_s = clock_s + self.dice.between(300.0, 2400.0);
            }
        }
        self.mains += (-self.mains) * pull + self.dice.between(-0.8, 0.8);
        self.mains = self.mains.clamp(-6.0, 6.0);
    }

    /// How much of a panel's peak power there is, 0 to 1; `early` shifts its noon by hours, as for
    /// a panel that looks east.
    pub(crate) fn sun(&self, clock_s: f64, early: f64) -> f64 {
        clear_sky(hour(clock_s) + early) * (1.0 - 0.75 * self.cloud)
    }

    /// What the household draws, in watts.
    pub(crate) fn household(&self, clock_s: f64) -> f64 {
        let hour = hour(clock_s);
        let fridge = if clock_s.rem_euclid(3600.0) < 1200.0 {
            110.0
        } else {
            6.0
        };
        let habits = bump(hour, 7.5, 1.0) * 600.0
            + bump(hour, 12.5, 0.8) * 700.0
            + bump(hour, 19.5, 1.9) * 1000.0;
        180.0 + fridge + habits + self.appliance
    }

    /// The voltage of the grid.
    pub(crate) fn mains_voltage(&self) -> f64 {
        230.0 + self.mains
    }
}

/// The hour of the day, 0 to 24.
pub(crate) fn hour(clock_s: f64) -> f64 {
    (clock_s / 3600.0).rem_euclid(24.0)
}

/// The temperature outside, in °C: coldest at 4, warmest at 15.
pub(crate) fn outside(clock_s: f64) -> f64 {
    15.0 - 6.0 * ((hour(clock_s) - 3.5) / 24.0 * 2.0 * PI).cos()
}

/// A clear sky, 0 to 1: the sun is up from 6 to 20.
fn clear_sky(hour: f64) -> f64 {
    if (6.0..20.0).contains(&hour) {
        ((hour - 6.0) / 14.0 * PI).sin().powf(1.3)
    } else {
        0.0
    }
}

fn bump(hour: f64, at: f64, width: f64) -> f64 {
    (-((hour - at) / width).powi(2) / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sun_rises_and_sets() {
        let chance = Chance::new(1);
        let at = |hour: f64| chance.sun(hour * 3600.0, 0.0);
        assert!(at(3.0).abs() < 1e-9 && at(22.0).abs() < 1e-9 && at(27.0).abs() < 1e-9);
        assert!(at(13.0) > 0.8 && at(13.0) > at(9.0) && at(9.0) > at(7.0));
        assert!(outside(4.0 * 3600.0) < outside(15.0 * 3600.0));
    }

    #[test]
    fn chance_stays_in_bounds_and_repeats() {
        let run = || {
            let mut chance = Chance::new(7);
            let mut clock_s = 0.0;
            let mut most = 0.0_f64;
            for _ in 0..20_000 {
                chance.advance(clock_s, 60.0);
                clock_s += 60.0;
                assert!((0.0..=1.0).contains(&chance.cloud));
                assert!((220.0..=240.0).contains(&chance.mains_voltage()));
                let load = chance.household(clock_s);
                assert!((150.0..4500.0).contains(&load), "{load}");
                most = most.max(load);
            }
            most
        };
        let most = run();
        assert!(most > 1500.0);
        assert!((most - run()).abs() < f64::EPSILON);
    }

    #[test]
    fn dice_cover_their_range() {
        let mut dice = Dice::new(0);
        let numbers: Vec<f64> = (0..1000).map(|_| dice.unit()).collect();
        let mean = numbers.iter().sum::<f64>() / 1000.0;
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
    }
}
