//! An HTTP GET as probes and hooks send it: one request on a connection of its own, any certificate accepted.

use super::{OUTPUT_MAX, address, port, tls};
use crate::pod::probes::Answer;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use nauplius_base::{errno, task, time};
use nauplius_kinds::api::core::{Container, HTTPGetAction};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How probes call themselves.
pub const PROBE_AGENT: &str = "kube-probe/1.37";
/// How lifecycle hooks call themselves.
pub const HOOK_AGENT: &str = "kube-lifecycle/1.37";

fn scheme(action: &HTTPGetAction) -> String {
    action.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase()
}

fn path(action: &HTTPGetAction) -> String {
    let path = action.path.as_deref().unwrap_or("/");
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Asks; every answer from 200 to 399 is well.
pub async fn probe(container: &Container, action: &HTTPGetAction, ip: &str, limit: Duration) -> Answer {
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
    let to = match address(host, port(container, &action.port)) {
        Ok(to) => to,
        Err(error) => return Answer::Unknown(error),
    };
    let url = format!("{}://{to}{}", scheme(action), path(action));
    match time::timeout(limit, get(to, action, PROBE_AGENT)).await {
        Ok(Ok((200..=399, _))) => Answer::Success,
        Ok(Ok((status, _))) => Answer::Failure(format!("HTTP probe failed with statuscode: {status}")),
        Ok(Err(error)) => Answer::Failure(format!("Get {url:?}: {error}")),
        Err(_) => Answer::Failure(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

/// Why there was no answer, in Go's words where it has any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// TLS was asked for, and the server spoke plain HTTP.
    #[error("http: server gave HTTP response to HTTPS client")]
    WithoutTls,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Status and the beginning of the body.
///
/// # Errors
/// Why there was no answer.
pub async fn get(to: SocketAddr, action: &HTTPGetAction, agent: &str) -> Result<(u16, Vec<u8>), Unanswered> {
    let stream = TcpStream::connect(to)
        .await
        .map_err(|error| Unanswered::Other(format!("dial tcp {to}: connect: {}", errno::words(&error))))?;
    if scheme(action) != "https" {
        return exchange(stream, to, action, agent).await.map_err(Unanswered::Other);
    }
    match tls::connect(stream, to.ip()).await {
        Ok(stream) => exchange(stream, to, action, agent).await.map_err(Unanswered::Other),
        Err(tls::Refused::SpeaksHttp) => Err(Unanswered::WithoutTls),
        Err(tls::Refused::Other(error)) => Err(Unanswered::Other(errno::words(&error))),
    }
}

async fn exchange<T>(
    stream: T,
    to: SocketAddr,
    action: &HTTPGetAction,
    agent: &str,
) -> Result<(u16, Vec<u8>), String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let said = |error: hyper::Error| match error.is_incomplete_message() {
        true => "EOF".to_owned(),
        false => errno::plain(&error.to_string()),
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(16 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    // It ends with the sender; its failure is the request's.
    let connection = task::spawn("kubelet-probe-connection", connection);
    let request = request(to, action, agent)?;
    let answer = sender.send_request(request).await.map_err(said)?;
    let status = answer.status().as_u16();
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while text.len() < OUTPUT_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        text.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    connection.abort();
    Ok((status, text))
}

fn request(to: SocketAddr, action: &HTTPGetAction, agent: &str) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(path(action));
    let named =
        |name: &str| action.http_headers.iter().flatten().find(|own| own.name.eq_ignore_ascii_case(name));
    for own in action.http_headers.iter().flatten().filter(|own| !own.name.eq_ignore_ascii_case("host")) {
        request = request.header(own.name.as_str(), own.value.as_str());
    }
    for (name, default) in [(header::USER_AGENT, agent), (header::ACCEPT, "*/*")] {
        if named(name.as_str()).is_none() {
            request = request.header(name, default);
        }
    }
    let host = named("host").map_or_else(|| to.to_string(), |own| own.value.clone());
    let request = request.header(header::HOST, host).header(header::CONNECTION, "close");
    request.body(Empty::new()).map_err(|error| error.to_string())
}
