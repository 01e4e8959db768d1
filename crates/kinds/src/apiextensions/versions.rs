//! The versions of a definition. What all of them say alike, upstream's internal form says once at the top, and so do the paths of
//! errors.

use super::{columns, schema_rules, selectable, subresources};
use crate::check::Errors;
use crate::tree::{equal, flag, get, list, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names::dns1035_label;
use serde_json::Value;
use std::collections::BTreeSet;

/// The longest warning; upstream's.
const MAX_WARNING: usize = 256;

/// Whether every version has the same there.
fn is_alike(versions: &[Value], field: &str) -> bool {
    let first = versions.first().and_then(|version| get(version, field)).unwrap_or(&Value::Null);
    versions.iter().all(|version| equal(get(version, field).unwrap_or(&Value::Null), first))
}

/// Checks `spec.versions`.
pub(super) fn check(spec: &Value, path: &Path, errors: &mut Errors) {
    let versions = list(spec, "versions");
    let versions_path = path.child("versions");
    required_schemas(versions, &versions_path, errors);
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = versions_path.index(index);
        let name = text(version, "name");
        seen.insert(name);
        let problems = dns1035_label(name);
        if !problems.is_empty() {
            errors.push(FieldError::invalid(&path.child("name"), name, problems.join(",")));
        }
        check_warning(version, &path.child("deprecationWarning"), errors);
    }
    if seen.len() != versions.len() {
        let detail = "must contain unique version names";
        errors.push(FieldError::invalid(&versions_path, versions.to_vec(), detail));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&versions_path, versions.to_vec(), detail));
    }
    check_parts(versions, path, errors);
}

fn required_schemas(versions: &[Value], path: &Path, errors: &mut Errors) {
    let has_schema = |version: &Value| get(&version["schema"], "openAPIV3Schema").is_some();
    for (index, _) in versions.iter().enumerate().filter(|(_, version)| !has_schema(version)) {
        let path = path.index(index).child("schema").child("openAPIV3Schema");
        errors.push(FieldError::required(&path, "schemas are required"));
    }
}

/// Each part, once where the versions are alike, else for each version.
fn check_parts(versions: &[Value], path: &Path, errors: &mut Errors) {
    let parts: [(&str, &str, Check); 4] = [
        ("schema", "validation", check_schema),
        ("subresources", "subresources", |version, path, errors| {
            subresources::check(&version["subresources"], path, errors);
        }),
        ("additionalPrinterColumns", "additionalPrinterColumns", |version, path, errors| {
            for (index, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
                columns::check(column, &path.index(index), errors);
            }
        }),
        ("selectableFields", "selectableFields", selectable::check),
    ];
    for (field, hoisted, check) in parts {
        if is_alike(versions, field) {
            versions.iter().take(1).for_each(|version| check(version, &path.child(hoisted), errors));
            continue;
        }
        for (index, version) in versions.iter().enumerate() {
            check(version, &path.child("versions").index(index).child(field), errors);
        }
    }
}

type Check = fn(&Value, &Path, &mut Errors);

fn check_schema(version: &Value, path: &Path, errors: &mut Errors) {
    let has_status = get(&version["subresources"], "status").is_some();
    if let Some(schema) = get(&version["schema"], "openAPIV3Schema") {
        schema_rules::check(schema, has_status, path, errors);
    }
}

fn check_warning(version: &Value, path: &Path, errors: &mut Errors) {
    let Some(warning) = get(version, "deprecationWarning").and_then(Value::as_str) else { return };
    let mut invalid = |detail: String| errors.push(FieldError::invalid(path, warning, detail));
    if !flag(version, "deprecated") {
        return invalid("can only be set for deprecated versions".to_owned());
    }
    if warning.len() > MAX_WARNING {
        invalid(format!("must be <= {MAX_WARNING} characters long"));
    }
    if warning.is_empty() {
        invalid("must not be an empty string".to_owned());
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, character)| character.is_control()) {
        invalid(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}
