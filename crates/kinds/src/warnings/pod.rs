//! Pods and templates of pods.

use super::{Warnings, address, container, fractional_bytes, node_label, volume};
use crate::pod_template::SECCOMP_POD;
use crate::tree::{at, count, entries, get, list, text, texts};
use nauplius_meta::field::Path;
use nauplius_meta::names;
use serde_json::Value;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// The warning about a name that makes a bad hostname; `used_in` says where the name goes.
pub(crate) fn of_name(object: &Value, used_in: &str) -> Option<String> {
    let problems = names::dns1123_label(text(&object["metadata"], "name"));
    let advice = "which can result in surprising behavior; a DNS label is recommended";
    (!problems.is_empty())
        .then(|| format!("metadata.name: this is used in {used_in}, {advice}: [{}]", problems.join(" ")))
}

/// The warnings about a pod.
pub(crate) fn of_pod(pod: &Value) -> Warnings {
    all(pod, &Path::root(), false)
}

/// The warnings about a template that stands at `path`.
pub(crate) fn of_template(template: &Value, path: &Path) -> Warnings {
    all(template, path, true)
}

fn all(object: &Value, base: &Path, is_template: bool) -> Warnings {
    let mut warnings = Warnings::new();
    let (spec, path) = (&object["spec"], base.child("spec"));
    let annotations =
        (at(object, &["metadata", "annotations"]), &base.child("metadata").child("annotations"));
    node_labels(spec, &path, &mut warnings);
    for (key, words) in OLD_ANNOTATIONS.iter().filter(|(key, _)| get(annotations.0, key).is_some()) {
        warnings.push(format!("{}: {words}", annotations.1.key(key)));
    }
    volume::of_volumes(spec, &path, &mut warnings);
    host_aliases(spec, &path, &mut warnings);
    pull_secrets(spec, &path, &mut warnings);
    let overhead = path.child("overhead");
    fractional_bytes(&spec["overhead"], &["memory", "ephemeral-storage"], &overhead, &mut warnings);
    let has_profile = get(&spec["securityContext"], "seccompProfile").is_some();
    if !has_profile && get(annotations.0, SECCOMP_POD).is_some() {
        let path = annotations.1.key(SECCOMP_POD);
        warnings.push(format!("{path}: non-functional in v1.27+; use the \"seccompProfile\" field instead"));
    }
    container::of_containers(spec, annotations, is_template, &path, &mut warnings);
    if count(spec, "terminationGracePeriodSeconds") < 0 {
        let path = path.child("terminationGracePeriodSeconds");
        warnings.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    pod_affinity(&spec["affinity"], &path.child("affinity"), &mut warnings);
    let servers = path.child("dnsConfig").child("nameservers");
    for (index, server) in texts(&spec["dnsConfig"], "nameservers").into_iter().enumerate() {
        address::ip(server, &servers.index(index), &mut warnings);
    }
    warnings
}

fn node_labels(spec: &Value, path: &Path, warnings: &mut Warnings) {
    for (key, _) in entries(spec, "nodeSelector") {
        if let Some(words) = node_label::deprecated(key) {
            warnings.push(format!("{}: {words}", path.child("nodeSelector").key(key)));
        }
    }
    let (affinity, affinity_path) =
        (at(spec, &["affinity", "nodeAffinity"]), path.children(&["affinity", "nodeAffinity"]));
    let terms = affinity_path.child(REQUIRED).child("nodeSelectorTerms");
    for (index, term) in list(&affinity[REQUIRED], "nodeSelectorTerms").iter().enumerate() {
        node_label::of_term(term, &terms.index(index), warnings);
    }
    for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
        let path = affinity_path.child(PREFERRED).index(index).child("preference");
        node_label::of_term(&term["preference"], &path, warnings);
    }
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let key = text(constraint, "topologyKey");
        if let Some(words) = node_label::deprecated(key) {
            warnings.push(format!("{}: {key} is {words}", path.child("topologyKey")));
        }
        null_selector(constraint, &path, warnings);
    }
}

fn null_selector(term: &Value, path: &Path, warnings: &mut Warnings) {
    if get(term, "labelSelector").is_none() {
        warnings.push(format!("{}: {NO_SELECTOR}", path.child("labelSelector")));
    }
}

fn host_aliases(spec: &Value, path: &Path, warnings: &mut Warnings) {
    let path = path.child("hostAliases");
    let addresses: Vec<_> = list(spec, "hostAliases").iter().map(|alias| text(alias, "ip")).collect();
    for (index, ip) in addresses.iter().enumerate() {
        if addresses[..index].contains(ip) {
            warnings.push(format!("{}: duplicate ip \"{ip}\"", path.index(index).child("ip")));
        }
    }
    for (index, ip) in addresses.iter().enumerate() {
        address::ip(ip, &path.index(index).child("ip"), warnings);
    }
}

fn pull_secrets(spec: &Value, path: &Path, warnings: &mut Warnings) {
    let path = path.child("imagePullSecrets");
    let secrets: Vec<_> = list(spec, "imagePullSecrets").iter().map(|secret| text(secret, "name")).collect();
    for (index, name) in secrets.iter().enumerate().filter(|(index, name)| secrets[..*index].contains(name)) {
        warnings.push(format!("{}: duplicate name \"{name}\"", path.index(index).child("name")));
    }
    for (index, _) in secrets.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        warnings.push(format!("{}: invalid empty name \"\"", path.index(index).child("name")));
    }
}

fn pod_affinity(affinity: &Value, path: &Path, warnings: &mut Warnings) {
    for key in ["podAffinity", "podAntiAffinity"] {
        let (affinity, path) = (&affinity[key], path.child(key));
        for (index, term) in list(affinity, REQUIRED).iter().enumerate() {
            null_selector(term, &path.child(REQUIRED).index(index), warnings);
        }
        for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
            let path = path.child(PREFERRED).index(index).child("podAffinityTerm");
            null_selector(&term["podAffinityTerm"], &path, warnings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_with_dots_makes_a_bad_hostname() {
        let warning = of_name(&json!({"metadata": {"name": "a.b"}}), "the Pod's hostname");
        let expected = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
                        recommended: [must not contain dots]";
        assert_eq!(warning.as_deref(), Some(expected));
        assert_eq!(of_name(&json!({"metadata": {"name": "a"}}), ""), None);
    }

    fn check(pod: Value, expected: &[&str]) {
        assert_eq!(of_pod(&pod), expected);
    }

    #[test]
    fn old_labels_and_missing_selectors_are_named() {
        check(
            json!({"spec": {
                "nodeSelector": {"failure-domain.beta.kubernetes.io/zone": "a"},
                "topologySpreadConstraints": [{"topologyKey": "beta.kubernetes.io/os"}],
                "affinity": {
                    "nodeAffinity": {PREFERRED: [{"preference": {"matchExpressions": [{"key": "beta.kubernetes.io/arch"}]}}]},
                    "podAntiAffinity": {REQUIRED: [{"topologyKey": "a"}], PREFERRED: [{"podAffinityTerm": {}}]},
                },
            }}),
            &[
                "spec.nodeSelector[failure-domain.beta.kubernetes.io/zone]: deprecated since v1.17; use \
                 \"topology.kubernetes.io/zone\" instead",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key: \
                 beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
                "spec.topologySpreadConstraints[0].topologyKey: beta.kubernetes.io/os is deprecated since v1.14; use \
                 \"kubernetes.io/os\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null \
                 labelSelector results in matching no pod",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a \
                 null labelSelector results in matching no pod",
            ],
        );
    }

    #[test]
    fn annotations_and_containers_are_looked_at() {
        let pod = json!({
            "metadata": {"annotations": {
                "scheduler.alpha.kubernetes.io/critical-pod": "",
                "container.apparmor.security.beta.kubernetes.io/c": "unconfined",
                "container.seccomp.security.alpha.kubernetes.io/c": "unconfined",
            }},
            "spec": {"containers": [{
                "name": "c",
                "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}],
                "ports": [{"containerPort": 1, "hostIP": "1.1.1.1"}, {"containerPort": 1}],
                "resources": {"limits": {"memory": "100m"}},
            }], "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}]},
        });
        let common = [
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \
             \"priorityClassName\" field instead",
            "spec.imagePullSecrets[1].name: duplicate name \"a\"",
            "spec.imagePullSecrets[2].name: invalid empty name \"\"",
            "metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use the \
             \"seccompProfile\" field instead",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:1 Protocol: HostIP:1.1.1.1}",
            "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
        ];
        check(pod.clone(), &common);
        let of_template = of_template(&pod, &Path::new("t"));
        let own = "t.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \
                   \"appArmorProfile\" field instead";
        assert!(of_template.iter().any(|warning| warning == own), "{of_template:#?}");
    }

    #[test]
    fn files_that_meet_are_named() {
        check(
            json!({"spec": {"volumes": [
                {"name": "v", "configMap": {"name": "m", "items": [{"path": "a"}, {"path": "a/b"}]}},
                {"name": "p", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "t"}}, {"secret": {"name": "s", "items": [{"path": "t"}]}}, {}]}},
                {"name": "g", "gitRepo": {}},
            ]}}),
            &[
                "spec.volumes[2].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                "volume \"v\" (ConfigMap \"m\"): overlapping paths: \"a/b\" with \"a\"",
                "volume \"p\" (Projected Secret \"s\"): overlapping paths: \"t\" with \"t\"",
                "volume \"p\" (Projected) has no sources provided",
            ],
        );
    }
}
