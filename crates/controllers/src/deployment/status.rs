//! What a deployment's status says: counts over its sets, whether enough is available, and how the rollout goes.

use super::conditions::{
    AVAILABLE, NEW_AVAILABLE, PROGRESSING, REPLICA_FAILURE, TIMED_OUT, condition, find, has_deadline,
    progressing, put, remove,
};
use super::replica_sets::{Sets, actual, available};
use super::{View, conditions};
use nauplius_base::time::Timestamp;
use nauplius_client::ClientError;
use nauplius_kinds::api::apps::{DeploymentCondition, DeploymentStatus};
use nauplius_kinds::{Deployment, Object, ReplicaSet, deployment};
use nauplius_reconcile::{Action, Plan};
use std::sync::Arc;
use std::time::Duration;

/// Counts, and the condition Available.
pub(super) fn counts(deployment: &Deployment, sets: &Sets, now: Timestamp) -> DeploymentStatus {
    let known = deployment.status.clone().unwrap_or_default();
    let sum = |count: fn(&ReplicaSet) -> i32| sets.all().map(|set| count(set)).sum::<i32>();
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    let (total, available_now) = (sum(actual), sum(available));
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: some(sets.new.as_ref().map_or(0, |set| actual(set))),
        ready_replicas: some(sum(|set| {
            set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
        })),
        available_replicas: some(available_now),
        unavailable_replicas: some((wanted(sets) - available_now).max(0)),
        terminating_replicas: terminating(sets),
        ..known
    };
    let (_, unavailable) = deployment::surge_and_unavailable(deployment);
    put(
        &mut status,
        if available_now >= deployment::replicas(deployment) - unavailable {
            condition(
                AVAILABLE,
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
                now,
            )
        } else {
            let message = "Deployment does not have minimum availability.";
            condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message, now)
        },
    );
    status
}

fn wanted(sets: &Sets) -> i32 {
    super::replica_sets::wanted_by(sets.all())
}

/// Known only when every set tells it.
fn terminating(sets: &Sets) -> Option<i32> {
    sets.all().map(|set| set.status.as_ref()?.terminating_replicas).sum()
}

fn update(deployment: &Deployment, status: DeploymentStatus) -> Option<Action> {
    (deployment.status.as_ref() != Some(&status)).then(|| {
        let mut deployment = deployment.clone();
        deployment.status = Some(status);
        Action::update_status(&deployment)
    })
}

/// The status without a word on progress: for deployments that are scaled, paused or deleted.
pub(super) fn counted(view: &View, sets: &Sets, now: Timestamp) -> Option<Action> {
    update(&view.deployment, counts(&view.deployment, sets, now))
}

/// Whether every wanted pod has the newest template and is available, and no other is left.
pub(super) fn is_complete(deployment: &Deployment, status: Option<&DeploymentStatus>) -> bool {
    deployment::is_complete(&Deployment { status: status.cloned(), ..deployment.clone() })
}

/// The status with its word on progress, and when to look whether the deadline has passed.
pub(super) fn rollout(view: &View, sets: &Sets, now: Timestamp, plan: &mut Plan) {
    let deployment = &view.deployment;
    let mut status = counts(deployment, sets, now);
    if !has_deadline(deployment) {
        remove(&mut status, PROGRESSING);
    }
    if has_deadline(deployment) && !was_complete(&status) {
        progress(deployment, sets, &mut status, now);
    }
    match replica_failure(sets) {
        Some(failure) => put(&mut status, failure),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    if let Some(deadline) = until_deadline(deployment, &status, now) {
        plan.because("waiting for the newest replica set's pods");
        plan.again(deadline);
    }
    plan.actions.extend(update(deployment, status));
}

fn was_complete(status: &DeploymentStatus) -> bool {
    let reason = find(status, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    status.replicas == status.updated_replicas && reason == Some(NEW_AVAILABLE)
}

fn progress(deployment: &Deployment, sets: &Sets, status: &mut DeploymentStatus, now: Timestamp) {
    let subject = sets.new.as_ref().map_or_else(
        || format!("Deployment \"{}\"", deployment.name()),
        |set| format!("ReplicaSet \"{}\"", set.name()),
    );
    if is_complete(deployment, Some(status)) {
        put(
            status,
            progressing("True", NEW_AVAILABLE, format!("{subject} has successfully progressed."), now),
        );
    } else if has_progressed(deployment.status.as_ref(), status) {
        let mut condition =
            progressing("True", "ReplicaSetUpdated", format!("{subject} is progressing."), now);
        // The time of the update moves on even where the condition says the same: the deadline counts from it.
        if let Some(known) = find(status, PROGRESSING).filter(|known| known.status == condition.status) {
            condition.last_transition_time = known.last_transition_time.clone();
        }
        remove(status, PROGRESSING);
        put(status, condition);
    } else if deadline(deployment, status).is_some_and(|deadline| deadline < now) {
        put(status, progressing("False", TIMED_OUT, format!("{subject} has timed out progressing."), now));
    }
}

fn has_progressed(old: Option<&DeploymentStatus>, new: &DeploymentStatus) -> bool {
    let none = DeploymentStatus::default();
    let old = old.unwrap_or(&none);
    let number = |count: Option<i32>| count.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || outdated(new) < outdated(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

/// When the rollout will have taken too long.
fn deadline(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let condition = find(status, PROGRESSING)?;
    if matches!(condition.reason.as_deref(), Some(NEW_AVAILABLE | TIMED_OUT)) {
        return None;
    }
    let allowed_s = deployment.spec.progress_deadline_seconds.filter(|_| has_deadline(deployment))?;
    let since = condition.last_update_time.as_ref()?.0;
    // A deadline beyond the calendar never passes.
    Timestamp::from_second(since.as_second() + i64::from(allowed_s)).ok()
}

fn until_deadline(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    if is_complete(deployment, Some(status)) {
        return None;
    }
    let deadline = deadline(deployment, status)?;
    // Conditions have whole seconds: upstream, too, looks a second later.
    Some(Duration::from_secs((deadline.as_second() - now.as_second()).max(0).unsigned_abs() + 1))
}

/// The first failure that the newest set, or else an old one, tells of.
fn replica_failure(sets: &Sets) -> Option<DeploymentCondition> {
    let of = |set: &Arc<ReplicaSet>| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        let failure =
            conditions.iter().find(|condition| condition.type_.as_deref() == Some(REPLICA_FAILURE))?;
        Some(DeploymentCondition {
            type_: failure.type_.clone(),
            status: failure.status.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            last_transition_time: failure.last_transition_time.clone(),
            last_update_time: failure.last_transition_time.clone(),
        })
    };
    sets.new.iter().chain(&sets.old).find_map(of)
}

/// A refused replica set: a namesake means that the hash collided, anything else is told in Progressing.
pub(super) fn after_failed_create(view: &View, error: &ClientError, now: Timestamp) -> Option<Action> {
    let mut failed = Deployment::clone(&view.deployment);
    if error.is_already_exists() {
        let status = failed.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    } else if has_deadline(&failed) {
        let condition = progressing("False", "ReplicaSetCreateError", error.to_string(), now);
        conditions::set(&mut failed, condition);
    }
    (failed != *view.deployment).then(|| Action::update_status(&failed))
}
