//! The server's own requests: allowed by an identity that only this process can have, so that the server needs no membership
//! in `system:masters` and works before any role exists.

use super::{Authorize, RuleList, Verdict};
use crate::request::{Attributes, UserInfo};
use futures_util::future::BoxFuture;
use nauplius_base::id;

const USER: &str = "system:apiserver";

/// The identity and its proof: a uid drawn at the start that no credential can carry.
#[derive(Debug, Clone)]
pub struct Loopback {
    uid: String,
}

impl Default for Loopback {
    fn default() -> Self {
        Self::new()
    }
}

impl Loopback {
    /// A fresh proof.
    pub fn new() -> Self {
        Self { uid: id::uuid() }
    }

    /// The identity of the server's own in-process requests.
    pub fn user(&self) -> UserInfo {
        UserInfo { uid: self.uid.clone(), ..UserInfo::authenticated(USER, &[]) }
    }

    fn is(&self, user: &UserInfo) -> bool {
        user.name == USER && user.uid == self.uid
    }
}

impl Authorize for Loopback {
    fn authorize<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Verdict> {
        let verdict = if self.is(&attributes.user) { Verdict::allow("") } else { Verdict::no_opinion() };
        Box::pin(std::future::ready(verdict))
    }

    fn rules<'a>(&'a self, _user: &'a UserInfo, _namespace: &'a str) -> BoxFuture<'a, RuleList> {
        Box::pin(std::future::ready(RuleList::default()))
    }
}
