//! Who asks, and whether they may: client certificates and tokens, the API server's word on both, kept for a short time. The mapping
//! of paths to subresources of the node is upstream's.

use super::Peer;
use http::{HeaderMap, Method, header};
use nauplius_base::time::{self, Instant};
use nauplius_client::{Client, ClientError};
use nauplius_kinds::api::authentication::{TokenReview, TokenReviewSpec, UserInfo};
use nauplius_kinds::api::authorization::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use nauplius_pki::PeerCertificate;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upstream's times for answers that are kept.
const AUTHENTICATED_FOR: Duration = Duration::from_secs(120);
const ALLOWED_FOR: Duration = Duration::from_secs(300);
const DENIED_FOR: Duration = Duration::from_secs(30);
/// Answers that are kept at once. When it is full all are forgotten.
const KEPT_MAX: usize = 1024;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    /// The user's name.
    pub name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// Answers until they are too old.
struct Kept<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(_, until)| time::monotonic() < *until).map(|(value, _)| value.clone())
    }

    fn keep(&self, key: K, value: V, for_: Duration) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, (value, time::monotonic() + for_));
    }
}

/// Asks the API server, and remembers.
pub struct Auth {
    client: Client,
    node_name: String,
    users: Kept<String, User>,
    decisions: Kept<(User, &'static str, &'static str), bool>,
}

/// The API's verb of a method.
pub fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The subresources of the node of which one must be allowed.
pub fn subresources(path: &str) -> Vec<&'static str> {
    let first = path.split('/').find(|part| !part.is_empty()).unwrap_or_default();
    match first {
        "stats" => vec!["stats"],
        "metrics" => vec!["metrics"],
        "logs" => vec!["log"],
        "checkpoint" => vec!["checkpoint"],
        "healthz" => vec!["healthz", "proxy"],
        "pods" | "runningpods" => vec!["pods", "proxy"],
        "configz" => vec!["configz", "proxy"],
        _ => vec!["proxy"],
    }
}

impl Auth {
    /// For the server of this node.
    pub fn new(client: Client, node_name: &str) -> Self {
        Self { client, node_name: node_name.to_owned(), users: Kept::new(), decisions: Kept::new() }
    }

    /// The user, by certificate or token; none when there is neither, or the token is no good.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<User>, ClientError> {
        if let Some(user) = peer.certificate.as_deref().and_then(of_certificate) {
            return Ok(Some(user));
        }
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()); // No text is no token.
        let token = value.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        });
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
        if let Some(user) = self.users.get(&token) {
            return Ok(Some(user));
        }
        let spec = TokenReviewSpec { token: token.clone(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = self.client.all::<TokenReview>().create(&review).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(of_review);
        if let Some(user) = &user {
            self.users.keep(token, user.clone(), AUTHENTICATED_FOR);
        }
        Ok(user)
    }

    /// Whether the user may do this.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn authorize(&self, user: &User, method: &Method, path: &str) -> Result<bool, ClientError> {
        for subresource in subresources(path) {
            if self.allowed(user, verb(method), subresource).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn allowed(
        &self,
        user: &User,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, ClientError> {
        let key = (user.clone(), verb, subresource);
        if let Some(known) = self.decisions.get(&key) {
            return Ok(known);
        }
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some(subresource.to_owned()),
            name: Some(self.node_name.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
            resource_attributes: Some(attributes),
            non_resource_attributes: None,
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = self.client.all::<SubjectAccessReview>().create(&review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.decisions.keep(key, allowed, if allowed { ALLOWED_FOR } else { DENIED_FOR });
        Ok(allowed)
    }
}

/// A certificate without a name is nobody's.
fn of_certificate(der: &[u8]) -> Option<User> {
    let certificate = PeerCertificate::from_der(der).ok()?; // The handshake has read it already.
    let mut groups = certificate.organizations;
    groups.push("system:authenticated".to_owned());
    let user = User { name: certificate.common_name, uid: String::new(), groups, extra: BTreeMap::new() };
    Some(user).filter(|user| !user.name.is_empty())
}

fn of_review(info: UserInfo) -> User {
    User {
        name: info.username.unwrap_or_default(),
        uid: info.uid.unwrap_or_default(),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    }
}
