//! `docs/services.md`: the schema as a document. A test fails where the file is not what is made
//! here; `UPDATE_DOCS=1 cargo test --test core schema` writes it anew.

use std::fmt::Write as _;

use super::fold::fold;
use super::text::{self, types};
use crate::schema::Schema;

/// The whole document.
pub fn services(schema: &Schema) -> String {
    let mut out = HEAD.to_owned();
    let types = types(schema);
    for (name, description) in &types {
        // Writing to a text cannot fail.
        let _ = writeln!(out, "- [`{name}`](#{name}): {description}");
    }
    for (name, description) in types {
        let _ = write!(out, "\n## {name}\n\n{}.\n\n", capital(description));
        out.push_str("| Path | Type | Unit | Access | Range | Meaning |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for row in fold(&schema.rows(name)) {
            let rule = row.rule;
            let meaning = [text::remarks(rule, row.description), text::codes(rule)];
            let meaning: Vec<_> = meaning
                .iter()
                .filter(|text| !text.is_empty())
                .map(|text| cell(text))
                .collect();
            let cells = [
                format!("`{}`", row.path),
                text::data(rule).to_owned(),
                cell(&rule.unit),
                text::access(rule).to_owned(),
                text::range(rule),
                meaning.join(": "),
            ];
            for cell in cells {
                let space = if cell.is_empty() { "" } else { " " };
                let _ = write!(out, "|{space}{cell} ");
            }
            out.push_str("|\n");
        }
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// What would end a cell, or look like markup, does not.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '|' | '<' | '*' | '_' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

const HEAD: &str = "\
# Services and their values

What the services of Venus OS offer, as far as the schema of dbus-mqtt knows. This file is made from
`schema/*.toml` by `UPDATE_DOCS=1 cargo test --test core schema`; do not edit it.

A value has the topic `N/<portal id>/<type>/<device instance><path>`. `{1..3}` stands for each of 1
to 3, `{n}` for any number, `{name}` for any text without a slash. The type is the letter that D-Bus
has for it (`d` a fraction, `s` a text, `i` a whole number, and so on), or `number` where it differs
by product. Access `r` is to be read only, `rw` can be written; empty is unknown. The range is that
of a write. `dbus-mqtt schema show <type>` prints the same on a terminal.

";
