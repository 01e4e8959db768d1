//! Authorization: may this user do that? How the user was authenticated and what the request carries is not known here.

pub mod escalation;
pub mod loopback;
pub mod node;
pub mod rbac;

use crate::request::{Attributes, SUPERUSERS, UserInfo};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// What one authorizer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, and nobody else is asked.
    Allow,
    /// Refused, and nobody else is asked.
    Deny,
    /// Another one may know; refused if none does.
    NoOpinion,
}

/// A decision with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What was decided.
    pub decision: Decision,
    /// Why, for the client's message and for reviews; may be empty.
    pub reason: String,
}

impl Verdict {
    /// Allowed for `reason`.
    pub fn allow(reason: impl Into<String>) -> Self {
        Self { decision: Decision::Allow, reason: reason.into() }
    }

    /// Nothing to say.
    pub fn no_opinion() -> Self {
        Self { decision: Decision::NoOpinion, reason: String::new() }
    }
}

/// One entry of what a user may do, as SelfSubjectRulesReview lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups; empty for rules about paths.
    pub api_groups: Vec<String>,
    /// Resources, with `/subresource` where meant.
    pub resources: Vec<String>,
    /// Only these names, when not empty.
    pub resource_names: Vec<String>,
    /// Paths; empty for rules about resources.
    pub non_resource_urls: Vec<String>,
}

/// What a user may do in a namespace.
#[derive(Debug, Clone, Default)]
pub struct RuleList {
    /// The rules found.
    pub rules: Vec<Rule>,
    /// Whether an authorizer could not list all it knows.
    pub incomplete: bool,
    /// Why.
    pub evaluation_error: String,
}

/// One source of decisions.
pub trait Authorize: Send + Sync + 'static {
    /// Judges one request.
    fn authorize<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Verdict>;

    /// What `user` may do in `namespace`.
    fn rules<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> BoxFuture<'a, RuleList>;
}

/// Authorizers in order; the first that has an opinion decides. `system:masters` may do everything before any is asked.
#[derive(Default)]
pub struct Union(pub Vec<Arc<dyn Authorize>>);

impl Authorize for Union {
    fn authorize<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            if attributes.user.in_group(SUPERUSERS) {
                return Verdict::allow("");
            }
            let mut reasons = Vec::new();
            for authorizer in &self.0 {
                let verdict = authorizer.authorize(attributes).await;
                if verdict.decision != Decision::NoOpinion {
                    return verdict;
                }
                reasons.extend(Some(verdict.reason).filter(|reason| !reason.is_empty()));
            }
            Verdict { decision: Decision::NoOpinion, reason: reasons.join("\n") }
        })
    }

    fn rules<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> BoxFuture<'a, RuleList> {
        Box::pin(async move {
            let mut all = RuleList::default();
            if user.in_group(SUPERUSERS) {
                all.rules.extend(escalation::full_authority());
            }
            for authorizer in &self.0 {
                let list = authorizer.rules(user, namespace).await;
                all.rules.extend(list.rules);
                all.incomplete |= list.incomplete;
                if all.evaluation_error.is_empty() {
                    all.evaluation_error = list.evaluation_error;
                }
            }
            all
        })
    }
}
