//! The schema compiler: schema files in, rules and the paths that have them out.
//!
//! Owns the checks of rows against each other. Every mistake is told with its file, its line and one
//! sentence, and every mistake is found in one run. The build has it by path, for `schema/*.toml`
//! (`build/compile.rs`); the program has it for the directories that it is given when it runs. So it
//! imports nothing of the crate but its two neighbours `rule.rs` and `layout.rs`. Read on in `read.rs`
//! (one file), `check.rs` (one row) and `path.rs` (families); `schema/README.md` is the grammar for
//! people.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use self::check::{role_mistake, role_word, row_mistakes};
use self::path::{EXPANDED_MAX, Expanded, PATHS_MAX, specificity};
use self::read::{LabelSet, Labels, Row, SchemaFile};
use super::layout::{self, EVERY_TYPE};
use super::rule::{Codes, LookRef, Publish, Role, Rule};

mod check;
mod error;
mod path;
mod read;
mod types;

pub(crate) use self::error::Mistake;
pub use self::error::SchemaError;
pub(super) use self::types::signature;

/// A schema file as it lies on the disk.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the messages name it, `schema/vebus.toml`; the last part decides on the service type.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// A schema without mistakes.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Distinct rules: many rows share one.
    pub(crate) rules: Vec<Rule>,
    /// By name; one of them may have the rows of `_default.toml`.
    pub(crate) types: Vec<TypeRows>,
    /// The units that `_default.toml` adds.
    pub(crate) units: Vec<String>,
    /// The label sets that all files may use.
    pub(crate) sets: Vec<(String, Codes)>,
}

/// The rows of one service type, expanded.
#[derive(Debug)]
pub(crate) struct TypeRows {
    pub(crate) name: String,
    /// Empty where another schema below this one has it.
    pub(crate) description: String,
    /// Whether its services have an instance; `None` where that is not said.
    pub(crate) instance: Option<bool>,
    /// What a device of this type is called; empty where that is not said.
    pub(crate) device: String,
    pub(crate) exact: Vec<Place>,
    /// In the order in which they are tried.
    pub(crate) patterns: Vec<Place>,
}

/// A path, or a pattern with marks, the number of its rule, and what it is in a few words.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) rule: usize,
    pub(crate) description: String,
    /// What Home Assistant calls it, with places for what is open; empty where the row has none.
    pub(crate) name: String,
}

/// What files add to: nothing in the build, the schema so far at run time.
#[derive(Debug, Default)]
pub(crate) struct Base {
    /// Units that rows may name.
    pub(crate) units: Vec<String>,
    /// Label sets that all files may use.
    pub(crate) sets: Vec<(String, Codes)>,
    /// Service types that have a description.
    pub(crate) described: HashSet<String>,
    /// Rows that the bridge itself works with.
    pub(crate) marked: Vec<Marked>,
}

/// A row that the bridge itself works with: another may hide it, but must not take that away.
#[derive(Debug, Clone)]
pub(crate) struct Marked {
    pub(crate) service_type: String,
    pub(crate) path: String,
    pub(crate) identifying: bool,
    pub(crate) role: Role,
    pub(crate) publish: Publish,
}

/// Compiles schema files, or says all that is wrong with them.
pub(crate) fn compile(sources: &[Source], base: &Base) -> Result<Compiled, Vec<SchemaError>> {
    let mut errors = vec![];
    let mut files: Vec<_> = sources
        .iter()
        .map(|source| read::read(&source.name, &source.text, &mut errors))
        .collect();
    // Where a file is not TOML, the rest of the schema only seems to be wrong.
    if errors.iter().any(read::is_syntax) {
        errors.retain(read::is_syntax);
        return Err(errors);
    }
    files.sort_by(|a, b| a.service_type.cmp(&b.service_type));
    let default = files.iter().find(|file| file.service_type == EVERY_TYPE);
    let mut checker = Checker {
        base,
        default,
        units: base.units.iter().map(String::as_str).collect(),
        errors,
        rules: vec![],
        alike: HashMap::new(),
        used: HashSet::new(),
        paths_left: Some(PATHS_MAX),
    };
    let units = default.map(|file| file.units.clone()).unwrap_or_default();
    checker.units.extend(units.iter().map(String::as_str));
    let types = files.iter().map(|file| checker.file(file)).collect();
    for file in &files {
        checker.sets(file);
    }
    let sets = default.into_iter().flat_map(|file| &file.sets);
    let sets = sets.map(|set| (set.name.clone(), set.codes.clone()));
    let sets = sets.collect();
    let Checker {
        rules, mut errors, ..
    } = checker;
    if errors.is_empty() {
        return Ok(Compiled {
            rules,
            types,
            units,
            sets,
        });
    }
    errors.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Err(errors)
}

struct Checker<'c> {
    base: &'c Base,
    default: Option<&'c SchemaFile>,
    units: HashSet<&'c str>,
    errors: Vec<SchemaError>,
    /// Distinct rules: many rows share one.
    rules: Vec<Rule>,
    /// The numbers of rules by their fingerprints.
    alike: HashMap<u64, Vec<usize>>,
    /// Label sets that a row uses: file and set.
    used: HashSet<(String, String)>,
    /// How many paths rows may still stand for; `None` once that was too few. A small file can ask
    /// for more than memory holds.
    paths_left: Option<usize>,
}

impl Checker<'_> {
    fn file(&mut self, file: &SchemaFile) -> TypeRows {
        let is_default = file.service_type == EVERY_TYPE;
        let described = is_default || self.base.described.contains(&file.service_type);
        if file.description.is_none() && !described {
            self.error(file, 1, Mistake::MissingKey { key: "description" });
        }
        let mut rows = TypeRows {
            name: file.service_type.clone(),
            description: file.description.clone().unwrap_or_default(),
            instance: file.instance,
            device: file.device.clone().unwrap_or_default(),
            exact: vec![],
            patterns: vec![],
        };
        let (mut lines, mut roles) = (HashMap::new(), HashMap::new());
        let mut paths = Vec::with_capacity(file.rows.len());
        for row in &file.rows {
            if self.paths_left.is_none() {
                break;
            }
            let mut mistakes = row_mistakes(row, &self.units);
            mistakes.extend(role_mistake(row, &mut roles));
            let rule = self.rule(row, file);
            let places = if row.template.is_pattern() {
                &mut rows.patterns
            } else {
                &mut rows.exact
            };
            for expanded in expand(row, &mut lines, &mut self.paths_left, &mut mistakes) {
                let name = expanded.name(&row.name).unwrap_or_else(|place| {
                    let mistake = Mistake::NamePlace { place };
                    if !mistakes.contains(&mistake) {
                        mistakes.push(mistake);
                    }
                    String::new()
                });
                let path = expanded.path;
                paths.push((path.clone(), row));
                let description = row.description.clone();
                places.push(Place {
                    path,
                    rule,
                    description,
                    name,
                });
            }
            for mistake in mistakes {
                self.error(file, row.line, mistake);
            }
        }
        rows.patterns.sort_by_key(|place| specificity(&place.path));
        self.hidden(file, &paths);
        rows
    }

    /// A row of a service type goes before one of `_default.toml`, and one of an overlay before the
    /// built-in one. It may say more than that one, but must not take away what the bridge itself
    /// works with: how it finds the device instance, and what comes first.
    fn hidden(&mut self, file: &SchemaFile, paths: &[(String, &Row)]) {
        let base = &self.base.marked;
        let own = base
            .iter()
            .filter(|marked| marked.service_type == file.service_type);
        let mut marked: Vec<_> = own.cloned().collect();
        if file.service_type != EVERY_TYPE {
            let every = base
                .iter()
                .filter(|marked| marked.service_type == EVERY_TYPE);
            let every = every
                .cloned()
                .chain(self.default.into_iter().flat_map(marked_of));
            let every: Vec<_> = every
                .filter(|every| !marked.iter().any(|own| own.path == every.path))
                .collect();
            marked.extend(every);
        }
        marked.sort_by(|a, b| a.path.cmp(&b.path));
        marked.dedup_by(|a, b| a.path == b.path);
        for hidden in marked {
            let by = |pattern| {
                let mut paths = paths.iter();
                paths
                    .find(|(own, row)| {
                        row.template.is_pattern() == pattern && layout::matches(own, &hidden.path)
                    })
                    .map(|(_, row)| row)
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
            if hidden.publish == Publish::PortalId && row.publish != Publish::PortalId {
                words.push("publish = \"portal-id\"".to_owned());
            }
            if !words.is_empty() {
                let mistake = Mistake::Hides {
                    path: hidden.path.clone(),
                    file: format!("{}.toml", hidden.service_type),
                    words: words.join(", "),
                };
                self.error(file, row.line, mistake);
            }
        }
    }

    /// The rule of a row; the same one for rows that say the same.
    fn rule(&mut self, row: &Row, file: &SchemaFile) -> usize {
        let rule = Rule {
            data: row.data.clone(),
            access: row.access,
            confirm: row.confirm,
            publish: row.publish,
            secret: row.secret,
            identifying: row.identifying,
            role: row.role,
            range: row.range,
            unit: row.unit.clone().into(),
            labels: self.codes(row.labels.as_ref(), row.line, file),
            bits: self.bits(row, file),
            look: LookRef::Owned(Box::new(row.look.clone())),
        };
        let alike = self.alike.entry(fingerprint(&rule)).or_default();
        let known = alike
            .iter()
            .copied()
            .find(|number| self.rules.get(*number) == Some(&rule));
        known.unwrap_or_else(|| {
            alike.push(self.rules.len());
            self.rules.push(rule);
            self.rules.len() - 1
        })
    }

    fn bits(&mut self, row: &Row, file: &SchemaFile) -> Codes {
        let bits = self.codes(row.bits.as_ref(), row.line, file);
        for &(bit, _) in bits.iter().filter(|(bit, _)| !(0..64).contains(bit)) {
            self.error(file, row.line, Mistake::Bit { bit });
        }
        bits
    }

    /// The codes of a row: its own, or those of a set in its file, or those of a set that all share.
    fn codes(&mut self, labels: Option<&Labels>, line: usize, file: &SchemaFile) -> Codes {
        let name = match labels {
            None => return Codes::default(),
            Some(Labels::Inline(codes)) => return codes.clone(),
            Some(Labels::Named(name)) => name,
        };
        for file in [Some(file), self.default].into_iter().flatten() {
            if let Some(set) = set(file, name) {
                self.used.insert((file.name.clone(), name.clone()));
                return set.codes.clone();
            }
        }
        if let Some((_, codes)) = self.base.sets.iter().find(|(known, _)| known == name) {
            return codes.clone();
        }
        self.error(file, line, Mistake::LabelSet { name: name.clone() });
        Codes::default()
    }

    fn sets(&mut self, file: &SchemaFile) {
        let shared = self
            .default
            .filter(|default| default.service_type != file.service_type);
        for LabelSet { name, line, .. } in &file.sets {
            // A directory with a `_default.toml` of its own has the shared sets there, so that a newer
            // schema can be laid over an older one as a whole.
            let below =
                self.default.is_none() && self.base.sets.iter().any(|(known, _)| known == name);
            if below || shared.is_some_and(|shared| set(shared, name).is_some()) {
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

/// The rows of a file that the bridge itself works with.
fn marked_of(file: &SchemaFile) -> impl Iterator<Item = Marked> + '_ {
    let rows = file
        .rows
        .iter()
        .filter(|row| row.identifying || row.role != Role::None);
    rows.map(|row| Marked {
        service_type: file.service_type.clone(),
        path: row.path.clone(),
        identifying: row.identifying,
        role: row.role,
        publish: row.publish,
    })
}

/// The paths that a row stands for and no row before it; `lines` knows who declared what.
fn expand(
    row: &Row,
    lines: &mut HashMap<String, usize>,
    left: &mut Option<usize>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Expanded> {
    let own = || row.path.clone();
    let Ok(mut paths) = row.template.expand() else {
        mistakes.push(Mistake::FamilySize {
            path: own(),
            max: EXPANDED_MAX,
        });
        return vec![];
    };
    *left = left.and_then(|left| left.checked_sub(paths.len()));
    if left.is_none() {
        mistakes.push(Mistake::TooManyRows { max: PATHS_MAX });
        return vec![];
    }
    paths.retain(|Expanded { path, .. }| {
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

/// Differs for most rules that differ, so that few of them have to be compared.
fn fingerprint(rule: &Rule) -> u64 {
    let Rule {
        unit,
        labels,
        bits,
        access,
        confirm,
        range,
        look,
        ..
    } = rule;
    let range = range.map(|(min, max)| (min.to_bits(), max.to_bits()));
    let mut hasher = DefaultHasher::new();
    (unit, labels, bits, access, confirm, range).hash(&mut hasher);
    (look.show, look.entity, &look.class, &look.shown).hash(&mut hasher);
    (&look.with, &look.switch).hash(&mut hasher);
    hasher.finish()
}

fn set<'f>(file: &'f SchemaFile, name: &str) -> Option<&'f LabelSet> {
    file.sets.iter().find(|set| set.name == name)
}
