//! Which entity an item becomes, if any: decided from its schema row, its value and its limits.
//!
//! ```text
//!                     writable            else
//! off and on          switch              binary_sensor
//! ok, warning, alarm  select              binary_sensor, device class problem
//! labels              select              sensor, device class enum
//! bits                sensor              sensor
//! a number in limits  number              sensor
//! another number      sensor              sensor
//! a text              text                sensor
//! ```
//!
//! A row may say otherwise: a button, a time of day, a place, a version. Never asks which service type
//! or path it is: what is special about one is a row in `schema/`.

use super::name;
use super::words::{Level, OnOff, Unit, Words};
use crate::schema::Row;
use crate::schema::rule::{Access, DataType, Kind as Entities, Publish, Role, Rule, Show};

/// Home Assistant's states are no longer than this.
const STATE_CHARS_MAX: usize = 255;

/// An item as an entity is decided from.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// Its path.
    pub path: &'a str,
    /// What the schema says of it.
    pub row: Row<'a>,
    /// What it is now.
    pub value: Kind,
    /// The lowest and the highest value that the service announces.
    pub limits: (Option<f64>, Option<f64>),
}

/// What kind of value an item has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// None now: what the row says is all there is to go by.
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
#[derive(Debug, Clone)]
pub struct Entity<'a> {
    /// The item that it shows.
    pub item: Item<'a>,
    /// What people call it; empty where it goes by the name of its device.
    pub name: String,
    /// What kind of entity it is.
    pub form: Form<'a>,
    /// What it is for.
    pub category: Category,
    /// Whether it is shown without being asked for.
    pub enabled: bool,
    /// What is known of its unit, as it is shown.
    pub unit: Option<&'a Unit>,
    /// What its value is multiplied with to be shown.
    pub factor: f64,
    /// Whether clients may write it.
    pub writable: bool,
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
    /// Which bits are set.
    Bits,
    /// Off or on.
    BinarySensor(OnOff<'a>),
    /// Fine, or one of several grades of trouble.
    Level(Level<'a>),
    /// Off or on, to be switched.
    Switch(OnOff<'a>),
    /// A switch between the labels `x` and `off (x)`.
    Toggle,
    /// One of the labels, to be chosen.
    Select,
    /// A number to be set, as it is shown.
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
    /// Something to be done.
    Button,
    /// A time of the day, to be set.
    Time,
    /// A place.
    Tracker,
    /// A version, and the one to be had.
    Update,
}

/// What an entity is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// For everyday use.
    Primary,
    /// To set the device up.
    Config,
    /// For those who look for a fault.
    Diagnostic,
}

impl<'a> Item<'a> {
    /// The entity that it becomes. `commands` where clients may write at all.
    pub fn entity(self, words: &'a Words, commands: bool) -> Option<Entity<'a>> {
        let rule = self.row.rule;
        let hidden =
            rule.secret || rule.publish != Publish::Normal || rule.look.show == Show::Never;
        // Who may come in is not settled by an entity; what may be shown of it is a row's to say.
        let own = rule.role != Role::None && rule.look.show == Show::Auto;
        let writable = commands && rule.access == Access::ReadWrite;
        let told = words.device.describes(self.path) && rule.look.show == Show::Auto;
        let is_past = words.category.is_past(self.path) && rule.look.show == Show::Auto;
        if hidden || own || *rule == Rule::DEFAULT || (told && !writable) || is_past {
            return None;
        }
        let shown = &*rule.look.shown;
        let factor = (!shown.is_empty()).then(|| words.factor(&rule.unit, shown));
        let factor = factor.flatten();
        let symbol = factor.map_or(&*rule.unit, |_| shown);
        let unit = words.unit(symbol, self.path);
        let form = self.form(unit, writable, factor.unwrap_or(1.0), words)?;
        let (category, enabled) = self.place(form, unit, words);
        let name = self.row.name(self.path);
        let name = name.unwrap_or_else(|| name::of_path(self.path, &rule.unit, words));
        Some(Entity {
            item: self,
            name,
            form,
            category,
            enabled,
            unit,
            factor: factor.unwrap_or(1.0),
            writable: writable || (commands && matches!(form, Form::Update)),
        })
    }

    /// The switch between its labels `x` and `off (x)`, if the row asks for one.
    pub fn toggle(self, words: &'a Words, commands: bool) -> Option<Entity<'a>> {
        let ending = &*self.row.rule.look.switch;
        if ending.is_empty() || self.toggles().next().is_none() {
            return None;
        }
        let list = self.entity(words, commands)?;
        matches!(list.form, Form::Select).then(|| Entity {
            name: format!("{} {ending}", list.name),
            form: Form::Toggle,
            ..list
        })
    }

    /// The codes of `off (x)`, each with the code of `x`.
    pub fn toggles(self) -> impl Iterator<Item = (i64, i64)> + 'a {
        let labels = &self.row.rule.labels;
        labels.iter().filter_map(|(off, label)| {
            let label = label.strip_prefix("off (")?.strip_suffix(')')?;
            let (on, _) = labels.iter().find(|(_, other)| other == label)?;
            Some((*off, *on))
        })
    }

    fn form(
        self,
        unit: Option<&Unit>,
        writable: bool,
        factor: f64,
        words: &'a Words,
    ) -> Option<Form<'a>> {
        let rule = self.row.rule;
        match rule.look.entity {
            Entities::Button => return writable.then_some(Form::Button),
            Entities::Time if writable => return Some(Form::Time),
            Entities::Tracker => return Some(Form::Tracker),
            Entities::Update => return Some(Form::Update),
            Entities::Auto | Entities::Time => {}
        }
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
            return Some(switch(self.classed(on_off), writable));
        }
        if let Some(level) = words.level(&rule.labels).filter(|_| !writable) {
            return Some(Form::Level(level));
        }
        // One label alone does not tell the codes apart.
        if rule.labels.len() > 1 {
            return Some(if writable { Form::Select } else { Form::Enum });
        }
        if !rule.bits.is_empty() {
            return Some(Form::Bits);
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
            return Some(switch(self.classed(on_off), writable));
        }
        match limits {
            Some((min, max)) if writable => Some(Form::Number {
                min: rounded(min * factor),
                max: rounded(max * factor),
                step: self.step(factor),
            }),
            _ => Some(Form::Sensor),
        }
    }

    /// Off and on with the device class that the row names.
    fn classed(self, on_off: OnOff<'a>) -> OnOff<'a> {
        let class = &*self.row.rule.look.class;
        OnOff {
            class: Some(class)
                .filter(|class| !class.is_empty())
                .or(on_off.class),
            ..on_off
        }
    }

    fn step(self, factor: f64) -> f64 {
        match self.row.rule.look.offer {
            Some((.., step)) if step > 0.0 => step,
            _ if !self.is_integer() => 0.1,
            _ if factor < 1.0 => 0.01_f64.max(factor),
            _ => factor,
        }
    }

    fn is_bool(self) -> bool {
        match self.value {
            Kind::Bool => true,
            Kind::Nothing => self.row.rule.data == DataType::Bool,
            Kind::Integer(_) | Kind::Number(_) | Kind::Text(_) | Kind::Other => false,
        }
    }

    fn is_integer(self) -> bool {
        match self.row.rule.data {
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
        let (min, max) = self.bounds()?;
        let (Kind::Integer(value) | Kind::Number(value)) = self.value else {
            return Some((min, max));
        };
        Some((min.min(value), max.max(value)))
    }

    /// The same, whatever the present value is.
    fn bounds(self) -> Option<(f64, f64)> {
        let rule = self.row.rule;
        let (min, max) = self.limits;
        let proper = |(min, max): (f64, f64)| {
            (min.is_finite() && max.is_finite() && min < max).then_some((min, max))
        };
        // 0 and 0 is how settings say that they have no limits.
        let announced = min.zip(max).and_then(proper);
        let offered = rule.look.offer.map(|(min, max, _)| (min, max));
        announced
            .or_else(|| rule.range.and_then(proper))
            .or(offered)
    }

    /// Whether the present value is one that a description made without looking at it would not have:
    /// a number out of bounds, a code without a label.
    pub fn is_odd(self) -> bool {
        let (Kind::Integer(value) | Kind::Number(value)) = self.value else {
            return false;
        };
        let rule = self.row.rule;
        if rule.labels.len() > 1 {
            return !rule.labels.iter().any(|(code, _)| same(*code, value));
        }
        rule.bits.is_empty()
            && rule.access == Access::ReadWrite
            && self
                .bounds()
                .is_some_and(|(min, max)| value < min || value > max)
    }

    /// The codes to choose from, with their labels: those within the limits that the service
    /// announces, and whatever it is now.
    pub fn choices(self) -> Vec<(i64, String)> {
        let rule = self.row.rule;
        let now = match self.value {
            Kind::Integer(value) | Kind::Number(value) => Some(value),
            Kind::Bool | Kind::Nothing | Kind::Text(_) | Kind::Other => None,
        };
        let is_now = |code: i64| now.is_some_and(|now| same(code, now));
        let (min, max) = self.limits;
        let limits = min.zip(max).filter(|(min, max)| min < max);
        let open = |code: i64| {
            let code = as_double(code);
            limits.is_none_or(|(min, max)| code >= min && code <= max)
        };
        let all = rule.labels.iter();
        let mut choices: Vec<_> = all
            .filter(|(code, _)| rule.access != Access::ReadWrite || open(*code) || is_now(*code))
            .map(|(code, label)| (*code, name::capital(label)))
            .collect();
        if let Some(now) = now.filter(|_| self.is_odd())
            && let Some(code) = as_code(now)
        {
            choices.push((code, code.to_string()));
        }
        choices
    }

    /// What it is for, and whether it is shown at once.
    fn place(self, form: Form<'_>, unit: Option<&Unit>, words: &Words) -> (Category, bool) {
        let rule = self.row.rule;
        let control = match form {
            Form::Switch(_)
            | Form::Toggle
            | Form::Select
            | Form::Number { .. }
            | Form::Text
            | Form::Button
            | Form::Time => true,
            Form::Sensor
            | Form::Moment
            | Form::Enum
            | Form::Bits
            | Form::BinarySensor(_)
            | Form::Level(_)
            | Form::Tracker
            | Form::Update => false,
        };
        let config = if control {
            Category::Config
        } else {
            Category::Diagnostic
        };
        match rule.look.show {
            Show::Main => return (Category::Primary, true),
            Show::Config => return (config, true),
            Show::Diagnostic => return (Category::Diagnostic, true),
            Show::Hidden => return (config, false),
            Show::Auto | Show::Never => {}
        }
        let problem = match form {
            Form::Level(_) => true,
            Form::BinarySensor(on_off) => on_off.class == Some("problem"),
            Form::Tracker | Form::Update => return (Category::Primary, true),
            Form::Sensor
            | Form::Moment
            | Form::Enum
            | Form::Bits
            | Form::Switch(_)
            | Form::Toggle
            | Form::Select
            | Form::Number { .. }
            | Form::Text
            | Form::Button
            | Form::Time => false,
        };
        let meter = unit.is_some_and(|unit| unit.state.as_deref() == Some("total_increasing"));
        let bare = matches!(form, Form::Sensor | Form::Bits) && rule.unit.is_empty();
        if problem {
            (Category::Diagnostic, true)
        } else if words.category.is_config(self.path) || matches!(form, Form::Text) {
            (config, false)
        } else if meter && !control {
            (Category::Primary, true)
        } else if bare || words.category.is_diagnostic(self.path) {
            (config, false)
        } else {
            (Category::Primary, true)
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

/// A product of a conversion without the digits that only rounding made.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "codes are small")]
fn as_double(code: i64) -> f64 {
    code as f64
}

fn same(code: i64, value: f64) -> bool {
    (as_double(code) - value).abs() < 1e-9
}

#[allow(clippy::cast_possible_truncation, reason = "checked before")]
fn as_code(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i64)
}

impl Entity<'_> {
    /// The platform, as Home Assistant calls what an entity is.
    pub fn platform(&self) -> &'static str {
        match self.form {
            Form::Sensor | Form::Moment | Form::Enum | Form::Bits => "sensor",
            Form::BinarySensor(_) | Form::Level(_) => "binary_sensor",
            Form::Switch(_) | Form::Toggle => "switch",
            Form::Select => "select",
            Form::Number { .. } => "number",
            Form::Text => "text",
            Form::Button => "button",
            Form::Time => "time",
            Form::Tracker => "device_tracker",
            Form::Update => "update",
        }
    }

    /// Whether a value may come that this description has no room for.
    pub fn is_watched(&self) -> bool {
        match self.form {
            Form::Number { .. } | Form::Select | Form::Enum => true,
            Form::Sensor
            | Form::Moment
            | Form::Bits
            | Form::BinarySensor(_)
            | Form::Level(_)
            | Form::Switch(_)
            | Form::Toggle
            | Form::Text
            | Form::Button
            | Form::Time
            | Form::Tracker
            | Form::Update => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::wildcard_enum_match_arm)] // whatever else it is, it is wrong

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
            row: Row::of(rule),
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
                form => panic!("no number, nor a sensor of one: {form:?}"),
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
    fn what_the_service_does_not_take_is_not_offered() {
        let rule = Rule {
            labels: LABELS,
            ..WRITE
        };
        let codes = |limits, value| {
            let item = Item {
                limits,
                ..item("/Mode", &rule, value)
            };
            let codes: Vec<i64> = item.choices().into_iter().map(|(code, _)| code).collect();
            codes
        };
        let to_three = (Some(1.0), Some(3.0));
        assert_eq!(codes((None, None), Kind::Integer(3.0)), [1, 3, 4]);
        assert_eq!(codes(to_three, Kind::Integer(3.0)), [1, 3]);
        assert_eq!(
            codes(to_three, Kind::Integer(4.0)),
            [1, 3, 4],
            "it is so now"
        );
        assert_eq!(codes(to_three, Kind::Nothing), [1, 3]);
        // 0 and 0 is how settings say that they have no limits.
        let none = (Some(0.0), Some(0.0));
        assert_eq!(codes(none, Kind::Integer(3.0)), [1, 3, 4]);
    }

    #[test]
    fn what_says_nothing_of_use_is_no_entity() {
        let unknown = Rule::DEFAULT;
        check(item("/X", &unknown, Kind::Number(1.0)), None);
        check(item("/X", &READ, Kind::Other), None);
        check(item("/X", &READ, Kind::Text(256)), None);
        check(item("/ProductName", &READ, Kind::Text(3)), None);
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
