//! The resources of a pod as a whole: that they hold what its containers ask for.

use crate::check::Errors;
use crate::pod_requests::{Resources, aggregate_limits, containers};
use crate::resource::{Scope, check_requirements, is_huge_page, quantity};
use crate::tree::{entries, get, list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// Checks `resources` of a pod spec.
pub(super) fn validate(spec: &Value, claims: &[&str], path: &Path, errors: &mut Errors) {
    let Some(resources) = get(spec, "resources") else { return };
    if text(&spec["os"], "name") == "windows" {
        errors.push(FieldError::forbidden(path, "may not be set for a windows pod"));
        return;
    }
    if get(resources, "claims").is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), detail));
    }
    check_requirements(resources, Scope::Pod, claims, path, errors);
    holds(&resources["requests"], &containers(spec), "requests", path, errors);
    // Huge pages are not overcommitted, so the containers' together fit the pod's.
    let mut limits = aggregate_limits(spec);
    limits.retain(|name, _| is_huge_page(name));
    holds(&resources["limits"], &limits, "limits", path, errors);
    container_limits(spec, path, errors);
}

/// What the pod has of each resource that it speaks of is at least `total`.
fn holds(pod: &Value, total: &Resources, part: &str, path: &Path, errors: &mut Errors) {
    for (name, total) in total {
        let Some(amount) = get(pod, name).map(quantity) else { continue };
        if *total > amount {
            let detail = format!(
                "must be greater than or equal to aggregate container {part} of {}",
                total.canonical()
            );
            errors.push(FieldError::invalid(&path.child(part).key(name), amount.canonical(), detail));
        }
    }
}

/// No container may have more than the pod.
fn container_limits(spec: &Value, path: &Path, errors: &mut Errors) {
    for (index, container) in list(spec, "containers").iter().enumerate() {
        for (name, limit) in entries(&container["resources"], "limits") {
            let Some(most) = get(&spec["resources"]["limits"], name).map(quantity) else { continue };
            let limit = quantity(limit);
            if limit > most {
                let path = path.child("containers").index(index).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {}", most.canonical());
                errors.push(FieldError::invalid(&path, limit.canonical(), detail));
            }
        }
    }
}
