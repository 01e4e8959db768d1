//! When a Job is over before all its pods succeeded: the policies of failed pods and of success. It checks them; a controller
//! follows them.

use super::indexes;
use crate::check::{self, Errors, wrong};
use crate::tree::{count, get, is_unset, list, number, text};
use nauplius_meta::field::{FieldError, Path, quote};
use nauplius_meta::names;
use serde_json::Value;

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_PATTERNS: usize = 20;
const MAX_INDEXES_BYTES: usize = 64 * 1024;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// Checks `podFailurePolicy`.
pub(super) fn failure(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(policy) = get(spec, "podFailurePolicy") else { return };
    let path = path.child("podFailurePolicy").child("rules");
    let rules = list(policy, "rules");
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&path, rules.len(), MAX_RULES));
    }
    for (index, rule) in rules.iter().enumerate() {
        failure_rule(spec, rule, &path.index(index), errors);
    }
}

fn failure_rule(spec: &Value, rule: &Value, path: &Path, errors: &mut Errors) {
    let action = text(rule, "action");
    one_of(rule, "action", ACTIONS, path, errors);
    if action == "FailIndex" && get(spec, "backoffLimitPerIndex").is_none() {
        let detail = "requires the backoffLimitPerIndex to be set";
        errors.push(FieldError::invalid(&path.child("action"), action, detail));
    }
    let codes = get(rule, "onExitCodes");
    if let Some(codes) = codes {
        exit_codes(spec, codes, &path.child("onExitCodes"), errors);
    }
    let patterns = list(rule, "onPodConditions");
    pod_conditions(patterns, &path.child("onPodConditions"), errors);
    match (codes.is_some(), patterns.is_empty()) {
        (true, false) => {
            errors.push(wrong(path, "specifying both OnExitCodes and OnPodConditions is not supported"));
        }
        (false, true) => {
            errors.push(wrong(path, "specifying one of OnExitCodes and OnPodConditions is required"));
        }
        _ => {}
    }
}

/// One of the values, which are also listed when there is none.
fn one_of(object: &Value, key: &str, values: &[&str], path: &Path, errors: &mut Errors) {
    let (path, value) = (path.child(key), text(object, key));
    if value.is_empty() {
        let listed: Vec<_> = values.iter().map(|value| quote(value)).collect();
        errors.push(FieldError::required(&path, format!("valid values: [{}]", listed.join(" "))));
    } else if !values.contains(&value) {
        errors.push(FieldError::not_supported(&path, value, values));
    }
}

fn pod_conditions(patterns: &[Value], path: &Path, errors: &mut Errors) {
    if patterns.len() > MAX_PATTERNS {
        errors.push(FieldError::too_many(path, patterns.len(), MAX_PATTERNS));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.index(index);
        check::label_name(text(pattern, "type"), &path.child("type"), errors);
        one_of(pattern, "status", STATUSES, &path, errors);
    }
}

fn exit_codes(spec: &Value, codes: &Value, path: &Path, errors: &mut Errors) {
    one_of(codes, "operator", OPERATORS, path, errors);
    if let Some(name) = get(codes, "containerName").and_then(Value::as_str) {
        let pod = &spec["template"]["spec"];
        let mut all = list(pod, "containers").iter().chain(list(pod, "initContainers"));
        if !all.any(|container| text(container, "name") == name) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.push(FieldError::invalid(&path.child("containerName"), name, detail));
        }
    }
    let values: Vec<i64> = list(codes, "values").iter().filter_map(Value::as_i64).collect();
    let path = path.child("values");
    if values.is_empty() {
        errors.push(FieldError::invalid(&path, Vec::<Value>::new(), "at least one value is required"));
    } else if values.len() > MAX_EXIT_CODES {
        errors.push(FieldError::too_many(&path, values.len(), MAX_EXIT_CODES));
    }
    for (index, value) in values.iter().enumerate() {
        let path = path.index(index);
        if *value == 0 && text(codes, "operator") == "In" {
            errors.push(FieldError::invalid(&path, 0, "must not be 0 for the In operator"));
        }
        if values[..index].contains(value) {
            errors.push(FieldError::duplicate(&path, *value));
        }
    }
    if !values.is_sorted() {
        errors.push(FieldError::invalid(&path, values, "must be ordered"));
    }
}

/// Checks `successPolicy`.
pub(super) fn success(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(policy) = get(spec, "successPolicy") else { return };
    let path = path.child("successPolicy");
    if text(spec, "completionMode") != "Indexed" {
        errors.push(FieldError::invalid(&path, policy.clone(), "requires indexed completion mode"));
        return;
    }
    let path = path.child("rules");
    let rules = list(policy, "rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, detail));
    }
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&path, rules.len(), MAX_RULES));
    }
    for (index, rule) in rules.iter().enumerate() {
        success_rule(rule, count(spec, "completions"), &path.index(index), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path, errors: &mut Errors) {
    let list = get(rule, "succeededIndexes").and_then(Value::as_str);
    let wanted = number(rule, "succeededCount");
    if list.is_none() && wanted.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let mut total = 0;
    if let Some(list) = list {
        let path = path.child("succeededIndexes");
        if list.len() > MAX_INDEXES_BYTES {
            errors.push(FieldError::too_long(&path, MAX_INDEXES_BYTES));
        }
        match indexes::count(list, completions) {
            Ok(count) => total = count,
            Err(problem) => {
                let detail = format!("error parsing succeededIndexes: {problem}");
                errors.push(FieldError::invalid(&path, list, detail));
            }
        }
    }
    let Some(wanted) = wanted else { return };
    let field = path.child("succeededCount");
    check::nonnegative(rule, "succeededCount", path, errors);
    let mut bounded = |bound: i64, what: &str| {
        if wanted > bound {
            let detail = format!("must be less than or equal to {bound} (the number of {what})");
            errors.push(FieldError::invalid(&field, wanted, detail));
        }
    };
    bounded(completions, "specified completions");
    if list.is_some() {
        bounded(total, "indexes in the specified succeededIndexes field");
    }
}

/// Checks who manages the Job.
pub(super) fn managed_by(spec: &Value, path: &Path, errors: &mut Errors) {
    const MAX_BYTES: usize = 63;
    let Some(name) = get(spec, "managedBy").and_then(Value::as_str) else { return };
    let path = path.child("managedBy");
    check::domain_prefixed_path(name, &path, errors);
    if name.len() > MAX_BYTES {
        errors.push(FieldError::too_long(&path, MAX_BYTES));
    }
}

/// Checks `podReplacementPolicy`.
pub(super) fn replacement(spec: &Value, path: &Path, errors: &mut Errors) {
    if is_unset(spec, "podReplacementPolicy") {
        return;
    }
    let has_failure_policy = get(spec, "podFailurePolicy").is_some();
    let supported: &[&str] =
        if has_failure_policy { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    check::one_of(spec, "podReplacementPolicy", supported, path, errors);
}

/// Whether the pods of an indexed Job can have the host names that they get.
pub(super) fn pod_names(job: &Value, errors: &mut Errors) {
    let spec = &job["spec"];
    let completions = count(spec, "completions");
    if text(spec, "completionMode") != "Indexed" || completions <= 0 {
        return;
    }
    let name = text(&job["metadata"], "name");
    let longest = format!("{name}-{}", completions - 1);
    if !names::dns1123_label(&longest).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {longest}");
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
    }
}
