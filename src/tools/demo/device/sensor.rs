//! Tanks and temperatures.

use std::time::Duration;

use super::form::{CELSIUS, CUBIC_METRE, OHM, PERCENT, PERCENT_U};
use super::kit::{Device, Identity, element};
use crate::tools::demo::plant::{Fluid, Place, Plant, Sensor, Tank};
use crate::tools::item::Item;
use crate::tools::value;

/// The tank with this number.
pub(crate) fn tank(index: usize, kind: &Tank, suffix: &str, instance: u32, name: &str) -> Device {
    let mut device = Device::new(&Identity {
        service_type: "tank",
        suffix,
        instance,
        product_id: 41_313,
        product: "Generic Tank Input",
        name,
        connection: "Tank Level input",
        process: "dbus-adc",
    });
    device.period = Duration::from_millis(2300);
    let of = |read: fn(&Tank) -> f64| move |plant: &Plant| element(&plant.tanks, index, read);
    let (code, fluid) = kind.fluid.code();
    let capacity = kind.capacity;
    device
        .measure("/Level", PERCENT_U, of(|tank| tank.level))
        .measure(
            "/Remaining",
            CUBIC_METRE,
            of(|tank| tank.level / 100.0 * tank.capacity),
        )
        .measure("/RawValue", OHM, of(|tank| tank.level * 1.8))
        .item(
            "/FluidType",
            Item::new(code).text(fluid).range(0_i32, 11_i32).writable(),
        )
        .item(
            "/Capacity",
            Item::new(capacity)
                .text(format!("{capacity:.3}m3"))
                .range(0.0_f64, 1000.0_f64)
                .writable(),
        )
        .item("/Status", Item::new(0_u32).text("Ok"))
        .item(
            "/Standard",
            Item::new(0_i32)
                .text("European")
                .range(0_i32, 2_i32)
                .writable(),
        )
        .item("/RawUnit", Item::new("Ω").text("Ω"))
        .item("/RawValueEmpty", Item::new(0.0_f64).text("0ohm").writable())
        .item(
            "/RawValueFull",
            Item::new(180.0_f64).text("180ohm").writable(),
        )
        .item("/FilterLength", Item::new(10_i32).text("10s").writable())
        .open("/Shape", Item::new(""));
    let waste = kind.fluid == Fluid::WasteWater;
    let levels = [("High", 90, 80, waste), ("Low", 10, 15, !waste)];
    for (which, active, restore, enabled) in levels {
        let path = |what: &str| format!("/Alarms/{which}/{what}");
        let enable =
            Item::new(i32::from(enabled)).text(if enabled { "Enabled" } else { "Disabled" });
        device
            .open(&path("Active"), Item::new(active).range(0_i32, 100_i32))
            .open(&path("Restore"), Item::new(restore).range(0_i32, 100_i32))
            .item(&path("Delay"), Item::new(30_i32).text("30s").writable())
            .item(&path("Enable"), enable.range(0_i32, 1_i32).writable())
            .fixed(&path("State"), value::invalid());
    }
    device
}

/// The temperature sensor with this number.
pub(crate) fn temperature(
    index: usize,
    kind: &Sensor,
    suffix: &str,
    instance: u32,
    name: &str,
) -> Device {
    let mut device = Device::new(&Identity {
        service_type: "temperature",
        suffix,
        instance,
        product_id: 49_193,
        product: "RuuviTag",
        name,
        connection: "Bluetooth LE",
        process: "dbus-ble-sensors",
    });
    device.together = false;
    device.period = Duration::from_millis(2900);
    let of = |read: fn(&Sensor) -> f64| move |plant: &Plant| element(&plant.sensors, index, read);
    let (code, place) = kind.place.code();
    device
        .measure("/Temperature", CELSIUS, of(|sensor| sensor.temperature))
        .measure("/Humidity", PERCENT, of(|sensor| sensor.humidity))
        .item(
            "/TemperatureType",
            Item::new(code).text(place).range(0_i32, 6_i32).writable(),
        )
        .item("/BatteryVoltage", Item::new(2.98_f64).text("2.98V"))
        .item(
            "/Offset",
            Item::new(0.0_f64)
                .text("0.0")
                .range(-100.0_f64, 100.0_f64)
                .writable(),
        )
        .item(
            "/Scale",
            Item::new(1.0_f64)
                .text("1.0")
                .range(0.1_f64, 10.0_f64)
                .writable(),
        )
        .item("/Status", Item::new(0_u32).text("Ok"))
        .item("/TxPower", Item::new(4.0_f64).text("4dBm"));
    if kind.place == Place::Outdoor {
        device.item("/Pressure", Item::new(100.19_f64).text("100.2kPa"));
    }
    device
}
