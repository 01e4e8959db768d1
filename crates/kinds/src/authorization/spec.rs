//! What reviews of access ask: one resource, or one path.

use crate::check::Errors;
use crate::tree::{get, is_unset};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// Checks what is asked about.
pub(super) fn attributes(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (resource, other) = (get(spec, "resourceAttributes"), get(spec, "nonResourceAttributes"));
    match (resource, other) {
        (Some(_), Some(other)) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid(&path.child("nonResourceAttributes"), other.clone(), detail));
        }
        (None, None) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&path.child("resourceAttributes"), Value::Null, detail));
        }
        _ => {}
    }
}

/// Checks who is asked about.
pub(super) fn subject(spec: &Value, errors: &mut Errors) {
    if is_unset(spec, "user") && is_unset(spec, "groups") {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&Path::new("spec").child("user"), "", detail));
    }
}
