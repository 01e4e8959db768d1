//! Single HTTP exchanges: one request, its redirects, its answer. Knows TLS settings by host, not what is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use nauplius_base::time;
use rustls::ClientConfig;

use super::HostConfig;
use super::connect::{self, ConnectError};
use crate::error::RegistryError;

const MAX_REDIRECTS: usize = 8;
const AGENT: &str = concat!("nauplius/", env!("CARGO_PKG_VERSION"));

/// A request.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) body: Bytes,
}

/// What exchanges share.
pub(super) struct Exchange {
    authorities: BTreeMap<String, Vec<u8>>,
    plain: Vec<String>,
    answer_timeout: Duration,
    tls: Mutex<HashMap<String, Arc<ClientConfig>>>,
    /// Loopback registries that were found not to speak TLS.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Exchange {
    pub(super) fn new(hosts: &BTreeMap<String, HostConfig>, answer_timeout: Duration) -> Self {
        let name =
            |(domain, host): (&String, &HostConfig)| host.endpoint.clone().unwrap_or_else(|| domain.clone());
        let authorities = hosts
            .iter()
            .filter_map(|(domain, host)| Some((name((domain, host)), host.ca_pem.clone()?)))
            .collect();
        let plain = hosts.iter().filter(|(_, host)| host.plain_http).map(name).collect();
        Self { authorities, plain, answer_timeout, tls: Mutex::default(), schemes: Mutex::default() }
    }

    /// `http` where it is configured, or where a loopback host does not speak TLS; else `https`.
    pub(super) async fn scheme(&self, authority: &str, plain: bool) -> Result<&'static str, RegistryError> {
        if plain {
            return Ok("http");
        }
        if self.authorities.contains_key(authority) || !connect::is_loopback(authority) {
            return Ok("https");
        }
        let known = self.schemes.lock().unwrap_or_else(PoisonError::into_inner).get(authority).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let uri: Uri = parse_url("GET", &format!("https://{authority}/v2/"))?;
        let scheme = match connect::connect(&uri, Some(self.tls_config(authority)?)).await {
            Err(ConnectError::NotTls(_)) => "http",
            Ok(_) => "https",
            // Says nothing lasting: the request itself will tell the same.
            Err(ConnectError::Unreachable(_)) => return Ok("https"),
        };
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.insert(authority.to_owned(), scheme);
        Ok(scheme)
    }

    /// Credentials go over TLS, or to hosts that are configured or known to be plain.
    pub(super) fn check_realm(&self, call: &mut Call, has_credentials: bool) -> Result<(), String> {
        let Ok(uri) = call.url.parse::<Uri>() else {
            return Err(format!("invalid token service {:?}", call.url));
        };
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let plain_is_fine =
            connect::is_loopback(authority) || self.plain.iter().any(|plain| plain == authority);
        match uri.scheme_str() {
            Some("https") => Ok(()),
            Some("http") if plain_is_fine || !has_credentials => Ok(()),
            _ => Err(format!("credentials are not sent to {:?} without TLS", call.url)),
        }
    }

    /// Sends a request and follows redirects. Authorization stays with the host that it is for.
    pub(super) async fn follow(&self, mut call: Call) -> Result<Response<Incoming>, RegistryError> {
        for _ in 0..MAX_REDIRECTS {
            let uri = parse_url(call.method, &call.url)?;
            let response = self.once(&call, &uri).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()); // Not text: none.
            let target = location.and_then(|location| redirect(&uri, location));
            let target =
                target.ok_or_else(|| protocol(&call.url, "it redirects to nowhere that may be followed"))?;
            let moved = parse_url(call.method, &target)?;
            if moved.authority() != uri.authority() || moved.scheme() != uri.scheme() {
                call.authorization = None;
            }
            call.url = target;
        }
        Err(protocol(&call.url, "it redirects too often"))
    }

    async fn once(&self, call: &Call, uri: &Uri) -> Result<Response<Incoming>, RegistryError> {
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let tls = if uri.scheme_str() == Some("https") { Some(self.tls_config(authority)?) } else { None };
        let unreachable = |reason: String| RegistryError::Unreachable {
            method: call.method,
            url: call.url.clone(),
            reason,
        };
        let mut sender = connect::connect(uri, tls).await.map_err(|error| unreachable(error.to_string()))?;
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = Request::builder().method(call.method).uri(path).header(HOST, authority);
        request = request.header(USER_AGENT, AGENT);
        if let Some(authorization) = &call.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut request = request
            .body(Full::new(call.body.clone()))
            .map_err(|error| protocol(&call.url, &error.to_string()))?;
        request.headers_mut().extend(call.headers.clone());
        match time::timeout(self.answer_timeout, sender.send_request(request)).await {
            Err(_) => Err(unreachable("timeout awaiting response headers".to_owned())),
            Ok(Err(error)) => Err(unreachable(connect::with_causes(&error))),
            Ok(Ok(response)) => Ok(response),
        }
    }

    fn tls_config(&self, authority: &str) -> Result<Arc<ClientConfig>, RegistryError> {
        // Hosts without an own authority share one config.
        let own = self.authorities.get_key_value(authority);
        let key = own.map_or("", |(name, _)| name);
        let mut configs = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(key) {
            return Ok(Arc::clone(config));
        }
        let config = connect::client_config(own.map(|(_, pem)| pem.as_slice()));
        let config = Arc::new(config.map_err(|reason| protocol(authority, &reason))?);
        configs.insert(key.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}

fn parse_url(method: &'static str, url: &str) -> Result<Uri, RegistryError> {
    let invalid = |reason: String| RegistryError::Unreachable { method, url: url.to_owned(), reason };
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| invalid(error.to_string()))?;
    if uri.authority().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(invalid("unsupported protocol scheme".to_owned()));
    }
    Ok(uri)
}

/// Where a redirect leads; never from TLS to plain.
fn redirect(from: &Uri, location: &str) -> Option<String> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let target = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let downgrade = scheme == "https" && !target.starts_with("https://");
    (!downgrade && target.starts_with("http")).then_some(target)
}

fn protocol(url: &str, reason: &str) -> RegistryError {
    RegistryError::Protocol { url: url.to_owned(), reason: reason.to_owned() }
}

/// A small body.
pub(super) async fn read_limited(body: Incoming, limit: usize, within: Duration) -> Result<Bytes, String> {
    match time::timeout(within, Limited::new(body, limit).collect()).await {
        Err(_) => Err("the registry stopped sending".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_never_lose_tls() {
        let check = |from: &str, location: &str, expected: Option<&str>| {
            assert_eq!(redirect(&from.parse().unwrap(), location).as_deref(), expected, "{location}");
        };
        check("https://a/x", "/y?z", Some("https://a/y?z"));
        check("https://a/x", "//b/y", Some("https://b/y"));
        check("https://a/x", "https://b/y", Some("https://b/y"));
        check("https://a/x", "http://b/y", None);
        check("http://a/x", "https://b/y", Some("https://b/y"));
        check("http://a/x", "file:///etc/passwd", None);
    }
}
