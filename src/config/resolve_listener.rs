//! Listeners, from the settings as written: `--listen` says where, `[[listen]]` in the settings file says
//! everything. What a listener has in common with a broker is read as a broker's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Problem};
use super::layers::Layers;
use super::listen::{Auth, ListenConfig, ListenTls, ListenTransport};
use super::machine::Machine;
use super::resolve_broker::can_be_read;
use super::settings::ListenSettings;
use super::values::{Found, Values};
use crate::model::access::{Access, AccessRule};

impl Layers {
    /// All listeners: those of flags and variables, else those of the settings file.
    pub(super) fn listeners(&self, machine: &Machine) -> Result<Vec<ListenConfig>, ConfigError> {
        let made_in = state_folder(machine)?;
        let mut all: Vec<ListenConfig> = Vec::new();
        if let Some(found) = self.top.find::<String>("listen")? {
            let none = Values::default();
            let first = self.brokers.first().filter(|_| !self.has_broker());
            let auth = self.top.find::<String>("listen-auth")?;
            let auth = auth.as_ref().map(|auth| auth.value.as_str());
            let texts = found.value.split(',').map(str::trim);
            let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
            for (index, text) in texts.iter().enumerate() {
                let said = Said {
                    address: text,
                    auth,
                    found: &found,
                    name: name(index, texts.len()),
                    // What flags say of the broker is of the listener where there is none.
                    is_first: first.is_some(),
                };
                add(
                    &mut all,
                    first.unwrap_or(&none).listener(&said, &made_in)?,
                    &found,
                )?;
            }
            return Ok(all);
        }
        for (index, values) in self.listeners.iter().enumerate() {
            let Some(found) = values.find::<String>("address")? else {
                return Err(values.blame("address", Problem::ListenAddress(String::new())));
            };
            let said = Said {
                address: &found.value,
                auth: None,
                found: &found,
                name: name(index, self.listeners.len()),
                is_first: false,
            };
            add(&mut all, values.listener(&said, &made_in)?, &found)?;
        }
        if all.is_empty() {
            all.extend(self.page_listener(&made_in)?);
        }
        Ok(all)
    }

    /// Whether a broker is to be connected at all: not where there is a listener, and nothing is said of
    /// a broker.
    pub(super) fn has_broker(&self) -> bool {
        let has_listener = self.top.rank("listen").is_some() || !self.listeners.is_empty();
        self.names_broker() || !has_listener
    }

    /// Whether the settings say which broker, so that it is not just the usual one of this device.
    fn names_broker(&self) -> bool {
        let mut brokers = self.brokers.iter();
        self.has_broker_table || brokers.any(|values| values.rank("mqtt-server").is_some())
    }

    /// The listener of the page, where the settings say neither a listener nor a broker: the page works with
    /// `--web` alone. Access, lists and `listen-auth` hold for it as they would for a listener.
    fn page_listener(&self, made_in: &Path) -> Result<Option<ListenConfig>, ConfigError> {
        let Some(web) = self.top.find::<String>("web")? else {
            return Ok(None);
        };
        if web.value.is_empty() || self.names_broker() || !cfg!(feature = "web") {
            return Ok(None);
        }
        let auth = self.top.find::<String>("listen-auth")?;
        let said = Said {
            address: "0",
            auth: auth.as_ref().map(|auth| auth.value.as_str()),
            found: auth.as_ref().unwrap_or(&web),
            name: "page".to_owned(),
            is_first: true,
        };
        let none = Values::default();
        let values = self.brokers.first().unwrap_or(&none);
        Ok(Some(ListenConfig {
            address: None,
            home_assistant: None,
            ..values.listener(&said, made_in)?
        }))
    }
}

/// What is known of a listener besides its table.
struct Said<'a> {
    address: &'a str,
    /// What `listen-auth` says.
    auth: Option<&'a str>,
    found: &'a Found<String>,
    name: String,
    /// Its table is that of the first broker, which there is not.
    is_first: bool,
}

fn name(index: usize, of: usize) -> String {
    if of > 1 {
        format!("listener {}", index + 1)
    } else {
        "listener".to_owned()
    }
}

fn add(
    all: &mut Vec<ListenConfig>,
    listener: ListenConfig,
    found: &Found<String>,
) -> Result<(), ConfigError> {
    if all.iter().any(|other| other.name == listener.name) {
        return Err(found.wrong(Problem::SameName(listener.name)));
    }
    if let Some(address) = listener.address.filter(|address| address.port() != 0)
        && all.iter().any(|other| other.address == Some(address))
    {
        return Err(found.wrong(Problem::SameListener(address)));
    }
    all.push(listener);
    Ok(())
}

impl Values {
    fn listener(&self, said: &Said<'_>, made_in: &Path) -> Result<ListenConfig, ConfigError> {
        let found = said.found;
        if !cfg!(feature = "listen") {
            return Err(found.wrong(Problem::NoListen));
        }
        let invalid = || found.wrong(Problem::ListenAddress(said.address.to_owned()));
        let (scheme, address) = address(said.address).ok_or_else(invalid)?;
        let word = self.find::<String>("transport")?;
        let transport = match word.as_ref().map(|found| found.value.as_str()) {
            Some("tls") => ListenTransport::Tls,
            Some("ws") => ListenTransport::Ws,
            Some("wss") => ListenTransport::Wss,
            Some(_) => ListenTransport::Tcp,
            None => scheme.unwrap_or(ListenTransport::Tcp),
        };
        if transport.is_encrypted() && !cfg!(feature = "tls") {
            return Err(found.wrong(Problem::NoListenTransport("TLS", "tls")));
        }
        if transport.is_websocket() && !cfg!(feature = "websocket") {
            return Err(found.wrong(Problem::NoListenTransport("WebSocket", "websocket")));
        }
        let file = |key| -> Result<Option<PathBuf>, ConfigError> {
            let file = self.find::<PathBuf>(key)?;
            file.as_ref().map_or(Ok(()), can_be_read)?;
            Ok(file.map(|found| found.value))
        };
        let client_ca = file("client-ca")?;
        let pair = match (file("certificate")?, file("key")?) {
            (None, Some(_)) => return Err(self.blame("key", Problem::ListenKey)),
            (None, None) => None,
            (Some(certificate), None) => Some((certificate.clone(), certificate)),
            (Some(certificate), Some(key)) => Some((certificate, key)),
        };
        if !transport.is_encrypted() && (pair.is_some() || client_ca.is_some()) {
            return Err(found.wrong(Problem::ListenNotEncrypted));
        }
        let own = self.find::<String>("auth")?.map(|found| found.value);
        let auth = match (said.auth, own.as_deref()) {
            (Some("anonymous"), _) | (None, Some("anonymous")) => Auth::Anonymous,
            (Some("venus"), _) | (None, Some("venus")) => Auth::Venus {
                password: VENUS_PASSWORD.into(),
                tokens: VENUS_TOKENS.into(),
            },
            (Some(path), _) => {
                let users = found.with(PathBuf::from(path));
                can_be_read(&users)?;
                Auth::Users(users.value)
            }
            (None, Some("users")) => match file("users")? {
                Some(users) => Auth::Users(users),
                None => return Err(self.blame("users", Problem::NoUsersFile)),
            },
            (None, Some(_)) if client_ca.is_none() => {
                return Err(self.blame("client-ca", Problem::NoClientCa));
            }
            (None, Some(_)) => Auth::Certificate,
            (None, None) if address.ip().to_canonical().is_loopback() => Auth::Anonymous,
            (None, None) => return Err(found.wrong(Problem::OpenListener(address))),
        };
        let own_name = self.find::<String>("name")?;
        let keep_alive = self.find::<Option<Duration>>("keep-alive")?;
        let is_own = !said.is_first;
        Ok(ListenConfig {
            name: own_name
                .filter(|_| is_own)
                .map_or_else(|| said.name.clone(), |found| found.value),
            address: Some(address),
            transport,
            tls: transport.is_encrypted().then(|| ListenTls {
                pair,
                client_ca,
                made_in: made_in.to_owned(),
            }),
            auth,
            origins: self
                .find::<Vec<String>>("origins")?
                .map(|found| found.value)
                .unwrap_or_default(),
            relay: ListenSettings::declared(self)?.relay,
            retain: self.find::<bool>("retain")?.is_none_or(|found| found.value),
            keep_alive: keep_alive.filter(|_| is_own).and_then(|found| found.value),
            access: self
                .find("access")?
                .map_or(AccessRule::Always(Access::Full), |found| found.value),
            lists: self.lists()?,
            home_assistant: self.home_assistant()?,
        })
    }
}

/// Where a certificate is kept that is made: what systemd gives us, the data of a GX device, or the user's own.
fn state_folder(machine: &Machine) -> Result<PathBuf, ConfigError> {
    if let Some(folder) = machine.variable("STATE_DIRECTORY")? {
        return Ok(folder.into());
    }
    let data = Path::new("/data/conf");
    if data.is_dir() {
        return Ok(data.join("dbus-mqtt"));
    }
    let state = machine.variable("XDG_STATE_HOME")?.map(PathBuf::from);
    let home = machine.variable("HOME")?;
    let state = state.or_else(|| Some(Path::new(home?).join(".local/state")));
    Ok(state.unwrap_or_else(std::env::temp_dir).join("dbus-mqtt"))
}

/// `[scheme://][ADDRESS:]PORT`.
fn address(text: &str) -> Option<(Option<ListenTransport>, SocketAddr)> {
    let (scheme, rest) = match text.split_once("://") {
        None => (None, text),
        Some((scheme, rest)) => {
            let transport = match scheme {
                "mqtt" | "tcp" => ListenTransport::Tcp,
                "mqtts" | "tls" | "ssl" => ListenTransport::Tls,
                "ws" => ListenTransport::Ws,
                "wss" => ListenTransport::Wss,
                _ => return None,
            };
            (Some(transport), rest.trim_end_matches('/'))
        }
    };
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let address = match rest.strip_prefix("localhost:").unwrap_or(rest) {
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            SocketAddr::new(loopback, port.parse().ok()?)
        }
        both => both.parse().ok()?,
    };
    Some((scheme, address))
}

/// Where Venus OS keeps the hash of the password of its security profile.
const VENUS_PASSWORD: &str = "/data/conf/vncpassword.txt";
/// Where it keeps its tokens.
const VENUS_TOKENS: &str = "/data/conf/tokens.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_1_an_address_is_a_port_or_more() {
        let tcp = |text: &str| Some((None, text.parse().unwrap()));
        for (text, expected) in [
            ("1883", tcp("127.0.0.1:1883")),
            ("0.0.0.0:1883", tcp("0.0.0.0:1883")),
            ("[::1]:1883", tcp("[::1]:1883")),
            ("localhost:1", tcp("127.0.0.1:1")),
            (
                "ws://9001",
                Some((Some(ListenTransport::Ws), "127.0.0.1:9001".parse().unwrap())),
            ),
            (
                "wss://[::]:443/",
                Some((Some(ListenTransport::Wss), "[::]:443".parse().unwrap())),
            ),
            ("", None),
            ("70000", None),
            ("here:1883", None),
            ("http://80", None),
        ] {
            assert_eq!(address(text), expected, "{text}");
        }
    }
}
