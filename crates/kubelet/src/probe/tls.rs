//! TLS to a container that is asked how it is: any certificate will do, as upstream's probes accept.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::io::InspectReader;

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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Why there is no TLS.
pub enum Refused {
    /// What came back is the beginning of an answer in plain HTTP.
    SpeaksHttp,
    /// Anything else.
    Other(io::Error),
}

/// As Go tells an answer in plain HTTP from a broken one: by what stands where a record's header should.
const HTTP: &[u8] = b"HTTP/";

/// Speaks TLS over a connection to `host`, a name or an address.
///
/// # Errors
/// Why the peer does not.
pub async fn connect(
    stream: TcpStream,
    host: &str,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Refused> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Refused::Other(io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    // How the peer began.
    let begin = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&begin);
    let stream = InspectReader::new(stream, move |bytes: &[u8]| {
        let mut begin = lock(&noted);
        let missing = HTTP.len().saturating_sub(begin.len());
        begin.extend(bytes.iter().take(missing));
    });
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| Refused::Other(io::Error::other(error)))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| match lock(&begin).as_slice() {
        HTTP => Refused::SpeaksHttp,
        _ => Refused::Other(error),
    })
}

fn lock(begin: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    begin.lock().unwrap_or_else(PoisonError::into_inner)
}
