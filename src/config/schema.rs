//! The directories of schema files that the operator gives, read and laid over the built-in schema.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ConfigError, Problem};
use super::layers::Layers;
use super::machine::read_text;
use super::values::Found;
use crate::schema::{Schema, Source};

impl Layers {
    /// The schema: what is built in, and over it each directory, in the order in which they are given.
    pub fn schema(&self) -> Result<Arc<Schema>, ConfigError> {
        let mut schema = Schema::default();
        if let Some(found) = self.top.find::<Vec<PathBuf>>("schema")? {
            for directory in &found.value {
                let files = read_schema(directory)
                    .map_err(|reason| unreadable(&found, directory, reason))?;
                schema.add(&files).map_err(|mistakes| ConfigError::Schema {
                    mistakes: mistakes.iter().map(ToString::to_string).collect(),
                    directory: directory.clone(),
                })?;
            }
        }
        Ok(Arc::new(schema))
    }
}

fn unreadable(found: &Found<Vec<PathBuf>>, directory: &Path, reason: io::Error) -> ConfigError {
    let path = directory.to_owned();
    found.wrong(Problem::Unreadable { path, reason })
}

/// The schema files of a directory, in the order of their names.
pub fn read_schema(directory: &Path) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let name = path.display().to_string();
            let text = read_text(&path, FILE_BYTES_MAX)
                .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
            sources.push(Source { name, text });
        }
    }
    if sources.is_empty() {
        // Most likely another directory was meant.
        let problem = "no schema files are in it; one ends in .toml";
        return Err(io::Error::new(io::ErrorKind::NotFound, problem));
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

const FILE_BYTES_MAX: u64 = 1024 * 1024;
