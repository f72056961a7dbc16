//! What the service manager that started us wants to be told, and how often (sd_notify(3)).

use std::path::PathBuf;
use std::time::Duration;

use super::error::{ConfigError, Origin, Problem};
use super::machine::Machine;

/// Where the service manager listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifySocket {
    /// A socket in the file system.
    Path(PathBuf),
    /// A name that is in no file system.
    Abstract(String),
}

/// A service manager that wants to hear of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervision {
    /// Where it listens.
    pub socket: NotifySocket,
    /// How long it waits for a sign of life before it starts us again; `None` where it does not.
    pub watchdog: Option<Duration>,
}

impl Machine {
    /// The service manager, where one started us and wants to hear of us.
    pub fn supervision(&self) -> Result<Option<Supervision>, ConfigError> {
        let Some(text) = self.variable(SOCKET)? else {
            return Ok(None);
        };
        let socket = match text.strip_prefix('@') {
            Some(name) if !name.is_empty() => NotifySocket::Abstract(name.to_owned()),
            None if text.starts_with('/') => NotifySocket::Path(text.into()),
            Some(_) | None => return Err(wrong(SOCKET, Problem::NotifySocket(text.to_owned()))),
        };
        // A watchdog for another process is not ours to feed.
        let ours = match self.variable(WATCHDOG_PID)? {
            Some(pid) => pid == std::process::id().to_string(),
            None => true,
        };
        let watchdog = match self.variable(WATCHDOG)? {
            Some(text) => match text.parse::<u64>() {
                Ok(0) | Err(_) => {
                    let complaint = format!("{text:?} is not a number of microseconds");
                    return Err(wrong(WATCHDOG, Problem::Value(complaint)));
                }
                Ok(microseconds) => Some(Duration::from_micros(microseconds)).filter(|_| ours),
            },
            None => None,
        };
        Ok(Some(Supervision { socket, watchdog }))
    }
}

fn wrong(variable: &'static str, problem: Problem) -> ConfigError {
    ConfigError::Setting {
        origin: Origin::Variable(variable.into()),
        problem,
    }
}

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

#[cfg(test)]
mod tests {
    use super::*;

    fn supervision(variables: &[(&str, &str)]) -> Result<Option<Supervision>, String> {
        let mut machine = Machine::this();
        let variables = variables.iter();
        machine.environment = variables
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        machine.supervision().map_err(|error| error.to_string())
    }

    fn by(socket: NotifySocket, watchdog: Option<u64>) -> Supervision {
        let watchdog = watchdog.map(Duration::from_micros);
        Supervision { socket, watchdog }
    }

    #[test]
    fn both_kinds_of_sockets_and_the_watchdog() {
        let path = || NotifySocket::Path("/run/systemd/notify".into());
        let socket = ("NOTIFY_SOCKET", "/run/systemd/notify");
        let watchdog = ("WATCHDOG_USEC", "30000000");
        assert_eq!(supervision(&[]), Ok(None));
        assert_eq!(supervision(&[("NOTIFY_SOCKET", "")]), Ok(None));
        assert_eq!(supervision(&[socket]), Ok(Some(by(path(), None))));
        let all = supervision(&[socket, watchdog]);
        assert_eq!(all, Ok(Some(by(path(), Some(30_000_000)))));
        let name = NotifySocket::Abstract("notify/1".to_owned());
        let found = supervision(&[("NOTIFY_SOCKET", "@notify/1")]);
        assert_eq!(found, Ok(Some(by(name, None))));
        // Without a socket there is nobody to feed.
        assert_eq!(supervision(&[watchdog]), Ok(None));
    }

    #[test]
    fn the_watchdog_of_another_process_is_left_alone() {
        let socket = ("NOTIFY_SOCKET", "/notify");
        let watchdog = ("WATCHDOG_USEC", "5");
        let path = || NotifySocket::Path("/notify".into());
        let own = std::process::id().to_string();
        let mine = supervision(&[socket, watchdog, ("WATCHDOG_PID", &own)]);
        assert_eq!(mine, Ok(Some(by(path(), Some(5)))));
        let other = supervision(&[socket, watchdog, ("WATCHDOG_PID", "1")]);
        assert_eq!(other, Ok(Some(by(path(), None))));
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["notify", "@", "vsock:2:1"] {
            let sentence = supervision(&[("NOTIFY_SOCKET", text)]).unwrap_err();
            assert_eq!(
                sentence,
                format!(
                    "NOTIFY_SOCKET: {text:?} is not a socket; one begins with / or, in no file system, with @"
                )
            );
        }
        for text in ["0", "-1", "soon"] {
            let variables = [("NOTIFY_SOCKET", "/notify"), ("WATCHDOG_USEC", text)];
            let sentence = supervision(&variables).unwrap_err();
            assert!(
                sentence.contains("not a number of microseconds"),
                "{sentence}"
            );
        }
    }
}
