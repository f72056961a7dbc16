//! The schema that is built in: static tables, written by `build/emit.rs` from `schema/*.toml`.
//!
//! Nothing is parsed and nothing allocated to look up a row. Which schema goes before which is
//! decided in [`super`].

use super::layout::{self, EVERY_TYPE, Home};
use super::row::{Known, Row};
use super::rule::{Codes, Rule};

/// The service types that have separate rows, by name.
pub(super) fn service_types() -> impl Iterator<Item = &'static str> {
    tables::TYPES
        .iter()
        .map(|known| known.name)
        .filter(|name| *name != EVERY_TYPE)
}

/// What a service of this type is, in one line.
pub(super) fn describe(service_type: &str) -> Option<&'static str> {
    find(service_type)
        .map(|known| known.description)
        .filter(|text| !text.is_empty())
}

/// Whether services of this type have an instance; `None` where nothing is known of it.
pub(super) fn has_instance(service_type: &str) -> Option<bool> {
    find(service_type).map(|known| known.instance)
}

/// What a device of this type is called.
pub(super) fn device(service_type: &str) -> Option<&'static str> {
    find(service_type)
        .map(|known| known.device)
        .filter(|text| !text.is_empty())
}

/// The units that rows may name.
pub(super) fn units() -> &'static [&'static str] {
    &tables::UNITS
}

/// The label sets that rows of every file may name.
pub(super) fn sets() -> &'static [(&'static str, Codes)] {
    &tables::SETS
}

/// Every path and pattern that has a row, with its service type and what is known of it. In no
/// order, and not cheap: it looks at the whole table.
pub(super) fn rows<'s>() -> impl Iterator<Item = (&'s str, &'s str, Known<'s>)> {
    let slots = tables::SLOTS.iter();
    let exact = slots.filter_map(|slot| {
        let name = tables::TYPES.get(usize::from(slot.service_type))?.name;
        Some((
            name,
            text(slot.path)?,
            known(slot.rule, slot.description, slot.name),
        ))
    });
    let patterns = tables::TYPES.iter().flat_map(|known| {
        let (from, to) = known.patterns;
        let own = tables::PATTERNS.get(usize::from(from)..usize::from(to));
        let own = own.unwrap_or_default().iter();
        own.filter_map(|pattern| {
            let row = self::known(pattern.rule, pattern.description, pattern.name);
            Some((known.name, text(pattern.path)?, row))
        })
    });
    exact.chain(patterns)
}

/// The row that names the path.
pub(super) fn exact(service_type: &str, path: &str) -> Option<Row<'static>> {
    let Home { slot, tag } = layout::home(service_type, path, tables::HOMES);
    let slots = tables::SLOTS
        .get(slot..)?
        .iter()
        .take_while(|slot| slot.path != layout::EMPTY);
    for slot in slots.filter(|slot| slot.tag == tag) {
        let known = text(slot.path)?;
        let name = tables::TYPES.get(usize::from(slot.service_type))?.name;
        if known == path && name == service_type {
            let row = self::known(slot.rule, slot.description, slot.name);
            return Some(row.row(Some(known), ""));
        }
    }
    None
}

/// The first pattern that matches the path.
pub(super) fn pattern(service_type: &str, path: &str) -> Option<Row<'static>> {
    let (from, to) = find(service_type)?.patterns;
    let patterns = tables::PATTERNS.get(usize::from(from)..usize::from(to))?;
    patterns.first()?;
    let ending = layout::ending(path);
    let matching = patterns.iter().find(|pattern| {
        pattern.ending.is_none_or(|own| own == ending)
            && text(pattern.path).is_some_and(|text| layout::matches(text, path))
    })?;
    let row = known(matching.rule, matching.description, matching.name);
    Some(row.row(None, text(matching.path).unwrap_or_default()))
}

fn find(service_type: &str) -> Option<&'static ServiceType> {
    let found = tables::TYPES.binary_search_by(|known| known.name.cmp(service_type));
    found.ok().and_then(|number| tables::TYPES.get(number))
}

fn known(rule: u16, description: u16, name: u16) -> Known<'static> {
    Known {
        rule: tables::RULES
            .get(usize::from(rule))
            .unwrap_or(&Rule::DEFAULT),
        description: text(description).unwrap_or_default(),
        name: text(name).unwrap_or_default(),
    }
}

/// A path, a pattern or a description by its number.
fn text(number: u16) -> Option<&'static str> {
    let number = usize::from(number);
    let start = match number.checked_sub(1) {
        Some(before) => *tables::ENDS.get(before)?,
        None => 0,
    };
    let end = *tables::ENDS.get(number)?;
    tables::POOL.get(start as usize..end as usize)
}

/// A place in the table of expanded rows. Small, since there are thousands of them.
struct Slot {
    path: u16,
    rule: u16,
    description: u16,
    name: u16,
    service_type: u8,
    tag: u8,
}

/// A row with open places.
struct Pattern {
    path: u16,
    rule: u16,
    description: u16,
    name: u16,
    /// The mark of its last segment, unless that has an open place.
    ending: Option<u8>,
}

struct ServiceType {
    name: &'static str,
    description: &'static str,
    instance: bool,
    device: &'static str,
    /// Which patterns it has, the end excluded.
    patterns: (u16, u16),
}

/// Written by `build/emit.rs`.
#[allow(clippy::unreadable_literal, reason = "written by a program")]
mod tables {
    use std::borrow::Cow::Borrowed;

    use crate::schema::built_in::{Pattern, ServiceType, Slot};
    use crate::schema::rule::{
        Access, Codes, DataType, Kind, Look, LookRef, Publish, Role, Rule, Show, Text,
    };

    include!(concat!(env!("OUT_DIR"), "/schema.rs"));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::rule::Look;
    use super::*;

    #[test]
    fn every_row_is_found_where_it_lies() {
        let mut rows = 0;
        for slot in tables::SLOTS
            .iter()
            .filter(|slot| slot.path != layout::EMPTY)
        {
            let name = tables::TYPES[usize::from(slot.service_type)].name;
            let path = text(slot.path).unwrap();
            let found = exact(name, path).unwrap();
            assert_eq!(
                (found.path, found.rule),
                (Some(path), &tables::RULES[usize::from(slot.rule)])
            );
            rows += 1;
        }
        assert!(rows > 2_500, "{rows}");
    }

    /// The schema goes into flash and memory of a small device.
    #[test]
    fn the_tables_stay_small() {
        let mut texts: HashSet<&str> = HashSet::from([tables::POOL]);
        let mut sets = HashSet::new();
        let mut looks = HashSet::new();
        for rule in &tables::RULES {
            texts.insert(&*rule.unit);
            looks.insert(std::ptr::from_ref(&*rule.look));
            texts.extend([&*rule.look.class, &*rule.look.shown, &*rule.look.switch]);
            for codes in [&rule.labels, &rule.bits] {
                texts.extend(codes.iter().map(|(_, label)| &**label));
                sets.insert(codes);
            }
        }
        for known in &tables::TYPES {
            texts.extend([known.name, known.description]);
        }
        let parts = [
            (
                "paths and words",
                tables::POOL.len() + size_of_val(&tables::ENDS),
            ),
            ("slots", size_of_val(&tables::SLOTS)),
            ("patterns", size_of_val(&tables::PATTERNS)),
            ("rules", size_of_val(&tables::RULES)),
            (
                "label sets",
                sets.iter().map(|codes| size_of_val(&***codes)).sum(),
            ),
            ("looks", looks.len() * size_of::<Look>()),
            ("service types", size_of_val(&tables::TYPES)),
            (
                "texts",
                texts.iter().map(|text| text.len()).sum::<usize>() - tables::POOL.len(),
            ),
        ];
        let bytes: usize = parts.iter().map(|(_, bytes)| bytes).sum();
        eprintln!("{bytes} bytes: {parts:?}");
        assert!(bytes < 400_000, "{bytes} bytes: {parts:?}");
    }
}
