//! What a pod spec may say but better would not.

use crate::tree::{count, entries, flag, get, list, text};
use nauplius_meta::field::Path;
use nauplius_meta::names;
use nauplius_meta::quantity::Quantity;
use serde_json::Value;

const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

/// The warning about a name that makes a bad hostname; `used_in` says where the name goes.
pub(crate) fn of_name(object: &Value, used_in: &str) -> Option<String> {
    let problems = names::dns1123_label(text(&object["metadata"], "name"));
    let advice = "which can result in surprising behavior; a DNS label is recommended";
    (!problems.is_empty())
        .then(|| format!("metadata.name: this is used in {used_in}, {advice}: [{}]", problems.join(" ")))
}

/// The warnings about a pod spec.
pub(crate) fn of_spec(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (key, _) in entries(spec, "nodeSelector") {
        if let Some((_, new)) = OLD_LABELS.iter().find(|(old, _)| *old == key) {
            let path = path.child("nodeSelector").key(key);
            warnings.push(format!("{path}: deprecated since v1.14; use \"{new}\" instead"));
        }
    }
    if count(spec, "terminationGracePeriodSeconds") < 0 {
        let path = path.child("terminationGracePeriodSeconds");
        warnings.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    for (index, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            let path = path.child("imagePullSecrets").index(index).child("name");
            warnings.push(format!("{path}: invalid empty name \"\""));
        }
    }
    host_aliases(spec, path, &mut warnings);
    for key in ["containers", "initContainers"] {
        for (index, container) in list(spec, key).iter().enumerate() {
            of_container(container, flag(spec, "hostNetwork"), &path.child(key).index(index), &mut warnings);
        }
    }
    warnings
}

fn host_aliases(spec: &Value, path: &Path, warnings: &mut Vec<String>) {
    let mut seen = Vec::new();
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let ip = text(alias, "ip");
        if seen.contains(&ip) {
            let path = path.child("hostAliases").index(index).child("ip");
            warnings.push(format!("{path}: duplicate ip \"{ip}\""));
        }
        seen.push(ip);
    }
}

fn of_container(container: &Value, host_network: bool, path: &Path, warnings: &mut Vec<String>) {
    let mut variables = Vec::new();
    for (index, variable) in list(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        // A variable that extends itself means to repeat the name.
        let extends = text(variable, "value").contains(&format!("$({name})"));
        if variables.contains(&name) && !extends {
            let path = path.child("env").index(index);
            warnings.push(format!(
                "{path}: hides previous definition of \"{name}\", which may be dropped when using apply"
            ));
        }
        variables.push(name);
    }
    for field in ["limits", "requests"] {
        for (name, value) in entries(&container["resources"], field) {
            // The schema refuses what is no quantity.
            let Ok(amount) = Quantity::from_value(value) else { continue };
            if ["memory", "storage", "ephemeral-storage"].contains(&name) && amount.milli_value() % 1000 != 0
            {
                let path = path.child("resources").child(field).key(name);
                warnings.push(format!(
                    "{path}: fractional byte value \"{}\" is invalid, must be an integer",
                    amount.canonical()
                ));
            }
        }
    }
    if !host_network {
        duplicate_ports(container, path, warnings);
    }
}

fn duplicate_ports(container: &Value, path: &Path, warnings: &mut Vec<String>) {
    let ports = list(container, "ports");
    for (index, port) in ports.iter().enumerate() {
        let same = |other: &&Value| {
            ["containerPort", "protocol", "hostPort", "hostIP"]
                .iter()
                .all(|key| get(other, key) == get(port, key))
        };
        if let Some(other) = ports[..index].iter().position(|other| same(&other)) {
            let (first, second) = (path.child("ports").index(other), path.child("ports").index(index));
            warnings.push(format!("{second}: duplicate port definition with {first}"));
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

    #[test]
    fn doubtful_fields_are_named() {
        let spec = json!({
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{
                "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                "ports": [{"containerPort": 1}, {"containerPort": 1}],
                "resources": {"limits": {"memory": "100m"}},
            }],
        });
        assert_eq!(
            of_spec(&spec, &Path::new("spec")),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            ]
        );
    }
}
