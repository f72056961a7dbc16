//! What the schema says of one path, as those who ask it get it.

use std::ops::Deref;

use super::layout;
use super::rule::Rule;

/// What the schema knows of one path of one service type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'s> {
    /// What the bridge may assume of the item.
    pub rule: &'s Rule,
    /// What it is, in a few words; empty where there are none.
    pub description: &'s str,
    /// What Home Assistant calls it, with places for what is open; empty where there is no name.
    pub(super) name: &'s str,
    /// The pattern that matched; empty where a row names the path.
    pub(super) pattern: &'s str,
    /// The path, where a built-in row names it: a text that need not be kept again. None where a
    /// pattern matched, where the row is of an overlay, or where no row is known.
    pub path: Option<&'static str>,
    /// Whether a row declares it.
    pub known: bool,
}

impl Row<'static> {
    /// What is known of a path that no row declares.
    pub const UNKNOWN: Row<'static> = Row {
        rule: &Rule::DEFAULT,
        description: "",
        name: "",
        pattern: "",
        path: None,
        known: false,
    };
}

impl<'s> Row<'s> {
    /// A row that says nothing but this.
    #[must_use]
    pub const fn of(rule: &'s Rule) -> Row<'s> {
        Row {
            rule,
            ..Row::UNKNOWN
        }
    }

    /// What Home Assistant calls the item with this path; `None` where its row has no name, and empty
    /// where it goes by the name of its device.
    #[must_use]
    pub fn name(&self, path: &str) -> Option<String> {
        if self.name == layout::DEVICE {
            return Some(String::new());
        }
        let places = layout::places(self.pattern, path);
        let given = |place: usize| places.get(place.checked_sub(1)?).map(ToString::to_string);
        let name = layout::fill(self.name, given).ok()?;
        (!name.is_empty()).then_some(name)
    }
}

/// What a row says. Its words are apart from its rule: many rows share a rule, and few the words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known<'s> {
    /// What the bridge may assume of the item.
    pub rule: &'s Rule,
    /// What it is, in a few words; empty where there are none.
    pub description: &'s str,
    /// What Home Assistant calls it, with places for what is open; empty where there is no name.
    pub name: &'s str,
}

impl Deref for Known<'_> {
    type Target = Rule;

    fn deref(&self) -> &Rule {
        self.rule
    }
}

impl<'s> Known<'s> {
    pub(super) fn row(self, path: Option<&'static str>, pattern: &'s str) -> Row<'s> {
        let Known {
            rule,
            description,
            name,
        } = self;
        Row {
            rule,
            description,
            name,
            pattern,
            path,
            known: true,
        }
    }
}
