//! An HTTP GET as probes and hooks send it: one request on a connection of its own, any certificate accepted.

use super::location::Location;
use super::{OUTPUT_MAX, tls};
use crate::pod::probes::Answer;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use nauplius_base::dial::dial;
use nauplius_base::{errno, task, time};
use nauplius_kinds::api::core::{Container, HTTPGetAction, HTTPHeader};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How probes call themselves.
pub const PROBE_AGENT: &str = "kube-probe/1.37";
/// How lifecycle hooks call themselves.
pub const HOOK_AGENT: &str = "kube-lifecycle/1.37";
/// How long one address of a host may take to answer; whoever asks sets a limit to it all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// As many requests does Go's client send at most for one that is redirected.
const REQUESTS_MAX: usize = 10;

/// What is asked beside where.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Headers of the probe's or hook's own.
    pub headers: &'a [HTTPHeader],
    /// Who asks, unless a header says so.
    pub agent: &'a str,
}

impl<'a> Ask<'a> {
    /// What an action asks.
    pub fn of(action: &'a HTTPGetAction, agent: &'a str) -> Self {
        Self { headers: action.http_headers.as_deref().unwrap_or_default(), agent }
    }
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Where else it is, as the server says.
    pub location: Option<String>,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Where Go's client asks next.
    fn redirect(&self) -> Option<&str> {
        let is_redirect = matches!(self.status, 301 | 302 | 303 | 307 | 308);
        self.location.as_deref().filter(|location| is_redirect && !location.is_empty())
    }
}

/// Asks; every answer from 200 to 299 is well, and so is a redirection to another host, which is not followed.
pub async fn probe(container: &Container, action: &HTTPGetAction, ip: &str, limit: Duration) -> Answer {
    let at = match Location::of(container, action, ip) {
        Ok(at) => at,
        Err(error) => return Answer::Unknown(error),
    };
    let asked = at.to_string();
    match time::timeout(limit, follow(at, Ask::of(action, PROBE_AGENT))).await {
        Ok(Ok(Reply { status: 200..=299, .. })) => Answer::Success,
        Ok(Ok(Reply { status: 300..=399, body, .. })) => Answer::Warning(format!(
            "Probe terminated redirects, Response body: {}",
            String::from_utf8_lossy(&body)
        )),
        Ok(Ok(Reply { status, .. })) => {
            Answer::Failure(format!("HTTP probe failed with statuscode: {status}"))
        }
        Ok(Err((url, error))) => Answer::Failure(format!("Get {url:?}: {error}")),
        Err(_) => Answer::Failure(format!(
            "Get {asked:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

/// The answer after all redirections within the host; or where there was none, and why.
async fn follow(first: Location, ask: Ask<'_>) -> Result<Reply, (String, Unanswered)> {
    let mut at = first.clone();
    let mut headers = ask.headers.to_vec();
    let mut sent = 0;
    loop {
        let reply = get(&at, Ask { headers: &headers, ..ask }).await;
        let reply = reply.map_err(|error| (at.to_string(), error))?;
        sent += 1;
        let Some(location) = reply.redirect() else { return Ok(reply) };
        let next = at.join(location).map_err(|error| {
            let what = format!("failed to parse Location header {location:?}: {error}");
            (at.to_string(), Unanswered::Other(what))
        })?;
        if next.host != first.host {
            return Ok(reply);
        }
        if sent == REQUESTS_MAX {
            let what = format!("stopped after {REQUESTS_MAX} redirects");
            return Err((location.to_owned(), Unanswered::Other(what)));
        }
        if !Location::is_relative(location) {
            headers.retain(|header| !header.name.eq_ignore_ascii_case("host"));
        }
        at = next;
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

/// One answer.
///
/// # Errors
/// Why there was none.
pub async fn get(at: &Location, ask: Ask<'_>) -> Result<Reply, Unanswered> {
    let stream = dial(&at.host, at.port, CONNECT_TIMEOUT).await;
    let stream = stream.map_err(|error| Unanswered::Other(error.to_string()))?;
    if !at.tls {
        return exchange(stream, at, ask).await.map_err(Unanswered::Other);
    }
    match tls::connect(stream, &at.host).await {
        Ok(stream) => exchange(stream, at, ask).await.map_err(Unanswered::Other),
        Err(tls::Refused::SpeaksHttp) => Err(Unanswered::WithoutTls),
        Err(tls::Refused::Other(error)) => Err(Unanswered::Other(errno::words(&error))),
    }
}

async fn exchange<T>(stream: T, at: &Location, ask: Ask<'_>) -> Result<Reply, String>
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
    let answer = sender.send_request(request(at, ask)?).await.map_err(said)?;
    let status = answer.status().as_u16();
    let location = answer.headers().get(header::LOCATION);
    let location = location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let (mut rest, mut body) = (answer.into_body(), Vec::new());
    while body.len() < OUTPUT_MAX
        && let Some(Ok(frame)) = rest.frame().await
    {
        body.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    body.truncate(OUTPUT_MAX);
    connection.abort();
    Ok(Reply { status, location, body })
}

fn request(at: &Location, ask: Ask<'_>) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(at.target());
    let named = |name: &str| ask.headers.iter().find(|own| own.name.eq_ignore_ascii_case(name));
    let is_empty_accept = |own: &HTTPHeader| own.name.eq_ignore_ascii_case("accept") && own.value.is_empty();
    let headers =
        ask.headers.iter().filter(|own| !own.name.eq_ignore_ascii_case("host") && !is_empty_accept(own));
    for own in headers {
        request = request.header(own.name.as_str(), own.value.as_str());
    }
    for (name, default) in [(header::USER_AGENT, ask.agent), (header::ACCEPT, "*/*")] {
        if named(name.as_str()).is_none() {
            request = request.header(name, default);
        }
    }
    let host = named("host").map_or_else(|| at.authority(), |own| own.value.clone());
    let request = request.header(header::HOST, host).header(header::CONNECTION, "close");
    request.body(Empty::new()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::api::IntOrString;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers by path: where it leads, and how.
    async fn serve(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let (status, location) = match path.as_str() {
                "/well" if head.to_lowercase().contains("host: own\r\n") => ("200 OK", ""),
                "/well" => ("500 Error", ""),
                "/once" => ("302 Found", "well"),
                "/bad" => ("301 Moved Permanently", "/nowhere"),
                "/away" => ("302 Found", "http://elsewhere.invalid/well"),
                "/round" => ("307 Temporary Redirect", "/round"),
                "/odd" => ("300 Multiple Choices", ""),
                _ => ("404 Not Found", ""),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn redirections_within_a_host_are_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = task::spawn("server", serve(listener));
        let warned = Answer::Warning("Probe terminated redirects, Response body: hi".to_owned());
        let failed = |words: String| Answer::Failure(words);
        let missing = failed("HTTP probe failed with statuscode: 404".to_owned());
        let round = failed("Get \"/round\": stopped after 10 redirects".to_owned());
        for (path, expected) in [
            ("/well", Answer::Success),
            ("/once", Answer::Success),
            ("/bad", missing),
            ("/away", warned.clone()),
            ("/odd", warned),
            ("/round", round),
        ] {
            let own = HTTPHeader { name: "Host".to_owned(), value: "own".to_owned() };
            let action = HTTPGetAction {
                host: Some("localhost".to_owned()),
                path: Some(path.to_owned()),
                port: IntOrString::Int(i32::from(port)),
                http_headers: Some(vec![own]),
                ..HTTPGetAction::default()
            };
            let answer = probe(&Container::default(), &action, "", Duration::from_secs(20)).await;
            assert_eq!(answer, expected, "{path}");
        }
        server.abort();
    }
}
