//! Client certificates: the common name is the user, the organizations are its groups. The handshake has verified the chain.

use super::{Authenticate, InvalidCredentials, PeerCertificates};
use crate::metrics::access;
use crate::request::UserInfo;
use futures_util::future::BoxFuture;
use http::request::Parts;
use nauplius_base::time::unix_seconds;
use nauplius_pki::PeerCertificate;
use std::collections::BTreeMap;

/// What upstream calls the `x509` authenticator.
#[derive(Debug, Default, Clone, Copy)]
pub struct ClientCertificate;

impl Authenticate for ClientCertificate {
    fn authenticate<'a>(
        &'a self,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, InvalidCredentials>> {
        let leaf = request.extensions.get::<PeerCertificates>().and_then(PeerCertificates::leaf);
        let outcome = leaf.map(|leaf| {
            let leaf = leaf.map_err(|error| InvalidCredentials { reason: error.to_string() })?;
            user_of(leaf, unix_seconds())
        });
        let outcome = outcome.transpose();
        Box::pin(std::future::ready(outcome))
    }
}

fn user_of(certificate: &PeerCertificate, now_s: i64) -> Result<UserInfo, InvalidCredentials> {
    let refused = |reason: String| InvalidCredentials { reason };
    // A connection outlives its handshake: the certificate may have ended since.
    if now_s > certificate.not_after {
        return Err(refused("x509: certificate has expired".to_owned()));
    }
    if certificate.common_name.is_empty() {
        return Err(refused("x509: the certificate names no user".to_owned()));
    }
    access::certificate(certificate.not_after - now_s);
    let groups: Vec<&str> = certificate.organizations.iter().map(String::as_str).collect();
    let mut user = UserInfo::authenticated(certificate.common_name.as_str(), &groups);
    let fingerprint = vec![format!("X509SHA256={}", certificate.fingerprint)];
    user.extra = BTreeMap::from([("authentication.kubernetes.io/credential-id".to_owned(), fingerprint)]);
    Ok(user)
}
