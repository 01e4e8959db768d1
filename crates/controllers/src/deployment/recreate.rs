//! Recreation: all old pods end before the first new one starts.

use super::replica_sets::{Sets, actual};
use super::{View, revision, scale, status};
use nauplius_base::time::Timestamp;
use nauplius_kinds::{Object, deployment};
use nauplius_reconcile::Plan;

/// One step.
pub(super) fn step(view: &View, sets: &Sets, now: Timestamp, plan: &mut Plan) {
    let deployment = &view.deployment;
    if revision::sync(view, sets, false, now, plan) {
        return;
    }
    plan.actions.extend(sets.old.iter().filter_map(|set| scale::scale_if_needed(deployment, set, 0)));
    let ready = plan.actions.is_empty() && !old_pods_run(view, sets);
    if !ready {
        plan.because("waiting for the old pods to end");
    } else if revision::sync(view, sets, true, now, plan) {
        return;
    } else if let Some(new) = &sets.new {
        let replicas = deployment::replicas(deployment);
        plan.actions.extend(scale::scale_if_needed(deployment, new, replicas));
        if plan.actions.is_empty() && status::is_complete(deployment, deployment.status.as_ref()) {
            scale::clean_up(deployment, sets, plan);
        }
    }
    status::rollout(view, sets, now, plan);
}

fn old_pods_run(view: &View, sets: &Sets) -> bool {
    sets.old.iter().any(|set| actual(set) > 0 || view.occupied.contains(set.uid()))
}
