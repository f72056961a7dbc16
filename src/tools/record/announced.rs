//! What services announce, as items. A value that no recording can hold is left out.

use std::collections::{BTreeMap, HashMap};

use zbus::{OwnedVariant, Variant};

use crate::tools::item::Item;
use crate::tools::value::{self, BusValue};

/// An item from what a service announces of it; `None` where that has no value, or one that no
/// recording can hold.
pub(super) fn announced(
    (path, mut fields): (String, HashMap<String, OwnedVariant>),
) -> Option<(String, Item)> {
    let mut field = |name| fields.remove(name).map(|value| unwrapped(value.into()));
    let path = rooted(&path);
    let value = field("Value")?;
    value::to_json(&value).ok()?;
    let text = match field("Text") {
        Some(Variant::Str(text)) => Some(text.to_string()),
        _ => None,
    };
    let item = Item {
        text,
        min: field("Min"),
        max: field("Max"),
        default: field("Default"),
        ..Item::new(value)
    };
    Some((path, item))
}

/// The dict that an old service answers on `/`, with absolute paths. `None` where it is not a dict.
pub(super) fn paths(answer: Variant<'_>) -> Option<BTreeMap<String, Item>> {
    let answer = unwrapped(answer);
    let Variant::Dict(dict) = answer else {
        return None;
    };
    let mut items = BTreeMap::new();
    for (key, value) in dict {
        let Variant::Str(path) = key else {
            return None;
        };
        let value = unwrapped(value);
        if value::to_json(&value).is_ok() {
            items.insert(rooted(&path), Item::new(value));
        }
    }
    Some(items)
}

/// An item from what `GetValue` on it answers; `None` where no recording can hold that.
pub(super) fn answered(value: Variant<'_>) -> Option<Item> {
    let value = unwrapped(value);
    value::to_json(&value).ok()?;
    Some(Item::new(value))
}

/// The path from the root: what `GetValue` on `/` says has no leading slash, and some services leave it
/// out everywhere (§2.2).
fn rooted(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

/// A value without the variants around it (§3: `v` in `v` is unwrapped).
fn unwrapped(value: Variant<'_>) -> BusValue {
    if let Variant::Variant(inner) = value {
        unwrapped(*inner)
    } else {
        value::copy(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::tree::Tree;

    #[test]
    fn s2_2_a_path_without_a_slash_is_one_with_it() {
        let item = |path: &str| {
            let value = OwnedVariant::try_from(Variant::from(5)).unwrap();
            announced((
                path.to_owned(),
                HashMap::from([("Value".to_owned(), value)]),
            ))
        };
        assert_eq!(item("Soc").unwrap().0, "/Soc");
        assert_eq!(item("/Soc").unwrap().0, "/Soc");
    }

    #[test]
    fn old_services_answer_relative_paths() {
        let tree = Tree::new([
            ("/Ac/Power".into(), Item::new(5.5_f64)),
            ("/Mode".into(), Item::new(3_u32)),
        ]);
        let items = paths(tree.values("/")).unwrap();
        assert!(value::same(&items["/Ac/Power"].value, &Variant::F64(5.5)));
        assert!(value::same(&items["/Mode"].value, &Variant::U32(3)));
        assert!(paths(Variant::from(5)).is_none());
    }
}
