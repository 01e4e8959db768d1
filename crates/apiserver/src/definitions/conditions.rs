//! The conditions of a definition, with upstream's reasons and messages. It knows how they are written, not when.

use nauplius_base::time::{Timestamp, rfc3339_seconds};
use nauplius_kinds::apiextensions::condition;
use nauplius_meta::object;
use serde_json::{Value, json};

/// A condition without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub ty: &'static str,
    pub status: &'static str,
    pub reason: &'static str,
    pub message: std::borrow::Cow<'static, str>,
}

const fn fixed(
    ty: &'static str,
    status: &'static str,
    reason: &'static str,
    message: &'static str,
) -> Condition {
    Condition { ty, status, reason, message: std::borrow::Cow::Borrowed(message) }
}

pub(crate) const NO_CONFLICTS: Condition =
    fixed("NamesAccepted", "True", "NoConflicts", "no conflicts found");
pub(crate) const NOT_ACCEPTED: Condition =
    fixed("Established", "False", "NotAccepted", "not all names are accepted");
pub(crate) const INSTALLING: Condition =
    fixed("Established", "False", "Installing", "the initial names have been accepted");
pub(crate) const ESTABLISHED: Condition =
    fixed("Established", "True", "InitialNamesAccepted", "the initial names have been accepted");
pub(crate) const TERMINATION_PENDING: Condition = fixed(
    "Terminating",
    "True",
    "InstanceDeletionPending",
    "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
);
pub(crate) const TERMINATION_IN_PROGRESS: Condition =
    fixed("Terminating", "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
pub(crate) const TERMINATION_COMPLETED: Condition =
    fixed("Terminating", "False", "InstanceDeletionCompleted", "removed all instances");
pub(crate) const NEVER_ESTABLISHED: Condition =
    fixed("Terminating", "False", "NeverEstablished", "resource was never established");

impl Condition {
    /// Whether the definition has it already, whatever its time.
    pub(crate) fn is_in(&self, definition: &Value) -> bool {
        condition(definition, self.ty).is_some_and(|own| {
            own["status"] == self.status && own["reason"] == self.reason && own["message"] == *self.message
        })
    }
}

/// Writes a condition; its time moves only with its status.
pub(crate) fn set(definition: &mut Value, new: &Condition, now: Timestamp) {
    let old = condition(definition, new.ty);
    let kept =
        old.filter(|old| old["status"] == new.status).and_then(|old| old["lastTransitionTime"].as_str());
    let written = json!({
        "type": new.ty,
        "status": new.status,
        "lastTransitionTime": kept.map_or_else(|| rfc3339_seconds(now), str::to_owned),
        "reason": new.reason,
        "message": new.message,
    });
    let mut conditions = object::get_array(definition, &["status", "conditions"]).to_vec();
    match conditions.iter_mut().find(|own| own["type"] == new.ty) {
        Some(own) => *own = written,
        None => conditions.push(written),
    }
    object::set(definition, &["status", "conditions"], conditions);
}

/// Removes a condition.
pub(crate) fn remove(definition: &mut Value, ty: &str) {
    let mut conditions = object::get_array(definition, &["status", "conditions"]).to_vec();
    conditions.retain(|own| own["type"] != ty);
    object::set(definition, &["status", "conditions"], conditions);
}
