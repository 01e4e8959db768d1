//! Answers and their bodies.

use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use nauplius_base::errno;
use std::convert::Infallible;
use tokio::sync::mpsc;

/// A body, whole or streamed.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// What a request is answered with.
pub type Answer = Response<Body>;

/// A body known whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// Plain text with a status; the system's errors in it are told in Go's words.
pub fn text(status: StatusCode, message: &str) -> Answer {
    let mut answer = bytes("text/plain; charset=utf-8", errno::plain(message).into_bytes());
    *answer.status_mut() = status;
    answer
}

/// Bytes of a type.
pub fn bytes(content_type: &'static str, bytes: Vec<u8>) -> Answer {
    let mut answer = Response::new(full(bytes));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A JSON tree.
pub fn json(value: &serde_json::Value) -> Answer {
    bytes("application/json", value.to_string().into_bytes())
}

/// What `receiver` gives, until its sender is gone.
pub fn stream(content_type: &'static str, receiver: mpsc::Receiver<Bytes>) -> Answer {
    let frames = unfold(receiver, |mut receiver| async {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
