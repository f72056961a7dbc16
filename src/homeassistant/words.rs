//! What Home Assistant calls things, read from `schema/homeassistant/words.toml`.
//!
//! Read once, where a broker has Home Assistant: the other bridges do without. What to do with the
//! words is decided in [`super::entity`].

use std::collections::HashMap;

use serde::Deserialize;

use crate::schema::rule::Text;

/// The words of the schema.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Words {
    /// Which items say what the device is.
    pub device: DeviceItems,
    /// What an entity is for.
    pub category: Categories,
    unit: Vec<Unit>,
    convert: Vec<Convert>,
    pair: Vec<Pair>,
    level: Vec<Grades>,
    /// What is a separate device, beside the one that it is a part of.
    pub part: Vec<Part>,
    /// How names are made.
    pub name: Names,
}

/// Which items say what the device is: paths, of several the first that has a text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeviceItems {
    /// Its name.
    pub name: Vec<Box<str>>,
    /// Who made it.
    pub manufacturer: Vec<Box<str>>,
    /// What it is.
    pub model: Vec<Box<str>>,
    /// Its serial number.
    pub serial: Vec<Box<str>>,
    /// The version of its software.
    pub software: Vec<Box<str>>,
    /// The version of its hardware.
    pub hardware: Vec<Box<str>>,
    /// The number that Victron has for the product.
    pub product: Box<str>,
    /// Who makes the products with these numbers, where nothing else says it.
    pub maker: Box<str>,
    maker_products: Vec<(u64, u64)>,
    /// The item that says in which area it is, by what is measured there, and the labels that are areas.
    pub area: HashMap<Box<str>, HashMap<Box<str>, Box<str>>>,
    /// 0 where the service is there and the device is not.
    pub connected: Box<str>,
    /// `<type>/<instance>` of the device that all others are reached through.
    pub gateway: Box<str>,
    /// What that is called where it has no name.
    pub gateway_name: Box<str>,
}

/// What an entity is for, by any word of its path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Categories {
    config: Vec<Box<str>>,
    diagnostic: Vec<Box<str>>,
    past: Vec<Box<str>>,
}

/// What a unit makes of a number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    #[serde(rename = "unit")]
    symbol: Box<str>,
    word: Option<Box<str>>,
    /// The device class.
    pub class: Option<Box<str>>,
    /// The state class.
    pub state: Option<Box<str>>,
    /// How many decimals are shown.
    pub digits: Option<u8>,
    /// What a last word of one letter stands for.
    pub noun: Option<Box<str>>,
    shown: Option<Box<str>>,
}

/// How a unit is shown as another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Convert {
    from: Box<str>,
    to: Box<str>,
    factor: f64,
}

/// Labels that are fine, and several grades of trouble.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grades {
    off: Box<str>,
    on: Vec<Box<str>>,
    class: Box<str>,
}

/// A part of a device that is a separate device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What its paths begin with; the next level tells which of several it is.
    pub path: Box<str>,
    /// The items below it that say its name; of several, the first that has a text.
    pub name: Vec<Box<str>>,
    /// The item below it that says in which area it is.
    pub area: Box<str>,
    /// What it is.
    pub model: Box<str>,
}

/// Two labels that are off and on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    off: Box<str>,
    on: Box<str>,
    only: Option<Only>,
    /// The device class of the binary sensor.
    pub class: Option<Box<str>>,
}

/// Which of the two a pair is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Only {
    Switch,
    BinarySensor,
}

/// How names are made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Names {
    /// Words of paths that are not simply written in small letters.
    pub spelling: HashMap<Box<str>, Box<str>>,
}

/// Two labels that are off and on, found among those of a row.
#[derive(Debug, Clone, Copy)]
pub struct OnOff<'a> {
    /// The code of off.
    pub off: i64,
    /// The code of on.
    pub on: i64,
    /// The device class of a binary sensor.
    pub class: Option<&'a str>,
}

/// Which of the labels of a row is fine; all others are grades of trouble.
#[derive(Debug, Clone, Copy)]
pub struct Level<'a> {
    /// The code of fine.
    pub off: i64,
    /// The device class of the binary sensor.
    pub class: &'a str,
}

impl Words {
    /// Reads the words that were built in.
    pub fn built_in() -> Result<Words, toml::de::Error> {
        toml::from_str(include_str!("../../schema/homeassistant/words.toml"))
    }

    /// What is known of a unit, for an item with this path.
    pub fn unit(&self, unit: &str, path: &str) -> Option<&Unit> {
        let last = path.rsplit('/').next().unwrap_or_default();
        self.unit
            .iter()
            .find(|row| *row.symbol == *unit && row.word.as_deref().is_none_or(|word| word == last))
    }

    /// What a value is multiplied with to be shown in another unit; `None` where that is not known.
    pub fn factor(&self, from: &str, to: &str) -> Option<f64> {
        let mut all = self.convert.iter();
        let found = all.find(|one| *one.from == *from && *one.to == *to);
        found.map(|one| one.factor)
    }

    /// Whether one of the labels is fine and all others are grades of trouble.
    pub fn level(&self, labels: &[(i64, Text)]) -> Option<Level<'_>> {
        let is = |own: &str, label: &Text| own.eq_ignore_ascii_case(label);
        self.level.iter().find_map(|grades| {
            let (fine, others): (Vec<_>, Vec<_>) =
                labels.iter().partition(|(_, label)| is(&grades.off, label));
            let [(off, _)] = fine.as_slice() else {
                return None;
            };
            let known = |label: &Text| grades.on.iter().any(|own| is(own, label));
            let all = !others.is_empty() && others.iter().all(|(_, label)| known(label));
            all.then_some(Level {
                off: *off,
                class: &grades.class,
            })
        })
    }

    /// The part that an item belongs to, with what its paths begin with: `/SwitchableOutput/pwm_1`.
    pub fn part<'p>(&self, path: &'p str) -> Option<(&Part, &'p str)> {
        self.part.iter().find_map(|part| {
            let rest = path.strip_prefix(&*part.path)?.strip_prefix('/')?;
            let end = rest.find('/')?;
            let head = path.len() - rest.len() + end;
            Some((part, path.get(..head)?))
        })
    }

    /// Whether the labels are off and on, as a switch or as a binary sensor shows them.
    pub fn on_off(&self, labels: &[(i64, Text)], switch: bool) -> Option<OnOff<'_>> {
        let [first, second] = labels else {
            return None;
        };
        let unfit = if switch {
            Only::BinarySensor
        } else {
            Only::Switch
        };
        let fitting = |off: &(i64, Text), on: &(i64, Text)| {
            let pair = self.pair.iter().find(|pair| {
                pair.only != Some(unfit)
                    && pair.off.eq_ignore_ascii_case(&off.1)
                    && pair.on.eq_ignore_ascii_case(&on.1)
            })?;
            Some(OnOff {
                off: off.0,
                on: on.0,
                class: pair.class.as_deref(),
            })
        };
        fitting(first, second).or_else(|| fitting(second, first))
    }
}

impl Unit {
    /// How Home Assistant writes the unit; empty where there is none.
    pub fn shown(&self) -> &str {
        self.shown.as_deref().unwrap_or(&self.symbol)
    }
}

impl DeviceItems {
    /// Whether the maker of products with known numbers made this one.
    pub fn is_made(&self, product: u64) -> bool {
        let mut ranges = self.maker_products.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&product))
    }

    /// Whether the item is looked at to describe the device.
    pub fn tells(&self, path: &str) -> bool {
        self.describes(path) || self.area.contains_key(path) || *self.product == *path
    }

    /// Whether the item says what the device is.
    pub fn describes(&self, path: &str) -> bool {
        let all = [
            &self.name,
            &self.manufacturer,
            &self.model,
            &self.serial,
            &self.software,
            &self.hardware,
        ];
        all.into_iter().flatten().any(|own| **own == *path)
    }
}

impl Categories {
    /// Whether it is set once.
    pub fn is_config(&self, path: &str) -> bool {
        has_word(&self.config, path)
    }

    /// Whether it is for those who look for a fault.
    pub fn is_diagnostic(&self, path: &str) -> bool {
        has_word(&self.diagnostic, path)
    }

    /// Whether it is of a day that is over.
    pub fn is_past(&self, path: &str) -> bool {
        let mut words = path.split('/');
        let is_past = |number: &str| number.parse::<u32>().is_ok_and(|number| number > 0);
        words.any(|word| self.past.iter().any(|own| **own == *word))
            && words.next().is_some_and(is_past)
    }
}

fn has_word(words: &[Box<str>], path: &str) -> bool {
    path.split('/')
        .any(|word| words.iter().any(|own| **own == *word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_that_fits_a_unit_counts() {
        let words = Words::built_in().unwrap();
        let class = |unit, path| words.unit(unit, path).unwrap().class.as_deref();
        assert_eq!(class("%", "/Soc"), Some("battery"));
        assert_eq!(class("%", "/Level"), None);
        assert_eq!(class("kWh", "/History/EnergyOut"), Some("energy"));
        assert_eq!(words.unit("lux", "/Luminosity").unwrap().shown(), "lx");
        assert!(words.unit("furlong", "/Soc").is_none());
    }

    #[test]
    fn on_and_off_are_told_by_the_labels_whatever_their_codes() {
        let words = Words::built_in().unwrap();
        let check = |labels: &[(i64, &str)], switch, expected| {
            let codes: Vec<(i64, Text)> = labels
                .iter()
                .map(|(code, label)| (*code, Text::Owned((*label).to_owned())))
                .collect();
            let found = words.on_off(&codes, switch);
            assert_eq!(
                found.map(|found| (found.off, found.on)),
                expected,
                "{labels:?}"
            );
        };
        check(&[(0, "off"), (1, "on")], true, Some((0, 1)));
        check(&[(1, "On"), (4, "Off")], false, Some((4, 1)));
        check(&[(0, "enabled"), (1, "disabled")], true, Some((1, 0)));
        check(&[(0, "open"), (1, "closed")], true, Some((0, 1)));
        check(&[(0, "open"), (1, "closed")], false, None);
        check(&[(0, "ok"), (2, "alarm")], false, Some((0, 2)));
        check(&[(0, "ok"), (2, "alarm")], true, None);
        check(&[(0, "off"), (1, "on"), (2, "auto")], true, None);
        check(&[(0, "trade"), (1, "green")], true, None);
    }

    #[test]
    fn a_day_or_charge_cycle_that_is_over_is_past_and_the_present_one_is_not() {
        let past = |path| Words::built_in().unwrap().category.is_past(path);
        assert!(past("/History/Daily/1/Yield"));
        assert!(past("/History/Daily/30/Pv/0/Yield"));
        assert!(!past("/History/Daily/0/Pv/1/Yield"));
        assert!(past("/History/Cycle/1/BulkTime"));
        assert!(!past("/History/Cycle/0/BulkTime"));
        assert!(!past("/History/Cycle/CyclesAvailable"));
        assert!(!past("/History/Overall/1"));
        assert!(!past("/Daily"));
    }
}
