//! What Venus OS offers: for a service type and a path, what is known of the item.
//!
//! The rows are `schema/*.toml`, compiled into static tables by `build/compile.rs`; nothing is parsed
//! and nothing allocated here. Total: what no row declares has the default rule, so no caller needs
//! a case for it. Never decides anything: what a rule means is up to `bridge`. The words of a rule
//! are in [`rule`], the grammar of the rows in `schema/README.md`.

use layout::{EVERY_TYPE, Home};

pub use rule::{Access, DataType, Publish, Role, Rule};

mod layout;
pub mod rule;

/// What the schema knows of one path of one service type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// What the bridge may assume of the item.
    pub rule: &'static Rule,
    /// The path, where a row names it: a text that need not be kept again. None where a pattern
    /// matched or no row is known.
    pub path: Option<&'static str>,
    /// Whether a row declares it.
    pub known: bool,
}

impl Row {
    /// What is known of a path that no row declares.
    pub const UNKNOWN: Row = Row {
        rule: &Rule::DEFAULT,
        path: None,
        known: false,
    };
}

/// What the schema knows of a path of a service type.
///
/// A row that names the path goes before a pattern, and both before the rows that every service
/// type has.
#[must_use]
pub fn lookup(service_type: &str, path: &str) -> Row {
    exact(service_type, path)
        .or_else(|| pattern(service_type, path))
        .or_else(|| exact(EVERY_TYPE, path))
        .or_else(|| pattern(EVERY_TYPE, path))
        .unwrap_or(Row::UNKNOWN)
}

/// The service types that have rows of their own, by name.
pub fn service_types() -> impl Iterator<Item = &'static str> {
    tables::TYPES
        .iter()
        .map(|known| known.name)
        .filter(|name| *name != EVERY_TYPE)
}

/// What a service of this type is, in one line.
#[must_use]
pub fn describe(service_type: &str) -> Option<&'static str> {
    find(service_type)
        .map(|known| known.description)
        .filter(|text| !text.is_empty())
}

fn exact(service_type: &str, path: &str) -> Option<Row> {
    let Home { slot, tag } = layout::home(service_type, path, tables::HOMES);
    let slots = tables::SLOTS
        .get(slot..)?
        .iter()
        .take_while(|slot| slot.path != layout::EMPTY);
    for slot in slots.filter(|slot| slot.tag == tag) {
        let known = text(slot.path)?;
        let name = tables::TYPES.get(usize::from(slot.service_type))?.name;
        if known == path && name == service_type {
            return Some(Row {
                rule: rule(slot.rule),
                path: Some(known),
                known: true,
            });
        }
    }
    None
}

fn pattern(service_type: &str, path: &str) -> Option<Row> {
    let (from, to) = find(service_type)?.patterns;
    let patterns = tables::PATTERNS.get(usize::from(from)..usize::from(to))?;
    patterns.first()?;
    let ending = layout::ending(path);
    let matching = patterns.iter().find(|pattern| {
        pattern.ending.is_none_or(|own| own == ending)
            && text(pattern.path).is_some_and(|text| layout::matches(text, path))
    })?;
    Some(Row {
        rule: rule(matching.rule),
        path: None,
        known: true,
    })
}

fn find(service_type: &str) -> Option<&'static ServiceType> {
    let found = tables::TYPES.binary_search_by(|known| known.name.cmp(service_type));
    found.ok().and_then(|number| tables::TYPES.get(number))
}

fn rule(number: u16) -> &'static Rule {
    tables::RULES
        .get(usize::from(number))
        .unwrap_or(&Rule::DEFAULT)
}

/// A path or a pattern by its number.
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
    service_type: u8,
    tag: u8,
}

/// A row with open places.
struct Pattern {
    path: u16,
    rule: u16,
    /// The mark of its last segment, unless that has an open place.
    ending: Option<u8>,
}

struct ServiceType {
    name: &'static str,
    description: &'static str,
    /// Which patterns it has, the end excluded.
    patterns: (u16, u16),
}

/// Written by `build/emit.rs`.
#[allow(clippy::unreadable_literal, reason = "written by a program")]
mod tables {
    use super::{Access, DataType, Pattern, Publish, Role, Rule, ServiceType, Slot};

    include!(concat!(env!("OUT_DIR"), "/schema.rs"));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A row is found, by name (`Some`) or by a pattern (`None`), and its rule has this unit.
    fn check(service_type: &str, path: &str, interned: bool, unit: &str) {
        let row = lookup(service_type, path);
        assert!(row.known, "{service_type} {path}");
        assert_eq!(row.path, interned.then_some(path), "{service_type} {path}");
        assert_eq!(row.rule.unit, unit, "{service_type} {path}");
    }

    fn check_unknown(service_type: &str, path: &str) {
        assert_eq!(
            lookup(service_type, path),
            Row::UNKNOWN,
            "{service_type} {path}"
        );
    }

    #[test]
    fn a_closed_family_is_expanded() {
        check("vebus", "/Ac/ActiveIn/L1/V", true, "V");
        check("vebus", "/Ac/ActiveIn/L3/V", true, "V");
        check_unknown("vebus", "/Ac/ActiveIn/L0/V");
        check_unknown("vebus", "/Ac/ActiveIn/L4/V");
        check("solarcharger", "/History/Daily/0/Yield", true, "kWh");
        check("solarcharger", "/History/Daily/30/Yield", true, "kWh");
        check_unknown("solarcharger", "/History/Daily/31/Yield");
    }

    #[test]
    fn an_open_family_is_matched() {
        check("battery", "/Voltages/Cell16", false, "V");
        check("battery", "/Voltages/Cell1234567890", false, "V");
        check_unknown("battery", "/Voltages/Cell");
        check_unknown("battery", "/Voltages/Cell16a");
        check_unknown("battery", "/Voltages/Cell/16");
        check("switch", "/SwitchableOutput/pwm_1/Dimming", false, "%");
        check_unknown("switch", "/SwitchableOutput/pwm/1/Dimming");
        check_unknown("switch", "/SwitchableOutput//Dimming");
        check("solarcharger", "/History/Daily/7/Pv/2/MaxPower", false, "W");
    }

    #[test]
    fn a_row_goes_before_a_pattern_and_a_number_before_a_text() {
        let numbered = lookup("settings", "/Settings/TempSensorRelay/sensor/0/Relay");
        assert_eq!(numbered.rule.range, Some((-1.0, 100.0)));
        // `/Devices/Bms/Version` beside `/Devices/{n}/Version`.
        check("vebus", "/Devices/Bms/Version", true, "");
        check("vebus", "/Devices/0/Version", false, "");
        // `.../{n}/Name` beside `.../{service}/{instance}/Name`.
        let base = "/Settings/SystemSetup/Batteries/Configuration";
        check("settings", &format!("{base}/0/Name"), false, "");
        check(
            "settings",
            &format!("{base}/com_victronenergy_battery/0/Name"),
            false,
            "",
        );
    }

    #[test]
    fn every_type_has_the_default_rows() {
        let row = lookup("battery", "/DeviceInstance");
        assert_eq!(row.rule.role, Role::Instance);
        assert_eq!(row.path, Some("/DeviceInstance"));
        assert_eq!(lookup("nosuchtype", "/DeviceInstance"), row);
        assert_eq!(lookup("vecan", "/Identifier").rule.role, Role::Identifier);
        check("nosuchtype", "/Devices/3/ProductName", false, "");
        // A row of the type goes before: `/Serial` of the system is the portal id.
        assert_eq!(lookup("system", "/Serial").rule.publish, Publish::PortalId);
        assert_eq!(lookup("battery", "/Serial").rule.publish, Publish::Normal);
    }

    #[test]
    fn what_no_row_declares_has_the_default_rule() {
        for (service_type, path) in [
            ("battery", "/No/Such/Path"),
            ("nosuchtype", "/Dc/0/Voltage"),
            ("battery", ""),
            ("battery", "/"),
            ("", ""),
            ("battery", "Soc"),
            ("Battery", "/Soc"),
            ("batter", "y/Soc"),
            ("battery", "/Voltages/Cell\u{1}"),
            ("battery", "/Voltages/Cellé"),
        ] {
            check_unknown(service_type, path);
        }
    }

    #[test]
    fn s4_7_what_is_never_shown() {
        for (service_type, path) in [
            ("vebus", "/Interfaces/Mk2/Tunnel"),
            ("paygo", "/LVD/Threshold"),
        ] {
            assert_eq!(
                lookup(service_type, path).rule.publish,
                Publish::Blocked,
                "{path}"
            );
        }
        for (service_type, path) in [
            ("settings", "/Settings/Services/AccessPointPassword"),
            ("settings", "/Settings/Ble/Service/Pincode"),
            ("settings", "/Settings/Modem/PIN"),
            ("settings", "/Settings/Modem/Password"),
        ] {
            assert!(lookup(service_type, path).rule.secret, "{path}");
        }
    }

    #[test]
    fn s5_5_what_identifies_a_device() {
        for path in [
            "/Serial",
            "/ProductId",
            "/DeviceInstance",
            "/ProductName",
            "/CustomName",
        ] {
            for service_type in service_types() {
                assert!(
                    lookup(service_type, path).rule.identifying,
                    "{service_type} {path}"
                );
            }
        }
        assert!(lookup("tank", "/FluidType").rule.identifying);
        assert!(lookup("temperature", "/TemperatureType").rule.identifying);
        assert!(!lookup("tank", "/Level").rule.identifying);
    }

    #[test]
    fn labels_name_codes_and_bits_name_bits() {
        let state = lookup("vebus", "/State").rule;
        assert!(state.labels.contains(&(9, "inverting")));
        assert!(state.bits.is_empty());
        let reason = lookup("solarcharger", "/DeviceOffReason").rule;
        assert!(reason.labels.is_empty());
        assert!(reason.bits.contains(&(7, "engine off")));
    }

    #[test]
    fn every_service_type_is_described() {
        let types: Vec<_> = service_types().collect();
        assert!(types.len() >= 50, "{types:?}");
        assert!(types.is_sorted());
        for service_type in types {
            assert!(
                describe(service_type).is_some_and(|text| text.len() > 3),
                "{service_type}"
            );
        }
        assert_eq!(describe("nosuchtype"), None);
        assert_eq!(describe(""), None);
    }

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
        for rule in &tables::RULES {
            texts.extend([rule.unit, rule.description]);
            for codes in [rule.labels, rule.bits] {
                texts.extend(codes.iter().map(|(_, label)| *label));
                sets.insert(codes);
            }
        }
        for known in &tables::TYPES {
            texts.extend([known.name, known.description]);
        }
        let parts = [
            ("paths", tables::POOL.len() + size_of_val(&tables::ENDS)),
            ("slots", size_of_val(&tables::SLOTS)),
            ("patterns", size_of_val(&tables::PATTERNS)),
            ("rules", size_of_val(&tables::RULES)),
            (
                "label sets",
                sets.iter().map(|codes| size_of_val(*codes)).sum(),
            ),
            ("service types", size_of_val(&tables::TYPES)),
            (
                "texts",
                texts.iter().map(|text| text.len()).sum::<usize>() - tables::POOL.len(),
            ),
        ];
        let bytes: usize = parts.iter().map(|(_, bytes)| bytes).sum();
        eprintln!("{bytes} bytes: {parts:?}");
        assert!(bytes < 250_000, "{bytes} bytes: {parts:?}");
    }
}
