//! Connections to the backends of proxied requests: a seam, so that tests may lead any address to a server of theirs. TLS to pods and
//! services verifies nothing, as upstream's does, for nobody says which authority signs their certificates.

use futures_util::future::BoxFuture;
use nauplius_base::errno;
use nauplius_base::time::timeout;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a connection may take; upstream's.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a handshake may take; upstream's.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes connections to pods, endpoints and nodes.
pub trait Dial: Send + Sync + 'static {
    /// Connects.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// Over the machine's own network.
pub struct Direct;

impl Dial for Direct {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}

/// What flows both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}
/// A connection, with or without TLS.
pub(super) type Connection = Pin<Box<dyn Io>>;

/// Why there is no connection, as Go's clients say it.
#[derive(Debug, thiserror::Error)]
#[error("dial tcp {address}: {reason}")]
pub(super) struct NotConnected {
    address: SocketAddr,
    reason: String,
}

/// Connects, with TLS if wanted.
pub(super) async fn connect(
    dialer: &dyn Dial,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Connection, NotConnected> {
    let failed = |reason: String| NotConnected { address, reason };
    let late = |_| failed("i/o timeout".to_owned());
    let stream = timeout(DIAL_TIMEOUT, dialer.dial(address)).await.map_err(late)?;
    let stream = stream.map_err(|error| failed(in_words(&error)))?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no delay could not be set");
    }
    let Some(tls) = tls else { return Ok(Box::pin(stream)) };
    let handshake = TlsConnector::from(tls).connect(ServerName::IpAddress(address.ip().into()), stream);
    let secured = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(late)?;
    Ok(Box::pin(secured.map_err(|error| failed(format!("tls: {}", errno::words(&error))))?))
}

pub(super) fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => format!("connect: {}", errno::words(error)),
        _ if error.raw_os_error().is_some() => format!("connect: {}", errno::words(error)),
        _ => errno::words(error),
    }
}

/// TLS that takes any certificate.
pub(super) fn unverified() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Arc::new(config)
}

/// The same settings, but any certificate will do.
pub(super) fn believing(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    let any = AnyCertificate(Arc::clone(config.crypto_provider()));
    config.dangerous().set_certificate_verifier(Arc::new(any));
    config
}

/// Asks only that the backend has the key of its certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
