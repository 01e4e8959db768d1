//! Rules: which operations on which resources are looked at.

use crate::check::{Errors, one_of_if_set};
use crate::tree::{default, list, text, texts};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

/// A rule without a scope is for both.
pub(super) fn set_defaults(rule: &mut Value) {
    default(rule, "scope", "*");
}

/// Checks a rule.
pub(super) fn validate(rule: &Value, path: &Path, errors: &mut Errors) {
    alone(rule, "operations", "operations", path, errors);
    let operations = path.child("operations");
    for (index, operation) in texts(rule, "operations").into_iter().enumerate() {
        if !OPERATIONS.contains(&operation) {
            errors.push(FieldError::not_supported(&operations.index(index), operation, OPERATIONS));
        }
    }
    alone(rule, "apiGroups", "API groups", path, errors);
    alone(rule, "apiVersions", "API versions", path, errors);
    let versions = path.child("apiVersions");
    for (index, version) in texts(rule, "apiVersions").into_iter().enumerate() {
        if version.is_empty() {
            errors.push(FieldError::required(&versions.index(index), ""));
        }
    }
    resources(rule, &path.child("resources"), errors);
    one_of_if_set(rule, "scope", SCOPES, path, errors);
}

/// A list that is not empty, and in which the wildcard stands alone.
fn alone(rule: &Value, key: &str, what: &str, path: &Path, errors: &mut Errors) {
    let (items, path) = (texts(rule, key), path.child(key));
    if items.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    if items.len() > 1 && items.contains(&"*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(&path, list(rule, key).to_vec(), detail));
    }
}

/// Resources with and without subresources, of which none covers another.
fn resources(rule: &Value, path: &Path, errors: &mut Errors) {
    let resources = texts(rule, "resources");
    if resources.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut every_subresource, mut every_resource) = (Vec::new(), Vec::new());
    let mut has_plain = false;
    for (index, both) in resources.iter().enumerate() {
        let path = path.index(index);
        if both.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let Some((resource, subresource)) = both.split_once('/') else {
            has_plain = *both != "*";
            continue;
        };
        if every_subresource.contains(&resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {both}");
            errors.push(FieldError::invalid(&path, *both, detail));
        }
        if every_resource.contains(&subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {both}");
            errors.push(FieldError::invalid(&path, *both, detail));
        }
        if subresource == "*" {
            every_subresource.push(resource);
        }
        if resource == "*" {
            every_resource.push(subresource);
        }
    }
    let all = list(rule, "resources").to_vec();
    if resources.len() > 1 && resources.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, all.clone(), detail));
    }
    if resources.contains(&"*") && has_plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, all, detail));
    }
}

/// The operations of all rules that are none of `supported`.
pub(super) fn unsupported<'a>(rules: &'a [Value], supported: &[&str]) -> Vec<&'a str> {
    let operations = rules.iter().flat_map(|rule| texts(rule, "operations"));
    operations.filter(|operation| !supported.contains(operation)).collect()
}

/// Names of objects, each once.
pub(super) fn resource_names(rule: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("resourceNames");
    let mut seen = Vec::new();
    for (index, name) in list(rule, "resourceNames").iter().enumerate() {
        let (name, path) = (name.as_str().unwrap_or_default(), path.index(index));
        crate::check::messages(nauplius_meta::names::path_segment(name), name, &path, errors);
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        seen.push(name);
    }
}

/// How many items a cell counts.
pub(super) fn counted(object: &Value, key: &str) -> Value {
    list(object, key).len().into()
}

/// A kind of parameters as `apiVersion/kind`.
pub(super) fn kind_text(kind: &Value) -> String {
    format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind"))
}
