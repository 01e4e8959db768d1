//! The call itself: a connection of its own, TLS against the configured authorities, and a bounded answer in bounded time.

use super::place::Place;
use crate::cache::Caches;
use crate::proxy::Dial;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use nauplius_base::errno;
use nauplius_base::task::spawn;
use nauplius_base::time::timeout;
use nauplius_meta::error::{ApiError, generic_server_response};
use nauplius_meta::field::quote;
use nauplius_meta::gvk::GroupResource;
use nauplius_pki::TlsParts;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes of a refusal that are told.
const MAX_TOLD: usize = 2_048;

/// A call that came to nothing, in the words of Go's clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CallError(pub String);

/// A webhook that can be called.
pub(crate) struct Webhook {
    place: Place,
    tls: Arc<ClientConfig>,
    caches: Arc<Caches>,
    dialer: Arc<dyn Dial>,
    timeout: Duration,
}

impl Webhook {
    /// Reads a client configuration: `url` or `service`, and `caBundle`.
    pub(crate) fn of(
        config: &Value,
        caches: &Arc<Caches>,
        dialer: &Arc<dyn Dial>,
        timeout: Duration,
    ) -> Result<Self, CallError> {
        let bundle = config["caBundle"].as_str().unwrap_or_default();
        let place = Place::of(config).map_err(CallError)?;
        let tls = Arc::new(trusting(bundle)?);
        Ok(Self { place, tls, caches: Arc::clone(caches), dialer: Arc::clone(dialer), timeout })
    }

    /// Posts a document and reads the one that is answered.
    pub(crate) async fn call(&self, document: &Value) -> Result<Value, CallError> {
        let query = format!("timeout={}s", self.timeout.as_secs());
        let url = self.place.url(&query);
        let failed = |reason: String| CallError(format!("Post {}: {reason}", quote(&url)));
        let answered = timeout(self.timeout, self.exchange(document, &query)).await;
        let (status, body) =
            answered.map_err(|_| failed("context deadline exceeded".to_owned()))?.map_err(failed)?;
        if !status.is_success() {
            return Err(CallError(refusal(status.as_u16(), &body)));
        }
        serde_json::from_slice(&body).map_err(|error| CallError(format!("unexpected answer: {error}")))
    }

    async fn exchange(&self, document: &Value, query: &str) -> Result<(http::StatusCode, Bytes), String> {
        let stream = self.connect().await?;
        let io_failed = |error: hyper::Error| error.to_string();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io_failed)?;
        spawn("webhook connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a webhook ended");
            }
        });
        let Place { host, port, path, .. } = &self.place;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{path}?{query}"))
            .header(HOST, format!("{host}:{port}"))
            .header(USER_AGENT, concat!("nauplius/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .body(Full::new(Bytes::from(document.to_string())))
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(io_failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        body.map(|body| (status, body.to_bytes())).map_err(|error| error.to_string())
    }

    /// The first address that takes a connection.
    async fn connect(&self) -> Result<TlsStream<TcpStream>, String> {
        let mut last = "no address".to_owned();
        for address in self.place.addresses(&self.caches).await? {
            match self.dialer.dial(address).await {
                Ok(stream) => return self.secure(stream).await,
                Err(error) => last = dialed(address, &error),
            }
        }
        Err(last)
    }

    async fn secure(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(self.place.server_name().to_owned())
            .map_err(|error| format!("tls: {error}"))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(name, stream).await.map_err(|error| secured(&error))
    }
}

fn dialed(address: SocketAddr, error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => format!("connect: {}", errno::words(error)),
        _ if error.raw_os_error().is_some() => format!("connect: {}", errno::words(error)),
        _ => errno::words(error),
    };
    format!("dial tcp {address}: {reason}")
}

fn secured(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(reason)) => {
            format!("tls: failed to verify certificate: x509: {reason}")
        }
        _ => format!("tls: {}", errno::words(error)),
    }
}

/// What upstream's REST client makes of an answer that is none.
fn refusal(code: u16, body: &[u8]) -> String {
    let told = String::from_utf8_lossy(&body[..body.len().min(MAX_TOLD)]);
    let status = generic_server_response(code, "post", &GroupResource::default(), "", told.trim(), 0, true);
    ApiError::from(status).to_string()
}

/// TLS that trusts the bundle, or the authorities that browsers trust when there is none.
fn trusting(bundle: &str) -> Result<ClientConfig, CallError> {
    let mut roots = RootCertStore::empty();
    if bundle.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    } else {
        let unusable =
            || CallError("unable to load root certificates: unable to parse bytes as PEM block".to_owned());
        let pem = STANDARD.decode(bundle).map_err(|_| unusable())?;
        let pem = String::from_utf8(pem).map_err(|_| unusable())?;
        for certificate in TlsParts::certificates(&pem).map_err(|_| unusable())? {
            roots.add(certificate).map_err(|_| unusable())?;
        }
        if roots.is_empty() {
            return Err(unusable());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CallError(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
