//! Whether a Job's status makes sense, and follows from the one before. Upstream looks at most of these only where what they
//! speak of has changed, so that statuses of older releases may stay.

use super::indexes;
use super::job_spec::is_true;
use crate::check::{self, Errors, wrong};
use crate::tree::{count, equal, flag, get, list, number, same, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// The status being written, beside the one that is there.
struct Change<'a> {
    spec: &'a Value,
    new: &'a Value,
    old: &'a Value,
    path: Path,
}

fn is_finished(status: &Value) -> bool {
    is_true(status, "Complete") || is_true(status, "Failed")
}

impl Change<'_> {
    fn changed(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| !same(self.new, self.old, key))
    }

    fn turned(&self, types: &[&str]) -> bool {
        types.iter().any(|type_| is_true(self.new, type_) != is_true(self.old, type_))
    }

    fn turned_finished(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn has(&self, type_: &str) -> bool {
        is_true(self.new, type_)
    }

    fn invalid(&self, key: &str, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path.child(key), self.new[key].clone(), detail)
    }

    fn conditions(&self, detail: &str) -> FieldError {
        wrong(&self.path.child("conditions"), detail)
    }
}

/// Field errors of a new status.
pub(super) fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let change =
        Change { spec: &new["spec"], new: &new["status"], old: &old["status"], path: Path::new("status") };
    counts(&change, &mut errors);
    uncounted(&change, &mut errors);
    exclusive(&change, &mut errors);
    times(&change, &mut errors);
    reasons(&change, &mut errors);
    finished(&change, &mut errors);
    index_lists(&change, &mut errors);
    success(&change, &mut errors);
    progress(&change, &mut errors);
    errors
}

fn counts(change: &Change<'_>, errors: &mut Errors) {
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        check::nonnegative(change.new, key, &change.path, errors);
    }
}

fn uncounted(change: &Change<'_>, errors: &mut Errors) {
    let path = change.path.child("uncountedTerminatedPods");
    let mut seen = Vec::new();
    for key in ["succeeded", "failed"] {
        for (index, uid) in list(&change.new["uncountedTerminatedPods"], key).iter().enumerate() {
            let path = path.child(key).index(index);
            let uid = uid.as_str().unwrap_or_default();
            if uid.is_empty() {
                errors.push(FieldError::invalid(&path, uid, "must not be empty"));
            } else if seen.contains(&uid) {
                errors.push(FieldError::duplicate(&path, uid));
            }
            seen.push(uid);
        }
    }
}

/// Conditions that exclude each other.
fn exclusive(change: &Change<'_>, errors: &mut Errors) {
    if change.turned(&["Complete", "Failed"]) && change.has("Complete") && change.has("Failed") {
        errors.push(change.conditions("cannot set Complete=True and Failed=true conditions"));
    }
    if change.turned(&["Complete", "FailureTarget"]) && change.has("Complete") && change.has("FailureTarget")
    {
        errors.push(change.conditions("cannot set Complete=True and FailureTarget=true conditions"));
    }
}

fn times(change: &Change<'_>, errors: &mut Errors) {
    let (start, end) = (text(change.new, "startTime"), text(change.new, "completionTime"));
    if change.turned(&["Complete"]) || change.changed(&["completionTime"]) {
        if !end.is_empty() && !change.has("Complete") {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(change.invalid("completionTime", detail));
        }
        if end.is_empty() && change.has("Complete") {
            let detail = "completionTime is required for Complete jobs";
            errors.push(FieldError::required(&change.path.child("completionTime"), detail));
        }
    }
    // Times are stored in one form, which sorts as they pass.
    let is_reversed = !start.is_empty() && !end.is_empty() && end < start;
    if change.changed(&["startTime", "completionTime"]) && is_reversed {
        errors.push(change.invalid("completionTime", "must be equal to or after `startTime`"));
    }
}

/// Jobs end for a reason that was named before.
fn reasons(change: &Change<'_>, errors: &mut Errors) {
    let failed = change.turned(&["Failed"]) || change.changed(&["failedIndexes"]);
    if failed && change.has("Failed") && !change.has("FailureTarget") {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(change.conditions(detail));
    }
    let met = change.turned(&["Complete", "SuccessCriteriaMet"]);
    if met && change.has("Complete") && !change.has("SuccessCriteriaMet") {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(change.conditions(detail));
    }
}

/// Nothing goes on in a Job that is over.
fn finished(change: &Change<'_>, errors: &mut Errors) {
    let over = is_finished(change.new);
    let turned = change.turned_finished();
    let mut check = |keys: &[&str], is_so: bool, error: FieldError| {
        if over && is_so && (turned || change.changed(keys)) {
            errors.push(error);
        }
    };
    let active = count(change.new, "active") > 0;
    check(&["active"], active, change.invalid("active", "active>0 is invalid for finished job"));
    let no_start = get(change.new, "startTime").is_none();
    let detail = "startTime is required for finished job";
    check(&["startTime"], no_start, FieldError::required(&change.path.child("startTime"), detail));
    let key = "uncountedTerminatedPods";
    let uncounted = ["succeeded", "failed"].iter().any(|field| !list(&change.new[key], field).is_empty());
    check(&[key], uncounted, change.invalid(key, "must be empty for finished job"));
    let terminating = count(change.new, "terminating") > 0;
    check(
        &["terminating"],
        terminating,
        change.invalid("terminating", "terminating>0 is invalid for finished job"),
    );
    let ready = number(change.new, "ready");
    if change.changed(&["ready", "active"]) && ready.is_some_and(|ready| ready > count(change.new, "active"))
    {
        errors.push(change.invalid("ready", "cannot set more ready pods than active"));
    }
}

fn index_lists(change: &Change<'_>, errors: &mut Errors) {
    let completions = number(change.spec, "completions");
    let (completed, failed) = (text(change.new, "completedIndexes"), text(change.new, "failedIndexes"));
    let per_index = get(change.spec, "backoffLimitPerIndex").is_some();
    let has_failed = get(change.new, "failedIndexes").is_some();
    let malformed = |key: &str, list: &str| {
        let problem = indexes::count(list, completions?).err()?;
        Some(change.invalid(key, format!("error parsing {key}: {problem}")))
    };
    if change.changed(&["completedIndexes"]) {
        errors.extend(malformed("completedIndexes", completed));
    }
    if change.changed(&["failedIndexes"]) && per_index && has_failed {
        errors.extend(malformed("failedIndexes", failed));
    }
    let is_indexed = text(change.spec, "completionMode") == "Indexed";
    if change.changed(&["completedIndexes"]) && !completed.is_empty() && !is_indexed {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(change.invalid("completedIndexes", detail));
    }
    if change.changed(&["failedIndexes"]) && has_failed && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(change.invalid("failedIndexes", detail));
    }
    if change.changed(&["failedIndexes", "completedIndexes"])
        && let Some(index) =
            completions.and_then(|completions| indexes::overlap(completed, failed, completions))
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(change.invalid("failedIndexes", detail));
    }
}

fn success(change: &Change<'_>, errors: &mut Errors) {
    let met = change.has("SuccessCriteriaMet");
    if met && change.has("Failed") {
        errors.push(change.conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions"));
    }
    if met && change.has("FailureTarget") {
        errors
            .push(change.conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"));
    }
    if get(change.spec, "successPolicy").is_some() && !met && change.has("Complete") {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.push(change.conditions(detail));
    }
}

/// What was counted and decided stays so.
fn progress(change: &Change<'_>, errors: &mut Errors) {
    for type_ in ["Failed", "Complete", "FailureTarget"] {
        if is_true(change.old, type_) && !change.has(type_) {
            let detail = format!("cannot disable the terminal {type_}=True condition");
            errors.push(change.conditions(&detail));
        }
    }
    let may_shrink = text(change.spec, "completionMode") == "Indexed"
        && number(change.spec, "completions") == number(change.spec, "parallelism");
    for key in ["failed", "succeeded"] {
        let less = count(change.new, key) < count(change.old, key);
        if less && !(key == "succeeded" && may_shrink) {
            errors.push(FieldError::invalid(
                &change.path.child(key),
                count(change.new, key),
                format!("cannot decrease the {key} counter"),
            ));
        }
    }
    let (end, old_end) = (&change.new["completionTime"], &change.old["completionTime"]);
    if !end.is_null() && !old_end.is_null() && !equal(end, old_end) {
        errors.push(change.invalid("completionTime", check::IMMUTABLE));
    }
    let had_start = get(change.old, "startTime").is_some();
    if change.changed(&["startTime"]) && had_start && !flag(change.spec, "suspend") {
        let detail = "startTime cannot be removed for unsuspended job";
        errors.push(FieldError::required(&change.path.child("startTime"), detail));
    }
    let (was_met, is_met) = (is_true(change.old, "SuccessCriteriaMet"), change.has("SuccessCriteriaMet"));
    if was_met && !is_met {
        errors.push(change.conditions("cannot disable the SuccessCriteriaMet=True condition"));
    }
    if is_true(change.old, "Complete") && !was_met && is_met {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(change.conditions(detail));
    }
}
