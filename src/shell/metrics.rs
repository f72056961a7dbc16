//! What the bridge does, over HTTP, for Prometheus: one address, one path, few connections.
//!
//! Whoever asks gets one answer on a connection that ends with it. A client that is slow to ask or to
//! take it has some seconds, and where all places are taken, the one that has been silent for longest
//! makes room: no number of idle connections keeps an honest one waiting.
//!
//! A web page in somebody's browser must not ask in its own name (DNS rebinding): who asks must know this
//! device by its address or its name.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info};

use super::memory;
use super::run::{Shared, now};
use crate::error::Fatal;

mod text;

/// How many clients are answered at one time.
const CONNECTIONS_MAX: usize = 16;
/// How long one may take, all in all.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// The wait after a connection that could not be taken: there may be no descriptors left.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// Where the numbers are.
const PATH: &str = "/metrics";

/// Takes the address. Fails where somebody else has it: the operator is to know at the start.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, Fatal> {
    let failed = |reason| Fatal::Listen { address, reason };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    // With port 0 the system chooses one.
    let address = listener.local_addr().map_err(failed)?;
    info!("metrics at http://{address}{PATH}");
    Ok(listener)
}

/// Answers whoever asks, for ever.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut places = Places::default();
    let own_name: Arc<str> = own_name().into();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    places.make_room();
                    let asked = Arc::default();
                    let client = Client {
                        shared: Arc::clone(&shared),
                        own_name: Arc::clone(&own_name),
                        asked: Arc::clone(&asked),
                    };
                    let task = connections.spawn(serve(stream, client));
                    places.0.push_back((task, asked));
                }
                Err(error) => {
                    debug!("metrics: {error}");
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
            debug!("metrics: a client that asked for nothing made room for another");
            task.abort();
        }
    }
}

/// What is known while one client is answered.
struct Client {
    shared: Arc<Shared>,
    own_name: Arc<str>,
    asked: Arc<AtomicBool>,
}

/// Answers one client.
async fn serve(stream: TcpStream, client: Client) {
    let service = service_fn(|request| {
        client.asked.store(true, Ordering::Relaxed);
        let response = answer(&request, &client);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("metrics: {error}"),
        Err(_) => debug!("metrics: a client was too slow"),
    }
}

fn answer<B>(request: &Request<B>, client: &Client) -> Response<String> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut hosts = request.headers().get_all(HOST).iter();
    let is_meant = hosts.all(|host| is_us(host.to_str().unwrap_or_default(), &client.own_name));
    let (status, kind, body) = match request.uri().path() {
        _ if !is_meant => {
            let body = "ask by the address of this device, or by its name\n".to_owned();
            (StatusCode::MISDIRECTED_REQUEST, PLAIN, body)
        }
        PATH if is_read => {
            let memory_bytes = memory::resident_bytes();
            let body = text::render(&client.shared.bridge(), now(), memory_bytes);
            (StatusCode::OK, text::CONTENT_TYPE, body)
        }
        PATH => {
            let body = "metrics can only be read\n".to_owned();
            (StatusCode::METHOD_NOT_ALLOWED, PLAIN, body)
        }
        _ => (
            StatusCode::NOT_FOUND,
            PLAIN,
            format!("metrics are at {PATH}\n"),
        ),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// Whether this host, of a request, is us: an address, `localhost`, or the name of this device. Any other name
/// may be one that a web page has had point here.
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
fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

const PLAIN: &str = "text/plain; charset=utf-8";

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
}
