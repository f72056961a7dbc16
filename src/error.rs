//! What ends the process.
//!
//! An error that reaches `main` is one that nothing below could mend: what the network, a service
//! or a client does wrong is dealt with where it happens, and the bridge goes on.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::model::outside::Outside;

/// Why the program cannot go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum Fatal {
    /// The operator has to mend the configuration first.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refuses what every program gets: timers, signal handlers, memory.
    #[error("the system does not let the program start: {0}")]
    System(#[from] io::Error),
    /// Somebody else listens there already, or the address is none of ours.
    #[error("{what}: cannot listen on {address}: {reason}")]
    Listen {
        what: &'static str,
        address: SocketAddr,
        reason: io::Error,
    },
    /// The same of a listener.
    #[error("cannot listen on {address}: {}{}", plain(reason), taken(reason))]
    Port {
        address: SocketAddr,
        reason: io::Error,
    },
    /// The demo is a cargo feature.
    #[error(
        "this build for a device leaves the demo out; on a computer, cargo run --release -- demo has it"
    )]
    NoDemo,
    /// The client for people is a cargo feature.
    #[error(
        "this build for a device leaves the client out; on a computer, cargo run --release -- get has it"
    )]
    NoClient,
    /// The output cannot be written: a full disk, mostly.
    #[error("cannot print: {}", plain(.0))]
    Output(#[source] io::Error),
    /// A program around the bridge was asked for something that cannot be.
    #[error(transparent)]
    Usage(Box<dyn Error + Send + Sync>),
    /// A program around the bridge gave up; what it says is in its own words.
    #[error(transparent)]
    Tool(Box<dyn Error + Send + Sync>),
}

impl Fatal {
    /// Takes over the error of a program around the bridge.
    pub fn tool(error: impl Error + Send + Sync + 'static) -> Fatal {
        Fatal::Tool(Box::new(error))
    }

    /// The exit status (§7): 2 for a mistake in the configuration or in what is asked for, 1 for
    /// everything else.
    pub fn exit_status(&self) -> u8 {
        match self {
            Fatal::Config(_) | Fatal::Usage(_) | Fatal::Listen { .. } => 2,
            Fatal::System(_)
            | Fatal::Port { .. }
            | Fatal::NoDemo
            | Fatal::NoClient
            | Fatal::Output(_)
            | Fatal::Tool(_) => 1,
        }
    }
}

/// Prints what is to be read on the standard output.
pub fn print(text: &[u8]) -> Result<(), Fatal> {
    let mut to = io::stdout().lock();
    let written = to.write_all(text).and_then(|()| to.flush());
    unless_unread(written).map_err(Fatal::Output)
}

/// That nobody reads on is not a failure, be it a pipe (EPIPE) or a terminal that was closed (EIO): they have
/// seen enough.
pub fn unless_unread(written: io::Result<()>) -> io::Result<()> {
    const EIO: i32 = 5;
    match written {
        Err(error)
            if error.kind() == io::ErrorKind::BrokenPipe || error.raw_os_error() == Some(EIO) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// An error with the system's words and without its number: `No such file or directory`.
pub fn plain(error: &impl Display) -> String {
    let mut text = error.to_string();
    while let Some((before, rest)) = text.split_once(NUMBER) {
        let Some((digits, after)) = rest.split_once(')') else {
            break;
        };
        if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            break;
        }
        text = format!("{before}{after}");
    }
    text
}

/// What the standard library puts behind the system's words for an error.
const NUMBER: &str = " (os error ";

/// Who may have an address that is taken.
fn taken(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        " (a broker, or another dbus-mqtt, listens there; take another port, or stop it)"
    } else {
        ""
    }
}

/// An error as one line, whatever names and paths are quoted in it.
pub fn one_line(error: &impl Display) -> String {
    Outside::new(&plain(error)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_stand_without_their_number() {
        for (given, expected) in [
            (
                "a: Connection refused (os error 111)",
                "a: Connection refused",
            ),
            ("x (os error 2); y (os error 13), z", "x; y, z"),
            ("said \"(os error\"", "said \"(os error\""),
            ("x (os error 2", "x (os error 2"),
            ("x (os error two)", "x (os error two)"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(plain(&given), expected);
            assert_eq!(one_line(&given), Outside::new(expected).to_string());
        }
    }

    #[test]
    fn exit_statuses() {
        let config = Fatal::from(ConfigError::NoPortalId { tried: Vec::new() });
        assert_eq!(config.exit_status(), 2);
        assert_eq!(
            Fatal::from(io::Error::from(io::ErrorKind::OutOfMemory)).exit_status(),
            1
        );
    }

    #[test]
    fn who_reads_no_further_has_seen_enough() {
        let code = |code| unless_unread(Err(io::Error::from_raw_os_error(code)));
        assert!(code(32).is_ok() && code(5).is_ok());
        let full = code(28).map_err(Fatal::Output).unwrap_err();
        assert_eq!(full.to_string(), "cannot print: No space left on device");
        assert_eq!(full.exit_status(), 1);
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(one_line(&"a\nb\u{1b}[31mc\t"), r"a\nb\u{1b}[31mc\t");
    }
}
