//! Secrets in files: who may read them, and the one that is made here (§8).
//!
//! Nothing here shows a secret, not even a wrong one.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin, Problem};
use super::exposure::exposure;
use super::layers::Layers;
use super::machine::Machine;
use super::machine::{open_regular, read_open};
use super::secret::Secret;
use super::settings::Config;
use super::values::Found;

/// A file that nobody else should be able to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it, in words.
    pub what: &'static str,
    /// The permissions by which others could read it.
    pub others: u32,
}

/// Who else may be able to read a file with a secret.
#[derive(Debug, Clone)]
pub(super) struct Privacy {
    /// Anybody.
    pub(super) readable: bool,
    /// In this folder the group may seem to: systemd lets its service read by an access list, and then
    /// its mask stands where the permissions of the group do (systemd 257; 252 had no list).
    pub(super) credentials: Option<PathBuf>,
}

impl Privacy {
    /// The permissions by which others could read what is there.
    fn others(&self, path: &Path) -> u32 {
        match (&self.credentials, path.parent()) {
            (Some(credentials), Some(folder)) if folder == credentials => OTHERS,
            (_, _) => GROUP | OTHERS,
        }
    }
}

impl Layers {
    /// Who else may be able to read the files with secrets.
    pub(super) fn privacy(&self) -> Privacy {
        Privacy {
            readable: self.top.is_on("allow-readable-secrets"),
            credentials: self.credentials.clone(),
        }
    }

    /// The files with secrets that the configuration uses, for those who look after them.
    pub fn secret_files(&self, config: &Config, machine: &Machine) -> Vec<SecretFile> {
        let mut files = Vec::new();
        let filled = self.of_portal(&config.portal_id);
        let vrm = config.vrm.as_ref().map(|vrm| vrm.broker);
        for (index, broker) in config.brokers.iter().enumerate() {
            let is_vrm = vrm == Some(index);
            let values = if is_vrm {
                Some(&filled.vrm)
            } else {
                filled.brokers.get(index)
            };
            let Some(values) = values else { continue };
            let password = values.origin("mqtt-password");
            let is_written = password != Origin::Default;
            let named = values.find::<PathBuf>("mqtt-password-file").ok().flatten();
            let named = named.map(|found| found.value);
            let usual = (is_vrm && !is_written).then(|| machine.vrm_password_file.clone());
            files.extend(named.or(usual).map(|path| (path, "a password")));
            if let Origin::File { path, .. } = password {
                files.push((path, "a password"));
            }
            let client = broker.tls.as_ref().and_then(|tls| tls.client.clone());
            files.extend(client.map(|(_, key)| (key, "a key")));
        }
        files.sort();
        files.dedup();
        let (privacy, files) = (self.privacy(), files.into_iter());
        files
            .map(|(path, what)| SecretFile {
                others: privacy.others(&path),
                path,
                what,
            })
            .collect()
    }
}

/// The first line of a file, without its end.
pub(super) fn read(path: &Path, privacy: &Privacy) -> Result<Secret, Problem> {
    let unreadable = |reason| Problem::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let file = open_regular(path).map_err(unreadable)?;
    // Asked of the open file: what is at the path may be another one by now.
    let metadata = file.metadata().map_err(unreadable)?;
    let exposed = exposure(&metadata, privacy.others(path));
    if let Some(exposure) = exposed.filter(|_| !privacy.readable) {
        return Err(Problem::Exposed {
            path: path.to_owned(),
            exposure,
        });
    }
    let text = read_open(file, SECRET_BYTES_MAX).map_err(unreadable)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::from(line)),
        Some(_) | None => Err(Problem::NoPassword(path.to_owned())),
    }
}

/// The same, from a file that a setting names.
pub(super) fn read_found(
    file: Found<PathBuf>,
    privacy: &Privacy,
) -> Result<Found<Secret>, ConfigError> {
    match read(&file.value, privacy) {
        Ok(value) => Ok(Found {
            value,
            origin: file.origin,
            rank: file.rank,
        }),
        Err(problem) => Err(file.wrong(problem)),
    }
}

/// The password for VRM in a file; `None` where there is no file.
pub(super) fn read_vrm(path: &Path, privacy: &Privacy) -> Result<Option<Secret>, Problem> {
    match read(path, privacy) {
        Ok(secret) if is_vrm_password(secret.expose()) => Ok(Some(secret)),
        Ok(_) => Err(Problem::VrmPassword(path.to_owned())),
        Err(Problem::Unreadable { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(problem) => Err(problem),
    }
}

/// Makes a password for VRM, of the system's random numbers, in a file that only we can read.
pub(super) fn create_vrm(path: &Path) -> Result<Secret, Problem> {
    let create = || {
        let mut random = [0; VRM_DIGITS / 2];
        let mut made = 0;
        while let Some(rest) = random.get_mut(made..).filter(|rest| !rest.is_empty()) {
            made += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
        }
        let mut digits = String::new();
        for byte in random {
            // Writing to a text cannot fail.
            let _ = write!(digits, "{byte:02x}");
        }
        // Whole or not there: half a password would be refused forever.
        let draft = path.with_extension("new");
        if let Err(error) = std::fs::remove_file(&draft)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        writeln!(file, "{digits}")?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        Ok(Secret::from(digits.as_str()))
    };
    create().map_err(|reason| Problem::NotCreated {
        path: path.to_owned(),
        reason,
    })
}

fn is_vrm_password(text: &str) -> bool {
    text.len() == VRM_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// That the group may read.
const GROUP: u32 = 0o040;
/// That everybody may.
const OTHERS: u32 = 0o004;
const SECRET_BYTES_MAX: u64 = 64 * 1024;
const VRM_DIGITS: usize = 32;
