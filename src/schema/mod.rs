//! What Venus OS offers: for a service type and a path, what is known of the item.
//!
//! The rows are `schema/*.toml`, compiled into static tables by the build (`built_in`), and those
//! of the directories that the operator gives when the program runs (`overlay`), which go before
//! them. Total: what no row declares has the default rule, so no caller needs a case for it. Never
//! decides anything: what a rule means is up to `bridge`. The words of a rule are in [`rule`], the
//! grammar of the rows in `schema/README.md`, and its compiler, the same for both, in `source`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use self::layout::EVERY_TYPE;
use self::overlay::Layer;
use self::source::{Base, Marked};

pub use self::row::{Known, Row};
pub use self::rule::{
    Access, Codes, DataType, Kind, Look, LookRef, Marks, Publish, Role, Rule, Show, Text,
};
pub use self::source::{SchemaError, Source};

mod built_in;
mod layout;
mod overlay;
mod row;
pub mod rule;
mod source;

/// The built-in schema, and what lies over it.
///
/// It never changes: where the operator has changed a directory, another one is read, and takes its
/// place in one step.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Schema {
    /// The strongest last.
    layers: Vec<Layer>,
    /// The service type and path of each row that is blocked or secret; made when first asked for.
    guarded: OnceLock<Vec<(Box<str>, Box<str>)>>,
}

impl Schema {
    /// Lays one more directory over it; `files` is what is in it. Changes nothing where that has a
    /// mistake: all of them are told. Else tells how many paths and patterns it has.
    pub fn add(&mut self, files: &[Source]) -> Result<usize, Vec<SchemaError>> {
        let layer = Layer::new(source::compile(files, &self.base())?);
        let paths = layer.rows().count();
        self.layers.push(layer);
        self.guarded.take();
        Ok(paths)
    }

    /// What the schema knows of a path of a service type.
    ///
    /// Rows of a service type go before those that every service type has; among them a later
    /// directory before an earlier one, and each before what is built in; in one directory a row that
    /// names the path before a pattern.
    #[must_use]
    pub fn lookup(&self, service_type: &str, path: &str) -> Row<'_> {
        [service_type, EVERY_TYPE]
            .into_iter()
            .find_map(|service_type| self.lookup_in(service_type, path))
            .unwrap_or(Row::UNKNOWN)
    }

    /// Whether something that is blocked or secret is at this path and blocked, or lies below it, of
    /// all that such a service may have (§5.6). An open place of a pattern may be any level.
    #[must_use]
    pub fn guards(&self, service_type: &str, path: &str) -> bool {
        let node = path.trim_end_matches('/');
        let is_above = |row: &str| {
            let mut levels = row.split('/');
            let all = node.split('/').all(|level| {
                let own = levels.next();
                own.is_some_and(|own| own == level || own.contains('{'))
            });
            all && levels.next().is_some()
        };
        let guarded = self.guarded.get_or_init(|| {
            let rows = self.all_rows(|_| true);
            rows.filter(|(_, _, known)| known.secret || known.publish == Publish::Blocked)
                .map(|(name, path, _)| (name.into(), path.into()))
                .collect()
        });
        let mut of_type = guarded
            .iter()
            .filter(|(name, _)| **name == *service_type || **name == *EVERY_TYPE);
        self.lookup(service_type, path).rule.publish == Publish::Blocked
            || of_type.any(|(_, row)| is_above(row))
    }

    fn lookup_in(&self, service_type: &str, path: &str) -> Option<Row<'_>> {
        let over = self.layers.iter().rev();
        over.filter_map(|layer| layer.lookup(service_type, path))
            .map(|(known, pattern)| known.row(None, pattern))
            .next()
            .or_else(|| built_in::exact(service_type, path))
            .or_else(|| built_in::pattern(service_type, path))
    }

    /// The service types that have separate rows, by name.
    #[must_use]
    pub fn service_types(&self) -> BTreeSet<&str> {
        let over = self.layers.iter().flat_map(Layer::service_types);
        let over = over.filter(|name| *name != EVERY_TYPE);
        let built_in = built_in::service_types().map(|name| -> &str { name });
        built_in.chain(over).collect()
    }

    /// What a service of this type is, in one line.
    #[must_use]
    pub fn describe(&self, service_type: &str) -> Option<&str> {
        let mut over = self.layers.iter().rev();
        over.find_map(|layer| layer.describe(service_type))
            .or_else(|| built_in::describe(service_type))
    }

    /// Whether services of this type have a device instance. Of those that have none there is one, and
    /// topics call it 0.
    #[must_use]
    pub fn has_instance(&self, service_type: &str) -> bool {
        let mut over = self.layers.iter().rev();
        over.find_map(|layer| layer.has_instance(service_type))
            .or_else(|| built_in::has_instance(service_type))
            .unwrap_or(true)
    }

    /// What a device of this type is called; `None` where no file says it.
    #[must_use]
    pub fn device(&self, service_type: &str) -> Option<&str> {
        let mut over = self.layers.iter().rev();
        over.find_map(|layer| layer.device(service_type))
            .or_else(|| built_in::device(service_type))
    }

    /// The rows of a service type, by path, one for each path that a row names. In a pattern, `{n}`
    /// stands for any number and `{name}` for any text. Those that every service may have go by
    /// `_default`.
    #[must_use]
    pub fn rows(&self, service_type: &str) -> BTreeMap<String, Known<'_>> {
        let rows = self.all_rows(move |name| name == service_type);
        rows.map(|(_, path, known)| (path, known)).collect()
    }

    /// Every row that some lookup ends at, of these service types: service type, path and what it
    /// says.
    fn all_rows(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&str, String, Known<'_>)> {
        let over = self.layers.iter().rev().flat_map(Layer::rows);
        let mut seen = BTreeSet::new();
        let all = over.chain(built_in::rows());
        all.filter(move |(name, path, _)| wanted(name) && seen.insert((*name, *path)))
            .map(|(name, path, known)| {
                // A pattern of an overlay goes before a built-in row that names the path.
                let named = !layout::is_pattern(path);
                let ends = named.then(|| self.lookup_in(name, path)).flatten();
                let known = ends.map_or(known, |row| Known {
                    rule: row.rule,
                    description: row.description,
                    name: row.name,
                });
                (name, layout::readable(path), known)
            })
    }

    /// What a further directory adds to.
    fn base(&self) -> Base {
        let sets = built_in::sets().iter();
        let types = self.service_types().into_iter();
        let mut base = Base {
            units: built_in::units().iter().map(ToString::to_string).collect(),
            sets: sets
                .map(|(name, codes)| ((*name).to_owned(), codes.clone()))
                .collect(),
            described: types.map(str::to_owned).collect(),
            marked: Vec::new(),
        };
        for layer in &self.layers {
            base.units.extend(layer.units().iter().cloned());
            base.sets.extend(layer.sets().iter().cloned());
        }
        for (name, path, known) in self.all_rows(|_| true) {
            let Marks {
                publish,
                identifying,
                role,
                ..
            } = known.rule.marks();
            if identifying || role != Role::None || publish == Publish::PortalId {
                base.marked.push(Marked {
                    service_type: name.to_owned(),
                    path,
                    identifying,
                    role,
                    publish,
                });
            }
        }
        base
    }
}

/// What the built-in schema knows of a path of a service type.
#[must_use]
pub fn lookup(service_type: &str, path: &str) -> Row<'static> {
    BUILT_IN.lookup(service_type, path)
}

/// The service types that the built-in schema has rows for, by name.
pub fn service_types() -> impl Iterator<Item = &'static str> {
    built_in::service_types()
}

/// What a service of this type is, in one line, after the built-in schema.
#[must_use]
pub fn describe(service_type: &str) -> Option<&'static str> {
    built_in::describe(service_type)
}

/// A type as a row writes it.
#[must_use]
pub fn type_word(data: &DataType) -> &str {
    source::signature(data)
}

/// The schema with nothing over it.
static BUILT_IN: Schema = Schema {
    layers: Vec::new(),
    guarded: OnceLock::new(),
};

#[cfg(test)]
mod tests {
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
    fn s2_2_some_types_have_no_instance() {
        for service_type in ["settings", "hub4", "platform", "modem"] {
            assert!(!BUILT_IN.has_instance(service_type), "{service_type}");
        }
        for service_type in ["system", "battery", "vecan", "nosuchtype", ""] {
            assert!(BUILT_IN.has_instance(service_type), "{service_type}");
        }
        let file = |text: &str| Source {
            name: "dir/windmill.toml".to_owned(),
            text: text.to_owned(),
        };
        let mut schema = Schema::default();
        let text = "description = \"turns\"\ninstance = false\n[items]\n";
        schema.add(&[file(text)]).unwrap();
        assert!(!schema.has_instance("windmill"));
        // A later directory that does not say changes nothing, and one that does goes before.
        schema.add(&[file("[items]\n\"/A\" = {}\n")]).unwrap();
        assert!(!schema.has_instance("windmill"));
        schema.add(&[file("instance = true\n[items]\n")]).unwrap();
        assert!(schema.has_instance("windmill"));
        let mistakes = schema.add(&[file("instance = 1\n[items]\n")]).unwrap_err();
        assert_eq!(mistakes.len(), 1);
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
    fn s5_6_what_is_above_something_blocked_or_secret() {
        let check = |service_type, path, expected| {
            assert_eq!(BUILT_IN.guards(service_type, path), expected, "{path}");
        };
        check("vebus", "/Interfaces/Mk2/Tunnel", true);
        check("vebus", "/Interfaces/Mk2", true);
        check("vebus", "/Interfaces/Mk2/", true);
        check("vebus", "/Interfaces", true);
        check("vebus", "/", true);
        check("vebus", "/Interfaces/Mk2/TunnelX", false);
        check("vebus", "/Interfaces/Mk", false);
        check("vebus", "/Mode", false);
        check("settings", "/Settings/Services", true);
        // Who may not see a secret may still set it.
        check("settings", "/Settings/Services/AccessPointPassword", false);
        check("settings", "/Settings/SystemSetup", false);
        check("battery", "/Interfaces/Mk2", false);
        check("ble", "/Devices/e5a0", true);
        check("ble", "/Devices/e5a0/Key", false);
        // A row of the operator's counts as well.
        let mut schema = Schema::default();
        assert!(!schema.guards("battery", "/Vendor/7"));
        let text = "[items]\n\"/Vendor/{n}/Pin\" = { secret = true }\n";
        let name = "battery.toml".to_owned();
        let text = text.to_owned();
        schema.add(&[Source { name, text }]).unwrap();
        assert!(schema.guards("battery", "/Vendor/7"));
        assert!(!schema.guards("tank", "/Vendor/7"));
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
        assert!(state.labels.contains(&(9, "inverting".into())));
        assert!(state.bits.is_empty());
        let reason = lookup("solarcharger", "/DeviceOffReason").rule;
        assert!(reason.labels.is_empty());
        assert!(reason.bits.contains(&(7, "engine off".into())));
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
}
