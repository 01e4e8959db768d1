//! Sizes of replica sets: one set's, and the proportions of several while a deployment is scaled amid a rollout.

use super::annotations::{DESIRED, MAX, number, sizes};
use super::replica_sets::{Sets, actual, age, available, wanted, wanted_by};
use super::{View, annotations, revision, status};
use nauplius_base::time::Timestamp;
use nauplius_kinds::{Deployment, Object, ReplicaSet, deployment};
use nauplius_reconcile::{Action, EventKind, Note, Plan};
use std::cmp::Reverse;
use std::sync::Arc;

/// Scales `set` to `replicas` and notes the deployment's size on it; nothing if both are so.
pub(super) fn scale(deployment: &Deployment, set: &ReplicaSet, replicas: i32) -> Option<Action> {
    let desired = deployment::replicas(deployment);
    let (surge, _) = deployment::surge_and_unavailable(deployment);
    let noted = number(&set.metadata, DESIRED) == Some(desired)
        && number(&set.metadata, MAX) == Some(desired + surge);
    let before = wanted(set);
    if before == replicas && noted {
        return None;
    }
    let mut scaled = set.clone();
    scaled.spec.replicas = Some(replicas);
    sizes(scaled.metadata.annotations.get_or_insert_default(), desired, desired + surge);
    let update = Action::update(&scaled);
    if before == replicas {
        return Some(update);
    }
    let direction = if before < replicas { "up" } else { "down" };
    let message = format!("Scaled {direction} replica set {} from {before} to {replicas}", set.name());
    Some(update.on_success(Note::about(deployment, EventKind::Normal, "ScalingReplicaSet", message)))
}

/// As [`scale`], but a set that has its size is left alone.
pub(super) fn scale_if_needed(deployment: &Deployment, set: &ReplicaSet, replicas: i32) -> Option<Action> {
    (wanted(set) != replicas).then(|| scale(deployment, set, replicas)).flatten()
}

/// The step of a deployment that was scaled or is paused: sizes follow, templates do not.
pub(super) fn resize(view: &View, sets: &Sets, now: Timestamp, plan: &mut Plan) {
    let deployment = &view.deployment;
    if revision::sync(view, sets, false, now, plan) {
        return;
    }
    if let Some(only) = active_or_latest(sets) {
        plan.actions.extend(scale_if_noted(deployment, only));
    } else if sets.new.as_ref().is_some_and(|new| is_saturated(deployment, new)) {
        let old = sets.old.iter().filter(|set| wanted(set) > 0);
        plan.actions.extend(old.filter_map(|set| scale_if_needed(deployment, set, 0)));
    } else if deployment::is_rolling(deployment) {
        plan.actions.extend(in_proportion(deployment, sets));
    }
    if deployment.spec.paused == Some(true) {
        clean_up(deployment, sets, plan);
    }
    if plan.actions.is_empty() || deployment.spec.paused == Some(true) {
        plan.actions.extend(status::counted(view, sets, now));
    }
}

/// The only set with pods to have gets them all. Its note is written even where the size is right already.
fn scale_if_noted(deployment: &Deployment, set: &ReplicaSet) -> Option<Action> {
    let replicas = deployment::replicas(deployment);
    let noted = number(&set.metadata, DESIRED).is_none_or(|desired: i32| desired == replicas);
    if wanted(set) == replicas && noted { None } else { scale(deployment, set, replicas) }
}

/// The only set with pods to have; if there is none at all, the newest, or else the youngest.
fn active_or_latest(sets: &Sets) -> Option<&Arc<ReplicaSet>> {
    match sets.active()[..] {
        [] => sets.new.as_ref().or_else(|| sets.old.last()),
        [only] => Some(only),
        _ => None,
    }
}

fn is_saturated(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let replicas = deployment::replicas(deployment);
    wanted(set) == replicas && number(&set.metadata, DESIRED) == Some(replicas) && available(set) == replicas
}

/// Shares what comes or goes among the sets with pods, by their sizes; the largest takes what rounding leaves.
fn in_proportion(deployment: &Deployment, sets: &Sets) -> Vec<Action> {
    let replicas = deployment::replicas(deployment);
    let (surge, _) = deployment::surge_and_unavailable(deployment);
    let allowed = if replicas > 0 { replicas + surge } else { 0 };
    let mut active = sets.active();
    let to_add = allowed - wanted_by(active.iter().copied());
    if to_add >= 0 {
        active.sort_by_key(|set| (Reverse(wanted(set)), Reverse(age(set))));
    } else {
        active.sort_by_key(|set| (Reverse(wanted(set)), age(set)));
    }
    let mut added = 0;
    let mut targets = Vec::with_capacity(active.len());
    for set in &active {
        let share = share(deployment, set, to_add, added);
        added += share;
        targets.push(wanted(set) + share);
    }
    if let Some(first) = targets.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    active.iter().zip(targets).filter_map(|(set, target)| scale(deployment, set, target)).collect()
}

fn share(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if wanted(set) == 0 || to_add == added {
        return 0;
    }
    let (fraction, left) = (fraction(deployment, set), to_add - added);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// What the set gains or loses to stay in proportion with the deployment.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let replicas = deployment::replicas(deployment);
    if replicas == 0 {
        return -wanted(set);
    }
    let (surge, _) = deployment::surge_and_unavailable(deployment);
    let known = number(&set.metadata, MAX).filter(|max: &i32| *max != 0);
    let before = known.or_else(|| deployment.status.as_ref()?.replicas).unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let size = f64::from(wanted(set)) * f64::from(replicas + surge) / f64::from(before);
    #[allow(clippy::cast_possible_truncation)] // Below the sum of two 32-bit counts, and it saturates.
    let rounded = size.round() as i32;
    rounded - wanted(set)
}

/// Deletes the oldest empty sets beyond `revisionHistoryLimit`.
pub(super) fn clean_up(deployment: &Deployment, sets: &Sets, plan: &mut Plan) {
    let Some(limit) = deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else {
        return;
    };
    let mut old: Vec<_> = sets.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    old.sort_by_key(|set| (annotations::revision(set), age(set)));
    let empty = |set: &&&Arc<ReplicaSet>| {
        let seen = set.status.as_ref().and_then(|status| status.observed_generation);
        actual(set) == 0 && wanted(set) == 0 && set.metadata.generation <= seen
    };
    let surplus = old.iter().take(surplus).filter(empty);
    plan.actions.extend(surplus.map(|set| Action::delete(&***set)));
}
