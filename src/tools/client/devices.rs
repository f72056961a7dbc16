//! The devices of an installation, as their topics tell.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use super::collect::Key;
use super::portal::Portal;
use super::reading::Reading;
use super::screen::{Form, Screen};
use crate::model::topic::parse_address;

/// The value that says what a device is.
const PRODUCT_NAME: &str = "/ProductName";
/// What its owner calls it.
const CUSTOM_NAME: &str = "/CustomName";

/// A device, as its topics tell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Device {
    /// What it is.
    product: Option<String>,
    /// What its owner calls it.
    name: Option<String>,
    /// How many values it has.
    topics: usize,
}

/// The devices that have these values, by `<type>/<instance>`.
pub fn devices_of<'r>(readings: impl IntoIterator<Item = &'r Reading>) -> BTreeMap<Key, Device> {
    let mut devices: BTreeMap<Key, Device> = BTreeMap::new();
    for reading in readings {
        let Some(address) = parse_address(&reading.topic) else {
            continue;
        };
        let key = reading.topic.strip_suffix(address.path).unwrap_or_default();
        let device = devices.entry(Key(key.to_owned())).or_default();
        device.topics += 1;
        let text = reading.value.as_ref().and_then(Value::as_str);
        let text = text.filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        match address.path {
            PRODUCT_NAME => device.product = text,
            CUSTOM_NAME => device.name = text,
            _ => {}
        }
    }
    devices
}

/// Prints them as a table, or as JSON.
pub fn print<W: io::Write>(
    portal: &Portal,
    devices: &BTreeMap<Key, Device>,
    screen: &mut Screen<W>,
) -> io::Result<()> {
    let parts = |key: &Key| {
        let (service_type, instance) = key.0.split_once('/').unwrap_or((&key.0, ""));
        (service_type.to_owned(), instance.to_owned())
    };
    if screen.form() == Form::Json {
        for (key, device) in devices {
            let (service_type, instance) = parts(key);
            let json = json!({
                "portal_id": portal.id.as_str(),
                "type": service_type,
                "instance": instance,
                "product": device.product,
                "name": device.name,
                "topics": device.topics,
            });
            screen.json(&json)?;
        }
        return Ok(());
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let rows: Vec<[String; 5]> = devices
        .iter()
        .map(|(key, device)| {
            let (service_type, instance) = parts(key);
            let (product, name) = (text(&device.product), text(&device.name));
            [
                service_type,
                instance,
                product,
                name,
                device.topics.to_string(),
            ]
        })
        .collect();
    screen.table(["TYPE", "INSTANCE", "PRODUCT", "NAME", "TOPICS"], &rows)
}
