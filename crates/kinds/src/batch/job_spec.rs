//! The spec of a Job, also where it stands in the template of a CronJob: its defaults, its checks, and what of it may change.

use super::job_policy;
use crate::check::{self, Errors};
use crate::kind::carry;
use crate::pod_template;
use crate::tree::{
    child, count, default, each, equal, flag, get, is_unset, list, number, remove, set, text, with,
};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// How many pods an indexed Job may have at once.
const MAX_INDEXED: i64 = 100_000;
/// Above so many completions a Job with limits for each index has narrower bounds.
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_OF_MANY: i64 = 10_000;
/// Labels that the API server puts on the template, in the older form and the newer.
pub(super) const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
pub(super) const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

/// The defaults of a Job.
pub(super) fn set_defaults(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    let metadata = child(object, "metadata");
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) && is_unset(metadata, "labels") {
        set(metadata, "labels", labels);
    }
    let spec = child(object, "spec");
    if get(spec, "completions").is_none() && get(spec, "parallelism").is_none() {
        set(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let per_index = get(spec, "backoffLimitPerIndex").is_some();
    default(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let has_policy = get(spec, "podFailurePolicy").is_some();
    default(spec, "podReplacementPolicy", if has_policy { "Failed" } else { "TerminatingOrFailed" });
    default_policy(spec);
    pod_template::default_template(object);
}

/// What the template in a CronJob gets, which is less.
pub(super) fn default_policy(spec: &mut Value) {
    with(spec, "podFailurePolicy", |policy| {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |pattern| default(pattern, "status", "True"));
        });
    });
}

/// Checks what Jobs and templates of Jobs share.
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    counts.iter().for_each(|key| check::nonnegative(spec, key, path, errors));
    let per_index = get(spec, "backoffLimitPerIndex").is_some();
    if get(spec, "maxFailedIndexes").is_some() && !per_index {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), detail));
    }
    job_policy::managed_by(spec, path, errors);
    completion_mode(spec, path, errors);
    job_policy::failure(spec, path, errors);
    job_policy::success(spec, path, errors);
    job_policy::replacement(spec, path, errors);
    pod_template::validate(&spec["template"], &path.child("template"), errors);
    restart_policy(spec, &path.children(&["template", "spec", "restartPolicy"]), errors);
}

fn completion_mode(spec: &Value, path: &Path, errors: &mut Errors) {
    check::one_of_if_set(spec, "completionMode", &["NonIndexed", "Indexed"], path, errors);
    match text(spec, "completionMode") {
        "Indexed" => indexed(spec, path, errors),
        "" | "NonIndexed" => {
            for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(value) = number(spec, key) {
                    let path = path.child(key);
                    errors.push(FieldError::invalid(&path, value, "requires indexed completion mode"));
                }
            }
        }
        _ => {}
    }
}

fn indexed(spec: &Value, path: &Path, errors: &mut Errors) {
    let completions = number(spec, "completions");
    if completions.is_none() {
        let detail = "when completion mode is Indexed";
        errors.push(FieldError::required(&path.child("completions"), detail));
    }
    let mut at_most = |key: &str, bound: i64, words: String| {
        if let Some(value) = number(spec, key).filter(|value| *value > bound) {
            let detail = format!("must be less than or equal to {words}");
            errors.push(FieldError::invalid(&path.child(key), value, detail));
        }
    };
    at_most("parallelism", MAX_INDEXED, format!("{MAX_INDEXED} when completion mode is Indexed"));
    if let Some(completions) = completions {
        at_most("maxFailedIndexes", completions, "completions".to_owned());
    }
    at_most("maxFailedIndexes", MAX_INDEXED, MAX_INDEXED.to_string());
    let many = completions.is_some_and(|completions| completions > MANY_COMPLETIONS);
    if !many || get(spec, "backoffLimitPerIndex").is_none() {
        return;
    }
    let words = || {
        format!(
            "{MAX_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
        )
    };
    at_most("parallelism", MAX_OF_MANY, words());
    at_most("maxFailedIndexes", MAX_OF_MANY, words());
    if get(spec, "maxFailedIndexes").is_none() {
        let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.push(FieldError::required(&path.child("maxFailedIndexes"), detail));
    }
}

/// Pods of a Job end: they are not restarted for ever, and not at all where a policy judges their failures.
fn restart_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = text(&spec["template"]["spec"], "restartPolicy");
    match policy {
        "" | "Always" => {
            errors.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if get(spec, "podFailurePolicy").is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(path, policy, detail));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(FieldError::not_supported(path, other, &["OnFailure", "Never"])),
    }
}

/// What of a spec may not change.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, old_spec, path) = (&new["spec"], &old["spec"], Path::new("spec"));
    completions(spec, old_spec, &path, errors);
    check::immutable(spec, old_spec, "selector", &path, errors);
    template(spec, old, &path, errors);
    for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        check::immutable(spec, old_spec, key, &path, errors);
    }
}

/// An indexed Job grows and shrinks with its parallelism.
fn completions(spec: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if text(spec, "completionMode") != "Indexed" {
        check::immutable(spec, old, "completions", path, errors);
        return;
    }
    let wanted = number(spec, "completions");
    let Some(wanted) = wanted.filter(|_| number(old, "completions") != wanted) else { return };
    if wanted != count(spec, "parallelism") {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(&path.child("completions"), wanted, detail));
    }
}

/// The template stays, but for where pods run and what they ask for, while no pod of a suspended Job is there.
fn template(spec: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let (new, path) = (&spec["template"], path.child("template"));
    let mut kept = old["spec"]["template"].clone();
    let suspended = flag(&old["spec"], "suspend");
    let is_parked = suspended
        && (get(&old["status"], "startTime").is_none()
            || (is_true(&old["status"], "Suspended") && count(&old["status"], "active") == 0));
    if is_parked {
        carry_scheduling(&mut kept, new);
        carry_resources(&mut kept["spec"], &new["spec"]);
        check::immutable(new, &kept, "spec", &path, errors);
    } else if !equal(new, &kept) {
        errors.push(FieldError::invalid(&path, new.clone(), check::IMMUTABLE));
    }
}

fn carry_scheduling(kept: &mut Value, new: &Value) {
    for key in ["annotations", "labels"] {
        carry(child(kept, "metadata"), &new["metadata"], key);
    }
    let (spec, wanted) = (child(kept, "spec"), &new["spec"]);
    for key in ["nodeSelector", "tolerations", "schedulingGates"] {
        carry(spec, wanted, key);
    }
    match get(wanted, "affinity") {
        Some(affinity) => carry(child(spec, "affinity"), affinity, "nodeAffinity"),
        None => {
            with(spec, "affinity", |affinity| {
                remove(affinity, "nodeAffinity");
            });
        }
    }
}

fn carry_resources(kept: &mut Value, new: &Value) {
    for key in ["containers", "initContainers"] {
        let wanted = list(new, key);
        let Some(containers) = kept.get_mut(key).and_then(Value::as_array_mut) else { continue };
        if containers.len() != wanted.len() {
            continue;
        }
        for (container, wanted) in containers.iter_mut().zip(wanted) {
            if container["name"] == wanted["name"] {
                carry(container, wanted, "resources");
            }
        }
    }
}

/// Whether a condition of that type is true.
pub(super) fn is_true(status: &Value, type_: &str) -> bool {
    let mut conditions = list(status, "conditions").iter();
    conditions.any(|condition| text(condition, "type") == type_ && text(condition, "status") == "True")
}
