//! What a HorizontalPodAutoscaler scales by. It checks metrics, and measures nothing.

use crate::check::{self, Errors, messages};
use crate::resource::{check_container_name, quantity};
use crate::tree::{get, list, number, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::GroupVersion;
use nauplius_meta::names;
use serde_json::Value;

const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The fields of a metric in the order that upstream looks at them, with their types.
const SOURCES: &[(&str, &str)] = &[
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

/// What a reference may say of its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApiVersion {
    /// Anything: it was taken before.
    Any,
    /// A version, with or without a group.
    Valid,
    /// A version of a group.
    Grouped,
}

/// A name, and a kind, that can stand in a path, and a version.
pub(super) fn reference(reference: &Value, version: ApiVersion, path: &Path, errors: &mut Errors) {
    for key in ["kind", "name"] {
        if check::required_text(reference, key, path, errors) {
            let value = text(reference, key);
            messages(names::path_segment(value), value, &path.child(key), errors);
        }
    }
    if let Some(problem) = version_problem(reference, version) {
        let own = text(reference, "apiVersion");
        errors.push(FieldError::invalid(&path.child("apiVersion"), own, problem));
    }
}

fn version_problem(reference: &Value, version: ApiVersion) -> Option<String> {
    if version == ApiVersion::Any {
        return None;
    }
    match GroupVersion::parse(text(reference, "apiVersion")) {
        Err(error) => Some(error.to_string()),
        Ok(own) if version == ApiVersion::Grouped && own.group.is_empty() => {
            Some("apiVersion must specify API group".to_owned())
        }
        Ok(_) => None,
    }
}

/// What the metrics of a new spec may say of the versions of objects: what old ones do wrongly is not looked at any more.
pub(super) fn of_objects(old: Option<&Value>) -> ApiVersion {
    let is_odd = |metric: &Value| {
        let described = &metric["object"]["describedObject"];
        text(metric, "type") == "Object"
            && get(metric, "object").is_some()
            && version_problem(described, ApiVersion::Valid).is_some()
    };
    let known = old.is_some_and(|old| list(old, "metrics").iter().any(is_odd));
    if known { ApiVersion::Any } else { ApiVersion::Valid }
}

/// Checks one metric.
pub(super) fn validate(metric: &Value, objects: ApiVersion, path: &Path, errors: &mut Errors) {
    let type_ = text(metric, "type");
    if type_.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric source type"));
    }
    let unknown = || FieldError::not_supported(&path.child("type"), type_, TYPES);
    if !TYPES.contains(&type_) {
        errors.push(unknown());
    }
    let present: Vec<_> = SOURCES.iter().filter(|(key, _)| get(metric, key).is_some()).collect();
    if let Some((key, _)) = present.first() {
        source(key, &metric[*key], objects, &path.child(key), errors);
    }
    let expected = SOURCES.iter().find(|(_, own)| *own == type_).map(|(key, _)| *key);
    match expected {
        Some(key) if get(metric, key).is_none() => {
            let detail = "must populate information for the given metric source";
            errors.push(FieldError::required(&path.child(key), detail));
        }
        Some(_) => {}
        None => errors.push(unknown()),
    }
    if present.len() != 1 {
        for (key, _) in present.iter().filter(|(key, _)| Some(*key) != expected) {
            let detail = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&path.child(key), detail));
        }
    }
}

fn source(key: &str, source: &Value, objects: ApiVersion, path: &Path, errors: &mut Errors) {
    match key {
        "resource" => resource_name(source, path, errors),
        "containerResource" => {
            resource_name(source, path, errors);
            if !text(source, "name").is_empty() {
                check_container_name(text(source, "name"), &path.child("name"), errors);
            }
            if text(source, "container").is_empty() {
                errors.push(FieldError::required(&path.child("container"), "must specify a container"));
            }
            check::name_if_set(source, "container", names::dns1123_label, path, errors);
        }
        _ => {
            if key == "object" {
                reference(&source["describedObject"], objects, &path.child("describedObject"), errors);
            }
            identifier(&source["metric"], &path.child("metric"), errors);
        }
    }
    target(&source["target"], &path.child("target"), errors);
    wanted(key, &source["target"], &path.child("target"), errors);
}

fn resource_name(source: &Value, path: &Path, errors: &mut Errors) {
    if text(source, "name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
    }
}

fn identifier(metric: &Value, path: &Path, errors: &mut Errors) {
    let name = text(metric, "name");
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "must specify a metric name"));
    } else {
        messages(names::path_segment(name), name, &path.child("name"), errors);
    }
}

fn target(target: &Value, path: &Path, errors: &mut Errors) {
    let type_ = text(target, "type");
    if type_.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&type_) {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&path.child("type"), type_, detail));
    }
    for key in ["value", "averageValue"] {
        if let Some(amount) = get(target, key).map(quantity).filter(|amount| amount.sign() <= 0) {
            errors.push(FieldError::invalid(&path.child(key), amount.canonical(), "must be positive"));
        }
    }
    if let Some(part) = number(target, "averageUtilization").filter(|part| *part < 1) {
        errors.push(FieldError::invalid(&path.child("averageUtilization"), part, "must be greater than 0"));
    }
}

/// Which of the targets each kind of metric has.
fn wanted(key: &str, target: &Value, path: &Path, errors: &mut Errors) {
    let has = |field: &str| get(target, field).is_some();
    let (value, average, part) = (has("value"), has("averageValue"), has("averageUtilization"));
    let average_path = path.child("averageValue");
    match key {
        "object" if !value && !average => {
            let detail = "must set either a target value or averageValue";
            errors.push(FieldError::required(&average_path, detail));
        }
        "external" if !value && !average => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.push(FieldError::required(&average_path, detail));
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&path.child("value"), detail));
        }
        "pods" if !average => {
            errors.push(FieldError::required(&average_path, "must specify a positive target averageValue"));
        }
        "resource" | "containerResource" if !part && !average => {
            let detail = "must set either a target raw value or a target utilization";
            errors.push(FieldError::required(&path.child("averageUtilization"), detail));
        }
        "resource" | "containerResource" if part && average => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(&average_path, detail));
        }
        _ => {}
    }
}
