//! The installation as services: which paths each device has, and where their values come from.
//!
//! A [`Device`] is data: fixed items, and measures that read the [`Plant`](super::plant::Plant). It never changes the
//! plant; a [`Control`] says what a write means, and [`Installation`](super::installation) does it.

pub(crate) mod form;

mod battery;
mod charger;
mod kit;
mod meter;
mod sensor;
mod settings;
mod system;
mod vebus;

pub(crate) use battery::battery;
pub(crate) use charger::charger;
pub(crate) use kit::{Control, Device, Measure};
pub(crate) use meter::{circuit, grid, pv_inverter};
pub(crate) use sensor::{tank, temperature};
pub(crate) use settings::settings;
pub(crate) use system::system;
pub(crate) use vebus::vebus;
