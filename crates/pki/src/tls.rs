//! Certificate chain and key in the types that rustls takes, for servers and clients alike. No runtime, no sockets.

use crate::{PkiError, pem};
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What `with_single_cert` and `with_client_auth_cert` want.
#[derive(Debug)]
pub struct TlsParts {
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl TlsParts {
    /// Reads a chain and its PKCS#8 key.
    ///
    /// # Errors
    /// [`PkiError::NoPem`] when a section is missing.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = pem::sections(key_pem, SectionKind::PrivateKey).into_iter().next();
        let key = key.ok_or(PkiError::NoPem { expected: "PRIVATE KEY" })?;
        Ok(Self { chain: Self::certificates(certificate_pem)?, key: PrivatePkcs8KeyDer::from(key).into() })
    }

    /// Every certificate of a bundle, for a root store.
    ///
    /// # Errors
    /// [`PkiError::NoPem`] when there is none.
    pub fn certificates(bundle_pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let sections = pem::sections(bundle_pem, SectionKind::Certificate);
        if sections.is_empty() {
            return Err(PkiError::NoPem { expected: "CERTIFICATE" });
        }
        Ok(sections.into_iter().map(CertificateDer::from).collect())
    }
}
