//! The kinds of the group apps.

pub(crate) mod controller_revision;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod replica_set;
pub(crate) mod stateful_set;

use crate::check::{self, Errors};
use crate::label_selector;
use crate::pod_template;
use crate::tree::{get, number};
use crate::warnings;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// A count of replicas, a selector that is not empty, and a template that it selects.
fn validate_replicas(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let selector = validate_selector(spec, "deployment", errors);
    let template = path.child("template");
    pod_template::validate_for_replicas(&spec["template"], selector, "ReplicaSet", &template, errors);
}

/// Checks that there is a selector that is not empty, which `owner` may not have.
fn validate_selector<'a>(spec: &'a Value, owner: &str, errors: &mut Errors) -> Option<&'a Value> {
    let path = Path::new("spec").child("selector");
    let selector = get(spec, "selector");
    match selector {
        None => errors.push(FieldError::required(&path, "")),
        Some(selector) => {
            label_selector::validate(selector, &path, errors);
            refuse_empty(selector, owner, &path, errors);
        }
    }
    selector
}

fn refuse_empty(selector: &Value, owner: &str, path: &Path, errors: &mut Errors) {
    if label_selector::is_empty(selector) {
        let detail = format!("empty selector is invalid for {owner}");
        errors.push(FieldError::invalid(path, selector.clone(), detail));
    }
}

/// The count of collisions of names only grows.
fn validate_collisions(status: &Value, old: &Value, errors: &mut Errors) {
    let count = |status| number(status, "collisionCount");
    if count(old).is_some_and(|old| count(status).is_none_or(|new| new < old)) {
        let path = Path::new("status").child("collisionCount");
        errors.push(FieldError::invalid(&path, count(status).unwrap_or(0), "cannot be decremented"));
    }
}

/// The selector stays.
fn immutable_selector(new: &Value, old: &Value, errors: &mut Errors) {
    check::immutable(&new["spec"], &old["spec"], "selector", &Path::new("spec"), errors);
}

/// Warnings about the template, unless an update leaves it as it is.
fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let template = |object: &Value| object["spec"]["template"].clone();
    if old.is_some_and(|old| template(old) == template(new)) {
        return Vec::new();
    }
    let path = Path::new("spec").child("template");
    let of_name = || warnings::of_name(new, "Pod names and hostnames");
    let of_name = if old.is_none() { of_name() } else { None };
    of_name.into_iter().chain(warnings::of_template(&new["spec"]["template"], &path)).collect()
}
