//! Questions about a pod that several components ask. It never changes one.

use crate::api::core::{Container, ContainerPort, Pod, PodCondition, PodSpec};
use crate::api::jiff::Timestamp;
use crate::pod_requests::{Resources, Shape};

/// The annotation with what it costs to delete the pod, compared to others of its replica set.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The phase: `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`; empty without a status.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The node that it is bound to; empty if it is not.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Whether its containers ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether someone has deleted it.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it counts as a replica: neither ended nor deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

/// One condition.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether it may get traffic.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether it has been ready for long enough.
pub fn is_available(pod: &Pod, min_ready_s: i64, now: Timestamp) -> bool {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True");
    let Some(condition) = ready else { return false };
    min_ready_s == 0
        || condition
            .last_transition_time
            .as_ref()
            .is_some_and(|since| since.0.as_second().saturating_add(min_ready_s) <= now.as_second())
}

/// What a node must have free for it: the sums over its containers with init containers, sidecars and overhead.
pub fn requests(pod: &Pod) -> Resources {
    pod.spec.as_ref().map(|spec| Shape::of(spec).requests()).unwrap_or_default()
}

/// `Guaranteed`, `Burstable` or `BestEffort`, as its status says or as follows from its spec.
pub fn qos_class(pod: &Pod) -> &str {
    let written =
        pod.status.as_ref().and_then(|status| status.qos_class.as_deref()).filter(|class| !class.is_empty());
    written.unwrap_or_else(|| pod.spec.as_ref().map_or("BestEffort", |spec| Shape::of(spec).qos_class()))
}

/// How important it is.
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// What it costs to delete it, compared to others of its replica set.
pub fn deletion_cost(pod: &Pod) -> i32 {
    let written = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
    // The API server refuses what is no number.
    written.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// Whether an init container keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Init containers and containers.
pub fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// The ports of the node that it takes: its containers' and its sidecars', each with `protocol` and `host_ip` as written.
pub fn host_ports(pod: &Pod) -> Vec<&ContainerPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = sidecars.chain(&spec.containers).flat_map(|container| container.ports.iter().flatten());
    ports.filter(|port| port.host_port.unwrap_or(0) != 0).collect()
}

/// Whether it is the API server's image of a pod that a kubelet runs from a file.
pub fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(crate::pod_template::MIRROR))
}

/// Its addresses, the first of which is the one that it is known by.
pub fn ips(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all: Vec<_> = status.pod_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    if all.is_empty() {
        status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).into_iter().collect()
    } else {
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Object;
    use serde_json::{Value, json};

    fn pod(value: Value) -> Pod {
        Pod::decode(value.to_string().as_bytes()).expect("a pod")
    }

    #[test]
    fn a_pod_tells_its_state() {
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"});
        let pod = pod(
            json!({"metadata": {"annotations": {DELETION_COST: "-5"}}, "status": {"phase": "Running", "conditions": [ready],
            "podIP": "10.0.0.1"}}),
        );
        let now = |second| Timestamp::from_second(second).expect("a time");
        assert!(is_ready(&pod) && is_active(&pod) && !is_terminal(&pod) && !is_mirror(&pod));
        assert!(
            is_available(&pod, 0, now(0))
                && !is_available(&pod, 10, now(109))
                && is_available(&pod, 10, now(110))
        );
        assert_eq!((deletion_cost(&pod), ips(&pod)), (-5, vec!["10.0.0.1"]));
    }

    #[test]
    fn an_ended_or_deleted_pod_is_not_active() {
        assert!(!is_active(&pod(json!({"status": {"phase": "Failed"}}))));
        assert!(!is_active(&pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))));
        assert!(!is_ready(&pod(json!({}))));
    }

    #[test]
    fn a_pod_tells_what_it_needs() {
        let pod = pod(json!({"spec": {"priority": 7, "nodeName": "n", "containers": [{"name": "a",
            "resources": {"requests": {"cpu": "500m"}}, "ports": [{"containerPort": 1, "hostPort": 80}, {"containerPort": 2}]}],
            "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}},
                "ports": [{"containerPort": 3, "hostPort": 81}]}, {"name": "i", "ports": [{"containerPort": 4, "hostPort": 82}]}]}}));
        assert_eq!(requests(&pod)["cpu"].canonical(), "1500m");
        let ports: Vec<_> = host_ports(&pod).iter().filter_map(|port| port.host_port).collect();
        assert_eq!(ports, [81, 80]);
        assert_eq!((priority(&pod), node_name(&pod), qos_class(&pod)), (7, "n", "Burstable"));
    }
}
