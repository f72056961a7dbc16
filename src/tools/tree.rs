//! All items of one service, by path, and what the methods on its nodes answer.
//!
//! Pure: no bus, no messages. [`service`](super::service) asks it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;

use zbus::{Dict, Signature, Str, Variant};

use super::item::Item;
use super::value::{self, BusValue};

/// The fields of one item as `GetItems` and the signals carry them.
pub type Fields<'a> = BTreeMap<&'static str, Variant<'a>>;

/// The items of a service.
#[derive(Debug, Default, Clone)]
pub struct Tree {
    items: BTreeMap<String, Item>,
}

/// What a path is.
#[derive(Debug, Clone, Copy)]
pub enum Node<'a> {
    /// An item, whatever is below it.
    Item(&'a Item),
    /// A path with items below it; `/` always is one.
    Inner,
    /// No such object.
    Unknown,
}

impl Tree {
    /// A tree of these items.
    pub fn new(items: impl IntoIterator<Item = (String, Item)>) -> Self {
        Tree {
            items: items.into_iter().collect(),
        }
    }

    /// What is at a path.
    pub fn node(&self, path: &str) -> Node<'_> {
        match self.items.get(path) {
            Some(item) => Node::Item(item),
            None if path == "/" || self.below(path).next().is_some() => Node::Inner,
            None => Node::Unknown,
        }
    }

    /// The item at a path.
    pub fn get(&self, path: &str) -> Option<&Item> {
        self.items.get(path)
    }

    /// The item at a path, to change it.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Item> {
        self.items.get_mut(path)
    }

    /// Puts an item at a path.
    pub fn insert(&mut self, path: &str, item: Item) {
        self.items.insert(path.to_owned(), item);
    }

    /// Takes the item at a path away.
    pub fn remove(&mut self, path: &str) -> Option<Item> {
        self.items.remove(path)
    }

    /// All items, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.items.iter().map(|(path, item)| (path.as_str(), item))
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The answer to `GetItems`.
    pub fn announcement(&self) -> BTreeMap<&str, Fields<'static>> {
        self.iter()
            .map(|(path, item)| (path, fields(item)))
            .collect()
    }

    /// The answer to `GetValue` on an inner node: relative path to value.
    pub fn values(&self, path: &str) -> BusValue {
        self.dict(path, |item| value::copy(&item.value))
    }

    /// The answer to `GetText` on an inner node: relative path to text.
    pub fn texts(&self, path: &str) -> BusValue {
        self.dict(path, |item| Variant::Str(Str::from(item.shown())))
    }

    /// The answer to `Introspect`.
    pub fn introspection(&self, path: &str) -> String {
        let mut xml = String::from(INTROSPECTION_HEAD);
        if path == "/" || self.items.contains_key(path) {
            xml.push_str(INTROSPECTION_ITEM);
        }
        let mut last = "";
        for (relative, _) in self.below(path) {
            let child = relative.split('/').next().unwrap_or(relative);
            if child != last {
                // An object path holds no character that XML would have to escape.
                let written = writeln!(xml, "  <node name=\"{child}\"/>");
                debug_assert!(written.is_ok());
                last = child;
            }
        }
        xml.push_str("</node>\n");
        xml
    }

    /// The items below a path, with their paths relative to it.
    fn below(&self, path: &str) -> impl Iterator<Item = (&str, &Item)> {
        let prefix = if path == "/" {
            String::from("/")
        } else {
            format!("{path}/")
        };
        let start = Bound::Excluded(prefix.clone());
        self.items
            .range((start, Bound::Unbounded))
            .map_while(move |(path, item)| {
                path.strip_prefix(prefix.as_str())
                    .map(|relative| (relative, item))
            })
    }

    fn dict(&self, path: &str, of: impl Fn(&Item) -> BusValue) -> BusValue {
        let mut dict = Dict::new(&Signature::Str, &Signature::Variant);
        for (relative, item) in self.below(path) {
            let appended = dict.append(
                Variant::Str(Str::from(relative.to_owned())),
                Variant::Variant(Box::new(of(item))),
            );
            debug_assert!(appended.is_ok());
        }
        Variant::Dict(dict)
    }
}

/// All that an item announces of itself.
pub fn fields(item: &Item) -> Fields<'static> {
    let mut fields = Fields::new();
    fields.insert("Value", value::copy(&item.value));
    if let Some(text) = &item.text {
        fields.insert("Text", Variant::Str(Str::from(text.clone())));
    }
    let limits = [
        ("Min", &item.min),
        ("Max", &item.max),
        ("Default", &item.default),
    ];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            fields.insert(name, value::copy(limit));
        }
    }
    fields
}

const INTROSPECTION_HEAD: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object \
    Introspection 1.0//EN\"\n \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n\
    <node>\n  <interface name=\"org.freedesktop.DBus.Introspectable\">\n    \
    <method name=\"Introspect\"><arg direction=\"out\" type=\"s\"/></method>\n  </interface>\n";

const INTROSPECTION_ITEM: &str = "  <interface name=\"com.victronenergy.BusItem\">\n    \
    <method name=\"GetItems\"><arg direction=\"out\" type=\"a{sa{sv}}\"/></method>\n    \
    <method name=\"GetValue\"><arg direction=\"out\" type=\"v\"/></method>\n    \
    <method name=\"GetText\"><arg direction=\"out\" type=\"s\"/></method>\n    \
    <method name=\"GetMin\"><arg direction=\"out\" type=\"v\"/></method>\n    \
    <method name=\"GetMax\"><arg direction=\"out\" type=\"v\"/></method>\n    \
    <method name=\"GetDefault\"><arg direction=\"out\" type=\"v\"/></method>\n    \
    <method name=\"SetValue\"><arg direction=\"in\" type=\"v\"/><arg direction=\"out\" \
    type=\"i\"/></method>\n    \
    <signal name=\"PropertiesChanged\"><arg type=\"a{sv}\"/></signal>\n    \
    <signal name=\"ItemsChanged\"><arg type=\"a{sa{sv}}\"/></signal>\n  </interface>\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::new([
            ("/Ac/L1/Power".into(), Item::new(5_i32).text("5W")),
            ("/Ac/Power".into(), Item::new(5.5_f64)),
            ("/Ac0".into(), Item::new(1_i32)),
            ("/Mode".into(), Item::new(3_u32).range(1_u32, 4_u32)),
        ])
    }

    #[test]
    fn nodes_are_known_by_what_is_below_them() {
        let tree = tree();
        assert!(matches!(tree.node("/"), Node::Inner));
        assert!(matches!(tree.node("/Ac"), Node::Inner));
        assert!(matches!(tree.node("/Ac/L1"), Node::Inner));
        assert!(matches!(tree.node("/Ac/Power"), Node::Item(_)));
        assert!(matches!(tree.node("/A"), Node::Unknown));
        assert!(matches!(tree.node("/Ac/Power/x"), Node::Unknown));
        assert!(matches!(Tree::default().node("/"), Node::Inner));
    }

    #[test]
    fn inner_nodes_answer_relative_paths() {
        let json = |value: BusValue| value::to_json(&value).unwrap().to_string();
        let tree = tree();
        assert_eq!(json(tree.values("/Ac")), r#"{"L1/Power":5,"Power":5.5}"#);
        assert_eq!(
            json(tree.texts("/")),
            r#"{"Ac/L1/Power":"5W","Ac/Power":"5.5","Ac0":"1","Mode":"3"}"#
        );
    }

    #[test]
    fn introspection_names_each_child_once() {
        let xml = tree().introspection("/");
        assert_eq!(xml.matches("<node name=\"Ac\"/>").count(), 1);
        assert_eq!(xml.matches("<node name=").count(), 3);
        assert!(!tree().introspection("/Ac").contains("BusItem"));
        assert!(tree().introspection("/Ac/Power").contains("BusItem"));
    }

    #[test]
    fn an_item_announces_what_it_has() {
        let tree = tree();
        let names = |path| -> Vec<_> { fields(tree.get(path).unwrap()).into_keys().collect() };
        assert_eq!(names("/Mode"), ["Max", "Min", "Value"]);
        assert_eq!(names("/Ac/L1/Power"), ["Text", "Value"]);
    }
}
