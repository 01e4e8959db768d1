//! The objects that stand for what this server serves itself, as upstream's server registers them when it starts. The priorities
//! order groups and versions in discovery.

use super::GROUP;
use crate::kind::Kind;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A group, its priority, and that of some of its versions.
type Known = (&'static str, i64, &'static [(&'static str, i64)]);

/// Groups with their priority, and with that of their versions where it is not the usual one.
const PRIORITIES: &[Known] = &[
    ("", 18_000, &[("v1", 1)]),
    ("apps", 17_800, &[]),
    ("events.k8s.io", 17_750, &[]),
    ("authentication.k8s.io", 17_700, &[]),
    ("authorization.k8s.io", 17_600, &[]),
    ("autoscaling", 17_500, &[("v2", 30)]),
    ("batch", 17_400, &[]),
    ("certificates.k8s.io", 17_300, &[]),
    ("networking.k8s.io", 17_200, &[]),
    ("policy", 17_100, &[]),
    ("rbac.authorization.k8s.io", 17_000, &[]),
    ("storage.k8s.io", 16_800, &[]),
    ("apiextensions.k8s.io", 16_700, &[]),
    ("admissionregistration.k8s.io", 16_700, &[("v1beta1", 12)]),
    ("scheduling.k8s.io", 16_600, &[]),
    ("coordination.k8s.io", 16_500, &[]),
    ("node.k8s.io", 16_300, &[]),
    ("discovery.k8s.io", 16_200, &[]),
    ("resource.k8s.io", 16_200, &[("v1", 20), ("v1beta2", 15)]),
    ("flowcontrol.apiserver.k8s.io", 16_100, &[("v1", 21)]),
    ("storagemigration.k8s.io", 15_800, &[]),
];
const STABLE: i64 = 15;
const BETA: i64 = 9;

/// One object for each version of each group that some of the kinds have. The group of these objects has none.
pub fn api_services(kinds: &[Arc<dyn Kind>]) -> Vec<Value> {
    let versions = |kind: &Arc<dyn Kind>| {
        let descriptor = kind.descriptor();
        let group = descriptor.group.to_string();
        descriptor.versions.iter().map(move |own| (group.clone(), own.name.to_string())).collect::<Vec<_>>()
    };
    let served: BTreeSet<(String, String)> = kinds.iter().flat_map(versions).collect();
    let known = |group: &str| PRIORITIES.iter().find(|(name, ..)| *name == group && group != GROUP);
    served
        .iter()
        .filter_map(|(group, version)| known(group).map(|known| api_service(group, version, known)))
        .collect()
}

fn api_service(group: &str, version: &str, known: &Known) -> Value {
    let usual = if version.contains("beta") { BETA } else { STABLE };
    let special = known.2.iter().find(|(name, _)| *name == version);
    let mut spec = json!({
        "version": version,
        "groupPriorityMinimum": known.1,
        "versionPriority": special.map_or(usual, |(_, priority)| *priority),
    });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {
            "name": format!("{version}.{group}"),
            "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"},
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_priority_and_its_object_is_sound() {
        let kinds = crate::builtin();
        let services = api_services(&kinds);
        let names: BTreeSet<_> =
            services.iter().map(|own| own["metadata"]["name"].as_str().unwrap()).collect();
        for kind in &kinds {
            let descriptor = kind.descriptor();
            let name = format!("{}.{}", descriptor.versions[0].name, descriptor.group);
            assert!(descriptor.group == GROUP || names.contains(name.as_str()), "{name}");
        }
        assert!(names.contains("v1.") && names.contains("v2.autoscaling"));
        let kind = super::super::api_service::kind();
        for service in services {
            assert_eq!(kind.validate(&service), [], "{service}");
        }
    }
}
