//! The log: one line per event on stderr, in time, level and words; for systemd's journal, with a priority
//! instead of the time.
//!
//! What is logged is decided where it happens; here only how it looks and how much of it is shown.

use std::fmt::{self, Debug, Write as _};
use std::io::{IsTerminal, Write as _};
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer, format};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ConfigError, Machine, Origin, Problem};
use crate::model::outside::Escaping;

/// The log, once it is started.
pub struct Log {
    refilter: Box<dyn Fn(Targets) + Send + Sync>,
    usual: &'static str,
}

/// Starts the log. `RUST_LOG` says what is shown, where it is set; else `debug` does, and without
/// it the `usual` filter.
pub fn start(debug: bool, usual: &'static str, machine: &Machine) -> Result<Log, ConfigError> {
    let journal = is_journal(machine);
    let lines = (!journal).then(|| {
        tracing_subscriber::fmt::layer()
            .compact()
            .fmt_fields(Words)
            .with_writer(|| Stderr)
            .with_ansi(machine.colours(std::io::stderr().is_terminal()))
            .with_timer(UtcMillis)
            .with_target(debug)
    });
    let entries = journal.then(|| {
        tracing_subscriber::fmt::layer()
            .fmt_fields(Words)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .event_format(Entry(
                format()
                    .compact()
                    .without_time()
                    .with_level(false)
                    .with_target(debug),
            ))
    });
    let (filter, handle) = reload::Layer::new(filter(debug, usual, machine)?);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(entries)
        .init();
    Ok(Log {
        // It fails only where the log is gone, and then nobody would read it.
        refilter: Box::new(move |filter| drop(handle.reload(filter))),
        usual,
    })
}

/// How something that is renewed in place on the terminal makes room for a line of the log.
type Around = Box<dyn Fn(&mut dyn FnMut()) + Send + Sync>;
static AROUND: OnceLock<Around> = OnceLock::new();

/// Has each line of the log be written in here, from now on; once only.
pub fn around(write: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) {
    // A second one has nothing to say.
    let _ = AROUND.set(Box::new(write));
}

/// The standard error, which may be a terminal with a line that is renewed.
struct Stderr;

impl std::io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let Some(around) = AROUND.get() else {
            return std::io::stderr().write(line);
        };
        let mut written = Ok(0);
        around(&mut || written = std::io::stderr().write(line));
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Has a panic say where it was, and nothing else: what it is about may be a value, or a password that
/// was being read. The usual words of the language have that in them.
pub fn hush_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let place = place.as_deref().unwrap_or("an unknown place");
        // Where nobody reads stderr, the exit status still tells.
        let _ = writeln!(
            std::io::stderr(),
            "dbus-mqtt: a fault of this program, at {place}: please report it"
        );
    }));
}

impl Log {
    /// Shows more, or less, from now on.
    pub fn set(&self, debug: bool, machine: &Machine) -> Result<(), ConfigError> {
        (self.refilter)(filter(debug, self.usual, machine)?);
        Ok(())
    }
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

/// Whether stderr is systemd's journal, which has the time of each line itself. `JOURNAL_STREAM` says
/// which file that is (systemd.exec(5)): who has it inherited may write elsewhere.
fn is_journal(machine: &Machine) -> bool {
    let told = machine.variable("JOURNAL_STREAM").ok().flatten();
    told.is_some_and(|told| {
        rustix::fs::fstat(std::io::stderr())
            .is_ok_and(|file| told == format!("{}:{}", file.st_dev, file.st_ino))
    })
}

/// A line for the journal: its priority in front (sd-daemon(3)), and neither time nor level.
struct Entry<F>(F);

impl<S, N, F> FormatEvent<S, N> for Entry<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(to, "<{priority}>")?;
        self.0.format_event(context, to, event)
    }
}

/// What an event says, on one line: whatever came from outside into it is escaped here, where no line
/// of the log gets past (§5.9).
struct Words;

impl<'w> FormatFields<'w> for Words {
    fn format_fields<R: RecordFields>(&self, to: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line {
            to: Escaping::new(to, LINE_CHARS_MAX),
            separator: "",
            outcome: Ok(()),
        };
        fields.record(&mut line);
        line.outcome
    }
}

struct Line<'w> {
    to: Escaping<Writer<'w>>,
    separator: &'static str,
    outcome: fmt::Result,
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let separator = std::mem::replace(&mut self.separator, " ");
        self.outcome = self.outcome.and_then(|()| match field.name() {
            "message" => write!(self.to, "{separator}{value:?}"),
            name => write!(self.to, "{separator}{name}={value:?}"),
        });
    }
}

/// Far more than any line of ours has: a path on the bus may have megabytes.
const LINE_CHARS_MAX: usize = 4_000;

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
    use std::sync::{Arc, Mutex};

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
            "RUST_LOG: \"dbus_mqtt=loud\" is not a log filter; one looks like dbus_mqtt=debug"
        );
    }

    /// A panic in this process would be that of the test, so it has a separate one.
    #[test]
    fn a_panic_says_where_and_not_what() {
        const CHILD: &str = "DBUS_MQTT_TEST_PANICS";
        let name = "logging::tests::a_panic_says_where_and_not_what";
        if std::env::var_os(CHILD).is_some() {
            hush_panics();
            let secret = "canary-é";
            // What the language says of that has the text in it.
            let _ = &secret[..8];
            return;
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let both = format!("{said}{}", String::from_utf8_lossy(&output.stdout));
        assert!(
            said.contains("a fault of this program, at src/logging.rs:"),
            "{both}"
        );
        assert!(!both.contains("canary"), "{both}");
        assert!(!output.status.success(), "{both}");
    }

    #[test]
    fn s5_9_no_text_from_outside_makes_a_line_of_its_own() {
        #[derive(Clone, Default)]
        struct Shown(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Shown {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let shown = Shown::default();
        let to = shown.clone();
        let subscriber = tracing_subscriber::registry().with(
            tracing_subscriber::fmt::layer()
                .fmt_fields(Words)
                .with_writer(move || to.clone())
                .with_ansi(false)
                .event_format(Entry(format().compact().without_time().with_level(false))),
        );
        let name = "tank\n<3>forged\u{202e}\u{9b}31m\u{85}";
        let long = "x".repeat(1_000_000);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("{name}: gone");
            tracing::info!(service = name, "gone");
            tracing::info!("{long}");
        });
        let shown = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(
            lines[0],
            r"<4>dbus_mqtt::logging::tests: tank\n<3>forged\u{202e}\u{9b}31m\u{85}: gone"
        );
        assert!(
            lines[1].starts_with("<6>") && lines[1].contains("forged"),
            "{}",
            lines[1]
        );
        assert!(lines[2].len() < 5_000 && lines[2].ends_with('…'));
        let plain = |c: char| c == '\n' || crate::model::outside::is_plain(c);
        assert!(shown.chars().all(plain), "{shown:?}");
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
