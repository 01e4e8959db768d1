//! The names that a definition claims.

use crate::check::Errors;
use crate::tree::{text, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names::dns1035_label;
use serde_json::Value;

/// Names that a definition must have.
pub(super) fn required(names: &Value, path: &Path, errors: &mut Errors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(names, field).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
}

/// The form of names, of the spec or as they were accepted.
pub(super) fn check(names: &Value, path: &Path, errors: &mut Errors) {
    for field in ["plural", "singular"] {
        label(text(names, field), &path.child(field), errors);
    }
    for field in ["kind", "listKind"] {
        let name = text(names, field);
        let problems = dns1035_label(&name.to_lowercase());
        if !name.is_empty() && !problems.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", problems.join(","));
            errors.push(FieldError::invalid(&path.child(field), name, detail));
        }
    }
    for (index, name) in texts(names, "shortNames").into_iter().enumerate() {
        one(name, &path.child("shortNames").index(index), errors);
    }
    let (kind, list) = (text(names, "kind"), text(names, "listKind"));
    if !kind.is_empty() && kind == list {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), list, detail));
    }
    for (index, name) in texts(names, "categories").into_iter().enumerate() {
        one(name, &path.child("categories").index(index), errors);
    }
}

fn label(name: &str, path: &Path, errors: &mut Errors) {
    if !name.is_empty() {
        one(name, path, errors);
    }
}

fn one(name: &str, path: &Path, errors: &mut Errors) {
    let problems = dns1035_label(name);
    if !problems.is_empty() {
        errors.push(FieldError::invalid(path, name, problems.join(",")));
    }
}
