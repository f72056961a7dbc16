//! Paths, interned: many devices have the same ones, and each text is kept once.
//!
//! What the schema knows is interned at build time; what it does not know is added here. Asked once
//! per item, never per update. Sole user of dashmap.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dashmap::DashMap;

/// Which path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathId(u32);

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

/// All paths seen so far. They are never forgotten: their number is bounded by the items that were
/// ever allowed, and devices that come back bring the same ones.
#[derive(Debug, Default)]
pub struct Names {
    ids: DashMap<Text, PathId>,
    texts: Vec<Text>,
}

impl Names {
    /// The id of a path; `interned` is its text in the schema's tables, if it has one there.
    pub fn intern(&mut self, path: &str, interned: Option<&'static str>) -> PathId {
        if let Some(id) = self.ids.get(path) {
            return *id;
        }
        let text = interned.map_or_else(|| Text::Shared(path.into()), Text::Static);
        let id = PathId(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        self.texts.push(text.clone());
        self.ids.insert(text, id);
        id
    }

    /// The text of a path.
    #[inline]
    pub fn path(&self, id: PathId) -> &str {
        self.texts.get(id.0 as usize).map_or("", Borrow::borrow)
    }
}
