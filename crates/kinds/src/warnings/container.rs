//! Containers: annotations that became fields, fractional bytes, variables given twice, and ports that meet.

use super::{Warnings, fractional_bytes};
use crate::pod_template::{APP_ARMOR, SECCOMP_CONTAINER, each_container};
use crate::tree::{at, count, get, list, text};
use nauplius_meta::field::Path;
use serde_json::Value;

const BYTES: &[&str] = &["memory", "ephemeral-storage"];

/// Warns of the containers of a pod or template; `path` is that of the spec, `annotations` those of its metadata.
pub(super) fn of_containers(
    spec: &Value,
    annotations: (&Value, &Path),
    is_template: bool,
    path: &Path,
    warnings: &mut Warnings,
) {
    let pod_has_profile = get(&spec["securityContext"], "appArmorProfile").is_some();
    for (path, container) in each_container(spec, path) {
        let context = &container["securityContext"];
        let (all, all_path) = annotations;
        let mut old = |prefix: &str, words: &str| {
            let key = format!("{prefix}{}", text(container, "name"));
            if get(all, &key).is_some() {
                warnings.push(format!("{}: {words}", all_path.key(&key)));
            }
        };
        if get(context, "seccompProfile").is_none() {
            old(SECCOMP_CONTAINER, "non-functional in v1.27+; use the \"seccompProfile\" field instead");
        }
        if is_template && !pod_has_profile && get(context, "appArmorProfile").is_none() {
            old(APP_ARMOR, "deprecated since v1.30; use the \"appArmorProfile\" field instead");
        }
        for name in BYTES {
            for part in ["limits", "requests"] {
                let amounts = at(container, &["resources", part]);
                fractional_bytes(amounts, &[name], &path.child("resources").child(part), warnings);
            }
        }
        variables(container, &path, warnings);
    }
    ports(spec, path, warnings);
}

fn variables(container: &Value, path: &Path, warnings: &mut Warnings) {
    let mut seen = Vec::new();
    for (index, variable) in list(container, "env").iter().enumerate() {
        let (name, value) = (text(variable, "name"), text(variable, "value"));
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        // A variable that extends itself means to repeat the name.
        let own = format!("$({name})");
        let extends = get(variable, "valueFrom").is_none() && value != own && value.contains(&own);
        if !extends {
            let path = path.child("env").index(index);
            warnings.push(format!(
                "{path}: hides previous definition of \"{name}\", which may be dropped when using apply"
            ));
        }
    }
}

/// Warns of ports that meet in one pod, whose containers share their addresses.
fn ports(spec: &Value, path: &Path, warnings: &mut Warnings) {
    let mut seen: Vec<(Path, &Value)> = Vec::new();
    for (path, container) in each_container(spec, path) {
        for (index, port) in list(container, "ports").iter().enumerate() {
            let path = path.child("ports").index(index);
            let (host_ip, host_port) = (text(port, "hostIP"), count(port, "hostPort"));
            if !host_ip.is_empty() && host_port == 0 {
                warnings.push(format!("{path}: hostIP set without hostPort: {}", in_go(port)));
            }
            for (other_path, other) in seen.iter().filter(|(_, other)| is_same_port(port, other)) {
                if let Some(words) = meeting((host_ip, host_port), other) {
                    warnings.push(format!("{path}: {words} port definition with {other_path}"));
                }
            }
            seen.push((path, port));
        }
    }
}

fn is_same_port(port: &Value, other: &Value) -> bool {
    count(port, "containerPort") == count(other, "containerPort")
        && text(port, "protocol") == text(other, "protocol")
}

fn meeting((host_ip, host_port): (&str, i64), other: &Value) -> Option<&'static str> {
    let (other_ip, other_port) = (text(other, "hostIP"), count(other, "hostPort"));
    if host_ip == other_ip && host_port == other_port {
        Some("duplicate")
    } else if host_port == 0 || other_port == 0 {
        Some("overlapping")
    } else if host_port == other_port && host_ip.is_empty() != other_ip.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

/// A port as Go prints its struct.
fn in_go(port: &Value) -> String {
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        text(port, "name"),
        count(port, "hostPort"),
        count(port, "containerPort"),
        text(port, "protocol"),
        text(port, "hostIP")
    )
}
