//! The pod spec as a whole: its parts in upstream's order, and the rules between them.

use super::{container, dns, scheduling, security, volume};
use crate::check::{self, Errors, messages};
use crate::name;
use crate::resource::{Scope, check_requirements};
use crate::tree::{at, entries, flag, get, list, number, text, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

/// Whose spec it is.
#[derive(Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// A pod of that name, which may not be known yet.
    Pod(&'a str),
    /// A pod template.
    Template,
}

impl Owner<'_> {
    pub(crate) fn is_pod(self) -> bool {
        matches!(self, Owner::Pod(_))
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
    resource_claims(spec, &path.child("resourceClaims"), errors);
    container::validate(&around, path, errors);
    pod_resources(spec, &around.claims, &path.child("resources"), errors);
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
    host_users(spec, path, errors);
    names_and_bounds(spec, path, errors);
    scheduling::tolerations(list(spec, "tolerations"), &path.child("tolerations"), errors);
    dns::host_aliases(spec, &path.child("hostAliases"), errors);
    if let Some(overhead) = get(spec, "overhead") {
        let requirements = json!({"limits": overhead});
        check_requirements(&requirements, Scope::Container, &[], &path.child("overhead"), errors);
    }
    operating_system(spec, path, errors);
}

fn names_and_bounds(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in ["serviceAccountName", "nodeName", "priorityClassName"] {
        check::name_if_set(spec, key, names::dns1123_subdomain, path, errors);
    }
    if let Some(class) = get(spec, "runtimeClassName").and_then(Value::as_str) {
        messages(name::subdomain(class, false), class, &path.child("runtimeClassName"), errors);
    }
    check::within(spec, "activeDeadlineSeconds", (1, i64::from(i32::MAX)), path, errors);
    check::name_if_set(spec, "hostname", names::dns1123_label, path, errors);
    check::name_if_set(spec, "subdomain", names::dns1123_label, path, errors);
    hostname_override(spec, path, errors);
    if get(spec, "preemptionPolicy").is_some() {
        check::one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    }
}

/// A hostname that the kernel takes, of a pod that has one of its own.
fn hostname_override(spec: &Value, path: &Path, errors: &mut Errors) {
    const MAX_BYTES: usize = 64;
    let hostname = text(spec, "hostnameOverride");
    if hostname.is_empty() {
        return;
    }
    let path = path.child("hostnameOverride");
    messages(names::dns1123_subdomain(hostname), hostname, &path, errors);
    if hostname.len() > MAX_BYTES {
        errors.push(FieldError::too_long(&path, MAX_BYTES));
    }
    for field in ["hostNetwork", "setHostnameAsFQDN"].into_iter().filter(|field| flag(spec, field)) {
        let detail = format!("may not be set when `{field}` is true");
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn resource_claims(spec: &Value, path: &Path, errors: &mut Errors) {
    let claims = list(spec, "resourceClaims");
    check::duplicates(
        claims
            .iter()
            .enumerate()
            .map(|(index, claim)| (path.index(index).child("name"), text(claim, "name"))),
        errors,
    );
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        if check::required_text(claim, "name", &path, errors) {
            check::name_if_set(claim, "name", names::dns1123_label, &path, errors);
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
            check::name_if_set(claim, key, names::dns1123_subdomain, &path, errors);
        }
    }
}

/// The resources of the pod as a whole hold what its containers ask for.
fn pod_resources(spec: &Value, claims: &[&str], path: &Path, errors: &mut Errors) {
    let Some(resources) = get(spec, "resources") else { return };
    if get(resources, "claims").is_some() {
        let detail = "claims cannot be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), detail));
    }
    check_requirements(resources, Scope::Pod, claims, path, errors);
    for (name, total) in crate::pod_requests::containers(spec) {
        let request = crate::resource::quantity(at(resources, &["requests", &name]));
        if total > request {
            let path = path.child("requests").key(&name);
            let detail = format!(
                "must be greater than or equal to aggregate container requests of {}",
                total.canonical()
            );
            errors.push(FieldError::invalid(&path, request.canonical(), detail));
        }
    }
    for (index, container) in list(spec, "containers").iter().enumerate() {
        for (name, limit) in entries(&container["resources"], "limits") {
            let Some(most) = get(&resources["limits"], name).map(crate::resource::quantity) else { continue };
            let limit = crate::resource::quantity(limit);
            if limit > most {
                let path = path.child("containers").index(index).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {}", most.canonical());
                errors.push(FieldError::invalid(&path, limit.canonical(), detail));
            }
        }
    }
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

/// A pod with users of its own shares no other namespace with the host.
fn host_users(spec: &Value, path: &Path, errors: &mut Errors) {
    if get(spec, "hostUsers") != Some(&json!(false)) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, field) {
            errors.push(FieldError::forbidden(&path.child(shown), "when `pod.Spec.HostUsers` is false"));
        }
    }
}

fn operating_system(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(os) = get(spec, "os") else { return };
    match text(os, "name") {
        "" => errors.push(FieldError::required(&path.child("os").child("name"), "cannot be empty")),
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
