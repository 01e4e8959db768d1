//! ECDSA P-256 keys: made, read, written, and used for the two signature forms that X.509 and JWS want.

use crate::{PkiError, der, pem};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _,
};
use rustls_pki_types::pem::SectionKind;

/// id-ecPublicKey with prime256v1, complete.
const P256_ALGORITHM: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];
/// An uncompressed point: 0x04, then both coordinates.
const POINT_BYTES: usize = 65;

/// A private key with its public half.
pub struct PrivateKey {
    pkcs8: Vec<u8>,
    public: PublicKey,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PrivateKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] when the system gives no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| PkiError::Crypto)?;
        Self::from_pkcs8(document.as_ref().to_vec())
    }

    /// Reads the first `PRIVATE KEY` section.
    ///
    /// # Errors
    /// [`PkiError::NoPem`] without such a section, [`PkiError::UnsupportedKey`] for other keys than P-256.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let first = pem::sections(text, SectionKind::PrivateKey).into_iter().next();
        Self::from_pkcs8(first.ok_or(PkiError::NoPem { expected: "PRIVATE KEY" })?)
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, PkiError> {
        let pair = key_pair(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8)?;
        let point = <[u8; POINT_BYTES]>::try_from(pair.public_key().as_ref())
            .map_err(|_| PkiError::UnsupportedKey)?;
        Ok(Self { pkcs8, public: PublicKey { point } })
    }

    /// The PKCS#8 form as PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// The PKCS#8 form.
    pub fn to_pkcs8(&self) -> Vec<u8> {
        self.pkcs8.clone()
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// An ECDSA signature over SHA-256 in ASN.1, as X.509 wants it.
    pub(crate) fn sign_asn1(&self, message: &[u8]) -> Result<Vec<u8>, PkiError> {
        self.sign(&ECDSA_P256_SHA256_ASN1_SIGNING, message)
    }

    /// An ECDSA signature over SHA-256 as two fixed numbers, as JWS wants it.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, PkiError> {
        self.sign(&ECDSA_P256_SHA256_FIXED_SIGNING, message)
    }

    fn sign(&self, algorithm: &'static EcdsaSigningAlgorithm, message: &[u8]) -> Result<Vec<u8>, PkiError> {
        let signature = key_pair(algorithm, &self.pkcs8)?.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| PkiError::Crypto)?.as_ref().to_vec())
    }
}

fn key_pair(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8]) -> Result<EcdsaKeyPair, PkiError> {
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).map_err(|_| PkiError::UnsupportedKey)
}

/// A P-256 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    point: [u8; POINT_BYTES],
}

impl PublicKey {
    /// Reads the first `PUBLIC KEY` section.
    ///
    /// # Errors
    /// [`PkiError::NoPem`] without such a section, [`PkiError::UnsupportedKey`] for other keys than P-256.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let first = pem::sections(text, SectionKind::PublicKey).into_iter().next();
        Self::from_spki(&first.ok_or(PkiError::NoPem { expected: "PUBLIC KEY" })?)
    }

    /// Reads a SubjectPublicKeyInfo.
    pub(crate) fn from_spki(spki: &[u8]) -> Result<Self, PkiError> {
        let split = spki.len().checked_sub(POINT_BYTES).ok_or(PkiError::UnsupportedKey)?;
        let point = <[u8; POINT_BYTES]>::try_from(&spki[split..]).map_err(|_| PkiError::UnsupportedKey)?;
        let key = Self { point };
        if key.spki() == spki { Ok(key) } else { Err(PkiError::UnsupportedKey) }
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        der::constructed(der::SEQUENCE, &[P256_ALGORITHM.to_vec(), der::bits(0, &self.point)])
    }

    /// The SubjectPublicKeyInfo as PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.spki())
    }

    pub(crate) fn point(&self) -> &[u8] {
        &self.point
    }

    /// Both coordinates, as a JSON Web Key carries them.
    pub(crate) fn coordinates(&self) -> (&[u8], &[u8]) {
        self.point[1..].split_at(32)
    }

    /// Upstream's key id: the unpadded URL base64 of SHA-256 over the SubjectPublicKeyInfo.
    pub fn key_id(&self) -> String {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.spki()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_pem() {
        let key = PrivateKey::generate().unwrap();
        let again = PrivateKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public(), again.public());
        assert_eq!(PublicKey::from_pem(&key.public().to_pem()).unwrap(), *key.public());
        assert_eq!(key.public().key_id().len(), 43);
    }

    #[test]
    fn strange_keys_are_refused() {
        assert_eq!(PrivateKey::from_pem("nothing").unwrap_err(), PkiError::NoPem { expected: "PRIVATE KEY" });
        let other = pem::encode("PRIVATE KEY", b"not a key");
        assert_eq!(PrivateKey::from_pem(&other).unwrap_err(), PkiError::UnsupportedKey);
        assert_eq!(PublicKey::from_spki(&[1; 91]).unwrap_err(), PkiError::UnsupportedKey);
    }
}
