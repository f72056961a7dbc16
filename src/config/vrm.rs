//! VRM, Victron's portal: what its broker needs besides, and where to register this device (§6, §8).
//! [`super::resolve_vrm`] makes it of the settings.

use std::path::PathBuf;
use std::time::Duration;

use super::machine::Machine;

/// What the broker of VRM needs besides what every broker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VrmConfig {
    /// Which of the brokers it is.
    pub broker: usize,
    /// Where the password is to be kept, where it has to be made first.
    pub password_file: Option<PathBuf>,
    /// How the password becomes known there; `None` where it is already.
    pub registration: Option<Registration>,
}

/// How this device is made known to VRM: a form, posted over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Where to: a name or an address; an IPv6 address without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// The path, with its leading slash.
    pub path: String,
    /// The certificates that vouch for it, as PEM; the system's where there is none.
    pub ca: Option<PathBuf>,
    /// How long to wait after a failure.
    pub retry: Duration,
    /// How long at most to wait before it is repeated, after the broker was connected and lost.
    pub again_max: Duration,
}

impl Registration {
    /// The address as it is written.
    pub fn url(&self) -> String {
        let Registration {
            host, port, path, ..
        } = self;
        if host.contains(':') {
            format!("https://[{host}]:{port}{path}")
        } else {
            format!("https://{host}:{port}{path}")
        }
    }
}

impl VrmConfig {
    /// What is wrong with a registration on this machine: two programs that register one device make each
    /// other's password void.
    pub fn doubt(&self, machine: &Machine) -> Option<String> {
        self.registration.as_ref()?;
        let version = machine.registers_itself()?;
        Some(format!(
            "--init-broker: Venus OS {version} registers this device at VRM itself, and the two would replace each \
             other's password; leave --init-broker off"
        ))
    }
}
