//! Texts, interned: many devices have the same paths, and each is kept once.
//!
//! What the schema knows is interned at build time; what it does not know is added here, and
//! forgotten with the last item that has it. Looked up once per item, never per update. Sole user of
//! dashmap.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dashmap::DashMap;

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextId(u32);

impl TextId {
    /// That of nothing.
    pub const NONE: TextId = TextId(u32::MAX);
}

/// A text: in the program's tables, or shared by the two sides of the interner.
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

/// The paths of all items, or the like.
#[derive(Debug, Default)]
pub struct Interner {
    ids: DashMap<Text, TextId>,
    texts: Vec<Text>,
    /// How many items have each.
    uses: Vec<u32>,
    free: Vec<TextId>,
    /// The bytes of those that are not in the program's tables.
    bytes: usize,
}

impl Interner {
    /// The id of a text, for one item more; `interned` is the text in the schema's tables, if it is
    /// there.
    pub fn intern(&mut self, text: &str, interned: Option<&'static str>) -> TextId {
        if let Some(id) = self.find(text) {
            if let Some(uses) = self.uses.get_mut(id.0 as usize) {
                *uses += 1;
            }
            return id;
        }
        let text = interned.map_or_else(|| Text::Shared(text.into()), Text::Static);
        self.bytes += text.bytes();
        let free = self.free.pop();
        let id = free.unwrap_or_else(|| {
            self.texts.push(Text::Static(""));
            self.uses.push(0);
            TextId(u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX))
        });
        let place = self.texts.get_mut(id.0 as usize);
        if let (Some(place), Some(uses)) = (place, self.uses.get_mut(id.0 as usize)) {
            *place = text.clone();
            *uses = 1;
        }
        self.ids.insert(text, id);
        id
    }

    /// One item less has the text; the last one takes it along.
    pub fn release(&mut self, id: TextId) {
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

    /// The bytes of the texts that are not in the program's tables.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes the text takes by itself.
    pub fn bytes_of(&self, id: TextId) -> usize {
        self.texts.get(id.0 as usize).map_or(0, Text::bytes)
    }

    /// The id of a text that an item has.
    pub fn find(&self, text: &str) -> Option<TextId> {
        self.ids.get(text).map(|id| *id)
    }

    /// Whether an item has the text.
    pub fn knows(&self, text: &str) -> bool {
        self.find(text).is_some()
    }

    /// The text.
    #[inline]
    pub fn text(&self, id: TextId) -> &str {
        self.texts.get(id.0 as usize).map_or("", Borrow::borrow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_forgotten_with_the_last_item_that_has_it() {
        let mut texts = Interner::default();
        let soc = texts.intern("/Soc", Some("/Soc"));
        let own = texts.intern("/Own", None);
        assert_eq!(texts.intern("/Own", None), own);
        assert_eq!(
            (texts.bytes(), texts.bytes_of(own), texts.bytes_of(soc)),
            (4, 4, 0)
        );
        texts.release(own);
        assert_eq!((texts.text(own), texts.knows("/Own")), ("/Own", true));
        texts.release(own);
        assert_eq!((texts.bytes(), texts.knows("/Own")), (0, false));
        texts.release(soc);
        assert!(!texts.knows("/Soc"));
    }

    #[test]
    fn new_paths_again_and_again_cost_no_memory() {
        let mut texts = Interner::default();
        for appearance in 0..10 {
            let ids: Vec<_> = (0..1_000)
                .map(|n| texts.intern(&format!("/{appearance}/{n}"), None))
                .collect();
            assert_eq!(texts.text(ids[7]), format!("/{appearance}/7"));
            for id in ids {
                texts.release(id);
            }
        }
        let lens = (texts.texts.len(), texts.uses.len(), texts.free.len());
        assert_eq!(
            (lens, texts.ids.len(), texts.bytes()),
            ((1_000, 1_000, 1_000), 0, 0)
        );
    }
}
