//! The transport across the world: one HTTP/2 connection over TLS, shared by all requests and made anew when it breaks.

use crate::meter::Sent;
use crate::transport::{Body, BoxError, Transport, TransportError};
use futures_core::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Where the server is and who we are there.
pub struct Endpoint {
    /// Numeric: names are resolved by whoever builds this.
    pub address: SocketAddr,
    /// The name that the server's certificate must carry.
    pub server_name: ServerName<'static>,
    /// Trust anchors and, where certificates identify us, our own.
    pub tls: rustls::ClientConfig,
    /// Sent as `Authorization: Bearer` when there is one.
    pub bearer_token: Option<String>,
}

struct Inner {
    address: SocketAddr,
    server_name: ServerName<'static>,
    authority: String,
    bearer: Option<HeaderValue>,
    connector: tokio_rustls::TlsConnector,
    connection: Mutex<Option<SendRequest<Body>>>,
}

/// A [`Transport`] over TLS.
#[derive(Clone)]
pub struct Https(Arc<Inner>);

impl Https {
    /// Prepares the transport; connects with the first request.
    ///
    /// # Errors
    /// When the bearer token cannot stand in a header.
    pub fn new(endpoint: Endpoint) -> Result<Self, TransportError> {
        let mut tls = endpoint.tls;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let bearer = endpoint.bearer_token.map(|token| bearer_header(&token)).transpose()?;
        Ok(Self(Arc::new(Inner {
            address: endpoint.address,
            server_name: endpoint.server_name,
            authority: endpoint.address.to_string(),
            bearer,
            connector: tokio_rustls::TlsConnector::from(Arc::new(tls)),
            connection: Mutex::new(None),
        })))
    }
}

fn bearer_header(token: &str) -> Result<HeaderValue, TransportError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| TransportError::Broken("the bearer token is not a header value".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Inner {
    fn connect_error(&self, reason: impl std::fmt::Display) -> TransportError {
        TransportError::Connect { address: self.authority.clone(), reason: reason.to_string() }
    }

    /// The live connection, or a new one. The lock is held while connecting, on purpose: a hundred callers share one dial.
    async fn sender(&self) -> Result<SendRequest<Body>, TransportError> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = connection.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let dial = nauplius_base::time::timeout(CONNECT_TIMEOUT, self.dial());
        let sender = dial.await.map_err(|_| self.connect_error("timed out"))??;
        *connection = Some(sender.clone());
        Ok(sender)
    }

    async fn dial(&self) -> Result<SendRequest<Body>, TransportError> {
        let tcp = TcpStream::connect(self.address).await.map_err(|error| self.connect_error(error))?;
        tcp.set_nodelay(true).map_err(|error| self.connect_error(error))?;
        let tls = self.connector.connect(self.server_name.clone(), tcp).await;
        let tls = tls.map_err(|error| self.connect_error(error))?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|error| self.connect_error(error))?;
        nauplius_base::task::spawn("https-connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the API server ended");
            }
        });
        Ok(sender)
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let mut sender = self.sender().await?;
        let response = match send(&mut sender, request).await {
            Ok(response) => response,
            // A server ends idle connections when it likes, also while we begin: nothing was sent, so nothing is done twice.
            Err(Unsent::Whole(request)) => {
                let again = self.sender().await?.send_request(*request).await;
                again.map_err(|error| TransportError::Broken(describe(&error)))?
            }
            Err(Unsent::Broken(error)) => return Err(error),
        };
        Ok(response.map(|body| body.map_err(|error| Box::new(error) as BoxError).boxed_unsync()))
    }

    fn prepare(&self, request: &mut Request<Body>) -> Result<(), TransportError> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = format!("https://{}{path}", self.authority);
        *request.uri_mut() = uri.parse::<Uri>().map_err(|error| TransportError::Broken(error.to_string()))?;
        if let Some(bearer) = &self.bearer {
            request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
        }
        Ok(())
    }
}

/// Why there is no answer.
enum Unsent {
    /// The connection had ended before it took the request.
    Whole(Box<Request<Body>>),
    /// The request may have arrived.
    Broken(TransportError),
}

async fn send(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> Result<Response<hyper::body::Incoming>, Unsent> {
    sender.try_send_request(request).await.map_err(|mut failed| match failed.take_message() {
        Some(request) => Unsent::Whole(Box::new(request)),
        None => Unsent::Broken(TransportError::Broken(describe(failed.error()))),
    })
}

impl Transport for Https {
    fn call(&self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.prepare(&mut request)?;
            let sent = Sent::now(&request);
            let outcome = inner.exchange(request).await;
            sent.answered(&inner.authority, &outcome);
            outcome
        })
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", describe(source)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_a_closed_connection_did_not_take_comes_back_whole() {
        let (near, _far) = tokio::io::duplex(4096);
        let handshake =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(near));
        let (mut sender, connection) = handshake.await.expect("a handshake waits for nothing");
        drop(connection);
        let body = http_body_util::Full::new(bytes::Bytes::from_static(b"{}"));
        let request =
            Request::post("https://server/api").body(body.map_err(|never| match never {}).boxed_unsync());
        let sent = send(&mut sender, request.expect("a request")).await;
        assert!(matches!(sent, Err(Unsent::Whole(request)) if request.uri().path() == "/api"));
        assert!(sender.is_closed(), "so that the next one is dialled");
    }
}
