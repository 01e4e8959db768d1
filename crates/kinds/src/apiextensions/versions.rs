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

/// Checks `spec.versions`: each by itself, with the parts that differ between them.
pub(super) fn check_each(spec: &Value, path: &Path, errors: &mut Errors) {
    let versions = list(spec, "versions");
    let versions_path = path.child("versions");
    required_schemas(versions, &versions_path, errors);
    let own: Vec<&Part> = PARTS.iter().filter(|part| !is_alike(versions, part.field)).collect();
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = versions_path.index(index);
        seen.insert(text(version, "name"));
        check_label(text(version, "name"), &path.child("name"), errors);
        check_warning(version, &path.child("deprecationWarning"), errors);
        let has_status = has_status(version);
        for part in &own {
            (part.check)(
                version,
                Place { has_status, versions, is_common: false },
                &path.child(part.field),
                errors,
            );
        }
    }
    let shown = || versions.to_vec();
    if seen.len() != versions.len() {
        errors.push(FieldError::invalid(&versions_path, shown(), "must contain unique version names"));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&versions_path, shown(), detail));
    }
    if let Some(first) = versions.first().map(|version| text(version, "name")).filter(|name| !name.is_empty())
    {
        // Upstream's internal form names the first version once more.
        check_label(first, &path.child("version"), errors);
    }
}

/// Checks the parts that are the same in all versions, once.
pub(super) fn check_common(spec: &Value, path: &Path, errors: &mut Errors) {
    let versions = list(spec, "versions");
    let Some(first) = versions.first() else { return };
    let has_status = versions.iter().any(has_status);
    for part in PARTS.iter().filter(|part| is_alike(versions, part.field)) {
        (part.check)(
            first,
            Place { has_status, versions, is_common: true },
            &path.child(part.hoisted),
            errors,
        );
    }
}

fn check_label(name: &str, path: &Path, errors: &mut Errors) {
    let problems = dns1035_label(name);
    if !problems.is_empty() {
        errors.push(FieldError::invalid(path, name, problems.join(",")));
    }
}

fn required_schemas(versions: &[Value], path: &Path, errors: &mut Errors) {
    let has_schema = |version: &Value| get(&version["schema"], "openAPIV3Schema").is_some();
    for (index, _) in versions.iter().enumerate().filter(|(_, version)| !has_schema(version)) {
        let path = path.index(index).child("schema").child("openAPIV3Schema");
        errors.push(FieldError::required(&path, "schemas are required"));
    }
}

fn has_status(version: &Value) -> bool {
    get(&version["subresources"], "status").is_some()
}

/// For which versions a part is checked.
struct Place<'v> {
    has_status: bool,
    versions: &'v [Value],
    /// For all of them at once.
    is_common: bool,
}

/// A part of a version.
struct Part {
    field: &'static str,
    /// What the field is called where all versions have the same.
    hoisted: &'static str,
    check: fn(&Value, Place<'_>, &Path, &mut Errors),
}

const PARTS: [Part; 4] = [
    Part { field: "schema", hoisted: "validation", check: check_schema },
    Part {
        field: "subresources",
        hoisted: "subresources",
        check: |version, _, path, errors| subresources::check(&version["subresources"], path, errors),
    },
    Part { field: "additionalPrinterColumns", hoisted: "additionalPrinterColumns", check: check_columns },
    Part { field: "selectableFields", hoisted: "selectableFields", check: check_selectable },
];

fn check_schema(version: &Value, place: Place<'_>, path: &Path, errors: &mut Errors) {
    if let Some(schema) = get(&version["schema"], "openAPIV3Schema") {
        schema_rules::check(schema, place.has_status, path, errors);
    }
}

fn check_columns(version: &Value, _place: Place<'_>, path: &Path, errors: &mut Errors) {
    for (index, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
        columns::check(column, &path.index(index), errors);
    }
}

/// Selectable fields stand where the schema stands: with all versions or with each.
fn check_selectable(version: &Value, place: Place<'_>, path: &Path, errors: &mut Errors) {
    let schema = get(&version["schema"], "openAPIV3Schema");
    let schema = schema.filter(|_| is_alike(place.versions, "schema") == place.is_common);
    selectable::check(list(version, "selectableFields"), schema, place.is_common, path, errors);
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
    if let Some((at, _)) = warning.char_indices().find(|(_, character)| !is_printable(*character)) {
        invalid(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

/// Go's notion of it: no control character, and no space but the plain one.
fn is_printable(character: char) -> bool {
    character == ' ' || !(character.is_control() || character.is_whitespace())
}
