//! VRM, Victron's portal, from the settings as written: its broker for this device, the password there, and
//! where to register it (§6, §8).

use std::path::PathBuf;

use super::broker::{Login, Transport};
use super::error::{ConfigError, Origin, Problem};
use super::layers::Layers;
use super::machine::Machine;
use super::resolve_broker::{Defaults, can_be_read};
use super::secret::Secret;
use super::secrets;
use super::secrets::Privacy;
use super::server::{Server, WEBSOCKET_PATH};
use super::settings::VrmSettings;
use super::settings::{BrokerConfig, Config};
use super::vrm::{Registration, VrmConfig};
use crate::model::access::AccessRule;
use crate::model::name::PortalId;

impl Layers {
    /// The broker of VRM, where it is wanted.
    pub(super) fn vrm(
        &self,
        machine: &Machine,
        portal_id: &PortalId,
        privacy: &Privacy,
    ) -> Result<Option<(BrokerConfig, VrmConfig)>, ConfigError> {
        let register = self
            .top
            .find::<bool>("init-broker")?
            .filter(|found| found.value);
        let enabled = self.vrm.find::<bool>("enabled")?;
        match (&enabled, register.as_ref()) {
            (Some(enabled), Some(register)) if !enabled.value => {
                return Err(register.wrong(Problem::RegisterWithoutVrm));
            }
            (None, None) => return Ok(None),
            (Some(enabled), None) if !enabled.value => return Ok(None),
            (_, _) => {}
        }
        let transport = self.vrm.find::<String>("transport")?;
        let certificate = Some(machine.vrm_certificate.clone()).filter(|file| file.is_file());
        let (login, password_file) = self.vrm_login(machine, portal_id, privacy)?;
        let broker = self.vrm.broker(
            portal_id,
            Some(login),
            Defaults {
                name: "vrm".to_owned(),
                server: address(
                    portal_id,
                    transport.is_some_and(|found| found.value == "wss"),
                ),
                encrypted: true,
                ca: certificate.clone(),
                access: AccessRule::AsDeviceSays,
            },
        )?;
        let registration = match register {
            Some(_) => Some(self.registration(certificate)?),
            None => None,
        };
        let vrm = VrmConfig {
            broker: 0,
            password_file,
            registration,
        };
        Ok(Some((broker, vrm)))
    }

    /// User and password, and the file of the password where it must be made first.
    fn vrm_login(
        &self,
        machine: &Machine,
        portal_id: &PortalId,
        privacy: &Privacy,
    ) -> Result<(Login, Option<PathBuf>), ConfigError> {
        let found = self.vrm.find("mqtt-user")?;
        let user = found.map_or_else(|| format!("ccgxapikey_{portal_id}"), |found| found.value);
        let text = self.vrm.find::<Secret>("mqtt-password")?;
        let file = self.vrm.find::<PathBuf>("mqtt-password-file")?;
        if let Some(text) = text {
            if let Some(file) = file {
                return Err(file.wrong(Problem::TwoPasswords));
            }
            let password = text.value;
            return Ok((Login { user, password }, None));
        }
        let (path, origin) = match file {
            Some(file) => (file.value, file.origin),
            None => (machine.vrm_password_file.clone(), Origin::VrmPasswordFile),
        };
        match secrets::read_vrm(&path, privacy) {
            Ok(Some(password)) => Ok((Login { user, password }, None)),
            Ok(None) => {
                let password = Secret::default();
                Ok((Login { user, password }, Some(path)))
            }
            Err(problem) => Err(ConfigError::Setting { origin, problem }),
        }
    }

    fn registration(&self, certificate: Option<PathBuf>) -> Result<Registration, ConfigError> {
        let text: String = self.vrm.value("register-url")?;
        let Some((host, port, path)) = parse_https(&text) else {
            let problem = if text.contains('@') {
                // Perhaps with a password: not shown.
                Problem::UrlLogin
            } else {
                Problem::Url(text)
            };
            return Err(self.vrm.blame("register-url", problem));
        };
        let ca = self.vrm.find::<PathBuf>("register-certificate")?;
        if let Some(file) = &ca {
            can_be_read(file)?;
        }
        let VrmSettings {
            register_retry: retry,
            register_again: again_max,
        } = VrmSettings::declared(&self.vrm)?;
        Ok(Registration {
            host,
            port,
            path,
            ca: ca.map(|found| found.value).or(certificate),
            retry,
            again_max,
        })
    }
}

impl Config {
    /// Makes the secrets that are not there yet. Before the bridge runs, and not for those who only
    /// want to look at the configuration.
    pub fn with_secrets(mut self) -> Result<Config, ConfigError> {
        let Some(vrm) = &mut self.vrm else {
            return Ok(self);
        };
        let Some(path) = vrm.password_file.take() else {
            return Ok(self);
        };
        let password = secrets::create_vrm(&path).map_err(|problem| ConfigError::Setting {
            origin: Origin::VrmPasswordFile,
            problem,
        })?;
        tracing::info!("made a password for VRM, in {}", path.display());
        if vrm.registration.is_none() {
            tracing::warn!(
                "VRM does not know the new password: start once with --init-broker to register it"
            );
        }
        let broker = self.brokers.get_mut(vrm.broker);
        if let Some(login) = broker.and_then(|broker| broker.login.as_mut()) {
            login.password = password;
        }
        Ok(self)
    }
}

/// The broker that VRM has for an installation (§6).
fn address(portal_id: &PortalId, is_websocket: bool) -> Server {
    let codes = portal_id.as_str().bytes();
    let codes = codes.map(|byte| u32::from(byte.to_ascii_lowercase()));
    let number = codes.sum::<u32>() % BROKERS;
    let (host, transport) = if is_websocket {
        let path = WEBSOCKET_PATH.to_owned();
        ("webmqtt", Transport::Wss { path })
    } else {
        ("mqtt", Transport::Tls)
    };
    Server {
        host: format!("{host}{number}.{DOMAIN}"),
        port: None,
        transport,
    }
}

/// Host, port and path of an address of the encrypted web that has nothing secret in it.
fn parse_https(text: &str) -> Option<(String, u16, String)> {
    let rest = text.strip_prefix("https://")?;
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let server = Server::parse(place).ok()?;
    let path = if path.is_empty() { "/" } else { path };
    let is_path = path.bytes().all(|byte| byte.is_ascii_graphic());
    is_path.then(|| (server.host, server.port.unwrap_or(443), path.to_owned()))
}

const BROKERS: u32 = 128;
const DOMAIN: &str = "victronenergy.com";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_registration_is_doubted_where_the_device_registers_itself() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine {
            version_file: folder.path().join("version"),
            ..Machine::this()
        };
        let registration = Registration {
            host: "example.com".to_owned(),
            port: 443,
            path: "/".to_owned(),
            ca: None,
            retry: Duration::from_secs(60),
            again_max: Duration::from_secs(600),
        };
        let vrm = |registration| VrmConfig {
            broker: 0,
            password_file: None,
            registration,
        };
        assert_eq!(vrm(Some(registration.clone())).doubt(&machine), None);
        std::fs::write(&machine.version_file, "v3.50\n").unwrap();
        assert_eq!(vrm(None).doubt(&machine), None);
        let doubt = vrm(Some(registration)).doubt(&machine).unwrap();
        assert!(
            doubt.starts_with("--init-broker: Venus OS v3.50 "),
            "{doubt}"
        );
    }
}
