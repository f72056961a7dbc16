//! One directory of schema files, read when the program runs and laid over the built-in tables.
//!
//! The same files and the same checks as in the build ([`super::source`]); only where the rows lie
//! afterwards differs. What is asked here is asked once per item, never per update.

use std::collections::HashMap;

use super::layout;
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

/// The rows of one service type: paths and the numbers of their rules.
#[derive(Debug, Default, Clone, PartialEq)]
struct Rows {
    description: String,
    exact: HashMap<String, usize>,
    /// In the order in which they are tried.
    patterns: Vec<(String, usize)>,
}

impl Layer {
    pub(super) fn new(compiled: Compiled) -> Layer {
        let Compiled {
            rules,
            types,
            units,
            sets,
        } = compiled;
        let pair = |Place { path, rule }| (path, rule);
        let rows = |rows: TypeRows| {
            let own = Rows {
                description: rows.description,
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

    /// The rule of a path of this service type: a row that names it goes before a pattern.
    pub(super) fn lookup(&self, service_type: &str, path: &str) -> Option<&Rule> {
        let rows = self.types.get(service_type)?;
        let named = rows.exact.get(path).copied();
        let number = named.or_else(|| {
            let mut patterns = rows.patterns.iter();
            patterns
                .find(|(pattern, _)| layout::matches(pattern, path))
                .map(|(_, number)| *number)
        });
        self.rules.get(number?)
    }

    pub(super) fn service_types(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    pub(super) fn describe(&self, service_type: &str) -> Option<&str> {
        let rows = self.types.get(service_type)?;
        Some(&*rows.description).filter(|text| !text.is_empty())
    }

    /// The units that it adds.
    pub(super) fn units(&self) -> &[String] {
        &self.units
    }

    /// The label sets that it adds for all files.
    pub(super) fn sets(&self) -> &[(String, Codes)] {
        &self.sets
    }

    /// Every path and pattern that has a row, with its service type and rule.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, &str, &Rule)> {
        self.types.iter().flat_map(|(name, rows)| {
            let patterns = rows.patterns.iter().map(|(path, rule)| (path, rule));
            let known = rows.exact.iter().chain(patterns);
            known.filter_map(|(path, rule)| {
                Some((name.as_str(), path.as_str(), self.rules.get(*rule)?))
            })
        })
    }
}
