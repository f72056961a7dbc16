//! What every device is made with.

use std::time::Duration;

use super::form::{self, Form};
use crate::tools::demo::plant::Plant;
use crate::tools::item::Item;
use crate::tools::value::{self, BusValue};

/// A device as its service shows it.
pub(crate) struct Device {
    /// The bus name.
    pub name: String,
    /// What never changes by itself, and the start of what does.
    pub items: Vec<(String, Item)>,
    /// What is measured.
    pub measures: Vec<Measure>,
    /// What a write of a path means; a writable path without one just keeps its value.
    pub controls: Vec<(String, Control)>,
    /// How often it measures.
    pub period: Duration,
    /// Whether it tells changes together, by `ItemsChanged`, or each by `PropertiesChanged`.
    pub together: bool,
}

/// A measured item.
pub(crate) struct Measure {
    /// The path.
    pub path: String,
    /// The form of the value.
    pub form: Form,
    /// Where the value comes from; `None` is invalid.
    pub read: Read,
    /// Where a value comes from that is not a number; it goes before `read`.
    pub made: Option<fn(&Plant) -> BusValue>,
    /// Whether it is a physical quantity, which is never quite still.
    pub lively: bool,
}

/// Reads a value out of the plant.
pub(crate) type Read = Box<dyn Fn(&Plant) -> Option<f64> + Send + Sync>;

/// What a write changes in the plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// The switch of the inverter/charger.
    Mode,
    /// The current limit of its AC input.
    InputLimit,
    /// The power that the grid meter should show.
    GridSetpoint,
    /// The state of charge that is kept.
    ReserveSoc,
    /// Whether surplus solar power goes to the grid.
    FeedIn,
    /// The most that the batteries are charged with.
    ChargeCurrentMax,
    /// A relay of the GX device.
    Relay(usize),
    /// The switch of a solar charger.
    ChargerMode(usize),
    /// The power limit of a PV inverter.
    PowerLimit(usize),
}

/// What tells one device from another.
pub(crate) struct Identity<'a> {
    /// The service type.
    pub service_type: &'a str,
    /// The rest of the bus name; empty where there is only one such service.
    pub suffix: &'a str,
    /// The device instance.
    pub instance: u32,
    /// The product id.
    pub product_id: u32,
    /// What the manufacturer calls it.
    pub product: &'a str,
    /// What the owner calls it.
    pub name: &'a str,
    /// How it is connected.
    pub connection: &'a str,
    /// The process that serves it.
    pub process: &'a str,
}

impl Device {
    /// A device with the items that all devices have.
    pub(crate) fn new(identity: &Identity<'_>) -> Device {
        let mut device = Device::bare(identity.service_type, identity.suffix);
        device.management(identity.connection, identity.process);
        device
            .fixed("/DeviceInstance", identity.instance)
            .fixed("/ProductId", identity.product_id)
            .fixed("/ProductName", identity.product)
            .fixed("/FirmwareVersion", 1_u32)
            .fixed("/HardwareVersion", value::invalid())
            .fixed("/Connected", 1_u32)
            .open("/CustomName", Item::new(identity.name.to_owned()));
        device
    }

    /// A service without anything yet.
    pub(crate) fn bare(service_type: &str, suffix: &str) -> Device {
        let dot = if suffix.is_empty() { "" } else { "." };
        Device {
            name: format!("com.victronenergy.{service_type}{dot}{suffix}"),
            items: Vec::new(),
            measures: Vec::new(),
            controls: Vec::new(),
            period: Duration::from_secs(1),
            together: true,
        }
    }

    /// Who serves it.
    pub(crate) fn management(&mut self, connection: &str, process: &str) {
        self.fixed("/Mgmt/Connection", connection.to_owned())
            .fixed("/Mgmt/ProcessName", process.to_owned())
            .fixed("/Mgmt/ProcessVersion", env!("CARGO_PKG_VERSION"));
    }

    /// A read-only item with the text that goes without saying.
    pub(crate) fn fixed(&mut self, path: &str, value: impl Into<FixedValue>) -> &mut Self {
        self.item(path, Item::new(value.into().0).plain_text())
    }

    /// Several read-only items of one value.
    pub(crate) fn all_fixed<'p>(
        &mut self,
        paths: impl IntoIterator<Item = &'p str>,
        of: impl Fn() -> BusValue,
    ) -> &mut Self {
        for path in paths {
            self.item(path, Item::new(of()).plain_text());
        }
        self
    }

    /// An item that anyone may write, without further effect.
    pub(crate) fn open(&mut self, path: &str, item: Item) -> &mut Self {
        self.item(path, item.plain_text().writable())
    }

    /// An item as it is.
    pub(crate) fn item(&mut self, path: &str, item: Item) -> &mut Self {
        self.items.push((path.to_owned(), item));
        self
    }

    /// A measured quantity.
    pub(crate) fn measure(
        &mut self,
        path: &str,
        form: Form,
        read: impl Fn(&Plant) -> f64 + Send + Sync + 'static,
    ) -> &mut Self {
        self.read(path, form, true, Box::new(move |plant| Some(read(plant))))
    }

    /// A quantity that is not always there.
    pub(crate) fn measure_some(
        &mut self,
        path: &str,
        form: Form,
        read: impl Fn(&Plant) -> Option<f64> + Send + Sync + 'static,
    ) -> &mut Self {
        self.read(path, form, true, Box::new(read))
    }

    /// A state or a counter: what only changes when something happens.
    pub(crate) fn state(
        &mut self,
        path: &str,
        form: Form,
        read: impl Fn(&Plant) -> f64 + Send + Sync + 'static,
    ) -> &mut Self {
        self.read(path, form, false, Box::new(move |plant| Some(read(plant))))
    }

    /// A list or a dict that says what several items say.
    pub(crate) fn made(&mut self, path: &str, made: fn(&Plant) -> BusValue) -> &mut Self {
        self.read(path, form::CODE_I, false, Box::new(|_| None));
        if let Some(measure) = self.measures.last_mut() {
            measure.made = Some(made);
        }
        self
    }

    /// A state that is set by writes. The range, where there is one, is of the form's type.
    pub(crate) fn control(
        &mut self,
        path: &str,
        form: Form,
        control: Control,
        range: Option<(f64, f64)>,
        read: impl Fn(&Plant) -> f64 + Send + Sync + 'static,
    ) -> &mut Self {
        self.state(path, form, read);
        self.controls.push((path.to_owned(), control));
        if let Some((_, item)) = self.items.last_mut() {
            item.writable = true;
            item.min = range.map(|(min, _)| form.value(Some(min)));
            item.max = range.map(|(_, max)| form.value(Some(max)));
        }
        self
    }

    fn read(&mut self, path: &str, form: Form, lively: bool, read: Read) -> &mut Self {
        // The value follows with the first measurement, before the service is on the bus.
        self.item(path, Item::new(value::invalid()).text(""));
        self.measures.push(Measure {
            path: path.to_owned(),
            form,
            read,
            made: None,
            lively,
        });
        self
    }
}

/// A value that an item can be made of, text included.
pub(crate) struct FixedValue(BusValue);

impl From<&str> for FixedValue {
    fn from(text: &str) -> Self {
        FixedValue(text.to_owned().into())
    }
}

macro_rules! fixed_value {
    ($($of:ty),*) => {
        $(impl From<$of> for FixedValue {
            fn from(value: $of) -> Self {
                FixedValue(value.into())
            }
        })*
    };
}
fixed_value!(u8, u16, u32, i32, f64, bool, String, BusValue);

/// The element that a device measures; devices are built with the plant they belong to.
pub(super) fn element<T>(list: &[T], index: usize, read: impl Fn(&T) -> f64) -> f64 {
    list.get(index).map_or(0.0, read)
}

/// One of several words for the state of charging.
pub(super) fn charge_state(power: f64, soc: f64) -> f64 {
    if power < 1.0 {
        0.0
    } else if soc < 96.0 {
        3.0
    } else if soc < 99.5 {
        4.0
    } else {
        5.0
    }
}
