//! The arithmetic of a disruption budget.

use super::View;
use crate::conditions::seconds;
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::IntOrString;
use nauplius_kinds::api::meta::{Condition, Time};
use nauplius_kinds::api::policy::PodDisruptionBudgetStatus;
use nauplius_kinds::{Object, PodDisruptionBudget, deployment, pod};
use std::collections::BTreeMap;
use std::time::Duration;

const ALLOWED: &str = "DisruptionAllowed";
/// An evicted pod that is still there after this time was not evicted.
const EVICTION_MAX_S: i64 = 120;

/// The status, and when it would change by itself.
pub(super) fn of(
    view: &View,
    now: Timestamp,
) -> Result<(PodDisruptionBudgetStatus, Option<Duration>), String> {
    let (expected, desired) = counts(view)?;
    let (disrupted, again) = disrupted(view, now);
    let healthy = view
        .pods
        .iter()
        .filter(|pod| !pod::is_terminating(pod) && !disrupted.contains_key(pod.name()) && pod::is_ready(pod));
    // Pods are far fewer than the type can count.
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let (state, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|disrupted| !disrupted.is_empty()),
        observed_generation: view.budget.metadata.generation,
        conditions: Some(conditions(&view.budget, state, reason, "", now)),
    };
    Ok((status, again))
}

/// The status of a budget whose pods cannot be counted: nothing may be disrupted.
pub(super) fn failed(
    budget: &PodDisruptionBudget,
    message: &str,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions(budget, "False", "SyncFailed", message, now)),
        ..budget.status.clone().unwrap_or_default()
    }
}

/// How many pods there should be, and how many must stay healthy.
fn counts(view: &View) -> Result<(i32, i32), String> {
    let Some(spec) = &view.budget.spec else { return Ok((0, 0)) };
    let pods = i32::try_from(view.pods.len()).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => {
            let expected = view.scale.clone()?;
            Ok((expected, (expected - deployment::scaled(unavailable, expected, true)).max(0)))
        }
        (None, Some(IntOrString::Int(available))) => Ok((pods, *available)),
        (None, Some(available)) => {
            let expected = view.scale.clone()?;
            Ok((expected, deployment::scaled(available, expected, true)))
        }
        (None, None) => Ok((pods, 0)),
    }
}

/// Pods whose eviction was granted and that are still there, and when the first of them counts as healthy again.
fn disrupted(view: &View, now: Timestamp) -> (BTreeMap<String, Time>, Option<Duration>) {
    let known = view.budget.status.iter().flat_map(|status| status.disrupted_pods.iter().flatten());
    let is_there = |name: &str| view.pods.iter().any(|pod| pod.name() == name && !pod::is_terminating(pod));
    let left_s = |since: &Time| since.0.as_second() + EVICTION_MAX_S - now.as_second();
    let waiting: BTreeMap<_, _> = known
        .filter(|(name, since)| is_there(name) && left_s(since) > 0)
        .map(|(name, since)| (name.clone(), since.clone()))
        .collect();
    let again = waiting.values().map(left_s).min().map(|left_s| Duration::from_secs(left_s.unsigned_abs()));
    (waiting, again)
}

fn conditions(
    budget: &PodDisruptionBudget,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let mut all = budget.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let known = all.iter().find(|condition| condition.type_ == ALLOWED && condition.status == status);
    let last_transition_time = known.map_or_else(|| seconds(now), |known| known.last_transition_time.clone());
    all.retain(|condition| condition.type_ != ALLOWED);
    all.push(Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time,
        observed_generation: budget.metadata.generation,
    });
    all
}
