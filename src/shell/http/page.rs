//! The page: its assets, which the build has compressed, and what it asks first.
//!
//! The assets are in `assets/`: modules, styles and pictures as a browser takes them, with no build step of
//! their own. All that they do is said in `docs/page.md`; how they are divided in `assets/main.js`.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, HOST, HeaderName, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, VARY,
};
use hyper::{HeaderMap, Request, Response, StatusCode};

use super::answer::{Answer, JSON, plain, respond};
use super::{host, schema, socket};
use crate::model::name::PortalId;
use crate::schema::Schema;
use crate::shell::shared::Shared;

/// What the page is told of the bridge.
#[derive(Debug, Clone)]
pub(in crate::shell) struct Facts {
    /// The second level of every topic.
    pub portal_id: PortalId,
    /// What is before the first; empty or with a slash at its end.
    pub prefix: String,
    /// Whether no write will be done.
    pub read_only: bool,
    /// Where `/mqtt` leads.
    pub way: socket::Way,
    /// Who may connect there, as far as that is known.
    pub login: Login,
    /// Where other programs reach the same values; `None` where only the page does.
    pub place: Option<Place>,
}

/// What the page asks for before it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shell) enum Login {
    /// Nothing, or what a broker says that it wants.
    Unknown,
    /// A password; the user name does not matter.
    Password,
    /// User and password.
    User,
}

/// Where MQTT is spoken over plain TCP.
#[derive(Debug, Clone)]
pub(in crate::shell) struct Place {
    /// Its host; empty where it is the one that has the page.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

/// Everything that the page's server has.
#[derive(Debug)]
pub(in crate::shell) struct Site {
    facts: Facts,
    /// The schema as it was last asked for, compressed.
    schema: Mutex<Option<(Arc<Schema>, Bytes, HeaderValue)>>,
    sockets: socket::Sockets,
}

/// A file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    /// A hash of its content, in quotes.
    tag: &'static str,
    /// Compressed by gzip.
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

impl Site {
    pub(super) fn new(facts: Facts) -> Site {
        Site {
            facts,
            schema: Mutex::default(),
            sockets: socket::Sockets::default(),
        }
    }

    /// Answers a request for a file.
    pub(super) async fn answer(
        &self,
        path: &str,
        request: &Request<Incoming>,
        shared: &Shared,
    ) -> Response<Answer> {
        match path {
            "/page.json" => respond(StatusCode::OK, JSON, self.facts()),
            "/schema.json" => match self.schema(shared).await {
                Some((bytes, tag)) => compressed(JSON, bytes, tag, request.headers()),
                None => plain(StatusCode::INTERNAL_SERVER_ERROR, "no schema\n"),
            },
            path => {
                let path = if path == "/" { "/index.html" } else { path };
                match ASSETS.iter().find(|asset| asset.path == path) {
                    Some(asset) => file(asset, request),
                    None => plain(StatusCode::NOT_FOUND, "there is no such page; it is at /\n"),
                }
            }
        }
    }

    /// Opens the WebSocket of MQTT, for a program or for our own page.
    pub(super) fn socket(
        &self,
        request: Request<Incoming>,
        shared: &Arc<Shared>,
    ) -> Response<Answer> {
        if host::is_of_own_page(request.headers()) {
            self.sockets.open(request, &self.facts.way, shared)
        } else {
            plain(
                StatusCode::FORBIDDEN,
                "a page from another address may not connect here\n",
            )
        }
    }

    fn facts(&self) -> String {
        let Facts {
            portal_id,
            prefix,
            read_only,
            way: _,
            login,
            place,
        } = &self.facts;
        let login = match login {
            Login::Unknown => "",
            Login::Password => "password",
            Login::User => "user",
        };
        let mqtt = place.as_ref().map(|place| {
            let Place { host, port } = place;
            serde_json::json!({ "host": host, "port": port })
        });
        let facts = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "portal": portal_id.as_str(),
            "prefix": prefix,
            "readOnly": read_only,
            "login": login,
            "mqtt": mqtt,
        });
        format!("{facts}\n")
    }

    /// The schema that holds now, and its tag. It is made anew when it has changed, beside the bridge: that
    /// takes a moment.
    async fn schema(&self, shared: &Shared) -> Option<(Bytes, HeaderValue)> {
        let now = Arc::clone(shared.bridge().schema());
        {
            let kept = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((of, bytes, tag)) = &*kept
                && Arc::ptr_eq(of, &now)
            {
                return Some((bytes.clone(), tag.clone()));
            }
        }
        let of = Arc::clone(&now);
        let (bytes, tag) = tokio::task::spawn_blocking(move || schema::compress(&of))
            .await
            .ok()??;
        let bytes = Bytes::from(bytes);
        let tag = HeaderValue::from_str(&tag).ok()?;
        let mut kept = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((now, bytes.clone(), tag.clone()));
        Some((bytes, tag))
    }
}

fn file(asset: &'static Asset, request: &Request<Incoming>) -> Response<Answer> {
    let bytes = Bytes::from_static(asset.bytes);
    let tag = HeaderValue::from_static(asset.tag);
    let mut response = compressed(asset.kind, bytes, tag, request.headers());
    let headers = response.headers_mut();
    if asset.kind.starts_with("text/html") {
        let host = request.headers().get(HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        let query = request.uri().query().unwrap_or_default();
        if let Ok(policy) = HeaderValue::from_str(&policy(host, query)) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let alone = HeaderValue::from_static("same-origin");
        headers.insert(OPENER_POLICY, alone.clone());
        headers.insert(RESOURCE_POLICY, alone);
    }
    response
}

/// An answer that a browser keeps, and asks about the next time. Every browser takes gzip.
fn compressed(
    kind: &'static str,
    bytes: Bytes,
    tag: HeaderValue,
    asked: &HeaderMap,
) -> Response<Answer> {
    let known = asked.get_all(IF_NONE_MATCH).iter().any(|known| {
        let known = known.to_str().unwrap_or_default();
        known.split(',').any(|known| *known.trim() == tag)
    });
    let mut response = if known {
        respond(StatusCode::NOT_MODIFIED, kind, Bytes::new())
    } else {
        let mut response = respond(StatusCode::OK, kind, bytes);
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
        response
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// What the page may do: load its own files, connect to where it came from, and to the one other broker that
/// its address names. No text becomes HTML or a script, whatever a device is called.
fn policy(host: &str, query: &str) -> String {
    let broker = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("broker="))
        .and_then(origin)
        .unwrap_or_default();
    // Not every browser takes 'self' for a WebSocket.
    let own = origin(&format!("ws://{host}/")).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; manifest-src 'self'; \
         connect-src 'self' {own} {broker}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// Scheme, host and port of a WebSocket, if there is nothing else in them: they go into a header.
fn origin(address: &str) -> Option<String> {
    let address = address.replace("%3A", ":").replace("%3a", ":");
    let address = address.replace("%2F", "/").replace("%2f", "/");
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split('/').next()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let is_one = matches!(scheme, "ws" | "wss") && !host.is_empty() && host.bytes().all(is_plain);
    is_one.then(|| format!("{scheme}://{host}"))
}

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_broker_and_nothing_else() {
        let connect = |query: &str| {
            let policy = policy("127.0.0.1:8080", query);
            let part = policy.split("; ").find(|part| part.starts_with("connect"));
            part.unwrap().to_owned()
        };
        let own = "connect-src 'self' ws://127.0.0.1:8080 ";
        assert_eq!(connect(""), own);
        assert_eq!(
            connect("x=1&broker=ws://10.0.0.2:9001/mqtt"),
            format!("{own}ws://10.0.0.2:9001")
        );
        assert_eq!(
            connect("broker=wss%3A%2F%2Fvenus.local"),
            format!("{own}wss://venus.local")
        );
        for wrong in [
            "broker=http://evil.example",
            "broker=ws://evil.example;script-src *",
            "broker=ws://evil.example%20*",
            "broker=*",
            "broker=ws://",
            "broker=ws://a'b",
        ] {
            assert_eq!(connect(wrong), own, "{wrong}");
        }
    }

    #[test]
    fn the_page_is_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        let (schema, _) = schema::compress(&Schema::default()).unwrap();
        let all = bytes + schema.len();
        assert!(
            all < 120_000,
            "{bytes} of assets, {} of schema",
            schema.len()
        );
    }

    #[test]
    fn every_file_has_its_kind_and_tag() {
        for asset in ASSETS {
            assert!(asset.path.starts_with('/'), "{}", asset.path);
            assert!(asset.tag.starts_with('"') && asset.tag.len() == 18);
            assert!(asset.kind.contains('/'), "{}", asset.path);
            assert!(asset.bytes.starts_with(&[0x1f, 0x8b]));
        }
        assert!(ASSETS.iter().any(|asset| asset.path == "/index.html"));
    }
}
