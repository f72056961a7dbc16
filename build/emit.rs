//! The tables as Rust text. `src/schema/mod.rs` includes the file and reads it.
//!
//! All paths and the words of all rows lie in one string, each once; a row is a few small numbers in a
//! slot of an open-addressed table. So the schema costs a few bytes a row and nothing at start-up.

use std::collections::HashMap;
use std::fmt::Write as _;

use thiserror::Error;

use super::layout::{EMPTY, Home, NUMBER, TEXT, ending, home};
use super::rule::{Codes, DataType, Look, Rule};
use super::source::{Compiled, Place, TypeRows};

/// The tables are full.
#[derive(Debug, Error)]
#[error("the schema has {count} {what}; the tables hold {max}")]
pub(crate) struct TooMany {
    what: &'static str,
    count: usize,
    max: usize,
}

/// Writes the tables.
pub(crate) fn emit(schema: &Compiled) -> Result<String, TooMany> {
    let mut pool = Pool::default();
    let mut out = String::new();
    let patterns = patterns(schema, &mut pool)?;
    let slots = slots(schema, &mut pool)?;
    rules(&mut out, schema);
    let units: Vec<_> = schema
        .units
        .iter()
        .map(|unit| format!("{unit:?}"))
        .collect();
    table(&mut out, "UNITS", "&str", &units);
    types(&mut out, &schema.types)?;
    table(&mut out, "PATTERNS", "Pattern", &patterns);
    table(&mut out, "SLOTS", "Slot", &slots.filled);
    let homes = slots.homes;
    line(
        &mut out,
        format_args!("/// How many of the slots a hash can name; the rest take what overflows."),
    );
    line(
        &mut out,
        format_args!("pub(super) static HOMES: usize = {homes};"),
    );
    table(&mut out, "ENDS", "u32", &pool.ends);
    line(
        &mut out,
        format_args!("/// Every path, pattern and description, one after the other."),
    );
    line(
        &mut out,
        format_args!("pub(super) static POOL: &str = {:?};", pool.text),
    );
    Ok(out)
}

/// Texts, each once, in one string.
#[derive(Default)]
struct Pool {
    text: String,
    /// Where each text ends; it begins where the one before it ends.
    ends: Vec<String>,
    known: HashMap<String, usize>,
}

impl Pool {
    fn intern(&mut self, text: &str) -> Result<u16, TooMany> {
        if let Some(&known) = self.known.get(text) {
            return small("paths", known, usize::from(EMPTY));
        }
        self.text.push_str(text);
        self.ends.push(self.text.len().to_string());
        let number = self.known.len();
        self.known.insert(text.to_owned(), number);
        small("paths", number, usize::from(EMPTY))
    }
}

fn patterns(schema: &Compiled, pool: &mut Pool) -> Result<Vec<String>, TooMany> {
    let mut patterns = vec![];
    for place in schema.types.iter().flat_map(|rows| &rows.patterns) {
        let Place {
            path,
            rule,
            description,
            name,
        } = place;
        let last = path.rsplit('/').next().unwrap_or(path);
        let ending = if last.contains([NUMBER, TEXT]) {
            None
        } else {
            Some(ending(path))
        };
        let (path, rule, description, name) = (
            pool.intern(path)?,
            small("rules", *rule, usize::from(EMPTY))?,
            pool.intern(description)?,
            pool.intern(name)?,
        );
        patterns.push(format!(
            "Pattern {{ path: {path}, rule: {rule}, description: {description}, name: {name}, ending: {ending:?} }}"
        ));
    }
    Ok(patterns)
}

struct Slots {
    filled: Vec<String>,
    homes: usize,
}

/// Places every row at its home or in the first empty slot after it. Slots past the last home take
/// what overflows, and the last slot is empty, so that a search never has to wrap.
fn slots(schema: &Compiled, pool: &mut Pool) -> Result<Slots, TooMany> {
    let count: usize = schema.types.iter().map(|rows| rows.exact.len()).sum();
    // Two slots in three are filled: a search looks at about two.
    let homes = count + count / 2 + 1;
    let empty = format!(
        "Slot {{ path: {EMPTY}, rule: 0, description: 0, name: 0, service_type: 0, tag: 0 }}"
    );
    let mut filled = vec![None; homes];
    for (number, rows) in schema.types.iter().enumerate() {
        let service_type = small("service types", number, usize::from(u8::MAX))?;
        for place in &rows.exact {
            let Place {
                path,
                rule,
                description,
                name,
            } = place;
            let rule = small("rules", *rule, usize::from(EMPTY))?;
            let Home { slot: home, tag } = home(&rows.name, path, homes);
            let (path, description) = (pool.intern(path)?, pool.intern(description)?);
            let name = pool.intern(name)?;
            let row = format!(
                "Slot {{ path: {path}, rule: {rule}, description: {description}, name: {name}, \
                 service_type: {service_type}, tag: {tag} }}"
            );
            let free =
                (home..filled.len()).find(|slot| filled.get(*slot).is_some_and(Option::is_none));
            match free.and_then(|slot| filled.get_mut(slot)) {
                Some(slot) => *slot = Some(row),
                None => filled.push(Some(row)),
            }
        }
    }
    let mut filled: Vec<_> = filled
        .into_iter()
        .map(|slot| slot.unwrap_or_else(|| empty.clone()))
        .collect();
    filled.push(empty);
    Ok(Slots { filled, homes })
}

fn types(out: &mut String, types: &[TypeRows]) -> Result<(), TooMany> {
    let mut entries = vec![];
    let mut first = 0;
    for TypeRows {
        name,
        description,
        instance,
        device,
        patterns,
        ..
    } in types
    {
        let end = first + patterns.len();
        let (from, to) = (
            small("patterns", first, usize::from(EMPTY))?,
            small("patterns", end, usize::from(EMPTY))?,
        );
        let instance = instance.unwrap_or(true);
        entries.push(format!(
            "ServiceType {{ name: {name:?}, description: {description:?}, instance: {instance}, \
             device: {device:?}, patterns: ({from}, {to}) }}"
        ));
        first = end;
    }
    table(out, "TYPES", "ServiceType", &entries);
    Ok(())
}

fn rules<'c>(out: &mut String, schema: &'c Compiled) {
    let mut sets: Vec<&'c Codes> = vec![];
    let mut set = |codes: &'c Codes| {
        let number = sets.iter().position(|known| *known == codes);
        let number = number.unwrap_or_else(|| {
            sets.push(codes);
            sets.len() - 1
        });
        format!("&LABELS_{number}")
    };
    let mut codes = |codes: &'c Codes| {
        if codes.is_empty() {
            "Borrowed(&[])".to_owned()
        } else {
            format!("Borrowed({})", set(codes))
        }
    };
    let mut looks: Vec<String> = vec![];
    let mut look_of = |look: &Look| {
        if *look == Look::DEFAULT {
            return "&Look::DEFAULT".to_owned();
        }
        let text = self::look(look);
        let number = looks.iter().position(|known| *known == text);
        let number = number.unwrap_or_else(|| {
            looks.push(text);
            looks.len() - 1
        });
        format!("&LOOK_{number}")
    };
    let mut entries = vec![];
    for rule in &schema.rules {
        let Rule {
            data,
            access,
            confirm,
            publish,
            secret,
            identifying,
            role,
            range,
            unit,
            labels,
            bits,
            look,
        } = rule;
        let data = if let DataType::Compound(signature) = data {
            format!("Compound(Borrowed({signature:?}))")
        } else {
            format!("{data:?}")
        };
        let (labels, bits) = (codes(labels), codes(bits));
        let range = range.map_or("None".to_owned(), |(min, max)| {
            format!("Some(({}, {}))", double(min), double(max))
        });
        entries.push(format!(
            "Rule {{ data: DataType::{data}, access: Access::{access:?}, confirm: {confirm}, \
             publish: Publish::{publish:?}, secret: {secret}, identifying: {identifying}, role: Role::{role:?}, range: {range}, \
             unit: Borrowed({unit:?}), labels: {labels}, bits: {bits}, look: LookRef::Static({}) }}",
            look_of(look)
        ));
    }
    let shared = schema.sets.iter();
    let shared: Vec<_> = shared
        .map(|(name, of)| format!("({name:?}, {})", codes(of)))
        .collect();
    for (number, codes) in sets.iter().enumerate() {
        let count = codes.len();
        let codes = codes.iter();
        let codes: Vec<_> = codes
            .map(|(code, label)| format!("({code}, Borrowed({label:?}))"))
            .collect();
        let codes = codes.join(", ");
        line(
            out,
            format_args!("static LABELS_{number}: [(i64, Text); {count}] = [{codes}];"),
        );
    }
    for (number, look) in looks.iter().enumerate() {
        line(out, format_args!("static LOOK_{number}: Look = {look};"));
    }
    table(out, "RULES", "Rule", entries.as_slice());
    table(out, "SETS", "(&str, Codes)", &shared);
}

/// What Home Assistant makes of a row, as Rust writes it.
fn look(look: &Look) -> String {
    let Look {
        show,
        entity,
        class,
        shown,
        offer,
        with,
        switch,
    } = look;
    let offer = offer.map_or("None".to_owned(), |(min, max, step)| {
        format!("Some(({}, {}, {}))", double(min), double(max), double(step))
    });
    let with: Vec<_> = with
        .iter()
        .map(|path| format!("Borrowed({path:?})"))
        .collect();
    let with = with.join(", ");
    format!(
        "Look {{ show: Show::{show:?}, entity: Kind::{entity:?}, class: Borrowed({class:?}), \
         shown: Borrowed({shown:?}), offer: {offer}, with: Borrowed(&[{with}]), \
         switch: Borrowed({switch:?}) }}"
    )
}

/// A double as Rust writes it.
fn double(value: f64) -> String {
    if value.is_infinite() {
        let sign = if value < 0.0 { "NEG_" } else { "" };
        return format!("f64::{sign}INFINITY");
    }
    format!("{value:?}")
}

fn table(out: &mut String, name: &str, kind: &str, entries: &[String]) {
    line(
        out,
        format_args!("pub(super) static {name}: [{kind}; {}] = [", entries.len()),
    );
    for entry in entries {
        line(out, format_args!("    {entry},"));
    }
    line(out, format_args!("];"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A number for a table, if the tables can hold it.
fn small(what: &'static str, number: usize, max: usize) -> Result<u16, TooMany> {
    u16::try_from(number)
        .ok()
        .filter(|_| number < max)
        .ok_or(TooMany {
            what,
            count: number + 1,
            max,
        })
}
