//! A certificate authority: makes itself, and issues server and client certificates and answers to requests.

use crate::{CertificateRequest, PeerCertificate, PkiError, PrivateKey, PublicKey, der, pem, secret};
use nauplius_base::time::{Timestamp, unix_seconds};
use ring::digest::{SHA256, digest};
use rustls_pki_types::pem::SectionKind;
use std::net::IpAddr;
use std::time::Duration;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long our own authority lives: ten years, as upstream's installer makes it.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a leaf lives unless asked otherwise: one year.
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Certificates begin a little in the past, for peers whose clocks are behind.
pub(crate) const CLOCK_SKEW_SECONDS: i64 = 300;

/// `SEQUENCE { ecdsa-with-SHA256 }`.
pub(crate) const ECDSA_SHA256: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// What a leaf may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usages {
    /// To serve TLS.
    pub server: bool,
    /// To identify a client.
    pub client: bool,
}

/// The certificate that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRequest {
    /// The user name of a client; a label for a server.
    pub common_name: String,
    /// The groups of a client.
    pub organizations: Vec<String>,
    /// The names a server is reached by.
    pub dns_names: Vec<String>,
    /// The addresses a server is reached by.
    pub ip_addresses: Vec<IpAddr>,
    /// What it may be used for.
    pub usages: Usages,
    /// From now on; cut at the authority's own end.
    pub lifetime: Duration,
}

impl LeafRequest {
    /// A server's certificate for one year.
    pub fn server(common_name: impl Into<String>, dns_names: Vec<String>, ip_addresses: Vec<IpAddr>) -> Self {
        Self {
            common_name: common_name.into(),
            organizations: Vec::new(),
            dns_names,
            ip_addresses,
            usages: Usages { server: true, client: false },
            lifetime: LEAF_LIFETIME,
        }
    }

    /// A client's certificate for one year: user `common_name` in groups `organizations`.
    pub fn client(common_name: impl Into<String>, organizations: Vec<String>) -> Self {
        Self {
            common_name: common_name.into(),
            organizations,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            usages: Usages { server: false, client: true },
            lifetime: LEAF_LIFETIME,
        }
    }
}

/// A certificate with its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its PKCS#8 key.
    pub key_pem: String,
}

/// A certificate that signs others, with its key.
#[derive(Debug)]
pub struct Authority {
    certificate: Vec<u8>,
    key: PrivateKey,
    subject: Vec<u8>,
    key_id: Vec<u8>,
    not_before: i64,
    not_after: i64,
}

impl Authority {
    /// A new self-signed authority for ten years; its name, a DNS label, is its alternative name too, as upstream's.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] when the system gives no randomness.
    pub fn create(common_name: &str) -> Result<Self, PkiError> {
        let key = PrivateKey::generate()?;
        let subject = name(common_name, &[]);
        let not_before = unix_seconds() - CLOCK_SKEW_SECONDS;
        let tbs = ToBeSigned {
            issuer: &subject,
            subject: &subject,
            validity: (not_before, after(unix_seconds(), AUTHORITY_LIFETIME)),
            public: key.public().spki(),
            extensions: vec![
                // digitalSignature, keyEncipherment, keyCertSign
                extension(KEY_USAGE, true, &der::bits(2, &[0b1010_0100])),
                extension(BASIC_CONSTRAINTS, true, &der::tlv(der::SEQUENCE, der::TRUE)),
                extension(SUBJECT_KEY_ID, false, &der::octets(&key_id(&key.public().spki()))),
                extension(ALT_NAME, false, &alt_names(&[common_name.to_owned()], &[])?),
            ],
        };
        let certificate = tbs.sign(&key)?;
        Self::new(certificate, key)
    }

    /// Reads an authority's certificate and key.
    ///
    /// # Errors
    /// When either cannot be read, they do not belong together, or the certificate may not sign.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let first = pem::sections(certificate_pem, SectionKind::Certificate).into_iter().next();
        Self::new(first.ok_or(PkiError::NoPem { expected: "CERTIFICATE" })?, PrivateKey::from_pem(key_pem)?)
    }

    fn new(certificate: Vec<u8>, key: PrivateKey) -> Result<Self, PkiError> {
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|_| PkiError::MalformedCertificate)?;
        if !parsed.is_ca() {
            return Err(PkiError::NotAnAuthority);
        }
        if parsed.public_key().raw != key.public().spki() {
            return Err(PkiError::KeyMismatch);
        }
        let own_id = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let subject = parsed.subject().as_raw().to_vec();
        let validity = parsed.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let key_id = own_id.unwrap_or_else(|| key_id(&key.public().spki()));
        Ok(Self { certificate, key, subject, key_id, not_before, not_after })
    }

    /// The authority's certificate: what others trust.
    pub fn certificate_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.certificate)
    }

    /// The authority's certificate.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The authority's key.
    pub fn key_pem(&self) -> String {
        self.key.to_pem()
    }

    /// When the authority ends, in seconds since the epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Makes a key and a certificate for it.
    ///
    /// # Errors
    /// [`PkiError::InvalidDnsName`], or [`PkiError::Crypto`] when the system gives no randomness.
    pub fn issue(&self, wanted: &LeafRequest) -> Result<Issued, PkiError> {
        let key = PrivateKey::generate()?;
        let subject = name(&wanted.common_name, &wanted.organizations);
        let alt_names = (&*wanted.dns_names, &*wanted.ip_addresses);
        let certificate =
            self.sign_leaf(&subject, alt_names, key.public().spki(), wanted.usages, wanted.lifetime)?;
        Ok(Issued { certificate_pem: pem::encode("CERTIFICATE", &certificate), key_pem: key.to_pem() })
    }

    /// Signs what a checked request asks for; the answer is the certificate as PEM. Policy is the caller's.
    ///
    /// # Errors
    /// [`PkiError::InvalidDnsName`], or [`PkiError::Crypto`].
    pub fn sign_request(
        &self,
        request: &CertificateRequest,
        usages: Usages,
        lifetime: Duration,
    ) -> Result<String, PkiError> {
        let alt_names = (&*request.dns_names, &*request.ip_addresses);
        let public = request.public_key_info.clone();
        let certificate = self.sign_leaf(&request.subject, alt_names, public, usages, lifetime)?;
        Ok(pem::encode("CERTIFICATE", &certificate))
    }

    /// Whether this authority signed the certificate.
    pub fn signed(&self, certificate: &[u8]) -> bool {
        let Ok((_, leaf)) = X509Certificate::from_der(certificate) else { return false };
        let Ok((_, own)) = X509Certificate::from_der(&self.certificate) else { return false };
        leaf.issuer().as_raw() == self.subject && leaf.verify_signature(Some(own.public_key())).is_ok()
    }

    fn sign_leaf(
        &self,
        subject: &[u8],
        (dns_names, ip_addresses): (&[String], &[IpAddr]),
        public: Vec<u8>,
        usages: Usages,
        lifetime: Duration,
    ) -> Result<Vec<u8>, PkiError> {
        let now = unix_seconds();
        let not_before = (now - CLOCK_SKEW_SECONDS).max(self.not_before);
        let mut extensions = vec![
            extension(KEY_USAGE, true, &der::bits(5, &[0b1010_0000])), // digitalSignature, keyEncipherment
            extension(EXTENDED_KEY_USAGE, false, &extended_usages(usages)),
            extension(BASIC_CONSTRAINTS, true, &der::tlv(der::SEQUENCE, &[])),
            extension(AUTHORITY_KEY_ID, false, &der::tlv(der::SEQUENCE, &der::implicit(0, &self.key_id))),
        ];
        if !dns_names.is_empty() || !ip_addresses.is_empty() {
            extensions.push(extension(ALT_NAME, false, &alt_names(dns_names, ip_addresses)?));
        }
        let validity = (not_before, after(now, lifetime).min(self.not_after));
        ToBeSigned { issuer: &self.subject, subject, validity, public, extensions }.sign(&self.key)
    }
}

struct ToBeSigned<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    validity: (i64, i64),
    public: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

impl ToBeSigned<'_> {
    fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>, PkiError> {
        let serial = secret::random_bytes::<16>()?;
        let instant = |seconds| Timestamp::from_second(seconds).map_err(|_| PkiError::MalformedCertificate);
        let validity = [der::time(instant(self.validity.0)?), der::time(instant(self.validity.1)?)];
        let body = der::constructed(
            der::SEQUENCE,
            &[
                der::explicit(0, &der::unsigned(&[2])), // version 3
                der::unsigned(&serial),
                ECDSA_SHA256.to_vec(),
                self.issuer.to_vec(),
                der::constructed(der::SEQUENCE, &validity),
                self.subject.to_vec(),
                self.public.clone(),
                der::explicit(3, &der::constructed(der::SEQUENCE, &self.extensions)),
            ],
        );
        let signature = der::bits(0, &key.sign_asn1(&body)?);
        Ok(der::constructed(der::SEQUENCE, &[body, ECDSA_SHA256.to_vec(), signature]))
    }
}

fn after(now: i64, lifetime: Duration) -> i64 {
    now.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))
}

/// A distinguished name: each organization, then the common name.
pub(crate) fn name(common_name: &str, organizations: &[String]) -> Vec<u8> {
    let organizations = organizations.iter().map(|organization| (ORGANIZATION, organization.as_str()));
    let parts: Vec<Vec<u8>> = organizations
        .chain([(COMMON_NAME, common_name)])
        .map(|(kind, value)| {
            let pair = der::constructed(der::SEQUENCE, &[der::oid(kind), der::utf8(value)]);
            der::tlv(der::SET, &pair)
        })
        .collect();
    der::constructed(der::SEQUENCE, &parts)
}

fn extension(kind: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::TRUE.to_vec() } else { Vec::new() };
    der::constructed(der::SEQUENCE, &[der::oid(kind), critical, der::octets(value)])
}

/// The extension that lists alternative names; requests carry it too.
pub(crate) fn alt_name_extension(dns: &[String], addresses: &[IpAddr]) -> Result<Vec<u8>, PkiError> {
    Ok(extension(ALT_NAME, false, &alt_names(dns, addresses)?))
}

fn alt_names(dns_names: &[String], ip_addresses: &[IpAddr]) -> Result<Vec<u8>, PkiError> {
    let mut names = Vec::with_capacity(dns_names.len() + ip_addresses.len());
    for dns in dns_names {
        if dns.is_empty() || !dns.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PkiError::InvalidDnsName(dns.clone()));
        }
        names.push(der::implicit(2, dns.as_bytes()));
    }
    names.extend(ip_addresses.iter().map(|address| match address {
        IpAddr::V4(v4) => der::implicit(7, &v4.octets()),
        IpAddr::V6(v6) => der::implicit(7, &v6.octets()),
    }));
    Ok(der::constructed(der::SEQUENCE, &names))
}

fn extended_usages(usages: Usages) -> Vec<u8> {
    let server = usages.server.then(|| der::oid(SERVER_AUTH));
    let client = usages.client.then(|| der::oid(CLIENT_AUTH));
    der::constructed(der::SEQUENCE, &server.into_iter().chain(client).collect::<Vec<_>>())
}

/// RFC 7093: the leftmost 160 bits of SHA-256 over the key.
fn key_id(spki: &[u8]) -> Vec<u8> {
    let key = PublicKey::from_spki(spki).map_or_else(|_| spki.to_vec(), |key| key.point().to_vec());
    digest(&SHA256, &key).as_ref()[..20].to_vec()
}

impl Issued {
    /// What the certificate says.
    ///
    /// # Errors
    /// [`PkiError::MalformedCertificate`] when it cannot be read.
    pub fn details(&self) -> Result<PeerCertificate, PkiError> {
        PeerCertificate::from_pem(&self.certificate_pem)
    }
}
