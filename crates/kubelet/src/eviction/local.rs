//! Pods that write more to the node's disk than their own limits allow: in an empty directory, in a container, or in all. Pure.

use crate::pod::facts;
use crate::spec::resources::amount;
use nauplius_kinds::api::core::Pod;
use nauplius_meta::quantity::Quantity;
use std::collections::BTreeMap;

const STORAGE: &str = "ephemeral-storage";

/// Bytes that a pod has written.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// By empty directory.
    pub volumes: BTreeMap<String, i64>,
    /// By container: its writable layer and its logs.
    pub containers: BTreeMap<String, i64>,
}

fn size_limits(pod: &Pod) -> impl Iterator<Item = (&str, Quantity)> {
    facts::spec(pod).volumes.iter().flatten().filter_map(|volume| {
        let limit = Quantity::parse(&volume.empty_dir.as_ref()?.size_limit.as_ref()?.0).ok()?; // Checked by the API server.
        (limit.sign() > 0).then_some((volume.name.as_str(), limit))
    })
}

fn container_limits(pod: &Pod) -> impl Iterator<Item = (&str, Quantity)> {
    facts::spec(pod).containers.iter().filter_map(|container| {
        let limit = amount(&container.resources.as_ref()?.limits, STORAGE)?;
        Some((container.name.as_str(), limit))
    })
}

/// Whether there is anything to measure it by.
pub fn has_limits(pod: &Pod) -> bool {
    size_limits(pod).next().is_some() || container_limits(pod).next().is_some()
}

/// Why the pod must end, in upstream's order and words.
pub fn exceeded(pod: &Pod, written: &Written) -> Option<String> {
    for (name, limit) in size_limits(pod) {
        if written.volumes.get(name).is_some_and(|used| *used > limit.value()) {
            return Some(format!(
                "Usage of EmptyDir volume {name:?} exceeds the limit {:?}. ",
                limit.to_string()
            ));
        }
    }
    let total = written.volumes.values().chain(written.containers.values()).sum::<i64>();
    let limits: Vec<(&str, Quantity)> = container_limits(pod).collect();
    let sum = limits.iter().map(|(_, limit)| limit.value()).sum::<i64>();
    // Where a container has no limit the pod as a whole has none.
    if !limits.is_empty() && limits.len() == facts::spec(pod).containers.len() && total > sum {
        let message = "Pod ephemeral local storage usage exceeds the total limit of containers";
        return Some(format!(
            "{message} {}. ",
            Quantity::new(sum, nauplius_meta::quantity::Format::BinarySI)
        ));
    }
    let over = limits
        .into_iter()
        .find(|(name, limit)| written.containers.get(*name).is_some_and(|used| *used > limit.value()));
    over.map(|(name, limit)| {
        format!("Container {name} exceeded its local ephemeral storage limit {:?}. ", limit.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::Object;

    #[test]
    fn limits_of_volumes_containers_and_pods() {
        let pod = |spec: &str| {
            Pod::decode(format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#).as_bytes()).unwrap()
        };
        let volume =
            pod(r#"{"containers":[{"name":"c"}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Mi"}}]}"#);
        let limited = r#""resources":{"limits":{"ephemeral-storage":"1Mi"}}"#;
        let one = pod(&format!(r#"{{"containers":[{{"name":"a",{limited}}},{{"name":"b"}}]}}"#));
        let both = pod(&format!(r#"{{"containers":[{{"name":"a",{limited}}},{{"name":"b",{limited}}}]}}"#));
        let written = |volume: i64, a: i64, b: i64| Written {
            volumes: BTreeMap::from([("v".to_owned(), volume << 10)]),
            containers: BTreeMap::from([("a".to_owned(), a << 10), ("b".to_owned(), b << 10)]),
        };
        for (pod, written, expected) in [
            (&volume, written(1024, 9000, 0), None),
            (
                &volume,
                written(1025, 0, 0),
                Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "),
            ),
            (
                &one,
                written(0, 1025, 0),
                Some("Container a exceeded its local ephemeral storage limit \"1Mi\". "),
            ),
            (&one, written(9000, 0, 9000), None),
            (
                &both,
                written(500, 1000, 1000),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
            ),
            (&both, written(0, 1000, 1000), None),
        ] {
            assert_eq!(exceeded(pod, &written).as_deref(), expected);
            assert!(has_limits(pod));
        }
        assert!(!has_limits(&pod(r#"{"containers":[{"name":"c"}],"volumes":[{"name":"v","emptyDir":{}}]}"#)));
    }
}
