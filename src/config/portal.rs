//! Which portal id this device goes by, where nobody says (§6).
//!
//! On a GX device three sources, in this order: a file, a command, the address of a network interface. One
//! that is missing or says nothing useful is passed over; all of them are named when none is left. Anywhere
//! else none of them is a portal id, and the bus has to be asked.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::model::name::PortalId;

use super::bus_address::BusAddress;
use super::error::{ConfigError, Origin, Problem};
use super::layers::Layers;
use super::machine::{Machine, read_text};
use crate::error::plain;

/// Where the portal id is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortalSource {
    /// A setting.
    Set(PortalId),
    /// This GX device: the file, command or interface that knows it.
    Device(PortalId, String),
    /// This is not a GX device, or the bus is that of another: it has to be asked.
    Bus,
}

impl PortalSource {
    /// The portal id, where it is known without the bus.
    pub fn id(&self) -> Option<&PortalId> {
        match self {
            PortalSource::Set(id) | PortalSource::Device(id, _) => Some(id),
            PortalSource::Bus => None,
        }
    }
}

impl Layers {
    /// The portal id, or where to get it.
    pub fn portal_id(&self, machine: &Machine) -> Result<PortalSource, ConfigError> {
        if let Some(found) = self.top.find::<String>("portal-id")? {
            let id = PortalId::new(&found.value).map_err(|error| found.wrong(error))?;
            return Ok(PortalSource::Set(id));
        }
        if !is_gx_device(machine, &self.bus(machine)?) {
            return Ok(PortalSource::Bus);
        }
        let (id, source) = find(machine)?;
        Ok(PortalSource::Device(id, source))
    }
}

/// Whether the services on the bus are those of this machine, and this machine is a GX device.
fn is_gx_device(machine: &Machine, bus: &BusAddress) -> bool {
    bus.is_local() && machine.venus.iter().any(|folder| folder.is_dir())
}

/// The portal id, and the name of the source that knew it.
fn find(machine: &Machine) -> Result<(PortalId, String), ConfigError> {
    let file = &machine.unique_id_file;
    let command = &machine.unique_id_command;
    let interface = machine.variable("VRM_IFACE")?.unwrap_or("eth0");
    if interface.contains('/') || interface.starts_with('.') {
        let problem = Problem::Value(format!("{interface:?} is not a network interface"));
        return Err(ConfigError::Setting {
            origin: Origin::Variable("VRM_IFACE".into()),
            problem,
        });
    }
    let address = machine.interfaces.join(interface).join("address");

    let mut tried = Vec::new();
    let mut judge = |source: &Path, answer: Result<String, String>| {
        let found =
            answer.and_then(|text| PortalId::new(text.trim()).map_err(|error| error.to_string()));
        let name = source.display().to_string();
        match found {
            Ok(id) => Some((id, name)),
            Err(reason) => {
                tried.push(format!("{name}: {reason}"));
                None
            }
        }
    };
    let unique_id = || read_text(file, TEXT_BYTES_MAX).map_err(|error| plain(&error));
    judge(file, unique_id())
        .or_else(|| judge(command, output_of(command)))
        .or_else(|| judge(&address, mac_address(&address)))
        .ok_or(ConfigError::NoPortalId { tried })
}

/// What a command prints. One that hangs is ended, so that it cannot keep the bridge from starting.
fn output_of(command: &Path) -> Result<String, String> {
    let failed = |error: io::Error| plain(&error);
    let mut child = Command::new(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    for _ in 0..COMMAND_POLLS_MAX {
        let Some(status) = child.try_wait().map_err(failed)? else {
            std::thread::sleep(COMMAND_POLL);
            continue;
        };
        if !status.success() {
            return Err(format!("ended with {status}"));
        }
        let mut text = String::new();
        if let Some(stdout) = child.stdout.take() {
            stdout
                .take(TEXT_BYTES_MAX)
                .read_to_string(&mut text)
                .map_err(failed)?;
        }
        return Ok(text);
    }
    child.kill().and_then(|()| child.wait()).map_err(failed)?;
    Err(format!(
        "gave no answer within {} s",
        (COMMAND_POLL * COMMAND_POLLS_MAX).as_secs()
    ))
}

/// `e0:ff:50:a0:97:c0` → `e0ff50a097c0`.
fn mac_address(file: &Path) -> Result<String, String> {
    let text = read_text(file, TEXT_BYTES_MAX).map_err(|error| plain(&error))?;
    let digits: String = text.trim().split(':').collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("holds no MAC address".to_owned());
    }
    // The loopback interface has one of zeros: it would be the same on every device.
    if digits.bytes().all(|byte| byte == b'0') {
        return Err("the MAC address is all zeros".to_owned());
    }
    Ok(digits.to_ascii_lowercase())
}

const TEXT_BYTES_MAX: u64 = 1024;
const COMMAND_POLL: Duration = Duration::from_millis(10);
const COMMAND_POLLS_MAX: u32 = 500;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use tempfile::TempDir;

    use super::*;

    /// A device made of a folder.
    struct Device {
        folder: TempDir,
        machine: Machine,
        _alone: MutexGuard<'static, ()>,
    }

    /// One device at a time: a script cannot be started while a process that another test is just
    /// starting still holds it open for writing.
    static ALONE: Mutex<()> = Mutex::new(());

    impl Device {
        fn new() -> Device {
            let folder = tempfile::tempdir().unwrap();
            let machine = Machine {
                environment: std::collections::BTreeMap::new(),
                venus: vec![
                    folder.path().join("victronenergy"),
                    folder.path().join("venus"),
                ],
                unique_id_file: folder.path().join("unique-id"),
                unique_id_command: folder.path().join("get-unique-id"),
                interfaces: folder.path().join("net"),
                vrm_certificate: folder.path().join("ca"),
                vrm_password_file: folder.path().join("password"),
                version_file: folder.path().join("version"),
            };
            Device {
                folder,
                machine,
                _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
            }
        }

        fn file(self, text: &str) -> Device {
            fs::write(&self.machine.unique_id_file, text).unwrap();
            self
        }

        /// A command that runs this line of shell.
        fn command(self, line: &str) -> Device {
            let path = &self.machine.unique_id_command;
            fs::write(path, format!("#!/bin/sh\n{line}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            self
        }

        fn interface(self, name: &str, address: &str) -> Device {
            let folder = self.machine.interfaces.join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("address"), address).unwrap();
            self
        }

        fn variable(mut self, name: &str, value: &str) -> Device {
            self.machine.environment.insert(name.into(), value.into());
            self
        }

        #[track_caller]
        fn has(&self, id: &str, source: &str) {
            let (found, from) = find(&self.machine).unwrap();
            assert_eq!(found.as_str(), id);
            assert_eq!(Path::new(&from), self.folder.path().join(source));
        }

        #[track_caller]
        fn has_none(&self, sentence: &str) {
            let folder = self.folder.path().display().to_string();
            assert_eq!(
                find(&self.machine)
                    .unwrap_err()
                    .to_string()
                    .replace(&folder, ""),
                sentence
            );
        }
    }

    #[test]
    fn s6_the_sources_in_their_order() {
        let device = Device::new().interface("eth0", "E0:FF:50:A0:97:C0\n");
        device.has("e0ff50a097c0", "net/eth0/address");
        let device = device.command("echo c0619ab12345");
        device.has("c0619ab12345", "get-unique-id");
        let device = device.file("d41243b56789\n");
        device.has("d41243b56789", "unique-id");
    }

    #[test]
    fn s6_the_interface_can_be_chosen() {
        let device = Device::new()
            .interface("wlan0", "02:00:00:00:00:01\n")
            .variable("VRM_IFACE", "wlan0");
        device.has("020000000001", "net/wlan0/address");
    }

    #[test]
    fn s6_another_computer_has_no_portal_id_of_its_own() {
        let unix = "unix:path=/run/dbus/system_bus_socket";
        let remote = "tcp:host=192.168.1.20,port=78";
        let check = |device: &Device, bus: &str, expected: bool| {
            let bus = BusAddress::parse(bus).unwrap();
            assert_eq!(is_gx_device(&device.machine, &bus), expected, "{bus}");
        };
        let device = Device::new().interface("eth0", "e0:ff:50:a0:97:c0\n");
        check(&device, unix, false);
        fs::create_dir(device.folder.path().join("venus")).unwrap();
        check(&device, unix, true);
        check(&device, "unix:path=/a;unix:abstract=b", true);
        // A GX device may serve another's bus.
        check(&device, remote, false);
        check(&device, &format!("{unix};{remote}"), false);
    }

    #[test]
    fn s6_an_interface_is_no_path() {
        Device::new()
            .variable("VRM_IFACE", "../../etc")
            .has_none("VRM_IFACE: \"../../etc\" is not a network interface");
    }

    #[test]
    fn s6_a_useless_source_is_passed_over() {
        let device = Device::new()
            .file("not an id\n")
            .command("echo half; exit 3")
            .interface("eth0", "00:00:00:00:00:01\n");
        device.has("000000000001", "net/eth0/address");
    }

    #[test]
    fn s6_all_that_was_tried_is_named() {
        Device::new().has_none(
            "no portal id was found on this device (tried: /unique-id: No such file or directory; \
             /get-unique-id: No such file or directory; \
             /net/eth0/address: No such file or directory); give one with --portal-id",
        );
        let device = Device::new()
            .command("exit 3")
            .interface("eth0", "00:00:00:00:00:00\n");
        device.has_none(
            "no portal id was found on this device (tried: /unique-id: No such file or directory; \
             /get-unique-id: ended with exit status: 3; \
             /net/eth0/address: the MAC address is all zeros); give one with --portal-id",
        );
    }
}
