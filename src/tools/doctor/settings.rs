//! The settings, the files with secrets, and the clock: what needs no connection.

use std::time::{SystemTime, UNIX_EPOCH};

use super::report::Finding;
use crate::config::{Config, PortalSource, SecretFile, exposure};

/// The clock. Certificates are not valid before their time, and a device without a battery for its
/// clock starts long before it.
pub fn clock() -> Finding {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    clock_of(time.unwrap_or_default().as_secs())
}

fn clock_of(unix_s: u64) -> Finding {
    if unix_s < UNIX_S_MIN {
        let says = format!("the clock of this device is years behind ({unix_s} s since 1970)");
        let remedy = "set the date, or let it be set from the network: without that, no certificate is valid";
        return Finding::fault("clock", says, remedy);
    }
    Finding::fine("clock", "the date of this device is plausible")
}

/// What the settings come to.
pub fn summary(config: &Config, source: &PortalSource) -> Finding {
    let portal_id = match source.id() {
        Some(portal_id) => format!("portal id {portal_id}, "),
        None => String::new(),
    };
    let brokers: Vec<String> = config
        .brokers
        .iter()
        .map(|broker| format!("{} ({})", broker.name, broker.address()))
        .collect();
    let listeners: Vec<String> = config
        .listeners
        .iter()
        .filter_map(|listener| Some(format!("{} ({})", listener.name, listener.address?)))
        .collect();
    let mut says = format!("{portal_id}bus {}", config.bus);
    for (what, places) in [("brokers", brokers), ("listeners", listeners)] {
        if !places.is_empty() {
            says = format!("{says}, {what}: {}", places.join(", "));
        }
    }
    says.push_str("; the schema has no mistakes");
    Finding::fine("settings", says)
}

/// Whether others can read what is secret.
pub fn secrets(files: &[SecretFile]) -> Finding {
    let mut open = Vec::new();
    let mut missing = Vec::new();
    for SecretFile { path, what, others } in files {
        match std::fs::metadata(path) {
            Ok(data) => {
                let exposed = exposure(&data, *others);
                open.extend(exposed.map(|exposed| (path.display().to_string(), what, exposed)));
            }
            Err(error) => missing.push(format!("{} with {what}: {error}", path.display())),
        }
    }
    if let Some((first, what, exposed)) = open.first() {
        let alike = open.iter().filter(|(_, _, other)| other == exposed);
        let paths: Vec<&str> = alike.map(|(path, ..)| path.as_str()).collect();
        let says = format!("{} {first}, which has {what} in it", exposed.how);
        let remedy = format!("{} {}", exposed.remedy, paths.join(" "));
        return Finding::fault("secrets", says, remedy);
    }
    match (missing.first(), files.len()) {
        (Some(first), _) => {
            let says = format!("cannot look at {first}");
            let remedy = "where that is the password for VRM, the first start makes it";
            Finding::note("secrets", says, remedy)
        }
        (None, 0) => Finding::fine("secrets", "there are no files with secrets"),
        (None, count) => {
            let says = format!("only their owner can read the files with secrets ({count})");
            Finding::fine("secrets", says)
        }
    }
}

/// The start of 2025: this program is younger.
const UNIX_S_MIN: u64 = 1_735_689_600;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn a_clock_that_starts_in_1970_is_a_fault() {
        assert_eq!(clock_of(3).verdict, Verdict::Fault);
        assert_eq!(clock_of(UNIX_S_MIN).verdict, Verdict::Fine);
        assert_eq!(clock().verdict, Verdict::Fine);
    }

    #[test]
    fn files_that_others_can_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, mode| {
            let path = folder.path().join(name);
            std::fs::write(&path, "x").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            SecretFile {
                path,
                what: "a password",
                others: 0o044,
            }
        };
        let (own, group, all) = (file("own", 0o600), file("group", 0o640), file("all", 0o604));
        assert_eq!(secrets(&[]).verdict, Verdict::Fine);
        assert_eq!(secrets(std::slice::from_ref(&own)).verdict, Verdict::Fine);
        let gone = SecretFile {
            path: folder.path().join("gone"),
            what: "a key",
            others: 0o044,
        };
        assert_eq!(secrets(&[own.clone(), gone]).verdict, Verdict::Note);
        let found = secrets(&[own, group.clone(), all.clone()]);
        assert_eq!(found.verdict, Verdict::Fault);
        let given = SecretFile {
            others: 0o004,
            ..group.clone()
        };
        assert_eq!(secrets(&[given]).verdict, Verdict::Fine);
        let expected = format!("chmod 600 {} {}", group.path.display(), all.path.display());
        assert_eq!(found.remedy, expected);
    }
}
