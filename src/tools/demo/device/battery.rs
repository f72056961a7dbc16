//! A battery monitor.

use std::time::Duration;

use super::form::{AH, AMPERE, CELSIUS, KWH, PERCENT, SECONDS, VOLT, WATT};
use super::kit::{Device, Identity, element};
use crate::tools::demo::plant::{Bank, Plant};
use crate::tools::item::Item;
use crate::tools::value;

/// The monitor of the battery with this number.
pub(crate) fn battery(index: usize, suffix: &str, instance: u32, name: &str) -> Device {
    let mut device = Device::new(&Identity {
        service_type: "battery",
        suffix,
        instance,
        product_id: 41_865,
        product: "SmartShunt 500A/50mV",
        name,
        connection: "VE.Direct",
        process: "vedirect-dbus",
    });
    device.together = false;
    device.period = Duration::from_millis(1700);
    let of = |read: fn(&Bank) -> f64| move |plant: &Plant| element(&plant.banks, index, read);
    device
        .measure("/Dc/0/Voltage", VOLT, of(|bank| bank.voltage))
        .measure("/Dc/0/Current", AMPERE, of(|bank| bank.current))
        .measure("/Dc/0/Power", WATT, of(Bank::power))
        .measure("/Dc/0/Temperature", CELSIUS, of(|bank| bank.temperature))
        .measure("/Soc", PERCENT, of(|bank| bank.soc))
        .measure("/ConsumedAmphours", AH, of(Bank::consumed))
        .measure_some("/TimeToGo", SECONDS, Plant::time_to_go)
        .state("/History/TotalAhDrawn", AH, of(|bank| -bank.drawn))
        .state("/History/DeepestDischarge", AH, of(|bank| bank.deepest))
        .state(
            "/History/DischargedEnergy",
            KWH,
            of(|bank| bank.drawn * 0.0512),
        )
        .item(
            "/History/MaximumVoltage",
            Item::new(57.6_f64).text("57.60V"),
        )
        .item(
            "/History/MinimumVoltage",
            Item::new(47.1_f64).text("47.10V"),
        )
        .fixed("/History/ChargeCycles", 233_u32)
        .fixed("/History/FullDischarges", 0_u32)
        .fixed("/History/AutomaticSyncs", 177_u32)
        .fixed("/History/LowVoltageAlarms", 0_u32)
        .fixed("/History/HighVoltageAlarms", 0_u32)
        .fixed("/Dc/1/Voltage", value::invalid())
        .fixed("/Settings/HasTemperature", 1_u32)
        .fixed("/Settings/HasStarterVoltage", 0_u32)
        .fixed("/Settings/HasMidVoltage", 0_u32)
        .fixed("/Serial", format!("HQ{instance:09}"))
        .fixed("/Devices/0/DeviceInstance", instance)
        .fixed("/Devices/0/ProductName", "SmartShunt 500A/50mV")
        .open("/Relay/0/State", Item::new(0_u32).range(0_u32, 1_u32));
    let alarms = [
        "/Alarms/Alarm",
        "/Alarms/HighTemperature",
        "/Alarms/HighVoltage",
        "/Alarms/LowSoc",
        "/Alarms/LowTemperature",
        "/Alarms/LowVoltage",
        "/Alarms/MidVoltage",
    ];
    device.all_fixed(alarms, || 0_u32.into());
    device.all_fixed(
        ["/Alarms/LowStarterVoltage", "/Alarms/HighStarterVoltage"],
        value::invalid,
    );
    device
}
