//! The distribution protocol over HTTP: manifests and blobs, tokens, retries. Knows the protocol; connections and single
//! exchanges are made elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use nauplius_base::backoff::Backoff;
use nauplius_base::time;

use super::challenge::{self, Challenge};
use super::exchange::{Call, Exchange, read_limited};
use super::{
    Auth, FetchedBlob, FetchedManifest, HostConfig, MAX_MANIFEST_BYTES, Registry, RegistryFuture, Retries,
};
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::reference::Reference;

const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*";
const DOCKER_HUB: &str = "registry-1.docker.io";
const MAX_TOKENS: usize = 256;
const MAX_TOKEN_BYTES: usize = 256 << 10;
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Registries over HTTP and HTTPS.
pub struct HttpRegistry {
    hosts: BTreeMap<String, HostConfig>,
    retries: Retries,
    exchange: Exchange,
    /// What the last challenge was answered with, so that the next request need not be challenged.
    tokens: Mutex<HashMap<TokenKey, HeaderValue>>,
}

type TokenKey = (String, String, Option<Auth>);

/// What is asked of a registry.
struct Ask<'a> {
    image: &'a Reference,
    path: String,
    accept: &'static str,
    from: u64,
    auth: Option<&'a Auth>,
    missing: RegistryError,
}

impl HttpRegistry {
    /// Registries with what is special about some hosts.
    pub fn new(hosts: BTreeMap<String, HostConfig>, retries: Retries) -> Self {
        let exchange = Exchange::new(&hosts, retries.stall);
        Self { hosts, retries, exchange, tokens: Mutex::default() }
    }

    async fn fetch_manifest(&self, ask: &Ask<'_>) -> Result<FetchedManifest, RegistryError> {
        let mut backoff = Backoff::new(self.retries.initial, self.retries.max).with_jitter(0.2);
        let mut attempt = 1;
        loop {
            match self.try_manifest(ask).await {
                Err(error) if error.is_transient() && attempt < self.retries.attempts => {
                    tracing::debug!(%error, attempt, "a manifest is asked for again");
                    attempt += 1;
                    time::sleep(backoff.next_delay()).await;
                }
                result => return result,
            }
        }
    }

    async fn try_manifest(&self, ask: &Ask<'_>) -> Result<FetchedManifest, RegistryError> {
        let response = self.get(ask).await?;
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()); // Not text: none.
        let media_type = media_type.unwrap_or_default().to_owned();
        let limit = usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX);
        let read =
            time::timeout(self.retries.stall, Limited::new(response.into_body(), limit).collect()).await;
        let interrupted = |reason: String| RegistryError::Interrupted { url: ask.path.clone(), reason };
        match read {
            Err(_) => Err(interrupted("the registry stopped sending".to_owned())),
            Ok(Ok(collected)) => Ok(FetchedManifest { media_type, body: collected.to_bytes() }),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                Err(RegistryError::TooLarge { what: "manifest".to_owned(), limit: MAX_MANIFEST_BYTES })
            }
            Ok(Err(error)) => Err(interrupted(error.to_string())),
        }
    }

    async fn fetch_blob(&self, ask: &Ask<'_>) -> Result<FetchedBlob, RegistryError> {
        let response = self.get(ask).await?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let offset = if partial { content_offset(response.headers()).unwrap_or(ask.from) } else { 0 };
        if offset > ask.from {
            let reason = format!("the answer starts at byte {offset}, not at {}", ask.from);
            return Err(RegistryError::Protocol { url: ask.path.clone(), reason });
        }
        let url = ask.path.clone();
        let interrupted = move |error: hyper::Error| RegistryError::Interrupted {
            url: url.clone(),
            reason: super::connect::with_causes(&error),
        };
        Ok(FetchedBlob { offset, body: response.into_body().map_err(interrupted).boxed_unsync() })
    }

    /// One request with authorization: what worked last time, then what a challenge asks for.
    async fn get(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, RegistryError> {
        let configured = self.hosts.get(ask.image.domain()).and_then(|host| host.auth.as_ref());
        let auth = ask.auth.or(configured);
        let key = (ask.image.domain().to_owned(), ask.image.repository().to_owned(), auth.cloned());
        let known = self.tokens().get(&key).cloned();
        let response = self.send(ask, known).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.accepted(ask, response).await;
        }
        let challenges = challenge::parse(response.headers().get_all(WWW_AUTHENTICATE));
        drop(response);
        let authorization = self.authorize(ask, &challenges, auth).await?;
        let response = self.send(ask, Some(authorization.clone())).await?;
        let response = self.accepted(ask, response).await?;
        let mut tokens = self.tokens();
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(key, authorization);
        Ok(response)
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<TokenKey, HeaderValue>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(ask.accept));
        if ask.from > 0 {
            let range = format!("bytes={}-", ask.from);
            headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits are a valid header"));
        }
        let url = self.url(ask).await?;
        self.exchange.follow(Call { method: "GET", url, headers, authorization, body: Bytes::new() }).await
    }

    async fn url(&self, ask: &Ask<'_>) -> Result<String, RegistryError> {
        let domain = ask.image.domain();
        let host = self.hosts.get(domain);
        let endpoint = host.and_then(|host| host.endpoint.as_deref());
        let authority = endpoint.unwrap_or(if domain == "docker.io" { DOCKER_HUB } else { domain });
        let scheme = self.exchange.scheme(authority, host.is_some_and(|host| host.plain_http)).await?;
        Ok(format!("{scheme}://{authority}{}", ask.path))
    }

    async fn accepted(
        &self,
        ask: &Ask<'_>,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let denied = challenge::parse(response.headers().get_all(WWW_AUTHENTICATE));
        let denied = denied.iter().find_map(|challenge| challenge.parameter("error").map(ToOwned::to_owned));
        let message = self.error_message(response).await;
        Err(match status {
            StatusCode::NOT_FOUND => ask.missing.clone(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let told =
                    denied.or(message).map(|told| format!("server message: {told}: ")).unwrap_or_default();
                unauthorized(ask, format!("{told}authorization failed"))
            }
            status => RegistryError::Status {
                method: "GET",
                url: self.url(ask).await?,
                status: status.to_string(),
                message: message.map(|message| format!(": {message}")).unwrap_or_default(),
            },
        })
    }

    /// What a registry says in its error document, if it has one.
    async fn error_message(&self, response: Response<Incoming>) -> Option<String> {
        let read = read_limited(response.into_body(), MAX_ERROR_BYTES, self.retries.stall);
        let body = read.await.ok()?; // The status tells enough.
        let document: serde_json::Value = serde_json::from_slice(&body).ok()?; // Many proxies answer in HTML.
        let first = document.get("errors")?.get(0)?;
        let text = |key: &str| first.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        Some(format!("{}: {}", text("code"), text("message")))
    }

    async fn authorize(
        &self,
        ask: &Ask<'_>,
        challenges: &[Challenge],
        auth: Option<&Auth>,
    ) -> Result<HeaderValue, RegistryError> {
        if let Some(Auth::RegistryToken(token)) = auth {
            return challenge::bearer(token).ok_or_else(|| unauthorized(ask, "malformed registry token"));
        }
        for challenge in challenges {
            match (challenge.scheme.as_str(), auth) {
                ("bearer", _) => return self.token(ask, challenge, auth).await,
                ("basic", Some(Auth::Basic { username, password })) => {
                    return challenge::basic(username, password)
                        .ok_or_else(|| unauthorized(ask, "malformed credentials"));
                }
                _ => {}
            }
        }
        Err(unauthorized(ask, "no basic auth credentials"))
    }

    async fn token(
        &self,
        ask: &Ask<'_>,
        challenge: &Challenge,
        auth: Option<&Auth>,
    ) -> Result<HeaderValue, RegistryError> {
        let scope = format!("repository:{}:pull", ask.image.repository());
        let mut call = challenge::token_call(challenge, &scope, auth)
            .ok_or_else(|| unauthorized(ask, "the registry's challenge names no usable token service"))?;
        self.exchange.check_realm(&mut call, auth.is_some()).map_err(|reason| unauthorized(ask, reason))?;
        let url = call.url.clone();
        let response = self.exchange.follow(call).await?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
            return Err(unauthorized(ask, format!("failed to fetch token: {status}")));
        }
        if !status.is_success() {
            let (method, status, message) = ("GET", status.to_string(), String::new());
            return Err(RegistryError::Status { method, url, status, message });
        }
        let body = read_limited(response.into_body(), MAX_TOKEN_BYTES, self.retries.stall).await;
        let body = body.map_err(|reason| RegistryError::Interrupted { url: url.clone(), reason })?;
        let malformed = || RegistryError::Protocol { url, reason: "it is no token".to_owned() };
        challenge::token_in(&body).and_then(|token| challenge::bearer(&token)).ok_or_else(malformed)
    }
}

fn unauthorized(ask: &Ask<'_>, message: impl Into<String>) -> RegistryError {
    RegistryError::Unauthorized { reference: ask.image.to_string(), message: message.into() }
}

/// `bytes START-END/TOTAL`
fn content_offset(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?; // Not text: no offset.
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok() // Not a number: no offset.
}

impl Registry for HttpRegistry {
    fn manifest<'a>(
        &'a self,
        image: &'a Reference,
        by: &'a str,
        auth: Option<&'a Auth>,
    ) -> RegistryFuture<'a, FetchedManifest> {
        Box::pin(async move {
            let path = format!("/v2/{}/manifests/{by}", image.repository());
            let missing = RegistryError::ManifestUnknown { reference: image.to_string() };
            self.fetch_manifest(&Ask { image, path, accept: MANIFEST_TYPES, from: 0, auth, missing }).await
        })
    }

    fn blob<'a>(
        &'a self,
        image: &'a Reference,
        digest: &'a Digest,
        offset: u64,
        auth: Option<&'a Auth>,
    ) -> RegistryFuture<'a, FetchedBlob> {
        Box::pin(async move {
            let path = format!("/v2/{}/blobs/{digest}", image.repository());
            let missing = RegistryError::BlobUnknown { digest: digest.clone() };
            self.fetch_blob(&Ask { image, path, accept: "*/*", from: offset, auth, missing }).await
        })
    }
}
