//! Service account tokens: proves them, and signs new ones. A token is good while its account, and the object that it is bound
//! to, are still there with the same uid.

use super::{Authenticate, InvalidCredentials};
use crate::cache::Caches;
use crate::error::ApiResult;
use crate::hooks::token::TokenIssuer;
use crate::request::UserInfo;
use futures_util::future::BoxFuture;
use http::header;
use http::request::Parts;
use nauplius_base::{id, time};
use nauplius_meta::error::ApiError;
use nauplius_pki::{
    Bound, Claims, KubernetesClaims, PrivateKey, PublicKey, TokenError, TokenSigner, TokenVerifier,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Kubelets ask for 3,607 s when they project a token; upstream extends those to a year for old clients that never read the file
/// again, and warns when such a token is used late.
const EXTENDABLE_S: i64 = 3607;
const EXTENDED_S: i64 = 365 * 24 * 3600;
const DEFAULT_S: i64 = 3600;

/// Signs and proves tokens of one cluster.
pub struct ServiceAccountTokens {
    issuer: String,
    audiences: Vec<String>,
    signer: TokenSigner,
    verifier: TokenVerifier,
    caches: Arc<Caches>,
}

impl ServiceAccountTokens {
    /// Tokens of `issuer`, for `audiences` unless others are asked for, signed with `key`.
    pub fn new(issuer: &str, audiences: Vec<String>, key: PrivateKey, caches: Arc<Caches>) -> Self {
        let signer = TokenSigner::new(key);
        let verifier = TokenVerifier::new(vec![*signer.public()], vec![issuer.to_owned()]);
        Self { issuer: issuer.to_owned(), audiences, signer, verifier, caches }
    }

    /// The key that proves tokens, for `/openid/v1/jwks`.
    pub fn public_key(&self) -> &PublicKey {
        self.signer.public()
    }

    /// Who signs.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The API server's own audiences.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The user of a token that is meant for one of `audiences`, and which of them.
    ///
    /// # Errors
    /// Why it is refused; `Ok(None)` when another issuer made it.
    pub fn prove(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<(UserInfo, Vec<String>)>, InvalidCredentials> {
        let claims = match self.verifier.verify(token, time::unix_seconds()) {
            Ok(claims) => claims,
            Err(TokenError::OtherIssuer) => return Ok(None),
            Err(error) => return Err(InvalidCredentials { reason: error.to_string() }),
        };
        let accepted = claims.accepted_audiences(audiences);
        if accepted.is_empty() {
            let reason =
                format!("token audiences {:?} is invalid for the target audiences {audiences:?}", claims.aud);
            return Err(InvalidCredentials { reason });
        }
        self.check_objects(&claims.kubernetes)?;
        Ok(Some((user_of(&claims), accepted)))
    }

    fn check_objects(&self, claims: &KubernetesClaims) -> Result<(), InvalidCredentials> {
        self.check_object("serviceaccounts", &claims.namespace, &claims.serviceaccount)?;
        if let Some(secret) = &claims.secret {
            self.check_object("secrets", &claims.namespace, secret)?;
        }
        match (&claims.pod, &claims.node) {
            // A pod's token names its node for information only.
            (Some(pod), _) => self.check_object("pods", &claims.namespace, pod),
            (None, Some(node)) => self.check_object("nodes", "", node),
            (None, None) => Ok(()),
        }
    }

    fn check_object(&self, plural: &str, namespace: &str, bound: &Bound) -> Result<(), InvalidCredentials> {
        let gone = || InvalidCredentials {
            reason: format!(
                "{plural} {namespace:?}/{:?} with uid {} has been deleted",
                bound.name, bound.uid
            ),
        };
        let entry = self.caches.get("", plural, namespace, &bound.name).ok_or_else(gone)?;
        let object = entry.object().map_err(|error| InvalidCredentials { reason: error.to_string() })?;
        if object["metadata"]["uid"].as_str() == Some(bound.uid.as_str()) { Ok(()) } else { Err(gone()) }
    }

    fn sign(&self, account: &Value, bound: Option<&Value>, spec: &Value) -> ApiResult<(String, i64)> {
        let now = time::unix_seconds();
        let wanted_s = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_S);
        let text =
            |object: &Value, key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let audiences = self.audiences_of(spec);
        let extended = wanted_s == EXTENDABLE_S
            && bound.is_some_and(|object| object["kind"] == "Pod")
            && audiences == self.audiences;
        let namespace = text(account, "namespace");
        let mut claims = KubernetesClaims {
            serviceaccount: Bound { name: text(account, "name"), uid: text(account, "uid") },
            namespace,
            node: None,
            pod: None,
            secret: None,
            warnafter: extended.then_some(now + wanted_s),
        };
        if let Some(object) = bound {
            self.bind(&mut claims, object, Bound { name: text(object, "name"), uid: text(object, "uid") });
        }
        let lifetime_s = if extended { EXTENDED_S } else { wanted_s };
        let signed = self.signer.sign(&Claims {
            aud: audiences,
            exp: now + lifetime_s,
            iat: now,
            iss: self.issuer.clone(),
            jti: id::uuid(),
            sub: format!("system:serviceaccount:{}:{}", claims.namespace, claims.serviceaccount.name),
            kubernetes: claims,
            nbf: now,
        });
        let token =
            signed.map_err(|error| ApiError::InternalError(format!("failed to create token: {error}")))?;
        Ok((token, now + wanted_s))
    }

    fn audiences_of(&self, spec: &Value) -> Vec<String> {
        let wanted = spec["audiences"].as_array().into_iter().flatten();
        let wanted: Vec<String> =
            wanted.filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
        if wanted.is_empty() { self.audiences.clone() } else { wanted }
    }

    fn bind(&self, claims: &mut KubernetesClaims, object: &Value, bound: Bound) {
        match object["kind"].as_str() {
            Some("Pod") => {
                claims.node = self.node_of(object);
                claims.pod = Some(bound);
            }
            Some("Secret") => claims.secret = Some(bound),
            Some("Node") => claims.node = Some(bound),
            _ => {}
        }
    }

    fn node_of(&self, pod: &Value) -> Option<Bound> {
        let name = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())?;
        let node = self.caches.get("", "nodes", "", name).and_then(|entry| match entry.object() {
            Ok(node) => Some(node),
            Err(error) => {
                tracing::warn!(node = name, %error, "cannot read the node of a token's pod");
                None
            }
        });
        let uid =
            node.and_then(|node| node["metadata"]["uid"].as_str().map(str::to_owned)).unwrap_or_default();
        Some(Bound { name: name.to_owned(), uid })
    }
}

fn user_of(claims: &Claims) -> UserInfo {
    let kubernetes = &claims.kubernetes;
    let mut user = UserInfo::service_account(&kubernetes.namespace, &kubernetes.serviceaccount.name);
    user.uid.clone_from(&kubernetes.serviceaccount.uid);
    let mut extra = |key: &str, value: String| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        }
    };
    if !claims.jti.is_empty() {
        extra("credential-id", format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &kubernetes.pod {
        extra("pod-name", pod.name.clone());
        extra("pod-uid", pod.uid.clone());
    }
    if let Some(node) = &kubernetes.node {
        extra("node-name", node.name.clone());
        extra("node-uid", node.uid.clone());
    }
    user
}

impl Authenticate for ServiceAccountTokens {
    fn authenticate<'a>(
        &'a self,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, InvalidCredentials>> {
        let proven = match bearer_token(request) {
            Some(token) => self.prove(token, &self.audiences).map(|proven| proven.map(|(user, _)| user)),
            None => Ok(None),
        };
        Box::pin(std::future::ready(proven))
    }
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer_token(request: &Parts) -> Option<&str> {
    let value = request.headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl TokenIssuer for ServiceAccountTokens {
    fn issue<'a>(
        &'a self,
        account: &'a Value,
        bound: Option<&'a Value>,
        mut request: Value,
    ) -> BoxFuture<'a, ApiResult<Value>> {
        Box::pin(async move {
            let (token, expires_s) = self.sign(account, bound, &request["spec"])?;
            let expires = time::Timestamp::from_second(expires_s)
                .map_err(|error| ApiError::BadRequest(format!("expirationSeconds: {error}")))?;
            request["spec"]["audiences"] = Value::from(self.audiences_of(&request["spec"]));
            if request["spec"]["expirationSeconds"].is_null() {
                request["spec"]["expirationSeconds"] = Value::from(DEFAULT_S);
            }
            request["status"] =
                json!({"token": token, "expirationTimestamp": time::rfc3339_seconds(expires)});
            Ok(request)
        })
    }
}
