//! Energy meters: at the grid, at the PV inverters, at circuits of the house.

use std::time::Duration;

use super::form::{AMPERE_AC, CODE_I, Form, HERTZ, KWH, VOLT_AC, WATT};
use super::kit::{Control, Device, Identity, element};
use crate::tools::demo::plant::{Plant, PvInverter};
use crate::tools::item::Item;
use crate::tools::value;

/// The meter at the grid connection.
pub(crate) fn grid() -> Device {
    let mut device = Device::new(&Identity {
        service_type: "grid",
        suffix: "cgwacs_ttyUSB0_di30_mb1",
        instance: 30,
        product_id: 45_058,
        product: "Grid meter",
        name: "",
        connection: "/dev/ttyUSB0",
        process: "dbus-cgwacs",
    });
    device.period = Duration::from_secs(1);
    meter(
        &mut device,
        |plant| plant.flows.grid,
        |plant| {
            if plant.grid_lost() {
                0.0
            } else {
                plant.mains_voltage()
            }
        },
    );
    let (taken, given): (Count, Count) =
        (|plant| plant.energy.grid_in, |plant| plant.energy.grid_out);
    for path in ["/Ac/Energy/Forward", "/Ac/L1/Energy/Forward"] {
        device.state(path, KWH, move |plant| 2375.5 + taken(plant));
    }
    for path in ["/Ac/Energy/Reverse", "/Ac/L1/Energy/Reverse"] {
        device.state(path, KWH, move |plant| 3639.48 + given(plant));
    }
    let phases = ["L2", "L3"].into_iter();
    let items = [
        "Power",
        "Current",
        "Voltage",
        "Energy/Forward",
        "Energy/Reverse",
    ];
    for (phase, what) in phases.flat_map(|phase| items.map(|what| (phase, what))) {
        device.fixed(&format!("/Ac/{phase}/{what}"), value::invalid());
    }
    device
        .measure("/Ac/Frequency", HERTZ, |plant| {
            50.0 + (plant.mains_voltage() - 230.0) * 0.005
        })
        .fixed("/DeviceType", 71_i32)
        .fixed("/ErrorCode", 0_i32)
        .fixed("/Role", "grid")
        .fixed("/Serial", "BP0000000DEMO");
    device
}

/// The PV inverter with this number.
pub(crate) fn pv_inverter(index: usize, suffix: &str, instance: u32, name: &str) -> Device {
    let mut device = Device::new(&Identity {
        service_type: "pvinverter",
        suffix,
        instance,
        product_id: 41_282,
        product: "Fronius Primo 3.0-1",
        name,
        connection: "192.0.2.76 - 1",
        process: "dbus-fronius",
    });
    device.period = Duration::from_millis(1700);
    let of = |read: fn(&PvInverter) -> f64| {
        move |plant: &Plant| element(&plant.pv_inverters, index, read)
    };
    meter(
        &mut device,
        of(|inverter| inverter.power),
        Plant::mains_voltage,
    );
    let statuses = CODE_I.labels(&[(7, "Running"), (8, "Standby")]);
    device
        .state("/Ac/Energy/Forward", KWH, of(|inverter| inverter.total))
        .state("/Ac/L1/Energy/Forward", KWH, of(|inverter| inverter.total))
        .state(
            "/StatusCode",
            statuses,
            of(|inverter| if inverter.power > 1.0 { 7.0 } else { 8.0 }),
        )
        .control(
            "/Ac/PowerLimit",
            WATT,
            Control::PowerLimit(index),
            Some((0.0, 100_000.0)),
            of(|inverter| inverter.limit),
        )
        .state("/Ac/MaxPower", WATT, of(|inverter| inverter.peak))
        .fixed("/ErrorCode", 0_i32)
        .open("/Position", Item::new(0_i32).range(0_i32, 2_i32))
        .fixed("/FroniusDeviceType", 76_i32)
        .fixed("/Serial", format!("{}", 279_000 + instance));
    for (phase, what) in ["L2", "L3"].into_iter().flat_map(|phase| {
        ["Power", "Current", "Voltage", "Energy/Forward"].map(|what| (phase, what))
    }) {
        device.fixed(&format!("/Ac/{phase}/{what}"), value::invalid());
    }
    device
}

/// A metered circuit of the house: its share of the loads at the output.
pub(crate) fn circuit(index: usize, suffix: &str, instance: u32, name: &str) -> Device {
    let mut device = Device::new(&Identity {
        service_type: "acload",
        suffix,
        instance,
        product_id: 45_079,
        product: "Energy Meter EM24",
        name,
        connection: "Modbus TCP 192.0.2.90",
        process: "dbus-modbus-client.py",
    });
    device.period = Duration::from_millis(1900);
    // Each circuit draws less than the one before; together never more than there is.
    #[allow(clippy::cast_precision_loss)] // a few hundred
    let share = 0.6 / (index as f64 + 1.0) / (index as f64 + 2.0);
    meter(
        &mut device,
        move |plant| plant.flows.ac_out * share,
        Plant::output_voltage,
    );
    for path in ["/Ac/Energy/Forward", "/Ac/L1/Energy/Forward"] {
        device.state(path, KWH, move |plant| {
            812.0 + plant.energy.loads_out * share
        });
    }
    device
        .fixed("/ErrorCode", 0_i32)
        .fixed("/DeviceType", 347_i32)
        .fixed("/Role", "acload")
        .fixed("/Serial", format!("EM{instance:07}"));
    device
}

type Count = fn(&Plant) -> f64;

/// What every single-phase meter measures.
fn meter(
    device: &mut Device,
    power: impl Fn(&Plant) -> f64 + Send + Sync + Copy + 'static,
    voltage: fn(&Plant) -> f64,
) {
    let current = move |plant: &Plant| {
        let volts = voltage(plant);
        if volts > 0.0 {
            power(plant) / volts
        } else {
            0.0
        }
    };
    let mut both = |what: &str, form: Form, read: fn(&Plant) -> f64| {
        device.measure(&format!("/Ac/{what}"), form, read);
        device.measure(&format!("/Ac/L1/{what}"), form, read);
    };
    both("Voltage", VOLT_AC, voltage);
    for prefix in ["/Ac", "/Ac/L1"] {
        device.measure(&format!("{prefix}/Power"), WATT, power);
        device.measure(&format!("{prefix}/Current"), AMPERE_AC, current);
    }
}
