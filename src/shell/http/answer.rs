//! An answer: what no cache keeps, and no browser takes for something else.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Response<Answer> {
    respond(status, PLAIN, text.into())
}

/// An answer that no cache keeps, and no browser takes for something else.
pub(super) fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Answer> {
    let mut response = Response::new(Answer(Some(body.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Not left to the server: it would say so to a WebSocket too, and clients take no such answer.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
    response
}

/// The body of an answer: all of it at once.
pub(super) struct Answer(pub(super) Option<Bytes>);

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let rest = self.0.take().filter(|bytes| !bytes.is_empty());
        Poll::Ready(rest.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.0.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(bytes as u64)
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const NO_SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
