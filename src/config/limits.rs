//! Every bound of the program: declared once, with its key, its default and whether it can change
//! while the program runs.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use serde::Deserialize;

/// A bound, and what it looks like as written.
trait Bound: Copy {
    /// As written; never zero.
    type Raw: Copy;
    fn resolve(raw: Self::Raw) -> Self;
    /// As it would be written.
    fn written(self) -> u64;
}

/// So many of something.
impl Bound for usize {
    type Raw = NonZeroUsize;

    fn resolve(raw: NonZeroUsize) -> usize {
        raw.get()
    }

    fn written(self) -> u64 {
        self as u64
    }
}

/// So much time, written in seconds.
impl Bound for Duration {
    type Raw = NonZeroU32;

    fn resolve(raw: NonZeroU32) -> Duration {
        Duration::from_secs(raw.get().into())
    }

    fn written(self) -> u64 {
        self.as_secs()
    }
}

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident: $bound:ty = $default:expr, $key:literal, $change:ident;)*) => {
        /// Every bound of the program.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$doc])* pub $field: $bound,)*
        }

        /// The table `[limits]` as written; [`Limits`] says what each of them bounds.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawLimits {
            $(#[serde(rename = $key)] $field: Option<<$bound as Bound>::Raw>,)*
        }

        impl Default for Limits {
            fn default() -> Limits {
                Limits { $($field: $default,)* }
            }
        }

        impl From<RawLimits> for Limits {
            fn from(raw: RawLimits) -> Limits {
                let default = Limits::default();
                Limits {
                    $($field: raw.$field.map_or(default.$field, <$bound>::resolve),)*
                }
            }
        }

        impl Limits {
            /// Each as a line of `[limits]`: its key, its value, and whether `raw` has it.
            pub(super) fn lines(&self, raw: &RawLimits) -> Vec<(&'static str, u64, bool)> {
                vec![$(($key, self.$field.written(), raw.$field.is_some()),)*]
            }

            /// Takes over what can change while the program runs. Gives the keys of what differs
            /// and cannot.
            pub fn take_over(&mut self, new: &Limits) -> Vec<&'static str> {
                let mut kept = Vec::new();
                $(limits!(@$change self, new, kept, $field, $key);)*
                kept
            }
        }
    };
    (@live $old:ident, $new:ident, $kept:ident, $field:ident, $key:literal) => {
        $old.$field = $new.$field;
    };
    (@restart $old:ident, $new:ident, $kept:ident, $field:ident, $key:literal) => {
        if $old.$field != $new.$field {
            $kept.push($key);
        }
    };
}

limits! {
    /// Items that are known at one time, over all services.
    items_max: usize = 500_000, "items-max", restart;
    /// Services that are known at one time.
    services_max: usize = 2_000, "services-max", live;
    /// A text of an item, as its service sends it.
    text_bytes_max: usize = 1024 * 1024, "text-bytes-max", live;
    /// A list, dict or struct of an item, as its service sends it.
    array_bytes_max: usize = 1024 * 1024, "array-bytes-max", live;
    /// All texts, lists, dicts and structs together, as they are published, and what is kept for later.
    cache_bytes_max: usize = 32 * 1024 * 1024, "cache-bytes-max", live;
    /// The payload of one request (§5.8).
    request_bytes_max: usize = 64 * 1024, "request-bytes-max", restart;
    /// Requests in one second, per broker; keep-alives are counted apart from the others.
    request_rate_max: usize = 2_000, "request-rate-max", live;
    /// Requests at once, after a time with few.
    request_burst_max: usize = 10_000, "request-burst-max", live;
    /// Writes that wait for their service's answer (§5.6).
    writes_in_flight_max: usize = 1_024, "writes-in-flight-max", live;
    /// Clients' reads that wait for their service's answer.
    calls_in_flight_max: usize = 4_096, "calls-in-flight-max", live;
    /// Live filters of selective keep-alives, per broker (§5.4).
    filters_max: usize = 1_000, "filters-max", restart;
    /// One D-Bus message.
    frame_bytes_max: usize = 32 * 1024 * 1024, "frame-bytes-max", restart;
    /// What is encoded and not yet taken by the socket, per broker.
    out_buffer_bytes: usize = 64 * 1024, "out-buffer-bytes", restart;
    /// Lines in the log, in one interval, of one kind that clients or services can cause at will;
    /// what clients cause is counted per broker.
    log_lines_max: usize = 10, "log-lines-max", live;
    /// That interval.
    log_interval: Duration = Duration::from_secs(10), "log-interval-s", live;
    /// The same for a day.
    log_day_lines_max: usize = 1_000, "log-lines-per-day-max", live;
    /// When a D-Bus call without an answer counts as failed.
    call_timeout: Duration = Duration::from_secs(25), "call-timeout-s", live;
    /// The same for the call of a read request.
    read_timeout: Duration = Duration::from_secs(5), "read-timeout-s", live;
    /// How long unpublishing may take at the end (§4.9).
    shutdown: Duration = Duration::from_secs(5), "shutdown-s", live;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_in_the_table_of_the_architecture() {
        let text = include_str!("../../ARCHITECTURE.md");
        for (key, _, _) in Limits::default().lines(&RawLimits::default()) {
            let row = text
                .lines()
                .any(|line| line.starts_with("| ") && line.contains(&format!("`{key}`")));
            assert!(row, "{key}");
        }
    }

    #[test]
    fn what_needs_a_restart_stays_and_is_named() {
        let mut limits = Limits::default();
        let new = Limits {
            items_max: 1,
            services_max: 2,
            log_interval: Duration::from_secs(3),
            ..Limits::default()
        };
        assert_eq!(limits.take_over(&new), ["items-max"]);
        let expected = Limits {
            items_max: 500_000,
            ..new
        };
        assert_eq!(limits, expected);
    }
}
