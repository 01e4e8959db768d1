//! The further checks of the level `restricted`: what a hardened pod says of itself.

use super::baseline::{added, bad_seccomp};
use super::policy::Standard;
use super::setters::{Setters, listed, named, plural, quoted};
use super::{Finding, found};
use serde_json::Value;
use std::collections::BTreeSet;

/// Kinds of volumes that hold nothing of the node and need no driver in the kernel.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Windows knows none of it, and pods say since v1.25 that they are for Windows.
fn is_windows(pod: &Value, standard: Standard) -> bool {
    standard.since(25) && pod["spec"]["os"]["name"] == "windows"
}

/// A root that is only root in a namespace of its own.
fn is_own_user_namespace(pod: &Value, standard: Standard) -> bool {
    standard.since(35) && pod["spec"]["hostUsers"] == false
}

pub(super) fn privilege_escalation(pod: &Value, standard: Standard) -> Option<Finding> {
    if !standard.since(8) || is_windows(pod, standard) {
        return None;
    }
    let is_open = |container: &Value| container["securityContext"]["allowPrivilegeEscalation"] != false;
    let names = named(&pod["spec"], is_open);
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", listed(&names));
    found("allowPrivilegeEscalation != false", (!names.is_empty()).then(detail))
}

pub(super) fn capabilities(pod: &Value, standard: Standard) -> Option<Finding> {
    if !standard.since(22) || is_windows(pod, standard) {
        return None;
    }
    let keeps = |container: &Value| {
        let dropped = container["securityContext"]["capabilities"]["drop"].as_array();
        !dropped.is_some_and(|dropped| dropped.iter().any(|name| name == "ALL"))
    };
    let names = named(&pod["spec"], keeps);
    let detail = || format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", listed(&names));
    let mut details: Vec<String> = (!names.is_empty()).then(detail).into_iter().collect();
    details.extend(added(&pod["spec"], &["NET_BIND_SERVICE"]));
    found("unrestricted capabilities", (!details.is_empty()).then(|| details.join("; ")))
}

pub(super) fn volumes(pod: &Value, _standard: Standard) -> Option<Finding> {
    let mut names = Vec::new();
    let mut types = BTreeSet::new();
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let kinds = volume.as_object().into_iter().flatten();
        let mut kinds =
            kinds.filter(|(key, value)| *key != "name" && !value.is_null()).map(|(key, _)| key.as_str());
        let kind = kinds.next().unwrap_or("unknown");
        if !VOLUMES.contains(&kind) {
            names.push(volume["name"].as_str().unwrap_or_default());
            types.insert(kind);
        }
    }
    let detail = || {
        let volumes = plural("volume", "volumes", names.len());
        let uses = plural("uses", "use", names.len());
        let word = plural("restricted volume type", "restricted volume types", types.len());
        format!("{volumes} {} {uses} {word} {}", quoted(&names), quoted(&types))
    };
    found("restricted volume types", (!names.is_empty()).then(detail))
}

pub(super) fn non_root(pod: &Value, standard: Standard) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    if is_own_user_namespace(pod, standard) {
        return None;
    }
    let spec = &pod["spec"];
    let bad = |context: &Value| {
        (context["runAsNonRoot"] == false).then(|| "false".to_owned()).into_iter().collect()
    };
    if let Some(who) = Setters::find(spec, bad).subject() {
        return found(REASON, Some(format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    if spec["securityContext"]["runAsNonRoot"] == true {
        return None;
    }
    let names = named(spec, |container| container["securityContext"]["runAsNonRoot"].is_null());
    let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", listed(&names));
    found(REASON, (!names.is_empty()).then(detail))
}

pub(super) fn user(pod: &Value, standard: Standard) -> Option<Finding> {
    if !standard.since(23) || is_own_user_namespace(pod, standard) {
        return None;
    }
    let bad = |context: &Value| (context["runAsUser"] == 0).then(|| "0".to_owned()).into_iter().collect();
    let who = Setters::find(&pod["spec"], bad).subject();
    found("runAsUser=0", who.map(|who| format!("{who} must not set runAsUser=0")))
}

pub(super) fn seccomp(pod: &Value, standard: Standard) -> Option<Finding> {
    const REASON: &str = "seccompProfile";
    if !standard.since(19) || is_windows(pod, standard) {
        return None;
    }
    let spec = &pod["spec"];
    if let Some(detail) = bad_seccomp(spec) {
        return found(REASON, Some(detail));
    }
    if spec["securityContext"]["seccompProfile"].is_object() {
        return None;
    }
    let names = named(spec, |container| container["securityContext"]["seccompProfile"].is_null());
    let detail = || {
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            listed(&names)
        )
    };
    found(REASON, (!names.is_empty()).then(detail))
}
