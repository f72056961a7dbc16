//! One HTTP server: the page, what the page needs, the WebSocket of MQTT, metrics and health.
//!
//! ```text
//!   /                the page and its assets          (`page`)
//!   /page.json       what this bridge is              (`page`)
//!   /schema.json     what is known of values          (`schema`)
//!   /mqtt, or any WebSocket at / and /websocket-mqtt  (`socket`)
//!   /metrics         numbers for Prometheus           (`metrics`)
//!   /health          whether all is connected
//! ```
//!
//! Whoever asks gets one answer on a connection that ends with it. A client that is slow to ask or to
//! take it has some seconds, and where all places are taken, the one that has been silent for longest
//! makes room: no number of idle connections keeps an honest one waiting.
//!
//! A web page in somebody's browser must not ask in its own name (DNS rebinding): who asks must know this
//! device by its address or a name that no web page can have (`host`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info};

use super::held::Held;
use super::memory;
use super::shared::{Shared, now};
use crate::error::Fatal;

mod answer;
mod host;
mod metrics;
#[cfg(feature = "web")]
mod page;
#[cfg(feature = "web")]
mod schema;
#[cfg(feature = "web")]
mod socket;

use self::answer::{Answer, JSON, plain, respond};
#[cfg(feature = "web")]
pub(super) use self::page::{Facts, Login, Place};
#[cfg(feature = "web")]
pub(super) use self::socket::Way;

/// How many clients are answered at one time, by one listener.
const CONNECTIONS_MAX: usize = 32;
/// How long one may take, all in all.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// The wait after a connection that could not be taken: there may be no descriptors left.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// Where the numbers are.
const METRICS: &str = "/metrics";
/// Whether all is connected.
const HEALTH: &str = "/health";

/// What a listener is for.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// Metrics and health, and nothing else.
    Metrics,
    /// Everything.
    #[cfg(feature = "web")]
    Page(Arc<page::Site>),
}

impl Role {
    /// The page, of this bridge.
    #[cfg(feature = "web")]
    pub(super) fn page(facts: Facts) -> Role {
        Role::Page(Arc::new(page::Site::new(facts)))
    }

    /// What it is called in the log.
    fn name(&self) -> &'static str {
        match self {
            Role::Metrics => "metrics",
            #[cfg(feature = "web")]
            Role::Page(_) => "page",
        }
    }

    /// What one opens first.
    fn path(&self) -> &'static str {
        match self {
            Role::Metrics => METRICS,
            #[cfg(feature = "web")]
            Role::Page(_) => "/",
        }
    }
}

/// Takes the address. Fails where somebody else has it: the operator is to know at the start.
pub(super) async fn listen(
    address: SocketAddr,
    role: &Role,
    held: &mut Held,
) -> Result<TcpListener, Fatal> {
    let what = role.name();
    let failed = |reason| Fatal::Listen {
        what,
        address,
        reason,
    };
    let listener = match held.take(address) {
        Some(socket) => TcpListener::from_std(socket),
        None => TcpListener::bind(address).await,
    };
    let listener = listener.map_err(failed)?;
    // With port 0 the system chooses one.
    let address = listener.local_addr().map_err(failed)?;
    info!("{what} at http://{address}{}", role.path());
    Ok(listener)
}

/// Answers whoever asks, until the bridge ends.
pub(super) async fn run(
    listener: TcpListener,
    role: Role,
    allowed_hosts: Vec<String>,
    shared: Arc<Shared>,
) {
    let mut connections = JoinSet::new();
    let mut places = Places::default();
    let names = Arc::new(host::Names::new(allowed_hosts));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    places.make_room();
                    let asked = Arc::default();
                    let client = Client {
                        role: role.clone(),
                        shared: Arc::clone(&shared),
                        names: Arc::clone(&names),
                        asked: Arc::clone(&asked),
                    };
                    let task = connections.spawn(serve(stream, client));
                    places.0.push_back((task, asked));
                }
                Err(error) => {
                    debug!("{}: {error}", role.name());
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The clients that are being answered, the oldest first, and whether each has asked.
#[derive(Default)]
struct Places(VecDeque<(AbortHandle, Arc<AtomicBool>)>);

impl Places {
    /// Ends one where all places are taken: the oldest that has not asked yet, else the oldest.
    fn make_room(&mut self) {
        self.0.retain(|(task, _)| !task.is_finished());
        if self.0.len() < CONNECTIONS_MAX {
            return;
        }
        let idle = |(_, asked): &(_, Arc<AtomicBool>)| !asked.load(Ordering::Relaxed);
        let oldest = self.0.iter().position(idle).unwrap_or_default();
        if let Some((task, _)) = self.0.remove(oldest) {
            debug!("http: a client that asked for nothing made room for another");
            task.abort();
        }
    }
}

/// What is known while one client is answered.
struct Client {
    role: Role,
    shared: Arc<Shared>,
    names: Arc<host::Names>,
    asked: Arc<AtomicBool>,
}

/// Answers one client.
async fn serve(stream: TcpStream, client: Client) {
    // An answer is one or two writes, and nothing follows that could take the rest along.
    let _ = stream.set_nodelay(true);
    let client = Arc::new(client);
    let service = service_fn(|request| {
        client.asked.store(true, Ordering::Relaxed);
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(answer(request, &client).await) }
    });
    let connection = http1::Builder::new()
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("http: {error}"),
        Err(_) => debug!("http: a client was too slow"),
    }
}

#[cfg_attr(not(feature = "web"), allow(clippy::unused_async, unused_variables))] // only the page waits
async fn answer(request: Request<Incoming>, client: &Client) -> Response<Answer> {
    if !host::is_meant(request.headers(), &client.names) {
        return plain(
            StatusCode::MISDIRECTED_REQUEST,
            "ask by the address of this device, or by its name; --web-hosts allows another name\n",
        );
    }
    #[cfg(feature = "web")]
    if let Role::Page(site) = &client.role
        && socket::is_asked_for(request.headers())
    {
        return site.socket(request, &client.shared);
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        path if !is_read => {
            let what = path.trim_start_matches('/');
            let word = if path == METRICS { what } else { "this" };
            let mut response = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{word} can only be read\n"),
            );
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        METRICS => {
            let memory_bytes = memory::resident_bytes();
            let render = |bridge: &_| metrics::render(bridge, now(), memory_bytes);
            let body = client.shared.counted(render);
            respond(StatusCode::OK, metrics::CONTENT_TYPE, body)
        }
        HEALTH => health(&client.shared),
        path => match &client.role {
            Role::Metrics => plain(
                StatusCode::NOT_FOUND,
                format!("metrics are at {METRICS}, health at {HEALTH}\n"),
            ),
            #[cfg(feature = "web")]
            Role::Page(site) => site.answer(path, &request, &client.shared).await,
        },
    }
}

/// 200 where the bus and each broker that is to be connected are there, 503 elsewhere; which, as JSON.
fn health(shared: &Shared) -> Response<Answer> {
    let (is_well, body) = {
        let bridge = shared.bridge();
        let brokers = (0..bridge.brokers()).filter(|broker| shared.wants(*broker));
        let mut is_well = bridge.bus_has_named_services();
        let mut members = serde_json::Map::new();
        for broker in brokers {
            let connected = bridge.is_connected(broker);
            is_well &= connected;
            members.insert(bridge.broker_name(broker).to_owned(), connected.into());
        }
        let (services, items) = bridge.size();
        let body = serde_json::json!({
            "ok": is_well,
            "bus": bridge.bus_has_named_services(),
            "brokers": members,
            "services": services,
            "items": items,
        });
        (is_well, body)
    };
    let status = if is_well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    respond(status, JSON, format!("{body}\n"))
}
