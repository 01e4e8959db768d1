//! Admission: plugins that change or refuse a write after authorization. They see the object in its hub version. How it is
//! stored and what the kind itself checks is not known here.

pub mod claim_resize;
pub mod default_class;
pub mod default_toleration_seconds;
pub mod limit_ranger;
mod lookup;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod node_taint;
pub mod pod_group;
pub mod pod_security;
pub mod priority;
pub mod runtime_class;
pub mod service_account;
pub mod signers;
pub mod unenforced;

use crate::authz::Authorize;
use crate::cache::Caches;
use crate::error::ApiResult;
use crate::metrics::admission::Step;
use crate::request::UserInfo;
use crate::warning::Warnings;
use futures_util::future::BoxFuture;
use nauplius_base::time::monotonic;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::{GroupResource, GroupVersionKind, GroupVersionResource};
use serde_json::Value;
use std::sync::Arc;

/// What is being done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object, or a `create` of a subresource.
    Create,
    /// A new form of an object, patches included.
    Update,
    /// A deletion.
    Delete,
    /// `exec`, `attach`, `portforward`, `proxy`.
    Connect,
}

/// What plugins know of the request besides the objects: upstream's `admission.Attributes`.
pub struct Review<'a> {
    /// What is being done.
    pub operation: Operation,
    /// By whom.
    pub user: &'a UserInfo,
    /// The kind of the body in the request's version.
    pub kind: GroupVersionKind,
    /// The resource of the path.
    pub resource: GroupVersionResource,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Empty while a generated name is not chosen yet.
    pub name: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The create, update, patch or delete options, as an object; null when there are none.
    pub options: &'a Value,
    /// Where warnings for the client go.
    pub warnings: &'a Warnings,
}

impl Review<'_> {
    /// Whether this is about `resource` of `group` itself, not about a subresource.
    pub fn is_for(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource && self.subresource.is_empty()
    }

    /// The refusal of this request. An object that is being created and has no name yet is called by the prefix of its name.
    pub fn forbidden(&self, object: Option<&Value>, message: impl Into<String>) -> ApiError {
        let named = |field: &str| object.and_then(|object| object["metadata"][field].as_str());
        let mut names = [Some(self.name), named("name"), named("generateName")].into_iter().flatten();
        let name = names.find(|name| !name.is_empty()).unwrap_or("Unknown");
        let resource = GroupResource::new(self.resource.group.as_str(), self.resource.resource.as_str());
        ApiError::forbidden(&resource, name, message)
    }
}

fn named<T: ?Sized>() -> &'static str {
    std::any::type_name::<T>().rsplit("::").next().unwrap_or_default()
}

/// A plugin that may change the object, or refuse it before others look at it.
pub trait Mutate: Send + Sync + 'static {
    /// Upstream's name for it, if it is not the type's.
    fn name(&self) -> &'static str {
        named::<Self>()
    }

    /// Called for create, update and connect before defaults are checked; for updates again with each retry.
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>>;
}

/// A plugin that may only refuse. Deletions come here alone.
pub trait Validate: Send + Sync + 'static {
    /// Upstream's name for it, if it is not the type's.
    fn name(&self) -> &'static str {
        named::<Self>()
    }

    /// `object` is absent for deletions, `old` for creations.
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>>;
}

/// All plugins, in order.
#[derive(Default, Clone)]
pub struct Chain {
    /// Called first.
    pub mutating: Vec<Arc<dyn Mutate>>,
    /// Called on the final object.
    pub validating: Vec<Arc<dyn Validate>>,
}

impl Chain {
    /// The plugins that are on by default, in upstream's order.
    pub fn standard(caches: &Arc<Caches>, authorizer: &Arc<dyn Authorize>) -> Self {
        let lifecycle = Arc::new(namespace_lifecycle::NamespaceLifecycle::new(Arc::clone(caches)));
        let accounts = Arc::new(service_account::ServiceAccount::new(Arc::clone(caches)));
        let nodes = Arc::new(node_restriction::NodeRestriction::new(Arc::clone(caches)));
        let priority = Arc::new(priority::Priority::new(Arc::clone(caches)));
        let limits = Arc::new(limit_ranger::LimitRanger::new(Arc::clone(caches)));
        let runtimes = Arc::new(runtime_class::RuntimeClass::new(Arc::clone(caches)));
        Self {
            mutating: vec![
                Arc::clone(&lifecycle) as Arc<dyn Mutate>,
                Arc::clone(&limits) as Arc<dyn Mutate>,
                Arc::clone(&accounts) as Arc<dyn Mutate>,
                Arc::clone(&nodes) as Arc<dyn Mutate>,
                Arc::new(node_taint::NodeTaint),
                Arc::clone(&priority) as Arc<dyn Mutate>,
                Arc::new(default_toleration_seconds::DefaultTolerationSeconds),
                Arc::clone(&runtimes) as Arc<dyn Mutate>,
                Arc::new(default_class::DefaultClass::new(Arc::clone(caches))),
            ],
            validating: vec![
                Arc::new(unenforced::Unenforced) as Arc<dyn Validate>,
                lifecycle,
                limits,
                accounts,
                nodes,
                Arc::new(pod_security::PodSecurity::new(Arc::clone(caches))),
                priority,
                Arc::new(claim_resize::ClaimResize::new(Arc::clone(caches))),
                runtimes,
                Arc::new(signers::Signers::new(Arc::clone(authorizer))),
                Arc::new(pod_group::PodGroup::new(Arc::clone(caches))),
            ],
        }
    }

    /// Lets every mutating plugin change the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(
        &self,
        review: &Review<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> ApiResult<()> {
        let (step, start) = (Step("admit", review.operation), monotonic());
        let mut outcome = Ok(());
        for plugin in &self.mutating {
            let start = monotonic();
            outcome = plugin.mutate(review, object, old).await;
            step.plugin(plugin.name(), &outcome, start);
            if outcome.is_err() {
                break;
            }
        }
        step.all(&outcome, start);
        outcome
    }

    /// Asks every validating plugin.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(
        &self,
        review: &Review<'_>,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> ApiResult<()> {
        let (step, start) = (Step("validate", review.operation), monotonic());
        let mut outcome = Ok(());
        for plugin in &self.validating {
            let start = monotonic();
            outcome = plugin.validate(review, object, old).await;
            step.plugin(plugin.name(), &outcome, start);
            if outcome.is_err() {
                break;
            }
        }
        step.all(&outcome, start);
        outcome
    }
}
