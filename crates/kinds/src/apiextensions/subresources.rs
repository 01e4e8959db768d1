//! The `scale` subresource of a definition: where its numbers are.

use super::columns::simple_path;
use crate::check::Errors;
use crate::tree::{get, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// Checks the subresources of a version.
pub(super) fn check(subresources: &Value, path: &Path, errors: &mut Errors) {
    let Some(scale) = get(subresources, "scale") else { return };
    for (field, root, required) in [
        ("specReplicasPath", ".spec", true),
        ("statusReplicasPath", ".status", true),
        ("labelSelectorPath", ".status", false),
    ] {
        let (value, path) = (text(scale, field), path.child(&format!("scale.{field}")));
        if value.is_empty() {
            if required {
                errors.push(FieldError::required(&path, ""));
            }
        } else if simple_path(value, &path, errors)
            && !value.strip_prefix(root).is_some_and(|rest| rest.starts_with('.'))
            && !(field == "labelSelectorPath" && value.starts_with(".spec."))
        {
            let place =
                if required { format!("under {root}") } else { "under either .spec or .status".to_owned() };
            errors.push(FieldError::invalid(&path, value, format!("should be a json path {place}")));
        }
    }
}
