//! What the configuration is read from besides the arguments. Tests make one of a folder.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin, Problem};

/// The machine this program runs on, as far as the configuration asks it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The environment. Tests may have one of their own, for that of the process cannot be changed
    /// safely.
    pub environment: BTreeMap<OsString, OsString>,
    /// Folders that only Venus OS has: one of them is enough to know it.
    pub venus: Vec<PathBuf>,
    /// Where Venus OS keeps the portal id.
    pub unique_id_file: PathBuf,
    /// What prints it on older versions.
    pub unique_id_command: PathBuf,
    /// The folder of the network interfaces.
    pub interfaces: PathBuf,
    /// The certificates that vouch for VRM, where Venus OS keeps them.
    pub vrm_certificate: PathBuf,
    /// Where Venus OS keeps the password of this device at VRM: there is only one, so that all
    /// programs have to share it.
    pub vrm_password_file: PathBuf,
    /// Where Venus OS has its version: `v3.50`, or `v3.60~12`, in the first line.
    pub version_file: PathBuf,
}

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        Machine {
            environment: std::env::vars_os().collect(),
            venus: vec!["/opt/victronenergy".into(), "/data/venus".into()],
            unique_id_file: "/data/venus/unique-id".into(),
            unique_id_command: "/sbin/get-unique-id".into(),
            interfaces: "/sys/class/net".into(),
            vrm_certificate: "/etc/ssl/certs/ccgx-ca.pem".into(),
            vrm_password_file: "/data/conf/mqtt_password.txt".into(),
            version_file: "/opt/victronenergy/version".into(),
        }
    }

    /// The version of Venus OS, where it is one that registers the device at VRM itself: 3.20 and later.
    pub fn registers_itself(&self) -> Option<String> {
        let text = read_text(&self.version_file, VERSION_BYTES_MAX).ok()?;
        let version = text.lines().next()?.trim();
        let mut numbers = version.trim_start_matches('v').split(['.', '~', '-']);
        let mut next = || numbers.next()?.parse::<u32>().ok();
        ((next()?, next()?) >= (3, 20)).then(|| version.to_owned())
    }

    /// Whether what is written may have colours: on a terminal, unless `NO_COLOR` or a terminal that knows
    /// none says otherwise (<https://no-color.org>).
    pub fn colours(&self, terminal: bool) -> bool {
        // A variable that is not a text is set all the same.
        self.renews_lines(terminal) && matches!(self.variable("NO_COLOR"), Ok(None))
    }

    /// Whether a line can be written over: on a terminal that is not `dumb`.
    pub fn renews_lines(&self, terminal: bool) -> bool {
        terminal && !matches!(self.variable("TERM"), Ok(Some("dumb")))
    }

    /// A variable of the environment. An empty one counts as not set, since many service managers
    /// cannot unset one.
    pub(crate) fn variable(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        match self.environment.get(std::ffi::OsStr::new(name)) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some("") => Ok(None),
                Some(text) => Ok(Some(text)),
                None => {
                    let origin = Origin::Variable(name.to_owned().into());
                    Err(ConfigError::Setting {
                        origin,
                        problem: Problem::NotText,
                    })
                }
            },
        }
    }
}

/// More than any version takes.
const VERSION_BYTES_MAX: u64 = 4096;

/// A file of text, refused where it is larger than any sensible one.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    read_open(open_regular(path)?, bytes_max)
}

/// Opens a regular file and nothing else: a pipe that nobody writes into would hold up the start for
/// ever, and a device has no end.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    // For a regular file it makes no difference; a pipe opens at once, to be refused.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    // Asked of the open file: what is at the path may be another one by now.
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let found = if kind.is_dir() {
        "it is a folder"
    } else {
        "it is a pipe or a device, not a regular file"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, found))
}

/// The same of a file that is open.
pub(super) fn read_open(file: File, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {bytes_max} bytes"),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn venus_os_registers_the_device_itself_from_3_20_on() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine {
            version_file: folder.path().join("version"),
            ..Machine::this()
        };
        assert_eq!(machine.registers_itself(), None);
        for (text, expected) in [
            ("v3.50\nVenus OS Large\n20240912090000\n", Some("v3.50")),
            ("v3.20~27\n", Some("v3.20~27")),
            ("v3.14\n", None),
            ("v2.94\n", None),
            ("v10.1", Some("v10.1")),
            ("nightly\n", None),
            ("", None),
        ] {
            std::fs::write(&machine.version_file, text).unwrap();
            assert_eq!(machine.registers_itself().as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let check = |variables: &[(&str, &str)], colours, renews| {
            let environment = variables.iter();
            let machine = Machine {
                environment: environment
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
                ..Machine::this()
            };
            let found = (machine.colours(true), machine.renews_lines(true));
            assert_eq!(found, (colours, renews), "{variables:?}");
            assert!(!machine.colours(false) && !machine.renews_lines(false));
        };
        check(&[], true, true);
        check(&[("NO_COLOR", "")], true, true);
        check(&[("NO_COLOR", "0")], false, true);
        check(&[("TERM", "xterm-256color")], true, true);
        check(&[("TERM", "dumb")], false, false);
    }
}
