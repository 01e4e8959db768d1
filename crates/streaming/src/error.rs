//! What can go wrong, as data, and what a refused request is answered with.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use std::io;

const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// Why a connection or one of its streams ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The transport failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// The HTTP connection could not be upgraded.
    #[error("upgrade failed: {0}")]
    Upgrade(#[from] hyper::Error),
    /// The peer broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The peer sent more than a named limit allows.
    #[error("limit exceeded: {0}")]
    Limit(&'static str),
    /// The client did not open its streams in time.
    #[error("timed out waiting for client to create streams")]
    StreamCreationTimeout,
    /// Nothing went over the connection for the idle timeout.
    #[error("the connection was idle for too long")]
    Idle,
    /// The peer refused or reset the stream.
    #[error("the stream was reset by the peer")]
    Reset,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// A request that is not upgraded: its status and a plain message, as upstream's servers answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// 4xx.
    pub status: StatusCode,
    /// For the person.
    pub message: String,
    /// The stream protocols that would have been accepted, when that was the reason.
    pub accepted_protocols: &'static [&'static str],
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), accepted_protocols: &[] }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The answer to send.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(format!("{}\n", self.message))));
        *response.status_mut() = self.status;
        for protocol in self.accepted_protocols {
            response.headers_mut().append(ACCEPTED_VERSIONS, HeaderValue::from_static(protocol));
        }
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    }
}

/// Why a client got no upgraded connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The request could not be sent or its answer not be read.
    #[error("request failed: {0}")]
    Http(#[from] hyper::Error),
    /// The request could not be made: a bad path or header.
    #[error("invalid request: {0}")]
    Request(#[from] http::Error),
    /// The request did not ask for an upgrade.
    #[error("Upgrade request required")]
    NotAnUpgrade,
    /// The server answered without upgrading.
    #[error("unable to upgrade connection: {message}")]
    Refused {
        /// What it answered.
        status: StatusCode,
        /// The start of the body.
        message: String,
    },
    /// The server upgraded to something else.
    #[error("the server chose protocol {0:?}, which was not offered")]
    UnexpectedProtocol(String),
    /// The upgraded connection failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
}
