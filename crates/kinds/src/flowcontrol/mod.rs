//! The kinds of the group flowcontrol.apiserver.k8s.io, and the objects that every cluster has of them.

pub mod fixed;
pub(crate) mod flow_schema;
pub(crate) mod priority_level_configuration;

use crate::check::Errors;
use crate::tree::{list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

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
            errors.push(FieldError::required(&path, ""));
        }
    }
}
