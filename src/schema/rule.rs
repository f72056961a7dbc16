//! What the schema says of one item: the words that a schema row can use.
//!
//! `build/compile.rs` includes this file by path, so it imports nothing of the crate. A new word in
//! the schema starts here. The tables of rules are in [`super`].

use std::borrow::Cow;
use std::ops::Deref;

/// A text of the schema: in the program's tables, or owned by a schema that was read at run time.
pub type Text = Cow<'static, str>;

/// Codes and what each means, by rising code.
pub type Codes = Cow<'static, [(i64, Text)]>;

/// What the bridge may assume of an item, compiled from one schema row.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The D-Bus type that services use for it.
    pub data: DataType,
    /// Whether clients may write it.
    pub access: Access,
    /// Whether a client for people is to ask before it writes: it moves much power, or is hard to take back.
    pub confirm: bool,
    /// Whether and how it is published.
    pub publish: Publish,
    /// Whether it is published as `"******"` where it is a non-empty text (§4.7).
    pub secret: bool,
    /// Whether it is published first in a full republish (§5.5).
    pub identifying: bool,
    /// What it says to the bridge itself.
    pub role: Role,
    /// The range of a write, both ends included.
    pub range: Option<(f64, f64)>,
    /// The unit, as text for people; empty where there is none.
    pub unit: Text,
    /// The codes of an enumeration and what each means; empty where it is none.
    pub labels: Codes,
    /// Where the value is a bit field, the number of each bit and what it means; empty elsewhere.
    pub bits: Codes,
    /// What Home Assistant makes of it.
    pub look: LookRef,
}

/// What Home Assistant makes of an item, where its other words do not say it.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Where it is shown there.
    pub show: Show,
    /// Which kind of entity it becomes.
    pub entity: Kind,
    /// The device class; empty where the unit or the labels say it.
    pub class: Text,
    /// The unit that people read it in; empty where it is the row's own.
    pub shown: Text,
    /// The lowest and the highest value, and the step, that are offered where the service announces
    /// no limits and the row has no range; a step of 0 says nothing.
    pub offer: Option<(f64, f64, f64)>,
    /// The paths of the items that the entity has besides.
    pub with: Cow<'static, [Text]>,
    /// The last word of the name of the switch that changes between its labels `x` and `off (x)`; empty: no
    /// switch.
    pub switch: Text,
}

/// What a row says of it: in the program's tables, or owned by a schema that was read at run time.
#[derive(Debug, Clone)]
pub enum LookRef {
    /// In the tables.
    Static(&'static Look),
    /// Read at run time.
    Owned(Box<Look>),
}

impl Deref for LookRef {
    type Target = Look;

    fn deref(&self) -> &Look {
        match self {
            LookRef::Static(look) => look,
            LookRef::Owned(look) => look,
        }
    }
}

impl PartialEq for LookRef {
    fn eq(&self, other: &LookRef) -> bool {
        **self == **other
    }
}

/// Where an entity is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Show {
    /// As the path and the kind of value say.
    Auto,
    /// Among what is for everyday use.
    Main,
    /// Among the settings, at once.
    Config,
    /// Among what is for finding faults, at once.
    Diagnostic,
    /// It is there, and switched off until somebody wants it.
    Hidden,
    /// It is not an entity.
    Never,
}

/// Which kind of entity an item becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// As its access, its labels and its range say.
    Auto,
    /// A button: 1 is written when it is pressed.
    Button,
    /// A time of the day, in seconds after midnight.
    Time,
    /// A place: the item is the latitude, [`Look::with`] has the longitude.
    Tracker,
    /// A version: [`Look::with`] has the version to be had, and what installs it.
    Update,
}

/// The part of a rule that matters whenever a value comes or goes. An item keeps it, so that its rule
/// is looked up once, and anew only when the schema changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// As [`Rule::publish`].
    pub publish: Publish,
    /// As [`Rule::secret`].
    pub secret: bool,
    /// As [`Rule::identifying`].
    pub identifying: bool,
    /// As [`Rule::role`].
    pub role: Role,
}

/// The D-Bus type of an item's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataType {
    /// Nothing is known.
    Unknown,
    /// Some number; which type differs by product.
    Number,
    /// `b`
    Bool,
    /// `y`
    Byte,
    /// `n`
    Int16,
    /// `q`
    Uint16,
    /// `i`
    Int32,
    /// `u`
    Uint32,
    /// `x`
    Int64,
    /// `t`
    Uint64,
    /// `d`
    Double,
    /// `s`
    Text,
    /// An array, a dict or a struct: its signature.
    Compound(Text),
}

/// Whether clients may write an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// No source says.
    Unknown,
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// Whether and how an item is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// Published as the broker's `retain` says (§4.1).
    Normal,
    /// Never published, and never read for a client (§4.7).
    Blocked,
    /// The bridge's portal id, always retained, never unpublished, whatever the service says (§4.2).
    PortalId,
}

/// What an item says to the bridge itself: which device its service is (§1), or what a broker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It does not.
    None,
    /// `/DeviceInstance`: a number.
    Instance,
    /// `/Identifier`: a text, used where the instance is absent or invalid.
    Identifier,
    /// What VRM may do on this device (§8): 0 nothing, 1 read, 2 everything. A number.
    VrmAccess,
}

impl Rule {
    /// The rule of an item that the schema does not know.
    pub const DEFAULT: Rule = Rule {
        data: DataType::Unknown,
        access: Access::Unknown,
        confirm: false,
        publish: Publish::Normal,
        secret: false,
        identifying: false,
        role: Role::None,
        range: None,
        unit: Cow::Borrowed(""),
        labels: Cow::Borrowed(&[]),
        bits: Cow::Borrowed(&[]),
        look: LookRef::Static(&Look::DEFAULT),
    };

    /// What an item keeps of it.
    #[must_use]
    pub const fn marks(&self) -> Marks {
        Marks {
            publish: self.publish,
            secret: self.secret,
            identifying: self.identifying,
            role: self.role,
        }
    }
}

impl Look {
    /// That of an item whose row says nothing of it.
    pub const DEFAULT: Look = Look {
        show: Show::Auto,
        entity: Kind::Auto,
        class: Cow::Borrowed(""),
        shown: Cow::Borrowed(""),
        offer: None,
        with: Cow::Borrowed(&[]),
        switch: Cow::Borrowed(""),
    };
}

impl Marks {
    /// Those of an item that the schema does not know.
    pub const DEFAULT: Marks = Rule::DEFAULT.marks();
}

impl DataType {
    /// Whether a text cannot be a value of this type (§3: refused in a write).
    #[must_use]
    pub const fn is_numeric(&self) -> bool {
        !matches!(
            self,
            DataType::Unknown | DataType::Text | DataType::Compound(_)
        )
    }
}
