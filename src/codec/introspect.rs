//! The XML of `org.freedesktop.DBus.Introspectable`: child nodes, and whether a node is an item.
//!
//! Needed for services that can neither `GetItems` nor `GetValue` on `/` (§2.2).

use super::frame::INTERFACE;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// What the introspection of one node tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Whether the node has the interface of items.
    pub is_item: bool,
    /// The names of its children.
    pub children: Vec<String>,
}

/// Introspection data that is not XML as D-Bus wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("introspection data that is not XML")]
pub struct NoXml;

/// Reads the introspection data of one node. What is inside its children is not looked at.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "events that elements are not made of"
)]
pub fn parse(xml: &str) -> Result<Node, NoXml> {
    let mut reader = Reader::from_str(xml);
    let mut node = Node::default();
    let mut depth = 0_usize;
    loop {
        match reader.read_event().map_err(|_| NoXml)? {
            Event::Start(element) => {
                read_element(&mut node, &element, depth)?;
                depth += 1;
            }
            Event::Empty(element) => read_element(&mut node, &element, depth)?,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Eof => return Ok(node),
            _ => {}
        }
    }
}

fn read_element(node: &mut Node, element: &BytesStart<'_>, depth: usize) -> Result<(), NoXml> {
    if depth != 1 {
        return Ok(());
    }
    let Some(name) = element.try_get_attribute("name").map_err(|_| NoXml)? else {
        return Ok(());
    };
    let name = &*name.value;
    match element.name().as_ref() {
        "interface" if name == INTERFACE => node.is_item = true,
        "node" if !name.is_empty() && !name.contains('/') => node.children.push(name.into()),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_and_the_item_interface_are_found() {
        let xml = r#"<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
            "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
            <node name="/Ac"><interface name="com.victronenergy.BusItem"><method name="GetValue"/></interface>
            <node name="L1"/><node name="L2"><node name="Power"/></node></node>"#;
        let node = parse(xml).unwrap();
        assert_eq!(
            node,
            Node {
                is_item: true,
                children: vec!["L1".into(), "L2".into()]
            }
        );
        assert_eq!(parse("<node/>").unwrap(), Node::default());
        assert_eq!(parse("<node><"), Err(NoXml));
        assert_eq!(parse("<node><a></node>"), Err(NoXml));
    }
}
