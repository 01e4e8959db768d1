//! What a disruption budget says to the eviction of a pod. The budget's status counts; whoever keeps it is not known here.

use crate::cache::Entry;
use crate::error::{ApiResult, unreadable};
use crate::registry::Scope;
use crate::registry::write::{Also, Existing, Step, Transform};
use futures_util::future::BoxFuture;
use nauplius_base::time;
use nauplius_meta::error::{ApiError, Reason, Status, StatusCause};
use nauplius_meta::gvk::GroupResource;
use nauplius_meta::object;
use nauplius_meta::selector::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;

/// More disrupted pods than that are not tracked by one budget; upstream's limit.
const MAX_DISRUPTED_PODS: usize = 2_000;
/// When a budget that is being counted may be asked again.
const BUSY_RETRY_S: u32 = 10;
const ALLOWED: &str = "DisruptionAllowed";
const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Why a pod may be evicted.
pub(super) enum Granted {
    /// No budget guards it, or one has allowed the disruption.
    Allowed,
    /// It counts for nothing in its budget, as long as it is not ready.
    Unhealthy {
        /// The budget's name.
        budget: String,
    },
}

/// Asks the budget of a running pod, and takes a disruption from it.
pub(super) async fn ask(scope: &Scope, pod: &Value, dry_run: bool) -> ApiResult<Granted> {
    let Some(budgets) = scope.server.registry.resource("policy", "poddisruptionbudgets") else {
        return Ok(Granted::Allowed);
    };
    let matching = matching(scope, pod)?;
    let [entry] = &matching[..] else {
        if matching.is_empty() {
            return Ok(Granted::Allowed);
        }
        let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message))));
    };
    let budget = entry.object().map_err(unreadable)?;
    if !is_ready(pod) && spares_unhealthy(&budget) {
        return Ok(Granted::Unhealthy { budget: entry.name().to_owned() });
    }
    budgets.modify(scope.namespace(), entry.name(), &mut Take { pod: scope.name() }, dry_run).await?;
    Ok(Granted::Allowed)
}

fn is_ready(pod: &Value) -> bool {
    object::get_array(pod, &["status", "conditions"])
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether pods that are not ready may go: always, or while the others are enough.
fn spares_unhealthy(budget: &Value) -> bool {
    let (healthy, desired) = (count(budget, "currentHealthy"), count(budget, "desiredHealthy"));
    object::get_str(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
        || (healthy >= desired && desired > 0)
}

fn count(budget: &Value, name: &str) -> i64 {
    object::get_i64(budget, &["status", name]).unwrap_or(0)
}

fn matching(scope: &Scope, pod: &Value) -> ApiResult<Vec<Arc<Entry>>> {
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
            check(&existing.object)?;
            let mut budget = existing.object.clone();
            take(&mut budget, self.pod, &time::rfc3339_seconds(time::now()));
            Ok(Step::Write(budget, Also::default()))
        })
    }
}

/// Whether a budget allows a disruption.
fn check(budget: &Value) -> ApiResult<()> {
    let name = object::name(budget);
    if count(budget, "observedGeneration") < object::generation(budget) {
        return Err(busy(name));
    }
    let allowed = count(budget, "disruptionsAllowed");
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return Err(forbidden(name, why, why));
    }
    if object::get_object(budget, &["status", "disruptedPods"]).len() > MAX_DISRUPTED_PODS {
        return Err(forbidden(
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            "too many pending evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 { Err(refused(0, why_none(budget))) } else { Ok(()) }
}

/// Why a budget allows no disruption.
fn why_none(budget: &Value) -> String {
    let name = object::name(budget);
    let conditions = object::get_array(budget, &["status", "conditions"]);
    let told = conditions.iter().find(|condition| condition["type"] == ALLOWED);
    let told = told
        .filter(|told| told["status"] == "False")
        .map(|told| (object::get_str(told, &["reason"]), object::get_str(told, &["message"])));
    let told = told.filter(|(_, message)| !message.is_empty());
    let (healthy, desired) = (count(budget, "currentHealthy"), count(budget, "desiredHealthy"));
    match told {
        // What could not be counted is not to be trusted.
        Some(("SyncFailed", message)) => {
            format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
            )
        }
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        Some((reason, message)) => {
            format!(
                "The disruption budget {name} does not allow evicting pods currently ({reason}): {message}"
            )
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

fn take(budget: &mut Value, pod: &str, now: &str) {
    let left = count(budget, "disruptionsAllowed") - 1;
    object::set(budget, &["status", "disruptionsAllowed"], left);
    object::object_at(budget, &["status", "disruptedPods"]).insert(pod.to_owned(), now.into());
    if left == 0 {
        tell_none(budget, now);
    }
}

/// The condition of a budget that allows nothing more.
fn tell_none(budget: &mut Value, now: &str) {
    let mut conditions = object::get_array(budget, &["status", "conditions"]).to_vec();
    let known = conditions.iter().position(|condition| condition["type"] == ALLOWED);
    let since = known
        .map(|at| &conditions[at])
        .filter(|known| known["status"] == "False")
        .map_or_else(|| Value::from(now), |known| known["lastTransitionTime"].clone());
    let condition = json!({
        "type": ALLOWED, "status": "False", "observedGeneration": count(budget, "observedGeneration"),
        "lastTransitionTime": since, "reason": "InsufficientPods", "message": "",
    });
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    object::set(budget, &["status", "conditions"], conditions);
}

/// The refusal of a budget that is not counted yet, or was counted anew meanwhile.
pub(super) fn busy(name: &str) -> ApiError {
    refused(BUSY_RETRY_S, format!("The disruption budget {name} is still being processed by the server."))
}

fn refused(retry_after_s: u32, why: String) -> ApiError {
    let causes = vec![StatusCause::new("DisruptionBudget", why, "")];
    ApiError::TooManyRequests { retry_after_s, message: REFUSAL.to_owned(), causes }
}

fn forbidden(name: &str, why: &str, cause: &str) -> ApiError {
    let resource = GroupResource::new("policy", "poddisruptionbudget");
    let mut status = ApiError::forbidden(&resource, name, why).to_status();
    let cause = format!("The disruption budget {name} does not allow evicting pods currently: {cause}");
    let details = status.details.get_or_insert_default();
    details.causes.push(StatusCause::new("DisruptionBudget", cause, ""));
    ApiError::Status(Box::new(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: &Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 1}, "status": status})
    }

    fn refusal(status: &Value) -> (u16, Option<u32>, String, String) {
        let error = check(&budget(status)).unwrap_err();
        let causes = error.to_status().details.unwrap().causes;
        (error.code(), error.retry_after_s(), error.message(), causes[0].message.clone())
    }

    #[test]
    fn budgets_refuse_in_upstreams_words() {
        let counted = |status: Value| {
            let mut status = status;
            status["observedGeneration"] = json!(1);
            refusal(&status)
        };
        let failed = |reason: &str, message: &str| json!([{"type": ALLOWED, "status": "False", "reason": reason, "message": message}]);
        let busy = "The disruption budget b is still being processed by the server.";
        assert_eq!(refusal(&json!({})), (429, Some(10), REFUSAL.to_owned(), busy.to_owned()));
        for (status, cause) in [
            (
                json!({"desiredHealthy": 2, "currentHealthy": 2}),
                "The disruption budget b needs 2 healthy pods and has 2 currently",
            ),
            (
                json!({"conditions": failed("SyncFailed", "no")}),
                "The disruption budget b does not allow evicting pods currently because it failed sync: no",
            ),
            (
                json!({"currentHealthy": 3, "conditions": failed("Odd", "no")}),
                "The disruption budget b does not allow evicting pods currently (Odd): no",
            ),
            (
                json!({"currentHealthy": 3, "conditions": failed("Odd", "")}),
                "The disruption budget b does not allow evicting pods currently",
            ),
        ] {
            assert_eq!(counted(status), (429, None, REFUSAL.to_owned(), cause.to_owned()));
        }
        let (code, _, message, cause) = counted(json!({"disruptionsAllowed": -1}));
        assert_eq!(
            (code, message.as_str()),
            (403, "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative")
        );
        assert!(
            cause.ends_with("does not allow evicting pods currently: pdb disruptions allowed is negative")
        );
        let many: serde_json::Map<_, _> =
            (0..=MAX_DISRUPTED_PODS).map(|n| (n.to_string(), json!(""))).collect();
        let (code, _, message, _) = counted(json!({"disruptionsAllowed": 1, "disruptedPods": many}));
        assert!(code == 403 && message.contains("DisruptedPods map too big"), "{message}");
    }

    #[test]
    fn the_last_disruption_closes_the_budget() {
        let open = json!([{"type": ALLOWED, "status": "True", "reason": "SufficientPods", "lastTransitionTime": "t"}]);
        let mut budget =
            budget(&json!({"disruptionsAllowed": 2, "observedGeneration": 1, "conditions": open}));
        take(&mut budget, "p", "now");
        assert_eq!(budget["status"]["conditions"][0]["status"], "True");
        take(&mut budget, "q", "later");
        let condition = &budget["status"]["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["reason"], &condition["lastTransitionTime"]),
            (&json!("False"), &json!("InsufficientPods"), &json!("later"))
        );
        assert_eq!(budget["status"]["disruptedPods"], json!({"p": "now", "q": "later"}));
    }

    #[test]
    fn pods_that_are_not_ready_go_while_others_are_enough() {
        let spared = |policy: Value, healthy: i64, desired: i64| {
            let mut budget = budget(&json!({"currentHealthy": healthy, "desiredHealthy": desired}));
            budget["spec"] = json!({"unhealthyPodEvictionPolicy": policy});
            spares_unhealthy(&budget)
        };
        assert!(spared(Value::Null, 2, 2) && spared(json!("AlwaysAllow"), 1, 2));
        assert!(!spared(Value::Null, 1, 2) && !spared(json!("IfHealthyBudget"), 0, 0));
    }
}
