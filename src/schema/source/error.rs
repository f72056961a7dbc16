//! What can be wrong with a schema file, each as one sentence.
//!
//! An error names the file and the line, so that `schema/vebus.toml:37: …` can be followed from the
//! build's output to the row. The sentences are tested one by one in `tests/schema/bad/`.

use thiserror::Error;

/// One mistake in a schema file.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{file}:{line}: {mistake}")]
pub struct SchemaError {
    /// The file as the build names it, `schema/vebus.toml`.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub(crate) mistake: Mistake,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Error)]
pub(crate) enum Mistake {
    // The file.
    #[error("this is not valid TOML: {message}")]
    Syntax { message: String },
    #[error(
        "a schema file is named for its service type, in lower-case letters and digits; `{name}` is not"
    )]
    FileName { name: String },
    #[error("`{key}` is unknown here; known are {known}")]
    UnknownKey { key: String, known: &'static str },
    #[error("`{key}` is missing")]
    MissingKey { key: &'static str },
    #[error("`{key}` must be {expected}")]
    WrongKind { key: String, expected: &'static str },
    #[error("`{key}` must not be empty")]
    EmptyText { key: String },

    // Paths and families.
    #[error("the path `{path}` must begin with `/`")]
    PathStart { path: String },
    #[error("a path of {found} bytes is too long: at most {max}")]
    PathLength { found: usize, max: usize },
    #[error("the path `{path}` has an empty segment")]
    PathSegment { path: String },
    #[error("`{found}` cannot stand in a path; letters, digits and `_` can")]
    PathCharacter { found: char },
    #[error("a brace of `{path}` has no partner")]
    PathBrace { path: String },
    #[error(
        "`{{{place}}}` is not a family; use `{{n}}` for any number, `{{name}}` for any text, `{{1..3}}` or `{{A..E}}` for a closed one"
    )]
    Family { place: String },
    #[error("`{{{place}}}` must run upwards")]
    FamilyOrder { place: String },
    #[error("`{path}` has two open places in one segment")]
    FamilyOpen { path: String },
    #[error("`{path}` stands for more than {max} rows")]
    FamilySize { path: String, max: usize },
    #[error("with this row, the files stand for more than {max} rows")]
    TooManyRows { max: usize },
    #[error("`{path}` is declared twice, first in line {first}")]
    Duplicate { path: String, first: usize },

    // Rows.
    #[error(
        "`{found}` is not a type; use a letter of ynqiuxtdbs, `number`, or the signature of an array, dict or struct"
    )]
    Type { found: String },
    #[error("`{unit}` is not among the units of _default.toml")]
    Unit { unit: String },
    #[error("`{key}` is {expected}, not `{found}`")]
    Word {
        key: &'static str,
        expected: &'static str,
        found: String,
    },
    #[error("`{key}` needs a number, but the type is `{data}`")]
    NeedsNumber { key: &'static str, data: String },
    #[error("`{key}` needs a text, but the type is `{data}`")]
    NeedsText { key: &'static str, data: String },
    #[error("the range runs from {min} down to {max}")]
    RangeOrder { min: f64, max: f64 },
    #[error("the range leaves the type `{data}`, which holds {min} to {max}")]
    RangeType { data: String, min: f64, max: f64 },
    #[error("a range is one of writes, but the access is not `rw`")]
    RangeAccess,
    #[error("what asks before a write can be written: `confirm` needs the access `rw`")]
    ConfirmAccess,
    #[error("an item that is blocked cannot be {other} as well")]
    Blocked { other: &'static str },

    #[error("the name has a place `{{{place}}}`, and the path has none of that number")]
    NamePlace { place: String },
    #[error(
        "`with` names the other items of an entity of kind {kind}, as paths: it needs {needed}"
    )]
    With { kind: &'static str, needed: usize },
    #[error("`switch` needs `labels` that are there as `x` and as `off (x)`")]
    Switch,
    #[error(
        "the label `{label}` would be no state for Home Assistant: say what it is that is not there"
    )]
    LabelState { label: String },

    // Labels.
    #[error("the code `{code}` is not an integer")]
    LabelCode { code: String },
    #[error("there is no bit {bit}; bits are numbered from 0 to 63")]
    Bit { bit: i64 },
    #[error("the label set `{name}` is neither in this file nor in _default.toml")]
    LabelSet { name: String },
    #[error("no row uses the label set `{name}`")]
    LabelSetUnused { name: String },
    #[error("the label set `{name}` is in _default.toml already")]
    LabelSetTwice { name: String },

    // Rows among each other.
    #[error("a role belongs to one path, not to a family")]
    RoleFamily,
    #[error("the role `{role}` is taken, by line {first}")]
    RoleTaken { role: &'static str, first: usize },
    #[error("this row hides `{path}` of {file}, so it must repeat `{words}`")]
    Hides {
        path: String,
        file: String,
        words: String,
    },
}
