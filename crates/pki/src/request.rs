//! Certificate requests (PKCS#10): made by who wants a certificate, read and checked by who may sign one.

use crate::authority::{ECDSA_SHA256, alt_name_extension, name};
use crate::peer::{split_names, split_subject};
use crate::{PkiError, PrivateKey, der, pem};
use rustls_pki_types::pem::SectionKind;
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

/// The attribute that asks for extensions.
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// A request whose signature was checked against the key it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The user name asked for.
    pub common_name: String,
    /// The groups asked for.
    pub organizations: Vec<String>,
    /// The DNS names asked for.
    pub dns_names: Vec<String>,
    /// The addresses asked for.
    pub ip_addresses: Vec<IpAddr>,
    /// Mail addresses and URIs are asked for too, which no Kubernetes signer allows.
    pub other_names: bool,
    pub(crate) subject: Vec<u8>,
    pub(crate) public_key_info: Vec<u8>,
}

impl CertificateRequest {
    /// Reads the first `CERTIFICATE REQUEST` section and checks its signature.
    ///
    /// # Errors
    /// [`PkiError::NoPem`], [`PkiError::MalformedRequest`], [`PkiError::BadRequestSignature`].
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let first = pem::sections(text, SectionKind::Csr).into_iter().next();
        let der = first.ok_or(PkiError::NoPem { expected: "CERTIFICATE REQUEST" })?;
        let (rest, parsed) =
            X509CertificationRequest::from_der(&der).map_err(|_| PkiError::MalformedRequest)?;
        if !rest.is_empty() {
            return Err(PkiError::MalformedRequest);
        }
        parsed.verify_signature().map_err(|_| PkiError::BadRequestSignature)?;
        Ok(Self::read(&parsed))
    }

    fn read(parsed: &X509CertificationRequest<'_>) -> Self {
        let info = &parsed.certification_request_info;
        let (common_name, organizations) = split_subject(&info.subject);
        let names =
            parsed.requested_extensions().into_iter().flatten().find_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            });
        let (dns_names, ip_addresses) = names.map_or_else(Default::default, |names| split_names(names));
        let named = names.map_or(0, Vec::len);
        Self {
            common_name,
            organizations,
            other_names: named != dns_names.len() + ip_addresses.len(),
            dns_names,
            ip_addresses,
            subject: info.subject.as_raw().to_vec(),
            public_key_info: info.subject_pki.raw.to_vec(),
        }
    }

    /// Makes a request as PEM.
    ///
    /// # Errors
    /// [`PkiError::InvalidDnsName`], or [`PkiError::Crypto`].
    pub fn create(
        key: &PrivateKey,
        common_name: &str,
        organizations: &[String],
        dns_names: &[String],
        ip_addresses: &[IpAddr],
    ) -> Result<String, PkiError> {
        let attributes = if dns_names.is_empty() && ip_addresses.is_empty() {
            Vec::new()
        } else {
            let extensions = der::tlv(der::SEQUENCE, &alt_name_extension(dns_names, ip_addresses)?);
            let values = der::tlv(der::SET, &extensions);
            der::constructed(der::SEQUENCE, &[der::oid(EXTENSION_REQUEST), values])
        };
        let body = der::constructed(
            der::SEQUENCE,
            &[
                der::unsigned(&[0]),
                name(common_name, organizations),
                key.public().spki(),
                der::explicit(0, &attributes),
            ],
        );
        let signature = der::bits(0, &key.sign_asn1(&body)?);
        let request = der::constructed(der::SEQUENCE, &[body, ECDSA_SHA256.to_vec(), signature]);
        Ok(pem::encode("CERTIFICATE REQUEST", &request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_back_and_a_changed_one_refused() {
        let key = PrivateKey::generate().unwrap();
        let groups = ["a".to_owned(), "b".to_owned()];
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let text = CertificateRequest::create(&key, "system:node:n", &groups, &["n".to_owned()], &[address])
            .unwrap();
        let request = CertificateRequest::from_pem(&text).unwrap();
        assert_eq!(
            (request.common_name.as_str(), &request.organizations[..]),
            ("system:node:n", &groups[..])
        );
        assert_eq!(
            (&request.dns_names[..], &request.ip_addresses[..]),
            (&["n".to_owned()][..], &[address][..])
        );
        assert!(!request.other_names);

        let mut der = pem::sections(&text, SectionKind::Csr).remove(0);
        let at = der.windows(13).position(|bytes| bytes == b"system:node:n").unwrap();
        der[at] = b'S';
        let changed = CertificateRequest::from_pem(&pem::encode("CERTIFICATE REQUEST", &der));
        assert_eq!(changed.unwrap_err(), PkiError::BadRequestSignature);
    }
}
