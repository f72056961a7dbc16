//! Paths, interned: many devices have the same ones, and each text is kept once.
//!
//! What the schema knows is interned at build time; what it does not know is added here, and
//! forgotten with the last item that has it. Asked once per item, never per update. Sole user of
//! dashmap.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dashmap::DashMap;

/// Which path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathId(u32);

impl PathId {
    /// The path of nothing.
    pub const NONE: PathId = PathId(u32::MAX);
}

/// A path's text: in the program's tables, or shared by the two sides of the interner.
#[derive(Debug, Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        match self {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl Text {
    fn bytes(&self) -> usize {
        match self {
            Text::Static(_) => 0,
            Text::Shared(text) => text.len(),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        Borrow::<str>::borrow(self) == Borrow::<str>::borrow(other)
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<str>::borrow(self).hash(state);
    }
}

/// The paths of all items.
#[derive(Debug, Default)]
pub struct Names {
    ids: DashMap<Text, PathId>,
    texts: Vec<Text>,
    /// How many items have each.
    uses: Vec<u32>,
    free: Vec<PathId>,
    /// The bytes of those that are not in the program's tables.
    bytes: usize,
}

impl Names {
    /// The id of a path, for one item more; `interned` is its text in the schema's tables, if it has
    /// one there.
    pub fn intern(&mut self, path: &str, interned: Option<&'static str>) -> PathId {
        let known = self.ids.get(path).map(|id| *id);
        if let Some(id) = known {
            if let Some(uses) = self.uses.get_mut(id.0 as usize) {
                *uses += 1;
            }
            return id;
        }
        let text = interned.map_or_else(|| Text::Shared(path.into()), Text::Static);
        self.bytes += text.bytes();
        let free = self.free.pop();
        let id = free.unwrap_or_else(|| {
            self.texts.push(Text::Static(""));
            self.uses.push(0);
            PathId(u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX))
        });
        let place = self.texts.get_mut(id.0 as usize);
        if let (Some(place), Some(uses)) = (place, self.uses.get_mut(id.0 as usize)) {
            *place = text.clone();
            *uses = 1;
        }
        self.ids.insert(text, id);
        id
    }

    /// One item less has the path; the last one takes it along.
    pub fn release(&mut self, id: PathId) {
        let at = id.0 as usize;
        let (Some(text), Some(uses)) = (self.texts.get_mut(at), self.uses.get_mut(at)) else {
            return;
        };
        *uses = uses.saturating_sub(1);
        if *uses > 0 {
            return;
        }
        let text = std::mem::replace(text, Text::Static(""));
        self.bytes -= text.bytes();
        self.ids.remove::<str>(text.borrow());
        self.free.push(id);
    }

    /// The bytes of the paths that are not in the program's tables.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes the path takes by itself.
    pub fn bytes_of(&self, id: PathId) -> usize {
        self.texts.get(id.0 as usize).map_or(0, Text::bytes)
    }

    /// Whether an item has the path.
    pub fn knows(&self, path: &str) -> bool {
        self.ids.contains_key(path)
    }

    /// The text of a path.
    #[inline]
    pub fn path(&self, id: PathId) -> &str {
        self.texts.get(id.0 as usize).map_or("", Borrow::borrow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_forgotten_with_the_last_item_that_has_it() {
        let mut names = Names::default();
        let soc = names.intern("/Soc", Some("/Soc"));
        let own = names.intern("/Own", None);
        assert_eq!(names.intern("/Own", None), own);
        assert_eq!(
            (names.bytes(), names.bytes_of(own), names.bytes_of(soc)),
            (4, 4, 0)
        );
        names.release(own);
        assert_eq!((names.path(own), names.knows("/Own")), ("/Own", true));
        names.release(own);
        assert_eq!((names.bytes(), names.knows("/Own")), (0, false));
        names.release(soc);
        assert!(!names.knows("/Soc"));
    }

    #[test]
    fn new_paths_again_and_again_cost_no_memory() {
        let mut names = Names::default();
        for appearance in 0..10 {
            let ids: Vec<_> = (0..1_000)
                .map(|n| names.intern(&format!("/{appearance}/{n}"), None))
                .collect();
            assert_eq!(names.path(ids[7]), format!("/{appearance}/7"));
            for id in ids {
                names.release(id);
            }
        }
        let lens = (names.texts.len(), names.uses.len(), names.free.len());
        assert_eq!(
            (lens, names.ids.len(), names.bytes()),
            ((1_000, 1_000, 1_000), 0, 0)
        );
    }
}
