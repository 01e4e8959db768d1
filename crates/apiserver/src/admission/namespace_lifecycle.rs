//! NamespaceLifecycle: nothing is made in a namespace that does not exist or is going away, and the system's own namespaces
//! cannot be deleted.

use super::{Mutate, Operation, Review, Validate};
use crate::cache::{Caches, Entry};
use crate::error::{ApiResult, stale};
use futures_util::future::BoxFuture;
use nauplius_meta::error::{ApiError, StatusCause};
use nauplius_meta::gvk::GroupResource;
use serde_json::Value;
use std::sync::Arc;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle {
    caches: Arc<Caches>,
}

impl NamespaceLifecycle {
    /// Looks namespaces up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    async fn check(&self, review: &Review<'_>, object: Option<&Value>) -> ApiResult<()> {
        let in_namespace = !review.namespace.is_empty() && review.resource.resource != "namespaces";
        if !in_namespace || is_access_review(review) {
            return Ok(());
        }
        let namespace = self.find(review.namespace).await?;
        match (review.operation, namespace.field("status.phase")) {
            (Operation::Create, Some("Terminating")) => Err(terminating(review, object)),
            _ => Ok(()),
        }
    }

    /// A namespace that the cache does not know yet may have been made a moment ago.
    async fn find(&self, name: &str) -> ApiResult<Arc<Entry>> {
        let known = || self.caches.get("", "namespaces", "", name);
        let entry = match known() {
            Some(entry) => Some(entry),
            None => {
                self.caches.catch_up().await.map_err(stale)?;
                known()
            }
        };
        let missing =
            || ApiError::NotFound { resource: GroupResource::new("", "namespaces"), name: name.to_owned() };
        entry.ok_or_else(missing)
    }
}

/// Reviews ask about namespaces; they put nothing into them.
fn is_access_review(review: &Review<'_>) -> bool {
    review.resource.group == "authorization.k8s.io" && review.resource.resource == "localsubjectaccessreviews"
}

fn check_immortal(review: &Review<'_>) -> ApiResult<()> {
    if !IMMORTAL.contains(&review.name) {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        resource: GroupResource::new("", "namespaces"),
        name: review.name.to_owned(),
        message: "this namespace may not be deleted".to_owned(),
    })
}

fn terminating(review: &Review<'_>, object: Option<&Value>) -> ApiError {
    let name = review.namespace;
    let message = format!("unable to create new content in namespace {name} because it is being terminated");
    let forbidden = review.forbidden(object, message);
    let mut status = forbidden.to_status();
    let cause = StatusCause::new(
        "NamespaceTerminating",
        format!("namespace {name} is being terminated"),
        "metadata.namespace",
    );
    status.details.get_or_insert_default().causes.push(cause);
    ApiError::Status(Box::new(status))
}

impl Mutate for NamespaceLifecycle {
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            match review.operation {
                Operation::Create | Operation::Update => self.check(review, Some(object)).await,
                Operation::Delete | Operation::Connect => Ok(()),
            }
        })
    }
}

impl Validate for NamespaceLifecycle {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        _object: Option<&'a Value>,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        let deletes = review.operation == Operation::Delete && review.is_for("", "namespaces");
        Box::pin(std::future::ready(if deletes { check_immortal(review) } else { Ok(()) }))
    }
}
