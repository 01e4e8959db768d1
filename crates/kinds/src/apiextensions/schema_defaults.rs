//! The defaults of a schema must be values of it: nothing that would be pruned, and nothing that would be refused.

use crate::check::Errors;
use crate::tree::{entries, flag, get};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::structural::{Schema, coerce, prune_value, validate};
use serde_json::Value;

/// Checks the default of a schema and those below it.
pub(super) fn check(schema: &Value, path: &Path, errors: &mut Errors) {
    if let Some(default) = schema.get("default") {
        check_one(default, schema, &path.child("default"), errors);
    }
    for (name, property) in entries(schema, "properties") {
        check(property, &path.child("properties").key(name), errors);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = get(schema, key).filter(|below| below.is_object()) {
            check(below, &path.child(key), errors);
        }
    }
}

fn check_one(default: &Value, json: &Value, path: &Path, errors: &mut Errors) {
    let schema = Schema::read(json);
    let mut pruned = default.clone();
    let embedded = flag(json, "x-kubernetes-embedded-resource");
    if !prune_value(&mut pruned, &schema).is_empty() {
        errors.push(FieldError::invalid(path, default.clone(), "must not have unknown fields"));
    }
    if embedded && let Err(error) = coerce(&mut pruned, &schema) {
        errors.push(error);
        return;
    }
    errors.extend(validate(default, &schema, path));
}
