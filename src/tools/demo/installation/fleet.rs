//! Which devices there are.

use crate::tools::demo::device::{self, Device};
use crate::tools::demo::plant::{Bank, Charger, Fluid, Place, Plant, PvInverter, Sensor, Tank};

/// The devices, and the parts of the plant that they show.
pub(super) fn devices_of(plant: &mut Plant, portal_id: &str, count: usize) -> Vec<Device> {
    let mut devices = vec![
        device::system(portal_id),
        device::settings(),
        device::vebus(),
        device::battery(0, "ttyS5", 288, "House battery"),
        device::charger(0, "ttyS6", 289, "Roof south"),
        device::charger(1, "ttyS7", 290, "Roof east"),
        device::grid(),
        device::pv_inverter(0, "fronius_76_279020", 20, "Garage"),
    ];
    let (fresh, waste) = (
        Tank::new(Fluid::FreshWater, 0.4, 0.0),
        Tank::new(Fluid::WasteWater, 0.3, 0.0),
    );
    devices.push(device::tank(0, &fresh, "adc_builtin0_1", 21, "Fresh water"));
    devices.push(device::tank(1, &waste, "adc_builtin0_2", 22, "Waste water"));
    let (fridge, outdoor) = (Sensor::new(Place::Fridge), Sensor::new(Place::Outdoor));
    devices.push(device::temperature(
        0,
        &fridge,
        "ruuvi_demo00000001",
        24,
        "Fridge",
    ));
    devices.push(device::temperature(
        1,
        &outdoor,
        "ruuvi_demo00000002",
        25,
        "Outside",
    ));
    debug_assert_eq!(devices.len(), DEVICES_MIN);
    for number in 0..count.saturating_sub(DEVICES_MIN) {
        devices.push(extra(plant, number));
    }
    devices
}

/// One more device: the kinds take turns.
fn extra(plant: &mut Plant, number: usize) -> Device {
    let instance = 1000 + u32::try_from(number).unwrap_or(u32::MAX - 1000);
    let suffix = format!("demo_{instance}");
    let seed = u64::from(instance);
    #[allow(clippy::cast_precision_loss)] // a few hundred
    let variety = (number * 37 % 100) as f64;
    match number % 8 {
        0 => {
            let peak = 600.0 + variety * 20.0;
            plant
                .chargers
                .push(Charger::new(peak, variety / 50.0 - 1.0, seed));
            let name = format!("Solar {}", plant.chargers.len());
            device::charger(plant.chargers.len() - 1, &suffix, instance, &name)
        }
        1 | 6 => {
            let fluids = [Fluid::Fuel, Fluid::FreshWater, Fluid::WasteWater];
            let fluid = fluids.get(number / 4 % 3).copied().unwrap_or(Fluid::Fuel);
            let tank = Tank::new(fluid, 0.1 + variety / 200.0, 15.0 + variety * 0.7);
            plant.tanks.push(tank.clone());
            let name = format!("{} {}", fluid.code().1, plant.tanks.len());
            device::tank(plant.tanks.len() - 1, &tank, &suffix, instance, &name)
        }
        2 | 5 => {
            let places = [Place::Room, Place::Fridge, Place::Outdoor];
            let place = places.get(number / 4 % 3).copied().unwrap_or(Place::Room);
            let sensor = Sensor::new(place);
            plant.sensors.push(sensor.clone());
            let name = format!("{} {}", place.code().1, plant.sensors.len());
            device::temperature(plant.sensors.len() - 1, &sensor, &suffix, instance, &name)
        }
        3 => {
            plant.circuits += 1;
            let name = format!("Circuit {}", plant.circuits);
            device::circuit(plant.circuits - 1, &suffix, instance, &name)
        }
        4 => {
            plant
                .banks
                .push(Bank::new(100.0 + variety * 2.0, 40.0 + variety / 2.0));
            let name = format!("Battery {}", plant.banks.len());
            device::battery(plant.banks.len() - 1, &suffix, instance, &name)
        }
        _ => {
            plant.pv_inverters.push(PvInverter::new(
                800.0 + variety * 15.0,
                1.0 - variety / 50.0,
            ));
            let name = format!("PV inverter {}", plant.pv_inverters.len());
            device::pv_inverter(plant.pv_inverters.len() - 1, &suffix, instance, &name)
        }
    }
}

/// The devices of the smallest installation.
pub(crate) const DEVICES_MIN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{self, DataType};
    use crate::tools::demo::installation::Installation;
    use crate::tools::recording::service_type;
    use crate::tools::value;

    /// One of each kind, so that whoever tries the demo sees what a device would send.
    #[test]
    fn the_devices_have_the_types_that_the_schema_knows() {
        let fits = |data: &DataType, found: &str| match data {
            DataType::Unknown => true,
            DataType::Number => "ynqiuxtd".contains(found),
            DataType::Bool => found == "b",
            DataType::Byte => found == "y",
            DataType::Int16 => found == "n",
            DataType::Uint16 => found == "q",
            DataType::Int32 => found == "i",
            DataType::Uint32 => found == "u",
            DataType::Int64 => found == "x",
            DataType::Uint64 => found == "t",
            DataType::Double => found == "d",
            DataType::Text => found == "s",
            DataType::Compound(signature) => found == signature,
        };
        let installation = Installation::new("demo", DEVICES_MIN + 8, None, 1);
        for (device, name) in installation.names().enumerate() {
            for (path, item) in installation.items(device) {
                let data = &schema::lookup(service_type(name), &path).rule.data;
                let found = item.value.value_signature().to_string();
                assert!(
                    value::is_invalid(&item.value) || fits(data, &found),
                    "{name} {path} is {data:?} in the schema, here {found}"
                );
            }
        }
    }
}
