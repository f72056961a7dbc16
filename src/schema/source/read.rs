//! One schema file, from text to rows: what can be checked without looking at another row.
//!
//! Never stops at a mistake: everything that is wrong in a file is found in one run. What rows say
//! together is checked in `mod.rs`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeString, DeTable, DeValue};

use super::super::layout::EVERY_TYPE;
use super::super::rule::{Access, Codes, DataType, Kind, Look, Publish, Role, Show};
use super::error::{Mistake, SchemaError};
use super::path::Template;
use super::types;

/// A schema file, parsed.
#[derive(Debug)]
pub(crate) struct SchemaFile {
    /// The file as the build names it, `schema/vebus.toml`.
    pub(crate) name: String,
    /// The service type, or [`EVERY_TYPE`].
    pub(crate) service_type: String,
    /// None where the file has none; empty where it has a wrong one, which was told.
    pub(crate) description: Option<String>,
    /// Whether its services have an instance; `None` where it does not say.
    pub(crate) instance: Option<bool>,
    /// What a device of this type is called.
    pub(crate) device: Option<String>,
    pub(crate) units: Vec<String>,
    pub(crate) sets: Vec<LabelSet>,
    pub(crate) rows: Vec<Row>,
}

/// Codes that several rows share, by name.
#[derive(Debug)]
pub(crate) struct LabelSet {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) codes: Codes,
}

/// One row: a path or a family of paths, and what is known of it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) line: usize,
    pub(crate) path: String,
    pub(crate) template: Template,
    pub(crate) data: DataType,
    pub(crate) unit: String,
    pub(crate) access: Access,
    pub(crate) confirm: bool,
    pub(crate) range: Option<(f64, f64)>,
    pub(crate) labels: Option<Labels>,
    pub(crate) bits: Option<Labels>,
    pub(crate) publish: Publish,
    pub(crate) secret: bool,
    pub(crate) identifying: bool,
    pub(crate) role: Role,
    pub(crate) description: String,
    pub(crate) name: String,
    pub(crate) look: Look,
}

/// The codes of a row, written there or named.
#[derive(Debug)]
pub(crate) enum Labels {
    Inline(Codes),
    Named(String),
}

/// Reads one file; what is wrong with it goes to `errors`.
pub(crate) fn read(name: &str, text: &str, errors: &mut Vec<SchemaError>) -> SchemaFile {
    let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    let mut reader = Reader {
        name,
        newlines: newlines.map(|(at, _)| at).collect(),
        errors,
    };
    let stem = name
        .rsplit('/')
        .next()
        .unwrap_or(name)
        .trim_end_matches(".toml");
    let default = stem == EVERY_TYPE;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !default && (stem.is_empty() || !stem.bytes().all(fits)) {
        reader.error(
            0..0,
            Mistake::FileName {
                name: stem.to_owned(),
            },
        );
    }
    let mut file = SchemaFile {
        name: name.to_owned(),
        service_type: stem.to_owned(),
        description: None,
        instance: None,
        device: None,
        units: vec![],
        sets: vec![],
        rows: vec![],
    };
    let (table, mistakes) = DeTable::parse_recoverable(text);
    for mistake in &mistakes {
        let message = mistake.message().to_owned();
        reader.error(mistake.span().unwrap_or(0..0), Mistake::Syntax { message });
    }
    if mistakes.is_empty() {
        reader.file(default, table.get_ref(), &mut file);
    }
    file
}

/// Whether a file could not even be parsed, so that what others say of it is not worth telling.
pub(crate) fn is_syntax(error: &SchemaError) -> bool {
    matches!(error.mistake, Mistake::Syntax { .. })
}

/// What Home Assistant takes for no state at all, so that an entity would never show it.
const NO_STATES: [&str; 3] = ["none", "unknown", "unavailable"];

type Key<'t> = Spanned<DeString<'t>>;
type Value<'t> = Spanned<DeValue<'t>>;

struct Reader<'r> {
    name: &'r str,
    /// Where the lines of the file end: each row and each mistake is looked up in it.
    newlines: Vec<usize>,
    errors: &'r mut Vec<SchemaError>,
}

impl Reader<'_> {
    fn file(&mut self, default: bool, table: &DeTable<'_>, file: &mut SchemaFile) {
        for (key, value) in in_order(table) {
            match (key.get_ref().as_ref(), default) {
                ("description", false) => {
                    file.description = Some(self.text("description", value).unwrap_or_default());
                }
                ("instance", false) => file.instance = self.truth("instance", value),
                ("device", false) => file.device = self.text("device", value),
                ("units", true) => file.units = self.texts("units", value),
                ("items", _) => file.rows = self.rows(value),
                ("labels", _) => file.sets = self.sets(value),
                (_, true) => self.unknown(key, "units, items and labels"),
                (_, false) => self.unknown(key, "description, instance, device, items and labels"),
            }
        }
    }

    fn rows(&mut self, value: &Value<'_>) -> Vec<Row> {
        let Some(table) = self.table("items", value) else {
            return vec![];
        };
        in_order(table)
            .into_iter()
            .filter_map(|(key, value)| self.row(key, value))
            .collect()
    }

    fn row(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<Row> {
        let path = key.get_ref().to_string();
        let template = match Template::parse(&path) {
            Ok(template) => Some(template),
            Err(mistake) => {
                self.error(key.span(), mistake);
                None
            }
        };
        let table = self.table(&path, value)?;
        let mut row = Row {
            line: self.line(&key.span()),
            path,
            template: template?,
            data: DataType::Unknown,
            unit: String::new(),
            access: Access::Unknown,
            confirm: false,
            range: None,
            labels: None,
            bits: None,
            publish: Publish::Normal,
            secret: false,
            identifying: false,
            role: Role::None,
            description: String::new(),
            name: String::new(),
            look: Look::DEFAULT,
        };
        for (key, value) in in_order(table) {
            self.word(key, value, &mut row);
        }
        Some(row)
    }

    /// One key of a row.
    fn word(&mut self, key: &Key<'_>, value: &Value<'_>, row: &mut Row) {
        match key.get_ref().as_ref() {
            "type" => row.data = self.data(value),
            "unit" => row.unit = self.text("unit", value).unwrap_or_default(),
            "access" => {
                let words = [("r", Access::Read), ("rw", Access::ReadWrite)];
                let access = self.choice("access", "`r` or `rw`", &words, value);
                row.access = access.unwrap_or(Access::Unknown);
            }
            "confirm" => row.confirm = self.flag("confirm", value),
            "range" => row.range = self.range(value),
            "labels" => row.labels = self.labels("labels", value),
            "bits" => row.bits = self.labels("bits", value),
            "publish" => {
                let words = [("blocked", Publish::Blocked), ("portal-id", Publish::PortalId)];
                let publish = self.choice("publish", "`blocked` or `portal-id`", &words, value);
                row.publish = publish.unwrap_or(Publish::Normal);
            }
            "secret" => row.secret = self.flag("secret", value),
            "identifying" => row.identifying = self.flag("identifying", value),
            "role" => {
                let words = [
                    ("instance", Role::Instance),
                    ("identifier", Role::Identifier),
                    ("vrm-access", Role::VrmAccess),
                ];
                let known = "`instance`, `identifier` or `vrm-access`";
                let role = self.choice("role", known, &words, value);
                row.role = role.unwrap_or(Role::None);
            }
            "description" => row.description = self.text("description", value).unwrap_or_default(),
            "name" => row.name = self.text("name", value).unwrap_or_default(),
            "show" | "entity" | "class" | "shown" | "offer" | "with" | "switch" => {
                self.look(key.get_ref(), value, &mut row.look);
            }
            _ => self.unknown(
                key,
                "type, unit, access, confirm, range, labels, bits, publish, secret, identifying, role, description, name, show, entity, class, shown, offer, with and switch",
            ),
        }
    }

    /// One key on what Home Assistant makes of the row.
    fn look(&mut self, key: &str, value: &Value<'_>, look: &mut Look) {
        match key {
            "show" => {
                let words = [
                    ("main", Show::Main),
                    ("config", Show::Config),
                    ("diagnostic", Show::Diagnostic),
                    ("hidden", Show::Hidden),
                    ("never", Show::Never),
                ];
                let known = "`main`, `config`, `diagnostic`, `hidden` or `never`";
                let show = self.choice("show", known, &words, value);
                look.show = show.unwrap_or(Show::Auto);
            }
            "entity" => {
                let words = [
                    ("button", Kind::Button),
                    ("time", Kind::Time),
                    ("tracker", Kind::Tracker),
                    ("update", Kind::Update),
                ];
                let known = "`button`, `time`, `tracker` or `update`";
                let kind = self.choice("entity", known, &words, value);
                look.entity = kind.unwrap_or(Kind::Auto);
            }
            "class" => look.class = self.text("class", value).unwrap_or_default().into(),
            "shown" => look.shown = self.text("shown", value).unwrap_or_default().into(),
            "offer" => look.offer = self.offer(value),
            "switch" => look.switch = self.text("switch", value).unwrap_or_default().into(),
            _ => {
                let paths = self.texts("with", value).into_iter();
                look.with = paths.map(Into::into).collect::<Vec<_>>().into();
            }
        }
    }

    fn data(&mut self, value: &Value<'_>) -> DataType {
        let Some(found) = self.text("type", value) else {
            return DataType::Unknown;
        };
        types::parse(&found).unwrap_or_else(|| {
            self.error(value.span(), Mistake::Type { found });
            DataType::Unknown
        })
    }

    fn range(&mut self, value: &Value<'_>) -> Option<(f64, f64)> {
        let ends = value.get_ref().as_array().map(|array| {
            let ends = array.iter().map(|end| number(end.get_ref()));
            ends.collect::<Option<Vec<_>>>()
        });
        let Some(Some(&[min, max])) = ends.as_ref().map(Option::as_deref) else {
            self.wrong_kind("range", "two numbers, [lowest, highest]", value);
            return None;
        };
        if min > max {
            self.error(value.span(), Mistake::RangeOrder { min, max });
            return None;
        }
        Some((min, max))
    }

    fn offer(&mut self, value: &Value<'_>) -> Option<(f64, f64, f64)> {
        let numbers = value.get_ref().as_array().map(|array| {
            let numbers = array.iter().map(|end| number(end.get_ref()));
            numbers.collect::<Option<Vec<_>>>()
        });
        let (min, max, step) = match numbers.as_ref().map(Option::as_deref) {
            Some(Some(&[min, max])) => (min, max, 0.0),
            Some(Some(&[min, max, step])) => (min, max, step),
            _ => {
                let expected = "two or three numbers, [lowest, highest, step]";
                self.wrong_kind("offer", expected, value);
                return None;
            }
        };
        if min >= max {
            self.error(value.span(), Mistake::RangeOrder { min, max });
            return None;
        }
        Some((min, max, step))
    }

    fn labels(&mut self, key: &str, value: &Value<'_>) -> Option<Labels> {
        if let Some(name) = value.get_ref().as_str() {
            return Some(Labels::Named(name.to_owned()));
        }
        if let Some(table) = value.get_ref().as_table() {
            return Some(Labels::Inline(self.codes(table)));
        }
        self.wrong_kind(key, "a table of codes, or the name of a label set", value);
        None
    }

    fn sets(&mut self, value: &Value<'_>) -> Vec<LabelSet> {
        let Some(table) = self.table("labels", value) else {
            return vec![];
        };
        let mut sets = vec![];
        for (key, value) in in_order(table) {
            let name = key.get_ref().to_string();
            let line = self.line(&key.span());
            let Some(codes) = self.table(&name, value).map(|table| self.codes(table)) else {
                continue;
            };
            sets.push(LabelSet { name, line, codes });
        }
        sets
    }

    fn codes(&mut self, table: &DeTable<'_>) -> Codes {
        let mut codes = vec![];
        for (key, value) in in_order(table) {
            let label = self.text(key.get_ref(), value);
            match (integer(key.get_ref()), label) {
                (Some(code), Some(label)) => {
                    if NO_STATES.iter().any(|no| label.eq_ignore_ascii_case(no)) {
                        let label = label.clone();
                        self.error(value.span(), Mistake::LabelState { label });
                    }
                    codes.push((code, label.into()));
                }
                (Some(_), None) => {}
                (None, _) => {
                    let code = key.get_ref().to_string();
                    self.error(key.span(), Mistake::LabelCode { code });
                }
            }
        }
        codes.sort_unstable();
        codes.into()
    }

    fn text(&mut self, key: &str, value: &Value<'_>) -> Option<String> {
        match value.get_ref().as_str().map(str::trim) {
            Some("") => {
                let key = key.to_owned();
                self.error(value.span(), Mistake::EmptyText { key });
            }
            Some(text) => return Some(text.to_owned()),
            None => self.wrong_kind(key, "a text", value),
        }
        None
    }

    fn texts(&mut self, key: &str, value: &Value<'_>) -> Vec<String> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_kind(key, "an array of texts", value);
            return vec![];
        };
        array
            .iter()
            .filter_map(|value| self.text(key, value))
            .collect()
    }

    fn flag(&mut self, key: &str, value: &Value<'_>) -> bool {
        self.truth(key, value).unwrap_or(false)
    }

    fn truth(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_kind(key, "true or false", value);
        }
        flag
    }

    fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        words: &[(&str, T)],
        value: &Value<'_>,
    ) -> Option<T> {
        let found = self.text(key, value)?;
        let choice = words
            .iter()
            .find(|(word, _)| *word == found)
            .map(|(_, choice)| *choice);
        if choice.is_none() {
            self.error(
                value.span(),
                Mistake::Word {
                    key,
                    expected,
                    found,
                },
            );
        }
        choice
    }

    fn table<'v, 't>(&mut self, key: &str, value: &'v Value<'t>) -> Option<&'v DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_kind(key, "a table", value);
        }
        table
    }

    fn unknown(&mut self, key: &Key<'_>, known: &'static str) {
        let name = key.get_ref().to_string();
        self.error(key.span(), Mistake::UnknownKey { key: name, known });
    }

    fn wrong_kind(&mut self, key: &str, expected: &'static str, value: &Value<'_>) {
        let key = key.to_owned();
        self.error(value.span(), Mistake::WrongKind { key, expected });
    }

    fn error(&mut self, span: Range<usize>, mistake: Mistake) {
        let line = self.line(&span);
        self.errors.push(SchemaError {
            file: self.name.to_owned(),
            line,
            mistake,
        });
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.newlines.partition_point(|&end| end < span.start) + 1
    }
}

/// The entries of a table in the order of the file, so that messages and tables follow it.
fn in_order<'v, 't>(table: &'v DeTable<'t>) -> Vec<(&'v Key<'t>, &'v Value<'t>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    let integer = value.as_integer().filter(|integer| integer.radix() == 10);
    let float = value.as_float().map(DeFloat::as_str);
    let text = integer.map(DeInteger::as_str).or(float)?;
    text.parse().ok().filter(|number: &f64| !number.is_nan())
}

/// A code as people write one: no sign for what is positive, no leading zeros.
fn integer(text: &str) -> Option<i64> {
    text.parse()
        .ok()
        .filter(|code: &i64| code.to_string() == text)
}
