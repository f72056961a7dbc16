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
    pair: Vec<Pair>,
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
    supplements: Vec<Box<str>>,
    vague_ends: Vec<Box<str>>,
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

impl Names {
    /// Whether a description says more about a name, and is none by itself.
    pub fn is_supplement(&self, description: &str) -> bool {
        let first = description.split(' ').next().unwrap_or_default();
        self.supplements
            .iter()
            .any(|own| own.eq_ignore_ascii_case(first))
    }

    /// Whether a description leaves open which of several it is about.
    pub fn is_vague(&self, description: &str) -> bool {
        self.vague_ends
            .iter()
            .any(|end| description.ends_with(&**end))
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
