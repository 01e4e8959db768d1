//! Certificates, keys and tokens: a certificate authority on ECDSA P-256, what a peer's certificate says, files that renew
//! themselves, service account tokens with their discovery documents, and random secrets.
//!
//! This crate never knows who trusts what: users, roles and requests are the API server's business.
//! Certificates are encoded here rather than through `rcgen`, whose distinguished names hold one value of a type: a client
//! in several groups carries several organizations.

mod authority;
mod der;
mod discovery;
mod files;
mod key;
mod peer;
mod pem;
mod request;
mod secret;
mod tls;
mod token;

pub use authority::{Authority, Issued, LeafRequest, Usages};
pub use discovery::{jwks, openid_configuration};
pub use files::{
    CertificateFiles, FileError, RenewalReason, renewal_reason, renewal_time, write_private, write_public,
};
pub use key::{PrivateKey, PublicKey};
pub use peer::PeerCertificate;
pub use request::CertificateRequest;
pub use secret::{constant_time_eq, random_bytes, random_token};
pub use tls::TlsParts;
pub use token::{Bound, Claims, KubernetesClaims, TokenError, TokenSigner, TokenVerifier};

/// What can be wrong with a certificate, key or request that was handed in or asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// The text holds no PEM section of this label.
    #[error("no PEM section {expected} found")]
    NoPem {
        /// The label that was looked for.
        expected: &'static str,
    },
    /// The key is not an ECDSA P-256 key in PKCS#8.
    #[error("the private key is not an ECDSA P-256 key in PKCS#8 form")]
    UnsupportedKey,
    /// The bytes are no X.509 certificate.
    #[error("the certificate cannot be read")]
    MalformedCertificate,
    /// The bytes are no PKCS#10 certificate request, or one with a key we cannot check.
    #[error("the certificate request cannot be read")]
    MalformedRequest,
    /// The request was not signed by the key it carries.
    #[error("the certificate request's signature does not match its key")]
    BadRequestSignature,
    /// The certificate carries another key.
    #[error("the certificate and the private key do not belong together")]
    KeyMismatch,
    /// The certificate may not sign others.
    #[error("the certificate is not a certificate authority")]
    NotAnAuthority,
    /// A DNS name with characters that a certificate cannot carry.
    #[error("{0:?} is not a DNS name")]
    InvalidDnsName(String),
    /// The system gave no randomness, or the signer failed on a good key.
    #[error("the cryptographic library failed")]
    Crypto,
}
