//! The pod spec as a whole: its parts in upstream's order, and the rules between them.

use super::annotation::MIRROR;
use super::{container, dns, env, pod_resources, scheduling, security, volume, windows};
use crate::check::{self, Errors, messages};
use crate::name;
use crate::resource::{Scope, check_requirements};
use crate::tree::{flag, get, list, number, text, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

/// Whose spec it is.
#[derive(Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// The pod with that metadata, whose name may not be known yet.
    Pod(&'a Value),
    /// A pod template.
    Template,
}

impl Owner<'_> {
    pub(crate) fn is_pod(self) -> bool {
        matches!(self, Owner::Pod(_))
    }

    /// Whether it is the API server's image of a pod that the kubelet runs from a file.
    fn is_mirror(self) -> bool {
        matches!(self, Owner::Pod(metadata) if get(&metadata["annotations"], MIRROR).is_some())
    }

    /// The name of the pod; empty for a template.
    pub(super) fn pod_name(&self) -> &str {
        match self {
            Owner::Pod(metadata) => text(metadata, "name"),
            Owner::Template => "",
        }
    }
}

/// What the checks of containers must know of the rest of the spec.
pub(super) struct Surroundings<'a> {
    /// The pod spec.
    pub(super) spec: &'a Value,
    /// The volumes that are sound, by name.
    pub(super) volumes: Vec<(&'a str, &'a Value)>,
    /// The names of the pod's resource claims.
    pub(super) claims: Vec<&'a str>,
    /// How long the pod may take to end.
    pub(super) grace_period_s: Option<i64>,
    /// Whether the pod has its own user namespace not.
    pub(super) host_users: bool,
}

/// Checks a pod spec.
pub(crate) fn validate_spec(spec: &Value, owner: Owner<'_>, path: &Path, errors: &mut Errors) {
    if get(spec, "terminationGracePeriodSeconds").is_none() {
        errors.push(FieldError::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let around = Surroundings {
        spec,
        volumes: volume::validate(spec, owner, &path.child("volumes"), errors),
        claims: list(spec, "resourceClaims").iter().map(|claim| text(claim, "name")).collect(),
        grace_period_s: number(spec, "terminationGracePeriodSeconds"),
        host_users: get(spec, "hostUsers") != Some(&json!(false)),
    };
    resource_claims(spec, owner, &path.child("resourceClaims"), errors);
    container::validate(&around, path, errors);
    pod_resources::validate(spec, &around.claims, &path.child("resources"), errors);
    host_ports(spec, owner, &path.child("containers"), errors);
    check::one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    check::one_of(
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        path,
        errors,
    );
    check::labels(spec, "nodeSelector", path, errors);
    security::pod(spec, &path.child("securityContext"), errors);
    scheduling::affinity(spec, &path.child("affinity"), errors);
    dns::config(spec, &path.child("dnsConfig"), errors);
    scheduling::gates(spec, path, errors);
    scheduling::topology_spread(spec, &path.child("topologySpreadConstraints"), errors);
    windows::host_processes(spec, path, errors);
    host_users(spec, path, errors);
    hostname_override(spec, path, errors);
    names_and_bounds(spec, path, errors);
    scheduling::tolerations(list(spec, "tolerations"), &path.child("tolerations"), errors);
    dns::host_aliases(spec, &path.child("hostAliases"), errors);
    classes(spec, path, errors);
    if let Some(overhead) = get(spec, "overhead") {
        let requirements = json!({"limits": overhead});
        check_requirements(&requirements, Scope::Container, &[], &path.child("overhead"), errors);
    }
    operating_system(spec, path, errors);
    env::volumes_of_file_keys(spec, path, errors);
}

fn names_and_bounds(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in ["serviceAccountName", "nodeName"] {
        check::name_if_set(spec, key, names::dns1123_subdomain, path, errors);
    }
    check::within(spec, "activeDeadlineSeconds", (1, i64::from(i32::MAX)), path, errors);
    check::name_if_set(spec, "hostname", names::dns1123_label, path, errors);
    check::name_if_set(spec, "subdomain", names::dns1123_label, path, errors);
}

/// Of which importance the pod is, and what runs it.
fn classes(spec: &Value, path: &Path, errors: &mut Errors) {
    check::name_if_set(spec, "priorityClassName", names::dns1123_subdomain, path, errors);
    if let Some(class) = get(spec, "runtimeClassName").and_then(Value::as_str) {
        messages(name::subdomain(class, false), class, &path.child("runtimeClassName"), errors);
    }
    if get(spec, "preemptionPolicy").is_some() {
        check::one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    }
}

/// A hostname that the kernel takes, of a pod that has one of its own.
fn hostname_override(spec: &Value, path: &Path, errors: &mut Errors) {
    const MAX_BYTES: usize = 64;
    let Some(hostname) = get(spec, "hostnameOverride").and_then(Value::as_str) else { return };
    let path = path.child("hostnameOverride");
    for field in ["setHostnameAsFQDN", "hostNetwork"].into_iter().filter(|field| flag(spec, field)) {
        let detail = format!("may not be specified when {field} is true");
        errors.push(FieldError::forbidden(&path, detail));
    }
    if hostname.len() > MAX_BYTES {
        errors.push(FieldError::too_long(&path, MAX_BYTES));
    }
    messages(names::dns1123_subdomain(hostname), hostname, &path, errors);
}

fn resource_claims(spec: &Value, owner: Owner<'_>, path: &Path, errors: &mut Errors) {
    let mut claim_names = Vec::new();
    for (index, claim) in list(spec, "resourceClaims").iter().enumerate() {
        if owner.is_mirror() {
            let detail = "static pods do not support resource claims";
            errors.push(FieldError::forbidden(&whole(), detail));
            continue;
        }
        let path = path.index(index);
        let name = text(claim, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if claim_names.contains(&name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        } else {
            messages(names::dns1123_label(name), name, &path.child("name"), errors);
            claim_names.push(name);
        }
        let detail = match (get(claim, "resourceClaimName"), get(claim, "resourceClaimTemplateName")) {
            (Some(_), Some(_)) => {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            }
            (None, None) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            _ => "",
        };
        if !detail.is_empty() {
            errors.push(FieldError::invalid(&path, claim.clone(), detail));
        }
        for key in ["resourceClaimName", "resourceClaimTemplateName"] {
            check::name_if_present(claim, key, names::dns1123_subdomain, &path, errors);
        }
    }
}

/// How upstream names the whole object: by an empty name, which it shows as brackets.
pub(crate) fn whole() -> Path {
    Path::root().key("")
}

/// In the host's network a port is the host's port. A template may leave it out, for its pods get it by default.
fn host_ports(spec: &Value, owner: Owner<'_>, path: &Path, errors: &mut Errors) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    for (index, container) in list(spec, "containers").iter().enumerate() {
        for (port_index, port) in list(container, "ports").iter().enumerate() {
            let host_port = number(port, "hostPort").unwrap_or(0);
            if (owner.is_pod() || host_port != 0) && host_port != number(port, "containerPort").unwrap_or(0) {
                let path = path.index(index).child("ports").index(port_index).child("hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&path, host_port, detail));
            }
        }
    }
}

/// A pod with users of its own shares no other namespace with the host, and its devices are not those users'.
fn host_users(spec: &Value, path: &Path, errors: &mut Errors) {
    const DETAIL: &str = "when `hostUsers` is false";
    if get(spec, "hostUsers") != Some(&json!(false)) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, field) {
            errors.push(FieldError::forbidden(&path.child(shown), DETAIL));
        }
    }
    for (path, container) in each_container(spec, path) {
        if !list(container, "volumeDevices").is_empty() {
            errors.push(FieldError::forbidden(&path.child("volumeDevices"), DETAIL));
        }
    }
}

fn operating_system(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(os) = get(spec, "os") else { return };
    match text(os, "name") {
        "" => errors.push(FieldError::required(&path.child("os").child("name"), "")),
        "linux" => security::no_windows_options(spec, path, errors),
        "windows" => security::only_windows_options(spec, path, errors),
        other => errors.push(FieldError::not_supported(&path.child("os"), other, &["linux", "windows"])),
    }
}

/// Every container of a spec with its path, init containers first.
pub(crate) fn each_container<'a>(spec: &'a Value, path: &Path) -> Vec<(Path, &'a Value)> {
    let mut all = Vec::new();
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let path = path.child(field);
        let containers = list(spec, field).iter().enumerate();
        all.extend(containers.map(|(index, container)| (path.index(index), container)));
    }
    all
}

/// The names in a list of strings, with their paths.
pub(super) fn label_keys(object: &Value, key: &str, path: &Path, errors: &mut Errors) {
    let path = path.child(key);
    for (index, label) in texts(object, key).into_iter().enumerate() {
        check::label_name(label, &path.index(index), errors);
    }
}
