//! The schema compiler: `schema/*.toml` in, one Rust file of static tables out.
//!
//! Owns the checks of rows against each other. A mistake fails the build with its file, its line and
//! one sentence, and every mistake is found in one run. Included by path from `build.rs` and from
//! `tests/schema.rs`. Read on in `read.rs` (one file), `check.rs` (one row), `path.rs` (families) and
//! `emit.rs` (the tables); `schema/README.md` is the grammar for people.

use std::collections::{HashMap, HashSet};

use self::check::{role_mistake, role_word, row_mistakes};
use self::emit::{Compiled, Place, TypeRows};
use self::error::{Mistake, SchemaError};
use self::layout::EVERY_TYPE;
use self::path::{EXPANDED_MAX, specificity};
use self::read::{Codes, LabelSet, Labels, Row, SchemaFile};
use self::rule::{Role, Rule};

mod check;
mod emit;
pub(crate) mod error;
#[path = "../src/schema/layout.rs"]
mod layout;
mod path;
mod read;
#[path = "../src/schema/rule.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the crate uses all of it, the compiler only some"
)]
mod rule;
mod types;

/// A schema file as it lies on the disk.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// As the messages name it, `schema/vebus.toml`; the last part decides on the service type.
    pub(crate) name: String,
    /// What it says.
    pub(crate) text: String,
}

/// Compiles the schema into the text of the tables, or says all that is wrong with it.
pub(crate) fn compile(sources: &[Source]) -> Result<String, Vec<SchemaError>> {
    let mut errors = vec![];
    let mut files: Vec<_> = sources
        .iter()
        .map(|source| read::read(&source.name, &source.text, &mut errors))
        .collect();
    // Where a file is no TOML, the rest of the schema only seems to be wrong.
    if errors.iter().any(read::is_syntax) {
        errors.retain(read::is_syntax);
        return Err(errors);
    }
    files.sort_by(|a, b| a.service_type.cmp(&b.service_type));
    let mut checker = Checker {
        errors,
        ..Checker::default()
    };
    let default = files.iter().find(|file| file.service_type == EVERY_TYPE);
    let types = files
        .iter()
        .map(|file| checker.file(file, default))
        .collect();
    for file in &files {
        checker.sets(file, default);
    }
    let compiled = Compiled {
        rules: checker.rules,
        types,
    };
    let mut errors = checker.errors;
    if errors.is_empty() {
        match emit::emit(&compiled) {
            Ok(text) => return Ok(text),
            Err(mistake) => errors.push(SchemaError {
                file: "schema".to_owned(),
                line: 1,
                mistake,
            }),
        }
    }
    errors.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Err(errors)
}

#[derive(Default)]
struct Checker {
    errors: Vec<SchemaError>,
    /// Distinct rules: many rows share one.
    rules: Vec<Rule>,
    /// Label sets that a row uses: file and set.
    used: HashSet<(String, String)>,
}

impl Checker {
    fn file(&mut self, file: &SchemaFile, default: Option<&SchemaFile>) -> TypeRows {
        let mut rows = TypeRows {
            name: file.service_type.clone(),
            description: file.description.clone(),
            exact: vec![],
            patterns: vec![],
        };
        let (mut lines, mut roles) = (HashMap::new(), HashMap::new());
        for row in &file.rows {
            let mut mistakes = row_mistakes(row, default);
            mistakes.extend(role_mistake(row, &mut roles));
            let rule = self.rule(row, file, default);
            let places = if row.template.is_pattern() {
                &mut rows.patterns
            } else {
                &mut rows.exact
            };
            for path in expand(row, &mut lines, &mut mistakes) {
                places.push(Place { path, rule });
            }
            for mistake in mistakes {
                self.error(file, row.line, mistake);
            }
        }
        rows.patterns.sort_by_key(|place| specificity(&place.path));
        if file.service_type != EVERY_TYPE {
            self.hidden(file, default);
        }
        rows
    }

    /// A row of a service type goes before one of `_default.toml`. It may say more than that one,
    /// but must not take away that the bridge finds the device instance with it.
    fn hidden(&mut self, file: &SchemaFile, default: Option<&SchemaFile>) {
        let marked = |row: &&Row| row.identifying || row.role != Role::None;
        let defaults = default.iter().flat_map(|default| &default.rows);
        for hidden in defaults.filter(marked) {
            let by = |pattern| {
                file.rows
                    .iter()
                    .find(|row| covers(row, &hidden.path, pattern))
            };
            let row = by(false).or_else(|| by(true));
            let Some(row) = row else { continue };
            let mut words = vec![];
            if hidden.identifying && !row.identifying {
                words.push("identifying = true".to_owned());
            }
            if hidden.role != row.role && hidden.role != Role::None {
                words.push(format!("role = \"{}\"", role_word(hidden.role)));
            }
            if !words.is_empty() {
                let (path, words) = (hidden.path.clone(), words.join(", "));
                self.error(file, row.line, Mistake::HidesDefault { path, words });
            }
        }
    }

    /// The rule of a row; the same one for rows that say the same.
    fn rule(&mut self, row: &Row, file: &SchemaFile, default: Option<&SchemaFile>) -> usize {
        let rule = Rule {
            data: row.data,
            access: row.access,
            publish: row.publish,
            secret: row.secret,
            identifying: row.identifying,
            role: row.role,
            range: row.range,
            unit: keep(&row.unit),
            labels: self.codes(row.labels.as_ref(), row.line, file, default),
            bits: self.bits(row, file, default),
            description: keep(&row.description),
        };
        self.rules
            .iter()
            .position(|known| *known == rule)
            .unwrap_or_else(|| {
                self.rules.push(rule);
                self.rules.len() - 1
            })
    }

    fn bits(&mut self, row: &Row, file: &SchemaFile, default: Option<&SchemaFile>) -> KeptCodes {
        let bits = self.codes(row.bits.as_ref(), row.line, file, default);
        for &(bit, _) in bits.iter().filter(|(bit, _)| !(0..64).contains(bit)) {
            self.error(file, row.line, Mistake::Bit { bit });
        }
        bits
    }

    /// The codes of a row: its own, or those of a set in its file, or those of a set that all share.
    fn codes(
        &mut self,
        labels: Option<&Labels>,
        line: usize,
        file: &SchemaFile,
        default: Option<&SchemaFile>,
    ) -> KeptCodes {
        let name = match labels {
            None => return &[],
            Some(Labels::Inline(codes)) => return keep_codes(codes),
            Some(Labels::Named(name)) => name,
        };
        for file in [Some(file), default].into_iter().flatten() {
            if let Some(set) = set(file, name) {
                self.used.insert((file.name.clone(), name.clone()));
                return keep_codes(&set.codes);
            }
        }
        self.error(file, line, Mistake::LabelSet { name: name.clone() });
        &[]
    }

    fn sets(&mut self, file: &SchemaFile, default: Option<&SchemaFile>) {
        let shared = default.filter(|default| default.service_type != file.service_type);
        for LabelSet { name, line, .. } in &file.sets {
            if shared.is_some_and(|shared| set(shared, name).is_some()) {
                self.error(file, *line, Mistake::LabelSetTwice { name: name.clone() });
            }
            if !self.used.contains(&(file.name.clone(), name.clone())) {
                self.error(file, *line, Mistake::LabelSetUnused { name: name.clone() });
            }
        }
    }

    fn error(&mut self, file: &SchemaFile, line: usize, mistake: Mistake) {
        self.errors.push(SchemaError {
            file: file.name.clone(),
            line,
            mistake,
        });
    }
}

/// The paths that a row stands for and no row before it; `lines` knows who declared what.
fn expand(
    row: &Row,
    lines: &mut HashMap<String, usize>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<String> {
    let own = || row.path.clone();
    let Ok(mut paths) = row.template.expand() else {
        mistakes.push(Mistake::FamilySize {
            path: own(),
            max: EXPANDED_MAX,
        });
        return vec![];
    };
    paths.retain(|path| {
        let first = lines.get(path).copied();
        if let Some(first) = first {
            let path = if row.template.is_pattern() {
                own()
            } else {
                path.clone()
            };
            mistakes.push(Mistake::Duplicate { path, first });
        } else {
            lines.insert(path.clone(), row.line);
        }
        first.is_none()
    });
    paths
}

/// Whether a row stands for this path, by name or, with `pattern`, by an open place.
fn covers(row: &Row, path: &str, pattern: bool) -> bool {
    row.template.is_pattern() == pattern
        && row
            .template
            .expand()
            .is_ok_and(|paths| paths.iter().any(|own| layout::matches(own, path)))
}

fn set<'f>(file: &'f SchemaFile, name: &str) -> Option<&'f LabelSet> {
    file.sets.iter().find(|set| set.name == name)
}

type KeptCodes = &'static [(i64, &'static str)];

/// Rules hold static texts, since they are made for the crate. The compiler runs once and ends, so
/// what it leaks here it would have kept anyway.
fn keep(text: &str) -> &'static str {
    if text.is_empty() {
        ""
    } else {
        text.to_owned().leak()
    }
}

fn keep_codes(codes: &Codes) -> KeptCodes {
    codes
        .iter()
        .map(|(code, label)| (*code, keep(label)))
        .collect::<Vec<_>>()
        .leak()
}
