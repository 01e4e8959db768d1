//! The columns that a definition adds to tables of its objects.

use crate::check::Errors;
use crate::tree::text;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// Checks one column.
pub(super) fn check(column: &Value, path: &Path, errors: &mut Errors) {
    if text(column, "name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let (ty, format) = (text(column, "type"), text(column, "format"));
    let one_of = |words: &[&str]| format!("must be one of {}", words.join(","));
    if ty.is_empty() {
        errors.push(FieldError::required(&path.child("type"), one_of(TYPES)));
    } else if !TYPES.contains(&ty) {
        errors.push(FieldError::invalid(&path.child("type"), ty, one_of(TYPES)));
    }
    if !format.is_empty() && !FORMATS.contains(&format) {
        errors.push(FieldError::invalid(&path.child("format"), format, one_of(FORMATS)));
    }
    let json_path = text(column, "jsonPath");
    let path = path.child("JSONPath");
    if json_path.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        simple_path(json_path, &path, errors);
    }
}

/// A path that begins at the object.
pub(super) fn simple_path(json_path: &str, path: &Path, errors: &mut Errors) -> bool {
    let starts = json_path.starts_with('.');
    if !starts {
        errors.push(FieldError::invalid(path, json_path, "must be a simple json path starting with ."));
    }
    starts
}
