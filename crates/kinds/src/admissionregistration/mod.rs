//! The kinds of the group admissionregistration.k8s.io: who is asked before an object is kept, and by which expressions it is
//! judged. They are checked here; calling webhooks and evaluating expressions is the API server's.

mod binding;
mod match_resources;
pub(crate) mod mutating_admission_policy;
pub(crate) mod mutating_admission_policy_binding;
pub(crate) mod mutating_webhook_configuration;
mod policy;
mod registration;
mod rule;
pub(crate) mod validating_admission_policy;
pub(crate) mod validating_admission_policy_binding;
pub(crate) mod validating_webhook_configuration;
mod webhook;

use crate::check::Errors;
use crate::tree::{list, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const GROUP: &str = "admissionregistration.k8s.io";
const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
const MAX_MATCH_CONDITIONS: usize = 64;

/// Names with this end are for configuration in files, which nothing reads here.
const STATIC_SUFFIX: &str = ".static.k8s.io";

/// What a client is told that takes such a name.
fn static_name_warnings(object: &Value) -> Vec<String> {
    let is_static = text(&object["metadata"], "name").ends_with(STATIC_SUFFIX);
    let warning = "metadata.name: names ending with \".static.k8s.io\" are reserved for static manifest-based configurations \
                   and cannot be managed via the API";
    is_static.then(|| warning.to_owned()).into_iter().collect()
}

/// The conditions that narrow down which requests are looked at.
fn match_conditions(owner: &Value, path: &Path, errors: &mut Errors) {
    let (conditions, path) = (list(owner, "matchConditions"), path.child("matchConditions"));
    if conditions.len() > MAX_MATCH_CONDITIONS {
        errors.push(FieldError::too_many(&path, conditions.len(), MAX_MATCH_CONDITIONS));
    }
    let mut seen = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let (path, name) = (path.index(index), text(condition, "name"));
        if text(condition, "expression").trim().is_empty() {
            errors.push(FieldError::required(&path.child("expression"), ""));
        }
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
            continue;
        }
        crate::check::messages(names::qualified_name(name), name, &path.child("name"), errors);
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        seen.push(name);
    }
}
