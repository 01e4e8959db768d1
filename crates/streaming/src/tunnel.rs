//! Passing an upgraded connection on: the request goes to a backend over a given transport, its answer comes back, and from
//! then on bytes are copied both ways. What protocol they speak is unknown here.

use crate::{ConnectError, connect};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// How much is copied at once, in each direction.
const COPY_BYTES: usize = 8 * 1024;
/// When one direction has ended, how long the other may be silent.
const HALF_OPEN_SILENCE: Duration = Duration::from_secs(60);
/// Headers that belong to one connection and are never passed on.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Copies both ways until both have ended. The end of one direction is passed on while the other goes on; then it may be
/// silent for a minute at most. Returns the bytes copied from `a` to `b` and from `b` to `a`.
///
/// # Errors
/// The first failure of either transport ends both directions.
pub async fn splice<A, B>(a: A, b: B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (read_a, write_a) = tokio::io::split(a);
    let (read_b, write_b) = tokio::io::split(b);
    let ended = CancellationToken::new();
    tokio::try_join!(pump(read_a, write_b, &ended), pump(read_b, write_a, &ended))
}

async fn pump<R, W>(mut from: R, mut to: W, ended: &CancellationToken) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; COPY_BYTES];
    let mut copied = 0;
    loop {
        let length = tokio::select! {
            length = from.read(&mut buffer) => length?,
            () = silence_after(ended) => 0,
        };
        if length == 0 {
            break;
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        copied += length as u64;
    }
    ended.cancel();
    to.shutdown().await?;
    Ok(copied)
}

async fn silence_after(ended: &CancellationToken) {
    ended.cancelled().await;
    nauplius_base::time::sleep(HALF_OPEN_SILENCE).await;
}

/// The copying of a forwarded connection, to be run by who owns it. It ends when the connection does.
pub type Splice = Pin<Box<dyn Future<Output = io::Result<(u64, u64)>> + Send>>;

/// What a backend answered.
pub struct Forwarded {
    /// To be sent to the client as it is.
    pub response: Response<Incoming>,
    /// To be run when the backend upgraded; it waits for the client's own upgrade first.
    pub splice: Option<Splice>,
}

/// Sends an upgrade request on to a backend over `backend`, with `uri` as its path and query, `host` as its host, and `extra`
/// headers set. The client's other headers go along, so the caller removes credentials that are not for the backend.
///
/// # Errors
/// [`ConnectError::NotAnUpgrade`] when the client asked for none, and when the backend cannot be asked.
pub async fn forward_upgrade<B, T>(
    request: &mut Request<B>,
    backend: T,
    uri: Uri,
    host: &str,
    extra: &HeaderMap,
) -> Result<Forwarded, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let upgrade = upgrade.filter(|_| crate::is_upgrade_request(request.headers()));
    let upgrade = upgrade.ok_or(ConnectError::NotAnUpgrade)?;
    let mut passed = Request::builder().method(request.method()).uri(uri).body(Empty::<Bytes>::new())?;
    *passed.headers_mut() = end_to_end(request.headers());
    let headers = passed.headers_mut();
    headers.remove(header::CONTENT_LENGTH); // An upgrade has no body.
    for (name, value) in extra {
        headers.insert(name, value.clone());
    }
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(http::Error::from)?);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, upgrade);

    let mut response = connect::send(backend, passed).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        *response.headers_mut() = end_to_end(response.headers());
        return Ok(Forwarded { response, splice: None });
    }
    let client = hyper::upgrade::on(request);
    let backend = hyper::upgrade::on(&mut response);
    let splice: Splice = Box::pin(async move {
        let (client, backend) = tokio::try_join!(client, backend).map_err(io::Error::other)?;
        splice(TokioIo::new(client), TokioIo::new(backend)).await
    });
    Ok(Forwarded { response, splice: Some(splice) })
}

/// All headers but those of the hop, which `Connection` may name more of.
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut passed = headers.clone();
    for word in crate::upgrade::words(headers, &header::CONNECTION) {
        passed.remove(word);
    }
    for name in HOP_BY_HOP {
        passed.remove(name);
    }
    passed.remove("keep-alive");
    passed.remove("proxy-connection");
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_one_direction_is_passed_on() {
        let (mut client, near) = tokio::io::duplex(64);
        let (far, mut server) = tokio::io::duplex(64);
        let splice = nauplius_base::task::spawn("splice", splice(near, far));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = String::new();
        server.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "question");
        let mut answer = Vec::new();
        let reply = async move { server.write_all(&[b'x'; 100_000]).await.unwrap() };
        let (read, ()) = tokio::join!(client.read_to_end(&mut answer), reply);
        assert_eq!(read.unwrap(), 100_000);
        let (up, _) = splice.await.unwrap().unwrap();
        assert_eq!(up, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_open_tunnel_ends_in_silence() {
        let (client, near) = tokio::io::duplex(64);
        let (far, server) = tokio::io::duplex(64);
        let splice = nauplius_base::task::spawn("splice", splice(near, far));
        drop(client);
        let before = nauplius_base::time::monotonic();
        assert_eq!(splice.await.unwrap().unwrap(), (0, 0));
        assert!(before.elapsed() >= HALF_OPEN_SILENCE);
        drop(server);
    }

    #[test]
    fn headers_of_the_hop_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade, x-mine"),
            ("upgrade", "websocket"),
            ("x-mine", "1"),
            ("sec-websocket-key", "k"),
            ("keep-alive", "5"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let passed = end_to_end(&headers);
        assert_eq!(passed.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["sec-websocket-key"]);
    }
}
