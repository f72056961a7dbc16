//! The log: one line per event on stderr, in time, level and words.
//!
//! What is logged is decided where it happens; here only how it looks and how much of it is shown.

use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ConfigError, Machine, Origin, Problem};

/// Starts the log. `RUST_LOG` says what is shown, where it is set; else `debug` does, and without
/// it the `usual` filter.
pub fn start(debug: bool, usual: &str, machine: &Machine) -> Result<(), ConfigError> {
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(UtcMillis)
        .with_target(debug);
    tracing_subscriber::registry()
        .with(filter(debug, usual, machine)?)
        .with(lines)
        .init();
    Ok(())
}

fn filter(debug: bool, usual: &str, machine: &Machine) -> Result<Targets, ConfigError> {
    let text = match machine.variable("RUST_LOG")? {
        Some(text) => text,
        None if debug => "warn,dbus_mqtt=debug",
        None => usual,
    };
    // A level for a part of the program is all that anybody needs here; filters by field would bring
    // a machine for regular expressions into a small device.
    text.parse().map_err(|_| ConfigError::Setting {
        origin: Origin::Variable("RUST_LOG".into()),
        problem: Problem::LogFilter(text.to_owned()),
    })
}

/// `2026-01-31T12:00:00.123Z`: the clock of the device in UTC, as VRM and the other logs of Venus
/// OS have it, to the millisecond.
struct UtcMillis;

impl FormatTime for UtcMillis {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        let mut micros = String::new();
        SystemTime.format_time(&mut Writer::new(&mut micros))?;
        to.write_str(&millis(&micros))
    }
}

/// `…:00.123456Z` → `…:00.123Z`
fn millis(micros: &str) -> String {
    let digits = micros.trim_end_matches('Z');
    let shorter = digits.len().saturating_sub(3);
    format!("{}Z", digits.get(..shorter).unwrap_or(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: &str = "warn,dbus_mqtt=info";

    fn machine(rust_log: &str) -> Machine {
        let mut machine = Machine::this();
        machine.environment = [("RUST_LOG".into(), rust_log.into())].into();
        machine
    }

    #[test]
    fn rust_log_wins_over_debug() {
        assert_eq!(
            filter(true, USUAL, &machine("dbus_mqtt::shell=trace"))
                .unwrap()
                .to_string(),
            "dbus_mqtt::shell=trace"
        );
        assert_eq!(
            filter(true, USUAL, &machine("")).unwrap().to_string(),
            "dbus_mqtt=debug,warn"
        );
        assert_eq!(
            filter(false, USUAL, &machine("")).unwrap().to_string(),
            "dbus_mqtt=info,warn"
        );
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let error = filter(false, USUAL, &machine("dbus_mqtt=loud")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "RUST_LOG: \"dbus_mqtt=loud\" is no log filter; one looks like dbus_mqtt=debug"
        );
    }

    #[test]
    fn times_end_in_milliseconds() {
        let mut text = String::new();
        UtcMillis.format_time(&mut Writer::new(&mut text)).unwrap();
        assert_eq!(text.len(), "2026-01-31T12:00:00.123Z".len(), "{text}");
        assert_eq!(
            millis("2026-01-31T12:00:00.123456Z"),
            "2026-01-31T12:00:00.123Z"
        );
    }
}
