//! What a peer's certificate says: names, groups, addresses, validity and fingerprint. Whether it is trusted was decided
//! before (by the TLS library or by [`Authority::signed`](crate::Authority::signed)).

use crate::{PkiError, pem};
use ring::digest::{SHA256, digest};
use rustls_pki_types::pem::SectionKind;
use std::net::IpAddr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// A certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// A client's user name; empty when the certificate has none.
    pub common_name: String,
    /// A client's groups.
    pub organizations: Vec<String>,
    /// Alternative DNS names.
    pub dns_names: Vec<String>,
    /// Alternative addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// Begin, in seconds since the epoch.
    pub not_before: i64,
    /// End, in seconds since the epoch.
    pub not_after: i64,
    /// SHA-256 of the whole certificate in lower-case hex, as `authentication.kubernetes.io/credential-id` shows it.
    pub fingerprint: String,
    pub(crate) public_key_info: Vec<u8>,
}

impl PeerCertificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`PkiError::MalformedCertificate`].
    pub fn from_der(certificate: &[u8]) -> Result<Self, PkiError> {
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| PkiError::MalformedCertificate)?;
        if !rest.is_empty() {
            return Err(PkiError::MalformedCertificate);
        }
        let alternative = parsed.subject_alternative_name().map_err(|_| PkiError::MalformedCertificate)?;
        let (dns_names, ip_addresses) =
            alternative.map_or_else(Default::default, |names| split_names(&names.value.general_names));
        let (common_name, organizations) = split_subject(parsed.subject());
        Ok(Self {
            common_name,
            organizations,
            dns_names,
            ip_addresses,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            fingerprint: hex::encode(digest(&SHA256, certificate)),
            public_key_info: parsed.public_key().raw.to_vec(),
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`PkiError::NoPem`], [`PkiError::MalformedCertificate`].
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let first = pem::sections(text, SectionKind::Certificate).into_iter().next();
        Self::from_der(&first.ok_or(PkiError::NoPem { expected: "CERTIFICATE" })?)
    }
}

/// The last common name (as Go reads it) and every organization.
pub(crate) fn split_subject(subject: &X509Name<'_>) -> (String, Vec<String>) {
    // Values in encodings that are no text are passed over: they can name no Kubernetes user or group.
    let common_names = subject.iter_common_name().filter_map(|value| value.as_str().ok());
    let organizations = subject.iter_organization().filter_map(|value| value.as_str().ok());
    (common_names.last().unwrap_or_default().to_owned(), organizations.map(str::to_owned).collect())
}

pub(crate) fn split_names(names: &[GeneralName<'_>]) -> (Vec<String>, Vec<IpAddr>) {
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        _ => None,
    });
    let addresses = names.iter().filter_map(|name| match name {
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    (dns.collect(), addresses.collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    // Other lengths are no addresses: `ok` turns them into "none".
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
