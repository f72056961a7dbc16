//! What the bridge does, over HTTP, for Prometheus: one address, one path, few connections.
//!
//! Whoever asks gets one answer on a connection that ends with it. A client that is slow to ask or to
//! take it has some seconds, and while all places are taken others wait in the system's queue: nobody
//! here waits for them, and they cost no memory of ours.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::memory;
use super::run::{Shared, now};
use crate::error::Fatal;

mod text;

/// How many clients are answered at one time.
const CONNECTIONS_MAX: usize = 4;
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
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
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

/// Answers one client.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let response = answer(&request, &shared);
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

fn answer<B>(request: &Request<B>, shared: &Shared) -> Response<String> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, body) = match request.uri().path() {
        PATH if is_read => {
            let memory_bytes = memory::resident_bytes();
            let body = text::render(&shared.bridge(), now(), memory_bytes);
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

const PLAIN: &str = "text/plain; charset=utf-8";
