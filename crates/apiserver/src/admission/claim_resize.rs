//! PersistentVolumeClaimResize: a claim asks for more only once it has a volume, and where its class allows that.

use super::lookup::object;
use super::{Operation, Review, Validate};
use crate::cache::Caches;
use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use nauplius_meta::quantity::Quantity;
use serde_json::Value;
use std::sync::Arc;

const UNBOUND: &str = "Only bound persistent volume claims can be expanded";
const NOT_ALLOWED: &str = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc \
                           must support resize";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The plugin.
pub struct ClaimResize {
    caches: Arc<Caches>,
}

impl ClaimResize {
    /// Looks classes up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    async fn check(&self, review: &Review<'_>, new: &Value, old: &Value) -> ApiResult<()> {
        if size(new) <= size(old) {
            return Ok(());
        }
        if old["status"]["phase"] != "Bound" {
            return Err(review.forbidden(Some(new), UNBOUND));
        }
        if !self.allows(new, old).await? {
            return Err(review.forbidden(Some(new), NOT_ALLOWED));
        }
        Ok(())
    }

    async fn allows(&self, new: &Value, old: &Value) -> ApiResult<bool> {
        let name = class(new);
        if name.is_empty() || name != class(old) {
            return Ok(false);
        }
        let class = object(&self.caches, ("storage.k8s.io", "storageclasses"), "", name).await?;
        Ok(class.is_some_and(|class| class["allowVolumeExpansion"] == true))
    }
}

fn size(claim: &Value) -> Option<Quantity> {
    // A claim that is stored asks for a quantity.
    // A claim without an amount asks for none.
    Quantity::from_value(&claim["spec"]["resources"]["requests"]["storage"]).ok()
}

fn class(claim: &Value) -> &str {
    let annotated = claim["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    annotated.or_else(|| claim["spec"]["storageClassName"].as_str()).unwrap_or_default()
}

impl Validate for ClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            match (object, old) {
                (Some(new), Some(old))
                    if review.is_for("", "persistentvolumeclaims")
                        && review.operation == Operation::Update =>
                {
                    self.check(review, new, old).await
                }
                _ => Ok(()),
            }
        })
    }
}
