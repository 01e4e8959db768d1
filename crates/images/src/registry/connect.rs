//! Connections: name to address, TCP, TLS, HTTP/1.1. Knows no registry.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use nauplius_base::{dial, errno, task, time};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Unreachable(String),
    /// Someone is there and does not speak TLS.
    #[error("{0}")]
    NotTls(String),
}

/// A connection that carries one request.
pub(super) async fn connect(
    uri: &Uri,
    tls: Option<Arc<ClientConfig>>,
) -> Result<SendRequest<Full<Bytes>>, ConnectError> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream = dial(host, port).await?;
    let Some(config) = tls else { return speak(stream).await };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
    let shaken = time::timeout(TLS_TIMEOUT, TlsConnector::from(config).connect(name, stream)).await;
    let stream = shaken
        .map_err(|_| ConnectError::Unreachable("TLS handshake timeout".to_owned()))?
        .map_err(|error| tls_error(&error))?;
    speak(stream).await
}

/// A certificate that does not convince is the answer of someone who speaks TLS; anything else is not.
fn tls_error(error: &std::io::Error) -> ConnectError {
    let reason = format!("tls: {}", errno::words(error));
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        None | Some(rustls::Error::InvalidMessage(_)) => ConnectError::NotTls(reason),
        Some(_) => ConnectError::Unreachable(reason),
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let dialled = dial::dial(host, port, CONNECT_TIMEOUT).await;
    dialled.map_err(|error| ConnectError::Unreachable(error.to_string()))
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Full<Bytes>>, ConnectError> {
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ConnectError::Unreachable(with_causes(&error)))?;
    task::spawn("registry connection", async move {
        // Whoever reads the body learns of a broken connection there.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a registry connection ended");
        }
    });
    Ok(sender)
}

/// Whether a host, with or without a port, is this machine.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Trusts the public roots and, for a host that has one, its own authority.
pub(super) fn client_config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = ca_pem {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|error| format!("invalid certificate authority: {error}"))?;
            roots.add(certificate).map_err(|error| format!("invalid certificate authority: {error}"))?;
        }
        if roots.len() == before {
            return Err("invalid certificate authority: no certificate in it".to_owned());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// hyper's own words say little; its causes say what happened.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_name_and_number() {
        for (authority, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("10.0.0.1:5000", false),
            ("localhost.io", false),
        ] {
            assert_eq!(is_loopback(authority), expected, "{authority}");
        }
    }
}
