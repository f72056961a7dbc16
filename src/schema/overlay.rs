//! One directory of schema files, read when the program runs and laid over the built-in tables.
//!
//! The same files and the same checks as in the build ([`super::source`]); only where the rows lie
//! afterwards differs. What is asked here is asked once per item, never per update.

use std::collections::HashMap;

use super::layout;
use super::row::Known;
use super::rule::{Codes, Rule};
use super::source::{Compiled, Place, TypeRows};

/// The rows of one directory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layer {
    rules: Vec<Rule>,
    types: HashMap<String, Rows>,
    units: Vec<String>,
    sets: Vec<(String, Codes)>,
}

/// The rows of one service type, by path.
#[derive(Debug, Default, Clone, PartialEq)]
struct Rows {
    description: String,
    instance: Option<bool>,
    device: String,
    exact: HashMap<String, Said>,
    /// In the order in which they are tried.
    patterns: Vec<(String, Said)>,
}

/// What a row says: the number of its rule, and a few words.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    rule: usize,
    description: Box<str>,
    name: Box<str>,
}

impl Layer {
    pub(super) fn new(compiled: Compiled) -> Layer {
        let Compiled {
            rules,
            types,
            units,
            sets,
        } = compiled;
        let pair = |place: Place| {
            let Place {
                path,
                rule,
                description,
                name,
            } = place;
            let said = Said {
                rule,
                description: description.into(),
                name: name.into(),
            };
            (path, said)
        };
        let rows = |rows: TypeRows| {
            let own = Rows {
                description: rows.description,
                instance: rows.instance,
                device: rows.device,
                exact: rows.exact.into_iter().map(pair).collect(),
                patterns: rows.patterns.into_iter().map(pair).collect(),
            };
            (rows.name, own)
        };
        Layer {
            rules,
            types: types.into_iter().map(rows).collect(),
            units,
            sets,
        }
    }

    /// What it says of a path of this service type: a row that names it goes before a pattern.
    /// Beside it the pattern, empty where the row names the path.
    pub(super) fn lookup(&self, service_type: &str, path: &str) -> Option<(Known<'_>, &str)> {
        let rows = self.types.get(service_type)?;
        let exact = rows.exact.get(path).map(|said| ("", said));
        let (pattern, said) = exact.or_else(|| {
            let mut patterns = rows.patterns.iter();
            patterns
                .find(|(pattern, _)| layout::matches(pattern, path))
                .map(|(pattern, said)| (&**pattern, said))
        })?;
        Some((self.known(said)?, pattern))
    }

    fn known<'s>(&'s self, said: &'s Said) -> Option<Known<'s>> {
        Some(Known {
            rule: self.rules.get(said.rule)?,
            description: &said.description,
            name: &said.name,
        })
    }

    /// Whether services of this type have an instance; `None` where it does not say.
    pub(super) fn has_instance(&self, service_type: &str) -> Option<bool> {
        self.types.get(service_type)?.instance
    }

    pub(super) fn service_types(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    pub(super) fn describe(&self, service_type: &str) -> Option<&str> {
        let rows = self.types.get(service_type)?;
        Some(&*rows.description).filter(|text| !text.is_empty())
    }

    /// What a device of this type is called.
    pub(super) fn device(&self, service_type: &str) -> Option<&str> {
        let rows = self.types.get(service_type)?;
        Some(&*rows.device).filter(|text| !text.is_empty())
    }

    /// The units that it adds.
    pub(super) fn units(&self) -> &[String] {
        &self.units
    }

    /// The label sets that it adds for all files.
    pub(super) fn sets(&self) -> &[(String, Codes)] {
        &self.sets
    }

    /// Every path and pattern that has a row, with its service type and what is known of it.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, &str, Known<'_>)> {
        self.types.iter().flat_map(|(name, rows)| {
            let patterns = rows.patterns.iter().map(|(path, said)| (path, said));
            let all = rows.exact.iter().chain(patterns);
            all.filter_map(|(path, said)| Some((name.as_str(), path.as_str(), self.known(said)?)))
        })
    }
}
