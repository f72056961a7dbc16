//! Which entity an item becomes, if any: decided from its schema row, its value and its limits.
//!
//! ```text
//!                     writable            else
//! off and on          switch              binary_sensor
//! labels              select              sensor, device class enum
//! a number in limits  number              sensor
//! another number      sensor              sensor
//! a text              text                sensor
//! ```
//!
//! Never asks which service type or path it is: what is special about one is a row in `schema/`.

use super::words::{OnOff, Unit, Words};
use crate::schema::rule::{Access, DataType, Publish, Role, Rule};

/// Home Assistant's states are no longer than this.
const STATE_CHARS_MAX: usize = 255;

/// An item as an entity is decided from.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// Its path.
    pub path: &'a str,
    /// What the schema says of it.
    pub rule: &'a Rule,
    /// What it is, in a few words; empty where there are none.
    pub description: &'a str,
    /// What it is now.
    pub value: Kind,
    /// The lowest and the highest value that the service announces.
    pub limits: (Option<f64>, Option<f64>),
}

/// What kind of value an item has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// None now, but it had one: what the row says is all there is to go by.
    Nothing,
    /// A boolean.
    Bool,
    /// An integer.
    Integer(f64),
    /// A number with a fraction, or of a type that can have one.
    Number(f64),
    /// A text of so many characters.
    Text(usize),
    /// A list, or something else that no entity can show.
    Other,
}

/// One entity.
#[derive(Debug, Clone, Copy)]
pub struct Entity<'a> {
    /// The item that it shows.
    pub item: Item<'a>,
    /// What kind of entity it is.
    pub form: Form<'a>,
    /// What it is for.
    pub category: Category,
    /// What is known of its unit.
    pub unit: Option<&'a Unit>,
}

/// What kind of entity it is.
#[derive(Debug, Clone, Copy)]
pub enum Form<'a> {
    /// Something to look at.
    Sensor,
    /// A moment, in seconds since 1970.
    Moment,
    /// One of the labels.
    Enum,
    /// Off or on.
    BinarySensor(OnOff<'a>),
    /// Off or on, to be switched.
    Switch(OnOff<'a>),
    /// One of the labels, to be chosen.
    Select,
    /// A number to be set.
    Number {
        /// The lowest.
        min: f64,
        /// The highest.
        max: f64,
        /// How fine it is.
        step: f64,
    },
    /// A text to be written.
    Text,
}

/// What an entity is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// For everyday use: shown without being asked for.
    Primary,
    /// To set the device up.
    Config,
    /// For those who look for a fault.
    Diagnostic,
}

impl<'a> Item<'a> {
    /// The entity that it becomes. `commands` where clients may write at all.
    pub fn entity(self, words: &'a Words, commands: bool) -> Option<Entity<'a>> {
        let rule = self.rule;
        let hidden = rule.secret || rule.publish != Publish::Normal || rule.role != Role::None;
        let writable = commands && rule.access == Access::ReadWrite;
        let told = words.device.describes(self.path) || *words.device.connected == *self.path;
        if hidden
            || *rule == Rule::DEFAULT
            || (told && !writable)
            || words.category.is_past(self.path)
        {
            return None;
        }
        let unit = words.unit(&rule.unit, self.path);
        let form = self.form(unit, writable, words)?;
        let category = self.category(form, unit, words);
        Some(Entity {
            item: self,
            form,
            category,
            unit,
        })
    }

    fn form(self, unit: Option<&Unit>, writable: bool, words: &'a Words) -> Option<Form<'a>> {
        let rule = self.rule;
        let is_text = match self.value {
            Kind::Other => return None,
            Kind::Text(chars) if chars > STATE_CHARS_MAX => return None,
            Kind::Text(_) => true,
            Kind::Nothing if matches!(rule.data, DataType::Compound(_)) => return None,
            Kind::Nothing => rule.data == DataType::Text,
            Kind::Bool | Kind::Integer(_) | Kind::Number(_) => false,
        };
        if is_text {
            return Some(if writable { Form::Text } else { Form::Sensor });
        }
        if let Some(on_off) = words.on_off(&rule.labels, writable) {
            return Some(switch(on_off, writable));
        }
        // One label alone does not tell the codes apart.
        if rule.labels.len() > 1 {
            return Some(if writable { Form::Select } else { Form::Enum });
        }
        if unit.is_some_and(|unit| unit.class.as_deref() == Some("timestamp")) {
            return Some(Form::Moment);
        }
        let limits = self.limits();
        let flag = writable && self.is_integer() && limits == Some((0.0, 1.0));
        if self.is_bool() || (flag && rule.unit.is_empty()) {
            let on_off = OnOff {
                off: 0,
                on: 1,
                class: None,
            };
            return Some(switch(on_off, writable));
        }
        match limits {
            Some((min, max)) if writable && rule.bits.is_empty() => Some(Form::Number {
                min,
                max,
                step: if self.is_integer() { 1.0 } else { 0.1 },
            }),
            _ => Some(Form::Sensor),
        }
    }

    fn is_bool(self) -> bool {
        match self.value {
            Kind::Bool => true,
            Kind::Nothing => self.rule.data == DataType::Bool,
            Kind::Integer(_) | Kind::Number(_) | Kind::Text(_) | Kind::Other => false,
        }
    }

    fn is_integer(self) -> bool {
        match self.rule.data {
            DataType::Byte
            | DataType::Int16
            | DataType::Uint16
            | DataType::Int32
            | DataType::Uint32
            | DataType::Int64
            | DataType::Uint64 => true,
            DataType::Unknown | DataType::Number => matches!(self.value, Kind::Integer(_)),
            DataType::Bool | DataType::Double | DataType::Text | DataType::Compound(_) => false,
        }
    }

    /// Between which values it can be set: as the service announces, else as the row says. The
    /// present value is always among them, since Home Assistant complains of any other.
    fn limits(self) -> Option<(f64, f64)> {
        let (min, max) = self.limits;
        let proper = |(min, max): (f64, f64)| {
            (min.is_finite() && max.is_finite() && min < max).then_some((min, max))
        };
        // 0 and 0 is how settings say that they have no limits.
        let announced = min.zip(max).and_then(proper);
        let (min, max) = announced.or_else(|| self.rule.range.and_then(proper))?;
        let (Kind::Integer(value) | Kind::Number(value)) = self.value else {
            return Some((min, max));
        };
        Some((min.min(value), max.max(value)))
    }

    fn category(self, form: Form<'_>, unit: Option<&Unit>, words: &Words) -> Category {
        let control = match form {
            Form::Switch(_) | Form::Select | Form::Number { .. } | Form::Text => true,
            Form::Sensor | Form::Moment | Form::Enum | Form::BinarySensor(_) => false,
        };
        let meter = unit.is_some_and(|unit| unit.state.as_deref() == Some("total_increasing"));
        let bare = matches!(form, Form::Sensor) && self.rule.unit.is_empty();
        if words.category.is_config(self.path) || matches!(form, Form::Text) {
            if control {
                Category::Config
            } else {
                Category::Diagnostic
            }
        } else if meter && !control {
            Category::Primary
        } else if bare || words.category.is_diagnostic(self.path) {
            Category::Diagnostic
        } else {
            Category::Primary
        }
    }
}

fn switch(on_off: OnOff<'_>, writable: bool) -> Form<'_> {
    if writable {
        Form::Switch(on_off)
    } else {
        Form::BinarySensor(on_off)
    }
}

impl Entity<'_> {
    /// The platform, as Home Assistant calls what an entity is.
    pub fn platform(&self) -> &'static str {
        match self.form {
            Form::Sensor | Form::Moment | Form::Enum => "sensor",
            Form::BinarySensor(_) => "binary_sensor",
            Form::Switch(_) => "switch",
            Form::Select => "select",
            Form::Number { .. } => "number",
            Form::Text => "text",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::rule::{Codes, Text};

    const LABELS: Codes = Codes::Borrowed(&[
        (1, Text::Borrowed("charger only")),
        (3, Text::Borrowed("on")),
        (4, Text::Borrowed("off")),
    ]);
    const SWITCH: Codes = Codes::Borrowed(&[(0, Text::Borrowed("off")), (1, Text::Borrowed("on"))]);

    const READ: Rule = Rule {
        data: DataType::Double,
        access: Access::Read,
        ..Rule::DEFAULT
    };
    const WRITE: Rule = Rule {
        access: Access::ReadWrite,
        ..READ
    };

    fn item<'a>(path: &'a str, rule: &'a Rule, value: Kind) -> Item<'a> {
        Item {
            path,
            rule,
            description: "",
            value,
            limits: (None, None),
        }
    }

    #[track_caller]
    fn check(item: Item<'_>, expected: Option<(&str, Category)>) {
        let words = Words::built_in().unwrap();
        let found = item.entity(&words, true);
        let found = found.map(|entity| (entity.platform(), entity.category));
        assert_eq!(found, expected, "{item:?}");
    }

    #[test]
    fn what_can_be_written_is_a_control() {
        let labels = |rule, labels| Rule { labels, ..rule };
        let number = Kind::Integer(3.0);
        let primary = |platform| Some((platform, Category::Primary));
        check(
            item("/Mode", &labels(WRITE, LABELS), number),
            primary("select"),
        );
        check(
            item("/Mode", &labels(READ, LABELS), number),
            primary("sensor"),
        );
        check(
            item("/Relay", &labels(WRITE, SWITCH), number),
            primary("switch"),
        );
        check(
            item("/Relay", &labels(READ, SWITCH), number),
            primary("binary_sensor"),
        );
        check(item("/On", &WRITE, Kind::Bool), primary("switch"));
        check(item("/On", &READ, Kind::Bool), primary("binary_sensor"));
        let config = |platform| Some((platform, Category::Config));
        check(item("/Name", &WRITE, Kind::Text(5)), config("text"));
        check(
            item("/Settings/Mode", &labels(WRITE, LABELS), number),
            config("select"),
        );
        let words = Words::built_in().unwrap();
        let rule = labels(WRITE, LABELS);
        let mode = item("/Mode", &rule, number);
        assert_eq!(mode.entity(&words, false).unwrap().platform(), "sensor");
    }

    #[test]
    fn a_number_is_set_between_its_limits() {
        let form = |limits, rule: &Rule, value| {
            let words = Words::built_in().unwrap();
            let item = Item {
                limits,
                ..item("/Limit", rule, value)
            };
            match item.entity(&words, true).unwrap().form {
                Form::Number { min, max, step } => Some((min, max, step)),
                Form::Sensor => None,
                Form::Moment
                | Form::Enum
                | Form::BinarySensor(_)
                | Form::Switch(_)
                | Form::Select
                | Form::Text => panic!("no number, nor a sensor of one"),
            }
        };
        let ranged = Rule {
            range: Some((0.0, 100.0)),
            ..WRITE
        };
        let value = Kind::Number(16.0);
        let both = (Some(0.0), Some(50.0));
        assert_eq!(form(both, &WRITE, value), Some((0.0, 50.0, 0.1)));
        assert_eq!(form(both, &ranged, value), Some((0.0, 50.0, 0.1)));
        assert_eq!(form((None, None), &ranged, value), Some((0.0, 100.0, 0.1)));
        assert_eq!(form((None, None), &WRITE, value), None);
        assert_eq!(form((Some(0.0), Some(0.0)), &WRITE, value), None);
        assert_eq!(form(both, &READ, value), None);
        let above = Kind::Number(63.0);
        assert_eq!(form(both, &WRITE, above), Some((0.0, 63.0, 0.1)));
        let open = Rule {
            range: Some((0.0, f64::INFINITY)),
            ..WRITE
        };
        assert_eq!(form((None, None), &open, value), None);
        let whole = Rule {
            data: DataType::Int32,
            ..ranged
        };
        let value = Kind::Integer(16.0);
        assert_eq!(form((None, None), &whole, value), Some((0.0, 100.0, 1.0)));
    }

    #[test]
    fn what_says_nothing_of_use_is_no_entity() {
        let unknown = Rule::DEFAULT;
        check(item("/X", &unknown, Kind::Number(1.0)), None);
        check(item("/X", &READ, Kind::Other), None);
        check(item("/X", &READ, Kind::Text(256)), None);
        check(item("/ProductName", &READ, Kind::Text(3)), None);
        check(item("/Connected", &READ, Kind::Integer(1.0)), None);
        check(
            item("/History/Daily/1/Yield", &READ, Kind::Number(1.0)),
            None,
        );
        for rule in [
            Rule {
                secret: true,
                ..WRITE
            },
            Rule {
                publish: Publish::Blocked,
                ..WRITE
            },
            Rule {
                role: Role::Instance,
                ..READ
            },
        ] {
            check(item("/X", &rule, Kind::Integer(1.0)), None);
        }
    }

    #[test]
    fn sensors_are_for_everyday_use_or_for_finding_faults() {
        let unit = |unit| Rule {
            unit: Text::Borrowed(unit),
            ..READ
        };
        let number = Kind::Number(1.5);
        let sensor = |category| Some(("sensor", category));
        check(
            item("/Dc/0/Voltage", &unit("V"), number),
            sensor(Category::Primary),
        );
        check(
            item("/RawValue", &READ, number),
            sensor(Category::Diagnostic),
        );
        check(
            item("/Note", &READ, Kind::Text(3)),
            sensor(Category::Diagnostic),
        );
        check(
            item("/History/MaxVoltage", &unit("V"), number),
            sensor(Category::Diagnostic),
        );
        check(
            item("/History/EnergyOut", &unit("kWh"), number),
            sensor(Category::Primary),
        );
        let words = Words::built_in().unwrap();
        let rule = unit("unix s");
        let moment = item("/Start", &rule, Kind::Integer(1.0));
        assert!(matches!(
            moment.entity(&words, true).unwrap().form,
            Form::Moment
        ));
        // It had a value once, and has none now.
        check(
            item("/TimeToGo", &unit("s"), Kind::Nothing),
            sensor(Category::Primary),
        );
    }
}
