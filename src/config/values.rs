//! The settings of one table, merged: for each that is set, the strongest value and where that is from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::{ConfigError, Origin, Problem};
use super::machine::read_text;
use super::setting::{Fields, FromSetting, Setting, Written};
use super::settings::declared;
use crate::model::name::PortalId;

/// What is set in one table.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    entries: BTreeMap<&'static str, Entry>,
    /// The settings file and the line of the table, where it is in one.
    pub(super) home: Option<(PathBuf, usize)>,
}

#[derive(Debug, Clone)]
struct Entry {
    setting: &'static Setting,
    found: Found<Written>,
}

/// A setting, and where it was found.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
    /// 0 is the strongest place.
    pub(super) rank: usize,
}

impl Values {
    /// Adds what a weaker place says; what is set already stays.
    pub(super) fn add(&mut self, setting: &'static Setting, found: Found<Written>) {
        let entry = Entry { setting, found };
        self.entries.entry(setting.key).or_insert(entry);
    }

    /// The value of this key, checked.
    pub(super) fn find<T: FromSetting>(
        &self,
        key: &'static str,
    ) -> Result<Option<Found<T>>, ConfigError> {
        debug_assert!(declared(key).is_some(), "{key} is not declared");
        let Some(Entry { setting, found }) = self.entries.get(key) else {
            return Ok(None);
        };
        match T::from_setting(setting, &found.value) {
            Ok(value) => Ok(Some(found.with(value))),
            Err(problem) => Err(found.wrong(problem)),
        }
    }

    /// The value of this key, or its default.
    pub(super) fn value<T: FromSetting + Default>(
        &self,
        key: &'static str,
    ) -> Result<T, ConfigError> {
        match declared(key) {
            Some(setting) => self.field(setting),
            None => Ok(T::default()),
        }
    }

    /// Whether this switch is on.
    pub(super) fn is_on(&self, key: &'static str) -> bool {
        let found = self.find(key).ok().flatten();
        found.is_some_and(|found| found.value)
    }

    /// As it is written, where it is set.
    pub(super) fn written(&self, key: &str) -> Option<&Written> {
        self.entries.get(key).map(|entry| &entry.found.value)
    }

    /// How strong the place is where it is set, if it is; 0 is the strongest.
    pub(super) fn rank(&self, key: &str) -> Option<usize> {
        self.entries.get(key).map(|entry| entry.found.rank)
    }

    /// Where it is set, if it is.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let entry = self.entries.get(key);
        entry.map_or(Origin::Default, |entry| entry.found.origin.clone())
    }

    /// A complaint about a setting, be it set or not: then it is its table that is to blame.
    pub(super) fn blame(&self, key: &'static str, problem: Problem) -> ConfigError {
        let origin = match (self.entries.get(key), &self.home, declared(key)) {
            (Some(entry), _, _) => entry.found.origin.clone(),
            (None, Some((path, line)), Some(setting)) => Origin::File {
                path: path.clone(),
                line: *line,
                key: setting.table_key(),
            },
            (None, None, Some(setting)) => Origin::Variable(setting.variable().into()),
            (None, _, None) => Origin::Default,
        };
        ConfigError::Setting { origin, problem }
    }

    /// Puts a portal id in the place of `{portal-id}`, where that may stand. While it is not known, files
    /// that have it in their names cannot be looked for, and are left out.
    pub(super) fn fill(&mut self, portal_id: &PortalId) {
        let is_known = *portal_id != PortalId::unknown();
        self.entries.retain(|_, Entry { setting, found }| {
            if !found.names_portal(setting) {
                return true;
            }
            if let Written::Text(text) = &mut found.value {
                *text = text.replace(PORTAL_ID, portal_id.as_str());
            } else if let Written::File(path) = &mut found.value {
                let text = path.to_string_lossy();
                *path = text.replace(PORTAL_ID, portal_id.as_str()).into();
                return is_known;
            }
            true
        });
        // The key of a certificate that was left out.
        if !is_known && !self.entries.contains_key("mqtt-client-certificate") {
            self.entries.remove("mqtt-client-key");
        }
    }

    /// Whether `{portal-id}` stands anywhere.
    #[cfg(feature = "client")]
    pub(super) fn names_portal(&self) -> bool {
        let mut entries = self.entries.values();
        entries.any(|entry| entry.found.names_portal(entry.setting))
    }
}

impl Fields for Values {
    type Error = ConfigError;

    fn field<T: FromSetting + Default>(&self, setting: &Setting) -> Result<T, ConfigError> {
        let found = self.find(setting.key)?;
        Ok(found.map_or_else(|| setting.default_as(), |found| found.value))
    }
}

impl Found<Written> {
    fn names_portal(&self, setting: &Setting) -> bool {
        let is_named = if let Written::Text(text) = &self.value {
            text.contains(PORTAL_ID)
        } else if let Written::File(path) = &self.value {
            path.to_str().is_some_and(|path| path.contains(PORTAL_ID))
        } else {
            false
        };
        setting.per_portal && is_named
    }
}

impl<T> Found<T> {
    /// Another value, from the same place.
    pub(super) fn with<U>(&self, value: U) -> Found<U> {
        Found {
            value,
            origin: self.origin.clone(),
            rank: self.rank,
        }
    }

    /// The complaint about it.
    pub(super) fn wrong(&self, problem: impl Into<Problem>) -> ConfigError {
        ConfigError::Setting {
            origin: self.origin.clone(),
            problem: problem.into(),
        }
    }
}

impl Found<PathBuf> {
    /// The text in the file that it names.
    pub(super) fn read(&self, bytes_max: u64) -> Result<String, ConfigError> {
        read_text(&self.value, bytes_max).map_err(|reason| {
            let path = self.value.clone();
            self.wrong(Problem::Unreadable { path, reason })
        })
    }
}

/// Stands for the portal id.
const PORTAL_ID: &str = "{portal-id}";
