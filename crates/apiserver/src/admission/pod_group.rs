//! PodGroupWorkloadExists: a new pod group that says which template it was made from names one that is there.

use super::lookup::object;
use super::{Operation, Review, Validate};
use crate::cache::Caches;
use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "scheduling.k8s.io";

/// The plugin.
pub struct PodGroup {
    caches: Arc<Caches>,
}

impl PodGroup {
    /// Looks workloads up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    async fn check(&self, review: &Review<'_>, group: &Value) -> ApiResult<()> {
        let reference = &group["spec"]["workloadRef"];
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let (name, template) = (text("workloadName"), text("templateName"));
        if reference.is_null() {
            return Ok(());
        }
        let found = object(&self.caches, (GROUP, "workloads"), review.namespace, name).await?;
        let Some(workload) = found else {
            let message = format!("PodGroup rejected: Workload {name:?} not found");
            return Err(review.forbidden(Some(group), message));
        };
        let templates = workload["spec"]["podGroupTemplates"].as_array();
        if templates.into_iter().flatten().any(|known| known["name"] == template) {
            return Ok(());
        }
        let message =
            format!("PodGroup rejected: PodGroupTemplate {template:?} not found in Workload {name:?}");
        Err(review.forbidden(Some(group), message))
    }
}

impl Validate for PodGroup {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            match object {
                Some(group) if review.is_for(GROUP, "podgroups") && review.operation == Operation::Create => {
                    self.check(review, group).await
                }
                _ => Ok(()),
            }
        })
    }
}
