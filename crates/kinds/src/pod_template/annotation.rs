//! Annotations of a pod that mean something to Kubernetes itself.

use super::spec::each_container;
use crate::check::{self, Errors};
use crate::tree::{entries, get, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// Marks the API server's image of a pod that the kubelet runs from a file.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Named the profile of a whole pod.
pub(crate) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// The prefix of the annotation that named a container's profile.
pub(crate) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// The prefix of the annotation that names a container's AppArmor profile.
pub(crate) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Checks the annotations of a pod or template; `path` is theirs.
pub(crate) fn validate(metadata: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let annotations = &metadata["annotations"];
    if let Some(value) = get(annotations, MIRROR)
        && text(spec, "nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), value.clone(), detail));
    }
    let cost = text(annotations, DELETION_COST);
    if !cost.is_empty() && !is_cost(cost) {
        errors.push(FieldError::invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer"));
    }
    for (key, value) in entries(metadata, "annotations") {
        let value = value.as_str().unwrap_or_default();
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp(value, &path.child(key), errors);
        } else if let Some(container) = key.strip_prefix(APP_ARMOR) {
            app_armor(container, value, spec, &path.key(key), errors);
        }
    }
}

fn is_cost(cost: &str) -> bool {
    // Signs and leading zeros have one spelling only.
    cost.parse::<i32>().is_ok_and(|number| number.to_string() == cost)
}

fn seccomp(profile: &str, path: &Path, errors: &mut Errors) {
    if let Some(local) = profile.strip_prefix("localhost/") {
        check::descending_path(local, path, errors);
    } else if !["runtime/default", "docker/default", "unconfined"].contains(&profile) {
        errors.push(FieldError::invalid(path, profile, "must be a valid seccomp profile"));
    }
}

fn app_armor(container: &str, profile: &str, spec: &Value, path: &Path, errors: &mut Errors) {
    let known = each_container(spec, &Path::root()).iter().any(|(_, known)| text(known, "name") == container);
    if !known {
        errors.push(FieldError::invalid(path, container, "container not found"));
    }
    if !["", "runtime/default", "unconfined"].contains(&profile) && !profile.starts_with("localhost/") {
        let detail = format!("invalid AppArmor profile name: \"{profile}\"");
        errors.push(FieldError::invalid(path, profile, detail));
    }
}
