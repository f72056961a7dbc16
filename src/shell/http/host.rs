//! Who is meant by a request, and which web page sent it: by these two headers a browser tells us what it
//! would never tell in the name of another.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::HOST;
#[cfg(feature = "web")]
use hyper::header::ORIGIN;

/// Whether every host that a request names is us. Any other name may be one that a web page has had point
/// here.
pub(super) fn is_meant(headers: &HeaderMap, own_name: &str) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    hosts.all(|host| is_us(host.to_str().unwrap_or_default(), own_name))
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

/// Whether this host, of a request, is us: an address, `localhost`, or the name of this device.
fn is_us(host: &str, own_name: &str) -> bool {
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
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = name.strip_suffix(".local").unwrap_or(name);
    let is_own = !own_name.is_empty() && name.eq_ignore_ascii_case(own_name);
    address.unwrap_or(name).parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || is_own
}

/// What this device is called; empty where that is not known.
pub(super) fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

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
        ] {
            assert!(is_us(host, "venus"), "{host}");
        }
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
        ] {
            assert!(!is_us(host, "venus"), "{host}");
        }
        assert!(!is_us("", ""));
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
