//! The two documents by which others check this cluster's service account tokens. They are made once, by whoever wires the server.

use crate::negotiate::JSON;
use crate::respond::{self, Reply};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use nauplius_pki::PublicKey;

const KEYS: &str = "application/jwk-set+json";

/// What `/.well-known/openid-configuration` and `/openid/v1/jwks` answer.
#[derive(Debug, Clone)]
pub struct OpenIdDocuments {
    configuration: Bytes,
    keys: Bytes,
}

impl OpenIdDocuments {
    /// About tokens of `issuer`, signed with one of `keys`, which are found at `keys_url`.
    pub fn new(issuer: &str, keys_url: &str, keys: &[PublicKey]) -> Self {
        Self {
            configuration: nauplius_pki::openid_configuration(issuer, keys_url).into(),
            keys: nauplius_pki::jwks(keys).into(),
        }
    }

    pub(super) fn configuration(&self) -> Reply {
        cached(JSON, &self.configuration)
    }

    pub(super) fn keys(&self) -> Reply {
        cached(KEYS, &self.keys)
    }
}

fn cached(content_type: &'static str, body: &Bytes) -> Reply {
    let mut reply = respond::bytes(StatusCode::OK, content_type, body.clone());
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    reply
}
