//! The settings as flags: [`RawConfig`] is what the command line or the environment says, one entry for each
//! [`Setting`] that has a flag.
//!
//! Nothing is checked here but that a number is a number; [`super::resolve`] judges the rest, where
//! it can say which flag, variable or line is to blame.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgMatches, Command};

use super::secret::Secret;
use super::setting::{Setting, Written};
use super::settings::{BROKER, TOP};

/// The settings as written in one place: all of them may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawConfig {
    values: BTreeMap<&'static str, Written>,
}

impl RawConfig {
    /// Every setting that has a flag.
    pub fn settings() -> impl Iterator<Item = &'static Setting> {
        let all = BROKER.iter().chain(TOP);
        all.filter(|setting| setting.value.is_some())
    }

    /// With this setting besides. The key is that of a flag.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Written>) -> RawConfig {
        debug_assert!(RawConfig::settings().any(|setting| setting.key == key));
        self.values.insert(key, value.into());
        self
    }

    /// The same, if there is a value.
    #[must_use]
    pub fn with_some(self, key: &'static str, value: Option<impl Into<Written>>) -> RawConfig {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// What is set but for this.
    #[must_use]
    pub fn without(mut self, key: &str) -> RawConfig {
        self.values.remove(key);
        self
    }

    /// The value, if it is set.
    pub fn get(&self, key: &str) -> Option<&Written> {
        self.values.get(key)
    }

    /// Each that is set.
    pub(super) fn into_values(self) -> impl Iterator<Item = (&'static Setting, Written)> {
        let mut values = self.values;
        RawConfig::settings().filter_map(move |setting| {
            let value = values.remove(setting.key)?;
            Some((setting, value))
        })
    }

    /// The values of some settings, as the parser of arguments found them.
    pub(crate) fn from_matches<'a>(
        settings: impl IntoIterator<Item = &'a Setting>,
        matches: &ArgMatches,
    ) -> RawConfig {
        let mut raw = RawConfig::default();
        for setting in settings {
            let Ok(Some(found)) = matches.try_get_many::<Written>(setting.key) else {
                continue;
            };
            for written in found.cloned() {
                match (raw.values.get_mut(setting.key), written) {
                    (Some(Written::Folders(all)), Written::Folders(more)) => all.extend(more),
                    (Some(Written::Text(all)), Written::Text(more)) if setting.several => {
                        all.push(',');
                        all.push_str(&more);
                    }
                    (_, written) => drop(raw.values.insert(setting.key, written)),
                }
            }
        }
        raw
    }
}

impl clap::Args for RawConfig {
    fn augment_args(command: Command) -> Command {
        command.args(RawConfig::settings().filter_map(Setting::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        RawConfig::augment_args(command)
    }
}

impl clap::FromArgMatches for RawConfig {
    fn from_arg_matches(matches: &ArgMatches) -> Result<RawConfig, clap::Error> {
        Ok(RawConfig::from_matches(RawConfig::settings(), matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let new = RawConfig::from_matches(RawConfig::settings(), matches);
        self.values.extend(new.values);
        Ok(())
    }
}

impl From<bool> for Written {
    fn from(truth: bool) -> Written {
        Written::Truth(truth)
    }
}

impl From<String> for Written {
    fn from(text: String) -> Written {
        Written::Text(text)
    }
}

impl From<Secret> for Written {
    fn from(secret: Secret) -> Written {
        Written::Secret(secret)
    }
}

impl From<PathBuf> for Written {
    fn from(path: PathBuf) -> Written {
        Written::File(path)
    }
}

impl From<Vec<PathBuf>> for Written {
    fn from(folders: Vec<PathBuf>) -> Written {
        Written::Folders(folders)
    }
}
