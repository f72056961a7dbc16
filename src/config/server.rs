//! The address of a broker: `HOST`, `HOST:PORT`, `::1`, `[::1]:PORT`, with or without a scheme in
//! front, and for WebSocket with a path behind.

use std::net::Ipv6Addr;

use super::broker::Transport;

/// Where a broker is, and what carries MQTT to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// A name or an address; an IPv6 address without brackets.
    pub(super) host: String,
    /// Its TCP port; the usual one where none is said.
    pub(super) port: Option<u16>,
    /// What the scheme says; TCP where there is none.
    pub(super) transport: Transport,
}

/// Why a text is not an address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    /// Something else before `://`.
    #[error(
        "{scheme}:// is not an MQTT address; write HOST, HOST:PORT, or one that begins with mqtt://, mqtts://, ws:// or wss://"
    )]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// User, and perhaps password: not shown.
    #[error(
        "user and password cannot be part of the address; give them with --mqtt-user and --mqtt-password-file"
    )]
    Login,
    /// The path of a socket.
    #[error("a Unix socket cannot be used; write HOST or HOST:PORT")]
    Unix,
    /// An IPv6 address without brackets that may have a port behind it.
    #[error(
        "is {port} the port? Write [{host}]:{port}, or [{host}:{port}] where it belongs to the address"
    )]
    Brackets {
        /// What stands before it.
        host: String,
        /// What may be the port.
        port: String,
    },
    /// No host, or none that can be one.
    #[error("{host:?} is not a host; write HOST or HOST:PORT, an IPv6 address as [::1]:PORT")]
    Host {
        /// What stands where the host should.
        host: String,
    },
    /// No port, or none that can be one.
    #[error("{port:?} is not a port: a number from 1 to 65535")]
    Port {
        /// What stands where the port should.
        port: String,
    },
    /// Behind the port of a WebSocket.
    #[error("{path:?} is not a path of an address: letters, digits and signs without spaces and #")]
    Path {
        /// What stands where the path should.
        path: String,
    },
}

impl Server {
    pub(super) fn parse(text: &str) -> Result<Server, InvalidServer> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (address, path) = match rest.find('/') {
            Some(at) if !scheme.is_empty() => rest.split_at(at),
            _ => (rest, ""),
        };
        if address.contains('@') {
            return Err(InvalidServer::Login);
        }
        let is_path = scheme.is_empty() && text.starts_with(['/', '.']);
        if is_path
            || text
                .get(..5)
                .is_some_and(|start| start.eq_ignore_ascii_case("unix:"))
        {
            return Err(InvalidServer::Unix);
        }
        let transport = transport(scheme, path)?;
        let (host, port) = split(address)?;
        Ok(Server {
            host: host_of(host)?,
            port: port.map(port_of).transpose()?,
            transport,
        })
    }
}

impl Default for Server {
    fn default() -> Server {
        Server {
            host: "127.0.0.1".to_owned(),
            port: None,
            transport: Transport::Tcp,
        }
    }
}

fn transport(scheme: &str, path: &str) -> Result<Transport, InvalidServer> {
    let wrong = || InvalidServer::Path {
        path: path.to_owned(),
    };
    let plain = |transport| match path {
        "" | "/" => Ok(transport),
        _ => Err(wrong()),
    };
    let path_of_request = || {
        let is_letter = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !path.bytes().all(is_letter) {
            return Err(wrong());
        }
        let path = if path.is_empty() {
            WEBSOCKET_PATH
        } else {
            path
        };
        Ok(path.to_owned())
    };
    match scheme.to_ascii_lowercase().as_str() {
        "" | "mqtt" | "tcp" => plain(Transport::Tcp),
        "mqtts" | "ssl" | "tls" => plain(Transport::Tls),
        "ws" => Ok(Transport::Ws {
            path: path_of_request()?,
        }),
        "wss" => Ok(Transport::Wss {
            path: path_of_request()?,
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
        Some((host, port)) if !port.contains(':') => return Ok((host, Some(port))),
        Some(_) | None => {}
    }
    if let Some((host, port)) = address.rsplit_once(':')
        && is_v6(host)
        && (3..=5).contains(&port.len())
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        let (host, port) = (host.to_owned(), port.to_owned());
        return Err(InvalidServer::Brackets { host, port });
    }
    Ok((address, None))
}

/// Whether it can be the name or the address of a server.
pub(super) fn is_host(host: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    is_v6(host) || (!host.is_empty() && host.bytes().all(is_letter))
}

fn host_of(host: &str) -> Result<String, InvalidServer> {
    if is_host(host) {
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

/// Where brokers expect WebSockets, unless they are told otherwise.
pub(super) const WEBSOCKET_PATH: &str = "/mqtt";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_over(text: &str, host: &str, port: Option<u16>, transport: Transport) {
        let expected = Server {
            host: host.to_owned(),
            port,
            transport,
        };
        assert_eq!(Server::parse(text), Ok(expected), "{text}");
    }

    #[track_caller]
    fn check(text: &str, host: &str, port: impl Into<Option<u16>>) {
        check_over(text, host, port.into(), Transport::Tcp);
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
        check("venus.local", "venus.local", None);
        check("192.168.1.5:1884", "192.168.1.5", 1884);
        check("mqtt://broker", "broker", None);
        check("MQTT://broker:1/", "broker", 1);
        check("tcp://[fe80::1%eth0]:99", "fe80::1%eth0", 99);
        check("[::1]:1884", "::1", 1884);
        check("[::1]", "::1", None);
        check("::1", "::1", None);
        check("fe80::1%eth0", "fe80::1%eth0", None);
        check("2001:db8::12", "2001:db8::12", None);
        check("[::1:1906]", "::1:1906", None);
        check("unixbox:1", "unixbox", 1);
        check("my_broker:65535", "my_broker", 65535);
    }

    #[test]
    fn s6_four_transports() {
        let ws = |path: &str| Transport::Ws { path: path.into() };
        let wss = |path: &str| Transport::Wss { path: path.into() };
        check_over("mqtts://broker", "broker", None, Transport::Tls);
        check_over("tls://[::1]:8884/", "::1", Some(8884), Transport::Tls);
        check_over("ws://broker:9001", "broker", Some(9001), ws("/mqtt"));
        check_over("ws://broker/", "broker", None, ws("/"));
        check_over("WSS://broker/a/b?c=d", "broker", None, wss("/a/b?c=d"));
    }

    #[test]
    fn what_is_no_address() {
        let host = |text: &str| {
            format!(
                "{text:?} is not a host; write HOST or HOST:PORT, an IPv6 address as [::1]:PORT"
            )
        };
        for text in [
            "",
            "two words",
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
                &format!("{port:?} is not a port: a number from 1 to 65535"),
            );
        }
        for text in [
            "user@broker",
            "mqtt://user:hunter2@broker",
            "user:hunter2@broker:1",
        ] {
            let sentence = "user and password cannot be part of the address; give them with --mqtt-user \
                            and --mqtt-password-file";
            refused(text, sentence);
        }
        for text in [
            "unix:/run/mqtt.sock",
            "unix:///run/mqtt.sock",
            "UNIX:x",
            "/run/mqtt",
            "./mqtt",
        ] {
            refused(
                text,
                "a Unix socket cannot be used; write HOST or HOST:PORT",
            );
        }
        for (text, host, port) in [
            ("::1:1906", "::1", "1906"),
            ("mqtt://2001:db8::1:8883", "2001:db8::1", "8883"),
            ("::1:18830", "::1", "18830"),
        ] {
            let sentence = format!(
                "is {port} the port? Write [{host}]:{port}, or [{host}:{port}] where it belongs to the address"
            );
            refused(text, &sentence);
        }
        for path in ["/a b", "/a#b", "/é"] {
            let sentence = format!(
                "{path:?} is not a path of an address: letters, digits and signs without spaces and #"
            );
            refused(&format!("ws://broker{path}"), &sentence);
        }
        refused(
            "mqtt://broker/x",
            "\"/x\" is not a path of an address: letters, digits and signs without spaces and #",
        );
        refused(
            "http://broker",
            "http:// is not an MQTT address; write HOST, HOST:PORT, or one that begins with mqtt://, mqtts://, ws:// or wss://",
        );
    }
}
