//! `dbus-mqtt schema`: what the services of Venus OS offer, for people and for other programs.
//!
//! Reads the schema and prints it; it needs neither bus nor broker. `fold` puts families together
//! again, `text` has the words of a rule, `markdown` makes `docs/services.md`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use self::fold::{Family, fold};
use self::text::types;
use super::ToolError;
use crate::cli::{SchemaArgs, SchemaCommand};
use crate::config::{ConfigError, read_schema};
use crate::error::{Fatal, print};
use crate::schema::{Publish, Schema, SchemaError};

pub mod fold;
pub mod markdown;
pub mod text;

/// The widest line.
const WIDTH: usize = 100;
/// A path that is longer has a separate line.
const PATH_WIDTH: usize = 44;

/// Prints what was asked for.
pub fn run(args: &SchemaArgs, schema: &Schema) -> Result<(), Fatal> {
    let (text, mistakes) = match &args.command {
        SchemaCommand::List => (list(schema, args.json), Ok(())),
        SchemaCommand::Show { service_type } => {
            let text = show(schema, service_type, args.json).map_err(Fatal::tool)?;
            (text, Ok(()))
        }
        SchemaCommand::Find { word } => {
            let text = find(schema, word, args.json).map_err(Fatal::tool)?;
            (text, Ok(()))
        }
        SchemaCommand::Check { directory } => check(schema, directory, args.json)?,
        SchemaCommand::Docs => (markdown::services(schema), Ok(())),
    };
    print(text.as_bytes())?;
    Ok(mistakes?)
}

fn list(schema: &Schema, as_json: bool) -> String {
    let mut lines = String::new();
    let mut all = Vec::new();
    let types = types(schema);
    let width = types.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    put(
        &mut lines,
        format_args!("{:<width$}  ROWS  PATHS  WHAT IT IS\n", "TYPE"),
    );
    for (name, description) in types {
        let rows = schema.rows(name);
        let (families, paths) = (fold(&rows).len(), rows.len());
        all.push(json!({
            "service_type": name, "description": description, "rows": families, "paths": paths,
        }));
        let mut start = format!("{name:<width$}  {families:>4}  {paths:>5}  ");
        let indent = start.len();
        for part in text::wrap(description.split_inclusive(' '), WIDTH - indent) {
            put(&mut lines, format_args!("{start:<indent$}{part}\n"));
            start.clear();
        }
    }
    if as_json { pretty(&all) } else { lines }
}

fn show(schema: &Schema, service_type: &str, as_json: bool) -> Result<String, ToolError> {
    let known = types(schema);
    let Some((name, description)) = known.iter().find(|(name, _)| *name == service_type) else {
        return Err(ToolError::NoServiceType {
            service_type: service_type.to_owned(),
            hint: closest(service_type, known.iter().map(|(name, _)| *name)),
        });
    };
    let rows = schema.rows(name);
    let families = fold(&rows);
    if as_json {
        let all: Vec<_> = families.iter().map(|row| as_value(name, row)).collect();
        return Ok(pretty(&all));
    }
    let mut out = format!("{name}: {description}\n\n");
    table(&mut out, &families);
    Ok(out)
}

fn find(schema: &Schema, word: &str, as_json: bool) -> Result<String, ToolError> {
    let wanted = word.to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&wanted);
    let fits = |row: &Family<'_>| {
        let codes = row.rule.labels.iter().chain(row.rule.bits.iter());
        has(&row.path) || has(row.description) || codes.into_iter().any(|(_, label)| has(label))
    };
    let (mut out, mut all) = (String::new(), Vec::new());
    for (name, description) in types(schema) {
        let rows = schema.rows(name);
        let mut families = fold(&rows);
        if !has(name) && !has(description) {
            families.retain(fits);
        }
        if families.is_empty() {
            continue;
        }
        all.extend(families.iter().map(|row| as_value(name, row)));
        if !out.is_empty() {
            out.push('\n');
        }
        put(&mut out, format_args!("{name}: {description}\n\n"));
        table(&mut out, &families);
    }
    if all.is_empty() {
        let word = word.to_owned();
        return Err(ToolError::NoRow { word });
    }
    Ok(if as_json { pretty(&all) } else { out })
}

/// Says all that is wrong with a directory, or how much is in it.
fn check(
    schema: &Schema,
    directory: &Path,
    as_json: bool,
) -> Result<(String, Result<(), ConfigError>), Fatal> {
    let files = read_schema(directory).map_err(|reason| {
        let path = directory.to_owned();
        Fatal::tool(ToolError::File { path, reason })
    })?;
    let mut over = schema.clone();
    let mistakes = match over.add(&files) {
        Ok(paths) => {
            let text = if as_json {
                "[]\n".to_owned()
            } else {
                let (directory, files) = (directory.display(), files.len());
                format!("{directory}: no mistake; files: {files}, paths: {paths}\n")
            };
            return Ok((text, Ok(())));
        }
        Err(mistakes) => mistakes,
    };
    let text = if as_json {
        let value = |mistake: &SchemaError| {
            let SchemaError {
                file,
                line,
                mistake,
            } = mistake;
            json!({ "file": file, "line": line, "message": mistake.to_string() })
        };
        pretty(&mistakes.iter().map(value).collect::<Vec<_>>())
    } else {
        let lines = mistakes.iter().map(|mistake| format!("{mistake}\n"));
        lines.collect()
    };
    let wrong = ConfigError::SchemaMistakes {
        directory: directory.to_owned(),
        count: mistakes.len(),
    };
    Ok((text, Err(wrong)))
}

/// The rows, one below the other: what does not fit its column goes to a separate line.
fn table(out: &mut String, families: &[Family<'_>]) {
    let cells = |row: &Family<'_>| {
        [
            row.path.clone(),
            text::data(row.rule).to_owned(),
            row.rule.unit.to_string(),
            text::access(row.rule).to_owned(),
            text::range(row.rule),
        ]
    };
    let titles = ["PATH", "TYPE", "UNIT", "ACCESS", "RANGE"];
    let mut widths = titles.map(str::len);
    for row in families {
        for (width, cell) in widths.iter_mut().zip(cells(row)) {
            let length = cell.chars().count();
            if length <= PATH_WIDTH {
                *width = (*width).max(length);
            }
        }
    }
    line(out, &titles.map(str::to_owned), &widths, "WHAT IT IS");
    for row in families {
        let mut cells = cells(row);
        let [path, ..] = &mut cells;
        if path.chars().count() > PATH_WIDTH {
            out.push_str(path);
            out.push('\n');
            path.clear();
        }
        let used: usize = widths.iter().sum::<usize>() + 2 * widths.len();
        let room = WIDTH.saturating_sub(used);
        let remarks = text::remarks(row.rule, row.description);
        let beside = remarks.chars().count() <= room;
        line(out, &cells, &widths, if beside { &remarks } else { "" });
        let width = WIDTH - INDENT.len();
        let below = if beside { "" } else { &remarks };
        let codes = text::codes(row.rule);
        let lines = text::wrap(below.split_inclusive(' '), width);
        for part in lines
            .into_iter()
            .chain(text::wrap(codes.split_inclusive(", "), width))
        {
            out.push_str(INDENT);
            out.push_str(&part);
            out.push('\n');
        }
    }
}

fn line(out: &mut String, cells: &[String; 5], widths: &[usize; 5], last: &str) {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        put(&mut line, format_args!("{cell:<width$}  "));
    }
    line.push_str(last);
    out.push_str(line.trim_end());
    out.push('\n');
}

fn as_value(service_type: &str, row: &Family<'_>) -> Value {
    let rule = row.rule;
    let mut value = Map::new();
    let mut put = |key: &str, what: Value| {
        value.insert(key.to_owned(), what);
    };
    put("service_type", service_type.into());
    put("path", row.path.clone().into());
    let texts = [
        ("type", text::data(rule)),
        ("unit", &*rule.unit),
        ("access", text::access(rule)),
        ("description", row.description),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        put(key, text.into());
    }
    if let Some((min, max)) = rule.range {
        // An open end is null: JSON has no infinity.
        put("min", json!(min));
        put("max", json!(max));
    }
    for (key, codes) in [("labels", &rule.labels), ("bits", &rule.bits)] {
        if !codes.is_empty() {
            let codes = codes.iter();
            let codes = codes.map(|(code, label)| (code.to_string(), Value::from(&**label)));
            put(key, Value::Object(codes.collect()));
        }
    }
    let flags = [
        ("confirm", rule.confirm),
        ("blocked", rule.publish == Publish::Blocked),
        ("secret", rule.secret),
        ("identifying", rule.identifying),
    ];
    for (key, _) in flags.into_iter().filter(|(_, holds)| *holds) {
        put(key, true.into());
    }
    Value::Object(value)
}

fn pretty(all: &[Value]) -> String {
    // One line each, so that a line tool can be used as well; values cannot fail to be written.
    let lines: Vec<_> = all.iter().map(ToString::to_string).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// A known name that was likely meant.
fn closest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let wrong = wrong.to_lowercase();
    let like = |name: &&str| {
        name.contains(&*wrong) || wrong.contains(name) || {
            let same = name.bytes().zip(wrong.bytes());
            same.take_while(|(a, b)| a == b).count() >= 4
        }
    };
    names.into_iter().find(like).map(str::to_owned)
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = out.write_fmt(text);
}

const INDENT: &str = "      ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_a_screen() {
        let schema = Schema::default();
        for (name, _) in types(&schema) {
            for line in show(&schema, name, false).unwrap().lines() {
                let width = line.chars().count();
                assert!(width <= WIDTH, "{name}, {width} wide: {line}");
            }
        }
        for line in list(&schema, false).lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn a_name_that_was_likely_meant() {
        let names = ["battery", "solarcharger", "vebus"];
        let check = |wrong, like: Option<&str>| {
            assert_eq!(
                closest(wrong, names.into_iter()).as_deref(),
                like,
                "{wrong}"
            );
        };
        check("solar", Some("solarcharger"));
        check("Vebus", Some("vebus"));
        check("batery", None);
        check("batteries", Some("battery"));
    }
}
