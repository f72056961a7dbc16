//! One row, parsed: which words do not go together. Rows among each other are in `mod.rs`.

use std::collections::{HashMap, HashSet};

use super::super::rule::{Access, DataType, Kind, Publish, Role};
use super::error::Mistake;
use super::read::Row;
use super::types::{limits, signature};

/// What is wrong with a row by itself: words that do not go together.
pub(crate) fn row_mistakes(row: &Row, units: &HashSet<&str>) -> Vec<Mistake> {
    let mut mistakes = vec![];
    let data = || signature(&row.data).to_owned();
    if !row.unit.is_empty() && !units.contains(&*row.unit) {
        mistakes.push(Mistake::Unit {
            unit: row.unit.clone(),
        });
    }
    let look = &row.look;
    if !look.shown.is_empty() && !units.contains(&*look.shown) {
        mistakes.push(Mistake::Unit {
            unit: look.shown.to_string(),
        });
    }
    let (kind, needed) = match look.entity {
        Kind::Tracker => ("tracker", 1),
        Kind::Update => ("update", 2),
        Kind::Auto | Kind::Button | Kind::Time => ("tracker or update", 0),
    };
    if look.with.len() != needed || look.with.iter().any(|path| !path.starts_with('/')) {
        mistakes.push(Mistake::With { kind, needed });
    }
    if !look.switch.is_empty() && row.labels.is_none() {
        mistakes.push(Mistake::Switch);
    }
    if matches!(row.data, DataType::Text | DataType::Compound(_)) {
        let numeric = [
            ("unit", !row.unit.is_empty()),
            ("range", row.range.is_some()),
            ("labels", row.labels.is_some()),
            ("bits", row.bits.is_some()),
        ];
        let wrong = numeric.into_iter().filter(|(_, there)| *there);
        mistakes.extend(wrong.map(|(key, _)| Mistake::NeedsNumber { key, data: data() }));
    }
    let textual = [
        ("secret", row.secret && row.data.is_numeric()),
        (
            "role",
            row.role == Role::Identifier && row.data != DataType::Text,
        ),
        (
            "publish",
            row.publish == Publish::PortalId && row.data != DataType::Text,
        ),
    ];
    let wrong = textual.into_iter().filter(|(_, wrong)| *wrong);
    mistakes.extend(wrong.map(|(key, _)| Mistake::NeedsText { key, data: data() }));
    if matches!(row.role, Role::Instance | Role::VrmAccess) && !row.data.is_numeric() {
        mistakes.push(Mistake::NeedsNumber {
            key: "role",
            data: data(),
        });
    }
    if let Some((low, high)) = row.range {
        if row.access != Access::ReadWrite {
            mistakes.push(Mistake::RangeAccess);
        }
        if let Some((min, max)) = limits(&row.data)
            && (low < min || high > max)
        {
            mistakes.push(Mistake::RangeType {
                data: data(),
                min,
                max,
            });
        }
    }
    if row.confirm && row.access != Access::ReadWrite {
        mistakes.push(Mistake::ConfirmAccess);
    }
    if row.publish == Publish::Blocked {
        let others = [("secret", row.secret), ("identifying", row.identifying)];
        let wrong = others.into_iter().filter(|(_, there)| *there);
        mistakes.extend(wrong.map(|(other, _)| Mistake::Blocked { other }));
    }
    mistakes
}

/// One path of a service says which device it is, not a family and not two rows.
pub(crate) fn role_mistake(row: &Row, roles: &mut HashMap<&'static str, usize>) -> Option<Mistake> {
    if row.role == Role::None {
        return None;
    }
    if row.template.is_family() {
        return Some(Mistake::RoleFamily);
    }
    let role = role_word(row.role);
    if let Some(&first) = roles.get(role) {
        return Some(Mistake::RoleTaken { role, first });
    }
    roles.insert(role, row.line);
    None
}

pub(crate) fn role_word(role: Role) -> &'static str {
    match role {
        Role::None => "none",
        Role::Instance => "instance",
        Role::Identifier => "identifier",
        Role::VrmAccess => "vrm-access",
    }
}
