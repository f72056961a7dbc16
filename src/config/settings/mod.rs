//! The settings, each declared once: a file for each table of the settings file. Whoever adds a setting adds
//! a row here and uses its field; `UPDATE_DOCS=1 cargo test --test core settings` writes it into
//! `dbus-mqtt.example.toml` and `docs/configuration.md`.
//!
//! A row is what it does, as comment (the first paragraph is the help of `-h`), the field where it ends up,
//! and a [`Setting`]. One without a field is resolved by hand, in `resolve` and `resolve_broker`.

/// Declares the settings of a table, and the struct that they end up in. `made` are the fields that are made of
/// several settings by hand, each with what a reload calls it if it needs a restart. In a section come first those without a field
/// (`by_hand`), then those with one.
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $name:ident from $list:ident;
        made {
            $($(#[$made_doc:meta])* $made:ident: $made_ty:ty = $initial:expr $(, $label:literal)?;)*
        }
        $(in $section:ident
            $(by_hand {
                $($(#[doc = $bare_text:literal])+ = $bare:expr;)*
            })?
            $({
                $($(#[doc = $text:literal])+ $field:ident: $ty:ty = $setting:expr;)*
            })?
        )*
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$made_doc])* pub $made: $made_ty,)*
            $($($($(#[doc = $text])+ pub $field: $ty,)*)?)*
        }

        /// The settings of this table, in the order of the settings file.
        pub static $list: &[$crate::config::setting::Setting] = &[
            $(
                $($($bare.told($section, concat!($($bare_text, "\n"),+)),)*)?
                $($($setting.told($section, concat!($($text, "\n"),+)),)*)?
            )*
        ];

        impl $name {
            /// What is set, with the defaults, for the fields of one setting each.
            pub(in crate::config) fn declared<F: $crate::config::setting::Fields>(
                values: &F,
            ) -> Result<$name, F::Error> {
                Ok($name {
                    $($made: $initial,)*
                    $($($($field: values.field(&$setting)?,)*)?)*
                })
            }

            /// Takes over what can change while the program runs. Gives the keys of what differs and
            /// cannot.
            pub fn take_over(&mut self, new: &$name) -> Vec<&'static str> {
                let mut kept: Vec<&'static str> = Vec::new();
                $($(
                    if self.$made != new.$made && !kept.contains(&$label) {
                        kept.push($label);
                    }
                )?)*
                $($($(
                    if $setting.reload {
                        self.$field.clone_from(&new.$field);
                    } else if self.$field != new.$field {
                        kept.push($setting.key);
                    }
                )*)?)*
                kept
            }
        }

        impl Default for $name {
            fn default() -> $name {
                $name {
                    $($made: $initial,)*
                    $($($($field: $setting.default_as(),)*)?)*
                }
            }
        }
    };
}

mod broker;
mod limits;
mod listen;
mod top;
mod vrm;

pub use self::broker::{BROKER, BrokerConfig, ENGINES};
pub use self::limits::{LIMITS, Limits};
pub use self::listen::{LISTEN, ListenSettings, SHARED};
pub use self::top::{Config, TOP};
pub use self::vrm::{VRM, VrmSettings};
use super::setting::Setting;

/// A setting that is declared, by its key.
pub(super) fn declared(key: &str) -> Option<&'static Setting> {
    let all = [TOP, BROKER, VRM, LIMITS, LISTEN];
    all.into_iter().flatten().find(|setting| setting.key == key)
}
