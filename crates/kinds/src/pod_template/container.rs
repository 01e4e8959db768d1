//! Containers of the three sorts: what all share, and what init and ephemeral ones may not have.

use super::spec::Surroundings;
use super::{env, mount, probe, security};
use crate::check::{self, Errors, PROTOCOLS, messages};
use crate::resource::{Scope, check_requirements};
use crate::tree::{count, get, is_unset, list, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
/// What an ephemeral container may not have, in the order of its fields.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const EPHEMERAL: &str = "cannot be set for an Ephemeral Container";

/// Checks all containers of a pod spec.
pub(super) fn validate(around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    regular(around, &path.child("containers"), errors);
    init(around, &path.child("initContainers"), errors);
    ephemeral(around, &path.child("ephemeralContainers"), errors);
}

fn regular(around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    let containers = list(around.spec, "containers");
    if containers.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let mut names = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        common(container, around, &path, errors);
        unique_name(text(container, "name"), &mut names, &path, errors);
        lifecycle_and_probes(container, around, &path, errors);
        restart_policy(container, &path, errors);
    }
    host_port_conflicts(containers, path, errors);
}

fn init(around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    let mut names: Vec<_> =
        list(around.spec, "containers").iter().map(|container| text(container, "name")).collect();
    for (index, container) in list(around.spec, "initContainers").iter().enumerate() {
        let container_path = path.index(index);
        common(container, around, &container_path, errors);
        restart_policy(container, &container_path, errors);
        if !text(container, "name").is_empty() || names.contains(&"") {
            unique_name(text(container, "name"), &mut names, &container_path, errors);
        }
        host_port_conflicts(std::slice::from_ref(container), path, errors);
        if text(container, "restartPolicy") == "Always" {
            lifecycle_and_probes(container, around, &container_path, errors);
            continue;
        }
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if get(container, key).is_some() {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(&container_path.child(key), detail));
            }
        }
        no_restart_on_resize(container, &container_path, errors);
    }
}

/// An init container that has ended is not started again because its resources change.
fn no_restart_on_resize(container: &Value, path: &Path, errors: &mut Errors) {
    for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
        if text(policy, "restartPolicy") == "RestartContainer" {
            let path = path.child("resizePolicy").index(index).child("restartPolicy");
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.push(FieldError::invalid(&path, "RestartContainer", detail));
        }
    }
}

/// A container's own policy, and its rules for certain exit codes, which need one to fall back to.
fn restart_policy(container: &Value, path: &Path, errors: &mut Errors) {
    check::one_of_if_set(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    let rules = list(container, "restartPolicyRules");
    if !rules.is_empty() && get(container, "restartPolicy").is_none() {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(&path.child("restartPolicy"), detail));
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&path, rules.len(), MAX_RULES));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        let action = text(rule, "action");
        if action != "Restart" {
            errors.push(FieldError::not_supported(&path.child("action"), action, &["Restart"]));
        }
        let path = path.child("exitCodes");
        let Some(codes) = get(rule, "exitCodes") else {
            errors.push(FieldError::required(&path, "must be specified"));
            continue;
        };
        let operator = text(codes, "operator");
        if !["In", "NotIn"].contains(&operator) {
            errors.push(FieldError::not_supported(&path.child("operator"), operator, &["In", "NotIn"]));
        }
        let values = list(codes, "values").len();
        if values > MAX_EXIT_CODES {
            errors.push(FieldError::too_many(&path.child("values"), values, MAX_EXIT_CODES));
        }
    }
}

fn ephemeral(around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    let lasting = ["containers", "initContainers"].iter().flat_map(|key| list(around.spec, key));
    let lasting: Vec<_> = lasting.map(|container| text(container, "name")).collect();
    let mut names = lasting.clone();
    for (index, container) in list(around.spec, "ephemeralContainers").iter().enumerate() {
        let path = path.index(index);
        common(container, around, &path, errors);
        trimmed_image(container, &path, errors);
        unique_name(text(container, "name"), &mut names, &path, errors);
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !lasting.contains(&target) {
            errors.push(FieldError::not_found(&path.child("targetContainerName"), target));
        }
        for key in NOT_EPHEMERAL.iter().filter(|key| has_set(container, key)) {
            errors.push(FieldError::forbidden(&path.child(key), EPHEMERAL));
        }
        for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"].iter().filter(|key| !text(mount, key).is_empty()) {
                let path = path.child("volumeMounts").index(index).child(key);
                errors.push(FieldError::forbidden(&path, EPHEMERAL));
            }
        }
    }
}

/// Whether a field says something; resources are there by default.
fn has_set(container: &Value, key: &str) -> bool {
    match key {
        "resources" => {
            ["limits", "requests", "claims"].iter().any(|part| get(&container["resources"], part).is_some())
        }
        _ => !is_unset(container, key),
    }
}

fn unique_name<'a>(name: &'a str, names: &mut Vec<&'a str>, path: &Path, errors: &mut Errors) {
    if names.contains(&name) {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    } else {
        names.push(name);
    }
}

fn lifecycle_and_probes(container: &Value, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    if let Some(lifecycle) = get(container, "lifecycle") {
        probe::lifecycle(lifecycle, around.grace_period_s, &path.child("lifecycle"), errors);
    }
    probe::all(container, around.grace_period_s, path, errors);
}

/// What every container has.
fn common(container: &Value, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    if check::required_text(container, "name", path, errors) {
        check::name_if_set(container, "name", names::dns1123_label, path, errors);
    }
    check::required_text(container, "image", path, errors);
    check::one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(container, &path.child("ports"), errors);
    env::variables(container, &path.child("env"), errors);
    env::sources(container, &path.child("envFrom"), errors);
    mount::mounts(container, around, &path.child("volumeMounts"), errors);
    mount::devices(container, around, &path.child("volumeDevices"), errors);
    check::one_of(container, "imagePullPolicy", PULL_POLICIES, path, errors);
    let resources = path.child("resources");
    check_requirements(&container["resources"], Scope::Container, &around.claims, &resources, errors);
    resize_policy(container, text(around.spec, "restartPolicy"), &path.child("resizePolicy"), errors);
    security::container(container, around.host_users, &path.child("securityContext"), errors);
}

/// An image name without blanks around it, which only pods are asked for.
pub(crate) fn trimmed_image(container: &Value, path: &Path, errors: &mut Errors) {
    let image = text(container, "image");
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, detail));
    }
}

fn ports(container: &Value, path: &Path, errors: &mut Errors) {
    let mut names = Vec::new();
    for (index, port) in list(container, "ports").iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        let problems = if name.is_empty() { Vec::new() } else { names::port_name(name) };
        if !problems.is_empty() {
            messages(problems, name, &path.child("name"), errors);
        } else if names.contains(&name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        } else if !name.is_empty() {
            names.push(name);
        }
        match count(port, "containerPort") {
            0 => errors.push(FieldError::required(&path.child("containerPort"), "")),
            number => check::port_number(number, &path.child("containerPort"), errors),
        }
        if count(port, "hostPort") != 0 {
            check::port_number(count(port, "hostPort"), &path.child("hostPort"), errors);
        }
        check::one_of(port, "protocol", PROTOCOLS, &path, errors);
    }
}

fn host_port_conflicts(containers: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        for (port_index, port) in list(container, "ports").iter().enumerate() {
            let number = count(port, "hostPort");
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if seen.contains(&key) {
                let path = path.index(index).child("ports").index(port_index).child("hostPort");
                errors.push(FieldError::duplicate(&path, key));
            } else {
                seen.push(key);
            }
        }
    }
}

fn resize_policy(container: &Value, pod_restart_policy: &str, path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if seen.contains(&resource) {
            errors.push(FieldError::duplicate(&path.index(index), resource));
        }
        seen.push(resource);
        known(resource, &["cpu", "memory"], path, errors);
        known(restart, &["NotRequired", "RestartContainer"], path, errors);
        if pod_restart_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, restart, detail));
        }
    }
}

fn known(value: &str, supported: &[&str], path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !supported.contains(&value) {
        errors.push(FieldError::not_supported(path, value, supported));
    }
}
