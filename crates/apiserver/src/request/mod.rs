//! What a request is to the rest of the server: who asks, what the path and verb mean, and the attributes that authorization
//! and admission judge. Nothing here reads a body or an object.

mod info;
mod query;
mod user;

pub use info::{PathError, RequestInfo};
pub use query::Query;
pub use user::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, SUPERUSERS, UserInfo};

use crate::chain::Seat;
use crate::warning::Warnings;
use std::sync::Arc;

/// What authorization judges: upstream's `authorizer.Attributes`.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// Who asks.
    pub user: Arc<UserInfo>,
    /// What is asked.
    pub info: RequestInfo,
    /// The field selector of a list, watch or deletecollection, as it was sent.
    pub field_selector: Option<String>,
    /// The label selector of a list, watch or deletecollection, as it was sent.
    pub label_selector: Option<String>,
}

impl Attributes {
    /// The attributes of a request as it came in.
    pub fn of(user: &Arc<UserInfo>, info: &RequestInfo, query: &Query) -> Self {
        Self {
            user: Arc::clone(user),
            info: info.clone(),
            field_selector: query.get("fieldSelector").map(str::to_owned),
            label_selector: query.get("labelSelector").map(str::to_owned),
        }
    }

    /// The same request with another verb, for checks such as `create` on a websocket `get`.
    pub fn with_verb(&self, verb: &str) -> Self {
        let mut attributes = self.clone();
        verb.clone_into(&mut attributes.info.verb);
        attributes
    }
}

/// One request on its way through the server, after it was parsed, authenticated and authorized.
pub struct Call {
    /// Method, URI and headers.
    pub parts: http::request::Parts,
    /// The meaning of the path.
    pub info: RequestInfo,
    /// The decoded query.
    pub query: Query,
    /// Who asks.
    pub user: Arc<UserInfo>,
    /// What becomes `Warning` headers.
    pub warnings: Warnings,
    /// Of a request that is meant to last: whatever streams on after the answer holds it.
    pub(crate) seat: Option<Arc<Seat>>,
}

impl Call {
    /// The value of a header, when it is readable text.
    pub fn header(&self, name: http::HeaderName) -> Option<&str> {
        // A header with bytes that are no text is treated like an absent one, as upstream's string handling comes down to.
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
