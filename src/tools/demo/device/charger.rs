//! A solar charger, with its month of history.

use std::time::Duration;

use super::form::{AMPERE, COUNT, KWH, MINUTES, NUMBER, STATE, VOLT, WATT};
use super::kit::{Control, Device, Identity, charge_state, element};
use crate::tools::demo::plant::{Charger, DAYS, Plant, SolarDay};
use crate::tools::item::Item;
use crate::tools::value;

/// The solar charger with this number.
pub(crate) fn charger(index: usize, suffix: &str, instance: u32, name: &str) -> Device {
    let mut device = Device::new(&Identity {
        service_type: "solarcharger",
        suffix,
        instance,
        product_id: 41_034,
        product: "SmartSolar Charger MPPT 150/60 rev2",
        name,
        connection: "VE.Direct",
        process: "vedirect-dbus",
    });
    device.together = false;
    device.period = Duration::from_millis(2300);
    now(&mut device, index);
    for day in 0..DAYS {
        history(&mut device, index, day);
    }
    rest(&mut device, instance);
    device
}

fn now(device: &mut Device, index: usize) {
    let of = |read: fn(&Charger) -> f64| move |plant: &Plant| element(&plant.chargers, index, read);
    device
        .control(
            "/Mode",
            COUNT.labels(&[(1, "on"), (4, "off")]),
            Control::ChargerMode(index),
            Some((1.0, 4.0)),
            of(|charger| if charger.on { 1.0 } else { 4.0 }),
        )
        .measure("/Yield/Power", WATT, of(|charger| charger.power))
        .measure("/Pv/V", VOLT, of(panel_voltage))
        .measure(
            "/Pv/I",
            AMPERE,
            of(|charger| charger.power / panel_voltage(charger).max(1.0)),
        )
        .measure("/Dc/0/Voltage", VOLT, Plant::dc_voltage)
        .measure("/Dc/0/Current", AMPERE, move |plant| {
            element(&plant.chargers, index, |charger| charger.power) / plant.dc_voltage()
        })
        .state("/State", STATE, move |plant| {
            let power = element(&plant.chargers, index, |charger| charger.power);
            charge_state(power, plant.soc())
        })
        .state(
            "/MppOperationMode",
            COUNT,
            of(|charger| {
                if charger.power < 1.0 {
                    0.0
                } else if charger.throttled() {
                    1.0
                } else {
                    2.0
                }
            }),
        )
        .state(
            "/DeviceOffReason",
            COUNT,
            of(|charger| {
                if !charger.on {
                    4.0
                } else if charger.available < 1.0 {
                    1.0
                } else {
                    0.0
                }
            }),
        )
        .state("/Yield/User", KWH, of(|charger| charger.total))
        .state("/Yield/System", KWH, of(|charger| charger.total))
        .measure("/Link/BatteryCurrent", AMPERE, |plant| {
            plant.flows.battery / plant.dc_voltage()
        })
        .measure("/Link/VoltageSense", VOLT, Plant::dc_voltage);
}

fn history(device: &mut Device, index: usize, day: usize) {
    let path = |what: &str| format!("/History/Daily/{day}/{what}");
    let of = |read: fn(&SolarDay) -> f64| {
        move |plant: &Plant| {
            element(&plant.chargers, index, |charger| {
                charger.days.get(day).map_or(0.0, read)
            })
        }
    };
    device
        .state(&path("Yield"), KWH, of(|day| day.harvest))
        .state(&path("MaxPower"), WATT, of(|day| day.power_max))
        .state(&path("MaxBatteryVoltage"), VOLT, of(|day| day.battery_max))
        .state(&path("MinBatteryVoltage"), VOLT, of(|day| day.battery_min))
        .state(
            &path("MaxPvVoltage"),
            VOLT,
            of(|day| 70.0 + day.power_max / 100.0),
        )
        .state(
            &path("MaxBatteryCurrent"),
            AMPERE,
            of(|day| day.power_max / 52.0),
        )
        .state(&path("TimeInBulk"), MINUTES, of(|day| day.harvest * 40.0))
        .state(
            &path("TimeInAbsorption"),
            MINUTES,
            of(|day| day.harvest * 4.0),
        )
        .state(&path("TimeInFloat"), MINUTES, of(|day| day.harvest * 6.0));
    #[allow(clippy::cast_precision_loss)] // a month
    let number = 135.0 - day as f64;
    let errors = ["LastError1", "LastError2", "LastError3", "LastError4"];
    device
        .item(
            &path("Nr"),
            Item::new(number).text(NUMBER.text(&number.into())),
        )
        .fixed(&path("Consumption"), value::invalid());
    for error in errors {
        device.fixed(&path(error), 0_i32);
    }
}

fn rest(device: &mut Device, instance: u32) {
    device
        .fixed("/Capabilities/Capabilities1", 651_126_u32)
        .fixed("/ErrorCode", 0_u32)
        .fixed("/GroupId", 10_u32)
        .fixed("/Serial", format!("HQ{instance:09}"))
        .fixed("/NrOfTrackers", 1_u32)
        .fixed("/Load/State", value::invalid())
        .fixed("/Link/NetworkMode", 5_u32)
        .fixed("/Link/NetworkStatus", 4_u32)
        .fixed("/Link/TemperatureSense", value::invalid())
        .fixed("/Link/TemperatureSenseActive", 0_u8)
        .fixed("/Link/VoltageSenseActive", 1_u8)
        .fixed("/Settings/BmsPresent", 0_u32)
        .item(
            "/Settings/ChargeCurrentLimit",
            Item::new(60.0_f64)
                .text("60.0A")
                .range(0.0_f64, 60.0_f64)
                .writable(),
        )
        .fixed("/History/Overall/DaysAvailable", 31_i32)
        .item(
            "/History/Overall/MaxPvVoltage",
            Item::new(91.57_f64).text("91.57V"),
        )
        .item(
            "/History/Overall/MaxBatteryVoltage",
            Item::new(57.6_f64).text("57.60V"),
        )
        .item(
            "/History/Overall/MinBatteryVoltage",
            Item::new(47.1_f64).text("47.10V"),
        )
        .fixed("/Alarms/HighVoltage", 0_i32)
        .fixed("/Alarms/LowVoltage", 0_i32)
        .open("/Relay/0/State", Item::new(0_i32).range(0_i32, 1_i32));
}

fn panel_voltage(charger: &Charger) -> f64 {
    if charger.available < 1.0 {
        return 4.0;
    }
    // Towards open circuit where the charger takes less than it could.
    let used = (charger.power / charger.available).clamp(0.0, 1.0);
    88.0 - 16.0 * used + 6.0 * charger.available / charger.peak
}
