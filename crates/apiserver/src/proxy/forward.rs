//! One proxied request: passed on to the backend with the headers that tell where it came from, its answer passed back with redirects
//! and pages rewritten. Which backend it is was decided before.

use super::dial::{Connection, Dial, connect};
use super::location::escape;
use super::rewrite::Places;
use crate::error::ApiResult;
use crate::request::Call;
use crate::respond::{self, Reply};
use crate::serve::RemoteAddress;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{DeflateDecoder, GzDecoder};
use flate2::write::{DeflateEncoder, GzEncoder};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use nauplius_base::task::{CancellationToken, spawn};
use nauplius_client::transport::{Body, full};
use nauplius_meta::error::{ApiError, Reason, Status};
use nauplius_streaming::{ConnectError, end_to_end, forward_upgrade, is_upgrade_request};
use rustls::ClientConfig;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

/// Pages beyond this are passed on as they are: rewriting needs them whole.
const MAX_PAGE_BYTES: usize = 16 << 20;
/// What a page may tell browsers of other origins is not for the proxy's origin.
const CORS: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Where a request goes.
pub(super) struct Backend {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
    /// The path there; empty when the client's ends with `proxy` itself.
    pub path: String,
}

/// Passes a request on.
pub(super) async fn forward(
    dialer: &dyn Dial,
    call: &Call,
    backend: Backend,
    body: Body,
    shutdown: CancellationToken,
) -> ApiResult<Reply> {
    if is_upgrade_request(&call.parts.headers) {
        return upgrade(dialer, call, backend, body, shutdown).await;
    }
    if backend.path.is_empty() && matches!(call.parts.method, Method::GET | Method::HEAD) {
        return Ok(with_slash(call));
    }
    let request = request(call, &backend, body)?;
    let connection =
        connect(dialer, backend.address, backend.tls.clone()).await.map_err(|e| unreachable(&e))?;
    let response = send(connection, request).await.map_err(|error| unreachable(&error))?;
    answer(call, &backend, response).await
}

fn unreachable(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::ServiceUnavailable(format!("error trying to reach service: {error}"))
}

/// Relative links of the page at the root need a directory to stand in.
fn with_slash(call: &Call) -> Reply {
    let mut location = format!("{}/", call.parts.uri.path());
    if let Some(query) = call.parts.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    let mut reply = respond::text(StatusCode::MOVED_PERMANENTLY, "");
    reply.headers_mut().remove(header::CONTENT_TYPE);
    // What stood in a request line may stand in a header.
    if let Ok(location) = HeaderValue::try_from(location) {
        reply.headers_mut().insert(header::LOCATION, location);
    }
    reply
}

/// What of the client's path is in front of the backend's.
fn prefix<'a>(call: &'a Call, backend: &Backend) -> &'a str {
    let path = &call.info.path;
    path.strip_suffix(&*backend.path)
        .or_else(|| path.find("/proxy").map(|at| &path[..at + 6]))
        .unwrap_or(path)
}

fn target(call: &Call, backend: &Backend) -> ApiResult<Uri> {
    let mut target = if backend.path.is_empty() { "/".to_owned() } else { escape(&backend.path) };
    if let Some(query) = call.parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    target.parse().map_err(|error| ApiError::bad_request(format!("the path cannot be proxied: {error}")))
}

/// The host that the client asked; the backend's own for requests in process, which name none.
fn host(call: &Call, backend: &Backend) -> String {
    let named = call.parts.uri.authority().map(|authority| authority.as_str().to_owned());
    named
        .or_else(|| call.header(header::HOST).map(str::to_owned))
        .unwrap_or_else(|| backend.address.to_string())
}

/// The client's headers without those of the hop and of its identity here.
fn headers(call: &Call) -> HeaderMap {
    let mut headers = end_to_end(&call.parts.headers);
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::HOST);
    let impersonation: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonation {
        headers.remove(name);
    }
    if let Some(RemoteAddress(remote)) = call.parts.extensions.get::<RemoteAddress>() {
        let prior: Vec<&str> =
            headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut hops: Vec<String> = prior.into_iter().map(str::to_owned).collect();
        hops.push(remote.ip().to_canonical().to_string());
        // What came in headers may go on in one; without it the backend knows one hop less.
        if let Ok(hops) = HeaderValue::try_from(hops.join(", ")) {
            headers.insert(FORWARDED_FOR.clone(), hops);
        }
    }
    headers
}

fn request(call: &Call, backend: &Backend, body: Body) -> ApiResult<Request<Body>> {
    let mut request = Request::new(body);
    *request.method_mut() = call.parts.method.clone();
    *request.uri_mut() = target(call, backend)?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers(call);
    let headers = request.headers_mut();
    let forwarded = escape(&format!("{}{}", prefix(call, backend), backend.path));
    let header = |text: String| HeaderValue::try_from(text).map_err(|e| ApiError::bad_request(e.to_string()));
    headers.insert(FORWARDED_URI.clone(), header(forwarded)?);
    headers.insert(header::HOST, header(host(call, backend))?);
    Ok(request)
}

async fn send(connection: Connection, request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
    spawn("connection to a backend", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a backend ended");
        }
    });
    sender.send_request(request).await
}

async fn answer(call: &Call, backend: &Backend, response: Response<Incoming>) -> ApiResult<Reply> {
    let (parts, body) = response.into_parts();
    let mut headers = end_to_end(&parts.headers);
    CORS.iter().for_each(|name| drop(headers.remove(name)));
    let (backend_host, requested) = (backend.address.to_string(), host(call, backend));
    let places = Places { backend: &backend_host, requested: &requested, prefix: prefix(call, backend) };
    let mut body = body.map_err(Into::into).boxed_unsync();
    if let Some(location) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) {
        if let Some(Ok(location)) = places.through(location).map(HeaderValue::try_from) {
            headers.insert(header::LOCATION, location);
        }
    } else if is_page(&headers) {
        body = page(&places, &mut headers, body).await?;
    }
    let mut reply = Reply::new(body);
    *reply.status_mut() = parts.status;
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    for (name, value) in &headers {
        reply.headers_mut().append(name, value.clone());
    }
    Ok(reply)
}

fn is_page(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"));
    let media_type = text(header::CONTENT_TYPE);
    media_type.split(';').next().unwrap_or_default().trim() == "text/html"
        && matches!(text(header::CONTENT_ENCODING), "" | "gzip" | "deflate")
}

/// A page with its links leading through the proxy; one that is too large goes as it is.
async fn page(places: &Places<'_>, headers: &mut HeaderMap, mut body: Body) -> ApiResult<Body> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreachable(&error))?;
        // Trailers of a page are not passed on.
        let Ok(data) = frame.into_data() else { continue };
        read.extend_from_slice(&data);
        if read.len() > MAX_PAGE_BYTES {
            return Ok(rejoined(read, body));
        }
    }
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    let changed = match rewritten(places, encoding, &read) {
        Ok(changed) => changed,
        Err(error) => {
            tracing::debug!(%error, "a page could not be unpacked, so its links stay");
            return Ok(full(read));
        }
    };
    headers.remove(header::CONTENT_LENGTH);
    Ok(full(changed))
}

fn rejoined(read: Vec<u8>, rest: Body) -> Body {
    let first = futures_util::stream::once(std::future::ready(Ok(Frame::data(Bytes::from(read)))));
    let rest = http_body_util::BodyStream::new(rest);
    StreamBody::new(futures_util::StreamExt::chain(first, rest)).boxed_unsync()
}

fn rewritten(places: &Places<'_>, encoding: &[u8], page: &[u8]) -> io::Result<Vec<u8>> {
    match encoding {
        b"gzip" => {
            let mut packed = GzEncoder::new(Vec::new(), Compression::default());
            packed.write_all(&places.page(&unpacked(GzDecoder::new(page))?))?;
            packed.finish()
        }
        b"deflate" => {
            let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
            packed.write_all(&places.page(&unpacked(DeflateDecoder::new(page))?))?;
            packed.finish()
        }
        _ => Ok(places.page(page)),
    }
}

fn unpacked(reader: impl io::Read) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.take(MAX_PAGE_BYTES as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > MAX_PAGE_BYTES { Err(io::Error::other("the page is too large")) } else { Ok(plain) }
}

async fn upgrade(
    dialer: &dyn Dial,
    call: &Call,
    backend: Backend,
    body: Body,
    shutdown: CancellationToken,
) -> ApiResult<Reply> {
    let failed = |message: String| ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message)));
    let uri = target(call, &backend)?;
    let host = host(call, &backend);
    let connection =
        connect(dialer, backend.address, backend.tls).await.map_err(|e| failed(e.to_string()))?;
    let mut request = Request::from_parts(call.parts.clone(), body);
    let kept = headers(call);
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    *request.headers_mut() = kept;
    for (name, value) in
        [(header::CONNECTION, Some(HeaderValue::from_static("Upgrade"))), (header::UPGRADE, upgrade)]
    {
        request.headers_mut().extend(value.map(|value| (name, value)));
    }
    let forwarded = forward_upgrade(&mut request, connection, uri, &host, &HeaderMap::new()).await;
    let forwarded = forwarded.map_err(|error| match error {
        ConnectError::NotAnUpgrade => ApiError::bad_request("Upgrade request required"),
        other => failed(other.to_string()),
    })?;
    let status = forwarded.response.status();
    if forwarded.splice.is_none() && status.as_u16() < 400 {
        return Err(failed(format!("invalid upgrade response: status code {}", status.as_u16())));
    }
    super::run_splice(forwarded.splice, call.seat.clone(), shutdown);
    Ok(forwarded.response.map(|body| body.map_err(Into::into).boxed_unsync()))
}
