//! Node: a machine, as it tells of itself and as others mark it.

use crate::check::{self, Errors, NOT_POSITIVE};
use crate::describe::{CONNECT, describe};
use crate::gates::FieldPath;
use crate::kind::{Column, Context, Descriptor, Kind, carry};
use crate::pod_template::taints;
use crate::resource::{canonicalize, check_amount};
use crate::table::{or_none, or_unknown, string, wide};
use crate::tree::{entries, flag, get, is_unset, list, number, set, text, texts, with};
use crate::{name, table, warnings};
use nauplius_meta::field::{FieldError, Path, quote};
use nauplius_meta::names;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BTreeSet;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";
const CIDR_STAYS: &str = "node updates may not change podCIDR except from \"\" to valid";

pub(crate) struct Node(Descriptor);

pub(crate) fn kind() -> Node {
    let descriptor = describe("", "v1", "Node", "nodes").cluster_scoped().short(&["no"]);
    let descriptor = descriptor.subresource("proxy", Some(("", "v1", "NodeProxyOptions")), CONNECT);
    Node(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    with(object, "spec", |spec| {
        // `podCIDR` is the first of `podCIDRs`, which older clients do not know.
        if is_unset(spec, "podCIDRs") && !is_unset(spec, "podCIDR") {
            let all = json!([spec["podCIDR"]]);
            set(spec, "podCIDRs", all);
        }
        if let Some(first) = list(spec, "podCIDRs").first().cloned() {
            set(spec, "podCIDR", first);
        }
    });
    with(object, "status", |status| {
        canonicalize(status, "capacity");
        canonicalize(status, "allocatable");
        if get(status, "allocatable").is_none() && get(status, "capacity").is_some() {
            let capacity = status["capacity"].clone();
            set(status, "allocatable", capacity);
        }
    });
}

impl Kind for Node {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        // A kubelet registers with its status.
        if get(object, "status").is_none() {
            set(object, "status", json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}}));
        }
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "status");
        carry(&mut new["metadata"], &old["metadata"], "generation");
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        vec![vec!["spec", "podPreemptionPolicy"]]
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let spec = &object["spec"];
        // The path of taints is upstream's.
        taints(list(spec, "taints"), &Path::new("metadata").child("taints"), &mut errors);
        amounts(object, &mut errors);
        swap(&object["status"]["nodeInfo"]["swap"], &mut errors);
        declared_features(&object["status"], &mut errors);
        pod_cidrs(spec, &Path::new("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        changed(new, old, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        changed(new, old, &mut errors);
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let (spec, path) = (&new["spec"], Path::new("spec"));
        let mut found = Vec::new();
        if get(spec, "configSource").is_some() {
            found.push("spec.configSource: the feature is removed".to_owned());
        }
        if !text(spec, "externalID").is_empty() {
            found.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        for (path, network) in check::each_text(spec, "podCIDRs", &path) {
            warnings::cidr(network, &path, &mut found);
        }
        found
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn selectable_field(&self, object: &Value, _name: &str) -> String {
        flag(&object["spec"], "unschedulable").to_string()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Status", "Whether the node is ready and takes pods."),
            string("Roles", "What the node is for."),
            table::age(),
            string("Version", "The version of its kubelet."),
            wide(string("Internal-IP", "Its address inside of the cluster.")),
            wide(string("External-IP", "Its address outside of the cluster.")),
            wide(string("OS-Image", "Its operating system.")),
            wide(string("Kernel-Version", "The version of its kernel.")),
            wide(string("Container-Runtime", "What runs its containers.")),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let info = &object["status"]["nodeInfo"];
        vec![
            table::name_cell(object),
            status(object).into(),
            or_none(&roles(object)),
            table::age_cell(object, now_s),
            text(info, "kubeletVersion").into(),
            or_none(address(object, "InternalIP")),
            or_none(address(object, "ExternalIP")),
            or_unknown(text(info, "osImage")),
            or_unknown(text(info, "kernelVersion")),
            or_unknown(text(info, "containerRuntimeVersion")),
        ]
    }
}

fn amounts(node: &Value, errors: &mut Errors) {
    for field in ["capacity", "allocatable"] {
        for (name, amount) in entries(&node["status"], field) {
            check_amount(name, amount, &Path::new("status").child(field).child(name), errors);
        }
    }
}

/// What is wrong with the change from `old` to `new`.
fn changed(new: &Value, old: &Value, errors: &mut Errors) {
    amounts(new, errors);
    declared_features(&new["status"], errors);
    let addresses = list(&new["status"], "addresses");
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            let path = Path::new("status").child("addresses").index(index);
            errors.push(FieldError::duplicate(&path, address.clone()));
        }
    }
    let (spec, old_spec, path) = (&new["spec"], &old["spec"], Path::new("spec"));
    let (cidrs, old_cidrs) = (texts(spec, "podCIDRs"), texts(old_spec, "podCIDRs"));
    if !old_cidrs.is_empty() && cidrs != old_cidrs {
        errors.push(FieldError::forbidden(&path.child("podCIDRs"), CIDR_STAYS));
    }
    if !is_unset(old_spec, "providerID") && text(spec, "providerID") != text(old_spec, "providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("providerID"), detail));
    }
    taints(list(spec, "taints"), &Path::new("metadata").child("taints"), errors);
    if text(spec, "externalID") != text(old_spec, "externalID") {
        errors.push(FieldError::forbidden(&path.child("externalID"), "may not be updated"));
    }
}

/// The path of swap is upstream's.
fn swap(swap: &Value, errors: &mut Errors) {
    if let Some(capacity) = number(swap, "capacity").filter(|capacity| *capacity <= 0) {
        let path = Path::new("metadata").child("nodeSwapStatus").child("capacity");
        errors.push(FieldError::invalid(&path, capacity, NOT_POSITIVE));
    }
}

/// Features of a kubelet, in order and each once.
fn declared_features(status: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("declaredFeatures");
    let features = texts(status, "declaredFeatures");
    for (index, feature) in features.iter().enumerate() {
        if let Some(problem) = feature_problem(feature) {
            errors.push(FieldError::invalid(&path.index(index), *feature, problem));
        }
        let Some(next) = features.get(index + 1) else { continue };
        let path = path.index(index + 1);
        match feature.cmp(next) {
            Ordering::Equal => errors.push(FieldError::duplicate(&path, *next)),
            Ordering::Greater => {
                errors.push(FieldError::invalid(&path, *next, "list must be sorted alphabetically"));
            }
            Ordering::Less => {}
        }
    }
}

fn feature_problem(feature: &str) -> Option<String> {
    let shown = quote(feature);
    if feature.len() > names::SUBDOMAIN_MAX {
        let max = names::SUBDOMAIN_MAX;
        return Some(format!("invalid feature name {shown}: must be no more than {max} characters"));
    }
    let is_segment = |segment: &str| {
        segment.starts_with(|c: char| c.is_ascii_alphabetic())
            && segment.bytes().all(|c| c.is_ascii_alphanumeric())
    };
    let is_sound =
        feature.starts_with(|c: char| c.is_ascii_uppercase()) && feature.split('/').all(is_segment);
    (!is_sound).then(|| {
        format!(
            "invalid feature name {shown}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' \
             (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
        )
    })
}

fn pod_cidrs(spec: &Value, path: &Path, errors: &mut Errors) {
    let cidrs = check::each_text(spec, "podCIDRs", path);
    for (path, cidr) in &cidrs {
        check::cidr(cidr, path, errors);
    }
    if cidrs.len() > 1 {
        let addresses: Vec<_> = cidrs.iter().filter_map(|(_, cidr)| cidr.split('/').next()).collect();
        if cidrs.len() > 2 || !check::is_dual_stack(&addresses) {
            let detail = "may specify no more than one CIDR for each IP family";
            errors.push(FieldError::invalid(&path.child("podCIDRs"), spec["podCIDRs"].clone(), detail));
        }
    }
}

fn status(node: &Value) -> String {
    let conditions = list(&node["status"], "conditions");
    let ready = match conditions.iter().find(|condition| text(condition, "type") == "Ready") {
        Some(condition) if text(condition, "status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let suffix = if flag(&node["spec"], "unschedulable") { ",SchedulingDisabled" } else { "" };
    format!("{ready}{suffix}")
}

fn roles(node: &Value) -> String {
    let role = |(key, value): (&str, &Value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) => Some(role.to_owned()),
        None => (key == ROLE).then(|| value.as_str().unwrap_or_default().to_owned()),
    };
    let roles: BTreeSet<_> = entries(&node["metadata"], "labels").filter_map(role).collect();
    roles.into_iter().filter(|role| !role.is_empty()).collect::<Vec<_>>().join(",")
}

fn address<'a>(node: &'a Value, type_: &str) -> &'a str {
    let addresses = list(&node["status"], "addresses");
    addresses.iter().find(|address| text(address, "type") == type_).map_or("", |found| text(found, "address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};

    #[test]
    fn what_is_allocatable_is_the_capacity_at_first() {
        let node = created(
            &kind(),
            json!({"spec": {"podCIDR": "10.0.0.0/24"}, "status": {"capacity": {"cpu": "2000m"}}}),
        );
        assert_eq!(node["status"]["allocatable"], json!({"cpu": "2"}));
        assert_eq!(node["spec"]["podCIDRs"], json!(["10.0.0.0/24"]));
    }

    #[test]
    fn taints_and_networks_are_checked() {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        creation(
            &kind(),
            json!({"spec": {"taints": [taint, taint, {"key": "b", "effect": "Never"}]}}),
            &[
                "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
                "metadata.taints[2].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ],
        );
        creation(
            &kind(),
            json!({"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}}),
            &[
                "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP family",
            ],
        );
        let old = json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}});
        updated(
            &kind(),
            &old,
            json!({"spec": {"podCIDRs": ["10.0.1.0/24"]}}),
            &[
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
            ],
        );
        updated(&kind(), &json!({}), json!({"spec": {"podCIDRs": ["10.0.1.0/24"]}}), &[]);
        updated(
            &kind(),
            &json!({}),
            json!({"spec": {"podCIDRs": ["10.0.1.1/24"]}}),
            &[
                "spec.podCIDRs[0]: Invalid value: \"10.0.1.1/24\": must not have bits set beyond the prefix length",
            ],
        );
    }

    #[test]
    fn features_are_named_in_order() {
        let check = |features: &[&str], expected: &[&str]| {
            let mut errors = Errors::new();
            declared_features(&json!({"declaredFeatures": features}), &mut errors);
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(texts, expected);
        };
        check(&["Alpha", "Beta/onSome", "Gamma"], &[]);
        check(
            &["Beta", "Alpha", "Alpha"],
            &[
                "status.declaredFeatures[1]: Invalid value: \"Alpha\": list must be sorted alphabetically",
                "status.declaredFeatures[2]: Duplicate value: \"Alpha\"",
            ],
        );
        assert!(
            feature_problem("a-b")
                .is_some_and(|problem| problem.starts_with("invalid feature name \"a-b\": must start"))
        );
        assert!(feature_problem("A//b").is_some());
    }

    #[test]
    fn the_row_tells_state_and_roles() {
        let node = json!({
            "metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian"},
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
        });
        row(
            &kind(),
            node,
            json!([
                "x",
                "Ready,SchedulingDisabled",
                "control-plane,edge",
                "75s",
                "v1.37.0",
                "10.0.0.1",
                "<none>",
                "Debian",
                "<unknown>",
                "<unknown>"
            ]),
        );
        row(
            &kind(),
            json!({}),
            json!([
                "x",
                "Unknown",
                "<none>",
                "75s",
                "",
                "<none>",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]),
        );
    }
}
