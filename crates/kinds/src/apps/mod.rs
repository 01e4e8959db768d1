//! The kinds of the group apps.

pub(crate) mod controller_revision;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod replica_set;
pub(crate) mod stateful_set;

use crate::check::{self, Errors};
use crate::label_selector;
use crate::pod_template;
use crate::tree::get;
use crate::warnings;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// What every controller of replicas has: a count, a selector that is not empty, and a template that it selects.
fn validate_replicas(spec: &Value, kind: &str, errors: &mut Errors) {
    let path = Path::new("spec");
    check::nonnegative(spec, "replicas", &path, errors);
    check::nonnegative(spec, "minReadySeconds", &path, errors);
    validate_selected_template(spec, "deployment", kind, errors);
}

/// A selector that is not empty, which `owner` may not have, and a template that it selects.
fn validate_selected_template(spec: &Value, owner: &str, kind: &str, errors: &mut Errors) {
    let path = Path::new("spec");
    let selector_path = path.child("selector");
    let selector = get(spec, "selector");
    match selector {
        None => errors.push(FieldError::required(&selector_path, "")),
        Some(selector) => {
            label_selector::validate(selector, &selector_path, errors);
            if label_selector::is_empty(selector) {
                let detail = format!("empty selector is invalid for {owner}");
                errors.push(FieldError::invalid(&selector_path, selector.clone(), detail));
            }
        }
    }
    let selector = selector.unwrap_or(&Value::Null);
    pod_template::validate_for_replicas(&spec["template"], selector, kind, &path.child("template"), errors);
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
