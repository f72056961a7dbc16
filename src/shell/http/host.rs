//! Who is meant by a request, and which web page sent it: by these two headers a browser tells us what it
//! would never tell in the name of another.
//!
//! A web page can make its own domain name point to this device, and then send requests in that name (DNS
//! rebinding). So a request is answered only if it names an address, a name that no public server knows
//! ([`LOCAL`]), the name of this device, or one that the operator has allowed.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::HOST;
#[cfg(feature = "web")]
use hyper::header::ORIGIN;

use crate::config::is_of_host_name;

/// Whether every host that a request names is us. Any other name may be one that a web page has had point
/// here.
pub(super) fn is_meant(headers: &HeaderMap, names: &Names) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    hosts.all(|host| names.are(host.to_str().unwrap_or_default()))
}

/// Whether a request is of no web page, or of one that came from here. A browser names the page that opens a
/// WebSocket, and asks nobody whether it may.
#[cfg(feature = "web")]
pub(super) fn is_of_own_page(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    headers.get_all(ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let of = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        host.zip(of)
            .is_some_and(|(host, of)| host.eq_ignore_ascii_case(of))
    })
}

/// What this device may be called.
#[derive(Debug)]
pub(super) struct Names {
    /// Its own name, as the system has it; empty where that is not known.
    own: String,
    /// What the operator has allowed.
    allowed: Vec<String>,
}

impl Names {
    /// The name of this device, and those that the operator has allowed.
    pub(super) fn new(allowed: Vec<String>) -> Names {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Names {
            own: own.trim().to_owned(),
            allowed,
        }
    }

    /// Whether this host, of a request, is us.
    fn are(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            // Not the last group of an address.
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port),
            Some(_) | None => (host, ""),
        };
        if !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return false;
        }
        let address = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if address.unwrap_or(name).parse::<IpAddr>().is_ok() {
            return true;
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_of_host_name) {
            return false;
        }
        let is_local = LOCAL.iter().any(|ending| {
            let rest = name.strip_suffix(ending);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        // `boat` of `boat.example.org` too: no public server has a name without a dot.
        let (own_first, _) = self.own.split_once('.').unwrap_or((&self.own, ""));
        let mut known = self.allowed.iter().map(String::as_str);
        let mut known = [&*self.own, own_first].into_iter().chain(known.by_ref());
        is_local || known.any(|known| known.eq_ignore_ascii_case(&name))
    }
}

/// The last part of names that exist in a local network only: no web page can have one that public servers
/// know.
const LOCAL: [&str; 7] = [
    "localhost",
    "local",
    "lan",
    "home",
    "home.arpa",
    "internal",
    "localdomain",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_must_know_the_device() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9100",
            "[::1]:9100",
            "[::1]",
            "192.168.1.5:9100",
            "localhost:9100",
            "LOCALHOST",
            "venus",
            "Venus.local:80",
            "venus.local.",
            "other.local:8080",
            "venus.lan",
            "gx.home.arpa",
            "a.b.internal",
            "boat.example.org:8080",
        ] {
            assert!(names("venus").are(host), "{host}");
        }
        assert!(names("venus.example.org").are("venus"));
        assert!(names("venus.example.org").are("venus.example.org"));
        for host in [
            "",
            "evil.example",
            "evil.example:9100",
            "127.0.0.1.evil.example",
            "venus.evil.example",
            "localhost.evil.example:9100",
            "127.0.0.1:9100:evil",
            "localhost:evil",
            "x@127.0.0.1",
            "[evil]",
            "evil.local.example",
            "evillocal",
            "evil.notlocal",
            "x@venus.local",
            "venus.local/",
            "www.boat.example.org",
            "other",
        ] {
            assert!(!names("venus").are(host), "{host}");
        }
        assert!(!names("").are(""));
    }

    fn names(own: &str) -> Names {
        Names {
            own: own.to_owned(),
            allowed: vec!["Boat.example.org".to_owned()],
        }
    }

    #[cfg(feature = "web")]
    #[test]
    fn a_web_page_from_elsewhere_gets_no_websocket() {
        let check = |host: &'static str, origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            for origin in origins {
                headers.append(ORIGIN, origin.parse().unwrap());
            }
            is_of_own_page(&headers)
        };
        assert!(check("127.0.0.1:8080", &[]), "no web page");
        assert!(check("127.0.0.1:8080", &["http://127.0.0.1:8080"]));
        assert!(check("Venus.local", &["https://venus.local"]));
        for origins in [
            &["http://evil.example"][..],
            &["http://127.0.0.1:9090"],
            &["null"],
            &[""],
            &["http://127.0.0.1:8080", "http://evil.example"],
            &["http://127.0.0.1:8080.evil.example"],
            &["file://127.0.0.1:8080"],
        ] {
            assert!(!check("127.0.0.1:8080", origins), "{origins:?}");
        }
    }
}
