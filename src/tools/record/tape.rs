//! The file of one service: its start state, its changes, and never a secret.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zbus::Variant;

use crate::schema::Schema;
use crate::tools::ToolError;
use crate::tools::item::Item;
use crate::tools::recording::{Change, Writer, service_type};
use crate::tools::value;

/// The file of a service, and what it says the items are.
pub(super) struct Tape {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
    pub(super) items: BTreeMap<String, Item>,
}

impl Tape {
    pub(super) fn begin(
        path: PathBuf,
        name: &str,
        items: BTreeMap<String, Item>,
    ) -> Result<Tape, ToolError> {
        let mut options = OpenOptions::new();
        // Where somebody lives and when they are there is for their own eyes.
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|reason| {
            if reason.kind() == ErrorKind::AlreadyExists {
                ToolError::Exists { path: path.clone() }
            } else {
                file_error(&path, reason)
            }
        })?;
        let writer = Writer::start(BufWriter::new(file), name, ORIGIN, &items)
            .map_err(|reason| file_error(&path, reason))?;
        Ok(Tape {
            path,
            writer,
            items,
        })
    }

    pub(super) fn change(&mut self, change: Change) -> Result<(), ToolError> {
        let written = self.writer.change(&change);
        written.map_err(|reason| file_error(&self.path, reason))?;
        let item = Item {
            text: change.text,
            ..Item::new(change.value)
        };
        self.items.insert(change.path, item);
        Ok(())
    }

    /// What makes of the items on file those of now.
    pub(super) fn differences(&self, mut now: BTreeMap<String, Item>, ts_ms: u64) -> Vec<Change> {
        for path in self.items.keys() {
            now.entry(path.clone())
                .or_insert_with(|| Item::new(value::invalid()));
        }
        now.into_iter()
            .filter(|(path, item)| {
                self.items
                    .get(path)
                    .is_none_or(|before| !value::same(&before.value, &item.value))
            })
            .map(|(path, item)| Change {
                ts_ms,
                path,
                value: item.value,
                text: item.text,
            })
            .collect()
    }

    pub(super) fn flush(&mut self) -> Result<(), ToolError> {
        let flushed = self.writer.flush();
        flushed.map_err(|reason| file_error(&self.path, reason))
    }
}

pub(super) fn mask(schema: &Schema, service: &str, path: &str, item: &mut Item) {
    if !schema.lookup(service_type(service), path).rule.secret {
        return;
    }
    for value in [Some(&mut item.value), item.default.as_mut()]
        .into_iter()
        .flatten()
    {
        if matches!(value, Variant::Str(text) if !text.is_empty()) {
            *value = Variant::from(STARS);
        }
    }
    if item.text.as_ref().is_some_and(|text| !text.is_empty()) {
        item.text = Some(STARS.to_owned());
    }
}

pub(super) fn masked_change(schema: &Schema, service: &str, change: Change) -> Change {
    let mut item = Item {
        text: change.text,
        ..Item::new(change.value)
    };
    mask(schema, service, &change.path, &mut item);
    Change {
        value: item.value,
        text: item.text,
        ..change
    }
}

const ORIGIN: &str = concat!("dbus-mqtt record ", env!("CARGO_PKG_VERSION"));
/// What a secret is written as (§4.7).
const STARS: &str = "******";

pub(super) fn file_error(path: &Path, reason: std::io::Error) -> ToolError {
    ToolError::File {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_become_stars() {
        let schema = Schema::default();
        let service = "com.victronenergy.settings";
        let path = "/Settings/Services/AccessPointPassword";
        let mut item = Item::new("hunter2").text("hunter2");
        mask(&schema, service, path, &mut item);
        assert_eq!(item.shown(), STARS);
        assert!(value::same(&item.value, &Variant::from(STARS)));

        let mut empty = Item::new("").text("");
        mask(&schema, service, path, &mut empty);
        assert!(value::same(&empty.value, &Variant::from("")));

        let mut other = Item::new("Boat").text("Boat");
        mask(
            &schema,
            service,
            "/Settings/SystemSetup/SystemName",
            &mut other,
        );
        assert_eq!(other.shown(), "Boat");
    }

    #[test]
    fn a_service_that_comes_back_adds_only_what_is_different() {
        let directory = tempfile::tempdir().unwrap();
        let items = |pairs: &[(&str, i32)]| -> BTreeMap<String, Item> {
            pairs
                .iter()
                .map(|(path, value)| ((*path).to_owned(), Item::new(*value)))
                .collect()
        };
        let before = items(&[("/a", 1), ("/b", 2), ("/c", 3)]);
        let file = directory.path().join("x.jsonl");
        let tape = Tape::begin(file.clone(), "com.victronenergy.x", before).unwrap();
        let changes = tape.differences(items(&[("/a", 1), ("/b", 5), ("/d", 4)]), 7);
        let told: Vec<String> = changes
            .iter()
            .map(|change| format!("{}={}", change.path, value::plain_text(&change.value)))
            .collect();
        assert_eq!(told, ["/b=5", "/c=", "/d=4"]);

        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let again = Tape::begin(file, "com.victronenergy.x", BTreeMap::new());
        assert!(matches!(again, Err(ToolError::Exists { .. })));
    }
}
