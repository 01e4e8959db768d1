//! Security contexts: users, profiles, sysctls, and what goes with which operating system.

use super::spec::each_container;
use super::windows;
use crate::check::{self, Errors};
use crate::tree::{flag, get, is_unset, list, number, text, texts};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

const PROFILE_TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const MAX_PROFILE_BYTES: usize = 4095;
const MAX_SYSCTL_BYTES: usize = 253;
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// Linux' own settings, which a Windows pod may not have, and whether they stand beside the security context.
const LINUX_POD: &[(&str, bool)] = &[
    ("appArmorProfile", false),
    ("seLinuxOptions", false),
    ("hostUsers", true),
    ("hostPID", true),
    ("hostIPC", true),
    ("seccompProfile", false),
    ("fsGroup", false),
    ("fsGroupChangePolicy", false),
    ("sysctls", false),
    ("shareProcessNamespace", true),
    ("runAsUser", false),
    ("runAsGroup", false),
    ("supplementalGroups", false),
    ("supplementalGroupsPolicy", false),
    ("seLinuxChangePolicy", false),
];
const LINUX_CONTAINER: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Checks the pod's `securityContext`.
pub(super) fn pod(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(context) = get(spec, "securityContext") else { return };
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        check::id(number(context, key), &path.child(key), errors);
    }
    let groups = path.child("supplementalGroups");
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        check::id(group.as_i64(), &groups.index(index), errors);
    }
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    sysctls(spec, context, &path.child("sysctls"), errors);
    check::one_of_if_set(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path, errors);
    seccomp_profile(context, path, errors);
    windows::options(context, path, errors);
    app_armor_profile(context, path, errors);
    check::one_of_if_set(context, "supplementalGroupsPolicy", &["Merge", "Strict"], path, errors);
    check::one_of_if_set(context, "seLinuxChangePolicy", &["MountOption", "Recursive"], path, errors);
}

/// Checks a container's `securityContext`.
pub(super) fn container(container: &Value, host_users: bool, path: &Path, errors: &mut Errors) {
    let Some(context) = get(container, "securityContext") else { return };
    for key in ["runAsUser", "runAsGroup"] {
        check::id(number(context, key), &path.child(key), errors);
    }
    check::one_of_if_set(context, "procMount", &["Default", "Unmasked"], path, errors);
    if host_users && text(context, "procMount") == "Unmasked" {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(FieldError::invalid(&path.child("procMount"), "Unmasked", detail));
    }
    seccomp_profile(context, path, errors);
    if get(context, "allowPrivilegeEscalation") == Some(&json!(false)) {
        if flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
        if texts(&context["capabilities"], "add").contains(&"CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
    }
    windows::options(context, path, errors);
    app_armor_profile(context, path, errors);
}

fn seccomp_profile(context: &Value, path: &Path, errors: &mut Errors) {
    if let Some(profile) = get(context, "seccompProfile") {
        seccomp(profile, &path.child("seccompProfile"), errors);
    }
}

fn app_armor_profile(context: &Value, path: &Path, errors: &mut Errors) {
    if let Some(profile) = get(context, "appArmorProfile") {
        app_armor(profile, &path.child("appArmorProfile"), errors);
    }
}

fn profile_type(profile: &Value, name: &str, path: &Path, errors: &mut Errors) {
    match text(profile, "type") {
        "" => {
            let detail = format!("type is required when {name} is set");
            errors.push(FieldError::required(&path.child("type"), detail));
        }
        known if PROFILE_TYPES.contains(&known) => {}
        other => errors.push(FieldError::not_supported(&path.child("type"), other, PROFILE_TYPES)),
    }
}

fn seccomp(profile: &Value, path: &Path, errors: &mut Errors) {
    profile_type(profile, "seccompProfile", path, errors);
    let local = get(profile, "localhostProfile").and_then(Value::as_str);
    let path = path.child("localhostProfile");
    match (text(profile, "type"), local) {
        ("Localhost", None) => {
            errors.push(FieldError::required(&path, "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(local)) => check::descending_path(local, &path, errors),
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&path, profile.clone(), detail));
        }
        _ => {}
    }
}

/// Whether a profile of AppArmor is sound.
pub(super) fn is_app_armor(profile: &Value) -> bool {
    let mut errors = Errors::new();
    app_armor(profile, &Path::root(), &mut errors);
    errors.is_empty()
}

fn app_armor(profile: &Value, path: &Path, errors: &mut Errors) {
    profile_type(profile, "appArmorProfile", path, errors);
    let local = get(profile, "localhostProfile").and_then(Value::as_str);
    let path = path.child("localhostProfile");
    match (text(profile, "type"), local) {
        ("Localhost", Some(local)) => {
            if local.trim() != local {
                errors.push(FieldError::invalid(&path, local, "must not be padded with whitespace"));
            } else if local.is_empty() {
                errors.push(FieldError::required(&path, "must be set when AppArmor type is Localhost"));
            }
            if local.len() > MAX_PROFILE_BYTES {
                errors.push(FieldError::too_long(&path, MAX_PROFILE_BYTES));
            }
        }
        ("Localhost", None) => {
            errors.push(FieldError::required(&path, "must be set when AppArmor type is Localhost"));
        }
        ("RuntimeDefault" | "Unconfined", Some(local)) => {
            errors.push(FieldError::invalid(&path, local, "can only be set when AppArmor type is Localhost"));
        }
        _ => {}
    }
}

fn sysctls(spec: &Value, context: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, sysctl) in list(context, "sysctls").iter().enumerate() {
        let path = path.index(index).child("name");
        let name = text(sysctl, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !is_sysctl(name) {
            let detail = format!("must have at most {MAX_SYSCTL_BYTES} characters and match regex {SYSCTL}");
            errors.push(FieldError::invalid(&path, name, detail));
        } else if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        seen.push(name);
        let dotted = name.replace('/', ".");
        let is_ipc = dotted == "kernel.sem"
            || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| dotted.starts_with(prefix));
        if flag(spec, "hostNetwork") && dotted.starts_with("net.") {
            errors.push(FieldError::invalid(&path, name, "may not be specified when 'hostNetwork' is true"));
        } else if flag(spec, "hostIPC") && is_ipc {
            errors.push(FieldError::invalid(&path, name, "may not be specified when 'hostIPC' is true"));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let segment = |segment: &str| {
        let bytes = segment.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        is_edge(bytes.first()) && is_edge(bytes.last()) && bytes.iter().all(inner)
    };
    name.len() <= MAX_SYSCTL_BYTES && name.split(['.', '/']).all(segment)
}

/// A Linux pod has no options for Windows.
pub(super) fn no_windows_options(spec: &Value, path: &Path, errors: &mut Errors) {
    let pod = (path.clone(), spec);
    for (path, owner) in std::iter::once(pod).chain(each_container(spec, path)) {
        if get(&owner["securityContext"], "windowsOptions").is_some() {
            let path = path.child("securityContext").child("windowsOptions");
            errors.push(FieldError::forbidden(&path, "windows options cannot be set for a linux pod"));
        }
    }
}

/// A Windows pod has none for Linux.
pub(super) fn only_windows_options(spec: &Value, path: &Path, errors: &mut Errors) {
    const DETAIL: &str = "cannot be set for a windows pod";
    let context_path = path.child("securityContext");
    for (key, is_beside) in LINUX_POD {
        let (owner, path) = if *is_beside { (spec, path) } else { (&spec["securityContext"], &context_path) };
        // These two are only set when they are true.
        let is_set =
            if matches!(*key, "hostPID" | "hostIPC") { flag(owner, key) } else { !is_unset(owner, key) };
        if is_set {
            errors.push(FieldError::forbidden(&path.child(key), DETAIL));
        }
    }
    for (path, container) in each_container(spec, path) {
        let context = &container["securityContext"];
        for key in LINUX_CONTAINER.iter().filter(|key| !is_unset(context, key)) {
            errors.push(FieldError::forbidden(&path.child("securityContext").child(key), DETAIL));
        }
    }
}
