//! Limits, and what the bridge tells of itself.

use std::time::Duration;

use super::tests::{Given, file, flags};
use super::*;

#[cfg(feature = "metrics")]
#[test]
fn metrics_are_for_this_device_alone_unless_it_is_said() {
    let metrics = |given: Given<'_>| given.resolve().unwrap().metrics.map(|at| at.to_string());
    assert_eq!(metrics(Given::default()), None);
    assert_eq!(metrics(file("metrics = ''")), None);
    for address in [
        "127.0.0.1:9100",
        "127.9.9.9:0",
        "[::1]:9100",
        "[::ffff:127.0.0.1]:1",
    ] {
        assert_eq!(
            metrics(flags(&["--metrics", address])).as_deref(),
            Some(address)
        );
    }
    for address in [
        "0.0.0.0:9100",
        "192.168.1.5:9100",
        "[::]:9100",
        "[fd00::1]:9100",
    ] {
        flags(&["--metrics", address]).refused(&format!(
            "--metrics: other computers can reach {address}; use 127.0.0.1, or allow it \
             with --allow-remote-metrics"
        ));
        let words = ["--metrics", address, "--allow-remote-metrics"];
        assert_eq!(metrics(flags(&words)).as_deref(), Some(address));
    }
    for wrong in [
        "9100",
        "localhost:9100",
        "127.0.0.1",
        "127.0.0.1:x",
        "http://127.0.0.1:1",
    ] {
        flags(&["--metrics", wrong]).refused(&format!(
            "--metrics: {wrong:?} is not an address to listen on; one looks like 127.0.0.1:9100 or \
             [::1]:9100"
        ));
    }
}

#[cfg(feature = "web")]
#[test]
fn the_page_is_for_this_device_alone_unless_it_is_said() {
    let web = |given: Given<'_>| given.resolve().unwrap().web.map(|at| at.to_string());
    assert_eq!(web(Given::default()), None);
    assert_eq!(web(file("web = ''")), None);
    assert_eq!(
        web(flags(&["--web", "8080"])).as_deref(),
        Some("127.0.0.1:8080")
    );
    assert_eq!(
        web(flags(&["--web", "[::1]:80"])).as_deref(),
        Some("[::1]:80")
    );
    for address in ["0.0.0.0:8080", "192.168.1.5:8080", "[::]:8080"] {
        flags(&["--web", address]).refused(&format!(
            "--web: other computers can reach {address}, without encryption and password; \
             use 127.0.0.1, or allow it with --allow-remote-web"
        ));
        let words = ["--web", address, "--allow-remote-web"];
        assert_eq!(web(flags(&words)).as_deref(), Some(address));
    }
    for wrong in ["localhost:80", "127.0.0.1", "65536", "-1", "x"] {
        flags(&[&format!("--web={wrong}")]).refused(&format!(
            "--web: {wrong:?} is neither a port nor an address to listen on; one looks like 8080 or \
             127.0.0.1:8080"
        ));
    }
}

#[cfg(feature = "web")]
#[test]
fn the_page_has_values_whatever_else_is_set() {
    use crate::config::{Auth, Config};
    use crate::model::access::AccessRule;
    let resolve = |words: &[&str]| flags(words).resolve().unwrap();
    // Listeners without an address, and brokers.
    let counts = |config: &Config| {
        let listeners = config.listeners.iter();
        let inside = listeners.filter(|listener| listener.address.is_none());
        (inside.count(), config.listeners.len(), config.brokers.len())
    };
    let alone = resolve(&["--web", "8080"]);
    assert_eq!(counts(&alone), (1, 1, 1), "the usual broker stays");
    assert_eq!(alone.page_listener(), Some(0));
    assert_eq!(alone.listeners[0].auth, Auth::Anonymous);
    assert_eq!(counts(&resolve(&[])), (0, 0, 1));
    assert_eq!(counts(&resolve(&["--web", ""])), (0, 0, 1));

    let named = resolve(&["--web", "8080", "--mqtt-server", "gx"]);
    assert_eq!(counts(&named), (0, 0, 1));
    assert_eq!(named.page_broker().unwrap().host, "gx");
    assert_eq!(named.page_listener(), None);

    let listens = resolve(&["--web", "8080", "--listen", "1883"]);
    assert_eq!(counts(&listens), (0, 1, 0));
    assert_eq!(listens.page_listener(), Some(0));

    let guarded = resolve(&["--web", "8080", "--listen-auth", "venus"]);
    assert!(matches!(guarded.listeners[0].auth, Auth::Venus { .. }));
    let quiet = resolve(&["--web", "8080", "--access", "read-only"]);
    assert_ne!(
        quiet.listeners[0].access,
        AccessRule::Always(crate::model::access::Access::Full)
    );

    let hosts = resolve(&["--web-hosts", "boat.example.org", "--web-hosts", "b"]);
    assert_eq!(hosts.web_hosts, ["boat.example.org", "b"]);
    flags(&["--web-hosts", "http://b"]).refused(
        "--web-hosts: \"http://b\" is not a name alone; one looks like boat.example.org, without http:// and port",
    );

    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "").unwrap();
    let text = format!(
        "web = '8080'\n[[listen]]\naddress = '0.0.0.0:8883'\ntransport = 'tls'\n\
         auth = 'certificate'\nclient-ca = '{}'\n",
        ca.display()
    );
    let sentence = file(&text).resolve().unwrap_err();
    assert!(sentence.contains("no certificate to show"), "{sentence}");
}

#[cfg(not(feature = "web"))]
#[test]
fn a_build_without_the_page_says_so() {
    flags(&["--web", "8080"])
        .refused("--web: this build leaves the page out; cargo build --features web has it");
}

#[test]
fn stats_are_never_unless_it_is_said() {
    let stats = |given: Given<'_>| given.resolve().unwrap().stats;
    assert_eq!(stats(Given::default()), None);
    assert_eq!(stats(flags(&["--stats", "0"])), None);
    assert_eq!(stats(file("stats = 60")), Some(Duration::from_secs(60)));
}

#[test]
fn s2_2_a_refresh_is_every_five_minutes_unless_it_is_said() {
    let refresh = |given: Given<'_>| given.resolve().unwrap().refresh;
    assert_eq!(refresh(Given::default()), Some(Duration::from_secs(300)));
    assert_eq!(refresh(flags(&["--refresh-s", "0"])), None);
    let hour = Some(Duration::from_secs(3_600));
    assert_eq!(refresh(file("refresh-s = 3600")), hour);
}

#[test]
fn limits_are_set_one_by_one() {
    let config = file("[limits]\nitems-max = 7\nread-timeout-s = 9")
        .resolve()
        .unwrap();
    let expected = Limits {
        items_max: 7,
        read_timeout: Duration::from_secs(9),
        ..Limits::default()
    };
    assert_eq!(config.limits, expected);
}

#[cfg(not(feature = "metrics"))]
#[test]
fn a_build_without_metrics_says_so() {
    flags(&["--metrics", "127.0.0.1:9100"]).refused(
        "--metrics: this build leaves metrics out; cargo build --features metrics has them",
    );
}
