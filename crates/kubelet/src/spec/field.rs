//! The downward API: fields of the pod and amounts of its containers as text. Pure.

use super::resources::amount;
use crate::pod::facts;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Container, Pod, ResourceFieldSelector};
use nauplius_meta::quantity::Quantity;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the node lends to pods without limits, and its address.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// The node's address.
    pub ip: IpAddr,
    /// Whole cores.
    pub cpus: i64,
    /// Bytes of the machine's memory.
    pub memory: i64,
    /// Bytes of it that pods may use.
    pub allocatable_memory: i64,
    /// Bytes of the disk that pods may use.
    pub allocatable_storage: i64,
}

fn map_entry(map: Option<&BTreeMap<String, String>>, key: &str) -> String {
    map.and_then(|map| map.get(key)).cloned().unwrap_or_default()
}

/// Sorted `key="value"` lines, as upstream formats maps.
fn map_lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A field by its path; none when the path names no field we serve.
pub fn field(pod: &Pod, path: &str, pod_ips: &[String], node_ip: IpAddr) -> Option<String> {
    let meta = pod.meta();
    let subscript = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = subscript("metadata.labels") {
        return Some(map_entry(meta.labels.as_ref(), key));
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Some(map_entry(meta.annotations.as_ref(), key));
    }
    let spec = facts::spec(pod);
    Some(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => map_lines(meta.labels.as_ref()),
        "metadata.annotations" => map_lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => node_ip.to_string(),
        "status.podIP" => pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => pod_ips.join(","),
        _ => return None,
    })
}

/// An amount of a container divided by the divisor, rounded up; a limit that is not set is what pods may use of the node.
pub fn resource(container: &Container, selector: &ResourceFieldSelector, node: &NodeFacts) -> Option<String> {
    let resources = container.resources.clone().unwrap_or_default();
    let (list, name) = match selector.resource.split_once('.')? {
        ("limits", name) => (&resources.limits, name),
        ("requests", name) => (&resources.requests, name),
        _ => return None,
    };
    let is_limit = selector.resource.starts_with("limits.");
    let nano = match (amount(list, name), is_limit) {
        (Some(amount), _) => amount.nano_value(),
        (None, true) => {
            let whole = match name {
                "cpu" => node.cpus,
                "memory" => node.allocatable_memory,
                "ephemeral-storage" => node.allocatable_storage,
                _ => 0,
            };
            i128::from(whole) * 1_000_000_000
        }
        (None, false) => 0,
    };
    // The API server has checked the divisor; none, or zero, is one.
    let divisor = selector.divisor.as_ref().and_then(|text| Quantity::parse(&text.0).ok());
    let divisor =
        divisor.filter(|divisor| !divisor.is_zero()).map_or(1_000_000_000, |divisor| divisor.nano_value());
    let (quotient, rest) = (nano / divisor, nano % divisor);
    Some((quotient + i128::from(rest > 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::api::Quantity as Text;

    #[test]
    fn fields_and_amounts() {
        let pod = Pod::decode(
            br#"{"metadata":{"name":"p","namespace":"n","labels":{"b":"2","a":"1"}},"spec":{"nodeName":"w","containers":[
            {"name":"c","resources":{"limits":{"memory":"64Mi"},"requests":{"cpu":"150m"}}}]}}"#,
        )
        .unwrap();
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let get = |path| field(&pod, path, &["10.1.0.2".to_owned()], ip);
        for (path, expected) in [
            ("metadata.labels", Some("a=\"1\"\nb=\"2\"")),
            ("metadata.labels['b']", Some("2")),
            ("metadata.annotations['x']", Some("")),
            ("status.podIP", Some("10.1.0.2")),
            ("status.hostIP", Some("10.0.0.1")),
            ("spec.nope", None),
        ] {
            assert_eq!(get(path).as_deref(), expected, "{path}");
        }
        let node =
            NodeFacts { ip, cpus: 4, memory: 2 << 30, allocatable_memory: 1 << 30, allocatable_storage: 0 };
        let container = &facts::spec(&pod).containers[0];
        for (resource_name, divisor, expected) in [
            ("limits.memory", "1Mi", "64"),
            ("requests.cpu", "1m", "150"),
            ("requests.cpu", "0", "1"),
            ("limits.cpu", "1", "4"),
        ] {
            let selector = ResourceFieldSelector {
                resource: resource_name.to_owned(),
                divisor: Some(Text(divisor.to_owned())),
                container_name: None,
            };
            assert_eq!(
                resource(container, &selector, &node).as_deref(),
                Some(expected),
                "{resource_name}/{divisor}"
            );
        }
    }
}
