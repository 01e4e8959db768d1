//! The seam between a client and a server: one HTTP request in, one response with a streaming body out.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use std::sync::Arc;

/// Any error below HTTP.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body that may stream.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// The request did not reach a server, or its answer did not come back.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection could be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system or the TLS library said.
        reason: String,
    },
    /// The connection broke with the request under way.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The server in this process has stopped.
    #[error("the API server has stopped")]
    Stopped,
}

/// Carries requests: a TLS connection, the API server in process, or a script in a test.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request; the response's body may stream on for as long as its reader wants.
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>>;
}

impl<T: Transport + ?Sized> Transport for Arc<T> {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        (**self).call(request)
    }
}

/// No body.
pub fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body known whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
