//! What a replica set's status says of its pods.

use crate::conditions::seconds;
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::apps::{ReplicaSetCondition, ReplicaSetStatus};
use nauplius_kinds::{Pod, ReplicaSet, pod};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Whether pods could be created and deleted as planned.
pub(super) enum Failure {
    None,
    Is { reason: &'static str, message: String },
}

pub(super) fn status(
    set: &ReplicaSet,
    own: &[Arc<Pod>],
    terminating: usize,
    failure: &Failure,
    now: Timestamp,
) -> ReplicaSetStatus {
    let min_ready_s = i64::from(set.spec.min_ready_seconds.unwrap_or(0));
    let ready = own.iter().filter(|pod| pod::is_ready(pod)).count();
    let available = own.iter().filter(|pod| pod::is_available(pod, min_ready_s, now)).count();
    let written = |count: usize| Some(number(count)).filter(|count| *count != 0);
    ReplicaSetStatus {
        replicas: number(own.len()),
        fully_labeled_replicas: written(own.iter().filter(|pod| is_fully_labeled(set, pod)).count()),
        ready_replicas: written(ready),
        available_replicas: written(available),
        terminating_replicas: Some(number(terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, failure, now),
    }
}

/// Counts of pods are far below the limit.
fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn is_fully_labeled(set: &ReplicaSet, pod: &Pod) -> bool {
    let template = set.spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let wanted = template.and_then(|metadata| metadata.labels.as_ref());
    let none = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
    wanted.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
}

/// A failure that is known already stays as it was first noted.
fn conditions(set: &ReplicaSet, failure: &Failure, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
    let known = set.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_failure = |condition: &ReplicaSetCondition| condition.type_.as_deref() == Some(REPLICA_FAILURE);
    let conditions: Vec<_> = match failure {
        Failure::None => known.filter(|condition| !is_failure(condition)).cloned().collect(),
        Failure::Is { .. } if known.clone().any(is_failure) => known.cloned().collect(),
        Failure::Is { reason, message } => {
            known.cloned().chain([new_failure(reason, message, now)]).collect()
        }
    };
    Some(conditions).filter(|conditions| !conditions.is_empty())
}

fn new_failure(reason: &str, message: &str, now: Timestamp) -> ReplicaSetCondition {
    ReplicaSetCondition {
        type_: Some(REPLICA_FAILURE.to_owned()),
        status: Some("True".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(seconds(now)),
    }
}

/// When the next ready pod becomes available.
pub(super) fn next_available(set: &ReplicaSet, own: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let min_ready_s = i64::from(set.spec.min_ready_seconds.unwrap_or(0));
    let waiting = own.iter().filter(|pod| pod::is_ready(pod) && !pod::is_available(pod, min_ready_s, now));
    let since = waiting.filter_map(|pod| pod::condition(pod, "Ready")?.last_transition_time.as_ref());
    let due = since.map(|since| since.0.as_second() + min_ready_s).min()?;
    // Whole seconds are compared: a moment too early would look once more.
    Some(Duration::from_secs((due - now.as_second()).max(1).unsigned_abs()))
}
