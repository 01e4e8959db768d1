//! Service account tokens: JWS in compact form, ES256. Which account exists, and which object a token is bound to is still
//! there, is checked by who knows objects; here are signature, issuer and times.

use crate::{PkiError, PrivateKey, PublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// Longer texts are no tokens of ours.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far clocks may differ; the same leeway as upstream's library gives.
const LEEWAY_SECONDS: i64 = 60;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64 with a JSON header and JSON claims.
    #[error("the token is malformed")]
    Malformed,
    /// Not ES256, or a critical header we do not know.
    #[error("the token's signature algorithm is not supported")]
    UnsupportedAlgorithm,
    /// Its issuer is not ours: another authenticator may know it.
    #[error("the token has another issuer")]
    OtherIssuer,
    /// None of our keys made its signature.
    #[error("invalid signature")]
    BadSignature,
    /// Its time is over.
    #[error("service account token has expired")]
    Expired,
    /// Its time has not come.
    #[error("service account token is not valid yet")]
    NotYetValid,
}

/// An object that a token names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The private claim `kubernetes.io`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaims {
    /// The account's namespace.
    #[serde(default)]
    pub namespace: String,
    /// The node of the pod, or the node it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Bound>,
    /// The pod it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Bound>,
    /// The secret it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Bound>,
    /// The account.
    pub serviceaccount: Bound,
    /// When use of an extended token is to be warned about, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom it is meant.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// End, in seconds since the epoch.
    pub exp: i64,
    /// Issue time.
    pub iat: i64,
    /// Who made it.
    pub iss: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// The account and what the token is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaims,
    /// Begin.
    #[serde(default)]
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub sub: String,
}

impl Claims {
    /// Those of `accepted` that the token is meant for; empty when it is for somebody else.
    pub fn accepted_audiences(&self, accepted: &[String]) -> Vec<String> {
        accepted.iter().filter(|audience| self.aud.contains(audience)).cloned().collect()
    }

    fn check_times(&self, now: i64) -> Result<(), TokenError> {
        if now > self.exp.saturating_add(LEEWAY_SECONDS) {
            return Err(TokenError::Expired);
        }
        let begun = now >= self.nbf.max(self.iat).saturating_sub(LEEWAY_SECONDS);
        if begun { Ok(()) } else { Err(TokenError::NotYetValid) }
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<Vec<String>>,
}

/// Makes tokens.
#[derive(Debug)]
pub struct TokenSigner {
    key: PrivateKey,
    header: String,
}

impl TokenSigner {
    /// Signs with this key, under its key id.
    pub fn new(key: PrivateKey) -> Self {
        let header = Header { alg: "ES256".to_owned(), kid: key.public().key_id(), crit: None };
        Self { header: encode_json(&header), key }
    }

    /// The key that checks what this signer makes.
    pub fn public(&self) -> &PublicKey {
        self.key.public()
    }

    /// The compact token.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] when the system gives no randomness.
    pub fn sign(&self, claims: &Claims) -> Result<String, PkiError> {
        let message = format!("{}.{}", self.header, encode_json(claims));
        let signature = self.key.sign_fixed(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn encode_json(value: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).expect("strings, numbers and lists are always JSON"))
}

/// Checks tokens.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    keys: Vec<(String, PublicKey)>,
    issuers: Vec<String>,
}

impl TokenVerifier {
    /// Believes these keys (the current one and former ones) and these issuers.
    pub fn new(keys: Vec<PublicKey>, issuers: Vec<String>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.key_id(), key)).collect(), issuers }
    }

    /// The claims of a good token at `now` (seconds since the epoch). The caller checks audience, account and bound objects.
    ///
    /// # Errors
    /// [`TokenError`] says why the token is refused.
    pub fn verify(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let parts = Parts::split(token)?;
        // Asked before the signature, as upstream does: tokens of other issuers belong to other authenticators.
        let issuer: IssuerOnly = decode_json(parts.claims)?;
        if !self.issuers.contains(&issuer.iss) {
            return Err(TokenError::OtherIssuer);
        }
        let header: Header = decode_json(parts.header)?;
        if header.alg != "ES256" || header.crit.is_some() {
            return Err(TokenError::UnsupportedAlgorithm);
        }
        let signature = decode(parts.signature)?;
        if !self.signed_by_ours(&header.kid, parts.signed, &signature) {
            return Err(TokenError::BadSignature);
        }
        let claims: Claims = decode_json(parts.claims)?;
        claims.check_times(now)?;
        Ok(claims)
    }

    fn signed_by_ours(&self, kid: &str, message: &str, signature: &[u8]) -> bool {
        let named = self.keys.iter().any(|(id, _)| id == kid);
        self.keys.iter().filter(|(id, _)| !named || id == kid).any(|(_, key)| {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point());
            key.verify(message.as_bytes(), signature).is_ok()
        })
    }
}

#[derive(Deserialize)]
struct IssuerOnly {
    #[serde(default)]
    iss: String,
}

struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        Ok(Self { header, claims, signature, signed })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn decode_json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    serde_json::from_slice(&decode(part)?).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

    fn claims() -> Claims {
        Claims {
            aud: vec![ISSUER.to_owned(), "vault".to_owned()],
            exp: 5000,
            iat: 1000,
            iss: ISSUER.to_owned(),
            jti: "j".to_owned(),
            kubernetes: KubernetesClaims {
                namespace: "default".to_owned(),
                node: None,
                pod: Some(Bound { name: "p".to_owned(), uid: "u1".to_owned() }),
                secret: None,
                serviceaccount: Bound { name: "builder".to_owned(), uid: "u2".to_owned() },
                warnafter: Some(4607),
            },
            nbf: 1000,
            sub: "system:serviceaccount:default:builder".to_owned(),
        }
    }

    fn signer() -> (TokenSigner, TokenVerifier) {
        let signer = TokenSigner::new(PrivateKey::generate().unwrap());
        let verifier = TokenVerifier::new(vec![*signer.public()], vec![ISSUER.to_owned()]);
        (signer, verifier)
    }

    #[test]
    fn claims_have_upstreams_names_and_order() {
        assert_eq!(
            serde_json::to_string(&claims()).unwrap(),
            format!(
                r#"{{"aud":["{ISSUER}","vault"],"exp":5000,"iat":1000,"iss":"{ISSUER}","jti":"j","kubernetes.io":{{"namespace":"default","pod":{{"name":"p","uid":"u1"}},"serviceaccount":{{"name":"builder","uid":"u2"}},"warnafter":4607}},"nbf":1000,"sub":"system:serviceaccount:default:builder"}}"#
            )
        );
    }

    #[test]
    fn a_good_token_is_believed_in_its_time() {
        let (signer, verifier) = signer();
        let token = signer.sign(&claims()).unwrap();
        assert_eq!(verifier.verify(&token, 2000), Ok(claims()));
        assert_eq!(verifier.verify(&token, 5060), Ok(claims()));
        assert_eq!(verifier.verify(&token, 5061), Err(TokenError::Expired));
        assert_eq!(verifier.verify(&token, 939), Err(TokenError::NotYetValid));
        assert_eq!(claims().accepted_audiences(&["vault".to_owned(), "x".to_owned()]), ["vault"]);
    }

    #[test]
    fn strangers_are_refused() {
        let (signer, verifier) = signer();
        let (other, _) = self::signer();
        let token = signer.sign(&claims()).unwrap();
        assert_eq!(verifier.verify(&other.sign(&claims()).unwrap(), 2000), Err(TokenError::BadSignature));
        let elsewhere = Claims { iss: "https://other".to_owned(), ..claims() };
        assert_eq!(verifier.verify(&signer.sign(&elsewhere).unwrap(), 2000), Err(TokenError::OtherIssuer));
        let mut parts = token.splitn(3, '.');
        parts.next();
        let body = parts.next().unwrap();
        let unsigned = format!("{}.{body}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
        assert_eq!(verifier.verify(&unsigned, 2000), Err(TokenError::UnsupportedAlgorithm));
        assert_eq!(verifier.verify("a.b", 2000), Err(TokenError::Malformed));
        assert_eq!(verifier.verify(&"a".repeat(MAX_TOKEN_BYTES + 1), 2000), Err(TokenError::Malformed));
    }

    #[test]
    fn a_former_key_still_checks() {
        let (former, _) = signer();
        let (current, _) = signer();
        let keys = vec![*current.public(), *former.public()];
        let verifier = TokenVerifier::new(keys, vec![ISSUER.to_owned()]);
        assert!(verifier.verify(&former.sign(&claims()).unwrap(), 2000).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,200}") {
            let verifier = TokenVerifier::new(Vec::new(), vec![String::new()]);
            prop_assert!(verifier.verify(&text, 0).is_err());
        }

        #[test]
        fn a_changed_token_is_refused(at in 0usize..300, byte in b'A'..=b'Z') {
            let (signer, verifier) = signer();
            let mut token = signer.sign(&claims()).unwrap().into_bytes();
            let at = at % token.len();
            prop_assume!(token[at] != byte);
            token[at] = byte;
            // The last character of a signature carries unused bits, which decoding refuses.
            prop_assert!(verifier.verify(std::str::from_utf8(&token).unwrap(), 2000).is_err());
        }
    }
}
