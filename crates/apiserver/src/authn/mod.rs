//! Authentication: from the credentials of a request to a user. What the user may do is not known here.

pub mod bearer;
pub mod certificate;
pub mod service_account;

use crate::request::UserInfo;
use futures_util::future::BoxFuture;
use http::request::Parts;
use nauplius_pki::{PeerCertificate, PkiError};
use std::sync::{Arc, OnceLock};

/// The client's certificate chain in DER, leaf first, verified against the client CA during the handshake. The listener puts it
/// into the extensions of each request; it is the same one for all requests of a connection, and read once.
#[derive(Debug, Clone)]
pub struct PeerCertificates(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    chain: Vec<Vec<u8>>,
    leaf: OnceLock<Result<PeerCertificate, PkiError>>,
}

impl PeerCertificates {
    /// A chain.
    pub fn new(chain: Vec<Vec<u8>>) -> Self {
        Self(Arc::new(Peer { chain, leaf: OnceLock::new() }))
    }

    /// The client's own certificate; `None` when the chain is empty.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn leaf(&self) -> Option<Result<&PeerCertificate, &PkiError>> {
        let leaf = self.0.chain.first()?;
        Some(self.0.leaf.get_or_init(|| PeerCertificate::from_der(leaf)).as_ref())
    }
}

/// Credentials that were presented and are wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidCredentials {
    /// For the log; the client only learns `Unauthorized`.
    pub reason: String,
}

/// One way to prove an identity.
pub trait Authenticate: Send + Sync + 'static {
    /// The user, or `None` when the request has no credentials of this kind. An error does not keep other authenticators from
    /// accepting the request.
    fn authenticate<'a>(
        &'a self,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, InvalidCredentials>>;
}

/// What all authenticators together say.
pub(crate) enum Outcome {
    /// This one.
    User(Box<UserInfo>),
    /// Nobody presented anything.
    NoCredentials,
    /// Something was presented and nobody accepted it.
    Invalid(Vec<InvalidCredentials>),
}

/// Asks one after the other; the first that knows the user wins.
pub(crate) async fn authenticate(authenticators: &[Arc<dyn Authenticate>], request: &Parts) -> Outcome {
    let mut invalid = Vec::new();
    for authenticator in authenticators {
        match authenticator.authenticate(request).await {
            Ok(Some(user)) => return Outcome::User(Box::new(user)),
            Ok(None) => {}
            Err(error) => invalid.push(error),
        }
    }
    if invalid.is_empty() { Outcome::NoCredentials } else { Outcome::Invalid(invalid) }
}
