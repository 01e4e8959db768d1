//! The fields by which objects of a definition can be selected.

use crate::check::Errors;
use crate::tree::{get, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;
use std::collections::BTreeSet;

const MAX: usize = 8;
const SCALARS: &[&str] = &["boolean", "integer", "string"];

/// Checks selectable fields beside the schema that stands where they stand: `is_common` if it is that of all versions.
pub(super) fn check(
    fields: &[Value],
    schema: Option<&Value>,
    is_common: bool,
    path: &Path,
    errors: &mut Errors,
) {
    if fields.is_empty() {
        return;
    }
    let Some(schema) = schema else {
        let detail = if is_common {
            "selectableFields may only be set when validations.schema is included"
        } else {
            "selectableFields may only be set when version.schema.openAPIV3Schema is not included"
        };
        errors.push(FieldError::invalid(path, "", detail));
        return;
    };
    let mut seen = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        check_one(text(field, "jsonPath"), schema, &path.index(index), &mut seen, errors);
    }
    if seen.len() > MAX {
        errors.push(FieldError::too_many(path, seen.len(), MAX));
    }
}

fn check_one<'a>(
    json_path: &'a str,
    schema: &Value,
    path: &Path,
    seen: &mut BTreeSet<&'a str>,
    errors: &mut Errors,
) {
    let path = &path.child("jsonPath");
    if json_path.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let target = match resolve(json_path, schema) {
        Ok(target) => target,
        Err(reason) => {
            let detail = format!("is an invalid path: {reason}");
            errors.push(FieldError::invalid(path, json_path, detail));
            return;
        }
    };
    if json_path.split('.').nth(1) == Some("metadata") {
        errors.push(FieldError::invalid(path, json_path, "must not point to fields in metadata"));
    }
    if !SCALARS.contains(&text(target, "type")) {
        let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
        errors.push(FieldError::invalid(path, json_path, detail));
    }
    if !seen.insert(json_path) {
        errors.push(FieldError::duplicate(path, json_path));
    }
}

/// The schema at the end of a path of plain fields.
fn resolve<'a>(json_path: &str, schema: &'a Value) -> Result<&'a Value, String> {
    let Some(path) = json_path.strip_prefix('.') else {
        return Err(format!("expected [ or . but got: {json_path}"));
    };
    path.split('.').try_fold(schema, |schema, name| {
        let property = get(&schema["properties"], name);
        property.ok_or_else(|| "does not refer to a valid field".to_owned())
    })
}
