//! A rolling update: the newest set grows as far as the surge allows, then old ones shrink as far as availability allows.

use super::replica_sets::{Sets, available, wanted, wanted_by};
use super::{View, revision, scale, status};
use nauplius_base::time::Timestamp;
use nauplius_kinds::{Deployment, Object, ReplicaSet, deployment};
use nauplius_reconcile::{Action, Plan};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One step.
pub(super) fn step(view: &View, sets: &Sets, now: Timestamp, plan: &mut Plan) {
    if revision::sync(view, sets, true, now, plan) {
        return;
    }
    let Some(new) = &sets.new else { return };
    let deployment = &view.deployment;
    match grow(deployment, sets, new) {
        Some(action) => plan.act(action),
        None => plan.actions.extend(shrink(deployment, sets, new)),
    }
    if plan.actions.is_empty() && status::is_complete(deployment, deployment.status.as_ref()) {
        scale::clean_up(deployment, sets, plan);
    }
    status::rollout(view, sets, now, plan);
}

fn grow(deployment: &Deployment, sets: &Sets, new: &ReplicaSet) -> Option<Action> {
    let replicas = deployment::replicas(deployment);
    let target =
        if wanted(new) > replicas { replicas } else { revision::room(deployment, sets, wanted(new)) };
    scale::scale_if_needed(deployment, new, target)
}

/// Old sets first lose pods that do not work anyway, then as many as the available ones allow.
fn shrink(deployment: &Deployment, sets: &Sets, new: &ReplicaSet) -> Vec<Action> {
    let (_, unavailable) = deployment::surge_and_unavailable(deployment);
    let min_available = deployment::replicas(deployment) - unavailable;
    let missing = wanted(new) - lasting(new);
    let spare = wanted_by(sets.all()) - min_available - missing;
    if wanted_by(&sets.old) == 0 || spare <= 0 {
        return Vec::new();
    }
    let mut targets: BTreeMap<&str, i32> = sets.old.iter().map(|set| (set.name(), wanted(set))).collect();
    take(&sets.old, &mut targets, spare, |set, target| (target - lasting(set)).max(0));
    let spare = sets.all().map(|set| lasting(set)).sum::<i32>() - min_available;
    take(&sets.old, &mut targets, spare, |_, target| target);
    let changed = sets.old.iter().filter_map(|set| {
        let target = targets.get(set.name())?;
        scale::scale_if_needed(deployment, set, *target)
    });
    changed.collect()
}

/// The available pods that will stay: a set that was just scaled down still counts those that are about to go.
fn lasting(set: &ReplicaSet) -> i32 {
    available(set).min(wanted(set))
}

/// Takes up to `spare` pods from `sets`, from each at most what `most` allows.
fn take(
    sets: &[Arc<ReplicaSet>],
    targets: &mut BTreeMap<&str, i32>,
    mut spare: i32,
    most: impl Fn(&ReplicaSet, i32) -> i32,
) {
    for set in sets {
        let Some(target) = targets.get_mut(set.name()) else { continue };
        let taken = most(set, *target).min(spare).max(0);
        *target -= taken;
        spare -= taken;
    }
}
