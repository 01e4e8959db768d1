//! `pods/eviction`: a deletion that asks the pod's disruption budget first.

use crate::admission::Operation;
use crate::cache::Entry;
use crate::error::{ApiResult, unreadable};
use crate::registry::delete::delete_object;
use crate::registry::options::{DeleteOptions, FieldValidation};
use crate::registry::write::{Also, Existing, Step, Transform};
use crate::registry::{Scope, decode_body, read_body};
use crate::respond::{self, Reply};
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_base::time;
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, Reason, Status, StatusCause};
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::object;
use nauplius_meta::selector::LabelSelector;
use serde_json::Value;
use std::sync::Arc;

/// More disrupted pods than that are not tracked by one budget; upstream's limit.
const MAX_DISRUPTED_PODS: usize = 2_000;

pub(super) async fn evict(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let (bytes, format) = read_body(scope, body).await?;
    let expected = GroupVersionKind::new("policy", "v1", "Eviction");
    let mut eviction = decode_body(scope, &bytes, format, &expected, FieldValidation::Warn)?;
    if !object::name(&eviction).is_empty() && object::name(&eviction) != scope.name() {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = eviction.get("deleteOptions").filter(|options| options.is_object()).cloned();
    let options = DeleteOptions::of(&scope.call.query, options)?;
    crate::registry::get::wait(scope, None).await?;
    let pod = scope.resource.cache.get(scope.namespace(), scope.name()).ok_or_else(|| scope.not_found())?;
    let pod = pod.object().map_err(unreadable)?;
    let review = scope.review(Operation::Create, scope.name(), options.dry_run, &options.object);
    let admission = &scope.server.config.admission;
    admission.mutate(&review, &mut eviction, None).await?;
    admission.validate(&review, Some(&eviction), None).await?;
    if !ignores_budgets(&pod) {
        take_from_budget(scope, &pod, options.dry_run).await?;
    }
    delete_object(scope, scope.name(), &options).await?;
    let mut status = Status::success(None);
    status.code = StatusCode::CREATED.as_u16();
    Ok(respond::status(&status, &scope.output))
}

/// Pods that are over, that never ran or that are going already disrupt nothing.
fn ignores_budgets(pod: &Value) -> bool {
    let phase = object::get_str(pod, &["status", "phase"]);
    matches!(phase, "Succeeded" | "Failed" | "Pending") || object::deletion_timestamp(pod).is_some()
}

async fn take_from_budget(scope: &Scope, pod: &Value, dry_run: bool) -> ApiResult<()> {
    let Some(budgets) = scope.server.registry.resource("policy", "poddisruptionbudgets") else {
        return Ok(());
    };
    let matching = matching_budgets(scope, pod)?;
    let [budget] = &matching[..] else {
        if matching.is_empty() {
            return Ok(());
        }
        let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message))));
    };
    if object::get_str(&budget.object().map_err(unreadable)?, &["spec", "unhealthyPodEvictionPolicy"])
        == "AlwaysAllow"
        && !is_ready(pod)
    {
        return Ok(());
    }
    let mut take = Take { pod: scope.name() };
    budgets.modify(scope.namespace(), budget.name(), &mut take, dry_run).await?;
    Ok(())
}

fn is_ready(pod: &Value) -> bool {
    object::get_array(pod, &["status", "conditions"])
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn matching_budgets(scope: &Scope, pod: &Value) -> ApiResult<Vec<Arc<Entry>>> {
    let Some(cache) = scope.resource.caches.resource("policy", "poddisruptionbudgets") else {
        return Ok(Vec::new());
    };
    let (snapshot, _) = cache.snapshot();
    let prefix = cache.namespace_prefix(scope.namespace());
    let mut matching = Vec::new();
    for entry in snapshot.with_prefix(prefix.as_bytes()) {
        let budget = entry.object().map_err(unreadable)?;
        // A stored selector was validated; one that cannot be read selects nothing.
        let Ok(selector) = LabelSelector::from_value(object::get(&budget, &["spec", "selector"])) else {
            continue;
        };
        if selector.matches(object::labels(pod)) {
            matching.push(Arc::clone(entry));
        }
    }
    Ok(matching)
}

/// Takes one disruption from a budget.
struct Take<'s> {
    pod: &'s str,
}

impl Transform for Take<'_> {
    fn step<'a>(&'a mut self, existing: &'a Existing) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let mut budget = existing.object.clone();
            let count = |name: &str| object::get_i64(&budget, &["status", name]).unwrap_or(0);
            let name = object::name(&budget).to_owned();
            if count("observedGeneration") < object::generation(&budget) {
                let why = format!("The disruption budget {name} is still being processed by the server.");
                return Err(refused(10, why));
            }
            let allowed = count("disruptionsAllowed");
            if allowed <= 0 {
                let why = format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    count("desiredHealthy"),
                    count("currentHealthy")
                );
                return Err(refused(0, why));
            }
            let disrupted = object::object_at(&mut budget, &["status", "disruptedPods"]);
            if disrupted.len() >= MAX_DISRUPTED_PODS {
                let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
                return Err(refused(0, why.to_owned()));
            }
            disrupted.insert(self.pod.to_owned(), time::rfc3339_seconds(time::now()).into());
            object::set(&mut budget, &["status", "disruptionsAllowed"], allowed - 1);
            Ok(Step::Write(budget, Also::default()))
        })
    }
}

fn refused(retry_after_s: u32, why: String) -> ApiError {
    ApiError::TooManyRequests {
        retry_after_s,
        message: "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
        causes: vec![StatusCause::new("DisruptionBudget", why, "")],
    }
}
