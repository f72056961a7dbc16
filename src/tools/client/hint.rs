//! What was likely meant by a topic that brings nothing: a value that is there, else one that the schema
//! knows.

use super::want::Want;
use crate::model::similar::{closest, distance};
use crate::model::topic::parse_address;
use crate::schema::Schema;

/// What was likely meant by the first of these for which something similar is known. `live` are topics that
/// are there.
pub fn likely(wants: &[Want], live: &[String]) -> Option<String> {
    wants.iter().find_map(|want| {
        let topic = &want.topic;
        alike(topic, live).or_else(|| from_schema(topic, &Schema::default()))
    })
}

/// The value that is most like it; that of another instance is nearer than any other.
fn alike(topic: &str, live: &[String]) -> Option<String> {
    let given = parse_address(topic)?;
    let far = |other: &&String| {
        let other = parse_address(other)?;
        let kind = distance(given.service_type, other.service_type)?;
        let path = distance(given.path, other.path)?;
        Some(2 * (kind + path) + usize::from(given.instance != other.instance))
    };
    let measured = live.iter().filter_map(|other| Some((far(&other)?, other)));
    let nearest = measured.min_by(|(a, first), (b, second)| a.cmp(b).then(first.cmp(second)));
    let (far, nearest) = nearest?;
    // It is there itself, only nothing was said of it.
    (far > 0).then(|| nearest.clone())
}

/// The same topic with another service type, or another path.
fn from_schema(topic: &str, schema: &Schema) -> Option<String> {
    let (given, rest) = topic.split_once('/').unwrap_or((topic, ""));
    let types = schema.service_types();
    if given.contains(['+', '#']) {
        return None;
    }
    let service_type = match types.iter().find(|known| **known == given) {
        Some(known) => known,
        None => closest(given, types.iter().copied())?,
    };
    let changed = service_type != given;
    let with_path = || {
        let address = parse_address(topic).filter(|address| !address.path.contains(['+', '#']))?;
        let rows = schema.rows(service_type);
        let path = closest(address.path, rows.keys().map(String::as_str))?;
        let is_other = changed || path != address.path;
        is_other.then(|| format!("{service_type}/{}{path}", address.instance))
    };
    with_path().or_else(|| {
        let rest = if rest.is_empty() {
            ""
        } else {
            &format!("/{rest}")
        };
        changed.then(|| format!("{service_type}{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_likely_meant_by_a_topic() {
        let live = [
            "battery/288/Soc",
            "battery/288/Dc/0/Voltage",
            "tank/21/Level",
            "tank/22/Level",
        ];
        let live = live.map(str::to_owned);
        let check = |given: &str, meant: Option<&str>| {
            let wants = [Want::parse(given).unwrap()];
            assert_eq!(likely(&wants, &live).as_deref(), meant, "{given}");
        };
        check("batery/288/Soc", Some("battery/288/Soc"));
        check("battery/1/Soc", Some("battery/288/Soc"));
        check("battery/288/Sco", Some("battery/288/Soc"));
        check("battery/288/Dc/0/Voltag", Some("battery/288/Dc/0/Voltage"));
        check("tank/23/Level", Some("tank/21/Level"));
        // The schema knows more than what is there.
        check("vebuss/276/Mode", Some("vebus/276/Mode"));
        check("vebus/276/Mod", Some("vebus/276/Mode"));
        check("batery/+/Soc", Some("battery/+/Soc"));
        check("solarchager", Some("solarcharger"));
        check("nosuchthing/0/Xyzzy", None);
        check("+/+/Soc", None);
        check("battery/288/Soc", None);
    }
}
