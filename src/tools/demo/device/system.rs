//! The system service: what the GX device computes from all others.

use std::time::Duration;

use zbus::{Signature, Variant};

use super::form::{
    AH, AMPERE, AMPERE_AC, CELSIUS, CODE_I, COUNT, PERCENT, SECONDS, STATE, VOLT, WATT,
};
use super::kit::{Control, Device, charge_state};
use crate::tools::demo::plant::{Bank, Plant, PvInverter};
use crate::tools::item::Item;
use crate::tools::value;

/// The system service.
pub(crate) fn system(portal_id: &str) -> Device {
    let mut device = Device::bare("system", "");
    device.management("data from other dbus processes", "dbus-systemcalc-py");
    device
        .fixed("/DeviceInstance", 0_i32)
        .fixed("/ProductId", value::invalid())
        .fixed("/ProductName", "Demo installation")
        .fixed("/FirmwareVersion", 1_u32)
        .fixed("/Connected", 1_i32)
        .fixed("/Serial", portal_id.to_owned())
        .fixed("/SystemType", "ESS")
        .fixed("/Hub", 4_i32)
        .fixed("/HasDcSystem", 0_i32);
    device.period = Duration::from_secs(2);
    alternating_current(&mut device);
    direct_current(&mut device);
    control(&mut device);
    device
}

fn alternating_current(device: &mut Device) {
    let loads: Sum = |plant| plant.flows.loads_in + plant.flows.ac_out;
    let pv: Sum = |plant| plant.pv_inverters.iter().map(solar).sum();
    let quantities: [(&str, Sum); 5] = [
        ("Consumption", loads),
        ("ConsumptionOnInput", |plant| plant.flows.loads_in),
        ("ConsumptionOnOutput", |plant| plant.flows.ac_out),
        ("Grid", |plant| plant.flows.grid),
        ("PvOnGrid", pv),
    ];
    for (what, power) in quantities {
        device
            .measure(&format!("/Ac/{what}/L1/Power"), WATT, power)
            .measure(&format!("/Ac/{what}/L1/Current"), AMPERE_AC, move |plant| {
                power(plant) / plant.mains_voltage()
            })
            .fixed(&format!("/Ac/{what}/NumberOfPhases"), 1_i32);
        for phase in ["L2", "L3"] {
            device.fixed(&format!("/Ac/{what}/{phase}/Power"), value::invalid());
            device.fixed(&format!("/Ac/{what}/{phase}/Current"), value::invalid());
        }
    }
    for what in ["Genset", "PvOnGenset", "PvOnOutput"] {
        for phase in ["L1", "L2", "L3"] {
            device.fixed(&format!("/Ac/{what}/{phase}/Power"), value::invalid());
        }
        device.fixed(&format!("/Ac/{what}/NumberOfPhases"), 0_i32);
    }
    let sources = COUNT.labels(&[(1, "Grid"), (240, "Inverting")]);
    device
        .measure("/Ac/ActiveIn/L1/Power", WATT, |plant| plant.flows.ac_in)
        .measure("/Ac/ActiveIn/L1/Current", AMPERE_AC, |plant| {
            plant.flows.ac_in / plant.mains_voltage()
        })
        .fixed("/Ac/ActiveIn/NumberOfPhases", 1_i32)
        .fixed("/Ac/ActiveIn/ServiceType", "vebus")
        .fixed("/Ac/ActiveIn/FeedbackEnabled", 1_i32)
        .state("/Ac/ActiveIn/Source", sources, |plant| {
            if plant.flows.connected && !plant.grid_lost() {
                1.0
            } else {
                240.0
            }
        })
        .fixed("/Ac/Grid/DeviceType", 71_i32)
        .fixed("/Ac/Grid/ProductId", 45_058_i32)
        .fixed("/Ac/HasAcLoads", 1_i32)
        .state("/Ac/In/0/Connected", CODE_I, |plant| {
            if plant.flows.connected { 1.0 } else { 0.0 }
        })
        .fixed("/Ac/In/0/DeviceInstance", 30_i32)
        .fixed(
            "/Ac/In/0/ServiceName",
            "com.victronenergy.grid.cgwacs_ttyUSB0_di30_mb1",
        )
        .fixed("/Ac/In/0/ServiceType", "grid")
        .fixed("/Ac/In/0/Source", 1_i32);
}

fn direct_current(device: &mut Device) {
    let current: Sum = |plant| plant.banks.iter().map(|bank| bank.current).sum();
    let battery: Sum = |plant| plant.flows.battery;
    let inverter: Sum = |plant| -plant.flows.inverter_dc;
    let states = CODE_I.labels(&[(0, "idle"), (1, "charging"), (2, "discharging")]);
    device
        .measure("/Dc/Battery/Voltage", VOLT, Plant::dc_voltage)
        .measure("/Dc/Battery/Current", AMPERE, current)
        .measure("/Dc/Battery/Power", WATT, battery)
        .measure("/Dc/Battery/Soc", PERCENT, Plant::soc)
        .measure("/Dc/Battery/ConsumedAmphours", AH, |plant| {
            plant.banks.iter().map(Bank::consumed).sum()
        })
        .measure("/Dc/Battery/Temperature", CELSIUS, |plant| {
            plant.banks.first().map_or(0.0, |bank| bank.temperature)
        })
        .measure_some("/Dc/Battery/TimeToGo", SECONDS, Plant::time_to_go)
        .state("/Dc/Battery/State", states, |plant| {
            if plant.flows.battery > 30.0 {
                1.0
            } else if plant.flows.battery < -30.0 {
                2.0
            } else {
                0.0
            }
        })
        .state("/Dc/Battery/Capacity", AH, Plant::capacity)
        .fixed("/Dc/Battery/BatteryService", BATTERY)
        .measure("/Dc/Pv/Power", WATT, |plant| plant.flows.pv_dc)
        .measure("/Dc/Pv/Current", AMPERE, |plant| {
            plant.flows.pv_dc / plant.dc_voltage()
        })
        .measure("/Dc/Vebus/Power", WATT, inverter)
        .measure("/Dc/Vebus/Current", AMPERE, move |plant| {
            inverter(plant) / plant.dc_voltage()
        })
        .measure("/Dc/InverterCharger/Power", WATT, inverter)
        .measure("/Dc/InverterCharger/Current", AMPERE, move |plant| {
            inverter(plant) / plant.dc_voltage()
        })
        .fixed("/Dc/System/Power", value::invalid())
        .fixed("/Dc/Charger/Power", value::invalid())
        .fixed("/Dc/Alternator/Power", value::invalid())
        .made("/Batteries", batteries);
}

fn control(device: &mut Device) {
    let relays = CODE_I.labels(&[(0, "Open"), (1, "Closed")]);
    for relay in 0..2 {
        device.control(
            &format!("/Relay/{relay}/State"),
            relays,
            Control::Relay(relay),
            Some((0.0, 1.0)),
            move |plant| {
                let closed = plant.controls.relays.get(relay).copied();
                if closed.unwrap_or(false) { 1.0 } else { 0.0 }
            },
        );
    }
    device
        .state("/SystemState/State", STATE, |plant| {
            if plant.flows.inverter_ac > 20.0 {
                252.0
            } else {
                charge_state(plant.flows.battery, plant.soc())
            }
        })
        .state("/SystemState/LowSoc", COUNT, |plant| {
            let low = plant.soc() <= plant.controls.reserve_soc;
            if low { 1.0 } else { 0.0 }
        })
        .fixed("/SystemState/BatteryLife", 0_i32)
        .fixed("/SystemState/ChargeDisabled", 0_i32)
        .fixed("/SystemState/DischargeDisabled", 0_i32)
        .fixed("/SystemState/SlowCharge", 0_i32)
        .fixed("/SystemState/UserChargeLimited", 0_i32)
        .fixed("/SystemState/UserDischargeLimited", 0_i32)
        .measure("/Control/ActiveSocLimit", PERCENT, |plant| {
            plant.controls.reserve_soc
        })
        .fixed("/Control/Dvcc", 1_i32)
        .fixed("/Control/SolarChargeCurrent", 0_i32)
        .fixed("/Control/SolarChargeVoltage", 0_i32)
        .fixed("/Control/ExtraBatteryCurrent", 1_i32)
        .fixed("/Control/ScheduledCharge", 0_i32)
        .open("/Buzzer/State", Item::new(0_i32).range(0_i32, 1_i32))
        .open("/Pv/Disable", Item::new(0_i32).range(0_i32, 1_i32))
        .fixed("/ActiveBatteryService", "com.victronenergy.battery/288")
        .fixed("/AutoSelectedBatteryService", "SmartShunt 500A/50mV on VE.Direct")
        .fixed("/AutoSelectedBatteryMeasurement", "com_victronenergy_battery_288/Dc/0")
        .fixed(
            "/AvailableBatteryServices",
            r#"{"default":"Automatic","nobattery":"No battery monitor","com.victronenergy.battery/288":"SmartShunt 500A/50mV on VE.Direct"}"#,
        )
        .fixed("/VebusService", "com.victronenergy.vebus.ttyS4")
        .fixed("/VebusInstance", 276_i32);
}

/// A list of dicts, as the system service publishes its batteries; those that it cannot tell are left out.
fn batteries(plant: &Plant) -> Variant<'static> {
    let current: f64 = plant.banks.iter().map(|bank| bank.current).sum();
    let state = if plant.flows.battery > 30.0 {
        1
    } else if plant.flows.battery < -30.0 {
        2
    } else {
        0
    };
    let round = |number: f64| (number * 10.0).round() / 10.0;
    let mut battery = serde_json::json!({
        "id": BATTERY, "instance": 288, "name": "House battery", "active_battery_service": true,
        "soc": round(plant.soc()), "voltage": round(plant.dc_voltage() * 10.0) / 10.0,
        "current": round(current), "power": plant.flows.battery.round(), "state": state,
    });
    if let (Some(seconds), Some(members)) = (plant.time_to_go(), battery.as_object_mut()) {
        members.insert("timetogo".to_owned(), seconds.round().into());
    }
    let json = serde_json::Value::Array(vec![battery]);
    let signature = Signature::array(Signature::dict(Signature::Str, Signature::Variant));
    value::from_json(&signature, &json).unwrap_or_else(|_| value::invalid())
}

fn solar(inverter: &PvInverter) -> f64 {
    inverter.power
}

type Sum = fn(&Plant) -> f64;

/// The battery that the system shows.
const BATTERY: &str = "com.victronenergy.battery.ttyS5";
