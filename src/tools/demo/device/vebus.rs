//! The inverter/charger: a single-phase MultiPlus-II with its grid relay, as an energy storage
//! system.

use std::time::Duration;

use super::form::{
    AMPERE, CODE_Y, COUNT, Form, HERTZ, KWH, LED, PERCENT, STATE, VA, VOLT, VOLT_AC, WATT_I,
    WATT_N, YES,
};
use super::kit::{Control, Device, Identity, charge_state};
use crate::tools::demo::plant::{INVERTER_MAX, Mode, Plant};
use crate::tools::item::Item;
use crate::tools::value;

/// The inverter/charger.
pub(crate) fn vebus() -> Device {
    let mut device = Device::new(&Identity {
        service_type: "vebus",
        suffix: "ttyS4",
        instance: 276,
        product_id: 9763,
        product: "MultiPlus-II 48/5000/70-50",
        name: "",
        connection: "VE.Bus",
        process: "mk2-dbus",
    });
    device.period = Duration::from_millis(1500);
    switches(&mut device);
    input(&mut device);
    output(&mut device);
    direct_current(&mut device);
    energy(&mut device);
    lamps_and_alarms(&mut device);
    rest(&mut device);
    device
}

fn switches(device: &mut Device) {
    let modes = COUNT.labels(&[
        (1, "charger only"),
        (2, "inverter only"),
        (3, "on"),
        (4, "off"),
    ]);
    let limit = |plant: &Plant| plant.controls.input_limit;
    device
        .control("/Mode", modes, Control::Mode, Some((1.0, 4.0)), |plant| {
            f64::from(plant.controls.mode.code())
        })
        .fixed("/ModeIsAdjustable", 1_u32)
        .control(
            "/Ac/In/1/CurrentLimit",
            AMPERE,
            Control::InputLimit,
            Some((0.0, 50.0)),
            limit,
        )
        .control(
            "/Ac/ActiveIn/CurrentLimit",
            AMPERE,
            Control::InputLimit,
            Some((0.0, 50.0)),
            limit,
        )
        .fixed("/Ac/In/1/CurrentLimitIsAdjustable", 1_u32)
        .fixed("/Ac/ActiveIn/CurrentLimitIsAdjustable", 1_u32)
        .state("/State", STATE, state);
}

fn input(device: &mut Device) {
    let power = |plant: &Plant| plant.flows.ac_in;
    let voltage = |plant: &Plant| connected(plant, plant.mains_voltage());
    device
        .measure("/Ac/ActiveIn/P", WATT_I, power)
        .measure("/Ac/ActiveIn/L1/P", WATT_I, power)
        .measure("/Ac/ActiveIn/S", VA, apparent(power))
        .measure("/Ac/ActiveIn/L1/S", VA, apparent(power))
        .measure_some("/Ac/ActiveIn/L1/V", VOLT_AC, voltage)
        .measure_some("/Ac/ActiveIn/L1/I", AMPERE, move |plant| {
            voltage(plant).map(|volts| plant.flows.ac_in / volts)
        })
        .measure_some("/Ac/ActiveIn/L1/F", HERTZ, |plant| {
            connected(plant, frequency(plant))
        })
        .state("/Ac/ActiveIn/Connected", YES, |plant| {
            flag(plant.flows.connected)
        })
        .state("/Ac/ActiveIn/ActiveInput", COUNT, |plant| {
            if plant.flows.connected { 0.0 } else { 240.0 }
        });
    let phases = ["L2", "L3"].into_iter();
    for (phase, what) in
        phases.flat_map(|phase| ["P", "S", "V", "I", "F"].map(|what| (phase, what)))
    {
        device.fixed(&format!("/Ac/ActiveIn/{phase}/{what}"), value::invalid());
        device.fixed(&format!("/Ac/Out/{phase}/{what}"), value::invalid());
    }
}

fn output(device: &mut Device) {
    let power = |plant: &Plant| plant.flows.ac_out;
    device
        .measure("/Ac/Out/P", WATT_I, power)
        .measure("/Ac/Out/L1/P", WATT_I, power)
        .measure("/Ac/Out/S", VA, apparent(power))
        .measure("/Ac/Out/L1/S", VA, apparent(power))
        .measure("/Ac/Out/L1/V", VOLT_AC, Plant::output_voltage)
        .measure("/Ac/Out/L1/I", AMPERE, |plant| {
            let volts = plant.output_voltage();
            if volts > 0.0 {
                plant.flows.ac_out / volts
            } else {
                0.0
            }
        })
        .measure_some("/Ac/Out/L1/F", HERTZ, |plant| {
            (plant.controls.mode != Mode::Off).then(|| frequency(plant))
        });
    #[allow(clippy::cast_possible_truncation)] // a few kW
    let nominal = INVERTER_MAX as i32;
    for path in [
        "/Ac/Out/NominalInverterPower",
        "/Ac/Out/L1/NominalInverterPower",
    ] {
        device.item(path, Item::new(nominal).text(format!("{nominal}W")));
    }
}

fn direct_current(device: &mut Device) {
    let current = |plant: &Plant| -plant.flows.inverter_dc / plant.dc_voltage();
    device
        .measure("/Dc/0/Voltage", VOLT, Plant::dc_voltage)
        .measure("/Dc/0/Current", AMPERE, current)
        .measure("/Dc/0/Power", WATT_I, |plant| -plant.flows.inverter_dc)
        .fixed("/Dc/0/Temperature", value::invalid())
        .item("/Dc/0/MaxChargeCurrent", Item::new(70.0_f64).text("70.0A"))
        .open(
            "/Dc/0/PreferRenewableEnergy",
            Item::new(0_i32).range(0_i32, 2_i32),
        )
        .measure("/Soc", PERCENT, Plant::soc)
        .measure("/Devices/0/Ac/Inverter/P", WATT_N, |plant| {
            -plant.flows.inverter_dc
        })
        .measure("/Devices/0/Ac/Out/P", WATT_N, |plant| plant.flows.ac_out)
        .measure("/Devices/0/Ac/In/P", WATT_N, |plant| plant.flows.ac_in)
        .measure("/Hub4/L1/AcPowerSetpoint", WATT_I, |plant| {
            plant.flows.ac_in
        });
}

fn energy(device: &mut Device) {
    device
        .state("/Energy/AcIn1ToAcOut", KWH, |plant| {
            plant.energy.input_to_output
        })
        .state("/Energy/AcIn1ToInverter", KWH, |plant| {
            plant.energy.input_to_dc
        })
        .state("/Energy/InverterToAcOut", KWH, |plant| {
            plant.energy.dc_to_output
        })
        .state("/Energy/InverterToAcIn1", KWH, |plant| {
            plant.energy.dc_to_input
        });
    let still = [
        "/Energy/AcIn2ToAcOut",
        "/Energy/AcIn2ToInverter",
        "/Energy/AcOutToAcIn1",
        "/Energy/AcOutToAcIn2",
        "/Energy/InverterToAcIn2",
        "/Energy/OutToInverter",
    ];
    for path in still {
        device.item(path, Item::new(0.0_f64).text("0.00kWh"));
    }
}

fn lamps_and_alarms(device: &mut Device) {
    let is_state = |wanted: f64| move |plant: &Plant| flag((state(plant) - wanted).abs() < 0.5);
    device
        .state("/Leds/Mains", LED, |plant| flag(plant.flows.connected))
        .state("/Leds/Bulk", LED, is_state(3.0))
        .state("/Leds/Absorption", LED, is_state(4.0))
        .state("/Leds/Float", LED, is_state(5.0))
        .state("/Leds/Inverter", LED, |plant| {
            flag(plant.flows.inverter_ac > 1.0)
        })
        .state("/Leds/Overload", LED, |plant| {
            flag(plant.flows.inverter_ac > INVERTER_MAX * 0.99)
        })
        .state("/Leds/LowBattery", LED, |plant| flag(plant.soc() < 5.0))
        .item("/Leds/Temperature", Item::new(0_u8).text("off"))
        .state("/Alarms/LowBattery", alarm(), |plant| {
            flag(plant.soc() < 5.0)
        })
        .state("/Alarms/Overload", alarm(), |plant| {
            flag(plant.flows.inverter_ac > INVERTER_MAX * 0.99)
        })
        .state("/Alarms/GridLost", alarm(), |plant| {
            if plant.grid_lost() { 2.0 } else { 0.0 }
        });
    let phases = ["L1", "L2", "L3"];
    let per_phase = [
        "HighTemperature",
        "InverterImbalance",
        "LowBattery",
        "MainsImbalance",
        "Overload",
        "Ripple",
    ];
    for (phase, what) in phases
        .into_iter()
        .flat_map(|phase| per_phase.map(|what| (phase, what)))
    {
        device.item(
            &format!("/Alarms/{phase}/{what}"),
            Item::new(0_u32).text("ok"),
        );
    }
    let whole = [
        "BmsConnectionLost",
        "HighDcCurrent",
        "HighDcVoltage",
        "HighTemperature",
        "PhaseRotation",
        "Ripple",
        "TemperatureSensor",
        "VoltageSensor",
    ];
    for what in whole {
        device.item(&format!("/Alarms/{what}"), Item::new(0_u32).text("ok"));
    }
}

fn rest(device: &mut Device) {
    device
        .fixed("/Ac/NumberOfAcInputs", 1_i32)
        .fixed("/Ac/NumberOfPhases", 1_u32)
        .fixed("/Ac/PowerMeasurementType", 4_u32)
        .fixed("/Ac/State/AcIn1Available", 1_i32)
        .fixed("/Bms/AllowToCharge", 1_i32)
        .fixed("/Bms/AllowToDischarge", 1_i32)
        .fixed("/Bms/BmsExpected", 0_i32)
        .fixed("/Bms/Error", 0_i32)
        .fixed("/Devices/0/Version", 2_623_505_u32)
        .fixed("/Devices/0/SerialNumber", "HQ0000DEMO0")
        .fixed("/Devices/0/Settings/PowerAssistEnabled", true)
        .fixed("/Devices/0/Settings/UpsFunction", false)
        .fixed("/Devices/NumberOfMultis", 1_i32)
        .item("/Hub4/AssistantId", Item::new(5_u16).text("ESS"))
        .open("/Hub4/DisableCharge", Item::new(0_i32).range(0_i32, 1_i32))
        .open("/Hub4/DisableFeedIn", Item::new(0_i32).range(0_i32, 1_i32))
        .fixed("/Hub4/L1/MaxFeedInPower", 32_766_i32)
        .fixed("/Hub4/Sustain", 0_i32)
        .fixed("/Interfaces/Mk2/Connection", "/dev/ttyS4")
        .fixed("/Interfaces/Mk2/ProductName", "MK3")
        .fixed("/Interfaces/Mk2/Status/BusFreeMode", 1_u32)
        .fixed("/PvInverter/Disable", 0_i32)
        .fixed("/VebusError", 0_u8)
        .state("/VebusChargeState", COUNT, |plant| {
            (state(plant) - 2.0).clamp(0.0, 3.0)
        })
        .state("/VebusMainState", COUNT, |plant| {
            if plant.flows.connected { 9.0 } else { 6.0 }
        })
        .state("/ExtraBatteryCurrent", AMPERE, |plant| {
            plant.flows.pv_dc / plant.dc_voltage()
        })
        .fixed("/FirmwareFeatures/BolFrame", 1_u8)
        .fixed("/FirmwareFeatures/IBatSOCBroadcast", 1_u8)
        .state("/FirmwareFeatures/SetChargeState", CODE_Y, |_| 1.0);
    let mut assistants = vec![0_u8; 56];
    assistants.splice(0..2, [140, 1]);
    device.item(
        "/Devices/0/Assistants",
        Item::new(zbus::Variant::from(assistants)).text("0x018c"),
    );
}

fn state(plant: &Plant) -> f64 {
    let power = plant.flows.inverter_ac;
    match plant.mode() {
        Mode::Off => 0.0,
        Mode::InverterOnly => 9.0,
        Mode::ChargerOnly | Mode::On if power < -20.0 => charge_state(-power, plant.soc()),
        // A charger charges, and be it with nothing.
        Mode::ChargerOnly => charge_state(2.0, plant.soc()),
        Mode::On if power > 20.0 => 252.0,
        Mode::On => 8.0,
    }
}

fn alarm() -> Form {
    COUNT.labels(&[(0, "ok"), (1, "warning"), (2, "alarm")])
}

fn apparent(power: fn(&Plant) -> f64) -> impl Fn(&Plant) -> f64 {
    move |plant| {
        let watts = power(plant);
        watts.signum() * (watts * watts + 40.0 * 40.0).sqrt()
    }
}

fn connected(plant: &Plant, value: f64) -> Option<f64> {
    plant.flows.connected.then_some(value)
}

/// The grid's frequency wanders with its voltage here, for want of a power station.
fn frequency(plant: &Plant) -> f64 {
    50.0 + (plant.mains_voltage() - 230.0) * 0.005
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}
