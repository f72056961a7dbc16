//! The address of a broker: `HOST`, `HOST:PORT`, `::1`, `[::1]:PORT`, with or without `mqtt://`.

use std::net::Ipv6Addr;

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// A name or an address; an IPv6 address without brackets.
    pub(super) host: String,
    /// Its TCP port.
    pub(super) port: u16,
}

/// Why a text is no address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    /// TLS and WebSocket belong to a later version.
    #[error("this version speaks plain MQTT over TCP only, not {scheme}://")]
    NotYet {
        /// What stands before `://`.
        scheme: String,
    },
    /// Something else before `://`.
    #[error("{scheme}:// is no MQTT address; write HOST, HOST:PORT or mqtt://HOST:PORT")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// No host, or none that can be one.
    #[error("{host:?} is no host; write HOST or HOST:PORT, an IPv6 address as [::1]:PORT")]
    Host {
        /// What stands where the host should.
        host: String,
    },
    /// No port, or none that can be one.
    #[error("{port:?} is no port: a number from 1 to 65535")]
    Port {
        /// What stands where the port should.
        port: String,
    },
}

impl Server {
    pub(super) fn parse(text: &str) -> Result<Server, InvalidServer> {
        let address = match text.split_once("://") {
            Some((scheme, rest)) => {
                check_scheme(scheme)?;
                rest.strip_suffix('/').unwrap_or(rest)
            }
            None => text,
        };
        let (host, port) = split(address)?;
        let host = host_of(host)?;
        let port = match port {
            Some(port) => port_of(port)?,
            None => DEFAULT.1,
        };
        Ok(Server { host, port })
    }
}

impl Default for Server {
    fn default() -> Server {
        Server {
            host: DEFAULT.0.to_owned(),
            port: DEFAULT.1,
        }
    }
}

fn check_scheme(scheme: &str) -> Result<(), InvalidServer> {
    match scheme.to_ascii_lowercase().as_str() {
        "mqtt" | "tcp" => Ok(()),
        "mqtts" | "ssl" | "tls" | "ws" | "wss" => Err(InvalidServer::NotYet {
            scheme: scheme.to_owned(),
        }),
        _ => Err(InvalidServer::Scheme {
            scheme: scheme.to_owned(),
        }),
    }
}

/// Host and port. More than one colon without brackets is an IPv6 address without a port.
fn split(address: &str) -> Result<(&str, Option<&str>), InvalidServer> {
    if let Some(rest) = address.strip_prefix('[') {
        let wrong = || InvalidServer::Host {
            host: address.to_owned(),
        };
        let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
        if !is_v6(host) {
            return Err(wrong());
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(wrong()),
        };
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, Some(port))),
        Some(_) | None => Ok((address, None)),
    }
}

fn host_of(host: &str) -> Result<String, InvalidServer> {
    let is_name = || {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    if is_v6(host) || is_name() {
        Ok(host.to_owned())
    } else {
        Err(InvalidServer::Host {
            host: host.to_owned(),
        })
    }
}

/// An IPv6 address, with a zone perhaps: `fe80::1%eth0`.
fn is_v6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "0"));
    let zone_is_one = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_graphic());
    zone_is_one && address.parse::<Ipv6Addr>().is_ok()
}

fn port_of(port: &str) -> Result<u16, InvalidServer> {
    match port.parse() {
        Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(InvalidServer::Port {
            port: port.to_owned(),
        }),
    }
}

const DEFAULT: (&str, u16) = ("127.0.0.1", 1883);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: u16) {
        let expected = Server {
            host: host.to_owned(),
            port,
        };
        assert_eq!(Server::parse(text), Ok(expected), "{text}");
    }

    #[track_caller]
    fn refused(text: &str, sentence: &str) {
        assert_eq!(
            Server::parse(text).unwrap_err().to_string(),
            sentence,
            "{text}"
        );
    }

    #[test]
    fn addresses() {
        check("venus.local", "venus.local", 1883);
        check("192.168.1.5:1884", "192.168.1.5", 1884);
        check("mqtt://broker", "broker", 1883);
        check("MQTT://broker:1/", "broker", 1);
        check("tcp://[fe80::1%eth0]:99", "fe80::1%eth0", 99);
        check("[::1]:1884", "::1", 1884);
        check("[::1]", "::1", 1883);
        check("::1", "::1", 1883);
        check("fe80::1%eth0", "fe80::1%eth0", 1883);
        check("my_broker:65535", "my_broker", 65535);
    }

    #[test]
    fn what_is_no_address() {
        let host = |text: &str| {
            format!("{text:?} is no host; write HOST or HOST:PORT, an IPv6 address as [::1]:PORT")
        };
        for text in [
            "",
            "two words",
            "user@broker",
            "[::1",
            "[::1]x",
            "[broker]:1",
            "1:2:3",
            "::1%",
            "a/b",
        ] {
            refused(text, &host(text));
        }
        refused(":1883", &host(""));
        refused("mqtt://", &host(""));
        for port in ["", "0", "65536", "+1", "-1", "1 ", "mqtt"] {
            refused(
                &format!("broker:{port}"),
                &format!("{port:?} is no port: a number from 1 to 65535"),
            );
        }
        for scheme in ["mqtts", "wss", "ws", "ssl"] {
            let sentence = format!("this version speaks plain MQTT over TCP only, not {scheme}://");
            refused(&format!("{scheme}://broker"), &sentence);
        }
        refused(
            "http://broker",
            "http:// is no MQTT address; write HOST, HOST:PORT or mqtt://HOST:PORT",
        );
    }
}
