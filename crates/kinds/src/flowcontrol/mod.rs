//! The kinds of the group flowcontrol.apiserver.k8s.io, and the objects that every cluster has of them.

pub mod fixed;
pub(crate) mod flow_schema;
pub(crate) mod priority_level_configuration;

use crate::check::Errors;
use crate::kind::carry;
use crate::tree::{equal, list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// Says where the spec of an object that every cluster has is not the fixed one; in `free`, if it names a field, it may differ.
fn check_fixed(spec: &Value, fixed: Option<Value>, name: &str, free: Option<&str>, errors: &mut Errors) {
    let Some(mut fixed) = fixed else { return };
    let mut but = String::new();
    if let Some(free) = free {
        carry(&mut fixed, spec, free);
        but = format!(" except the 'spec.{free}' field");
    }
    if !equal(&fixed, spec) {
        let detail = format!("spec of '{name}'{but} must equal the fixed value");
        errors.push(FieldError::invalid(&Path::new("spec"), spec.clone(), detail));
    }
}

/// Conditions have a type each, and no two the same.
fn conditions(status: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("conditions");
    let mut seen = Vec::new();
    for (index, condition) in list(status, "conditions").iter().enumerate() {
        let (type_, path) = (text(condition, "type"), path.index(index).child("type"));
        if seen.contains(&type_) {
            errors.push(FieldError::duplicate(&path, type_));
        }
        seen.push(type_);
        if type_.is_empty() {
            errors.push(FieldError::required(&path, "must not be empty"));
        }
    }
}
