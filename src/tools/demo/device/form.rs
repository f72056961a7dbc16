//! How a measured number becomes a D-Bus value and a text.

use zbus::Variant;

use crate::tools::value::{self, BusValue};

/// Type, resolution and text of a measured item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    kind: Kind,
    step: f64,
    decimals: usize,
    unit: &'static str,
    labels: &'static [(i64, &'static str)],
}

/// The D-Bus types that services measure in.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Byte,
    Int16,
    Int32,
    Uint32,
    Double,
}

impl Form {
    /// A double, rounded to a step.
    const fn double(step: f64, decimals: usize, unit: &'static str) -> Form {
        Form {
            kind: Kind::Double,
            step,
            decimals,
            unit,
            labels: &[],
        }
    }

    const fn whole(kind: Kind, unit: &'static str) -> Form {
        Form {
            kind,
            step: 1.0,
            decimals: 0,
            unit,
            labels: &[],
        }
    }

    /// With words for codes.
    pub(crate) const fn labels(self, labels: &'static [(i64, &'static str)]) -> Form {
        Form { labels, ..self }
    }

    /// The smallest difference that it shows.
    pub(crate) fn step(&self) -> f64 {
        self.step
    }

    /// The value for a measurement; without one, invalid.
    pub(crate) fn value(&self, measured: Option<f64>) -> BusValue {
        let Some(measured) = measured.filter(|number| number.is_finite()) else {
            return value::invalid();
        };
        let steps = (measured / self.step).round();
        // Dividing by a power of ten gives the double that people write; multiplying by 0.01 not.
        let rounded = if self.step < 1.0 {
            steps / (1.0 / self.step).round()
        } else {
            steps * self.step
        };
        // Never a minus zero: no meter shows one.
        let rounded = rounded + 0.0;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating is right
        match self.kind {
            Kind::Byte => Variant::U8(rounded as u8),
            Kind::Int16 => Variant::I16(rounded as i16),
            Kind::Int32 => Variant::I32(rounded as i32),
            Kind::Uint32 => Variant::U32(rounded as u32),
            Kind::Double => Variant::F64(rounded),
        }
    }

    /// The text for a value of this form.
    pub(crate) fn text(&self, value: &Variant<'_>) -> String {
        let Some(number) = value::as_f64(value) else {
            return String::new();
        };
        #[allow(clippy::cast_possible_truncation)] // codes are small
        let code = number.round() as i64;
        if let Some((_, label)) = self.labels.iter().find(|(label, _)| *label == code) {
            return (*label).to_owned();
        }
        let decimals = self.decimals;
        let unit = self.unit;
        format!("{number:.decimals$}{unit}")
    }
}

/// Power of a meter.
pub(crate) const WATT: Form = Form::double(0.1, 0, "W");
/// Power as the inverter/charger gives it.
pub(crate) const WATT_I: Form = Form::whole(Kind::Int32, "W");
/// Power of one unit of the inverter/charger.
pub(crate) const WATT_N: Form = Form::whole(Kind::Int16, "W");
/// Apparent power.
pub(crate) const VA: Form = Form::whole(Kind::Int32, "VA");
/// AC voltage.
pub(crate) const VOLT_AC: Form = Form::double(0.1, 0, "V");
/// DC voltage.
pub(crate) const VOLT: Form = Form::double(0.01, 2, "V");
/// Current.
pub(crate) const AMPERE: Form = Form::double(0.1, 1, "A");
/// AC current of a meter.
pub(crate) const AMPERE_AC: Form = Form::double(0.01, 1, "A");
/// Frequency.
pub(crate) const HERTZ: Form = Form::double(0.01, 1, "Hz");
/// Energy.
pub(crate) const KWH: Form = Form::double(0.01, 2, "kWh");
/// Charge.
pub(crate) const AH: Form = Form::double(0.1, 1, "Ah");
/// A share, finely.
pub(crate) const PERCENT: Form = Form::double(0.1, 1, "%");
/// A share, roughly.
pub(crate) const PERCENT_U: Form = Form::whole(Kind::Uint32, "%");
/// A volume.
pub(crate) const CUBIC_METRE: Form = Form::double(0.001, 3, "m3");
/// A temperature.
pub(crate) const CELSIUS: Form = Form::double(0.1, 1, "°C");
/// The resistance of a sender.
pub(crate) const OHM: Form = Form::double(0.1, 0, "ohm");
/// A time.
pub(crate) const SECONDS: Form = Form::double(1.0, 0, "s");
/// A time in minutes.
pub(crate) const MINUTES: Form = Form::double(1.0, 0, "min");
/// A plain number.
pub(crate) const NUMBER: Form = Form::double(0.1, 1, "");
/// A count, or a code.
pub(crate) const COUNT: Form = Form::whole(Kind::Uint32, "");
/// A code of another type.
pub(crate) const CODE_I: Form = Form::whole(Kind::Int32, "");
/// A code in a byte.
pub(crate) const CODE_Y: Form = Form::whole(Kind::Byte, "");

/// A lamp.
pub(crate) const LED: Form = CODE_Y.labels(&[(0, "off"), (1, "on"), (2, "blink")]);
/// Two states.
pub(crate) const YES: Form = COUNT.labels(&[(0, "no"), (1, "yes")]);
/// States of chargers and inverters.
pub(crate) const STATE: Form = COUNT.labels(STATES);
/// What the state of a charger or an inverter is called.
pub(crate) const STATES: &[(i64, &str)] = &[
    (0, "off"),
    (2, "fault"),
    (3, "bulk"),
    (4, "absorption"),
    (5, "float"),
    (8, "passthru"),
    (9, "inverting"),
    (252, "external control"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_people_write() {
        #[track_caller]
        fn check(form: Form, measured: f64, json: &str, text: &str) {
            let value = form.value(Some(measured));
            assert_eq!(value::to_json(&value).unwrap().to_string(), json);
            assert_eq!(form.text(&value), text);
        }
        check(WATT, 1234.5678, "1234.6", "1235W");
        check(WATT_I, -0.2, "0", "0W");
        check(WATT, -0.01, "0.0", "0W");
        check(VOLT, 52.005_001, "52.01", "52.01V");
        check(KWH, 0.07, "0.07", "0.07kWh");
        check(SECONDS, 86_399.6, "86400.0", "86400s");
        check(LED, 1.0, "1", "on");
        check(STATE, 7.0, "7", "7");
        check(COUNT, -3.0, "0", "0");
        assert!(value::is_invalid(&WATT.value(None)));
        assert!(value::is_invalid(&WATT.value(Some(f64::NAN))));
        assert_eq!(WATT.text(&value::invalid()), "");
    }
}
