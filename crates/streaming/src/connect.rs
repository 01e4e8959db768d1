//! The client's side of an upgrade over a given transport: one HTTP/1.1 request, and the connection that it becomes.

use crate::upgrade::{PROTOCOL_VERSION, SPDY_31, accept_key};
use crate::{ConnectError, Timeouts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How much of a refusal's body is kept for its message.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;
/// What our own clients ping their servers with.
const CLIENT_PING: Duration = Duration::from_secs(5);

/// What is asked for, and of whom.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Path and query.
    pub uri: Uri,
    /// The `Host` header.
    pub host: String,
    /// Credentials and the like.
    pub headers: HeaderMap,
}

/// Clients hang up when they are done.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts { ping: Some(CLIENT_PING), linger: Duration::from_secs(1), ..Timeouts::default() }
}

/// Asks for SPDY; returns the connection and the stream protocol that the server chose.
pub(crate) async fn spdy<T>(
    io: T,
    target: Target,
    method: Method,
    protocols: &[&'static str],
) -> Result<(TokioIo<Upgraded>, String), ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = request(target, method)?;
    request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(SPDY_31));
    for protocol in protocols {
        request.headers_mut().append(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    }
    let (io, response) = upgrade(io, request).await?;
    let chosen = chosen(&response, &PROTOCOL_VERSION, protocols)?;
    Ok((io, chosen))
}

/// Asks for a WebSocket; returns the connection and the subprotocol that the server chose.
pub(crate) async fn websocket<T>(
    io: T,
    target: Target,
    protocols: &[&'static str],
) -> Result<(TokioIo<Upgraded>, String), ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = request(target, Method::GET)?;
    let nonce = [nauplius_base::id::random_u64(), nauplius_base::id::random_u64()].map(u64::to_be_bytes);
    let key = STANDARD.encode(nonce.concat());
    let headers = request.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::try_from(&key).map_err(http::Error::from)?);
    let offered = HeaderValue::try_from(protocols.join(", ")).map_err(http::Error::from)?;
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    let (io, response) = upgrade(io, request).await?;
    if response.headers().get(header::SEC_WEBSOCKET_ACCEPT) != Some(&accept_key(key.as_bytes())) {
        return Err(ConnectError::UnexpectedProtocol("a WebSocket that was not asked for".to_owned()));
    }
    let chosen = chosen(&response, &header::SEC_WEBSOCKET_PROTOCOL, protocols)?;
    Ok((io, chosen))
}

fn request(target: Target, method: Method) -> Result<Request<Empty<Bytes>>, ConnectError> {
    let mut request = Request::builder().method(method).uri(target.uri).body(Empty::new())?;
    *request.headers_mut() = target.headers;
    let host = HeaderValue::try_from(target.host).map_err(http::Error::from)?;
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    Ok(request)
}

fn chosen(
    response: &Response<Incoming>,
    name: &header::HeaderName,
    offered: &[&'static str],
) -> Result<String, ConnectError> {
    let chosen = response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if offered.contains(&chosen) {
        Ok(chosen.to_owned())
    } else {
        Err(ConnectError::UnexpectedProtocol(chosen.to_owned()))
    }
}

async fn upgrade<T>(
    io: T,
    request: Request<Empty<Bytes>>,
) -> Result<(TokioIo<Upgraded>, Response<Incoming>), ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut response = send(io, request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = hyper::upgrade::on(&mut response).await?;
        return Ok((TokioIo::new(upgraded), response));
    }
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_REFUSAL_BYTES).collect().await;
    // The status says enough when the body cannot be read or is too long.
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let message = String::from_utf8_lossy(&body).trim().to_owned();
    Err(ConnectError::Refused { status, message })
}

/// Sends one request over a transport of its own.
pub(crate) async fn send<T>(io: T, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(crate::CHUNK_BYTES)
        .handshake(TokioIo::new(io))
        .await?;
    nauplius_base::task::spawn("upgrade-connection", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to be upgraded failed");
        }
    });
    sender.send_request(request).await
}
