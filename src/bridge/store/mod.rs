//! The data: items, topics, names and values, and what the schema says of them. Nothing in here decides.

pub mod bits;
pub mod cache;
pub mod hash;
pub mod ids;
pub mod items;
pub mod marks;
pub mod sizes;
pub mod slot;
pub mod sync;

use std::sync::Arc;

use self::cache::{Reader, Writer, cache};
use self::items::Items;
use crate::schema::Schema;

/// All that is known of items.
#[derive(Debug)]
pub struct Store {
    /// What is known of services and their items. Asked when one turns up, never at an update.
    pub schema: Arc<Schema>,
    /// Which items there are.
    pub items: Items,
    /// Their values, for the one who writes them.
    pub cache: Writer,
    /// Their values, for those who read them.
    pub values: Reader,
}

impl Store {
    /// A store without items that has room for so many. `seed` makes the order of tables different on
    /// every start.
    pub fn new(items_max: usize, seed: u64) -> Store {
        let (cache, values) = cache(items_max);
        Store {
            schema: Arc::default(),
            items: Items::new(seed),
            cache,
            values,
        }
    }
}
