//! What the clients of a listener have done and got, counted (§9). Each number is declared here, and nowhere
//! else: its key in `bridge/stats`, its name for Prometheus, its help.

/// Declares the numbers: a field, its kind, its help.
macro_rules! counts {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident;)*) => {
        /// What the clients of one listener have done and got.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct ClientCounts {
            $($(#[doc = $help])+ pub $field: u64,)*
        }

        /// All of its numbers.
        pub const CLIENT_COUNTS: &[Count] = &[
            $(Count {
                name: stringify!($field),
                kind: Kind::$kind,
                help: concat!($($help),+),
                of: |counts| counts.$field,
            },)*
        ];
    };
}

counts! {
    /// Clients that are connected.
    clients: Gauge;
    /// Filters that they subscribe to.
    subscriptions: Gauge;
    /// Messages that they sent.
    received: Counter;
    /// Messages that they got.
    sent: Counter;
    /// Changes of a value that waited to be sent to a client already.
    conflated: Counter;
    /// Messages of other clients for which a client had no room.
    dropped: Counter;
    /// Messages below the topics of this installation, which only the bridge may publish.
    foreign: Counter;
    /// Connections that were not let in.
    refused: Counter;
}

/// One of the numbers.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    /// What it is called.
    pub name: &'static str,
    /// Whether it can fall.
    pub kind: Kind,
    /// What it says; it begins with a space.
    pub help: &'static str,
    /// The number.
    pub of: fn(&ClientCounts) -> u64,
}

/// Whether a number can fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It can.
    Gauge,
    /// It counts.
    Counter,
}
