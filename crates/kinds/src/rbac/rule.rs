//! Policy rules, as Role and ClusterRole have them.

use crate::check::Errors;
use crate::kind::Column;
use crate::table;
use crate::tree::{is_unset, list};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// Checks `rules`.
pub(super) fn validate(role: &Value, is_namespaced: bool, errors: &mut Errors) {
    for (index, rule) in list(role, "rules").iter().enumerate() {
        check(rule, is_namespaced, &Path::new("rules").index(index), errors);
    }
}

fn check(rule: &Value, is_namespaced: bool, path: &Path, errors: &mut Errors) {
    let missing = |key: &str| is_unset(rule, key);
    if missing("verbs") {
        errors.push(FieldError::required(&path.child("verbs"), "verbs must contain at least one value"));
    }
    if !missing("nonResourceURLs") {
        let (path, urls) = (path.child("nonResourceURLs"), &rule["nonResourceURLs"]);
        if is_namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(&path, urls.clone(), detail));
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|key| !missing(key)) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(&path, urls.clone(), detail));
        }
        return;
    }
    for (key, detail) in [
        ("apiGroups", "resource rules must supply at least one api group"),
        ("resources", "resource rules must supply at least one resource"),
    ] {
        if missing(key) {
            errors.push(FieldError::required(&path.child(key), detail));
        }
    }
}

/// Roles have upstream's plain table: the name and the moment of creation.
pub(super) fn columns() -> Vec<Column> {
    vec![table::name(), table::created_at()]
}

pub(super) fn cells(role: &Value) -> Vec<Value> {
    vec![table::name_cell(role), table::created_at_cell(role)]
}
