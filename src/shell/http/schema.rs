//! `/schema.json`: the schema that holds, the operator's overlays included, for programs that know a value
//! by its topic.
//!
//! ```json
//! {"types": {"battery": {"description": "…", "items": {"/Soc": [3, 17, 5], "/Voltages/Cell{n}": [4, 18]}}},
//!  "rules": [{"type": "d", "unit": "%", "access": "r", "range": [0, 100], "labels": [[0, "off"]]}],
//!  "descriptions": ["", "…"], "names": ["…"]}
//! ```
//!
//! An item is the number of its rule, of its description, and of its name where it has one: many share them.
//! In a name `{1}` is what stands in the first open place of the path, `{1+1}` one more than the number there. What every type may have is
//! under `_default`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use serde_json::{Map, Value, json};

use crate::codec::gzip;
use crate::schema::{Access, Codes, DataType, Kind, Publish, Rule, Schema, type_word};

/// The name of an item that goes by the name of its device.
const THE_DEVICE: &str = "{device}";

/// The name under which the rows go that every service may have.
const EVERY_TYPE: &str = "_default";

/// The schema as JSON, compressed by gzip, and its tag.
pub(super) fn compress(schema: &Schema) -> Option<(Vec<u8>, String)> {
    let text = render(schema).to_string();
    let mut hash = DefaultHasher::new();
    hash.write(text.as_bytes());
    let bytes = gzip::compress(text.as_bytes())?;
    Some((bytes, format!("\"{:016x}\"", hash.finish())))
}

fn render(schema: &Schema) -> Value {
    let mut rules = Numbers::default();
    let mut descriptions = Numbers::default();
    descriptions.of(Value::from(""));
    let mut names = Numbers::default();
    let mut types = Map::new();
    for name in schema.service_types().into_iter().chain([EVERY_TYPE]) {
        let mut items = Map::new();
        for (path, known) in schema.rows(name) {
            // What is never published is nobody's business.
            if known.publish != Publish::Blocked {
                let rule = rules.of(self::rule(known.rule));
                let description = descriptions.of(known.description.into());
                let mut item = vec![rule, description];
                // One that goes by the name of its device has none.
                let name = match known.look.entity {
                    // It is the name of the place, not of its latitude.
                    Kind::Tracker => path.rsplit('/').next().unwrap_or_default(),
                    Kind::Auto | Kind::Button | Kind::Time | Kind::Update => known.name,
                };
                if !name.is_empty() && name != THE_DEVICE {
                    item.push(names.of(name.into()));
                }
                items.insert(path, item.into());
            }
        }
        let description = schema.describe(name).unwrap_or_default();
        let entry = json!({ "description": description, "items": items });
        types.insert(name.to_owned(), entry);
    }
    json!({
        "types": types,
        "rules": rules.all,
        "descriptions": descriptions.all,
        "names": names.all,
    })
}

/// Each value once, by its number.
#[derive(Default)]
struct Numbers {
    all: Vec<Value>,
    known: HashMap<String, usize>,
}

impl Numbers {
    fn of(&mut self, value: Value) -> usize {
        let next = self.all.len();
        let number = *self.known.entry(value.to_string()).or_insert(next);
        if number == next {
            self.all.push(value);
        }
        number
    }
}

/// A rule; what is not known is left out.
fn rule(rule: &Rule) -> Value {
    let mut members = Map::new();
    let mut put = |key: &str, value: Value| members.insert(key.to_owned(), value);
    if rule.data != DataType::Unknown {
        put("type", type_word(&rule.data).into());
    }
    if !rule.unit.is_empty() {
        put("unit", (*rule.unit).into());
    }
    match rule.access {
        Access::Unknown => {}
        Access::Read => drop(put("access", "r".into())),
        Access::ReadWrite => drop(put("access", "rw".into())),
    }
    if rule.confirm {
        put("confirm", true.into());
    }
    if let Some((lowest, highest)) = rule.range {
        // An open end is null.
        put("range", json!([finite(lowest), finite(highest)]));
    }
    for (key, of) in [("labels", &rule.labels), ("bits", &rule.bits)] {
        if !of.is_empty() {
            put(key, codes(of));
        }
    }
    if rule.secret {
        put("secret", true.into());
    }
    if rule.look.entity == Kind::Button {
        put("button", true.into());
    }
    if !rule.look.shown.is_empty() {
        put("shown", (*rule.look.shown).into());
    }
    Value::Object(members)
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

fn codes(codes: &Codes) -> Value {
    codes
        .iter()
        .map(|(code, label)| json!([code, label]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Source;

    #[test]
    fn an_overlay_shows_and_the_blocked_does_not() {
        let mut schema = Schema::default();
        let text = "[items]\n\"/Soc\" = { unit = \"%\", description = \"how full\" }\n\
                    \"/Pump\" = { access = \"rw\", confirm = true }\n";
        let name = "battery.toml".to_owned();
        let text = text.to_owned();
        schema.add(&[Source { name, text }]).unwrap();
        let all = render(&schema);
        let item = &all["types"]["battery"]["items"]["/Soc"];
        let at = |index: &serde_json::Value| usize::try_from(index.as_u64().unwrap()).unwrap();
        let rule = &all["rules"][at(&item[0])];
        assert_eq!(rule["unit"], "%");
        assert_eq!(rule.get("access"), None);
        let asks = |service_type: &str, path: &str| {
            let number = at(&all["types"][service_type]["items"][path][0]);
            all["rules"][number]["confirm"] == true
        };
        assert!(asks("battery", "/Pump") && asks("vebus", "/Mode"));
        assert!(!asks("battery", "/Soc") && !asks("settings", "/Settings/System/TimeZone"));
        let words = &all["descriptions"][at(&item[1])];
        assert_eq!(words, "how full");
        assert!(
            all["types"]["vebus"]["items"]
                .get("/Interfaces/Mk2/Tunnel")
                .is_none()
        );
        assert!(
            all["types"]["_default"]["items"]
                .get("/ProductName")
                .is_some()
        );
    }
}
