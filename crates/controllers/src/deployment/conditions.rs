//! A deployment's conditions, set as upstream sets them: one that says the same again stays as it was.

use crate::conditions::seconds;
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::apps::{DeploymentCondition, DeploymentStatus};
use nauplius_kinds::{Deployment, deployment};
use nauplius_reconcile::Action;

pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const AVAILABLE: &str = "Available";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";

/// A new condition.
pub(super) fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(type_.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        last_update_time: Some(seconds(now)),
        last_transition_time: Some(seconds(now)),
    }
}

pub(super) fn progressing(
    status: &str,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> DeploymentCondition {
    condition(PROGRESSING, status, reason, message, now)
}

/// The condition of that type in a status.
pub(super) fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_.as_deref() == Some(type_))
}

pub(super) fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(type_));
    }
}

/// Puts `condition` into `status` unless one with the same status and reason is there.
pub(super) fn put(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let type_ = condition.type_.clone().unwrap_or_default();
    if let Some(known) = find(status, &type_) {
        if known.status == condition.status && known.reason == condition.reason {
            return;
        }
        if known.status == condition.status {
            condition.last_transition_time = known.last_transition_time.clone();
        }
    }
    remove(status, &type_);
    status.conditions.get_or_insert_default().push(condition);
}

/// As [`put`], into the status of `deployment`.
pub(super) fn set(deployment: &mut Deployment, condition: DeploymentCondition) {
    put(deployment.status.get_or_insert_default(), condition);
}

/// Whether it must progress within a time.
pub(super) fn has_deadline(deployment: &Deployment) -> bool {
    deployment.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
}

/// Says that the deployment was paused or resumed, so that the time to progress starts anew.
pub(super) fn paused_or_resumed(deployment: &Deployment, now: Timestamp) -> Option<Action> {
    let known =
        deployment::condition(deployment, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    if !has_deadline(deployment) || known == Some(TIMED_OUT) {
        return None;
    }
    let (paused, noted) = (deployment.spec.paused == Some(true), known == Some("DeploymentPaused"));
    let (reason, message) = match (paused, noted) {
        (true, false) => ("DeploymentPaused", "Deployment is paused"),
        (false, true) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return None,
    };
    let mut deployment = deployment.clone();
    set(&mut deployment, progressing("Unknown", reason, message, now));
    Some(Action::update_status(&deployment))
}
