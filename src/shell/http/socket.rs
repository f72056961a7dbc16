//! The WebSocket of MQTT: the thread that serves clients gets the connection, or what a browser says in it
//! goes to a broker, and back.
//!
//! Listener or broker decide who may do what: nothing of MQTT is read here. A connection to a broker holds
//! one batch in either direction, and waits for whoever is slower.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;

use super::answer::{Answer, plain};
use crate::shell::serve::Doorway;
use crate::shell::shared::Shared;
use crate::shell::transport::{self, Endpoint};

/// How many connections to a broker there may be at one time; a listener has its own limits.
const SOCKETS_MAX: usize = 100;
/// The subprotocols [MQTT-6.0.0-3], and that of MQTT 3.1.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// Where it is: /websocket-mqtt and / are what Victron's own web apps ask for.
const PATHS: [&str; 3] = ["/mqtt", "/websocket-mqtt", "/"];

/// Where the WebSocket leads.
#[derive(Debug, Clone)]
pub(in crate::shell) enum Way {
    /// To a listener of ours, by its number.
    Listener(Doorway, usize),
    /// To a broker, whatever is spoken there.
    Broker(Vec<Endpoint>),
}

/// Whether a request wants to go on as a WebSocket.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The connections to a broker that there are.
#[derive(Debug, Default)]
pub(super) struct Sockets(Arc<AtomicUsize>);

impl Sockets {
    /// Answers a request for a WebSocket.
    pub(super) fn open(
        &self,
        mut request: Request<Incoming>,
        way: &Way,
        shared: &Arc<Shared>,
    ) -> Response<Answer> {
        if !PATHS.contains(&request.uri().path()) {
            return plain(StatusCode::NOT_FOUND, "the WebSocket is at /mqtt\n");
        }
        let headers = request.headers();
        let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
        let offered = offered.iter().filter_map(|offered| offered.to_str().ok());
        let mut offered = offered.flat_map(|offered| offered.split(',').map(str::trim));
        let subprotocol = offered.find_map(|offered| {
            let mut known = SUBPROTOCOLS.into_iter();
            known.find(|known| *known == offered)
        });
        let Some(subprotocol) = subprotocol else {
            let sentence = "the WebSocket speaks MQTT: ask for the subprotocol mqtt\n";
            return plain(StatusCode::BAD_REQUEST, sentence);
        };
        let version = headers.get(SEC_WEBSOCKET_VERSION);
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .filter(|_| version.is_some_and(|version| version == "13"))
            .map(|key| transport::accept_key(key.as_bytes()));
        let accept = key.and_then(|key| HeaderValue::from_str(&key).ok());
        let Some(accept) = accept else {
            let sentence = "this is not a WebSocket of version 13\n";
            return plain(StatusCode::BAD_REQUEST, sentence);
        };
        if shared.is_ending() || self.0.load(Ordering::Relaxed) >= SOCKETS_MAX {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many are connected\n");
        }
        let upgrade = hyper::upgrade::on(&mut request);
        match way {
            Way::Listener(doorway, listener) => {
                tokio::spawn(hand_over(upgrade, doorway.clone(), *listener));
            }
            Way::Broker(broker) => {
                let place = Place::take(&self.0);
                tokio::spawn(carry(upgrade, broker.clone(), place));
            }
        }
        let mut response = Response::new(Answer(None));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let answers = response.headers_mut();
        answers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        answers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        answers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        let subprotocol = HeaderValue::from_static(subprotocol);
        answers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        response
    }
}

/// Hands the connection over to the thread that serves clients.
async fn hand_over(upgrade: OnUpgrade, doorway: Doorway, listener: usize) {
    let Ok(upgraded) = upgrade.await else {
        return;
    };
    // Beneath it is what the server was given.
    if let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() {
        doorway.hand_over(listener, parts.io.into_inner(), parts.read_buf.to_vec());
    }
}

/// Carries bytes both ways until one side has enough.
async fn carry(upgrade: OnUpgrade, broker: Vec<Endpoint>, _place: Place) {
    let Ok(upgraded) = upgrade.await else {
        return;
    };
    let mut browser = transport::accept(TokioIo::new(upgraded)).await;
    match transport::connect_any(&broker).await {
        Ok(mut broker) => {
            // Which of them ended it is nobody's business here.
            let _ = tokio::io::copy_bidirectional(&mut browser, &mut broker).await;
        }
        Err(error) => debug!("page: {error}"),
    }
}

/// One connection of those that there may be.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(all: &Arc<AtomicUsize>) -> Place {
        all.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(all))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
