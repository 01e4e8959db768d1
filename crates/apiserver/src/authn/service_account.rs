//! Service account tokens: proves them, and signs new ones. A token is good while its account, and the object that it is bound
//! to, are still there with the same uid.

use super::{Authenticate, InvalidCredentials, bearer};
use crate::cache::Caches;
use crate::error::ApiResult;
use crate::hooks::token::TokenIssuer;
use crate::request::UserInfo;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
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
/// How far clocks may differ.
const LEEWAY_S: i64 = 60;
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

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

    /// Tokens of these issuers are accepted, too, when they are signed with the key: those that signed before.
    #[must_use]
    pub fn accepting(mut self, issuers: &[String]) -> Self {
        let mut accepted = vec![self.issuer.clone()];
        accepted.extend(issuers.iter().filter(|issuer| **issuer != self.issuer).cloned());
        self.verifier = TokenVerifier::new(vec![*self.signer.public()], accepted);
        self
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
        let now = time::unix_seconds();
        let claims = match self.verifier.verify(token, now) {
            Ok(claims) => claims,
            Err(TokenError::OtherIssuer) if is_legacy(token) => {
                return Err(refused(
                    "tokens of service account secrets are not accepted by this cluster: ask for one with \
                     `kubectl create token`"
                        .to_owned(),
                ));
            }
            Err(TokenError::OtherIssuer) => return Ok(None),
            Err(error) => return Err(refused(error.to_string())),
        };
        let accepted = claims.accepted_audiences(audiences);
        if accepted.is_empty() {
            return Err(refused(format!(
                "token audiences {:?} is invalid for the target audiences {audiences:?}",
                claims.aud
            )));
        }
        self.check_objects(&claims.kubernetes, now)?;
        Ok(Some((user_of(&claims), accepted)))
    }

    /// The account and what the token is bound to must be there, and must not have been on their way out for longer than clocks
    /// may differ.
    fn check_objects(&self, claims: &KubernetesClaims, now: i64) -> Result<(), InvalidCredentials> {
        let namespace = claims.namespace.as_str();
        let account = &claims.serviceaccount;
        let Some(found) = self.find("serviceaccounts", namespace, &account.name)? else {
            return Err(refused(format!("serviceaccounts {:?} not found", account.name)));
        };
        if is_gone(&found, now) {
            return Err(refused(format!("service account {namespace}/{} has been deleted", account.name)));
        }
        if uid_of(&found) != account.uid {
            let found = uid_of(&found);
            return Err(refused(format!(
                "service account UID ({found}) does not match claim ({})",
                account.uid
            )));
        }
        if let Some(secret) = &claims.secret {
            self.check_bound("secrets", namespace, secret, now, "secret", "service account secret ref")?;
        }
        match (&claims.pod, &claims.node) {
            // A pod's token names its node for information only.
            (Some(pod), _) => self.check_bound("pods", namespace, pod, now, "pod", "service account pod ref"),
            (None, Some(node)) => {
                self.check_bound("nodes", "", node, now, "node", "service account node ref")
            }
            (None, None) => Ok(()),
        }
    }

    fn check_bound(
        &self,
        plural: &str,
        namespace: &str,
        bound: &Bound,
        now: i64,
        kind: &str,
        claim: &str,
    ) -> Result<(), InvalidCredentials> {
        let found = self.find(plural, namespace, &bound.name)?.filter(|object| !is_gone(object, now));
        let Some(found) = found else {
            return Err(refused("service account token has been invalidated".to_owned()));
        };
        let uid = uid_of(&found);
        if uid == bound.uid {
            return Ok(());
        }
        Err(refused(format!("{kind} UID ({uid}) does not match {claim} claim ({})", bound.uid)))
    }

    fn find(&self, plural: &str, namespace: &str, name: &str) -> Result<Option<Value>, InvalidCredentials> {
        let entry = self.caches.get("", plural, namespace, name);
        entry.map(|entry| entry.object()).transpose().map_err(|error| refused(error.to_string()))
    }

    fn sign(&self, account: &Value, bound: Option<&Value>, spec: &Value) -> ApiResult<(String, i64)> {
        let now = time::unix_seconds();
        let wanted_s = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_S);
        let text =
            |object: &Value, key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let audiences = self.audiences_of(spec);
        let extended = wanted_s == EXTENDABLE_S
            && bound.is_some_and(|object| object["kind"] == "Pod")
            && audiences.iter().all(|audience| self.audiences.contains(audience));
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

fn refused(reason: String) -> InvalidCredentials {
    InvalidCredentials { reason }
}

fn uid_of(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// Whether the object should be gone by now.
fn is_gone(object: &Value, now: i64) -> bool {
    let text = object["metadata"]["deletionTimestamp"].as_str();
    let ends = text.and_then(|text| text.parse::<time::Timestamp>().ok());
    ends.is_some_and(|ends| ends.as_second() < now - LEEWAY_S)
}

/// Tokens that older clusters kept in secrets, without an end. Only their issuer is looked at, for a clearer refusal.
fn is_legacy(token: &str) -> bool {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    claims.is_some_and(|claims| claims["iss"] == LEGACY_ISSUER)
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
        Box::pin(std::future::ready(self.authenticate_bearer(request)))
    }
}

impl ServiceAccountTokens {
    /// A token that is not ours is wrong, not absent: its bearer does not become anonymous by it.
    fn authenticate_bearer(&self, request: &Parts) -> Result<Option<UserInfo>, InvalidCredentials> {
        let Some(token) = bearer::token(&request.headers)? else { return Ok(None) };
        match self.prove(&token, &self.audiences)? {
            Some((user, _)) => Ok(Some(user)),
            None => Err(refused("invalid bearer token".to_owned())),
        }
    }
}

impl TokenIssuer for ServiceAccountTokens {
    fn issue<'a>(
        &'a self,
        account: &'a Value,
        bound: Option<&'a Value>,
        mut request: Value,
    ) -> BoxFuture<'a, ApiResult<Value>> {
        Box::pin(async move {
            request["metadata"]["creationTimestamp"] = Value::from(time::rfc3339_seconds(time::now()));
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
