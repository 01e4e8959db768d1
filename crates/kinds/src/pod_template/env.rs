//! Environment variables: by value, from fields of the pod, from its resources, from ConfigMaps, Secrets and files.

use crate::check::{self, Errors, messages};
use crate::resource::quantity;
use crate::tree::{get, list, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// Fields of a pod that a variable may hold.
const VARIABLE_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may hold.
const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Everything that can be named at all.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const HUGE_PAGES: &[&str] = &["limits.hugepages-", "requests.hugepages-"];
const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// Checks `env`.
pub(super) fn variables(container: &Value, path: &Path, errors: &mut Errors) {
    for (index, variable) in list(container, "env").iter().enumerate() {
        let path = path.index(index);
        if check::required_text(variable, "name", &path, errors) {
            check::name_if_set(variable, "name", names::relaxed_env_var_name, &path, errors);
        }
        if let Some(source) = get(variable, "valueFrom") {
            value_from(source, !text(variable, "value").is_empty(), &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(source: &Value, has_value: bool, path: &Path, errors: &mut Errors) {
    let mut sources = 0;
    for key in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let Some(reference) = get(source, key) else { continue };
        sources += 1;
        let path = path.child(key);
        match key {
            "fieldRef" => field(reference, VARIABLE_FIELDS, &path, errors),
            "resourceFieldRef" => resource_field(reference, false, &path, errors),
            "fileKeyRef" => file_key(reference, &path, errors),
            _ => key_selector(reference, &path, errors),
        }
    }
    let detail = match sources {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if has_value => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path, "", detail));
}

/// A field reference for a file of the downward API.
pub(super) fn file_field(reference: &Value, path: &Path, errors: &mut Errors) {
    field(reference, FILE_FIELDS, path, errors);
}

fn field(reference: &Value, allowed: &[&str], path: &Path, errors: &mut Errors) {
    for key in ["apiVersion", "fieldPath"] {
        if !check::required_text(reference, key, path, errors) {
            return;
        }
    }
    let field_path = text(reference, "fieldPath");
    let (name, subscript) = split_subscript(field_path);
    if text(reference, "apiVersion") != "v1" {
        let detail =
            format!("error converting fieldPath: unsupported pod version: {}", text(reference, "apiVersion"));
        errors.push(FieldError::invalid(&path.child("fieldPath"), field_path, detail));
    } else if !KNOWN_FIELDS.contains(&name) {
        let detail = format!("error converting fieldPath: field label not supported: {name}");
        errors.push(FieldError::invalid(&path.child("fieldPath"), field_path, detail));
    } else if let Some(subscript) = subscript {
        match name {
            "metadata.annotations" => check::label_name(&subscript.to_lowercase(), path, errors),
            "metadata.labels" => check::label_name(subscript, path, errors),
            _ => errors.push(FieldError::invalid(path, name, "does not support subscript")),
        }
    } else if !allowed.contains(&name) {
        errors.push(FieldError::not_supported(&path.child("fieldPath"), name, allowed));
    }
}

/// `metadata.labels['a']` is field `metadata.labels` at `a`.
fn split_subscript(path: &str) -> (&str, Option<&str>) {
    match path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        Some((name, subscript)) if !name.is_empty() => (name, Some(subscript)),
        _ => (path, None),
    }
}

/// A reference to a resource of a container; files must say which container.
pub(super) fn resource_field(reference: &Value, in_file: bool, path: &Path, errors: &mut Errors) {
    let resource = text(reference, "resource");
    let is_huge_page = HUGE_PAGES.iter().any(|prefix| resource.starts_with(prefix));
    if in_file && text(reference, "containerName").is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !is_huge_page {
        errors.push(FieldError::not_supported(&path.child("resource"), resource, RESOURCES));
    }
    let divisor = quantity(&reference["divisor"]);
    if divisor.is_zero() {
        return;
    }
    let sizes = "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the";
    let (allowed, detail) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (
            &["1m", "1"][..],
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned(),
        ),
        "memory" => (SIZES, format!("{sizes} memory resource")),
        "ephemeral-storage" => (SIZES, format!("{sizes} local ephemeral storage resource")),
        _ if is_huge_page => (SIZES, format!("{sizes} hugepages resource")),
        _ => return,
    };
    if !allowed.contains(&divisor.canonical().as_str()) {
        errors.push(FieldError::invalid(&path.child("divisor"), resource, detail));
    }
}

fn key_selector(reference: &Value, path: &Path, errors: &mut Errors) {
    let name = text(reference, "name");
    messages(names::dns1123_subdomain(name), name, &path.child("name"), errors);
    if check::required_text(reference, "key", path, errors) {
        check::name_if_set(reference, "key", names::config_map_key, path, errors);
    }
}

/// A variable in a file of a volume.
fn file_key(reference: &Value, path: &Path, errors: &mut Errors) {
    if check::required_text(reference, "key", path, errors) {
        check::name_if_set(reference, "key", names::relaxed_env_var_name, path, errors);
    }
    if check::required_text(reference, "volumeName", path, errors) {
        check::name_if_set(reference, "volumeName", names::dns1123_label, path, errors);
    }
    if check::required_text(reference, "path", path, errors) {
        check::no_backsteps(text(reference, "path"), &path.child("path"), errors);
    }
}

/// Variables from files are in an empty directory, which another container of the pod writes.
pub(super) fn volumes_of_file_keys(spec: &Value, path: &Path, errors: &mut Errors) {
    for (path, container) in super::spec::each_container(spec, path) {
        for (index, variable) in list(container, "env").iter().enumerate() {
            let Some(reference) = get(&variable["valueFrom"], "fileKeyRef") else { continue };
            let name = text(reference, "volumeName");
            let path = path.child("env").index(index).children(&["valueFrom", "fileKeyRef", "volumeName"]);
            match list(spec, "volumes").iter().rfind(|volume| text(volume, "name") == name) {
                None => errors.push(FieldError::not_found(&path, name)),
                Some(volume) if get(volume, "emptyDir").is_none() => {
                    let detail = "referenced volume must be of type emptyDir";
                    errors.push(FieldError::invalid(&path, name, detail));
                }
                Some(_) => {}
            }
        }
    }
}

/// Checks `envFrom`.
pub(super) fn sources(container: &Value, path: &Path, errors: &mut Errors) {
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        let source_path = path.index(index);
        check::name_if_set(source, "prefix", names::relaxed_env_var_name, &source_path, errors);
        let mut sources = 0;
        for key in ["configMapRef", "secretRef"] {
            let Some(reference) = get(source, key) else { continue };
            sources += 1;
            let path = source_path.child(key);
            if check::required_text(reference, "name", &path, errors) {
                let name = text(reference, "name");
                messages(crate::name::subdomain(name, true), name, &path.child("name"), errors);
            }
        }
        if sources == 0 {
            errors.push(FieldError::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"));
        } else if sources > 1 {
            errors.push(FieldError::invalid(
                path,
                "",
                "may not have more than one field specified at a time",
            ));
        }
    }
}
