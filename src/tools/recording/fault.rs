//! What can be wrong with a recording.

use std::path::PathBuf;

use crate::model::name::SERVICE_PREFIX;
use crate::tools::value::ValueError;

/// What is wrong with a recording, and where.
#[derive(Debug, thiserror::Error)]
#[error("{file}, line {line}: {fault}", file = file.display())]
pub struct RecordingError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with one line of a recording.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum Fault {
    /// The file has no line.
    #[error("the file is empty; the first line must be the start state of a service")]
    Empty,
    /// The line is not JSON, or lacks a field.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A value cannot be what the line says it is.
    #[error("{path}: {reason}")]
    Value { path: String, reason: ValueError },
    /// A path is not a D-Bus object path.
    #[error("{path:?} is not a D-Bus path")]
    Path { path: String },
    /// The service has no bus name.
    #[error("{name:?} is not a D-Bus name of a service")]
    Name { name: String },
    /// A service of another kind, on whose behalf nobody may speak.
    #[error("{name:?} is not a Victron service: its name does not begin with {SERVICE_PREFIX}")]
    Foreign { name: String },
    /// No line of any recording is as long.
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    Long,
    /// Time runs backwards.
    #[error("ts_ms {ts_ms} comes after {before}, but time must not run backwards")]
    Order {
        /// The time of this line.
        ts_ms: u64,
        /// The time of the line before.
        before: u64,
    },
}

/// Far more than the first line of the largest system has.
pub(super) const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
