//! The settings store: what persists on a GX device, with ranges and defaults.

use zbus::Variant;

use super::form::{Form, NUMBER, WATT};
use super::kit::{Control, Device};
use crate::tools::demo::plant::Plant;
use crate::tools::item::Item;

/// The settings.
pub(crate) fn settings() -> Device {
    let mut device = Device::bare("settings", "");
    controls(&mut device);
    for (path, value, min, max) in NUMBERS {
        let item = Item::new(*value).range(*min, *max).default(*value);
        device.open(path, item);
    }
    for (path, value) in UNLIMITED {
        device.open(path, Item::new(*value).default(*value));
    }
    for (path, value) in TEXTS {
        device.open(path, Item::new(*value).default(*value));
    }
    for slot in 0..5 {
        let base = format!("/Settings/CGwacs/BatteryLife/Schedule/Charge/{slot}");
        for (what, value, min, max) in SCHEDULE {
            let item = Item::new(*value).range(*min, *max).default(*value);
            device.open(&format!("{base}/{what}"), item);
        }
    }
    device
}

fn controls(device: &mut Device) {
    let percent = NUMBER;
    let plain = Form::labels(super::form::CODE_I, &[]);
    let with_default = |device: &mut Device, default: Variant<'static>| {
        if let Some((_, item)) = device.items.last_mut() {
            item.default = Some(default);
        }
    };
    device.control(
        "/Settings/CGwacs/AcPowerSetPoint",
        WATT,
        Control::GridSetpoint,
        Some((-1_000_000.0, 1_000_000.0)),
        |plant: &Plant| plant.controls.grid_setpoint,
    );
    with_default(device, 50.0.into());
    device.control(
        "/Settings/CGwacs/BatteryLife/MinimumSocLimit",
        percent,
        Control::ReserveSoc,
        Some((0.0, 100.0)),
        |plant| plant.controls.reserve_soc,
    );
    with_default(device, 10.0.into());
    device.control(
        "/Settings/CGwacs/OvervoltageFeedIn",
        plain,
        Control::FeedIn,
        Some((0.0, 1.0)),
        |plant| if plant.controls.feed_in { 1.0 } else { 0.0 },
    );
    with_default(device, 0.into());
    device.control(
        "/Settings/SystemSetup/MaxChargeCurrent",
        plain,
        Control::ChargeCurrentMax,
        Some((-1.0, 10_000.0)),
        |plant| plant.controls.charge_current_max,
    );
    with_default(device, (-1).into());
}

const NUMBERS: &[(&str, i32, i32, i32)] = &[
    ("/Settings/Alarm/System/GridLost", 1, 0, 1),
    ("/Settings/Alarm/Vebus/HighDcRipple", 1, 0, 2),
    ("/Settings/Alarm/Vebus/HighTemperature", 1, 0, 2),
    ("/Settings/Alarm/Vebus/InverterOverload", 1, 0, 2),
    ("/Settings/Alarm/Vebus/LowBattery", 1, 0, 2),
    ("/Settings/CGwacs/PreventFeedback", 0, 0, 1),
    ("/Settings/CGwacs/RunWithoutGridMeter", 0, 0, 1),
    ("/Settings/Canbus/can0/Profile", 0, 0, 4),
    ("/Settings/Canbus/can1/Profile", 2, 0, 4),
    ("/Settings/Generator0/AutoStartEnabled", 0, 0, 1),
    ("/Settings/Generator0/QuietHours/Enabled", 0, 0, 1),
    ("/Settings/Generator0/Soc/Enabled", 0, 0, 1),
    ("/Settings/Generator0/Soc/StartValue", 30, 0, 100),
    ("/Settings/Generator0/Soc/StopValue", 80, 0, 100),
    ("/Settings/Gui/Brightness", 100, 0, 100),
    ("/Settings/Gui/DemoMode", 0, 0, 1),
    ("/Settings/Gui/ElectricalPowerIndicator", 0, 0, 1),
    ("/Settings/Gui/MobileOverview", 0, 0, 1),
    ("/Settings/Network/VrmPortal", 2, 0, 2),
    ("/Settings/Services/AccessPoint", 1, 0, 1),
    ("/Settings/Services/Bol", 1, 0, 1),
    ("/Settings/Services/Modbus", 0, 0, 1),
    ("/Settings/Services/MqttLocal", 1, 0, 1),
    ("/Settings/Services/MqttVrm", 0, 0, 1),
    ("/Settings/System/AccessLevel", 1, 0, 3),
    ("/Settings/System/AutoUpdate", 2, 0, 3),
    ("/Settings/System/ReleaseType", 0, 0, 3),
    ("/Settings/System/RemoteSupport", 0, 0, 1),
    ("/Settings/System/VncInternet", 0, 0, 1),
    ("/Settings/System/VncLocal", 1, 0, 1),
    ("/Settings/SystemSetup/HasAcOutSystem", 1, 0, 1),
    ("/Settings/SystemSetup/HasDcSystem", 0, 0, 1),
    ("/Settings/Vrmlogger/HttpsEnabled", 1, 0, 1),
    ("/Settings/Vrmlogger/Logmode", 1, 0, 2),
    ("/Settings/Watchdog/VrmTimeout", 0, 0, 86_400),
];

const UNLIMITED: &[(&str, i32)] = &[
    ("/Settings/CGwacs/BatteryLife/Flags", 0),
    ("/Settings/CGwacs/BatteryLife/State", 10),
    ("/Settings/CGwacs/Hub4Mode", 2),
    ("/Settings/Gps/Format", 0),
    ("/Settings/Gui/DisplayOff", 0),
    ("/Settings/Relay/Function", 2),
    ("/Settings/Relay/Polarity", 0),
    ("/Settings/System/LogLevel", 2),
    ("/Settings/System/VolumeUnit", 0),
    ("/Settings/SystemSetup/AcInput1", 1),
    ("/Settings/SystemSetup/AcInput2", 0),
    ("/Settings/SystemSetup/SharedVoltageSense", 1),
    ("/Settings/SystemSetup/SharedTemperatureSense", 2),
    ("/Settings/Vrmlogger/LogInterval", 900),
];

const TEXTS: &[(&str, &str)] = &[
    ("/Settings/Gps/SpeedUnit", "km/h"),
    ("/Settings/Gui/Language", "en"),
    ("/Settings/Services/AccessPointPassword", "demo password"),
    ("/Settings/System/TimeZone", "Europe/Amsterdam"),
    ("/Settings/SystemSetup/BatteryService", "default"),
    ("/Settings/SystemSetup/SystemName", "Demo"),
    ("/Settings/Vrmlogger/Url", ""),
];

const SCHEDULE: &[(&str, i32, i32, i32)] = &[
    ("Day", -7, -10, 9),
    ("Duration", 0, 0, 1440),
    ("Soc", 100, 0, 100),
    ("Start", 0, 0, 86_400),
];
