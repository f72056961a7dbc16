//! Where the power goes, at one moment.
//!
//! ```text
//!            grid ──┬── loads on the input
//!   PV inverter ────┤
//!                   └── ac_in ─▶ inverter/charger ─▶ ac_out ── loads on the output
//!                                      ║ dc
//!                 solar chargers ──────╫────── battery
//! ```
//!
//! Everything is in watts. Pure arithmetic: [`Flows::settle`] is all there is.

/// What decides where power goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Demand {
    /// What the inverter/charger is told to do.
    pub mode: Mode,
    /// What the grid meter should show.
    pub grid_setpoint: f64,
    /// Loads before the inverter/charger: the grid carries them whatever happens.
    pub loads_in: f64,
    /// Loads behind the inverter/charger.
    pub loads_out: f64,
    /// What the PV inverters deliver.
    pub pv_ac: f64,
    /// What the solar chargers could deliver.
    pub pv_dc: f64,
    /// What the battery may be charged with now.
    pub charge_max: f64,
    /// What the battery can deliver now.
    pub discharge_max: f64,
    /// Whether the battery is above the state of charge that is kept for a power failure.
    pub above_reserve: bool,
    /// What may be drawn from the grid.
    pub import_max: f64,
    /// Whether solar power that the battery cannot take goes to the grid.
    pub feed_in: bool,
}

/// The position of the inverter/charger's switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes the grid through and charges.
    ChargerOnly,
    /// Ignores the grid.
    InverterOnly,
    /// Both, and so an energy storage system.
    On,
    /// Neither: no AC at the output.
    Off,
}

/// Where the power goes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Flows {
    /// From the grid; negative into it.
    pub grid: f64,
    /// Into the inverter/charger's AC input; negative out of it.
    pub ac_in: f64,
    /// Out of its AC output.
    pub ac_out: f64,
    /// To the loads before it.
    pub loads_in: f64,
    /// From the PV inverters.
    pub pv_ac: f64,
    /// From the solar chargers.
    pub pv_dc: f64,
    /// From the DC side to the AC side, as AC; negative when charging.
    pub inverter_ac: f64,
    /// The same, as DC.
    pub inverter_dc: f64,
    /// Into the battery; negative out of it.
    pub battery: f64,
    /// Whether the AC input is connected.
    pub connected: bool,
}

impl Mode {
    /// The mode with this code, as in `/Mode` of a vebus service.
    pub(crate) fn from_code(code: f64) -> Option<Mode> {
        [Mode::ChargerOnly, Mode::InverterOnly, Mode::On, Mode::Off]
            .into_iter()
            .find(|mode| (f64::from(mode.code()) - code).abs() < f64::EPSILON)
    }

    /// Its code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Mode::ChargerOnly => 1,
            Mode::InverterOnly => 2,
            Mode::On => 3,
            Mode::Off => 4,
        }
    }
}

impl Flows {
    /// Finds the flows that meet the demand, as far as the hardware can.
    pub(crate) fn settle(demand: &Demand) -> Flows {
        let (connected, ac_out, ac) = match demand.mode {
            Mode::Off => (false, 0.0, 0.0),
            Mode::InverterOnly => {
                let able = able(demand.pv_dc + demand.discharge_max);
                let served = demand.loads_out.min(able);
                (false, served, served)
            }
            Mode::ChargerOnly => (true, demand.loads_out, charging(demand)),
            Mode::On => (true, demand.loads_out, storage(demand)),
        };
        let dc = to_dc(ac);
        // The solar chargers throttle when nobody can take their power.
        let pv_dc = demand.pv_dc.min((dc + demand.charge_max).max(0.0));
        let ac_in = if connected { ac_out - ac } else { 0.0 };
        Flows {
            grid: demand.loads_in + ac_in - demand.pv_ac,
            ac_in,
            ac_out,
            loads_in: demand.loads_in,
            pv_ac: demand.pv_ac,
            pv_dc,
            inverter_ac: ac,
            inverter_dc: dc,
            battery: pv_dc - dc,
            connected,
        }
    }

    /// What is lost in the inverter/charger.
    #[cfg(test)]
    pub(crate) fn loss(&self) -> f64 {
        self.inverter_dc - self.inverter_ac
    }
}

/// With the grid and the switch on: the grid meter shows the setpoint, as far as the battery can.
fn storage(demand: &Demand) -> f64 {
    let loads = demand.loads_in + demand.loads_out - demand.pv_ac;
    let battery = if demand.above_reserve {
        demand.discharge_max
    } else {
        0.0
    };
    let most = able(demand.pv_dc + battery);
    let least = charging(demand);
    let surplus = if demand.feed_in {
        to_ac((demand.pv_dc - demand.charge_max).max(0.0)).min(INVERTER_MAX)
    } else {
        0.0
    };
    let wanted = loads - demand.grid_setpoint;
    let wanted = wanted.max(loads - demand.import_max);
    let wanted = if surplus > 0.0 {
        wanted.max(surplus)
    } else {
        wanted
    };
    wanted.clamp(least, most.max(least))
}

/// The most that the charger draws, as a negative number: what the battery takes and the solar
/// chargers do not deliver.
fn charging(demand: &Demand) -> f64 {
    let wanted = (demand.charge_max - demand.pv_dc).max(0.0) / EFFICIENCY;
    let spare = demand.import_max - (demand.loads_in + demand.loads_out - demand.pv_ac);
    -wanted.min(CHARGER_MAX).min(spare.max(0.0))
}

/// What the inverter can make of this much DC.
fn able(dc: f64) -> f64 {
    to_ac(dc).min(INVERTER_MAX)
}

fn to_ac(dc: f64) -> f64 {
    if dc > 0.0 {
        dc * EFFICIENCY
    } else {
        dc / EFFICIENCY
    }
}

fn to_dc(ac: f64) -> f64 {
    if ac > 0.0 {
        ac / EFFICIENCY
    } else {
        ac * EFFICIENCY
    }
}

/// What of the power comes out of the inverter/charger, either way.
const EFFICIENCY: f64 = 0.94;
/// What the inverter can deliver.
pub(crate) const INVERTER_MAX: f64 = 4400.0;
/// What the charger draws at most.
const CHARGER_MAX: f64 = 3600.0;

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Demand = Demand {
        mode: Mode::On,
        grid_setpoint: 50.0,
        loads_in: 300.0,
        loads_out: 900.0,
        pv_ac: 1500.0,
        pv_dc: 2500.0,
        charge_max: 5000.0,
        discharge_max: 7000.0,
        above_reserve: true,
        import_max: 7000.0,
        feed_in: true,
    };

    fn settle(demand: Demand) -> Flows {
        let flows = Flows::settle(&demand);
        check_balance(&flows);
        flows
    }

    #[track_caller]
    fn check_balance(flows: &Flows) {
        let ac = flows.pv_ac + flows.grid + flows.inverter_ac - flows.loads_in - flows.ac_out;
        let dc = flows.pv_dc - flows.battery - flows.inverter_dc;
        assert!(ac.abs() < 1e-6, "AC off by {ac}: {flows:?}");
        assert!(dc.abs() < 1e-6, "DC off by {dc}: {flows:?}");
        assert!(flows.loss() >= -1e-9, "{flows:?}");
        let whole = flows.pv_ac + flows.pv_dc + flows.grid - flows.battery - flows.loss();
        let loads = flows.loads_in + flows.ac_out;
        assert!((whole - loads).abs() < 1e-6, "{flows:?}");
    }

    #[test]
    fn energy_balances_whatever_is_asked() {
        let modes = [Mode::ChargerOnly, Mode::InverterOnly, Mode::On, Mode::Off];
        let powers = [0.0, 10.0, 800.0, 9000.0];
        let mut count = 0;
        for mode in modes {
            for loads_out in powers {
                for pv_ac in powers {
                    for pv_dc in powers {
                        for charge_max in powers {
                            for discharge_max in powers {
                                for grid_setpoint in [-20_000.0, 50.0, 20_000.0] {
                                    for (above_reserve, feed_in) in
                                        [(false, false), (false, true), (true, true)]
                                    {
                                        let flows = settle(Demand {
                                            mode,
                                            grid_setpoint,
                                            loads_out,
                                            pv_ac,
                                            pv_dc,
                                            charge_max,
                                            discharge_max,
                                            above_reserve,
                                            feed_in,
                                            ..NOON
                                        });
                                        assert!(flows.battery <= charge_max + 1e-6, "{flows:?}");
                                        assert!(flows.pv_dc <= pv_dc + 1e-6, "{flows:?}");
                                        assert!(flows.inverter_ac.abs() <= INVERTER_MAX + 1e-6);
                                        assert!(
                                            -flows.battery <= discharge_max + 1e-6,
                                            "{flows:?}"
                                        );
                                        count += 1;
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(count, 4 * 4_usize.pow(5) * 9);
    }

    #[test]
    fn the_grid_follows_the_set_point() {
        for setpoint in [-1500.0, 0.0, 50.0, 1000.0] {
            let flows = settle(Demand {
                grid_setpoint: setpoint,
                ..NOON
            });
            assert!((flows.grid - setpoint).abs() < 1e-6, "{flows:?}");
        }
    }

    #[test]
    fn the_reserve_is_kept() {
        let flows = settle(Demand {
            pv_ac: 0.0,
            pv_dc: 0.0,
            above_reserve: false,
            ..NOON
        });
        assert!(flows.battery >= 0.0, "{flows:?}");
        assert!((flows.grid - 1200.0).abs() < 1e-6, "{flows:?}");
    }

    #[test]
    fn off_means_no_output() {
        let flows = settle(Demand {
            mode: Mode::Off,
            ..NOON
        });
        assert!(flows.ac_out.abs() < 1e-9 && flows.ac_in.abs() < 1e-9);
        assert!((flows.battery - 2500.0).abs() < 1e-6, "solar still charges");
        assert!((flows.grid - (300.0 - 1500.0)).abs() < 1e-6, "{flows:?}");
    }

    #[test]
    fn a_full_battery_feeds_in_or_throttles() {
        let full = Demand {
            charge_max: 0.0,
            ..NOON
        };
        let flows = settle(full);
        assert!((flows.pv_dc - 2500.0).abs() < 1e-6, "{flows:?}");
        assert!(flows.grid < -2000.0, "{flows:?}");
        let flows = settle(Demand {
            feed_in: false,
            pv_ac: 0.0,
            ..full
        });
        assert!(flows.pv_dc < 1300.0, "{flows:?}");
        assert!((flows.grid - 50.0).abs() < 1e-6, "{flows:?}");
    }

    #[test]
    fn without_the_grid_the_battery_carries_the_output() {
        let flows = settle(Demand {
            mode: Mode::InverterOnly,
            pv_dc: 0.0,
            ..NOON
        });
        assert!((flows.ac_out - 900.0).abs() < 1e-6);
        assert!((flows.battery + 900.0 / EFFICIENCY).abs() < 1e-6);
        let empty = settle(Demand {
            mode: Mode::InverterOnly,
            pv_dc: 0.0,
            discharge_max: 0.0,
            ..NOON
        });
        assert!(empty.ac_out.abs() < 1e-9, "{empty:?}");
    }

    #[test]
    fn modes_have_the_codes_of_the_field() {
        for code in 1..=4_u8 {
            assert_eq!(Mode::from_code(f64::from(code)).unwrap().code(), code);
        }
        assert_eq!(Mode::from_code(0.0), None);
        assert_eq!(Mode::from_code(2.5), None);
    }
}
